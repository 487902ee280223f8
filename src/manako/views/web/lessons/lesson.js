/**
 * <manako-lesson>: a lesson beside the page that it speaks of. It brings the page into the state of a step, lights up
 * the part, says a sentence with the numbers that are shown, and sees whether the reader has done what was asked.
 *
 * Special here: a sentence is made once, when the step is there, and again when the task is done; what the reader looks
 * at in between changes none of it. A text that the page lacks is written by its model, or else the lesson says so.
 */

/** @import {View} from "../elements/view.js" */
/** @import {Tree} from "../trace/tree.js" */
/** @import {LessonPlace} from "./lesson-data.js" */
import { button, inRow, make, soft } from "../elements/dom.js";
import { ViewElement } from "../elements/view.js";
import { PICTURES, bestHead, lessonFacts } from "./facts.js";
import { LESSONS, LESSON_MODELS, LESSON_PARTS, LESSON_TEMPERATURE, lessonPlace } from "./lesson-data.js";
import { STAGES } from "../trace/sampling.js";
import { say } from "../text/messages.js";
import { visibleText } from "../text/tokens.js";
import { NEEDS_MODEL, TASKS } from "./tasks.js";

const FOCUSABLE = "button:not([disabled]), input:not([disabled]), select, summary, [tabindex='0'], [contenteditable]";

export class LessonElement extends ViewElement {
    /** What the page has for a lesson. @type {{tree: Tree | null, canWrite: boolean, refs: string[]}} `refs` of the models that can write */
    means = { tree: null, canWrite: false, refs: [] };
    /** The step that is shown, in which language, and of which model. */
    #entered = "";
    /** @type {View | null} what was shown as the step began; null until its text is there */
    #start = null;
    #isDone = false;
    #isAsked = false;
    #isSettling = false;
    #said = make("div", { role: "status", class: "pane" });

