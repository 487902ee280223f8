/**
 * <manako-what-if>: the settings of the chain, to be changed; the selected step is computed again at once.
 *
 * Special here: only the step changes, never the text, since what the model would say after another token is not on
 * record. u stays the recorded one. A setting that the record cannot answer is switched off, with the reason below.
 */

/** @import {View} from "./view.js" */
import { button, inRow, make, soft } from "./dom.js";
import { TEMPERATURES, ViewElement } from "./view.js";
import { say } from "../text/messages.js";
import { setting, small } from "../text/numbers.js";
import { STAGES, ordered, samplingFault } from "../trace/sampling.js";
import { answerable } from "../analysis/step-numbers.js";

const STEPS = { top_k: 1, top_p: 0.01, min_p: 0.01, typical_p: 0.01 };
const standsLast = (/** @type {string} */ name) => Number(name.endsWith("_penalty"));
const SETTINGS = STAGES.toSorted((a, b) => standsLast(a) - standsLast(b)); // which few change, stand last
/**
 * What is learned by feeling: where a setting lies on its slider, and back; at one end it is off. Larger temperatures
 * can be typed. top_k runs in equal ratios, since from 1 to 10 as much changes as from 100 to 1,000.
 * @type {Record<string, {max: number, step: number, at: (value: number | null, size: number) => number, value: (at: number, size: number) => number | null}>}
 */
const SLIDERS = {
    temperature: { max: 2, step: 0.05, at: (value) => value ?? 1, value: (at) => at },
    top_k: { max: 1, step: 0.01, at: (value, size) => (value === null ? 1 : Math.log(value) / Math.log(size)), value: (at, size) => (at === 1 ? null : Math.round(size ** at)) },
    top_p: { max: 1, step: 0.01, at: (value) => value ?? 1, value: (at) => (at === 1 ? null : Math.max(0.01, at)) },
    min_p: { max: 1, step: 0.01, at: (value) => value ?? 0, value: (at) => at || null },
};

export class WhatIfElement extends ViewElement {
    /** @type {Map<string, HTMLInputElement>} */
    #inputs = new Map();
    /** @type {Map<string, HTMLInputElement>} */
    #sliders = new Map();

    /** @param {View} view @param {View | null} before */
    draw(view, before) {
        if (!before || before.trace !== view.trace || before.lang !== view.lang) this.#build(view);
        const now = view.sampling ?? view.trace.header.sampling;
        for (const [name, input] of this.#inputs) {
            const value = now[/** @type {"temperature"} */ (name)];
            const slider = this.#sliders.get(name);
            if (slider) {
                slider.value = String(SLIDERS[name].at(value, view.trace.vocabSize));
                slider.setAttribute("aria-valuetext", value === null ? say(view.lang, "page.off") : setting(value));
            }
            if (document.activeElement === input) continue; // it is being typed in
            input.value = value === null ? "" : String(value);
            input.removeAttribute("aria-invalid");
        }
        const reset = /** @type {HTMLButtonElement} */ (this.querySelector("button"));
        reset.disabled = view.sampling === null;
        /** @type {HTMLElement} */ (this.querySelector("[data-act=settings]")).hidden = !view.canAct;
        const about = /** @type {HTMLElement} */ (this.querySelector("[role=status]"));
        about.className = view.sampling ? "note" : "soft";
        about.textContent = this.#about(view);
    }

    /** @param {View} view */
    #build(view) {
        const { lang, trace } = view;
        const can = answerable(trace);
        const row = (/** @type {string} */ name) => {
            const step = STEPS[/** @type {"top_k"} */ (name)] ?? "any";
            const put = { type: "number", min: 0, step, placeholder: say(lang, "page.off"), disabled: !can.has(name) };
            const input = make("input", { ...put, input: () => this.#changed(name, input.value === "" ? null : Number(input.value)) });
            this.#inputs.set(name, input);
            const label = make("label", {}, name, input);
            if (!(name in SLIDERS)) return label;
            const { max, step: by, value } = SLIDERS[name];
            const moved = () => this.#changed(name, value(Number(slider.value), trace.vocabSize));
            const about = { "aria-label": say(lang, "page.slider", { name }), list: name === "temperature" ? "temperatures" : null };
            const slider = make("input", { type: "range", min: 0, max, step: by, disabled: !can.has(name), input: moved, ...about });
            this.#sliders.set(name, slider);
            return make("div", { class: "slide" }, label, slider);
        };
        const write = button(() => this.act({ kind: "settings" }), say(lang, "page.act_settings"), { "data-act": "settings" });
        this.replaceChildren(
            make(
                "fieldset",
                { class: "settings" },
                make("legend", { class: "visually-hidden" }, say(lang, "page.what_if")),
                ...SETTINGS.map(row),
                make("datalist", { id: "temperatures" }, ...TEMPERATURES.map((value) => make("option", { value }))),
            ),
            inRow(button(() => this.#reset(), say(lang, "page.reset")), write),
            make("p", { role: "status" }),
        );
        if (!trace.exact) this.append(soft(say(lang, "page.partial", { count: trace.part(0)?.ids.length ?? 0 })));
    }

    #reset() {
        this.change({ sampling: null });
        this.#sliders.get("temperature")?.focus(); // the button is off now and would lose it
    }

    /** @param {string} name @param {number | null} value */
    #changed(name, value) {
        const input = /** @type {HTMLInputElement} */ (this.#inputs.get(name));
        const { trace, sampling } = this.view;
        const next = ordered({ ...(sampling ?? trace.header.sampling), [name]: value });
        const fault = (document.activeElement === input && input.validity.badInput) || samplingFault(next) !== null;
        input.setAttribute("aria-invalid", String(fault));
        if (!fault) return this.change({ sampling: next });
        const about = /** @type {HTMLElement} */ (this.querySelector("[role=status]"));
        about.className = "warn";
        about.textContent = say(this.view.lang, `error.${name}`, { got: input.value || "-" });
    }

    /** @param {View} view @returns {string} */
    #about({ lang, sampling, shown }) {
        if (sampling === null) return say(lang, "page.as_recorded");
        if (shown.error === 0) return say(lang, "page.exact");
        return say(lang, "page.approximate", { error: small(100 * shown.error) });
    }
}

customElements.define("manako-what-if", WhatIfElement);
