/**
 * A training as one file, to go on with here or in Python: the text, the weights, what the optimizer keeps of them, and how it
 * came to them; `manako import` makes a run folder of it. And its model alone, as the file that a page carries.
 */

/** @import {TrainingSettings} from "./training.js" */
/** @import {Format} from "../trace/schema.js" */
/** @import {ColumnData} from "../trace/safetensors.js" */
import { Training } from "./training.js";
import { LAYER_NORM_EPSILON } from "./trainer.js";
import { START, corpusOf, tokenizerJson } from "./corpus.js";
import { writeContainer } from "../trace/container.js";
import { columnDigest, pythonJson, sha256, sha256Text, verifyDigests } from "../trace/digests.js";
import { readFileHeader } from "../trace/file-header.js";
import { misfitIn } from "../trace/rules.js";
import { damaged, readSafetensors } from "../trace/safetensors.js";
import { MODEL, rulesOf } from "../trace/schema.js";
import { plainJson } from "../trace/strict-json.js";
import table from "../../../trace/schema.json" with { type: "json" };

const RUN = /** @type {Format} */ (/** @type {unknown} */ (table.run));
const KEPT = /** @type {const} */ (["weight", "exp_avg", "exp_avg_sq", "momentum"]);
const PREFIX = "transformer.";
const NUMBERS = new Set(["seconds", "bits", "learning_rate", "muon_rate", "weight_decay", "grad_clip", "layer_norm_epsilon"]); // never whole ones

/**
 * @param {Training} training
 * @param {number} seconds that it trained
 * @param {Record<string, string>} versions
 * @returns {Promise<ArrayBuffer>}
 */
export async function runFile(training, seconds, versions) {
    const { trainer, corpus } = training;
    /** @type {Map<string, {dtype: string, shape: number[], data: ColumnData}>} */
    const columns = new Map();
    for (const kind of KEPT) {
        for (const [name, { shape, data }] of trainer.tensors(kind)) columns.set(`${kind}/${name}`, { dtype: "float32", shape, data });
    }
    columns.set("loss", { dtype: "float32", shape: [training.step], data: Float32Array.from(training.losses) });
    const text = new TextEncoder().encode(corpus.text);
    columns.set("text", { dtype: "uint8", shape: [text.length], data: text });
    const digests = await Promise.all([...columns].map(async ([name, column]) => /** @type {const} */ ([name, await columnDigest(name, column)])));
    const { muon_rate, ...settings } = training.settings;
    const meta = {
        schema: `${RUN.name}/${RUN.version}`,
        kernel: trainer.kernel.name,
        settings,
        muon_rate,
        step: training.step,
        seconds,
        evaluations: training.evaluations,
        sentences: training.sentences,
        tokenizer_sha256: await sha256Text(tokenizerJson(corpus.vocabulary)),
        versions,
        columns_sha256: Object.fromEntries(digests),
    };
    return writeContainer(RUN, pythonJson(exact(meta)), columns);
}

/**
 * The training in such a file, which goes on as it would have where it was saved. Throws TraceError for what is damaged
 * or does not fit together.
 * @param {ArrayBuffer} bytes
 * @returns {Promise<{training: Training, seconds: number}>}
 */
export async function readRun(bytes) {
    const { columns, metadata } = readSafetensors(bytes);
    const proof = readFileHeader(RUN, metadata);
    const wrong = misfitIn(proof.meta, rulesOf(RUN, proof.version), "header");
    if (wrong !== null) throw damaged(wrong);
    await verifyDigests({ proof, columns });
    const { settings, step, seconds, evaluations, sentences = [], muon_rate = null, tokenizer_sha256 } = plainJson(proof.meta);
    const taken = (/** @type {string} */ name, /** @type {string} */ dtype, /** @type {number[] | null} */ shape) => {
        const column = columns.get(name);
        if (column?.dtype !== dtype || (shape && column.shape.join() !== shape.join())) throw damaged(name);
        return /** @type {any} */ (column.data);
    };
    const training = begun(taken("text", "uint8", null), { ...settings, muon_rate });
    if ((await sha256Text(tokenizerJson(training.corpus.vocabulary))) !== tokenizer_sha256) throw damaged("tokenizer_sha256");
    if (step > settings.steps) throw damaged("step");
    for (const kind of KEPT) {
        for (const [name, { shape, data }] of training.trainer.tensors(kind)) data.set(finite(`${kind}/${name}`, taken(`${kind}/${name}`, "float32", shape)));
    }
    training.losses = [...finite("loss", taken("loss", "float32", [step]))];
    training.evaluations = evaluations;
    training.sentences = sentences;
    training.trainer.steps = step;
    return { training, seconds };
}

