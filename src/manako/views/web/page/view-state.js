/**
 * What the page shows: one frozen record that every part draws from, and its short form in the address.
 */

/** @import {Trace} from "../trace/trace-file.js" */
/** @import {Sampling} from "../trace/sampling.js" */
/** @import {StepNumbers} from "../analysis/step-numbers.js" */
/** @import {Lang} from "../text/messages.js" */
/** @import {Path} from "../trace/tree.js" */
/** @typedef {"p_model" | "surprisal" | "rank"} Tint */
/** @typedef {"linear" | "log" | "zoom"} Axis 0 to 100 %, decades, 0 to the largest p shown */
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
 * @property {number | null} layer of the attention, null for all
 * @property {number | null} head in it, null for all
 */
/**
 * @typedef {object} Shown
 * @property {Path} path the text of the branch
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
 * What changes the texts: `token` and `text` are put in, at the selected step or at the end.
 * @typedef {{kind: string, token?: number, text?: string, where?: "here" | "end"}} Act
 */
/** @typedef {Choice & Shown} View */
/** @typedef {Partial<Choice>} Change */

/** @type {readonly Exclude<keyof Sampling, "order">[]} */
export const SETTINGS = [
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
];
export const LONG_LIST = 50;
export const SHORT_LIST = 10;
const TINT_NAMES = ["p_model", "surprisal", "rank"];
const AXES = ["linear", "log", "zoom"];

/**
 * The choice as the fragment of an address; what stands at its usual value is left out.
 * @param {Choice} choice
 * @param {Sampling} recorded
 */
export function toFragment(choice, recorded) {
    const put = new URLSearchParams({ lang: choice.lang, branch: choice.branch, step: String(choice.place + 1), tint: choice.tint });
    if (choice.details) put.set("details", "1");
    if (choice.top !== SHORT_LIST) put.set("top", String(choice.top));
    if (choice.axis !== "linear") put.set("axis", choice.axis);
    if (choice.guess) put.set("guess", String(choice.guess.place + 1)); // a reload must not tell what comes
    if (choice.layer !== null) put.set("layer", String(choice.layer));
    if (choice.head !== null) put.set("head", String(choice.head));
    for (const name of SETTINGS) {
        const value = choice.sampling?.[name];
        if (value !== undefined && value !== recorded[name]) put.set(name, value === null ? "off" : String(value));
    }
    return put.toString();
}

/**
 * The choice that a fragment names; whatever makes no sense in it is passed over.
 * @param {string} fragment without its "#"
 * @param {Choice} usual
 * @param {Sampling} recorded
 * @param {(sampling: Sampling) => boolean} fits whether settings can be computed
 * @returns {Choice}
 */
export function fromFragment(fragment, usual, recorded, fits) {
    const put = new URLSearchParams(fragment);
    const number = (/** @type {string} */ name) => (/^\d{1,9}$/.test(put.get(name) ?? "") ? Number(put.get(name)) : null);
    /** @type {Record<string, number | null>} */
    const changed = {};
    for (const name of SETTINGS) {
        const value = put.get(name);
        if (value !== null) changed[name] = value === "off" ? null : Number.isFinite(Number(value)) ? Number(value) : NaN;
    }
    const sampling = { ...recorded, ...changed };
    const lang = put.get("lang");
    const tint = put.get("tint") ?? "";
    const axis = put.get("axis") ?? "";
    return {
        ...usual,
        lang: lang === "en" || lang === "ja" ? lang : usual.lang,
        branch: put.get("branch") ?? usual.branch,
        place: Math.max(0, (number("step") ?? usual.place + 1) - 1),
        tint: TINT_NAMES.includes(tint) ? /** @type {Tint} */ (tint) : usual.tint,
        details: put.get("details") === "1",
        top: number("top") === LONG_LIST ? LONG_LIST : usual.top,
        axis: AXES.includes(axis) ? /** @type {Axis} */ (axis) : usual.axis,
        sampling: Object.keys(changed).length && fits(sampling) ? sampling : null,
        guess: number("guess") ? { place: Number(number("guess")) - 1, shown: false } : null,
        layer: number("layer"),
        head: number("head"),
    };
}
