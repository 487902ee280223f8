/**
 * Which windows of a text each step sees, as a function of (seed, position) alone: those that `manako.training.batches`
 * takes. tests/views/web/test_training.py compares the two.
 */

import { START } from "./corpus.js";
import { Philox } from "./random.js";

export class Batches {
    /** @param {Uint32Array} tokens @param {number} blockSize @param {number} seed */
    constructor(tokens, blockSize, seed) {
        this.#tokens = tokens;
        this.#blockSize = blockSize;
        this.#seed = BigInt(seed);
        /** Windows an epoch: one less than fit, so that the phase can vary. */
        this.blocks = Math.max(1, Math.floor((tokens.length - 1) / blockSize) - 1);
    }

    #tokens;
    #blockSize;
    #seed;
    #epoch = -1;
    #phase = 0;
    #order = new Uint32Array();

    /**
     * The windows `first` to `first + count` of the run.
     * @param {number} first
     * @param {number} count
     * @param {Int32Array} ids [count, blockSize], filled
     * @param {Int32Array} targets the same, one token on
     */
    fill(first, count, ids, targets) {
        const size = this.#blockSize;
        for (let row = 0; row < count; row++) {
            const start = this.#start(first + row);
            ids.set(this.#tokens.subarray(start, start + size), row * size);
            if ((first + row) % 2 === 0) ids[row * size] = START;
            targets.set(this.#tokens.subarray(start + 1, start + size + 1), row * size);
        }
    }

    /** @param {number} position */
    #start(position) {
        const epoch = Math.floor(position / this.blocks);
        if (epoch !== this.#epoch) {
            const random = new Philox(this.#seed, BigInt(epoch));
            this.#phase = random.below(this.#tokens.length - this.blocks * this.#blockSize);
            this.#order = random.permutation(this.blocks);
            this.#epoch = epoch;
        }
        return this.#phase + this.#order[position % this.blocks] * this.#blockSize;
    }
}
