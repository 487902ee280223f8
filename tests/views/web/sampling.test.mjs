import assert from "node:assert/strict";
import { test } from "node:test";

import {
    STAGES,
    Distribution,
    distribution,
    draw,
    samplingFault,
    uniform,
} from "../../../src/manako/views/web/trace/sampling.js";

const PLAIN = Object.fromEntries(STAGES.map((name) => [name, null]));
const settings = (given) => ({ ...PLAIN, temperature: 1, order: STAGES, ...given });
const logs = (...weights) => weights.map(Math.log);
const rounded = (row) => Array.from(row, (value) => Math.round(value * 1000) / 1000);

test("the token that crosses top_p is kept, and the stage says what it removed", () => {
    const found = distribution(logs(0.5, 0.3, 0.2), settings({ top_p: 0.6 }));
    assert.deepEqual(rounded(found.p), [0.625, 0.375, 0]);
    assert.deepEqual([...found.cutBy], [-1, -1, 1]);
    assert.deepEqual(found.stages.map(({ name, kept }) => [name, kept]), [["temperature", 3], ["top_p", 2]]);
    assert.ok(Math.abs(found.stages[1].removedMass - 0.2) < 1e-12);
});

test("equal logits go by id at the border of top_p, and all stay at that of top_k", () => {
    const row = [0, 0, 0, 0];
    assert.deepEqual([...distribution(row, settings({ top_p: 0.5 })).p], [0.5, 0.5, 0, 0]);
    assert.deepEqual([...distribution([1, 3, 2, 2], settings({ top_k: 2 })).cutBy], [1, -1, -1, -1]);
});

test("a temperature of 0 is greedy, ties to the lowest id", () => {
    assert.deepEqual([...distribution([1, 2, 2], settings({ temperature: 0 })).p], [0, 1, 0]);
});

test("penalties count the text, and ids without a logit are left out", () => {
    const found = distribution([2, -1, 4], settings({ repetition_penalty: 2 }), [0, 1, 1, 9, -1]);
    assert.deepEqual([...found.row], [1, -2, 4]);
    assert.deepEqual([...distribution([2, 2, 2], settings({ frequency_penalty: 1 }), [1, 1]).row], [2, 0, 2]);
    assert.deepEqual([...distribution([2, 2, 2], settings({ presence_penalty: 1 }), [1, 1]).row], [2, 1, 2]);
});

test("a row keeps its numbers: no input is changed", () => {
    const row = Float32Array.from([2, 1]);
    distribution(row, settings({ repetition_penalty: 2, temperature: 0.5, top_k: 1 }), [0]);
    assert.deepEqual([...row], [2, 1]);
});

test("u walks the line from the likeliest down", () => {
    const found = distribution(logs(0.25, 0.5, 0.25), settings({}));
    const ids = [0, 0.4999, 0.5, 0.7499, 0.75, 1 - 2 ** -53].map((u) => draw(found, u).tokenId);
    assert.deepEqual(ids, [1, 1, 0, 0, 2, 2]);
    assert.deepEqual(draw(found, 0.6), { tokenId: 0, low: 0.5, high: 0.75 });
});

test("N15: a token of probability 0 is never drawn, not even where the line ends below u", () => {
    const p = Float64Array.from([0.5, 0.25, 0.2, 0]);
    const row = p.map(Math.log);
    const found = new Distribution(row, row, p, p, new Int8Array(4).fill(-1), []);
    assert.equal(draw(found, 0.99).tokenId, 2);
});

test("what cannot be drawn from is refused", () => {
    for (const row of [[NaN, 0], [Infinity, 0], [-Infinity, -Infinity], []]) {
        assert.throws(() => distribution(row, settings({})), RangeError);
    }
    const found = distribution([0, 0], settings({}));
    for (const u of [-0.1, 1, NaN]) assert.throws(() => draw(found, u), RangeError);
});

test("uniform gives the numbers of the docstring in sampling.py", () => {
    assert.deepEqual([uniform(0n, 0), uniform(0n, 1)], [0.011546754286331562, 0.5023796042735054]);
});

test("a fault is named by its setting", () => {
    assert.equal(samplingFault(settings({})), null);
    assert.equal(samplingFault(settings({ temperature: null })), "temperature");
    assert.equal(samplingFault(settings({ top_k: 2.5 })), "top_k");
    assert.equal(samplingFault(settings({ min_p: NaN })), "min_p");
});
