/**
 * What was seen inside the model at one step, as numbers to draw: `manako.analysis.attention`, `lens`, `contributions`.
 *
 * Special here: nothing is left out of a mean or a sum, and every sum is float64. A weight says from where a head read,
 * not what that changed. A part may raise all tokens alike, which changes no probability; so parts are ordered by how
 * much more they added than, on average, to all tokens of the vocabulary.
 *
 * Letters: L layers, H heads, K keys, N parts, M tokens.
 */

/** @import {StepAttention, StepLens, Trace} from "../trace/trace-file.js" */
/**
 * A token as one layer has it.
 * @typedef {{id: number, p: number, rank: number}} Reading
 */
/**
 * One step, layer by layer.
 * @typedef {object} LensStep
 * @property {string[]} layers [L + 1] embed, then the number of each layer, counted from 0
 * @property {Reading[][]} first [L + 1][top] the likeliest tokens of each layer, best first
 * @property {Reading[][]} tracked [tokens][L + 1] the taken token, then every other one that was first at a layer
 * @property {number | null} appears the first layer, as a place in `layers`, with the taken token among its first ten
 * @property {number | null} wins the layer from which to the end no token is likelier than the taken one
 */
/** @typedef {"embedding" | "head" | "mlp" | "bias"} PartKind */
/**
 * What one part of the model added.
 * @typedef {object} PartNumbers
 * @property {string} name embed, pos_embed, head:L.H, attn_bias:L, mlp:L, final_bias
 * @property {PartKind} kind
 * @property {number | null} layer
 * @property {number | null} head
 * @property {number} value
 * @property {number | null} overMean how much more than to all tokens of the vocabulary, on average; null where two
 *     tokens are compared, and in a record of an older version
 */
/**
 * The logit of one token taken apart, or the difference of two.
 * @typedef {object} Why
 * @property {number} logit what the model gave the token, less what it gave the rival
 * @property {number} total what the parts add up to
 * @property {PartNumbers[]} parts [N] in the order of the residual stream
 * @property {number} allowed how much may be missing for rounding, as the self-check has it: `manako.trace.captures.logit_scale`
 */

const FIRST_TEN = 10; // a token appears where it is among this many
const SINK_FIRST = 4; // first keys that can be a sink
const SINK_TIMES = 2; // of an even share, which a sink takes more than
const PART_NAME = /^(?:head:(\d{1,4})\.(\d{1,4})|(mlp|attn_bias):(\d{1,4}))$/;

/**
 * [K] the mean weight of all heads, of one layer's, or one head's own.
 * @param {StepAttention} attention
 * @param {number | null} [layer]
 * @param {number | null} [head] of that layer
 * @returns {Float64Array}
 */
export function attentionWeights({ data, layers, heads, keys }, layer = null, head = null) {
    const first = (layer ?? 0) * heads + (head ?? 0);
    const count = layer === null ? layers * heads : head === null ? heads : 1;
    const mean = new Float64Array(keys);
    for (let row = first; row < first + count; row++) for (let k = 0; k < keys; k++) mean[k] += data[row * keys + k];
    return mean.map((sum) => sum / count);
}

/**
 * [K] how much of the last token's row leads to each token, by attention and the stream beside it.
 *
 * In each layer half of a row stays with its token, for the residual connection, and half goes where it looks.
 * Source: Abnar and Zuidema 2020, "Quantifying Attention Flow in Transformers", arXiv:2005.00928.
 * @param {StepAttention[]} rows of every position in view, as `Trace.attentionRows` gives them
 * @returns {Float64Array}
 */
export function attentionRollout(rows) {
    let found = new Float64Array(rows.length);
    found[rows.length - 1] = 1;
    for (let layer = rows[0].layers - 1; layer >= 0; layer--) {
        const next = found.map((share) => share / 2);
        rows.forEach((row, i) => {
            if (found[i] > 0) attentionWeights(row, layer).forEach((weight, k) => (next[k] += (found[i] / 2) * weight));
        });
        found = next;
    }
    return found;
}

/**
 * The sinks, and how many heads each takes more than twice an even share in: at least half of them.
 *
 * A sink is one of the first four keys, and in the first half of them, so that a recent token is none.
 * Source: Xiao et al. 2023, "Efficient Streaming Language Models with Attention Sinks", arXiv:2309.17453.
 * @param {StepAttention} attention
 * @returns {Map<number, number>} key -> heads
 */
