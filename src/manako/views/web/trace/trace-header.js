/**
 * The header of a trace out of JSON that anyone may have written: every key known, of the right type, in range.
 *
 * Special here: the rules are those of `manako.trace_file`, so that page and Python give the same verdict on a file.
 */

import { damaged, isMap } from "./safetensors.js";
import { plainJson } from "./strict-json.js";
import { STAGES, samplingFault } from "./sampling.js";

/** @typedef {import("./sampling.js").Sampling} Sampling */
/**
 * One thing that must hold for the record to be true, with the error that was measured.
 * @typedef {{name: string, error: number, limit: number, ok: boolean}} SelfCheck
 */
/**
 * All of a record that is not a column of numbers, in the names of the file; see docs/trace-format.md.
 * @typedef {object} Header
 * @property {"generation" | "score"} kind
 * @property {ModelInfo} model
 * @property {string} prompt
 * @property {Sampling} sampling
 * @property {bigint | null} seed null for a score, which draws nothing
 * @property {string[]} stop
 * @property {"length" | "stop" | "document_end" | "interrupted" | "text"} end
 * @property {number} max_new_tokens
 * @property {"exact"} window
 * @property {number[]} special_ids
 * @property {SelfCheck[]} self_checks
 * @property {string[]} capture
 * @property {string[]} parts
 * @property {string[]} ablate
 * @property {number} first_step tokens at the end of the prompt that count as steps already taken
 * @property {Record<string, number>} rounded captured column -> largest relative error that a compact export put on it
 */
/**
 * @typedef {object} ModelInfo
 * @property {string} ref
 * @property {string} model_type
 * @property {Record<string, any>} config
 * @property {string[]} switches
 * @property {string} weights_sha256
 * @property {string} tokenizer_sha256
 * @property {string} engine
 * @property {string} device
 * @property {string} dtype
 * @property {string} stored_dtype
 * @property {number | null} threads
 * @property {Record<string, string>} versions
 */
/** @typedef {Map<string, any>} Values */

export const TRACE_SCHEMA = "manako.trace/3";
/** @type {[string, any][]} */
const SINCE_3 = [
    ["first_step", 0n],
    ["rounded", new Map()],
];
/** @type {Map<any, [string, any][]>} schema -> the fields that it lacks, as they are read */
export const TRACE_SCHEMAS = new Map([
    [TRACE_SCHEMA, []],
    ["manako.trace/2", SINCE_3],
    ["manako.trace/1", [["capture", []], ["parts", []], ["ablate", []], ...SINCE_3]],
]);
const CAPTURES = ["attention", "lens", "contributions", "residual"];
/** @type {Record<string, string[]>} */
const ENDS = { generation: ["length", "stop", "document_end", "interrupted"], score: ["text"] };
const MODEL_TEXTS = [
    "ref",
    "model_type",
    "weights_sha256",
    "tokenizer_sha256",
    "engine",
    "device",
    "dtype",
    "stored_dtype",
];
const HEADER_KEYS = [
    "kind",
    "model",
    "prompt",
    "sampling",
    "seed",
    "stop",
    "end",
    "max_new_tokens",
    "window",
    "special_ids",
    "self_checks",
    "capture",
    "parts",
    "ablate",
    "first_step",
    "rounded",
    "schema",
    "vocab_size",
    "columns_sha256",
    "sha256",
];

/**
 * The header, and how many logits a row has. Throws TraceError.
 * @param {Values} given
 * @returns {{header: Header, vocabSize: number}}
 */
