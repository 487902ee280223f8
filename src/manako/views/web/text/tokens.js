/**
 * Token bytes made safe and visible, by the rules of `manako.views.glyphs`.
 *
 * Special here: a token is hostile text. Everything that changes direction or cannot be seen is spelled out, and bytes
 * that are no whole character stand as hex. What a terminal gives no cell but a browser shows, such as jamo, stays.
 */

/**
 * What stands for a token.
 * @typedef {object} Label
 * @property {"special" | "empty" | "partial" | "named" | "text"} kind
 * @property {string} text visible and safe
 * @property {string | null} key the message that takes {text}; of a named token its name, which stands beside the text;
 *     null where `text` says it all
 */
/**
 * A stretch of a text: as it is, or spelled out because it cannot be shown, or bytes that are no whole character.
 * @typedef {{kind: "text" | "spelled" | "bytes", text: string}} Piece
 */

const MARKS_IN_A_ROW = 2; // combining marks shown on one base; more would pile up over other lines
const SHORT_SIGNS = new Map([[" ", "\u2423"], ["\n", "\u23ce"], ["\t", "\u21e5"]]);
/** @type {Map<string, string>} */
const TOKEN_NAMES = new Map([
    [" ", "token.space"],
    ["\n", "token.newline"],
    ["\t", "token.tab"],
    ["\u3000", "token.fullwidth_space"],
]);
/** @type {Map<string, string>} names by Unicode, which no catalog translates */
const UNICODE_NAMES = new Map([
    ["\u00a0", "no-break space"],
    ["\u00ad", "soft hyphen"],
    ["\u034f", "combining grapheme joiner"],
    ["\u061c", "arabic letter mark"],
    ["\u200b", "zero width space"],
    ["\u200c", "zero width non-joiner"],
    ["\u200d", "zero width joiner"],
    ["\u200e", "left-to-right mark"],
    ["\u200f", "right-to-left mark"],
    ["\u2028", "line separator"],
    ["\u2029", "paragraph separator"],
    ["\u202a", "left-to-right embedding"],
    ["\u202b", "right-to-left embedding"],
    ["\u202c", "pop directional formatting"],
    ["\u202d", "left-to-right override"],
    ["\u202e", "right-to-left override"],
    ["\u2060", "word joiner"],
    ["\u2066", "left-to-right isolate"],
    ["\u2067", "right-to-left isolate"],
    ["\u2068", "first strong isolate"],
    ["\u2069", "pop directional isolate"],
    ["\u3099", "combining katakana-hiragana voiced sound mark"],
    ["\u309a", "combining katakana-hiragana semi-voiced sound mark"],
    ["\ufe0f", "variation selector-16"],
    ["\ufeff", "zero width no-break space"],
]);
const BIDI_CONTROL = /[\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/u;
// DI is Default_Ignorable_Code_Point; the last four are blank by their drawing, as in messages/unseen.py.
const UNSEEN = /[\p{Cf}\p{Zs}\p{Cs}\p{Co}\p{Cn}\p{M}\p{DI}\u2800\u{1d159}\u{13441}\u{13442}]/u;
const VARIATION_SELECTOR = /[\ufe00-\ufe0f\u{e0100}-\u{e01ef}]/u;
const CHARACTERS = // whole ones; or a byte that begins none, and those behind it that could only have continued it
    /((?:[\0-\x7f]|[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}|\xed[\x80-\x9f][\x80-\xbf]|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2})+)|[\x80-\xff][\x80-\xbf]*/g;

/**
 * Bytes cut into what can be shown as it is and what cannot.
 * @param {Uint8Array} bytes
 * @returns {Piece[]}
 */
export function pieces(bytes) {
    /** @type {Piece[]} */
    const found = [];
    for (const part of decodeParts(bytes)) {
        if (typeof part !== "string") found.push({ kind: "bytes", text: `\u2039${hex(part)}\u203a` });
        else found.push(...textPieces(part));
    }
    return found;
}

/**
 * A text with everything dangerous or invisible spelled out, on one line.
 * @param {string} text
 */
