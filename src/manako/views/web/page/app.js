/**
 * <manako-app>: the page. It hands every part the same view, passes on what the reader asks for, and writes the choice
 * into the address, so that a link or a reload shows the same thing.
 */

/** @import {RecordFile} from "../trace/tree-file.js" */
/** @import {Act, Change, View} from "../elements/view.js" */
/** @import {Branch} from "../trace/tree.js" */
/** @import {KnownModel, Source, ToldStep} from "./source.js" */
import { make } from "../elements/dom.js";
import { ViewElement } from "../elements/view.js";
import { frame } from "./frame.js";
import { pageLanguage, say } from "../text/messages.js";
import { ChecksElement } from "../elements/checks.js";
import { RibbonElement } from "../elements/ribbon.js";
import { fromFragment, toFragment } from "./address.js";
import { saveRows } from "./save-card.js";
import { tokenText } from "../elements/token-chip.js";
import { modelName } from "../trace/model-name.js";
import { Tree } from "../trace/tree.js";
import { TreeElement } from "../elements/tree.js";
import { visibleText } from "../text/tokens.js";
import { chainText } from "../text/numbers.js";
import { ActElement } from "../elements/act.js";
import { LessonElement } from "../lessons/lesson.js";
import { CandidatesElement } from "../elements/candidates.js";
import { PlayerElement } from "../elements/player.js";
import { LONG_LIST, SHORT_LIST, Store } from "./store.js";
import { stepSentences } from "./step-sentences.js";
import { Verifier } from "./verifier.js";
import { Writer, liveNumbers } from "./writer.js";

const REMEMBER_AFTER = 300; // ms without a change; browsers stop a page that rewrites its address at every pixel
const LONGEST_TITLE = 40;
const WITHOUT_STEPS = [ActElement, ChecksElement, LessonElement, PlayerElement, RibbonElement, TreeElement]; // what such a text has
const DURING_WRITING = /** @type {const} */ (["branch", "place", "lang", "guess", "tint", "lesson"]); // may not be chosen then

export class AppElement extends HTMLElement {
    /** @type {Store | null} null until there is something to show */
    #store = null;
    /** @type {Writer | null} */
    #writer = null;
    #verifier = new Verifier();
    #timer = 0;
    /** What had the focus when the page was built anew. */
    #focused = "";
    #builtIn = ""; // language
    #isUnchecked = false;
    /** What is being written: a text of its own, a single token. */
    #isNewText = false;
    #isStep = false;
    /** @type {{view: View, index: number, shown: View["shown"]} | null} the step to show at the next frame */
    #newest = null;

