/**
 * <manako-training>: a text of one's own, a training to watch, and a model to keep.
 *
 * Special here: the thread decides what is true and this only shows it: what comes in marks the parts that it changes, and
 * those are drawn with the next picture of the browser, so that nothing is drawn that nobody sees. Two states: before a
 * training, and in one, which is held, over or going on.
 */

/** @import {Fault} from "../engine/worker.js" */
/** @import {Asked, Expected, Progress, TextFacts, Told} from "./worker.js" */
/** @import {Saved} from "./cards.js" */
/** @import {Likeness} from "./likeness.js" */
import { button, columnHead, inRow, make, number, rowHead, scroller, soft, table } from "../elements/dom.js";
import { svgElement } from "../elements/drawing.js";
import { languageChoice } from "../elements/language.js";
import { headLines, linesKey, ngramLines } from "../learning/kinds.js";
import { startThread } from "../page/thread.js";
import { pageLanguage, say } from "../text/messages.js";
import { count, fixed, percent } from "../text/numbers.js";
import { prose } from "../text/tokens.js";
import { GUESSES, MODEL_NAME, expectedBars, factsCard, keepCard, linesCard, sampleTexts } from "./cards.js";
import { LowBattery } from "./battery.js";
import { clock } from "./clock.js";
import { STROKES, curveDrawing } from "./curve.js";
import { Glass } from "./glass.js";
import { KeptRun } from "./kept-run.js";
import { Plan } from "./plan.js";
import { TRAINED } from "./proposal.js";
import { Results } from "./results.js";
import { TextCard } from "./text-card.js";

const KEEP_EVERY = 15_000; // ms
const WORSE = 0.03; // bits that held-out text loses before it is said
const RECENT = 50; // steps whose mean loss is compared with that

/** @typedef {{facts: TextFacts, settings: import("./training.js").TrainingSettings, kernel: string, losses: number[], evaluations: {step: number, bits: number}[], likenesses: Likeness[], chance: number[], samples: Map<number, {text: Uint8Array, next: Expected}>, progress: Progress | null}} Shown a training */
/** @typedef {"status" | "curve" | "expects" | "samples" | "likenesses"} Part */

