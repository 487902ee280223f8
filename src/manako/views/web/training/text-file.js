/**
 * The text in a file that a reader chose: UTF-8, UTF-16 with its mark, Shift_JIS or EUC-JP, strictly; a text in another
 * encoding would be trained on as garbage that nobody notices.
 */

const ENCODINGS = ["utf-8", "shift_jis", "euc-jp"]; // in the order of `manako.corpus.encodings`
const MARKS = /** @type {const} */ ([["utf-16le", 0xff, 0xfe], ["utf-16be", 0xfe, 0xff]]);
const CONTROL = /[\0-\x08\x0e-\x1f]/; // in no text

/**
 * Null where it is none.
 * @param {ArrayBuffer} bytes
 * @returns {string | null}
 */
export function textOf(bytes) {
    const [first, second] = new Uint8Array(bytes, 0, Math.min(2, bytes.byteLength));
    const marked = MARKS.find(([, a, b]) => a === first && b === second);
    for (const encoding of marked ? [marked[0]] : ENCODINGS) {
        try {
            const text = new TextDecoder(encoding, { fatal: true }).decode(bytes);
            return CONTROL.test(text) ? null : text;
        } catch (error) {
            if (!(error instanceof TypeError)) throw error;
        }
    }
    return null;
}
