/** What the page can put into a file: the texts as they are on record, the page itself, the steps as a table. */

/** @import {Source} from "./source.js" */
/** @import {Tree} from "../trace/tree.js" */
/** @import {View} from "../elements/view.js" */
import { button, make, soft } from "../elements/dom.js";
import { say } from "../text/messages.js";
import { fixed } from "../text/numbers.js";
import { packRecord } from "../trace/packed.js";
import { download, saveMenu } from "./save.js";
import { writeTree } from "../trace/tree-file.js";

const PLACE_OF_RECORD = 'data-length="0"></script>'; // in the page that has none

/**
 * @param {() => View} look at what is shown
 * @param {Tree} tree
 * @param {Source | null} source that can give the page without a record
 */
export function saveRows(look, tree, source) {
    const { lang, path } = look();
    const bytes = async () => {
        const { branches } = tree;
        const { branch } = look();
        return branches.size === 1 ? /** @type {import("../trace/tree.js").Branch} */ (branches.get(branch)).bytes : writeTree(branches.values(), branch);
    };
    const said = make("p", { role: "status", class: "soft" });
    const keep = (/** @type {string} */ name, /** @type {Blob} */ blob) => {
        download(name, blob);
        said.textContent = say(lang, "page.saved", { name, size: fixed(blob.size / 1e6, 1) });
    };
    const record = async () => keep("manako-texts.manako", new Blob([await bytes()]));
    const page = async () => {
        const [text, data] = await Promise.all([/** @type {Source} */ (source).offlinePage(lang), bytes()]);
        const packed = `data-length="${data.byteLength}">${await packRecord(data)}</script>`;
        keep("manako-texts.html", new Blob([text.replace(PLACE_OF_RECORD, () => packed)], { type: "text/html" }));
    };
    const saver = (/** @type {string} */ key, /** @type {() => Promise<void>} */ act) => {
        const click = () => act().catch((error) => (said.textContent = error.message || say(lang, "page.lost_server")));
        return button(click, say(lang, key));
    };
    const places = () => {
        const { path } = look();
        return Array.from({ length: path.length }, (_, place) => path.at(place)).filter((each) => each !== null);
    };
    return make(
        "div",
        { class: "pane" },
        make("div", { class: "row" }, saver("page.save_record", record), source && saver("page.save_html", page), path.next(0, 1) !== null && saveMenu(lang, places)),
        said,
        soft(say(lang, source ? "page.save_means_live" : "page.save_means")),
    );
}
