/** What a reader may be asked to do, each as a question to what the page shows: is it done? */

/** @import {View} from "../elements/view.js" */
import { shareOfWatched } from "./facts.js";
import { LESSON_MODELS } from "./lesson-data.js";

const COLD = 0.3;
const HOT = 1.2;
const HALF = 0.5;
const prompts = new Set(Object.values(LESSON_MODELS).flatMap(({ texts }) => Object.values(texts).map(({ prompt }) => prompt)));
const warmth = (/** @type {View} */ { sampling, trace }) => (sampling ?? trace.header.sampling).temperature;

/** @type {Record<string, (now: View, start: View) => boolean>} */
export const TASKS = {
    more: ({ top }, start) => top > start.top,
    move: ({ branch, place }, start) => branch !== start.branch || place !== start.place,
    reseed: ({ branch, trace }, start) => branch !== start.branch && trace.header.seed !== start.trace.header.seed,
    colder: (now) => warmth(now) <= COLD,
    hotter: (now) => warmth(now) >= HOT,
    reheat: (now, start) => now.branch !== start.branch && now.trace.header.sampling.temperature >= HOT,
    guess: ({ guess }) => guess !== null && guess.shown,
    look: (now) => now.head !== null && shareOfWatched(now) >= HALF,
    own: ({ branch, path }, start) => branch !== start.branch && !prompts.has(path.chain[0].trace.header.prompt),
};
/** Those that need a model in the page. */
export const NEEDS_MODEL = new Set(["reseed", "reheat", "own"]);
