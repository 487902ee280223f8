/** The numbers that the lessons' sentences name and draw, each read from the step that is shown. */

/** @import {View} from "../elements/view.js" */
import { make } from "../elements/dom.js";
import { tokenText } from "../elements/token-chip.js";
import { attentionWeights, readLens } from "../analysis/inside.js";
import { count, fixed, percent, perplexity, setting } from "../text/numbers.js";
import { say } from "../text/messages.js";
import { visibleText } from "../text/tokens.js";
import { LESSON_MODELS } from "./lesson-data.js";

/**
 * What a sentence may name. Each is worked out when it is asked for, since most need what not every step has.
 * @param {View} view
 */
export function lessonFacts(view) {
    const { lang, shown, trace, path, place } = view;
    const named = (/** @type {import("../analysis/step-numbers.js").Candidate} */ row) => tokenText(view, row, shown.pending);
    const first = shown.top(1)[0];
    const token = shown.candidate(view.forcedId ?? shown.takenId);
    const drawn = shown.candidate(shown.drawnId);
    const rest = () => shown.other(shown.top(view.top));
    const quoted = (/** @type {string} */ text) => say(lang, "token.quoted", { text: visibleText(text) });
    const { prompt } = path.chain[0].trace.header;
    const text = () => new TextDecoder().decode(path.leaf.trace.textBytes(0, path.ids.length));
    return {
        first: named(first),
        first_p: percent(first.p),
        first_p_model: percent(first.pModel),
        times: count(Math.round(first.pModel * shown.size)),
        token: named(token),
        token_p: percent(token.p),
        rank: count(token.rank),
        drawn: named(drawn),
        drawn_rank: count(drawn.rank),
        u: fixed(shown.u ?? NaN, 4),
        get low() { return fixed(shown.draw?.low ?? NaN, 4); },
        get high() { return fixed(shown.draw?.high ?? NaN, 4); },
        size: count(shown.size),
        even: percent(1 / shown.size),
        get rest_p() { return percent(rest().p); },
        get rest_count() { return count(rest().count); },
        bits: fixed(shown.entropy ?? NaN, 2),
        choices: perplexity(shown.entropy ?? NaN),
        temperature: setting((view.sampling ?? trace.header.sampling).temperature),
        seed: String(trace.header.seed),
        step: count(place + 1),
        prompt: quoted(prompt),
        get text() { return quoted(text()); },
        prompt_characters: count([...prompt].length),
        prompt_tokens: count(path.prompt),
        get language() { return say(lang, `lesson.language_${storyOf(view).language}`); },
        get name() { return quoted(storyOf(view).name); },
        get begun() { return quoted(storyOf(view).texts.alone.prompt); },
        get watched() { return quoted(storyOf(view).watched); },
        get pieces() { return count(storyOf(view).cuts.tokens.length); },
        get characters() { return count([...storyOf(view).cuts.tokens.join("")].length); },
        get vocabulary() { return count(storyOf(view).cuts.vocabulary); },
        get word() { return quoted(storyOf(view).cuts.word); },
        get watched_p() { return percent(watched(view)?.pModel ?? NaN); },
        get watched_rank() { return count(watched(view)?.rank ?? NaN); },
        layer: String(view.layer),
        head: String(view.head),
        get finder() { return String(bestHead(view).layer); },
        get jump() { return String(jump(view)); },
        get share() { return percent(shareOfWatched(view)); },
        get even_share() { return percent(1 / (trace.attention(view.index)?.keys ?? NaN)); },
        more: say(lang, "page.toggle_top"),
        resample: say(lang, "page.act_luck"),
        settings: say(lang, "page.act_settings"),
        guess: say(lang, "page.toggle_guess"),
        generate: say(lang, "page.act_new"),
    };
}

/** What the lessons have of the model that wrote what is shown. @param {View} view */
function storyOf({ trace }) {
    return LESSON_MODELS[trace.header.model.ref];
}

