/**
 * <manako-attention>: where the deciding position looked, as a tint over the text that it saw, with a table behind it.
 *
 * Special here: tints are shares of the strongest token, since a share over a long text is small; the figures say how
 * much each is. Of a long text the last tokens are drawn, and what lies before them is summed.
 */

/** @import {View} from "./view.js" */
/** @import {StepAttention} from "../trace/trace-file.js" */
import { columnHead, inRow, make, number, rowHead, soft, table } from "./dom.js";
import { ViewElement } from "./view.js";
import { checkLines } from "./checks.js";
import { HeadsElement } from "./heads.js";
import { attentionRollout, attentionSinks, attentionWeights, strongestKeys } from "../analysis/inside.js";
import { percent } from "../text/numbers.js";
import { say } from "../text/messages.js";
import { term } from "./term.js";
import { ribbonToken, runningText, tokenChip } from "./token-chip.js";

const SHOWN_KEYS = 400;
const STRONGEST = 8;
const FIGURES = 5; // tokens that carry their share as a figure
const ROLLOUT_WEIGHTS = 3e6; // of more it takes too long to follow them at every step

export class AttentionElement extends ViewElement {
    /** @type {HTMLElement} */
    #text = make("div");
    /** @type {HTMLElement} */
    #table = make("div");
    /** @type {any[][]} of each position: the token, and the end of its line */
    #tokens = [];
    /** @type {HTMLElement[]} */
    #figures = [];
    #heads = new HeadsElement();
    #selects = /** @type {Record<"layer" | "head", HTMLSelectElement>} */ ({});

    /** All heads, as they can be saved; null where nothing is on record. */
    get drawing() {
        return this.view.trace.attention(this.view.index) && this.#heads.drawing;
    }

    /** @param {View} view @param {View | null} before */
    draw(view, before) {
        const found = view.trace.attention(view.index);
        if (found === null) return this.replaceChildren(soft(say(view.lang, "page.not_recorded")));
        if (!before || !this.firstChild || before.trace !== view.trace || before.lang !== view.lang) this.#build(view, found);
        const layer = view.layer !== null && view.layer < found.layers ? view.layer : null;
        const head = layer !== null && view.head !== null && view.head < found.heads ? view.head : null;
        this.#selects.layer.value = String(layer ?? "");
        this.#selects.head.value = String(head ?? "");
        this.#selects.head.disabled = layer === null;
        const shown = /** @type {const} */ (["trace", "lang", "index", "layer", "head"]);
        const isDrawn = before && shown.every((name) => before[name] === view[name]);
        if (!isDrawn || !this.#text.firstChild) this.#show(view, layer, head);
        this.#heads.view = view;
    }

    /** @param {View} view @param {StepAttention} found */
    #build(view, { layers, heads }) {
        const { lang, trace } = view;
        const choice = (/** @type {"layer" | "head"} */ name, /** @type {number} */ count, /** @type {string} */ all) => {
            const change = () => this.change({ [name]: select.value === "" ? null : Number(select.value) });
            const options = Array.from({ length: count }, (_, i) => make("option", { value: i }, String(i)));
            const select = (this.#selects[name] = make("select", { change }, make("option", { value: "" }, say(lang, all)), ...options));
            return make("label", {}, say(lang, `page.${name}`), select);
        };
        const region = { role: "region", tabindex: 0, "aria-label": say(lang, "page.attention") };
        this.#text = make("div", { class: "text", lang: view.textLang, ...region });
        this.#tokens = [];
        const error = trace.header.rounded.attention;
        const rounded = error ? soft(say(lang, "attention.rounded", { error: percent(error) })) : "";
        const caveats = ["attention.meaning", "attention.sinks"].map((key) => soft(say(lang, key)));
        const checks = checkLines(view, ["attention_rows_sum_to_1"]);
        const row = inRow(choice("layer", layers, "page.all_layers"), choice("head", heads, "page.all_heads"));
        this.replaceChildren(row, this.#text, this.#table, this.#heads, rounded, ...caveats, ...checks);
    }

    /** @param {View} view @param {number | null} layer @param {number | null} head */
    #show(view, layer, head) {
        const { lang, trace, index } = view;
        const found = /** @type {StepAttention} */ (trace.attention(index));
        const weights = attentionWeights(found, layer, head);
        const strongest = strongestKeys(weights, STRONGEST);
        const largest = Math.max(weights[strongest[0]], 1e-12);
        const first = Math.max(0, found.keys - SHOWN_KEYS);
        this.#fill(found.start + first, found.start + found.keys);
        for (const figure of this.#figures) figure.remove();
        this.#figures = strongest.slice(0, FIGURES).map((key) => make("small", {}, percent(weights[key])));
        this.#figures.forEach((figure, i) => this.#tokens[found.start + strongest[i]]?.[0].append(figure));
        for (let key = first; key < found.keys; key++) {
            const { style } = this.#tokens[found.start + key][0];
            const share = (weights[key] / largest).toFixed(3);
            if (style.getPropertyValue("--weight") !== share) style.setProperty("--weight", share);
        }
        const before = weights.subarray(0, first).reduce((sum, weight) => sum + weight, 0);
        const outside = first > 0 && soft(say(lang, "attention.before", { count: first, share: percent(before) }));
        const seen = found.keys * found.data.length <= ROLLOUT_WEIGHTS ? trace.attentionRows(index) : null;
        const rollout = seen && attentionRollout(seen);
        const sinks = attentionSinks(found);
        const rows = strongest.map((key) => {
            const token = trace.token(trace.allIds[found.start + key]);
            const isItself = key === found.keys - 1;
            const note = sinks.has(key) ? say(lang, "attention.is_sink") : isItself ? say(lang, "attention.is_itself") : "";
            return make(
                "tr",
                {},
                number(String(found.start + key + 1)),
                rowHead("cell-token", tokenChip(view, token), note),
                number(percent(weights[key])),
                rollout && number(percent(rollout[key])),
            );
        });
        const heads = [
            columnHead(say(lang, "page.position"), "number"),
            columnHead(say(lang, "page.token")),
            columnHead(term(lang, "attention", say(lang, "attention.share")), "number"),
            rollout && columnHead(term(lang, "rollout", say(lang, "attention.by_rollout")), "number"),
        ];
        this.#table.replaceChildren(outside || "", table(heads, rows, say(lang, "attention.strongest")));
    }

    /**
     * The tokens of some positions: those that are there already stay, since a step changes one or two of them.
     * @param {number} first
     * @param {number} end
     */
    #fill(first, end) {
        for (let at = first; at < end; at++) {
            if (this.#tokens[at]) continue;
            const token = ribbonToken(this.view, at);
            token.classList.add("share");
            this.#tokens[at] = runningText([token]).map((node) => (node === "\n" ? new Text(node) : node));
        }
        const wanted = this.#tokens.slice(first, end).flat();
        const isWanted = new Set(wanted);
        for (const node of [...this.#text.childNodes]) if (!isWanted.has(node)) node.remove();
        const [place, there] = [wanted.findIndex((node) => node === this.#text.firstChild), this.#text.childNodes.length];
        this.#text.append(...wanted.slice(place < 0 ? 0 : place + there));
        this.#text.prepend(...wanted.slice(0, Math.max(0, place)));
    }
}

customElements.define("manako-attention", AttentionElement);
