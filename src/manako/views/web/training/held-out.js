/**
 * The held-out text as every evaluation sees it, by the method of `manako.training.held_out`: windows overlap by half,
 * each token is scored once, with at least half a context before it except at the start, document starts are not scored.
 */

import { START, charactersOf } from "./corpus.js";

export const UNSCORED = -1; // a target that no loss counts
const MOST_TOKENS = 65_536; // scored by one evaluation; of a longer text windows evenly spread over it

export class HeldOut {
    /** @param {Uint32Array} side @param {number} blockSize */
    constructor(side, blockSize) {
        const hop = Math.max(1, Math.floor(blockSize / 2));
        const count = side.length > 1 ? 1 + Math.ceil(Math.max(0, side.length - 1 - blockSize) / hop) : 0;
        const most = Math.floor(MOST_TOKENS / hop);
        const spread = (/** @type {number} */ n) => Math.trunc(n * ((count - 1) / (most - 1)));
        const chosen = count * hop > MOST_TOKENS ? Array.from({ length: most }, (_, n) => spread(n)) : Array.from({ length: count }, (_, n) => n);
        this.rows = chosen.length;
        this.ids = new Int32Array(this.rows * blockSize).fill(START);
        this.targets = new Int32Array(this.rows * blockSize).fill(UNSCORED);
        /** How many characters are scored. */
        this.characters = 0;
        chosen.forEach((number, row) => {
            const window = side.subarray(number * hop, number * hop + blockSize + 1);
            const known = number === 0 ? 0 : blockSize - hop; // targets that the window before has scored
            this.ids.set(window.subarray(0, window.length - 1), row * blockSize);
            for (let i = known; i < window.length - 1; i++) {
                const target = window[i + 1];
                if (target === START) continue;
                this.targets[row * blockSize + i] = target;
                this.characters += charactersOf(target);
            }
        });
    }
}
