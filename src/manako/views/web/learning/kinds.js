/** What a model is like at each moment of its training, as lines: its distance from n-grams, its strongest head of each kind. */

/** @import {Line} from "./lines.js" */
import { make } from "../elements/dom.js";
import { pageLanguage, say } from "../text/messages.js";

const KINDS = ["previous", "duplicate", "induction"];
const ORDERS = ["unigram", "bigram", "trigram"];
export const COLOURS = ["--accent", "--lower", "--amber"];

/** @param {readonly ArrayLike<number>[]} distances for each moment: bits from each order @returns {Line[]} */
export function ngramLines(distances) {
    return ORDERS.slice(0, distances[0].length).map((name, n) => ({ name: say(pageLanguage(), `dynamics.${name}`), values: distances.map((each) => each[n]), stroke: COLOURS[n] }));
}

/**
 * @param {readonly ArrayLike<number>[]} scores for each moment: of each head, layer by layer, one of each kind
 * @param {number} heads of a layer
 * @param {ArrayLike<number>} chance of each kind
 * @returns {Line[]}
 */
export function headLines(scores, heads, chance) {
    const every = Array.from({ length: scores[0].length / KINDS.length }, (_, h) => h);
    const lines = KINDS.map((kind, k) => {
        const most = (/** @type {number} */ h) => Math.max(...scores.map((each) => each[h * KINDS.length + k]));
        const best = every.reduce((a, b) => (most(b) > most(a) ? b : a));
        return { name: `${say(pageLanguage(), `dynamics.${kind}`)} ${placeName(best, heads)}`, values: scores.map((each) => each[best * KINDS.length + k]), stroke: COLOURS[k] };
    });
    const even = Math.max(...KINDS.map((_, k) => chance[k]));
    return [...lines, { name: say(pageLanguage(), "learning.chance"), values: scores.map(() => even), stroke: "--ink-soft", width: 1, dashes: "6 4" }];
}

/** What each line stands for, with its stroke. @param {readonly {name: string, stroke: string, dashes?: unknown}[]} lines */
export function linesKey(lines) {
    return make("ul", { class: "learning-key" }, ...lines.map(({ name, stroke, dashes }) => make("li", { "--stroke": `var(${stroke})`, class: dashes ? "dashed" : null }, name)));
}

/** A head as its layer and its place in it. @param {number} h @param {number} heads */
export function placeName(h, heads) {
    return `${Math.floor(h / heads)}.${h % heads}`;
}
