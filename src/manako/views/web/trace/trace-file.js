/**
 * A trace: one safetensors file, read in the page as `manako.trace.file` reads it. See docs/trace-format.md.
 *
 * Special here: a trace is checked whole before anything is shown, and every row handed out is a view into the file.
 * Digests are apart (digests.js), since browsers compute them asynchronously: the page can be drawn while they are.
 * Python's answers: tests/vectors/trace-whole.json and tests/vectors/trace-part.json.
 *
 * Letters: S steps, P prompt tokens, V logits of a row, K candidates on record, L layers, H heads.
 */

/** @import {FileHeader} from "./file-header.js" */
/** @import {Column} from "./safetensors.js" */
/** @import {Header} from "./trace-header.js" */
import { readFileHeader } from "./file-header.js";
import { damaged, readSafetensors } from "./safetensors.js";
import { TRACE } from "./schema.js";
import { readHeader } from "./trace-header.js";
import { checkColumns, columnOf } from "./trace-columns.js";

/**
 * What is on record of a row of a large vocabulary: the first candidates, best first, and the exact rest.
 * @typedef {object} Part
 * @property {Int32Array} ids [K]
 * @property {Float32Array} logits [K]
 * @property {Float64Array} p [K]
 * @property {Float64Array} pModel [K]
 * @property {Int8Array} cutBy [K] index into the active stages, -1 where none cut it
 * @property {number} logsumexp of the whole row
 * @property {number} restP what all tokens outside the part have together
 * @property {number} restPModel
 * @property {number} restLogitMax the largest logit outside the part
 * @property {number} entropy of the draw in bits, whole vocabulary
 * @property {Int32Array} stageKept [stages]
 * @property {Float64Array} stageRemovedMass [stages]
 * @property {number} chosenLogit
 */
/**
 * Where one deciding position looked.
 * @typedef {object} StepAttention
 * @property {Float32Array} data [layers, heads, keys] row after row
 * @property {number} layers
 * @property {number} heads
 * @property {number} keys
 * @property {number} start the token, counted from the start of the text, that key 0 is
 */
/**
 * What each layer would have said; layer 0 is the embedding.
 * @typedef {object} StepLens
 * @property {number} layers L + 1
 * @property {number} top candidates of each layer
 * @property {Int32Array} ids [L + 1, top] best first
 * @property {Float32Array} logits [L + 1, top]
 * @property {Float64Array} logsumexp [L + 1]
 * @property {Int32Array} trackedIds [L + 2] the taken token, then the first candidate of each layer
 * @property {Float32Array} trackedLogits [L + 1, L + 2]
 * @property {Int32Array} trackedRanks [L + 1, L + 2] counted from 1
 */
/**
 * What each part of the model added to a token's logit.
 * @typedef {object} StepContributions
 * @property {Int32Array} ids [tokens] the taken token, then the first candidates of the draw
 * @property {readonly string[]} parts names
 * @property {Float32Array} values [parts, tokens]
 * @property {Float32Array} [mean] [parts] over the whole vocabulary; not in a record of an older version
 */

const PART = {
    ids: "part_id",
    logits: "part_logit",
    p: "part_p",
    pModel: "part_p_model",
    cutBy: "part_cut_by",
    logsumexp: "logsumexp",
    restP: "rest_p",
    restPModel: "rest_p_model",
    restLogitMax: "rest_logit_max",
    entropy: "entropy",
    stageKept: "stage_kept",
    stageRemovedMass: "stage_removed_mass",
    chosenLogit: "chosen_logit",
};
const LENS = {
    ids: "lens_id",
    logits: "lens_logit",
    logsumexp: "lens_logsumexp",
    trackedIds: "lens_tracked_id",
    trackedLogits: "lens_tracked_logit",
    trackedRanks: "lens_tracked_rank",
};

