/**
 * Whether the columns of a trace can be: a file's author can make any digest fit, so every type, shape and range is
 * checked before a number is believed. The rules are those of `manako.trace_file`.
 *
 * Letters: S steps, V logits of a row, K candidates on record, L layers, T tracked tokens.
 */

import { damaged } from "./safetensors.js";
import { activeStages } from "./sampling.js";

/** @typedef {import("./safetensors.js").Column} Column */
/** @typedef {import("./trace-header.js").Header} Header */
/** @typedef {Map<string, Column>} Columns */
/** @typedef {Map<string, [dtype: string, shape: number[]]>} Shapes */

const SHARE = 1 + 1e-9; // a sum of probabilities may round above 1
const WEIGHT = Math.fround(1 + 1e-5); // so may a row of attention; NumPy compares it as float32
const FLOAT32_MAX = 2 ** 128 - 2 ** 104;
const PART = 256; // candidates that are kept of a step at most, where whole rows are not
/** @type {Record<string, [dtype: string, dimensions: number]>} */
const PART_COLUMNS = {
    part_id: ["int32", 2],
    part_logit: ["float32", 2],
    part_p: ["float64", 2],
    part_p_model: ["float64", 2],
    part_cut_by: ["int8", 2],
    logsumexp: ["float64", 1],
    rest_p: ["float64", 1],
    rest_p_model: ["float64", 1],
    rest_logit_max: ["float32", 1],
    entropy: ["float64", 1],
    stage_kept: ["int32", 2],
    stage_removed_mass: ["float64", 2],
    chosen_logit: ["float32", 1],
};
/** @type {Record<string, Record<string, [dtype: string, dimensions: number]>>} */
const CAPTURE_COLUMNS = {
    attention: { attention: ["float32", 1], attention_shape: ["int32", 1] },
    lens: {
        lens_id: ["int32", 3],
        lens_logit: ["float32", 3],
        lens_logsumexp: ["float64", 2],
        lens_tracked_id: ["int32", 2],
        lens_tracked_logit: ["float32", 3],
        lens_tracked_rank: ["int32", 3],
    },
    contributions: { contribution_id: ["int32", 2], contribution: ["float32", 3] },
    residual: { residual: ["float32", 3] },
};

/**
 * Throw TraceError for the first column that cannot be.
 * @param {Header} header
 * @param {Columns} columns
 * @param {number} size V
 */
