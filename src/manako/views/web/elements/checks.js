/** <manako-checks>: what must hold for the record to be true, with the errors that were measured. */

/** @import {View} from "../page/view-state.js" */
/** @import {SelfCheck} from "../trace/trace-header.js" */
import { ViewElement, make } from "./dom.js";
import { small } from "../text/numbers.js";
import { knows, say } from "../text/messages.js";
import { visibleText } from "../text/tokens.js";

export class ChecksElement extends ViewElement {
    /** @param {View} view @param {View | null} before */
    draw({ lang, trace }, before) {
        if (before && before.trace === trace && before.lang === lang) return;
        const checks = trace.header.self_checks;
        const bad = checks.filter((check) => !check.ok).length;
        const key = checks.length === 0 ? "page.no_checks" : bad ? "page.checks_failed" : "page.checks_ok";
        const summary = make("summary", { class: bad ? "warn" : "" }, say(lang, key, { count: bad || checks.length }));
        const list = make("ul", {}, ...checks.map((check) => make("li", {}, checkSentence(lang, check))));
        this.replaceChildren(make("details", { open: bad > 0 }, summary, list));
    }
}

/**
 * One self-check in a sentence; a file may name any.
 * @param {View["lang"]} lang
 * @param {SelfCheck} check
 */
export function checkSentence(lang, check) {
    const key = `check.${check.name}`;
    const name = knows(lang, key) ? say(lang, key) : visibleText(check.name);
    const values = { name, error: small(check.error), limit: small(check.limit) };
    return say(lang, check.ok ? "check.ok" : "check.failed", values);
}

/**
 * The checks of one capture, to stand beside its picture.
 * @param {View} view
 * @param {readonly string[]} names
 */
export function checkLines({ lang, trace }, names) {
    return trace.header.self_checks
        .filter((check) => names.includes(check.name))
        .map((check) => make("p", { class: check.ok ? "soft" : "warn" }, checkSentence(lang, check)));
}

customElements.define("manako-checks", ChecksElement);
