/**
 * Drawings made of a few shapes: elements of the page, an SVG file, or pixels of a PNG.
 *
 * Special here: a shape names its colours by the style sheet's properties, such as "--ink". In the page they stay names,
 * so that light and dark change under it; a file gets what they are at the moment.
 */

import { make } from "./dom.js";

/**
 * @typedef {object} Shape
 * @property {"rect" | "polyline" | "text" | "image"} tag
 * @property {Record<string, string | number | null>} put null leaves an attribute out
 * @property {string} [fill] a custom property
 * @property {string} [stroke]
 * @property {string} [text]
 * @property {HTMLCanvasElement} [canvas] of the image
 */
/** @typedef {{width: number, height: number, title: string, shapes: readonly Shape[]}} Drawing in CSS pixels */
/** @typedef {{family: string, colours: Map<string, string>}} Look what a file is to look like */
/** @typedef {{end?: boolean, bold?: boolean, soft?: boolean, size?: number, lang?: string | null}} Letters */

const SVG_NAMESPACE = "http://www.w3.org/2000/svg"; // a name: nothing is fetched from there
const LONGEST_SIDE = 16_000; // pixels; browsers make no larger canvas
const SCALE = 2; // pixels of a PNG for one of the page
const LETTERS = 14; // pixels

/**
 * One line of text.
 * @param {number} x
 * @param {number} y of the line that the letters stand on
 * @param {string} words
 * @param {Letters} [letters]
 * @returns {Shape}
 */
export function textShape(x, y, words, { end = false, bold = false, soft = false, size = LETTERS, lang = null } = {}) {
    const put = { x, y, "font-size": size, "text-anchor": end ? "end" : null, "font-weight": bold ? 700 : null };
    return { tag: "text", put: { ...put, "xml:lang": lang }, fill: soft ? "--ink-soft" : "--ink", text: words };
}

/**
 * @param {number} x @param {number} y @param {number} width @param {number} height
 * @param {string | undefined} fill @param {string} [stroke]
 * @returns {Shape}
 */
export function boxShape(x, y, width, height, fill, stroke) {
    return { tag: "rect", put: { x, y, width: Math.max(0, width), height }, fill, stroke };
}

/**
 * The beginning of a text that fits into a width.
 * @param {string} words
 * @param {number} width
 */
export function shortened(words, width) {
    const pen = penOf(make("canvas"));
    pen.font = `${LETTERS}px ${getComputedStyle(document.body).fontFamily}`;
    const letters = [...words];
    if (pen.measureText(words).width <= width) return words;
    while (letters.length > 0 && pen.measureText(`${letters.join("")}\u2026`).width > width) letters.pop();
    return letters.length > 0 ? `${letters.join("")}\u2026` : "";
}

