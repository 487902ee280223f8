/**
 * A token as the page shows it: in a list, in a sentence, and in the running text.
 *
 * Special here: what is spelled out looks different from text that reads the same, so a token that holds the letters
 * "<|endoftext|>" is never taken for the special one. In the running text spaces stay spaces; one
 * that is a token is a pale sign, since in a text of letters every sixth token is one.
 */

/** @import {View} from "./view.js" */
/** @import {Trace} from "../trace/trace-file.js" */
import { make } from "./dom.js";
import { say } from "../text/messages.js";
import { hex, label, pendingBytes, pieces } from "../text/tokens.js";

const SPACE_SIGN = "\u2423";
const [LINE_END, SPACE] = [10, 32];
const WIDE_SPACE = "\u2039U+3000\u203a";
const LONGEST_CHARACTER = 4; // bytes, and so tokens
/** @typedef {{bytes: Uint8Array, special: boolean}} Token */

/**
 * A token in a sentence.
 * @param {View} view
 * @param {Token} token
 * @param {Uint8Array} [pending] bytes of an unfinished character before it
 */
export function tokenText({ lang }, token, pending) {
    const { kind, text, key } = label(token.bytes, token.special, pending);
    if (key === null) return text;
    return kind === "named" ? `${text} ${say(lang, key)}` : say(lang, key, { text });
}

/**
 * A token in a list.
 * @param {View} view
 * @param {Token} token
 * @param {Uint8Array} [pending]
 */
export function tokenChip(view, token, pending) {
    const { kind, text } = label(token.bytes, token.special, pending);
    if (kind === "text") return make("span", { class: "token", lang: view.textLang }, ...pieces(token.bytes).map(pieceSpan));
    return make("span", { class: kind === "special" ? "special" : "odd" }, kind === "special" ? text : tokenText(view, token, pending));
}

/**
 * A token of a trace in the running text.
 * @param {View} view
 * @param {number} position in the whole text
 */
export function ribbonToken(view, position) {
    const { trace } = view;
    const id = trace.allIds[position];
    return runningToken(view, trace.token(id), characterAt(trace, position));
}

/**
 * A token in the running text.
 * @param {View} view
 * @param {Token} token
 * @param {string | null} [part] the character that it is a part of
 */
export function runningToken(view, { bytes, special }, part = null) {
    if (special) return make("span", { class: "token" }, make("span", { class: "special" }, ...pieces(bytes).map(pieceSpan)));
    if (bytes.length === 0) return make("span", { class: "token" }, make("span", { class: "odd" }, say(view.lang, "token.empty")));
    const shown = pieces(bytes);
    const hasText = shown.some((piece) => piece.kind === "text");
    const spans = shown.map((piece) => {
        const spaces = piece.text.replaceAll(WIDE_SPACE, "\u3000");
        const text = hasText ? spaces.replaceAll(SPACE_SIGN, " ") : spaces;
        return piece.kind === "text" || /^[ \u3000\u23ce]*$|^\u2423$/.test(text) ? text : pieceSpan(piece);
    });
    const name = hasText ? null : tokenText(view, { bytes, special: false });
    const isSpace = bytes.length === 1 && bytes[0] === SPACE;
    const attributes = { class: hasText ? "token" : isSpace ? "token space" : "token blank", title: part ?? name };
    return make("span", { ...attributes, "data-ends-line": bytes.at(-1) === LINE_END }, ...spans);
}

/**
 * Tokens one after another, with the line breaks that they hold between them: inside one, its frame would break too.
 * @param {readonly HTMLElement[]} tokens
 */
export function runningText(tokens) {
    return tokens.flatMap((token) => (token.hasAttribute("data-ends-line") ? [token, "\n"] : [token]));
}

/**
 * The character that a token is a part of, and which part, such as "猫 1/3"; null where it is none.
 * @param {Trace} trace
 * @param {number} position in the whole text
 */
export function characterAt(trace, position) {
    const isOpen = (/** @type {number} */ end) => pendingBytes(trace.textBytes(Math.max(0, end - LONGEST_CHARACTER), end)).length > 0;
    let start = position;
    while (start > 0 && position - start < LONGEST_CHARACTER && isOpen(start)) start--;
    let end = position + 1;
    while (end < trace.allIds.length && end - start < LONGEST_CHARACTER && isOpen(end)) end++;
    const found = pieces(trace.textBytes(start, end));
    const isWhole = end - start > 1 && found.length === 1 && found[0].kind === "text";
    return isWhole ? `${found[0].text} ${position - start + 1}/${end - start}` : null;
}

/**
 * Bytes in hex, and as numbers nowhere else.
 * @param {Uint8Array} bytes
 */
export function byteText(bytes) {
    return bytes.length ? hex(bytes) : "\u2013";
}

/** @param {{kind: string, text: string}} piece */
function pieceSpan({ kind, text }) {
    return make("span", { class: kind === "text" ? null : "odd" }, text);
}
