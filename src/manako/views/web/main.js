/**
 * The start: words and trace come out of the file that the page is, or from the server that sent it.
 *
 * Special here: a trace is drawn first and its digests are computed then. The server's token stands in the address once;
 * it is kept for this tab alone, taken out of the address, and sent as a header.
 */

import { AppElement } from "./app.js";
import { say, setCatalogs } from "./messages.js";
import { TraceError } from "./safetensors.js";
import { readTrace, verifyDigests } from "./trace-file.js";
import { openPacked } from "./packed.js";
import { make } from "./dom.js";
import { visibleText } from "./tokens.js";
import "./attention.js";
import "./beside.js";
import "./candidates.js";
import "./checks.js";
import "./draw-strip.js";
import "./lens.js";
import "./ribbon.js";
import "./stages.js";
import "./what-if.js";
import "./why.js";

const TOKEN = "manako-token";

/** @returns {"en" | "ja"} */
function pageLanguage() {
    return document.documentElement.lang === "ja" ? "ja" : "en";
}

/**
 * @param {AppElement} app
 * @param {ArrayBuffer} bytes
 */
async function showTrace(app, bytes) {
    try {
        const trace = readTrace(bytes);
        app.trace = trace;
        await verifyDigests(trace);
    } catch (error) {
        if (!(error instanceof TraceError)) throw error;
        const file = say(pageLanguage(), "page.this_file");
        app.tell(say(pageLanguage(), `error.${error.key}`, { file, ...error.values }));
    }
}

/** @param {AppElement} app */
async function startFromFile(app) {
    const text = (/** @type {string} */ id) => document.getElementById(id)?.textContent ?? "";
    setCatalogs(JSON.parse(text("manako-words")));
    const length = Number(document.getElementById("manako-trace")?.dataset.length);
    await showTrace(app, await openPacked(text("manako-trace"), length));
}

/** @param {AppElement} app */
async function startFromServer(app) {
    document.documentElement.lang = navigator.language.startsWith("ja") ? "ja" : "en";
    const [en, ja] = await Promise.all(["en", "ja"].map(async (lang) => (await fetch(`/assets/${lang}.json`)).json()));
    setCatalogs({ en, ja });
    const put = new URLSearchParams(location.hash.slice(1));
    const token = put.get("token");
    if (token !== null) {
        sessionStorage.setItem(TOKEN, token);
        put.delete("token");
        history.replaceState(null, "", `#${put}`);
    }
    const headers = { "X-Manako-Token": sessionStorage.getItem(TOKEN) ?? "", "Accept-Language": pageLanguage() };
    const answer = await fetch("/api/traces", { headers });
    const found = await answer.json();
    if (!answer.ok) return app.tell(found.message);
    if (found.traces.length === 0) return app.tell(say(pageLanguage(), "page.no_traces"));
    const open = async (/** @type {string} */ id) => {
        const bytes = await (await fetch(`/api/traces/${encodeURIComponent(id)}`, { headers })).arrayBuffer();
        await showTrace(app, bytes);
    };
    await open(found.traces[0].id);
    if (found.traces.length > 1) app.before(chooser(found.traces, open));
}

/**
 * A list of the traces that the server has.
 * @param {{id: string, title: string}[]} traces
 * @param {(id: string) => Promise<void>} open
 */
function chooser(traces, open) {
    const options = traces.map(({ id, title }) => make("option", { value: id }, visibleText(title)));
    const select = make("select", { change: (event) => open(/** @type {HTMLSelectElement} */ (event.target).value) }, ...options);
    return make("nav", { class: "top" }, make("label", {}, say(pageLanguage(), "page.trace"), select));
}

const app = document.querySelector("manako-app");
if (app instanceof AppElement) {
    const start = document.documentElement.dataset.mode === "live" ? startFromServer : startFromFile;
    start(app).catch((error) => {
        app.tell(String(error)); // an empty page would look like data
        throw error;
    });
}
