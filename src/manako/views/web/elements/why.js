/**
 * <manako-why>: what each part of the model added to a token's logit, as bars on both sides of zero; or why one token
 * rather than another.
 */

/** @import {View} from "./view.js" */
import { columnHead, inRow, make, number, rowHead, scroller, soft, table } from "./dom.js";
import { ViewElement } from "./view.js";
import { checkLines } from "./checks.js";
import { contributedIds, effectOf, strongestParts, sumByKind, why } from "../analysis/inside.js";
import { addends, fixed, signed, small } from "../text/numbers.js";
import { say } from "../text/messages.js";
import { tokenText } from "./token-chip.js";
import { visibleText } from "../text/tokens.js";

const SHOWN_PARTS = 10;
const NOISE = 1e-6; // of float32: the digits of anything smaller say nothing

export class WhyElement extends ViewElement {
    /** Of the token, of its rival. */
    #selects = [0, 1].map(() => make("select", { change: () => this.#show() }));
    #picture = make("div", { class: "pane" });
    #isOpen = false; // the explanation

    /** @param {View} view @param {View | null} before */
    draw(view, before) {
        const { lang, trace, index } = view;
        const isSame = before?.trace === trace && before.index === index;
        if (isSame && before.lang === lang) return;
        const ids = contributedIds(trace, index);
        if (ids.length === 0) return this.replaceChildren(soft(say(lang, "page.not_recorded")));
        const labels = this.#selects.map((select, n) => {
            const { value } = select;
            select.replaceChildren(n ? make("option", { value: "" }, say(lang, "page.no_rival")) : "", ...ids.map((id) => make("option", { value: id }, this.#name(id))));
            if (isSame) select.value = value; // as in the other language
            return make("label", {}, say(lang, n ? "page.rival" : "page.token"), select);
        });
        this.replaceChildren(
            inRow(...labels),
            this.#picture,
            soft(say(lang, "why.meaning")),
            ...checkLines(view, ["contributions_sum_to_logit"]),
        );
        this.#show();
    }

    /** @param {number} id */
    #name(id) {
        const { trace, shown } = this.view;
        return tokenText(this.view, trace.token(id), shown.pending);
    }

    #show() {
        const { lang, trace, index } = this.view;
        const [{ value }, other] = this.#selects;
        const id = Number(value);
        for (const option of other.options) option.disabled = option.value === value;
        if (other.value === value) other.value = "";
        const rival = other.value === "" ? null : Number(other.value);
        const found = why(trace, index, id, rival);
        const { first, rest } = strongestParts(found.parts, SHOWN_PARTS);
        const longest = Math.max(...first.map((part) => Math.abs(effectOf(part))), 1e-12);
        const isCentred = found.parts.some(({ overMean }) => overMean !== null);
        const rows = first.map((part) =>
            make(
                "tr",
                {},
                rowHead(null, this.#partName(part)),
                number(signed(effectOf(part))),
                make("td", { class: "wide" }, signedBar(effectOf(part) / longest)),
                isCentred && number(signed(part.value)),
            ),
        );
        const others = rest.count > 0 && make(
            "tr",
            { class: "other" },
            rowHead(null, say(lang, "why.rest", { count: rest.count })),
            number(signed(isCentred ? rest.overMean : rest.value)),
            make("td"),
            isCentred && number(signed(rest.value)),
        );
        const heads = [
            columnHead(say(lang, "why.part")),
            columnHead(say(lang, isCentred ? "why.over" : "why.adds"), "number"),
            columnHead(say(lang, "page.scale", { longest: fixed(longest, 2) }), "wide"),
            isCentred && columnHead(say(lang, "why.adds"), "number"),
        ];
        const names = { token: this.#name(id), rival: rival === null ? "" : this.#name(rival) };
        const groups = sumByKind(found.parts);
        const shown = addends(Object.values(groups), found.logit);
        const sums = Object.fromEntries(Object.keys(groups).map((kind, i) => [kind, shown[i]]));
        const missing = Math.abs(found.logit - found.total);
        const fits = missing <= found.allowed;
        const remainder = missing < NOISE ? `<${small(NOISE)}` : small(missing);
        const [logit, remains] = [signed(found.logit), fits ? "why.remainder" : "why.remainder_failed"];
        this.#picture.replaceChildren(
            make("p", {}, say(lang, rival === null ? "why.question" : "why.question_rather", names)),
            scroller(say(lang, "page.why"), table(heads, [...rows, others])),
            make("p", {}, say(lang, rival === null ? "why.sum" : "why.sum_rather", { ...sums, logit, difference: logit })),
            make("p", { class: fits ? "soft" : "warn" }, say(lang, remains, { remainder })),
            make(
                "details",
                { open: this.#isOpen, toggle: (event) => (this.#isOpen = /** @type {HTMLDetailsElement} */ (event.target).open) },
                make("summary", { class: "soft" }, say(lang, "page.how_to_read")),
                ...["why.idea", rival !== null ? "why.rather_means" : isCentred ? "why.over_means" : "why.no_mean"].map((key) => soft(say(lang, key))),
            ),
        );
    }

    /** @param {import("../analysis/inside.js").PartNumbers} part */
    #partName({ name, layer, head }) {
        const kind = name.split(":")[0];
        const known = ["embed", "pos_embed", "head", "attn_bias", "mlp", "final_bias"].includes(kind);
        return known ? say(this.view.lang, `why.${kind}`, { layer: layer ?? "", head: head ?? "" }) : visibleText(name);
    }
}

/** @param {number} share of the longest bar, with its sign */
function signedBar(share) {
    const side = share < 0 ? "lowers" : "raises";
    return make("div", { class: "signed", "aria-hidden": "true" }, make("span", { class: side, "--p": Math.abs(share) }));
}

customElements.define("manako-why", WhyElement);
