/**
 * <manako-transport>: step, play at a speed and until something happens, and what the model does.
 *
 * Special here: playing goes through what is on record, and asks the model for one more token only where the record
 * ends. It stops at a step, not before it, so that the reader sees why.
 */

/** @import {View} from "./view.js" */
import { make, sound } from "./dom.js";
import { ViewElement } from "./view.js";
import { say } from "../text/messages.js";
import { surprisal } from "../analysis/step-numbers.js";
import { visibleBytes } from "../text/tokens.js";

const SPEEDS = [0.5, 1, 2, 4, 8, 16]; // steps a second
const USUAL_SPEED = 2;
const UNTIL = /** @type {const} */ (["end", "entropy", "surprisal", "rank", "token"]); // where playing stops
const SIGNS = { back: "\u25c0\ufe0e", step: "\u25b6\ufe0e", luck: "\u27f2", undo: "\u21b6", redo: "\u21b7" };

export class TransportElement extends ViewElement {
    /** Whether a model can be asked, and what may be taken back. */
    can = { write: false, undo: false, redo: false };
    #timer = 0;
    #lang = "";
    #speed = make("select");
    #until = make("select", { change: () => this.#ask() });
    #bound = make("input", { min: 0, step: "any", required: true, autocomplete: "off" });

    /** @param {View} view @param {View | null} before */
    draw(view, before) {
        const isNew = before !== null && (before.place !== view.place || before.path !== view.path);
        if (this.#timer && isNew && this.#isReached(view)) this.pause();
        if (this.#lang !== view.lang) this.#build(view);
        const { path, place, busy, guess } = view;
        const atEnd = path.next(place + 1, 1) === null;
        const canAct = view.canAct && guess === null;
        const isOff = {
            back: busy || path.next(place - 1, -1) === null,
            play: guess !== null || (atEnd && !view.canAct && !busy),
            step: guess !== null || busy || (atEnd && !view.canAct),
            go: !canAct,
            luck: !canAct,
            stop: !busy,
            undo: !this.can.undo || busy,
            redo: !this.can.redo || busy,
        };
        for (const button of this.querySelectorAll("button")) {
            const name = /** @type {keyof typeof isOff} */ (button.dataset.act);
            if (!(name in isOff)) continue;
            button.disabled = isOff[name];
            button.hidden = (!this.can.write && !["back", "play", "step"].includes(name)) || (name === "stop") !== (busy && ["stop", "go"].includes(name));
        }
        if (isOff.play) this.pause();
    }

    /** @param {View} view */
    #build({ lang }) {
        this.#lang = lang;
        const acting = (/** @type {string} */ name, /** @type {() => void} */ act, kind = "quiet") => {
            const sign = SIGNS[/** @type {"back"} */ (name)] ?? "";
            const label = make("span", { class: "label" }, say(lang, `page.act_${name}`));
            return make("button", { type: "button", class: kind, click: act, "data-act": name, title: say(lang, `page.act_${name}`) }, make("span", { "aria-hidden": "true" }, sign), label);
        };
        const asked = (/** @type {string} */ name, kind = "quiet") => acting(name, () => this.act({ kind: name }), kind);
        const chosen = (/** @type {HTMLSelectElement} */ select, /** @type {HTMLOptionElement[]} */ options) => {
            const { value } = select; // in another language it stays
            select.replaceChildren(...options);
            if (value) select.value = value;
        };
        chosen(this.#speed, SPEEDS.map((each) => make("option", { value: each, selected: each === USUAL_SPEED }, say(lang, "page.speed_of", { speed: each }))));
        chosen(this.#until, UNTIL.map((each) => make("option", { value: each }, say(lang, `page.until_${each}`))));
        const label = (/** @type {string} */ key, /** @type {Node} */ input) => make("label", {}, say(lang, key), input);
        const how = make(
            "div",
            { id: "how-to-play", popover: "auto", class: "sheet" },
            label("page.speed", this.#speed),
            label("page.until", this.#until),
            label("page.until_bound", this.#bound),
        );
        this.replaceChildren(
            acting("back", () => this.#back()),
            acting("play", () => this.#toggle(), "wide-label"),
            make("button", { type: "button", class: "quiet", popovertarget: "how-to-play", "aria-label": say(lang, "page.how_to_play") }, "\u25be"),
            acting("step", () => this.#step()),
            asked("go", "primary"),
            asked("stop", "primary"),
            asked("luck"),
            asked("undo"),
            asked("redo"),
            how,
        );
        this.#ask();
        this.#say(this.#timer !== 0);
    }

    /** What else it must know to stop. */
    #ask() {
        const { value } = this.#until;
        this.#bound.type = value === "token" ? "text" : "number";
        this.#bound.parentElement?.toggleAttribute("hidden", value === "end");
    }

    #toggle() {
        if (this.#timer) return this.pause();
        if (this.#until.value !== "end" && !sound(this.#bound)) return;
        this.#say(true);
        const tick = () => {
            this.#timer = setTimeout(tick, 1000 / Number(this.#speed.value));
            if (!this.view.busy) this.#step(); // else it is still writing the last one
        };
        tick();
    }

    /** Go no further. */
    pause() {
        clearTimeout(this.#timer);
        this.#timer = 0;
        this.#say(false);
    }

    /** Whether the step is one to stop at. @param {View} view */
    #isReached({ path, place, shown }) {
        const at = path.at(place);
        if (at === null) return false;
        const bound = this.#bound.value;
        const taken = shown.candidate(at.forcedId ?? shown.takenId);
        switch (this.#until.value) {
            case "entropy":
                return shown.entropy !== null && shown.entropy >= Number(bound);
            case "surprisal":
                return surprisal(at) >= Number(bound);
            case "rank":
                return taken.rank >= Number(bound);
            case "token":
                return visibleBytes(taken.bytes).trim() === bound.trim();
            default:
                return false;
        }
    }

    /** @param {boolean} playing */
    #say(playing) {
        const label = this.querySelector("[data-act=play] .label");
        if (label) label.textContent = say(this.view.lang, playing ? "page.act_pause" : "page.act_play");
    }

    #back() {
        const { path, place } = this.view;
        this.change({ place: path.next(place - 1, -1) ?? place });
    }

    #step() {
        const next = this.view.path.next(this.view.place + 1, 1);
        if (next !== null) this.change({ place: next });
        else this.act({ kind: "step" });
    }
}

customElements.define("manako-transport", TransportElement);
