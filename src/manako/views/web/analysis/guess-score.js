/** What a guess is worth, in bits. */

/**
 * The reader's surprise at a token, -log2 q. He put `confidence` on some tokens, the rest on all others; within both,
 * q is shared out as p is, so the score is a proper one: it is best, on average, to say what one believes.
 * @param {number} p of the token that was drawn
 * @param {boolean} isGuessed whether it is among the guessed ones
 * @param {number} guessed the p of all guessed ones together
 * @param {number} confidence above 0 and below 1
 */
export function guessBits(p, isGuessed, guessed, confidence) {
    const within = Math.min(1, (isGuessed ? guessed : 1 - guessed) || p);
    return -Math.log2((isGuessed ? confidence : 1 - confidence) * Math.min(1, p / within));
}
