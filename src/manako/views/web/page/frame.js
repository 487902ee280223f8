/** The frame of the page: its head, its cards and its buttons, in the language of the moment. */

/** @import {Lang} from "../text/messages.js" */
/** @import {Path} from "../trace/tree.js" */
/** @import {Trace} from "../trace/trace-file.js" */
/** @import {Change, View} from "../elements/view.js" */
/** @import {Drawing} from "../elements/drawing.js" */
import { button, choices, make, soft } from "../elements/dom.js";
import { languages, say } from "../text/messages.js";
import { AttentionElement } from "../elements/attention.js";
import { LensElement } from "../elements/lens.js";
import { stepDrawing } from "../elements/step-drawing.js";
import { pictureButtons } from "./save.js";
import { visibleText } from "../text/tokens.js";
import { modelName } from "../trace/model-name.js";
import "../elements/beside.js";
import "../elements/guess.js";
import "../elements/stages.js";
import "../elements/what-if.js";
import "../elements/why.js";

/**
 * @typedef {object} Frame
 * @property {Lang} lang
 * @property {Path} path
 * @property {boolean} canWrite whether there is a server that can
 * @property {boolean} hasTree whether there is more than one text
 * @property {(change: Change) => void} change
 * @property {(by: number) => void} move
 * @property {(name: "details" | "top" | "guess") => void} toggle
 * @property {(kind: string) => void} act
 * @property {() => Node} save
 * @property {() => View} look at what is shown
 */

/**
 * @param {Frame} page
 * @returns {Node[]}
 */
export function frame(page) {
    const { lang, path, canWrite, hasTree } = page;
    const { trace } = path.leaf;
    const toText = () => /** @type {HTMLElement | null} */ (document.querySelector("manako-ribbon [role=listbox]"))?.focus();
    const skip = button(toText, say(lang, "page.skip"), { class: "skip" });
    const has = (/** @type {string} */ name) => path.chain.some(({ trace }) => trace.header.capture.includes(name));
    const elsewhere = (/** @type {string} */ name) => make("p", { class: "soft", "data-place": `elsewhere-${name}` });
    const [attention, lens] = [new AttentionElement(), new LensElement()];
    const wide = [
        has("attention") && view(page, "attention", () => attention.drawing, elsewhere("attention"), attention),
        has("lens") && view(page, "lens", () => lens.drawing, elsewhere("lens"), lens),
    ];
    const isEmpty = path.next(0, 1) === null;
    const toNumbers = () => document.querySelector(".numbers")?.scrollIntoView(); // where they lie far below
    const brief = button(toNumbers, "", { class: "brief still", "data-place": "brief" });
    const how = soft(say(lang, isEmpty ? "view.nothing" : "page.keys"));
    const text = card(lang, "page.text", make("manako-ribbon"), !isEmpty && brief, how, make("manako-player"));
    const why = has("contributions") && card(lang, "page.why", make("manako-why"));
    const kept = [
        (canWrite || hasTree) && make("div", { class: "tells" }, card(lang, "page.tree", make("manako-tree"))),
        card(lang, "page.save", page.save()),
        !isEmpty && make("div", { class: "pane still tells" }, ...wide),
    ];
    const still = make("div", { class: "pane still" }, whatIf(page), why);
    const panes = [
        make("div", { class: "pane" }, canWrite && card(lang, "page.write", make("manako-act")), text),
        !isEmpty && make("div", { class: "pane numbers" }, stepCard(page), still),
        make("div", { class: "pane" }, ...kept),
    ];
    return [skip, head(page, trace), make("manako-lesson"), make("main", { class: "panes" }, ...panes)];
}

/**
 * @param {Frame} page
 * @param {Trace} trace
 */
