/** What a training came to, as one small file of JSON that others lay beside theirs: no weights, and of the text its beginning alone. */

/** @import {Guesses} from "./guesses.js" */
/** @import {TrainingSettings} from "./training.js" */
import { readFileHeader } from "../trace/file-header.js";
import { misfitIn } from "../trace/rules.js";
import { damaged } from "../trace/safetensors.js";
import { rulesOf } from "../trace/schema.js";
import { plainJson } from "../trace/strict-json.js";
import table from "../../../trace/schema.json" with { type: "json" };

/**
 * @typedef {object} Result
 * @property {string} name that its owner gave it
 * @property {{start: string, characters: number, sha256: string}} text
 * @property {Omit<TrainingSettings, "muon_rate">} settings
 * @property {number | null} [muon_rate]
 * @property {number} parameters
 * @property {number} step
 * @property {number} seconds of training
 * @property {{step: number, bits: number} | null} evaluation the last one
 * @property {Guesses} guesses
 * @property {string} prompt
 * @property {string} sample what the model wrote after it
 */

const LARGEST = 100_000; // bytes; what the page writes has a few thousand
const whole = { type: "integer", minimum: 0 };
const amount = { type: "number", minimum: 0 };
const text = { type: "string" };
const object = (/** @type {Record<string, object>} */ properties, type = /** @type {string | string[]} */ ("object")) => ({ type, properties });
const RESULT = {
    name: "manako.result",
    version: 2,
    digest: "",
    header: {
        ...{ schema: text, name: text, text: object({ start: text, characters: whole, sha256: text }) },
        ...{ settings: table.run.header.settings, muon_rate: { ...table.run.header.muon_rate, since: 2 }, parameters: whole, step: whole, seconds: amount },
        evaluation: object({ step: whole, bits: amount }, ["object", "null"]),
        ...{ guesses: object({ uniform: amount, unigram: amount, bigram: amount }), prompt: text, sample: text },
    },
};

/** @param {Result} result */
export function resultFile(result) {
    return JSON.stringify({ schema: `${RESULT.name}/${RESULT.version}`, ...result }, null, 1);
}

/** Throws TraceError for anything else. @param {string} file @returns {Result} */
export function readResult(file) {
    if (file.length > LARGEST) throw damaged("size");
    const { meta, version } = readFileHeader(RESULT, new Map([[RESULT.name, file]]));
    const wrong = misfitIn(meta, rulesOf(RESULT, version), "header");
    if (wrong !== null) throw damaged(wrong);
    return plainJson(meta);
}
