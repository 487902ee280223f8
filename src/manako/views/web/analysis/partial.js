/**
 * Whether the numbers of a step follow from each other where only a part of its row is on record, as
 * `manako.analysis.partial` decides it: see there for what follows from what.
 *
 * Letters: K candidates on record, A active stages.
 */

/** @import {Part, Trace} from "../trace/trace-file.js" */
import { activeStages, filtered, isNeutral, maximum } from "../trace/sampling.js";

/**
 * A row before a stage, or at the end.
 * @typedef {{listed: Float64Array, chosen: number, bound: number}} Values
 */
/**
 * What is on record of a row that a stage has cut: see `manako.sampling.Cut`.
 * @typedef {object} Cut
 * @property {number[]} kept largest first
 * @property {number[]} cut
 * @property {number} outside
 * @property {number} count
 * @property {boolean} any
 * @property {number} mass
 * @property {number} unit
 */

const SAME = 1e-9; // numbers on record that differ by less are the same
const FLOOR = 1e-15; // of a sum of probabilities: what is smaller is rounding
const TINY = 1e-290; // a mass with fewer digits than it should have
const SMALLEST = 2 ** -1022; // a probability below it has fewer digits, and not the same everywhere
const FAR = 1e5; // values this far from 0 have too few digits left for a difference to be SAME

/** @type {Record<string, (cut: Cut, setting: number) => boolean>} whether a stage can have cut so */
const FITS = {
    temperature: ({ count }) => count === 1,
    top_k: ({ kept, count, any }, k) => (kept.length < k || kept[k - 1] === kept.at(-1)) && (count >= k || !any),
    top_p: ({ kept, count, mass, unit }, threshold) => {
        const isSpare = count === kept.length && mass - unit * Math.exp(kept[count - 1]) > threshold + SAME;
        return !(mass < threshold - SAME) && !isSpare;
    },
    min_p: ({ kept, cut, outside, count }, share) => {
        const largest = Math.max(kept[0], ...cut);
        const low = largest + Math.log(share) - SAME;
        const high = Math.max(largest, outside) + Math.log(share) + SAME;
        return /** @type {number} */ (kept.at(-1)) >= low && cut.every((value) => value < high) && (count === kept.length || outside >= low);
    },
    typical_p: ({ kept, cut, mass: left }, mass) =>
        !cut.some((value) => value < kept[0] && value > /** @type {number} */ (kept.at(-1))) && !(left < mass - SAME),
};

/**
 * The first column of a step that contradicts the others; null where they agree.
 * @param {Trace} trace
 * @param {number} index
 * @returns {string | null}
 */
export function misfitOfPart(trace, index) {
    return new PartOfRow(trace, index).misfits().next().value ?? null;
}

class PartOfRow {
    /** @param {Trace} trace @param {number} index */
    constructor(trace, index) {
        const part = /** @type {Part} */ (trace.part(index));
        const { sampling } = trace.header;
        this.part = part;
        this.ids = Array.from(part.ids);
        this.size = trace.vocabSize;
        this.outside = this.size - this.ids.length;
        this.chosen = trace.tokenIds[index];
        this.chosenP = trace.p[index];
        this.rank = trace.rank[index];
        this.isDrawn = trace.header.seed !== null;
        this.temperature = sampling.temperature;
        this.stages = activeStages(sampling).map((name) => {
            const setting = Number(sampling[name]);
            const cuts = name in FITS && !isNeutral(name, setting) && (name !== "temperature" || setting === 0);
            return { name, setting, cuts, isPenalty: !(name in FITS) };
        });
        this.lastKept = part.stageKept[this.stages.length - 1];
        this.alive = this.ids.map((_, i) => part.logits[i] > -Infinity); // what the model itself rules out, no stage cut
        this.stays = this.ids.map((_, i) => this.alive[i] && part.cutBy[i] < 0);
        this.unlisted = this.lastKept - countTrue(this.stays);
        this.values = this.#values(trace.history(index));
    }

    /** @returns {Generator<string>} */
    *misfits() {
        const { part, ids, stays } = this;
        const [rest, largest] = [part.restPModel, Math.exp(part.restLogitMax - part.logsumexp)];
        if (rest < largest * (1 - SAME) - FLOOR || rest > this.outside * largest * (1 + SAME) + FLOOR) yield "rest_logit_max";
        const at = ids.indexOf(this.chosen);
        if (at < 0 ? part.chosenLogit > part.restLogitMax : part.chosenLogit !== part.logits[at]) yield "chosen_logit";
        const kept = countTrue(stays);
        if (kept !== Math.min(ids.length, this.lastKept) || !stays.slice(0, kept).every(Boolean)) yield "part_cut_by";
        if (ids.some((_, i) => !stays[i] && part.p[i] !== 0)) yield "part_p";
        if (this.rank > (this.isDrawn ? this.lastKept : this.size)) yield "rank";
        yield* this.#misfitStages();
        if (this.values !== null && kept) yield* this.#misfitRow(/** @type {Values} */ (this.values.at(-1)));
    }

