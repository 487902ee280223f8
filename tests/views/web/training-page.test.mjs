// What the page that trains does around its thread: files of foreign encodings, a plan for so many minutes, a full browser.

import assert from "node:assert/strict";
import test from "node:test";

import { LowBattery } from "../../../src/manako/views/web/training/battery.js";
import { Trainer } from "../../../src/manako/views/web/training/trainer.js";
import { curveDrawing } from "../../../src/manako/views/web/training/curve.js";
import { KeptRun } from "../../../src/manako/views/web/training/kept-run.js";
import { MINUTES, SIZES, readings, settingsFor, sizeFor } from "../../../src/manako/views/web/training/proposal.js";
import { readResult, resultFile } from "../../../src/manako/views/web/training/result.js";
import { Snapshots } from "../../../src/manako/views/web/training/snapshots.js";
import { textOf } from "../../../src/manako/views/web/training/text-file.js";

test("a file is text in an encoding that is certain, or refused", () => {
    const [cat, bytes] = ["吾輩は猫である。\n", (...each) => Uint8Array.from(each.flat()).buffer];
    const utf16 = (isLittle) => [...cat].flatMap((ch) => [ch.charCodeAt(0) & 255, ch.charCodeAt(0) >> 8]).map((_, i, all) => (isLittle ? all[i] : all[i ^ 1]));
    const shiftJis = [0x8c, 0xe1, 0x94, 0x79, 0x82, 0xcd, 0x94, 0x4c, 0x82, 0xc5, 0x82, 0xa0, 0x82, 0xe9, 0x81, 0x42, 10];
    const eucJp = [0xb8, 0xe3, 0xc7, 0xda, 0xa4, 0xcf, 0xc7, 0xad, 0xa4, 0xc7, 0xa4, 0xa2, 0xa4, 0xeb, 0xa1, 0xa3, 10];
    const utf8 = [...new TextEncoder().encode(cat)];
    for (const each of [utf8, [0xef, 0xbb, 0xbf, ...utf8], [0xff, 0xfe, ...utf16(true)], [0xfe, 0xff, ...utf16(false)], shiftJis, eucJp]) assert.equal(textOf(bytes(each)), cat);
    const png = [0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10, 0, 0];
    for (const each of [png, [0, 1, 2], [0xff, 0xff, 0xff], [0x1b, 0x24, 0x42, 0x38, 0x63]]) assert.equal(textOf(bytes(each)), null); // the last is ISO-2022-JP
    assert.equal(textOf(bytes([])), "");
});

test("a plan fills its minutes, and every size is one that the kernel takes", () => {
    for (const [size, { batch_size, block_size }] of Object.entries(SIZES)) {
        const plan = settingsFor(size, 20_000, 3, 5);
        const seconds = (plan.steps * batch_size * block_size) / 20_000;
        assert.ok(seconds < 180 && seconds > 0.75 * 180 && plan.seed === 5 && plan.warmup_steps < plan.steps);
        assert.ok(settingsFor(size, 1, 1, 0).steps >= 50 && settingsFor(size, 1, 1, 0).warmup_steps <= 10);
        const { n_layer, n_head, n_embd } = plan;
        const trainer = new Trainer({ n_layer, n_head, n_embd, n_positions: block_size, vocab_size: 4300 }, batch_size, 0);
        assert.ok(trainer.kernel.numbers.byteLength < 150e6); // of the 500 MB that a page may take
    }
    assert.ok(MINUTES.every((minutes) => SIZES[sizeFor(minutes)]));
    assert.equal(readings({ steps: 10, batch_size: 2, block_size: 5 }, { trainTokens: 50 }), 2);
});

test("a curve has each loss and each evaluation where its step is, and every line from edge to edge", () => {
    const guesses = { uniform: 8, unigram: 4, bigram: 2 };
    const lines = (losses, evaluations) => {
        const { shapes } = curveDrawing("title", losses, evaluations, guesses, (line) => line);
        return shapes.filter(({ tag }) => tag === "polyline").slice(-5).map(({ put }) => String(put.points).split(" ").filter(Boolean).map((point) => point.split(",").map(Number)));
    };
    const losses = Array.from({ length: 1000 }, (_, i) => 8 - i / 200);
    const [uniform, , , train, heldOut] = lines(losses, [{ step: 500, bits: 5 }, { step: 1000, bits: 3 }]);
    const [left, right] = [uniform[0][0], uniform[1][0]];
    assert.ok(Math.abs(heldOut[0][0] - (left + right) / 2) < 1e-9 && heldOut[1][0] === right);
    assert.ok(train.length <= 80 && train[0][0] > left && train.at(-1)[0] < right && train[0][1] < train.at(-1)[1]);
    assert.ok(lines([], []).flat(2).every(Number.isFinite));
});

