/** The header of a trace or a tree: a JSON text among the metadata of the file, and which version of the format it is. */

/** @import {Format} from "./schema.js" */
import { TraceError, damaged } from "./safetensors.js";
import { StrictJsonError, parseJson } from "./strict-json.js";

/**
 * @typedef {object} FileHeader
 * @property {Map<string, any>} meta
 * @property {number} version
 * @property {string} text as it stands in the file
 * @property {string | undefined} digest of that text, where the version has one beside it
 */

/**
 * What stands in it is not checked yet. Throws TraceError.
 * @param {Format} format
 * @param {Map<string, string>} metadata
 * @returns {FileHeader}
 */
export function readFileHeader({ name, version: newest, digest }, metadata) {
    const text = metadata.get(name);
    if (text === undefined) throw new TraceError("not_a_trace");
    const meta = readObject(text);
    const schema = meta.get("schema");
    const version = Array.from({ length: newest }, (_, i) => i + 1).find((each) => schema === `${name}/${each}`);
    if (version === undefined) {
        if (typeof schema !== "string" || !schema.startsWith(`${name}/`)) throw damaged("schema");
        throw new TraceError("trace_newer", { found: schema, known: `${name}/${newest}` });
    }
    return { meta, version, text, digest: metadata.get(digest) };
}

/** @param {string} text @returns {Map<string, any>} */
function readObject(text) {
    try {
        const meta = parseJson(text);
        if (meta instanceof Map) return meta;
    } catch (error) {
        if (!(error instanceof SyntaxError || error instanceof StrictJsonError)) throw error;
        throw new TraceError("json_invalid", { reason: error.message });
    }
    throw new TraceError("json_invalid", { reason: "not an object" });
}
