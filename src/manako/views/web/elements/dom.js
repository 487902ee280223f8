/**
 * Elements made of names, attributes and children.
 *
 * Special here: a string becomes a text node and never markup, and a style is a custom property set through the object
 * model, so that the page needs no exception in its policy.
 */

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
 * A wide thing that scrolls by itself where the window is narrow, by keyboard too.
 * @param {string} label what it is, for those who hear it
 * @param {Element} inside
 */
export function scroller(label, inside) {
    return make("div", { class: "scroll", role: "region", tabindex: 0, "aria-label": label }, inside);
}
