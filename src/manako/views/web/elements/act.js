/** <manako-act>: what the model is doing, and what it is asked for: tokens, seed, what is recorded of its inside. */

/** @import {View} from "./view.js" */
import { inRow, make, sound } from "./dom.js";
import { ViewElement } from "./view.js";
import { say } from "../text/messages.js";

/**
 * @typedef {object} Wishes
 * @property {number} count tokens to write
 * @property {number | null} seed null for the text's own, of a new text for a fresh one
 * @property {boolean} inside whether attention, lens and contributions are recorded
 */
const MOST_TOKENS = 2000;
const USUAL_TOKENS = 50;
const LARGEST_SEED = 2 ** 53 - 1;

export class ActElement extends ViewElement {
    #count = make("input", { type: "number", name: "count", min: 1, max: MOST_TOKENS, step: 1, value: USUAL_TOKENS, required: true });
    #seed = make("input", { type: "number", name: "seed", min: 0, max: LARGEST_SEED, step: 1 });
    #inside = make("input", { type: "checkbox", checked: true });
    #lang = "";

    /** @returns {Wishes} */
    get wishes() {
        return { count: Number(this.#count.value), seed: this.#seed.value === "" ? null : Number(this.#seed.value), inside: this.#inside.checked };
    }

    /** Whether what was filled in makes sense. */
    get isSound() {
        return sound(this.#count, this.#seed);
    }

    /** @param {View} view */
    draw({ lang }) {
        if (this.#lang === lang) return;
        this.#lang = lang;
        this.#seed.placeholder = say(lang, "page.seed_any");
        const label = (/** @type {string} */ key, /** @type {Node} */ input) => make("label", {}, say(lang, key), input);
        this.replaceChildren(
            inRow(label("page.count", this.#count), label("page.seed", this.#seed)),
            make("label", { class: "inline" }, this.#inside, make("span", {}, say(lang, "page.record_inside"))),
        );
    }
}

customElements.define("manako-act", ActElement);
