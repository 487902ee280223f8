/** What is shown of a text and of a training, each part out of what is known of it alone; and what a reader keeps. */

/** @import {Line} from "../learning/lines.js" */
/** @import {Expected, TextFacts} from "./worker.js" */
import { button, columnHead, download, inRow, make, number, rowHead, scroller, soft, table } from "../elements/dom.js";
import { svgElement } from "../elements/drawing.js";
import { linesKey } from "../learning/kinds.js";
import { linesDrawing } from "../learning/lines.js";
import { pageLanguage, say } from "../text/messages.js";
import { count, fixed, percent } from "../text/numbers.js";
import { label, prose, recordText } from "../text/tokens.js";
import { packRecord } from "../trace/packed.js";
import { START } from "./corpus.js";

/** @typedef {{run: ArrayBuffer, model: ArrayBuffer, trace: ArrayBuffer}} Saved the files of a training at one moment */

export const MODEL_NAME = "my-model";
export const GUESSES = /** @type {const} */ (["uniform", "unigram", "bigram"]);
const NO_RECORD = 'id="manako-trace" data-length="0">'; // in the page that a model goes into
const NO_MODEL = 'id="manako-model" data-ref="" data-length="0" data-address="">';

/** @param {string} key @param {Record<string, string | number>} [values] */
function words(key, values = {}) {
    return say(pageLanguage(), key, values);
}

/** @param {TextFacts} facts */
export function factsCard({ start, characters, vocabulary, size, train, heldOut, guesses }) {
    const holds = { characters: count(characters), vocabulary: count(vocabulary), train: count(train), held_out: count(heldOut) };
    const rows = GUESSES.map((key) => make("tr", {}, rowHead(null, words(`training.${key}`, { size: count(size) })), number(fixed(guesses[key], 2))));
    return make("section", { class: "card" },
        make("p", {}, words("training.holds", holds)), soft(words("training.starts", { text: prose(start) })),
        table([], rows, words("training.lines")), soft(words("training.lines_is")));
}

/** @param {Expected} next */
export function expectedBars({ listed, other }) {
    const others = words("training.others", { count: count(other.count) });
    const rows = [...listed.map(({ id, bytes, p }) => ({ name: nameOf(id, bytes), p, kind: null })), { name: others, p: other.p, kind: "soft" }];
    return make("ol", { class: "learning-bars" }, ...rows.map(({ name, p, kind }) =>
        make("li", { "--p": p, class: kind }, make("span", {}, name), make("span", { class: "learning-bar" }), make("span", { class: "number" }, percent(p)))));
}

/**
 * The sample of a step, by default the newest, and the one of the untrained model.
 * @param {Map<number, {text: Uint8Array}>} samples by step
 * @param {string} prompt
 * @param {number | null} step
 */
export function sampleTexts(samples, prompt, step) {
    const shown = new Set([step ?? Math.max(...samples.keys()), 0]);
    return [...shown].filter((each) => samples.has(each)).map((step) => make("div", {},
        make("h3", {}, step === 0 ? words("training.first_sample") : words("training.sample_at", { step: count(step) })),
        make("p", { class: "learning-written" }, prose(prompt), make("mark", {}, prose(recordText(/** @type {{text: Uint8Array}} */ (samples.get(step)).text))))));
}

/**
 * Lines over some steps, with their key and table.
 * @param {"learning.ngrams" | "learning.heads"} title
 * @param {readonly number[]} steps
 * @param {readonly Line[]} lines
 * @param {(value: number) => string} format
 */
