/**
 * <manako-ribbon>: the whole text as a row of tokens, tinted by how expected each one was.
 *
 * Special here: one list to tab to, in which the arrows move; 2,000 tokens are drawn once, and a move touches two of them.
 * Tints have five steps, and each step a line of its own below the token, for those who don't tell the tints apart.
 * While the model writes, what it tells is appended; the record takes its place at the end.
 */

/** @import {View, Tint} from "./view.js" */
import { choices, make } from "./dom.js";
import { TINTS, ViewElement } from "./view.js";
import { say } from "../text/messages.js";
import { StepNumbers } from "../analysis/step-numbers.js";
import { ribbonToken, runningText, runningToken } from "./token-chip.js";
import { visibleText } from "../text/tokens.js";

/**
 * Upper ends of the first four steps, from expected to unexpected; the fifth is open.
 * @type {Record<Tint, {steps: string[], bin: (pModel: number, rank: number) => number}>}
 */
const BINS = {
    p_model: { steps: ["\u2265 50%", "20\u201350%", "5\u201320%", "1\u20135%", "< 1%"], bin: (p) => above(-p, [-0.5, -0.2, -0.05, -0.01]) },
    surprisal: { steps: ["\u2264 1", "1\u20132", "2\u20134", "4\u20138", "> 8"], bin: (p) => above(-Math.log2(p), [1, 2, 4, 8]) },
    rank: { steps: ["1", "2\u20133", "4\u201310", "11\u2013100", "> 100"], bin: (_, rank) => above(rank, [1, 3, 10, 100]) },
};

export class RibbonElement extends ViewElement {
    /** @type {HTMLElement[]} one for each place */
    #tokens = [];
    #written = make("span", { class: "written", "aria-hidden": "true" });

    /** @param {View} view @param {View | null} before */
    draw(view, before) {
        const same = before && before.path === view.path && before.lang === view.lang && before.tint === view.tint;
        if (!same) this.#build(view);
        if (!same || before.guess !== view.guess) this.#hideFrom(view.guess ? view.guess.place + Number(view.guess.shown) : Infinity);
        if (same && before.place !== view.place) this.#tokens[before.place]?.setAttribute("aria-selected", "false");
        const chosen = this.#tokens[view.place];
        if (!chosen || (same && before.place === view.place)) return;
        chosen.setAttribute("aria-selected", "true");
        chosen.parentElement?.setAttribute("aria-activedescendant", chosen.id);
        this.#scrollTo(chosen);
    }

