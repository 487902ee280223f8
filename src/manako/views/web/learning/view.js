/**
 * A training to watch: a time slider with play, and all that changes with it.
 *
 * Special here: pictures are drawn once for each language and record, and what had the focus or was open is so again; as
 * the slider moves only the cursors move and the lists of the one chosen cell are made anew. The heat map is a canvas of
 * one pixel a cell, enlarged by the style sheet.
 */

/** @import {Line} from "./lines.js" */
/** @import {Dynamics} from "./record.js" */
import { button, columnHead, make, number, rowHead, scroller, soft, table } from "../elements/dom.js";
import { svgElement } from "../elements/drawing.js";
import { languageChoice } from "../elements/language.js";
import { pageLanguage, say } from "../text/messages.js";
import { count, fixed, percent } from "../text/numbers.js";
import { label, prose, recordText, visibleText } from "../text/tokens.js";
import { COLOURS, headLines, linesKey, ngramLines, placeName } from "./kinds.js";
import { WIDTH, linesDrawing, placeOf } from "./lines.js";

const PLAY = 400; // ms for a snapshot
const CANDIDATES = 10;
const GUESSES = ["uniform", "unigram", "bigram"];
const HIGHEST = 255;

export class LearningElement extends HTMLElement {
    /** @type {Dynamics | null} */
    #found = null;
    #z = 0;
    #s = 0;
    /** A head by its place among all, layer by layer; none for the mean of all. */
    #head = "";
    /** @type {ReturnType<typeof setInterval> | undefined} */
    #playing;
    /** @type {HTMLElement[]} */
    #plots = [];
    /** @type {Record<string, HTMLElement>} */
    #parts = {};
    #unchecked = false;

    /**
     * A record, or one of the same run with more snapshots: who looks at the newest goes on looking at the newest.
     * @param {Dynamics} found
     */
    open(found) {
        const before = this.#found;
        const last = found.steps.length - 1;
        if (before === null) this.#s = found.attentionStep ?? found.tokens.length - 1;
        if (this.#z === (before?.steps.length ?? 1) - 1) this.#z = last;
        this.#z = Math.min(this.#z, last); // a run that goes another way may have fewer
        this.#found = found;
        this.#stop();
        this.#draw();
    }

    /** What is wrong, in place of all else. @param {string} message */
    tell(message) {
        this.replaceChildren(make("p", { class: "warn", role: "alert" }, message));
    }

    warnUnchecked() {
        this.#unchecked = true;
        this.#draw();
    }

    get #record() {
        return /** @type {Dynamics} */ (this.#found);
    }

    /** @param {string} key @param {Record<string, string | number>} [values] */
    #say(key, values = {}) {
        return say(pageLanguage(), key, values);
    }

