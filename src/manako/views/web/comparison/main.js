/** The start of the page of two models side by side: words and the two traces are in the file that the page is. */

import { ComparisonElement } from "./view.js";
import { restoreLanguage } from "../elements/language.js";
import { pageLanguage, say, setCatalogs } from "../text/messages.js";
import { openPacked } from "../trace/packed.js";
import { TraceError } from "../trace/safetensors.js";
import { readRecord, verifyRecord } from "../trace/tree-file.js";

/** @param {ComparisonElement} page */
async function begin(page) {
    setCatalogs(JSON.parse(document.getElementById("manako-words")?.textContent ?? ""));
    restoreLanguage();
    const block = document.getElementById("manako-trace");
    const record = readRecord(await openPacked(block?.textContent ?? "", Number(block?.dataset.length)));
    const [one, other] = record.branches.map(({ trace }) => trace);
    page.open(one, other);
    if (!(await verifyRecord(record))) page.warnUnchecked();
}

const page = document.querySelector("manako-comparison");
if (page instanceof ComparisonElement) {
    begin(page).catch((error) => {
        const lang = pageLanguage();
        const known = error instanceof TraceError;
        page.tell(known ? say(lang, `error.${error.key}`, { file: say(lang, "page.this_file"), ...error.values }) : error.message);
        if (!known) throw error;
    });
}
