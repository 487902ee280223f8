/**
 * <manako-attention>: where the deciding position looked, as a tint over the text that it saw, with a table behind it.
 *
 * Special here: tints are shares of the strongest token, since a share over a long text is small; the figures say how
 * much each is. Of a long text the last tokens are drawn, and what lies before them is summed.
 */

/** @import {View} from "./view.js" */
import { make } from "./dom.js";
import { ViewElement } from "./view.js";
import { checkLines } from "./checks.js";
import { HeadsElement } from "./heads.js";
import { attentionRollout, attentionSinks, attentionWeights, strongestKeys } from "../analysis/inside.js";
import { percent } from "../text/numbers.js";
import { say } from "../text/messages.js";
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
    /** @type {Record<"layer" | "head", HTMLSelectElement>} */
    #selects = { layer: make("select"), head: make("select") };

    /** All heads, as they can be saved; null where nothing is on record. */
    get drawing() {
        return this.view.trace.attention(this.view.index) && this.#heads.drawing;
    }

    /** @param {View} view @param {View | null} before */
    draw(view, before) {
        const found = view.trace.attention(view.index);
        if (found === null) return this.replaceChildren(make("p", { class: "soft" }, say(view.lang, "page.not_recorded")));
        if (!before || !this.firstChild || before.trace !== view.trace || before.lang !== view.lang) this.#build(view, found);
        const layer = view.layer !== null && view.layer < found.layers ? view.layer : null;
        const head = layer !== null && view.head !== null && view.head < found.heads ? view.head : null;
        this.#selects.layer.value = String(layer ?? "");
        this.#selects.head.value = String(head ?? "");
        this.#selects.head.disabled = layer === null;
        const drawn = before && ["trace", "lang", "index", "layer", "head"].every((name) => before[/** @type {keyof View} */ (name)] === view[/** @type {keyof View} */ (name)]);
        if (!drawn || !this.#text.firstChild) this.#show(view, layer, head);
        this.#heads.view = view;
    }

    /** @param {View} view @param {import("../trace/trace-file.js").StepAttention} found */
    #build(view, { layers, heads }) {
        const { lang, trace } = view;
        const options = (/** @type {number} */ count, /** @type {string} */ all) => [
            make("option", { value: "" }, say(lang, all)),
            ...Array.from({ length: count }, (_, i) => make("option", { value: i }, String(i))),
        ];
        const chosen = (/** @type {"layer" | "head"} */ name) => {
            const { value } = this.#selects[name];
            this.change({ [name]: value === "" ? null : Number(value) });
        };
        this.#selects = {
            layer: make("select", { change: () => chosen("layer") }, ...options(layers, "page.all_layers")),
            head: make("select", { change: () => chosen("head") }, ...options(heads, "page.all_heads")),
        };
        this.#text = make("div", { class: "text", lang: view.textLang, tabindex: 0, role: "region", "aria-label": say(lang, "page.attention") });
        this.#tokens = [];
        const error = trace.header.rounded.attention;
        const rounded = error ? make("p", { class: "soft" }, say(lang, "attention.rounded", { error: percent(error) })) : "";
        const labels = ["layer", "head"].map((name) => make("label", {}, say(lang, `page.${name}`), this.#selects[/** @type {"layer"} */ (name)]));
        const caveats = ["attention.meaning", "attention.sinks"].map((key) => make("p", { class: "soft" }, say(lang, key)));
        const checks = checkLines(view, ["attention_rows_sum_to_1"]);
        this.replaceChildren(make("div", { class: "row" }, ...labels), this.#text, this.#table, this.#heads, rounded, ...caveats, ...checks);
    }

    /** @param {View} view @param {number | null} layer @param {number | null} head */
    #show(view, layer, head) {
        const { lang, trace, index } = view;
        const found = /** @type {import("../trace/trace-file.js").StepAttention} */ (trace.attention(index));
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
        const outside = first > 0 && make("p", { class: "soft" }, say(lang, "attention.before", { count: first, share: percent(before) }));
        const rows = found.keys * found.data.length <= ROLLOUT_WEIGHTS ? trace.attentionRows(index) : null;
        const rollout = rows && attentionRollout(rows);
        const sinks = attentionSinks(found);
        const heads = ["page.position", "page.token", "attention.share", ...(rollout ? ["attention.by_rollout"] : [])];
        const body = strongest.map((key) => {
            const id = trace.allIds[found.start + key];
            const token = { bytes: trace.tokenBytes(id), special: trace.specialIds.has(id) };
            const note = sinks.has(key) ? say(lang, "attention.is_sink") : key === found.keys - 1 ? say(lang, "attention.is_itself") : "";
            return make(
                "tr",
                {},
                make("td", { class: "number" }, String(found.start + key + 1)),
                make("th", { scope: "row", class: "cell-token" }, tokenChip(view, token), note),
                make("td", { class: "number" }, percent(weights[key])),
                rollout && make("td", { class: "number" }, percent(rollout[key])),
            );
        });
        const header = make("tr", {}, ...heads.map((key, n) => make("th", { scope: "col", class: n === 1 ? "" : "number" }, say(lang, key))));
        const table = make("table", {}, make("caption", {}, say(lang, "attention.strongest")), make("thead", {}, header), make("tbody", {}, ...body));
        this.#table.replaceChildren(outside || "", table);
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
