/**
 * <manako-candidates>: what could have come next, as a table with bars on an axis from 0 to 100 %.
 *
 * Special here: the axis is absolute, so a flat row looks flat; decades, and the stretch from 0 to the largest p shown,
 * are there on demand and named above the bars. The token that was taken is always in the list, and so is one that a
 * reader put there; the last row holds everything that is not: the numbers of a column add up to the whole vocabulary.
 */

/** @import {View, Axis} from "./view.js" */
/** @import {Candidate} from "../analysis/step-numbers.js" */
/**
 * Where a p lies on an axis of length 1.
 * @typedef {object} Scale
 * @property {(p: number) => number} at more than 1 beyond the end
 * @property {[number, string][]} marks
 */
import { make, scroller } from "./dom.js";
import { ViewElement } from "./view.js";
import { percent, whole } from "../text/numbers.js";
import { say } from "../text/messages.js";
import { byteText, tokenChip, tokenText } from "./token-chip.js";

/** @type {Axis[]} */
const AXIS_NAMES = ["linear", "log", "zoom"];
const DECADES = 6; // of the axis "log", below 1

export class CandidatesElement extends ViewElement {
    /** @param {View} view */
    draw(view) {
        const { lang, shown, details, axis, canAct } = view;
        const { rows, known, other, both, scale } = listing(view);
        const head = (/** @type {string} */ key) => make("th", { scope: "col", class: "number" }, say(lang, key));
        const table = make(
            "table",
            { class: axis },
            make("caption", {}, say(lang, `page.caption_${axis}`), ...this.#keys(view, both)),
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
                    make("th", { scope: "col", class: "wide" }, axisLine(lang, scale)),
                    both && head("page.p_model"),
                    canAct && make("th", { scope: "col", class: "act" }, say(lang, "page.force_head")),
                ),
            ),
            make("tbody", {}, ...rows.map((row) => this.#row(view, row, both, scale)), this.#other(view, other, both, scale)),
        );
        const share = percent(known.reduce((sum, row) => sum + row.p, 0));
        const coverage = say(lang, "page.coverage", { count: known.length, p: share, size: whole(shown.size) });
        this.replaceChildren(scroller(say(lang, "page.candidates"), table), make("p", { class: "soft" }, coverage), this.#axes(view));
    }

    /** @param {View} view @param {Candidate} row @param {boolean} both @param {Scale} scale */
    #row(view, row, both, scale) {
        const { lang, shown, details, canAct } = view;
        const taken = row.id === shown.drawnId;
        const forced = row.id === view.forcedId;
        const rank = whole(row.rank);
        const end = row.cutBy
            ? make("span", { class: "soft" }, say(lang, "step.cut_by", { stage: row.cutBy }))
            : !Number.isNaN(row.p) && bar(scale, row.p, both ? row.pModel : null, shown.changed ? shown.recordedP(row.id) : null);
        return make(
            "tr",
            { class: `${taken ? "chosen" : row.cutBy ? "cut" : ""}${forced ? " forced" : ""}` },
            make("td", { class: "number" }, taken ? `\u25b8 ${rank}` : rank),
            make("th", { scope: "row", class: "cell-token" }, tokenChip(view, row, shown.pending), forced && make("span", { class: "soft" }, ` ${say(lang, "page.forced_here")}`)),
            details && make("td", { class: "number" }, String(row.id)),
            details && make("td", {}, make("span", { class: "bytes" }, byteText(row.bytes))),
            make("td", { class: "number" }, row.cutBy ? "\u2013" : percent(row.p)),
            make("td", { class: "wide" }, end),
            both && make("td", { class: "number" }, percent(row.pModel)),
            canAct && make("td", { class: "act" }, this.#force(view, row)),
        );
    }

    /** @param {View} view @param {{count: number, p: number, pModel: number}} other @param {boolean} both @param {Scale} scale */
    #other({ lang, details, canAct }, other, both, scale) {
        const beyond = scale.at(Math.max(other.p, both ? other.pModel : 0)) > 1;
        return make(
            "tr",
            { class: "other" },
            make("td", { class: "number" }, "\u2026"),
            make("th", { scope: "row" }, say(lang, "page.other", { count: whole(other.count) })),
            details && make("td"),
            details && make("td"),
            make("td", { class: "number" }, percent(other.p)),
            make("td", { class: "wide" }, beyond ? say(lang, "page.beyond") : bar(scale, other.p, both ? other.pModel : null, null)),
            both && make("td", { class: "number" }, percent(other.pModel)),
            canAct && make("td", { class: "act" }),
        );
    }

    /** What puts a token here and lets the model go on. @param {View} view @param {Candidate} row */
    #force(view, row) {
        const about = say(view.lang, "page.force", { token: tokenText(view, row, view.shown.pending) });
        const click = () => this.act({ kind: "force", token: row.id });
        return make("button", { type: "button", class: "force", "aria-label": about, title: about, click }, "\uff0b");
    }

