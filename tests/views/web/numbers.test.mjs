import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import * as numbers from "../../../src/manako/views/web/text/numbers.js";

const VECTORS = JSON.parse(readFileSync(new URL("../../vectors/numbers.json", import.meta.url), "utf8"));

for (const [rule, cases] of Object.entries(VECTORS)) {
    test(`${rule} reads as in the terminal`, () => {
        for (const row of cases) assert.deepEqual(numbers[rule](...row.slice(0, -1)), row.at(-1), String(row));
    });
}

test("what is not on record reads as unknown", () => {
    assert.deepEqual([numbers.percent(NaN), numbers.count(NaN)], ["?", "?"]);
});

test("what is no number has a word", () => {
    assert.deepEqual([numbers.small(Infinity), numbers.small(NaN)], ["inf", "nan"]);
});