    connectedCallback() {
        document.addEventListener("keydown", this.#key);
    }

    disconnectedCallback() {
        document.removeEventListener("keydown", this.#key);
    }

    /** @param {View} view @param {View | null} before */
    draw(view, before) {
        const place = lessonPlace(view.lesson);
        this.toggleAttribute("data-open", place !== null);
        const entered = `${view.lesson} ${view.lang} ${this.#ref}`;
        if (entered !== this.#entered || !this.firstChild) {
            [this.#entered, this.#start, this.#isDone, this.#isAsked] = [entered, null, false, false];
            this.ariaBusy = String(place !== null);
            if (place) this.#build(view, place);
            else this.#list(view);
        }
        if (!place) {
            if (before?.isReady !== view.isReady) this.#allow();
        } else if (this.#start === null) this.#settle(view, place);
        else if (!this.#isDone && TASKS[place.step.task ?? ""]?.(view, this.#start)) this.#finish(view, place);
        this.#light(place?.step.part);
    }

    /** The lessons to choose from. @param {View} view */
    #list({ lang }) {
        const entry = (/** @type {string} */ id) => make("li", {}, button(() => this.#go(`${id}.1`), lessonName(lang, id), { "data-lesson": id }));
        const why = soft();
        this.replaceChildren(make("details", {}, make("summary", {}, say(lang, "lesson.title")), soft(say(lang, "lesson.about")), make("ol", {}, ...LESSONS.map(({ id }) => entry(id))), why));
        this.#allow();
    }

    /** Only lessons whose first step can be shown. */
    #allow() {
        const { lang } = this.view;
        const faults = LESSONS.map(({ id, steps }) => {
            const fault = this.#lacks(steps[0].text);
            this.querySelector(`[data-lesson=${id}]`)?.toggleAttribute("disabled", fault !== "");
            return fault;
        });
        const why = this.querySelector("details > .soft:last-child");
        if (why) why.textContent = faults.find(Boolean) ?? "";
        if (!this.means.canWrite && why) why.textContent ||= say(lang, "lesson.lacks_model");
    }

    /**
     * The model whose texts are shown: of those that can write, or else have written, the one that reads the page's
     * language, where there is one.
     */
    get #ref() {
        const { tree, refs } = this.means;
        const there = refs.length ? refs : [...(tree?.branches.values() ?? [])].map(({ trace }) => trace.header.model.ref);
        const known = there.filter((ref) => Object.hasOwn(LESSON_MODELS, ref));
        return known.find((ref) => LESSON_MODELS[ref].language === this.view.lang) ?? known[0] ?? null;
    }

    get #told() {
        return LESSON_MODELS[this.#ref ?? Object.keys(LESSON_MODELS)[0]];
    }

    /** Why a text cannot be shown; empty where it can, now or in a moment. @param {string} [text] */
    #lacks(text) {
        const { canWrite, refs } = this.means;
        if (text === undefined || this.#branch(text)) return "";
        if (!canWrite) return say(this.view.lang, "lesson.lacks_text");
        return !refs.length || this.#ref !== null ? "" : say(this.view.lang, "lesson.other_model", { ref: visibleText(refs[0]) });
    }

    /** The branch that a text of the lessons is. @param {string} name */
    #branch(name) {
        const [{ prompt, seed, count }, ref] = [this.#told.texts[name], this.#ref];
        const isIt = (/** @type {import("../trace/tree.js").Branch} */ { parent, trace: { header, steps } }) =>
            parent === null && header.model.ref === ref && header.prompt === prompt && Number(header.seed) === seed &&
            steps === count && header.first_step === 0 && STAGES.every((name) => header.sampling[name] === (name === "temperature" ? LESSON_TEMPERATURE : null));
        return [...(this.means.tree?.branches.values() ?? [])].find(isIt);
    }

    /** Bring the page into the state of a step, in several moves where its text has to be written first. @param {View} view @param {LessonPlace} place */
    #settle(view, { step }) {
        if (view.busy || this.#isSettling) return;
        const branch = step.text === undefined ? undefined : this.#branch(step.text);
        const fault = this.#lacks(step.text);
        if (fault || (this.#isAsked && !branch)) {
            this.ariaBusy = "false";
            return this.#tell(fault || say(view.lang, "lesson.failed"));
        }
        if (step.text !== undefined && !branch) {
            this.#tell(say(view.lang, view.isReady ? "lesson.preparing" : "lesson.loading"));
            if (!view.isReady) return;
        }
        this.#isSettling = true;
        queueMicrotask(() => { // when everything else shows this view too
            this.#isSettling = false;
            if (step.text !== undefined && !branch) this.#ask(step.text);
            else this.#begin(branch?.id);
        });
    }

    /** Let the model write a text. @param {string} name */
    #ask(name) {
        const { prompt, seed, count } = this.#told.texts[name];
        const { sampling } = this.view.path.leaf.trace.header;
        this.#isAsked = true;
        this.act({ kind: "new", text: prompt, ask: { seed, count, inside: true }, sampling: { ...sampling, ...plainSampling() } });
    }

    /** @param {string} [branch] of the step's text */
    #begin(branch) {
        const place = lessonPlace(this.view.lesson);
        if (!place) return;
        const { step } = place;
        this.#isSettling = true;
        if (branch !== undefined) {
            const guess = step.guess ? { place: 0, shown: false } : null;
            this.change({ branch, place: 0, top: 10, tabs: this.#tabs(step.part), guess, sampling: null, layer: null, head: null });
            const { sampling } = this.view.trace.header;
            if (step.temperature !== undefined) this.change({ sampling: { ...sampling, temperature: step.temperature } });
            if (step.head) this.change(bestHead(this.view));
        }
        const tab = LESSON_PARTS[step.part][1];
        if (tab !== null) this.change({ tab });
        this.#isSettling = false;
        this.#start = this.view;
        this.#show(this.view, place, "");
        this.scrollIntoView({ block: "nearest" });
    }

    /** The tabs that are chosen once the one with a part is. @param {string} part */
    #tabs(part) {
        const [, tab] = LESSON_PARTS[part];
        return tab === null ? this.view.tabs : [tab, ...this.view.tabs.filter((id) => id !== tab)].slice(0, 2);
    }

    /** What was asked for is done. @param {View} view @param {LessonPlace} place */
    #finish(view, place) {
        this.#isDone = true;
        this.#show(view, place, "_done");
        const next = this.querySelector("[data-act=lesson-next]");
        if (next) next.textContent = this.#onward(place);
    }

    /** Say what a step says, or what it says once its task is done. @param {View} view @param {LessonPlace} place @param {"" | "_done"} end */
    #show(view, { lesson, step, number }, end) {
        this.ariaBusy = "false";
        const { lang } = view;
        const facts = view.path.next(0, 1) === null ? {} : lessonFacts(view);
        const about = lesson.by_language ? `_${this.#told.language}` : "";
        const sentence = make("p", {}, say(lang, `lesson.${lesson.id}${about}_${number}${end}`, /** @type {Record<string, string>} */ (facts)));
        if (end) sentence.className = "note";
        const picture = step.picture && (end !== "" || step.task === undefined) && PICTURES[step.picture](view, /** @type {any} */ (facts));
        const lacks = !end && NEEDS_MODEL.has(step.task ?? "") && !this.means.canWrite && soft(say(lang, "lesson.lacks_model"));
        const parts = [sentence, picture, lacks].filter((each) => each instanceof Node);
        if (end) this.#said.append(...parts);
        else this.#said.replaceChildren(...parts);
    }

    /** @param {string} text */
    #tell(text) {
        if (this.#said.textContent !== text) this.#said.replaceChildren(make("p", {}, text));
    }

    /** What stands around the sentences of a step. @param {View} view @param {LessonPlace} place */
    #build({ lang }, { lesson, step, number }) {
        const { id, steps } = lesson;
        const hadFocus = this.contains(document.activeElement);
        const after = LESSONS[LESSONS.indexOf(lesson) + 1];
        const place = make("span", { class: "soft" }, say(lang, "lesson.place", { number, count: steps.length }));
        const close = button(() => this.#go(null), say(lang, "lesson.close"), { "data-act": "lesson-close" });
        const back = button(() => this.#go(`${id}.${number - 1}`), say(lang, "lesson.previous"), { "data-act": "lesson-previous", disabled: number === 1 });
        const onward = number < steps.length ? `${id}.${number + 1}` : after ? `${after.id}.1` : null;
        const isTask = step.task !== undefined;
        const name = isTask ? say(lang, "lesson.skip") : this.#onward({ lesson, step, number });
        const next = button(() => this.#go(onward), name, { class: "primary", "data-act": "lesson-next" });
        const there = button(() => this.#goThere(step.part), say(lang, "lesson.there"), { "data-act": "lesson-there" });
        this.#said.replaceChildren();
        this.replaceChildren(
            make(
                "section",
                { class: "card", "aria-label": say(lang, "lesson.title") },
                make("div", { class: "row spread" }, make("h2", {}, lessonName(lang, id)), place, close),
                this.#said,
                inRow(back, next, isTask && there, isTask && make("span", { class: "soft" }, say(lang, "lesson.keys"))),
            ),
        );
        if (hadFocus) next.focus();
    }

    /** The name of the way on. @param {LessonPlace} place */
    #onward({ lesson, number }) {
        const { lang } = this.view;
        const after = LESSONS[LESSONS.indexOf(lesson) + 1];
        if (number < lesson.steps.length) return say(lang, "lesson.next");
        return after ? say(lang, "lesson.next_lesson", { title: say(lang, `lesson.${after.id}`) }) : say(lang, "lesson.end");
    }

    /** @param {string | null} lesson */
    #go(lesson) {
        this.change({ lesson });
        if (lesson === null) /** @type {HTMLElement | null} */ (this.querySelector("summary"))?.focus();
    }

    /** To where the reader acts. @param {string} part */
    #goThere(part) {
        const found = document.querySelector(LESSON_PARTS[part][0]);
        const inside = found?.matches(FOCUSABLE) ? found : found?.querySelector(FOCUSABLE);
        found?.scrollIntoView({ block: "nearest" });
        if (inside instanceof HTMLElement) inside.focus();
    }

    /** @param {string} [part] */
    #light(part) {
        const wanted = part === undefined ? null : document.querySelector(LESSON_PARTS[part][0]);
        for (const lit of document.querySelectorAll(".lit")) if (lit !== wanted) lit.classList.remove("lit");
        wanted?.classList.add("lit");
    }

    /** Escape leads back from the part to the lesson. @param {KeyboardEvent} event */
    #key = (event) => {
        const isElsewhere = event.key !== "Escape" || event.defaultPrevented || !this.hasAttribute("data-open") || this.view.busy;
        if (isElsewhere || document.querySelector(":popover-open")) return;
        /** @type {HTMLElement | null} */ (this.querySelector("[data-act=lesson-next]"))?.focus();
    };
}

/** A lesson's number and title. @param {View["lang"]} lang @param {string} id */
function lessonName(lang, id) {
    return `${1 + LESSONS.findIndex((lesson) => lesson.id === id)}. ${say(lang, `lesson.${id}`)}`;
}

/** The settings under which the lessons' texts are written. */
function plainSampling() {
    const off = Object.fromEntries(STAGES.map((name) => [name, null]));
    return { ...off, temperature: LESSON_TEMPERATURE };
}

customElements.define("manako-lesson", LessonElement);
