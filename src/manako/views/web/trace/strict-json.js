/**
 * JSON read as strictly as `manako.files.strict_json` reads it.
 *
 * Special here: a whole number comes back as a BigInt, any other as a Number, and an object as a Map. A seed has 64
 * bits, which a Number lacks, and any text may be a key.
 */

/** @typedef {null | boolean | bigint | number | string | Json[] | Map<string, any>} Json */

const DEEPEST_JSON = 64; // objects and arrays inside each other, as in files.py
const MOST_DIGITS = 4300; // of a whole number; Python refuses longer ones
const JSON_TOKEN = /[{}[\]]|"(?:[^"\\]|\\.)*"|[^\s,:{}[\]"]+/g; // what is left out stands between them and says nothing

/** JSON that is well-formed and still not to be believed. */
export class StrictJsonError extends Error {
    /**
     * @param {string} reason
     * @param {boolean} doubled whether a key that occurs twice is the reason
     */
    constructor(reason, doubled = false) {
        super(reason);
        this.doubled = doubled;
    }
}

/**
 * One JSON text. Throws SyntaxError where it is none, StrictJsonError for doubled keys, numbers beyond the largest
 * float, lone surrogates and nesting deeper than DEEPEST_JSON.
 * @param {string} text
 * @returns {Json}
 */
export function parseJson(text) {
    JSON.parse(text); // the browser's own parser finds every fault of syntax; below there is none left
    const tokens = text.matchAll(JSON_TOKEN);
    const next = () => /** @type {RegExpExecArray} */ (tokens.next().value)[0];

    /** @param {string} token @param {number} depth @returns {Json} */
    const value = (token, depth) => {
        if (depth > DEEPEST_JSON) throw new StrictJsonError(`nested deeper than ${DEEPEST_JSON}`);
        if (token === "[") {
            /** @type {Json[]} */
            const list = [];
            for (let item = next(); item !== "]"; item = next()) list.push(value(item, depth + 1));
            return list;
        }
        if (token === "{") {
            const object = new Map();
            for (let key = next(); key !== "}"; key = next()) {
                const name = value(key, depth + 1);
                if (object.has(name)) throw new StrictJsonError("a key occurs twice", true);
                object.set(name, value(next(), depth + 1));
            }
            return object;
        }
        return single(token);
    };

    return value(next(), 1);
}

/**
 * A text, a number, true, false or null.
 * @param {string} token
 * @returns {Json}
 */
function single(token) {
    const value = JSON.parse(token);
    if (typeof value === "string" && !value.isWellFormed()) throw new StrictJsonError("a surrogate stands alone");
    if (typeof value !== "number") return value;
    if (!/[.eE]/.test(token)) {
        if (token.replace("-", "").length > MOST_DIGITS) throw new StrictJsonError("a number of too many digits");
        return BigInt(token);
    }
    if (!Number.isFinite(value)) throw new StrictJsonError(`${token} is too large`);
    return value;
}

/**
 * JSON as plain values: objects instead of Maps, and each whole number as the nearest Number.
 * @param {Json} json
 * @returns {any}
 */
export function plainJson(json) {
    if (typeof json === "bigint") return Number(json);
    if (Array.isArray(json)) return json.map(plainJson);
    if (json instanceof Map) return Object.fromEntries([...json].map(([key, value]) => [key, plainJson(value)]));
    return json;
}
