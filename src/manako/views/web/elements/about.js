/** <manako-about>: which model and which settings a text is from, and what is unusual about them. */

/** @import {View} from "./view.js" */
import { make, soft } from "./dom.js";
import { ViewElement } from "./view.js";
import { chainText } from "../text/numbers.js";
import { say } from "../text/messages.js";
import { modelName } from "../trace/model-name.js";
import { prose, visibleText } from "../text/tokens.js";

export class AboutElement extends ViewElement {
    /** @param {View} view @param {View | null} before */
    draw({ lang, path, trace }, before) {
        if (before && before.lang === lang && before.path === path && before.trace === trace) return;
        const { model, ablate, sampling, seed } = trace.header;
        const said = Object(model.config.trained_on);
        const text = said[lang] ?? Object.values(said)[0]; // as its author says it
        const names = ["n_layer", "n_head", "n_embd", "n_positions"];
        const shape = say(lang, "view.shape", Object.fromEntries(names.map((name) => [name, visibleText(String(model.config[name] ?? "?"))])));
        const warn = (/** @type {string} */ key, /** @type {string} */ name, /** @type {readonly string[]} */ listed) =>
            listed.length > 0 && make("p", { class: "warn" }, say(lang, key, { [name]: visibleText(listed.join(", ")) }));
        this.replaceChildren(
            make("p", { class: "pill" }, say(lang, "view.model", { ref: visibleText(modelName(model.ref)), shape })),
            ...[
                typeof text === "string" && soft(say(lang, "view.trained_on", { text: prose(text) })),
                warn("view.switches", "switches", model.switches),
                warn("view.ablate", "parts", ablate),
                seed !== null && soft(say(lang, "view.settings", { chain: chainText(sampling), seed })),
            ].filter((each) => each !== false),
        );
    }
}

customElements.define("manako-about", AboutElement);
