/** What the page says in sentences about the step that is shown. */

/** @import {View} from "../elements/view.js" */
/** @import {StepNumbers} from "../analysis/step-numbers.js" */
import { characterAt, tokenText } from "../elements/token-chip.js";
import { say } from "../text/messages.js";
import { count, percent } from "../text/numbers.js";

/**
 * The sentence of each place that the frame has for one; empty where there is nothing to say.
 * @param {View} view
 * @param {StepNumbers} recorded the step under the recorded settings
 * @returns {Record<string, string>}
 */
export function stepSentences(view, recorded) {
    const { lang, shown, path, place, guess, trace, index, forcedId } = view;
    const named = (/** @type {number} */ id) => {
        const row = recorded.candidate(id);
        const token = tokenText(view, row, shown.pending);
        return { token, p: percent(row.p), p_model: percent(row.pModel), rank: count(row.rank) };
    };
    const chosen = shown.u === null ? "page.given" : forcedId === null ? "page.chosen" : "page.drawn";
    const isInstead = forcedId !== null && forcedId !== shown.takenId; // one may put in what was drawn
    const start = trace.windowStart[index];
    const isOther = shown.changed && shown.draw && shown.drawnId !== shown.takenId;
    const elsewhere = trace === path.leaf.trace ? "" : say(lang, "page.elsewhere");
    return {
        title: say(lang, "page.step", { number: place + 1, count: path.length }),
        chosen: say(lang, chosen, named(shown.takenId)),
        "elsewhere-attention": elsewhere,
        "elsewhere-layers": elsewhere,
        forced: isInstead ? say(lang, "page.forced", named(forcedId)) : "",
        window: start ? say(lang, "step.window", { start: start + 1 }) : "",
        part: (!guess && characterAt(path.leaf.trace, path.prompt + place)) || "",
        other: isOther ? say(lang, "page.other_token", { token: named(shown.drawnId).token }) : "",
    };
}
