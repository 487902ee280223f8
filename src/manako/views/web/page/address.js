/** The choice of what is shown as the fragment of an address, so that a link or a reload shows the same. */

/** @import {Choice} from "../elements/view.js" */
/** @import {Sampling} from "../trace/sampling.js" */
/** @import {Trace} from "../trace/trace-file.js" */
import { languages } from "../text/messages.js";
import { STAGES, ordered, samplingFault } from "../trace/sampling.js";
import { canAnswer } from "../analysis/step-numbers.js";
import { AXES, LISTS, TINTS } from "../elements/view.js";
import { TABS, withTab } from "./tabs.js";
import { lessonPlace } from "../lessons/lesson-data.js";

/**
 * What stands at its usual value is left out.
 * @param {Choice} choice
 * @param {Sampling} recorded
 */
export function toFragment(choice, recorded) {
    const { lang, branch, place, tint, guess, layer, head, tabs } = choice;
    const put = new URLSearchParams({ lang, branch, step: String(place + 1), tint, tab: tabs.join(" ") });
    if (choice.details) put.set("details", "1");
    if (choice.top !== LISTS[0]) put.set("top", String(choice.top));
    if (choice.axis !== "linear") put.set("axis", choice.axis);
    if (guess) put.set("guess", String(guess.place + 1)); // a reload must not tell what comes
    if (layer !== null) put.set("layer", String(layer));
    if (head !== null) put.set("head", String(head));
    if (choice.projector) put.set("projector", "1");
    if (choice.lesson !== null) put.set("lesson", choice.lesson);
    for (const name of STAGES) {
        const value = choice.sampling?.[name];
        if (value !== undefined && value !== recorded[name]) put.set(name, value === null ? "off" : String(value));
    }
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
        guess: whole("guess") ? { place: Number(whole("guess")) - 1, shown: false } : null,
        layer: whole("layer"),
        head: whole("head"),
        tabs: put.get("tab")?.split(" ").filter((id) => TABS.some((tab) => tab.id === id)).reduceRight(withTab, usual.tabs) ?? usual.tabs,
        lesson: lessonPlace(put.get("lesson")) ? put.get("lesson") : null,
        projector: put.get("projector") === "1",
    };
}
