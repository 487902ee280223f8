/** A file of safetensors with one JSON header and its digest, written as `manako.trace.file.container` writes it. */

/** @import {Format} from "./schema.js" */
/** @import {Column} from "./safetensors.js" */
/** @import {Json} from "./strict-json.js" */
import { columnDigest, pythonJson, sha256Text } from "./digests.js";
import { DTYPES, TRACE } from "./schema.js";

/**
 * The file of a trace, as `manako.trace.file.to_bytes` writes it.
 * @param {Map<string, Json>} meta but for the digests of the columns
 * @param {Map<string, Column>} columns in any order
 */
export async function writeTrace(meta, columns) {
    const width = (/** @type {Column} */ { data }) => data.BYTES_PER_ELEMENT;
    const inOrder = [...columns].sort(([a, one], [b, other]) => width(other) - width(one) || (a < b ? -1 : 1));
    const digests = await Promise.all(inOrder.map(async ([name, each]) => /** @type {const} */ ([name, await columnDigest(name, each)])));
    return writeContainer(TRACE, pythonJson(new Map([...meta, ["columns_sha256", new Map(digests)]])), new Map(inOrder));
}

/**
 * @param {Format} format
 * @param {string} meta the text of the header
 * @param {Map<string, Column>} columns in the order of the file; the widest numbers first, so that all are aligned
 * @returns {Promise<ArrayBuffer>}
 */
export async function writeContainer({ name, digest }, meta, columns) {
    /** @type {Record<string, object>} */
    const header = Object.assign(Object.create(null), { __metadata__: { [name]: meta, [digest]: await sha256Text(meta) } }); // any id is a name
    let end = 0;
    for (const [each, { dtype, shape, data }] of columns) {
        header[each] = { dtype: DTYPES[dtype], shape, data_offsets: [end, (end += data.byteLength)] };
    }
    const text = new TextEncoder().encode(JSON.stringify(header));
    const head = new Uint8Array(8 + Math.ceil(text.length / 8) * 8).fill(0x20); // arrays begin at a multiple of 8
    new DataView(head.buffer).setBigUint64(0, BigInt(head.length - 8), true);
    head.set(text, 8);
    const whole = new Uint8Array(head.length + end);
    whole.set(head);
    let at = head.length;
    for (const { data } of columns.values()) {
        whole.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), at);
        at += data.byteLength;
    }
    return whole.buffer;
}