    connectedCallback() {
        this.addEventListener("view-change", (event) => this.#wish(/** @type {CustomEvent<Change>} */ (event).detail));
        this.addEventListener("act", (event) => this.#act(/** @type {CustomEvent<Act>} */ (event).detail));
        document.addEventListener("keydown", (event) => this.#key(event));
        globalThis.addEventListener("hashchange", () => this.#restore());
    }

    /**
     * Show a record.
     * @param {RecordFile} record
     * @param {Source | null} [source] that can write more
     */
    open({ branches, current }, source = null) {
        const tree = new Tree(branches);
        this.#writer = source && new Writer(source, tree);
        this.#store = new Store(tree, { lang: pageLanguage(), branch: current });
        this.#restore();
    }

    /** Say that there was no means to check the digests. */
    warnUnchecked() {
        this.#isUnchecked = true;
        this.#verify();
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
        const { tree } = this.#shown;
        const known = tree.branches.size;
        this.#shown.add(all);
        if (tree.branches.size > known) this.#builtIn = ""; // the frame has a list of texts now
        this.#redraw();
    }

    /**
     * What is now known of the model that can write.
     * @param {KnownModel | null} model null where there is none any more
     * @param {string} [fault] why
     */
    setModel(model, fault = say(this.#view.lang, "page.lost_server")) {
        if (this.#writer === null) return;
        this.#writer.model = model;
        this.#writer.fault = model ? "" : fault;
        this.#redraw();
    }

    /** Take over what the address says. */
    #restore() {
        const store = this.#store;
        if (!store || this.#view.busy) return;
        const fragment = location.hash.slice(1); // before anything is shown, which writes it
        const read = () => fromFragment(fragment, store.choice, (store.path.at(store.choice.place) ?? store.path.leaf).trace);
        const { branch, place } = read();
        this.#change({ branch, place });
        this.#change(read()); // the rest of it is about that step
    }

    #redraw() {
        this.#change({});
    }

    /** What the reader wants to see; while the model writes, that is what is shown. @param {Change} change */
    #wish(change) {
        if (!this.#view.busy || !DURING_WRITING.some((name) => name in change)) this.#change(change);
    }

    /** @param {Change} change */
    #change(change) {
        const isOther = this.#shown.change(change);
        const isBuilt = isOther || this.#shown.choice.lang !== this.#builtIn;
        if (isBuilt) this.#build();
        this.#draw();
        if (isBuilt) this.#verify();
        if (isOther) this.#focusAgain();
        this.#remember(isOther);
    }

    get #shown() {
        return /** @type {Store} */ (this.#store);
    }

    /** @returns {View} */
    get #view() {
        const view = this.#shown.view;
        const busy = this.#writer !== null && this.#writer.steps !== null;
        const isReady = Boolean(this.#writer?.model?.ready) && !busy;
        return { ...view, busy, isReady, canAct: isReady && Boolean(this.#writer?.made(view.trace)) };
    }

    #draw() {
        const view = this.#view;
        const hasStep = view.path.next(0, 1) !== null;
        this.#tellActs(view);
        for (const part of this.querySelectorAll("*")) {
            const isShown = hasStep || WITHOUT_STEPS.some((Part) => part instanceof Part);
            if (part instanceof ViewElement && isShown) part.view = view;
        }
        if (hasStep) this.#drawStep(view);
    }

    /** What the parts that act need beside the view. @param {View} view */
    #tellActs({ lang, trace, sampling, busy }) {
        const writer = this.#writer;
        const act = this.querySelector("manako-act");
        if (writer && act instanceof ActElement) {
            const { model, fault, steps } = writer;
            const ref = visibleText(modelName(model?.ref ?? ""));
            const other = trace.header.ablate.length && !writer.source.ablates ? "page.ablated" : "page.other_model";
            const idle = writer.made(trace) ? "page.ready" : other;
            const loading = model?.share === undefined ? "page.loading" : "page.loading_share";
            const key = busy ? "page.writing" : model?.ready ? idle : loading;
            const made = visibleText(modelName(trace.header.model.ref));
            const share = Math.floor(100 * (model?.share ?? 0));
            const values = { ref, share, steps: steps ?? 0, made, chain: chainText(sampling ?? trace.header.sampling) };
            act.say(fault || (model ? say(lang, key, values) : ""), fault !== "", model?.ready ? undefined : model?.share);
        }
        const player = this.querySelector("manako-player");
        const { canUndo: undo, canRedo: redo, tree: texts } = this.#shown;
        if (player instanceof PlayerElement) player.can = { write: writer !== null, undo, redo };
        const tree = this.querySelector("manako-tree");
        if (tree instanceof TreeElement) tree.tree = texts;
        const lesson = this.querySelector("manako-lesson");
        const ref = writer?.model?.ready ? writer.model.ref : null;
        if (lesson instanceof LessonElement) lesson.means = { tree: texts, canWrite: writer !== null, ref };
    }

    /** @param {View} view */
    #drawStep(view) {
        const { lang, path, place, guess } = view;
        const sentences = stepSentences(view, this.#shown.recorded ?? view.shown);
        for (const [name, text] of Object.entries(sentences)) {
            const spot = this.querySelector(`[data-place="${name}"]`);
            if (spot && spot.textContent !== text) spot.textContent = text;
        }
        for (const button of this.querySelectorAll("[data-move]")) {
            const way = Number(/** @type {HTMLElement} */ (button).dataset.move);
            const to = path.next(place + way, way);
            button.toggleAttribute("disabled", to === null || view.busy || (guess !== null && to > guess.place));
        }
        const pressed = { details: view.details, top: view.top === LONG_LIST, guess: guess !== null };
        for (const [name, on] of Object.entries(pressed)) {
            this.querySelector(`[data-toggle=${name}]`)?.setAttribute("aria-pressed", String(on));
        }
        this.querySelector("[data-act=settings]")?.toggleAttribute("disabled", !view.canAct);
        const leave = this.querySelector("[data-toggle=guess]");
        if (leave) leave.textContent = say(lang, guess ? "page.guess_leave" : "page.toggle_guess");
        const isStill = view.busy && !this.#isStep; // a single step is over before one could look elsewhere
        this.toggleAttribute("data-writing", isStill);
        for (const part of this.querySelectorAll(".still, .top, manako-tree")) part.toggleAttribute("inert", isStill);
        this.toggleAttribute("data-guess", guess !== null); // what lies ahead must not be told either
        this.toggleAttribute("data-guessing", guess !== null && place === guess.place && !guess.shown);
    }

    /** Draw the tokens of the text that is shown again, and say what came of it. */
    #verify() {
        const checks = this.querySelector("manako-checks");
        if (!(checks instanceof ChecksElement)) return;
        const traces = this.#shown.path.chain.map(({ trace }) => trace);
        this.#verifier.verify(traces, (found) => checks.tell(found, this.#isUnchecked));
    }

    /** @param {boolean} atOnce */
    #remember(atOnce) {
        clearTimeout(this.#timer);
        if (location.protocol === "about:") return; // a frame in a notebook has no address of its own
        const { choice, view } = this.#shown;
        const write = () => history.replaceState(null, "", `#${toFragment(choice, view.trace.header.sampling)}`);
        if (atOnce) write();
        else this.#timer = setTimeout(write, REMEMBER_AFTER);
    }

    /** The frame, in the language of the moment. */
    #build() {
        const { lang, path } = this.#view;
        this.#builtIn = document.documentElement.lang = lang;
        const { prompt } = path.chain[0].trace.header;
        document.title = `manako: ${visibleText([...prompt].slice(0, LONGEST_TITLE).join(""))}`;
        const parts = frame({
            lang,
            path,
            canWrite: this.#writer !== null,
            hasTree: this.#shown.tree.branches.size > 1,
            change: (change) => this.#wish(change),
            move: (by) => this.#wish({ place: this.#shown.path.next(this.#view.place + by, by) ?? this.#view.place }),
            toggle: (name) => this.#toggle(name),
            act: (kind) => this.#act({ kind }),
            look: () => this.#view,
            save: () => saveRows(() => this.#view, this.#shown.tree, this.#writer?.source ?? null),
        });
        this.#markFocus();
        const kept = ["manako-act", "manako-player", "manako-guess", "manako-lesson"].map((name) => ({ name, old: this.querySelector(name) }));
        this.replaceChildren(...parts); // but with what was typed, playing on, and the score:
        for (const { name, old } of kept) if (old) this.querySelector(name)?.replaceWith(old);
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
        if (document.activeElement !== document.body) return;
        /** @type {HTMLElement | null} */ (this.querySelector("manako-ribbon [role=listbox]"))?.focus();
    }

    /** @param {"details" | "top" | "guess"} name */
    #toggle(name) {
        const { details, top, guess, place, path } = this.#view;
        if (name === "details") this.#change({ details: !details });
        else if (name === "top") this.#change({ top: top === LONG_LIST ? SHORT_LIST : LONG_LIST });
        else this.#wish({ guess: guess ? null : { place: path.drawn(place) ?? place, shown: false }, sampling: null });
    }

    /** @param {KeyboardEvent} event */
    #key(event) {
        if (!this.#writer) return;
        const { target } = event;
        const typed = "input:not([type=radio], [type=range], [type=checkbox]), textarea";
        const isTyping = target instanceof HTMLElement && target.matches(typed);
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
        else if (act.kind !== "undo" && act.kind !== "redo") this.#write(act);
        else if (!this.#view.busy) this.#change(this.#shown[act.kind]() ?? {});
    }

    #stop() {
        this.#pause();
        this.#writer?.stop();
    }

    #pause() {
        const player = this.querySelector("manako-player");
        if (player instanceof PlayerElement) player.pause();
    }

    /** @param {Act} act */
    async #write(act) {
        const [writer, view, form] = [this.#writer, this.#view, this.querySelector("manako-act")];
        if (!writer || !(form instanceof ActElement)) return;
        if (!(act.kind === "new" ? view.isReady : view.canAct) || !form.isSound) return;
        const isAtEnd = act.kind === "go" || act.kind === "step";
        const { tree } = this.#shown;
        const known = act.kind === "step" && !view.sampling ? tree.goesOn(view.path.leaf) : undefined;
        if (known) return this.#change({ branch: known.id, place: view.path.length });
        if (act.kind === "type" && !act.text) return;
        [this.#isNewText, this.#isStep] = [act.kind === "new", act.kind === "step"];
        const start = act.kind === "new" ? -1 : isAtEnd || act.where === "end" ? view.path.length : view.place;
        const { shown } = view;
        const put = act.token === undefined ? null : shown.candidate(act.token);
        const given = put ? tokenText(view, put, shown.pending) : (act.text ?? "");
        const written = writer.write(act, view, { ...form.wishes, ...act.ask }, (told) => this.#show(told, view));
        this.#redraw();
        const ribbon = this.querySelector("manako-ribbon");
        if (ribbon instanceof RibbonElement) ribbon.startWriting(start, given);
        const id = await written;
        if (id === null) this.#shown.forget(); // draws the text again as it was
        if (writer.fault) this.#pause();
        const place = Math.max(0, start);
        this.#change(id === null ? {} : { branch: id, place: tree.path(id).next(place, 1) ?? place });
    }

    /**
     * A step while the text is being written. The text grows at once; the rest shows the newest step as often as the
     * screen is drawn, since an engine writes faster than that.
     * @param {ToldStep} told
     * @param {View} view
     */
    #show(told, view) {
        const numbers = liveNumbers(told, view.canAct ? view.trace.specialIds : []); // another model's have other ids
        const ribbon = this.querySelector("manako-ribbon");
        if (ribbon instanceof RibbonElement) ribbon.write(numbers.taken, numbers.taken.pModel, numbers.taken.rank);
        if (!this.#newest) requestAnimationFrame(() => this.#showNewest());
        this.#newest = { view, index: told.index, shown: /** @type {any} */ (numbers) };
    }

    #showNewest() {
        const newest = this.#newest;
        this.#newest = null;
        if (!newest || this.#writer === null || this.#writer.steps === null) return; // it has ended, and is shown whole
        const { view, index, shown } = newest;
        const parts = ["manako-ribbon", "manako-candidates", "[data-place=title]"];
        const [ribbon, candidates, title] = parts.map((name) => this.querySelector(name));
        const before = this.#writer.first - (this.#isNewText ? 0 : view.path.chain[0].trace.header.first_step);
        if (title) title.textContent = say(view.lang, "page.writing_step", { number: before + index + 1 });
        if (ribbon instanceof RibbonElement) ribbon.follow();
        if (candidates instanceof CandidatesElement) candidates.view = { ...view, canAct: false, forcedId: null, shown };
        this.#tellActs(this.#view);
    }
}

customElements.define("manako-app", AppElement);