export function attentionSinks({ data, layers, heads, keys }) {
    /** @type {Map<number, number>} */
    const sinks = new Map();
    const share = Math.fround(SINK_TIMES / keys); // NumPy compares float32 with it as float32
    for (let k = 0; k < Math.min(SINK_FIRST, Math.floor(keys / 2)); k++) {
        let count = 0;
        for (let row = 0; row < layers * heads; row++) if (data[row * keys + k] > share) count++;
        if (count >= (layers * heads) / 2) sinks.set(k, count);
    }
    return sinks;
}

/**
 * The key that each head looked at most, the first of equal ones: [L * H] heads of layer 0 first.
 * @param {StepAttention} attention
 * @returns {number[]}
 */
export function favouriteKeys({ data, layers, heads, keys }) {
    return Array.from({ length: layers * heads }, (_, row) => {
        const shares = data.subarray(row * keys, (row + 1) * keys);
        return shares.reduce((best, share, k) => (share > shares[best] ? k : best), 0);
    });
}

/**
 * The rows of every position on record, in the order of the text; without the prompt's where some of those are missing.
 * @param {Trace} trace
 * @returns {StepAttention[]}
 */
export function attentionRecord(trace) {
    const prompt = trace.attentionRows(0)?.slice(0, -1) ?? [];
    return [...prompt, ...Array.from({ length: trace.steps }, (_, step) => trace.attention(step) ?? [])].flat();
}

/**
 * The whole record of each head, made small: a line for each position, a place in it for each token that one could see.
 *
 * A place holds the largest share that falls into it: a mean would hide the one token that a head looked at.
 * @typedef {object} Squares
 * @property {Float32Array} data [L * H, height, width]
 * @property {number} width
 * @property {number} height
 */
/**
 * They fill as the iterator goes on, a position at a time, since those of a large model take long.
 * @param {readonly StepAttention[]} rows as `attentionRecord` gives them
 * @param {number} side width and height at most
 * @returns {{squares: Squares, filling: Iterable<void>}}
 */
export function attentionSquares(rows, side) {
    const [first, last] = [rows[0], /** @type {StepAttention} */ (rows.at(-1))];
    const columns = last.start + last.keys - first.start;
    const [width, height] = [columns, rows.length].map((count) => Math.min(side, count));
    const data = new Float32Array(first.layers * first.heads * width * height);
    const places = Int32Array.from({ length: columns }, (_, column) => Math.floor((column * width) / columns));
    /** @returns {Iterable<void>} */
    function* filling() {
        for (const [i, { data: shares, layers, heads, keys, start }] of rows.entries()) {
            const line = Math.floor((i * height) / rows.length);
            for (let head = 0; head < layers * heads; head++) {
                const from = (head * height + line) * width;
                for (let k = 0; k < keys; k++) {
                    const place = from + places[start - first.start + k];
                    if (shares[head * keys + k] > data[place]) data[place] = shares[head * keys + k];
                }
            }
            yield;
        }
    }
    return { squares: { data, width, height }, filling: filling() };
}

/**
 * The n keys with the largest weights, best first, equal ones in the order of the text.
 * @param {Float64Array} weights
 * @param {number} n
 * @returns {number[]}
 */
export function strongestKeys(weights, n) {
    return [...weights.keys()].sort((a, b) => weights[b] - weights[a]).slice(0, n);
}

/**
 * @param {StepLens} lens
 * @returns {LensStep}
 */
export function readLens(lens) {
    const { layers, top, ids, logits, logsumexp, trackedIds, trackedLogits, trackedRanks } = lens;
    const tracked = trackedIds.length;
    const each = Array.from({ length: layers }, (_, layer) => layer);
    const first = each.map((layer) =>
        Array.from(ids.subarray(layer * top, (layer + 1) * top), (id, i) => {
            return { id, p: Math.exp(logits[layer * top + i] - logsumexp[layer]), rank: i + 1 };
        }),
    );
    const places = [...trackedIds.keys()].filter((i) => trackedIds.indexOf(trackedIds[i]) === i); // layers often agree
    const readings = places.map((i) =>
        each.map((layer) => {
            const p = Math.exp(trackedLogits[layer * tracked + i] - logsumexp[layer]);
            return { id: trackedIds[i], p, rank: trackedRanks[layer * tracked + i] };
        }),
    );
    const appears = readings[0].findIndex(({ rank }) => rank <= FIRST_TEN);
    const wins = readings[0].findLastIndex(({ rank }) => rank > 1) + 1;
    return {
        layers: ["embed", ...each.slice(0, -1).map(String)],
        first,
        tracked: readings,
        appears: appears < 0 ? null : appears,
        wins: wins < layers ? wins : null,
    };
}