    /** @param {Values} end @returns {Generator<string>} */
    *#misfitRow({ listed, chosen, bound }) {
        const { part, ids, stays, unlisted } = this;
        const { p, logits } = part;
        const [first, firstP, last] = [listed[0], p[0], ids.length - 1];
        if (Math.abs(first) > FAR) return;
        for (let i = 0; i < last; i++) {
            const [before, after] = [stays[i], stays[i + 1]];
            const falls = after ? listed[i + 1] <= listed[i] + SAME : before || logits[i + 1] <= logits[i];
            const isTied = logits[i] === logits[i + 1] && before === after && (!after || listed[i] === listed[i + 1]);
            if (!falls || (isTied && ids[i + 1] < ids[i])) yield "part_id";
        }
        if (!ids.every((_, i) => agrees(p[i], stays[i] ? Math.exp(listed[i] - first) * firstP : 0))) yield "part_p";
        const highest = unlisted ? Math.min(Math.exp(bound - first) * firstP, p[last]) : 0;
        if (!ids.includes(this.chosen)) {
            const own = unlisted ? Math.exp(chosen - first) * firstP : 0;
            if (!agrees(this.chosenP, own) || own > highest * (1 + SAME) + FLOOR) yield "p";
        }
        if (part.restP > unlisted * (highest * (1 + SAME) + SMALLEST)) yield "rest_p";
        const rest = part.restP;
        const known = p.reduce((bits, each) => (each > 0 ? bits - each * Math.log2(each) : bits), 0);
        const least = rest > 0 ? -rest * Math.log2(Math.min(highest, rest)) : 0; // all that is left on as few as can be
        const most = rest > 0 ? -rest * Math.log2(rest / unlisted) : 0; // or evenly on all
        if (part.entropy < known + least - SAME || part.entropy > known + most + SAME) yield "entropy";
        const byLogit = this.stages.every(({ name, isPenalty }) => !isPenalty && name !== "typical_p");
        const isAbove = part.restLogitMax > logits[last];
        if ((this.lastKept < ids.length || (byLogit && unlisted)) && isAbove) yield "rest_logit_max";
    }

    /** What each stage kept and removed. @returns {Generator<string>} */
    *#misfitStages() {
        const { part, stages, alive } = this;
        const lastChange = stages.findLastIndex(({ cuts }) => !cuts);
        const share = (/** @type {number} */ n) => part.stageRemovedMass.slice(n).reduce((left, removed) => left * (1 - removed), 1);
        let [unlisted, isCertain] = [part.restLogitMax > -Infinity ? this.outside : 0, false];
        for (const [n, { cuts }] of stages.entries()) {
            const left = alive.map((is, i) => is && (part.cutBy[i] < 0 || part.cutBy[i] > n));
            const gone = alive.map((_, i) => part.cutBy[i] === n);
            const [isGone, removed] = [gone.includes(true), part.stageRemovedMass[n]];
            const now = part.stageKept[n] - countTrue(left);
            if (gone.some((is, i) => is && !alive[i]) || (isGone && !cuts)) yield "part_cut_by";
            if (!((isCertain && !cuts ? unlisted : 0) <= now && now <= unlisted)) yield "stage_kept";
            const any = isGone || (isCertain && now < unlisted);
            if (!any && (isCertain || !cuts) && removed !== 0) yield "stage_removed_mass";
            const isKnown = this.values !== null && Math.abs(this.values[n].listed[0]) <= FAR;
            if (cuts && isKnown && left.includes(true)) {
                yield* this.#misfitCut(n, left, gone, any, n > lastChange ? share(n) : NaN, unlisted);
            }
            [unlisted, isCertain] = [now, true];
        }
        const isPlain = !stages.slice(0, lastChange + 1).some(({ cuts, isPenalty }) => cuts || isPenalty);
        if (this.values === null || !isPlain) return;
        const [changed, kept] = [this.values[lastChange + 1].listed, share(lastChange + 1)];
        if (Math.abs(changed[0]) <= FAR && !this.#sumFits(changed, part.p[0] * kept)) yield kept < 1 ? "stage_removed_mass" : "rest_p";
    }

    /**
     * @param {number} n
     * @param {boolean[]} left
     * @param {boolean[]} gone
     * @param {boolean} any
     * @param {number} share of the mass before the stage that stays to the end, NaN where that cannot be told
     * @param {number} unlisted
     * @returns {Generator<string>}
     */
    *#misfitCut(n, left, gone, any, share, unlisted) {
        const { listed, bound } = /** @type {Values[]} */ (this.values)[n];
        const { name, setting } = this.stages[n];
        const [removed, now] = [this.part.stageRemovedMass[n], this.part.stageKept[n] - countTrue(left)];
        const values = (/** @type {boolean[]} */ some) => Array.from(listed, (value) => value - listed[0]).filter((_, i) => some[i]);
        const [kept, cut] = [values(left).sort((a, b) => b - a), values(gone)];
        const outside = unlisted ? bound - listed[0] : -Infinity;
        const [unit, mass] = [this.part.p[0] * share, Number.isNaN(share) ? NaN : 1 - removed];
        const lowest = Math.min(/** @type {number} */ (kept.at(-1)), now > 0 ? outside : Infinity); // that it kept, at most
        const isAbove = name !== "typical_p" && cut.some((value) => value > lowest);
        const fits = FITS[name]({ kept, cut, outside, count: this.part.stageKept[n], any, mass, unit }, setting);
        if (isAbove || !fits) yield cut.length ? "part_cut_by" : "stage_kept";
        const least = cut.reduce((sum, value) => sum + Math.exp(value), 0) * unit;
        const most = least + (unlisted > now ? (unlisted - now) * Math.exp(outside) * unit : 0);
        if (removed < least - SAME || removed > most + SAME) yield "stage_removed_mass";
    }

    /**
     * Whether the first token can have probability p where nothing but a temperature has changed the row.
     * @param {Float64Array} changed
     * @param {number} p
     */
    #sumFits(changed, p) {
        const t = this.temperature || 1;
        const ends = outsideLogs(this.part, this.outside, t, this.part.logits[0]);
        const [least, most] = [Math.exp(ends[0] - (FLOOR * 10) / t), Math.exp(ends[1] + (FLOOR * 10) / t)];
        const listed = changed.reduce((sum, value, i) => (this.alive[i] ? sum + Math.exp(value - changed[0]) : sum), 0);
        return !(p * (listed + least) > 1 + SAME || p * (listed + most) < 1 - SAME);
    }

    /**
     * [A + 1] before each stage, and at the end; null where more than a constant is unknown.
     * @param {Int32Array} history
     * @returns {Values[] | null}
     */
    #values(history) {
        const { ids, part, chosen, stages, size } = this;
        const place = new Map([...new Set([...ids, chosen])].map((id, i) => [id, i]));
        const known = place.size;
        const seen = stages.some(({ isPenalty }) => isPenalty) ? Array.from(history).filter((id) => id >= 0 && id < size) : [];
        for (const id of seen) if (!place.has(id)) place.set(id, place.size);
        const at = (/** @type {number} */ id) => Number(place.get(id));
        let row = new Float64Array(place.size + 1).fill(part.restLogitMax);
        row[at(chosen)] = part.chosenLogit;
        row.set(part.logits);
        const now = () => ({ listed: row.slice(0, ids.length), chosen: row[at(chosen)], bound: maximum(row.subarray(ids.length)) });
        const found = [now()];
        let isCertain = true; // by how much a temperature has shifted the row
        for (const [n, { name, setting, cuts, isPenalty }] of stages.entries()) {
            if (name === "repetition_penalty" && !isCertain) return null;
            if (cuts) row = row.map((value, i) => (part.cutBy[i] === n ? -Infinity : value));
            else {
                if (!isPenalty) isCertain &&= maximum(row.subarray(known)) <= maximum(row.subarray(0, known));
                row = /** @type {Float64Array<ArrayBuffer>} */ (filtered(name, row, setting, seen.map(at)));
            }
            found.push(now());
        }
        return found;
    }
}