/** A whole record, whose header and columns have been checked. */
export class Trace {
    /**
     * @param {Header} header
     * @param {number} vocabSize V, which may be more than there are tokens
     * @param {Map<string, Column>} columns
     * @param {FileHeader} proof the header as it stands in the file
     */
    constructor(header, vocabSize, columns, proof) {
        this.header = header;
        this.vocabSize = vocabSize;
        this.columns = columns;
        this.proof = proof;
        this.promptIds = this.#column("prompt_ids", Int32Array);
        this.tokenIds = this.#column("token_id", Int32Array);
        this.u = this.#column("u", Float64Array); // NaN in a score
        this.windowStart = this.#column("window_start", Int32Array);
        this.p = this.#column("p", Float64Array);
        this.pModel = this.#column("p_model", Float64Array);
        this.rank = this.#column("rank", Int32Array);
        this.steps = this.tokenIds.length;
        this.exact = columns.has("logits"); // whole rows are on record
        this.allIds = Int32Array.from([...this.promptIds, ...this.tokenIds]); // [P + S]
        this.specialIds = new Set(header.special_ids);
        this.#ends = this.#column("vocab_end", Int32Array);
        this.#bytes = this.#column("vocab_bytes", Uint8Array);
        const spelled = this.exact ? [] : this.#column("vocab_id", Int32Array);
        this.#places = this.exact ? null : new Map(Array.from(spelled, (id, i) => [id, i]));
        this.#rowEnds = header.capture.includes("attention") ? this.#attentionEnds() : null;
    }

    /** @type {Int32Array} */
    #ends;
    /** @type {Uint8Array} */
    #bytes;
    /** @type {Map<number, number> | null} */
    #places;
    /** @type {Float64Array | null} [rows + 1] where each row begins in `attention` */
    #rowEnds;

    /**
     * [V] what token `step` was drawn from; null where only a part is on record.
     * @param {number} step
     * @returns {Float32Array | null}
     */
    logitsRow(step) {
        return this.exact ? this.#step({ row: "logits" }, step).row : null;
    }

    /**
     * @param {number} step
     * @returns {Part | null} null where whole rows are on record
     */
    part(step) {
        return this.exact ? null : this.#step(PART, step);
    }

    /**
     * The ids of the whole text before a step.
     * @param {number} step
     */
    history(step) {
        return this.allIds.subarray(0, this.promptIds.length + step);
    }

