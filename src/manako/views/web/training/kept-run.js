/**
 * The training that this browser keeps over a reload: one for each page, in the file's own bytes.
 *
 * Special here: files on a disk share one place, so each has its name there. Of two tabs with the same page the first one
 * keeps its training, and the other says so.
 */

/** @typedef {{home: string, prompt: string, bytes: ArrayBuffer}} KeptTraining */

const STORE = "trainings";

export class KeptRun {
    #home = location.pathname;
    /** @type {Promise<IDBDatabase> | null} */
    #opened = null;

    /** Whether no other tab has this page open; as long as this one is, no other is told so. @returns {Promise<boolean>} */
    first() {
        const { locks } = navigator; // undefined where the page came over plain HTTP from another machine
        if (!locks) return Promise.resolve(true);
        return new Promise((resolve) => {
            locks.request(`manako ${this.#home}`, { ifAvailable: true }, (lock) => {
                resolve(lock !== null);
                return lock && new Promise(() => {});
            }).catch(() => resolve(true));
        });
    }

    /** @param {string} prompt @param {ArrayBuffer} bytes @returns {Promise<boolean>} whether it is kept */
    async put(prompt, bytes) {
        return this.#done("readwrite", (store) => store.put({ home: this.#home, prompt, bytes })).then(() => true, () => false);
    }

    /** @returns {Promise<KeptTraining | null>} */
    async get() {
        return this.#done("readonly", (store) => store.get(this.#home)).then((found) => found ?? null, () => null);
    }

    async clear() {
        await this.#done("readwrite", (store) => store.delete(this.#home)).catch(() => {}); // nothing was kept then
    }

    /**
     * @param {IDBTransactionMode} mode
     * @param {(store: IDBObjectStore) => IDBRequest} act
     * @returns {Promise<any>}
     */
    async #done(mode, act) {
        this.#opened ??= new Promise((resolve, reject) => {
            const opening = indexedDB.open("manako-training", 1); // throws in a frame that may keep nothing
            opening.onupgradeneeded = () => opening.result.createObjectStore(STORE, { keyPath: "home" });
            opening.onsuccess = () => resolve(opening.result);
            opening.onerror = reject;
        });
        const transaction = (await this.#opened).transaction(STORE, mode);
        const asked = act(transaction.objectStore(STORE));
        await new Promise((resolve, reject) => Object.assign(transaction, { oncomplete: resolve, onabort: reject, onerror: reject }));
        return asked.result;
    }
}
