/**
 * The engine in the page as a source of texts: a thread with a model in it, and what it has written, kept until the
 * writer has fetched it.
 *
 * Special here: one text at a time.
 */

/** @import {Answer, Job} from "../engine/worker.js" */
/** @import {KnownModel, Listener, Source, WriteRequest} from "./source.js" */
import { pageLanguage, say } from "../text/messages.js";
import { SourceError } from "./source.js";
import { trusted } from "./thread.js";

const RANDOM = 2 ** 53;
const FAULTS = ["error.prompt_empty", "error.prompt_surrogate", "error.prompt_unknown_characters", "error.logits_not_finite"];

/** @implements {Source} */
export class EngineSource {
    /** Parts of a model cannot be switched off here. */
    ablates = false;

    /** @param {string} address of the thread's script */
    constructor(address) {
        this.#worker = new Worker(trusted(address));
        this.#worker.addEventListener("message", ({ data }) => this.#hear(data));
        this.#worker.addEventListener("error", ({ message }) => this.#hear({ kind: "fault", fault: { key: "", values: { error: message } } }));
    }

    #worker;
    /** @type {(answer: Answer) => void} */
    #hear = () => {};
    /** @type {Map<string, ArrayBuffer>} */
    #written = new Map();

    /**
     * Hand the model over. Throws SourceError.
     * @param {ArrayBuffer} bytes
     * @returns {Promise<KnownModel>}
     */
    async load(bytes) {
        this.#worker.postMessage(bytes, [bytes]);
        return new Promise((resolve, reject) => {
            this.#hear = (answer) => {
                if (answer.kind === "fault") reject(new SourceError(faultText(answer.fault)));
                if (answer.kind === "ready") resolve({ ...answer.info, ready: true, source: this, captures: answer.captures });
            };
        });
    }

    /**
     * @param {WriteRequest} request
     * @param {Listener} listener
     * @param {AbortSignal} signal a run begins at once, so what is broken off is a run that has begun
     */
    async write({ id, prompt, settings, after }, listener, signal) {
        const { max_new_tokens: count, capture, seed: given, ...sampling } = settings;
        const header = after?.branch.trace.header;
        const seed = given ?? header?.seed ?? Math.floor(Math.random() * RANDOM);
        const front = after && after.branch.trace.promptIds.length + after.keep;
        /** @type {Job} */
        const job = {
            text: prompt,
            before: after && [...after.branch.trace.allIds.subarray(0, Number(front))],
            token: after?.token,
            firstStep: header && after ? header.first_step + after.keep : 0,
            sampling: /** @type {Job["sampling"]} */ (sampling),
            seed: BigInt(seed),
            stop: header?.stop ?? [],
            count,
            capture,
        };
        this.#worker.postMessage(job);
        signal.onabort = () => this.stop();
        await new Promise((/** @type {(nothing: void) => void} */ resolve, reject) => {
            this.#hear = (answer) => {
                if (answer.kind === "start") listener.start(id, answer.firstStep);
                if (answer.kind === "steps") answer.steps.forEach(listener.step);
                if (answer.kind === "fault") reject(new SourceError(faultText(answer.fault)));
                if (answer.kind !== "end") return;
                this.#written.set(id, answer.bytes);
                if (answer.fault) listener.fault(faultText(answer.fault));
                resolve();
            };
        });
    }

    /** @param {string} id */
    async trace(id) {
        const bytes = this.#written.get(id);
        if (!bytes) throw new SourceError();
        this.#written.delete(id);
        return bytes;
    }

    async stop() {
        this.#worker.postMessage("stop");
    }
}

/** @param {import("../engine/worker.js").Fault} fault */
function faultText({ key, values }) {
    const known = FAULTS.find((each) => each === `error.${key}`);
    return known ? say(pageLanguage(), known, values) : say(pageLanguage(), "page.engine_failed", { error: Object.values(values).join(" ") });
}

/** Keep a site for the time without a network, where the browser can. */
export function keepOffline() {
    const { serviceWorker } = navigator; // undefined where the site came over plain HTTP from another machine
    serviceWorker?.register(trusted("service-worker.js")).catch(() => {}); // it works as well without
}