    /** @param {number} id */
    #name(id) {
        const found = this.#record;
        const { kind, text, key } = label(found.bytes.get(id) ?? new Uint8Array(), found.special.has(id));
        if (kind === "named" && key !== null) return `${text} ${this.#say(key)}`;
        return kind === "special" || kind === "empty" ? this.#say(/** @type {string} */ (key), { text }) : text;
    }

    #draw() {
        const found = this.#record;
        const run = visibleText(found.run);
        document.title = `${run} - manako`;
        this.#plots = [];
        const parts = () => /** @type {any[]} */ ([...this.querySelectorAll("button, input, select, details, summary, [tabindex]")]);
        const before = parts();
        const facts = { count: found.steps.length, first: count(found.steps[0]), last: count(found.steps[found.steps.length - 1]) };
        const at = before.indexOf(document.activeElement);
        this.replaceChildren(
            make("header", { class: "top" },
                make("div", { class: "facts" }, make("h1", {}, this.#say("learning.title", { run })), soft(this.#say("dynamics.title", facts))),
                languageChoice(() => this.#draw())),
            make("main", { class: "learning-main" },
                this.#unchecked ? make("p", { class: "warn", role: "alert" }, this.#say("page.unchecked")) : null,
                found.damaged.length ? make("p", { class: "warn" }, this.#say("dynamics.left_out", { steps: found.damaged.join(", ") })) : null,
                this.#controls(),
                make("div", { class: "learning-columns" },
                    make("div", { class: "pane" }, this.#heat(), this.#cell()),
                    make("div", { class: "pane" }, this.#loss(), this.#ngrams(), this.#heads()))),
        );
        this.#move(this.#z);
        parts().forEach((part, n) => {
            part.open = before[n]?.open; // what cannot open does not mind
            if (n === at) part.focus({ preventScroll: true });
        });
    }

    /** @param {string} title @param {...(Node | string | null)} inside */
    #card(title, ...inside) {
        return make("section", { class: "card" }, make("h2", {}, title), ...inside);
    }

    // --- time

    #controls() {
        const last = this.#record.steps.length - 1;
        const slider = make("input", {
            type: "range", min: 0, max: last, step: 1, value: this.#z, "aria-label": this.#say("learning.time"),
            input: () => this.#move(Number(slider.value)),
        });
        const play = button(() => this.#play(), this.#say("learning.play"), { class: "learning-play" });
        const [now, written] = [make("output", { class: "learning-now" }), make("p", { class: "learning-written", "aria-live": "off" })];
        Object.assign(this.#parts, { slider, play, now, written });
        return make("section", { class: "card learning-time", "aria-label": this.#say("learning.time") },
            make("div", { class: "learning-controls" }, play, slider, now),
            make("h2", {}, this.#say("learning.continuation")), written, soft(this.#say("learning.same_numbers")));
    }

    #play() {
        const last = this.#record.steps.length - 1;
        if (this.#playing !== undefined) return this.#stop();
        if (this.#z === last) this.#move(0);
        this.#parts.play.textContent = this.#say("learning.stop");
        this.#playing = setInterval(() => (this.#z === last || !this.isConnected ? this.#stop() : this.#move(this.#z + 1)), PLAY);
    }

    #stop() {
        clearInterval(this.#playing);
        this.#playing = undefined;
        if (this.#parts.play) this.#parts.play.textContent = this.#say("learning.play");
    }

    /** Show a snapshot. @param {number} z */
    #move(z) {
        const found = this.#record;
        this.#z = z;
        const now = this.#say("learning.now", { step: count(found.steps[z]), number: z + 1, count: found.steps.length, bits: fixed(found.bits(z), 2) });
        const { slider, now: place, written, map } = this.#parts;
        /** @type {HTMLInputElement} */ (slider).value = String(z);
        slider.setAttribute("aria-valuetext", now);
        place.textContent = now;
        written.replaceChildren(prose(found.text), make("mark", {}, prose(recordText(found.continuation(z)))));
        for (const plot of this.#plots) plot.style.setProperty("--at", String(placeOf(z, found.steps.length) / WIDTH));
        map.style.setProperty("--z", String(z));
        map.style.setProperty("--s", String(this.#s));
        this.#fill();
    }

    // --- tokens and snapshots

    #heat() {
        const found = this.#record;
        const [width, height] = [found.steps.length, found.tokens.length];
        const canvas = make("canvas", { width, height, "aria-hidden": true });
        const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
        const image = pen.createImageData(width, height);
        for (let s = 0; s < height; s++) {
            for (let z = 0; z < width; z++) {
                const share = Math.sqrt(found.p(z, s)); // so that one in a hundred can be seen
                image.data.set([47, 112, 180, Math.round(share * HIGHEST)], (s * width + z) * 4);
            }
        }
        pen.putImageData(image, 0, 0);
        const names = make("ol", { class: "learning-names", "aria-hidden": true }, ...found.tokens.map((id) => make("li", {}, this.#name(id))));
        const map = make("div", {
            class: "learning-map", tabindex: 0, role: "application", "aria-label": this.#say("learning.map"),
            "--columns": width, "--rows": height,
            click: (event) => this.#pick(/** @type {MouseEvent} */ (event)),
            keydown: (event) => this.#step(/** @type {KeyboardEvent} */ (event)),
        }, canvas, make("span", { class: "learning-column" }), make("span", { class: "learning-row" }));
        this.#parts.map = map;
        this.#parts.tokens = make("div");
        return this.#card(this.#say("learning.heat"), soft(this.#say("learning.heat_is")),
            scroller(this.#say("learning.heat"), make("div", { class: "learning-heat" }, names, map)),
            make("details", { toggle: () => this.#fillTokens() }, make("summary", {}, this.#say("learning.as_table")), this.#parts.tokens));
    }

    /** @param {MouseEvent} event */
    #pick(event) {
        const found = this.#record;
        const box = this.#parts.map.getBoundingClientRect();
        const at = (/** @type {number} */ share, /** @type {number} */ size) => Math.min(size - 1, Math.max(0, Math.floor(share * size)));
        this.#s = at((event.clientY - box.top) / box.height, found.tokens.length);
        this.#move(at((event.clientX - box.left) / box.width, found.steps.length));
    }

    /** @param {KeyboardEvent} event */
    #step(event) {
        const found = this.#record;
        const [across, down] = /** @type {Record<string, [number, number]>} */ ({ ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] })[event.key] ?? [0, 0];
        if (!across && !down) return;
        event.preventDefault();
        this.#s = Math.min(found.tokens.length - 1, Math.max(0, this.#s + down));
        this.#move(Math.min(found.steps.length - 1, Math.max(0, this.#z + across)));
    }

    #fillTokens() {
        const found = this.#record;
        if (!(/** @type {HTMLDetailsElement} */ (this.#parts.tokens.parentElement).open)) return;
        const heads = ["learning.token", "learning.p", "learning.rank", "dynamics.first_head"].map((key) => columnHead(this.#say(key)));
        const rows = found.tokens.map((id, s) => {
            const first = found.firstPlace(s);
            return make("tr", {}, rowHead(null, this.#name(id)), number(percent(found.p(this.#z, s))), number(count(found.rank(this.#z, s))),
                number(first === null ? "-" : count(found.steps[first])));
        });
        this.#parts.tokens.replaceChildren(table(heads, rows, this.#say("learning.at_step", { step: count(found.steps[this.#z]) })));
    }

    // --- one cell

    #cell() {
        for (const name of ["chosen", "candidates", "lens", "attention"]) this.#parts[name] = make("div");
        this.#parts.attentionOf = make("h3");
        return this.#card(this.#say("learning.cell"), this.#parts.chosen,
            make("h3", {}, this.#say("learning.candidates")), this.#parts.candidates,
            make("h3", {}, this.#say("learning.lens")), this.#parts.lens,
            ...(this.#record.has("attention") ? [this.#parts.attentionOf, this.#headChoice()] : []),
            this.#parts.attention);
    }

    #headChoice() {
        const [, layers, heads] = this.#record.shape("attention");
        const each = Array.from({ length: layers * heads }, (_, h) => make("option", { value: h }, placeName(h, heads)));
        const change = () => {
            this.#head = select.value;
            this.#fill();
        };
        const select = make("select", { change }, make("option", { value: "" }, this.#say("page.all_heads")), ...each);
        select.value = this.#head;
        return make("label", {}, this.#say("page.head"), " ", select);
    }

    #fill() {
        const found = this.#record;
        const [z, s] = [this.#z, this.#s];
        const own = found.tokens[s];
        const values = { token: this.#name(own), step: count(found.steps[z]), p: percent(found.p(z, s)), rank: count(found.rank(z, s)) };
        this.#parts.chosen.replaceChildren(make("p", {}, this.#say("learning.chosen", values)));
        this.#parts.candidates.replaceChildren(this.#bars(found.candidates(z, s, CANDIDATES).map(({ id, p }) => ({ name: this.#name(id), p, own: id === own }))));
        const layers = found.lens(z, s).map(({ id, p }, layer) => {
            const at = layer === 0 ? this.#say("lens.embedding") : this.#say("lens.layer", { number: layer - 1 });
            return { name: `${at}: ${this.#name(id)}`, p, own: id === own };
        });
        this.#parts.lens.replaceChildren(this.#bars(layers));
        if (found.has("attention")) this.#drawAttention(z, found.attentionStep ?? s);
        this.#fillTokens();
    }

    /** @param {readonly {name: string, p: number, own: boolean}[]} each */
    #bars(each) {
        const rows = each.map(({ name, p, own }) =>
            make("li", { class: own ? "learning-own" : null, "--p": p }, make("span", {}, name), make("span", { class: "learning-bar" }), make("span", { class: "number" }, percent(p))));
        return make("ol", { class: "learning-bars" }, ...rows);
    }

    /** What the chosen head, or all on average, gives each token before one of the text. @param {number} z @param {number} s */
    #drawAttention(z, s) {
        const found = this.#record;
        this.#parts.attentionOf.textContent = this.#say("learning.attention", { token: this.#name(found.tokens[s]) });
        const every = found.attention(z, s).flat();
        const heads = this.#head ? [every[Number(this.#head)]] : every;
        const ids = [...found.prompt, ...found.tokens.slice(0, s)];
        const means = ids.map((_, key) => heads.reduce((sum, head) => sum + head[key], 0) / heads.length);
        const largest = Math.max(...means);
        const chips = ids.map((id, key) => make("li", { "--p": means[key] / largest, title: percent(means[key]) }, this.#name(id)));
        const best = means.indexOf(largest);
        this.#parts.attention.replaceChildren(make("ol", { class: "learning-looks" }, ...chips),
            soft(this.#say("learning.looked", { token: this.#name(ids[best]), p: percent(largest) })));
    }

    // --- lines

    /**
     * @param {string} name
     * @param {readonly Line[]} lines
     * @param {(value: number) => string} format
     */
    #lines(name, lines, format) {
        const found = this.#record;
        const title = this.#say(`learning.${name}`);
        const plot = make("div", { class: "learning-plot" }, svgElement(linesDrawing(title, found.steps, lines, format)));
        this.#plots.push(plot);
        const rows = found.steps.map((step, z) => make("tr", {}, rowHead("number", count(step)), ...lines.map(({ values }) => number(format(values[z])))));
        const heads = [columnHead(this.#say("learning.step")), ...lines.map(({ name }) => columnHead(name))];
        const shown = make("details", {}, make("summary", {}, this.#say("learning.as_table")), scroller(title, table(heads, rows)));
        return this.#card(title, scroller(title, plot), linesKey(lines), soft(this.#say(`learning.${name}_is`)), shown);
    }

    #loss() {
        const found = this.#record;
        const each = (/** @type {(z: number) => number} */ value) => found.steps.map((_, z) => value(z));
        /** @type {Line[]} */
        const lines = [{ name: this.#say("learning.text_bits"), values: each((z) => found.bits(z)), stroke: "--ink-soft", width: 1.5 }];
        if (found.has("ngram_kl")) {
            const guesses = GUESSES.map((name, n) => ({
                name: this.#say(`dynamics.${name}`), values: each(() => found.data("guess_bits")[n]), stroke: COLOURS[n], width: 1.5, dashes: "6 4",
            }));
            lines.unshift({ name: this.#say("learning.held_out"), values: [...found.data("held_out_bits")], stroke: "--ink", width: 3 }, ...guesses);
        }
        return this.#lines("loss", lines, inTenths);
    }

    #ngrams() {
        const found = this.#record;
        return found.has("ngram_kl") ? this.#lines("ngrams", ngramLines(found.each("ngram_kl")), inTenths) : null;
    }

    #heads() {
        const found = this.#record;
        return found.has("head_score") ? this.#lines("heads", headLines(found.each("head_score"), found.shape("head_score")[2], found.data("head_chance")), percent) : null;
    }
}

/** @param {number} bits */
function inTenths(bits) {
    return fixed(bits, 1);
}

customElements.define("manako-learning", LearningElement);
