/** The frame of the page: its head, its cards and its buttons, in the language of the moment. */

/** @import {Lang} from "../text/messages.js" */
/** @import {Path} from "../trace/tree.js" */
/** @import {Trace} from "../trace/trace-file.js" */
/** @import {Change} from "./view-state.js" */
import { make } from "../elements/dom.js";
import { say } from "../text/messages.js";
import { pictureButtons } from "./save.js";
import { visibleText } from "../text/tokens.js";

const LANGUAGES = /** @type {const} */ ([["ja", "\u65e5\u672c\u8a9e"], ["en", "English"]]);
const INSIDE = /** @type {const} */ ([
    ["attention", "page.attention", "manako-attention", true],
    ["lens", "page.lens", "manako-lens", true],
    ["contributions", "page.why", "manako-why", false],
]);

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
 */

/**
 * @param {Frame} page
 * @returns {Node[]}
 */
export function frame(page) {
    const { lang, path, canWrite, hasTree } = page;
    const { trace } = path.leaf;
    const toStep = () => /** @type {HTMLElement | null} */ (document.querySelector("manako-ribbon [role=listbox]"))?.focus();
    const skip = make("button", { type: "button", class: "skip", click: toStep }, say(lang, "page.skip"));
    const captured = (/** @type {string} */ name) => path.chain.some((branch) => branch.trace.header.capture.includes(name));
    const inside = (/** @type {boolean} */ isWide) =>
        INSIDE.filter(([capture, , , wide]) => captured(capture) && wide === isWide).map(([name, key, element]) => view(page, name, say(lang, key), make("p", { class: "soft", "data-place": `elsewhere-${name}` }), make(element)));
    const isEmpty = path.next(0, 1) === null;
    const toNumbers = () => document.querySelector(".numbers")?.scrollIntoView();
    const brief = make("button", { type: "button", class: "brief still", "data-place": "brief", click: toNumbers }); // where the numbers lie far below
    const how = make("p", { class: "soft" }, say(lang, isEmpty ? "view.nothing" : "page.keys"));
    const text = view(page, "text", say(lang, "page.text"), make("manako-ribbon"), ...(isEmpty ? [] : [brief]), how, make("manako-player"));
    const kept = [
        (canWrite || hasTree) && make("div", { class: "tells" }, card(lang, "page.tree", make("manako-tree"))),
        card(lang, "page.save", page.save()),
        !isEmpty && make("div", { class: "pane still tells" }, ...inside(true)),
    ];
    const panes = [
        make("div", { class: "pane" }, canWrite && card(lang, "page.write", make("manako-act")), text),
        !isEmpty && make("div", { class: "pane numbers" }, stepCard(page), make("div", { class: "pane still" }, whatIf(page), ...inside(false))),
        make("div", { class: "pane" }, ...kept),
    ];
    return [skip, head(page, trace), make("main", { class: "panes" }, ...panes)];
}

/**
 * @param {Frame} page
 * @param {Trace} trace
 */
function head({ lang, change, canWrite, hasTree }, { header, steps }) {
    const shape = say(lang, "view.shape", shapeOf(header.model.config));
    const warn = (/** @type {string} */ key, /** @type {Record<string, string>} */ values) => make("p", { class: "warn" }, say(lang, key, values));
    const facts = make(
        "div",
        { class: "facts" },
        make("p", {}, say(lang, "page.about_page")),
        make("p", { class: "soft" }, say(lang, "view.model", { ref: visibleText(header.model.ref), shape })),
        header.model.switches.length > 0 && warn("view.switches", { switches: visibleText(header.model.switches.join(", ")) }),
        header.ablate.length > 0 && warn("view.ablate", { parts: visibleText(header.ablate.join(", ")) }),
        make("p", { class: "soft", "data-place": "settings" }),
        !canWrite && !hasTree && make("p", { class: "soft" }, say(lang, `end.${header.end}`, { count: steps })),
        make("p", { class: "soft", "data-place": "digests" }),
        make("manako-checks"),
    );
    const choose = (/** @type {Lang} */ code) => {
        change({ lang: code });
        /** @type {HTMLElement | null} */ (document.querySelector('header [aria-pressed="true"]'))?.focus();
    };
    const buttons = LANGUAGES.map(([code, name]) => make("button", { type: "button", lang: code, "aria-pressed": String(code === lang), click: () => choose(code) }, name));
    const languages = make("div", { class: "choices", role: "group", "aria-label": say(lang, "page.language") }, ...buttons);
    return make("header", { class: "top" }, make("h1", {}, "manako ", make("span", { lang: "ja" }, "\u773c")), facts, languages);
}

/** @param {Frame} page */
function stepCard(page) {
    const { lang, move, toggle } = page;
    const place = (/** @type {string} */ name, /** @type {string} */ kind) => make("p", { "data-place": name, class: kind });
    const mover = (/** @type {number} */ by, /** @type {string} */ key, /** @type {string} */ sign) =>
        make("button", { type: "button", "data-move": by, "aria-label": say(lang, key), click: () => move(by) }, sign);
    const toggler = (/** @type {"details" | "top" | "guess"} */ name) =>
        make("button", { type: "button", "data-toggle": name, click: () => toggle(name) }, say(lang, `page.toggle_${name}`));
    return view(
        page,
        "step",
        "",
        make("div", { class: "row" }, mover(-1, "page.previous", "\u2190"), mover(1, "page.next", "\u2192"), toggler("guess")),
        make("manako-guess", { hidden: true }),
        make("div", { role: "status", class: "still answer" }, place("chosen", ""), place("forced", "note"), place("part", "soft"), place("window", "soft"), place("other", "note")),
        make("div", { class: "answer" }, make("manako-candidates")),
        make("div", { class: "row still answer" }, toggler("top"), toggler("details")),
        make("div", { class: "still answer" }, make("manako-draw")),
    );
}

/** @param {Frame} page */
function whatIf(page) {
    const { lang, act, canWrite } = page;
    const go = make("button", { type: "button", "data-act": "settings", click: () => act("settings") }, say(lang, "page.act_settings"));
    return view(
        page,
        "what-if",
        say(lang, "page.what_if"),
        make("manako-what-if"),
        ...(canWrite ? [make("div", { class: "row" }, go)] : []),
        make("h3", {}, say(lang, "page.chain")),
        make("manako-stages"),
        make("h3", {}, say(lang, "page.beside")),
        make("manako-beside"),
    );
}

/**
 * @param {Lang} lang
 * @param {string} key of its heading
 * @param {...Node} inside
 */
function card(lang, key, ...inside) {
    return make("section", { class: "card" }, make("h2", {}, say(lang, key)), ...inside);
}

/**
 * A card that can be saved as a picture.
 * @param {Frame} page
 * @param {string} name of the file
 * @param {string} title
 * @param {...Node} inside
 * @returns {HTMLElement}
 */
function view({ lang, path }, name, title, ...inside) {
    const buttons = pictureButtons(lang, name, () => found, path.leaf.trace.header.model.ref);
    const heading = make("h2", name === "step" ? { "data-place": "title" } : {}, title);
    const found = make("section", { class: "card" }, make("div", { class: "row spread" }, heading, buttons), ...inside);
    return found;
}

/** @param {Record<string, any>} config */
function shapeOf(config) {
    const names = ["n_layer", "n_head", "n_embd", "n_positions"];
    return Object.fromEntries(names.map((name) => [name, visibleText(String(config[name] ?? "?"))]));
}
