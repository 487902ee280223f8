/**
 * Activations as columns of a trace, one recorder for each capture, as `manako.engines.captures` makes them: attention,
 * lens, contributions. Each number that can be checked is checked as it is made.
 *
 * Letters: S steps, L layers, nh heads, C = n_embd, V logits, J candidates of a layer, M tokens taken apart, N parts.
 */

/** @import {Config, GPT2, Kept} from "./gpt2.js" */
/** @import {Distribution} from "../trace/sampling.js" */
/** @import {Column} from "../trace/safetensors.js" */
import { moments } from "./gpt2.js";

const LENS_TOP = 10; // candidates of each layer on record
const CONTRIBUTION_TOP = 10; // first candidates of a step whose logits are taken apart, beside the chosen token
const PROMPT_ROWS_BYTES = 64_000_000; // of a prompt's own attention rows; of a longer prompt only deciding rows are kept

/** @typedef {{logits: Float32Array, found: Distribution, tokenId: number}} Drawn */
/**
 * @typedef {object} Recorder
 * @property {(kept: Kept, drawn: Drawn) => void} add one step
 * @property {() => Record<string, Column>} columns of all steps, in the order of the schema
 * @property {() => readonly string[]} parts of the model that the header names
 * @property {{name: string, error: number}} check what must hold for it to be true, with the worst error so far
 */

/**
 * What a model can record of its inside: an ablated one has less to show.
 * @param {Config} config
 * @returns {string[]}
 */
export function capturesOf({ attention, residual, norm }) {
    return [attention && "attention", "lens", residual && norm === "pre" && "contributions"].filter((name) => name !== false);
}

/** Whether the rows of a whole prompt are recorded, which are its length squared. @param {Config} config @param {number} length */
export function wantsPromptRows({ n_layer, n_head, n_positions }, length) {
    const rows = Math.min(length, n_positions) - 1;
    return rows > 0 && (4 * n_layer * n_head * rows * (rows + 1)) / 2 <= PROMPT_ROWS_BYTES;
}

/** @type {Record<string, (model: GPT2) => Recorder>} */
export const RECORDERS = { attention: attentionRecorder, lens: lensRecorder, contributions: contributionRecorder };

/** @param {GPT2} model @returns {Recorder} */
function attentionRecorder({ config: { n_layer, n_head } }) {
    /** @type {Float32Array[]} */
    const rows = [];
    const check = { name: "attention_rows_sum_to_1", error: 0 };
    let prompt = 0;
    return {
        check,
        parts: () => [],
        add(kept) {
            if (rows.length === 0) prompt = kept.rows.length - 1;
            for (const row of kept.rows) {
                const keys = row.length / n_layer / n_head;
                for (let at = 0; at < row.length; at += keys) note(check, sum(row.subarray(at, at + keys)) - 1);
                rows.push(row);
            }
        },
        columns: () => ({ attention: column(joined(rows)), attention_shape: column(Int32Array.of(n_layer, n_head, prompt)) }),
    };
}

/** @param {GPT2} model @returns {Recorder} */
function lensRecorder(model) {
    const layers = model.config.n_layer + 1;
    const top = Math.min(LENS_TOP, model.config.vocab_size);
    /** @type {Record<"id" | "logit" | "logsumexp" | "trackedId" | "trackedLogit" | "trackedRank", number[]>} */
    const found = { id: [], logit: [], logsumexp: [], trackedId: [], trackedLogit: [], trackedRank: [] };
    const check = { name: "lens_last_equals_logits", error: 0 };
    return {
        check,
        parts: () => [],
        add({ residual }, { logits, tokenId }) {
            const rows = model.unembed(residual); // [L + 1, V], each row with its own scale
            const listed = rows.map((row) => highest(row, top));
            const tracked = [tokenId, ...listed.map(([first]) => first)];
            found.trackedId.push(...tracked);
            rows.forEach((row, layer) => {
                const ids = listed[layer];
                found.id.push(...ids);
                found.logit.push(...ids.map((id) => row[id]));
                found.logsumexp.push(logsumexp(row, row[ids[0]]));
                found.trackedLogit.push(...tracked.map((id) => row[id]));
                found.trackedRank.push(...ranksOf(row, tracked));
            });
            const last = rows[layers - 1];
            note(check, (last[tokenId] - logits[tokenId]) / Math.max(1, Math.abs(last[listed[layers - 1][0]])));
        },
        columns: () => ({
            lens_id: column(Int32Array.from(found.id), layers, top),
            lens_logit: column(Float32Array.from(found.logit), layers, top),
            lens_logsumexp: column(Float64Array.from(found.logsumexp), layers),
            lens_tracked_id: column(Int32Array.from(found.trackedId), layers + 1),
            lens_tracked_logit: column(Float32Array.from(found.trackedLogit), layers, layers + 1),
            lens_tracked_rank: column(Int32Array.from(found.trackedRank), layers, layers + 1),
        }),
    };
}

/**
 * Direct logit attribution at the one scale of the last row. Source: Elhage et al. 2021, "A Mathematical Framework for
 * Transformer Circuits".
 * @param {GPT2} model
 * @returns {Recorder}
 */