/** @param {Drawing} drawing @returns {SVGElement} */
export function svgElement({ width, height, title, shapes }) {
    const element = (/** @type {string} */ name, /** @type {Shape["put"]} */ put) => {
        const made = /** @type {SVGElement} */ (document.createElementNS(SVG_NAMESPACE, name));
        for (const [key, value] of Object.entries(put)) if (value !== null) made.setAttribute(key, String(value));
        return made;
    };
    const inside = shapes.map(({ tag, put, fill, stroke, text }) => {
        const made = element(tag, put);
        made.style.setProperty("fill", fill ? `var(${fill})` : "none");
        if (stroke) made.style.setProperty("stroke", `var(${stroke})`);
        if (text) made.textContent = text;
        return made;
    });
    const root = element("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title });
    root.append(...inside);
    return root;
}

/**
 * A whole file.
 * @param {Drawing} drawing
 * @param {Look} look
 * @param {string} lang
 */
export function toSvg({ width, height, title, shapes }, look, lang) {
    const size = { width, height, viewBox: `0 0 ${width} ${height}` };
    const put = { xmlns: SVG_NAMESPACE, ...size, "font-family": look.family, "xml:lang": lang, role: "img" };
    const drawn = shapes.map(({ tag, put, fill, stroke, text = "", canvas }) => {
        const colour = (/** @type {string | undefined} */ name) => (name ? (look.colours.get(name) ?? "") : "none");
        const href = canvas?.toDataURL() ?? null;
        const inks = { fill: canvas ? null : colour(fill), stroke: stroke ? colour(stroke) : null };
        return markup(tag, { ...put, ...inks, href }, xmlText(text));
    });
    const inside = [markup("title", {}, xmlText(title)), ...drawn].join("");
    return `<?xml version="1.0" encoding="UTF-8"?>${markup("svg", put, inside)}\n`;
}

/**
 * @param {Drawing} drawing
 * @param {Look} look
 * @returns {Promise<Blob>}
 */
export function toPng({ width, height, shapes }, look) {
    const factor = Math.min(SCALE, LONGEST_SIDE / Math.max(width, height));
    const canvas = make("canvas", { width: Math.round(width * factor), height: Math.round(height * factor) });
    const pen = penOf(canvas);
    pen.scale(factor, factor);
    for (const shape of shapes) paint(pen, shape, look);
    return new Promise((resolve, reject) => {
        canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new RangeError(`no canvas of ${width} x ${height}`))));
    });
}

/**
 * The fonts and colours of the page as they are now.
 * @param {Drawing} drawing
 * @returns {Look}
 */
export function currentLook({ shapes }) {
    const probe = document.documentElement.appendChild(make("span", { hidden: true }));
    const names = new Set(shapes.flatMap(({ fill, stroke }) => [fill, stroke]).filter((name) => name !== undefined));
    const colours = new Map();
    for (const name of names) {
        probe.style.setProperty("color", `var(${name})`);
        colours.set(name, getComputedStyle(probe).color);
    }
    probe.remove();
    return { family: getComputedStyle(document.body).fontFamily, colours };
}

/** @param {CanvasRenderingContext2D} pen @param {Shape} shape @param {Look} look */
function paint(pen, { tag, put, fill, stroke, text = "", canvas }, { family, colours }) {
    const [x, y, width, height] = ["x", "y", "width", "height"].map((name) => Number(put[name]));
    if (canvas) return pen.drawImage(canvas, x, y, width, height);
    pen.fillStyle = colours.get(fill ?? "") ?? "";
    if (tag === "text") {
        pen.font = `${put["font-weight"] ?? 400} ${put["font-size"]}px ${family}`;
        pen.textAlign = put["text-anchor"] === "end" ? "end" : "start";
        return pen.fillText(text, x, y);
    }
    const path = new Path2D(tag === "polyline" ? `M${put.points}` : "");
    if (tag === "rect") path.rect(x, y, width, height);
    if (fill) pen.fill(path);
    pen.strokeStyle = colours.get(stroke ?? "") ?? "";
    pen.lineWidth = Number(put["stroke-width"] ?? 1);
    pen.setLineDash(String(put["stroke-dasharray"] ?? "").split(" ").map(Number));
    if (stroke) pen.stroke(path);
}

/** @param {HTMLCanvasElement} canvas */
function penOf(canvas) {
    return /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
}

/** @param {string} tag @param {Shape["put"]} put @param {string} inside */
function markup(tag, put, inside) {
    const attributes = Object.entries(put).map(([name, value]) => (value === null ? "" : ` ${name}="${xmlText(value)}"`));
    return `\n<${tag}${attributes.join("")}>${inside}</${tag}>`;
}

/**
 * Without the characters that XML has no way to write.
 * @param {string | number} value
 */
function xmlText(value) {
    const signs = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
    return String(value)
        .replace(/[^\t\n\r\u{20}-\u{d7ff}\u{e000}-\u{fffd}\u{10000}-\u{10ffff}]/gu, "")
        .replace(/[&<>"]/g, (sign) => signs[/** @type {"&"} */ (sign)]);
}
