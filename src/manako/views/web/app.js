/**
 * <manako-app>: the page. It keeps what the reader chose, hands every part the same view, and writes the choice into the
 * address, so that a link or a reload shows the same thing.
 */

/** @import {Trace} from "./trace-file.js" */
/** @import {Choice, Change, View} from "./view-state.js" */
import { ViewElement, make } from "./dom.js";
import { say } from "./messages.js";
import { StepNumbers, canAnswer } from "./step-numbers.js";
import { activeStages, samplingFault } from "./sampling.js";
import { LONG_LIST, SHORT_LIST, fromFragment, toFragment } from "./view-state.js";
import { characterAt, tokenText } from "./token-chip.js";
import { visibleText } from "./tokens.js";
import { percent, whole } from "./numbers.js";

const REMEMBER_AFTER = 300; // ms without a change; browsers stop a page that rewrites its address at every pixel
const LONGEST_TITLE = 40;
const LANGUAGES = /** @type {const} */ ([["ja", "\u65e5\u672c\u8a9e"], ["en", "English"]]);
const INSIDE = /** @type {const} */ ([
    ["attention", "page.attention", "manako-attention"],
    ["lens", "page.lens", "manako-lens"],
    ["contributions", "page.why", "manako-why"],
]);

export class AppElement extends HTMLElement {
    /** @type {Trace | null} */
    #trace = null;
    /** @type {Choice} */
    #choice = {
        lang: "en",
        index: 0,
        tint: "p_model",
        details: false,
        top: SHORT_LIST,
        sampling: null,
        temperatures: [0.3, 0.8, 1.2],
        layer: null,
        head: null,
    };
    /** @type {StepNumbers | null} */
    #shown = null;
    /** @type {StepNumbers | null} the selected step under the recorded settings */
    #recorded = null;
    /** @type {"ja" | null} what the text is written in: without it a browser may draw Chinese forms of kanji */
    #textLang = null;
    #timer = 0;

    connectedCallback() {
        this.addEventListener("view-change", (event) => this.#change(/** @type {CustomEvent<Change>} */ (event).detail));
        globalThis.addEventListener("hashchange", () => this.#restore());
    }

    /** @param {Trace} trace */
    set trace(trace) {
        this.#trace = trace;
        this.#shown = null;
        const text = new TextDecoder().decode(trace.textBytes(0, trace.allIds.length));
        this.#textLang = /[\u3040-\u30ff]/.test(text) ? "ja" : null;
        const lang = document.documentElement.lang === "ja" ? "ja" : "en";
        this.#choice = { ...this.#choice, lang, index: 0, sampling: null };
        this.#build(trace);
        this.#restore();
    }

    /** Show a text instead of a trace. @param {string} text */
    tell(text) {
        this.replaceChildren(make("main", { class: "panes" }, make("p", { class: "card", role: "alert" }, text)));
    }

    /** Take over what the address says. */
    #restore() {
        const trace = this.#trace;
        if (trace === null) return;
        const fits = (/** @type {import("./sampling.js").Sampling} */ s) => samplingFault(s) === null && canAnswer(trace, s);
        this.#change(fromFragment(location.hash.slice(1), this.#choice, trace.header.sampling, fits));
    }

    /** @param {Change} change */
    #change(change) {
        const trace = this.#trace;
        if (trace === null) return;
        const before = this.#choice;
        const next = { ...before, ...change };
        next.index = Math.min(next.index, Math.max(0, trace.steps - 1));
        this.#choice = next;
        if (next.lang !== before.lang) this.#build(trace);
        if (trace.steps === 0) return;
        if (!this.#shown || next.index !== before.index || next.sampling !== before.sampling) {
            if (this.#recorded?.trace !== trace || this.#recorded.index !== next.index) {
                this.#recorded = new StepNumbers(trace, next.index);
            }
            this.#shown = next.sampling ? new StepNumbers(trace, next.index, next.sampling, this.#recorded) : this.#recorded;
        }
        this.#draw({ ...next, trace, shown: this.#shown, textLang: this.#textLang }, this.#recorded);
        this.#remember(trace);
    }

    /** @param {View} view @param {StepNumbers | null} taken */
    #draw(view, taken) {
        const { lang, shown, trace } = view;
        for (const part of this.querySelectorAll("*")) if (part instanceof ViewElement) part.view = view;
        const put = (/** @type {string} */ name, /** @type {string} */ text) => {
            const place = this.querySelector(`[data-place="${name}"]`);
            if (place && place.textContent !== text) place.textContent = text;
        };
        put("title", say(lang, "page.step", { number: view.index + 1, count: trace.steps }));
        const row = (taken ?? shown).candidate(shown.takenId);
        const token = tokenText(view, row, shown.pending);
        const numbers = { token, p: percent(row.p), p_model: percent(row.pModel), rank: whole(row.rank) };
        put("chosen", say(lang, shown.u === null ? "page.given" : "page.chosen", numbers));
        const start = trace.windowStart[view.index];
        put("window", start ? say(lang, "step.window", { start: start + 1 }) : "");
        put("part", characterAt(trace, trace.promptIds.length + view.index) ?? "");
        const changed = shown.changed && shown.drawnId !== shown.takenId;
        put("other", changed && shown.draw ? say(lang, "page.other_token", { token: tokenText(view, shown.candidate(shown.drawnId), shown.pending) }) : "");
        for (const button of this.querySelectorAll("[data-move]")) {
            const to = view.index + Number(/** @type {HTMLElement} */ (button).dataset.move);
            button.toggleAttribute("disabled", to < 0 || to >= trace.steps);
        }
        this.querySelector("[data-toggle=details]")?.setAttribute("aria-pressed", String(view.details));
        this.querySelector("[data-toggle=top]")?.setAttribute("aria-pressed", String(view.top === LONG_LIST));
    }

    /** @param {Trace} trace */
    #remember(trace) {
        clearTimeout(this.#timer);
        if (location.protocol === "about:") return; // a frame in a notebook has no address of its own
        const write = () => history.replaceState(null, "", `#${toFragment(this.#choice, trace.header.sampling)}`);
        this.#timer = setTimeout(write, REMEMBER_AFTER);
    }

    /**
     * The frame, in the language of the moment.
     * @param {Trace} trace
     */
    #build(trace) {
        const { lang } = this.#choice;
        document.documentElement.lang = lang;
        document.title = `manako: ${visibleText(trace.header.prompt).slice(0, LONGEST_TITLE)}`;
        const toStep = () => /** @type {HTMLElement | null} */ (this.querySelector("[role=listbox]"))?.focus();
        const skip = make("button", { type: "button", class: "skip", click: toStep }, say(lang, "page.skip"));
        const inside = INSIDE.filter(([capture]) => trace.header.capture.includes(capture)).map(([, key, name]) => card(lang, key, make(name)));
        const text = card(lang, "page.text", make("manako-ribbon"), make("p", { class: "soft" }, say(lang, "page.keys")));
        const panes = trace.steps === 0
            ? [card(lang, "view.nothing", make("p", {}, visibleText(trace.header.prompt)))]
            : [text, make("div", { class: "pane numbers" }, this.#stepCard(lang), whatIf(lang)), inside.length > 0 && make("div", { class: "pane" }, ...inside)];
        this.replaceChildren(skip, this.#top(trace), make("main", { class: "panes" }, ...panes));
    }

    /** @param {Trace} trace */
    #top({ header, steps }) {
        const { lang } = this.#choice;
        const { config } = header.model;
        const shape = say(lang, "view.shape", shapeOf(config));
        const chain = activeStages(header.sampling).map((name) => `${name} ${header.sampling[name]}`).join(" > ");
        const warn = (/** @type {string} */ key, /** @type {Record<string, string>} */ values) => make("p", { class: "warn" }, say(lang, key, values));
        const facts = make(
            "div",
            { class: "facts" },
            make("p", {}, say(lang, "view.model", { ref: visibleText(header.model.ref), shape })),
            header.model.switches.length > 0 && warn("view.switches", { switches: visibleText(header.model.switches.join(", ")) }),
            header.ablate.length > 0 && warn("view.ablate", { parts: visibleText(header.ablate.join(", ")) }),
            header.seed !== null && make("p", { class: "soft" }, say(lang, "view.settings", { chain, seed: header.seed })),
            make("p", { class: "soft" }, say(lang, `end.${header.end}`, { count: steps })),
            make("manako-checks"),
        );
        const buttons = LANGUAGES.map(([code, name]) =>
            make("button", { type: "button", lang: code, "aria-pressed": String(code === lang), click: () => this.#switch(code) }, name),
        );
        const languages = make("div", { class: "choices", role: "group", "aria-label": say(lang, "page.language") }, ...buttons);
        return make("header", { class: "top" }, make("h1", {}, "manako ", make("span", { lang: "ja" }, "\u773c")), facts, languages);
    }

    /** @param {"en" | "ja"} lang */
    #switch(lang) {
        this.#change({ lang });
        /** @type {HTMLElement | null} */ (this.querySelector('header [aria-pressed="true"]'))?.focus();
    }

    /** @param {"en" | "ja"} lang */
    #stepCard(lang) {
        const place = (/** @type {string} */ name, /** @type {string} */ kind) => make("p", { "data-place": name, class: kind });
        const move = (/** @type {number} */ by, /** @type {string} */ key, /** @type {string} */ sign) =>
            make("button", { type: "button", "data-move": by, "aria-label": say(lang, key), click: () => this.#change({ index: this.#choice.index + by }) }, sign);
        const toggle = (/** @type {"details" | "top"} */ name, /** @type {() => void} */ act) =>
            make("button", { type: "button", "data-toggle": name, click: act }, say(lang, `page.toggle_${name}`));
        return make(
            "section",
            { class: "card" },
            make("div", { class: "row spread" }, make("h2", { "data-place": "title" }), make("div", { class: "row" }, move(-1, "page.previous", "\u2190"), move(1, "page.next", "\u2192"))),
            make("div", { role: "status" }, place("chosen", ""), place("part", "soft"), place("window", "soft"), place("other", "note")),
            make("manako-candidates"),
            make(
                "div",
                { class: "row" },
                toggle("top", () => this.#change({ top: this.#choice.top === LONG_LIST ? SHORT_LIST : LONG_LIST })),
                toggle("details", () => this.#change({ details: !this.#choice.details })),
            ),
            make("manako-draw"),
        );
    }
}

/**
 * @param {"en" | "ja"} lang
 */
function whatIf(lang) {
    return make(
        "section",
        { class: "card" },
        make("h2", {}, say(lang, "page.what_if")),
        make("manako-what-if"),
        make("h3", {}, say(lang, "page.chain")),
        make("manako-stages"),
        make("h3", {}, say(lang, "page.beside")),
        make("manako-beside"),
    );
}

/**
 * @param {"en" | "ja"} lang
 * @param {string} key of its heading
 * @param {...Node} inside
 */
function card(lang, key, ...inside) {
    return make("section", { class: "card" }, make("h2", {}, say(lang, key)), ...inside);
}

/** @param {Record<string, any>} config */
function shapeOf(config) {
    const names = ["n_layer", "n_head", "n_embd", "n_positions"];
    return Object.fromEntries(names.map((name) => [name, visibleText(String(config[name] ?? "?"))]));
}

customElements.define("manako-app", AppElement);
