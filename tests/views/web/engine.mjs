// The page's engine, asked by a Python test: {model, exact, runs, draws, rows, texts} as JSON on standard input; on
// standard output the traces of the runs, the tokens that the draws (runs too) draw, the rows that follow some ids, the ids
// of some texts. Model and traces are files in base64.

import { buffer } from "node:stream/consumers";

import { GPT2 } from "../../../src/manako/views/web/engine/gpt2.js";
import { Generation } from "../../../src/manako/views/web/engine/generation.js";
import { readModel } from "../../../src/manako/views/web/engine/model-file.js";
import { PromptError, Tokenizer } from "../../../src/manako/views/web/engine/tokenizer.js";

const base64 = (array) => Buffer.from(array.buffer ?? array, array.byteOffset ?? 0, array.byteLength).toString("base64");
const { model: given, exact = false, runs = [], draws = [], rows = [], texts = [] } = JSON.parse(String(await buffer(process.stdin)));
const bytes = Buffer.from(given, "base64");
const file = readModel(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
const tokenizer = new Tokenizer(file.tokenizer);
const model = new GPT2(file.info.config, file.tensors, exact);

const begun = (run) => new Generation(model, file, tokenizer, { stop: [], capture: [], firstStep: 0, prompt: "", ...run, seed: BigInt(run.seed) });
const traces = [];
for (const run of runs) {
    const generation = begun(run);
    while (generation.advance());
    traces.push(base64(await generation.trace()));
}
const drawn = draws.map((run) => {
    const generation = begun(run);
    return Array.from({ length: run.count }, () => generation.advance()?.tokenId ?? -1);
});
const found = rows.map((ids) => ({ float32: base64(model.next(ids).logits) }));
const ids = texts.map((text) => {
    try {
        return tokenizer.encode(text);
    } catch (error) {
        if (!(error instanceof PromptError)) throw error;
        return { error: error.key, ...error.values };
    }
});
process.stdout.write(JSON.stringify({ kernel: model.kernel.name, traces, drawn, rows: found, ids }));
