/**
 * The service worker of a static site: all of it is kept at the first visit, so that it opens without a network after.
 *
 * Special here: what is kept is named by the digest of the whole, so a new version of the site is fetched whole, beside
 * the old one, and takes its place at the next visit. Other sites of the same host are left alone.
 */

const thread = /** @type {any} */ (globalThis);
/** @type {{version: string, files: string[]}} what the export wrote in front of this script */
const { version, files } = thread.manakoSite;
const own = `manako ${thread.registration?.scope} `;

thread.addEventListener("install", (/** @type {any} */ event) => event.waitUntil(keep()));
thread.addEventListener("activate", (/** @type {any} */ event) => event.waitUntil(forget()));
thread.addEventListener("fetch", (/** @type {any} */ event) => event.respondWith(kept(event.request)));

async function keep() {
    await (await caches.open(own + version)).addAll(files);
    await thread.skipWaiting();
}

async function forget() {
    const old = (await caches.keys()).filter((name) => name.startsWith(own) && name !== own + version);
    await Promise.all(old.map((name) => caches.delete(name)));
}

/** @param {Request} request */
async function kept(request) {
    const found = await (await caches.open(own + version)).match(request);
    return found ?? fetch(request);
}
