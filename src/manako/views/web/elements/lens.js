/** <manako-lens>: what each layer would have said, had the model stopped after it; the taken token is followed by id. */

/** @import {View} from "./view.js" */
/** @import {LensStep} from "../analysis/inside.js" */
import { columnHead, make, number, rowHead, scroller, soft, table } from "./dom.js";
import { ViewElement } from "./view.js";
import { checkLines } from "./checks.js";
import { folded } from "./folded.js";
import { readLens } from "../analysis/inside.js";
import { LensGridElement } from "./lens-grid.js";
import { count, percent } from "../text/numbers.js";
import { say } from "../text/messages.js";
import { svgElement } from "./drawing.js";
import { ranksDrawing } from "./ranks-chart.js";
import { tokenChip, tokenText } from "./token-chip.js";

const FIRST_SHOWN = 4;

export class LensElement extends ViewElement {
    #step = make("div", { class: "pane" });
    #grid = new LensGridElement();
    #ranks = folded("", () => "");
    /** @type {import("./drawing.js").Drawing | null} */
    #drawing = null;

    /** The ranks of the step, as they can be saved; null where there are none. */
    get drawing() {
        return this.view.trace.lens(this.view.index) && this.#drawing;
    }

    /** @param {View} view @param {View | null} before */
    draw(view, before) {
        const { lang, trace, index } = view;
        const given = trace.lens(index);
        if (given === null) return this.replaceChildren(soft(say(view.lang, "page.not_recorded")));
        if (before && this.firstChild && before.trace === trace && before.lang === lang && before.index === index) return;
        if (!before || !this.firstChild || before.trace !== trace || before.lang !== lang) {
            this.#ranks = folded(say(lang, "lens.ranks_table"), () => this.#ranksTable());
            const caveats = ["lens.embed_is", "lens.meaning"].map((key) => soft(say(lang, key)));
            const checks = checkLines(view, ["lens_last_equals_logits", "lens_lists_fit"]);
            this.replaceChildren(this.#step, this.#ranks.element, this.#grid, ...caveats, ...checks);
        }
        this.#show(readLens(given));
        this.#ranks.fill();
        this.#grid.view = view;
    }

    /** @param {LensStep} found */
    #show(found) {
        const { lang, shown, trace } = this.view;
        const taken = this.#name(shown.takenId);
        const rows = found.layers.map((layer, n) => {
            const { p, rank } = found.tracked[0][n];
            const cells = found.first[n].slice(0, FIRST_SHOWN).map((reading) =>
                make(
                    "td",
                    { class: `lens-cell cell-token ${reading.id === shown.takenId ? "selected" : ""}`, "--weight": reading.p },
                    tokenChip(this.view, trace.token(reading.id), shown.pending),
                    " ",
                    make("small", {}, percent(reading.p)),
                ),
            );
            return make("tr", {}, rowHead(null, layer), number(percent(p)), number(count(rank)), ...cells);
        });
        const heads = [
            columnHead(say(lang, "lens.layer_head")),
            columnHead(say(lang, "page.p_of_taken"), "number"),
            columnHead(say(lang, "lens.rank_head"), "number"),
            make("th", { scope: "col", colspan: FIRST_SHOWN }, say(lang, "page.likeliest")),
        ];
        const lines = found.tracked.map((readings) => ({ name: this.#name(readings[0].id), readings }));
        const ranks = say(lang, "lens.ranks", { token: taken });
        this.#drawing = ranksDrawing(ranks, found.layers, lines);
        const picture = svgElement(this.#drawing);
        picture.classList.add("ranks");
        this.#step.replaceChildren(
            make("p", {}, say(lang, "lens.question", { token: taken })),
            scroller(say(lang, "page.lens"), table(heads, rows, null, "lens")),
            make("p", {}, this.#story(found, taken)),
            soft(ranks),
            picture,
        );
    }

    /** The table behind the picture. */
    #ranksTable() {
        const { lang, trace, index } = this.view;
        const { layers, tracked } = readLens(/** @type {import("../trace/trace-file.js").StepLens} */ (trace.lens(index)));
        const rows = tracked.map((readings) => {
            const cells = readings.map(({ p, rank }) => number(percent(p), make("small", {}, count(rank))));
            const name = tokenChip(this.view, trace.token(readings[0].id), this.view.shown.pending);
            return make("tr", {}, rowHead("cell-token", name), ...cells);
        });
        const heads = [say(lang, "page.token"), ...layers].map((name, n) => columnHead(name, n ? "number" : null));
        return scroller(say(lang, "lens.ranks_table"), table(heads, rows));
    }

    /** @param {number} id */
    #name(id) {
        return tokenText(this.view, this.view.trace.token(id), this.view.shown.pending);
    }

    /** @param {LensStep} found @param {string} token */
    #story({ appears, wins, layers, tracked }, token) {
        const { lang } = this.view;
        const named = (/** @type {number} */ place) =>
            place === 0 ? say(lang, "lens.embedding") : say(lang, "lens.layer", { number: layers[place] });
        const rank = /** @type {{rank: number}} */ (tracked[0].at(-1)).rank;
        if (appears === null) return say(lang, "lens.nowhere", { token, rank });
        const at = named(appears);
        if (wins === null) return say(lang, "lens.never_wins", { token, at, rank });
        return wins <= appears ? say(lang, "lens.wins_at_once", { token, at }) : say(lang, "lens.wins", { token, at, wins: named(wins) });
    }
}

customElements.define("manako-lens", LensElement);
