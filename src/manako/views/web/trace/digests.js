/**
 * Whether every byte of a file is the one that was written.
 *
 * Special here: a header's digest is that of its text as it stands. Until `manako.trace/3` and `manako.tree/1` it was
 * that of the text which Python makes of the parsed header, so for those files that text is made here too.
 */

/** @import {Json} from "./strict-json.js" */
/** @import {FileHeader} from "./file-header.js" */
/** @import {Column} from "./safetensors.js" */
import { damaged } from "./safetensors.js";
import { sha256Plain } from "./sha256.js";

/**
 * False where the browser has no means to tell, as on a page that came over plain HTTP from another machine. Throws
 * TraceError naming what is damaged.
 * @param {{proof: FileHeader, columns: Map<string, Column>}} file a trace, or what is checked as one
 * @returns {Promise<boolean>}
 */
export async function verifyDigests({ proof, columns }) {
    if (globalThis.crypto?.subtle === undefined) return false;
    await verifyHeader(proof);
    const expected = proof.meta.get("columns_sha256");
    if (expected.size !== columns.size) throw damaged("columns_sha256");
    for (const [name, { dtype, shape, data }] of columns) {
        if (expected.get(name) !== (await columnDigest(name, { dtype, shape, data }))) throw damaged(name);
    }
    return true;
}

/** Throws TraceError where a header is not the one that was written. @param {FileHeader} header */
export async function verifyHeader({ meta, text, digest }) {
    const isOlder = meta.has("sha256");
    const found = await sha256Text(isOlder ? pythonJson(new Map([...meta, ["sha256", ""]])) : text);
    if (found !== (isOlder ? meta.get("sha256") : digest)) throw damaged("__metadata__");
}

/** The digest of a column, its name and shape included. @param {string} name @param {Column} column */
export function columnDigest(name, { dtype, shape, data }) {
    const described = new TextEncoder().encode(`${name} ${dtype} [${shape.join(", ")}]\n`);
    const whole = new Uint8Array(described.length + data.byteLength);
    whole.set(described);
    whole.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), described.length);
    return sha256(whole);
}

/** @param {string} text */
export function sha256Text(text) {
    return sha256(new TextEncoder().encode(text));
}

/** @param {Uint8Array<ArrayBuffer>} bytes @returns {Promise<string>} lower-case hex */
export async function sha256(bytes) {
    const { subtle } = globalThis.crypto ?? {};
    const digest = subtle === undefined ? sha256Plain(bytes) : new Uint8Array(await subtle.digest("SHA-256", bytes));
    return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
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
