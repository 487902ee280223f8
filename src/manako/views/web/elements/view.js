/** What the page shows: one frozen record that every part draws from, and what such a part is. */

/** @import {Trace} from "../trace/trace-file.js" */
/** @import {Sampling} from "../trace/sampling.js" */
/** @import {StepNumbers} from "../analysis/step-numbers.js" */
/** @import {Lang} from "../text/messages.js" */
/** @import {Path} from "../trace/tree.js" */
export const TINTS = /** @type {const} */ (["p_model", "surprisal", "rank"]);
export const LISTS = [10, 50]; // candidates in the list
export const AXES = /** @type {const} */ (["linear", "log", "zoom"]); // to 100 %; decades; to the largest p shown
export const TEMPERATURES = [0.3, 0.8, 1.2]; // side by side, and with a mark on the slider

/** @typedef {(typeof TINTS)[number]} Tint */
/** @typedef {(typeof AXES)[number]} Axis */
/** @typedef {{place: number, shown: boolean}} Guess the step to guess, and whether its draw is shown already */
/**
 * What the reader chose.
 * @typedef {object} Choice
 * @property {Lang} lang
 * @property {string} branch the text that is shown
 * @property {number} place the step of it, from 0
 * @property {Tint} tint
 * @property {boolean} details whether ids and bytes are shown
 * @property {number} top candidates in the list
 * @property {Axis} axis of the bars
 * @property {Sampling | null} sampling settings that differ from the recorded ones, null for those
 * @property {readonly number[]} temperatures those side by side
 * @property {Guess | null} guess
 * @property {number | null} layer that is looked into, null for all
 * @property {number | null} head in it, null for all
 * @property {readonly string[]} tabs that were chosen, the last one first
 * @property {boolean} projector whether all is large, and one tab alone beside the stage
 * @property {string | null} lesson the step of a lesson, such as "number.2"; null for none
 */
/**
 * @typedef {object} Shown
 * @property {Path} path the text of the branch
 * @property {Path | null} other the text that this one parted from, or that parted from it
 * @property {Trace} trace the record that has the selected step
 * @property {number} index the step in it, from 0
 * @property {number | null} forcedId the token that a reader put there instead of the drawn one
 * @property {StepNumbers} shown
 * @property {"ja" | null} textLang what the text is written in: without it a browser may draw Chinese forms of kanji
 * @property {boolean} busy whether the model writes
 * @property {boolean} isReady whether it can write a new text
 * @property {boolean} canAct whether it can go on from this one
 */
/**
 * What changes the texts: `token` and `text` are put in, at the selected step or at the end; `ask` and `sampling` go
 * before what is filled in on the page.
 * @typedef {{kind: string, token?: number, text?: string, where?: "here" | "end", ask?: {seed: number, count: number, inside: boolean}, sampling?: Sampling}} Act
 */
/** @typedef {Choice & Shown} View */
/** @typedef {Partial<Choice> & {tab?: string}} Change `tab` is shown, and the one shown last stays beside it */

/**
 * A part of the page that shows a view. It draws itself whole when it is given one, and says by an event what to change.
 */
export class ViewElement extends HTMLElement {
    /** @type {View | null} */
    #view = null;

    /** @param {View} view */
    set view(view) {
        const before = this.#view;
        this.#view = view;
        this.draw(view, before);
    }

    /** @returns {View} */
    get view() {
        if (this.#view === null) throw new Error("nothing is shown yet");
        return this.#view;
    }

    /**
     * @param {View} _view
     * @param {View | null} _before what it showed until now
     */
    draw(_view, _before) {}

    /** @param {Change} change */
    change(change) {
        this.dispatchEvent(new CustomEvent("view-change", { bubbles: true, detail: change }));
    }

    /** Ask for what changes the texts themselves. @param {Act} act */
    act(act) {
        this.dispatchEvent(new CustomEvent("act", { bubbles: true, detail: act }));
    }
}