    /** @param {View} view */
    #axes({ lang, axis }) {
        const choose = (/** @type {Axis} */ name) => {
            this.change({ axis: name });
            /** @type {HTMLElement | null} */ (this.querySelector(".choices [aria-pressed=true]"))?.focus();
        };
        const buttons = AXIS_NAMES.map((name) =>
            make("button", { type: "button", "aria-pressed": String(name === axis), click: () => choose(name) }, say(lang, `page.axis_${name}`)),
        );
        const group = make("div", { class: "choices", role: "group", "aria-label": say(lang, "page.axis") }, ...buttons);
        return make("div", { class: "row" }, make("span", { class: "soft" }, say(lang, "page.axis")), group);
    }

    /** What the bars mean, where there is more than one kind. @param {View} view @param {boolean} both */
    #keys({ lang, shown }, both) {
        const key = (/** @type {string} */ kind, /** @type {string} */ word) =>
            [" ", make("span", { class: "keyed" }, make("span", { class: `key ${kind}` }), say(lang, word))];
        const before = shown.changed ? key("before", "page.key_before") : [];
        return both || shown.changed ? [...key("", "page.key_p"), ...(both ? key("model", "page.key_p_model") : []), ...before] : [];
    }
}

/**
 * The rows of the list, of which some may have no numbers; all other tokens; whether p and p_model differ; the axis.
 * @param {View} view
 */
export function listing({ shown, top, axis, forcedId }) {
    const listed = shown.listed(top);
    const isListed = forcedId === null || listed.some((row) => row.id === forcedId);
    const rows = isListed ? listed : [...listed, shown.candidate(forcedId)];
    const known = rows.filter((row) => !Number.isNaN(row.p));
    const other = shown.other(known);
    const both = [...known, other].some((row) => Math.abs(row.p - row.pModel) > 1e-12);
    const lengths = known.flatMap(({ id, p, pModel }) => {
        return [p, both ? pModel : 0, shown.changed ? shown.recordedP(id) : 0];
    });
    return { rows, known, other, both, scale: scaleOf(axis, Math.max(...lengths)) };
}

/**
 * @param {Axis} axis
 * @param {number} largest of what is shown
 * @returns {Scale}
 */
function scaleOf(axis, largest) {
    if (axis === "log") {
        const marks = /** @type {Scale["marks"]} */ ([[0, "0.0001%"], [0.5, "0.1%"], [1, "100%"]]);
        return { at: (p) => Math.max(0, 1 + Math.log10(p) / DECADES), marks };
    }
    if (axis === "zoom") {
        return { at: (p) => p / largest, marks: [[0, "0"], [0.5, percent(largest / 2)], [1, percent(largest)]] };
    }
    return { at: (p) => p, marks: [[0, "0"], [0.25, "25"], [0.5, "50"], [0.75, "75"], [1, "100%"]] };
}

/** @param {View["lang"]} lang @param {Scale} scale */
function axisLine(lang, { marks }) {
    const spans = marks.map(([at, mark]) => make("span", { "--p": at }, mark));
    const name = make("span", { class: "visually-hidden" }, say(lang, "page.bar"));
    return make("div", {}, name, make("div", { class: "axis", "aria-hidden": "true" }, ...spans));
}

/**
 * One bar: p thick, the model's own thin below it, and a mark where the recorded p was.
 * @param {Scale} scale
 * @param {number} p
 * @param {number | null} pModel
 * @param {number | null} before
 */
function bar({ at }, p, pModel, before) {
    return make(
        "div",
        { class: "bar", "aria-hidden": "true" },
        make("span", { class: "p", "--p": at(p) }),
        pModel !== null && make("span", { class: "p-model", "--p": at(pModel) }),
        before !== null && make("span", { class: "before", "--p": at(before) }),
    );
}

customElements.define("manako-candidates", CandidatesElement);
