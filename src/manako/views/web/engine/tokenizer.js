/**
 * Text to token ids, by the tokenizers that manako trains: characters, and BPE over characters or bytes, read from their
 * `tokenizer.json`. What another one would need, such as a normaliser, is an error and not another answer.
 *
 * Special here: `manako.tokenizer` and its library are held to the same ids by tests/views/web/test_engine.py. A text
 * that would lose a character is refused, never changed.
 */

import { damaged } from "../trace/safetensors.js";

/** A text that cannot be written down in tokens; `error.<key>` of the catalog says it. */
export class PromptError extends Error {
    /** @param {string} key @param {Record<string, string | number>} [values] */
    constructor(key, values = {}) {
        super(key);
        this.key = key;
        this.values = values;
    }
}

const WORDS = // the one pattern that manako cuts texts with, as its file has it
    "'s|'t|'re|'ve|'m|'ll|'d|\\p{Han}+[\\p{Hiragana}\u30fc]*|[\\p{Hiragana}\u30fc]+|[\\p{Katakana}\u30fc]+|" +
    " ?[^\\s\\p{N}\\p{P}\\p{S}\\p{Han}\\p{Hiragana}\\p{Katakana}\u30fc]+| ?\\p{N}+| ?[\\p{P}\\p{S}]+|\\s+";
const NAMED = 5; // unknown characters that an error names

