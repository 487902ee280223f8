/**
 * <manako-model>: the model as a picture, from the text it sees below to the probabilities above. Each box is tinted by
 * what it added to the token of the step, arcs show where the chosen heads looked; choosing a box chooses it everywhere.
 *
 * Special here: the boxes are those parts that the record names, so a model without attention has no heads here either.
 * Tints and arcs are drawn from the same numbers as the tables; the longest of each, which sets the scale, is named.
 */

/** @import {View} from "./view.js" */
/** @import {PartNumbers} from "../analysis/inside.js" */
/** @import {Shape} from "./drawing.js" */
import { button, make, soft } from "./dom.js";
import { svgElement } from "./drawing.js";
import { ViewElement } from "./view.js";
import { attentionWeights, contributedIds, effectOf, strongestKeys, why } from "../analysis/inside.js";
import { count, fixed, percent, signed } from "../text/numbers.js";
import { say } from "../text/messages.js";
import { tokenChip, tokenText } from "./token-chip.js";

const TOKENS = 16; // that the picture has room for: the last ones
const ARCS = 8; // from the tokens with the largest shares
const [WIDTH, ARC_HEIGHT] = [100, 22]; // of the arcs, which are stretched over the tokens

export class ModelElement extends ViewElement {
    /** @param {View} view */
    draw(view) {
        const { lang, trace, index, shown, forcedId } = view;
        const id = forcedId ?? shown.takenId;
        if (!contributedIds(trace, index).includes(id)) return this.replaceChildren(soft(say(lang, "page.not_recorded")));
        const { parts } = why(trace, index, id);
        const longest = Math.max(...parts.map((part) => Math.abs(effectOf(part))), 1e-12);
        const layers = [...new Set(parts.map(({ layer }) => layer))].filter((layer) => layer !== null).reverse();
        const { p } = shown.candidate(id);
        const token = tokenText(view, trace.token(id), shown.pending);
        const box = (/** @type {PartNumbers} */ part) => this.#box(part, longest);
        const ofLayer = (/** @type {number} */ layer) => {
            const all = parts.filter((part) => part.layer === layer);
            const heads = all.filter(({ kind }) => kind === "head");
            const row = make("div", { class: "heads-of", "--n": heads.length }, ...heads.map(box));
            const others = all.filter(({ kind, value }) => kind === "mlp" || (kind === "bias" && value !== 0));
            return make("div", { class: "block" }, this.#label(layer), heads.length > 0 && row, ...others.map(box));
        };
        const given = parts.filter(({ layer }) => layer === null);
        const said = say(lang, "page.model_output", { size: count(trace.vocabSize), token, p: percent(p) });
        this.replaceChildren(
            make("div", { class: "block output" }, make("span", {}, said), make("div", { class: "meter", "aria-hidden": "true" }, make("span", { "--p": p || 0 }))),
            ...layers.map(ofLayer),
            make("div", { class: "block" }, ...given.map(box)),
            ...this.#seen(),
            soft(say(lang, "page.model_means", { token, longest: fixed(longest, 2) })),
        );
    }

    /** @param {number} layer */
    #label(layer) {
        const { lang, layer: chosen, head } = this.view;
        const isOn = chosen === layer && head === null;
        const click = () => this.#choose(layer, null, `[data-layer="${layer}"]`);
        return button(click, String(layer), { class: "quiet", "data-layer": layer, "aria-pressed": String(isOn), "aria-label": say(lang, "lens.layer", { number: layer }) });
    }

    /** @param {PartNumbers} part @param {number} longest */
    #box(part, longest) {
        const { lang, layer, head } = this.view;
        const kind = part.name.split(":")[0];
        const known = ["embed", "pos_embed", "mlp", "attn_bias", "final_bias"].includes(kind) || part.kind === "head";
        const name = known ? say(lang, `why.${part.kind === "head" ? "head" : kind}`, { layer: part.layer ?? "", head: part.head ?? "" }) : part.kind;
        const effect = effectOf(part);
        const put = { class: `part ${part.kind}${effect < 0 ? " lowers" : ""}`, "--weight": Math.abs(effect) / longest, title: `${name}: ${signed(effect)}`, "aria-label": `${name}: ${signed(effect)}` };
        const inside = make("span", { "--chars": signed(effect).length }, part.layer === null ? `${kind} ${signed(effect)}` : signed(effect));
        if (part.layer === null) return make("span", { ...put, "aria-label": null }, inside);
        const isOn = part.kind === "head" && part.layer === layer && part.head === head;
        const click = () => this.#choose(/** @type {number} */ (part.layer), part.head, `[data-part="${part.layer}.${part.head ?? kind}"]`);
        return button(click, inside, { ...put, "data-part": `${part.layer}.${part.head ?? kind}`, "aria-pressed": String(isOn) });
    }

    /** @param {number} layer @param {number | null} head @param {string} box which is made anew and keeps the focus */
    #choose(layer, head, box) {
        const isOff = this.view.layer === layer && this.view.head === head;
        this.change({ layer: isOff ? null : layer, head: isOff ? null : head });
        /** @type {HTMLElement | null} */ (this.querySelector(box))?.focus();
    }

    /** The last tokens that the model sees, tinted by the attention that they get, and arcs to the last one. */
    #seen() {
        const { lang, trace, index, layer, head } = this.view;
        const found = trace.attention(index);
        const end = trace.promptIds.length + index;
        const start = found ? found.start : trace.windowStart[index];
        const first = Math.max(start, end - TOKENS);
        const ids = trace.allIds.subarray(first, end);
        const isThere = found && (layer === null || layer < found.layers) && (head === null || head < found.heads);
        const weights = found && isThere ? attentionWeights(found, layer, layer === null ? null : head) : null;
        const strongest = weights ? strongestKeys(weights, ARCS).filter((key) => start + key >= first && start + key < end - 1) : [];
        const largest = weights ? Math.max(...weights) : 1;
        const x = (/** @type {number} */ at) => (WIDTH * (at - first + 0.5)) / ids.length;
        const arcs = strongest.map((key) => {
            const weight = /** @type {Float64Array} */ (weights)[key];
            const [from, to] = [x(start + key), x(end - 1)];
            const points = Array.from({ length: 13 }, (_, i) => [from + ((to - from) * i) / 12, ARC_HEIGHT - ARC_HEIGHT * 0.95 * Math.sin((Math.PI * i) / 12)]);
            return /** @type {Shape} */ ({ tag: "polyline", put: { points: points.join(" "), "stroke-width": (6 * weight) / largest, "vector-effect": "non-scaling-stroke" }, stroke: "--amber" });
        });
        const title = say(lang, "page.model_looks", { heads: layer === null ? say(lang, "page.all_heads") : head === null ? say(lang, "lens.layer", { number: layer }) : say(lang, "why.head", { layer, head }) });
        const picture = svgElement({ width: WIDTH, height: ARC_HEIGHT, title, shapes: arcs });
        picture.setAttribute("preserveAspectRatio", "none");
        const tokens = Array.from(ids, (id, n) => {
            const share = weights?.[first + n - start] ?? NaN;
            return make("span", { class: "seen", "--weight": weights ? share / largest : 0, title: percent(share) }, tokenChip(this.view, trace.token(id)));
        });
        return [weights && picture, make("div", { class: "seen-row" }, ...tokens), weights && soft(title, " ", say(lang, "page.model_share", { share: percent(largest) }))].filter((each) => each !== null);
    }
}

customElements.define("manako-model", ModelElement);
