/** The ranks of tokens through the layers, as lines on a logarithmic scale: SVG made by hand. */

/** @import {Reading} from "../analysis/inside.js" */
import { whole } from "../text/numbers.js";

const WIDTHS = [300, 540]; // pixels, of a narrow window and of others; it is never measured, which takes long at each step
const LEFT = 56; // pixels for the numbers of the axis
const TOP = 12;
const BOTTOM = 26;
const LOWEST = 180;
const LINE = 16; // of text
const LONGEST = 14; // characters of a name; the table behind the picture has the whole
const LAYER_ROOM = 32;

/**
 * @param {string} label
 * @param {readonly string[]} layers
 * @param {readonly {name: string, readings: readonly Reading[]}[]} lines the first one stands out
 */
export function ranksChart(label, layers, lines) {
    const width = WIDTHS[Number(matchMedia("(min-width: 30rem)").matches)];
    const right = Math.round(width - Math.min(130, width / 3));
    const height = TOP + BOTTOM + Math.max(LOWEST, lines.length * LINE);
    const decades = Math.max(1, Math.ceil(Math.log10(Math.max(...lines.flatMap(({ readings }) => readings.map(({ rank }) => rank))))));
    const x = (/** @type {number} */ layer) => LEFT + 8 + (layer * (right - LEFT - 16)) / Math.max(1, layers.length - 1);
    const y = (/** @type {number} */ rank) => TOP + (Math.log10(rank) / decades) * (height - TOP - BOTTOM);
    const ends = lines.map(({ readings }) => y(readings[layers.length - 1].rank));
    const names = apart(ends, LINE, height - BOTTOM);
    const every = Math.ceil((layers.length * LAYER_ROOM) / (right - LEFT));
    const axis = Array.from({ length: decades + 1 }, (_, decade) => [
        shape("line", { x1: LEFT, x2: right, y1: y(10 ** decade), y2: y(10 ** decade) }),
        shape("text", { x: LEFT - 6, y: y(10 ** decade) + 4, "text-anchor": "end" }, whole(10 ** decade)),
    ]);
    const ticks = layers.map((layer, i) => i % every === 0 && shape("text", { x: x(i), y: height - 6, "text-anchor": i ? "middle" : "start" }, layer));
    const drawn = lines.map(({ name, readings }, i) => {
        const short = [...name].length > LONGEST ? `${[...name].slice(0, LONGEST - 1).join("")}\u2026` : name;
        const points = readings.map(({ rank }, layer) => `${x(layer)},${y(rank)}`).join(" ");
        return shape(
            "g",
            {},
            shape("polyline", { points }),
            shape("line", { x1: x(layers.length - 1) + 3, y1: ends[i], x2: right + 4, y2: names[i] }),
            shape("text", { x: right + 8, y: names[i] + 4 }, short),
        );
    });
    const size = { width, height, viewBox: `0 0 ${width} ${height}` };
    return shape("svg", { class: "ranks", role: "img", "aria-label": label, ...size }, ...axis.flat(), ...ticks, shape("g", { class: "lines" }, ...drawn));
}

/**
 * The same heights, moved so that they lie at least a gap apart, in the same order, and none below the bottom.
 * @param {readonly number[]} heights
 * @param {number} gap
 * @param {number} bottom
 */
function apart(heights, gap, bottom) {
    const moved = [...heights];
    const order = [...heights.keys()].sort((a, b) => heights[a] - heights[b]);
    order.forEach((i, n) => n && (moved[i] = Math.max(moved[i], moved[order[n - 1]] + gap)));
    order.reverse().forEach((i, n) => (moved[i] = Math.min(moved[i], n ? moved[order[n - 1]] - gap : bottom)));
    return moved;
}

/**
 * @param {string} name
 * @param {Record<string, string | number>} attributes
 * @param {...(SVGElement | string | false)} children
 */
function shape(name, attributes, ...children) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
    element.append(...children.filter((child) => child !== false));
    return element;
}
