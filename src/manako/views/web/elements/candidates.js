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
import { button, choices, columnHead, inRow, make, number, rowHead, scroller, soft, table } from "./dom.js";
import { AXES, LISTS, ViewElement } from "./view.js";
import { withForced } from "../analysis/step-numbers.js";
import { count, percent } from "../text/numbers.js";
import { say } from "../text/messages.js";
import { term } from "./term.js";
import { byteText, tokenChip, tokenText } from "./token-chip.js";

const DECADES = 6; // of the axis "log", below 1

export class CandidatesElement extends ViewElement {
    /** @param {View} view */
    draw(view) {
        const { lang, shown, details, axis, canAct } = view;
        const { rows, known, other, both, scale } = listing(view);
        const named = (/** @type {string} */ name) => columnHead(term(lang, name, say(lang, `page.${name}`)), "number");
        const heads = [
            named("rank"),
            columnHead(term(lang, "token", say(lang, "page.token"))),
            details && named("id"),
            details && columnHead(say(lang, "page.bytes")),
            named("p"),
            columnHead(axisLine(lang, scale), "wide"),
            both && named("p_model"),
            canAct && columnHead(term(lang, "forced", say(lang, "page.force_head")), "act"),
        ];
        const caption = make("caption", {}, say(lang, `page.caption_${axis}`), ...this.#keys(view, both));
        const lines = [...rows.map((row) => this.#row(view, row, both, scale)), this.#other(view, other, both, scale)];
        const share = percent(known.reduce((sum, row) => sum + row.p, 0));
        const coverage = say(lang, "page.coverage", { count: known.length, p: share, size: count(shown.size) });
        const frame = scroller(say(lang, "page.candidates"), table(heads, lines, caption, axis));
        this.replaceChildren(frame, soft(coverage), this.#axes(view));
    }

    /** @param {View} view @param {Candidate} row @param {boolean} both @param {Scale} scale */
    #row(view, row, both, scale) {
        const { lang, shown, details, canAct } = view;
        const taken = row.id === shown.drawnId;
        const forced = row.id === view.forcedId;
        const rank = count(row.rank);
        const end = row.cutBy
            ? make("span", { class: "soft" }, say(lang, "step.cut_by", { stage: row.cutBy }))
            : !Number.isNaN(row.p) && oneBar(scale, row.p, both ? row.pModel : null, shown.changed ? shown.recordedP(row.id) : null);
        const here = forced && make("span", { class: "soft" }, ` ${say(lang, "page.forced_here")}`);
        return make(
            "tr",
            { class: `${taken ? "chosen" : row.cutBy ? "cut" : ""}${forced ? " forced" : ""}` },
            number(taken ? `\u25b8 ${rank}` : rank),
            rowHead("cell-token", tokenChip(view, row, shown.pending), here),
            details && number(String(row.id)),
            details && make("td", {}, make("span", { class: "bytes" }, byteText(row.bytes))),
            number(row.cutBy ? "\u2013" : percent(row.p)),
            make("td", { class: "wide" }, end),
            both && number(percent(row.pModel)),
            canAct && make("td", { class: "act" }, this.#force(view, row)),
        );
    }

    /** @param {View} view @param {{count: number, p: number, pModel: number}} other @param {boolean} both @param {Scale} scale */
    #other({ lang, details, canAct }, other, both, scale) {
        const beyond = scale.at(Math.max(other.p, both ? other.pModel : 0)) > 1;
        return make(
            "tr",
            { class: "other" },
            number("\u2026"),
            rowHead(null, say(lang, "page.other", { count: count(other.count) })),
            details && make("td"),
            details && make("td"),
            number(percent(other.p)),
            make("td", { class: "wide" }, beyond ? say(lang, "page.beyond") : oneBar(scale, other.p, both ? other.pModel : null, null)),
            both && number(percent(other.pModel)),
            canAct && make("td", { class: "act" }),
        );
    }

    /** What puts a token here and lets the model go on. @param {View} view @param {Candidate} row */
    #force(view, row) {
        const about = say(view.lang, "page.force", { token: tokenText(view, row, view.shown.pending) });
        const click = () => this.act({ kind: "force", token: row.id });
        return button(click, "\uff0b", { class: "force", "aria-label": about, title: about });
    }

    /** @param {View} view */
    #axes({ lang, axis, top, details }) {
        const options = AXES.map((name) => /** @type {const} */ ([name, say(lang, `page.axis_${name}`)]));
        const label = say(lang, "page.axis");
        const buttons = choices(label, options, axis, (name) => this.change({ axis: name }));
        const tools = [this.#toggle("top", top === LISTS[1], { top: LISTS[Number(top === LISTS[0])] }), this.#toggle("details", details, { details: !details })];
        return inRow(make("span", { class: "soft" }, label), buttons, ...tools);
    }

    /** @param {"top" | "details"} name @param {boolean} on @param {import("./view.js").Change} change */
    #toggle(name, on, change) {
        const click = () => {
            this.change(change);
            /** @type {HTMLElement | null} */ (this.querySelector(`[data-toggle=${name}]`))?.focus(); // all are made anew
        };
        return button(click, say(this.view.lang, `page.toggle_${name}`), { class: "quiet", "data-toggle": name, "aria-pressed": String(on) });
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
    const { rows, known, other } = withForced(shown, shown.listed(top), forcedId);
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
function oneBar({ at }, p, pModel, before) {
    return make(
        "div",
        { class: "bar", "aria-hidden": "true" },
        make("span", { class: "p", "--p": at(p) }),
        pModel !== null && make("span", { class: "p-model", "--p": at(pModel) }),
        before !== null && make("span", { class: "before", "--p": at(before) }),
    );
}

customElements.define("manako-candidates", CandidatesElement);
