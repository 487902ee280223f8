/** Verifies what is shown, a few milliseconds at a time, and remembers what it found of each record. */

/** @import {Trace} from "../trace/trace-file.js" */
/** @import {Verification} from "../analysis/verification.js" */
import { sliced } from "../elements/moments.js";
import { verifying } from "../analysis/verification.js";

export class Verifier {
    /** @type {WeakMap<Trace, Verification>} */
    #found = new WeakMap();
    #stop = () => {};

    /**
     * Verify some records, unless others are asked for meanwhile.
     * @param {readonly Trace[]} traces
     * @param {(found: Verification[] | null) => void} tell of each; null while there is more to do
     */
    verify(traces, tell) {
        this.#stop();
        const next = traces.find((trace) => !this.#found.has(trace));
        if (!next) return tell(traces.map((trace) => /** @type {Verification} */ (this.#found.get(trace))));
        tell(null);
        this.#stop = sliced(verifying(next), (found) => {
            this.#found.set(next, found);
            this.verify(traces, tell);
        });
    }
}