export class Tokenizer {
    /** Throws TraceError for one that is not manako's. @param {string} source the text of a tokenizer.json */
    constructor(source) {
        const { model, pre_tokenizer: before, normalizer, added_tokens: added } = JSON.parse(source);
        const steps = before === null ? [] : before.type === "Sequence" ? before.pretokenizers : [before];
        const split = steps.find((/** @type {any} */ { type }) => type === "Split");
        const isKnown = steps.every((/** @type {any} */ each) => each === split || (each.type === "ByteLevel" && !each.use_regex && !each.add_prefix_space));
        const isPlain = model.type === "BPE" && !model.ignore_merges && !model.unk_token && !model.continuing_subword_prefix && !model.end_of_word_suffix;
        if (!isPlain || !isKnown || normalizer || (split && split.pattern.Regex !== WORDS)) throw damaged("tokenizer.json");
        this.#words = split ? inJavaScript(WORDS) : null;
        this.#isByteLevel = steps.some((/** @type {any} */ { type }) => type === "ByteLevel");
        this.#ids = new Map(Object.entries(model.vocab));
        this.#size = this.#ids.size;
        const spelled = this.#isByteLevel ? new Map(Array.from(BYTE_SIGNS, (sign, byte) => [sign, byte])) : null;
        this.specialIds = added.filter((/** @type {any} */ { special }) => special).map((/** @type {any} */ { id }) => id);
        /** @type {Uint8Array[]} id -> its bytes; a special token's are its name */
        this.bytes = [];
        const names = new Set(added.map((/** @type {any} */ { content }) => content));
        for (const [name, id] of this.#ids) {
            const byte = model.byte_fallback && /^<0x([0-9A-Fa-f]{2})>$/.exec(name);
            if (names.has(name)) this.bytes[id] = utf8(name);
            else if (byte) this.bytes[id] = Uint8Array.of(parseInt(byte[1], 16));
            else this.bytes[id] = spelled ? Uint8Array.from(name, (sign) => Number(spelled.get(sign))) : utf8(name);
        }
        this.#fallback = model.byte_fallback ? Array.from({ length: 256 }, (_, byte) => this.#ids.get(byteName(byte)) ?? -1) : [];
        model.merges.forEach((/** @type {[string, string]} */ [a, b], /** @type {number} */ rank) => {
            const [left, right, id] = [a, b, a + b].map((name) => Number(this.#ids.get(name)));
            this.#merges.set(left * this.#size + right, { rank, id });
        });
    }

    /** @type {RegExp | null} */
    #words;
    #isByteLevel;
    /** @type {Map<string, number>} */
    #ids;
    #size;
    /** @type {number[]} byte -> its id, for characters that have none */
    #fallback;
    /** @type {Map<number, {rank: number, id: number}>} left * size + right -> what they become */
    #merges = new Map();

    /** The ids of a text. Throws PromptError naming what it cannot write down. @param {string} text */
    encode(text) {
        if (!text.isWellFormed()) {
            const index = /\p{Surrogate}/u.exec(text)?.index ?? 0;
            throw new PromptError("prompt_surrogate", { index: [...text.slice(0, index)].length, code: codeName(text.charCodeAt(index)) });
        }
        const lost = [...text].map((ch, i) => ({ ch, at: i + 1 })).filter(({ ch }) => this.#spelled(ch) === null);
        if (lost.length) {
            const named = lost.slice(0, NAMED).map(({ ch, at }) => `${ch} ${codeName(Number(ch.codePointAt(0)))} (${at})`).join(", ");
            const more = lost.length > NAMED ? `, +${lost.length - NAMED}` : "";
            throw new PromptError("prompt_unknown_characters", { characters: named + more });
        }
        return this.#cut(text).flatMap((word) => this.#merged([...word].flatMap((ch) => /** @type {number[]} */ (this.#spelled(ch)))));
    }

    /** A text in the words that no merge leaves. @param {string} text */
    #cut(text) {
        if (this.#words === null) return text ? [text] : [];
        const words = [];
        let end = 0;
        for (const { 0: word, index } of text.matchAll(this.#words)) {
            if (index > end) words.push(text.slice(end, index));
            words.push(word);
            end = index + word.length;
        }
        return end < text.length ? [...words, text.slice(end)] : words;
    }

    /** The ids that one character begins as; null where it has none. @param {string} ch */
    #spelled(ch) {
        const own = this.#isByteLevel ? Array.from(utf8(ch), (byte) => this.#ids.get(BYTE_SIGNS[byte])) : [this.#ids.get(ch)];
        const found = own.includes(undefined) ? Array.from(utf8(ch), (byte) => this.#fallback[byte] ?? -1) : own;
        return found.includes(-1) ? null : /** @type {number[]} */ (found);
    }

    /**
     * A word after all merges: the one learned first, of those the leftmost, until none is left.
     * @param {number[]} ids
     */
    #merged(ids) {
        const rank = (/** @type {number} */ i) => this.#merges.get(ids[i] * this.#size + ids[i + 1])?.rank ?? Infinity;
        const ranks = ids.map((_, i) => rank(i));
        for (;;) {
            let best = 0;
            for (let i = 1; i < ranks.length; i++) if (ranks[i] < ranks[best]) best = i;
            const merge = this.#merges.get(ids[best] * this.#size + ids[best + 1]);
            if (!merge) return ids;
            ids.splice(best, 2, merge.id);
            ranks.splice(best, 1);
            ranks[best] = rank(best);
            if (best) ranks[best - 1] = rank(best - 1);
        }
    }
}

/** GPT-2's printable stand-in for each byte. Source: `bytes_to_unicode` in openai/gpt-2. */
const BYTE_SIGNS = (() => {
    const isPrintable = (/** @type {number} */ byte) => (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte !== 0xad);
    let next = 256;
    return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(isPrintable(byte) ? byte : next++));
})();

/** A pattern of the Rust library, whose names of scripts and spaces are others. @param {string} pattern */
function inJavaScript(pattern) {
    return new RegExp(pattern.replace(/\\p\{(Han|Hiragana|Katakana)\}/g, "\\p{Script=$1}").replaceAll("\\s", "\\p{White_Space}"), "gu");
}

/** @param {string} text */
function utf8(text) {
    return new TextEncoder().encode(text);
}

/** @param {number} byte */
function byteName(byte) {
    return `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`;
}

/** @param {number} code */
function codeName(code) {
    return `U+${code.toString(16).toUpperCase().padStart(4, "0")}`;
}
