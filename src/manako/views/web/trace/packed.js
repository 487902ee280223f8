/** Bytes that an exported page carries: base64 of deflated bytes that were sorted by their place in a group of four. */

const GROUP = 4;
const CHUNK = 8192; // arguments of one call

/**
 * @param {string} text
 * @param {number} length of the bytes; what lies behind them is filling
 * @returns {Promise<ArrayBuffer>}
 */
export async function openPacked(text, length) {
    const sorted = await through(fromBase64(text), new DecompressionStream("deflate"));
    const bytes = new Uint8Array(sorted.length);
    const count = sorted.length / GROUP;
    for (let place = 0; place < GROUP; place++) {
        for (let i = 0; i < count; i++) bytes[i * GROUP + place] = sorted[place * count + i];
    }
    return bytes.buffer.slice(0, length);
}

/**
 * The way back, as `manako.views.html.packed` does it.
 * @param {ArrayBuffer} bytes
 */
export async function packRecord(bytes) {
    const given = new Uint8Array(bytes);
    const count = Math.ceil(given.length / GROUP);
    const sorted = new Uint8Array(count * GROUP); // zeros behind the last byte, which no reader looks at
    given.forEach((byte, i) => (sorted[(i % GROUP) * count + Math.floor(i / GROUP)] = byte));
    const small = await through(sorted, new CompressionStream("deflate"));
    const letters = [];
    for (let at = 0; at < small.length; at += CHUNK) letters.push(String.fromCharCode(...small.subarray(at, at + CHUNK)));
    return btoa(letters.join(""));
}

/** @param {string} text */
function fromBase64(text) {
    const letters = atob(text);
    const bytes = new Uint8Array(letters.length);
    for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
    return bytes;
}

/** @param {Uint8Array<ArrayBuffer>} bytes @param {CompressionStream | DecompressionStream} stream */
async function through(bytes, stream) {
    return new Uint8Array(await new Response(new Blob([bytes]).stream().pipeThrough(stream)).arrayBuffer());
}
