import assert from "node:assert/strict";
import { test } from "node:test";

import { knows, say, setCatalogs } from "../../../src/manako/views/web/text/messages.js";

setCatalogs({ en: { greet: "hello {name}, {name}" }, ja: { greet: "{name}さん" } });

test("names are filled in, in the language that is asked for", () => {
    assert.equal(say("en", "greet", { name: "a" }), "hello a, a");
    assert.equal(say("ja", "greet", { name: 3 }), "3さん");
});

test("a value with braces or dollars is shown as it is", () => {
    assert.equal(say("ja", "greet", { name: "{name} $& $1" }), "{name} $& $1さん");
});

test("a key or a name that is missing is our own mistake", () => {
    assert.equal(knows("en", "toString"), false);
    assert.throws(() => say("en", "toString"), RangeError);
    assert.throws(() => say("en", "greet"), RangeError);
    assert.throws(() => say("en", "greet", Object.create({ name: "a" })), RangeError);
});
