/** <manako-tints>: what the lines below the tokens tell, and a key to them. */

/** @import {Tint, View} from "./view.js" */
import { choices, inRow, make } from "./dom.js";
import { TINTS, ViewElement } from "./view.js";
import { say } from "../text/messages.js";

/**
 * Upper ends of the first four steps, from expected to unexpected; the fifth is open.
 * @type {Record<Tint, {steps: string[], bin: (pModel: number, rank: number) => number}>}
 */
export const BINS = {
    p_model: { steps: ["\u2265 50%", "20\u201350%", "5\u201320%", "1\u20135%", "< 1%"], bin: (p) => above(-p, [-0.5, -0.2, -0.05, -0.01]) },
    surprisal: { steps: ["\u2264 1", "1\u20132", "2\u20134", "4\u20138", "> 8"], bin: (p) => above(-Math.log2(p), [1, 2, 4, 8]) },
    rank: { steps: ["1", "2\u20133", "4\u201310", "11\u2013100", "> 100"], bin: (_, rank) => above(rank, [1, 3, 10, 100]) },
};

export class TintsElement extends ViewElement {
    /** @param {View} view @param {View | null} before */
    draw({ lang, tint }, before) {
        if (before?.lang === lang && before.tint === tint) return;
        const options = TINTS.map((name) => /** @type {const} */ ([name, say(lang, `page.tint_${name}`)]));
        const label = say(lang, "page.tint");
        const buttons = choices(label, options, tint, (name) => this.change({ tint: name }));
        const steps = BINS[tint].steps.map((step, bin) => make("li", {}, make("span", { class: "token", "data-bin": bin }, step)));
        const name = make("li", {}, say(lang, `page.legend_${tint}`));
        this.replaceChildren(inRow(make("span", { class: "soft" }, label), buttons), make("ul", { class: "legend soft" }, name, ...steps));
    }
}

/**
 * How many of the limits a value lies above.
 * @param {number} value
 * @param {number[]} limits
 */
function above(value, limits) {
    return limits.filter((limit) => value > limit).length;
}

customElements.define("manako-tints", TintsElement);
