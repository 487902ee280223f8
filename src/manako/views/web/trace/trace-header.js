/** The header of a trace out of JSON that anyone may have written: every key known, of the right type, in range. */

/** @import {Sampling} from "./sampling.js" */
import { misfitIn } from "./rules.js";
import { damaged } from "./safetensors.js";
import { STAGES, samplingFault } from "./sampling.js";
import { CAPTURES, ENDS, STAGE_RULES, TRACE, checkLimit, rulesOf } from "./schema.js";
import { plainJson } from "./strict-json.js";

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
 * @property {boolean} prompt_rewritten whether the tokenizer may have made another text of the prompt
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

/**
 * The header, and how many logits a row has. Throws TraceError.
 * @param {Map<string, any>} meta
 * @param {number} version
 * @returns {{header: Header, vocabSize: number}}
 */
export function readHeader(meta, version) {
    const wrong = misfitIn(meta, rulesOf(TRACE, version), "header");
    if (wrong !== null) throw damaged(wrong);
    const lacking = Object.entries(TRACE.header).filter(([, { since = 1 }]) => since > version);
    const defaults = Object.fromEntries(lacking.map(([name, rule]) => [name, rule.default]));
    const { schema, vocab_size: vocabSize, columns_sha256, sha256, ...values } = { ...defaults, ...plainJson(meta) };
    const header = /** @type {Header} */ ({
        ...values,
        seed: meta.get("seed"), // which has more digits than a Number
        sampling: readSampling(meta.get("sampling")),
        self_checks: values.self_checks.map((/** @type {any} */ check) => readSelfCheck(check, values)),
    });
    const { kind, capture, parts, rounded } = header;
    const isScore = kind === "score";
    if (!ENDS[kind].includes(header.end)) throw damaged("end");
    if ((header.seed === null) !== isScore) throw damaged("seed");
    if (isScore && header.first_step) throw damaged("first_step");
    if (header.special_ids.some((id) => id >= vocabSize)) throw damaged("special_ids");
    const inOrder = Object.keys(CAPTURES).filter((name) => capture.includes(name));
    if (capture.length !== inOrder.length || capture.some((name, i) => name !== inOrder[i])) throw damaged("capture");
    if (parts.length > 0 !== capture.includes("contributions")) throw damaged("parts");
    const mayBeRounded = (/** @type {string} */ name) => capture.some((each) => CAPTURES[each][name]?.rounded);
    if (!Object.keys(rounded).every(mayBeRounded)) throw damaged("rounded");
    return { header, vocabSize };
}

/**
 * A setting that is not there is null, as in Python, which the temperature may not be.
 * @param {Map<string, any>} values
 * @returns {Sampling}
 */
function readSampling(values) {
    /** @type {Record<string, any>} */
    const sampling = { order: STAGES };
    for (const name of STAGES) sampling[name] = null;
    for (const [name, value] of values) {
        if (!Object.hasOwn(sampling, name)) throw damaged("sampling");
        if (name === "order" && !(Array.isArray(value) && value.every((each) => typeof each === "string"))) {
            throw damaged(name);
        }
        const isWhole = STAGE_RULES.some((rule) => rule.name === name && rule.type === "integer");
        if (isWhole && typeof value === "number") throw damaged(name); // 5.0 is no whole number
        sampling[name] = plainJson(value);
    }
    const fault = samplingFault(/** @type {Sampling} */ (sampling));
    if (fault !== null) throw damaged(fault);
    return /** @type {Sampling} */ (sampling);
}

/**
 * The limit is the reader's own where it knows the check, for the type that the header says was computed in.
 * @param {{name: string, error: number | null, limit: number}} values
 * @param {any} header
 * @returns {SelfCheck}
 */
function readSelfCheck({ name, error: measured, limit: said }, { model, rounded }) {
    const error = measured ?? Infinity;
    const limit = checkLimit(name, model.dtype, rounded) ?? said;
    if (!Number.isFinite(said) || (measured !== null && !Number.isFinite(measured))) throw damaged("self_checks");
    return { name, error, limit, ok: error <= limit };
}
