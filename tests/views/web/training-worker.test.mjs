// The thread that trains, spoken to as the page does: what it tells, in which order, and that looking changes nothing.

import assert from "node:assert/strict";
import test from "node:test";

import { recordText } from "../../../src/manako/views/web/text/tokens.js";
import { readModel } from "../../../src/manako/views/web/engine/model-file.js";
import { readTrace } from "../../../src/manako/views/web/trace/trace-file.js";
import { corpusOf } from "../../../src/manako/views/web/training/corpus.js";
import { readResult } from "../../../src/manako/views/web/training/result.js";
import { readRun } from "../../../src/manako/views/web/training/run-file.js";
import { Training } from "../../../src/manako/views/web/training/training.js";

const TEXT = "It is a truth universally acknowledged, that a single man in possession of a good fortune.\n".repeat(40);
const SETTINGS = {
    ...{ n_layer: 1, n_head: 2, n_embd: 16, block_size: 16, batch_size: 2, steps: 120, learning_rate: 5e-3, warmup_steps: 10, muon_rate: 0.02, weight_decay: 0.1 },
    ...{ grad_clip: 1, seed: 7 },
};

let hear;
const told = [];
let wake = () => {};
globalThis.addEventListener = (_, listener) => (hear = (data) => listener({ data }));
globalThis.postMessage = (said) => {
    told.push({ ...said, at: performance.now() });
    wake();
};
await import("../../../src/manako/views/web/training/worker.js");

/** The next thing told that fits, all before it dropped. */
async function until(fits) {
    for (;;) {
        while (told.length) {
            const said = told.shift();
            if (fits(said)) return said;
        }
        await new Promise((resolve) => (wake = resolve));
    }
}
const kind = (name) => until((said) => said.kind === name);
const faultOf = async (asked) => {
    hear(asked);
    return (await kind("fault")).fault;
};

test("a text that cannot be trained on is refused with its reason", async () => {
    for (const [text, key] of [
        ["a".repeat(50), "text_short"],
        ["あ".repeat(2000), "text_monotone"],
        [" \n".repeat(2000), "text_short"],
        [`${"ab".repeat(1000)}\ud800`, "text_surrogate"],
        ["ab".repeat(5_000_001), "text_long"],
    ])
        assert.equal((await faultOf({ kind: "text", text })).key, key);
    hear({ kind: "text", text: TEXT });
    const { facts } = await kind("text");
    assert.equal(facts.train + facts.heldOut, facts.characters);
    assert.ok(facts.guesses.bigram < facts.guesses.unigram && facts.guesses.unigram < facts.guesses.uniform);
});

test("a machine is measured before a training", async () => {
    hear({ kind: "measure", settings: SETTINGS });
    assert.ok((await kind("measured")).speed > 100);
});

test("a training is held, goes on step by step, and ends as one that nobody looked at", async () => {
    hear({ kind: "start", settings: SETTINGS, prompt: "It is" });
    const begun = await kind("begun");
    assert.equal(begun.settings.steps, 120);
    assert.equal((await kind("sample")).step, 0);
    hear({ kind: "pause" });
    const { progress: held } = await until(({ progress }) => progress && !progress.isRunning);
    hear({ kind: "step" });
    const { progress } = await kind("progress");
    assert.equal(progress.step, held.step + 1);
    assert.equal(progress.losses.length, 1);
    const total = progress.next.listed.reduce((sum, { p }) => sum + p, progress.next.other.p);
    assert.ok(Math.abs(total - 1) < 1e-5 && progress.next.listed.length === 10);
    assert.equal(progress.next.listed.length + progress.next.other.count, begun.facts.size);
    hear({ kind: "prompt", prompt: "good" });
    assert.equal((await kind("sample")).step, 0);
    assert.equal((await kind("sample")).step, progress.step);
    assert.equal((await faultOf({ kind: "prompt", prompt: "\ud800" })).key, "prompt_surrogate");
    await glass(progress.step);
    hear({ kind: "keep" });
    const { run } = await kind("kept");
    hear({ kind: "go" });
    const newest = await until(({ kind: each, step }) => each === "sample" && step === 120);
    const { progress: last } = await until(({ progress }) => progress?.step === 120 && !progress.isRunning && progress.evaluations.length);
    assert.equal(last.evaluations.at(-1).step, 120);
    assert.deepEqual([last.snapshots.steps[0], last.snapshots.steps.at(-1)], [0, 120]);
    for (const step of [0, 120]) {
        hear({ kind: "look", step });
        const { kind: _, at, ...seen } = await kind("sample");
        assert.ok(seen.step === step && seen.prompt === "good" && seen.next.listed.length === 10);
        if (step === 120) assert.deepEqual({ ...newest, at }, { kind: "sample", at, ...seen });
    }

    hear({ kind: "result", name: "眼 </script>" });
    const result = readResult((await kind("result")).result);
    assert.deepEqual([result.name, { ...result.settings, muon_rate: result.muon_rate }, result.step, result.prompt], ["眼 </script>", SETTINGS, 120, "good"]);
    assert.deepEqual([result.evaluation, result.guesses], [last.evaluations.at(-1), begun.facts.guesses]);
    assert.equal(result.sample, recordText(newest.text));

    hear({ kind: "save", ref: "mine", versions: { manako: "1" } });
    const saved = await kind("saved");
    const { training } = await readRun(saved.run);
    const alone = new Training(corpusOf(TEXT), SETTINGS);
    while (!alone.isDone) alone.advance();
    assert.deepEqual(training.losses, alone.losses.map(Math.fround));
    for (const [name, { data }] of alone.trainer.tensors("weight")) assert.deepEqual(training.trainer.tensors("weight").get(name).data, data);
    const trace = readTrace(saved.trace);
    assert.equal(trace.header.model.weights_sha256, readModel(saved.model).info.weights_sha256);
    assert.ok(trace.header.capture.includes("attention") && trace.header.prompt === "good");

    hear({ kind: "open", bytes: run, prompt: "It is" });
    assert.equal((await kind("begun")).settings.seed, 7);
    assert.equal((await kind("sample")).step, 0); // which follows from the seed
    assert.equal((await until(({ kind: each, step }) => each === "sample" && step > 0)).step, progress.step);
    assert.equal((await faultOf({ kind: "open", bytes: run.slice(0, -4), prompt: "" })).key, "trace_damaged");
});

