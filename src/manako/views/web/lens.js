/** <manako-lens>: what each layer would have said, had the model stopped after it; the taken token is followed by id. */

/** @import {View} from "./view-state.js" */
import { ViewElement, make, scroller } from "./dom.js";
import { checkLines } from "./checks.js";
import { readLens } from "./inside.js";
import { percent, whole } from "./numbers.js";
import { say } from "./messages.js";
import { tokenChip, tokenText } from "./token-chip.js";

const FIRST_SHOWN = 4;

export class LensElement extends ViewElement {
    /** @param {View} view @param {View | null} before */
    draw(view, before) {
        const { lang, trace, index, shown } = view;
        const given = trace.lens(index);
        const same = before && before.trace === trace && before.lang === lang && before.index === index;
        if (given === null || same) return;
        const found = readLens(given);
        const token = (/** @type {number} */ id) => ({ bytes: trace.tokenBytes(id), special: trace.specialIds.has(id) });
        const taken = tokenText(view, token(shown.takenId), shown.pending);
        const rows = found.layers.map((layer, n) => {
            const { p, rank } = found.tracked[0][n];
            const cells = found.first[n].slice(0, FIRST_SHOWN).map((reading) =>
                make(
                    "td",
                    { class: `lens-cell cell-token ${reading.id === shown.takenId ? "selected" : ""}`, "--weight": reading.p },
                    tokenChip(view, token(reading.id), shown.pending),
                    " ",
                    make("small", {}, percent(reading.p)),
                ),
            );
            return make(
                "tr",
                {},
                make("th", { scope: "row" }, layer),
                make("td", { class: "number" }, percent(p)),
                make("td", { class: "number" }, whole(rank)),
                ...cells,
            );
        });
        const head = make(
            "tr",
            {},
            make("th", { scope: "col" }, say(lang, "lens.layer_head")),
            make("th", { scope: "col", class: "number" }, say(lang, "page.p_of_taken")),
            make("th", { scope: "col", class: "number" }, say(lang, "lens.rank_head")),
            make("th", { scope: "col", colspan: FIRST_SHOWN }, say(lang, "page.likeliest")),
        );
        const table = make("table", { class: "lens" }, make("thead", {}, head), make("tbody", {}, ...rows));
        this.replaceChildren(
            make("p", {}, say(lang, "lens.question", { token: taken })),
            scroller(say(lang, "page.lens"), table),
            make("p", {}, this.#story(view, found, taken)),
            ...["lens.embed_is", "lens.meaning"].map((key) => make("p", { class: "soft" }, say(lang, key))),
            ...checkLines(view, ["lens_last_equals_logits", "lens_lists_fit"]),
        );
    }

    /** @param {View} view @param {import("./inside.js").LensStep} found @param {string} token */
    #story({ lang }, { appears, wins, layers, tracked }, token) {
        const named = (/** @type {number} */ place) =>
            place === 0 ? say(lang, "lens.embedding") : say(lang, "lens.layer", { number: layers[place] });
        const rank = tracked[0][layers.length - 1].rank;
        if (appears === null) return say(lang, "lens.nowhere", { token, rank });
        const at = named(appears);
        if (wins === null) return say(lang, "lens.never_wins", { token, at, rank });
        return wins <= appears ? say(lang, "lens.wins_at_once", { token, at }) : say(lang, "lens.wins", { token, at, wins: named(wins) });
    }
}

customElements.define("manako-lens", LensElement);
