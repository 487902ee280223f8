/**
 * Whether every token follows from what is on record, with no model: the draws of `manako.analysis.verification`.
 *
 * Special here: it pauses after each step, so that a page can go on answering while a long record is checked. A number
 * that is none counts as an error, not as a match. What was captured inside the model is not looked at.
 */

/** @import {Part, Trace} from "../trace/trace-file.js" */
import { SAME, misfitOfPart } from "./partial.js";
import { visibleBytes, visibleText } from "../text/tokens.js";
import { distribution, draw, uniform } from "../trace/sampling.js";

/**
 * @typedef {object} Verification
 * @property {number} steps of the record
 * @property {number} rederived steps whose token was drawn again, and came out the same
 * @property {number} unverifiable steps of which only a part is on record, and whose draw needs the rest
 * @property {{index: number, recorded: number, again: number} | null} failure the first step that differs, with the
 *     token drawn again: the same where a probability differs, -1 where u, the rank or the place cannot be
 * @property {string[]} contradictions header fields and columns that the rest contradicts; of a failure first its own
 */

/**
 * Draw every token again from its row, the chain and u, which must itself be the one that seed and step give. A score
 * has no draws: its probabilities are computed again. Where only a part of a row is on record, its numbers must follow
 * from each other as far as they can. Stops at the first step that differs.
 * @param {Trace} trace
 * @returns {Generator<void, Verification>}
 */
export function* verifying(trace) {
    const { seed, first_step } = trace.header;
    const found = { steps: trace.steps, rederived: 0, unverifiable: 0 };
    const contradictions = [...contradicted(trace)];
    for (let index = 0; index < trace.steps; index++) {
        yield;
        const recorded = trace.tokenIds[index];
        const isOwnU = seed === null || uniform(seed, first_step + index) === trace.u[index];
        const { again: drawn, errors } = trace.exact ? rowAgain(trace, index) : partAgain(trace, index);
        const far = Object.keys(errors).find((name) => !(errors[name] <= SAME));
        const own = drawn === -1 ? "rank" : (far ?? (trace.exact ? null : misfitOfPart(trace, index)));
        const wrong = isOwnU ? own : "u";
        if (wrong !== null || (drawn !== recorded && drawn !== null)) {
            const again = isOwnU ? (drawn ?? -1) : -1;
            return { ...found, failure: { index, recorded, again }, contradictions: [...[wrong ?? []].flat(), ...contradictions] };
        }
        found[drawn === null ? "unverifiable" : "rederived"]++;
    }
    return { ...found, failure: null, contradictions };
}

/**
 * Header fields and columns of a whole record that the rest of it contradicts.
 * @param {Trace} trace
 * @returns {Generator<string>}
 */
function* contradicted(trace) {
    const { header, promptIds, steps } = trace;
    const prompt = () => visibleBytes(trace.textBytes(0, promptIds.length));
    if (!header.prompt_rewritten && visibleText(header.prompt) !== prompt()) yield "prompt";
    if (!windowStarts(trace).every((start, i) => start === trace.windowStart[i])) yield "window_start";
    if (header.kind === "score") return;
    const [stops, last] = [stopsOf(trace), steps - 1];
    const ends = stops.includes(last) && header.end !== "document_end"; // which is looked for first
    if (![undefined, last].includes(stops[0]) || ends !== (header.end === "stop")) yield "end";
    if ((header.end === "length" && steps !== header.max_new_tokens) || (header.end === "document_end" && !steps)) yield "end";
}

/**
 * Where the window of each step begins, by the context of the model: see `manako.trace.windows`.
 * @param {Trace} trace
 * @returns {ArrayLike<number> & {every: Array<number>["every"]}}
 */
