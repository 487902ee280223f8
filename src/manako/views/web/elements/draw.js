/**
 * <manako-draw>: the line from 0 to 1 that the draw walks, likeliest token first, and u as a needle on it.
 */

/** @import {View} from "./view.js" */
import { make, soft } from "./dom.js";
import { ViewElement } from "./view.js";
import { decimals, fixed, perplexity } from "../text/numbers.js";
import { say } from "../text/messages.js";
import { tokenText } from "./token-chip.js";

const MARKS = [0, 0.25, 0.5, 0.75, 1];
const NAMED_FROM = 0.03; // share of the line that a piece needs to carry its token's name
const PIECE_FROM = 0.004; // a thinner one would be nothing but its border
const PIECES = 24; // tokens that get a piece of their own; the line's end is all others

export class DrawElement extends ViewElement {
    /** @param {View} view @param {View | null} before */
    draw(view, before) {
        const { lang, shown } = view;
        const said = make("p", {}, drawSentence(view));
        const open = shown.entropy === null ? null : this.#entropy(lang, shown.entropy);
        const strip = shown.u === null || shown.certain ? null : this.#strip(view, !before || before.trace !== view.trace || before.index !== view.index);
        this.replaceChildren(...(strip ? [strip] : []), make("div", { class: "said" }, said, open));
    }

    /** @param {View} view @param {boolean} isNew whether u falls: at another step, not at other settings */
    #strip(view, isNew) {
        const { shown, lang } = view;
        const u = Number(shown.u);
        const pieces = drawnPieces(view).map((row) =>
            make("span", { class: row.id === shown.drawnId ? "piece taken" : "piece", "--p": row.p }, row.p >= NAMED_FROM && tokenText(view, row, shown.pending)),
        );
        const needle = make("span", { class: `needle${isNew ? " falls" : ""}`, "--p": u }, make("b", {}, say(lang, "page.u", { u: fixed(u, 4) })));
        const marks = MARKS.map((at) => make("span", { "--p": at }, String(at)));
        return make("div", { class: "line", "aria-hidden": "true" }, make("div", { class: "strip" }, ...pieces, needle), make("div", { class: "axis soft" }, ...marks));
    }

    /** @param {View["lang"]} lang @param {number} bits */
    #entropy(lang, bits) {
        return soft(say(lang, "step.entropy", { bits: fixed(bits, 2), choices: perplexity(bits) }));
    }
}

/**
 * The tokens that are wide enough for a piece of their own, from the left.
 * @param {View} view
 */
export function drawnPieces({ shown }) {
    return shown.top(PIECES).filter((row) => row.p >= PIECE_FROM);
}

/**
 * Where u fell, in a sentence.
 * @param {View} view
 */
export function drawSentence(view) {
    const { lang, shown } = view;
    if (shown.u === null) return say(lang, "page.no_draw");
    if (shown.certain) return say(lang, "step.no_draw", { u: fixed(shown.u, 4) });
    if (shown.draw === null) return say(lang, "page.draw_unknown", { u: fixed(shown.u, 4) });
    const { low, high } = shown.draw;
    const digits = decimals(high - low);
    const token = tokenText(view, shown.candidate(shown.draw.tokenId), shown.pending);
    const ends = { u: fixed(shown.u, digits), low: fixed(low, digits), high: fixed(high, digits) };
    const isListed = shown.hasPlace(shown.draw.tokenId); // of one that is not, only the stretch of all such tokens is known
    return say(lang, isListed ? "step.draw" : "page.draw_outside", { token, ...ends });
}

customElements.define("manako-draw", DrawElement);
