/**
 * One step of a training, beside it: what moves, and what that does to a text; what `manako training-step` tells, in its
 * names. tests/views/web/test_training.py compares the two.
 *
 * Special here: the training has the bits afterwards that it had before. The step itself is computed as every other one;
 * what the text costs, and its gradient, in float64 over the weights of both sides: at a small rate the change lies below
 * the digits of float32.
 */

/** @import {Training} from "./training.js" */
import { START } from "./corpus.js";
import { UNSCORED } from "./held-out.js";
import { ROUND } from "./kernel.js";
import { Trainer } from "./trainer.js";

/** @typedef {"embedding" | "position" | "attn" | "mlp" | "final_norm"} PartKind */
/**
 * A part of the model, attention and MLP each with its norm.
 * @typedef {object} PartMoved
 * @property {PartKind} kind
 * @property {number | null} layer
 * @property {number} norm of all its weights before, as one vector
 * @property {number} distance that they went
 * @property {number} predicted what that changes by the gradient, in bits of the text
 */
/** @typedef {{id: number, before: number, after: number}} TokenChange bits */
/**
 * @typedef {object} OneStep
 * @property {number} step of the training before it
 * @property {number} readTokens
 * @property {number} loss of what was read, in nats a token
 * @property {number} gradientNorm before clipping
 * @property {number} rate of AdamW
 * @property {number} muonRate 0 where AdamW moves everything
 * @property {TokenChange[]} tokens
 * @property {PartMoved[]} parts
 */

const OUTSIDE = /** @type {Record<string, PartKind>} */ ({ wte: "embedding", wpe: "position", ln_f: "final_norm" });

/** The peak of a training that is over, whose schedule has come to 0. @param {Training} training */
export function ownRate(training) {
    return training.rate || training.settings.learning_rate;
}

/**
 * Throws RangeError "loss_not_finite".
 * @param {Training} training
 * @param {readonly number[] | null} read ids of a sentence with START before; null for the next windows
 * @param {readonly number[]} ids of the text with START before; neither is longer than the model reads, and one token
 * @param {number} rate
 * @returns {OneStep}
 */
export function oneStep(training, read, ids, rate) {
    const { trainer, settings, step } = training;
    const state = trainer.state();
    const before = weightsOf(trainer);
    const text = new Text(trainer, ids);
    const [costs, slopes] = [text.bits(before), text.slopes(before)];
    try {
        const { loss, norm } = read ? training.readSentence(read, rate) : training.readWindows(rate);
        const after = weightsOf(trainer);
        const costsAfter = text.bits(after);
        const readTokens = read ? read.length - 1 : settings.batch_size * settings.block_size;
        const tokens = ids.slice(1).map((id, i) => ({ id, before: costs[i], after: costsAfter[i] }));
        return { step, readTokens, loss, gradientNorm: norm, rate, muonRate: training.muonRate(rate), tokens, parts: partsMoved(before, after, slopes) };
    } finally {
        trainer.restore(state);
    }
}

/** @typedef {Map<string, Float32Array | Float64Array>} Weights */

/** A copy. @param {Trainer} trainer @returns {Weights} */
function weightsOf(trainer) {
    return new Map([...trainer.tensors("weight")].map(([name, { data }]) => [name, data.slice()]));
}

/** A text under any weights, in float64. */
class Text {
    /** @param {Trainer} trainer @param {readonly number[]} ids */
    constructor({ shape }, ids) {
        const length = Math.ceil((ids.length - 1) / ROUND) * ROUND;
        this.#count = ids.length - 1;
        this.#model = new Trainer({ ...shape, n_positions: length }, 1, 0, "wide");
        this.#ids = new Int32Array(length).fill(START);
        this.#targets = new Int32Array(length).fill(UNSCORED);
        this.#ids.set(ids.slice(0, -1));
        this.#targets.set(ids.slice(1));
    }

    #count;
    #model;
    #ids;
    #targets;

    /** Of each token. @param {Weights} weights */
    bits(weights) {
        this.#put(weights);
        return this.#model.losses(this.#ids, this.#targets).map((nats) => nats / Math.LN2);
    }

    /** The gradient of the bits of all of it. @param {Weights} weights */
    slopes(weights) {
        this.#put(weights);
        this.#model.gradients(this.#ids, this.#targets);
        const by = this.#count / Math.LN2; // of the mean, in nats
        return new Map([...this.#model.tensors("gradient")].map(([name, { data }]) => [name, data.map((slope) => slope * by)]));
    }

    /** @param {Weights} weights */
    #put(weights) {
        for (const [name, { data }] of this.#model.tensors("weight")) {
            data.set(/** @type {Float32Array} */ (weights.get(name)).subarray(0, data.length)); // of the positions those that it has
        }
    }
}

/** @param {Weights} before @param {Weights} after @param {Weights} slopes @returns {PartMoved[]} from the embedding up */
function partsMoved(before, after, slopes) {
    /** @type {Map<string, PartMoved>} */
    const parts = new Map();
    for (const [name, old] of before) {
        const part = partOf(name);
        const key = `${part.kind} ${part.layer}`;
        const sums = parts.get(key) ?? { ...part, norm: 0, distance: 0, predicted: 0 };
        const now = /** @type {Float32Array} */ (after.get(name));
        const slope = /** @type {Float64Array} */ (slopes.get(name));
        for (let i = 0; i < old.length; i++) {
            const way = now[i] - old[i];
            sums.norm += old[i] ** 2;
            sums.distance += way ** 2;
            if (i < slope.length) sums.predicted += slope[i] * way;
        }
        parts.set(key, sums);
    }
    return [...parts.values()].map((part) => ({ ...part, norm: Math.sqrt(part.norm), distance: Math.sqrt(part.distance) }));
}

/** What a weight belongs to. @param {string} name GPT-2's @returns {{kind: PartKind, layer: number | null}} */
function partOf(name) {
    const [outside, layer, inside] = name.split(".");
    if (outside in OUTSIDE) return { kind: OUTSIDE[outside], layer: null };
    return { kind: inside === "ln_1" || inside === "attn" ? "attn" : "mlp", layer: Number(layer) };
}
