/**
 * What a model in training is like: how far from the unigrams, bigrams and trigrams of its text, and what its heads look
 * at; by the methods of `manako.analysis.ngrams` and `manako.analysis.heads`. tests/views/web/test_training.py compares them.
 *
 * Special here: the text is counted once; a look is a few forward passes, and changes nothing.
 */

/** @import {Corpus} from "./corpus.js" */
/** @import {Trainer} from "./trainer.js" */
import { START } from "./corpus.js";
import { Philox } from "./random.js";

const ORDERS = 3;
const TOKENS = 1024; // of held-out text that distances are means over
const REPEATED = 48; // random tokens that come twice, where there is room
const LEAST = 1e-38; // a probability of float32 that is still exact

/** @typedef {{ids: number[], shares: number[]}} Followers what comes after a context, and how often */
/** @typedef {{step: number, ngrams: number[] | null, heads: number[]}} Likeness bits from each order; a score of each kind for each head, layer by layer */

export class Likenesses {
    /** @param {Corpus} corpus @param {number} blockSize */
    constructor({ train, heldOut, size }, blockSize) {
        const length = Math.min(blockSize, heldOut.length - 1);
        const last = heldOut.length - 1 - length;
        const count = Math.max(1, Math.min(Math.floor(TOKENS / length), Math.floor((heldOut.length - 1) / length)));
        const start = (/** @type {number} */ n) => (n > 0 && n === count - 1 ? last : Math.trunc(n * (last / Math.max(1, count - 1))));
        this.#windows = length < 2 ? [] : Array.from({ length: count }, (_, n) => heldOut.subarray(start(n), start(n) + length + 1));
        this.#followers = Array.from({ length: ORDERS }, (_, n) => followersOf(train, this.#windows, n, size));
        const n = Math.min(REPEATED, Math.floor((blockSize - 1) / 2));
        const drawn = new Philox(0n, 0n).permutation(size - 1).map((id) => id + 1); // all but START
        const some = Array.from({ length: n }, (_, i) => drawn[i % drawn.length]);
        this.#repeated = n;
        /** The random tokens that come twice. */
        this.random = [START, ...some, ...some];
        const even = Array.from({ length: 2 * n + 1 }, (_, i) => 1 / (i + 1));
        const second = mean(even.slice(-n));
        /** What a head that looks at everything alike would have. */
        this.chance = [mean(even.slice(1)), second, second];
    }

    #windows;
    #followers;
    #repeated;

    /** @param {Trainer} trainer @returns {Likeness} */
    of(trainer) {
        return { step: trainer.steps, ngrams: this.#windows.length ? this.#distances(trainer) : null, heads: this.#heads(trainer) };
    }

    /** KL(shares || model) in bits, the mean over the places whose context the text has. @param {Trainer} trainer */
    #distances(trainer) {
        const { batch, shape } = trainer;
        const T = shape.n_positions;
        const [sums, seen] = [new Array(ORDERS).fill(0), new Array(ORDERS).fill(0)];
        for (let first = 0; first < this.#windows.length; first += batch) {
            const some = this.#windows.slice(first, first + batch);
            const ids = new Int32Array(batch * T).fill(START);
            some.forEach((window, row) => ids.set(window.subarray(0, -1), row * T));
            const { expected } = trainer.look(ids);
            some.forEach((window, row) => {
                for (let i = 0; i < window.length - 1; i++) {
                    const p = expected(row * T + i);
                    this.#followers.forEach((found, n) => {
                        const after = found.get(contextAt(window, i, n, shape.vocab_size));
                        if (!after) return;
                        seen[n]++;
                        after.ids.forEach((id, k) => (sums[n] += after.shares[k] * Math.log(after.shares[k] / Math.max(LEAST, p[id]))));
                    });
                }
            });
        }
        return sums.map((nats, n) => nats / Math.LN2 / Math.max(1, seen[n]));
    }

    /** @param {Trainer} trainer */
    #heads(trainer) {
        const { n_layer, n_head, n_positions: T } = trainer.shape;
        const ids = new Int32Array(trainer.batch * T).fill(START);
        ids.set(this.random);
        const { pattern } = trainer.look(ids);
        const [size, n] = [this.random.length, this.#repeated];
        const scores = [];
        for (let layer = 0; layer < n_layer; layer++) {
            for (let head = 0; head < n_head; head++) {
                const p = pattern(layer, head);
                const looked = (/** @type {number} */ from, /** @type {number} */ back) => mean(Array.from({ length: size - from }, (_, i) => p[(from + i) * T + from + i - back]));
                scores.push(looked(1, 1), looked(size - n, n), looked(size - n, n - 1));
            }
        }
        return scores;
    }
}

/** One number for the n tokens up to a place; -1 where they begin before the window or the document. @param {Uint32Array} ids @param {number} at @param {number} n @param {number} size */
function contextAt(ids, at, n, size) {
    if (n === 0) return 0;
    if (n === 1) return ids[at];
    return at < 1 || ids[at] === START ? -1 : ids[at - 1] * size + ids[at];
}

/**
 * What follows each context of the windows in the text.
 * @param {Uint32Array} train
 * @param {Uint32Array[]} windows
 * @param {number} n tokens of a context
 * @param {number} size of the vocabulary
 * @returns {Map<number, Followers>}
 */
function followersOf(train, windows, n, size) {
    /** @type {Map<number, Map<number, number>>} */
    const counts = new Map();
    for (const window of windows) for (let i = 0; i < window.length - 1; i++) counts.set(contextAt(window, i, n, size), new Map());
    counts.delete(-1);
    for (let i = Math.max(0, n - 1) - (n === 0 ? 1 : 0); i < train.length - 1; i++) {
        const after = counts.get(contextAt(train, i, n, size));
        after?.set(train[i + 1], (after.get(train[i + 1]) ?? 0) + 1);
    }
    /** @type {Map<number, Followers>} */
    const found = new Map();
    for (const [context, after] of counts) {
        const total = [...after.values()].reduce((a, b) => a + b, 0);
        if (total) found.set(context, { ids: [...after.keys()], shares: [...after.values()].map((times) => times / total) });
    }
    return found;
}

/** @param {readonly number[]} values */
function mean(values) {
    return values.reduce((a, b) => a + b, 0) / values.length;
}