export function visibleText(text) {
    return textPieces(text)
        .map((piece) => piece.text)
        .join("");
}

/**
 * The same for bytes.
 * @param {Uint8Array} bytes
 */
export function visibleBytes(bytes) {
    return pieces(bytes)
        .map((piece) => piece.text)
        .join("");
}

/**
 * A running text for people on one line: spaces as they are, all else as in `visibleText`.
 * @param {string} text
 */
export function prose(text) {
    return text.replace(/[^ \u3000]+/g, visibleText);
}

/**
 * What stands for a token in a list.
 * @param {Uint8Array} bytes
 * @param {boolean} special a special token, never the same as a text of the same letters
 * @param {Uint8Array} [pending] bytes of an unfinished character before it, with which it may make a whole one
 * @returns {Label}
 */
export function label(bytes, special, pending = new Uint8Array()) {
    if (special) return { kind: "special", text: visibleBytes(bytes), key: "token.special" };
    if (bytes.length === 0) return { kind: "empty", text: "", key: "token.empty" };
    const text = decodeWhole(bytes);
    if (text === null) return { kind: "partial", text: partialText(bytes, pending), key: null };
    const key = TOKEN_NAMES.get(text) ?? (/^\p{Cc}$/u.test(text) ? "token.control" : null);
    if (key !== null) return { kind: "named", text: visibleText(text), key };
    const name = UNICODE_NAMES.get(text);
    if (name !== undefined) return { kind: "named", text: `${visibleText(text)} ${name}`, key };
    return { kind: "text", text: visibleText(text), key: "token.quoted" };
}

/**
 * The bytes at the end of a text that have begun a character and not finished it.
 * @param {Uint8Array} bytes
 * @returns {Uint8Array}
 */
export function pendingBytes(bytes) {
    for (let back = 1; back <= Math.min(3, bytes.length); back++) {
        const lead = bytes[bytes.length - back];
        if (lead >= 0xc0) {
            const isUnfinished = back < sequenceLength(lead) && lead < 0xf5;
            return isUnfinished ? bytes.subarray(bytes.length - back) : new Uint8Array();
        }
        if (lead < 0x80) break;
    }
    return new Uint8Array();
}

/**
 * Bytes as text, as `manako.trace.bytes_to_text` has them: whole characters as they are, others as hex in brackets.
 * @param {Uint8Array} bytes
 */
export function recordText(bytes) {
    return binary(bytes).replace(CHARACTERS, (found, whole) => {
        const its = Uint8Array.from(found, (/** @type {string} */ ch) => ch.charCodeAt(0));
        return whole ? new TextDecoder("utf-8", { ignoreBOM: true }).decode(its) : `\u2039${hex(its)}\u203a`;
    });
}


/**
 * One character of the same number for each byte.
 * @param {Uint8Array} bytes
 */
export function binary(bytes) {
    return Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
}

/**
 * Bytes in pairs of capital hex digits.
 * @param {Uint8Array} bytes
 */
export function hex(bytes) {
    return Array.from(bytes, (byte) => byte.toString(16).toUpperCase().padStart(2, "0")).join(" ");
}

/**
 * Bytes of a part of a character: those that finish a pending one show it, a first one the range it can become.
 * @param {Uint8Array} bytes
 * @param {Uint8Array} pending
 */
function partialText(bytes, pending) {
    const joined = Uint8Array.from([...pending, ...bytes]);
    const whole = pending.length ? decodeWhole(joined) : null;
    if (whole !== null) return `\u2039+${hex(bytes)}\u203a ${visibleText(whole)}`;
    const range = characterRange(joined);
    return `\u2039${hex(bytes)}\u203a${range ? ` ${visibleText(range[0])}-${visibleText(range[1])}` : ""}`;
}

/**
 * The first and the last character that bytes which begin one can still become.
 * @param {Uint8Array} begun
 * @returns {[string, string] | null}
 */
