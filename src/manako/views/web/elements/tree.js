/** <manako-tree>: all texts that were written, as an indented list; choosing one shows it. */

/** @import {View} from "./view.js" */
/** @import {Branch} from "../trace/tree.js" */
import { make, soft } from "./dom.js";
import { ViewElement } from "./view.js";
import { say } from "../text/messages.js";
import { Tree, forcedCount } from "../trace/tree.js";
import { recordText, visibleText } from "../text/tokens.js";

const LONGEST_NAME = 28; // characters

export class TreeElement extends ViewElement {
    tree = new Tree([]);
    /** @type {Branch[]} the branch that each row leads to */
    #ends = [];
    /** The row that is shown. */
    #at = 0;
    #size = 0;

    /** @param {View} view @param {View | null} before */
    draw({ lang, branch }, before) {
        const { size } = this.tree.branches;
        if (before && before.lang === lang && before.branch === branch && this.#size === size) return;
        this.#size = size;
        const rows = this.tree.rows();
        this.#ends = rows.map(({ chain }) => /** @type {Branch} */ (chain.at(-1)));
        this.#at = rows.findIndex(({ chain }) => chain.some(({ id }) => id === branch));
        const items = rows.map(({ chain, depth }, n) => {
            /** @type {Map<string, {steps: number, temperature: number, seed: bigint | null}>} steps of each temperature and seed */
            const parts = new Map();
            for (const { trace: { header: { sampling: { temperature }, seed }, steps } } of chain) {
                const key = `${temperature} ${seed}`;
                parts.set(key, { steps: steps + (parts.get(key)?.steps ?? 0), temperature, seed });
            }
            const facts = [...parts.values()].flatMap(({ seed, ...part }) => {
                const said = say(lang, seed === null ? "page.branch_score" : "page.branch_facts", { ...part, seed: seed ?? "" });
                return [" ", make("small", { class: "soft" }, said)];
            });
            return make(
                "div",
                { role: "option", id: `branch-${n}`, "aria-selected": String(n === this.#at), "--depth": depth, click: () => this.#show(n) },
                make("span", { class: "branch", lang: this.view.textLang }, branchName(lang, this.tree, chain[0], this.#ends[n].trace)),
                ...facts,
            );
        });
        const hadFocus = this.contains(document.activeElement);
        const list = make(
            "div",
            { role: "listbox", tabindex: 0, class: "branches", "aria-label": say(lang, "page.tree"), "aria-activedescendant": `branch-${this.#at}`, keydown: (event) => this.#key(/** @type {KeyboardEvent} */ (event)) },
            ...items,
        );
        this.replaceChildren(list, soft(say(lang, "page.tree_means")));
        if (hadFocus) list.focus();
        list.scrollTop = items[this.#at].offsetTop - list.clientHeight / 2;
    }

    /** @param {KeyboardEvent} event */
    #key(event) {
        const to = { ArrowDown: this.#at + 1, ArrowUp: this.#at - 1, Home: 0, End: this.#ends.length - 1 }[event.key];
        if (to === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
        event.preventDefault();
        this.#show(to);
    }

    /** @param {number} row */
    #show(row) {
        const end = this.#ends[row];
        if (end) this.change({ branch: end.id });
    }
}

/**
 * A first text by its beginning; one that forked by the step where it did, and what stands there instead.
 * @param {View["lang"]} lang
 * @param {Tree} tree
 * @param {Branch} first of the chain
 * @param {import("../trace/trace-file.js").Trace} last
 */
function branchName(lang, tree, first, last) {
    const parent = tree.branches.get(first.parent ?? "");
    const begun = tree.path(first.id).chain[0].trace.header.first_step;
    const forced = parent ? forcedCount(parent, first) : 0;
    const start = parent ? first.trace.promptIds.length - forced : 0;
    const text = visibleText(ending(recordText(last.textBytes(start, last.allIds.length)).trim()));
    return parent ? say(lang, "page.branch_name", { step: first.trace.header.first_step - begun - forced + 1, text }) : text;
}

/** @param {string} text */
function ending(text) {
    const letters = [...text];
    return letters.length > LONGEST_NAME ? `${letters.slice(0, LONGEST_NAME).join("")}\u2026` : text;
}

customElements.define("manako-tree", TreeElement);
