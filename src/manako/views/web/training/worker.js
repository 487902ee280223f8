/**
 * The thread that trains: a text goes in, a training runs, is held, goes on step by step, and tells how it stands.
 *
 * Special here: what comes in is done in order, between two slices of work and never during one, so that what is saved is
 * one moment of the training. Nothing that is looked at changes a bit of it. While the page is hidden the training goes on
 * and what only eyes need is left out. An error is told by the key of its sentence and never ends the thread.
 */

/** @import {Fault} from "../engine/worker.js" */
/** @import {Sampling} from "../trace/sampling.js" */
/** @import {Guesses} from "./guesses.js" */
/** @import {Corpus} from "./corpus.js" */
/** @import {Likeness} from "./likeness.js" */
/** @import {OneStep, TokenChange} from "./one-step.js" */
/** @import {Sentence, TrainingSettings} from "./training.js" */
import { breath } from "../engine/breath.js";
import { capturesOf } from "../engine/captures.js";
import { Generation } from "../engine/generation.js";
import { GPT2 } from "../engine/gpt2.js";
import { readModel } from "../engine/model-file.js";
import { PromptError, Tokenizer } from "../engine/tokenizer.js";
import { recordText } from "../text/tokens.js";
import { sha256Text } from "../trace/digests.js";
import { STAGES } from "../trace/sampling.js";
import { TraceError } from "../trace/safetensors.js";
import { START, charactersOf, corpusOf, tokenizerJson } from "./corpus.js";
import { guessesOf } from "./guesses.js";
import { Likenesses } from "./likeness.js";
import { oneStep, ownRate } from "./one-step.js";
import { resultFile } from "./result.js";
import { modelFile, readRun, runFile } from "./run-file.js";
import { Snapshots } from "./snapshots.js";
import { Training } from "./training.js";

/**
 * What a text holds.
 * @typedef {object} TextFacts
 * @property {string} start of it
 * @property {number} characters
 * @property {number} vocabulary characters with a token of their own
 * @property {number} size of the vocabulary, document start and bytes included
 * @property {number} train characters
 * @property {number} heldOut characters
 * @property {number} trainTokens
 * @property {Guesses} guesses
 */
/** @typedef {{listed: {id: number, bytes: Uint8Array, p: number}[], other: {count: number, p: number}}} Expected the likeliest tokens, all others together */
/**
 * How a training stands.
 * @typedef {object} Progress
 * @property {number} step
 * @property {number} seconds that it trained
 * @property {number} epochs how many times the text was read
 * @property {number[]} losses of the steps since the last time, in bits a character of the training text
 * @property {{step: number, bits: number}[]} evaluations since the last time
 * @property {Likeness[]} likenesses since the last time
 * @property {Expected | null} next what comes after the prompt
 * @property {Sentence[]} sentences that it read besides its text
 * @property {{steps: number[], bytes: number}} snapshots that can be looked back at
 * @property {boolean} isRunning
 */
/**
 * What a step would do, and of what it is: a sentence, or null for the next batch.
 * @typedef {Omit<OneStep, "tokens"> & {tokens: (TokenChange & {bytes: Uint8Array})[], read: string | null, rateFrom: "schedule" | "peak" | "given"}} Tried
 */
/**
 * @typedef {{kind: "text", text: string} | {kind: "measure", settings: TrainingSettings} | {kind: "start", settings: TrainingSettings, prompt: string}
 *     | {kind: "open", bytes: ArrayBuffer, prompt: string} | {kind: "prompt", prompt: string} | {kind: "save", ref: string, versions: Record<string, string>}
 *     | {kind: "keep"} | {kind: "pause"} | {kind: "go"} | {kind: "step"} | {kind: "try", read: string | null, text: string, share: number} | {kind: "take"} | {kind: "look", step: number} | {kind: "result", name: string} | {kind: "end"} | {kind: "hidden", isHidden: boolean}} Asked
 */
