/**
 * Whether every token follows from what is on record, with no model: the draws of `manako.analysis.verification`.
 *
 * Special here: it pauses after each step, so that a page can go on answering while a long record is checked. A number
 * that is none counts as an error, not as a match. What was captured inside the model is not looked at.
 */

/** @import {Part, Trace} from "../trace/trace-file.js" */
import { agrees, misfitOfPart } from "./partial.js";
import { recordText } from "../text/tokens.js";
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
        const { again: drawn, pairs } = trace.exact ? rowAgain(trace, index) : partAgain(trace, index);
        const far = pairs.find(([, made, derived]) => !agrees(made, derived))?.[0];
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
    const { header, promptIds, steps, tokenIds } = trace;
    if (!header.prompt_rewritten && header.prompt !== recordText(trace.textBytes(0, promptIds.length))) yield "prompt";
    const starts = windowStarts(trace);
    if (!trace.windowStart.every((start, i) => start === starts[i])) yield "window_start";
    if (header.kind === "score") return;
    const [{ end }, last, known] = [header, steps - 1, header.model.config.end_ids];
    const isEnd = end === "document_end";
    const ends = (/** @type {number} */ id, /** @type {number} */ i) => (Array.isArray(known) ? known.includes(id) : isEnd && i === last);
    const [ended, stopped] = [tokenIds.findIndex(ends), stopOf(trace)].map((i) => (i < 0 ? steps : i));
    const isStop = stopped === last && ended > last; // an end token is looked for first
    const isWrong = Math.min(ended, stopped) < last || isEnd !== (ended === last) || (end === "stop") !== isStop;
    if (isWrong || (end === "length" && steps !== header.max_new_tokens)) yield "end";
}

/**
 * Where the window of each step begins, by the context of the model: see `manako.trace.windows`.
 * @param {Trace} trace
 * @returns {number[] | Int32Array}
 */
function windowStarts({ header, promptIds, allIds, windowStart, vocabSize }) {
    const context = header.model.config.n_positions;
    if (!Number.isSafeInteger(context) || context < 1) return windowStart;
    if (header.kind === "generation") return windowStart.map((_, i) => Math.max(0, promptIds.length + i - context));
    const longest = Math.min(context, Math.max(1024, Math.floor(2 ** 26 / vocabSize)));
    const seen = Math.min(longest - 1, Math.ceil(longest / 2)); // tokens of the window before that the next one has too
    /** @type {number[]} of every token, given ones too */
    const starts = [];
    for (let start = 0; starts.length < allIds.length; start = Math.max(0, starts.length - 1 - seen)) {
        const stop = Math.min(start + longest + 1, allIds.length);
        while (starts.length < stop) starts.push(start);
    }
    return starts.slice(promptIds.length);
}

/**
 * The first step whose token completed a stop text, which may have begun in tokens put in before it; -1 where none did.
 * @param {Trace} trace
 */
function stopOf(trace) {
    const { header, promptIds, tokenIds } = trace;
    const text = (/** @type {Uint8Array} */ bytes) => new TextDecoder("latin1").decode(bytes); // a letter for each byte
    const stops = header.stop.map((stop) => text(new TextEncoder().encode(stop)));
    const prompt = promptIds.length;
    let made = text(trace.textBytes(prompt - header.first_step, prompt));
    return tokenIds.findIndex((_, i) => {
        const before = made.length;
        made += text(trace.textBytes(prompt + i, prompt + i + 1));
        return stops.some((stop) => made.includes(stop, Math.max(0, before + 1 - stop.length)));
    });
}

/** @typedef {{again: number | null, pairs: [string, number, number][]}} Again column, a probability on record, the same derived */

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
    const again = Number.isNaN(u) ? recorded : draw(found, u).tokenId;
    return {
        again: again === recorded && found.rank(recorded) !== trace.rank[index] ? -1 : again,
        pairs: [["p", trace.p[index], found.p[recorded]], ["p_model", trace.pModel[index], found.pModel[recorded]]],
    };
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
    const place = ids.indexOf(recorded);
    /** @type {Again["pairs"]} */
    const pairs = Array.from(pModel, (each, i) => ["part_p_model", each, Math.exp(part.logits[i] - part.logsumexp)]);
    pairs.push(["p_model", trace.pModel[index], Math.exp(part.chosenLogit - part.logsumexp)]);
    pairs.push(["rest_p", sum(p) + part.restP, 1], ["rest_p_model", sum(pModel) + part.restPModel, 1]);
    if (place < 0 ? rank <= ids.length : rank - 1 !== place) return { again: -1, pairs };
    if (place >= 0) pairs.push(["p", trace.p[index], p[place]]);
    if (Number.isNaN(u)) return { again: recorded, pairs };
    let [drawn, reached] = [0, 0];
    while (drawn < ids.length && (reached += p[drawn]) <= u) drawn++;
    if (drawn < ids.length) return { again: ids[drawn], pairs };
    if (place < 0) return { again: null, pairs };
    const isRounded = part.restP === 0 && rank === p.filter((each) => each > 0).length; // all is listed; its sum falls
    return { again: isRounded ? recorded : -1, pairs }; //                                just short of u
}
