/**
 * The model at some steps of its training, to look back at: spread over it as evenly as they came, and never more than
 * fit into a fixed memory.
 */

/** @import {Snapshot, Trainer} from "./trainer.js" */

const MOST = 33;
const MOST_BYTES = 64e6;

export class Snapshots {
    /** @type {Snapshot[]} by step */
    #kept = [];

    /** The steps that can be looked back at. */
    get steps() {
        return this.#kept.map(({ steps }) => steps);
    }

    get bytes() {
        return this.#kept.reduce((sum, { numbers }) => sum + numbers.byteLength, 0);
    }

    /** Keep the model as it is now. @param {Trainer} trainer */
    keep(trainer) {
        this.#kept = this.#kept.filter(({ steps }) => steps < trainer.steps);
        this.#kept.push(trainer.snapshot());
        while (this.#kept.length > 2 && (this.#kept.length > MOST || this.bytes > MOST_BYTES)) this.#kept.splice(this.#closest(), 1);
    }

    /** Which one leaves the smallest gap; never the first or the newest. */
    #closest() {
        const steps = this.steps;
        const gaps = steps.slice(1, -1).map((_, i) => steps[i + 2] - steps[i]);
        return 1 + gaps.indexOf(Math.min(...gaps));
    }

    /**
     * Do something with the model as it was after so many steps, and have it again as it is.
     * @param {Trainer} trainer
     * @param {number} step one of `steps`
     * @param {() => Promise<void>} act
     */
    async under(trainer, step, act) {
        const was = this.#kept.find(({ steps }) => steps === step);
        if (!was) return; // it gave way to newer ones
        const now = trainer.snapshot();
        try {
            trainer.restore(was);
            await act();
        } finally {
            trainer.restore(now);
        }
    }
}
