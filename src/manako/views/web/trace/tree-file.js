/** A record as a file: one trace, or a tree of them, as `manako.tree_file` reads and writes it. See docs/tree-format.md. */

/** @import {Branch} from "./tree.js" */
import { pythonJson } from "./strict-json.js";
import { TraceError, damaged, isMap, readSafetensors } from "./safetensors.js";
import { readMeta, readTrace, sha256, verifyDigests } from "./trace-file.js";

/** @typedef {{branches: Branch[], current: string, meta: Map<string, any> | null}} RecordFile meta: null of one trace */

const TREE_KEY = "manako.tree";
const TREE_SCHEMA = "manako.tree/1";
const BRANCH_ID = /^[\w-]{1,32}$/;
const MOST_BRANCHES = 10_000;

/**
 * Check all of a file but its digests. Throws TraceError.
 * @param {ArrayBuffer} bytes
 * @returns {RecordFile}
 */
export function readRecord(bytes) {
    const { columns, metadata } = readSafetensors(bytes);
    const text = metadata.get(TREE_KEY);
    if (text === undefined) {
        return { branches: [{ id: "1", parent: null, keep: 0, trace: readTrace(bytes), bytes }], current: "1", meta: null };
    }
    const meta = readMeta(text);
    if (meta.get("schema") !== TREE_SCHEMA) {
        if (!String(meta.get("schema")).startsWith(`${TREE_KEY}/`)) throw damaged("schema");
        throw new TraceError("trace_newer", { found: meta.get("schema"), known: TREE_SCHEMA });
    }
    const listed = meta.get("branches");
    if (meta.size !== 4 || !Array.isArray(listed) || listed.length < 1 || listed.length > MOST_BRANCHES || listed.length !== columns.size) {
        throw damaged("branches");
    }
    /** @type {Map<string, Branch>} */
    const found = new Map();
    for (const each of listed) {
        const [id, parent, keep] = ["id", "parent", "keep"].map((name) => (isMap(each) && each.size === 3 ? each.get(name) : undefined));
        const column = typeof id === "string" && BRANCH_ID.test(id) && !found.has(id) && columns.get(id);
        if (!column || column.dtype !== "uint8" || column.shape.length !== 1 || typeof keep !== "bigint") throw damaged("branches");
        const data = /** @type {Uint8Array} */ (column.data);
        const own = /** @type {ArrayBuffer} */ (data.buffer).slice(data.byteOffset, data.byteOffset + data.length);
        const branch = { id, parent, keep: Number(keep), trace: readBranch(id, own), bytes: own };
        if (!(parent === null ? keep === 0n : typeof parent === "string" && fitsParent(found.get(parent), branch))) throw damaged(`branch ${id}`);
        found.set(id, branch);
    }
    const current = meta.get("current");
    if (!found.has(current)) throw damaged("current");
    return { branches: [...found.values()], current, meta };
}

/**
 * Whether every byte is the one that was written; see `verifyDigests`.
 * @param {RecordFile} record
 */
export async function verifyRecord({ branches, meta }) {
    for (const { trace } of branches) if (!(await verifyDigests(trace))) return false;
    if (meta !== null && meta.get("sha256") !== (await digestOf(meta))) throw damaged("__metadata__");
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
        const isRoot = parent === null || !known.has(parent);
        return new Map(Object.entries({ id, parent: isRoot ? null : parent, keep: isRoot ? 0n : BigInt(keep) }));
    });
    const meta = new Map(Object.entries({ schema: TREE_SCHEMA, branches: listed, current, sha256: "" }));
    meta.set("sha256", await digestOf(meta));
    /** @type {Record<string, object>} */
    const header = Object.assign(Object.create(null), { __metadata__: { [TREE_KEY]: pythonJson(meta) } }); // any id is a name
    let end = 0;
    for (const { id, bytes } of all) header[id] = { dtype: "U8", shape: [bytes.byteLength], data_offsets: [end, (end += bytes.byteLength)] };
    const text = new TextEncoder().encode(JSON.stringify(header));
    const head = new Uint8Array(8 + Math.ceil(text.length / 8) * 8).fill(0x20); // arrays begin at a multiple of 8
    new DataView(head.buffer).setBigUint64(0, BigInt(head.length - 8), true);
    head.set(text, 8);
    return new Blob([head, ...all.map(({ bytes }) => bytes)]).arrayBuffer();
}

/** @param {Map<string, any>} meta */
function digestOf(meta) {
    return sha256(new TextEncoder().encode(pythonJson(new Map([...meta, ["sha256", ""]]))));
}

/**
 * Whether a branch begins with its parent's tokens and counts its steps on from there.
 * @param {Branch | undefined} parent
 * @param {Branch} child
 */
function fitsParent(parent, { keep, trace }) {
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
