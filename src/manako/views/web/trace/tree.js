/**
 * A tree of texts that went on from each other: each branch is a trace of its own, whose prompt holds all tokens in
 * front of its first step.
 *
 * Special here: nothing is ever taken out, so no text gets lost. A place is a step of a branch's whole text, counted
 * from 0 behind the first prompt; a place that a reader filled has the numbers of the step that he took over.
 */

/** @import {Trace} from "./trace-file.js" */
/**
 * @typedef {object} Branch
 * @property {string} id
 * @property {string | null} parent
 * @property {number} keep how many of the parent's own steps stand in front of it
 * @property {Trace} trace
 * @property {ArrayBuffer} bytes the trace as a file
 * @property {boolean} [isOwn] whether it was written on this page, and is no part of what the page came with
 */
/** @typedef {{branch: Branch, keep: number}} Fork */
/** @typedef {{branch: Branch, trace: Trace, index: number, forcedId: number | null}} Place */

export class Tree {
    /** @type {Map<string, Branch>} parents in front of their children */
    branches = new Map();

    /** @param {Iterable<Branch>} given */
    constructor(given) {
        for (const branch of given) this.branches.set(branch.id, branch);
    }

    /** @param {string} id */
    path(id) {
        const chain = [];
        for (let at = this.branches.get(id); at; at = at.parent === null ? undefined : this.branches.get(at.parent)) chain.unshift(at);
        return new Path(chain);
    }

    /**
     * All texts in the order and depth in which a reader looks for them. Branches that go on at each other's very end
     * are one text, a chain.
     * @returns {{chain: Branch[], depth: number}[]}
     */
    rows() {
        /** @type {{chain: Branch[], depth: number}[]} */
        const found = [];
        const visit = (/** @type {Branch} */ first, /** @type {number} */ depth) => {
            const chain = [first];
            for (let next = this.goesOn(first); next; next = this.goesOn(next)) chain.push(next);
            found.push({ chain, depth });
            for (const each of chain) for (const child of this.#children(each)) if (!chain.includes(child)) visit(child, depth + 1);
        };
        for (const branch of this.branches.values()) if (!this.branches.has(branch.parent ?? "")) visit(branch, 0);
        return found;
    }

    /**
     * The first branch that goes on where a whole one ends, with nothing put in between.
     * @param {Branch} branch
     */
    goesOn(branch) {
        return this.#children(branch).find((child) => child.keep === branch.trace.steps && forcedCount(branch, child) === 0);
    }

    /**
     * Where a text that forks behind some steps of a branch, with nothing put in, comes from: one that keeps none is a
     * fork of the parent. With a token put in it would lose the row of that step, which the branch has.
     * @param {Fork} fork
     * @returns {Fork}
     */
    origin({ branch, keep }) {
        const parent = this.branches.get(branch.parent ?? "");
        if (keep > 0 || !parent || forcedCount(parent, branch) > 0) return { branch, keep };
        return this.origin({ branch: parent, keep: branch.keep });
    }

    /**
     * The text that another one parted from; else the newest that parted from it; null where there is neither.
     * @param {Path} path
     * @returns {Path | null}
     */
    other({ chain }) {
        const parted = (/** @type {Branch} */ { parent, keep }) => keep < (this.branches.get(parent ?? "")?.trace.steps ?? 0);
        const isOf = (/** @type {Branch} */ { parent }) => chain.some(({ id }) => id === parent);
        const own = chain.findLast(parted);
        const child = [...this.branches.values()].findLast((each) => parted(each) && isOf(each));
        let end = own ? this.branches.get(own.parent ?? "") : child;
        for (let next = end; next; next = this.goesOn(next)) end = next;
        return end ? this.path(end.id) : null;
    }

    /** @param {Branch} branch */
    #children({ id }) {
        return [...this.branches.values()].filter(({ parent }) => parent === id);
    }
}

/** One branch's whole text. */
export class Path {
    /** @param {Branch[]} chain from the first text to the branch, at least one */
    constructor(chain) {
        this.chain = chain;
        const first = chain[0].trace;
        this.leaf = /** @type {Branch} */ (chain.at(-1));
        this.ids = this.leaf.trace.allIds;
        this.prompt = first.promptIds.length; // tokens in front of place 0
        this.length = this.ids.length - this.prompt;
        this.#starts = chain.map(({ trace }) => trace.header.first_step - first.header.first_step);
    }

    /** @type {number[]} each branch's first own place */
    #starts;

    /**
     * What is on record of a place; null for a typed token that no step stands behind.
     * @param {number} place
     * @returns {Place | null}
     */
    at(place) {
        let n = this.chain.length - 1;
        const kept = () => this.#starts[n - 1] + this.chain[n].keep; // the first place that is not the parent's
        while (n > 0 && place < kept()) n--;
        const branch = this.chain[n];
        if (place >= this.#starts[n]) return placeIn(branch, place - this.#starts[n], null);
        return place === kept() ? placeIn(this.chain[n - 1], branch.keep, this.ids[this.prompt + place]) : null;
    }

    /**
     * The nearest place, from one on, whose token was drawn; null where there is none.
     * @param {number} place
     */
    drawn(place) {
        let at = this.next(place, 1);
        while (at !== null && this.at(at)?.forcedId !== null) at = this.next(at + 1, 1);
        return at;
    }

    /**
     * The nearest place with numbers, from one on in a direction; null where there is none.
     * @param {number} place
     * @param {number} by
     */
    next(place, by) {
        for (let at = place; at >= 0 && at < this.length; at += by) if (this.at(at)) return at;
        return null;
    }
}

/**
 * A name for a text. The browser keeps the texts of all tabs of a page together, so no other tab may give it too.
 * crypto.randomUUID is not there over plain HTTP.
 */
export function newId() {
    return `t${Math.random().toString(36).slice(2)}`;
}

/**
 * Tokens that were put in front of a child's first step.
 * @param {Branch} parent
 * @param {Branch} child
 */
export function forcedCount(parent, child) {
    return child.trace.promptIds.length - parent.trace.promptIds.length - child.keep;
}

/**
 * @param {Branch} branch
 * @param {number} index
 * @param {number | null} forcedId
 * @returns {Place | null}
 */
function placeIn(branch, index, forcedId) {
    const { trace } = branch;
    return index >= 0 && index < trace.steps ? { branch, trace, index, forcedId } : null;
}