/**
 * What all tokens outside a part weigh at a temperature, beside a token with logit `one`: at least and at most, as
 * natural logarithms, since either may be smaller than any number.
 *
 * With a = 1 / T, p^a summed over n tokens of mass m, none above a largest one, lies between the even row and the one
 * that is concentrated on as few tokens as that allows.
 * @param {Part} part
 * @param {number} n
 * @param {number} t
 * @param {number} one
 */
export function outsideLogs({ logsumexp, restPModel: mass, restLogitMax }, n, t, one) {
    if (n === 0 || restLogitMax === -Infinity) return [-Infinity, -Infinity];
    const first = one - logsumexp;
    let largest = restLogitMax - logsumexp;
    let ends = [(largest - first) / t, (largest - first) / t + Math.log(n)]; // one of them, all of them
    if (mass > TINY) {
        const even = Math.log(mass / n);
        largest = Math.max(largest, even);
        ends = [(even - first) / t + Math.log(n), (largest - first) / t + Math.log(mass) - largest];
    }
    return ends.sort((x, y) => x - y);
}

/** @param {readonly boolean[]} some */
function countTrue(some) {
    return some.filter(Boolean).length;
}

/**
 * Whether a probability on record is the one expected, relative to itself, since its logarithm is shown.
 * @param {number} found
 * @param {number} expected
 */
export function agrees(found, expected) {
    return Math.abs(found - expected) <= SAME * Math.abs(found) + SMALLEST;
}
