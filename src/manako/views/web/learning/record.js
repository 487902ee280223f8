/**
 * One text under every snapshot of a training, out of its file: see docs/dynamics.md.
 *
 * Special here: types, shapes and digests are checked; whether the columns agree with each other is what `manako verify`
 * says. Only the text of a continuation is read from its trace.
 */

/** @import {Column} from "../trace/safetensors.js" */
/** @import {FileHeader} from "../trace/file-header.js" */
/** @typedef {import("../trace/schema.js").Format & {columns: Record<string, Record<string, {dtype: string, axes: (string | number)[]}>>}} DynamicsFormat */
import formats from "../../../trace/schema.json" with { type: "json" };
import { modelName } from "../trace/model-name.js";
import { verifyDigests } from "../trace/digests.js";
import { readFileHeader } from "../trace/file-header.js";
import { misfitIn } from "../trace/rules.js";
import { damaged, readSafetensors } from "../trace/safetensors.js";

const DYNAMICS = /** @type {DynamicsFormat} */ (/** @type {unknown} */ (formats.dynamics));
const CONTINUATION = "trace-";

export class Dynamics {
    /**
     * @param {FileHeader} proof
     * @param {Map<string, Column>} columns
     */
    constructor(proof, columns) {
        this.proof = proof;
        this.columns = columns;
        this.run = modelName(/** @type {string} */ (proof.meta.get("run")));
        this.text = /** @type {string} */ (proof.meta.get("text"));
        this.characters = Number(proof.meta.get("characters"));
        this.damaged = /** @type {bigint[]} */ (proof.meta.get("damaged")).map(Number);
        const one = proof.meta.get("attention_step");
        /** The one token whose attention is in the file; null where that of every one is. @type {number | null} */
        this.attentionStep = one === null ? null : Number(one);
        this.special = new Set(/** @type {bigint[]} */ (proof.meta.get("special_ids")).map(Number));
        this.steps = [...this.data("step")];
        this.tokens = [...this.data("token_id")];
        this.prompt = [...this.data("prompt_ids")];
        this.bytes = tokenBytes(columns);
        this.top = this.shape("top_id")[2];
        this.layers = this.shape("lens_id")[2];
    }

    /** @param {string} name */
    has(name) {
        return this.columns.has(name);
    }

    /** @param {string} name */
    data(name) {
        const found = this.columns.get(name);
        if (!found) throw damaged(name);
        return found.data;
    }

    /** The numbers of a column, those of each snapshot together. @param {string} name */
    each(name) {
        const numbers = /** @type {Float64Array} */ (this.data(name));
        const size = numbers.length / this.steps.length;
        return this.steps.map((_, z) => numbers.subarray(z * size, (z + 1) * size));
    }

    /** @param {string} name */
    shape(name) {
        return this.columns.get(name)?.shape ?? [];
    }

    /** Probability of a token of the text at a snapshot. @param {number} z @param {number} s */
    p(z, s) {
        const at = z * this.tokens.length + s;
        return Math.exp(this.data("logit")[at] - this.data("logsumexp")[at]);
    }

    /** @param {number} z @param {number} s */
    rank(z, s) {
        return this.data("rank")[z * this.tokens.length + s];
    }

    /** Bits per character of the text. @param {number} z */
    bits(z) {
        const nats = this.tokens.reduce((sum, _, s) => sum - Math.log(this.p(z, s)), 0);
        return nats / Math.LN2 / this.characters;
    }

    /** The snapshot from which on a token is the likeliest to the end; null where it is not. @param {number} s */
    firstPlace(s) {
        let first = null;
        for (let z = this.steps.length - 1; z >= 0 && this.rank(z, s) === 1; z--) first = z;
        return first;
    }

