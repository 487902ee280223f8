/**
 * The card that proposes a training: what this machine reads in a second, minutes and size to choose, the prompt and the
 * seed, and the button that begins.
 *
 * Special here: each size is measured on the text itself, once it is asked for; nothing begins before.
 */

/** @import {Asked, TextFacts} from "./worker.js" */
/** @import {Size} from "./proposal.js" */
import { button, choices, inRow, make, soft, sound } from "../elements/dom.js";
import { pageLanguage, say } from "../text/messages.js";
import { count, fixed } from "../text/numbers.js";
import { LEARNS_BY_HEART, MINUTES, SIZES, readings, settingsFor, sizeFor } from "./proposal.js";

const LARGEST_SEED = 2 ** 32 - 1;

export class Plan {
    /** @param {(asked: Asked) => void} ask the thread */
    constructor(ask) {
        this.#ask = ask;
    }

    #ask;
    /** What the model is to continue, in a training too. */
    prompt = "";
    /** @type {TextFacts | null} */
    #facts = null;
    /** @type {Map<Size, number>} of those that were measured on this text, tokens a second */
    #speeds = new Map();
    /** @type {Size | null} that is being measured */
    #measured = null;
    #minutes = MINUTES[1];
    /** @type {Size | null} where the reader chose one */
    #chosen = null;
    #seed = make("input", { type: "number", name: "seed", min: 0, max: LARGEST_SEED, step: 1, value: 0, required: true });
    /** Whether the text is being changed. */
    #isHeld = false;
    #body = make("div");
    #begin = button(() => {}, "");

    /** Another text; what is being measured now is measured on it. @param {TextFacts} facts */
    give(facts) {
        this.#facts = facts;
        this.#speeds.clear();
    }

    /** What was measured. @param {number | null} speed tokens a second; null where it failed */
    hear(speed) {
        if (this.#measured && speed) this.#speeds.set(this.#measured, speed);
        this.#measured = null;
        if (speed) this.#fill();
    }

    /** Nothing begins until a text that is being typed has been read. @param {boolean} isHeld */
    hold(isHeld) {
        this.#isHeld = isHeld;
        this.#begin.disabled = isHeld || !this.#speeds.has(this.#size);
    }

    /** In the page's language. @param {() => void} begun what else happens as it begins */
    card(begun) {
        const prompt = make("input", { type: "text", name: "prompt", input: () => (this.prompt = prompt.value) });
        prompt.value = this.prompt;
        this.#body = make("div", { class: "pane", "aria-live": "polite" });
        this.#begin = button(() => this.#start(begun), words("start"), { class: "primary", disabled: true });
        this.#fill();
        return make("section", { class: "card" }, make("h2", {}, words("plan")), this.#body,
            make("label", {}, words("prompt"), prompt), soft(words("prompt_is")),
            make("label", { class: "training-seed" }, words("seed"), this.#seed), soft(words("seed_is")),
            inRow(this.#begin));
    }

    get #size() {
        return this.#chosen ?? sizeFor(this.#minutes);
    }

    #fill() {
        if (!this.#facts) return;
        const size = this.#size;
        const speed = this.#speeds.get(size);
        this.hold(this.#isHeld);
        if (speed === undefined) {
            if (!this.#measured) this.#ask({ kind: "measure", settings: settingsFor(size, 0, 0, 0) });
            this.#measured ??= size;
            return this.#body.replaceChildren(make("p", {}, words("measuring")));
        }
        const plan = settingsFor(size, speed, this.#minutes, 0);
        const sizes = /** @type {[Size, string][]} */ (Object.keys(SIZES).map((each) => [each, words(each)]));
        const times = readings(plan, this.#facts);
        const told = { n_layer: plan.n_layer, n_head: plan.n_head, n_embd: plan.n_embd, block_size: plan.block_size, steps: count(plan.steps), tokens: count(plan.batch_size * plan.block_size), epochs: fixed(times, 1) };
        const chosen = (/** @type {() => void} */ change) => {
            change();
            this.#fill();
        };
        this.#body.replaceChildren(
            make("p", {}, words("speed", { speed: count(Number(speed.toPrecision(2))) })),
            inRow(make("span", {}, words("minutes")), choices(words("minutes"), MINUTES.map((each) => [`m${each}`, String(each)]), `m${this.#minutes}`, (each) => chosen(() => (this.#minutes = Number(each.slice(1)))))),
            inRow(make("span", {}, words("size")), choices(words("size"), sizes, size, (each) => chosen(() => (this.#chosen = each)))),
            make("p", {}, words("plan_is", told)),
            ...(times > LEARNS_BY_HEART ? [make("p", { class: "note" }, words("by_heart"))] : []));
    }

    /** @param {() => void} begun */
    #start(begun) {
        const speed = this.#speeds.get(this.#size);
        if (speed === undefined || !sound(this.#seed)) return;
        this.#begin.disabled = true;
        begun();
        this.#ask({ kind: "start", settings: settingsFor(this.#size, speed, this.#minutes, Number(this.#seed.value)), prompt: this.prompt });
    }
}

/** @param {string} key @param {Record<string, string | number>} [values] */
function words(key, values = {}) {
    return say(pageLanguage(), `training.${key}`, values);
}
