/**
 * The arrays of a safetensors file, with the same verdict as the library that Python reads them with.
 *
 * Special here: arrays are views into the file's own bytes, never copies, where the bytes are aligned. An array of a
 * type that no trace has is handed on as bytes, since a newer trace may have it, and that is what must be said then.
 */

import { DTYPES } from "./schema.js";
import { StrictJsonError, parseJson } from "./strict-json.js";

/** @typedef {Float64Array | Float32Array | Int32Array | Int8Array | Uint8Array} ColumnData */
/**
 * @typedef {object} Column
 * @property {string} dtype as NumPy names it; as the file does where no trace has it
 * @property {number[]} shape
 * @property {ColumnData} data
 */

/** A file that is no trace, or not a whole one; `error.<key>` of the catalog says what to do, with `file` added. */
export class TraceError extends Error {
    /**
     * @param {"not_a_trace" | "trace_damaged" | "trace_newer" | "json_invalid"} key
     * @param {Record<string, string>} [values]
     */
    constructor(key, values = {}) {
        super(`${key} ${Object.values(values).join(" ")}`);
        this.key = key;
        this.values = values;
    }
}

const LARGEST_HEADER = 100_000_000; // bytes; the library reads no longer one
export const VIEWS = { float64: Float64Array, float32: Float32Array, int32: Int32Array, int8: Int8Array, uint8: Uint8Array };
const COLUMN_TYPES = new Map(
    Object.entries(VIEWS).map(([dtype, View]) => /** @type {const} */ ([DTYPES[dtype], { dtype, View }])),
);
/** @type {Record<number, string[]>} bits of one number -> all other types that the library knows */
const OTHER_TYPES = {
    4: ["F4"],
    6: ["F6_E2M3", "F6_E3M2"],
    8: ["BOOL", "F8_E5M2", "F8_E4M3", "F8_E8M0"],
    16: ["I16", "U16", "F16", "BF16"],
    32: ["U32"],
    64: ["I64", "U64", "C64"],
};

/**
 * @param {string} part what does not match
 * @returns {TraceError}
 */
export function damaged(part) {
    return new TraceError("trace_damaged", { part });
}

/**
 * The arrays and the metadata of a file. Throws TraceError.
 * @param {ArrayBuffer} bytes
 * @returns {{columns: Map<string, Column>, metadata: Map<string, string>}}
 */
export function readSafetensors(bytes) {
    const start = new Uint8Array(bytes, 0, Math.min(9, bytes.byteLength));
    if (start.length === 9 && start[8] !== 0x7b) throw new TraceError("not_a_trace"); // the first byte of JSON is "{"
    if (start.length < 9) throw damaged("the first 9 bytes");
    const size = Number(new DataView(bytes).getBigUint64(0, true));
    if (size > bytes.byteLength - 8) throw damaged("the first 9 bytes");
    if (size > LARGEST_HEADER) throw damaged("header");
    const outer = readOuter(new Uint8Array(bytes, 8, size));
    const metadata = outer.get("__metadata__") ?? new Map();
    if (!(metadata instanceof Map) || ![...metadata.values()].every((value) => typeof value === "string")) {
        throw damaged("__metadata__");
    }
    outer.delete("__metadata__");
    return { columns: readColumns(bytes, 8 + size, outer), metadata };
}

/**
 * UTF-8 as text, a byte order mark included. Throws TypeError for bytes that are none.
 * @param {Uint8Array} bytes
 */
function decodeStrictly(bytes) {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
}

/**
 * @param {Uint8Array} bytes
 * @returns {Map<string, any>}
 */
function readOuter(bytes) {
    try {
        const outer = parseJson(decodeStrictly(bytes));
        if (outer instanceof Map) return outer;
    } catch (error) {
        // The library takes the last of two tensors of one name; it is Python's JSON that refuses them.
        const isStrict = error instanceof StrictJsonError;
        if (isStrict && error.doubled) throw new TraceError("json_invalid", { reason: error.message });
        if (!(isStrict || error instanceof SyntaxError || error instanceof TypeError)) throw error;
    }
    throw damaged("header");
}

/**
 * Every byte behind the header belongs to one array, in the order of their offsets.
 * @param {ArrayBuffer} bytes
 * @param {number} first where the arrays begin
 * @param {Map<string, any>} tensors
 */
function readColumns(bytes, first, tensors) {
    const found = [...tensors].map(([name, info]) => describeTensor(name, info));
    found.sort((a, b) => a.begin - b.begin || a.end - b.end);
    /** @type {Map<string, Column>} */
    const columns = new Map();
    let at = 0;
    for (const { name, dtype, View, bits, shape, begin, end } of found) {
        const length = shape.reduce((product, side) => product * side, 1);
        if (begin !== at || (end - begin) * 8 !== length * bits || first + end > bytes.byteLength) throw damaged(name);
        const offset = first + begin;
        const isAligned = offset % View.BYTES_PER_ELEMENT === 0;
        const data = isAligned
            ? new View(bytes, offset, (end - begin) / View.BYTES_PER_ELEMENT)
            : new View(bytes.slice(offset, first + end));
        columns.set(name, { dtype, shape, data });
        at = end;
    }
    if (first + at !== bytes.byteLength) throw damaged("length");
    return columns;
}

/**
 * @param {string} name
 * @param {unknown} info
 */
function describeTensor(name, info) {
    if (!(info instanceof Map)) throw damaged(name);
    const dtype = info.get("dtype");
    const known = COLUMN_TYPES.get(dtype) ?? { dtype, View: Uint8Array };
    const other = Object.keys(OTHER_TYPES).find((bits) => OTHER_TYPES[Number(bits)].includes(dtype));
    const bits = COLUMN_TYPES.has(dtype) ? 8 * known.View.BYTES_PER_ELEMENT : Number(other ?? 0);
    const [shape, offsets] = [info.get("shape"), info.get("data_offsets")].map((numbers) => {
        if (!Array.isArray(numbers)) throw damaged(name);
        return numbers.map((n) => (typeof n === "bigint" ? Number(n) : -1));
    });
    const isSound = [...shape, ...offsets].every((n) => n >= 0 && Number.isSafeInteger(n)) && offsets.length === 2;
    if (bits === 0 || !isSound) throw damaged(name);
    return { ...known, name, bits, shape, begin: offsets[0], end: offsets[1] };
}