    /** The likeliest tokens of a cell, best first. @param {number} z @param {number} s @param {number} count */
    candidates(z, s, count) {
        const start = (z * this.tokens.length + s) * this.top;
        const sum = this.data("logsumexp")[z * this.tokens.length + s];
        return Array.from({ length: Math.min(count, this.top) }, (_, k) => ({
            id: this.data("top_id")[start + k],
            p: Math.exp(this.data("top_logit")[start + k] - sum),
        }));
    }

    /** What each layer would say in a cell. @param {number} z @param {number} s */
    lens(z, s) {
        const start = (z * this.tokens.length + s) * this.layers;
        return Array.from({ length: this.layers }, (_, layer) => ({
            id: this.data("lens_id")[start + layer],
            p: Math.exp(this.data("lens_logit")[start + layer] - this.data("lens_logsumexp")[start + layer]),
        }));
    }

    /** [layer][head][key] of a token whose attention is on record. @param {number} z @param {number} s */
    attention(z, s) {
        const [, layers, heads, row] = this.shape("attention");
        const whole = this.data("attention");
        const keys = this.prompt.length + s;
        const before = this.attentionStep === null ? s * this.prompt.length + (s * (s - 1)) / 2 : 0; // of the tokens in front of it
        return Array.from({ length: layers }, (_, layer) =>
            Array.from({ length: heads }, (__, head) => {
                const start = ((z * layers + layer) * heads + head) * row + before;
                return [...whole.subarray(start, start + keys)];
            }),
        );
    }

    /** The bytes that a snapshot writes after the text. @param {number} z */
    continuation(z) {
        const { data } = this.columns.get(`${CONTINUATION}${z}`) ?? { data: new Uint8Array() };
        const bytes = /** @type {ArrayBuffer} */ (data.buffer).slice(data.byteOffset, data.byteOffset + data.byteLength);
        const { columns } = readSafetensors(bytes);
        const words = tokenBytes(columns);
        const parts = [...(columns.get("token_id")?.data ?? [])].map((id) => [...(words.get(id) ?? [])]);
        return new Uint8Array(parts.flat());
    }

    /** Whether every byte is the one that was written, as `verifyDigests` says it. */
    verify() {
        return verifyDigests(this);
    }
}

/**
 * Check all of a file but its digests. Throws TraceError.
 * @param {ArrayBuffer} bytes
 */
export function readDynamics(bytes) {
    const { columns, metadata } = readSafetensors(bytes);
    const proof = readFileHeader(DYNAMICS, metadata);
    const wrong = misfitIn(proof.meta, DYNAMICS.header, "header");
    if (wrong !== null) throw damaged(wrong);
    /** @type {Map<string, number>} */
    const sizes = new Map([["Z", proof.meta.get("weights_sha256").length]]);
    for (const group of ["all", ...proof.meta.get("groups")]) {
        for (const [name, rule] of Object.entries(DYNAMICS.columns[group])) {
            const found = columns.get(name);
            if (!found || found.dtype !== rule.dtype || found.shape.length !== rule.axes.length) throw damaged(name);
            rule.axes.forEach((axis, i) => {
                const [letter, more = "0"] = String(axis).split("+");
                const size = found.shape[i] - Number(more);
                const wanted = typeof axis === "number" ? axis : (sizes.get(letter) ?? size);
                if (size !== wanted || (i > 0 && found.shape[i] === 0)) throw damaged(name);
                if (typeof axis !== "number") sizes.set(letter, size);
            });
        }
    }
    return new Dynamics(proof, columns);
}

/** Token id -> its bytes. @param {Map<string, Column>} columns @returns {Map<number, Uint8Array>} */
function tokenBytes(columns) {
    const [ends, blob, ids] = ["vocab_end", "vocab_bytes", "vocab_id"].map((name) => columns.get(name)?.data);
    if (!ends || !blob) throw damaged("vocab_end");
    const found = new Map();
    let start = 0;
    for (let i = 0; i < ends.length; i++) {
        found.set(ids ? ids[i] : i, /** @type {Uint8Array} */ (blob).subarray(start, ends[i]));
        start = ends[i];
    }
    return found;
}
