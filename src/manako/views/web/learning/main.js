/** The start of the page of a training: words and record are in the file that the page is. */

import { LearningElement } from "./view.js";
import { readDynamics } from "./record.js";
import { openPacked } from "../trace/packed.js";
import { TraceError } from "../trace/safetensors.js";
import { pageLanguage, say, setCatalogs } from "../text/messages.js";

/** @param {LearningElement} element */
async function start(element) {
    setCatalogs(JSON.parse(document.getElementById("manako-words")?.textContent ?? ""));
    const block = document.getElementById("manako-trace");
    const found = readDynamics(await openPacked(block?.textContent ?? "", Number(block?.dataset.length)));
    element.open(found);
    if (!(await found.verify())) element.warnUnchecked();
}

const element = document.querySelector("manako-learning");
if (element instanceof LearningElement) {
    start(element).catch((error) => {
        const lang = pageLanguage();
        const known = error instanceof TraceError;
        element.tell(known ? say(lang, `error.${error.key}`, { file: say(lang, "page.this_file"), ...error.values }) : String(error));
        if (!known) throw error;
    });
}
