// Tokens a second of the page's engine: the same function in node and in a browser. A round is 64 tokens behind 96, with
// everything that a text costs but its prompt and its file: the pass, the chain, the draw, what is recorded.

const [FRONT, TOKENS, ROUNDS] = [96, 64, 12];

/** @param {ArrayBuffer} bytes of a model @param {string} web where the page's modules are @param {() => number} clock ms */
export async function bench(bytes, web, clock) {
    const [{ GPT2 }, { Generation }, { readModel }, { Tokenizer }] = await Promise.all(
        ["gpt2", "generation", "model-file", "tokenizer"].map((name) => import(`${web}/engine/${name}.js`)),
    );
    const began = clock();
    const file = readModel(bytes);
    const [tokenizer, fast, plain] = [new Tokenizer(file.tokenizer), new GPT2(file.info.config, file.tensors), new GPT2(file.info.config, file.tensors, true)];
    const opened = (clock() - began) / 2;
    const sampling = { temperature: 0.8, top_k: null, top_p: null, min_p: null, typical_p: null, repetition_penalty: null, presence_penalty: null, frequency_penalty: null, order: ["temperature"] };
    const ids = Array.from({ length: FRONT }, (_, i) => 300 + ((i * 37) % 3000));
    const round = (model, capture) => {
        const run = { ids, prompt: "", firstStep: 0, sampling, seed: 1n, stop: [], count: TOKENS + 1, capture };
        const generation = new Generation(model, { ...file, endIds: [] }, tokenizer, run);
        generation.advance(); // the prompt
        const start = clock();
        while (generation.advance());
        return (clock() - start) / TOKENS;
    };
    const sides = { plain: [fast, []], captures: [fast, ["attention", "lens", "contributions"]], no_wasm: [plain, []] };
    const times = Object.fromEntries(Object.keys(sides).map((name) => [name, []]));
    for (let n = 0; n < ROUNDS; n++) for (const [name, side] of Object.entries(sides)) times[name].push(round(...side));
    const best = Object.fromEntries(Object.entries(times).map(([name, each]) => [name, 1000 / Math.min(...each)]));
    return { kernel: fast.kernel.name, open_ms: opened, tokens_per_second: best };
}

if (globalThis.process?.argv[2]) {
    const { readFileSync } = await import("node:fs");
    const bytes = readFileSync(process.argv[2]);
    const cpu = () => {
        const { user, system } = process.cpuUsage();
        return (user + system) / 1000;
    };
    const whole = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
    console.log(JSON.stringify(await bench(whole, process.argv[3], process.argv[4] === "wall" ? () => performance.now() : cpu)));
}
