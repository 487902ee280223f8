/** The start of the page of two models side by side: words and the two traces are in the file that the page is. */

import { ComparisonElement } from "./view.js";
import { pageLanguage, say, setCatalogs } from "../text/messages.js";
import { openPacked } from "../trace/packed.js";
import { TraceError } from "../trace/safetensors.js";
import { readRecord, verifyRecord } from "../trace/tree-file.js";

/** @param {ComparisonElement} element */
async function start(element) {
    setCatalogs(JSON.parse(document.getElementById("manako-words")?.textContent ?? ""));
    const block = document.getElementById("manako-trace");
    const record = readRecord(await openPacked(block?.textContent ?? "", Number(block?.dataset.length)));
    const [one, other] = record.branches.map(({ trace }) => trace);
    element.open(one, other);
    if (!(await verifyRecord(record))) element.warnUnchecked();
}

const element = document.querySelector("manako-comparison");
if (element instanceof ComparisonElement) {
    start(element).catch((error) => {
        const lang = pageLanguage();
        const known = error instanceof TraceError;
        element.tell(known ? say(lang, `error.${error.key}`, { file: say(lang, "page.this_file"), ...error.values }) : error.message);
        if (!known) throw error;
    });
}
