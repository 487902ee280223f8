/** The card that lays results side by side: one row each, those of the same text together, the best first. */

/** @import {Result} from "./result.js" */
import { button, columnHead, inRow, make, number, rowHead, scroller, soft, table } from "../elements/dom.js";
import { pageLanguage, say } from "../text/messages.js";
import { count, fixed } from "../text/numbers.js";
import { prose } from "../text/tokens.js";
import { TraceError } from "../trace/safetensors.js";
import { clock } from "./clock.js";
import { readResult } from "./result.js";

/** @param {string} key @param {Record<string, string | number>} [values] */
function words(key, values = {}) {
    return say(pageLanguage(), key, values);
}

export class Results {
    /** @type {Map<string, Result>} by the name of its file */
    #results = new Map();
    /** @type {{key: string, values: Record<string, string>}[]} */
    #faults = [];
    #shown = make("div", { class: "pane" });

    /** In the page's language. */
    card() {
        const files = make("input", { type: "file", multiple: true, hidden: true, change: () => this.#open([...(files.files ?? [])]) });
        this.#shown = make("div", { class: "pane" });
        this.#fill();
        return make("section", { class: "card" },
            make("h2", {}, words("results.title")), soft(words("results.is")),
            inRow(button(() => files.click(), words("results.open")), files, button(() => this.#clear(), words("results.clear"))), this.#shown);
    }

    /** @param {File[]} files */
    async #open(files) {
        this.#faults = [];
        for (const file of files) {
            try {
                this.#results.set(file.name, readResult(await file.text()));
            } catch (error) {
                if (!(error instanceof TraceError)) {
                    this.#faults.push({ key: "training.fault_file_unreadable", values: { file: file.name, error: String(error) } });
                    continue;
                }
                const { found = "", known = "", part = error.key } = /** @type {Record<string, string>} */ (error.values);
                this.#faults.push({ key: error.key === "trace_newer" ? "results.newer" : "results.bad", values: { file: file.name, found, known, part } });
            }
        }
        this.#fill();
    }

    #clear() {
        this.#results.clear();
        this.#faults = [];
        this.#fill();
    }

    #fill() {
        const faults = this.#faults.map(({ key, values }) => make("p", { class: "warn", role: "alert" }, words(key, values)));
        const results = [...this.#results.values()];
        const tables = results.length ? [scroller(words("results.title"), resultsTable(results)), soft(words("results.same"))] : [];
        this.#shown.replaceChildren(...faults, ...tables);
    }
}

/** @param {Result[]} results */
function resultsTable(results) {
    const texts = [...new Set(results.map(({ text }) => text.sha256))];
    const letter = (/** @type {Result} */ { text }) => texts.indexOf(text.sha256);
    const bits = (/** @type {Result} */ { evaluation }) => evaluation?.bits ?? Infinity;
    const sorted = results.toSorted((a, b) => letter(a) - letter(b) || bits(a) - bits(b) || 0);
    const heads = ["name", "text", "size", "training", "bits", "bigram", "sample"].map((name) => columnHead(words(`results.${name}`), name === "bits" || name === "bigram" ? "number" : null));
    const rows = sorted.map((result) => {
        const { name, text, settings, step, seconds, evaluation, guesses, prompt, sample } = result;
        const { n_layer, n_embd, block_size, seed } = settings;
        return make("tr", {},
            rowHead(null, prose(name)),
            make("td", {}, words("results.text_is", { letter: letterOf(letter(result)), start: prose(text.start), characters: count(text.characters) })),
            make("td", {}, words("results.size_is", { n_layer, n_embd, block_size, parameters: count(result.parameters) })),
            make("td", {}, words("results.training_is", { step: count(step), steps: count(settings.steps), time: clock(seconds), seed })),
            number(evaluation ? fixed(evaluation.bits, 2) : "?"), number(fixed(guesses.bigram, 2)),
            make("td", { class: "results-sample" }, prose(prompt), make("mark", {}, prose(sample))));
    });
    return table(heads, rows, null, "results");
}

/** A, B, ... Z, A1, B1, ... @param {number} place */
function letterOf(place) {
    return String.fromCharCode(65 + (place % 26)) + (place >= 26 ? Math.floor(place / 26) : "");
}
