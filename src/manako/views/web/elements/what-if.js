/**
 * <manako-what-if>: the settings of the chain, to be changed; the selected step is computed again at once.
 *
 * Special here: only the step changes, never the text, since what the model would say after another token is not on
 * record. u stays the recorded one. A setting that the record cannot answer is switched off, with the reason below.
 */

/** @import {View} from "./view.js" */
import { button, make, soft } from "./dom.js";
import { ViewElement } from "./view.js";
import { say } from "../text/messages.js";
import { small } from "../text/numbers.js";
import { STAGES, ordered, samplingFault } from "../trace/sampling.js";
import { answerable } from "../analysis/step-numbers.js";

const STEPS = { top_k: 1, top_p: 0.01, min_p: 0.01, typical_p: 0.01 };
const LARGEST_TEMPERATURE = 5;
const isPenalty = (/** @type {string} */ name) => Number(name.endsWith("_penalty"));
const SETTINGS = STAGES.toSorted((a, b) => isPenalty(a) - isPenalty(b)); // which few change, stand last

export class WhatIfElement extends ViewElement {
    /** @type {Map<string, HTMLInputElement>} */
    #inputs = new Map();

    /** @param {View} view @param {View | null} before */
    draw(view, before) {
        if (!before || before.trace !== view.trace || before.lang !== view.lang) this.#build(view);
        const now = view.sampling ?? view.trace.header.sampling;
        for (const [name, input] of this.#inputs) {
            const setting = name === "slider" ? "temperature" : name;
            const value = now[/** @type {"temperature"} */ (setting)];
            if (document.activeElement === input && input.type === "number") continue; // it is being typed in
            input.value = value === null ? "" : String(value);
        }
        const reset = /** @type {HTMLButtonElement} */ (this.querySelector("button"));
        reset.disabled = view.sampling === null;
        const about = /** @type {HTMLElement} */ (this.querySelector("[role=status]"));
        about.className = view.sampling ? "note" : "soft";
        about.textContent = this.#about(view);
    }

    /** @param {View} view */
    #build(view) {
        const { lang, trace } = view;
        this.#inputs = new Map();
        const can = answerable(trace);
        const number = (/** @type {string} */ name) => {
            const attributes = { type: "number", step: "any", min: 0, placeholder: say(lang, "page.off"), disabled: !can.has(name) };
            const input = this.#input(name, { ...attributes, step: STEPS[/** @type {"top_k"} */ (name)] ?? "any" });
            return make("label", {}, name, input);
        };
        const range = { type: "range", min: 0, max: LARGEST_TEMPERATURE, step: 0.05, disabled: !can.has("temperature") };
        const slider = this.#input("slider", { ...range, "aria-label": say(lang, "page.slider") });
        this.replaceChildren(
            make(
                "fieldset",
                { class: "settings" },
                make("legend", { class: "visually-hidden" }, say(lang, "page.what_if")),
                make("div", { class: "wider" }, slider),
                ...SETTINGS.map(number),
            ),
            make("div", { class: "row" }, button(() => this.#reset(), say(lang, "page.reset"))),
            make("p", { role: "status" }),
        );
        if (!trace.exact) this.append(soft(say(lang, "page.partial", { count: trace.part(0)?.ids.length ?? 0 })));
    }

    /** @param {string} name @param {Record<string, string | number | boolean | null>} attributes */
    #input(name, attributes) {
        const input = make("input", { ...attributes, input: () => this.#changed(name) });
        this.#inputs.set(name, input);
        return input;
    }

    #reset() {
        this.change({ sampling: null });
        this.#inputs.get("slider")?.focus(); // the button is off now and would lose it
    }

    /** @param {string} name */
    #changed(name) {
        const input = /** @type {HTMLInputElement} */ (this.#inputs.get(name));
        const setting = name === "slider" ? "temperature" : name;
        const { trace, sampling } = this.view;
        const value = input.value === "" ? null : Number(input.value);
        const next = ordered({ ...(sampling ?? trace.header.sampling), [setting]: value });
        const fault = input.validity.badInput || samplingFault(next) !== null;
        input.setAttribute("aria-invalid", String(fault));
        if (!fault) return this.change({ sampling: next });
        const about = /** @type {HTMLElement} */ (this.querySelector("[role=status]"));
        about.className = "warn";
        about.textContent = say(this.view.lang, `error.${setting}`, { got: input.value || "-" });
    }

    /** @param {View} view @returns {string} */
    #about({ lang, sampling, shown }) {
        if (sampling === null) return say(lang, "page.as_recorded");
        if (shown.error === 0) return say(lang, "page.exact");
        return say(lang, "page.approximate", { error: small(100 * shown.error) });
    }
}

customElements.define("manako-what-if", WhatIfElement);
