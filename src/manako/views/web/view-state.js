/**
 * What the page shows: one frozen record that every part draws from, and its short form in the address.
 */

/** @import {Trace} from "./trace-file.js" */
/** @import {Sampling} from "./sampling.js" */
/** @import {StepNumbers} from "./step-numbers.js" */
/** @import {Lang} from "./messages.js" */
/** @typedef {"p_model" | "surprisal" | "rank"} Tint */
/**
 * What the reader chose.
 * @typedef {object} Choice
 * @property {Lang} lang
 * @property {number} index the step, from 0
 * @property {Tint} tint
 * @property {boolean} details whether ids and bytes are shown
 * @property {number} top candidates in the list
 * @property {Sampling | null} sampling settings that differ from the recorded ones, null for those
 * @property {readonly number[]} temperatures those side by side
 * @property {number | null} layer of the attention, null for all
 * @property {number | null} head in it, null for all
 */
/** @typedef {Choice & {trace: Trace, shown: StepNumbers, textLang: "ja" | null}} View */
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

/**
 * The choice as the fragment of an address; what stands at its usual value is left out.
 * @param {Choice} choice
 * @param {Sampling} recorded
 */
export function toFragment(choice, recorded) {
    const put = new URLSearchParams({ lang: choice.lang, step: String(choice.index + 1), tint: choice.tint });
    if (choice.details) put.set("details", "1");
    if (choice.top !== SHORT_LIST) put.set("top", String(choice.top));
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
        if (value !== null) changed[name] = value === "off" ? null : Number(value);
    }
    const sampling = { ...recorded, ...changed };
    const lang = put.get("lang");
    const tint = put.get("tint") ?? "";
    return {
        ...usual,
        lang: lang === "en" || lang === "ja" ? lang : usual.lang,
        index: Math.max(0, (number("step") ?? usual.index + 1) - 1),
        tint: TINT_NAMES.includes(tint) ? /** @type {Tint} */ (tint) : usual.tint,
        details: put.get("details") === "1",
        top: number("top") === LONG_LIST ? LONG_LIST : usual.top,
        sampling: Object.keys(changed).length && fits(sampling) ? sampling : null,
        layer: number("layer"),
        head: number("head"),
    };
}