function contributionRecorder(model) {
    const { n_layer, n_head, attention, layer_norm_epsilon, vocab_size } = model.config;
    const parts = [
        ...["embed", "pos_embed"],
        ...Array.from({ length: n_layer }, (_, i) => [
            ...(attention ? Array.from({ length: n_head }, (_, h) => `head:${i}.${h}`) : []),
            ...(attention ? [`attn_bias:${i}`, `mlp:${i}`] : [`mlp:${i}`]),
        ]).flat(),
        "final_bias",
    ];
    const shown = 1 + Math.min(CONTRIBUTION_TOP, vocab_size);
    /** @type {{ids: Int32Array[], values: Float32Array[], means: Float32Array[]}} */
    const found = { ids: [], values: [], means: [] };
    const mean = model.meanReadout;
    const check = { name: "contributions_sum_to_logit", error: 0 };
    return {
        check,
        parts: () => parts,
        add({ embed, z, mlpOut, residual }, { logits, found: draw, tokenId }) {
            const ids = Int32Array.of(tokenId, ...draw.order(CONTRIBUTION_TOP));
            const written = [...embed];
            for (let i = 0; i < n_layer; i++) {
                if (attention) written.push(...model.headsOut(i, z[i]), model.outputBias(i));
                written.push(mlpOut[i]);
            }
            const { scale } = moments(residual[n_layer], layer_norm_epsilon);
            const values = new Float32Array(parts.length * shown);
            const largest = Math.max(100, ...Array.from(ids, (id) => logits[id]));
            ids.forEach((id, m) => {
                const { direction, constant } = model.readout(id);
                let total = 0;
                written.forEach((part, n) => {
                    values[n * shown + m] = dot(part, direction) * scale;
                    total += values[n * shown + m];
                });
                values[written.length * shown + m] = constant;
                const error = total + values[written.length * shown + m] - logits[id];
                note(check, (100 * error) / Math.max(largest, Math.abs(logits[id]))); // as logit_scale in Python
            });
            found.means.push(Float32Array.from([...written.map((part) => dot(part, mean.direction) * scale), mean.constant]));
            found.ids.push(ids);
            found.values.push(values);
        },
        columns: () => ({
            contribution_id: column(joined(found.ids), shown),
            contribution: column(joined(found.values), parts.length, shown),
            contribution_mean: column(joined(found.means), parts.length),
        }),
    };
}

/** The ids of the n largest numbers of a row, best first, equal ones by id. @param {Float32Array} row @param {number} n */
function highest(row, n) {
    /** @type {number[]} */
    const ids = [];
    for (let id = 0; id < row.length; id++) {
        if (ids.length === n && !(row[id] > row[ids[n - 1]])) continue;
        let place = ids.length;
        while (place > 0 && row[id] > row[ids[place - 1]]) place--;
        ids.splice(place, 0, id);
        ids.length = Math.min(ids.length, n);
    }
    return ids;
}

/** 1 + how many numbers of a row are larger than each of some. @param {Float32Array} row @param {readonly number[]} ids */
function ranksOf(row, ids) {
    const known = new Map(ids.map((id) => [id, 0])); // several layers often agree on a token
    for (const id of known.keys()) {
        let rank = 1;
        const own = row[id];
        for (let i = 0; i < row.length; i++) rank += Number(row[i] > own); // added, not asked: faster by four
        known.set(id, rank);
    }
    return ids.map((id) => Number(known.get(id)));
}

/** @param {Float32Array} row @param {number} largest */
function logsumexp(row, largest) {
    let total = 0;
    for (let i = 0; i < row.length; i++) total += Math.exp(row[i] - largest);
    return largest + Math.log(total);
}

/** @param {Float32Array} part @param {Float64Array} direction */
function dot(part, direction) {
    let total = 0;
    for (let i = 0; i < part.length; i++) total += part[i] * direction[i];
    return total;
}

/** @param {Float32Array | Float64Array} row */
export function sum(row) {
    let total = 0;
    for (let i = 0; i < row.length; i++) total += row[i];
    return total;
}

/** Keep the error of a self-check if it is the worst. @param {{error: number}} check @param {number} error */
function note(check, error) {
    check.error = Number.isNaN(error) ? Infinity : Math.max(check.error, Math.abs(error));
}

/**
 * Rows behind each other.
 * @template {Float32Array | Int32Array} T
 * @param {T[]} rows at least one
 * @returns {T}
 */
function joined(rows) {
    const Type = /** @type {new (length: number) => T} */ (rows[0].constructor);
    const whole = new Type(rows.reduce((length, row) => length + row.length, 0));
    let at = 0;
    for (const row of rows) {
        whole.set(row, at);
        at += row.length;
    }
    return whole;
}

/**
 * A column of all steps.
 * @param {Float64Array | Float32Array | Int32Array | Uint8Array} data
 * @param {...number} inner its axes behind the first
 * @returns {Column}
 */
export function column(data, ...inner) {
    const dtype = { Float64Array: "float64", Float32Array: "float32", Int32Array: "int32", Uint8Array: "uint8" }[data.constructor.name];
    return { dtype: String(dtype), shape: [data.length / inner.reduce((product, side) => product * side, 1), ...inner], data };
}
