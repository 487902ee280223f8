import assert from "node:assert/strict";
import { test } from "node:test";

import { guessBits } from "../../../src/manako/views/web/analysis/guess-score.js";

const near = (a, b) => assert.ok(Math.abs(a - b) < 1e-12, `${a} is not ${b}`);

test("a right guess costs what the confidence left open", () => {
    near(guessBits(0.25, true, 0.25, 0.5), 1);
    near(guessBits(0.01, true, 0.01, 0.99), -Math.log2(0.99));
});

test("a wrong one costs the rest, shared out as the draw has it", () => {
    near(guessBits(0.25, false, 0.5, 0.5), 2); // half of the other half
    near(guessBits(0.5, false, 0, 0.75), 3); // what was guessed could not come: a quarter of a half
});

test("among several guessed tokens the confidence is shared out as well", () => {
    near(guessBits(0.1, true, 0.4, 0.8), -Math.log2(0.2));
});

test("a token that was certain gives whole bits, whatever rounding left", () => {
    near(guessBits(1, true, 1, 0.5), 1);
    near(guessBits(1e-17, false, 1, 0.5), 1);
});

test("the score is proper: on average nothing beats what one believes", () => {
    const p = [0.6, 0.3, 0.1];
    const expected = (confidence) => p.reduce((sum, each, i) => sum + each * guessBits(each, i === 0, p[0], confidence), 0);
    const own = expected(0.6);
    for (const other of [0.1, 0.4, 0.55, 0.65, 0.9, 0.99]) assert.ok(expected(other) > own);
    near(own, p.reduce((sum, each) => sum - each * Math.log2(each), 0)); // and then it is the entropy of the draw
});
