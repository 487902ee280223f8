/**
 * Numbers as people read them, by the rules of `manako.messages.numbers`; tests/vectors/numbers.json holds both to them.
 *
 * Special here: every rule rounds the double itself, exact halves to the even digit. What is not on record is NaN, and
 * reads "?".
 */

import { activeStages } from "../trace/sampling.js";

const UNKNOWN = "?";
const MORE = 40; // digits behind the last one that is shown: an exact half ends among them
const SMALLEST_WIDTH = 1e-15; // of what decimals are to tell apart

/**
 * A probability: three significant digits, from 10 % on one decimal; nothing below 0.01 % but zero itself.
 * @param {number} p
 */
export function percent(p) {
    if (Number.isNaN(p)) return UNKNOWN;
    if (p === 0) return "0%";
    if (p < 0.0001) return "<0.01%";
    return `${fixed(100 * p, p >= 0.09995 ? 1 : p >= 0.009995 ? 2 : p >= 0.0009995 ? 3 : 4)}%`;
}

/**
 * So many decimals, thousands grouped; as in `small` from a billion on, where decimals say nothing.
 * @param {number} value
 * @param {number} digits
 */
export function fixed(value, digits) {
    if (Math.abs(value) >= 1e9) return small(value);
    const [whole, ...part] = halfToEven(value, "toFixed", digits).split(".");
    return [grouped(whole), ...part].join(".");
}

/**
 * What raises or lowers: two decimals and the true sign, also where they round to zero; zero itself has none.
 * @param {number} value
 */
export function signed(value) {
    return value > 0 ? `+${fixed(value, 2)}` : fixed(value, 2);
}

/**
 * Numbers whose sum is shown, as `signed` writes them but so that they add up as written: those that lose most by their
 * rounding are rounded the other way. What is too far from the total stays as it is, so that a wrong sum is seen.
 * @param {number[]} values
 * @param {number} total
 */
export function addends(values, total) {
    if (![...values, total].every((value) => Math.abs(value) < 1e9)) return values.map(signed);
    const rounded = (/** @type {number} */ value) => Math.round(100 * Number(fixed(value, 2).replaceAll(",", "")));
    const cents = values.map(rounded);
    const missing = rounded(total) - cents.reduce((sum, each) => sum + each, 0);
    const way = Math.sign(missing);
    const lost = (/** @type {number} */ i) => way * (cents[i] - 100 * values[i]);
    const order = [...values.keys()].sort((a, b) => lost(a) - lost(b) || a - b);
    if (Math.abs(missing) <= values.length / 2 + 1) for (const i of order.slice(0, Math.abs(missing))) cents[i] += way;
    return cents.map((cent, i) => signed(cent ? cent / 100 : values[i] / 1e9));
}

/**
 * How many: all digits, thousands grouped.
 * @param {number} n
 */
export function count(n) {
    return Number.isNaN(n) ? UNKNOWN : grouped(String(n));
}

/**
 * As open as how many equal choices: three significant digits, never a power of ten.
 * @param {number} bits
 */
export function perplexity(bits) {
    return grouped(setting(Number(halfToEven(2 ** bits, "toExponential", 2))));
}

/**
 * A number that somebody set: the shortest decimals that are this very number.
 * @param {number | null} value
 */
export function setting(value) {
    return String(value);
}

/**
 * The size of an error: two significant digits, with a power of ten below a thousandth and from a thousand on.
 * @param {number} error
 */
export function small(error) {
    if (!Number.isFinite(error)) return Number.isNaN(error) ? "nan" : "inf";
    const text = halfToEven(error, "toExponential", 1);
    const size = Math.abs(Number(text));
    if (size === 0 || (size >= 0.001 && size < 1000)) return setting(Number(text));
    return text.replace(".0e", "e").replace("e+", "e");
}

/**
 * How many decimals tell two numbers in [0, 1] apart that differ by this: four, or three digits of a smaller one.
 * @param {number} difference
 */
export function decimals(difference) {
    if (difference >= 0.001) return 4;
    return Math.min(17, 2 - Number(Math.max(difference, SMALLEST_WIDTH).toExponential(6).split("e")[1]));
}

/**
 * The stages that run, in order, each with its setting.
 * @param {import("../trace/sampling.js").Sampling} sampling
 */
export function chainText(sampling) {
    return activeStages(sampling).map((name) => `${name} ${setting(sampling[name])}`).join(" > ");
}

/** @param {string} whole digits, perhaps with a sign, or a number below 1000 */
function grouped(whole) {
    return whole.replace(/\B(?=(\d{3})+$)/g, ",");
}

/**
 * A number as it is written, but of an exact half the even digit, where JavaScript takes the larger one.
 * @param {number} number
 * @param {"toFixed" | "toExponential"} write
 * @param {number} digits behind the point
 */
function halfToEven(number, write, digits) {
    const text = number[write](digits);
    const isHalf = /^50*$/.test(number[write](digits + MORE).split("e")[0].slice(-MORE));
    const isOdd = Number(text.split("e")[0].slice(-1)) % 2 === 1;
    return isHalf && isOdd ? (number * (1 - Number.EPSILON / 2))[write](digits) : text;
}
