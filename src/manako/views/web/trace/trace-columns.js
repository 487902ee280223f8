/**
 * Whether the columns of a trace can be: a file's author can make any digest fit, so every type, shape and range is
 * checked before a number is believed, by the table that Python reads too and by the few rules that no table can say.
 */

/** @import {Column} from "./safetensors.js" */
/** @import {ColumnRules} from "./schema.js" */
/** @import {Header} from "./trace-header.js" */
import { damaged } from "./safetensors.js";
import { activeStages } from "./sampling.js";
import { CAPTURES, COLUMNS, LARGEST_PART, NUMBERS } from "./schema.js";

/** @typedef {Map<string, Column>} Columns */

/** @type {Record<string, number>} the largest finite number of a type */
const LARGEST_FINITE = { float64: Number.MAX_VALUE, float32: 2 ** 128 - 2 ** 104 };

/**
 * Throw TraceError for the first column that cannot be.
 * @param {Header} header
 * @param {Columns} columns
 * @param {number} size logits of a row
 * @param {number} version of the format
 */
export function checkColumns(header, columns, size, version) {
    const kept = columns.has("logits") ? "whole" : "part";
    const captured = header.capture.map((capture) => CAPTURES[capture]);
    /** @type {ColumnRules} */
    const table = Object.assign({}, COLUMNS.all, COLUMNS[kept], ...captured);
    for (const [name, { since = 1 }] of Object.entries(table)) {
        if (since > 1 && (since > version || !columns.has(name))) delete table[name]; // of an older record, saved again
    }
    for (const name of columns.keys()) if (!Object.hasOwn(table, name)) throw damaged(name);
    /** @type {Record<string, number>} letter of an axis -> its length */
    const sizes = { V: size, A: activeStages(header.sampling).length, N: header.parts.length };
    if (kept === "whole") sizes.W = size;
    checkShapes(table, columns, sizes);
    checkRanges(header, table, columns, sizes);
    if (header.kind === "score" && !dataOf(columns, "u").every(Number.isNaN)) throw damaged("u"); // it draws nothing
    for (const row of rowsOf(columns, "logits")) if (row.every((logit) => logit === -Infinity)) throw damaged("logits");
    if (sizes.K > Math.min(size, LARGEST_PART)) throw damaged("part_id");
    for (const ids of rowsOf(columns, "part_id")) if (new Set(ids).size < ids.length) throw damaged("part_id");
    if (header.capture.includes("lens")) checkLens(columns);
    checkVocabulary(columns);
    if (header.max_new_tokens < dataOf(columns, "token_id").length) throw damaged("max_new_tokens");
    if (header.first_step > dataOf(columns, "prompt_ids").length) throw damaged("first_step");
}

/**
 * @param {Columns} columns
 * @param {string} name
 * @returns {Column}
 */
export function columnOf(columns, name) {
    const column = columns.get(name);
    if (column === undefined) throw damaged(name);
    return column;
}

/**
 * Each letter of the axes has one length.
 * @param {ColumnRules} table
 * @param {Columns} columns
 * @param {Record<string, number>} sizes those known; the others are taken from the first column that has them
 */
function checkShapes(table, columns, sizes) {
    for (const [name, { dtype, axes }] of Object.entries(table)) {
        const column = columnOf(columns, name);
        const { shape } = column;
        if (column.dtype !== dtype || shape.length !== axes.length || shape.slice(1).includes(0)) throw damaged(name);
        axes.forEach((axis, i) => {
            const [letter, more = "0"] = String(axis).split("+");
            sizes[letter] ??= shape[i] - Number(more);
            if (shape[i] !== (typeof axis === "number" ? axis : sizes[letter] + Number(more))) throw damaged(name);
        });
    }
}

/**
 * Both ends belong to a range; NaN lies in none.
 * @param {Header} header
 * @param {ColumnRules} table
 * @param {Columns} columns
 * @param {Record<string, number>} sizes
 */
function checkRanges(header, table, columns, { V, A }) {
    const last = dataOf(columns, "prompt_ids").length - 1; // token before the first step
    const ends = { "V-1": V - 1, V, "A-1": A - 1, "below 1": 1 - Number.EPSILON / 2, "log2 V": Math.log2(V) + 1e-9, "-inf": -Infinity };
    for (const [name, { dtype, numbers, chosen_first: isChosenFirst }] of Object.entries(table)) {
        if (numbers === undefined || (name === "u" && header.kind === "score")) continue;
        /** @type {Record<string, number>} */
        const named = { ...ends, max: LARGEST_FINITE[dtype], "-max": -LARGEST_FINITE[dtype] };
        const [low, high] = NUMBERS[numbers].map((end) => {
            const number = Number(named[end] ?? end);
            return dtype === "float32" ? Math.fround(number) : number; // as NumPy compares it
        });
        const isMoving = NUMBERS[numbers][1] === "position";
        const { data, shape } = columnOf(columns, name);
        for (let i = 0; i < data.length; i++) {
            if (!(data[i] >= low && data[i] <= (isMoving ? last + i : high))) throw damaged(name);
        }
        const ids = isChosenFirst ? dataOf(columns, "token_id") : [];
        if (!ids.every((id, step) => data[step * shape[1]] === id)) throw damaged(name);
    }
}

/**
 * No logit is larger than the logarithm of the sum that it is part of.
 * @param {Columns} columns
 */
function checkLens(columns) {
    const logsumexp = dataOf(columns, "lens_logsumexp");
    for (const name of ["lens_logit", "lens_tracked_logit"]) {
        const { data, shape } = columnOf(columns, name);
        if (!data.every((logit, i) => logit <= logsumexp[Math.floor(i / shape[2])] + 1e-9)) throw damaged(name);
    }
}

/** @param {Columns} columns */
function checkVocabulary(columns) {
    const [ends, bytes] = [dataOf(columns, "vocab_end"), dataOf(columns, "vocab_bytes")];
    const inOrder = ends.every((end, i) => end >= (i ? ends[i - 1] : 0));
    if (!inOrder || (ends.at(-1) ?? 0) !== bytes.length) throw damaged("vocab_end");
    if (!columns.has("vocab_id")) return;
    const onRecord = idsOnRecord(columns); // an id without its bytes would show as the empty token
    const ids = dataOf(columns, "vocab_id");
    const isAscending = ids.every((id, i) => i === 0 || id > ids[i - 1]);
    if (!isAscending || ids.length !== onRecord.size || !ids.every((id) => onRecord.has(id))) throw damaged("vocab_id");
}

/** Every token that a column names. @param {Columns} columns */
export function idsOnRecord(columns) {
    /** @type {Set<number>} */
    const found = new Set();
    for (const [name, { data }] of columns) {
        if (/^prompt_ids$|(?<!^vocab)_id$/.test(name)) for (const id of data) found.add(id);
    }
    return found;
}

/** @param {Columns} columns @param {string} name */
function dataOf(columns, name) {
    return columnOf(columns, name).data;
}

/**
 * The rows of a column with two axes; none where the file has no such column.
 * @param {Columns} columns
 * @param {string} name
 */
function* rowsOf(columns, name) {
    const { data, shape } = columns.get(name) ?? { data: new Float32Array(), shape: [0, 1] };
    for (let row = 0; row < shape[0]; row++) yield data.subarray(row * shape[1], (row + 1) * shape[1]);
}
