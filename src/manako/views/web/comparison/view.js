/**
 * Two models side by side on one text: each part of it twice, tinted by bits per character, with their difference below.
 *
 * Special here: a token's surprisal belongs to all of it; its tint spreads that evenly over its characters, and every
 * number is that of whole tokens. A token that ends inside of a character is drawn as its bytes.
 */

/** @import {Trace} from "../trace/trace-file.js" */
/** @import {ScoredToken, Stretch} from "./aligned.js" */
import { columnHead, make, number, rowHead, scroller, soft, table } from "../elements/dom.js";
import { languageChoice } from "../elements/language.js";
import { pageLanguage, say } from "../text/messages.js";
import { count, fixed, signed } from "../text/numbers.js";
import { prose, visibleBytes } from "../text/tokens.js";
import { modelName } from "../trace/model-name.js";
import { aligned } from "./aligned.js";

const DARKEST = 8; // bits per character: more is as dark

export class ComparisonElement extends HTMLElement {
    /** @type {[Trace, Trace] | null} */
    #traces = null;
    /** @type {ReturnType<typeof aligned>} */
    #found = { bytes: new Uint8Array(), stretches: [], characters: 0 };
    #at = 0;
    #unchecked = false;
    #chosen = make("p", { role: "status", class: "comparison-chosen" });
    #list = make("div");

    /** @param {Trace} one @param {Trace} other */
    open(one, other) {
        this.#traces = [one, other];
        this.#found = aligned(one, other);
        this.#draw();
    }

    /** What is wrong, in place of all else. @param {string} message */
    tell(message) {
        this.replaceChildren(make("p", { class: "warn", role: "alert" }, message));
    }

    warnUnchecked() {
        this.#unchecked = true;
        this.#draw();
    }

    /** @param {string} key @param {Record<string, string | number>} [values] */
    #say(key, values = {}) {
        return say(pageLanguage(), key, values);
    }

    #draw() {
        const title = this.#say("aligned.title");
        document.title = `${title} - manako`;
        this.#list = make("div", { class: "comparison-text", role: "listbox", tabindex: 0, "aria-label": title, keydown: (event) => this.#key(/** @type {KeyboardEvent} */ (event)) }, ...this.#found.stretches.map((stretch, n) => this.#part(stretch, n)));
        this.replaceChildren(
            make("header", { class: "top" }, make("div", { class: "facts" }, make("h1", {}, title)), languageChoice(() => this.#draw())),
            make("main", { class: "comparison-main" },
                this.#unchecked && make("p", { class: "warn", role: "alert" }, this.#say("page.unchecked")),
                make("section", { class: "card" }, ...this.#whole()),
                make("section", { class: "card" }, make("h2", {}, title), this.#list, this.#chosen,
                    soft(this.#say("aligned.is", { most: DARKEST })), soft(this.#say("aligned.keys")),
                    make("details", {}, make("summary", {}, this.#say("learning.as_table")), scroller(title, this.#table())))),
        );
        this.#choose(this.#at);
    }

    /** Each model as a whole, and what lies between them. */
    #whole() {
        const { stretches, characters, bytes } = this.#found;
        const totals = [0, 1].map((model) => stretches.reduce((sum, { bits }) => sum + bits[model], 0) / characters);
        const facts = totals.map((bits, model) => {
            const tokens = stretches.reduce((sum, each) => sum + each.tokens[model].length, 0);
            return make("p", {}, this.#say("aligned.whole", { ref: this.#ref(model), bits: fixed(bits, 3), tokens: count(tokens), characters: count(characters) }));
        });
        const given = visibleBytes(bytes.subarray(0, stretches[0].start));
        return [...facts, make("p", {}, this.#say("aligned.difference_whole", { difference: signed(totals[1] - totals[0]) })),
            given ? soft(this.#say("aligned.given", { text: given })) : null];
    }

    /** @param {number} model */
    #ref(model) {
        return prose(modelName(/** @type {[Trace, Trace]} */ (this.#traces)[model].header.model.ref));
    }

    /** @param {Stretch} stretch @param {number} n */
    #part({ tokens, bits }, n) {
        const rows = tokens.map((each) => make("span", { class: "comparison-row" }, ...each.map((token) => this.#token(token))));
        return make("div", { role: "option", id: `part-${n}`, click: () => this.#choose(n) }, ...rows, make("small", { class: "number" }, signed(bits[1] - bits[0])));
    }

    /** @param {ScoredToken} token */
    #token({ start, end, bits }) {
        const bytes = this.#found.bytes.subarray(start, end);
        const characters = bytes.filter((byte) => (byte & 0xc0) !== 0x80).length || 1; // part of one counts as one
        return make("span", { "--share": Math.min(1, Number(bits) / characters / DARKEST) }, visibleBytes(bytes));
    }

    /** @param {KeyboardEvent} event */
    #key(event) {
        const last = this.#found.stretches.length - 1;
        const to = { ArrowRight: this.#at + 1, ArrowLeft: this.#at - 1, Home: 0, End: last }[event.key];
        if (to === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
        event.preventDefault();
        this.#choose(Math.min(last, Math.max(0, to)));
    }

    /** @param {number} n */
    #choose(n) {
        this.#at = n;
        const { start, end, tokens, bits } = this.#found.stretches[n];
        for (const part of this.#list.children) part.setAttribute("aria-selected", String(part.id === `part-${n}`));
        this.#list.setAttribute("aria-activedescendant", `part-${n}`);
        this.#list.children[n].scrollIntoView({ block: "nearest" });
        this.#chosen.textContent = this.#say("aligned.chosen", {
            text: visibleBytes(this.#found.bytes.subarray(start, end)), first: fixed(bits[0], 2), second: fixed(bits[1], 2),
            tokens_1: count(tokens[0].length), tokens_2: count(tokens[1].length), difference: signed(bits[1] - bits[0]),
        });
    }

    #table() {
        const heads = ["text", "tokens_1", "bits_1", "tokens_2", "bits_2", "difference"].map((name, n) => columnHead(this.#say(`aligned.${name}`), n ? "number" : null));
        const rows = this.#found.stretches.map(({ start, end, tokens, bits }) => make("tr", {},
            rowHead(null, visibleBytes(this.#found.bytes.subarray(start, end))),
            ...[0, 1].flatMap((model) => [number(count(tokens[model].length)), number(fixed(bits[model], 2))]),
            number(signed(bits[1] - bits[0]))));
        return table(heads, rows);
    }
}

customElements.define("manako-comparison", ComparisonElement);
