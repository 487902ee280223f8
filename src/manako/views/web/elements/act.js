/** <manako-act>: a new text for the model to go on with, and what it is doing. */

/** @import {View} from "./view.js" */
import { make } from "./dom.js";
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
    #prompt = make("textarea", { rows: 2, name: "prompt" });
    #count = make("input", { type: "number", min: 1, max: MOST_TOKENS, step: 1, value: USUAL_TOKENS, required: true });
    #seed = make("input", { type: "number", min: 0, max: LARGEST_SEED, step: 1 });
    #inside = make("input", { type: "checkbox", checked: true });
    #said = make("p", { role: "status" });
    #loaded = make("progress", { hidden: true, max: 1 });
    #lang = "";

    /** @returns {Wishes} */
    get wishes() {
        return { count: Number(this.#count.value), seed: this.#seed.value === "" ? null : Number(this.#seed.value), inside: this.#inside.checked };
    }

    /** Whether what was filled in makes sense; the browser says what does not. */
    get isSound() {
        return [this.#count, this.#seed].every((input) => input.reportValidity());
    }

    /** @param {View} view @param {View | null} before */
    draw(view, before) {
        if (this.#lang !== view.lang) this.#build(view);
        if (!before) this.#prompt.value = view.path.chain[0].trace.header.prompt;
        /** @type {HTMLButtonElement} */ (this.querySelector("button")).disabled = !view.isReady;
    }

    /**
     * Say what the model is doing.
     * @param {string} state
     * @param {boolean} isFault
     * @param {number} [share] of the model that is there, while it loads
     */
    say(state, isFault, share) {
        this.#said.textContent = state;
        this.#said.className = isFault ? "warn" : "soft";
        this.#loaded.hidden = share === undefined;
        this.#loaded.value = share ?? 0;
        this.#loaded.setAttribute("aria-label", state);
    }

    /** @param {View} view */
    #build({ lang, textLang }) {
        this.#lang = lang;
        this.#prompt.lang = textLang ?? "";
        this.#seed.placeholder = say(lang, "page.seed_any");
        const label = (/** @type {string} */ key, /** @type {Node} */ input) => make("label", {}, say(lang, key), input);
        const write = (/** @type {Event} */ event) => {
            event.preventDefault();
            this.act({ kind: "new", text: this.#prompt.value });
        };
        this.replaceChildren(
            make(
                "form",
                { class: "pane", submit: write },
                label("page.prompt", this.#prompt),
                make(
                    "div",
                    { class: "row ask" },
                    label("page.count", this.#count),
                    label("page.seed", this.#seed),
                    make("button", { class: "primary" }, say(lang, "page.act_new")),
                ),
                make("label", { class: "inline" }, this.#inside, make("span", {}, say(lang, "page.record_inside"))),
            ),
            this.#said,
            this.#loaded,
        );
    }
}

customElements.define("manako-act", ActElement);
