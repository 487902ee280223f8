// A text that is written by an engine in a thread: however the thread ends it, it ends, and whenever it is stopped.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

import { EngineSource } from "../../../src/manako/views/web/page/engine-source.js";
import { Writer, liveNumbers } from "../../../src/manako/views/web/page/writer.js";
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
    const view = { lang: "en", path: { at: () => null, leaf: { trace: { steps: 0 } } }, place: 0, trace: { header: { sampling: {} } } };
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
    const id = await written;
    assert.deepEqual([writer.fault, tree.branches.get(id).bytes], ["not finite", FILE]);
});

test("while a text is written, the drawn token stands in the table once, and all of it is the vocabulary", () => {
    const token = (id, rank, p) => ({ id, bytes: new Uint8Array(), p, pModel: p / 2, rank, cutBy: null });
    const listed = Array.from({ length: 10 }, (_, n) => token(n, n + 1, 0.08));
    const other = { count: 3854, p: 0.2, pModel: 0.6 }; // all but the listed ones, as a server and the page's engine tell
    for (const taken of [token(77, 42, 0.05), token(77, 42, 0.20000000000000004), listed[3]]) {
        const found = liveNumbers({ index: 0, text: "", taken, listed, other }, []);
        const [rows, rest] = [found.listed(10), found.other(found.listed(10))];
        const sum = (name) => rows.reduce((all, row) => all + row[name], rest[name]);
        assert.equal(found.size, 3864);
        assert.equal(rows.length + rest.count, 3864);
        assert.ok(Math.abs(sum("p") - 1) < 1e-12 && Math.abs(sum("pModel") - 1) < 1e-12);
        assert.ok(rest.p >= 0 && rest.pModel >= 0);
    }
});

test("a stop that comes before the thread has begun reaches it", async () => {
    let end;
    const { writer, tree, written } = writing((answer) => (end = () => [start, { kind: "end", bytes: FILE }].forEach(answer)));
    writer.stop();
    assert.equal(sent.at(-1), "stop");
    end();
    assert.deepEqual([await written], [...tree.branches.keys()]);
});

/** The seed that is asked for, with one typed under "Settings", of a text whose own is 4. */
async function seedOf(kind, typed) {
    let asked;
    const source = { ablates: true, write: async ({ settings }) => void (asked = settings.seed) };
    const leaf = { id: "1", trace: { header: { sampling: {}, seed: 4n, ablate: [], model: { weights_sha256: "", tokenizer_sha256: "" } }, steps: 3 } };
    const writer = new Writer(new Tree([leaf]));
    writer.models = [{ ready: true, source, ref: "", captures: [], weights_sha256: "", tokenizer_sha256: "" }];
    const view = { lang: "en", path: { at: () => null, leaf }, place: 0, trace: leaf.trace, sampling: null };
    await writer.write({ kind, text: "a" }, view, { count: 1, seed: typed, inside: false }, () => {});
    return asked;
}

test("a typed seed holds for all that is written but what is compared by the same random numbers", async () => {
    const seeds = (typed) => Promise.all(["new", "go", "step", "force", "type", "settings"].map((kind) => seedOf(kind, typed)));
    assert.deepEqual(await seeds(7), [7, 7, 7, null, null, null]);
    assert.deepEqual(await seeds(null), Array(6).fill(null)); // the text's own, of a new one a fresh one
});

test("another seed is the typed one, or any where that is the text's own", async () => {
    assert.equal(await seedOf("luck", 7), 7);
    for (const typed of [null, 4]) {
        const [one, other] = [await seedOf("luck", typed), await seedOf("luck", typed)];
        assert.ok(Number.isInteger(one) && one !== 4 && one !== other);
    }
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
