/**
 * <manako-app>: the page. It keeps the texts and what the reader chose, hands every part the same view, and writes the
 * choice into the address, so that a link or a reload shows the same thing.
 */

/** @import {RecordFile} from "../trace/tree-file.js" */
/** @import {Act, Choice, Change, View} from "./view-state.js" */
/** @import {Branch, Path} from "../trace/tree.js" */
/** @import {Server, ServedModel} from "./server.js" */
import { ViewElement, make } from "../elements/dom.js";
import { frame } from "./frame.js";
import { say } from "../text/messages.js";
import { RibbonElement } from "../elements/ribbon.js";
import { StepNumbers, canAnswer } from "../analysis/step-numbers.js";
import { samplingFault } from "../trace/sampling.js";
import { LONG_LIST, SHORT_LIST, fromFragment, toFragment } from "./view-state.js";
import { saveRows } from "./save-card.js";
import { characterAt, tokenText } from "../elements/token-chip.js";
import { Tree } from "../trace/tree.js";
import { TreeElement } from "../elements/tree.js";
import { visibleText } from "../text/tokens.js";
import { chainText, percent, whole } from "../text/numbers.js";
import { ActElement } from "../elements/act.js";
import { CandidatesElement } from "../elements/candidates.js";
import { PlayerElement } from "../elements/player.js";
import { Writer, liveNumbers } from "./writer.js";

const REMEMBER_AFTER = 300; // ms without a change; browsers stop a page that rewrites its address at every pixel
const LONGEST_TITLE = 40;
const WITHOUT_STEPS = [ActElement, PlayerElement, RibbonElement, TreeElement]; // what a text without any has

