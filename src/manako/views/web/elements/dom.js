/**
 * Elements made of names, attributes and children.
 *
 * Special here: a string becomes a text node and never markup, and a style is a custom property set through the object
 * model, so that the page needs no exception in its policy.
 */

/** @import {Act, View, Change} from "../page/view-state.js" */
/** @typedef {Node | string | null | false} Child */

/**
 * A new element.
 * @template {string} K
 * @param {K} name
 * @param {Record<string, string | number | boolean | null | ((event: Event) => void)>} [attributes] a function listens
 *     to the event of that name; "--p" sets a custom property; null and false leave an attribute out
 * @param {...Child} children null and false are left out
 * @returns {K extends keyof HTMLElementTagNameMap ? HTMLElementTagNameMap[K] : HTMLElement}
 */
export function make(name, attributes = {}, ...children) {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
        if (typeof value === "function") element.addEventListener(key, value);
        else if (key.startsWith("--")) element.style.setProperty(key, String(value));
        else if (value === true) element.setAttribute(key, "");
        else if (value !== null && value !== false) element.setAttribute(key, String(value));
    }
    element.append(...children.filter(child => child !== null && child !== false));
    return /** @type {any} */ (element);
}

/**
 * A part of the page that shows a view. It draws itself whole when it is given one, and says by an event what to change.
 */
export class ViewElement extends HTMLElement {
    /** @type {View | null} */
    #view = null;

    /** @param {View} view */
    set view(view) {
        const before = this.#view;
        this.#view = view;
        this.draw(view, before);
    }

    /** @returns {View} */
    get view() {
        if (this.#view === null) throw new Error("nothing is shown yet");
        return this.#view;
    }

    /**
     * @param {View} _view
     * @param {View | null} _before what it showed until now
     */
    draw(_view, _before) {}

    /** @param {Change} change */
    change(change) {
        this.dispatchEvent(new CustomEvent("view-change", { bubbles: true, detail: change }));
    }

    /** Ask for what changes the texts themselves. @param {Act} act */
    act(act) {
        this.dispatchEvent(new CustomEvent("act", { bubbles: true, detail: act }));
    }
}

/**
 * A wide thing that scrolls by itself where the window is narrow, by keyboard too.
 * @param {string} label what it is, for those who hear it
 * @param {Element} inside
 */
export function scroller(label, inside) {
    return make("div", { class: "scroll", role: "region", tabindex: 0, "aria-label": label }, inside);
}
