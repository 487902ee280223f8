/**
 * The start of the page of a training: words and record are in the file that the page is, or come from the server that
 * sent it, which follows a run that may still be going.
 */

import { LearningElement } from "./view.js";
import { readDynamics } from "./record.js";
import { restoreLanguage } from "../elements/language.js";
import { serverToken } from "../elements/stored.js";
import { openPacked } from "../trace/packed.js";
import { TraceError } from "../trace/safetensors.js";
import { pageLanguage, say, setCatalogs } from "../text/messages.js";

const LOOK_AGAIN = 2000; // ms
const NOTHING_NEW = 204;

/** @param {LearningElement} page */
async function startFromFile(page) {
    setCatalogs(JSON.parse(document.getElementById("manako-words")?.textContent ?? ""));
    restoreLanguage();
    const block = document.getElementById("manako-trace");
    const found = readDynamics(await openPacked(block?.textContent ?? "", Number(block?.dataset.length)));
    page.open(found);
    if (!(await found.verify())) page.warnUnchecked();
}

/** @param {LearningElement} page */
async function startFromServer(page) {
    setCatalogs(/** @type {any} */ (globalThis).manakoServed.words); // which the server wrote in front of this script
    restoreLanguage(navigator.language.slice(0, 2));
    const given = new URLSearchParams(location.hash.slice(1)).get("token");
    const headers = { "X-Manako-Token": serverToken(given) };
    if (given !== null) history.replaceState(null, "", location.pathname);
    for (let known = ""; ; ) {
        const answer = await fetch(`/api/dynamics?known=${known}`, { headers }).catch(() => null); // gone: what is shown stays
        if (answer?.ok === false) throw new Error((await answer.json()).message);
        if (answer && answer.status !== NOTHING_NEW) {
            const found = readDynamics(await answer.arrayBuffer());
            await found.verify();
            known = answer.headers.get("ETag") ?? "";
            page.open(found);
        }
        await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN));
    }
}

const page = document.querySelector("manako-learning");
if (page instanceof LearningElement) {
    const start = document.documentElement.dataset.mode === "live" ? startFromServer : startFromFile;
    start(page).catch((error) => {
        const lang = pageLanguage();
        const known = error instanceof TraceError;
        page.tell(known ? say(lang, `error.${error.key}`, { file: say(lang, "page.this_file"), ...error.values }) : error.message);
        if (!known) throw error;
    });
}