function windowStarts({ header, promptIds, steps, windowStart, vocabSize }) {
    const context = header.model.config.n_positions;
    if (!Number.isInteger(context) || context < 1) return Array.from(windowStart);
    if (header.kind === "generation") return Array.from({ length: steps }, (_, i) => Math.max(0, promptIds.length + i - context));
    const longest = Math.min(context, Math.max(1024, Math.floor(2 ** 26 / vocabSize)));
    const hop = Math.max(1, Math.floor(longest / 2));
    /** @type {number[]} */
    const starts = [];
    for (let [start, done] = [0, promptIds.length]; starts.length < steps; ) {
        const stop = Math.min(start + longest + 1, promptIds.length + steps);
        while (done < stop) done = starts.push(start) + promptIds.length;
        start = Math.max(0, done - 1 - (longest - hop));
    }
    return starts;
}

/**
 * The steps whose token completed a stop text, which may have begun in tokens put in before it.
 * @param {Trace} trace
 */
function stopsOf(trace) {
    const { header, promptIds, tokenIds } = trace;
    const text = (/** @type {Uint8Array} */ bytes) => Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
    const stops = header.stop.map((stop) => text(new TextEncoder().encode(stop)));
    const prompt = promptIds.length;
    let made = text(trace.textBytes(prompt - header.first_step, prompt));
    return stops.length === 0 ? [] : Array.from(tokenIds.keys()).filter((i) => {
        const before = made.length;
        made += text(trace.textBytes(prompt + i, prompt + i + 1));
        return stops.some((stop) => made.includes(stop, Math.max(0, before + 1 - stop.length)));
    });
}

/** @typedef {{again: number | null, errors: Record<string, number>}} Again column -> the error of its number */

/**
 * The token drawn again, -1 where its rank cannot be.
 * @param {Trace} trace
 * @param {number} index
 * @returns {Again}
 */
function rowAgain(trace, index) {
    const [recorded, u] = [trace.tokenIds[index], trace.u[index]];
    const logits = /** @type {Float32Array} */ (trace.logitsRow(index));
    const found = distribution(logits, trace.header.sampling, trace.history(index));
    const errors = { p: Math.abs(found.p[recorded] - trace.p[index]), p_model: Math.abs(found.pModel[recorded] - trace.pModel[index]) };
    const again = Number.isNaN(u) ? recorded : draw(found, u).tokenId;
    return { again: again === recorded && found.rank(recorded) !== trace.rank[index] ? -1 : again, errors };
}

/**
 * The same of a part: null where u falls outside it.
 * @param {Trace} trace
 * @param {number} index
 * @returns {Again}
 */
function partAgain(trace, index) {
    const [recorded, u, rank] = [trace.tokenIds[index], trace.u[index], trace.rank[index]];
    const part = /** @type {Part} */ (trace.part(index));
    const { ids, p, pModel } = part;
    const sum = (/** @type {Float64Array} */ numbers) => numbers.reduce((total, each) => total + each, 0);
    const found = ids.indexOf(recorded);
    const place = found < 0 ? ids.length : found;
    /** @type {Record<string, number>} */
    const errors = {
        part_p_model: Math.max(...Array.from(part.logits, (logit, i) => Math.abs(Math.exp(logit - part.logsumexp) - pModel[i]))),
        p_model: Math.abs(Math.exp(part.chosenLogit - part.logsumexp) - trace.pModel[index]),
        rest_p: Math.abs(sum(p) + part.restP - 1),
        rest_p_model: Math.abs(sum(pModel) + part.restPModel - 1),
    };
    if (place < ids.length ? rank - 1 !== place : rank <= ids.length) return { again: -1, errors };
    if (place < ids.length) errors.p = Math.abs(p[place] - trace.p[index]);
    if (Number.isNaN(u)) return { again: recorded, errors };
    let [drawn, reached] = [0, 0];
    while (drawn < ids.length && (reached += p[drawn]) <= u) drawn++;
    if (drawn < ids.length) return { again: ids[drawn], errors };
    if (place === ids.length) return { again: null, errors };
    const isRounded = part.restP === 0 && rank === p.filter((each) => each > 0).length; // all is listed; its sum falls
    return { again: isRounded ? recorded : -1, errors }; //                                just short of u
}
