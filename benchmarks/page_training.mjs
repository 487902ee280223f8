// Whole training steps of the page's trainer: forward, backward, clipping, AdamW. The same function in node and in a
// browser. In node each line on standard input names a side and how many steps; the answer is seconds of its own time.

const WARM = 30; // steps, until everything is compiled
const HOW = { rate: 1e-3, muonRate: 0, decay: 0.1, clip: 1 };

/** @param {string} web where the page's modules are @param {() => number} clock seconds */
export async function bench(web, clock) {
    const { Trainer } = await import(`${web}/training/trainer.js`);
    const sides = new Map();
    return ({ shape, batch, steps }) => {
        const key = JSON.stringify([shape, batch]);
        const side = sides.get(key) ?? begun(new Trainer(shape, batch, 0), shape, batch);
        sides.set(key, side);
        const start = clock();
        for (let n = 0; n < steps; n++) side();
        return clock() - start;
    };
}

function begun(trainer, { n_positions, vocab_size }, batch) {
    const ids = Int32Array.from({ length: batch * n_positions + 1 }, (_, i) => (i * i * 7 + 3 * i) % vocab_size);
    const step = () => trainer.step(ids.subarray(0, -1), ids.subarray(1), HOW);
    for (let n = 0; n < WARM; n++) step();
    return step;
}

if (globalThis.process?.argv[2]) {
    const { createInterface } = await import("node:readline");
    const round = await bench(process.argv[2], () => (process.cpuUsage().user + process.cpuUsage().system) / 1e6);
    for await (const line of createInterface({ input: process.stdin })) console.log(round(JSON.parse(line)));
}
