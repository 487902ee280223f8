/** The frame of the page: its head, the stage with the text on it, and the tabs below. */

/** @import {Lang} from "../text/messages.js" */
/** @import {Change, View} from "../elements/view.js" */
/** @import {Tab} from "./tabs.js" */
import { button, choices, make, soft } from "../elements/dom.js";
import { languages, say } from "../text/messages.js";
import { stepDrawing } from "../elements/step-drawing.js";
import { pictureButtons } from "./save.js";
import { modelName } from "../trace/model-name.js";
import { TABS } from "./tabs.js";
import { terms } from "../elements/term.js";
import "../elements/about.js";
import "../elements/checks.js";
import "../elements/draw.js";
import "../elements/fan.js";
import "../elements/guess.js";
import "../elements/overview.js";
import "../elements/tints.js";

/**
 * @typedef {object} Frame
 * @property {Lang} lang
 * @property {boolean} canWrite whether there is something that can
 * @property {(change: Change) => void} change
 * @property {(id: string) => void} open a tab
 * @property {(name: "guess" | "projector") => void} toggle
 * @property {() => {element: HTMLElement, fill: () => void}} share what can be taken along
 * @property {() => View} look at what is shown
 */

/**
 * @param {Frame} page
 * @returns {Node[]}
 */
export function frame(page) {
    const { lang } = page;
    const toText = () => /** @type {HTMLElement | null} */ (document.querySelector("manako-ribbon [role=listbox]"))?.focus();
    const names = languages().map((code) => /** @type {const} */ ([code, say(code, "language.name"), code]));
    const header = make(
        "header",
        { class: "top" },
        make("h1", {}, "manako ", make("span", { lang: "ja" }, "\u773c")),
        make("manako-about"),
        choices(say(lang, "page.language"), names, lang, (code) => page.change({ lang: code })),
        make("manako-checks"),
    );
    const tabs = make("div", { role: "tablist", class: "tabs", "aria-label": say(lang, "page.tabs"), "aria-multiselectable": "true", keydown: (event) => walk(/** @type {KeyboardEvent} */ (event)) }, ...TABS.map((tab) => tabButton(page, tab)));
    const panels = make("div", { class: "panels" }, ...TABS.map((tab) => panel(page, tab)));
    const foot = make("footer", { class: "foot" }, soft(say(lang, "page.about_page")), soft(say(lang, "page.keys")));
    return [button(toText, say(lang, "page.skip"), { class: "skip" }), header, make("main", {}, stagePart(page), make("manako-lesson"), tabs, panels), foot];
}

/** @param {Frame} page */
function stagePart(page) {
    const { lang, canWrite, toggle } = page;
    const place = (/** @type {string} */ name, /** @type {string | null} */ kind = null) => make("p", { "data-place": name, class: kind });
    const toggler = (/** @type {"guess" | "projector"} */ name) =>
        button(() => toggle(name), say(lang, `page.toggle_${name}`), { class: "quiet", "data-toggle": name });
    const more = [
        canWrite && make("h2", {}, say(lang, "page.write")),
        canWrite && make("manako-act"),
        canWrite && place("ready", "soft"),
        make("h2", {}, say(lang, "page.text")),
        make("manako-tints"),
        terms(lang, ["seed", "capture", "p_model", "surprisal", "rank"]),
        toggler("projector"),
    ];
    const { element, fill } = page.share();
    const sheets = [sheet(lang, "settings", () => {}, ...more), sheet(lang, "share", fill, element)];
    const tools = make("div", { class: "tools" }, make("manako-transport"), toggler("guess"), ...sheets);
    return make(
        "section",
        { class: "stage", "aria-label": say(lang, "page.stage") },
        make("manako-overview"),
        make("manako-ribbon"),
        make("manako-guess", { hidden: true }),
        make("div", { class: "hang answer still" }, make("span", { class: "point" }), make("manako-fan"), make("manako-draw")),
        make(
            "div",
            { role: "status", class: "say still answer" },
            make("h2", { "data-place": "title" }),
            ...["chosen", "part", "window"].map((name) => place(name)),
            ...["forced", "other"].map((name) => place(name, "note")),
        ),
        tools,
        make("p", { role: "status", "data-place": "state" }),
        make("progress", { hidden: true, max: 1 }),
    );
}

/**
 * A button, and what opens at it.
 * @param {Lang} lang
 * @param {string} name
 * @param {() => void} fill before it opens
 * @param {...(Node | false)} inside
 */
function sheet(lang, name, fill, ...inside) {
    const id = `sheet-${name}`;
    return make(
        "div",
        { class: "opens" },
        make("button", { type: "button", class: "quiet", popovertarget: id }, say(lang, `page.${name}`)),
        make("div", { id, popover: "auto", class: "sheet", role: "dialog", "aria-label": say(lang, `page.${name}`), beforetoggle: fill }, ...inside),
    );
}

/** @param {Frame} page @param {Tab} tab */
function tabButton({ lang, open }, { id, tells }) {
    return button(() => open(id), say(lang, `page.tab_${id}`), { class: tells ? "tells" : null, role: "tab", id: `tab-${id}`, "aria-controls": `panel-${id}`, "data-tab": id });
}

/** The arrow keys go from tab to tab. @param {KeyboardEvent} event */
function walk(event) {
    const tabs = /** @type {HTMLElement[]} */ ([.../** @type {Element} */ (event.currentTarget).querySelectorAll("[role=tab]:not([hidden])")]);
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    const at = tabs.findIndex((tab) => tab === document.activeElement);
    const next = tabs[(at + by + tabs.length) % tabs.length];
    next.click();
    next.focus();
}

/** @param {Frame} page @param {Tab} tab */
function panel({ lang, look }, { id, title, elements, picture, explains, tells }) {
    const parts = elements.map((name) => make(name));
    const said = (/** @type {string} */ name) => document.querySelector(`[data-place=${name}]`)?.textContent ?? "";
    const [first] = /** @type {any[]} */ (parts);
    const drawing = () => ("drawing" in first ? first.drawing : stepDrawing(look(), said("title"), said("chosen")));
    const ref = () => modelName(look().path.leaf.trace.header.model.ref);
    return make(
        "section",
        { class: tells ? "card tells" : "card", role: "tabpanel", id: `panel-${id}`, "aria-labelledby": `tab-${id}` },
        make("div", { class: "row spread" }, make("h2", {}, say(lang, title)), picture !== undefined && pictureButtons(lang, picture, drawing, ref)),
        make("p", { class: "soft", "data-place": `elsewhere-${id}` }),
        ...parts,
        terms(lang, explains),
    );
}