export function checkColumns(header, columns, size) {
    checkShapes(header, columns, size);
    checkRanges(header, columns, size);
    if (!columns.has("logits")) checkPart(header, columns, size);
    for (const capture of header.capture) checkCapture(capture, columns, size);
    if (header.capture.includes("lens")) checkLens(columns);
    checkVocabulary(columns);
    if (header.max_new_tokens < lengthOf(columns, "token_id")) throw damaged("max_new_tokens");
    if (header.first_step > lengthOf(columns, "prompt_ids")) throw damaged("first_step");
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
 * @param {Header} header
 * @param {Columns} columns
 * @param {number} size
 */
function checkShapes(header, columns, size) {
    const steps = lengthOf(columns, "token_id");
    const isPartial = !columns.has("logits");
    /** @type {Shapes} */
    const shapes = new Map([
        ["token_id", ["int32", [steps]]],
        ["u", ["float64", [steps]]],
        ["window_start", ["int32", [steps]]],
        ["p", ["float64", [steps]]],
        ["p_model", ["float64", [steps]]],
        ["rank", ["int32", [steps]]],
        ["prompt_ids", ["int32", [lengthOf(columns, "prompt_ids")]]],
        ["vocab_bytes", ["uint8", [lengthOf(columns, "vocab_bytes")]]],
        ["vocab_end", ["int32", [isPartial ? lengthOf(columns, "vocab_id") : size]]],
    ]);
    if (isPartial) {
        const [width, stages] = [sideOf(columns, "part_id", 1), activeStages(header.sampling).length];
        for (const [name, [dtype, dimensions]] of Object.entries(PART_COLUMNS)) {
            shapes.set(name, [dtype, [steps, name.startsWith("stage_") ? stages : width].slice(0, dimensions)]);
        }
        shapes.set("vocab_id", ["int32", [lengthOf(columns, "vocab_id")]]);
    } else {
        shapes.set("logits", ["float32", [steps, size]]);
    }
    for (const capture of header.capture) addCaptureShapes(capture, columns, steps, header.parts.length, shapes);
    for (const name of columns.keys()) if (!shapes.has(name)) throw damaged(name);
    for (const [name, [dtype, shape]] of shapes) {
        const column = columnOf(columns, name);
        const same = column.shape.length === shape.length && shape.every((side, i) => side === column.shape[i]);
        if (column.dtype !== dtype || !same) throw damaged(name);
    }
}

/**
 * Layers, candidates and width are taken from one of the columns; the others must fit it.
 * @param {string} capture
 * @param {Columns} columns
 * @param {number} steps
 * @param {number} parts
 * @param {Shapes} shapes
 */
function addCaptureShapes(capture, columns, steps, parts, shapes) {
    const wanted = CAPTURE_COLUMNS[capture];
    for (const [name, [, dimensions]] of Object.entries(wanted)) {
        if (columnOf(columns, name).shape.length !== dimensions) throw damaged(name);
    }
    /** @type {Record<string, number[]>} */
    let found;
    if (capture === "attention") {
        found = { attention: columnOf(columns, "attention").shape, attention_shape: [3] };
    } else if (capture === "lens") {
        const [, layers, top] = columnOf(columns, "lens_id").shape;
        found = { lens_id: [steps, layers, top], lens_logit: [steps, layers, top], lens_logsumexp: [steps, layers] };
        found.lens_tracked_id = [steps, layers + 1];
        found.lens_tracked_logit = found.lens_tracked_rank = [steps, layers, layers + 1];
    } else if (capture === "contributions") {
        const [, tokens] = columnOf(columns, "contribution_id").shape;
        found = { contribution_id: [steps, tokens], contribution: [steps, parts, tokens] };
    } else {
        const [, layers, width] = columnOf(columns, "residual").shape;
        found = { residual: [steps, layers, width] };
    }
    for (const [name, shape] of Object.entries(found)) {
        if (shape.slice(1).includes(0)) throw damaged(name); // nothing in it
        shapes.set(name, [wanted[name][0], shape]);
    }
}

/**
 * @param {Header} header
 * @param {Columns} columns
 * @param {number} size
 */
function checkRanges(header, columns, size) {
    const prompt = lengthOf(columns, "prompt_ids");
    checkRange(columns, "token_id", 0, size - 1);
    checkRange(columns, "prompt_ids", 0, size - 1);
    checkRange(columns, "rank", 1, size);
    checkRange(columns, "window_start", 0, (i) => prompt + i);
    checkRange(columns, "p", 0, SHARE);
    checkRange(columns, "p_model", 0, SHARE);
    if (header.kind === "generation") checkRange(columns, "u", 0, 1 - Number.EPSILON / 2);
    else if (!dataOf(columns, "u").every(Number.isNaN)) throw damaged("u"); // a score draws nothing
    if (!columns.has("logits")) return;
    checkRange(columns, "logits", -Infinity, FLOAT32_MAX);
    const logits = dataOf(columns, "logits");
    for (let row = 0; row < logits.length; row += size) {
        if (logits.subarray(row, row + size).every((value) => value === -Infinity)) throw damaged("logits");
    }
}

/**
 * @param {Header} header
 * @param {Columns} columns
 * @param {number} size
 */
function checkPart(header, columns, size) {
    for (const name of ["part_logit", "rest_logit_max", "chosen_logit"]) {
        checkRange(columns, name, -Infinity, FLOAT32_MAX);
    }
    for (const name of ["part_p", "part_p_model", "rest_p", "rest_p_model", "stage_removed_mass"]) {
        checkRange(columns, name, 0, SHARE);
    }
    checkRange(columns, "part_id", 0, size - 1);
    checkRange(columns, "part_cut_by", -1, activeStages(header.sampling).length - 1);
    checkRange(columns, "logsumexp", -Number.MAX_VALUE, Number.MAX_VALUE);
    checkRange(columns, "entropy", 0, Math.log2(size) + 1e-9);
    checkRange(columns, "stage_kept", 1, size);
    const [ids, width] = [dataOf(columns, "part_id"), sideOf(columns, "part_id", 1)];
    if (width < 1 || width > Math.min(size, PART)) throw damaged("part_id"); // more candidates than can be
    for (let row = 0; row < ids.length; row += width) {
        if (new Set(ids.subarray(row, row + width)).size < width) throw damaged("part_id"); // an id occurs twice
    }
}

/**
 * Finite numbers; ids and ranks within the vocabulary; the taken token first.
 * @param {string} capture
 * @param {Columns} columns
 * @param {number} size
 */
function checkCapture(capture, columns, size) {
    for (const [name, [dtype]] of Object.entries(CAPTURE_COLUMNS[capture])) {
        if (name.endsWith("_id")) checkRange(columns, name, 0, size - 1);
        else if (name.endsWith("_rank")) checkRange(columns, name, 1, size);
        else if (name === "attention") checkRange(columns, name, 0, WEIGHT);
        else {
            const largest = dtype === "float64" ? Number.MAX_VALUE : FLOAT32_MAX;
            checkRange(columns, name, -largest, largest);
        }
    }
    const first = { lens: "lens_tracked_id", contributions: "contribution_id" }[capture];
    if (first === undefined) return;
    const [taken, ids, width] = [dataOf(columns, "token_id"), dataOf(columns, first), sideOf(columns, first, 1)];
    if (!taken.every((id, step) => ids[step * width] === id)) throw damaged(first);
}

/**
 * No logit is larger than the logarithm of the sum that it is part of.
 * @param {Columns} columns
 */
function checkLens(columns) {
    const logsumexp = dataOf(columns, "lens_logsumexp");
    for (const name of ["lens_logit", "lens_tracked_logit"]) {
        const width = sideOf(columns, name, 2);
        checkRange(columns, name, -FLOAT32_MAX, (i) => logsumexp[Math.floor(i / width)] + 1e-9);
    }
}

/** @param {Columns} columns */
function checkVocabulary(columns) {
    const [ends, bytes] = [dataOf(columns, "vocab_end"), dataOf(columns, "vocab_bytes")];
    const inOrder = ends.every((end, i) => end >= (i ? ends[i - 1] : 0));
    if (!inOrder || (ends.at(-1) ?? 0) !== bytes.length) throw damaged("vocab_end");
    if (!columns.has("vocab_id")) return;
    const onRecord = new Set(); // an id without its bytes would show as the empty token
    for (const [name, { data }] of columns) {
        const hasIds = name === "prompt_ids" || (name.endsWith("_id") && name !== "vocab_id");
        for (const id of hasIds ? data : []) onRecord.add(id);
    }
    const ids = dataOf(columns, "vocab_id");
    const isAscending = ids.every((id, i) => i === 0 || id > ids[i - 1]);
    if (!isAscending || ids.length !== onRecord.size || !ids.every((id) => onRecord.has(id))) throw damaged("vocab_id");
}

/**
 * Both borders belong to the range; NaN lies in none.
 * @param {Columns} columns
 * @param {string} name
 * @param {number} low
 * @param {number | ((i: number) => number)} high
 */
function checkRange(columns, name, low, high) {
    const data = dataOf(columns, name);
    for (let i = 0; i < data.length; i++) {
        if (!(data[i] >= low && data[i] <= (typeof high === "number" ? high : high(i)))) throw damaged(name);
    }
}

/** @param {Columns} columns @param {string} name */
function dataOf(columns, name) {
    return columnOf(columns, name).data;
}

/** @param {Columns} columns @param {string} name @returns {number} */
function lengthOf(columns, name) {
    return sideOf(columns, name, 0);
}

/** @param {Columns} columns @param {string} name @param {number} axis @returns {number} */
function sideOf(columns, name, axis) {
    return columnOf(columns, name).shape[axis];
}
