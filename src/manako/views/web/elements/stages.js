/** <manako-stages>: the chain as a row of stages, each with what it left and the probability that it cut. */

/** @import {View} from "./view.js" */
import { make } from "./dom.js";
import { term } from "./term.js";
import { ViewElement } from "./view.js";
import { count, percent, setting } from "../text/numbers.js";
import { say } from "../text/messages.js";

export class StagesElement extends ViewElement {
    /** @param {View} view */
    draw({ lang, trace, sampling, shown }) {
        const settings = sampling ?? trace.header.sampling;
        const stages = shown.stages.map(({ name, kept, removedMass }) =>
            make(
                "li",
                {},
                make("strong", {}, term(lang, name), ` ${setting(settings[name])}`),
                make("div", {}, say(lang, "page.kept", { count: kept > 0 ? count(kept) : `≥ ${count(/** @type {number} */ (settings.top_k))}` })), // others may tie
                ...(removedMass === null ? [] : [
                    make("div", {}, say(lang, "page.removed", { p: percent(removedMass) })),
                    make("div", { class: "removed", "aria-hidden": "true" }, make("span", { "--p": removedMass })),
                ]),
            ),
        );
        const start = make(
            "li",
            {},
            make("strong", {}, say(lang, "page.model")),
            make("div", {}, say(lang, "page.kept", { count: count(shown.size) })),
        );
        this.replaceChildren(make("h3", {}, say(lang, "page.chain")), make("ol", { class: "stages", "aria-label": say(lang, "page.chain") }, start, ...stages));
    }
}

customElements.define("manako-stages", StagesElement);