/**
 * @typedef {{kind: "text", facts: TextFacts} | {kind: "measured", speed: number}
 *     | {kind: "begun", chance: number[], facts: TextFacts, settings: TrainingSettings, parameters: number, kernel: string}
 *     | {kind: "sample", prompt: string, step: number, text: Uint8Array, next: Expected} | {kind: "progress", progress: Progress}
 *     | {kind: "tried", tried: Tried} | {kind: "taken"} | {kind: "result", result: string} | {kind: "kept", run: ArrayBuffer} | {kind: "saved", run: ArrayBuffer, model: ArrayBuffer, trace: ArrayBuffer}
 *     | {kind: "fault", fault: Fault, ended: Asked["kind"] | "work"}} Told a fault ends what was asked for
 */

const SLICE = 40; // ms of work between two looks at what has come in
const GAP = 200; // ms between two reports
const HIDDEN_GAP = 2000;
const MEASURED = 500; // ms
const EVALUATED = 6; // times as long as an evaluation takes are trained before the next
const LEAST_BETWEEN = 1500; // ms
const LIKENED = 40; // times as long as a look at likenesses takes are trained before the next
const FORWARD = 1 / 3; // of a step, the part that an evaluation makes too
const TOP = 10;
const SAMPLE = 120; // tokens
const SEED = 0n; // of every sample: what changes is the model alone
const TEMPERATURE = 0.8;
const LEAST_CHARACTERS = 1000;
const MOST_CHARACTERS = 5_000_000;

/** @type {{corpus: Corpus, facts: TextFacts} | null} */
let given = null;
/**
 * @typedef {{training: Training, snapshots: Snapshots, likenesses: Likenesses, newLikenesses: Likeness[], facts: TextFacts, tokenizer: Tokenizer, prompt: string, ids: number[], seconds: number,
 *     toldSteps: number, toldEvaluations: number, tried: {read: number[] | null, sentence: Sentence} | null}} Run
 */
/** @type {Run | null} */
let run = null;
let isRunning = false;
let isHidden = false;
let wantsSample = false;
/** @type {Generator<undefined, number | null, undefined> | null} that has begun */
let evaluation = null;
let [evaluationTook, trained] = [0, 0]; // ms: the last evaluation, and the training since
let [likenessTook, trainedUnlike] = [0, 0]; // the same of likenesses
let toldAt = -Infinity;
/** @type {Asked[]} */
const inbox = [];
let wake = () => {};

globalThis.addEventListener("message", (/** @type {MessageEvent<Asked>} */ { data }) => {
    inbox.push(data);
    wake();
});
live();

async function live() {
    for (;;) {
        const asked = inbox.shift();
        if (asked) await guarded(() => answer(asked), asked.kind);
        else if (run && (isRunning || evaluation || wantsSample)) {
            await guarded(work, "work");
            await breath();
        } else await new Promise((/** @type {(nothing: void) => void} */ resolve) => (wake = resolve));
    }
}

/** @param {Asked} asked */
async function answer(asked) {
    if (asked.kind === "text") {
        given = taken(asked.text);
        return tell({ kind: "text", facts: given.facts });
    }
    if (asked.kind === "measure" && given) return tell({ kind: "measured", speed: speedOf(asked.settings) });
    if (asked.kind === "start" && given) return begin(new Training(given.corpus, asked.settings), given.facts, 0, asked.prompt, true);
    if (asked.kind === "open") {
        const { training, seconds } = await readRun(asked.bytes);
        return begin(training, factsOf(training.corpus), seconds, asked.prompt, false);
    }
    if (asked.kind === "hidden") isHidden = asked.isHidden;
    if (!run) return;
    if (asked.kind === "end") {
        [run, isRunning, evaluation, wantsSample] = [null, false, null, false];
        return;
    }
    if (asked.kind === "hidden") wantsSample ||= !isHidden; // the newest, if it was left out
    if (asked.kind === "pause") isRunning = false;
    if (asked.kind === "go") isRunning = !run.training.isDone;
    if (asked.kind === "prompt") await usePrompt(asked.prompt);
    if (asked.kind === "step") {
        finishEvaluation();
        if (!run.training.isDone) advance();
    }
    if (asked.kind === "try") tryStep(run, asked);
    if (asked.kind === "take") take(run);
    if (asked.kind === "look") return run.snapshots.under(run.training.trainer, asked.step, sample);
    if (asked.kind === "result") return tellResult(run, asked.name);
    if (asked.kind === "keep") return keep();
    if (asked.kind === "save") return save(asked.ref, asked.versions);
    report();
}

