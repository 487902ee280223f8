/** The choice of a language on a page that is made anew in it, kept in the address, so that a reload shows the same. */

import { choices } from "./dom.js";
import { languages, pageLanguage, say } from "../text/messages.js";

/** Before anything is drawn. @param {string} usual where the address says none, or there are no words of it */
export function restoreLanguage(usual = document.documentElement.lang) {
    const asked = new URLSearchParams(location.hash.slice(1)).get("lang") ?? "";
    document.documentElement.lang = [asked, usual].find((lang) => languages().includes(lang)) ?? "en";
}

/** @param {() => void} draw the page */
export function languageChoice(draw) {
    const choose = (/** @type {string} */ lang) => {
        document.documentElement.lang = lang;
        history.replaceState(null, "", `#lang=${lang}`);
        draw();
    };
    return choices(say(pageLanguage(), "page.language"), languages().map((lang) => [lang, say(lang, "language.name"), lang]), pageLanguage(), choose);
}
