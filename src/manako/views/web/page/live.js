/**
 * The start of the page that `manako serve` sends: words, traces and models come from there. A model that the page can
 * run is run here, so that the server is needed for nothing more; the server runs the others.
 *
 * Special here: a trace is drawn first and its digests are computed then. The server's token stands in the address once;
 * it is kept for this tab alone, taken out of the address, and sent as a header.
 */

/** @import {Branch} from "../trace/tree.js" */
/** @import {ServedModel, ServedTrace} from "./server.js" */
/** @import {KnownModel} from "./source.js" */
import { AppElement } from "./app.js";
import { serverToken, stored } from "../elements/stored.js";
import { pageLanguage, say, setCatalogs } from "../text/messages.js";
import { readTrace } from "../trace/trace-file.js";
import { newId } from "../trace/tree.js";
import { verifyRecord } from "../trace/tree-file.js";
import { EngineSource } from "./engine-source.js";
import { Kept } from "./kept.js";
import { Server } from "./server.js";
import { SourceError } from "./source.js";
import { fetchWhole, loading, start } from "./start.js";

const READER = "manako-reader"; // of this browser; another one has a list of its own
/** @type {{words: Record<string, Record<string, string>>, engine: string}} what the server wrote in front of this script: sentences, where the engine's thread is */
const sentBefore = /** @type {any} */ (globalThis).manakoServed;
const LOOK_AGAIN = 500; // ms, while the model loads or the server is away
const WATCH = 5000; // ms, while all is well

/** @param {AppElement} app */
async function startFromServer(app) {
    document.documentElement.lang = navigator.language.slice(0, 2);
    setCatalogs(sentBefore.words);
    document.documentElement.lang = pageLanguage();
    const put = new URLSearchParams(location.hash.slice(1));
    const given = put.get("token");
    const token = serverToken(given);
    if (given !== null) {
        put.delete("token");
        history.replaceState(null, "", `#${put}`);
    }
    const server = new Server(token, stored("localStorage", READER, stored("localStorage", READER) || newId()));
    globalThis.addEventListener("hashchange", () => new URLSearchParams(location.hash.slice(1)).has("token") && location.reload());
    const [{ traces: listed, current }, { ref }] = await Promise.all([server.traces(), server.model()]);
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
    const kept = new Kept(`${location.pathname} ${ref}`); // texts of another model are no part of this page
    await app.open({ branches: [...loaded.values()], current: first.id, proof: null }, { page: () => server.offlinePage(), kept });
    app.setModels([loading(ref)]);
    for (const each of listed) await load(each);
    const branches = listed.map(({ id }) => /** @type {Branch} */ (loaded.get(id)));
    app.add(branches);
    if (!(await verifyRecord({ branches, current: first.id, proof: null }))) app.warnUnchecked();
    await watchServer(app, server);
}

/**
 * Have the models that the page can run here, and the others with the server; then watch whether that is still there.
 * What is on the page already stays, whatever becomes of the server.
 * @param {AppElement} app
 * @param {Server} server
 */
async function watchServer(app, server) {
    /** @type {KnownModel[] | null} */
    let here = null;
    for (let known = "", now = ""; ; known = now) {
        const found = await server.model().catch((/** @type {SourceError} */ error) => error);
        now = found instanceof SourceError ? `lost ${found.message}` : String(found.ready);
        if (now === known) {
            // nothing to tell
        } else if (found instanceof SourceError) {
            const key = found.message ? "page.other_server" : here?.length ? "page.without_server" : "page.lost_server";
            app.setModels(here ?? [], (lang) => say(lang, key));
        } else if (!found.ready) app.setModels([loading(found.ref)]);
        else {
            const served = [found, ...found.beside].map((each) => ({ ...each, ready: true, source: server }));
            here ??= await engines(app, server, served);
            app.setModels([...here, ...served]);
            server.offlinePage().catch(() => {}); // asked for again when it is wanted
        }
        await new Promise((resolve) => setTimeout(resolve, now === "true" ? WATCH : LOOK_AGAIN));
    }
}

/**
 * The models that the page can run, in threads of their own; without any, the server runs them.
 * @param {AppElement} app
 * @param {Server} server
 * @param {(ServedModel & KnownModel)[]} served
 */
async function engines(app, server, served) {
    /** @type {KnownModel[]} */
    const found = [];
    for (const each of served.filter(({ in_page }) => in_page)) {
        const tell = (/** @type {number} */ share) => !found.length && app.setModels([loading(each.ref, share)]);
        try {
            const answer = await server.modelFile(each);
            const bytes = await fetchWhole(answer, Number(answer.headers.get("Content-Length")), tell);
            found.push({ ...(await new EngineSource(sentBefore.engine).load(bytes)), reads: each.reads });
            app.setModels([...found, ...served]);
        } catch {
            break; // no room for it, or the server went away
        }
    }
    return found;
}

start(startFromServer, (error) => (error instanceof SourceError ? error.message || say(pageLanguage(), "page.lost_server") : ""));
