/**
 * From one row of logits to one drawn token, as `manako.sampling` does it: the same stages, the same rules for ties.
 *
 * Special here: everything is a Float64Array and no input is changed. -Infinity in a row means *cut*, nothing else.
 * Sums are added up in another order than NumPy's, so the last digits differ; nothing beyond 1e-9 does.
 * Python's answers: tests/vectors/uniform.json and tests/vectors/chain.json.
 */

import { STAGE_RULES } from "./schema.js";

/**
 * The settings of the chain, in the names of the record; null leaves a stage out.
 * @typedef {object} Sampling
 * @property {number} temperature 0 is greedy: the likeliest token, ties to the lowest id
 * @property {number | null} top_k
 * @property {number | null} top_p
 * @property {number | null} min_p
 * @property {number | null} typical_p
 * @property {number | null} repetition_penalty
 * @property {number | null} presence_penalty
 * @property {number | null} frequency_penalty
 * @property {readonly StageName[]} order the stages that are used, in order; others may stand among them or not
 */
/** @typedef {keyof typeof FILTERS} StageName */
/** @typedef {ArrayLike<number>} Numbers */
/**
 * What one stage did to the row.
 * @typedef {object} StageResult
 * @property {StageName} name
 * @property {number} kept tokens left after it
 * @property {number} removedMass probability, just before this stage, of the tokens that it cut
 */
/**
 * A drawn token and where u fell on the line of cumulative probability, likeliest token first.
 * @typedef {object} Draw
 * @property {number} tokenId
 * @property {number} low mass of all tokens before it on the line
 * @property {number} high the same with its own: low <= u < high, but for rounding at the very end
 */

/** In the default order. */
export const STAGES = /** @type {readonly StageName[]} */ (STAGE_RULES.map(({ name }) => name));
const ULP = Number.EPSILON;
const SLACK = 16 * ULP; // what exp, log and a division or two can be wrong by, relative to 1: a border stays a border

/** One row of logits, seen twice: as the model gave it and as the draw uses it. */
export class Distribution {
    /**
     * @param {Float64Array} logits [V] the model's own, natural log, unnormalised
     * @param {Float64Array} row [V] after the chain; -Infinity where a stage cut
     * @param {Float64Array} pModel [V] softmax of `logits`: T = 1, whole vocabulary
     * @param {Float64Array} p [V] softmax of `row`: what the draw uses; exactly 0 where cut
     * @param {Int8Array} cutBy [V] index into `stages` of the stage that cut a token, -1 where none did
     * @param {StageResult[]} stages the stages that ran, in order
     */
    constructor(logits, row, pModel, p, cutBy, stages) {
        this.logits = logits;
        this.row = row;
        this.pModel = pModel;
        this.p = p;
        this.cutBy = cutBy;
        this.stages = stages;
        this.kept = countKept(row);
    }

    /** Entropy of `p` in bits: 0 when one token is certain, log2(V) when all are alike. */
    get entropy() {
        let bits = 0;
        for (const each of this.p) if (each > 0) bits -= each * Math.log2(each);
        return Math.max(0, bits);
    }

    /**
     * The ids of the n first tokens: by `row`, then by the model's own logit (which ranks cut tokens), then by id.
     * @param {number} n
     * @returns {Int32Array}
     */
    order(n) {
        const ids = new Int32Array(this.row.length).map((_, id) => id);
        let [from, to] = [0, ids.length];
        while (from < n && n < to) {
            const place = this.part(ids, from, to);
            if (n <= place) to = place;
            else from = place + 1;
        }
        return ids.slice(0, n).sort((a, b) => (this.isBefore(a, b) ? -1 : 1));
    }

    /**
     * Put those of ids[from..to) that stand before one of them in that order in front of it, as quickselect does: a sort
     * of a whole vocabulary takes as long as a model does. Returns where that one is now.
     * @param {Int32Array} ids
     * @param {number} from
     * @param {number} to
     */
    part(ids, from, to) {
        const middle = (from + to) >> 1;
        const pivot = ids[middle];
        ids[middle] = ids[to - 1];
        let place = from;
        for (let i = from; i < to - 1; i++) {
            const id = ids[i];
            ids[i] = ids[place];
            ids[place] = id;
            place += Number(this.isBefore(id, pivot)); // added, not asked: a processor could not guess the answer
        }
        ids[to - 1] = ids[place];
        ids[place] = pivot;
        return place;
    }

