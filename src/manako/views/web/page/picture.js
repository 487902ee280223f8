/**
 * A part of the page as a picture, in SVG or PNG, made of what the browser laid out: boxes, lines of text, drawings.
 *
 * Special here: nothing is handed to a renderer of HTML, which the page's policy would forbid and most viewers could not
 * open. While a part is read it is laid out without its controls, and wide enough for tables that scroll sideways, all
 * within one task, so that nobody sees it. Of a text that scrolls up and down the visible lines are drawn. Left out are
 * pseudo-elements, and of shadows and gradients all that this page does not use.
 */

import { make } from "../elements/dom.js";

/** @typedef {Record<string, string | number | null>} Attributes null leaves one out */
/**
 * One element of SVG, which is what is painted for PNG too.
 * @typedef {object} Shape
 * @property {"rect" | "path" | "text" | "image" | "svg" | "title"} tag svg: a window, what lies outside of it is cut off
 * @property {Attributes} put
 * @property {string} [text]
 * @property {string} [font] of the text, for a canvas
 * @property {HTMLCanvasElement} [canvas] of the image
 * @property {Shape[]} [inside]
 */
/**
 * @typedef {object} Picture
 * @property {number} width in CSS pixels
 * @property {number} height
 * @property {string} title
 * @property {string} lang
 * @property {string} family fonts of all texts that name no others
 * @property {Shape[]} shapes
 */

const SVG_NAMESPACE = ["http:", "", "www.w3.org", "2000", "svg"].join("/"); // a name; no address stands in the page
const FOOT = 28; // pixels below a card, for the line that says where the picture is from
const FOOT_SIZE = 12;
const WIDENED = 4; // times: of tables that stand side by side, each gets only a share of what the card grows by
const LONGEST_SIDE = 16_000; // pixels; browsers make no larger canvas
const COLOUR = /(?:rgba?|color)\([^)]*\)/;
const SIDES = /** @type {const} */ (["Top", "Right", "Bottom", "Left"]);

/**
 * Read a card as it stands on the page, without its controls; what is chosen in them is told as text.
 * @param {HTMLElement} card
 * @param {string} source the line below it
 * @returns {Picture}
 */
export function picture(card, source) {
    const scrolled = [document.documentElement, ...card.querySelectorAll("*")]
        .map((element) => ({ element, top: element.scrollTop, left: element.scrollLeft }))
        .filter(({ top, left }) => top || left);
    try {
        card.classList.add("picture");
        for (let i = 0; i < WIDENED; i++) {
            const more = Math.max(0, ...Array.from(card.querySelectorAll(".scroll"), (each) => each.scrollWidth - each.clientWidth));
            if (more) card.style.setProperty("inline-size", `${card.offsetWidth + more}px`);
        }
        return new PictureReader(card).picture(source);
    } finally {
        card.style.setProperty("inline-size", "");
        card.classList.remove("picture");
        for (const { element, ...to } of scrolled) element.scrollTo({ ...to, behavior: "instant" });
    }
}

/** @param {Picture} picture @returns {string} a whole file */
export function toSvg({ width, height, title, lang, family, shapes }) {
    const size = { width, height, viewBox: `0 0 ${width} ${height}` };
    const put = { xmlns: SVG_NAMESPACE, ...size, "font-family": family, "xml:lang": lang, "xml:space": "preserve", role: "img" };
    const root = svgMarkup({ tag: "svg", put, inside: [{ tag: "title", put: {}, text: title }, ...shapes] });
    return `<?xml version="1.0" encoding="UTF-8"?>${root}\n`;
}

/**
 * @param {Picture} picture
 * @param {number} [scale] pixels of the file for one of the page
 * @returns {Promise<Blob>}
 */
export function toPng({ width, height, shapes }, scale = 2) {
    const factor = Math.min(scale, LONGEST_SIDE / Math.max(width, height));
    const canvas = make("canvas", { width: Math.round(width * factor), height: Math.round(height * factor) });
    const pen = penOf(canvas);
    pen.scale(factor, factor);
    for (const shape of shapes) paintShape(pen, shape);
    return new Promise((resolve, reject) => {
        canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new RangeError(`no canvas of ${width} x ${height}`))));
    });
}

