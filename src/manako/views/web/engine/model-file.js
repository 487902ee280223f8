/**
 * The model that a page carries: one file of the format `manako.model`, in which a model folder's weights and tokenizer
 * lie as they are, beside what Python knows of them. See docs/page.md.
 *
 * Special here: weights are read as they are stored and become float32 as Python makes them, so both compute with the
 * same numbers. The page trusts the file as it trusts its own script: both came from the same place.
 */

/** @import {Config} from "./gpt2.js" */
/** @import {Column} from "../trace/safetensors.js" */
/** @import {ModelInfo} from "../trace/trace-header.js" */
import { readFileHeader } from "../trace/file-header.js";
import { misfitIn } from "../trace/rules.js";
import { damaged, readSafetensors } from "../trace/safetensors.js";
import { MODEL, rulesOf } from "../trace/schema.js";
import { plainJson } from "../trace/strict-json.js";

/**
 * @typedef {object} ModelFile
 * @property {ModelInfo & {config: Config}} info for the header of a trace
 * @property {number[]} endIds tokens that end a document
 * @property {number | null} startId the token that starts one
 * @property {Tensors} tensors
 * @property {string} tokenizer the text of a tokenizer.json
 */

const PREFIX = "transformer."; // of GPT-2's names in a file
const HALF = 65_536; // how many numbers of 16 bits there are

/** The weights of a model folder. */
export class Tensors {
    /** @param {Map<string, Column>} columns */
    constructor(columns) {
        this.#columns = columns;
    }

    #columns;
    /** @type {Float32Array | null} */
    #halves = null;

    /** A tensor in float32, row after row. @param {string} name without "transformer." @returns {Float32Array} */
    read(name) {
        const column = this.#columns.get(PREFIX + name) ?? this.#columns.get(name);
        if (!column) throw damaged(name);
        const { dtype, shape, data } = column;
        if (data instanceof Float32Array) return data;
        if (data instanceof Int8Array) {
            const [scale, numbers] = [this.read(`${name}_scale`), new Float32Array(data.length)]; // see formats/int8_rows.py
            for (let r = 0, i = 0; r < shape[0]; r++) for (let c = 0; c < shape[1]; c++, i++) numbers[i] = data[i] * scale[r];
            return numbers;
        }
        if (dtype !== "F16") throw damaged(name);
        this.#halves ??= Float32Array.from({ length: HALF }, (_, bits) => half(bits));
        const halves = this.#halves;
        return Float32Array.from(new Uint16Array(data.slice().buffer), (bits) => halves[bits]);
    }
}

/**
 * Throws TraceError.
 * @param {ArrayBuffer} bytes
 * @returns {ModelFile}
 */
export function readModel(bytes) {
    const { columns, metadata } = readSafetensors(bytes);
    const { meta, version } = readFileHeader(MODEL, metadata);
    const wrong = misfitIn(meta, rulesOf(MODEL, version), "header");
    if (wrong !== null) throw damaged(wrong);
    const { model, end_ids: endIds, start_id: startId } = plainJson(meta);
    const part = (/** @type {string} */ name) => {
        const data = columns.get(name)?.data;
        if (!(data instanceof Uint8Array)) throw damaged(name);
        return data;
    };
    const weights = part("model.safetensors");
    const { buffer, byteOffset, byteLength } = weights;
    const tensors = new Tensors(readSafetensors(/** @type {ArrayBuffer} */ (buffer).slice(byteOffset, byteOffset + byteLength)).columns);
    return { info: model, endIds, startId, tensors, tokenizer: new TextDecoder().decode(part("tokenizer.json")) };
}

/** A float16. @param {number} bits */
function half(bits) {
    const [sign, exponent, fraction] = [bits >> 15 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
    if (exponent === 31) return fraction ? NaN : sign * Infinity;
    return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
}
