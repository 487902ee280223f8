/**
 * <manako-overview>: surprisal and entropy over the whole text, as two lines; a click goes there. Where this text and
 * another one part, the other's surprisal lies over it.
 *
 * Special here: one fixed scale, so that two texts can be compared: from 0 to log2 of the vocabulary, where a token is as
 * good as any other. Entropies follow a few milliseconds at a time, since each needs its whole row.
 */

/** @import {View} from "./view.js" */
/** @import {Path} from "../trace/tree.js" */
/** @import {Trace} from "../trace/trace-file.js" */
/** @import {Shape} from "./drawing.js" */
import { make } from "./dom.js";
import { sliced } from "./moments.js";
import { svgElement } from "./drawing.js";
import { ViewElement } from "./view.js";
import { term } from "./term.js";
import { say } from "../text/messages.js";
import { StepNumbers, surprisal } from "../analysis/step-numbers.js";

const HEIGHT = 40; // of the drawing, whose width is one for each place

export class OverviewElement extends ViewElement {
    /** @type {WeakMap<Trace, Float64Array>} entropy in bits of each step; NaN until it is known */
    #entropies = new WeakMap();
    #chart = make("div", { class: "chart", click: (event) => this.#go(/** @type {MouseEvent} */ (event)) });
    #here = make("span", { class: "here" });
    #stop = () => {};

    disconnectedCallback() {
        this.#stop();
    }

    /** @param {View} view @param {View | null} before */
    draw(view, before) {
        const { path, place, lang, guess } = view;
        if (!before || before.path !== path || before.lang !== lang || before.guess !== guess) {
            this.#show();
            this.#follow();
        }
        this.#here.style.setProperty("--p", String((place + 0.5) / Math.max(1, path.length)));
    }

    #show() {
        const { lang, path, other, guess } = this.view;
        const top = Math.ceil(Math.log2(path.leaf.trace.vocabSize));
        const end = Math.min(path.length, guess ? guess.place + Number(guess.shown) : Infinity); // what comes must not be told
        const parts = other ? partsAt(path, other) : Infinity;
        const title = say(lang, "page.overview", { bits: top });
        const line = (/** @type {number[][]} */ points, /** @type {string} */ stroke, /** @type {string} */ dashes = "") =>
            /** @type {Shape} */ ({ tag: "polyline", put: { points: points.join(" "), "stroke-dasharray": dashes || null, "vector-effect": "non-scaling-stroke" }, stroke });
        const places = Array.from({ length: end }, (_, place) => place);
        const own = curve(places, top, (place) => surprisal(path.at(place)));
        const bits = curve(places, top, (place) => this.#entropy(path, place));
        const others = guess || !other ? [] : Array.from({ length: Math.min(other.length, path.length) - parts }, (_, n) => parts + n);
        const area = /** @type {Shape} */ ({ tag: "polyline", put: { points: [[0.5, HEIGHT], ...own, [end - 0.5, HEIGHT]].join(" ") }, fill: "--tint-1" });
        const shapes = [...(end ? [area] : []), line(bits, "--accent", "2 2"), line(own, "--amber")];
        if (other && others.length > 0) shapes.push(line(curve(others, top, (place) => surprisal(other.at(place))), "--lower", "5 3"));
        const picture = svgElement({ width: Math.max(1, path.length), height: HEIGHT, title, shapes });
        picture.setAttribute("preserveAspectRatio", "none");
        this.#chart.replaceChildren(picture, this.#here);
        const key = (/** @type {string} */ kind) => make("span", { class: `keyed ${kind}` }, term(lang, kind, say(lang, `page.line_${kind}`)));
        const scale = make("span", {}, say(lang, "page.line_scale", { bits: top }));
        this.replaceChildren(make("p", { class: "soft legend" }, key("surprisal"), key("entropy"), others.length > 0 && key("other"), scale), this.#chart);
    }

    /** @param {Path} path @param {number} place */
    #entropy(path, place) {
        const at = path.at(place);
        return (at && this.#entropies.get(at.trace)?.[at.index]) ?? NaN;
    }

    /** Find the entropies that are not known yet, and draw once more when all are. */
    #follow() {
        this.#stop();
        const traces = this.view.path.chain.map(({ trace }) => trace).filter((trace) => trace.steps > 0);
        for (const trace of traces) if (!this.#entropies.has(trace)) this.#entropies.set(trace, new Float64Array(trace.steps).fill(NaN));
        if (traces.some((trace) => this.#entropies.get(trace)?.some(Number.isNaN))) this.#stop = sliced(this.#finding(traces), () => this.#show());
    }

    /** @param {readonly Trace[]} traces */
    *#finding(traces) {
        for (const trace of traces) {
            const found = /** @type {Float64Array} */ (this.#entropies.get(trace));
            for (let index = 0; index < trace.steps; index++) {
                if (!Number.isNaN(found[index])) continue;
                found[index] = new StepNumbers(trace, index).entropy ?? Infinity; // what cannot be told is not asked again
                yield;
            }
        }
    }

    /** @param {MouseEvent} event */
    #go({ clientX }) {
        const { left, width } = this.#chart.getBoundingClientRect();
        const { path } = this.view;
        const place = Math.min(path.length - 1, Math.max(0, Math.floor(((clientX - left) / width) * path.length)));
        this.change({ place: path.next(place, 1) ?? path.next(place, -1) ?? 0 });
    }
}

/**
 * The first place where two texts differ.
 * @param {Path} path
 * @param {Path} other
 */
function partsAt(path, other) {
    const end = Math.min(path.length, other.length);
    if (path.prompt !== other.prompt) return end;
    let place = 0;
    while (place < end && path.ids[path.prompt + place] === other.ids[other.prompt + place]) place++;
    return place;
}

/**
 * Points of a line, without the places whose value is not known.
 * @param {readonly number[]} places
 * @param {number} top what the whole height stands for
 * @param {(place: number) => number} value
 */
function curve(places, top, value) {
    return places
        .map((place) => [place + 0.5, value(place)])
        .filter(([, bits]) => Number.isFinite(bits))
        .map(([x, bits]) => [x, HEIGHT * (1 - Math.min(1, bits / top))]);
}

customElements.define("manako-overview", OverviewElement);
