/**
 * What the page proposes for a text on this machine: three sizes, and as many steps as fit into the minutes.
 *
 * Special here: the numbers of each size were searched for, by held-out bits after as many tokens as a laptop's core reads
 * in a minute or three; docs/log.md says what was tried. Warm-up is counted in steps: a share of the time left short
 * trainings at what single characters give.
 */

/** @import {TextFacts} from "./worker.js" */
/** @import {TrainingSettings} from "./training.js" */

/** @typedef {"small" | "medium" | "large"} Size */

const COMMON = { muon_rate: 0.02, weight_decay: 0.1, grad_clip: 1 };
const WARMUP = 150; // steps
/** @type {Record<Size, Omit<TrainingSettings, "steps" | "seed" | "warmup_steps">>} */
export const SIZES = {
    small: { n_layer: 2, n_head: 4, n_embd: 64, block_size: 32, batch_size: 16, learning_rate: 6e-3, ...COMMON },
    medium: { n_layer: 2, n_head: 4, n_embd: 96, block_size: 32, batch_size: 16, learning_rate: 6e-3, ...COMMON },
    large: { n_layer: 4, n_head: 4, n_embd: 128, block_size: 128, batch_size: 8, learning_rate: 2.5e-3, ...COMMON },
};
export const MINUTES = [1, 3, 10, 30];
export const LEARNS_BY_HEART = 20; // readings of a text
export const TRAINED = 0.8; // of the time; the rest goes to looking at the model
const LEAST_STEPS = 50;
const SMALL_FOR = 1; // minutes; with more of them a wider model is ahead, and reads the text less often

/** The size for so many minutes. @param {number} minutes @returns {Size} */
export function sizeFor(minutes) {
    return minutes > SMALL_FOR ? "medium" : "small";
}

/**
 * @param {Size} size
 * @param {number} speed tokens a second
 * @param {number} minutes
 * @param {number} seed
 * @returns {TrainingSettings}
 */
export function settingsFor(size, speed, minutes, seed) {
    const { batch_size, block_size } = SIZES[size];
    const steps = Math.max(LEAST_STEPS, Math.round((minutes * 60 * speed * TRAINED) / (batch_size * block_size)));
    return { ...SIZES[size], steps, warmup_steps: Math.min(WARMUP, Math.ceil(steps / 5)), seed };
}

/** How many times a training reads its text. @param {TrainingSettings} settings @param {TextFacts} facts */
export function readings({ steps, batch_size, block_size }, { trainTokens }) {
    return (steps * batch_size * block_size) / trainTokens;
}
