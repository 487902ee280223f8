/**
 * What guessing would need for the held-out side of a text: the lines that a model has to get below.
 *
 * Special here: smoothed as `manako.analysis.ngrams` does it, one pseudo-count spread as the order below says. Bits are a
 * character's, like those of an evaluation, over all of the held-out side. tests/views/web/test_training.py compares the two.
 */

/** @import {Corpus} from "./corpus.js" */
import { START, charactersOf } from "./corpus.js";

/** @typedef {{uniform: number, unigram: number, bigram: number}} Guesses bits a character */

/** @param {Corpus} corpus @returns {Guesses} */
export function guessesOf({ train, heldOut, size }) {
    const total = train.length;
    const counts = new Float64Array(size);
    for (const id of train) counts[id]++;
    const followed = counts.slice(); // how often something comes after it
    followed[train[total - 1]]--;
    /** @type {Map<number, number>} */
    const pairs = new Map();
    for (let i = 1; i < total; i++) {
        const pair = train[i - 1] * size + train[i];
        pairs.set(pair, (pairs.get(pair) ?? 0) + 1);
    }
    const nats = { uniform: 0, unigram: 0, bigram: 0 };
    let characters = 0;
    for (let i = 1; i < heldOut.length; i++) {
        const [before, id] = [heldOut[i - 1], heldOut[i]];
        if (id === START) continue;
        const unigram = (counts[id] + 1 / size) / (total + 1);
        nats.uniform += Math.log(size);
        nats.unigram -= Math.log(unigram);
        nats.bigram -= Math.log(((pairs.get(before * size + id) ?? 0) + unigram) / (followed[before] + 1));
        characters += charactersOf(id);
    }
    const bits = (/** @type {number} */ sum) => sum / Math.LN2 / characters;
    return { uniform: bits(nats.uniform), unigram: bits(nats.unigram), bigram: bits(nats.bigram) };
}
