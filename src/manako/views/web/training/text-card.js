/**
 * The card that takes a text: typed, pasted, or from a file; a training that was saved is opened from the same place.
 *
 * Special here: a long text is not shown, since a browser takes seconds to lay it out.
 */

import { button, inRow, make, soft } from "../elements/dom.js";
import { pageLanguage, say } from "../text/messages.js";
import { fixed } from "../text/numbers.js";
import { textOf } from "./text-file.js";

const LARGEST_FILE = 40e6; // bytes
const LONGEST_SHOWN = 20_000; // characters
const TYPED = 400; // ms without a key before a text is read

/**
 * @typedef {object} Taker of what is given
 * @property {(isTyping: boolean) => void} typing whether what was typed last is still to come
 * @property {(text: string) => void} text
 * @property {(run: ArrayBuffer) => void} run a training that was saved
 * @property {(key: string, values: Record<string, string | number>) => void} fault of a file
 */

export class TextCard {
    /** @param {Taker} taker */
    constructor(taker) {
        this.#taker = taker;
    }

    #taker;
    /** The name of the file that was read last, "" before. */
    file = "";
    #area = make("textarea");
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    #typing;

    /** In the page's language, with what was typed. */
    card() {
        const typed = this.#area.value;
        const area = make("textarea", { rows: 8, "aria-label": words("text_label"), placeholder: words("text_hint"), spellcheck: "false", class: "training-text", input: () => {
            clearTimeout(this.#typing);
            this.#taker.typing(true);
            this.#typing = setTimeout(() => (this.#area.isConnected ? this.#give(this.#area.value) : this.#settle()), TYPED);
        } });
        area.addEventListener("paste", (event) => {
            const pasted = event.clipboardData?.getData("text/plain") ?? "";
            if (pasted.length <= LONGEST_SHOWN) return;
            event.preventDefault();
            this.#give(area.value.slice(0, area.selectionStart) + pasted + area.value.slice(area.selectionEnd));
        });
        area.value = typed;
        this.#area = area;
        const file = make("input", { type: "file", hidden: true, change: () => file.files?.[0] && this.#read(file.files[0]) });
        return make("section", { class: "card" }, make("h2", {}, words("text")), area,
            inRow(button(() => file.click(), words("file")), file, button(() => this.#give(ownText()), words("own"))),
            soft(words("file_is")));
    }

    /** @param {File} file */
    async #read(file) {
        this.#settle();
        this.file = file.name;
        if (file.size > LARGEST_FILE) return this.#taker.fault("fault_file_long", { file: file.name, size: fixed(file.size / 1e6, 0), most: LARGEST_FILE / 1e6 });
        const bytes = await file.arrayBuffer().catch((error) => this.#taker.fault("fault_file_unreadable", { file: file.name, error: String(error) }));
        if (!bytes) return;
        if (file.name.endsWith(".manako-run")) return this.#taker.run(bytes);
        const text = textOf(bytes);
        if (text === null) return this.#taker.fault("fault_file_binary", { file: file.name });
        this.#give(text);
    }

    /** What was typed last needs no more reading. */
    #settle() {
        clearTimeout(this.#typing);
        this.#taker.typing(false);
    }

    /** @param {string} text */
    #give(text) {
        this.#settle();
        if (this.#area.value !== text) this.#area.value = text.length > LONGEST_SHOWN ? "" : text;
        if (text !== "") this.#taker.text(text);
    }
}

/** All that this page says, in its language: a text that everybody has. */
function ownText() {
    const said = JSON.parse(document.getElementById("manako-words")?.textContent ?? "{}")[pageLanguage()];
    return Object.values(said).join("\n");
}

/** @param {string} key */
function words(key) {
    return say(pageLanguage(), `training.${key}`);
}
