/**
 * <manako-ribbon>: the whole text as a row of tokens, tinted by how expected each one was.
 *
 * Special here: one list to tab to, in which the arrows move; 2,000 tokens are drawn once, a move touches two of them,
 * and a text that goes on from the one that is shown adds what it has more.
 * Tints have five steps, and each step a line of its own below the token, for those who don't tell the tints apart.
 * While the model writes, what it tells is appended; the record takes its place at the end.
 * The prompt and the end of the text can be typed in where they stand: Enter lets the model write, Escape takes it back,
 * and what was typed stays as long as the text does.
 */

/** @import {View} from "./view.js" */
/** @import {Path} from "../trace/tree.js" */
import { BINS } from "./tints.js";
import { button, make } from "./dom.js";
import { ViewElement } from "./view.js";
import { count, fixed, percent } from "../text/numbers.js";
import { say } from "../text/messages.js";
import { StepNumbers, expectation } from "../analysis/step-numbers.js";
import { ribbonToken, runningText, runningToken } from "./token-chip.js";
import { visibleText } from "../text/tokens.js";

const CHARACTER = 4; // tokens of one character

export class RibbonElement extends ViewElement {
    /** @type {HTMLElement[]} one for each place */
    #tokens = [];
    #written = make("span", { class: "written", "aria-hidden": "true" });
    #list = make("span", {
        role: "listbox",
        tabindex: 0,
        keydown: (event) => this.#key(/** @type {KeyboardEvent} */ (event)),
        click: (event) => this.#click(event),
        mouseover: ({ target }) => this.#explain(target),
    });
    /** Where one types: the prompt, and behind the text. @type {Record<"prompt" | "tail", HTMLElement>} */
    #edited = { prompt: this.#field("prompt"), tail: this.#field("tail") };
    #generate = button(() => this.#write("prompt"), "", { class: "primary generate", "data-act": "new" });

    #text = make(
        "div",
        { class: "text", copy: (event) => this.#copy(/** @type {ClipboardEvent} */ (event)) },
        this.#edited.prompt, this.#list, this.#written, this.#edited.tail,
    );
    #observer = new ResizeObserver(() => {
        const chosen = this.querySelector("[aria-selected=true]");
        if (chosen instanceof HTMLElement) this.#scrollTo(chosen); // it stands on another line now
    });

    connectedCallback() {
        this.#observer.observe(this);
    }

    disconnectedCallback() {
        this.#observer.disconnect();
    }

    /** @param {View} view @param {View | null} before */
    draw(view, before) {
        const alike = before?.lang === view.lang && before.tint === view.tint ? before : null;
        const same = alike?.path === view.path;
        if (!same) this.#build(view, alike?.path ?? null, before?.path === view.path);
        if (!same || alike.guess !== view.guess) this.#hideFrom();
        if (!same || alike.place !== view.place) this.querySelector("[aria-selected=true]")?.setAttribute("aria-selected", "false");
        this.#allow("prompt", view.isReady);
        this.#allow("tail", view.canAct && view.guess === null);
        this.#generate.disabled = !view.isReady;
        const chosen = this.#tokens[view.place];
        if (!chosen || (same && alike.place === view.place)) return;
        chosen.setAttribute("aria-selected", "true");
        chosen.parentElement?.setAttribute("aria-activedescendant", chosen.id);
        this.#scrollTo(chosen);
    }

    /** Inside the text alone: the page itself must not jump. @param {HTMLElement} token */
    #scrollTo(token) {
        const text = /** @type {HTMLElement} */ (token.closest(".text"));
        const { offsetTop: top, offsetHeight: height } = token;
        if (top < text.scrollTop) text.scrollTop = top - height;
        else if (top + height > text.scrollTop + text.clientHeight) text.scrollTop = top + 2 * height - text.clientHeight;
        const at = token.offsetLeft + Math.min(token.offsetWidth, 40) / 2;
        const isApart = top + 2 * height <= text.scrollTop + text.clientHeight; // another line lies between
        // Told to the point alone, once all is measured: of its parent it would be everybody's, and all would be styled anew.
        const point = /** @type {HTMLElement | null | undefined} */ (this.parentElement?.querySelector(".hang > .point"));
        point?.style.setProperty("--at", `${at}px`);
        point?.toggleAttribute("data-apart", isApart);
    }

    /** @param {"prompt" | "tail"} name */
    #field(name) {
        const keydown = (/** @type {Event} */ event) => this.#typing(name, /** @type {KeyboardEvent} */ (event));
        const isPrompt = name === "prompt";
        const put = { class: name, "data-edit": name, spellcheck: "false", keydown };
        return make("span", isPrompt ? { ...put, focus: () => this.#begin(), blur: () => this.#end(false) } : put);
    }

    /** Whether one may type there. @param {"prompt" | "tail"} name @param {boolean} can */
    #allow(name, can) {
        const label = say(this.view.lang, `page.edit_${name}`);
        const put = { contenteditable: "plaintext-only", role: "textbox", tabindex: "0", "aria-multiline": "true", "aria-label": label };
        for (const [key, value] of Object.entries(put)) {
            if (can) this.#edited[name].setAttribute(key, value);
            else this.#edited[name].removeAttribute(key);
        }
    }

    /** What stands there: behind the last line break a browser puts one more, Firefox as an element. @param {"prompt" | "tail"} name */
    #shown(name) {
        const { lastElementChild: last, textContent: text } = this.#edited[name];
        return last ? text : text.replace(/\n$/, "");
    }

    /** @param {"prompt" | "tail"} name */
    #write(name) {
        const text = this.#shown(name);
        this.act(name === "prompt" ? { kind: "new", text: this.#isTyped ? text : this.#prompt } : { kind: "type", where: "end", text });
    }

    /** The first prompt as it was given. */
    get #prompt() {
        return this.view.path.chain[0].trace.header.prompt;
    }

    /** Whether the prompt stands there as plain text, to be typed in. */
    get #isTyped() {
        return this.hasAttribute("data-typed");
    }

    /** Tokens give way to the plain text of the prompt. */
    #begin() {
        if (this.#isTyped || !this.#edited.prompt.isContentEditable) return;
        this.toggleAttribute("data-typed", true);
        this.#edited.prompt.textContent = this.#prompt.replace(/\n$/, "\n\n");
        this.#generate.hidden = false;
        getSelection()?.selectAllChildren(this.#edited.prompt);
    }

    /** Leave what nobody changed, and whatever else where it is given up. @param {boolean} isGivenUp */
    #end(isGivenUp) {
        if (!this.#isTyped || this.view.busy || (!isGivenUp && this.#shown("prompt") !== this.#prompt)) return;
        this.#showPrompt();
    }

    /** The prompt as its tokens. */
    #showPrompt() {
        const { path } = this.view;
        const tokens = Array.from({ length: path.prompt }, (_, position) => ribbonToken({ ...this.view, trace: path.leaf.trace }, position));
        this.#edited.prompt.replaceChildren(...runningText(tokens));
        this.toggleAttribute("data-typed", false);
        this.#generate.hidden = true;
    }

    /** @param {"prompt" | "tail"} name @param {KeyboardEvent} event */
    #typing(name, event) {
        if (event.key === "Escape" && !this.view.busy) {
            this.#edited.tail.textContent = "";
            this.#end(true);
            /** @type {HTMLElement | null} */ (this.querySelector("[role=listbox]"))?.focus();
        }
        if (event.key !== "Enter" || event.shiftKey || event.isComposing) return; // an Enter that ends a word of kanji is none
        event.preventDefault();
        this.#write(name);
    }

    /**
     * Begin to show what is being written behind some places.
     * @param {number} place -1 for a text of its own
     * @param {string} given the text that stands in front of what the model writes
     */
    startWriting(place, given) {
        this.#hideFrom(place);
        this.#edited.prompt.hidden = place < 0;
        this.#written.replaceChildren(make("span", { class: "prompt" }, visibleText(given)));
        this.scrollIntoView({ block: "nearest" });
    }

    /** Nothing came of it: the text stands as it did, with what was typed. */
    stopWriting() {
        this.#written.replaceChildren();
        this.#edited.prompt.hidden = false;
        this.#hideFrom();
    }

    /** @param {import("./token-chip.js").Token} token that the model wrote @param {number} pModel @param {number} rank */
    write(token, pModel, rank) {
        const shown = runningToken(this.view, token);
        shown.dataset.bin = String(BINS[this.view.tint].bin(pModel, rank));
        this.#written.append(...runningText([shown]));
    }

    /** Show the end of what is being written. */
    follow() {
        const text = /** @type {HTMLElement} */ (this.#written.closest(".text"));
        text.scrollTop = text.scrollHeight;
    }

    /** @param {number} [place] the first that is not shown; by default, the one behind a guess */
    #hideFrom(place) {
        const { guess } = this.view;
        place ??= guess ? guess.place + Number(guess.shown) : Infinity;
        for (const [n, token] of this.#tokens.entries()) token.hidden = n >= place;
    }

    /** @param {View} view @param {Path | null} shown what is there already @param {boolean} same whether it is the same text, in other colours or words */
    #build(view, shown, same) {
        const { lang, path, tint } = view;
        const kept = shown ? alike(shown, path) : 0;
        const added = Array.from({ length: path.length - kept }, (_, n) => {
            const place = kept + n;
            const token = ribbonToken({ ...view, trace: path.leaf.trace }, path.prompt + place);
            const found = path.at(place);
            token.classList.toggle("given", !found || found.forcedId !== null);
            if (!found) return token;
            token.dataset.bin = String(BINS[tint].bin(...expectation(found)));
            token.id = `token-${place}`;
            token.setAttribute("role", "option");
            token.setAttribute("aria-selected", "false");
            return token;
        });
        const last = this.#tokens[kept - 1] ?? null;
        while (this.#list.lastChild !== last) this.#list.lastChild?.remove();
        if (last?.hasAttribute("data-ends-line")) this.#list.append("\n");
        this.#list.append(...runningText(added));
        this.#tokens = [...this.#tokens.slice(0, kept), ...added];
        this.#list.setAttribute("aria-label", say(lang, "page.ribbon"));
        if (this.#text.lang !== (view.textLang ?? "")) this.#text.lang = view.textLang ?? ""; // told again, it would style all tokens
        this.#written.replaceChildren();
        if (!same) this.#edited.tail.textContent = "";
        this.#edited.prompt.hidden = false;
        this.#generate.textContent = say(lang, "page.act_new");
        if (kept === 0 && !(same && this.#isTyped)) this.#showPrompt();
        if (!this.firstChild) this.replaceChildren(this.#text, this.#generate);
    }

    /** What is copied is the text itself, not how the page spells it. @param {ClipboardEvent} event */
    #copy(event) {
        const selection = getSelection();
        const isIn = [...this.querySelectorAll(".text .token")].map((token) => !token.matches("[hidden]") && selection?.containsNode(token, true));
        if (!isIn.includes(true) || this.#written.firstChild || this.#isTyped) return;
        const bytes = this.view.path.leaf.trace.textBytes(isIn.indexOf(true), isIn.lastIndexOf(true) + 1);
        event.clipboardData?.setData("text/plain", new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes));
        event.preventDefault();
    }

    /** What a token is pointed at for: its numbers, found when they are asked for. @param {EventTarget | null} target */
    #explain(target) {
        const token = target instanceof Element ? target.closest("[role=option]") : null;
        const at = token && this.view.path.at(Number(token.id.slice("token-".length)));
        if (!token || !at || token.hasAttribute("data-explained")) return;
        const numbers = new StepNumbers(at.trace, at.index);
        const { pModel, rank } = numbers.candidate(at.forcedId ?? numbers.takenId);
        const bits = numbers.entropy === null ? "?" : fixed(numbers.entropy, 2);
        const part = token.getAttribute("title");
        const said = say(this.view.lang, "page.token_about", { p_model: percent(pModel), rank: count(rank), bits });
        token.setAttribute("title", part ? `${part} \u00b7 ${said}` : said);
        token.toggleAttribute("data-explained", true);
    }

    /** @param {Event} event */
    #click(event) {
        const token = event.target instanceof Element && event.target.closest('[role="option"]');
        if (token) this.change({ place: Number(token.id.slice("token-".length)) });
    }

    /** @param {KeyboardEvent} event */
    #key(event) {
        const last = this.#tokens.length - 1;
        const { place, path } = this.view;
        /** @type {Record<string, () => [number, number]>} */
        const keys = {
            ArrowRight: () => [place + 1, 1],
            ArrowLeft: () => [place - 1, -1],
            ArrowDown: () => [this.#line(1), 1],
            ArrowUp: () => [this.#line(-1), -1],
            Home: () => [0, 1],
            End: () => [last, -1],
        };
        const [to, way] = Object.hasOwn(keys, event.key) ? keys[event.key]() : [];
        if (to === undefined || way === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
        event.preventDefault();
        const next = path.next(to, way);
        if (next !== null) this.change({ place: next });
    }

    /**
     * The token on the next or the previous line that lies nearest to the selected one.
     * @param {1 | -1} way
     */
    #line(way) {
        const from = this.#tokens[this.view.place]?.getBoundingClientRect();
        let [best, distance, line] = [this.view.place, Infinity, NaN];
        for (let i = this.view.place + way; this.#tokens[i]; i += way) {
            const box = this.#tokens[i].getBoundingClientRect();
            if (Math.abs(box.bottom - from.bottom) < from.height / 2) continue; // still the same line
            if (Number.isNaN(line)) line = box.bottom;
            if (Math.abs(box.bottom - line) > from.height / 2) break;
            if (Math.abs(box.left - from.left) < distance) [best, distance] = [i, Math.abs(box.left - from.left)];
        }
        return best;
    }
}

/**
 * How many places of two texts, from the first on, look the same.
 * @param {Path} path
 * @param {Path} other
 */
function alike(path, other) {
    if (path.chain[0] !== other.chain[0]) return 0;
    const isSame = (/** @type {number} */ place) => {
        const [one, two] = [path, other].map((each) => each.at(place));
        return one?.trace === two?.trace && one?.index === two?.index && one?.forcedId === two?.forcedId && path.ids[path.prompt + place] === other.ids[other.prompt + place];
    };
    const end = Math.min(path.length, other.length);
    let place = 0;
    while (place < end && isSame(place)) place++;
    return Math.max(0, place - CHARACTER); // a character in several tokens is named by all of them
}

customElements.define("manako-ribbon", RibbonElement);
