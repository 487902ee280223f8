/** One head large: where it looked from each of the last positions, with the tokens as labels and each cell's share. */

/** @import {View} from "./view.js" */
import { make, scroller, table } from "./dom.js";
import { percent } from "../text/numbers.js";
import { say } from "../text/messages.js";
import { tokenChip, tokenText } from "./token-chip.js";

const SHOWN = 16; // positions, the last ones that the step sees

/**
 * @param {View} view of a step whose attention is on record
 * @param {number} layer
 * @param {number} head
 */
export function headMatrix(view, layer, head) {
    const { lang, trace, index } = view;
    const own = trace.attention(index);
    const rows = (trace.attentionRows(index) ?? (own ? [own] : [])).slice(-SHOWN);
    const end = trace.promptIds.length + index;
    const first = Math.max(own?.start ?? 0, end - SHOWN);
    const positions = Array.from({ length: end - first }, (_, n) => first + n);
    const token = (/** @type {number} */ position) => trace.token(trace.allIds[position]);
    const name = (/** @type {number} */ position) => `${position + 1} ${tokenText(view, token(position))}`;
    const lines = rows.map(({ data, heads, keys, start }) => {
        const from = start + keys - 1;
        const cells = positions.map((to) => {
            if (to > from) return make("td"); // it could not look there
            const share = data[(layer * heads + head) * keys + to - start];
            return make("td", { "--weight": share, title: `${name(from)} \u2192 ${name(to)}: ${percent(share)}` }, make("span", { class: "visually-hidden" }, percent(share)));
        });
        return make("tr", {}, make("th", { scope: "row" }, tokenChip(view, token(from))), ...cells);
    });
    const heads = [make("td"), ...positions.map((position) => make("th", { scope: "col" }, tokenChip(view, token(position))))];
    const title = say(lang, "attention.one_head", { head: `${layer}.${head}` });
    return scroller(title, table(heads, lines, title, "matrix"));
}