function head({ lang, change, canWrite, hasTree }, { header, steps }) {
    const shape = say(lang, "view.shape", shapeOf(header.model.config));
    const trained = trainedOn(header, lang);
    const warn = (/** @type {string} */ key, /** @type {string} */ name, /** @type {string[]} */ listed) =>
        listed.length > 0 && make("p", { class: "warn" }, say(lang, key, { [name]: visibleText(listed.join(", ")) }));
    const facts = make(
        "div",
        { class: "facts" },
        make("p", {}, say(lang, "page.about_page")),
        soft(say(lang, "view.model", { ref: visibleText(modelName(header.model.ref)), shape })),
        trained && soft(say(lang, "view.trained_on", { text: visibleText(trained) })),
        warn("view.switches", "switches", header.model.switches),
        warn("view.ablate", "parts", header.ablate),
        make("p", { class: "soft", "data-place": "settings" }),
        !canWrite && !hasTree && soft(say(lang, `end.${header.end}`, { count: steps })),
        make("manako-checks"),
    );
    const names = languages().map((code) => /** @type {const} */ ([code, say(code, "language.name"), code]));
    const choice = choices(say(lang, "page.language"), names, lang, (code) => change({ lang: code }));
    const title = make("h1", {}, "manako ", make("span", { lang: "ja" }, "\u773c"));
    return make("header", { class: "top" }, title, facts, choice);
}

/** @param {Frame} page */
function stepCard(page) {
    const { lang, move, toggle } = page;
    const place = (/** @type {string} */ name, /** @type {string} */ kind) => make("p", { "data-place": name, class: kind });
    const mover = (/** @type {number} */ by, /** @type {string} */ key, /** @type {string} */ sign) =>
        button(() => move(by), sign, { "data-move": by, "aria-label": say(lang, key) });
    const toggler = (/** @type {"details" | "top" | "guess"} */ name) =>
        button(() => toggle(name), say(lang, `page.toggle_${name}`), { "data-toggle": name });
    const [title, chosen] = [make("h2", { "data-place": "title" }), place("chosen", "")];
    const drawing = () => stepDrawing(page.look(), title.textContent ?? "", chosen.textContent ?? "");
    const said = [chosen, place("forced", "note"), place("part", "soft"), place("window", "soft"), place("other", "note")];
    return make(
        "section",
        { class: "card" },
        make("div", { class: "row spread" }, title, picture(page, "step", drawing)),
        make("div", { class: "row" }, mover(-1, "page.previous", "\u2190"), mover(1, "page.next", "\u2192"), toggler("guess")),
        make("manako-guess", { hidden: true }),
        make("div", { role: "status", class: "still answer" }, ...said),
        make("div", { class: "answer" }, make("manako-candidates")),
        make("div", { class: "row still answer" }, toggler("top"), toggler("details")),
        make("div", { class: "still answer" }, make("manako-draw")),
    );
}

/** @param {Frame} page */
function whatIf({ lang, act, canWrite }) {
    const write = button(() => act("settings"), say(lang, "page.act_settings"), { "data-act": "settings" });
    return card(
        lang,
        "page.what_if",
        make("manako-what-if"),
        canWrite && make("div", { class: "row" }, write),
        make("h3", {}, say(lang, "page.chain")),
        make("manako-stages"),
        make("h3", {}, say(lang, "page.beside")),
        make("manako-beside"),
    );
}

/**
 * @param {Lang} lang
 * @param {string} key of its heading
 * @param {...(Node | false)} inside
 */
function card(lang, key, ...inside) {
    return make("section", { class: "card" }, make("h2", {}, say(lang, key)), ...inside);
}

/**
 * A card with a picture that can be saved.
 * @param {Frame} page
 * @param {"attention" | "lens"} name
 * @param {() => Drawing | null} drawing
 * @param {...Node} inside
 */
function view(page, name, drawing, ...inside) {
    const heading = make("h2", {}, say(page.lang, `page.${name}`));
    return make("section", { class: "card" }, make("div", { class: "row spread" }, heading, picture(page, name, drawing)), ...inside);
}

/** @param {Frame} page @param {string} name of the file @param {() => Drawing | null} drawing */
function picture({ lang, path }, name, drawing) {
    return pictureButtons(lang, name, drawing, modelName(path.leaf.trace.header.model.ref));
}
/**
 * What text the model was trained on, as its author says it: in this language, else in the first that there is.
 * @param {Trace["header"]} header
 * @param {string} lang
 */
function trainedOn({ model }, lang) {
    const said = Object(model.config.trained_on);
    const text = said[lang] ?? Object.values(said)[0];
    return typeof text === "string" ? text : "";
}

/** @param {Record<string, any>} config */
function shapeOf(config) {
    const names = ["n_layer", "n_head", "n_embd", "n_positions"];
    return Object.fromEntries(names.map((name) => [name, visibleText(String(config[name] ?? "?"))]));
}