    /**
     * The place of a token in that order, counted from 1.
     * @param {number} id
     */
    rank(id) {
        let before = 0;
        for (let i = 0; i < this.row.length; i++) before += Number(this.isBefore(i, id));
        return before + 1;
    }

    /** Whether a token stands before another one in that order. @param {number} id @param {number} other */
    isBefore(id, other) {
        const { row, logits } = this;
        if (row[id] !== row[other]) return row[id] > row[other];
        return logits[id] > logits[other] || (logits[id] === logits[other] && id < other);
    }

    /**
     * All tokens but these, together: added up, since 1 less the others would leave their rounding where nothing is.
     * @param {Iterable<number>} ids
     */
    other(ids) {
        const shown = new Set(ids);
        let [p, pModel] = [0, 0];
        for (let id = 0; id < this.p.length; id++) if (!shown.has(id)) [p, pModel] = [p + this.p[id], pModel + this.pModel[id]];
        return { count: this.p.length - shown.size, p, pModel };
    }
}

/**
 * Run the chain over one row. Throws RangeError for NaN, +Infinity, or a row with nothing in it.
 * @param {Numbers} logits [V] natural log, unnormalised
 * @param {Sampling} sampling
 * @param {Numbers} history ids of the whole text so far, for the penalties
 * @returns {Distribution}
 */
export function distribution(logits, sampling, history = []) {
    const raw = new Float64Array(logits);
    const largest = maximum(raw);
    if (!(largest < Infinity) || largest === -Infinity) throw new RangeError("logits_not_finite");
    const pModel = softmax(raw);
    const cutBy = new Int8Array(raw.length).fill(-1);
    /** @type {StageResult[]} */
    const stages = [];
    /** @type {[Float64Array, Float64Array]} */
    let [row, p] = [raw, pModel];
    for (const name of activeStages(sampling)) {
        const after = FILTERS[name](row, Number(sampling[name]), history);
        let removedMass = 0;
        for (let i = 0; i < raw.length; i++) {
            if (after[i] === -Infinity && row[i] > -Infinity) {
                cutBy[i] = stages.length;
                removedMass += p[i];
            }
        }
        stages.push({ name, kept: countKept(after), removedMass });
        if (after !== row) [row, p] = [after, softmax(after)];
    }
    return new Distribution(raw, row, pModel, p, cutBy, stages);
}

/**
 * The token at u in [0, 1) on the cumulative line, likeliest first; never one of probability 0.
 * @param {Distribution} found
 * @param {number} u
 * @returns {Draw}
 */
export function draw(found, u) {
    if (!(u >= 0 && u < 1)) throw new RangeError("u_range");
    const { p } = found;
    const ids = new Int32Array(p.length); // ids[from..to) hold the token; what stands before them has the mass `low`
    let [from, to, low] = [0, 0, 0];
    for (let id = 0; id < p.length; id++) if (p[id] > 0) ids[to++] = id;
    for (;;) {
        const place = found.part(ids, from, to);
        let start = low;
        for (let i = from; i < place; i++) start += p[ids[i]];
        const high = start + p[ids[place]];
        if (u < start && place > from) to = place;
        else if (u < high || place + 1 === to) return { tokenId: ids[place], low: start, high }; // the last has the rounding
        else [from, low] = [place + 1, high];
    }
}

/**
 * The random number of one step, in [0, 1) with 53 random bits, the same on every machine.
 *
 * The first output of Philox4x64-10 with key (seed, 0) and counter (step + 1, 0, 0, 0), its upper 53 bits over 2^53.
 * Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
 * @param {bigint} seed 0 to 2^64 - 1
 * @param {number} step from 0
 */
