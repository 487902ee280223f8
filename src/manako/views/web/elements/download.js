/** A file that the page made, handed to the browser. */

import { make } from "./dom.js";

const KEPT_FOR = 60_000; // ms that a browser has to write a file

/**
 * Have the browser save a file.
 * @param {string} name
 * @param {Blob} blob
 */
export function download(name, blob) {
    const url = URL.createObjectURL(blob);
    make("a", { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), KEPT_FOR);
}
