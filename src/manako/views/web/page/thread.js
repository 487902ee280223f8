/**
 * Threads out of the page itself: the script of one lies in the file, so it is started from a blob; a file on a disk has
 * no address that a thread could come from.
 */

/** @param {string} script */
export function startThread(script) {
    const url = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
    const thread = new Worker(trusted(url));
    URL.revokeObjectURL(url);
    return thread;
}

/** @type {{createScriptURL: (url: string) => any} | null} */
let policy = null;

/**
 * An address as one that a thread may come from, where the browser asks for that.
 * @param {string} url
 * @returns {string}
 */
export function trusted(url) {
    const { trustedTypes } = /** @type {any} */ (globalThis);
    policy ??= trustedTypes?.createPolicy("manako", { createScriptURL: (/** @type {string} */ given) => given });
    return policy ? policy.createScriptURL(url) : url;
}
