/**
 * The step loop: logits, chain, draw, record; one token at a time, as `manako.engines.generation` does it, with the same
 * trace at its end. What is captured changes no bit of what is drawn.
 */

/** @import {GPT2} from "./gpt2.js" */
/** @import {ModelFile} from "./model-file.js" */
/** @import {Tokenizer} from "./tokenizer.js" */
/** @import {Distribution, Sampling} from "../trace/sampling.js" */
/** @import {Column} from "../trace/safetensors.js" */
import { RECORDERS, column, sum, wantsPromptRows } from "./captures.js";
import { toKeep } from "./gpt2.js";
import { writeTrace } from "../trace/container.js";
import { distribution, draw, uniform } from "../trace/sampling.js";
import { CAPTURES, SELF_CHECKS, TRACE } from "../trace/schema.js";

/**
 * What is to be generated.
 * @typedef {object} Run
 * @property {number[]} ids in front, at least one
 * @property {string} prompt their text
 * @property {number} firstStep how many of the last of them count as steps already taken
 * @property {Sampling} sampling
 * @property {bigint} seed
 * @property {string[]} stop
 * @property {number} count tokens to draw at most
 * @property {string[]} capture
 */

export class Generation {
    /** @param {GPT2} model @param {ModelFile} file @param {Tokenizer} tokenizer @param {Run} run */
    constructor(model, file, tokenizer, run) {
        this.#model = model;
        this.#file = file;
        this.#tokenizer = tokenizer;
        this.#run = run;
        this.#ids = [...run.ids];
        this.#recorders = Object.keys(CAPTURES).filter((name) => run.capture.includes(name)).map((name) => RECORDERS[name](model));
        this.#isStep = run.firstStep > 0 && run.count === 1; // one token more: the rows of all in front are on record
        const taken = run.ids.slice(run.ids.length - run.firstStep);
        this.#tail = taken.flatMap((id) => this.#bytes(id));
    }

    #model;
    #file;
    #tokenizer;
    #run;
    #ids;
    #recorders;
    #isStep;
    /** @type {number[]} the last bytes that were made, as many as a stop text could begin in */
    #tail;
    /** @type {"length" | "stop" | "document_end" | null} */
    #end = null;
    /** @type {Float32Array[]} */
    #rows = [];
    /** @type {Record<"u" | "start" | "p" | "pModel" | "rank", number[]>} */
    #made = { u: [], start: [], p: [], pModel: [], rank: [] };
    #worstSum = 0;

    get steps() {
        return this.#rows.length;
    }

