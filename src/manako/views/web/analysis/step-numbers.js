/**
 * The numbers of one step, under the recorded settings or others: what the page draws of it.
 *
 * Special here: from whole rows everything is exact. Where only the first candidates are on record, the recorded numbers
 * are exact too; another temperature is bounded from both sides by what is known of the others, their count, their mass
 * and their largest logit, and `error` says how far off a p can be. What such a record cannot bound is not computed.
 */

import { STAGES, activeStages, distribution, draw } from "../trace/sampling.js";
import { outsideLogs } from "./partial.js";
import { pendingBytes } from "../text/tokens.js";

/** @typedef {import("../trace/trace-file.js").Trace} Trace */
/** @typedef {import("../trace/trace-file.js").Part} Part */
/** @typedef {import("../trace/sampling.js").Sampling} Sampling */
/** @typedef {import("../trace/sampling.js").StageName} StageName */
/** @typedef {import("../trace/sampling.js").Draw} Draw */
/** @typedef {import("../trace/sampling.js").Distribution} Distribution */
/**
 * One token that could have come next.
 * @typedef {object} Candidate
 * @property {number} id
 * @property {Uint8Array} bytes
 * @property {boolean} special
 * @property {number} p in the draw
 * @property {number} pModel by the model alone
 * @property {number} rank from 1
 * @property {StageName | null} cutBy
 */
/**
 * A list of candidates on record, best first, and what the rest adds up to.
 * @typedef {object} Listed
 * @property {ArrayLike<number>} ids
 * @property {(place: number) => {p: number, pModel: number, cutBy: number}} at
 * @property {{name: StageName, kept: number, removedMass: number | null}[]} stages kept: NaN where others may tie
 * @property {number} restP of all tokens that are not in the list
 * @property {number} restPModel
 * @property {number | null} entropy null where it cannot be told
 * @property {number} error how far off a p can be; 0 where it is exact
 * @property {(u: number) => Draw | null} draw null where it cannot be told
 */

/**
 * The settings that can be changed. Of a part of a row: the temperature, and top_k, which needs the first tokens alone.
 * @param {Trace} trace
 * @returns {Set<string>}
 */
export function answerable(trace) {
    if (trace.exact) return new Set(STAGES);
    const inPart = ["temperature", "top_k"];
    return new Set(activeStages(trace.header.sampling).every((name) => inPart.includes(name)) ? inPart : []);
}

/**
 * Whether a step can be computed under these settings.
 * @param {Trace} trace
 * @param {Sampling} sampling
 */
export function canAnswer(trace, sampling) {
    return sampling === trace.header.sampling || activeStages(sampling).every((name) => answerable(trace).has(name));
}

/** One step as it is shown. */
export class StepNumbers {
    /**
     * @param {Trace} trace
     * @param {number} index
     * @param {Sampling | null} [sampling] null for the recorded settings
     * @param {StepNumbers | null} [recorded] the same step under those, where it is known
     */
    constructor(trace, index, sampling = null, recorded = null) {
        const settings = sampling ?? trace.header.sampling;
        const logits = trace.logitsRow(index);
        const u = trace.u[index];
        this.trace = trace;
        this.index = index;
        this.changed = sampling !== null;
        this.size = trace.vocabSize;
        this.takenId = trace.tokenIds[index];
        this.u = Number.isNaN(u) ? null : u; // null in a score
        this.pending = bytesBegun(trace, index);
        this.#row = logits ? distribution(logits, settings, trace.history(index)) : null;
        this.#listed = this.#row ? ofRow(this.#row) : ofPart(/** @type {Part} */ (trace.part(index)), this.size, settings, sampling === null);
        this.stages = this.#listed.stages;
        this.entropy = this.#listed.entropy;
        this.error = this.#listed.error;
        /** Whether the chain left a single token, so that u decides nothing. */
        this.certain = this.stages.at(-1)?.kept === 1;
        this.draw = this.u === null ? null : this.#draw(this.u);
        /** The token that is marked: the drawn one; in a score the one that the text has; -1 where it cannot be told. */
        this.drawnId = this.u === null ? this.takenId : (this.draw?.tokenId ?? -1);
        this.#recorded = recorded;
    }

    /** @type {Trace | null} the record of the whole text, which knows the bytes of a token that was put in here */
    whole = null;
    /** @type {Distribution | null} of a whole row */
    #row;
    /** @type {Listed} */
    #listed;
    /** @type {StepNumbers | null} */
    #recorded;

    /** Whether a token's place in the order is on record. @param {number} id */
    hasPlace(id) {
        return this.#row !== null || Array.prototype.includes.call(this.#listed.ids, id);
    }