export function uniform(seed, step) {
    let [key0, key1] = [seed, 0n];
    let [c0, c1, c2, c3] = [BigInt(step) + 1n, 0n, 0n, 0n];
    for (let round = 0; round < 10; round++) {
        const [left, right] = [c0 * 0xd2e7470ee14c6c93n, c2 * 0xca5a826395121157n]; // 128 bits each
        [c0, c1, c2, c3] = [(right >> 64n) ^ c1 ^ key0, right, (left >> 64n) ^ c3 ^ key1, left].map(low64);
        [key0, key1] = [low64(key0 + 0x9e3779b97f4a7c15n), low64(key1 + 0xbb67ae8584caa73bn)];
    }
    return Number(c0 >> 11n) * 2 ** -53;
}

/**
 * The stages that run, in order.
 * @param {Sampling} sampling
 * @returns {StageName[]}
 */
export function activeStages(sampling) {
    return sampling.order.filter((name) => sampling[name] !== null);
}

/**
 * Settings whose order has every stage that is used: one that it lacks stands before the first that follows by default.
 * @param {Sampling} sampling
 * @returns {Sampling}
 */
export function ordered(sampling) {
    const order = [...sampling.order];
    for (const name of STAGES.filter((each) => sampling[each] !== null && !order.includes(each))) {
        const place = order.findIndex((other) => STAGES.indexOf(other) > STAGES.indexOf(name));
        order.splice(place < 0 ? order.length : place, 0, name);
    }
    return { ...sampling, order };
}

/**
 * The first setting that is out of its range, null where none is.
 * @param {Sampling} sampling
 * @returns {keyof Sampling | null}
 */
export function samplingFault(sampling) {
    for (const { name, type, minimum = -Infinity, exclusiveMinimum = -Infinity, maximum = Infinity } of STAGE_RULES) {
        /** @type {any} */
        const value = sampling[/** @type {StageName} */ (name)];
        if (value === null && name !== "temperature") continue;
        const isKind = type === "integer" ? Number.isInteger(value) : Number.isFinite(value);
        if (!isKind || !(value >= minimum && value > exclusiveMinimum && value <= maximum)) return /** @type {StageName} */ (name);
    }
    const { order } = sampling;
    const known = order.every((name, i) => STAGES.includes(name) && order.indexOf(name) === i);
    return known && STAGES.every((name) => sampling[name] === null || order.includes(name)) ? null : "order";
}

/**
 * Probabilities of one row; 0 exactly where it is -Infinity.
 * @param {Float64Array} row
 * @returns {Float64Array}
 */
export function softmax(row) {
    const largest = maximum(row);
    const weights = new Float64Array(row.length);
    let total = 0;
    for (let i = 0; i < row.length; i++) total += weights[i] = Math.exp(row[i] - largest);
    for (let i = 0; i < row.length; i++) weights[i] /= total;
    return weights;
}

/**
 * The row after one stage.
 * @param {StageName} name
 * @param {Float64Array} row
 * @param {number} setting
 * @param {Numbers} history
 */
export function filtered(name, row, setting, history) {
    return FILTERS[name](row, setting, history);
}

/**
 * Whether a stage changes nothing with this setting.
 * @param {StageName} name
 * @param {number} setting
 */
export function isNeutral(name, setting) {
    return STAGE_RULES.find((rule) => rule.name === name)?.neutral === setting;
}

/** @typedef {(row: Float64Array, setting: number, history: Numbers) => Float64Array} Filter */

/** @satisfies {Record<string, Filter>} */
const FILTERS = {
    repetition_penalty: (row, penalty, history) =>
        changeSeen(row, history, (value) => (value < 0 ? value * penalty : value / penalty)),
    presence_penalty: (row, penalty, history) => changeSeen(row, history, (value) => value - penalty),
    frequency_penalty: (row, penalty, history) => changeSeen(row, history, (value, times) => value - penalty * times),
    temperature: applyTemperature,
    top_k: (row, k) => {
        if (k >= row.length) return row;
        const kth = row.toSorted()[row.length - k]; // tokens tied with it stay
        return row.map((value) => (value < kth ? -Infinity : value));
    },
    top_p: applyTopP,
    min_p: (row, share) => {
        if (share === 0) return row;
        const p = softmax(row);
        const least = share * maximum(p);
        return row.map((value, i) => (p[i] * (1 + SLACK) < least ? -Infinity : value));
    },
    typical_p: applyTypicalP,
};