/** Steps are looked at and change nothing, and what is asked for wrongly is said. */
async function glass(step) {
    const whole = { kind: "try", read: "a good man", text: "", share: 1 };
    hear(whole);
    const { tried } = await kind("tried");
    assert.deepEqual([tried.step, tried.read, tried.rateFrom, tried.tokens.length], [step, "a good man", "schedule", 10]);
    hear({ ...whole, read: null, text: "It", share: 0.1 });
    assert.deepEqual((await kind("tried")).tried.tokens.map(({ bytes }) => String.fromCharCode(...bytes)), ["I", "t"]);
    for (const [asked, key] of [
        [{ read: "" }, "step_short"],
        [{ read: "a".repeat(17) }, "step_long"],
        [{ text: "a".repeat(17) }, "step_long"],
        [{ read: "\ud800" }, "prompt_surrogate"],
    ])
        assert.equal((await faultOf({ ...whole, ...asked })).key, key);
}

test("a step that was looked at is kept: the next batch as the training's own, a sentence besides and on record", async () => {
    hear({ kind: "start", settings: { ...SETTINGS, steps: 3 }, prompt: "It is" });
    hear({ kind: "pause" });
    const { progress: first } = await until(({ progress }) => progress && !progress.isRunning);
    const ask = { kind: "try", read: null, text: "It is", share: 1 };
    const after = [];
    for (const read of [...Array(3 - first.step).fill(null), "a good man"]) {
        hear({ ...ask, read });
        const { tried } = await kind("tried");
        hear({ kind: "take" });
        await kind("taken");
        after.push(tried.tokens.map((token) => token.after));
    }
    const { progress } = await until(({ progress }) => progress?.sentences.length === 1);
    assert.deepEqual([progress.step, progress.sentences[0].step, progress.sentences[0].text], [3, 3, "a good man"]);
    assert.equal((await faultOf(ask)).key, "step_over");
    hear({ ...ask, read: "good" });
    const { tried } = await kind("tried");
    assert.equal(tried.rateFrom, "peak");
    assert.deepEqual(tried.tokens.map((token) => token.before), after.at(-1)); // what was kept is what was shown
    const versions = {};
    hear({ kind: "save", ref: "mine", versions: Object.assign(versions, { versions }) }); // no JSON
    assert.equal((await kind("fault")).ended, "save");
    hear({ kind: "save", ref: "mine", versions: {} });
    const { training } = await readRun((await kind("saved")).run);
    assert.deepEqual(training.sentences, progress.sentences);
    const alone = new Training(corpusOf(TEXT), { ...SETTINGS, steps: 3 });
    while (!alone.isDone) alone.advance();
    assert.deepEqual(training.losses, alone.losses.map(Math.fround));
    hear({ kind: "end" });
});

test("it reports at a bounded rate, and to a hidden page nothing for eyes", async () => {
    hear({ kind: "start", settings: { ...SETTINGS, steps: 100_000 }, prompt: "" });
    await kind("begun");
    const running = () => until(({ progress }) => progress?.isRunning && progress.step > 0);
    const times = [];
    for (let n = 0; n < 4; n++) times.push((await running()).at);
    assert.ok(times.slice(1).every((at, i) => at - times[i] >= 190), `${times}`);
    hear({ kind: "hidden", isHidden: true });
    assert.equal((await running()).progress.next, null);
    hear({ kind: "end" });
    assert.equal((await faultOf({ kind: "text", text: "" })).key, "text_short"); // and it still listens
});
