/**
 * The start of a page that is one file, or stands on any web host: words and record are in it, its model too or beside it.
 *
 * Special here: a trace is drawn first and its digests are computed then.
 */

import { AppElement } from "./app.js";
import { say, setCatalogs } from "../text/messages.js";
import { readRecord, verifyRecord } from "../trace/tree-file.js";
import { openPacked } from "../trace/packed.js";
import { EngineSource, keepOffline } from "./engine-source.js";
import { Kept } from "./kept.js";
import { fetchWhole, loading, start } from "./start.js";

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
    await app.open(record, script ? { page: ownPage, kept: new Kept() } : null);
    if (script) startEngine(app, script);
    if (!(await verifyRecord(record))) app.warnUnchecked();
}

/** This page without its record. A site has links and its model beside it: the file that it saves only reads. */
async function ownPage() {
    const page = /** @type {HTMLElement} */ (document.documentElement.cloneNode(true));
    const record = /** @type {HTMLElement} */ (page.querySelector("#manako-trace"));
    record.dataset.length = "0";
    for (const part of page.querySelectorAll("link, :has(link) #manako-engine")) part.remove();
    for (const part of [record, page.querySelector("manako-app")]) part?.replaceChildren();
    return `<!doctype html>\n<html lang="" data-mode="file">\n${page.getHTML()}\n</html>\n`;
}

/**
 * Load the model that the file holds or names; what is on record can be read meanwhile.
 * @param {AppElement} app
 * @param {string} script of the engine's thread, which is in the page: a file on a disk has no address for it to come from
 */
async function startEngine(app, script) {
    if (document.readyState === "loading") await new Promise((resolve) => document.addEventListener("DOMContentLoaded", resolve));
    const { length = "", ref = "", address } = document.getElementById("manako-model")?.dataset ?? {};
    app.setModels([loading(ref)]);
    const thread = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
    try {
        const tell = (/** @type {number} */ share) => app.setModels([loading(ref, share)]);
        const bytes = address ? await fetchWhole(await fetch(address), Number(length), tell) : await openPacked(block("manako-model"), Number(length));
        app.setModels([await new EngineSource(thread).load(bytes)]);
        if (address) keepOffline(); // now: the model is in the browser's cache, and need not be fetched twice
    } catch (error) {
        const message = error instanceof Error ? error.message : String(error);
        app.setModels([], (lang) => say(lang, "page.engine_failed", { error: message }));
    } finally {
        URL.revokeObjectURL(thread);
    }
}

start(startFromFile);