function characterRange(begun) {
    const [lead, second] = begun;
    if (lead < 0xc2 || lead >= 0xf5) return null;
    const missing = sequenceLength(lead) - begun.length;
    if (missing <= 0) return null;
    const isFirst = second === undefined;
    const lowest = isFirst ? ({ 0xe0: 0xa0, 0xf0: 0x90 }[lead] ?? 0x80) : 0x80;
    const highest = isFirst ? ({ 0xed: 0x9f, 0xf4: 0x8f }[lead] ?? 0xbf) : 0xbf;
    const fill = (/** @type {number} */ next, /** @type {number} */ rest) =>
        decodeWhole(Uint8Array.from([...begun, next, ...Array(missing - 1).fill(rest)]));
    const [first, last] = [fill(lowest, 0x80), fill(highest, 0xbf)];
    return first !== null && last !== null ? [first, last] : null;
}

/**
 * How many bytes the UTF-8 character has that begins with this one.
 * @param {number} lead from C0
 */
function sequenceLength(lead) {
    return lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
}

/**
 * Whole characters as text, the longest stretches of other bytes as they are.
 * @param {Uint8Array} bytes
 * @returns {(string | Uint8Array)[]}
 */
function decodeParts(bytes) {
    const whole = decodeWhole(bytes);
    if (whole !== null) return [whole];
    /** @type {(string | Uint8Array)[]} */
    const parts = [];
    for (let at = 0, end = 0; at < bytes.length; at = end) {
        const isText = characterLength(bytes, at) > 0;
        for (let length; end < bytes.length; end += length || 1) {
            length = characterLength(bytes, end);
            if (length > 0 !== isText) break;
        }
        const part = bytes.subarray(at, end);
        parts.push((isText ? decodeWhole(part) : null) ?? part);
    }
    return parts;
}

/**
 * Bytes of the whole character that begins at a place, 0 where none does.
 * @param {Uint8Array} bytes
 * @param {number} at
 */
function characterLength(bytes, at) {
    const length = bytes[at] < 0x80 ? 1 : bytes[at] < 0xc2 ? 0 : sequenceLength(bytes[at]);
    return length && at + length <= bytes.length && decodeWhole(bytes.subarray(at, at + length)) !== null ? length : 0;
}

/**
 * @param {Uint8Array} bytes
 * @returns {string | null} null where they are no whole characters
 */
function decodeWhole(bytes) {
    try {
        return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch {
        return null;
    }
}

/**
 * @param {string} text
 * @returns {Piece[]}
 */
function textPieces(text) {
    /** @type {Piece[]} */
    const found = [];
    let marks = MARKS_IN_A_ROW; // a combining mark at the start has nothing to sit on
    for (const ch of text) {
        const isMark = /\p{M}/u.test(ch) && !/\p{DI}/u.test(ch) && marks < MARKS_IN_A_ROW;
        const spelled = isMark ? ch : spell(ch);
        const kind = spelled === ch ? "text" : "spelled";
        if (isMark) marks++;
        else marks = /[\p{L}\p{N}\p{P}\p{S}]/u.test(ch) ? 0 : MARKS_IN_A_ROW;
        const last = found.at(-1);
        if (last?.kind === kind) last.text += spelled;
        else found.push({ kind, text: spelled });
    }
    return found;
}

/** @param {string} ch */
function spell(ch) {
    const code = ch.codePointAt(0) ?? 0;
    const short = SHORT_SIGNS.get(ch);
    if (short !== undefined) return short;
    if (/\p{Cc}/u.test(ch)) return `\\x${code.toString(16).padStart(2, "0")}`;
    if (BIDI_CONTROL.test(ch)) return `\\u${code.toString(16).padStart(4, "0")}`;
    if (ch === "\u200d") return "\u2039ZWJ\u203a";
    if (VARIATION_SELECTOR.test(ch)) return `\u2039VS${code < 0xff00 ? code - 0xfe00 + 1 : code - 0xe0100 + 17}\u203a`;
    if (UNSEEN.test(ch)) return `\u2039U+${code.toString(16).toUpperCase().padStart(4, "0")}\u203a`;
    return ch;
}
