/** Numbers as people read them, the same as in the terminal. */

import { activeStages } from "../trace/sampling.js";

const GROUPED = new Intl.NumberFormat("en-US");
const UNKNOWN = "?"; // a number that is not on record

/**
 * A probability: three significant digits, 100.0% at most.
 * @param {number} p
 */
export function percent(p) {
    if (Number.isNaN(p)) return UNKNOWN;
    if (p === 0) return "0%";
    if (p < 0.0001) return "<0.01%";
    const digits = p >= 0.09995 ? 1 : p >= 0.009995 ? 2 : p >= 0.0009995 ? 3 : 4;
    return `${(100 * p).toFixed(digits)}%`;
}

/**
 * A number that raises or lowers, always with its sign.
 * @param {number} value
 */
export function signed(value) {
    const text = Math.abs(value) >= 999.995 ? value.toExponential(2) : (Math.round(value * 100) / 100 + 0).toFixed(2);
    return value < 0 ? text : `+${text}`;
}

/**
 * A small error: one decimal and the power of ten.
 * @param {number} error
 */
export function small(error) {
    return Number.isFinite(error) ? error.toExponential(1) : "inf";
}

/**
 * As open as how many equal choices.
 * @param {number} bits
 */
export function choices(bits) {
    return String(Number((2 ** bits).toPrecision(3)));
}

/**
 * The stages that run, in order, each with its setting.
 * @param {import("../trace/sampling.js").Sampling} sampling
 */
export function chainText(sampling) {
    return activeStages(sampling).map((name) => `${name} ${sampling[name]}`).join(" > ");
}

/** @param {number} n */
export function whole(n) {
    return Number.isNaN(n) ? UNKNOWN : GROUPED.format(n);
}
