/**
 * The start: words and trace come out of the file that the page is, or from the server that sent it.
 *
 * Special here: a trace is drawn first and its digests are computed then. The server's token stands in the address once;
 * it is kept for this tab alone, taken out of the address, and sent as a header.
 */

/** @import {Branch} from "../trace/tree.js" */
/** @import {ServedTrace} from "./server.js" */
import { AppElement } from "./app.js";
import { pageLanguage, say, setCatalogs } from "../text/messages.js";
import { TraceError } from "../trace/safetensors.js";
import { readTrace } from "../trace/trace-file.js";
import { readRecord, verifyRecord } from "../trace/tree-file.js";
import { openPacked } from "../trace/packed.js";
import { EngineSource, keepOffline } from "./engine-source.js";
import { Kept } from "./kept.js";
import { Server } from "./server.js";
import { SourceError } from "./source.js";

const TOKEN = "manako-token";
const READER = "manako-reader"; // of this tab; another one has a list of its own
const LOOK_AGAIN = 500; // ms, while the model loads
const SHOWN_SHARE = 0.02; // of a model, between two looks at how far it has come

/** What a block of the file holds. @param {string} id */
function block(id) {
    return document.getElementById(id)?.textContent ?? "";
}

/** @param {AppElement} app */
async function startFromFile(app) {
    setCatalogs(JSON.parse(block("manako-words")));
    const length = Number(document.getElementById("manako-trace")?.dataset.length);
    const record = readRecord(await openPacked(block("manako-trace"), length));
    const script = block("manako-engine");
    if (script) {
        const engine = new EngineSource(script);
        await app.open(record, engine, new Kept());
        startEngine(app, engine);
    } else await app.open(record);
    if (!(await verifyRecord(record))) app.warnUnchecked();
}

/**
 * Load the model that the file holds or names; what is on record can be read meanwhile.
 * @param {AppElement} app
 * @param {EngineSource} engine
 */
async function startEngine(app, engine) {
    if (document.readyState === "loading") await new Promise((resolve) => document.addEventListener("DOMContentLoaded", resolve));
    const { length = "", ref = "", address } = document.getElementById("manako-model")?.dataset ?? {};
    const known = { ready: false, ref, captures: [], weights_sha256: "", tokenizer_sha256: "" };
    app.setModel(known);
    try {
        const tell = (/** @type {number} */ share) => app.setModel({ ...known, share });
        const bytes = address ? await fetchWhole(address, Number(length), tell) : await openPacked(block("manako-model"), Number(length));
        app.setModel(await engine.load(bytes));
        if (address) keepOffline(); // now: the model is in the browser's cache, and need not be fetched twice
    } catch (error) {
        const message = error instanceof Error ? error.message : String(error);
        app.setModel(null, say(pageLanguage(), "page.engine_failed", { error: message }));
    }
}

/**
 * @param {string} address
 * @param {number} length of what is there
 * @param {(share: number) => void} tell
 */
async function fetchWhole(address, length, tell) {
    const whole = new Uint8Array(length);
    const answer = await fetch(address);
    if (!answer.ok || !answer.body) throw new Error(`${address}: ${answer.status}`);
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

/** @param {AppElement} app */
async function startFromServer(app) {
    document.documentElement.lang = navigator.language.slice(0, 2);
    setCatalogs(await (await fetch("/assets/words.json")).json());
    document.documentElement.lang = pageLanguage();
    const put = new URLSearchParams(location.hash.slice(1));
    const token = put.get("token");
    if (token !== null) {
        sessionStorage.setItem(TOKEN, token);
        put.delete("token");
        history.replaceState(null, "", `#${put}`);
    }
    const reader = sessionStorage.getItem(READER) ?? Math.random().toString(36).slice(2); // crypto.randomUUID is not there over plain HTTP
    sessionStorage.setItem(READER, reader);
    const server = new Server(sessionStorage.getItem(TOKEN) ?? "", reader);
    globalThis.addEventListener("hashchange", () => new URLSearchParams(location.hash.slice(1)).has("token") && location.reload());
    const { traces: listed, current } = await server.traces();
    const first = listed.find(({ id }) => id === put.get("branch")) ?? listed.find(({ id }) => id === current) ?? listed[0];
    if (!first) return app.tell(say(pageLanguage(), "page.no_traces"));
    /** @type {Map<string, Branch>} */
    const loaded = new Map();
    const load = async (/** @type {ServedTrace | undefined} */ each) => {
        if (!each || loaded.has(each.id)) return;
        await load(listed.find(({ id }) => id === each.parent));
        const bytes = await server.trace(each.id);
        loaded.set(each.id, { id: each.id, parent: each.parent, keep: each.keep, trace: readTrace(bytes), bytes });
    };
    await load(first); // what is shown at once, with all that stands before it; then the others
    await app.open({ branches: [...loaded.values()], current: first.id, proof: null }, server);
    for (const each of listed) await load(each);
    const branches = listed.map(({ id }) => /** @type {Branch} */ (loaded.get(id)));
    app.add(branches);
    if (!(await verifyRecord({ branches, current: first.id, proof: null }))) app.warnUnchecked();
    for (let known = ""; known !== "ready"; ) {
        const model = await server.model().catch(() => null); // what is read already stays, whatever becomes of the server
        const now = model === null ? "lost" : model.ready ? "ready" : "loading";
        if (now !== known) app.setModel(model);
        known = now;
        if (!model?.ready) await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN));
    }
}

/** @param {Error} error */
function inWords(error) {
    const lang = pageLanguage();
    if (error instanceof SourceError) return error.message || say(lang, "page.lost_server");
    return error instanceof TraceError ? say(lang, `error.${error.key}`, { file: say(lang, "page.this_file"), ...error.values }) : String(error);
}

const app = document.querySelector("manako-app");
if (app instanceof AppElement) {
    const start = document.documentElement.dataset.mode === "live" ? startFromServer : startFromFile;
    start(app).catch((error) => {
        app.tell(inWords(error)); // an empty page would look like data
        if (!(error instanceof TraceError || error instanceof SourceError)) throw error;
    });
}