export class TrainingElement extends HTMLElement {
    /** @type {Worker | null} */
    #thread = null;
    #page = "";
    /** @type {Record<string, string>} */
    #versions = {};
    #kept = new KeptRun();
    #isFirst = true;
    #text = new TextCard({
        typing: (isTyping) => this.#plan.hold(isTyping),
        text: (text) => this.#give(text),
        run: (bytes) => {
            this.#notes = [];
            this.#ask({ kind: "open", bytes, prompt: this.#plan.prompt });
        },
        fault: (key, values) => {
            this.#notes = [{ key, values }];
            this.#fillNotes();
        },
    });
    #plan = new Plan((asked) => this.#ask(asked));

    /** @type {TextFacts | null} */
    #facts = null;
    #glass = new Glass((asked) => this.#ask(asked));
    /** @type {Shown | null} */
    #shown = null;
    /** @type {number | null} a step that is looked back at */
    #back = null;
    #sampledPrompt = "";
    /** @type {{key: string, values: Record<string, string | number>}[]} what is to be said above all else */
    #notes = [];
    #keptAt = 0;
    #isNew = false;
    /** @type {{asked: string, kind: string, resolve: (told: any) => void, reject: (fault: Fault) => void}[]} who waits for what the thread is to tell, in its order */
    #waiting = [];
    #results = new Results();
    #battery = new LowBattery((level) => {
        if (!this.#shown) return false;
        this.#ask({ kind: "pause" });
        this.#note("battery", { level: percent(level) });
        return true;
    });
    /** @type {Record<string, HTMLElement>} */
    #parts = {};
    /** @type {Set<Part>} */
    #changed = new Set();

    /**
     * @param {string} script of the thread
     * @param {string} page that a model goes into
     * @param {Record<string, string>} versions
     */
    async start(script, page, versions) {
        [this.#page, this.#versions] = [page, versions];
        this.#thread = startThread(script);
        this.#thread.addEventListener("message", ({ data }) => this.#hear(data));
        this.#thread.addEventListener("error", ({ message }) => this.#end({ key: "unexpected", values: { error: message } }));
        document.addEventListener("visibilitychange", () => {
            this.#ask({ kind: "hidden", isHidden: document.hidden });
            if (document.hidden) this.#keep();
        });
        this.#battery.watch(/** @type {any} */ (navigator));
        this.#draw();
        this.#isFirst = await this.#kept.first();
        if (!this.#isFirst) this.#note("other_tab");
        const kept = this.#isFirst ? await this.#kept.get() : null;
        if (kept && !this.#facts && !this.#shown) {
            this.#plan.prompt = kept.prompt;
            this.#ask({ kind: "open", bytes: kept.bytes, prompt: kept.prompt });
        }
    }

    /** @param {Asked} asked @param {Transferable[]} [handed] */
    #ask(asked, handed = []) {
        this.#thread?.postMessage(asked, handed);
    }

    /** @param {string} key @param {Record<string, string | number>} [values] */
    #say(key, values = {}) {
        return say(pageLanguage(), key, values);
    }

    // --- what the thread tells

    /** @param {Told} told */
    #hear(told) {
        if (told.kind === "text") {
            this.#facts = told.facts;
            this.#plan.prompt ||= firstWords(told.facts.start);
            this.#plan.give(told.facts);
            this.#fillBefore();
        }
        if (told.kind === "measured") this.#plan.hear(told.speed);
        if (told.kind === "begun") {
            this.#shown = { ...told, losses: [], evaluations: [], likenesses: [], samples: new Map(), progress: null };
            this.#back = null;
            this.#glass.begin(firstWords(told.facts.start));
            this.#keptAt = performance.now();
            this.#isNew = true;
            scrollTo(0, 0);
            this.#battery.look();
            if (told.kernel === "plain") this.#notes = [...this.#notes, { key: "plain", values: {} }];
            this.#draw();
        }
        if (told.kind === "tried") this.#glass.show(told.tried);
        if (told.kind === "taken") {
            this.#glass.taken();
            this.#keep();
        }
        if (told.kind === "kept") this.#put(told.run);
        if (told.kind === this.#waiting[0]?.kind) this.#waiting.shift()?.resolve(told);
        if (told.kind === "fault") this.#end(told.fault, told.ended);
        if (told.kind === "sample" && this.#shown) {
            if (told.prompt !== this.#sampledPrompt) {
                this.#sampledPrompt = told.prompt;
                this.#shown.samples.clear();
                if (this.#back) this.#ask({ kind: "look", step: this.#back });
            }
            this.#shown.samples.set(told.step, told);
            this.#change("samples", "expects");
        }
        if (told.kind === "progress" && this.#shown) this.#goOn(this.#shown, told.progress);
    }

    /** @param {Shown} shown @param {Progress} progress */
    #goOn(shown, progress) {
        const was = shown.progress;
        for (const loss of progress.losses) shown.losses.push(loss);
        shown.evaluations.push(...progress.evaluations);
        shown.likenesses.push(...progress.likenesses);
        if (progress.likenesses.length) this.#change("likenesses");
        shown.progress = { ...progress, next: progress.next ?? was?.next ?? null };
        if (was === null && progress.step > 0 && !progress.isRunning) this.#note("kept", { step: count(progress.step) });
        const isHeld = was !== null && !progress.isRunning && (was.isRunning || was.step !== progress.step);
        if (isHeld || performance.now() - this.#keptAt > KEEP_EVERY) this.#keep();
        this.#change("status", "curve", "expects");
    }

    /** @param {Fault} fault @param {string} [ended] what was asked for and comes no more; all of it, where the thread broke */
    #end(fault, ended) {
        const waited = this.#waiting.splice(0, ended ? Number(this.#waiting[0]?.asked === ended) : Infinity);
        for (const { reject } of waited) reject(fault);
        if (ended === "measure") this.#plan.hear(null);
        if (!waited.length && !(ended === "try" && this.#glass.fails(fault))) this.#fault(fault);
    }

    /** @param {Fault} fault */
    #fault({ key, values }) {
        const file = this.#text.file || this.#say("page.this_file");
        const readable = /** @type {Record<string, string>} */ ({ trace_damaged: "run_damaged", not_a_trace: "run_none", json_invalid: "run_damaged", trace_newer: "run_newer" });
        const known = ["text_short", "text_long", "text_monotone", "text_surrogate", "prompt_surrogate", "loss_not_finite"];
        const name = readable[key] ?? (known.includes(key) ? key : "unexpected");
        const told = Object.fromEntries(Object.entries(values).map(([each, value]) => [each, typeof value === "number" ? count(value) : value]));
        this.#notes = [{ key: `fault_${name}`, values: { file, part: "header", error: key, ...told } }];
        if (key.startsWith("text_")) this.#facts = null;
        this.#fillNotes();
        if (!this.#shown) this.#fillBefore();
    }

    /** @param {string} key @param {Record<string, string | number>} [values] */
    #note(key, values = {}) {
        if (this.#notes.some((note) => note.key === key)) return;
        this.#notes = [...this.#notes, { key, values }];
        this.#fillNotes();
    }

    // --- what is kept

    #keep() {
        this.#keptAt = performance.now();
        if (this.#shown && this.#isFirst) this.#ask({ kind: "keep" });
    }

    /** @param {ArrayBuffer} run */
    async #put(run) {
        if (this.#shown && !(await this.#kept.put(this.#plan.prompt, run))) this.#note("not_kept");
    }

    /** What the thread tells when it is asked. @template T @param {string} kind @param {Asked} asked @returns {Promise<T>} */
    #told(kind, asked) {
        this.#ask(asked);
        return new Promise((resolve, reject) => this.#waiting.push({ asked: asked.kind, kind, resolve, reject }));
    }

    /** @returns {Promise<Saved>} */
    #saved() {
        return this.#told("saved", { kind: "save", ref: MODEL_NAME, versions: this.#versions });
    }

    /** @param {string} name */
    async #result(name) {
        return /** @type {{result: string}} */ (await this.#told("result", { kind: "result", name })).result;
    }

    // --- drawing

    /** @param {...Part} parts */
    #change(...parts) {
        if (this.#changed.size === 0) requestAnimationFrame(() => this.#fill());
        for (const part of parts) this.#changed.add(part);
    }

    #fill() {
        const changed = [...this.#changed];
        this.#changed.clear();
        if (!this.#shown) return;
        const { progress, samples } = this.#shown;
        const next = this.#back === null ? progress?.next : samples.get(this.#back)?.next;
        for (const part of changed) {
            if (part === "status") {
                this.#fillStatus(this.#shown);
                this.#fillTime(this.#shown);
            }
            if (part === "curve") this.#fillCurve(this.#shown);
            if (part === "likenesses") this.#fillLikenesses(this.#shown);
            if (part === "expects" && next) this.#parts.expects.replaceChildren(expectedBars(next));
            if (part === "samples") this.#parts.samples.replaceChildren(...sampleTexts(samples, this.#plan.prompt, this.#back));
        }
    }

    #draw() {
        document.title = `${this.#say("training.title")} - manako`;
        this.#parts = { notes: make("div", { class: "pane", role: "alert" }) };
        this.replaceChildren(
            make("header", { class: "top" },
                make("div", { class: "facts" }, make("h1", {}, this.#say("training.title")), soft(this.#say("training.lead"))),
                languageChoice(() => this.#draw())),
            make("main", { class: "learning-main" }, this.#parts.notes, ...(this.#shown ? this.#during(this.#shown) : this.#before())),
        );
        this.#fillNotes();
        if (this.#shown) this.#change("status", "curve", "expects", "samples", "likenesses");
        else this.#fillBefore();
    }

    /** @param {string} title @param {...(Node | string | null)} inside */
    #card(title, ...inside) {
        return make("section", { class: "card" }, make("h2", {}, title), ...inside);
    }

    #fillNotes() {
        this.#parts.notes.replaceChildren(...this.#notes.map(({ key, values }) =>
            make("p", { class: key === "kept" ? "note" : "warn" }, this.#say(`training.${key}`, values))));
    }

    // --- before

    #before() {
        this.#parts.below = make("div", { class: "learning-main training-below" });
        return [this.#text.card(), this.#parts.below, this.#results.card()];
    }

    /** All below the text, which keeps its caret. */
    #fillBefore() {
        const begun = () => (this.#notes = this.#notes.filter(({ key }) => key === "other_tab"));
        this.#parts.below?.replaceChildren(...(this.#facts ? [factsCard(this.#facts), this.#plan.card(begun)] : []));
    }

    /** @param {string} text */
    #give(text) {
        this.#notes = this.#notes.filter(({ key }) => !key.startsWith("fault_"));
        this.#plan.prompt = "";
        this.#fillNotes();
        this.#parts.below.replaceChildren(make("p", {}, this.#say("training.reading")));
        this.#ask({ kind: "text", text });
    }

    // --- in a training

    /** @param {Shown} shown */
    #during(shown) {
        const prompt = make("input", { type: "text", name: "prompt", "aria-label": this.#say("training.prompt"), change: () => {
            this.#plan.prompt = prompt.value;
            this.#notes = this.#notes.filter(({ key }) => key !== "fault_prompt_surrogate");
            this.#ask({ kind: "prompt", prompt: prompt.value });
        } });
        prompt.value = this.#plan.prompt;
        const parts = this.#parts;
        for (const part of ["now", "value", "warning", "curve", "expects", "samples", "likenesses"]) parts[part] = make("div", { class: "pane" });
        parts.value.setAttribute("aria-live", "polite");
        parts.bar = make("progress", { max: shown.settings.steps, value: 0, "aria-label": this.#say("training.plan") });
        parts.hold = button(() => this.#ask({ kind: shown.progress?.isRunning ? "pause" : "go" }), this.#say("training.pause"), { class: "primary training-hold", disabled: true });
        parts.step = button(() => this.#ask({ kind: "step" }), this.#say("training.one_step"), { disabled: true });
        const time = make("input", { type: "range", min: 0, max: 1, value: 1, "aria-label": this.#say("learning.time"), input: () => this.#lookBack(Number(time.value)) });
        parts.time = time;
        parts.when = make("p");
        const key = linesKey(Object.entries(STROKES).map(([name, stroke]) => ({ name: this.#lineName(name), stroke, dashes: name in shown.facts.guesses })));
        return [
            make("section", { class: "card learning-time" }, inRow(parts.hold, parts.step, button(() => this.#new(), this.#say("training.new"))), parts.bar, parts.now, parts.value, parts.warning),
            this.#card(this.#say("training.back"), make("div", { class: "pane" }, time, parts.when), (parts.memory = soft())),
            make("div", { class: "learning-columns" },
                make("div", { class: "pane" },
                    this.#card(this.#say("training.curve"), scroller(this.#say("training.curve"), parts.curve), key, soft(this.#say("training.curve_is")), this.#table()),
                    this.#card(this.#say("training.samples"), parts.samples, soft(this.#say("learning.same_numbers"))),
                    parts.likenesses),
                make("div", { class: "pane" },
                    this.#card(this.#say("training.expects"), make("label", {}, this.#say("training.prompt"), prompt), parts.expects, soft(this.#say("training.expects_is"))),
                    this.#glass.card(),
                    keepCard(() => this.#saved(), (name) => this.#result(name), this.#page, (error) => this.#fault(error.key ? error : { key: "unexpected", values: { error: String(error) } })))),
            this.#results.card(),
        ];
    }

    /** @param {number} place among the snapshots; behind them is now */
    #lookBack(place) {
        if (!this.#shown?.progress) return;
        this.#back = this.#shown.progress.snapshots.steps[place] ?? null;
        if (this.#back !== null && !this.#shown.samples.has(this.#back)) this.#ask({ kind: "look", step: this.#back });
        this.#change("status", "expects", "samples");
    }

    /** @param {Shown} shown */
    #fillTime({ progress }) {
        if (!progress) return;
        const { steps, bytes } = progress.snapshots;
        const { time, when, memory } = this.#parts;
        const place = this.#back === null ? steps.length : steps.indexOf(this.#back);
        if (place < 0) return this.#lookBack(steps.length); // it gave way to newer ones
        Object.assign(time, { max: steps.length, value: place });
        const words = this.#back === null ? this.#say("training.back_now") : this.#say("learning.at_step", { step: count(this.#back) });
        time.setAttribute("aria-valuetext", words);
        when.textContent = words;
        memory.textContent = this.#say("training.back_is", { count: count(steps.length), size: fixed(bytes / 1e6, 1) });
    }

    /** @param {string} line */
    #lineName(line) {
        if (line === "held_out" || line === "train") return this.#say(`training.on_${line}`);
        return this.#say(`training.${line}`, { size: count(this.#shown?.facts.size ?? 0) });
    }

    /** The evaluations as a table, made when it is opened. */
    #table() {
        const place = make("div", {});
        const fill = () => {
            const rows = (this.#shown?.evaluations ?? []).map(({ step, bits }) => make("tr", {}, rowHead("number", count(step)), number(fixed(bits, 3))));
            place.replaceChildren(table([columnHead(this.#say("learning.step")), columnHead(this.#say("training.on_held_out"))], rows));
        };
        return make("details", { toggle: fill }, make("summary", {}, this.#say("learning.as_table")), place);
    }

    async #new() {
        if (!confirm(this.#say("training.new_means"))) return;
        this.#ask({ kind: "end" });
        this.#shown = null;
        this.#notes = this.#notes.filter(({ key }) => key === "other_tab");
        if (this.#isFirst) await this.#kept.clear();
        this.#draw();
    }

    /** @param {Shown} shown */
    #fillStatus({ progress, settings, facts, evaluations, losses }) {
        if (!progress) return;
        const { bar, now, value, warning, hold, step } = this.#parts;
        const isDone = progress.step >= settings.steps;
        /** @type {HTMLProgressElement} */ (bar).value = progress.step;
        const left = ((progress.seconds / Math.max(1, progress.step)) * (settings.steps - progress.step)) / TRAINED;
        const told = { step: count(progress.step), steps: count(settings.steps), time: clock(progress.seconds), epochs: fixed(progress.epochs, 1) };
        const after = isDone && !progress.isRunning ? this.#say("training.finished") : progress.step > 0 ? this.#say("training.left", { time: clock(left) }) : "";
        const besides = progress.sentences.map(({ text }) => prose(text)).join(" / ");
        now.replaceChildren(make("p", { class: "learning-now" }, `${this.#say("training.now", told)} ${after}`), ...(besides ? [soft(this.#say("training.besides", { texts: besides }))] : []));
        this.#glass.follow(progress);
        hold.textContent = this.#say(progress.isRunning ? "training.pause" : "training.continue");
        for (const [each, isOff] of /** @type {const} */ ([[hold, isDone], [step, isDone || progress.isRunning]])) /** @type {HTMLButtonElement} */ (each).disabled = isOff;
        if (this.#isNew && document.activeElement === document.body) hold.focus({ preventScroll: true }); // what began it is gone
        this.#isNew = false;
        const last = evaluations[evaluations.length - 1];
        const best = evaluations.reduce((a, b) => (b.bits < a.bits ? b : a), last);
        const isOverfit = last && last.bits > best.bits + WORSE && mean(losses.slice(-RECENT)) < best.bits;
        if (last) {
            const below = GUESSES.findLast((key) => last.bits < facts.guesses[key]) ?? "none";
            const bits = this.#say("training.value", { bits: fixed(last.bits, 2) });
            const words = isOverfit ? bits : `${bits} ${this.#say(`training.under_${below}`)}`;
            if (value.textContent !== words) value.replaceChildren(make("p", {}, words));
        }
        warning.replaceChildren(...(isOverfit ? [make("p", { class: "note" }, this.#say("training.overfit", { step: count(best.step) }))] : []));
    }

    /** @param {Shown} shown */
    #fillLikenesses({ likenesses, settings, chance }) {
        if (likenesses.length < 2) return; // no line yet
        const steps = likenesses.map(({ step }) => step);
        const distances = likenesses.flatMap(({ ngrams }) => (ngrams ? [ngrams] : []));
        const kinds = { heads: headLines(likenesses.map(({ heads }) => heads), settings.n_head, chance), ...(distances.length && { ngrams: ngramLines(distances) }) };
        this.#parts.likenesses.replaceChildren(
            ...(kinds.ngrams ? [linesCard("learning.ngrams", steps, kinds.ngrams, (value) => fixed(value, 1))] : []),
            linesCard("learning.heads", steps, kinds.heads, percent));
    }

    /** @param {Shown} shown */
    #fillCurve({ losses, evaluations, facts }) {
        const drawing = curveDrawing(this.#say("training.curve"), losses, evaluations, facts.guesses, (line) => this.#lineName(line));
        this.#parts.curve.replaceChildren(make("div", { class: "learning-plot training-plot" }, svgElement(drawing)));
    }
}

/** A prompt out of the beginning of a text: a word or two, on one line. @param {string} start */
function firstWords(start) {
    const [line] = start.trim().split("\n");
    return line.includes(" ") ? line.slice(0, line.lastIndexOf(" ") + 1) : [...line].slice(0, 5).join("");
}

/** @param {readonly number[]} values */
function mean(values) {
    return values.reduce((a, b) => a + b, 0) / values.length;
}

customElements.define("manako-training", TrainingElement);
