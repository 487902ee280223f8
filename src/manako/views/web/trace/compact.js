/**
 * A smaller copy of a record, for what is passed on, as `manako.analysis.compact` makes it: the first candidates of each
 * step with their exact numbers and the exact sum of the others, attention in 16 bits, no residual stream.
 *
 * Special here: a record of an older version, and what is a part of a row already, stay as they are.
 */

/** @import {Column} from "./safetensors.js" */
/** @import {Trace} from "./trace-file.js" */
import { writeTrace } from "./container.js";
import { activeStages, distribution } from "./sampling.js";
import { VIEWS } from "./safetensors.js";
import { CAPTURES, COLUMNS, TRACE, checkLimit } from "./schema.js";
import { idsOnRecord } from "./trace-columns.js";

const KEPT = 128; // candidates of a step, as many as Python keeps
const BFLOAT16 = 2 ** -8; // half a unit in the last of bfloat16's 8 binary digits
const NORMAL = 2 ** -126; // below it numbers have fewer digits, and would be off by more
const LEFT_OUT = "residual";

/**
 * The file of the smaller copy; what is not made smaller comes back as it is.
 * @param {Trace} trace
 * @param {ArrayBuffer} bytes of its file
 */
export async function compact(trace, bytes) {
    const { header, proof, vocabSize, exact } = trace;
    if (proof.version < TRACE.version || (!exact && header.capture.length === 0)) return bytes;
    const [meta, columns] = [new Map(proof.meta), new Map(trace.columns)];
    for (const name in CAPTURES[LEFT_OUT]) columns.delete(name);
    meta.set("capture", header.capture.filter((name) => name !== LEFT_OUT));
    const attention = columns.get("attention");
    const isTrue = header.self_checks.every(({ ok }) => ok); // the limit that rounding widens could hide what had failed
    if (attention && isTrue && !header.rounded.attention) { // rounded twice, it would be off by more
        const shares = inBfloat16(/** @type {Float32Array} */ (attention.data));
        columns.set("attention", { ...attention, data: shares });
        const rounded = { attention: BFLOAT16 };
        meta.set("rounded", new Map(Object.entries(rounded)));
        const now = trace.attentionError(shares);
        const checks = header.self_checks.map(({ name, error: before, limit: known }) => {
            const error = name === "attention_rows_sum_to_1" ? Math.max(before, now) : before;
            return new Map(Object.entries({ name, error, limit: checkLimit(name, header.model.dtype, rounded) ?? known }));
        });
        meta.set("self_checks", checks);
    }
    if (exact && vocabSize > KEPT) {
        columns.delete("logits");
        for (const [name, column] of partOf(trace)) columns.set(name, column);
        for (const [name, column] of spelledIds(trace, columns)) columns.set(name, column);
    }
    return writeTrace(meta, columns);
}

/** To the nearest, and to the even one of two. @param {Float32Array} shares of at least 0 */
function inBfloat16(shares) {
    const bits = new Uint32Array(shares.slice().buffer);
    for (let i = 0; i < bits.length; i++) if (shares[i] >= NORMAL) bits[i] = (bits[i] + 0x7fff + ((bits[i] >>> 16) & 1)) & 0xffff0000;
    return new Float32Array(bits.buffer);
}

/** The columns of parts. @param {Trace} trace @returns {Iterable<[string, Column]>} */
function partOf(trace) {
    /** @type {Record<string, number[]>} */
    const found = {};
    const sizes = { S: trace.steps, K: KEPT, A: activeStages(trace.header.sampling).length, W: 0 };
    for (const name in COLUMNS.part) found[name] = [];
    for (let i = 0; i < trace.steps; i++) {
        const row = /** @type {Float32Array} */ (trace.logitsRow(i));
        const d = distribution(row, trace.header.sampling, trace.history(i));
        const ids = d.order(KEPT);
        const [rest, shown] = [d.other(ids), new Set(ids)];
        const best = row.reduce((found, logit, id) => (logit > row[found] ? id : found), 0);
        const of = (/** @type {ArrayLike<number>} */ numbers) => Array.from(ids, (id) => numbers[id]);
        const made = {
            part_id: [...ids],
            part_logit: of(row),
            part_p: of(d.p),
            part_p_model: of(d.pModel),
            part_cut_by: of(d.cutBy),
            logsumexp: [row[best] - Math.log(d.pModel[best])],
            rest_p: [rest.p],
            rest_p_model: [rest.pModel],
            rest_logit_max: [row.reduce((most, logit, id) => (logit > most && !shown.has(id) ? logit : most), -Infinity)],
            entropy: [d.entropy],
            stage_kept: d.stages.map(({ kept }) => kept),
            stage_removed_mass: d.stages.map(({ removedMass }) => removedMass),
            chosen_logit: [row[trace.tokenIds[i]]],
        };
        for (const [name, numbers] of Object.entries(made)) found[name].push(...numbers);
    }
    return Object.entries(found).map(([name, numbers]) => {
        const { dtype, axes } = COLUMNS.part[name];
        const shape = axes.map((axis) => sizes[/** @type {keyof typeof sizes} */ (axis)]);
        return [name, { dtype, shape, data: VIEWS[/** @type {keyof typeof VIEWS} */ (dtype)].from(numbers) }];
    });
}

/** The tokens that are still on record. @param {Trace} trace @param {Map<string, Column>} columns @returns {Iterable<[string, Column]>} */
function spelledIds(trace, columns) {
    const ids = Int32Array.from(idsOnRecord(columns)).sort();
    let end = 0;
    const ends = Int32Array.from(ids, (id) => (end += trace.tokenBytes(id).length));
    const bytes = new Uint8Array(end);
    ids.forEach((id, i) => bytes.set(trace.tokenBytes(id), i ? ends[i - 1] : 0));
    const made = Object.entries({ vocab_id: ids, vocab_end: ends, vocab_bytes: bytes });
    return made.map(([name, data]) => [name, { dtype: COLUMNS.all[name]?.dtype ?? "int32", shape: [data.length], data }]);
}
