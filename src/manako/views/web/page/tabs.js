/**
 * The tabs below the stage, as data. A new one is a row here, its element, and two keys of the catalog; nothing else
 * names one. Who wants one shown (a lesson, a link) asks for its id: `change({ tab: id })`, or
 * `tab=why` in the address.
 *
 * Special here: where there is room two are shown side by side, those chosen last, in the order of this list.
 */

/** @import {Path} from "../trace/tree.js" */
import "../elements/attention.js";
import "../elements/beside.js";
import "../elements/candidates.js";
import "../elements/lens.js";
import "../elements/model.js";
import "../elements/stages.js";
import "../elements/tree.js";
import "../elements/what-if.js";
import "../elements/why.js";

/**
 * @typedef {object} Tab
 * @property {string} id `page.tab_ID` of the catalog is its name
 * @property {string} title key of the heading in it
 * @property {readonly string[]} elements what stands in it, from above; each is handed the view while the tab is shown
 * @property {string} [picture] name of the file of the first one's `drawing`, or of that of the step
 * @property {readonly string[]} explains terms that a reader may want to have explained
 * @property {boolean} [tells] whether it tells what comes after the step, and so is hidden from those who guess
 * @property {(path: Path) => boolean} isThere whether there is anything to show of this text
 */

const always = () => true;
const hasSteps = (/** @type {Path} */ path) => path.next(0, 1) !== null;
const hasCapture = (/** @type {string} */ name) => (/** @type {Path} */ { chain }) =>
    chain.some(({ trace }) => trace.header.capture.includes(name));

const hasMerges = (/** @type {Path} */ { leaf }) =>
    Boolean(/** @type {any} */ (customElements.get("manako-merges"))?.knows(leaf.trace.header.model)); // a script of its own

/** @type {readonly Tab[]} */
export const TABS = [
    { id: "candidates", title: "page.candidates", elements: ["manako-candidates"], explains: ["u", "coverage", "surprisal", "entropy", "perplexity"], picture: "step", isThere: hasSteps },
    { id: "what_if", title: "page.what_if", elements: ["manako-what-if", "manako-stages", "manako-beside"], explains: ["temperature", "top_k", "top_p", "min_p", "typical_p", "sampler_chain", "what_if", "logit"], isThere: hasSteps },
    { id: "attention", tells: true, title: "page.attention", elements: ["manako-attention"], explains: ["attention", "sink", "rollout"], picture: "attention", isThere: hasCapture("attention") },
    { id: "layers", tells: true, title: "page.lens", elements: ["manako-lens"], explains: ["lens", "residual_stream", "logit"], picture: "lens", isThere: hasCapture("lens") },
    { id: "why", title: "page.why", elements: ["manako-model", "manako-why"], explains: ["contribution", "residual_stream", "self_check"], isThere: hasCapture("contributions") },
    { id: "merges", tells: true, title: "page.merges", elements: ["manako-merges"], explains: ["token"], isThere: hasMerges },
    { id: "branches", tells: true, title: "page.tree", elements: ["manako-tree"], explains: ["fork", "forced", "seed", "trace"], isThere: always },
];

/** What is shown until a reader chooses. */
export const FIRST_TABS = ["candidates", "why"];

/**
 * What is chosen once this one is too.
 * @param {readonly string[]} chosen
 * @param {string} id
 */
export function withTab(chosen, id) {
    return [id, ...chosen.filter((each) => each !== id)].slice(0, 2);
}

/**
 * The tabs to show: those chosen of which there is something, and others where these are too few.
 * @param {readonly string[]} chosen the last one first
 * @param {Path} path
 * @param {number} room for how many
 */
export function shownTabs(chosen, path, room) {
    const there = TABS.filter((tab) => tab.isThere(path)).map(({ id }) => id);
    return [...chosen.filter((id) => there.includes(id)), ...there.filter((id) => !chosen.includes(id))].slice(0, room);
}
