/** A record as a file: one trace, or a tree of them, as `manako.trace.tree` reads and writes it. See docs/tree-format.md. */

/** @import {Branch} from "./tree.js" */
/** @import {FileHeader} from "./file-header.js" */
/** @import {Column} from "./safetensors.js" */
import { writeContainer } from "./container.js";
import { verifyDigests, verifyHeader } from "./digests.js";
import { readFileHeader } from "./file-header.js";
import { misfitIn } from "./rules.js";
import { TraceError, damaged, readSafetensors } from "./safetensors.js";
import { TREE, rulesOf } from "./schema.js";
import { readTrace } from "./trace-file.js";

/** @typedef {{branches: Branch[], current: string, proof: FileHeader | null}} RecordFile proof: null of one trace */

/**
 * Check all of a file but its digests. Throws TraceError.
 * @param {ArrayBuffer} bytes
 * @returns {RecordFile}
 */
export function readRecord(bytes) {
    const { columns, metadata } = readSafetensors(bytes);
    if (!metadata.has(TREE.name)) {
        const only = { id: "1", parent: null, keep: 0, trace: readTrace(bytes), bytes };
        return { branches: [only], current: "1", proof: null };
    }
    const proof = readFileHeader(TREE, metadata);
    const wrong = misfitIn(proof.meta, rulesOf(TREE, proof.version), "header");
    if (wrong !== null) throw damaged(wrong);
    const listed = proof.meta.get("branches");
    if (listed.length !== columns.size) throw damaged("branches");
    /** @type {Map<string, Branch>} */
    const found = new Map();
    for (const each of listed) {
        const [id, parent, keep] = ["id", "parent", "keep"].map((name) => each.get(name));
        const column = columns.get(id);
        if (!column || column.dtype !== "uint8" || column.shape.length !== 1 || found.has(id)) throw damaged(`branch ${id}`);
        const data = /** @type {Uint8Array} */ (column.data);
        const own = /** @type {ArrayBuffer} */ (data.buffer).slice(data.byteOffset, data.byteOffset + data.length);
        const branch = { id, parent, keep: Number(keep), trace: readBranch(id, own), bytes: own };
        if (!(parent === null ? keep === 0n : fitsParent(found.get(parent), branch))) throw damaged(`branch ${id}`);
        found.set(id, branch);
    }
    const current = proof.meta.get("current");
    if (!found.has(current)) throw damaged("current");
    return { branches: [...found.values()], current, proof };
}

/**
 * Whether every byte is the one that was written; see `verifyDigests`.
 * @param {RecordFile} record
 */
export async function verifyRecord({ branches, proof }) {
    for (const { trace } of branches) if (!(await verifyDigests(trace))) return false;
    if (proof !== null) await verifyHeader(proof);
    return true;
}

/**
 * The file of a tree.
 * @param {Iterable<Branch>} branches parents in front of their children
 * @param {string} current the branch that is shown
 * @returns {Promise<ArrayBuffer>}
 */
export async function writeTree(branches, current) {
    const all = [...branches];
    const known = new Set(all.map(({ id }) => id));
    const listed = all.map(({ id, parent, keep }) => {
        return known.has(parent ?? "") ? { id, keep, parent } : { id, keep: 0, parent: null };
    });
    const meta = JSON.stringify({ branches: listed, current, schema: `${TREE.name}/${TREE.version}` });
    /** @type {Map<string, Column>} */
    const columns = new Map();
    for (const { id, bytes } of all) columns.set(id, { dtype: "uint8", shape: [bytes.byteLength], data: new Uint8Array(bytes) });
    return writeContainer(TREE, meta, columns);
}

/**
 * Whether a branch begins with its parent's tokens and counts its steps on from there.
 * @param {Branch | undefined} parent
 * @param {Branch} child
 */
export function fitsParent(parent, { keep, trace }) {
    if (parent === undefined || keep < 0 || keep > parent.trace.steps) return false;
    const [ids, before] = [trace.promptIds, parent.trace.promptIds.length + keep];
    const forced = ids.length - before;
    if (forced < 0 || trace.header.first_step !== parent.trace.header.first_step + keep + forced) return false;
    return parent.trace.allIds.subarray(0, before).every((id, i) => id === ids[i]);
}

/**
 * A trace inside a tree: whatever is wrong with it is wrong with its branch.
 * @param {string} id
 * @param {ArrayBuffer} bytes
 */
function readBranch(id, bytes) {
    try {
        return readTrace(bytes);
    } catch (error) {
        if (!(error instanceof TraceError) || error.key === "trace_newer") throw error;
        throw damaged([`branch ${id}`, ...Object.values(error.values)].join(": "));
    }
}
