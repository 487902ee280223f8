import assert from "node:assert/strict";
import { test } from "node:test";

import { pythonJson } from "../../../src/manako/views/web/trace/digests.js";
import { StrictJsonError, parseJson, plainJson } from "../../../src/manako/views/web/trace/strict-json.js";

test("whole numbers keep every digit, and are not the same as others", () => {
    const found = parseJson('{"seed": 18446744073709551615, "limit": 1.0}');
    assert.equal(found.get("seed"), 18446744073709551615n);
    assert.equal(pythonJson(found), '{"limit": 1.0, "seed": 18446744073709551615}');
});

test("keys are sorted as Python sorts them, by code point", () => {
    const text = '{"\ud83d\ude00": 1, "\uff5e": 2, "a": 3, "": 4, "ab": 5}';
    assert.equal(pythonJson(parseJson(text)), '{"": 4, "a": 3, "ab": 5, "\uff5e": 2, "\ud83d\ude00": 1}');
});

test("a key of a prototype is a key like any other", () => {
    const plain = plainJson(parseJson('{"__proto__": {"toString": 1}, "constructor": 2}'));
    assert.deepEqual(Object.keys(plain), ["__proto__", "constructor"]);
    assert.equal({}.toString.call(plain), "[object Object]");
});

test("well-formed JSON that is not to be believed", () => {
    const deep = (n) => "[".repeat(n) + "]".repeat(n);
    for (const text of ['{"a":1,"a":1}', "1e999", "-1e999", '"\\ud800"', '{"\\udfff":1}', deep(65), "1".repeat(4301)]) {
        assert.throws(() => parseJson(text), StrictJsonError, text.slice(0, 20));
    }
    assert.ok(Array.isArray(parseJson(deep(64))));
    assert.equal(parseJson("1".repeat(4300)), BigInt("1".repeat(4300)));
});

test("what is no JSON", () => {
    const texts = ["", "{", "[1,]", "01", "+1", ".5", "NaN", "'a'", '"\t"', '"\\x41"', "\ufeff{}", "1 2", "{a:1}"];
    for (const text of texts) {
        assert.throws(() => parseJson(text), SyntaxError, text);
    }
});