/** @type {Filter} */
function applyTemperature(row, t) {
    if (t === 1) return row;
    const largest = maximum(row);
    if (t === 0) {
        const first = row.indexOf(largest);
        return row.map((_, i) => (i === first ? 0 : -Infinity));
    }
    const after = new Float64Array(row.length); // in a loop: this is part of every token
    for (let i = 0; i < row.length; i++) after[i] = finiteWhereKept((row[i] - largest) / t, row[i]); // no t gives NaN
    return after;
}

/** @type {Filter} */
function applyTopP(row, threshold) {
    if (threshold === 1) return row;
    const sorted = row.toSorted().reverse(); // [V] best first: of equal logits it does not matter which is which
    const p = softmax(sorted);
    let [count, reached] = [0, 0];
    do reached += p[count++]; // the token that crosses it stays
    while (count < p.length && !reaches(reached, count, threshold));
    const last = sorted[count - 1];
    let ties = 0; // how many of those equal to the last one stay: the lowest ids
    for (let i = count - 1; i >= 0 && sorted[i] === last; i--) ties++;
    return row.map((value) => (value > last || (value === last && ties-- > 0) ? value : -Infinity));
}

/** @type {Filter} */
function applyTypicalP(row, mass) {
    if (mass === 1) return row;
    const p = softmax(row);
    const surprisal = p.map((each) => (each > 0 ? -Math.log(each) : Infinity));
    let expected = 0;
    for (let i = 0; i < p.length; i++) if (p[i] > 0) expected += p[i] * surprisal[i];
    const off = surprisal.map((each) => Math.abs(each - expected)); // [V] Infinity where p is 0
    const order = Int32Array.from(off.keys()).sort((a, b) => (off[a] === off[b] ? a - b : off[a] - off[b]));
    let [count, reached] = [0, 0];
    do reached += p[order[count++]];
    while (count < p.length && !reaches(reached, count, mass));
    const last = off[order[count - 1]];
    const border = last + SLACK * (1 + expected + last);
    return row.map((value, i) => (off[i] > border ? -Infinity : value));
}

/**
 * The row with every token of the text changed; ids that have no logit cannot be drawn and are left out.
 * @param {Float64Array} row
 * @param {Numbers} history
 * @param {(value: number, times: number) => number} change
 */
function changeSeen(row, history, change) {
    /** @type {Map<number, number>} */
    const times = new Map();
    for (const id of Array.from(history)) if (id >= 0 && id < row.length) times.set(id, (times.get(id) ?? 0) + 1);
    const after = row.slice();
    for (const [id, count] of times) after[id] = finiteWhereKept(change(row[id], count), row[id]);
    return after;
}

/**
 * @param {number} after
 * @param {number} before
 */
function finiteWhereKept(after, before) {
    if (before === -Infinity) return -Infinity;
    return Math.min(Math.max(after, -Number.MAX_VALUE), Number.MAX_VALUE);
}

/**
 * Whether a sum of so many probabilities is a mass, but for what rounding can have taken from it.
 * @param {number} sum
 * @param {number} count
 * @param {number} mass
 */
function reaches(sum, count, mass) {
    return sum + SLACK + ULP * (count - 1) >= mass;
}

/** The largest of a row. @param {Float64Array} row @returns {number} NaN where one is */
export function maximum(row) {
    let largest = -Infinity;
    for (let i = 0; i < row.length; i++) {
        if (row[i] > largest) largest = row[i];
        else if (Number.isNaN(row[i])) return NaN;
    }
    return largest;
}

/** @param {Float64Array} row */
function countKept(row) {
    let kept = 0;
    for (let i = 0; i < row.length; i++) if (row[i] > -Infinity) kept++;
    return kept;
}

/** @param {bigint} number */
function low64(number) {
    return BigInt.asUintN(64, number);
}
