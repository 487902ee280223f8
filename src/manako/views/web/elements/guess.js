/**
 * <manako-guess>: the reader picks a token before the draw is shown, and is told what the guess was worth in bits.
 *
 * Special here: candidates stand in the order of their ids, which tells nothing, and without their probabilities.
 */

/** @import {View} from "./view.js" */
import { button, inRow, make, soft } from "./dom.js";
import { ViewElement } from "./view.js";
import { guessBits } from "../analysis/guess-score.js";
import { say } from "../text/messages.js";
import { fixed } from "../text/numbers.js";
import { tokenChip, tokenText } from "./token-chip.js";

const GUESSES = 10;
const CONFIDENCES = [10, 25, 50, 75, 90, 99];
const USUAL_CONFIDENCE = 50;
const OTHERS = -1; // the id that stands for all tokens that are not listed

export class GuessElement extends ViewElement {
    /** What the reader scored, and what p of the draw would have. @type {{you: number, draw: number}[]} */
    #scores = [];
    /** What was picked last; null for none of those listed. @type {import("../analysis/step-numbers.js").Candidate | null} */
    #picked = null;
    #isRight = false;

    /** @param {View} view @param {View | null} before */
    draw(view, before) {
        const { guess, lang } = view;
        this.hidden = guess === null;
        if (before && before.path !== view.path) this.#scores = [];
        const same = before && before.guess === guess && before.lang === lang && before.path === view.path;
        if (guess === null || same) return;
        if (guess.shown) this.replaceChildren(...this.#result(view), this.#next(view));
        else this.replaceChildren(this.#form(view));
    }

    /** @param {View} view */
    #form(view) {
        const { lang, shown } = view;
        const rows = shown.top(GUESSES).sort((a, b) => a.id - b.id);
        const pick = (/** @type {number} */ id, /** @type {...(Node | string)} */ ...name) =>
            make("label", { class: "pick" }, make("input", { type: "radio", name: "guess", value: id, required: true }), make("span", {}, ...name));
        const options = CONFIDENCES.map((each) => make("option", { value: each, selected: each === USUAL_CONFIDENCE }, `${each}%`));
        return make(
            "form",
            { class: "pane", submit: (event) => this.#answer(event) },
            make(
                "fieldset",
                {},
                make("legend", {}, say(lang, "page.guess_ask")),
                make("div", { class: "picks" }, ...rows.map((row) => pick(row.id, tokenChip(view, row, shown.pending))), pick(OTHERS, say(lang, "page.guess_other"))),
            ),
            inRow(make("label", {}, say(lang, "page.guess_sure"), make("select", { name: "sure" }, ...options)), make("button", {}, say(lang, "page.guess_show"))),
        );
    }

    /** @param {Event} event */
    #answer(event) {
        event.preventDefault();
        const given = new FormData(/** @type {HTMLFormElement} */ (event.target));
        const { shown, place } = this.view;
        const taken = shown.candidate(shown.takenId);
        const listed = shown.top(GUESSES);
        const picked = Number(given.get("guess"));
        const guessed = picked === OTHERS ? shown.other(listed).p : shown.candidate(picked).p;
        const isGuessed = picked === OTHERS ? !listed.some((row) => row.id === taken.id) : picked === taken.id;
        [this.#picked, this.#isRight] = [picked === OTHERS ? null : shown.candidate(picked), isGuessed];
        const you = guessBits(taken.p, isGuessed, guessed, Number(given.get("sure")) / 100);
        this.#scores.push({ you, draw: Math.max(0, -Math.log2(taken.p)) });
        this.change({ guess: { place, shown: true } });
        this.querySelector("button")?.focus();
    }

    /** @param {View} view */
    #result(view) {
        const { lang, shown } = view;
        const last = this.#scores.at(-1);
        if (!last) return [];
        const sum = (/** @type {"you" | "draw"} */ who) => fixed(this.#scores.reduce((bits, score) => bits + score[who], 0), 2);
        const token = tokenText(view, shown.candidate(shown.takenId), shown.pending);
        const picked = this.#picked ? tokenText(view, this.#picked, shown.pending) : say(lang, "page.guess_other");
        return [
            make("p", { class: "note", role: "status" }, say(lang, this.#isRight ? "page.guess_right" : "page.guess_wrong", { token, picked })),
            make("p", {}, say(lang, "page.guess_bits", { you: fixed(last.you, 2), draw: fixed(last.draw, 2) })),
            make("p", {}, say(lang, "page.guess_sum", { count: this.#scores.length, you: sum("you"), draw: sum("draw") })),
            soft(say(lang, "page.guess_means")),
        ];
    }

    /** @param {View} view */
    #next({ lang, path, place }) {
        const next = path.drawn(place + 1);
        if (next === null) return make("p", {}, say(lang, "page.guess_end"));
        return inRow(button(() => this.#ask(next), say(lang, "page.guess_next")));
    }

    /** @param {number} place */
    #ask(place) {
        this.change({ place, guess: { place, shown: false } });
        this.querySelector("input")?.focus();
    }
}

customElements.define("manako-guess", GuessElement);
