/**
 * How BPE put the tokens of a text together, merge by merge: the twin of `manako.analysis.merges`, over the table that
 * it makes of a vocabulary.
 *
 * Special here: each token is replayed by itself, since no merge of a word passes a border between two of its tokens. A
 * border inside of a token goes with exactly one merge, so the text after any merge follows from when each border went.
 */

/**
 * @typedef {object} MergeTable
 * @property {string} tokenizer_sha256
 * @property {string[]} names of each id, as the merges spell it; "" for those that no merge makes
 * @property {[string, string, number][]} merges two parts and their rank, counted from 0
 * @property {[number, number][] | null} counts rank and how often the corpus has it; null where no corpus is known
 */
/** @typedef {{id: number, bytes: Uint8Array}} Token */
/** @typedef {[start: number, middle: number, end: number]} Join two pieces that become one, in bytes */
/**
 * @typedef {object} Merge at every place of the text where it is applied at this moment
 * @property {number} rank counted from 1
 * @property {Join[]} places
 * @property {number | null} count how often it is applied in the training text; null where that is not known
 */

export class Replay {
    /** @param {MergeTable} table @param {readonly Token[]} tokens none of them special */
    constructor({ names, merges, counts }, tokens) {
        this.bytes = Uint8Array.from(tokens.flatMap(({ bytes }) => [...bytes]));
        const ranks = new Map(merges.map(([left, right, rank]) => [pair(left, right), rank]));
        const known = counts && new Map(counts);
        /** @type {Map<number, ReturnType<typeof derivation>>} */
        const derived = new Map();
        let at = 0;
        const words = tokens.map(({ id, bytes }) => {
            const found = derived.get(id) ?? derivation(names[id] ?? "", bytes, ranks);
            derived.set(id, found);
            const start = at;
            at += bytes.length;
            for (const size of found.begin) this.#borders.push((this.#borders.at(-1) ?? 0) + size);
            return { start, steps: found.steps, next: 0 };
        });
        for (;;) {
            const rank = Math.min(...words.map(({ steps, next }) => steps[next]?.rank ?? Infinity));
            if (rank === Infinity) break;
            /** @type {Join[]} */
            const places = [];
            for (const word of words) {
                if (word.steps[word.next]?.rank !== rank) continue;
                places.push(...word.steps[word.next++].joins.map((join) => /** @type {Join} */ (join.map((byte) => byte + word.start))));
            }
            this.merges.push({ rank: rank + 1, places, count: known && (known.get(rank) ?? 0) });
            for (const [, middle] of places) this.#gone.set(middle, this.merges.length);
        }
    }

    /** @type {Merge[]} in the order in which they are applied */
    merges = [];
    /** @type {number[]} where each of the smallest pieces ends */
    #borders = [];
    /** @type {Map<number, number>} border -> the merge, counted from 1, with which it went */
    #gone = new Map();

    /** The pieces of the text after the first merges. @param {number} count @returns {[start: number, end: number][]} */
    pieces(count) {
        let start = 0;
        const ends = this.#borders.filter((border) => (this.#gone.get(border) ?? Infinity) > count);
        return ends.map((end) => {
            const from = start;
            start = end;
            return [from, end];
        });
    }
}

/**
 * A token from its smallest pieces to itself; a single piece where merges alone do not make it.
 * @param {string} name
 * @param {Uint8Array} bytes
 * @param {Map<string, number>} ranks
 */
function derivation(name, bytes, ranks) {
    const symbols = [...name];
    const sizes = symbols.map((symbol) => (symbols.length === bytes.length ? 1 : new TextEncoder().encode(symbol).length)); // as many: each spells a byte
    const begin = [...sizes];
    /** @type {{rank: number, joins: Join[]}[]} */
    const steps = [];
    const rankAt = (/** @type {number} */ n) => ranks.get(pair(symbols[n], symbols[n + 1])) ?? Infinity;
    for (;;) {
        const rank = Math.min(...symbols.slice(1).map((_, n) => rankAt(n)));
        if (rank === Infinity) break;
        /** @type {Join[]} */
        const joins = [];
        for (let n = 0, at = 0; n < symbols.length - 1; at += sizes[n++]) {
            if (rankAt(n) !== rank) continue;
            joins.push([at, at + sizes[n], at + sizes[n] + sizes[n + 1]]);
            symbols.splice(n, 2, symbols[n] + symbols[n + 1]);
            sizes.splice(n, 2, sizes[n] + sizes[n + 1]);
        }
        steps.push({ rank, joins });
    }
    const isMade = symbols.length === 1 && sizes[0] === bytes.length;
    return isMade ? { begin, steps } : { begin: bytes.length ? [bytes.length] : [], steps: [] };
}

/** Two parts as one key, whatever characters they hold. @param {string} left @param {string} right */
function pair(left, right) {
    return `${left.length} ${left}${right}`;
}
