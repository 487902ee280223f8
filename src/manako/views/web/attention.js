/**
 * <manako-attention>: where the deciding position looked, as a tint over the text that it saw, with a table behind it.
 *
 * Special here: tints are shares of the strongest token, since a share over a long text is small; the figures say how
 * much each is. Of a long text the last tokens are drawn, and what lies before them is summed.
 */

/** @import {View} from "./view-state.js" */
import { ViewElement, make } from "./dom.js";
import { checkLines } from "./checks.js";
import { attentionRollout, attentionSinks, attentionWeights, strongestKeys } from "./inside.js";
import { percent } from "./numbers.js";
import { say } from "./messages.js";
import { ribbonToken, runningText, tokenChip } from "./token-chip.js";

const SHOWN_KEYS = 400;
const STRONGEST = 8;
const FIGURES = 5; // tokens that carry their share as a figure
const ROLLOUT_ROWS = 300; // of a longer text it takes too long to follow at every step

export class AttentionElement extends ViewElement {
    /** @type {HTMLElement} */
    #picture = make("div");
    /** @type {Record<"layer" | "head", HTMLSelectElement>} */
    #selects = { layer: make("select"), head: make("select") };

    /** @param {View} view @param {View | null} before */
    draw(view, before) {
        const found = view.trace.attention(view.index);
        if (found === null) return;
        if (!before || before.trace !== view.trace || before.lang !== view.lang) this.#build(view, found);
        const layer = view.layer !== null && view.layer < found.layers ? view.layer : null;
        const head = layer !== null && view.head !== null && view.head < found.heads ? view.head : null;
        this.#selects.layer.value = String(layer ?? "");
        this.#selects.head.value = String(head ?? "");
        this.#selects.head.disabled = layer === null;
        const drawn = before && ["trace", "lang", "index", "layer", "head"].every((name) => before[/** @type {keyof View} */ (name)] === view[/** @type {keyof View} */ (name)]);
        if (!drawn || !this.#picture.firstChild) this.#show(view, layer, head);
    }

    /** @param {View} view @param {import("./trace-file.js").StepAttention} found */
    #build(view, { layers, heads }) {
        const { lang } = view;
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
        this.#picture = make("div", { class: "pane" });
        const labels = ["layer", "head"].map((name) => make("label", {}, say(lang, `page.${name}`), this.#selects[/** @type {"layer"} */ (name)]));
        const caveats = ["attention.meaning", "attention.sinks"].map((key) => make("p", { class: "soft" }, say(lang, key)));
        const checks = checkLines(view, ["attention_rows_sum_to_1"]);
        this.replaceChildren(make("div", { class: "row" }, ...labels), this.#picture, ...caveats, ...checks);
    }

    /** @param {View} view @param {number | null} layer @param {number | null} head */
    #show(view, layer, head) {
        const { lang, trace, index } = view;
        const found = /** @type {import("./trace-file.js").StepAttention} */ (trace.attention(index));
        const weights = attentionWeights(found, layer, head);
        const strongest = strongestKeys(weights, STRONGEST);
        const largest = Math.max(weights[strongest[0]], 1e-12);
        const first = Math.max(0, found.keys - SHOWN_KEYS);
        const tokens = Array.from(weights.subarray(first), (weight, i) => {
            const token = ribbonToken(view, found.start + first + i);
            token.classList.add("share");
            token.style.setProperty("--weight", String(weight / largest));
            if (strongest.indexOf(first + i) >= 0 && strongest.indexOf(first + i) < FIGURES) token.append(make("small", {}, percent(weight)));
            return token;
        });
        const before = weights.subarray(0, first).reduce((sum, weight) => sum + weight, 0);
        const outside = first > 0 && make("p", { class: "soft" }, say(lang, "attention.before", { count: first, share: percent(before) }));
        const text = make("div", { class: "text", lang: view.textLang, tabindex: 0, role: "region", "aria-label": say(lang, "page.attention") }, ...runningText(tokens));
        const rows = found.keys <= ROLLOUT_ROWS ? trace.attentionRows(index) : null;
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
        this.#picture.replaceChildren(...[text, outside, table].filter((each) => each !== false));
    }
}

customElements.define("manako-attention", AttentionElement);
