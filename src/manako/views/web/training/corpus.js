/**
 * A text as `manako train` packs one document: its end held out, a character vocabulary made from the rest, token ids of
 * both sides with the document start before and behind. tests/views/web/test_training.py compares the two.
 */

export const START = 0; // the id of the document start, and of a document's end
const START_NAME = "<|endoftext|>";
const BYTES_FROM = 1; // ids of the 256 bytes
const CHARACTERS_FROM = BYTES_FROM + 256;
const MIN_COUNT = 2; // how often a character must occur to have a token of its own
const HELD_OUT = 0.1;

/**
 * A text taken apart.
 * @typedef {object} Corpus
 * @property {string} text with newlines as \n
 * @property {number} characters
 * @property {string[]} vocabulary the characters with a token of their own
 * @property {number} size of the vocabulary, document start and bytes included
 * @property {Uint32Array} train ids
 * @property {Uint32Array} heldOut ids
 */

/** @param {string} given well-formed @returns {Corpus} */
export function corpusOf(given) {
    const text = given.replace(/^\ufeff/, "").replace(/\r\n?/g, "\n");
    const characters = [...text];
    const cut = Math.max(1, Math.floor(characters.length * (1 - HELD_OUT)));
    /** @type {Map<string, number>} */
    const counts = new Map();
    for (const ch of characters.slice(0, cut)) counts.set(ch, (counts.get(ch) ?? 0) + 1);
    const vocabulary = [...counts].filter(([, count]) => count >= MIN_COUNT).map(([ch]) => ch).sort(byCode);
    const ids = new Map(vocabulary.map((ch, i) => [ch, CHARACTERS_FROM + i]));
    const encoder = new TextEncoder();
    const encoded = (/** @type {string[]} */ part) => {
        const found = [START];
        for (const ch of part) {
            const id = ids.get(ch);
            if (id === undefined) for (const byte of encoder.encode(ch)) found.push(BYTES_FROM + byte);
            else found.push(id);
        }
        found.push(START);
        return Uint32Array.from(found);
    };
    const [train, heldOut] = [encoded(characters.slice(0, cut)), encoded(characters.slice(cut))];
    return { text, characters: characters.length, vocabulary, size: CHARACTERS_FROM + vocabulary.length, train, heldOut };
}

/**
 * How many characters end with each token: none for the document start, a character whose bytes are several tokens where
 * its first byte is.
 * @param {number} id
 */
export function charactersOf(id) {
    if (id === START) return 0;
    return id < CHARACTERS_FROM && ((id - BYTES_FROM) & 0xc0) === 0x80 ? 0 : 1;
}

/** The text of the tokenizer.json of a vocabulary, as Python spells it. @param {string[]} vocabulary */
export function tokenizerJson(vocabulary) {
    const bytes = Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`);
    const tokens = [START_NAME, ...bytes, ...vocabulary];
    const vocab = tokens.map((name, id) => `${JSON.stringify(name)}: ${id}`).join(", ");
    return (
        `{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [{"id": ${START}, "content": "${START_NAME}", ` +
        '"single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}], ' +
        '"normalizer": null, "pre_tokenizer": null, "post_processor": null, ' +
        '"decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]}, ' +
        '"model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, ' +
        '"end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": true, "ignore_merges": false, ' +
        `"vocab": {${vocab}}, "merges": []}}`
    );
}

/** @param {string} a @param {string} b */
function byCode(a, b) {
    return Number(a.codePointAt(0)) - Number(b.codePointAt(0));
}
