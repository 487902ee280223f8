/**
 * The engine in a thread of its own: a model comes in once, then requests one at a time; steps go out while they are
 * made, several at a time, and the file of the trace at the end.
 *
 * Special here: between two batches of steps it looks for what has come in, so a run ends soon after it is told to. An
 * error is told by the key of its sentence and never ends the thread.
 */

/** @import {ModelFile} from "./model-file.js" */
/** @import {Distribution, Sampling} from "../trace/sampling.js" */
import { breath } from "./breath.js";
import { Generation } from "./generation.js";
import { capturesOf } from "./captures.js";
import { GPT2 } from "./gpt2.js";
import { readModel } from "./model-file.js";
import { PromptError, Tokenizer } from "./tokenizer.js";
import { recordText } from "../text/tokens.js";
import { activeStages } from "../trace/sampling.js";
import { TraceError } from "../trace/safetensors.js";

/**
 * What is to be written.
 * @typedef {object} Job
 * @property {string} text a new prompt, or what is put in behind `before`
 * @property {number[] | null} before ids that it goes on from; null for a new text
 * @property {number | undefined} token that is put in instead of a text
 * @property {number} firstStep how many of the last of `before` count as steps already taken
 * @property {Sampling} sampling
 * @property {bigint} seed
 * @property {string[]} stop
 * @property {number} count
 * @property {string[]} capture
 */
/** @typedef {{key: string, values: Record<string, any>}} Fault `error.<key>` of the catalog */
/**
 * @typedef {{kind: "ready", info: ModelFile["info"], captures: string[], kernel: string}
 *     | {kind: "start", firstStep: number} | {kind: "steps", steps: any[]} | {kind: "end", bytes: ArrayBuffer, fault?: Fault}
 *     | {kind: "fault", fault: Fault}} Answer a fault ends what was asked for; one that comes with the end leaves a text
 */

const BATCH = 16; // ms of work between two looks at what has come in; the page draws no more often
const TOP = 10; // candidates that are told of a step; the trace has all

/** @type {{file: ModelFile, model: GPT2, tokenizer: Tokenizer} | null} */
let engine = null;
let isStopped = false;

globalThis.addEventListener("message", (/** @type {MessageEvent<ArrayBuffer | Job | "stop">} */ { data }) => {
    if (data === "stop") isStopped = true;
    else if (data instanceof ArrayBuffer) guarded(() => open(data));
    else guarded(() => write(data));
});

/** @param {ArrayBuffer} bytes */
async function open(bytes) {
    const file = readModel(bytes);
    engine = { file, tokenizer: new Tokenizer(file.tokenizer), model: new GPT2(file.info.config, file.tensors) };
    answer({ kind: "ready", info: file.info, captures: capturesOf(file.info.config), kernel: engine.model.kernel.name });
}

/** @param {Job} job */
async function write({ text, before, token, firstStep, ...settings }) {
    if (engine === null) return;
    const { file, model, tokenizer } = engine;
    isStopped = false;
    const forced = token === undefined ? tokenizer.encode(text) : [token];
    const ids = [...(before ?? []), ...forced];
    if (ids.length === 0) {
        if (file.startId === null) throw new PromptError("prompt_empty");
        ids.push(file.startId);
    }
    const first = before === null ? 0 : firstStep + forced.length;
    const prompt = before === null ? text : recordText(Uint8Array.from(ids.filter((id) => !tokenizer.specialIds.includes(id)).flatMap((id) => [...(tokenizer.bytes[id] ?? [])])));
    const generation = new Generation(model, file, tokenizer, { ...settings, ids, prompt, firstStep: first });
    answer({ kind: "start", firstStep: first });
    /** @type {any[]} */
    let steps = [];
    const tell = () => {
        if (steps.length) answer({ kind: "steps", steps });
        steps = [];
    };
    let looked = performance.now();
    let fault;
    try {
        for (let made = generation.advance(); made && !isStopped; made = generation.advance()) {
            steps.push(told(generation.steps - 1, made.found, made.tokenId, settings.sampling, tokenizer));
            if (performance.now() - looked < BATCH) continue;
            tell();
            await breath();
            looked = performance.now();
        }
    } catch (error) {
        if (!(error instanceof RangeError && error.message === "logits_not_finite")) throw error;
        fault = { key: error.message, values: {} };
    }
    tell();
    const bytes = await generation.trace();
    answer({ kind: "end", bytes, fault }, [bytes]);
}

/**
 * A step as the page shows it while the text is being written.
 * @param {number} index
 * @param {Distribution} found
 * @param {number} tokenId
 * @param {Sampling} sampling
 * @param {Tokenizer} tokenizer
 */
function told(index, found, tokenId, sampling, tokenizer) {
    const stages = activeStages(sampling);
    const token = (/** @type {number} */ id, /** @type {number} */ rank) => {
        const bytes = tokenizer.bytes[id] ?? new Uint8Array();
        return { id, bytes, p: found.p[id], pModel: found.pModel[id], rank, cutBy: stages[found.cutBy[id]] ?? null };
    };
    const listed = Array.from(found.order(TOP), (id, place) => token(id, place + 1));
    const taken = token(tokenId, found.rank(tokenId));
    return { index, taken, text: recordText(taken.bytes), listed, other: found.other(listed.map(({ id }) => id)) };
}

/** @param {() => Promise<void>} work */
async function guarded(work) {
    try {
        await work();
    } catch (error) {
        const isKnown = error instanceof PromptError || error instanceof TraceError;
        const fault = isKnown ? { key: error.key, values: error.values } : { key: "unexpected", values: { error: String(error) } };
        answer({ kind: "fault", fault });
    }
}

/** @param {Answer} said @param {Transferable[]} [handed] */
function answer(said, handed = []) {
    /** @type {any} */ (globalThis).postMessage(said, handed);
}
