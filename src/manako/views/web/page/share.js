/** What a reader takes along: a link to what is shown, the texts as they are on record, the page itself, the steps as a table. */

/** @import {Kept} from "./kept.js" */
/** @import {Branch, Tree} from "../trace/tree.js" */
/** @import {View} from "../elements/view.js" */
/** @import {Trace} from "../trace/trace-file.js" */
import { button, download, inRow, make, soft } from "../elements/dom.js";
import { say } from "../text/messages.js";
import { fixed } from "../text/numbers.js";
import { compact } from "../trace/compact.js";
import { packRecord } from "../trace/packed.js";
import { saveMenu } from "./save.js";
import { SourceError } from "./source.js";
import { writeTree } from "../trace/tree-file.js";

const PLACE_OF_RECORD = 'data-length="0"></script>'; // in the page that has none
/** @type {WeakMap<Trace, Promise<ArrayBuffer>>} the smaller copies, which take a while */
const copies = new WeakMap();

/**
 * What a page has that can write.
 * @typedef {object} Home
 * @property {() => Promise<string>} page itself, as one file without a record
 * @property {Kept} kept where what it writes is kept
 */

/**
 * @param {() => View} look at what is shown
 * @param {Tree} tree
 * @param {Home | null} home
 * @returns {{element: HTMLElement, fill: () => void}} `fill` before it opens, since it tells sizes
 */
export function shareSheet(look, tree, home) {
    const element = make("div", { class: "pane" });
    return { element, fill: () => element.replaceChildren(...shareRows(look(), tree, home)) };
}

/**
 * @param {View} view
 * @param {Tree} tree
 * @param {Home | null} home
 */
function shareRows({ lang, path, branch }, tree, home) {
    const said = make("p", { role: "status", class: "soft" });
    const whole = make("input", { type: "radio", name: "texts", value: "all" });
    const chosen = () => (whole.checked ? [...tree.branches.values()] : path.chain);
    const small = make("input", { type: "checkbox", name: "compact", checked: true });
    const smaller = () => Promise.all(chosen().map(async (each) => {
        if (!copies.has(each.trace)) copies.set(each.trace, compact(each.trace, each.bytes));
        return { ...each, bytes: await /** @type {Promise<ArrayBuffer>} */ (copies.get(each.trace)) };
    }));
    const bytes = async () => {
        const branches = small.checked ? await smaller() : chosen();
        return branches.length === 1 ? branches[0].bytes : writeTree(branches, branch);
    };
    const compactSize = make("span");
    const tell = async () => {
        const { checked } = whole;
        const size = megabytes(await smaller());
        if (whole.checked === checked) compactSize.textContent = say(lang, "page.compact", { size }); // else another answer is on its way
    };
    const megabytes = (/** @type {Iterable<Branch>} */ branches) => fixed([...branches].reduce((sum, each) => sum + each.bytes.byteLength, 0) / 1e6, 1);
    const option = (/** @type {HTMLInputElement} */ input, /** @type {string} */ key, /** @type {Iterable<Branch>} */ branches) =>
        make("label", { class: "inline" }, input, make("span", {}, say(lang, key, { size: megabytes(branches) })));
    const keep = (/** @type {string} */ name, /** @type {Blob} */ blob) => {
        download(name, blob);
        said.textContent = say(lang, "page.saved", { name, size: fixed(blob.size / 1e6, 1) });
    };
    const record = async () => keep("manako-texts.manako", new Blob([await bytes()]));
    const page = async () => {
        const [text, data] = await Promise.all([/** @type {Home} */ (home).page(), bytes()]);
        const packed = `data-length="${data.byteLength}">${await packRecord(data)}</script>`;
        const whole = text.replace(/(?<=<html lang=")\w*/, lang).replace(PLACE_OF_RECORD, () => packed);
        keep("manako-texts.html", new Blob([whole], { type: "text/html" }));
    };
    const link = async () => {
        const { href } = location;
        const copied = await navigator.clipboard?.writeText(href).then(() => true, () => false);
        const told = copied ? say(lang, "page.link_copied") : href; // to be copied by hand where the browser refuses
        said.textContent = told + (path.leaf.isOwn ? ` ${say(lang, "page.link_own")}` : "");
    };
    const forget = async () => {
        await home?.kept.clear();
        said.textContent = say(lang, "page.forgotten");
    };
    const acting = (/** @type {string} */ key, /** @type {() => Promise<void>} */ act) => {
        const click = () => act().catch((error) => (said.textContent = error.message || (error instanceof SourceError ? say(lang, "page.lost_server") : String(error))));
        return button(click, say(lang, key));
    };
    const places = () => Array.from({ length: path.length }, (_, place) => path.at(place)).filter((each) => each !== null);
    const isChoice = tree.branches.size > path.chain.length;
    const one = make("input", { type: "radio", name: "texts", value: "this", checked: true });
    for (const each of [one, whole]) each.addEventListener("change", tell);
    tell();
    return [
        inRow(location.protocol !== "about:" && acting("page.copy_link", link)), // a frame in a notebook has no address
        inRow(isChoice && option(one, "page.this_text", path.chain), isChoice && option(whole, "page.all_texts", tree.branches.values())),
        inRow(make("label", { class: "inline" }, small, compactSize)),
        inRow(acting("page.save_record", record), home && acting("page.save_html", page), path.next(0, 1) !== null && saveMenu(lang, places)),
        said,
        soft(say(lang, home ? "page.save_means_live" : "page.save_means")),
        ...(home ? [soft(say(lang, "page.kept_means")), inRow(acting("page.forget", forget))] : []),
    ];
}
