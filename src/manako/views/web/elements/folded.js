/** A table behind a picture: made when a reader opens it, and anew at each step as long as it is open. */

import { make } from "./dom.js";

/**
 * @param {string} label
 * @param {() => Node | string} content
 * @returns {{element: HTMLDetailsElement, fill: () => void}} `fill` makes it anew
 */
export function folded(label, content) {
    const place = make("div");
    const fill = () => place.replaceChildren(...(element.open ? [content()] : []));
    const element = make("details", { toggle: fill }, make("summary", {}, label), place);
    return { element, fill };
}
