/**
 * A label that says what it means: a button under which the glossary's sentence opens.
 *
 * Special here: the browser opens and closes it, by pointer, touch, Enter and Escape, and says so to those who hear the
 * page. The sentence is made at the first opening, so that a table full of terms is not full of hidden text.
 */

/** @import {Lang} from "../text/messages.js" */
import { button, make } from "./dom.js";
import { knows, say } from "../text/messages.js";

/**
 * @param {Lang} lang
 * @param {string} key of the term in the catalog; a label without an entry there stays plain text
 * @param {string} [label] what stands on the page, the term itself where nothing else is said
 * @returns {HTMLElement}
 */
export function term(lang, key, label) {
    if (!knows(lang, `term.${key}`)) return make("span", {}, label ?? key);
    const name = say(lang, `term.${key}`);
    const open = () => {
        about.popoverTargetElement ??= meaning();
        const { left, bottom } = about.getBoundingClientRect();
        for (const [axis, at] of Object.entries({ "--x": left + scrollX, "--y": bottom + scrollY })) {
            about.popoverTargetElement.style.setProperty(axis, `${at}px`);
        }
    };
    const told = (/** @type {Event} */ event) => {
        about.setAttribute("aria-expanded", String(/** @type {ToggleEvent} */ (event).newState === "open"));
    };
    const meaning = () => {
        const made = make("span", { popover: "auto", class: "meaning", toggle: told }, make("strong", {}, name), say(lang, `term.${key}_means`));
        about.after(made);
        return made;
    };
    const about = /** @type {HTMLButtonElement & {popoverTargetElement: HTMLElement}} */ (button(open, label ?? name, { class: "term", "data-term": key, "aria-expanded": "false" }));
    return about;
}

/** Terms that stand for themselves, where no label shows them. @param {Lang} lang @param {readonly string[]} keys */
export function terms(lang, keys) {
    return make("p", { class: "soft row" }, say(lang, "page.terms"), ...keys.map((key) => term(lang, key)));
}
