/** What a browser keeps for a page. It may refuse, even to be asked; the page goes on without. */

/**
 * What is kept under a name, "" where nothing is.
 * @param {"localStorage" | "sessionStorage"} place of this browser, of this tab alone
 * @param {string} name
 * @param {string | null} [value] to be kept there from now on
 */
export function stored(place, name, value = null) {
    try {
        if (value !== null) globalThis[place].setItem(name, value);
        return globalThis[place].getItem(name) ?? "";
    } catch {
        return value ?? "";
    }
}

/** The server's token. @param {string | null} [given] in the address, once */
export function serverToken(given) {
    return stored("sessionStorage", "manako-token", given);
}
