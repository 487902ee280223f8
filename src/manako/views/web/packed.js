/** Bytes that an exported page carries: base64 of deflated bytes that were sorted by their place in a group of four. */

const GROUP = 4;

/**
 * @param {string} text
 * @param {number} length of the bytes; what lies behind them is filling
 * @returns {Promise<ArrayBuffer>}
 */
export async function openPacked(text, length) {
    const sorted = await inflate(fromBase64(text));
    const bytes = new Uint8Array(sorted.length);
    const count = sorted.length / GROUP;
    for (let place = 0; place < GROUP; place++) {
        for (let i = 0; i < count; i++) bytes[i * GROUP + place] = sorted[place * count + i];
    }
    return bytes.buffer.slice(0, length);
}

/** @param {string} text */
function fromBase64(text) {
    const letters = atob(text);
    const bytes = new Uint8Array(letters.length);
    for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
    return bytes;
}

/** @param {Uint8Array<ArrayBuffer>} bytes */
async function inflate(bytes) {
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
}
