/** How a training went, as lines over its steps so far: the losses in as many parts as can be seen, the held-out text, guessing. */

/** @import {Drawing} from "../elements/drawing.js" */
/** @import {Guesses} from "./guesses.js" */
import { linesDrawing } from "../learning/lines.js";
import { fixed } from "../text/numbers.js";

const PARTS = 80; // of the steps, each shown as its mean
const TICKS = 6;
export const STROKES = { held_out: "--ink", train: "--accent", uniform: "--ink-soft", unigram: "--amber", bigram: "--lower" };

/**
 * @param {string} title
 * @param {readonly number[]} losses of every step, in bits a character
 * @param {readonly {step: number, bits: number}[]} evaluations
 * @param {Guesses} guesses
 * @param {(line: keyof typeof STROKES) => string} name
 * @returns {Drawing}
 */
export function curveDrawing(title, losses, evaluations, guesses, name) {
    const now = Math.max(TICKS, losses.length);
    const steps = Array.from({ length: TICKS + 1 }, (_, tick) => Math.round((now * tick) / TICKS));
    const at = (/** @type {number} */ step) => (step / now) * TICKS;
    const width = Math.ceil(losses.length / PARTS);
    const means = Array.from({ length: Math.ceil(losses.length / width) || 0 }, (_, n) => {
        const part = losses.slice(n * width, (n + 1) * width);
        return { step: n * width + part.length / 2, bits: part.reduce((a, b) => a + b, 0) / part.length };
    });
    const line = (/** @type {keyof typeof STROKES} */ key, /** @type {readonly {step: number, bits: number}[]} */ points, /** @type {object} */ how) => ({
        ...{ name: name(key), stroke: STROKES[key], values: points.map(({ bits }) => bits), at: points.map(({ step }) => at(step)), ...how },
    });
    const across = (/** @type {number} */ bits) => [{ step: 0, bits }, { step: now, bits }];
    const guessed = /** @type {const} */ (["uniform", "unigram", "bigram"]).map((key) => line(key, across(guesses[key]), { width: 1.5, dashes: "6 4" }));
    const learned = [line("train", means, { width: 1.5 }), line("held_out", evaluations, { width: 3 })];
    return linesDrawing(title, steps, [...guessed, ...learned], (value) => fixed(value, 1));
}
