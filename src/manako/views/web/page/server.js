/**
 * The server that sent the page: its model, its traces, and generations read while they run.
 *
 * Special here: one stream at a time. A stream that breaks off is taken up again behind the last event that came.
 */

/** @import {Listener, Source, ToldStep, ToldToken, WriteRequest} from "./source.js" */
import { SourceError } from "./source.js";

/** @typedef {{id: string, title: string, parent: string | null, keep: number}} ServedTrace */
/** @typedef {{ref: string, reads?: string, captures: string[], weights_sha256: string, tokenizer_sha256: string, in_page: boolean}} ServedModel */

const TRIES = 4;
const WAIT = 500; // ms before the first of them, twice as long before each other one
const PATIENCE = 40_000; // ms; the server gives a sign of life every 15 s

/** @implements {Source} */
export class Server {
    ablates = true;

    /** @param {string} token @param {string} reader in whose list the texts stand that are written here */
    constructor(token, reader) {
        this.#token = token;
        this.#reader = reader;
    }

    #token;
    #reader;
    /** @type {Promise<string> | null} */
    #page = null;

    /** The one that it runs, and others beside it. @returns {Promise<ServedModel & {ready: boolean, beside: ServedModel[]}>} */
    async model() {
        return answered((await this.#ask("/api/model")).json());
    }

    /** A model's file, for the page to run. @param {ServedModel} model */
    async modelFile({ weights_sha256 }) {
        return this.#ask(`/api/models/${weights_sha256}`);
    }

    /** @returns {Promise<{traces: ServedTrace[], current: string | null}>} */
    async traces() {
        return answered((await this.#ask("/api/traces")).json());
    }

    /** @param {string} id */
    async trace(id) {
        return answered((await this.#ask(`/api/traces/${encodeURIComponent(id)}`)).arrayBuffer());
    }

    /** The exported page without a record, fetched once, before it is needed: there may be no server any more then. */
    async offlinePage() {
        this.#page ??= this.#ask("/assets/offline.txt").then((answer) => answered(answer.text()));
        return this.#page.catch((error) => {
            this.#page = null;
            throw error;
        });
    }

    /** @param {string} id */
    async stop(id) {
        await this.#ask("/api/stop", { id });
    }

    /**
     * @param {WriteRequest} request
     * @param {Listener} listener
     * @param {AbortSignal} signal
     */
    async write({ prompt, settings, after }, listener, signal) {
        const body = { prompt, settings, after: after && { id: after.branch.id, steps: after.keep, token: after.token } };
        let [id, last, ended] = ["", "0", false];
        const heard = (/** @type {string} */ block) => {
            const field = (/** @type {string} */ name) => new RegExp(`^${name}: (.*)$`, "m").exec(block)?.[1];
            const [name, data] = [field("event"), field("data")];
            if (name === undefined || data === undefined) return; // a sign of life
            const told = JSON.parse(data);
            [id, last, ended] = [told.id ?? id, field("id") ?? last, name === "end"];
            if (name === "start") listener.start(told.id, told.first_step);
            if (name === "step") listener.step(toldStep(told));
            if (name === "error") listener.fault(told.message);
        };
        await readBlocks(await this.#ask("/api/generate", body, {}, signal), heard);
        for (let n = 0; !ended && id !== "" && n < TRIES; n++) {
            await new Promise((resolve) => setTimeout(resolve, WAIT * 2 ** n));
            try {
                await readBlocks(await this.#ask(`/api/runs/${encodeURIComponent(id)}`, null, { "Last-Event-ID": last }, signal), heard);
            } catch (error) {
                if (/** @type {Error} */ (error).message) return; // the server answers: it has ended
            }
        }
    }

    /** @param {string} path @param {object | null} [body] @param {Record<string, string>} [more] @param {AbortSignal} [signal] */
    async #ask(path, body = null, more = {}, signal) {
        const sent = body === null ? {} : { method: "POST", body: JSON.stringify(body) };
        const headers = new Headers({ "X-Manako-Token": this.#token, "X-Manako-Reader": this.#reader, "Accept-Language": document.documentElement.lang, ...more });
        if (body !== null) headers.set("Content-Type", "application/json");
        const answer = await answered(fetch(path, { ...sent, headers, signal }));
        if (!answer.ok) throw new SourceError((await answered(answer.json())).message);
        return answer;
    }
}

/** A step out of its event. @param {any} told @returns {ToldStep} */
function toldStep({ index, chosen, candidates, other }) {
    /** @returns {ToldToken} */
    const token = (/** @type {any} */ { id, bytes, p, p_model: pModel, rank, cut_by: cutBy = null }) => {
        return { id, bytes: Uint8Array.from(atob(bytes), (letter) => letter.charCodeAt(0)), p, pModel, rank, cutBy };
    };
    return { index, taken: token(chosen), text: chosen.text, listed: candidates.map(token), other: { ...other, pModel: other.p_model } };
}

/**
 * What was asked for, or SourceError where the connection broke.
 * @template T
 * @param {Promise<T>} asked
 * @returns {Promise<T>}
 */
function answered(asked) {
    return asked.catch(() => {
        throw new SourceError();
    });
}

/**
 * Ends with the stream, whole or broken off; also where not even a sign of life comes.
 * @param {Response} answer of server-sent events
 * @param {(block: string) => void} heard
 */
async function readBlocks(answer, heard) {
    const reader = /** @type {ReadableStream<Uint8Array>} */ (answer.body).getReader();
    const decoder = new TextDecoder();
    const ended = { done: true, value: undefined };
    let text = "";
    for (;;) {
        let timer = 0;
        const silence = new Promise((/** @type {(nothing: typeof ended) => void} */ resolve) => (timer = setTimeout(resolve, PATIENCE, ended)));
        const { done, value } = await Promise.race([reader.read().catch(() => ended), silence]);
        clearTimeout(timer);
        if (done || !value) return reader.cancel().catch(() => {});
        const blocks = (text + decoder.decode(value, { stream: true })).split("\n\n");
        text = blocks.pop() ?? "";
        blocks.forEach(heard);
    }
}
