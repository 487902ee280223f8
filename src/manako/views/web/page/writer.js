/**
 * What the reader asks of the model, turned into requests, and what it wrote into branches.
 *
 * Special here: all that is asked for becomes a branch of its own, so nothing that was written before is touched.
 */

/** @import {Act, View} from "../elements/view.js" */
/** @import {KnownModel, ToldStep, ToldToken, WriteRequest} from "./source.js" */
/** @import {Trace} from "../trace/trace-file.js" */
/** @import {Tree} from "../trace/tree.js" */
/** @import {Wishes} from "../elements/act.js" */
import { say } from "../text/messages.js";
import { SourceError } from "./source.js";
import { TraceError } from "../trace/safetensors.js";
import { readTrace } from "../trace/trace-file.js";
import { newId } from "../trace/tree.js";
import { visibleText } from "../text/tokens.js";

const INSIDE_CAPTURES = ["attention", "lens", "contributions"];
const RANDOM_SEEDS = 2 ** 32;
const KEEP_SEED = ["force", "type", "settings"]; // what is changed at a step is compared by the same random numbers

export class Writer {
    /** What can write, the first choice first; none while none is known. @type {readonly KnownModel[]} */
    models = [];
    /** What went wrong, in the reader's language. */
    fault = "";
    /** Steps of the text that is being written; null while there is none. @type {number | null} */
    steps = null;
    /** How many steps stand in front of the first that it writes. */
    first = 0;
    #id = "";
    /** @type {KnownModel["source"]} */
    #source = null;
    #abort = new AbortController();

    /** @param {Tree} tree */
    constructor(tree) {
        this.#tree = tree;
    }

    #tree;

    /** The model that is shown; null while none is known. */
    get model() {
        return this.models[0] ?? null;
    }

    /** The model that made a trace, where it is here and can go on with it. @param {Trace} trace */
    made({ header: { model, ablate } }) {
        // Of a shape what both say, but for start_id, end_ids and trained_on, which change no logit.
        return this.models.find(({ source, config = {}, weights_sha256, tokenizer_sha256 }) =>
            source && (source.ablates || !ablate.length) && weights_sha256 === model.weights_sha256 && tokenizer_sha256 === model.tokenizer_sha256 &&
            Object.entries(config).every(([name, value]) => /_id|_on/.test(name) || [value, undefined].includes(model.config[name])));
    }

    /** The model for a new text. @param {string} prompt */
    #reading(prompt) {
        return this.models.find(({ reads }) => reads && new RegExp(reads, "u").test(prompt)) ?? this.models[0];
    }

    /**
     * Write, and keep what was written; tells of every step. Null where nothing came of it.
     * @param {Act} act
     * @param {View} view
     * @param {Wishes} wishes
     * @param {(step: ToldStep) => void} told
     * @returns {Promise<string | null>} the new branch
     */
    async write(act, view, wishes, told) {
        [this.#id, this.fault, this.steps, this.#abort] = ["", "", 0, new AbortController()];
        let text = "";
        try {
            const model = act.kind === "new" ? this.#reading(act.text ?? "") : this.made(view.trace);
            if (!model?.source) return null;
            const source = (this.#source = model.source);
            const request = this.#request(act, view, wishes, model);
            const { prompt, after } = request;
            const listener = {
                start: (/** @type {string} */ id, /** @type {number} */ first) => ([this.#id, this.first] = [id, first]),
                fault: (/** @type {string} */ message) => (this.fault = message),
                step: (/** @type {ToldStep} */ step) => {
                    this.steps = Number(this.steps) + 1;
                    text += step.text;
                    told(step);
                },
            };
            await source.write(request, listener, this.#abort.signal);
            if (this.#id === "") return null;
            const bytes = await source.trace(this.#id).catch(() => source.trace(this.#id)); // once more, should it break
            const trace = readTrace(bytes);
            if (trace.steps === 0 && !prompt && after?.token === undefined) return null;
            this.#tree.branches.set(this.#id, { id: this.#id, parent: after?.branch.id ?? null, keep: after?.keep ?? 0, trace, bytes, isOwn: true });
            return this.#id;
        } catch (error) {
            if (this.#abort.signal.aborted) return null;
            if (!(error instanceof SourceError || error instanceof TraceError)) throw error;
            this.fault = (error instanceof SourceError && error.message) || say(view.lang, "page.lost_server");
            if (text) this.fault += ` ${say(view.lang, "page.lost_text", { text: visibleText(text) })}`;
            return null;
        } finally {
            this.steps = null;
        }
    }

    /** Let the text end after the step in hand; one that has not begun is not begun. */
    async stop() {
        if (this.#id === "") this.#abort.abort();
        else await this.#source?.stop(this.#id).catch(() => {}); // it has ended by itself
    }

    /** @param {Act} act @param {View} view @param {Wishes} wishes @param {KnownModel} model @returns {WriteRequest} */
    #request({ kind, text = "", token, where, sampling: asked }, view, { count, seed, inside }, { captures }) {
        const { path, place, sampling, trace } = view;
        const here = path.at(place);
        const isHere = where === "here" || (where === undefined && !["go", "step"].includes(kind));
        const isOther = kind === "luck" && (seed ?? trace.header.seed) == trace.header.seed;
        const settings = {
            ...(asked ?? sampling ?? (isHere ? trace : path.leaf.trace).header.sampling),
            max_new_tokens: kind === "step" ? 1 : count,
            capture: inside ? INSIDE_CAPTURES.filter((name) => captures.includes(name)) : [],
            seed: isOther ? Math.floor(Math.random() * RANDOM_SEEDS) : KEEP_SEED.includes(kind) ? null : seed, // null: the text's own, of a new one a fresh one
        };
        const fork = isHere && here ? { branch: here.branch, keep: here.index } : { branch: path.leaf, keep: path.leaf.trace.steps };
        const isDrawn = token === undefined && text === "";
        const after = kind === "new" ? null : { ...(isDrawn ? this.#tree.origin(fork) : fork), token };
        return { id: newId(), prompt: text, settings, after };
    }
}

/**
 * The candidates of a step that has just been written, as `StepNumbers` has those of a recorded one.
 * @param {ToldStep} told
 * @param {Iterable<number>} specialIds of the model's tokens
 */
export function liveNumbers({ taken, listed, other }, specialIds) {
    const special = new Set(specialIds);
    const candidate = (/** @type {ToldToken} */ row) => ({ ...row, special: special.has(row.id) });
    const more = taken.rank > listed.length ? [taken] : [];
    const rows = [...listed, ...more].map(candidate);
    const left = (/** @type {"p" | "pModel"} */ name) => more.reduce((all, row) => Math.max(0, all - row[name]), other[name]);
    return {
        size: listed.length + other.count,
        changed: false,
        drawnId: taken.id,
        taken: candidate(taken),
        pending: new Uint8Array(),
        listed: () => rows,
        other: () => ({ count: other.count - more.length, p: left("p"), pModel: left("pModel") }),
    };
}
