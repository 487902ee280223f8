/** <manako-fan>: the likeliest tokens, hung at the selected one, as large as they are likely; a click puts one there. */

/** @import {View} from "./view.js" */
/** @import {Candidate} from "../analysis/step-numbers.js" */
import { button, make } from "./dom.js";
import { ViewElement } from "./view.js";
import { withForced } from "../analysis/step-numbers.js";
import { count, percent } from "../text/numbers.js";
import { say } from "../text/messages.js";
import { tokenChip, tokenText } from "./token-chip.js";

const CHIPS = [6, 9]; // in a narrow window and in others

export class FanElement extends ViewElement {
    #typed = make("input", { type: "text", required: true });
    #form = make("form", { class: "own", submit: (event) => this.#type(event) }, this.#typed);

    /** @param {View} view @param {View | null} before */
    draw(view, before) {
        if (before?.path !== view.path) this.#typed.value = ""; // it stays where it was refused
        const { lang, shown, forcedId, canAct, textLang } = view;
        const listed = shown.listed(CHIPS[Number(matchMedia("(min-width: 48rem)").matches)]).filter((row) => row.cutBy === null || row.id === forcedId);
        const { rows, other } = withForced(shown, listed, forcedId);
        const label = say(lang, "page.type_here");
        this.#typed.setAttribute("aria-label", label);
        this.#typed.placeholder = say(lang, "page.typed");
        this.#typed.lang = textLang ?? "";
        this.#form.hidden = !canAct;
        const rest = other.count > 0 && make("span", { class: "soft" }, say(lang, "page.fan_other", { count: count(other.count), p: percent(other.p) }));
        const end = this.#form.parentNode === this ? this.#form : null; // it stays, with what is being typed in it
        for (const each of [...this.children]) if (each !== end) each.remove();
        this.prepend(...rows.map((row) => this.#chip(view, row)));
        if (!end) this.append(this.#form);
        if (rest) this.#form.before(rest);
    }

    /** @param {View} view @param {Candidate} row */
    #chip(view, row) {
        const { lang, shown, forcedId, canAct } = view;
        const kind = `chip${row.id === shown.drawnId ? " won" : ""}${row.id === forcedId ? " forced" : ""}`;
        const inside = [tokenChip(view, row, shown.pending), make("small", {}, row.cutBy ? "\u2013" : percent(row.p))];
        const put = { class: kind, "--p": Math.sqrt(row.p || 0) };
        if (!canAct) return make("span", put, ...inside);
        const about = say(lang, "page.force", { token: tokenText(view, row, shown.pending) });
        const chip = button(() => this.act({ kind: "force", token: row.id }), inside[0], { ...put, title: about });
        chip.append(inside[1]);
        return chip;
    }

    /** @param {Event} event */
    #type(event) {
        event.preventDefault();
        this.act({ kind: "type", where: "here", text: this.#typed.value });
    }
}

customElements.define("manako-fan", FanElement);
