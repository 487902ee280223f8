/** A training takes all of a core: on a low battery it pauses once, and whoever wants it continues. */

/**
 * What browsers tell of a battery; some tell nothing.
 * @typedef {EventTarget & {charging: boolean, level: number}} Battery
 */

const LOW = 0.2;

export class LowBattery {
    /** @param {(level: number) => boolean} act whether there was something to pause */
    constructor(act) {
        this.#act = act;
    }

    #act;
    /** @type {Battery | null} */
    #battery = null;
    #isSaid = false;

    /** @param {{getBattery?: () => Promise<Battery>}} browser */
    async watch(browser) {
        this.#battery = (await browser.getBattery?.().catch(() => null)) ?? null; // refused in some frames
        for (const change of ["levelchange", "chargingchange"]) this.#battery?.addEventListener(change, () => this.look());
    }

    /** As a training begins, and whenever something changed. */
    look() {
        if (!this.#battery) return;
        const { charging, level } = this.#battery;
        this.#isSaid = !charging && level <= LOW && (this.#isSaid || this.#act(level));
    }
}
