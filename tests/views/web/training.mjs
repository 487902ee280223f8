// The page's trainer, asked by a Python test: {text, settings, plain, weights, save} as JSON on standard
// input. Answers with the corpus, and with what was asked of it: gradients of one batch, losses of some steps.

import { buffer } from "node:stream/consumers";

import { Tokenizer } from "../../../src/manako/views/web/engine/tokenizer.js";
import { START, corpusOf, tokenizerJson } from "../../../src/manako/views/web/training/corpus.js";
import { guessesOf } from "../../../src/manako/views/web/training/guesses.js";
import { HeldOut } from "../../../src/manako/views/web/training/held-out.js";
import { Likenesses } from "../../../src/manako/views/web/training/likeness.js";
import { Batches } from "../../../src/manako/views/web/training/batches.js";
import { modelFile, readRun, runFile } from "../../../src/manako/views/web/training/run-file.js";
import { WINDOWS, clipScores } from "../../../src/manako/views/web/training/qk-clip.js";
import { oneStep, ownRate } from "../../../src/manako/views/web/training/one-step.js";
import { Trainer } from "../../../src/manako/views/web/training/trainer.js";
import { Training } from "../../../src/manako/views/web/training/training.js";

const given = JSON.parse(String(await buffer(process.stdin)));
const packed = ({ buffer: whole, byteOffset, byteLength }) => Buffer.from(whole, byteOffset, byteLength).toString("base64");
const unpacked = (text, Type) => new Type(new Uint8Array(Buffer.from(text, "base64")).buffer);
const put = (trainer, weights) => {
    for (const [name, { data }] of trainer.tensors("weight")) data.set(unpacked(weights[name], Float32Array));
};

const ASKED = {
    gradients({ shape, batch, kernel, weights, ids, targets }) {
        const trainer = new Trainer(shape, batch, 0, kernel);
        put(trainer, weights);
        const loss = trainer.gradients(Int32Array.from(ids), Int32Array.from(targets));
        const gradients = Object.fromEntries([...trainer.tensors("gradient")].map(([name, { data }]) => [name, packed(Float32Array.from(data))]));
        return { kernel: trainer.kernel.name, loss, gradients, shapes: Object.fromEntries([...trainer.tensors("weight")].map(([name, { shape: sides }]) => [name, sides])) };
    },
    clip({ shape, batch, weights, ids }) {
        const trainer = new Trainer(shape, batch, 0);
        put(trainer, weights);
        clipScores(trainer, Int32Array.from(ids), WINDOWS, shape.n_positions);
        return Object.fromEntries([...trainer.tensors("weight")].map(([name, { data }]) => [name, packed(data)]));
    },
    corpus({ text, block, seed, windows }) {
        const corpus = corpusOf(text);
        const { rows, ids, targets, characters } = new HeldOut(corpus.heldOut, block);
        const batches = new Batches(corpus.train, block, seed);
        const [some, next] = [new Int32Array(block), new Int32Array(block)];
        const read = windows.map((n) => {
            batches.fill(n, 1, some, next);
            return [...some, next[block - 1]];
        });
        return { ...corpus, guesses: guessesOf(corpus), train: [...corpus.train], heldOut: [...corpus.heldOut], tokenizer: tokenizerJson(corpus.vocabulary), windows: read, held: { rows, characters, ids: packed(ids), targets: packed(targets) } };
    },
    async train({ text, settings, weights, save, until = save ?? settings.steps, kernel }) {
        const training = new Training(corpusOf(text), settings, kernel);
        if (weights) put(training.trainer, weights);
        while (training.step < until) training.advance();
        const files = save === undefined ? {} : { saved: packed(new Uint8Array(await runFile(training, 1.5, { manako: "1" }))), model: packed(new Uint8Array(await modelFile(training, "mine", { manako: "1" }))) };
        while (training.step < settings.steps && save !== undefined) training.advance();
        const bits = training.evaluate();
        return { ...files, losses: training.losses, bits, weights: Object.fromEntries([...training.trainer.tensors("weight")].map(([name, { data }]) => [name, packed(data)])) };
    },
    async resume({ file, steps }) {
        const { training, seconds } = await readRun(unpacked(file, Uint8Array).buffer);
        for (let n = 0; n < steps; n++) training.advance();
        return { seconds, losses: training.losses, evaluations: training.evaluations, again: packed(new Uint8Array(await runFile(training, seconds, { manako: "1" }))) };
    },
    async one_step({ file, asked }) {
        const { training } = await readRun(unpacked(file, Uint8Array).buffer);
        const tokenizer = new Tokenizer(tokenizerJson(training.corpus.vocabulary));
        const ids = (text) => (text === null ? null : [START, ...tokenizer.encode(text)]);
        const found = asked.map(({ read, text, rate }) => oneStep(training, ids(read), ids(text), rate ?? ownRate(training)));
        return { found, again: packed(new Uint8Array(await runFile(training, 1.5, { manako: "1" }))) };
    },
    async likeness({ file }) {
        const { training } = await readRun(unpacked(file, Uint8Array).buffer);
        const likenesses = new Likenesses(training.corpus, training.settings.block_size);
        const [found, { random, chance }] = [likenesses.of(training.trainer), likenesses];
        return { ...found, random, chance, again: packed(new Uint8Array(await runFile(training, 1.5, { manako: "1" }))) };
    },
    async refused({ files }) {
        const told = async (file) => readRun(unpacked(file, Uint8Array).buffer).then(() => null, ({ key, values }) => ({ key, values }));
        return Object.fromEntries(await Promise.all(Object.entries(files).map(async ([name, file]) => [name, await told(file)])));
    },
};
process.stdout.write(JSON.stringify(await ASKED[given.ask](given)));
