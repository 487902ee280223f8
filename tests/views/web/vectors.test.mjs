// The page's twins of Python against the answers that Python wrote down.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { distribution, draw, uniform } from "../../../src/manako/views/web/trace/sampling.js";
import { verifyDigests } from "../../../src/manako/views/web/trace/digests.js";
import { readTrace } from "../../../src/manako/views/web/trace/trace-file.js";
import { StepNumbers } from "../../../src/manako/views/web/analysis/step-numbers.js";

const CLOSE = 1e-12;
const read = (name) => JSON.parse(readFileSync(new URL(`../../vectors/${name}`, import.meta.url), "utf8"));
const near = (found, wanted, what) => assert.ok(Math.abs(found - wanted) <= CLOSE, `${what}: ${found}, not ${wanted}`);

test("u of a seed and a step", () => {
    for (const { seed, step, u } of read("uniform.json")) assert.equal(uniform(BigInt(seed), step), u, `${seed} ${step}`);
});

for (const row of read("chain.json")) {
    test(`the chain over one row: ${row.name}`, () => {
        const logits = Float32Array.from(row.logits, (logit) => logit ?? -Infinity);
        const found = distribution(logits, row.sampling, row.history);
        row.p.forEach((p, id) => near(found.p[id], p, `p of ${id}`));
        row.p_model.forEach((p, id) => near(found.pModel[id], p, `p_model of ${id}`));
        near(found.entropy, row.entropy, "entropy");
        const stages = found.stages.map(({ name, kept }) => ({ name, kept }));
        assert.deepEqual(stages, row.stages.map(({ name, kept }) => ({ name, kept })));
        row.stages.forEach((stage, i) => near(found.stages[i].removedMass, stage.removed_mass, stage.name));
        assert.deepEqual(Array.from(found.cutBy, (stage) => (stage < 0 ? null : found.stages[stage].name)), row.cut_by);
        assert.deepEqual([...found.order(row.p.length)], row.order);
        row.order.forEach((id, place) => assert.equal(found.rank(id), place + 1));
        for (const { u, token_id } of row.draws) assert.equal(draw(found, u).tokenId, token_id, `u = ${u}`);
    });
}

for (const name of ["trace-whole.json", "trace-part.json"]) {
    const vector = read(name);
    const bytes = Buffer.from(vector.file, "base64");
    const trace = readTrace(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));

    test(`${name}: the file`, async () => {
        assert.equal(trace.proof.digest, vector.sha256);
        assert.ok(await verifyDigests(trace));
        assert.equal(String(trace.header.seed), String(vector.header.seed));
        for (const key of ["kind", "prompt", "end", "capture", "parts", "sampling"]) {
            assert.deepEqual(trace.header[key], vector.header[key], key);
        }
    });

    test(`${name}: the columns`, () => {
        assert.deepEqual([...trace.columns.keys()].sort(), Object.keys(vector.columns).sort());
        for (const [column, { dtype, shape, data }] of Object.entries(vector.columns)) {
            const found = trace.columns.get(column);
            assert.deepEqual([found.dtype, found.shape], [dtype, shape], column);
            const wanted = new found.data.constructor(data.map((number) => number ?? -Infinity));
            assert.deepEqual(found.data, wanted, column);
        }
    });

    test(`${name}: the text and the steps`, () => {
        assert.equal(new TextDecoder().decode(trace.textBytes(0, trace.allIds.length)), vector.text);
        vector.steps.forEach(({ token_id, entropy }, index) => {
            const found = new StepNumbers(trace, index);
            assert.equal(found.takenId, token_id);
            near(Number(found.entropy), entropy, `entropy of step ${index}`);
        });
    });
}
