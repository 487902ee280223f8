/**
 * Whether every token follows from what is on record, with no model: the draws of `manako.analysis.verification`.
 *
 * Special here: it pauses after each step, so that a page can go on answering while a long record is checked. A number
 * that is none counts as an error, not as a match. What was captured inside the model is not looked at.
 */

/** @import {Trace} from "../trace/trace-file.js" */
import { distribution, draw, uniform } from "../trace/sampling.js";

/**
 * @typedef {object} Verification
 * @property {number} steps of the record
 * @property {number} rederived steps whose token was drawn again, and came out the same
 * @property {number} unverifiable steps of which only a part is on record, and whose draw needs the rest
 * @property {{index: number, recorded: number, again: number} | null} failure the first step that differs, with the
 *     token drawn again: the same where a probability differs, -1 where u, the rank or the place cannot be
 */

const LIMIT = 1e-9; // of what a recorded probability may differ from the one computed again

/**
 * Draw every token again from its row, the chain and u, which must itself be the one that seed and step give. A score
 * has no draws: its probabilities are computed again. Stops at the first step that differs.
 * @param {Trace} trace
 * @returns {Generator<void, Verification>}
 */
export function* verifying(trace) {
    const { seed, first_step } = trace.header;
    const found = { steps: trace.steps, rederived: 0, unverifiable: 0 };
    for (let index = 0; index < trace.steps; index++) {
        yield;
        const recorded = trace.tokenIds[index];
        const isOwnU = seed === null || uniform(seed, first_step + index) === trace.u[index];
        const { again, error } = trace.exact ? ofRow(trace, index) : ofPart(trace, index);
        const isRight = isOwnU && error <= LIMIT;
        if (again === null && isRight) found.unverifiable++;
        else if (again === recorded && isRight) found.rederived++;
        else return { ...found, failure: { index, recorded, again: isOwnU ? (again ?? -1) : -1 } };
    }
    return { ...found, failure: null };
}

/**
 * @param {Trace} trace
 * @param {number} index
 */
function ofRow(trace, index) {
    const [recorded, u] = [trace.tokenIds[index], trace.u[index]];
    const logits = /** @type {Float32Array} */ (trace.logitsRow(index));
    const found = distribution(logits, trace.header.sampling, trace.history(index));
    const error = Math.max(
        Math.abs(found.p[recorded] - trace.p[index]),
        Math.abs(found.pModel[recorded] - trace.pModel[index]),
    );
    const again = Number.isNaN(u) ? recorded : draw(found, u).tokenId;
    return { again: again === recorded && found.rank(recorded) !== trace.rank[index] ? -1 : again, error };
}

/**
 * The token drawn again: null where u falls outside the part, -1 where its place cannot be.
 * @param {Trace} trace
 * @param {number} index
 * @returns {{again: number | null, error: number}}
 */
function ofPart(trace, index) {
    const [recorded, u, rank] = [trace.tokenIds[index], trace.u[index], trace.rank[index]];
    const part = /** @type {import("../trace/trace-file.js").Part} */ (trace.part(index));
    const { ids, p, pModel } = part;
    const sum = (/** @type {Float64Array} */ numbers) => numbers.reduce((total, each) => total + each, 0);
    const found = ids.indexOf(recorded);
    const place = found < 0 ? ids.length : found;
    const error = Math.max(
        ...Array.from(part.logits, (logit, i) => Math.abs(Math.exp(logit - part.logsumexp) - pModel[i])),
        Math.abs(Math.exp(part.chosenLogit - part.logsumexp) - trace.pModel[index]),
        Math.abs(sum(p) + part.restP - 1),
        Math.abs(sum(pModel) + part.restPModel - 1),
        place < ids.length ? Math.abs(p[place] - trace.p[index]) : 0,
    );
    if (place < ids.length ? rank - 1 !== place : rank <= ids.length) return { again: -1, error };
    if (Number.isNaN(u)) return { again: recorded, error };
    let [drawn, reached] = [0, 0];
    while (drawn < ids.length && (reached += p[drawn]) <= u) drawn++;
    if (drawn < ids.length) return { again: ids[drawn], error };
    if (place === ids.length) return { again: null, error };
    const isRounded = part.restP === 0 && rank === p.filter((each) => each > 0).length; // all is listed; its sum falls
    return { again: isRounded ? recorded : -1, error }; //                                 just short of u
}
