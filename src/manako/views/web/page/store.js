/**
 * What the reader chose to see, and what follows from it: the step that is shown, its numbers, the way back.
 *
 * Special here: a choice that cannot be is moved to the nearest that can: to a step that has numbers, and to none behind
 * the one that is to be guessed. Nothing here touches the page, so all of it can be tested without one.
 */

/** @import {Change, Choice, Shown} from "../elements/view.js" */
/** @import {Branch, Path, Tree} from "../trace/tree.js" */
/** @import {Place} from "../trace/tree.js" */
import { FIRST_TABS, withTab } from "./tabs.js";
import { LISTS, TEMPERATURES } from "../elements/view.js";
import { StepNumbers } from "../analysis/step-numbers.js";

/** @typedef {{branch: string, place: number}} Spot */

/** @type {Choice} */
const USUAL = {
    lang: "en",
    branch: "",
    place: 0,
    tint: "p_model",
    details: false,
    top: LISTS[0],
    axis: "linear",
    sampling: null,
    temperatures: TEMPERATURES,
    guess: null,
    layer: null,
    head: null,
    tabs: FIRST_TABS,
    projector: false,
    lesson: null,
};

export class Store {
    /** @type {StepNumbers | null} the step under the recorded settings; null of a text without any */
    recorded = null;
    /** @type {StepNumbers | null} */
    #shown = null;
    /** @type {Path | null} null until a text is shown, and where it must be shown anew */
    #path = null;
    /** @type {"ja" | null} */
    #textLang = null;
    /** @type {Spot[]} what was shown before, and what was taken back */
    #past = [];
    /** @type {Spot[]} */
    #future = [];

    /** @param {Tree} tree with at least one text @param {Pick<Choice, "lang" | "branch">} first */
    constructor(tree, first) {
        this.tree = tree;
        this.choice = { ...USUAL, ...first };
    }

    /** The text that is shown. */
    get path() {
        return this.#path ?? this.tree.path(this.choice.branch);
    }

    get canUndo() {
        return this.#past.length > 0;
    }

    get canRedo() {
        return this.#future.length > 0;
    }

    /**
     * @param {Change} change
     * @returns {boolean} whether another text is shown now
     */
    change(change) {
        const before = this.choice;
        const { tab, ...changed } = change;
        const next = { ...before, ...changed };
        if (tab !== undefined) next.tabs = withTab(before.tabs, tab);
        if (!this.tree.branches.has(next.branch)) next.branch = before.branch;
        const isOther = this.#path === null || next.branch !== before.branch;
        if (isOther) {
            if (this.#path) [this.#past, this.#future] = [[...this.#past, before], []];
            this.#path = this.tree.path(next.branch);
            this.#textLang = languageOf(this.#path.leaf);
            next.guess = change.guess ?? null;
        }
        const { path } = this;
        if (change.guess) {
            const place = path.drawn(change.guess.place); // the step that is asked about is the one that is shown
            next.guess = place === null ? null : { ...change.guess, place };
            next.place = place ?? next.place;
        }
        next.place = Math.min(Math.max(0, next.place), Math.max(0, path.length - 1), next.guess?.place ?? Infinity);
        next.place = path.next(next.place, -1) ?? path.next(next.place, 1) ?? 0;
        const at = path.at(next.place);
        if (change.sampling === undefined && at?.trace !== this.recorded?.trace) next.sampling = null; // about others
        this.choice = next;
        if (at) this.#compute(at, before.sampling === next.sampling);
        return isOther;
    }

    /** Show the text anew at the next change, though it is the same. */
    forget() {
        this.#path = null;
    }

    /** @returns {Change | null} what takes back the last move to another text; null where there is none */
    undo() {
        return this.#goBack(this.#past, this.#future);
    }

    /** @returns {Change | null} */
    redo() {
        return this.#goBack(this.#future, this.#past);
    }

    /**
     * Take in all texts that there are, in their order, in front of those that are known alone.
     * @param {readonly Branch[]} all
     */
    add(all) {
        const { branches } = this.tree;
        const known = [...branches];
        branches.clear();
        for (const branch of all) branches.set(branch.id, branch);
        for (const [id, branch] of known) branches.set(id, branch);
    }

    /** @returns {Choice & Omit<Shown, "busy" | "isReady" | "canAct">} of a text without steps, `shown` is that of no step */
    get view() {
        const { path } = this;
        const at = path.at(this.choice.place) ?? { trace: path.leaf.trace, index: 0, forcedId: null };
        const { trace, index, forcedId } = at;
        const shown = /** @type {StepNumbers} */ (this.#shown);
        for (const numbers of [shown, this.recorded]) if (numbers) numbers.whole = path.leaf.trace;
        return { ...this.choice, path, other: this.tree.other(path), trace, index, forcedId, shown, textLang: this.#textLang };
    }

    /** @param {Place} at @param {boolean} sameSettings */
    #compute({ trace, index }, sameSettings) {
        const { sampling } = this.choice;
        const isSame = (/** @type {StepNumbers | null} */ numbers) => numbers?.trace === trace && numbers.index === index;
        if (!isSame(this.recorded)) this.recorded = new StepNumbers(trace, index);
        if (!sampling) this.#shown = this.recorded;
        else if (!isSame(this.#shown) || !sameSettings) {
            this.#shown = new StepNumbers(trace, index, sampling, this.recorded);
        }
    }

    /** @param {Spot[]} from @param {Spot[]} to */
    #goBack(from, to) {
        const shown = from.pop();
        if (!shown) return null;
        to.push(this.choice);
        this.forget(); // so that this is no new move
        return { branch: shown.branch, place: shown.place };
    }
}

/**
 * What a text is written in: Japanese as soon as there are kana.
 * @param {Branch} leaf
 */
function languageOf({ trace }) {
    const text = new TextDecoder().decode(trace.textBytes(0, trace.allIds.length));
    return /[\u3040-\u30ff]/.test(text) ? "ja" : null;
}