/** Work for a while: steps, or parts of an evaluation. */
async function work() {
    if (!run) return;
    const { training } = run;
    for (const until = performance.now() + SLICE; performance.now() < until && (isRunning || evaluation) && !wantsSample; ) {
        if (evaluation) goOnEvaluating();
        else if (trained >= Math.max(LEAST_BETWEEN, EVALUATED * evaluationCost(run)) || training.isDone) [evaluation, evaluationTook] = [training.evaluating(), 0];
        else advance();
    }
    if (wantsSample && !evaluation) {
        wantsSample = false;
        if (!isHidden) await sample();
    }
    if (performance.now() - toldAt >= (isHidden ? HIDDEN_GAP : GAP) || !isRunning) report();
}

/** How long an evaluation takes, in ms: as the last one did; before it, by what the steps took. @param {Run} run */
function evaluationCost({ training, seconds }) {
    return evaluationTook || (1000 * seconds * FORWARD * training.evaluationPasses) / Math.max(1, training.step);
}

function advance() {
    if (!run) return;
    const before = performance.now();
    run.training.advance();
    const took = performance.now() - before;
    run.seconds += took / 1000;
    trained += took;
    trainedUnlike += took;
}

function goOnEvaluating() {
    const before = performance.now();
    const isDone = evaluation?.next().done;
    evaluationTook += performance.now() - before;
    if (!isDone) return;
    [evaluation, trained, wantsSample] = [null, 0, true];
    if (!run) return;
    run.snapshots.keep(run.training.trainer);
    if (!isHidden && (trainedUnlike >= LIKENED * likenessTook || run.training.isDone)) liken(run);
    if (run.training.isDone) isRunning = false;
}

/**
 * See what one step does, and leave the model as it is.
 * @param {Run} run
 * @param {{read: string | null, text: string, share: number}} asked the text that is looked at, by default what is read; of the rate
 */
function tryStep(run, { read, text, share }) {
    const { training, tokenizer } = run;
    isRunning = false;
    if (read === null && training.isDone) throw new PromptError("step_over");
    const most = training.settings.block_size;
    const spelled = (/** @type {string} */ given) => {
        const ids = [START, ...tokenizer.encode(given)];
        if (ids.length < 2) throw new PromptError("step_short");
        if (ids.length - 1 > most) throw new PromptError("step_long", { tokens: ids.length - 1, most });
        return ids;
    };
    const readIds = read === null ? null : spelled(read);
    const ids = text ? spelled(text) : (readIds ?? [START, ...training.corpus.heldOut.subarray(1, 1 + most)]);
    const rate = ownRate(training) * share;
    const found = oneStep(training, readIds, ids, rate);
    run.tried = { read: readIds, sentence: { step: training.step, text: read ?? "", learning_rate: rate } };
    const tokens = found.tokens.map((token) => ({ ...token, bytes: tokenizer.bytes[token.id] }));
    tell({ kind: "tried", tried: { ...found, tokens, read, rateFrom: share !== 1 ? "given" : training.isDone ? "peak" : "schedule" } });
}

/** Take the step that was tried, unless the training has moved on. @param {Run} run */
function take(run) {
    const { tried, training } = run;
    run.tried = null;
    if (tried?.sentence.step !== training.step || isRunning) return;
    finishEvaluation();
    if (tried.read) {
        training.readSentence(tried.read, tried.sentence.learning_rate);
        training.sentences.push(tried.sentence);
    } else advance();
    wantsSample = true;
    tell({ kind: "taken" });
}

/** Seldom enough that a training is hardly slower for it. @param {Run} run */
function liken({ likenesses, newLikenesses, training }) {
    const before = performance.now();
    newLikenesses.push(likenesses.of(training.trainer));
    [likenessTook, trainedUnlike] = [performance.now() - before, 0];
}

/** A step may change the model only once what it is compared with has been read whole. */
function finishEvaluation() {
    while (evaluation) goOnEvaluating();
}

