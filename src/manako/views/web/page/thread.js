/**
 * Threads out of the page itself: the script of one lies in the file, so it is started from a blob; a file on a disk has
 * no address that a thread could come from.
 */

/** @param {string} script */
export function startThread(script) {
    return new Worker(trusted(URL.createObjectURL(new Blob([script], { type: "text/javascript" }))));
}

/** @type {{createScriptURL: (url: string) => any} | null} */
let policy = null;

/**
 * An address as one that a thread may come from, where the browser asks for that.
 * @param {string} url
 * @returns {string}
 */
export function trusted(url) {
    policy ??= /** @type {any} */ (globalThis).trustedTypes?.createPolicy("manako", { createScriptURL: (/** @type {string} */ own) => own });
    return policy?.createScriptURL(url) ?? url;
}
