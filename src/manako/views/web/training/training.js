/**
 * One training: a text, a model, and the steps that `manako train` takes with the same settings in the same order.
 *
 * Special here: nothing depends on the clock. A training of so many steps is a function of its text, its settings and
 * its seed; how long it pauses between two steps, and how often the held-out text is looked at, changes no bit of it.
 */

/** @import {Corpus} from "./corpus.js" */
/** @import {KernelName} from "./kernel.js" */
import { Batches } from "./batches.js";
import { START } from "./corpus.js";
import { HeldOut, UNSCORED } from "./held-out.js";
import { INTERVAL, WINDOWS, clipScores } from "./qk-clip.js";
import { Trainer } from "./trainer.js";

/**
 * In the names of config.toml.
 * @typedef {object} TrainingSettings
 * @property {number} n_layer
 * @property {number} n_head
 * @property {number} n_embd
 * @property {number} block_size
 * @property {number} batch_size
 * @property {number} steps
 * @property {number} learning_rate
 * @property {number | null} muon_rate of the matrices inside the blocks; null: AdamW moves them too
 * @property {number} warmup_steps
 * @property {number} weight_decay
 * @property {number} grad_clip
 * @property {number} seed
 */

/** @typedef {{step: number, text: string, learning_rate: number}} Sentence read once after so many steps */

export class Training {
    /** @param {Corpus} corpus @param {TrainingSettings} settings @param {KernelName} [kernel] */
    constructor(corpus, settings, kernel = "wasm") {
        const { n_layer, n_head, n_embd, block_size, batch_size, seed, muon_rate } = settings;
        this.corpus = corpus;
        this.settings = settings;
        this.trainer = new Trainer({ n_layer, n_head, n_embd, n_positions: block_size, vocab_size: corpus.size }, batch_size, seed, kernel, muon_rate !== null);
        this.#batches = new Batches(corpus.train, block_size, seed);
        this.#heldOut = new HeldOut(corpus.heldOut, block_size);
        this.#ids = new Int32Array(batch_size * block_size);
        this.#targets = new Int32Array(batch_size * block_size);
    }

    #batches;
    #heldOut;
    #ids;
    #targets;
    /** @type {number[]} of each step so far, in nats a token */
    losses = [];
    /** @type {{step: number, bits: number}[]} of the held-out text, bits a character */
    evaluations = [];
    /** @type {Sentence[]} that it read besides, in their order */
    sentences = [];

    /** Steps that were taken. */
    get step() {
        return this.trainer.steps;
    }

    get isDone() {
        return this.step >= this.settings.steps;
    }

    /** How many times the training side has been read. */
    get epochs() {
        return (this.step * this.settings.batch_size) / this.#batches.blocks;
    }

    /** How many forward passes an evaluation is. */
    get evaluationPasses() {
        return Math.ceil(this.#heldOut.rows / this.settings.batch_size);
    }

    /** Take one step. Throws RangeError "loss_not_finite". */
    advance() {
        const told = this.readWindows(this.rate);
        this.losses.push(told.loss);
    }

    /** Of the next step, by the schedule. */
    get rate() {
        const { steps, learning_rate, warmup_steps } = this.settings;
        return learning_rate * schedule(this.step + 1, this.step / steps, warmup_steps);
    }

    /** Of Muon, in proportion to that of AdamW; 0 where AdamW moves everything. @param {number} rate */
    muonRate(rate) {
        const { learning_rate, muon_rate } = this.settings;
        return ((muon_rate ?? 0) * rate) / learning_rate;
    }

    /** The step of the next windows, at any rate. @param {number} rate */
    readWindows(rate) {
        const { batch_size } = this.settings;
        this.#batches.fill(this.step * batch_size, batch_size, this.#ids, this.#targets);
        return this.#move(rate, Math.min(WINDOWS, batch_size), this.settings.block_size);
    }

    /** A step of one sentence, the same for the optimizer but none of the training's own. @param {readonly number[]} ids with START before @param {number} rate */
    readSentence(ids, rate) {
        this.#ids.fill(START);
        this.#targets.fill(UNSCORED);
        this.#ids.set(ids.slice(0, -1));
        this.#targets.set(ids.slice(1));
        const told = this.#move(rate, 1, ids.length - 1);
        this.trainer.steps--;
        return told;
    }

    /** @param {number} rate of AdamW @param {number} windows that were read @param {number} length of one */
    #move(rate, windows, length) {
        const { muon_rate, weight_decay, grad_clip } = this.settings;
        const told = this.trainer.step(this.#ids, this.#targets, { rate, muonRate: this.muonRate(rate), decay: weight_decay, clip: grad_clip });
        if (!Number.isFinite(told.loss) || !Number.isFinite(told.norm)) throw new RangeError("loss_not_finite");
        if (muon_rate !== null && this.step % INTERVAL === 0) clipScores(this.trainer, this.#ids, windows, length);
        return told;
    }

    /** Bits a character of the held-out text, and noted; null where there is none. */
    evaluate() {
        const evaluation = this.evaluating();
        for (;;) {
            const { done, value } = evaluation.next();
            if (done) return value;
        }
    }

    /**
     * The same in parts, for who has to do something else between them; no step may be taken until it is over.
     * @returns {Generator<undefined, number | null, undefined>}
     */
    *evaluating() {
        const { rows, ids, targets, characters } = this.#heldOut;
        const { batch_size, block_size } = this.settings;
        if (characters === 0) return null;
        let total = 0;
        for (let row = 0; row < rows; row += batch_size) {
            const size = batch_size * block_size;
            this.#ids.fill(0);
            this.#targets.fill(-1);
            this.#ids.set(ids.subarray(row * block_size, row * block_size + size));
            this.#targets.set(targets.subarray(row * block_size, row * block_size + size));
            total += this.trainer.loss(this.#ids, this.#targets);
            yield;
        }
        const bits = total / Math.LN2 / characters;
        this.evaluations.push({ step: this.step, bits });
        return bits;
    }

    /**
     * The probability of each token after some others, the last of them as many as the model reads.
     * @param {readonly number[]} before at least one id
     */
    expect(before) {
        const { block_size } = this.settings;
        const seen = before.slice(-block_size);
        this.#ids.fill(0);
        this.#ids.set(seen);
        return this.trainer.expect(this.#ids, seen.length - 1);
    }
}

/**
 * The share of the peak rate at a step counted from 1: a linear warm-up, then linearly to zero.
 * @param {number} step
 * @param {number} done the share of the training that was over as it began
 * @param {number} warmup steps, at most a fifth of the training
 */
function schedule(step, done, warmup) {
    return Math.min(1, Math.max(step / Math.max(1, warmup), 5 * done)) * (1 - done);
}
