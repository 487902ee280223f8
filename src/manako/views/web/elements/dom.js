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

/**
 * @param {(event: Event) => void} click
 * @param {Child} inside
 * @param {Record<string, string | number | boolean | null>} [more] attributes
 */
export function button(click, inside, more = {}) {
    return make("button", { type: "button", click, ...more }, inside);
}

/**
 * Buttons of which one is pressed, since what it stands for is chosen. It keeps the focus though all are made anew.
 * @template {string} T
 * @param {string} label
 * @param {readonly (readonly [value: T, name: string, lang?: string])[]} options
 * @param {T} chosen
 * @param {(value: T) => void} choose
 */
export function choices(label, options, chosen, choose) {
    const buttons = options.map(([value, name, lang = null]) => {
        const click = () => {
            choose(value);
            /** @type {HTMLElement | null} */ (document.querySelector(`[data-choice=${value}]`))?.focus();
        };
        return button(click, name, { lang, "data-choice": value, "aria-pressed": String(value === chosen) });
    });
    return make("div", { class: "choices", role: "group", "aria-label": label }, ...buttons);
}

/** Whether what was filled in makes sense; the browser says what does not, where it stands. @param {...HTMLInputElement} inputs */
export function sound(...inputs) {
    const wrong = inputs.find((input) => !input.validity.valid);
    /** @type {HTMLElement | null | undefined} */ (wrong?.closest("[popover]"))?.showPopover();
    return wrong?.reportValidity() ?? true;
}

/** Side by side, as far as there is room. @param {...Child} inside */
export function inRow(...inside) {
    return make("div", { class: "row" }, ...inside);
}

/** A note in small letters. @param {...Child} inside */
export function soft(...inside) {
    return make("p", { class: "soft" }, ...inside);
}

/** The head of a column. @param {Child} inside @param {string | null} [kind] */
export function columnHead(inside, kind = null) {
    return make("th", { scope: "col", class: kind }, inside);
}

/** The head of a row. @param {string | null} kind @param {...Child} inside */
export function rowHead(kind, ...inside) {
    return make("th", { scope: "row", class: kind }, ...inside);
}

/** A cell with a number. @param {...Child} inside */
export function number(...inside) {
    return make("td", { class: "number" }, ...inside);
}

/**
 * @param {readonly Child[]} heads
 * @param {readonly Child[]} rows
 * @param {Child} [caption]
 * @param {string | null} [kind]
 */
export function table(heads, rows, caption = null, kind = null) {
    const titled = typeof caption === "string" ? make("caption", {}, caption) : caption;
    return make("table", { class: kind }, titled, make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...rows));
}

/**
 * Have the browser save a file.
 * @param {string} name
 * @param {Blob} blob
 */
export function download(name, blob) {
    const url = URL.createObjectURL(blob);
    make("a", { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000); // time for the browser to write it
}
