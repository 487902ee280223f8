/**
 * <manako-app>: the page. It hands every part the same view, passes on what the reader asks for, and writes the choice
 * into the address, so that a link or a reload shows the same thing.
 */

/** @import {Lang} from "../text/messages.js" */
/** @import {RecordFile} from "../trace/tree-file.js" */
/** @import {Act, Change, View, ViewElement} from "../elements/view.js" */
/** @import {Branch} from "../trace/tree.js" */
/** @import {Home} from "./share.js" */
/** @import {KnownModel, ToldStep} from "./source.js" */
import { make } from "../elements/dom.js";
import { painted } from "../elements/moments.js";
import { frame } from "./frame.js";
import { pageLanguage, say } from "../text/messages.js";
import { ActElement } from "../elements/act.js";
import { LessonElement } from "../lessons/lesson.js";
import { CandidatesElement } from "../elements/candidates.js";
import { ChecksElement } from "../elements/checks.js";
import { FanElement } from "../elements/fan.js";
import { RibbonElement } from "../elements/ribbon.js";
import { TintsElement } from "../elements/tints.js";
import { TransportElement } from "../elements/transport.js";
import { TreeElement } from "../elements/tree.js";
import { fromFragment, toFragment } from "./address.js";
import { chainText } from "../text/numbers.js";
import { shareSheet } from "./share.js";
import { Store } from "./store.js";
import { shownTabs } from "./tabs.js";
import { stepSentences } from "./step-sentences.js";
import { tokenText } from "../elements/token-chip.js";
import { modelName } from "../trace/model-name.js";
import { Tree } from "../trace/tree.js";
import { visibleText } from "../text/tokens.js";
import { Verifier } from "./verifier.js";
import { Writer, liveNumbers } from "./writer.js";

const REMEMBER_AFTER = 300; // ms without a change; browsers stop a page that rewrites its address at every pixel
const STEP_TIME = 100; // ms within which a single step is there, as a rule: nothing is drawn in between
const LONGEST_TITLE = 40;
const WITHOUT_STEPS = [ActElement, ChecksElement, LessonElement, RibbonElement, TintsElement, TransportElement, TreeElement]; // what such a text has
const DURING_WRITING = /** @type {const} */ (["branch", "place", "lang", "guess", "tint", "tab", "lesson"]); // may not be chosen then
const ROOM = matchMedia("(min-width: 75rem)"); // for two tabs

export class AppElement extends HTMLElement {
    /** @type {Store | null} null until there is something to show */
    #store = null;
    /** @type {Writer | null} */
    #writer = null;
    #verifier = new Verifier();
    /** @type {Home | null} */
    #home = null;
    /** What is to be known of what writes, such as why there is nothing. @type {(lang: Lang) => string} */
    #told = () => "";
    #isKept = true; // all that was written
    #timer = 0;
    /** What had the focus when the model was asked. @type {HTMLElement | null} */
    #focused = null;
    #builtIn = ""; // language
    #isUnchecked = false;
    #isGone = false; // the text that the address names
    /** @type {import("../trace/tree.js").Path | null} the text whose verdict is told or on its way */
    #verified = null;
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
        ROOM.addEventListener("change", () => this.#store && this.#redraw());
    }

    /**
     * Show a record.
     * @param {RecordFile} record
     * @param {Home | null} [home] of a page that can write more
     */
    async open({ branches, current }, home = null) {
        const tree = new Tree(branches);
        const isKept = !tree.branches.has(new URLSearchParams(location.hash.slice(1)).get("branch") ?? current);
        if (isKept) await home?.kept.restore(tree);
        this.#writer = home && new Writer(tree);
        this.#home = home;
        this.#store = new Store(tree, { lang: pageLanguage(), branch: current });
        this.#restore();
        if (isKept || !home) return;
        await painted(); // there may be much to read
        if (await home.kept.restore(tree)) this.#redraw();
    }

    /** Say that there was no means to check the digests. */
    warnUnchecked() {
        this.#isUnchecked = true;
        this.#verified = null;
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
        this.#shown.add(all);
        this.#redraw();
    }

