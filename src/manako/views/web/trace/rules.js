/**
 * Whether a value out of JSON that anyone may have written is what it should be, as `manako.checks` decides it.
 *
 * Special here: a whole number is a BigInt and any other a Number, as strict-json.js reads them.
 */

/** @import {Json} from "./strict-json.js" */
/** @import {Rule} from "./schema.js" */

/** @type {Record<string, (value: any) => boolean>} */
const TYPES = {
    boolean: (value) => typeof value === "boolean",
    string: (value) => typeof value === "string",
    integer: (value) => typeof value === "bigint" && value >> 64n < 1n, // as many bits as a seed has
    number: (value) => TYPES.integer(value) || typeof value === "number",
    array: Array.isArray,
    object: (value) => value instanceof Map,
    null: (value) => value === null,
};
/** @type {Record<string, (value: any, limit: any) => boolean>} */
const LIMITS = {
    minimum: (value, limit) => value >= limit,
    maximum: (value, limit) => value <= limit,
    exclusiveMinimum: (value, limit) => value > limit,
    exclusiveMaximum: (value, limit) => value < limit,
    minItems: (value, limit) => value.length >= limit,
    maxItems: (value, limit) => value.length <= limit,
    uniqueItems: (value) => new Set(value).size === value.length,
    enum: (value, known) => known.includes(value),
    pattern: (value, pattern) => new RegExp(pattern).test(value),
};

/**
 * The name of the first thing in a value that does not fit a rule; null where all of it does.
 * @param {Json} value
 * @param {Rule} rule
 * @param {string} name of the value
 * @returns {string | null}
 */
export function misfit(value, rule, name) {
    if (![rule.type].flat().some((type) => TYPES[type](value))) return name;
    if (value === null) return null;
    if (Array.isArray(value) && rule.items) {
        const found = value.map((item) => misfit(item, rule.items, name)).find((wrong) => wrong !== null);
        if (found !== undefined) return found;
    }
    if (value instanceof Map) {
        const inner = rule.properties ?? Object.fromEntries([...value.keys()].map((key) => [key, rule.additionalProperties]));
        const found = rule.properties || rule.additionalProperties ? misfitIn(value, inner, name) : null;
        if (found !== null) return found;
    }
    return Object.keys(LIMITS).every((word) => !(word in rule) || LIMITS[word](value, rule[word])) ? null : name;
}

/**
 * The same of an object that must have exactly these properties.
 * @param {Map<string, any>} values
 * @param {Record<string, Rule>} properties
 * @param {string} name
 * @returns {string | null}
 */
export function misfitIn(values, properties, name) {
    const names = Object.keys(properties);
    if (values.size !== names.length || !names.every((key) => values.has(key))) return name;
    return names.map((key) => misfit(values.get(key), properties[key], key)).find((wrong) => wrong !== null) ?? null;
}
