// What the page's modules say to the questions of a Python test: [name, ...arguments] as JSON on standard input, the
// answer as JSON on standard output. Arrays travel as {dtype: base64}, since JSON has no NaN and no infinity.

import { buffer } from "node:stream/consumers";

import * as inside from "../../../src/manako/views/web/analysis/inside.js";
import * as digests from "../../../src/manako/views/web/trace/digests.js";
import { parseJson } from "../../../src/manako/views/web/trace/strict-json.js";
import * as messages from "../../../src/manako/views/web/text/messages.js";
import * as sampling from "../../../src/manako/views/web/trace/sampling.js";
import * as tokens from "../../../src/manako/views/web/text/tokens.js";
import { Replay } from "../../../src/manako/views/web/merges/replay.js";
import { verifying } from "../../../src/manako/views/web/analysis/verification.js";
import { StepNumbers } from "../../../src/manako/views/web/analysis/step-numbers.js";
import { TraceError } from "../../../src/manako/views/web/trace/safetensors.js";
import { readTrace } from "../../../src/manako/views/web/trace/trace-file.js";
import { Tree } from "../../../src/manako/views/web/trace/tree.js";
import { readRecord, verifyRecord, writeTree } from "../../../src/manako/views/web/trace/tree-file.js";

const TYPES = { float64: Float64Array, float32: Float32Array, int32: Int32Array, int8: Int8Array, uint8: Uint8Array };