    /**
     * What is now known of the models that can write.
     * @param {readonly KnownModel[]} models the first choice first
     * @param {(lang: Lang) => string} [told] what else there is to know, such as why there is none
     */
    setModels(models, told = () => "") {
        if (this.#writer === null) return;
        this.#writer.models = models;
        this.#writer.fault = "";
        this.#told = told;
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
        this.#isGone = !store.tree.branches.has(branch);
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
        this.#isGone &&= !isOther;
        if (this.#shown.choice.lang !== this.#builtIn) this.#build();
        this.#draw();
        if (isOther) this.#title();
        this.#verify();
        this.#remember(isOther);
    }

    /**
     * The part of the page that is of a class.
     * @template {HTMLElement} T
     * @param {new () => T} Part
     * @returns {T | null}
     */
    #part(Part) {
        return this.querySelector(String(customElements.getName(Part)));
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
        this.toggleAttribute("data-empty", !hasStep);
        document.documentElement.toggleAttribute("data-projector", view.projector);
        this.#drawTabs(view);
        this.#tellActs(view);
        for (const part of this.querySelectorAll("*")) {
            const isShown = hasStep || WITHOUT_STEPS.some((Part) => part instanceof Part);
            if ("draw" in part && isShown && !part.closest(".card[hidden]")) /** @type {ViewElement} */ (part).view = view;
        }
        if (hasStep) this.#drawStep(view);
        else this.#put("title", say(view.lang, "view.nothing"));
    }

    /** @param {View} view */
    #drawTabs({ tabs, path, projector }) {
        const there = shownTabs(tabs, path, Infinity);
        const shown = shownTabs(tabs, path, ROOM.matches && !projector ? 2 : 1);
        for (const tab of this.querySelectorAll("[role=tab]")) {
            const id = String(/** @type {HTMLElement} */ (tab).dataset.tab);
            tab.toggleAttribute("hidden", !there.includes(id));
            tab.setAttribute("aria-selected", String(shown.includes(id)));
            tab.setAttribute("tabindex", id === shown[0] ? "0" : "-1");
            this.querySelector(`#panel-${id}`)?.toggleAttribute("hidden", !shown.includes(id));
        }
    }

    /** What the model is doing, and what the parts that act need beside the view. @param {View} view */
    #tellActs({ lang, trace, sampling, busy }) {
        const { canUndo: undo, canRedo: redo, tree } = this.#shown;
        const writer = this.#writer;
        const canWrite = !!writer;
        const [player, list] = [this.#part(TransportElement), this.#part(TreeElement)];
        if (player) player.can = { write: canWrite, undo, redo };
        if (list) list.tree = tree;
        const lesson = this.#part(LessonElement);
        if (lesson) lesson.means = { tree, canWrite, refs: writer?.models.map(({ ref }) => ref) ?? [] };
        const gone = this.#isGone ? say(lang, "page.branch_gone") : "";
        if (!canWrite) return this.#put("state", gone, "warn");
        const { model, models, steps } = writer;
        const fault = writer.fault || gone;
        const other = trace.header.ablate.length && !models.some(({ source }) => source?.ablates) ? "page.ablated" : "page.other_model";
        const loading = model?.share === undefined ? "page.loading" : "page.loading_share";
        const key = busy ? "page.writing" : !model?.ready ? loading : writer.made(trace) ? "" : other;
        const values = { ref: visibleText(modelName(model?.ref ?? "")), share: Math.floor(100 * (model?.share ?? 0)), steps: steps ?? 0, made: visibleText(modelName(trace.header.model.ref)) };
        const note = model && key ? say(lang, key, values) : this.#told(lang) || (this.#isKept ? "" : say(lang, "page.not_kept"));
        this.#put("state", fault || note, fault || !model ? "warn" : "soft");
        this.#put("ready", model?.ready ? say(lang, "page.ready", { ...values, chain: chainText(sampling ?? trace.header.sampling) }) : "");
        const bar = this.querySelector("progress");
        if (!bar) return;
        bar.hidden = model?.ready !== false || model.share === undefined;
        bar.value = model?.share ?? 0;
        bar.setAttribute("aria-label", say(lang, loading, values));
    }

