/**
 * <manako-heads>: where every head looked, at every position on record, as a grid of small squares.
 *
 * Special here: the squares are drawn once, a few milliseconds at a time, since a large model has hundreds of heads; a
 * step copies them and marks its row. Tints are square roots of shares, since a share over a long text is small.
 */

/** @import {View} from "./view.js" */
import { columnHead, make, number, rowHead, scroller, soft, table } from "./dom.js";
import { ViewElement } from "./view.js";
import { folded } from "./folded.js";
import { headMatrix } from "./head-matrix.js";
import { sliced } from "./moments.js";
import { attentionRecord, attentionSquares, favouriteKeys } from "../analysis/inside.js";
import { percent } from "../text/numbers.js";
import { say } from "../text/messages.js";
import { tokenChip } from "./token-chip.js";

const SMALLEST = 28; // CSS pixels of a square's side
const LARGEST = 96; // and the most places of it
const BETWEEN = 6;
const HEADINGS = 22; // room above and beside, for the numbers of heads and layers

export class HeadsElement extends ViewElement {
    #canvas = make("canvas", {
        role: "img",
        click: (event) => this.#click(/** @type {MouseEvent} */ (event)),
        mousemove: (event) => this.#enlarge(this.#squareAt(/** @type {MouseEvent} */ (event))),
        mouseleave: () => this.#enlarge(undefined),
    });
    #large = make("div"); // the head that is pointed at, else the chosen one
    /** @type {{layer: number, head: number} | undefined} */
    #pointed;
    #drawn = make("canvas"); // what no step changes
    #pens = [this.#canvas, this.#drawn].map((canvas) => /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d")));
    #table = folded("", () => "");
    #stop = () => {};
    #width = 0; // CSS pixels that there are; 0 while it is hidden
    #ratio = 1; // pixels of the canvas to one of CSS; so are all sizes below
    #side = 0;
    #rows = 0;
    /** @type {{layer: number, head: number, x: number, y: number}[]} */
    #squares = [];
    #colours = { color: "", caretColor: "", borderTopColor: "", outlineColor: "", fontFamily: "" };
    #scheme = matchMedia("(prefers-color-scheme: dark)");
    #again = () => {
        this.#stop();
        this.#stop = sliced(this.#drawing()); // not at once: no size may change while sizes are observed
    };
    #observer = new ResizeObserver(([{ contentRect }]) => {
        if (this.#width !== contentRect.width) this.#again();
        this.#width = contentRect.width; // to ask for it at each step would lay the page out once more
    });

    /** @returns {import("./drawing.js").Drawing} the squares as they stand, as they can be saved */
    get drawing() {
        const [width, height] = [this.#canvas.width / this.#ratio, this.#canvas.height / this.#ratio];
        /** @type {import("./drawing.js").Shape} */
        const image = { tag: "image", put: { x: 0, y: 0, width, height }, canvas: this.#canvas };
        return { width, height, title: say(this.view.lang, "attention.all_heads"), shapes: [image] };
    }

    connectedCallback() {
        this.#scheme.addEventListener("change", this.#again);
        this.#observer.observe(this);
        this.#again();
    }

    disconnectedCallback() {
        this.#stop();
        this.#scheme.removeEventListener("change", this.#again);
        this.#observer.disconnect();
    }

    /** @param {View} view @param {View | null} before */
    draw(view, before) {
        const { lang, trace } = view;
        if (trace.attention(view.index) === null) return this.replaceChildren();
        if (!before || !this.firstChild || before.trace !== trace || before.lang !== lang) {
            const title = say(lang, "attention.all_heads");
            this.#canvas.setAttribute("aria-label", title);
            this.#table = folded(say(lang, "attention.all_heads_table"), () => this.#strongest());
            const frame = scroller(title, this.#canvas);
            frame.classList.add("heads");
            const how = soft(say(lang, "attention.all_heads_how"));
            this.replaceChildren(make("h3", {}, title), frame, this.#large, how, this.#table.element);
            this.#enlarge(this.#pointed, true);
            this.#again();
        } else if (/** @type {const} */ (["index", "layer", "head"]).some((name) => before[name] !== view[name])) {
            this.#mark();
            this.#table.fill();
            this.#enlarge(this.#pointed, true);
        }
    }

    *#drawing() {
        if (!this.firstChild || this.#width === 0) return;
        const rows = attentionRecord(this.view.trace);
        const [{ layers, heads }, ratio] = [rows[0], Math.min(2, devicePixelRatio)];
        const room = Math.floor((this.#width - HEADINGS) / heads) - BETWEEN;
        const [side, between, margin] = [Math.min(LARGEST, Math.max(SMALLEST, room)), BETWEEN, HEADINGS].map((size) => Math.round(size * ratio));
        const place = (/** @type {number} */ n) => margin + n * (side + between);
        this.#squares = Array.from({ length: layers * heads }, (_, n) => {
            const [layer, head] = [Math.floor(n / heads), n % heads];
            return { layer, head, x: place(head), y: place(layer) };
        });
        for (const { canvas } of this.#pens) [canvas.width, canvas.height] = [place(heads), place(layers)];
        this.#canvas.style.setProperty("inline-size", `${place(heads) / ratio}px`);
        this.#canvas.setAttribute("aria-busy", "true");
        const { color, caretColor, borderTopColor, outlineColor, fontFamily } = getComputedStyle(this.#canvas);
        this.#colours = { color, caretColor, borderTopColor, outlineColor, fontFamily };
        [this.#ratio, this.#side, this.#rows] = [ratio, side, rows.length];
        const { squares: { data, width, height }, filling } = attentionSquares(rows, Math.min(side, LARGEST));
        yield* filling;
        const pen = this.#pens[1];
        for (const [n, { x, y }] of this.#squares.entries()) {
            const image = pen.createImageData(side, side); // its opacity alone
            for (let i = 0; i < side * side; i++) {
                const [line, column] = [Math.floor((Math.floor(i / side) * height) / side), Math.floor(((i % side) * width) / side)];
                image.data[4 * i + 3] = 255 * Math.sqrt(data[(n * height + line) * width + column]);
            }
            pen.putImageData(image, x, y);
            yield;
        }
        pen.fillStyle = color;
        pen.globalCompositeOperation = "source-in";
        pen.fillRect(0, 0, pen.canvas.width, pen.canvas.height);
        pen.fillStyle = caretColor;
        pen.globalCompositeOperation = "destination-over";
        for (const { x, y } of this.#squares) pen.fillRect(x, y, side, side);
        pen.fillStyle = outlineColor;
        pen.font = `${12 * ratio}px ${fontFamily}`;
        [pen.textAlign, pen.textBaseline] = ["center", "middle"];
        const beside = (HEADINGS / 2) * ratio;
        for (const { layer, head, x, y } of this.#squares) {
            if (layer === 0) pen.fillText(String(head), x + side / 2, beside);
            if (head === 0) pen.fillText(String(layer), beside, y + side / 2);
        }
        this.#canvas.removeAttribute("aria-busy");
        this.#mark();
    }

    /** The squares with the row of the step and the chosen head. */
    #mark() {
        const { layer, head, index, trace } = this.view;
        const [[pen, drawn], side] = [this.#pens, this.#side];
        const [high, line] = [side / this.#rows, 2 * this.#ratio];
        const top = (this.#rows - trace.steps + index) * high;
        pen.clearRect(0, 0, pen.canvas.width, pen.canvas.height);
        pen.drawImage(drawn.canvas, 0, 0);
        for (const square of this.#squares) {
            const { x, y } = square;
            pen.fillStyle = pen.strokeStyle = this.#colours.outlineColor;
            pen.lineWidth = line / 2;
            if (high > 3 * line) pen.strokeRect(x, y + top, side, high); // a frame, so that the row is seen
            else pen.fillRect(x, y + Math.min(side - line, top), side, line);
            if (square.layer !== layer || (head !== null && square.head !== head)) continue;
            pen.strokeStyle = this.#colours.borderTopColor;
            pen.lineWidth = 1.5 * line;
            pen.strokeRect(x - line, y - line, side + 2 * line, side + 2 * line);
        }
    }

    /** @param {MouseEvent} event */
    #click(event) {
        const found = this.#squareAt(event);
        if (found) this.change({ layer: found.layer, head: found.head });
    }

    /** @param {MouseEvent} event */
    #squareAt({ offsetX, offsetY }) {
        const isIn = (/** @type {number} */ at, /** @type {number} */ from) => at * this.#ratio >= from && at * this.#ratio < from + this.#side;
        return this.#squares.find(({ x, y }) => isIn(offsetX, x) && isIn(offsetY, y));
    }

    /**
     * Show one head large.
     * @param {{layer: number, head: number} | undefined} pointed
     * @param {boolean} [isOther] whether it is about another step or another choice
     */
    #enlarge(pointed, isOther = false) {
        if (!isOther && this.#pointed === pointed) return;
        this.#pointed = pointed;
        const { layer, head } = pointed ?? this.view;
        const found = this.view.trace.attention(this.view.index);
        const isThere = found && layer !== null && head !== null && layer < found.layers && head < found.heads;
        this.#large.replaceChildren(...(isThere ? [headMatrix(this.view, layer, head)] : []));
    }

    /** The table behind the picture: what each head looked at most. */
    #strongest() {
        const { lang, trace, index } = this.view;
        const found = /** @type {import("../trace/trace-file.js").StepAttention} */ (trace.attention(index));
        const rows = favouriteKeys(found).map((key, n) => {
            const token = trace.token(trace.allIds[found.start + key]);
            return make(
                "tr",
                {},
                rowHead(null, `${Math.floor(n / found.heads)}.${n % found.heads}`),
                number(String(found.start + key + 1)),
                make("td", { class: "cell-token" }, tokenChip(this.view, token)),
                number(percent(found.data[n * found.keys + key])),
            );
        });
        const heads = ["attention.layer_head", "page.position", "page.token", "attention.share"];
        return table(heads.map((key, n) => columnHead(say(lang, key), n % 2 ? "number" : null)), rows);
    }
}

customElements.define("manako-heads", HeadsElement);