    /**
     * Draw one more token; null when the run has ended. Throws RangeError for logits that are not finite.
     * @returns {{found: Distribution, tokenId: number} | null}
     */
    advance() {
        const { count, sampling, seed, firstStep, stop } = this.#run;
        const index = this.steps;
        if (this.#end === null && index >= count) this.#end = "length";
        if (this.#end !== null) return null;
        const isFirst = index === 0 && !this.#isStep && this.#run.capture.includes("attention");
        const kept = this.#recorders.length ? toKeep(isFirst && wantsPromptRows(this.#model.config, this.#ids.length)) : null;
        const { logits: row, start } = this.#model.next(this.#ids, kept);
        const logits = row.slice();
        const found = distribution(logits, sampling, this.#ids);
        const u = uniform(seed, firstStep + index);
        const { tokenId } = draw(found, u);
        if (kept) for (const each of this.#recorders) each.add(kept, { logits, found, tokenId });
        this.#worstSum = Math.max(this.#worstSum, Math.abs(sum(found.p) - 1));
        const { u: us, start: starts, p, pModel, rank } = this.#made;
        us.push(u);
        starts.push(start);
        p.push(found.p[tokenId]);
        pModel.push(found.pModel[tokenId]);
        rank.push(found.rank(tokenId));
        this.#rows.push(logits); // last: from here on the step counts
        this.#ids.push(tokenId);
        if (this.#file.endIds.includes(tokenId)) this.#end = "document_end";
        else if (stop.length && this.#isStopped(tokenId)) this.#end = "stop";
        return { found, tokenId };
    }

    /** The record so far, as the file of a trace. Where the run has not ended, its end reads "interrupted". */
    async trace() {
        const { info } = this.#file;
        const { prompt, sampling, seed, stop, count, firstStep } = this.#run;
        const isMade = this.steps > 0;
        const capture = isMade ? Object.keys(CAPTURES).filter((name) => this.#run.capture.includes(name)) : [];
        const columns = new Map(Object.entries({ ...this.#columns(), ...Object.assign({}, ...(isMade ? this.#recorders.map((each) => each.columns()) : [])) }));
        const { order, ...stages } = sampling;
        const meta = {
            schema: `${TRACE.name}/${TRACE.version}`,
            kind: "generation",
            model: { ...info, engine: `page-${this.#model.kernel.name}`, device: "cpu", dtype: "float32", threads: 1 },
            prompt,
            prompt_rewritten: !this.#isSpelled(prompt),
            sampling: { ...stages, order },
            seed,
            stop,
            end: this.#end ?? "interrupted",
            max_new_tokens: count,
            window: "exact",
            special_ids: [...this.#tokenizer.specialIds].sort((a, b) => a - b),
            self_checks: isMade ? this.#checks() : [],
            capture,
            parts: isMade ? this.#recorders.flatMap((each) => each.parts()) : [],
            ablate: [],
            first_step: firstStep,
            rounded: {},
            vocab_size: this.#model.config.vocab_size,
        };
        return writeTrace(exactJson(meta), columns);
    }

    /** @returns {Record<string, Column>} those that every trace has */
    #columns() {
        const { vocab_size: V } = this.#model.config;
        const spelled = Array.from({ length: V }, (_, id) => this.#tokenizer.bytes[id] ?? new Uint8Array());
        const logits = new Float32Array(this.steps * V);
        this.#rows.forEach((row, i) => logits.set(row, i * V));
        const { u, start, p, pModel, rank } = this.#made;
        const prompt = this.#run.ids.length;
        let end = 0;
        return {
            prompt_ids: column(Int32Array.from(this.#ids.slice(0, prompt))),
            token_id: column(Int32Array.from(this.#ids.slice(prompt))),
            u: column(Float64Array.from(u)),
            window_start: column(Int32Array.from(start)),
            p: column(Float64Array.from(p)),
            p_model: column(Float64Array.from(pModel)),
            rank: column(Int32Array.from(rank)),
            vocab_bytes: column(Uint8Array.from(spelled.flatMap((bytes) => [...bytes]))),
            vocab_end: column(Int32Array.from(spelled, ({ length }) => (end += length))),
            logits: { dtype: "float32", shape: [this.steps, V], data: logits },
        };
    }

    /** What must hold for the record to be true, each with its worst error. */
    #checks() {
        const found = [{ name: "probabilities_sum_to_1", error: this.#worstSum }];
        const worst = this.#cacheError();
        if (worst !== null) found.push({ name: "cached_equals_uncached", error: worst });
        found.push(...this.#recorders.map(({ check }) => check));
        return found.map(({ name, error }) => ({ name, error: Number.isFinite(error) ? error : null, limit: SELF_CHECKS[name].limit }));
    }

    /**
     * How far rows made with the cache lie from those made with nothing kept: of the last one, and of one in the middle.
     * Null where no row was: step 0 reads the prompt, and past the context nothing is kept.
     */
    #cacheError() {
        const { start } = this.#made;
        const cached = start[0] === 0 ? start.map((_, step) => step).filter((step) => step > 0 && start[step] === 0) : [];
        if (cached.length === 0) return null;
        let worst = 0;
        for (const step of new Set([cached[Math.floor(cached.length / 2)], cached[cached.length - 1]])) {
            const { logits } = this.#model.next(this.#ids.slice(0, this.#run.ids.length + step), null, true);
            let [largest, difference] = [1, 0];
            this.#rows[step].forEach((each, i) => {
                if (!Number.isFinite(each)) return;
                largest = Math.max(largest, Math.abs(each));
                difference = Math.max(difference, Math.abs(logits[i] - each));
            });
            worst = Math.max(worst, difference / largest);
        }
        return worst;
    }

    /** Whether this token completed a stop text, which may have begun in tokens before it. @param {number} tokenId */
    #isStopped(tokenId) {
        const stops = this.#run.stop.map((text) => [...new TextEncoder().encode(text)]);
        const before = this.#tail.length;
        const made = [...this.#tail, ...this.#bytes(tokenId)];
        this.#tail = made.slice(-Math.max(...stops.map(({ length }) => length)));
        const isAt = (/** @type {number[]} */ stop, /** @type {number} */ at) => stop.every((byte, i) => made[at + i] === byte);
        return stops.some((stop) => made.some((_, at) => at > before - stop.length && isAt(stop, at)));
    }

    /** Whether the prompt's own tokens spell a text as it is. @param {string} text */
    #isSpelled(text) {
        const [own, bytes] = [this.#ids.slice(0, this.#run.ids.length).flatMap((id) => this.#bytes(id)), new TextEncoder().encode(text)];
        return own.length === bytes.length && own.every((byte, i) => byte === bytes[i]);
    }

    /** What a token adds to the text: special ones add nothing. @param {number} id */
    #bytes(id) {
        return this.#tokenizer.specialIds.includes(id) ? [] : [...(this.#tokenizer.bytes[id] ?? [])];
    }
}

/**
 * Plain values as `pythonJson` takes them: objects as Maps, whole numbers as BigInts.
 * @param {any} value
 * @returns {any}
 */
function exactJson(value) {
    if (Number.isSafeInteger(value)) return BigInt(value);
    if (Array.isArray(value)) return value.map(exactJson);
    if (value === null || typeof value !== "object") return value;
    return new Map(Object.entries(value).map(([key, each]) => [key, exactJson(each)]));
}