    /**
     * Say something where it has its place; nothing is said twice, or those who hear the page would hear it twice.
     * @param {string} place
     * @param {string} text
     * @param {string} [kind]
     */
    #put(place, text, kind) {
        const spot = this.querySelector(`[data-place="${place}"]`);
        if (!spot) return;
        if (spot.textContent !== text) spot.textContent = text;
        if (kind) spot.className = kind;
    }

    /** @param {View} view */
    #drawStep(view) {
        const { lang, place, guess } = view;
        for (const [name, text] of Object.entries(stepSentences(view, this.#shown.recorded ?? view.shown))) this.#put(name, text);
        for (const name of /** @type {const} */ (["guess", "projector"])) {
            this.querySelector(`[data-toggle=${name}]`)?.setAttribute("aria-pressed", String(Boolean(view[name])));
        }
        const leave = this.querySelector("[data-toggle=guess]");
        if (leave) leave.textContent = say(lang, guess ? "page.guess_leave" : "page.toggle_guess");
        const isStill = view.busy && !this.#isStep; // a single step is over before one could look elsewhere
        this.toggleAttribute("data-writing", isStill);
        for (const part of this.querySelectorAll(".still, .top, .panels, .tabs")) part.toggleAttribute("inert", isStill);
        this.toggleAttribute("data-guess", guess !== null); // what lies ahead must not be told either
        this.toggleAttribute("data-guessing", guess !== null && place === guess.place && !guess.shown);
    }

    /** Draw the tokens of the text that is shown again, and say what came of it. */
    #verify() {
        const checks = this.#part(ChecksElement);
        const { path } = this.#shown;
        if (!checks || this.#verified === path) return;
        this.#verified = path;
        const traces = path.chain.map(({ trace }) => trace);
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

    #title() {
        const { prompt } = this.#view.path.chain[0].trace.header;
        document.title = `manako: ${visibleText([...prompt].slice(0, LONGEST_TITLE).join(""))}`;
    }

    /** The frame, in the language of the moment. */
    #build() {
        const { lang } = this.#view;
        this.#builtIn = document.documentElement.lang = lang;
        this.#verified = null;
        const parts = frame({
            lang,
            canWrite: this.#writer !== null,
            change: (change) => this.#wish(change),
            open: (tab) => this.#wish({ tab }),
            toggle: (name) => this.#toggle(name),
            look: () => this.#view,
            share: () => shareSheet(() => this.#view, this.#shown.tree, this.#home),
        });
        const kept = ["act", "transport", "guess", "ribbon", "fan", "why"].map((name) => ({ name, old: this.querySelector(`manako-${name}`) }));
        this.replaceChildren(...parts); // but with what was typed, playing on, the score, and who is compared:
        for (const { name, old } of kept) if (old) this.querySelector(`manako-${name}`)?.replaceWith(old);
    }

    /** Who works by keyboard stays where he was, though a button was switched off meanwhile or made anew: or else at the text. */
    #focusAgain() {
        for (const wanted of [this.#focused, this.querySelector("manako-ribbon [role=listbox]")]) {
            if (document.activeElement === document.body && wanted instanceof HTMLElement) wanted.focus();
        }
    }

    /** @param {"guess" | "projector"} name */
    #toggle(name) {
        const { projector, guess, place } = this.#view;
        if (name === "projector") this.#change({ projector: !projector });
        else this.#wish({ guess: guess ? null : { place, shown: false }, sampling: null });
    }

    /** @param {KeyboardEvent} event */
    #key(event) {
        if (!this.#writer) return;
        const { target } = event;
        const typed = "input:not([type=radio], [type=range], [type=checkbox]), [contenteditable]";
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
        this.#focused = document.activeElement instanceof HTMLElement ? document.activeElement : null;
        if (act.kind === "stop") this.#stop();
        else if (act.kind !== "undo" && act.kind !== "redo") this.#write(act);
        else if (!this.#view.busy) this.#change(this.#shown[act.kind]() ?? {});
    }

    #stop() {
        this.#pause();
        this.#writer?.stop();
    }

    #pause() {
        this.#part(TransportElement)?.pause();
    }

    /** @param {Act} act */
    async #write(act) {
        const [writer, view, form] = [this.#writer, this.#view, this.#part(ActElement)];
        if (!writer || !form) return;
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
        const ribbon = this.#part(RibbonElement);
        const begin = () => {
            this.#redraw();
            ribbon?.startWriting(start, given);
        };
        const begins = this.#isStep ? setTimeout(begin, STEP_TIME) : void begin();
        const id = await written;
        clearTimeout(begins);
        const made = tree.branches.get(id ?? "");
        const kept = made && this.#isKept ? this.#home?.kept.put(made) : null; // shown meanwhile: a disk takes its time
        if (!made) ribbon?.stopWriting();
        if (writer.fault) this.#pause();
        const place = Math.max(0, start);
        const change = made ? { branch: made.id, place: tree.path(made.id).next(place, 1) ?? place } : {};
        if (made && ribbon && this.#isStep) {
            this.#shown.change(change);
            ribbon.view = this.#view; // the token first, and what there is to say of it behind the frame that shows it
            await painted();
            this.#redraw();
        } else this.#change(change);
        this.#focusAgain();
        if ((await kept) !== false) return;
        this.#isKept = false;
        this.#redraw();
    }

    /**
     * A step while the text is being written. The text grows at once; the rest shows the newest step as often as the
     * screen is drawn, since an engine writes faster than that.
     * @param {ToldStep} told
     * @param {View} view
     */
    #show(told, view) {
        if (this.#isStep) return; // it is shown whole
        const numbers = liveNumbers(told, view.canAct ? view.trace.specialIds : []); // another model's have other ids
        const { taken } = numbers;
        this.#part(RibbonElement)?.write(taken, taken.pModel, taken.rank);
        if (!this.#newest) requestAnimationFrame(() => this.#showNewest());
        this.#newest = { view, index: told.index, shown: /** @type {any} */ (numbers) };
    }

    #showNewest() {
        const newest = this.#newest;
        this.#newest = null;
        if (!newest || this.#writer === null || this.#writer.steps === null) return; // it has ended, and is shown whole
        const { view, index, shown } = newest;
        const before = this.#writer.first - (this.#isNewText ? 0 : view.path.chain[0].trace.header.first_step);
        this.#put("title", say(view.lang, "page.writing_step", { number: before + index + 1 }));
        for (const name of ["chosen", "forced", "part", "other", "window"]) this.#put(name, ""); // they were of another step
        for (const part of this.querySelectorAll("manako-ribbon, manako-fan, .card:not([hidden]) manako-candidates")) {
            if (part instanceof RibbonElement) part.follow();
            if (part instanceof FanElement || part instanceof CandidatesElement) part.view = { ...view, canAct: false, forcedId: null, shown };
        }
        this.#tellActs(this.#view);
    }
}

customElements.define("manako-app", AppElement);
