/**
 * The card that shows what one step of learning changes: a sentence of one's own, or the next batch, is read once, and
 * nothing has happened until the reader keeps it.
 */

/** @import {Fault} from "../engine/worker.js" */
/** @import {Asked, Progress, Tried} from "./worker.js" */
/** @import {PartMoved} from "./one-step.js" */
import { button, choices, columnHead, inRow, make, number, rowHead, scroller, soft, table } from "../elements/dom.js";
import { pageLanguage, say } from "../text/messages.js";
import { count, fixed, percent, small } from "../text/numbers.js";
import { prose } from "../text/tokens.js";
import { MODEL_NAME, nameOf } from "./cards.js";

const SHARES = /** @type {const} */ ({ own: 1, tenth: 0.1, hundredth: 0.01 }); // of the training's own rate
const FAULTS = ["step_long", "step_short", "step_over", "prompt_surrogate"];

/** @param {string} key @param {Record<string, string | number>} [values] */
function words(key, values = {}) {
    return say(pageLanguage(), key, values);
}

export class Glass {
    /** @param {(asked: Asked) => void} ask */
    constructor(ask) {
        this.#ask = ask;
    }

    #ask;
    /** @type {"sentence" | "batch"} */
    #source = "sentence";
    /** @type {keyof typeof SHARES} */
    #share = "own";
    #sentence = "";
    #text = "";
    /** @type {Tried | null} */
    #found = null;
    #isTaken = false;
    #card = make("section", { class: "card glass" });
    #result = make("div", { class: "pane" });
    #said = make("p", { role: "status" });
    /** @type {[key: string, values?: Record<string, string | number>]} what stands there */
    #told = [""];
    /** @type {HTMLButtonElement | null} */
    #keep = null;

