/**
 * <manako-player>: step, play at a speed, and what the model does at the end of the text.
 *
 * Special here: playing goes through what is on record, and asks the model for one more token only where the record ends.
 */

/** @import {View} from "./view.js" */
import { button, make } from "./dom.js";
import { ViewElement } from "./view.js";
import { say } from "../text/messages.js";

const SPEEDS = [0.5, 1, 2, 4, 8]; // steps a second
const USUAL_SPEED = 2;

export class PlayerElement extends ViewElement {
    /** Whether a model can be asked, and what may be taken back. */
    can = { write: false, undo: false, redo: false };
    #timer = 0;
    #speed = USUAL_SPEED;
    #lang = "";
    #typed = make("input", { type: "text", required: true });

    /** @param {View} view */
    draw(view) {
        if (this.#lang !== view.lang || this.childElementCount === 0) this.#build(view);
        const atEnd = view.path.next(view.place + 1, 1) === null;
        const canAct = view.canAct && view.guess === null;
        const isOff = {
            play: view.guess !== null || (atEnd && !view.canAct && !view.busy),
            step: view.guess !== null || view.busy || (atEnd && !view.canAct),
            stop: !view.busy,
            undo: !this.can.undo || view.busy,
            redo: !this.can.redo || view.busy,
            ...Object.fromEntries(["go", "luck", "here", "end"].map((name) => [name, !canAct])),
        };
        /** @type {HTMLElement} */ (this.querySelector("form")).hidden = !this.can.write;
        for (const [name, off] of Object.entries(isOff)) {
            const button = /** @type {HTMLButtonElement | null} */ (this.querySelector(`[data-act=${name}]`));
            if (button) [button.disabled, button.hidden] = [off, !this.can.write && !["play", "step"].includes(name)];
        }
        if (isOff.play) this.pause();
    }

    /** @param {View} view */
    #build({ lang, textLang }) {
        this.#lang = lang;
        const acting = (/** @type {string} */ name, /** @type {() => void} */ act) =>
            button(act, say(lang, `page.act_${name}`), { "data-act": name });
        const speeds = SPEEDS.map((each) => make("option", { value: each, selected: each === this.#speed }, say(lang, "page.speed_of", { speed: each })));
        const speed = make("select", { change: (event) => (this.#speed = Number(/** @type {HTMLSelectElement} */ (event.target).value)) }, ...speeds);
        this.#typed.lang = textLang ?? "";
        const putter = (/** @type {string} */ where) => make("button", { "data-act": where }, say(lang, `page.type_${where}`));
        const type = (/** @type {Event} */ event) => {
            event.preventDefault();
            const { submitter } = /** @type {SubmitEvent} */ (event);
            const where = submitter instanceof HTMLElement && submitter.dataset.act === "end" ? "end" : "here";
            this.act({ kind: "type", where, text: this.#typed.value });
        };
        const asked = ["go", "luck", "stop", "undo", "redo"].map((name) => acting(name, () => this.act({ kind: name })));
        this.replaceChildren(
            make("div", { class: "row" }, acting("step", () => this.#step()), acting("play", () => this.#toggle()), make("label", { class: "inline" }, say(lang, "page.speed"), speed)),
            make("div", { class: "row" }, ...asked),
            make("form", { class: "pane", submit: type }, make("label", {}, say(lang, "page.typed"), this.#typed), make("div", { class: "row" }, putter("here"), putter("end"))),
        );
    }

    #toggle() {
        if (this.#timer) return this.pause();
        this.#say(true);
        const tick = () => {
            this.#timer = setTimeout(tick, 1000 / this.#speed);
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

    /** @param {boolean} playing */
    #say(playing) {
        const button = this.querySelector("[data-act=play]");
        if (button) button.textContent = say(this.view.lang, playing ? "page.act_pause" : "page.act_play");
    }

    #step() {
        const next = this.view.path.next(this.view.place + 1, 1);
        if (next !== null) this.change({ place: next });
        else this.act({ kind: "step" });
    }
}

customElements.define("manako-player", PlayerElement);
