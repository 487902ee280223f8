/**
 * <manako-beside>: the selected step at three temperatures, all with the u on record, so that only the setting differs.
 */

/** @import {View} from "./view.js" */
import { make, scroller } from "./dom.js";
import { ViewElement } from "./view.js";
import { percent } from "../text/numbers.js";
import { say } from "../text/messages.js";
import { StepNumbers, canAnswer } from "../analysis/step-numbers.js";
import { tokenChip } from "./token-chip.js";

const ROWS = 5;

export class BesideElement extends ViewElement {
    /** @type {HTMLElement[]} */
    #tables = [];
    /** @type {string[]} what each shows */
    #drawn = [];

    /** @param {View} view @param {View | null} before */
    draw(view, before) {
        if (!before || before.trace !== view.trace || before.lang !== view.lang) this.#build(view);
        const settings = view.sampling ?? view.trace.header.sampling;
        view.temperatures.forEach((temperature, n) => {
            const wanted = JSON.stringify([view.index, { ...settings, temperature }]);
            if (this.#drawn[n] !== wanted) this.#tables[n].replaceChildren(this.#table(view, { ...settings, temperature }));
            this.#drawn[n] = wanted; // the slider changes none of them
        });
    }

    /** @param {View} view */
    #build({ lang, temperatures }) {
        this.#tables = temperatures.map(() => make("div"));
        this.#drawn = [];
        const columns = temperatures.map((temperature, n) => {
            const attributes = { type: "number", min: 0, max: 100, step: 0.1, value: temperature };
            const input = make("input", { ...attributes, input: (event) => this.#changed(n, event) });
            return make("div", {}, make("label", {}, "temperature", input), this.#tables[n]);
        });
        const about = make("p", { class: "soft" }, say(lang, "page.beside_about"));
        this.replaceChildren(about, make("div", { class: "beside" }, ...columns));
    }

    /** @param {View} view @param {import("../trace/sampling.js").Sampling} settings */
    #table(view, settings) {
        const { lang, trace, index } = view;
        if (!canAnswer(trace, settings)) return make("p", { class: "soft" }, say(lang, "page.not_answerable"));
        const recorded = trace.header.sampling; // its numbers are exact, even where those of others are not
        const isRecorded = view.sampling === null && settings.temperature === recorded.temperature;
        const numbers = new StepNumbers(trace, index, isRecorded ? null : settings);
        const rows = numbers.listed(ROWS).map((row) => {
            const taken = row.id === numbers.drawnId;
            return make(
                "tr",
                { class: taken ? "chosen" : row.cutBy ? "cut" : "" },
                make("td", { class: "number" }, taken ? `\u25b8 ${row.rank}` : String(row.rank)),
                make("th", { scope: "row", class: "cell-token" }, tokenChip(view, row, numbers.pending)),
                make("td", { class: "number" }, row.cutBy ? "\u2013" : percent(row.p)),
            );
        });
        const about = numbers.error ? say(lang, "page.about", { error: (100 * numbers.error).toPrecision(2) }) : "";
        const caption = make("caption", {}, `T = ${settings.temperature} ${about}`);
        const head = ["page.rank", "page.token", "page.p"].map((key, n) => {
            return make("th", { scope: "col", class: n === 1 ? null : "number" }, say(lang, key));
        });
        const table = make("table", {}, caption, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows));
        return scroller(`T = ${settings.temperature}`, table);
    }

    /** @param {number} n @param {Event} event */
    #changed(n, event) {
        const input = /** @type {HTMLInputElement} */ (event.target);
        const bad = input.value === "" || !input.validity.valid;
        input.setAttribute("aria-invalid", String(bad));
        if (!bad) this.change({ temperatures: this.view.temperatures.with(n, Number(input.value)) });
    }
}

customElements.define("manako-beside", BesideElement);