    /** Another training. @param {string} sentence to begin with */
    begin(sentence) {
        [this.#sentence, this.#text, this.#found, this.#isTaken, this.#told] = [sentence, "", null, false, [""]];
    }

    /** In the page's language. */
    card() {
        this.#card = make("section", { class: "card glass" });
        this.#result = make("div", { class: "pane" });
        this.#draw();
        this.#fill();
        this.#say(...this.#told);
        return this.#card;
    }

    /** @param {Tried} found */
    show(found) {
        [this.#found, this.#isTaken] = [found, false];
        this.#say("");
        this.#fill();
    }

    /** The step that was shown has been taken. */
    taken() {
        this.#isTaken = true;
        this.#fill();
        this.#say("glass.kept");
    }

    /** How the training stands: a step can be kept only where it was looked at. @param {Progress} progress */
    follow({ step, isRunning }) {
        if (this.#keep) this.#keep.disabled = isRunning || step !== this.#found?.step;
    }

    /** Whether a fault of what was asked for here has been said here. @param {Fault} fault */
    fails({ key, values }) {
        const isKnown = FAULTS.includes(key);
        this.#say(isKnown ? `training.fault_${key}` : "", values);
        return isKnown;
    }

    /** @param {string} key @param {Record<string, string | number>} [values] */
    #say(key, values) {
        this.#told = [key, values];
        this.#said.textContent = key && words(key, values);
    }

    #draw() {
        const field = (/** @type {string} */ label, /** @type {string} */ value, /** @type {(value: string) => void} */ change) => {
            const input = make("input", { type: "text", value, input: () => change(input.value) });
            return make("label", {}, words(label), input);
        };
        const again = (/** @type {() => void} */ change) => {
            change();
            this.#draw();
        };
        const sources = /** @type {const} */ (["sentence", "batch"]).map((each) => /** @type {const} */ ([each, words(`glass.${each}`)]));
        const shares = /** @type {(keyof typeof SHARES)[]} */ (Object.keys(SHARES)).map((each) => /** @type {const} */ ([each, words(`glass.${each}`)]));
        const isSentence = this.#source === "sentence";
        const controls = [
            inRow(make("span", {}, words("glass.reads")), choices(words("glass.reads"), sources, this.#source, (each) => again(() => (this.#source = each)))),
            isSentence && field("glass.read", this.#sentence, (value) => (this.#sentence = value)),
            field(isSentence ? "glass.text" : "glass.text_of_batch", this.#text, (value) => (this.#text = value)),
            isSentence && inRow(make("span", {}, words("glass.rate")), choices(words("glass.rate"), shares, this.#share, (each) => again(() => (this.#share = each)))),
            inRow(button(() => this.#try(), words("glass.try"), { class: "primary" })),
        ];
        this.#card.replaceChildren(make("h2", {}, words("glass.title")), soft(words("glass.is")), ...controls.filter((each) => each !== false), this.#said, this.#result);
    }

    #try() {
        this.#say("glass.computing");
        const isSentence = this.#source === "sentence";
        this.#ask({ kind: "try", read: isSentence ? this.#sentence : null, text: this.#text, share: isSentence ? SHARES[this.#share] : 1 });
    }

    #fill() {
        this.#keep = null;
        if (!this.#found) return this.#result.replaceChildren();
        const { step, read, readTokens, loss, gradientNorm, rate, muonRate, rateFrom, tokens, parts } = this.#found;
        const sum = (/** @type {number[]} */ values) => values.reduce((a, b) => a + b, 0);
        const [before, after] = [sum(tokens.map((each) => each.before)), sum(tokens.map((each) => each.after))];
        const [changed, predicted] = [sum(tokens.map((each) => each.after - each.before)), sum(parts.map((each) => each.predicted))];
        const size = { tokens: count(readTokens), loss: fixed(loss, 3), norm: small(gradientNorm) };
        const compared = { before: fixed(before, 2), after: fixed(after, 2), predicted: change(predicted), change: change(changed), error: percent(Math.abs((predicted - changed) / changed)) };
        const back = () => {
            this.#found = null;
            this.#fill();
            this.#say("glass.back_is");
        };
        this.#keep = button(() => this.#ask({ kind: "take" }), words("glass.keep"));
        this.#result.replaceChildren(
            make("h3", {}, words("training_step.title", { run: MODEL_NAME, step: count(step) })),
            ...(read === null ? [soft(words("training_step.read_batch", size))] : [make("p", {}, words("training_step.read_text", { text: prose(read) })), soft(words("training_step.read_size", size))]),
            soft(words(`training_step.rate_${rateFrom}`, { rates: `AdamW ${small(rate)}${muonRate ? `, Muon ${small(muonRate)}` : ""}` })),
            make("h4", {}, words("training_step.tokens")), changedTokens(this.#found), soft(words("glass.tint")),
            make("p", { class: "strong" }, words(changed ? "training_step.compared" : "training_step.unchanged", compared)),
            ...(this.#isTaken ? [] : [inRow(this.#keep, button(back, words("glass.back")))]),
            make("h4", {}, words("training_step.parts")), scroller(words("training_step.parts"), partsTable(parts, predicted)),
            soft(words("training_step.meaning")), soft(words("training_step.momentum")),
            make("details", {}, make("summary", {}, words("learning.as_table")), scroller(words("training_step.tokens"), tokensTable(this.#found))));
    }
}

/** @param {Tried} found */
function changedTokens({ tokens }) {
    const most = Math.max(...tokens.map(({ before, after }) => Math.abs(after - before))) || 1;
    return make("ul", { class: "glass-tokens" }, ...tokens.map(({ id, bytes, before, after }) => {
        const way = after < before ? "var(--raise)" : "var(--lower)";
        return make("li", { "--way": way, "--p": Math.abs(after - before) / most }, make("span", {}, nameOf(id, bytes)), make("span", { class: "number" }, change(after - before)));
    }));
}

/** @param {Tried} found */
function tokensTable({ tokens }) {
    const rows = tokens.map(({ id, bytes, before, after }) =>
        make("tr", {}, rowHead(null, nameOf(id, bytes)), number(fixed(before, 2)), number(fixed(after, 2)), number(change(after - before))));
    return table(["token", "before", "after", "change"].map(head), rows);
}

/** @param {PartMoved[]} parts @param {number} predicted by all of them */
function partsTable(parts, predicted) {
    const rows = parts.map(({ kind, layer, norm, distance, predicted: bits }) =>
        make("tr", {}, rowHead(null, words(`training_step.${kind}`, { layer: layer ?? 0 })), number(small(distance)), number(percent(norm ? distance / norm : 0)), number(change(bits))));
    const all = make("tr", {}, rowHead(null, words("training_step.sum")), number(), number(), number(change(predicted)));
    return table(["part", "distance", "relative", "predicted"].map(head), [...rows, all]);
}

/** Of the first column, or of one of numbers. @param {string} name @param {number} place */
function head(name, place) {
    return columnHead(words(`training_step.${name}`), place ? "number" : null);
}

/** Bits with their sign and two significant digits. @param {number} bits */
function change(bits) {
    return `${bits > 0 ? "+" : bits < 0 ? "-" : ""}${small(Math.abs(bits))}`;
}