export function readHeader(given) {
    const meta = new Map(given);
    for (const [name, value] of TRACE_SCHEMAS.get(meta.get("schema")) ?? []) {
        if (meta.has(name)) throw damaged("header");
        meta.set(name, value);
    }
    checkKeys(meta, HEADER_KEYS, "header");
    const vocabSize = wholeOf(meta, "vocab_size", 1n, 2n ** 31n - 1n);
    const kind = textOf(meta, "kind");
    const end = textOf(meta, "end");
    if (!Object.hasOwn(ENDS, kind) || !ENDS[kind].includes(end)) throw damaged("kind or end");
    if (textOf(meta, "window") !== "exact") throw damaged("window");
    const seed = meta.get("seed");
    const isSeed = typeof seed === "bigint" && seed >= 0n && seed < 2n ** 64n;
    if (kind === "score" ? seed !== null : !isSeed) throw damaged("seed");
    const capture = textsOf(meta, "capture");
    const inOrder = CAPTURES.filter((name) => capture.includes(name));
    if (capture.length !== inOrder.length || capture.some((name, i) => name !== inOrder[i])) throw damaged("capture");
    const parts = textsOf(meta, "parts");
    if (new Set(parts).size !== parts.length || parts.length > 0 !== capture.includes("contributions")) {
        throw damaged("parts");
    }
    const rounded = objectOf(meta, "rounded");
    for (const [name, error] of rounded) {
        const isError = typeof error === "number" && error > 0 && error < 1;
        if (name !== "attention" || !capture.includes(name) || !isError) throw damaged("rounded");
    }
    const specialIds = listOf(meta, "special_ids");
    if (!specialIds.every((id) => typeof id === "bigint" && id >= 0n && id < vocabSize)) throw damaged("special_ids");
    const header = /** @type {Header} */ ({
        kind,
        model: readModel(objectOf(meta, "model")),
        prompt: textOf(meta, "prompt"),
        sampling: readSampling(objectOf(meta, "sampling")),
        seed,
        stop: textsOf(meta, "stop"),
        end,
        max_new_tokens: wholeOf(meta, "max_new_tokens", 0n),
        window: "exact",
        special_ids: specialIds.map(Number),
        self_checks: listOf(meta, "self_checks").map(readSelfCheck),
        capture,
        parts,
        ablate: textsOf(meta, "ablate"),
        first_step: wholeOf(meta, "first_step", 0n, kind === "score" ? 0n : undefined),
        rounded: plainJson(rounded),
    });
    return { header, vocabSize };
}

/**
 * @param {Values} values
 * @returns {ModelInfo}
 */
function readModel(values) {
    checkKeys(values, [...MODEL_TEXTS, "config", "versions", "switches", "threads"], "model");
    for (const name of MODEL_TEXTS) textOf(values, name);
    objectOf(values, "config");
    const versions = objectOf(values, "versions");
    for (const name of versions.keys()) textOf(versions, name);
    if (values.get("threads") !== null) wholeOf(values, "threads", 0n);
    textsOf(values, "switches");
    return plainJson(values);
}

/**
 * A setting that is not there has its neutral value, as in Python.
 * @param {Values} values
 * @returns {Sampling}
 */
function readSampling(values) {
    /** @type {Record<string, any>} */
    const sampling = { order: STAGES };
    for (const name of STAGES) sampling[name] = name === "temperature" ? 1 : null;
    for (const [name, value] of values) {
        if (!Object.hasOwn(sampling, name)) throw damaged("sampling");
        const isNumber = typeof value === "bigint" || (typeof value === "number" && name !== "top_k");
        if (name === "order") sampling.order = textsOf(values, name);
        else if (value !== null && !isNumber) throw damaged(name);
        else sampling[name] = plainJson(value);
    }
    const fault = samplingFault(/** @type {Sampling} */ (sampling));
    if (fault !== null) throw damaged(fault);
    return /** @type {Sampling} */ (sampling);
}

/**
 * @param {unknown} values
 * @returns {SelfCheck}
 */
function readSelfCheck(values) {
    if (!isMap(values)) throw damaged("self_checks");
    checkKeys(values, ["name", "error", "limit"], "self_checks");
    const [error, limit] = [values.get("error") ?? Infinity, values.get("limit")].map((value) => {
        const number = Number(value);
        const tooLarge = typeof value === "bigint" && !Number.isFinite(number);
        if ((typeof value !== "bigint" && typeof value !== "number") || tooLarge) throw damaged("self_checks");
        return number;
    });
    return { name: textOf(values, "name"), error, limit, ok: error <= limit };
}

/**
 * @param {Values} values
 * @param {string[]} names
 * @param {string} part
 */
function checkKeys(values, names, part) {
    if (values.size !== names.length || !names.every((name) => values.has(name))) throw damaged(part);
}

/** @param {Values} values @param {string} name @returns {string} */
function textOf(values, name) {
    const value = values.get(name);
    if (typeof value !== "string") throw damaged(name);
    return value;
}

/** @param {Values} values @param {string} name @param {bigint} low @param {bigint} [high] @returns {number} */
function wholeOf(values, name, low, high) {
    const value = values.get(name);
    if (typeof value !== "bigint" || value < low || (high !== undefined && value > high)) throw damaged(name);
    return Number(value);
}

/** @param {Values} values @param {string} name @returns {Values} */
function objectOf(values, name) {
    const value = values.get(name);
    if (!isMap(value)) throw damaged(name);
    return value;
}

/** @param {Values} values @param {string} name @returns {any[]} */
function listOf(values, name) {
    const value = values.get(name);
    if (!Array.isArray(value)) throw damaged(name);
    return value;
}

/** @param {Values} values @param {string} name @returns {string[]} */
function textsOf(values, name) {
    const list = listOf(values, name);
    if (!list.every((value) => typeof value === "string")) throw damaged(name);
    return list;
}