/** @param {string} text @returns {{corpus: Corpus, facts: TextFacts}} */
function taken(text) {
    if (!text.isWellFormed()) {
        const index = /\p{Surrogate}/u.exec(text)?.index ?? 0;
        throw new PromptError("text_surrogate", { index: [...text.slice(0, index)].length + 1 });
    }
    const pairs = text.length > MOST_CHARACTERS ? (text.match(/[\ud800-\udbff]/g)?.length ?? 0) : 0;
    if (text.length - pairs > MOST_CHARACTERS) throw new PromptError("text_long", { most: MOST_CHARACTERS });
    const corpus = corpusOf(text);
    if (corpus.characters < LEAST_CHARACTERS || !text.trim()) throw new PromptError("text_short", { least: LEAST_CHARACTERS, found: corpus.characters });
    if (corpus.vocabulary.length < 2) throw new PromptError("text_monotone");
    return { corpus, facts: factsOf(corpus) };
}

/** @param {Corpus} corpus @returns {TextFacts} */
function factsOf(corpus) {
    const of = (/** @type {Uint32Array} */ ids) => ids.reduce((sum, id) => sum + charactersOf(id), 0);
    const { characters, vocabulary, size, train, heldOut } = corpus;
    const facts = { start: [...corpus.text.slice(0, 40)].slice(0, 12).join(""), characters, vocabulary: vocabulary.length, size };
    return { ...facts, train: of(train), heldOut: of(heldOut), trainTokens: train.length, guesses: guessesOf(corpus) };
}

/** Tokens a second of whole training steps. @param {TrainingSettings} settings */
function speedOf(settings) {
    const training = new Training(/** @type {{corpus: Corpus}} */ (given).corpus, settings);
    training.advance(); // the first one is slower
    const begin = performance.now();
    do training.advance();
    while (performance.now() - begin < MEASURED);
    return ((training.step - 1) * settings.batch_size * settings.block_size * 1000) / (performance.now() - begin);
}

/**
 * @param {Training} training
 * @param {TextFacts} facts
 * @param {number} seconds that it trained already
 * @param {string} prompt
 * @param {boolean} isGoing
 */
async function begin(training, facts, seconds, prompt, isGoing) {
    const tokenizer = new Tokenizer(tokenizerJson(training.corpus.vocabulary));
    const snapshots = new Snapshots();
    snapshots.keep((training.step ? new Training(training.corpus, training.settings) : training).trainer); // the first model follows from the seed
    const likenesses = new Likenesses(training.corpus, training.settings.block_size);
    run = { training, snapshots, likenesses, newLikenesses: [], facts, tokenizer, prompt: "", ids: [START], seconds, toldSteps: 0, toldEvaluations: 0, tried: null };
    [isRunning, evaluation, trained, evaluationTook, wantsSample] = [isGoing, null, 0, 0, false];
    liken(run);
    tell({ kind: "begun", chance: likenesses.chance, facts, settings: training.settings, parameters: training.trainer.parameters, kernel: training.trainer.kernel.name });
    await usePrompt(prompt);
    report();
}

/** @param {string} prompt */
async function usePrompt(prompt) {
    if (!run) return;
    const { training, tokenizer } = run;
    const ids = tokenizer.encode(prompt);
    Object.assign(run, { prompt, ids: ids.length ? ids : [START] });
    await run.snapshots.under(training.trainer, 0, sample);
    if (training.step > 0) await sample();
}

/** What the model expects after the prompt, and what it writes, with the same random numbers every time. */
async function sample() {
    const { training, prompt } = /** @type {Run} */ (run);
    const { text } = await written(training, "", {}, []);
    tell({ kind: "sample", prompt, step: training.step, text, next: expected(/** @type {Run} */ (run)) });
}

/**
 * @param {Training} training
 * @param {string} ref
 * @param {Record<string, string>} versions
 * @param {readonly string[]} wanted captures, of those that it can have
 */
