/**
 * <manako-checks>: whether every token follows from the record, drawn again here; and what only the run itself says.
 *
 * Special here: what was not checked is told where the verdict stands.
 */

/** @import {View} from "./view.js" */
/** @import {SelfCheck} from "../trace/trace-header.js" */
/** @import {Verification} from "../analysis/verification.js" */
import { make } from "./dom.js";
import { ViewElement } from "./view.js";
import { count, small } from "../text/numbers.js";
import { knows, say } from "../text/messages.js";
import { visibleText } from "../text/tokens.js";

export class ChecksElement extends ViewElement {
    /** @type {readonly Verification[] | null} of each record of the text; null while it is being verified */
    #found = null;
    #isUnchecked = false;
    #isOpen = false;

    /** @param {View} view @param {View | null} before */
    draw(view, before) {
        if (!before || before.path !== view.path || before.lang !== view.lang) this.#show();
    }

    /**
     * @param {readonly Verification[] | null} found
     * @param {boolean} isUnchecked whether there was no means to check the digests
     */
    tell(found, isUnchecked) {
        [this.#found, this.#isUnchecked] = [found, isUnchecked];
        this.#show();
    }

    #show() {
        const { lang, path } = this.view;
        const checks = path.chain.flatMap(({ trace }) => trace.header.self_checks);
        const bad = checks.filter((check) => !check.ok).length;
        const [isWrong, verdict] = this.#verdict();
        const details = make(
            "details",
            { open: isWrong || bad > 0 || this.#isOpen, toggle: () => (this.#isOpen = details.open) },
            make("summary", { class: isWrong ? "warn" : "" }, verdict),
            bad > 0 && make("p", { class: "warn" }, say(lang, "page.checks_failed", { count: bad })),
            make("p", {}, say(lang, "page.not_checked")),
            make("ul", {}, ...this.#notChecked().map((each) => make("li", {}, each))),
            make("p", {}, say(lang, checks.length ? "page.checks_recorded" : "page.no_checks")),
            make("ul", {}, ...checks.map((check) => make("li", {}, checkSentence(lang, check)))),
        );
        this.replaceChildren(details);
    }

    /** @returns {[isWrong: boolean, sentence: string]} */
    #verdict() {
        const { lang, path } = this.view;
        const found = this.#found;
        if (found === null) return [false, say(lang, "page.verifying")];
        const wrong = found.findIndex(({ failure, contradictions }) => failure || contradictions.length);
        if (wrong >= 0) {
            const { failure, contradictions } = found[wrong];
            if (failure === null) return [true, say(lang, "page.verify_contradictions", { names: contradictions.join(", ") })];
            const { index, recorded, again } = failure;
            const [first, own] = [path.chain[0], path.chain[wrong]].map(({ trace }) => trace.header.first_step);
            const key = again < 0 || again === recorded ? "page.verify_column" : "page.verify_failed";
            return [true, say(lang, key, { step: own - first + index + 1, recorded, again, name: contradictions[0] ?? "" })];
        }
        const sum = (/** @type {"steps" | "rederived"} */ name) => found.reduce((total, each) => total + each[name], 0);
        const isScore = path.leaf.trace.header.kind === "score";
        const key = isScore ? "page.verified_score" : sum("steps") ? "page.verified" : "page.verified_none";
        return [false, say(lang, key, { count: count(sum("steps")), rederived: count(sum("rederived")) })];
    }

    /** What the verdict does not say, one sentence each. */
    #notChecked() {
        const { lang, path } = this.view;
        const outside = this.#found?.reduce((total, { unverifiable }) => total + unverifiable, 0) ?? 0;
        const forced = Array.from({ length: path.length }, (_, place) => path.at(place)).filter((at) => at?.forcedId !== null);
        const captured = [...new Set(path.chain.flatMap(({ trace }) => trace.header.capture))];
        const isScore = path.leaf.trace.header.kind === "score";
        return [
            outside > 0 && say(lang, "page.unchecked_outside", { count: count(outside) }),
            forced.length > 0 && say(lang, "page.unchecked_forced", { count: count(forced.length) }),
            isScore && say(lang, "page.unchecked_score"),
            captured.length > 0 && say(lang, "page.unchecked_inside", { captures: captured.join(", ") }),
            this.#isUnchecked && say(lang, "page.unchecked"),
            say(lang, "page.unchecked_model"),
        ].filter((each) => each !== false);
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
        .map((check) => {
            const said = say(lang, "page.check_recorded", { check: checkSentence(lang, check) });
            return make("p", { class: check.ok ? "soft" : "warn" }, said);
        });
}

customElements.define("manako-checks", ChecksElement);