    /** Inside the text alone: the page itself must not jump. @param {HTMLElement} token */
    #scrollTo(token) {
        const text = /** @type {HTMLElement} */ (token.closest(".text"));
        const [top, bottom] = [token.offsetTop, token.offsetTop + token.offsetHeight];
        if (top < text.scrollTop) text.scrollTop = top - token.offsetHeight;
        else if (bottom > text.scrollTop + text.clientHeight) text.scrollTop = bottom + token.offsetHeight - text.clientHeight;
    }

    /**
     * Begin to show what is being written behind some places.
     * @param {number} place -1 for a text of its own
     * @param {string} given the text that stands in front of what the model writes
     */
    startWriting(place, given) {
        this.#hideFrom(place);
        /** @type {HTMLElement} */ (this.querySelector(".prompt")).hidden = place < 0;
        this.#written.replaceChildren(make("span", { class: "prompt" }, visibleText(given)));
        this.scrollIntoView({ block: "nearest" });
    }

    /** @param {import("./token-chip.js").Token} token that the model wrote @param {number} pModel @param {number} rank */
    write(token, pModel, rank) {
        const shown = runningToken(this.view, token);
        shown.dataset.bin = String(BINS[this.view.tint].bin(pModel, rank));
        this.#written.append(...runningText([shown]));
    }

    /** Show the end of what is being written. */
    follow() {
        const text = /** @type {HTMLElement} */ (this.#written.closest(".text"));
        text.scrollTop = text.scrollHeight;
    }

    /** @param {number} place the first that is not shown */
    #hideFrom(place) {
        this.#tokens.forEach((token, n) => (token.hidden = n >= place));
    }

    /** @param {View} view */
    #build(view) {
        const { lang, path, tint } = view;
        const shown = Array.from(path.ids, (_, position) => ribbonToken({ ...view, trace: path.leaf.trace }, position));
        this.#tokens = shown.slice(path.prompt);
        this.#tokens.forEach((token, place) => {
            const found = path.at(place);
            token.classList.toggle("given", !found || found.forcedId !== null);
            if (!found) return;
            token.dataset.bin = String(BINS[tint].bin(...expected(found)));
            token.id = `token-${place}`;
            token.setAttribute("role", "option");
            token.setAttribute("aria-selected", "false");
        });
        this.#written.replaceChildren();
        const list = make(
            "span",
            {
                role: "listbox",
                tabindex: 0,
                "aria-label": say(lang, "page.ribbon"),
                keydown: (event) => this.#key(/** @type {KeyboardEvent} */ (event)),
                click: (event) => this.#click(event),
            },
            ...runningText(this.#tokens),
        );
        const copy = (/** @type {Event} */ event) => this.#copy(/** @type {ClipboardEvent} */ (event));
        const text = make("div", { class: "text", lang: view.textLang, copy }, make("span", { class: "prompt" }, ...runningText(shown.slice(0, path.prompt))), list, this.#written);
        this.replaceChildren(this.#choices(view), text, this.#legend(view));
    }

    /** @param {View} view */
    #choices({ lang, tint }) {
        const options = TINTS.map((name) => /** @type {const} */ ([name, say(lang, `page.tint_${name}`)]));
        const label = say(lang, "page.tint");
        const buttons = choices(label, options, tint, (name) => this.change({ tint: name }));
        return make("div", { class: "row" }, make("span", { class: "soft" }, label), buttons);
    }

    /** @param {View} view */
    #legend({ lang, tint }) {
        const steps = BINS[tint].steps.map((step, bin) =>
            make("li", {}, make("span", { class: "token", "data-bin": bin }, step)),
        );
        const name = make("li", {}, say(lang, `page.legend_${tint}`));
        return make("ul", { class: "legend soft" }, name, ...steps);
    }

    /** What is copied is the text itself, not how the page spells it. @param {ClipboardEvent} event */
    #copy(event) {
        const selection = getSelection();
        const isIn = [...this.querySelectorAll(".text .token")].map((token) => selection?.containsNode(token, true));
        if (!isIn.includes(true) || this.#written.firstChild) return;
        const bytes = this.view.path.leaf.trace.textBytes(isIn.indexOf(true), isIn.lastIndexOf(true) + 1);
        event.clipboardData?.setData("text/plain", new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes));
        event.preventDefault();
    }

    /** @param {Event} event */
    #click(event) {
        const token = event.target instanceof Element && event.target.closest('[role="option"]');
        if (token) this.change({ place: Number(token.id.slice("token-".length)) });
    }

    /** @param {KeyboardEvent} event */
    #key(event) {
        const last = this.#tokens.length - 1;
        const { place, path } = this.view;
        /** @type {Record<string, () => [number, number]>} */
        const keys = {
            ArrowRight: () => [place + 1, 1],
            ArrowLeft: () => [place - 1, -1],
            ArrowDown: () => [this.#line(1), 1],
            ArrowUp: () => [this.#line(-1), -1],
            Home: () => [0, 1],
            End: () => [last, -1],
        };
        const [to, way] = Object.hasOwn(keys, event.key) ? keys[event.key]() : [];
        if (to === undefined || way === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
        event.preventDefault();
        const next = path.next(to, way);
        if (next !== null) this.change({ place: next });
    }

    /**
     * The token on the next or the previous line that lies nearest to the selected one.
     * @param {1 | -1} way
     */
    #line(way) {
        const from = this.#tokens[this.view.place]?.getBoundingClientRect();
        let [best, distance, line] = [this.view.place, Infinity, NaN];
        for (let i = this.view.place + way; this.#tokens[i]; i += way) {
            const box = this.#tokens[i].getBoundingClientRect();
            if (Math.abs(box.bottom - from.bottom) < from.height / 2) continue; // still the same line
            if (Number.isNaN(line)) line = box.bottom;
            if (Math.abs(box.bottom - line) > from.height / 2) break;
            if (Math.abs(box.left - from.left) < distance) [best, distance] = [i, Math.abs(box.left - from.left)];
        }
        return best;
    }
}

/**
 * What the model gave the token of a place, and its rank in the draw.
 * @param {import("../trace/tree.js").Place} place
 * @returns {[number, number]}
 */
function expected({ trace, index, forcedId }) {
    if (forcedId === null) return [trace.pModel[index], trace.rank[index]];
    const { pModel, rank } = new StepNumbers(trace, index).candidate(forcedId);
    return Number.isNaN(rank) ? [0, Infinity] : [pModel, rank]; // not among those on record: none of the likely ones
}

/**
 * How many of the limits a value lies above.
 * @param {number} value
 * @param {number[]} limits
 */
function above(value, limits) {
    return limits.filter((limit) => value > limit).length;
}

customElements.define("manako-ribbon", RibbonElement);