/** How much the chosen head looks at the watched token, where that stands first. @param {View} view */
export function shareOfWatched({ trace, index, layer, head }) {
    const found = trace.attention(index);
    const position = trace.allIds.findIndex((id) => isWatched(trace, id));
    return found && position >= found.start ? (attentionWeights(found, layer, head)[position - found.start] ?? 0) : 0;
}

/** The layer behind which the chosen token is likelier than before it by most. @param {View} view */
function jump({ trace, index }) {
    const { layers, tracked } = readLens(/** @type {import("../trace/trace-file.js").StepLens} */ (trace.lens(index)));
    const rises = tracked[0].slice(1).map(({ p }, n) => p - tracked[0][n].p);
    return layers[rises.indexOf(Math.max(...rises)) + 1];
}

/** The head that looks at it most. @param {View} view */
export function bestHead(view) {
    const { layers = 0, heads = 0 } = view.trace.attention(view.index) ?? {};
    const all = Array.from({ length: layers * heads }, (_, n) => ({ layer: Math.floor(n / heads), head: n % heads }));
    const share = (/** @type {{layer: number, head: number}} */ at) => shareOfWatched({ ...view, ...at });
    return all.reduce((best, each) => (share(each) > share(best) ? each : best), all[0]);
}

/**
 * What a step draws under its sentence: numbers as bars, what chance alone would give among them; null where they are missing.
 * @type {Record<string, (view: View, facts: ReturnType<typeof lessonFacts>) => HTMLElement | null>}
 */
export const PICTURES = {
    first: ({ lang, shown }, { first }) => bars([[first, shown.top(1)[0].pModel], [say(lang, "lesson.even"), 1 / shown.size]]),
    watched: (view, facts) => bars([[facts.watched, watched(view)?.pModel ?? NaN], [say(view.lang, "lesson.even"), 1 / view.shown.size]]),
    look: (view, { layer, head }) =>
        bars([[say(view.lang, "lesson.head", { layer, head }), shareOfWatched(view)], [say(view.lang, "lesson.even_share"), 1 / (view.trace.attention(view.index)?.keys ?? NaN)]]),
    layers: ({ lang, trace, index, shown }) => {
        const lens = trace.lens(index);
        if (!lens) return null;
        const { layers, tracked } = readLens(lens);
        const name = (/** @type {number} */ n) => (n ? say(lang, "lens.layer", { number: layers[n] }) : say(lang, "lens.embedding"));
        return bars([...tracked[0].map(({ p }, n) => /** @type {[string, number]} */ ([name(n), p])), [say(lang, "lesson.even"), 1 / shown.size]]);
    },
    cuts: (view) => {
        const { lang } = view;
        const { language, cuts } = storyOf(view);
        const row = (/** @type {string} */ key, /** @type {string[]} */ tokens) =>
            make("div", {}, make("dt", {}, say(lang, key)), make("dd", { lang: language }, ...tokens.map((each) => make("span", { class: "cut" }, each))));
        return make("dl", { class: "cuts" }, row("lesson.by_characters", [...cuts.tokens.join("")]), row("lesson.by_pieces", cuts.tokens));
    },
};

/** @param {[name: string, p: number][]} rows */
function bars(rows) {
    const row = ([name, p] = rows[0]) =>
        make("div", {}, make("dt", {}, name), make("dd", {}, make("span", {}, percent(p)), make("span", { class: "bar", "aria-hidden": "true" }, make("span", { class: "p", "--p": p }))));
    return make("dl", { class: "lesson-bars" }, ...rows.map((each) => row(each)));
}

/** The watched token among the candidates. @param {View} view */
function watched({ shown, trace }) {
    const id = Array.from({ length: shown.size }, (_, each) => each).find((each) => isWatched(trace, each));
    return id === undefined ? null : shown.candidate(id);
}

/** @param {View["trace"]} trace @param {number} id */
function isWatched(trace, id) {
    return new TextDecoder().decode(trace.tokenBytes(id)) === LESSON_MODELS[trace.header.model.ref]?.watched;
}