function numbers(packed) {
    const [dtype, text] = Object.entries(packed)[0];
    const bytes = Buffer.from(text, "base64");
    return new TYPES[dtype](bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
}

function packed(array) {
    const [dtype] = Object.entries(TYPES).find(([, Type]) => array instanceof Type);
    return { [dtype]: Buffer.from(array.buffer, array.byteOffset, array.byteLength).toString("base64") };
}

function distributed({ logits, settings, history, u }) {
    const found = sampling.distribution(numbers(logits), settings, numbers(history));
    const drawn = sampling.draw(found, u);
    return {
        p: packed(found.p),
        pModel: packed(found.pModel),
        cutBy: packed(found.cutBy),
        stages: found.stages,
        entropy: found.entropy,
        kept: found.kept,
        order: packed(found.order(found.p.length)),
        top: packed(found.order(7)),
        rank: found.rank(drawn.tokenId),
        drawn,
    };
}

async function errorOf(file, check = (bytes) => digests.verifyDigests(readTrace(bytes))) {
    try {
        await check(numbers(file).buffer);
        return null;
    } catch (error) {
        if (!(error instanceof TraceError)) throw error;
        return { key: error.key, ...error.values };
    }
}

async function checked(file, hasCrypto) {
    if (!hasCrypto) Object.defineProperty(globalThis, "crypto", { value: undefined });
    return digests.verifyDigests(readTrace(numbers(file).buffer));
}

function described(packedBytes) {
    const trace = readTrace(numbers(packedBytes).buffer);
    const entry = ([name, value]) => [name, value.buffer ? packed(value) : value];
    const row = (columns) => columns && Object.fromEntries(Object.entries(columns).map(entry));
    const { allIds: ids, u, windowStart, p, pModel, rank } = trace;
    return {
        header: { ...trace.header, seed: trace.header.seed === null ? null : String(trace.header.seed) },
        exact: trace.exact,
        specialIds: [...trace.specialIds],
        columns: row({ ids, u, windowStart, p, pModel, rank }),
        bytes: Array.from(trace.allIds, (id) => packed(trace.tokenBytes(id))),
        text: packed(trace.textBytes(0, trace.allIds.length)),
        steps: Array.from({ length: trace.steps }, (_, step) => ({
            logits: trace.exact ? packed(trace.logitsRow(step)) : null,
            part: row(trace.part(step)),
            history: packed(trace.history(step)),
            attention: row(trace.attention(step)),
            inView: trace.attentionRows(step)?.map(row) ?? null,
            lens: row(trace.lens(step)),
            contributions: row(trace.contributions(step)),
            inside: seen(trace, step),
        })),
    };
}

function branches(file) {
    const { branches: found, current } = readRecord(numbers(file).buffer);
    const tree = new Tree(found);
    return {
        current,
        branches: found.map(({ id, parent, keep, bytes }) => ({ id, parent, keep, bytes: packed(new Uint8Array(bytes)) })),
        rows: tree.rows().map(({ chain, depth }) => [chain.map(({ id }) => id), depth]),
        paths: Object.fromEntries(found.map(({ id }) => [id, places(tree.path(id))])),
    };
}

function places(path) {
    const all = Array.from({ length: path.length }, (_, place) => path.at(place));
    return { prompt: path.prompt, places: all.map((at) => at && [at.branch.id, at.index, at.forcedId]) };
}

async function rewritten(file) {
    const { branches: found, current } = readRecord(numbers(file).buffer);
    return packed(new Uint8Array(await writeTree(found, current)));
}

function seen(trace, step) {
    const attention = trace.attention(step);
    const rows = trace.attentionRows(step);
    const lens = trace.lens(step);
    const ids = inside.contributedIds(trace, step);
    const layers = Array.from({ length: attention?.layers ?? 0 }, (_, layer) => layer);
    const mean = attention && inside.attentionWeights(attention);
    return {
        mean: mean && packed(mean),
        perLayer: layers.map((layer) => packed(inside.attentionWeights(attention, layer))),
        lastHead: attention && packed(inside.attentionWeights(attention, layers.at(-1), attention.heads - 1)),
        sinks: attention && Object.fromEntries(inside.attentionSinks(attention)),
        strongest: mean && inside.strongestKeys(mean, 3),
        rollout: rows && packed(inside.attentionRollout(rows)),
        lens: lens && inside.readLens(lens),
        ids,
        why: ids.map((id) => told(inside.why(trace, step, id))),
        rather: ids.slice(1).map((id) => told(inside.why(trace, step, ids[0], id))),
    };
}

function verified(file) {
    const steps = verifying(readTrace(numbers(file).buffer));
    for (;;) {
        const { done, value } = steps.next();
        if (done) return value;
    }
}

function told(found) {
    return { ...found, strongest: inside.strongestParts(found.parts, 4), groups: inside.sumByKind(found.parts) };
}

const ANSWERS = {
    distributions: (cases) => cases.map(distributed),
    whatIf: (file, settings) => {
        const trace = readTrace(numbers(file).buffer);
        return settings.map((changed) =>
            Array.from({ length: trace.steps }, (_, step) => {
                const found = new StepNumbers(trace, step, sampling.ordered({ ...trace.header.sampling, ...changed }));
                const rows = found.listed(10);
                const p = rows.map((row) => [row.id, row.p]);
                return { p, other: found.other(rows).p, error: found.error, kept: found.stages.map(({ kept }) => kept) };
            }),
        );
    },
    keptSets: (cases) =>
        cases.map(({ logits, settings }) => {
            const { p } = sampling.distribution(numbers(logits), settings);
            return Array.from(p.keys()).filter((id) => p[id] > 0);
        }),
    uniforms: (pairs) => pairs.map(([seed, step]) => sampling.uniform(BigInt(seed), step)),
    softmaxes: (rows) => rows.map((row) => packed(sampling.softmax(numbers(row)))),
    faults: (cases) => cases.map(sampling.samplingFault),
    verdicts: async (files) => (await Promise.all(files.map((file) => errorOf(file)))).map((error) => error?.key ?? "opens"),
    errors: (files) => Promise.all(files.map((file) => errorOf(file))),
    checked,
    recordErrors: (files) => Promise.all(files.map((file) => errorOf(file, (bytes) => verifyRecord(readRecord(bytes))))),
    branches,
    rewritten,
    trace: described,
    verified: (files) => files.map(verified),
    derived: (file, settings) => {
        const trace = readTrace(numbers(file).buffer);
        return Array.from({ length: trace.steps }, (_, step) => {
            const logits = trace.logitsRow(step);
            const chain = settings ?? trace.header.sampling;
            const found = logits && sampling.distribution(logits, chain, trace.history(step));
            return found && { p: packed(found.p), drawn: sampling.draw(found, trace.u[step]) };
        });
    },
    floats: (row) => Array.from(numbers(row), digests.pythonFloat),
    canonical: (texts) => texts.map((text) => digests.pythonJson(parseJson(text))),
    replays: (table, texts) =>
        texts.map((tokens) => {
            const replay = new Replay(table, tokens.map(([id, bytes]) => ({ id, bytes: numbers(bytes) })));
            const { merges } = replay;
            return { merges, pieces: Array.from({ length: merges.length + 1 }, (_, count) => replay.pieces(count)) };
        }),
    prose: (texts) => texts.map((text) => tokens.prose(text)),
    visible: (texts) => texts.map((text) => tokens.visibleText(text)),
    labels: (cases) => cases.map(([bytes, special, before]) => tokens.label(numbers(bytes), special, numbers(before))),
    visibleBytes: (cases) => cases.map((bytes) => tokens.visibleBytes(numbers(bytes))),
    pending: (cases) => cases.map((bytes) => packed(tokens.pendingBytes(numbers(bytes)))),
    say: (catalogs, cases) => {
        messages.setCatalogs(catalogs);
        return cases.map(([lang, key, values]) => messages.say(lang, key, values));
    },
};

const [name, ...given] = JSON.parse(await buffer(process.stdin));
process.stdout.write(JSON.stringify(await ANSWERS[name](...given)));
