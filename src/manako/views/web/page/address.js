/** The choice of what is shown as the fragment of an address, so that a link or a reload shows the same. */

/** @import {Choice} from "../elements/view.js" */
/** @import {Sampling} from "../trace/sampling.js" */
/** @import {Trace} from "../trace/trace-file.js" */
import { languages } from "../text/messages.js";
import { STAGES, ordered, samplingFault } from "../trace/sampling.js";
import { canAnswer } from "../analysis/step-numbers.js";
import { AXES, LISTS, TEMPERATURES, TINTS } from "../elements/view.js";
import { TABS, withTab } from "./tabs.js";
import { lessonPlace } from "../lessons/lesson-data.js";

/**
 * What stands at its usual value is left out.
 * @param {Choice} choice
 * @param {Sampling} recorded
 */
export function toFragment(choice, recorded) {
    const { lang, branch, place, tint, tabs, guess, sampling } = choice;
    const put = new URLSearchParams({ lang, branch, step: String(place + 1), tint, tab: tabs.join(" ") });
    const tell = (/** @type {string} */ name, /** @type {unknown} */ value, /** @type {unknown} */ usual = null) => value !== usual && put.set(name, String(value));
    tell("details", Number(choice.details), 0);
    tell("top", choice.top, LISTS[0]);
    tell("axis", choice.axis, AXES[0]);
    tell("temperatures", choice.temperatures.join(" "), TEMPERATURES.join(" "));
    tell("guess", guess && guess.place + 1); // a reload must not tell what comes
    tell("layer", choice.layer);
    tell("head", choice.head);
    tell("projector", Number(choice.projector), 0);
    tell("lesson", choice.lesson);
    for (const name of STAGES) if (sampling) tell(name, sampling[name] ?? "off", recorded[name] ?? "off");
    return put.toString();
}

/**
 * The choice that a fragment names; whatever makes no sense in it is passed over.
 * @param {string} fragment without its "#"
 * @param {Choice} usual
 * @param {Trace} trace of the step, whose settings the fragment changes
 * @returns {Choice}
 */
export function fromFragment(fragment, usual, trace) {
    const put = new URLSearchParams(fragment);
    const whole = (/** @type {string} */ name) => {
        return /^\d{1,9}$/.test(put.get(name) ?? "") ? Number(put.get(name)) : null;
    };
    /** @template {string} T @param {string} name @param {readonly T[]} of */
    const one = (name, of) => of.find((each) => each === put.get(name));
    const changed = STAGES.filter((name) => put.has(name)).map((name) => {
        return [name, put.get(name) === "off" ? null : Number(put.get(name))];
    });
    const sampling = ordered({ ...trace.header.sampling, ...Object.fromEntries(changed) });
    const isSound = changed.length > 0 && samplingFault(sampling) === null && canAnswer(trace, sampling);
    const temperatures = put.get("temperatures")?.split(" ").map(Number);
    const isTemperature = (/** @type {number} */ temperature) => samplingFault({ ...trace.header.sampling, temperature }) === null;
    return {
        ...usual,
        lang: one("lang", languages()) ?? usual.lang,
        branch: put.get("branch") ?? usual.branch,
        place: Math.max(0, (whole("step") ?? usual.place + 1) - 1),
        tint: one("tint", TINTS) ?? usual.tint,
        details: put.get("details") === "1",
        top: LISTS.find((each) => each === whole("top")) ?? usual.top,
        axis: one("axis", AXES) ?? usual.axis,
        sampling: isSound ? sampling : null,
        temperatures: temperatures?.length === TEMPERATURES.length && temperatures.every(isTemperature) ? temperatures : usual.temperatures,
        guess: whole("guess") ? { place: Number(whole("guess")) - 1, shown: false } : null,
        layer: whole("layer"),
        head: whole("head"),
        tabs: put.get("tab")?.split(" ").filter((id) => TABS.some((tab) => tab.id === id)).reduceRight(withTab, usual.tabs) ?? usual.tabs,
        lesson: lessonPlace(put.get("lesson")) ? put.get("lesson") : null,
        projector: put.get("projector") === "1",
    };
}
