/**
 * <manako-candidates>: what could have come next, as a table with bars on an axis from 0 to 100 %.
 *
 * Special here: the axis is absolute, so a flat row looks flat. The token that was taken is always in the list, and the
 * last row holds everything that is not: the numbers of a column add up to the whole vocabulary.
 */

/** @import {View} from "./view-state.js" */
/** @import {Candidate} from "./step-numbers.js" */
import { ViewElement, make, scroller } from "./dom.js";
import { percent, whole } from "./numbers.js";
import { say } from "./messages.js";
import { byteText, tokenChip } from "./token-chip.js";

export class CandidatesElement extends ViewElement {
    /** @param {View} view */
    draw(view) {
        const { lang, shown, details } = view;
        const rows = shown.listed(view.top);
        const other = shown.other(rows);
        const both = [...rows, other].some((row) => Math.abs(row.p - row.pModel) > 1e-12);
        const head = (/** @type {string} */ key) => make("th", { scope: "col", class: "number" }, say(lang, key));
        const table = make(
            "table",
            {},
            make("caption", {}, say(lang, "page.table_caption"), ...this.#keys(view, both)),
            make(
                "thead",
                {},
                make(
                    "tr",
                    {},
                    head("page.rank"),
                    make("th", { scope: "col" }, say(lang, "page.token")),
                    details && head("page.id"),
                    details && make("th", { scope: "col" }, say(lang, "page.bytes")),
                    head("page.p"),
                    make("th", { scope: "col", class: "wide" }, axis(lang)),
                    both && head("page.p_model"),
                ),
            ),
            make("tbody", {}, ...rows.map((row) => this.#row(view, row, both)), this.#other(view, other, both)),
        );
        const share = percent(rows.reduce((sum, row) => sum + row.p, 0));
        const coverage = say(lang, "page.coverage", { count: rows.length, p: share, size: whole(shown.size) });
        this.replaceChildren(scroller(say(lang, "page.candidates"), table), make("p", { class: "soft" }, coverage));
    }

    /** @param {View} view @param {Candidate} row @param {boolean} both */
    #row(view, row, both) {
        const { lang, shown, details } = view;
        const taken = row.id === shown.drawnId;
        const end = row.cutBy
            ? make("span", { class: "soft" }, say(lang, "step.cut_by", { stage: row.cutBy }))
            : bar(row.p, both ? row.pModel : null, shown.changed ? shown.recordedP(row.id) : null);
        return make(
            "tr",
            { class: taken ? "chosen" : row.cutBy ? "cut" : "" },
            make("td", { class: "number" }, taken ? `\u25b8 ${whole(row.rank)}` : whole(row.rank)),
            make("th", { scope: "row", class: "cell-token" }, tokenChip(view, row, shown.pending)),
            details && make("td", { class: "number" }, String(row.id)),
            details && make("td", {}, make("span", { class: "bytes" }, byteText(row.bytes))),
            make("td", { class: "number" }, row.cutBy ? "\u2013" : percent(row.p)),
            make("td", { class: "wide" }, end),
            both && make("td", { class: "number" }, percent(row.pModel)),
        );
    }

    /** @param {View} view @param {{count: number, p: number, pModel: number}} other @param {boolean} both */
    #other({ lang, details }, other, both) {
        return make(
            "tr",
            { class: "other" },
            make("td", { class: "number" }, "\u2026"),
            make("th", { scope: "row" }, say(lang, "page.other", { count: whole(other.count) })),
            details && make("td"),
            details && make("td"),
            make("td", { class: "number" }, percent(other.p)),
            make("td", { class: "wide" }, bar(other.p, both ? other.pModel : null, null)),
            both && make("td", { class: "number" }, percent(other.pModel)),
        );
    }

    /** What the bars mean, where there is more than one kind. @param {View} view @param {boolean} both */
    #keys({ lang, shown }, both) {
        const key = (/** @type {string} */ kind, /** @type {string} */ word) =>
            [" ", make("span", { class: `key ${kind}` }), say(lang, word)];
        const before = shown.changed ? key("before", "page.key_before") : [];
        return both || shown.changed ? [...key("", "page.key_p"), ...(both ? key("model", "page.key_p_model") : []), ...before] : [];
    }
}

/** @param {View["lang"]} lang */
function axis(lang) {
    const marks = ["0", "25", "50", "75", "100%"].map((mark) => make("span", {}, mark));
    const name = make("span", { class: "visually-hidden" }, say(lang, "page.bar"));
    return make("div", {}, name, make("div", { class: "axis", "aria-hidden": "true" }, ...marks));
}

/**
 * One bar: p thick, the model's own thin below it, and a mark where the recorded p was.
 * @param {number} p
 * @param {number | null} pModel
 * @param {number | null} before
 */
function bar(p, pModel, before) {
    return make(
        "div",
        { class: "bar", "aria-hidden": "true" },
        make("span", { class: "p", "--p": p }),
        pModel !== null && make("span", { class: "p-model", "--p": pModel }),
        before !== null && make("span", { class: "before", "--p": before }),
    );
}

customElements.define("manako-candidates", CandidatesElement);
