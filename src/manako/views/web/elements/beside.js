/**
 * <manako-beside>: the selected step at three temperatures, all with the u on record, so that only the setting differs.
 */

/** @import {View} from "./view.js" */
import { columnHead, make, number, rowHead, scroller, soft, table } from "./dom.js";
import { ViewElement } from "./view.js";
import { count, percent, setting, small } from "../text/numbers.js";
import { say } from "../text/messages.js";
import { StepNumbers, canAnswer } from "../analysis/step-numbers.js";
import { tokenChip } from "./token-chip.js";

const ROWS = 5;

export class BesideElement extends ViewElement {
    /** @type {HTMLElement[]} */
    #tables = [];
    /** @type {HTMLInputElement[]} */
    #inputs = [];
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
            const input = this.#inputs[n];
            if (before?.temperatures[n] !== temperature && Number(input.value) !== temperature) input.value = String(temperature); // out of the address
        });
    }

    /** @param {View} view */
    #build({ lang, temperatures }) {
        this.#tables = temperatures.map(() => make("div"));
        this.#drawn = [];
        this.#inputs = temperatures.map((value, n) => make("input", { type: "number", min: 0, step: "any", value, input: () => this.#changed(n) }));
        const columns = this.#inputs.map((input, n) => make("div", {}, make("label", {}, "temperature", input), this.#tables[n]));
        const about = soft(say(lang, "page.beside_about"));
        this.replaceChildren(make("h3", {}, say(lang, "page.beside")), about, make("div", { class: "beside" }, ...columns));
    }

    /** @param {View} view @param {import("../trace/sampling.js").Sampling} settings */
    #table(view, settings) {
        const { lang, trace, index } = view;
        if (!canAnswer(trace, settings)) return soft(say(lang, "page.not_answerable"));
        const recorded = trace.header.sampling; // its numbers are exact, even where those of others are not
        const isRecorded = view.sampling === null && settings.temperature === recorded.temperature;
        const numbers = new StepNumbers(trace, index, isRecorded ? null : settings);
        const rows = numbers.listed(ROWS).map((row) => {
            const taken = row.id === numbers.drawnId;
            return make(
                "tr",
                { class: taken ? "chosen" : row.cutBy ? "cut" : "" },
                number(taken ? `\u25b8 ${count(row.rank)}` : count(row.rank)),
                rowHead("cell-token", tokenChip(view, row, numbers.pending)),
                number(row.cutBy ? "\u2013" : percent(row.p)),
            );
        });
        const about = numbers.error ? say(lang, "page.about", { error: small(100 * numbers.error) }) : "";
        const heads = ["page.rank", "page.token", "page.p"].map((key, n) => columnHead(say(lang, key), n === 1 ? null : "number"));
        const title = `T = ${setting(settings.temperature)}`;
        return scroller(title, table(heads, rows, `${title} ${about}`));
    }

    /** @param {number} n */
    #changed(n) {
        const input = this.#inputs[n];
        const bad = input.value === "" || !input.validity.valid;
        input.setAttribute("aria-invalid", String(bad));
        if (!bad) return this.change({ temperatures: this.view.temperatures.with(n, Number(input.value)) });
        this.#drawn[n] = "";
        this.#tables[n].replaceChildren(make("p", { class: "warn", role: "alert" }, say(this.view.lang, "error.temperature", { got: input.value || "-" })));
    }
}

customElements.define("manako-beside", BesideElement);
