import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { modelName } from "../../../src/manako/views/web/trace/model-name.js";

const VECTORS = JSON.parse(readFileSync(new URL("../../vectors/model-names.json", import.meta.url), "utf8"));

test("a model has the name that the terminal gives it", () => {
    for (const [ref, name] of VECTORS) assert.equal(modelName(ref), name, ref);
});
