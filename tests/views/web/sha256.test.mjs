// SHA-256 without the browser's own gives what the browser's own gives.

import assert from "node:assert/strict";
import { test } from "node:test";

import { sha256Plain } from "../../../src/manako/views/web/trace/sha256.js";

test("digests of texts of all lengths around a block, and of a long one", async () => {
    for (const length of [0, 1, 3, 55, 56, 63, 64, 65, 119, 120, 1000, 100_003]) {
        const bytes = Uint8Array.from({ length }, (_, i) => (i * 131 + length) & 255);
        assert.deepEqual(sha256Plain(bytes), new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)), String(length));
    }
});
