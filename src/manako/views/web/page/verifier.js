/** Verifies what is shown, a few milliseconds at a time, and remembers what it found of each record. */

/** @import {Trace} from "../trace/trace-file.js" */
/** @import {Verification} from "../analysis/verification.js" */
import { verifying } from "../analysis/verification.js";

const SLICE = 8; // ms of work between two looks at what else there is to do

export class Verifier {
    /** @type {WeakMap<Trace, Verification>} */
    #found = new WeakMap();
    /** @type {readonly Trace[]} */
    #wanted = [];

    /**
     * Verify some records, unless others are asked for meanwhile.
     * @param {readonly Trace[]} traces
     * @param {(found: Verification[] | null) => void} tell of each; null while there is more to do
     */
    async verify(traces, tell) {
        this.#wanted = traces;
        for (const trace of traces) {
            if (this.#found.has(trace)) continue;
            tell(null);
            const steps = verifying(trace);
            let step = steps.next();
            while (!step.done) {
                for (const end = performance.now() + SLICE; !step.done && performance.now() < end; ) step = steps.next();
                await new Promise((resolve) => setTimeout(resolve));
                if (this.#wanted !== traces) return;
            }
            this.#found.set(trace, step.value);
        }
        tell(traces.map((trace) => /** @type {Verification} */ (this.#found.get(trace))));
    }
}
