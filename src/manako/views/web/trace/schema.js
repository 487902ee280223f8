/** The table of what a trace file may hold, which Python reads too; `about` in it says how it is read. */

import SCHEMA from "../../../trace/schema.json" with { type: "json" };

/** @typedef {{dtype: string, axes: (string | number)[], numbers?: string, chosen_first?: boolean, rounded?: boolean, since?: number}} ColumnRule */
/** @typedef {Record<string, ColumnRule>} ColumnRules by name */
/** @typedef {Record<string, any>} Rule in the words of JSON Schema */
/** @typedef {{name: string, version: number, digest: string, header: Record<string, Rule>}} Format */

/** @type {Format} */
export const TRACE = SCHEMA.trace;
/** @type {Format} */
export const TREE = SCHEMA.tree;
/** @type {Format} of the file of a model that a page carries */
export const MODEL = SCHEMA.model;
/** @type {Record<string, string[]>} kind of a trace -> why it can have ended */
export const ENDS = SCHEMA.trace.ends;
/** @type {Record<string, string>} NumPy's name of a type -> the file's */
export const DTYPES = SCHEMA.dtypes;
/** @type {{all: ColumnRules, whole: ColumnRules, part: ColumnRules}} */
export const COLUMNS = SCHEMA.columns;
/** @type {Record<string, ColumnRules>} capture -> its columns */
export const CAPTURES = SCHEMA.captures;
/** @type {Record<string, (number | string)[]>} range of a column -> its ends, both included */
export const NUMBERS = SCHEMA.numbers;
/** @type {Record<string, number | null>} dtype -> the size of its rounding */
const ROUNDING = { __proto__: null, ...SCHEMA.rounding }; // a header may name any type
export const LARGEST_PART = SCHEMA.largest_part;
/** @type {Record<string, {limit: number, units: number, of?: string}>} self-check -> what it allows: see checkLimit */
export const SELF_CHECKS = SCHEMA.self_checks;
/** @type {(Rule & {name: string})[]} of the sampler chain, in the default order */
export const STAGE_RULES = SCHEMA.stages;

/**
 * The rules of a header of some version.
 * @param {Format} format
 * @param {number} version
 */
export function rulesOf({ header, version: newest }, version) {
    return Object.fromEntries(
        Object.entries(header).filter(([, { since = 1, until = newest }]) => since <= version && version <= until),
    );
}

/**
 * The largest error that a self-check allows, as `manako.trace.schema.check_limit` has it; null for an unknown one.
 * @param {string} name
 * @param {string} dtype that the model computed in
 * @param {Record<string, number>} rounded as a header has it
 */
export function checkLimit(name, dtype, rounded) {
    if (!Object.hasOwn(SELF_CHECKS, name)) return null;
    const { limit, units, of = "" } = SELF_CHECKS[name];
    return Math.max(limit, units * (ROUNDING[dtype] ?? 0)) + (rounded[of] ?? 0);
}