/**
 * The ids of the tokens that are taken apart at a step: the taken one, then the first candidates.
 * @param {Trace} trace
 * @param {number} step
 * @returns {number[]} none where nothing was taken apart
 */
export function contributedIds(trace, step) {
    const ids = trace.contributions(step)?.ids ?? [];
    return [...new Set(ids)].filter((id) => recordedLogit(trace, step, id) !== null);
}

/**
 * The logit of one of these tokens taken apart, or how it differs from another one's. Throws RangeError for other ids.
 * @param {Trace} trace
 * @param {number} step
 * @param {number} id
 * @param {number | null} [rival] A rather than B
 * @returns {Why}
 */
export function why(trace, step, id, rival = null) {
    const given = trace.contributions(step);
    const ids = contributedIds(trace, step);
    if (given === null || ![id, rival ?? id].every((each) => ids.includes(each))) throw new RangeError("why_token");
    const [place, other] = [given.ids.indexOf(id), rival === null ? -1 : given.ids.indexOf(rival)];
    const width = given.ids.length;
    const parts = given.parts.map((name, n) => {
        const row = given.values.subarray(n * width, (n + 1) * width);
        if (rival !== null) return partNumbers(name, row[place] - row[other], null);
        return partNumbers(name, row[place], given.mean ? row[place] - given.mean[n] : null);
    });
    const logits = ids.map((each) => Number(recordedLogit(trace, step, each)));
    const own = [id, rival ?? -1].flatMap((each) => logits[ids.indexOf(each)] ?? []);
    const allowed = own.reduce((sum, logit) => sum + Math.max(100, ...logits, Math.abs(logit)) / 1e6, 0);
    return { logit: own[0] - (own[1] ?? 0), total: parts.reduce((sum, { value }) => sum + value, 0), parts, allowed };
}

/**
 * The n parts that moved it most, from what raised it most to what lowered it most; and all others together.
 *
 * What differs by less than float32 is true to stays in the order of the stream, whatever the machine.
 * @param {readonly PartNumbers[]} parts
 * @param {number} n
 * @returns {{first: PartNumbers[], rest: {count: number, value: number, overMean: number}}}
 */
export function strongestParts(parts, n) {
    const size = (/** @type {PartNumbers} */ part) => Number(effectOf(part).toFixed(4));
    const bySize = [...parts].sort((a, b) => Math.abs(size(b)) - Math.abs(size(a)));
    const first = bySize.slice(0, n).sort((a, b) => size(b) - size(a));
    const rest = bySize.slice(n);
    const [value, overMean] = [0, 0].map((_, which) => rest.reduce((sum, part) => sum + (which ? effectOf(part) : part.value), 0));
    return { first, rest: { count: rest.length, value, overMean } };
}

/** What a part is ordered and drawn by. @param {PartNumbers} part */
export function effectOf({ value, overMean }) {
    return overMean ?? value;
}

/**
 * The sum of each kind of part.
 * @param {readonly PartNumbers[]} parts
 * @returns {Record<PartKind, number>}
 */
export function sumByKind(parts) {
    const sums = { embedding: 0, head: 0, mlp: 0, bias: 0 };
    for (const { kind, value } of parts) sums[kind] += value;
    return sums;
}

/**
 * Whatever is no embedding, head or MLP is a bias: what it adds depends on no token of the text.
 * @param {string} name
 * @param {number} value
 * @param {number | null} overMean
 * @returns {PartNumbers}
 */
function partNumbers(name, value, overMean) {
    const [, layer, head, other, itsLayer] = PART_NAME.exec(name) ?? [];
    if (head !== undefined) return { name, kind: "head", layer: Number(layer), head: Number(head), value, overMean };
    const isEmbedding = name === "embed" || name === "pos_embed";
    const kind = isEmbedding ? "embedding" : other === "mlp" ? "mlp" : "bias";
    return { name, kind, layer: itsLayer === undefined ? null : Number(itsLayer), head: null, value, overMean };
}

/**
 * What the model gave a token; null where that is not on record.
 * @param {Trace} trace
 * @param {number} step
 * @param {number} id
 * @returns {number | null}
 */
function recordedLogit(trace, step, id) {
    const row = trace.logitsRow(step);
    if (row !== null) return row[id];
    const part = trace.part(step);
    if (part === null) return null;
    if (id === trace.tokenIds[step]) return part.chosenLogit;
    const place = part.ids.indexOf(id);
    return place < 0 ? null : part.logits[place];
}
