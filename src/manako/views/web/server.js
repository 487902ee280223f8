/**
 * The server that sent the page: its model, its traces, and generations read while they run.
 *
 * Special here: one stream at a time. A stream that breaks off is taken up again behind the last event that came.
 */

/** What the server answered instead of what was asked, for the reader; no message where it did not answer at all. */
export class ServerError extends Error {}

/** @typedef {{ready: boolean, ref: string, captures: string[], weights_sha256: string, tokenizer_sha256: string}} ServedModel */
/** @typedef {{id: string, title: string, parent: string | null, keep: number}} ServedTrace */
/** @typedef {(name: string, data: any) => void} Listener of the events start, step, error, end */

const TRIES = 4;
const WAIT = 500; // ms before the first of them, twice as long before each other one

export class Server {
    /** @param {string} token @param {string} lang */
    constructor(token, lang) {
        this.#headers = { "X-Manako-Token": token, "Accept-Language": lang };
    }

    /** @type {Record<string, string>} */
    #headers;

    /** @returns {Promise<ServedModel>} */
    async model() {
        return (await this.#ask("/api/model")).json();
    }

    /** @returns {Promise<{traces: ServedTrace[], current: string | null}>} */
    async traces() {
        return (await this.#ask("/api/traces")).json();
    }

    /** @param {string} id */
    async trace(id) {
        return (await this.#ask(`/api/traces/${encodeURIComponent(id)}`)).arrayBuffer();
    }

    /** The exported page without a record. @param {string} lang */
    async offlinePage(lang) {
        return (await this.#ask(`/assets/offline-${lang}.txt`)).text();
    }

    /** @param {string} id */
    async stop(id) {
        await this.#ask("/api/stop", { id });
    }

    /**
     * Generate, and hear of every step; ends with the generation. Throws ServerError.
     * @param {object} body
     * @param {Listener} listener
     */
    async generate(body, listener) {
        let [id, last, ended] = ["", "0", false];
        const heard = (/** @type {string} */ block) => {
            const field = (/** @type {string} */ name) => new RegExp(`^${name}: (.*)$`, "m").exec(block)?.[1];
            const [name, data] = [field("event"), field("data")];
            if (name === undefined || data === undefined) return; // a sign of life
            const told = JSON.parse(data);
            [id, last, ended] = [told.id ?? id, field("id") ?? last, name === "end"];
            listener(name, told);
        };
        await readBlocks(await this.#ask("/api/generate", body), heard);
        for (let n = 0; !ended && id !== "" && n < TRIES; n++) {
            await new Promise((resolve) => setTimeout(resolve, WAIT * 2 ** n));
            const answer = await this.#ask(`/api/runs/${encodeURIComponent(id)}`, null, { "Last-Event-ID": last }).catch(() => null);
            if (answer) await readBlocks(answer, heard);
        }
    }

    /** @param {string} path @param {object | null} [body] @param {Record<string, string>} [more] */
    async #ask(path, body = null, more = {}) {
        const sent = body === null ? {} : { method: "POST", body: JSON.stringify(body) };
        const headers = new Headers({ ...this.#headers, ...more });
        if (body !== null) headers.set("Content-Type", "application/json");
        const answer = await fetch(path, { ...sent, headers }).catch(() => {
            throw new ServerError();
        });
        if (!answer.ok) throw new ServerError((await answer.json()).message);
        return answer;
    }
}

/**
 * Ends with the stream, whole or broken off.
 * @param {Response} answer of server-sent events
 * @param {(block: string) => void} heard
 */
async function readBlocks(answer, heard) {
    const reader = /** @type {ReadableStream<Uint8Array>} */ (answer.body).getReader();
    const decoder = new TextDecoder();
    let text = "";
    for (;;) {
        const { done, value } = await reader.read().catch(() => ({ done: true, value: undefined }));
        if (done || !value) return;
        const blocks = (text + decoder.decode(value, { stream: true })).split("\n\n");
        text = blocks.pop() ?? "";
        blocks.forEach(heard);
    }
}
