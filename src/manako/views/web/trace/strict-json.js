/**
 * JSON read as strictly as `manako.files.strict_json` reads it, and written as Python writes it.
 *
 * Special here: a whole number comes back as a BigInt, any other as a Number, and an object as a Map. A seed has 64
 * bits, which a Number lacks; and the header's digest is that of Python's text, where 1 and 1.0 are two things.
 */

/** @typedef {null | boolean | bigint | number | string | Json[] | Map<string, any>} Json */

const DEEPEST_JSON = 64; // objects and arrays inside each other, as in files.py
const MOST_DIGITS = 4300; // of a whole number; Python refuses longer ones
const JSON_NUMBER = /-?\d+(\.\d+)?([eE][-+]?\d+)?/y;

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
    let at = 0;

    const skipSpace = () => {
        while (" \t\n\r".includes(text[at])) at++;
    };

    /** @returns {string} */
    const string = () => {
        const start = at++;
        while (text[at] !== '"') at += text[at] === "\\" ? 2 : 1;
        const value = JSON.parse(text.slice(start, ++at));
        if (!value.isWellFormed()) throw new StrictJsonError("a surrogate stands alone");
        return value;
    };

    const number = () => {
        JSON_NUMBER.lastIndex = at;
        const [digits, fraction, exponent] = /** @type {RegExpExecArray} */ (JSON_NUMBER.exec(text));
        at = JSON_NUMBER.lastIndex;
        if (fraction === undefined && exponent === undefined) {
            if (digits.replace("-", "").length > MOST_DIGITS) throw new StrictJsonError("a number of too many digits");
            return BigInt(digits);
        }
        if (!Number.isFinite(Number(digits))) throw new StrictJsonError(`${digits} is too large`);
        return Number(digits);
    };

    /**
     * The members of an object or array, up to its closing bracket.
     * @param {string} close
     * @param {() => void} member
     */
    const members = (close, member) => {
        at++;
        for (skipSpace(); text[at] !== close; skipSpace()) {
            member();
            skipSpace();
            if (text[at] === ",") at++;
            skipSpace();
        }
        at++;
    };

    /** @param {number} depth @returns {Json} */
    const value = (depth) => {
        if (depth > DEEPEST_JSON) throw new StrictJsonError(`nested deeper than ${DEEPEST_JSON}`);
        skipSpace();
        const first = text[at];
        if (first === '"') return string();
        if (first === "{") {
            const object = new Map();
            members("}", () => {
                const key = string();
                if (depth === DEEPEST_JSON) throw new StrictJsonError(`nested deeper than ${DEEPEST_JSON}`);
                if (object.has(key)) throw new StrictJsonError("a key occurs twice", true);
                skipSpace();
                at++; // the colon
                object.set(key, value(depth + 1));
            });
            return object;
        }
        if (first === "[") {
            /** @type {Json[]} */
            const list = [];
            members("]", () => list.push(value(depth + 1)));
            return list;
        }
        for (const [word, constant] of /** @type {const} */ ([["true", true], ["false", false], ["null", null]])) {
            if (text.startsWith(word, at)) {
                at += word.length;
                return constant;
            }
        }
        return number();
    };

    return value(1);
}

/**
 * The text that Python's `json.dumps(..., ensure_ascii=False, sort_keys=True)` makes of it.
 * @param {Json} json
 * @returns {string}
 */
export function pythonJson(json) {
    if (typeof json === "bigint") return json.toString();
    if (typeof json === "number") return pythonFloat(json);
    if (Array.isArray(json)) return `[${json.map(pythonJson).join(", ")}]`;
    if (json instanceof Map) {
        const keys = [...json.keys()].sort(byCodePoint);
        return `{${keys.map((key) => `${JSON.stringify(key)}: ${pythonJson(json.get(key))}`).join(", ")}}`;
    }
    return JSON.stringify(json);
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

/**
 * The shortest digits that give the number back, in Python's form: 1e-05, 1e+16, 1.0.
 * @param {number} number finite
 * @returns {string}
 */
export function pythonFloat(number) {
    const [digits, power] = number.toExponential().split("e");
    const exponent = Number(power);
    if (Object.is(number, -0)) return "-0.0";
    if (exponent < -4 || exponent >= 16) {
        return `${digits}e${exponent < 0 ? "-" : "+"}${String(Math.abs(exponent)).padStart(2, "0")}`;
    }
    const plain = String(number); // of this size JavaScript writes no exponent
    return plain.includes(".") ? plain : `${plain}.0`;
}

/**
 * Python's order of strings; JavaScript's own compares halves of surrogate pairs.
 * @param {string} a
 * @param {string} b
 */
function byCodePoint(a, b) {
    const [left, right] = [[...a], [...b]];
    const place = left.findIndex((ch, i) => ch !== right[i]);
    if (place < 0) return left.length - right.length;
    return place < right.length ? (left[place].codePointAt(0) ?? 0) - (right[place].codePointAt(0) ?? 0) : 1;
}