/**
 * A training that has taken no step yet. Throws TraceError where text or settings are such that none can begin.
 * @param {Uint8Array} text
 * @param {TrainingSettings} settings
 */
function begun(text, settings) {
    try {
        return new Training(corpusOf(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(text)), settings);
    } catch (error) {
        if (!(error instanceof RangeError || error instanceof TypeError)) throw error;
        throw damaged(error instanceof TypeError ? "text" : "settings");
    }
}

/** @param {string} name @param {Float32Array} numbers */
function finite(name, numbers) {
    if (!numbers.every(Number.isFinite)) throw damaged(name);
    return numbers;
}

/**
 * The model of a training, as `manako.formats.page_model` writes one.
 * @param {Training} training
 * @param {string} ref its name
 * @param {Record<string, string>} versions
 * @returns {Promise<ArrayBuffer>}
 */
export async function modelFile({ trainer, corpus }, ref, versions) {
    const { n_layer, n_head, n_embd, n_positions, vocab_size } = trainer.shape;
    /** @type {Map<string, {dtype: string, shape: number[], data: ColumnData}>} */
    const weights = new Map();
    /** @type {string[]} */
    const listed = [];
    for (const [name, { shape, data }] of trainer.tensors("weight")) {
        weights.set(PREFIX + name, { dtype: "float32", shape, data });
        const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength).slice();
        listed.push(`${name} ${await sha256(bytes)}\n`);
    }
    const source = tokenizerJson(corpus.vocabulary);
    const config = {
        ...{ n_layer, n_head, n_embd, n_positions, vocab_size, activation_function: "gelu_new", layer_norm_epsilon: LAYER_NORM_EPSILON },
        ...{ tie_word_embeddings: true, n_inner: null, residual: true, norm: "pre", attention: true },
        ...{ start_id: START, end_ids: [START], trained_on: null },
    };
    const model = {
        ...{ ref, model_type: "gpt2", config, switches: [], weights_sha256: await sha256Text(listed.sort().join("")) },
        ...{ tokenizer_sha256: await sha256Text(source), stored_dtype: "float32", versions },
    };
    const inside = await writeContainer({ ...MODEL, name: "format" }, "pt", weights);
    const parts = { "model.safetensors": new Uint8Array(inside), "tokenizer.json": new TextEncoder().encode(source) };
    const columns = new Map(Object.entries(parts).map(([name, data]) => [name, { dtype: "uint8", shape: [data.length], data }]));
    const meta = { schema: `${MODEL.name}/${MODEL.version}`, model, end_ids: [START], start_id: START };
    return writeContainer(MODEL, pythonJson(exact(meta)), columns);
}

/**
 * Plain values as `pythonJson` takes them: objects as Maps, whole numbers as BigInts where Python has them so.
 * @param {any} value
 * @param {string} [name]
 * @returns {any}
 */
function exact(value, name = "") {
    if (typeof value === "number") return Number.isInteger(value) && !NUMBERS.has(name) ? BigInt(value) : value;
    if (Array.isArray(value)) return value.map((each) => exact(each));
    if (value === null || typeof value !== "object") return value;
    return new Map(Object.entries(value).map(([key, each]) => [key, exact(each, key)]));
}
