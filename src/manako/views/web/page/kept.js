/**
 * The texts that were written in a page, kept by the browser: a reload brings them back, with no network and no server.
 *
 * Special here: a browser may refuse, or have no room left. Then the page works as it does without, and its reader is
 * told. All files on a disk share one place, so each has its name there. The oldest texts make room for new ones.
 */

/** @import {Branch, Tree} from "../trace/tree.js" */
import { readTrace } from "../trace/trace-file.js";
import { fitsParent } from "../trace/tree-file.js";

/** @typedef {{n: number, home: string, id: string, parent: string | null, keep: number, bytes: ArrayBuffer}} Row */
const STORE = "texts";
const MOST = 64e6; // bytes of one page

export class Kept {
    /** @param {string} [home] the name of this page, whose texts these are */
    constructor(home = location.pathname) {
        this.#home = home;
    }

    #home;
    /** @type {Promise<IDBDatabase> | null} */
    #opened = null;
    /** What is there, the oldest first: the texts themselves would be slow to read at each step. @type {{n: number, size: number}[]} */
    #sizes = [];

    /** Keep a text. @param {Branch} branch @returns {Promise<boolean>} whether it is kept */
    async put({ id, parent, keep, bytes }) {
        try {
            const store = await this.#store("readwrite");
            const added = store.add({ home: this.#home, id, parent, keep, bytes });
            let [size, kept] = [bytes.byteLength, this.#sizes.length];
            while (kept > 0 && size + this.#sizes[kept - 1].size <= MOST) size += this.#sizes[--kept].size;
            for (const { n } of this.#sizes.splice(0, kept)) store.delete(n);
            store.transaction.commit(); // whatever the page does meanwhile
            await settled(store);
            this.#sizes.push({ n: /** @type {number} */ (added.result), size: bytes.byteLength });
            return true;
        } catch {
            return false;
        }
    }

    /**
     * Bring back what was kept, into a tree. A text whose parent is gone stands by itself.
     * @param {Tree} tree
     * @returns {Promise<boolean>} whether there was anything
     */
    async restore(tree) {
        const rows = await this.#rows().catch(() => []);
        this.#sizes = rows.map(({ n, bytes }) => ({ n, size: bytes.byteLength }));
        for (const { id, parent, keep, bytes } of rows) {
            const trace = tree.branches.has(id) ? null : readable(bytes); // a page that was saved has it too
            if (!trace) continue;
            const branch = { id, parent, keep, trace, bytes, isOwn: true };
            if (!fitsParent(tree.branches.get(parent ?? ""), branch)) [branch.parent, branch.keep] = [null, 0];
            tree.branches.set(id, branch);
        }
        return rows.length > 0;
    }

    /** Forget all of this page, what other tabs of it kept too. Throws DOMException where the browser does not. */
    async clear() {
        const store = await this.#store("readwrite");
        const asked = store.index("home").getAllKeys(this.#home);
        asked.onsuccess = () => asked.result.forEach((n) => store.delete(n));
        await settled(store);
        this.#sizes = [];
    }

    /** @param {IDBTransactionMode} mode */
    async #store(mode) {
        this.#opened ??= new Promise((resolve, reject) => {
            const opening = indexedDB.open("manako", 1); // throws in a frame that may keep nothing
            opening.onupgradeneeded = () => opening.result.createObjectStore(STORE, { keyPath: "n", autoIncrement: true }).createIndex("home", "home");
            opening.onsuccess = () => resolve(opening.result);
            opening.onerror = () => reject(opening.error);
        });
        return (await this.#opened).transaction(STORE, mode).objectStore(STORE);
    }

    /** The oldest first. @returns {Promise<Row[]>} */
    async #rows() {
        const store = await this.#store("readonly");
        const asked = store.index("home").getAll(this.#home);
        await settled(store);
        return asked.result;
    }
}

/** Once all that was asked of a store has been done, and what it writes is on the disk. @param {IDBObjectStore} store */
function settled({ transaction }) {
    return new Promise((resolve, reject) => Object.assign(transaction, { oncomplete: resolve, onabort: () => reject(transaction.error) }));
}

/** The trace in a file; null where it is none, which must not keep the page from opening. @param {ArrayBuffer} bytes */
function readable(bytes) {
    try {
        return readTrace(bytes);
    } catch {
        return null;
    }
}