export class AppElement extends HTMLElement {
    #tree = new Tree([]);
    /** @type {Choice} */
    #choice = {
        lang: "en",
        branch: "",
        place: 0,
        tint: "p_model",
        details: false,
        top: SHORT_LIST,
        axis: "linear",
        sampling: null,
        temperatures: [0.3, 0.8, 1.2],
        guess: null,
        layer: null,
        head: null,
    };
    /** @type {Path | null} */
    #path = null;
    /** @type {StepNumbers | null} */
    #shown = null;
    /** @type {StepNumbers | null} the selected step under the recorded settings */
    #recorded = null;
    /** @type {"ja" | null} */
    #textLang = null;
    /** @type {Writer | null} */
    #writer = null;
    /** @type {{branch: string, place: number}[]} what was shown before, and what was taken back */
    #past = [];
    /** @type {{branch: string, place: number}[]} */
    #future = [];
    #timer = 0;
    /** What had the focus when the page was built anew. */
    #focused = "";
    #isUnchecked = false;
    /** What is being written: a text of its own, a single token. */
    #isNewText = false;
    #isStep = false;

    connectedCallback() {
        this.addEventListener("view-change", (event) => this.#wish(/** @type {CustomEvent<Change>} */ (event).detail));
        this.addEventListener("act", (event) => this.#act(/** @type {CustomEvent<Act>} */ (event).detail));
        document.addEventListener("keydown", (event) => this.#key(event));
        globalThis.addEventListener("hashchange", () => this.#restore());
    }

    /**
     * Show a record.
     * @param {RecordFile} record
     * @param {Server | null} [server] that can write more
     */
    open({ branches, current }, server = null) {
        this.#tree = new Tree(branches);
        this.#writer = server && new Writer(server, this.#tree);
        const lang = document.documentElement.lang === "ja" ? "ja" : "en";
        this.#choice = { ...this.#choice, lang, branch: current, place: 0, sampling: null };
        this.#path = null;
        this.#restore();
    }

    /** Say that there was no means to check the digests. */
    warnUnchecked() {
        this.#isUnchecked = true;
        this.#redraw();
    }

    /** Show a text instead of a record. @param {string} text */
    tell(text) {
        this.replaceChildren(make("main", { class: "panes" }, make("p", { class: "card", role: "alert" }, text)));
    }

    /**
     * Take in all texts that there are, in their order.
     * @param {readonly Branch[]} all
     */
    add(all) {
        const { branches } = this.#tree;
        const known = [...branches];
        branches.clear();
        for (const branch of all) branches.set(branch.id, branch);
        for (const [id, branch] of known) branches.set(id, branch);
        if (branches.size > known.length && this.#path) this.#build(this.#path);
        this.#redraw();
    }

    /** What is now known of the model that can write; null where its server does not answer. @param {ServedModel | null} model */
    setModel(model) {
        if (this.#writer === null) return;
        this.#writer.model = model;
        this.#writer.fault = model ? "" : say(this.#choice.lang, "page.lost_server");
        this.#redraw();
    }

    /** Take over what the address says. */
    #restore() {
        if (this.#tree.branches.size === 0 || (this.#path && this.#view.busy)) return;
        const fragment = location.hash.slice(1); // before anything is shown, which writes it
        const read = (/** @type {Path} */ path) => {
            const { trace } = path.at(this.#choice.place) ?? path.leaf;
            const fits = (/** @type {import("../trace/sampling.js").Sampling} */ s) => samplingFault(s) === null && canAnswer(trace, s);
            return fromFragment(fragment, this.#choice, trace.header.sampling, fits);
        };
        const { branch, place } = read(this.#path ?? this.#tree.path(this.#choice.branch));
        this.#change({ branch, place });
        this.#change(read(/** @type {Path} */ (this.#path))); // the rest of it is about that step
    }

    #redraw() {
        this.#change({});
    }

    /** What the reader wants to see; while the model writes, that is what is shown. @param {Change} change */
    #wish(change) {
        if (!this.#view.busy || !["branch", "place", "lang", "guess", "tint"].some((name) => name in change)) this.#change(change);
    }

    /** @param {Change} change */
    #change(change) {
        const before = this.#choice;
        const next = { ...before, ...change };
        if (!this.#tree.branches.has(next.branch)) next.branch = before.branch;
        const isOther = this.#path === null || next.branch !== before.branch;
        if (isOther) {
            if (this.#path) [this.#past, this.#future] = [[...this.#past, before], []];
            this.#path = this.#tree.path(next.branch);
            next.guess = change.guess ?? null;
        }
        const path = /** @type {Path} */ (this.#path);
        next.place = Math.min(Math.max(0, next.place), Math.max(0, path.length - 1), next.guess?.place ?? Infinity);
        next.place = path.next(next.place, -1) ?? path.next(next.place, 1) ?? 0;
        const at = path.at(next.place);
        if (change.sampling === undefined && at?.trace !== this.#recorded?.trace) next.sampling = null; // it was about others
        this.#choice = next;
        if (isOther || next.lang !== before.lang) this.#build(path);
        if (at && !(this.#recorded?.trace === at.trace && this.#recorded.index === at.index)) this.#recorded = new StepNumbers(at.trace, at.index);
        const isSame = this.#shown?.trace === at?.trace && this.#shown?.index === at?.index && before.sampling === next.sampling;
        if (!next.sampling) this.#shown = this.#recorded;
        else if (at && !isSame) this.#shown = new StepNumbers(at.trace, at.index, next.sampling, this.#recorded);
        this.#draw();
        if (isOther) this.#focusAgain();
        this.#remember(isOther);
    }

    /** @returns {View} what is shown of a step; of a text without any, `shown` is that of no step */
    get #view() {
        const path = /** @type {Path} */ (this.#path);
        const { trace, index, forcedId } = path.at(this.#choice.place) ?? { trace: path.leaf.trace, index: 0, forcedId: null };
        const busy = this.#writer !== null && this.#writer.steps !== null;
        const isReady = Boolean(this.#writer?.model?.ready) && !busy;
        const canAct = isReady && Boolean(this.#writer?.made(trace));
        const shown = /** @type {StepNumbers} */ (this.#shown);
        for (const numbers of [shown, this.#recorded]) if (numbers) numbers.whole = path.leaf.trace;
        return { ...this.#choice, path, trace, index, forcedId, shown, textLang: this.#textLang, busy, isReady, canAct };
    }

    #draw() {
        const view = this.#view;
        const hasStep = view.path.next(0, 1) !== null;
        this.#tellActs(view);
        for (const part of this.querySelectorAll("*")) {
            if (part instanceof ViewElement && (hasStep || WITHOUT_STEPS.some((Part) => part instanceof Part))) part.view = view;
        }
        if (hasStep) this.#drawStep(view);
    }

    /** What the parts that act need beside the view. @param {View} view */
    #tellActs({ lang, trace, busy }) {
        const writer = this.#writer;
        const act = this.querySelector("manako-act");
        if (writer && act instanceof ActElement) {
            const { model, fault, steps } = writer;
            const ref = visibleText(model?.ref ?? "");
            const key = busy ? "page.writing" : !model?.ready ? "page.loading" : writer.made(trace) ? "page.ready" : "page.other_model";
            const values = { ref, steps: steps ?? 0, made: visibleText(trace.header.model.ref), chain: chainText(this.#choice.sampling ?? trace.header.sampling) };
            act.say(fault || (model ? say(lang, key, values) : ""), fault !== "");
        }
        const player = this.querySelector("manako-player");
        if (player instanceof PlayerElement) player.can = { write: writer !== null, undo: this.#past.length > 0, redo: this.#future.length > 0 };
        const tree = this.querySelector("manako-tree");
        if (tree instanceof TreeElement) tree.tree = this.#tree;
    }

    /** @param {View} view */
    #drawStep(view) {
        const { lang, shown, path, place, guess, trace, index, forcedId } = view;
        const put = (/** @type {string} */ name, /** @type {string} */ text) => {
            const spot = this.querySelector(`[data-place="${name}"]`);
            if (spot && spot.textContent !== text) spot.textContent = text;
        };
        put("digests", this.#isUnchecked ? say(lang, "page.unchecked") : "");
        put("title", say(lang, "page.step", { number: place + 1, count: path.length }));
        const taken = this.#recorded ?? shown;
        const named = (/** @type {number} */ id) => {
            const row = taken.candidate(id);
            return { token: tokenText(view, row, shown.pending), p: percent(row.p), p_model: percent(row.pModel), rank: whole(row.rank) };
        };
        put("chosen", say(lang, shown.u === null ? "page.given" : forcedId === null ? "page.chosen" : "page.drawn", named(shown.takenId)));
        put("settings", trace.header.seed === null ? "" : say(lang, "view.settings", { chain: chainText(trace.header.sampling), seed: trace.header.seed }));
        for (const name of ["attention", "lens"]) put(`elsewhere-${name}`, trace === path.leaf.trace ? "" : say(lang, "page.elsewhere"));
        put("brief", say(lang, "page.brief", { number: place + 1, ...named(forcedId ?? shown.takenId) }));
        const isInstead = forcedId !== null && forcedId !== shown.takenId; // one may put in what was drawn
        put("forced", isInstead ? say(lang, "page.forced", named(forcedId)) : "");
        const start = trace.windowStart[index];
        put("window", start ? say(lang, "step.window", { start: start + 1 }) : "");
        put("part", (!guess && characterAt(path.leaf.trace, path.prompt + place)) || "");
        const changed = shown.changed && shown.drawnId !== shown.takenId;
        put("other", changed && shown.draw ? say(lang, "page.other_token", { token: named(shown.drawnId).token }) : "");
        for (const button of this.querySelectorAll("[data-move]")) {
            const way = Number(/** @type {HTMLElement} */ (button).dataset.move);
            const to = path.next(place + way, way);
            button.toggleAttribute("disabled", to === null || view.busy || (guess !== null && to > guess.place));
        }
        const pressed = { details: view.details, top: view.top === LONG_LIST, guess: guess !== null };
        for (const [name, on] of Object.entries(pressed)) this.querySelector(`[data-toggle=${name}]`)?.setAttribute("aria-pressed", String(on));
        this.querySelector("[data-act=settings]")?.toggleAttribute("disabled", !view.canAct);
        const leave = this.querySelector("[data-toggle=guess]");
        if (leave) leave.textContent = say(lang, guess ? "page.guess_leave" : "page.toggle_guess");
        const isStill = view.busy && !this.#isStep; // a single step is over before one could look elsewhere
        this.toggleAttribute("data-writing", isStill);
        for (const part of this.querySelectorAll(".still, .top, manako-tree")) part.toggleAttribute("inert", isStill);
        this.toggleAttribute("data-guess", guess !== null); // what lies ahead must not be told either
        this.toggleAttribute("data-guessing", guess !== null && place === guess.place && !guess.shown);
    }

    /** @param {boolean} atOnce */
    #remember(atOnce) {
        clearTimeout(this.#timer);
        if (location.protocol === "about:") return; // a frame in a notebook has no address of its own
        const { trace } = this.#view;
        const write = () => history.replaceState(null, "", `#${toFragment(this.#choice, trace.header.sampling)}`);
        if (atOnce) write();
        else this.#timer = setTimeout(write, REMEMBER_AFTER);
    }

    /** The frame, in the language of the moment. @param {Path} path */
    #build(path) {
        const { lang } = this.#choice;
        const { trace } = path.leaf;
        document.documentElement.lang = lang;
        document.title = `manako: ${visibleText(path.chain[0].trace.header.prompt).slice(0, LONGEST_TITLE)}`;
        this.#textLang = /[\u3040-\u30ff]/.test(new TextDecoder().decode(trace.textBytes(0, trace.allIds.length))) ? "ja" : null;
        const parts = frame({
            lang,
            path,
            canWrite: this.#writer !== null,
            hasTree: this.#tree.branches.size > 1,
            change: (change) => this.#wish(change),
            move: (by) => this.#wish({ place: path.next(this.#choice.place + by, by) ?? this.#choice.place }),
            toggle: (name) => this.#toggle(name),
            act: (kind) => this.#act({ kind }),
            save: () => saveRows(() => this.#view, this.#tree, this.#writer?.server ?? null),
        });
        this.#markFocus();
        const kept = ["manako-act", "manako-player", "manako-guess"].map((name) => /** @type {const} */ ([name, this.querySelector(name)]));
        this.replaceChildren(...parts);
        for (const [name, old] of kept) if (old) this.querySelector(name)?.replaceWith(old); // with what was typed, playing on, and the score
    }

    /** Before parts are built anew, or switched off and so left. */
    #markFocus() {
        const active = document.activeElement;
        if (!(active instanceof HTMLElement) || !this.contains(active)) return;
        const list = active.closest("manako-tree") ? "manako-tree" : "manako-ribbon";
        this.#focused = active.dataset.act ? `[data-act=${active.dataset.act}]` : `${list} [role=listbox]`;
    }

    /** Who works by keyboard stays where he was, though all parts are new ones: or else at the text. */
    #focusAgain() {
        const wanted = this.#focused && this.querySelector(this.#focused);
        if (!(wanted instanceof HTMLElement) || document.activeElement !== document.body) return;
        wanted.focus();
        if (document.activeElement === document.body) /** @type {HTMLElement | null} */ (this.querySelector("manako-ribbon [role=listbox]"))?.focus();
    }

    /** @param {"details" | "top" | "guess"} name */
    #toggle(name) {
        const { details, top, guess, place } = this.#choice;
        const path = /** @type {Path} */ (this.#path);
        if (name === "details") this.#change({ details: !details });
        else if (name === "top") this.#change({ top: top === LONG_LIST ? SHORT_LIST : LONG_LIST });
        else this.#wish({ guess: guess ? null : { place: path.drawn(place) ?? place, shown: false }, sampling: null });
    }

    /** @param {KeyboardEvent} event */
    #key(event) {
        if (!this.#writer) return;
        const isTyping = event.target instanceof HTMLElement && event.target.matches("input:not([type=radio], [type=range], [type=checkbox]), textarea");
        const key = event.key.toLowerCase();
        const isUndo = !isTyping && (event.ctrlKey || event.metaKey) && !event.altKey && (key === "z" || key === "y");
        const kind = isUndo ? (key === "y" || event.shiftKey ? "redo" : "undo") : key === "escape" && this.#view.busy ? "stop" : null;
        if (kind === null) return;
        event.preventDefault();
        this.#act({ kind });
    }

    /** @param {Act} act */
    #act(act) {
        this.#markFocus();
        if (act.kind === "stop") this.#stop();
        else if (act.kind === "undo") this.#goBack(this.#past, this.#future);
        else if (act.kind === "redo") this.#goBack(this.#future, this.#past);
        else return this.#write(act);
    }

    #stop() {
        this.#pause();
        this.#writer?.stop();
    }

    #pause() {
        const player = this.querySelector("manako-player");
        if (player instanceof PlayerElement) player.pause();
    }

    /**
     * Show again what was shown before; the texts themselves stay.
     * @param {{branch: string, place: number}[]} from
     * @param {{branch: string, place: number}[]} to
     */
    #goBack(from, to) {
        const shown = this.#view.busy ? undefined : from.pop();
        if (!shown) return;
        to.push(this.#choice);
        this.#path = null; // so that this is no new move
        this.#change({ branch: shown.branch, place: shown.place });
    }

    /** @param {Act} act */
    async #write(act) {
        const [writer, view, form] = [this.#writer, this.#view, this.querySelector("manako-act")];
        if (!writer || !(form instanceof ActElement) || !(act.kind === "new" ? view.isReady : view.canAct) || !form.isSound) return;
        const isAtEnd = act.kind === "go" || act.kind === "step";
        const known = act.kind === "step" && !view.sampling ? this.#tree.goesOn(view.path.leaf) : undefined;
        if (known) return this.#change({ branch: known.id, place: view.path.length });
        if (act.kind === "type" && !act.text) return;
        [this.#isNewText, this.#isStep] = [act.kind === "new", act.kind === "step"];
        const start = act.kind === "new" ? -1 : isAtEnd || act.where === "end" ? view.path.length : view.place;
        const given = act.token === undefined ? (act.text ?? "") : tokenText(view, view.shown.candidate(act.token), view.shown.pending);
        const written = writer.write(act, view, form.wishes, (told) => this.#show(told, view));
        this.#redraw();
        const ribbon = this.querySelector("manako-ribbon");
        if (ribbon instanceof RibbonElement) ribbon.startWriting(start, given);
        const id = await written;
        if (id === null) this.#path = null; // draws the text again as it was
        if (writer.fault) this.#pause();
        const place = Math.max(0, start);
        this.#change(id === null ? {} : { branch: id, place: this.#tree.path(id).next(place, 1) ?? place });
    }

    /**
     * A step while the text is being written.
     * @param {any} told by the server
     * @param {View} view
     */
    #show(told, view) {
        const [ribbon, candidates, title] = ["manako-ribbon", "manako-candidates", "[data-place=title]"].map((name) => this.querySelector(name));
        const numbers = liveNumbers(told, view.canAct ? view.trace.specialIds : []); // another model's have other ids
        const { taken } = numbers;
        const before = Number(this.#writer?.first) - (this.#isNewText ? 0 : view.path.chain[0].trace.header.first_step);
        if (title) title.textContent = say(view.lang, "page.writing_step", { number: before + told.index + 1 });
        if (ribbon instanceof RibbonElement) ribbon.write(taken, taken.pModel, taken.rank);
        if (candidates instanceof CandidatesElement) candidates.view = { ...view, canAct: false, forcedId: null, shown: /** @type {any} */ (numbers) };
        this.#tellActs(this.#view);
    }
}

customElements.define("manako-app", AppElement);
