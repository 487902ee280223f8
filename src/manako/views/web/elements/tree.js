/** <manako-tree>: all texts that were written, as an indented list; choosing one shows it. */

/** @import {View} from "./view.js" */
/** @import {Branch, Tree} from "../trace/tree.js" */
import { make, soft } from "./dom.js";
import { ViewElement } from "./view.js";
import { say } from "../text/messages.js";
import { forcedCount } from "../trace/tree.js";
import { visibleText } from "../text/tokens.js";

const LONGEST_NAME = 28; // characters

export class TreeElement extends ViewElement {
    /** @type {Tree | null} */
    tree = null;
    /** @type {string[]} the branch that each row leads to */
    #ends = [];
    #size = 0;

    /** @param {View} view @param {View | null} before */
    draw({ lang, branch }, before) {
        const size = this.tree?.branches.size ?? 0;
        if (before && before.lang === lang && before.branch === branch && this.#size === size) return;
        this.#size = size;
        const rows = this.tree?.rows() ?? [];
        this.#ends = rows.map(({ chain }) => chain[chain.length - 1].id);
        const items = rows.map(({ chain, depth }, n) => {
            const isShown = chain.some(({ id }) => id === branch);
            const [first, last] = [chain[0].trace.header, chain[chain.length - 1].trace];
            const steps = chain.reduce((sum, each) => sum + each.trace.steps, 0);
            const facts = say(lang, first.seed === null ? "page.branch_score" : "page.branch_facts", {
                steps,
                temperature: first.sampling.temperature,
                seed: first.seed ?? "",
            });
            return make(
                "div",
                { role: "option", id: `branch-${n}`, "aria-selected": String(isShown), "--depth": depth, click: () => this.change({ branch: this.#ends[n] }) },
                make("span", { class: "branch", lang: this.view.textLang }, branchName(lang, /** @type {Tree} */ (this.tree), chain[0], last)),
                " ",
                make("small", { class: "soft" }, facts),
            );
        });
        const shown = items.find((item) => item.getAttribute("aria-selected") === "true");
        const hadFocus = this.contains(document.activeElement);
        const list = make(
            "div",
            { role: "listbox", tabindex: 0, class: "branches", "aria-label": say(lang, "page.tree"), "aria-activedescendant": shown?.id ?? null, keydown: (event) => this.#key(/** @type {KeyboardEvent} */ (event)) },
            ...items,
        );
        this.replaceChildren(list, soft(say(lang, "page.tree_means")));
        if (hadFocus) list.focus();
        if (shown) list.scrollTop = Math.max(0, shown.offsetTop - list.clientHeight / 2);
    }

    /** @param {KeyboardEvent} event */
    #key(event) {
        const at = this.#ends.findIndex((_, n) => this.querySelector(`#branch-${n}`)?.getAttribute("aria-selected") === "true");
        const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: this.#ends.length - 1 }[event.key];
        if (to === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
        event.preventDefault();
        if (this.#ends[to]) this.change({ branch: this.#ends[to] });
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
    const text = visibleText(ending(new TextDecoder().decode(last.textBytes(start, last.allIds.length)).trim()));
    return parent ? say(lang, "page.branch_name", { step: first.trace.header.first_step - begun - forced + 1, text }) : text;
}

/** @param {string} text */
function ending(text) {
    const letters = [...text];
    return letters.length > LONGEST_NAME ? `${letters.slice(0, LONGEST_NAME).join("")}\u2026` : text;
}

customElements.define("manako-tree", TreeElement);
