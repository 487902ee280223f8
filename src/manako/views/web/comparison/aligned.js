/**
 * One text under two models, aligned by its characters: the twin of `manako.analysis.aligned`, over the two traces.
 *
 * Special here: that both read the same text was checked when the file was made.
 */

/** @import {Trace} from "../trace/trace-file.js" */
/** @typedef {{start: number, end: number, bits: number | null}} ScoredToken in bytes of the text; null for context alone */
/** @typedef {{start: number, end: number, tokens: [ScoredToken[], ScoredToken[]], bits: [number, number]}} Stretch */

/**
 * The parts of the text between two borders that both models have.
 * @param {Trace} one
 * @param {Trace} other
 * @returns {{bytes: Uint8Array, stretches: Stretch[], characters: number}}
 */
export function aligned(one, other) {
    const bytes = one.textBytes(0, one.allIds.length);
    const sides = [scoredTokens(one), scoredTokens(other)];
    const begin = Math.max(...sides.map((tokens) => tokens.find(({ bits }) => bits !== null)?.start ?? Infinity));
    const ends = sides.map((tokens) => new Set([0, ...tokens.map(({ end }) => end)]));
    const isBorder = (/** @type {number} */ at) => at >= begin && ends[1].has(at) && (at === bytes.length || (bytes[at] & 0xc0) !== 0x80);
    const borders = [...ends[0]].filter(isBorder);
    const places = sides.map((tokens) => new Map(tokens.map(({ start }, n) => [start, n]))); // each border but the last
    const stretches = borders.slice(1).map((end, n) => {
        const start = borders[n];
        const [first, second] = sides.map((tokens, side) => tokens.slice(places[side].get(start), places[side].get(end)));
        return { start, end, tokens: /** @type {Stretch["tokens"]} */ ([first, second]), bits: /** @type {Stretch["bits"]} */ ([bitsOf(first), bitsOf(second)]) };
    });
    const characters = bytes.subarray(borders[0]).filter((byte) => (byte & 0xc0) !== 0x80).length;
    return { bytes, stretches, characters };
}

/** Surprisal of some tokens. @param {readonly ScoredToken[]} tokens */
function bitsOf(tokens) {
    return tokens.reduce((total, { bits }) => total + Number(bits), 0);
}

/** The tokens of the text, in order; special ones are none of it. @param {Trace} trace */
function scoredTokens(trace) {
    const context = trace.promptIds.length;
    /** @type {ScoredToken[]} */
    const found = [];
    trace.allIds.forEach((id, n) => {
        const { bytes, special } = trace.token(id);
        const start = found.at(-1)?.end ?? 0;
        const bits = n < context ? null : Math.max(0, -Math.log2(trace.pModel[n - context]));
        if (!special && bytes.length) found.push({ start, end: start + bytes.length, bits });
    });
    return found;
}