    /**
     * Empty for an id that the model can draw but the tokenizer does not have.
     * @param {number} id
     * @returns {Uint8Array}
     */
    tokenBytes(id) {
        const place = this.#places === null ? id : (this.#places.get(id) ?? -1);
        if (place < 0 || place >= this.#ends.length) return new Uint8Array();
        return this.#bytes.subarray(place ? this.#ends[place - 1] : 0, this.#ends[place]);
    }

    /** A token of the vocabulary. @param {number} id */
    token(id) {
        return { bytes: this.tokenBytes(id), special: this.specialIds.has(id) };
    }

    /**
     * The bytes of some tokens of the record, counted from the start of the prompt; special ones are no text.
     * @param {number} start
     * @param {number} stop
     * @returns {Uint8Array}
     */
    textBytes(start, stop) {
        const pieces = Array.from(this.allIds.subarray(start, stop))
            .filter((id) => !this.specialIds.has(id))
            .map((id) => this.tokenBytes(id));
        const joined = new Uint8Array(pieces.reduce((length, piece) => length + piece.length, 0));
        let at = 0;
        for (const piece of pieces) {
            joined.set(piece, at);
            at += piece.length;
        }
        return joined;
    }

    /**
     * @param {number} step
     * @returns {StepAttention | null} null where it is not on record
     */
    attention(step) {
        return this.#rowEnds && this.#attentionRow(this.#attentionShape[2] + step);
    }

    /**
     * The rows of every position that a step sees, its own last, so that attention can be followed through the layers.
     * @param {number} step
     * @returns {StepAttention[] | null} null where they are not all on record as this step sees them
     */
    attentionRows(step) {
        if (this.#rowEnds === null) return null;
        const last = this.#attentionShape[2] + step;
        const start = this.#rowStart(last);
        const begin = start - this.#firstRow; // the row of the first token in view
        if (begin < 0) return null;
        const rows = Array.from({ length: last + 1 - begin }, (_, i) => begin + i);
        return rows.every((row) => this.#rowStart(row) === start) ? rows.map((row) => this.#attentionRow(row)) : null;
    }

    /** How far the shares of a head are from 1 together at most, if these were the ones on record. @param {Float32Array} shares */
    attentionError(shares) {
        const [layers, heads] = this.#attentionShape;
        let worst = 0;
        (this.#rowEnds ?? []).forEach((end, row, ends) => {
            const begin = row ? ends[row - 1] : 0;
            const keys = (end - begin) / layers / heads;
            for (let at = begin; at < end; at += keys) {
                let total = 0;
                for (let i = at; i < at + keys; i++) total += shares[i];
                worst = Math.max(worst, Math.abs(total - 1));
            }
        });
        return worst;
    }

    /**
     * @param {number} step
     * @returns {StepLens | null} null where it is not on record
     */
    lens(step) {
        if (!this.header.capture.includes("lens")) return null;
        const [, layers, top] = columnOf(this.columns, "lens_id").shape;
        return { layers, top, ...this.#step(LENS, step) };
    }

    /**
     * @param {number} step
     * @returns {StepContributions | null} null where they are not on record
     */
    contributions(step) {
        if (!this.header.capture.includes("contributions")) return null;
        const names = { ids: "contribution_id", values: "contribution", mean: "contribution_mean" };
        const known = Object.entries(names).filter(([, name]) => this.columns.has(name));
        return { parts: this.header.parts, ...this.#step(Object.fromEntries(known), step) };
    }

    /** L, H, and how many rows of the prompt stand in front of step 0's. */
    get #attentionShape() {
        return this.#column("attention_shape", Int32Array);
    }

    /** The token, counted from the start of the text, that the first row on record belongs to. */
    get #firstRow() {
        return this.promptIds.length - 1 - this.#attentionShape[2];
    }

    /**
     * The first token that a row sees.
     * @param {number} row
     */
    #rowStart(row) {
        const step = row - this.#attentionShape[2];
        return this.windowStart[Math.max(0, step)] ?? 0;
    }

    /**
     * Throws TraceError where the lengths do not fit.
     * @returns {Float64Array}
     */
    #attentionEnds() {
        const [layers, heads, promptRows] = this.#attentionShape;
        const begin = this.windowStart[0] ?? 0;
        if (layers < 1 || heads < 1 || promptRows < 0 || promptRows > this.promptIds.length - 1 - begin) {
            throw damaged("attention_shape");
        }
        const ends = new Float64Array(promptRows + this.steps + 1);
        for (let row = 0; row + 1 < ends.length; row++) {
            const keys = this.#firstRow + row + 1 - this.#rowStart(row);
            if (keys < 1) throw damaged("window_start"); // a row without a token in view
            ends[row + 1] = ends[row] + layers * heads * keys;
        }
        if (ends.at(-1) !== this.#column("attention", Float32Array).length) throw damaged("attention");
        return ends;
    }

    /**
     * @param {number} row prompt rows first
     * @returns {StepAttention}
     */
    #attentionRow(row) {
        const ends = /** @type {Float64Array} */ (this.#rowEnds);
        const [layers, heads] = this.#attentionShape;
        const data = this.#column("attention", Float32Array).subarray(ends[row], ends[row + 1]);
        return { data, layers, heads, keys: data.length / layers / heads, start: this.#rowStart(row) };
    }

    /**
     * The whole of a column.
     * @template {Column["data"]} T
     * @param {string} name
     * @param {new (length: number) => T} Type
     * @returns {T}
     */
    #column(name, Type) {
        const { data } = columnOf(this.columns, name);
        if (!(data instanceof Type)) throw damaged(name);
        return data;
    }

    /**
     * What some columns have of one step: a row of numbers, or the only one.
     * @param {Record<string, string>} names by what they are called here
     * @param {number} step
     * @returns {any}
     */
    #step(names, step) {
        const found = Object.entries(names).map(([ours, name]) => {
            const { data, shape } = columnOf(this.columns, name);
            const width = data.length / this.steps;
            return [ours, shape.length === 1 ? data[step] : data.subarray(step * width, (step + 1) * width)];
        });
        return Object.fromEntries(found);
    }
}

/**
 * Read a trace and check all of it but its digests. Throws TraceError; its key is one of the catalog's errors.
 * @param {ArrayBuffer} bytes
 * @returns {Trace}
 */
export function readTrace(bytes) {
    const { columns, metadata } = readSafetensors(bytes);
    const proof = readFileHeader(TRACE, metadata);
    const { header, vocabSize } = readHeader(proof.meta, proof.version);
    checkColumns(header, columns, vocabSize, proof.version);
    return new Trace(header, vocabSize, columns, proof);
}