/** Reads one card; all shapes are placed from its upper left corner. */
class PictureReader {
    #card;
    #family;
    #origin;
    /** What can be seen: less of it inside of what scrolls. */
    #window;
    #pen = penOf(make("canvas"));
    /** @type {Shape[]} */
    #shapes = [];
    /** @type {Shape[]} outlines, which lie above what comes after them */
    #above = [];

    /** @param {HTMLElement} card */
    constructor(card) {
        this.#card = card;
        this.#family = getComputedStyle(card).fontFamily; // of texts that name no other
        this.#origin = this.#window = card.getBoundingClientRect();
    }

    /** @param {string} source @returns {Picture} */
    picture(source) {
        const style = getComputedStyle(this.#card);
        const [width, height] = [Math.ceil(this.#origin.width), Math.ceil(this.#origin.height) + FOOT];
        this.#children(this.#card, style);
        const foot = { x: this.#card.clientLeft + parseFloat(style.paddingLeft), y: height - FOOT_SIZE, "font-size": FOOT_SIZE, ...inkOf("fill", style.color) };
        const font = `${FOOT_SIZE}px ${this.#family}`;
        /** @type {Shape} */
        const ground = { tag: "rect", put: { x: 0, y: 0, width, height, ...inkOf("fill", style.backgroundColor) } };
        const shapes = [ground, ...this.#shapes, ...this.#above, { tag: /** @type {const} */ ("text"), put: foot, text: source, font }];
        const title = this.#card.querySelector("h2")?.textContent ?? source;
        return { width, height, title, lang: document.documentElement.lang, family: this.#family, shapes };
    }

    /** @param {Element} element */
    #element(element) {
        const style = getComputedStyle(element);
        if (style.clipPath !== "none" || !element.checkVisibility({ visibilityProperty: true })) return;
        const rects = [...element.getClientRects()].filter((rect) => this.#isSeen(rect));
        if (rects.length === 0) return;
        if (element instanceof SVGGeometryElement) return this.#drawing(element, style);
        for (const rect of rects) this.#box(rect, style);
        const scrolls = element.scrollWidth > element.clientWidth || element.scrollHeight > element.clientHeight;
        if (element instanceof HTMLCanvasElement) this.#shapes.push({ tag: "image", put: { ...this.#place(rects[0]), href: element.toDataURL() }, canvas: element });
        else if (element instanceof HTMLSelectElement) this.#value(element.selectedOptions[0]?.text ?? "", element, style);
        else if (element instanceof HTMLInputElement && element.matches("[type=radio], [type=checkbox]")) return;
        else if (element instanceof HTMLInputElement) this.#value(element.value || element.placeholder, element, style);
        else if (scrolls && style.display !== "inline" && style.overflow !== "visible") this.#scrolling(element, rects[0], style);
        else this.#children(element, style);
    }

    /** @param {Element} element @param {CSSStyleDeclaration} style */
    #children(element, style) {
        for (const child of element.childNodes) {
            if (child instanceof Element) this.#element(child);
            else if (child instanceof Text) this.#lines(child, element, style);
        }
    }

    /** @param {Element} element @param {DOMRect} rect @param {CSSStyleDeclaration} style */
    #scrolling(element, rect, style) {
        const [shapes, above, window] = [this.#shapes, this.#above, this.#window];
        [this.#shapes, this.#above] = [[], []];
        this.#window = new DOMRect(rect.x + element.clientLeft, rect.y + element.clientTop, element.clientWidth, element.clientHeight);
        this.#children(element, style);
        const put = this.#place(this.#window);
        const viewBox = `${put.x} ${put.y} ${put.width} ${put.height}`;
        shapes.push({ tag: "svg", put: { ...put, viewBox }, inside: [...this.#shapes, ...this.#above] });
        [this.#shapes, this.#above, this.#window] = [shapes, above, window];
    }

    /** @param {DOMRect} rect */
    #isSeen({ left, right, top, bottom }) {
        const window = this.#window;
        return right > window.left && left < window.right && bottom > window.top && top < window.bottom;
    }

    /** @param {DOMRect} rect @param {number} [grow] to all sides */
    #place({ x, y, width, height }, grow = 0) {
        return {
            x: twoDigits(x - this.#origin.x - grow),
            y: twoDigits(y - this.#origin.y - grow),
            width: twoDigits(Math.max(0, width + 2 * grow)),
            height: twoDigits(Math.max(0, height + 2 * grow)),
        };
    }

    /** @param {DOMRect} rect @param {CSSStyleDeclaration} style */
    #box(rect, style) {
        const rx = parseFloat(style.borderTopLeftRadius) || null;
        /** @returns {Shape} */
        const frame = (/** @type {number} */ grow, /** @type {number} */ width, /** @type {string} */ of) =>
            ({ tag: "rect", put: { ...this.#place(rect, grow), rx, fill: "none", ...inkOf("stroke", of), "stroke-width": width } });
        if (isInk(style.backgroundColor)) {
            const [x, y, right, bottom] = [rect.x, rect.y, rect.right, rect.bottom].map((at, n) => Math.round(2 * (at - (n % 2 ? this.#origin.y : this.#origin.x))) / 2);
            const put = { x, y, width: right - x, height: bottom - y, rx, ...inkOf("fill", style.backgroundColor) };
            this.#shapes.push({ tag: "rect", put }); // on half pixels: between neighbours there would be a seam
        }
        if (style.backgroundImage !== "none") this.#gradient(rect, style);
        const inset = /([\d.]+)px inset$/.exec(style.boxShadow);
        if (inset) this.#shapes.push(frame(-Number(inset[1]) / 2, Number(inset[1]), style.boxShadow));
        const sides = SIDES.map((side) => ({ width: parseFloat(style[`border${side}Width`]), kind: style[`border${side}Style`], of: style[`border${side}Color`] }));
        const [{ width, kind, of }] = sides;
        const alike = sides.every((side) => side.width === width && side.kind === kind && side.of === of);
        if (alike && width && kind === "solid") this.#shapes.push(frame(-width / 2, width, of));
        else sides.forEach((side, n) => side.width && isInk(side.of) && this.#border(rect, n, side));
        if (style.textDecorationLine === "underline") this.#border(rect, 2, { width: 2, kind: "solid", of: style.color });
        const outline = parseFloat(style.outlineWidth);
        if (outline && style.outlineStyle !== "none") this.#above.push(frame(parseFloat(style.outlineOffset) + outline / 2, outline, style.outlineColor));
    }

    /** @param {DOMRect} rect @param {number} side @param {{width: number, kind: string, of: string}} border */
    #border(rect, side, { width, kind, of }) {
        const lines = kind === "double" ? [1 / 6, 5 / 6] : [1 / 2]; // of the border's width, from outside
        const thick = twoDigits(width * 2 * lines[0]);
        for (const line of lines) {
            const { x, y, width: w, height: h } = this.#place(rect);
            const from = width * line;
            const d = [`M${x} ${twoDigits(y + from)}h${w}`, `M${twoDigits(x + w - from)} ${y}v${h}`, `M${x} ${twoDigits(y + h - from)}h${w}`, `M${twoDigits(x + from)} ${y}v${h}`][side];
            const dash = { dotted: `${thick} ${thick}`, dashed: `${2 * thick} ${thick}` }[kind] ?? null;
            this.#shapes.push({ tag: "path", put: { d, ...inkOf("stroke", of), "stroke-width": thick, "stroke-dasharray": dash } });
        }
    }

    /**
     * A rule at every share of the width, a rule in the middle, or the whole in one colour.
     * @param {DOMRect} rect
     * @param {CSSStyleDeclaration} style
     */
    #gradient(rect, { backgroundImage, backgroundSize }) {
        const { x, y, width, height } = this.#place(rect);
        const share = /\(to right.* [a-z(]*([\d.]+)%\)+$/.exec(backgroundImage);
        const count = share ? Math.round(100 / Number(share[1])) : 1;
        const thick = share || backgroundSize.startsWith("1px") ? 1 : width;
        const paints = inkOf("fill", COLOUR.exec(backgroundImage)?.[0] ?? "");
        for (let n = 0; n < count; n++) {
            const at = share ? (width * n) / count : (width - thick) / 2;
            this.#shapes.push({ tag: "rect", put: { x: twoDigits(x + at), y, width: thick, height, ...paints } });
        }
    }

    /** @param {Text} node @param {Element} element @param {CSSStyleDeclaration} style */
    #lines(node, element, style) {
        const start = node.data.search(/\S/);
        if (start < 0) return;
        const range = document.createRange();
        const boxOf = (/** @type {number} */ from, /** @type {number} */ to) => {
            range.setStart(node, from);
            range.setEnd(node, to);
            return range.getBoundingClientRect();
        };
        const whole = boxOf(start, node.data.trimEnd().length);
        if (range.getClientRects().length === 1) return this.#line(range.toString(), whole, element, style);
        /** @type {{text: string, box: DOMRect}[]} */
        const lines = [];
        for (const { segment, index } of new Intl.Segmenter().segment(node.data)) {
            const box = boxOf(index, index + segment.length);
            const last = lines.at(-1);
            if (box.width === 0) continue; // where a line was broken
            if (!last || Math.abs(box.y - last.box.y) > box.height / 2) lines.push({ text: segment, box });
            else {
                const left = Math.min(last.box.left, box.left);
                last.box = new DOMRect(left, last.box.y, Math.max(last.box.right, box.right) - left, last.box.height);
                last.text += segment;
            }
        }
        for (const { text, box } of lines) this.#line(text, box, element, style);
    }

    /** @param {string} text @param {Element} element @param {CSSStyleDeclaration} style */
    #value(text, element, style) {
        const { x, y, height } = element.getBoundingClientRect();
        this.#pen.font = fontOf(style);
        const box = new DOMRect(x + element.clientLeft + parseFloat(style.paddingLeft), y, this.#pen.measureText(text).width, height);
        this.#line(text, box, element, style);
    }

    /** @param {string} text @param {DOMRect} box @param {Element} element @param {CSSStyleDeclaration} style */
    #line(text, box, element, style) {
        if (text.trim() === "") return;
        const { x, y, width, height } = this.#place(box);
        const { fontWeight, fontFamily } = style;
        const font = fontOf(style);
        this.#pen.font = font;
        const { fontBoundingBoxAscent: up, fontBoundingBoxDescent: down } = this.#pen.measureText(text);
        const lang = /** @type {HTMLElement | null} */ (element.closest("[lang]"))?.lang;
        const anchor = { end: "end", right: "end", center: "middle" }[style.textAlign] ?? style.textAnchor; // a viewer may have other fonts
        this.#shapes.push({
            tag: "text",
            put: {
                x: twoDigits(x + width * ({ middle: 0.5, end: 1 }[anchor] ?? 0)),
                "text-anchor": anchor === "start" ? null : anchor,
                y: twoDigits(y + (height + up - down) / 2), // the middle of the font lies in the middle of its box
                textLength: width,
                lengthAdjust: "spacingAndGlyphs",
                "font-size": parseFloat(style.fontSize),
                "font-weight": fontWeight === "400" ? null : fontWeight,
                "font-family": fontFamily === this.#family ? null : fontFamily,
                "xml:lang": lang === document.documentElement.lang ? null : (lang ?? null),
                ...inkOf("fill", element instanceof SVGElement ? style.fill : style.color),
            },
            text: text.replace(/[ \t\n\r\f]+/g, " "),
            font,
        });
    }

    /** @param {SVGGeometryElement} element @param {CSSStyleDeclaration} style */
    #drawing(element, { fill, stroke, strokeWidth, strokeDasharray }) {
        const { a, b, c, d, e, f } = /** @type {DOMMatrix} */ (element.getScreenCTM());
        const matrix = [a, b, c, d, e - this.#origin.x, f - this.#origin.y].map(twoDigits);
        const [x1, y1, x2, y2, points] = ["x1", "y1", "x2", "y2", "points"].map((name) => element.getAttribute(name) ?? "0");
        const put = {
            d: element.localName === "line" ? `M${x1} ${y1}L${x2} ${y2}` : `M${points}`, // a polyline
            transform: `matrix(${matrix.join(", ")})`,
            ...inkOf("fill", fill),
            ...inkOf("stroke", stroke),
            "stroke-width": parseFloat(strokeWidth),
            "stroke-dasharray": strokeDasharray === "none" ? null : strokeDasharray.replaceAll("px", ""),
        };
        this.#shapes.push({ tag: "path", put });
    }
}

/** @param {Shape} shape @returns {string} */
function svgMarkup({ tag, put, text = "", inside = [] }) {
    const attributes = Object.entries(put).map(([name, value]) => (value === null ? "" : ` ${name}="${xmlText(value)}"`));
    return `\n<${tag}${attributes.join("")}>${xmlText(text)}${inside.map(svgMarkup).join("")}</${tag}>`;
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

/** @param {CanvasRenderingContext2D} pen @param {Shape} shape */
function paintShape(pen, { tag, put, text = "", font = "", canvas, inside = [] }) {
    const number = (/** @type {string} */ name) => Number(put[name] ?? 0);
    const [x, y, width, height] = ["x", "y", "width", "height"].map(number);
    const isInked = (/** @type {"fill" | "stroke"} */ kind) => {
        pen[`${kind}Style`] = String(put[kind]);
        pen.globalAlpha = Number(put[`${kind}-opacity`] ?? 1);
        return put[kind] !== undefined && put[kind] !== "none";
    };
    pen.save();
    if (tag === "svg") {
        pen.beginPath();
        pen.rect(x, y, width, height);
        pen.clip();
        for (const each of inside) paintShape(pen, each);
    } else if (canvas) {
        pen.drawImage(canvas, x, y, width, height);
    } else if (tag === "text") {
        pen.font = font;
        const natural = pen.measureText(text).width;
        pen.translate(x, y);
        pen.textAlign = /** @type {CanvasTextAlign} */ ({ middle: "center", end: "end" }[String(put["text-anchor"])] ?? "start");
        if (put.textLength && natural) pen.scale(Number(put.textLength) / natural, 1);
        if (isInked("fill")) pen.fillText(text, 0, 0);
    } else {
        const path = new Path2D(tag === "path" ? String(put.d) : "");
        if (tag === "rect") path.roundRect(x, y, width, height, number("rx"));
        const { a, b, c, d, e, f } = new DOMMatrix(String(put.transform ?? ""));
        pen.transform(a, b, c, d, e, f);
        if (isInked("fill")) pen.fill(path);
        pen.lineWidth = number("stroke-width");
        pen.setLineDash(String(put["stroke-dasharray"] ?? "").match(/[\d.]+/g)?.map(Number) ?? []);
        if (isInked("stroke")) pen.stroke(path);
    }
    pen.restore();
}

/** @param {HTMLCanvasElement} canvas */
function penOf(canvas) {
    return /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
}

/** @param {CSSStyleDeclaration} style */
function fontOf({ fontWeight, fontSize, fontFamily }) {
    return `${fontWeight} ${fontSize} ${fontFamily}`;
}

/**
 * A computed colour, out of all that stands around it, as SVG 1.1 has it: hex, and how opaque it is.
 * @param {"fill" | "stroke"} kind
 * @param {string} css
 * @returns {Attributes}
 */
function inkOf(kind, css) {
    const [found] = COLOUR.exec(css) ?? [""];
    const numbers = found.match(/[\d.]+(?:e-\d+)?/g)?.map(Number) ?? [];
    const whole = found.startsWith("color") ? 255 : 1; // color(srgb 0.5 0.5 0.5 / 0.5), or of 255
    const hex = numbers.slice(0, 3).map((n) => Math.round(n * whole).toString(16).padStart(2, "0"));
    const opacity = numbers[3] ?? 1;
    return hex.length < 3 || opacity === 0 ? { [kind]: "none" } : { [kind]: `#${hex.join("")}`, [`${kind}-opacity`]: opacity === 1 ? null : opacity };
}

/** @param {string} css whether anything is seen of this colour */
function isInk(css) {
    return inkOf("fill", css).fill !== "none";
}

/** @param {number} length in pixels; more digits would only make a file long */
function twoDigits(length) {
    return Number(length.toFixed(2));
}
