/** The candidates of a step and its draw as one drawing, made of the same numbers as the table and the strip. */

/** @import {View} from "./view.js" */
/** @import {Drawing, Shape} from "./drawing.js" */
import { listing } from "./candidates.js";
import { drawSentence, drawnPieces } from "./draw.js";
import { boxShape, shortened, textShape } from "./drawing.js";
import { chainText, count, percent } from "../text/numbers.js";
import { say } from "../text/messages.js";
import { tokenText } from "./token-chip.js";

const EDGE = 16; // pixels around it
const ROW = 26;
const [RANK, TOKEN, P_DRAWN, BAR, P_MODEL] = [52, 64, 272, 288, 704]; // where the columns stand; numbers end there
const LONGEST = 344; // of a bar
const STRIP = { width: P_MODEL - EDGE, height: 34 };

/**
 * @param {View} view
 * @param {string} title which step it is
 * @param {string} chosen what came of it
 * @returns {Drawing}
 */
export function stepDrawing(view, title, chosen) {
    const { lang, shown, trace, sampling, axis } = view;
    const { rows, other, both, scale } = listing(view);
    const chain = chainText(sampling ?? trace.header.sampling);
    /** @type {Shape[]} */
    const shapes = [
        textShape(EDGE, 28, title, { bold: true, size: 17 }),
        textShape(EDGE, 50, chosen),
        textShape(EDGE, 70, chain, { soft: true }),
    ];
    const marks = scale.marks.map(([at, mark]) => {
        const x = BAR + at * LONGEST - (at > 0 && at < 1 ? 8 : 0); // about in the middle of it
        return textShape(x, 98, mark, { end: at === 1, soft: true });
    });
    const heads = both ? [textShape(P_MODEL, 98, say(lang, "page.p_model"), { end: true, soft: true })] : [];
    shapes.push(...marks, ...heads, textShape(P_DRAWN, 98, say(lang, "page.p"), { end: true, soft: true }));
    let y = 108;
    const line = (/** @type {string} */ rank, /** @type {string} */ token, /** @type {Row} */ row, isTaken = false) => {
        const [soft, base] = [row.cutBy !== null, y + 18];
        const end = scale.at(row.p) > 1 ? say(lang, "page.beyond") : row.cutBy && say(lang, "step.cut_by", { stage: row.cutBy });
        if (isTaken) shapes.push(boxShape(EDGE / 2, y, P_MODEL, ROW, "--accent-wash"));
        shapes.push(
            textShape(RANK, base, isTaken ? `\u25b8 ${rank}` : rank, { end: true, soft }),
            textShape(TOKEN, base, shortened(token, P_DRAWN - TOKEN - 60), { bold: isTaken, soft, lang: view.textLang }),
            textShape(P_DRAWN, base, row.cutBy ? "\u2013" : percent(row.p), { end: true, soft, bold: isTaken }),
            ...(end ? [textShape(BAR, base, end, { soft: true })] : []),
        );
        if (!end) shapes.push(boxShape(BAR, y + 4, LONGEST * (scale.at(row.p) || 0), 12, "--bar"));
        if (!end && both) shapes.push(boxShape(BAR, y + 18, LONGEST * (scale.at(row.pModel) || 0), 4, "--bar-soft"));
        if (both) shapes.push(textShape(P_MODEL, base, percent(row.pModel), { end: true, soft }));
        y += ROW;
    };
    for (const row of rows) line(count(row.rank), tokenText(view, row, shown.pending), row, row.id === shown.drawnId);
    line("\u2026", say(lang, "page.other", { count: count(other.count) }), { ...other, cutBy: null });
    shapes.push(textShape(EDGE, y + 20, say(lang, `page.caption_${axis}`), { soft: true }));
    y += 44;
    if (shown.u !== null && !shown.certain) y = addStrip(view, shapes, y);
    shapes.push(textShape(EDGE, y + 20, drawSentence(view)));
    return { width: P_MODEL + EDGE, height: y + 36, title, shapes };
}

/** @typedef {{p: number, pModel: number, cutBy: string | null}} Row */

/**
 * The strip, under the needle at u.
 * @param {View} view
 * @param {Shape[]} shapes
 * @param {number} y
 * @returns {number} where it ends
 */
function addStrip(view, shapes, y) {
    const { shown } = view;
    let left = EDGE;
    for (const row of drawnPieces(view)) {
        const width = row.p * STRIP.width;
        const isTaken = row.id === shown.drawnId;
        shapes.push(boxShape(left, y, width, STRIP.height, isTaken ? "--accent-wash" : "--card", "--line-strong"));
        const name = shortened(tokenText(view, row, shown.pending), width - 8);
        shapes.push(textShape(left + 4, y + 22, name, { bold: isTaken, lang: view.textLang }));
        left += width;
    }
    shapes.push(boxShape(EDGE, y, STRIP.width, STRIP.height, undefined, "--line-strong"));
    shapes.push(boxShape(EDGE + Number(shown.u) * STRIP.width - 1, y - 8, 2, STRIP.height + 16, "--ink"));
    return y + STRIP.height + 12;
}