export function linesCard(title, steps, lines, format) {
    const plot = make("div", { class: "learning-plot training-plot" }, svgElement(linesDrawing(words(title), steps, lines, format)));
    const rows = () => steps.map((step, z) => make("tr", {}, rowHead("number", count(step)), ...lines.map(({ values }) => number(format(values[z])))));
    const heads = () => [columnHead(words("learning.step"), "number"), ...lines.map(({ name }) => columnHead(name, "number"))];
    const place = make("div");
    const inTable = make("details", { toggle: () => place.replaceChildren(scroller(words(title), table(heads(), rows()))) }, make("summary", {}, words("learning.as_table")), place);
    return make("section", { class: "card" }, make("h2", {}, words(title)), scroller(words(title), plot), linesKey(lines), soft(words(title === "learning.heads" ? "learning.heads_is" : "learning.ngrams_is")), inTable);
}

/**
 * @param {() => Promise<Saved>} save
 * @param {(name: string) => Promise<string>} result
 * @param {string} page that a model goes into, deflated
 * @param {(error: any) => void} fail
 */
export function keepCard(save, result, page, fail) {
    const said = make("p", { role: "status" });
    const keep = (/** @type {string} */ ending, /** @type {Blob} */ blob, stem = MODEL_NAME) => {
        const name = `${stem}.${ending}`;
        download(name, blob);
        said.textContent = words("page.saved", { name, size: fixed(blob.size / 1e6, blob.size < 1e5 ? 3 : 1) });
    };
    const open = async () => {
        const tab = window.open(URL.createObjectURL(await pageWith(await save(), page)));
        said.textContent = tab ? "" : words("training.blocked");
    };
    const acting = (/** @type {string} */ text, /** @type {() => Promise<void>} */ act, /** @type {string | null} */ kind = null) =>
        button(() => act().catch(fail), text, { class: kind });
    const owner = make("input", { type: "text", name: "owner", maxlength: 60 });
    const keepResult = async () => {
        const name = owner.value.trim() || MODEL_NAME;
        keep("manako-result", new Blob([await result(name)]), name.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "") || MODEL_NAME);
    };
    const commands = [`manako import ${MODEL_NAME}.manako-run -o runs/mine`, "manako resume runs/mine", "manako watch -m runs/mine"];
    return make("section", { class: "card" },
        make("h2", {}, words("training.after")),
        inRow(acting(words("training.open"), open, "primary"), acting(words("training.save_page"), async () => keep("html", await pageWith(await save(), page)))),
        soft(words("training.open_is")),
        inRow(
            acting(words("training.save_run"), async () => keep("manako-run", new Blob([(await save()).run]))),
            acting(words("training.save_trace"), async () => keep("manako", new Blob([(await save()).trace]))),
        ),
        make("label", {}, words("results.owner"), owner), inRow(acting(words("results.save"), keepResult)),
        said, soft(words("training.python")), make("pre", { class: "training-commands", tabindex: 0 }, commands.join("\n")));
}

/** The page with a model and its newest text inside. @param {Saved} saved @param {string} page */
async function pageWith({ model, trace }, page) {
    const [empty, packedModel, packedTrace] = await Promise.all([inflated(page), packRecord(model), packRecord(trace)]);
    const filled = empty
        .replace('<html lang="en"', () => `<html lang="${pageLanguage()}"`)
        .replace(NO_RECORD, () => `id="manako-trace" data-length="${trace.byteLength}">${packedTrace}`)
        .replace(NO_MODEL, () => `id="manako-model" data-ref="${MODEL_NAME}" data-length="${model.byteLength}" data-address="">${packedModel}`);
    return new Blob([filled], { type: "text/html" });
}

/** A text that was deflated as it is; the bytes of a record are sorted first. @param {string} text in base64 */
function inflated(text) {
    const small = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return new Response(new Blob([small]).stream().pipeThrough(new DecompressionStream("deflate"))).text();
}

/** @param {number} id @param {Uint8Array} bytes */
export function nameOf(id, bytes) {
    const { kind, text, key } = label(bytes, id === START);
    if (kind === "named" && key !== null) return `${text} ${words(key)}`;
    return kind === "special" || kind === "empty" ? words(/** @type {string} */ (key), { text }) : text;
}
