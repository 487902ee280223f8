/** Lines over the snapshots of a training, each snapshot the same distance from the next: as in the heat map, so that
 *  what is learned early has its room. */

/** @import {Drawing, Shape} from "../elements/drawing.js" */
import { textShape } from "../elements/drawing.js";
import { count } from "../text/numbers.js";

/** @typedef {{name: string, values: readonly number[], stroke: string, width?: number, dashes?: string | null, at?: readonly number[]}} Line at: the place of each value, counted in snapshots, where it is not the snapshot's own */

export const WIDTH = 620; // pixels
const LEFT = 52; // for the numbers of the axis
const RIGHT = 12;
const HEIGHT = 200;
const TOP = 12;
const BOTTOM = 26;
const SIZE = 13;
const LEAST_GAP = 44; // between two numbers of steps
const GRID = 4;

/** Where a snapshot is, from left. @param {number} z @param {number} size */
export function placeOf(z, size) {
    return LEFT + (z * (WIDTH - LEFT - RIGHT)) / Math.max(1, size - 1);
}

/**
 * @param {string} title
 * @param {readonly number[]} steps
 * @param {readonly Line[]} lines
 * @param {(value: number) => string} format of the numbers of the axis
 * @returns {Drawing}
 */
export function linesDrawing(title, steps, lines, format) {
    const most = Math.max(...lines.flatMap(({ values }) => values)) || 1;
    const y = (/** @type {number} */ value) => TOP + (1 - Math.max(0, value) / most) * (HEIGHT - TOP - BOTTOM);
    /** @type {Shape[]} */
    const shapes = [];
    for (let n = 0; n <= GRID; n++) {
        const value = (most * n) / GRID;
        shapes.push(strokeLine([[LEFT, y(value)], [WIDTH - RIGHT, y(value)]], "--line", 1, null));
        shapes.push(textShape(LEFT - 6, y(value) + 4, format(value), { end: true, size: SIZE }));
    }
    let last = -Infinity;
    steps.forEach((step, z) => {
        const x = placeOf(z, steps.length);
        if (x - last < LEAST_GAP || x > WIDTH - RIGHT - LEAST_GAP / 2) return;
        shapes.push(textShape(x, HEIGHT - 8, count(step), { size: SIZE, soft: true }));
        last = x;
    });
    for (const { values, stroke: colour, width = 2, dashes = null, at } of lines) {
        shapes.push(strokeLine(values.map((value, z) => [placeOf(at?.[z] ?? z, steps.length), y(value)]), colour, width, dashes));
    }
    return { width: WIDTH, height: HEIGHT, title, shapes };
}

/**
 * @param {number[][]} points
 * @param {string} colour
 * @param {number} width
 * @param {string | null} dashes
 * @returns {Shape}
 */
function strokeLine(points, colour, width, dashes) {
    return { tag: "polyline", put: { points: points.join(" "), "stroke-width": width, "stroke-dasharray": dashes }, stroke: colour };
}
