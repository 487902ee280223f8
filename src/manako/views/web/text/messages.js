/**
 * What the page says, out of the catalogs that the terminal reads too.
 *
 * Special here: the catalogs are set once, when the page starts, and say which languages there are. Only {names} are
 * replaced, so a value that itself contains braces is shown as it is.
 */

/** @typedef {string} Lang a key of the catalogs */
/** @typedef {Record<string, string>} Catalog */

/** @type {Record<Lang, Catalog>} */
const catalogs = {};

/** @param {Record<Lang, Catalog>} given */
export function setCatalogs(given) {
    Object.assign(catalogs, given);
}

/** The languages that there are. @returns {Lang[]} */
export function languages() {
    return Object.keys(catalogs);
}

/** The language that the page says it is in, English where there is no catalog of it. @returns {Lang} */
export function pageLanguage() {
    return languages().find((lang) => lang === document.documentElement.lang) ?? "en";
}

/**
 * Whether the catalogs have a sentence.
 * @param {Lang} lang
 * @param {string} key
 */
export function knows(lang, key) {
    return Object.hasOwn(catalogs[lang], key);
}

/**
 * One sentence with its {names} filled in. Throws RangeError for a key or a name that is not there.
 * @param {Lang} lang
 * @param {string} key
 * @param {Record<string, string | number | bigint>} [values]
 * @returns {string}
 */
export function say(lang, key, values = {}) {
    if (!knows(lang, key)) throw new RangeError(`no message ${key}`);
    return catalogs[lang][key].replace(/\{(\w+)\}/g, (_, name) => {
        if (!Object.hasOwn(values, name)) throw new RangeError(`${key} needs ${name}`);
        return String(values[name]);
    });
}
