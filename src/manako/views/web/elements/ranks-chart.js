/** The ranks of tokens through the layers, as lines on a logarithmic scale. */

/** @import {Reading} from "../analysis/inside.js" */
/** @import {Drawing, Shape} from "./drawing.js" */
import { textShape } from "./drawing.js";
import { count } from "../text/numbers.js";

const WIDTHS = [300, 540]; // pixels, of a narrow window and of others; it is never measured, which takes long at each step
const LEFT = 56; // pixels for the numbers of the axis
const TOP = 12;
const BOTTOM = 26;
const LOWEST = 180;
const LINE_HEIGHT = 16; // of text
const LONGEST_LABEL = 14; // characters of a name; the table behind the picture has the whole
const LAYER_ROOM = 32;
const SIZE = 13; // of letters
const COLOURS = ["--lower", "--accent", "--warn", "--ink-soft"]; // of all lines but the first
const DASHES = ["8 4", null, "2 3"];

/**
 * @param {string} title
 * @param {readonly string[]} layers
 * @param {readonly {name: string, readings: readonly Reading[]}[]} lines the first one stands out
 * @returns {Drawing}
 */
export function ranksDrawing(title, layers, lines) {
    const width = WIDTHS[Number(matchMedia("(min-width: 30rem)").matches)];
    const right = Math.round(width - Math.min(130, width / 3));
    const height = TOP + BOTTOM + Math.max(LOWEST, lines.length * LINE_HEIGHT);
    const ranks = lines.flatMap(({ readings }) => readings.map(({ rank }) => rank));
    const decades = Math.max(1, Math.ceil(Math.log10(Math.max(...ranks))));
    const x = (/** @type {number} */ layer) => LEFT + 8 + (layer * (right - LEFT - 16)) / Math.max(1, layers.length - 1);
    const y = (/** @type {number} */ rank) => TOP + (Math.log10(rank) / decades) * (height - TOP - BOTTOM);
    const heights = lines.map(({ readings }) => y(/** @type {{rank: number}} */ (readings.at(-1)).rank));
    const names = apartBy(heights, LINE_HEIGHT, height - BOTTOM);
    const every = Math.ceil((layers.length * LAYER_ROOM) / (right - LEFT));
    const axis = Array.from({ length: decades + 1 }, (_, decade) => [
        polyline([[LEFT, y(10 ** decade)], [right, y(10 ** decade)]], "--line"),
        textShape(LEFT - 6, y(10 ** decade) + 4, count(10 ** decade), { end: true, size: SIZE }),
    ]);
    const ticks = layers.flatMap((layer, i) => (i % every ? [] : [textShape(x(i) - 4, height - 6, layer, { size: SIZE })]));
    const drawn = lines.map(({ name, readings }, i) => {
        const short = [...name].length > LONGEST_LABEL ? `${[...name].slice(0, LONGEST_LABEL - 1).join("")}\u2026` : name;
        const points = readings.map(({ rank }, layer) => [x(layer), y(rank)]);
        const ends = /** @type {const} */ ([x(layers.length - 1) + 3, right + 4]);
        const dashes = i === 0 ? null : DASHES[i % DASHES.length];
        return [
            polyline(points, i === 0 ? "--ink" : COLOURS[i % COLOURS.length], i === 0 ? 3.5 : 2, dashes),
            polyline([[ends[0], heights[i]], [ends[1], names[i]]], "--line"),
            textShape(right + 8, names[i] + 4, short, { bold: i === 0, size: SIZE }),
        ];
    });
    return { width, height, title, shapes: [...axis.flat(), ...ticks, ...drawn.flat()] };
}

/**
 * @param {number[][]} points
 * @param {string} stroke
 * @param {number} [width] 1 where nothing else is said
 * @param {string | null} [dashes]
 * @returns {Shape}
 */
function polyline(points, stroke, width, dashes = null) {
    const put = { points: points.join(" "), "stroke-width": width ?? null, "stroke-dasharray": dashes };
    return { tag: "polyline", put, stroke };
}

/**
 * The same heights, moved so that they lie at least a gap apart, in the same order, and none below the bottom.
 * @param {readonly number[]} heights
 * @param {number} gap
 * @param {number} bottom
 */
function apartBy(heights, gap, bottom) {
    const moved = [...heights];
    const order = [...heights.keys()].sort((a, b) => heights[a] - heights[b]);
    order.forEach((i, n) => n && (moved[i] = Math.max(moved[i], moved[order[n - 1]] + gap)));
    order.reverse().forEach((i, n) => (moved[i] = Math.min(moved[i], n ? moved[order[n - 1]] - gap : bottom)));
    return moved;
}
