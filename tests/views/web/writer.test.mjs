// A text that is written by an engine in a thread: however the thread ends it, it ends, and whenever it is stopped.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

import { EngineSource } from "../../../src/manako/views/web/page/engine-source.js";
import { Writer } from "../../../src/manako/views/web/page/writer.js";
import { setCatalogs } from "../../../src/manako/views/web/text/messages.js";
import { Tree } from "../../../src/manako/views/web/trace/tree.js";

globalThis.document = { documentElement: { lang: "en" } };
setCatalogs({ en: { "page.engine_failed": "failed: {error}", "page.lost_text": "lost: {text}", "page.lost_server": "no server", "error.logits_not_finite": "not finite" } });

const FILE = Uint8Array.from(readFileSync(new URL("../../fixtures/trace-4.manako", import.meta.url))).buffer;
const STEP = { index: 0, text: "眼", taken: {}, listed: [], other: {} };
/** What the thread was sent; what it does with a request. */
const sent = [];
let told = () => {};

globalThis.Worker = class extends EventTarget {
    postMessage(given) {
        sent.push(given);
        const answer = (data) => queueMicrotask(() => this.dispatchEvent(Object.assign(new Event("message"), { data })));
        if (typeof given === "object") told(answer, (message) => queueMicrotask(() => this.dispatchEvent(Object.assign(new Event("error"), { message }))));
    }
};

/** Have a new text written by a thread that does this. */
function writing(does) {
    told = does;
    sent.length = 0;
    const tree = new Tree([]);
    const writer = new Writer(tree);
    writer.models = [{ ready: true, source: new EngineSource(""), ref: "", captures: [], weights_sha256: "", tokenizer_sha256: "" }];
    const view = { lang: "en", path: { at: () => null }, place: 0, trace: { header: { sampling: {} } } };
    return { writer, tree, written: writer.write({ kind: "new", text: "a" }, view, { count: 120, seed: 0, inside: false }, () => {}) };
}
const start = { kind: "start", firstStep: 0 };

test("an engine that fails while it writes ends the text, and what had come is told", async () => {
    const fault = (error) => ({ kind: "fault", fault: { key: "unexpected", values: { error } } });
    for (const fails of [(answer) => answer(fault("full")), (_, breaks) => breaks("full")]) {
        const { writer, written } = writing((answer, breaks) => {
            answer(start);
            answer({ kind: "steps", steps: [STEP] });
            fails(answer, breaks);
        });
        assert.equal(await written, null);
        assert.deepEqual([writer.steps, writer.fault], [null, "failed: full lost: 眼"]);
    }
    const { writer, written } = writing((answer) => answer(fault("early")));
    assert.equal(await written, null);
    assert.equal(writer.fault, "failed: early");
});

test("numbers that are not finite end the text behind the steps before, which are kept", async () => {
    const { writer, tree, written } = writing((answer) => {
        answer(start);
        answer({ kind: "end", bytes: FILE, fault: { key: "logits_not_finite", values: {} } });
    });
    assert.equal(await written, "t1");
    assert.deepEqual([writer.fault, tree.branches.get("t1").bytes], ["not finite", FILE]);
});

test("a stop that comes before the thread has begun reaches it", async () => {
    let end;
    const { writer, written } = writing((answer) => (end = () => [start, { kind: "end", bytes: FILE }].forEach(answer)));
    writer.stop();
    assert.equal(sent.at(-1), "stop");
    end();
    assert.equal(await written, "t1");
});

test("a text goes on by the model that made it: weights, tokenizer, and what both say of the shape", () => {
    const shape = { n_head: 2, layer_norm_epsilon: 1e-5, n_inner: null, start_id: 0, end_ids: [0] };
    const model = { weights_sha256: "w", tokenizer_sha256: "t", config: shape };
    const writer = new Writer(new Tree([]));
    const knows = (changes, ablate = [], config = {}, source = {}) => {
        writer.models = [{ ...model, ready: true, source, ref: "", captures: [], ...changes }];
        return writer.made({ header: { model: { ...model, config: { ...shape, ...config } }, ablate } }) !== undefined;
    };
    assert.ok(knows({}) && knows({ config: undefined }) && knows({}, ["mlp:0"], {}, { ablates: true }));
    assert.ok(knows({}, [], { start_id: 5, end_ids: [7], later: 1, n_head: undefined }));
    for (const config of [{ n_head: 4 }, { layer_norm_epsilon: 0.1 }, { n_inner: 8 }]) assert.ok(!knows({}, [], config), JSON.stringify(config));
    assert.ok(!knows({ weights_sha256: "other" }) && !knows({ tokenizer_sha256: "other" }) && !knows({}, ["mlp:0"]) && !knows({}, [], {}, null));
});