async function written(training, ref, versions, wanted) {
    const { tokenizer, prompt, ids } = /** @type {Run} */ (run);
    const model = await modelFile(training, ref, versions);
    const file = readModel(model);
    const capture = capturesOf(file.info.config).filter((name) => wanted.includes(name));
    const sampling = /** @type {Sampling} */ ({ ...Object.fromEntries(STAGES.map((name) => [name, null])), temperature: TEMPERATURE, order: STAGES });
    const settings = { ids, prompt, firstStep: 0, sampling, seed: SEED, stop: [], count: SAMPLE, capture };
    const generation = new Generation(new GPT2(file.info.config, file.tensors), file, tokenizer, settings);
    const bytes = [];
    for (let made = generation.advance(); made; made = generation.advance()) if (made.tokenId !== START) bytes.push(...tokenizer.bytes[made.tokenId]);
    return { model, generation, text: Uint8Array.from(bytes) };
}

async function keep() {
    if (!run) return;
    const file = await runFile(run.training, run.seconds, {});
    tell({ kind: "kept", run: file }, [file]);
}

/** @param {string} ref @param {Record<string, string>} versions */
async function save(ref, versions) {
    if (!run) return;
    const file = await runFile(run.training, run.seconds, versions);
    const { model, generation } = await written(run.training, ref, versions, ["attention", "lens", "contributions"]);
    const trace = await generation.trace();
    tell({ kind: "saved", run: file, model, trace }, [file, model, trace]);
}

/** @param {Run} run @param {string} name */
async function tellResult({ training, facts, prompt, seconds }, name) {
    const { step, corpus, evaluations, trainer } = training;
    const { muon_rate, ...settings } = training.settings;
    const { text: sample } = await written(training, "", {}, []);
    const text = { start: facts.start, characters: facts.characters, sha256: await sha256Text(corpus.text) };
    const told = { name, text, settings, muon_rate, parameters: trainer.parameters, step, seconds, evaluation: evaluations.at(-1) ?? null };
    tell({ kind: "result", result: resultFile({ ...told, guesses: facts.guesses, prompt, sample: recordText(sample) }) });
}

/** Say how it stands. */
function report() {
    if (!run) return;
    const { training, snapshots, facts, toldSteps, toldEvaluations } = run;
    const by = (facts.trainTokens - 1) / facts.train / Math.LN2; // of nats a token
    const losses = training.losses.slice(toldSteps).map((loss) => loss * by);
    const evaluations = training.evaluations.slice(toldEvaluations);
    [run.toldSteps, run.toldEvaluations, toldAt] = [training.losses.length, training.evaluations.length, performance.now()];
    const likenesses = run.newLikenesses.splice(0);
    const next = isHidden || evaluation ? null : expected(run);
    tell({ kind: "progress", progress: { step: training.step, seconds: run.seconds, epochs: training.epochs, losses, evaluations, likenesses, next, sentences: training.sentences, snapshots: { steps: snapshots.steps, bytes: snapshots.bytes }, isRunning } });
}

/** What comes after the prompt. @param {Run} run @returns {Expected} */
function expected({ training, tokenizer, ids }) {
    const p = training.expect(ids);
    const order = Array.from(p, (_, id) => id).sort((a, b) => p[b] - p[a] || a - b);
    const listed = order.slice(0, TOP).map((id) => ({ id, bytes: tokenizer.bytes[id], p: p[id] }));
    return { listed, other: { count: p.length - listed.length, p: order.slice(TOP).reduce((sum, id) => sum + p[id], 0) } };
}

/** @param {() => Promise<void> | void} act @param {Asked["kind"] | "work"} kind */
async function guarded(act, kind) {
    try {
        await act();
    } catch (error) {
        isRunning = false;
        const isKnown = error instanceof PromptError || error instanceof TraceError;
        const isUnstable = error instanceof RangeError && error.message === "loss_not_finite";
        const unexpected = { key: isUnstable ? "loss_not_finite" : "unexpected", values: { error: String(error) } };
        tell({ kind: "fault", fault: isKnown ? { key: error.key, values: error.values } : unexpected, ended: kind });
    }
}

/** @param {Told} told @param {Transferable[]} [handed] */
function tell(told, handed = []) {
    /** @type {any} */ (globalThis).postMessage(told, handed);
}