    /**
     * The n first candidates.
     * @param {number} n
     * @returns {Candidate[]}
     */
    top(n) {
        const ids = this.#row ? this.#row.order(Math.min(n, this.size)) : this.#listed.ids;
        return Array.from({ length: Math.min(n, ids.length) }, (_, i) => this.candidate(ids[i], i));
    }

    /**
     * The n first candidates, and the marked one where it is not among them.
     * @param {number} n
     */
    listed(n) {
        const rows = this.top(n);
        const missing = this.drawnId >= 0 && !rows.some((row) => row.id === this.drawnId);
        return missing ? [...rows, this.candidate(this.drawnId)] : rows;
    }

    /**
     * @param {number} id
     * @param {number} [place] in the order, where it is known
     * @returns {Candidate}
     */
    candidate(id, place) {
        const { trace } = this;
        const own = trace.tokenBytes(id);
        const bytes = own.length || !this.whole ? own : this.whole.tokenBytes(id);
        const known = { id, bytes, special: trace.specialIds.has(id) };
        if (this.#row) {
            const cut = this.#row.cutBy[id];
            const cutBy = cut < 0 ? null : this.stages[cut].name;
            const rank = place === undefined ? this.#row.rank(id) : place + 1;
            return { ...known, p: this.#row.p[id], pModel: this.#row.pModel[id], rank, cutBy };
        }
        const at = place ?? Array.prototype.indexOf.call(this.#listed.ids, id);
        if (at < 0) {
            const columns = id === this.takenId ? [trace.p, trace.pModel, trace.rank] : []; // of no other are they on record
            const [p = NaN, pModel = NaN, rank = NaN] = columns.map((column) => column[this.index]);
            return { ...known, p, pModel, rank, cutBy: null };
        }
        const { p, pModel, cutBy } = this.#listed.at(at);
        return { ...known, p, pModel, rank: at + 1, cutBy: cutBy < 0 ? null : this.stages[cutBy].name };
    }

    /**
     * All tokens that are not among these, together.
     * @param {readonly Candidate[]} rows
     */
    other(rows) {
        const shown = new Set(rows.map(({ id }) => id));
        if (this.#row) return this.#row.other(shown);
        const { ids, at, restP, restPModel } = this.#listed;
        const outside = rows.filter(({ id }) => !this.hasPlace(id));
        const left = (/** @type {"p" | "pModel"} */ name, /** @type {number} */ rest) =>
            sumOf(ids.length, (i) => (shown.has(ids[i]) ? 0 : at(i)[name])) + Math.max(0, rest - sumOf(outside.length, (i) => outside[i][name]));
        return { count: this.size - shown.size, p: left("p", restP), pModel: left("pModel", restPModel) };
    }

    /**
     * What a token's p was under the recorded settings; NaN for one that is not on record.
     * @param {number} id
     */
    recordedP(id) {
        this.#recorded ??= new StepNumbers(this.trace, this.index);
        return this.#recorded.candidate(id).p;
    }

    /** @param {number} u @returns {Draw | null} */
    #draw(u) {
        if (this.#row) return draw(this.#row, u);
        if (this.changed) return this.#listed.draw(u);
        const place = Array.prototype.indexOf.call(this.#listed.ids, this.takenId);
        const low = sumOf(place < 0 ? this.#listed.ids.length : place, (i) => this.#listed.at(i).p);
        return { tokenId: this.takenId, low, high: place < 0 ? 1 : low + this.#listed.at(place).p };
    }
}

/**
 * A whole row.
 * @param {Distribution} row
 * @returns {Listed}
 */
function ofRow(row) {
    return {
        ids: row.p, // as many as there are tokens
        at: (place) => ({ p: row.p[place], pModel: row.pModel[place], cutBy: row.cutBy[place] }),
        stages: row.stages,
        restP: 0,
        restPModel: 0,
        entropy: row.entropy,
        error: 0,
        draw: (u) => draw(row, u),
    };
}

/**
 * A part of a row: as recorded, or under other settings.
 * @param {Part} part
 * @param {number} size
 * @param {Sampling} sampling
 * @param {boolean} recorded
 * @returns {Listed}
 */
function ofPart(part, size, sampling, recorded) {
    if (recorded) {
        const named = activeStages(sampling).map((name, i) => ({
            name,
            kept: part.stageKept[i],
            removedMass: part.stageRemovedMass[i],
        }));
        const at = (/** @type {number} */ i) => ({ p: part.p[i], pModel: part.pModel[i], cutBy: part.cutBy[i] });
        const { restP, restPModel, entropy } = part;
        return { ids: part.ids, at, stages: named, restP, restPModel, entropy, error: 0, draw: () => null };
    }
    const order = Array.from(part.ids, (_, i) => i).sort((a, b) => part.logits[b] - part.logits[a] || part.ids[a] - part.ids[b]);
    const ids = order.map((i) => part.ids[i]);
    const logits = order.map((i) => part.logits[i]);
    const left = (/** @type {number[]} */ row) => distribution(row, sampling, []).stages.find(({ name }) => name === "top_k")?.kept ?? NaN;
    const kept = left(logits);
    const isCut = kept === left([...logits, part.restLogitMax]); // even the largest of the others
    const within = sampling.temperature === 0 || isCut;
    const row = distribution(logits, within ? sampling : { ...sampling, top_k: null }, []);
    const [low, high] = outsideLogs(part, size - ids.length, sampling.temperature || 1, logits[0]).map(Math.exp);
    const listed = sumOf(ids.length, (i) => Math.exp((logits[i] - logits[0]) / (sampling.temperature || 1)));
    const least = sampling.top_k === null ? low : 0; // of a tail that may be cut
    const share = within ? [1, 1] : [listed / (listed + high), listed / (listed + least)]; // of the list: at least, at most
    const middle = (share[0] + share[1]) / 2;
    return {
        ids,
        at: (i) => ({ p: row.p[i] * middle, pModel: part.pModel[order[i]], cutBy: within ? row.cutBy[i] : -1 }),
        stages: keptBy(sampling, isCut ? kept : NaN, size),
        restP: 1 - middle,
        restPModel: part.restPModel,
        entropy: within ? row.entropy : null,
        error: (share[1] - share[0]) / 2, // of all others together; of one candidate it is less
        draw: (u) => drawBetween(row, ids, share, u),
    };
}

/**
 * What each stage left of the whole vocabulary; how much mass it cut cannot be told without the others.
 * @param {Sampling} sampling
 * @param {number} topK what that leaves; NaN where it is not all in the part
 * @param {number} size
 */
function keptBy(sampling, topK, size) {
    let kept = size;
    return activeStages(sampling).map((name) => {
        if (name !== "top_k") kept = sampling.temperature === 0 ? 1 : kept;
        else if (/** @type {number} */ (sampling.top_k) < kept) kept = topK;
        return { name, kept, removedMass: null };
    });
}

/**
 * The token at u, where it is the same at both ends of what the list may weigh.
 * @param {Distribution} row
 * @param {readonly number[]} ids
 * @param {readonly number[]} share
 * @param {number} u
 * @returns {Draw | null}
 */
function drawBetween(row, ids, share, u) {
    const [first, second] = share.map((weight) => (u / weight < 1 ? draw(row, u / weight) : null));
    if (first === null || second === null || first.tokenId !== second.tokenId) return null;
    const middle = (share[0] + share[1]) / 2;
    return { tokenId: ids[first.tokenId], low: first.low * middle, high: first.high * middle };
}

/**
 * Some candidates and the token that a reader put there; those of them that have numbers; all other tokens, together.
 * @param {StepNumbers} shown
 * @param {Candidate[]} listed
 * @param {number | null} forcedId
 */
export function withForced(shown, listed, forcedId) {
    const isListed = forcedId === null || listed.some(({ id }) => id === forcedId);
    const rows = isListed ? listed : [...listed, shown.candidate(forcedId)];
    const known = rows.filter(({ p }) => !Number.isNaN(p));
    return { rows, known, other: shown.other(known) };
}

/**
 * What the model gave the token of a place, and its rank in the draw.
 * @param {import("../trace/tree.js").Place} place
 * @returns {[pModel: number, rank: number]}
 */
export function expectation({ trace, index, forcedId }) {
    if (forcedId === null) return [trace.pModel[index], trace.rank[index]];
    const { pModel, rank } = new StepNumbers(trace, index).candidate(forcedId);
    return Number.isNaN(rank) ? [0, Infinity] : [pModel, rank]; // not among those on record: none of the likely ones
}

/**
 * How little the model expected the token of a place, in bits; NaN where no step stands behind it.
 * @param {import("../trace/tree.js").Place | null} place
 */
export function surprisal(place) {
    return place ? Math.max(0, -Math.log2(expectation(place)[0])) : NaN;
}

/**
 * The bytes before a step that have begun a character and not finished it.
 * @param {Trace} trace
 * @param {number} index
 */
export function bytesBegun(trace, index) {
    const before = trace.promptIds.length + index;
    return pendingBytes(trace.textBytes(Math.max(0, before - 4), before));
}

/** @param {number} count @param {(i: number) => number} term */
function sumOf(count, term) {
    let sum = 0;
    for (let i = 0; i < count; i++) sum += term(i);
    return sum;
}
