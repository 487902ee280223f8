/** <manako-lens-grid>: the likeliest token of each layer, at the selected step and at those around it. */

/** @import {View} from "./view.js" */
import { columnHead, make, rowHead, scroller, soft, table } from "./dom.js";
import { ViewElement } from "./view.js";
import { readLens } from "../analysis/inside.js";
import { percent } from "../text/numbers.js";
import { say } from "../text/messages.js";
import { bytesBegun } from "../analysis/step-numbers.js";
import { tokenChip } from "./token-chip.js";

const SHOWN_COLUMNS = [9, 13]; // in a narrow window and in others

export class LensGridElement extends ViewElement {
    #first = 0; // step
    #table = make("table");

    /** @param {View} view @param {View | null} before */
    draw(view, before) {
        const { lang, trace, index } = view;
        const same = before && before.trace === trace && before.path === view.path && before.lang === lang && this.firstChild;
        const column = index - this.#first + 1;
        if (same && column > 0 && column < this.#table.rows[0].cells.length) return this.#mark();
        const hadFocus = this.contains(document.activeElement);
        this.#build(view);
        this.#mark();
        if (hadFocus) /** @type {HTMLElement | null} */ (this.querySelector("button[aria-pressed=true]"))?.focus();
    }

    /** @param {View} view */
    #build(view) {
        const { lang, trace, index } = view;
        const isShown = (/** @type {number} */ step) => view.path.at(view.place - index + step)?.trace === trace;
        let end = index + 1; // behind it the text that is shown may have gone another way
        while (end < trace.steps && isShown(end)) end++;
        const count = Math.min(end, SHOWN_COLUMNS[Number(matchMedia("(min-width: 62rem)").matches)]);
        this.#first = Math.max(0, Math.min(index - (count >> 1), end - count));
        const steps = Array.from({ length: count }, (_, i) => this.#first + i);
        const columns = steps.map((step) => readLens(/** @type {import("../trace/trace-file.js").StepLens} */ (trace.lens(step))));
        const pending = steps.map((step) => bytesBegun(trace, step));
        const chip = (/** @type {number} */ id, /** @type {number} */ i) => tokenChip(view, trace.token(id), pending[i]);
        const heads = steps.map((step, i) => {
            const place = make("small", {}, String(view.place - index + step + 1));
            return columnHead(make("button", { type: "button" }, chip(trace.tokenIds[step], i), place), "cell-token");
        });
        const rows = columns[0].layers.map((layer, n) => {
            const cells = columns.map(({ first }, i) => {
                const { id, p } = first[n][0];
                const kind = `lens-cell cell-token ${id === trace.tokenIds[steps[i]] ? "agrees" : ""}`;
                return make("td", { class: kind, "--weight": p }, chip(id, i), make("small", {}, percent(p)));
            });
            return make("tr", {}, rowHead(null, layer), ...cells);
        });
        this.#table = table([columnHead(say(lang, "lens.layer_head")), ...heads], rows, null, "lens-grid");
        this.#table.addEventListener("click", (event) => this.#click(event));
        this.replaceChildren(
            make("h3", {}, say(lang, "lens.around")),
            scroller(say(lang, "lens.around"), this.#table),
            soft(say(lang, "lens.around_how")),
        );
    }

    /** The selected column. */
    #mark() {
        const column = this.view.index - this.#first + 1;
        for (const row of this.#table.rows) for (const cell of row.cells) cell.classList.toggle("here", cell.cellIndex === column);
        for (const button of this.querySelectorAll("button")) button.setAttribute("aria-pressed", String(button.parentElement?.classList.contains("here")));
        const [frame, cell] = [/** @type {HTMLElement} */ (this.#table.parentElement), this.#table.rows[0].cells[column]];
        requestAnimationFrame(() => (frame.scrollLeft = cell.offsetLeft - (frame.clientWidth - cell.offsetWidth) / 2)); // laid out by then
    }

    /** @param {Event} event */
    #click({ target }) {
        const cell = target instanceof Element ? target.closest("td, th") : null;
        const column = cell instanceof HTMLTableCellElement ? cell.cellIndex : 0;
        if (column > 0) this.change({ place: this.view.place - this.view.index + this.#first + column - 1 });
    }
}

customElements.define("manako-lens-grid", LensGridElement);
