/** What a page does at its start, wherever its words, its record and its model come from. */

/** @import {KnownModel} from "./source.js" */
import { AppElement } from "./app.js";
import { pageLanguage, say } from "../text/messages.js";
import { TraceError } from "../trace/safetensors.js";

const SHOWN_SHARE = 0.02; // of a model, between two looks at how far it has come

/**
 * @param {(app: AppElement) => Promise<void>} begin
 * @param {(error: unknown) => string} [inWords] of what else may go wrong there
 */
export function start(begin, inWords = () => "") {
    const app = document.querySelector("manako-app");
    if (!(app instanceof AppElement)) return;
    begin(app).catch((error) => {
        const isTrace = error instanceof TraceError;
        const told = isTrace ? say(pageLanguage(), `error.${error.key}`, { file: say(pageLanguage(), "page.this_file"), ...error.values }) : inWords(error);
        app.tell(told || String(error)); // an empty page would look like data
        if (!told) throw error;
    });
}

/** @param {string} ref @param {number} [share] @returns {KnownModel} */
export function loading(ref, share) {
    return { ready: false, source: null, ref, share, captures: [], weights_sha256: "", tokenizer_sha256: "" };
}

/**
 * A file of some megabytes. Throws an Error where it does not come.
 * @param {Response} answer
 * @param {number} length of what is there
 * @param {(share: number) => void} tell
 */
export async function fetchWhole(answer, length, tell) {
    const whole = new Uint8Array(length);
    if (!answer.ok || !answer.body) throw new Error(`${answer.url}: ${answer.status}`);
    const reader = answer.body.getReader();
    let [at, told] = [0, 0];
    for (let part = await reader.read(); part.value; part = await reader.read()) {
        whole.set(part.value, at);
        at += part.value.length;
        if (at / length < told + SHOWN_SHARE) continue;
        told = at / length;
        tell(told);
    }
    return whole.buffer;
}