test("a result is read as it was written, or refused with what does not fit", () => {
    const { muon_rate, ...settings } = settingsFor("small", 20_000, 1, 0);
    const guesses = { uniform: 8, unigram: 4.5, bigram: 3 };
    const result = { name: "眼", text: { start: "It is", characters: 9, sha256: "0" }, settings, muon_rate, parameters: 9, step: 1, seconds: 2, evaluation: null, guesses, prompt: "", sample: "a" };
    assert.deepEqual(readResult(resultFile(result)), { schema: "manako.result/2", ...result });
    const { muon_rate: _, ...older } = { schema: "manako.result/1", ...result }; // which knew of AdamW alone
    assert.deepEqual(readResult(JSON.stringify(older)), older);
    const keyOf = (file) => {
        try {
            readResult(file);
        } catch ({ key, values }) {
            return values.part ?? key;
        }
    };
    const changed = (change) => keyOf(resultFile({ ...result, ...change }));
    assert.deepEqual([{ name: 5 }, { step: -1 }, { evaluation: { step: 1 } }, { guesses: null }, { settings: { ...settings, seed: 0.5 } }, { muon_rate: 0 }, { more: 1 }, { schema: "manako.result/3" }, { schema: "a" }, { sample: "a".repeat(100_000) }].map(changed), ["name", "step", "evaluation", "guesses", "seed", "muon_rate", "header", "trace_newer", "schema", "size"]);
    assert.deepEqual(["", "[]", "{", "\0PNG"].map(keyOf), Array(4).fill("json_invalid"));
});

test("a low battery pauses a training once, until it was charged", async () => {
    const battery = Object.assign(new EventTarget(), { charging: false, level: 0.5 });
    const levels = [];
    let isTraining = false;
    const low = new LowBattery((level) => isTraining && levels.push(level) > 0);
    low.look(); // nothing is known yet
    await low.watch({ getBattery: async () => battery });
    const change = (values) => {
        Object.assign(battery, values);
        battery.dispatchEvent(new Event("levelchange"));
    };
    change({ level: 0.2 });
    isTraining = true;
    low.look(); // as a training begins
    change({ level: 0.19 });
    assert.deepEqual(levels, [0.2]);
    change({ charging: true });
    assert.deepEqual(levels, [0.2]);
    change({ charging: false, level: 0.1 });
    assert.deepEqual(levels, [0.2, 0.1]);
    for (const browser of [{}, { getBattery: async () => Promise.reject(new Error("refused")) }]) {
        const none = new LowBattery(() => assert.fail("there is none"));
        await none.watch(browser);
        none.look();
    }
});

test("snapshots stay spread over the training, in a fixed memory, and looking back changes no bit", async () => {
    const trainer = { steps: 0, numbers: new Float32Array(1e6), snapshot: () => ({ steps: trainer.steps, numbers: trainer.numbers.slice() }), restore: (kept) => Object.assign(trainer, kept) };
    const snapshots = new Snapshots();
    for (; trainer.steps <= 1000; trainer.steps += 10) {
        trainer.numbers[0] = trainer.steps;
        snapshots.keep(trainer);
        assert.ok(snapshots.bytes <= 64e6);
    }
    const { steps } = snapshots;
    assert.ok(steps[0] === 0 && steps.at(-1) === 1000 && steps.length === 16);
    assert.ok(steps.slice(1).every((step, i) => step - steps[i] >= 10 && step - steps[i] <= 160), `${steps}`);
    const was = trainer.numbers;
    let seen = null;
    await snapshots.under(trainer, steps[3], async () => (seen = trainer.numbers[0]));
    assert.equal(seen, steps[3]);
    assert.deepEqual([trainer.numbers, trainer.steps], [was, 1010]);
    trainer.numbers = new Float32Array(8);
    const small = new Snapshots();
    for (trainer.steps = 0; trainer.steps < 100; trainer.steps++) small.keep(trainer);
    assert.equal(small.steps.length, 33);
    await small.under(trainer, 5000, async () => assert.fail("it is gone"));
});

test("a browser that refuses or is full keeps nothing, and says so", async () => {
    globalThis.location = { pathname: "/train.html" };
    globalThis.indexedDB = {
        open() {
            throw new Error("SecurityError");
        },
    };
    assert.equal(await new KeptRun().put("", new ArrayBuffer(8)), false);
    assert.equal(await new KeptRun().get(), null);
    await new KeptRun().clear();
    const transaction = { objectStore: () => ({ put: () => ({}) }) };
    globalThis.indexedDB = {
        open() {
            const opening = { result: { transaction: () => transaction } };
            setTimeout(() => opening.onsuccess());
            return opening;
        },
    };
    const putting = new KeptRun().put("", new ArrayBuffer(8));
    setTimeout(() => transaction.onabort(new Error("QuotaExceededError")), 20);
    assert.equal(await putting, false);
});
