// What save.js, compact.js and drawing.js make without a browser: [what, traces, rows] as JSON on standard input; on standard
// output the file as a JSON string, in base64 where it is no text, since a pipe may change the ends of lines. A row is [which trace, index, forced id or null];
// no rows stand for all steps of the first trace.

import { buffer } from "node:stream/consumers";

globalThis.HTMLElement = class {}; // of which the page's parts are; none is made here

const { stepsCsv, stepsJson } = await import("../../../src/manako/views/web/page/save.js");
const { toSvg } = await import("../../../src/manako/views/web/elements/drawing.js");
const { compact } = await import("../../../src/manako/views/web/trace/compact.js");
const { readTrace } = await import("../../../src/manako/views/web/trace/trace-file.js");

const opened = (text) => {
    const bytes = Buffer.from(text, "base64");
    return readTrace(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
};
const [what, given, picked] = JSON.parse(String(await buffer(process.stdin)));
const answer = (text) => process.stdout.write(JSON.stringify(text));
if (what === "svg") answer(toSvg(given, { family: given.family, colours: new Map(given.colours) }, given.lang));
else if (what === "compact") {
    const [bytes] = given.map((text) => Buffer.from(text, "base64"));
    const own = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
    answer(Buffer.from(await compact(readTrace(own), own)).toString("base64"));
} else {
    const traces = given.map(opened);
    const rows = picked
        ? picked.map(([which, index, forcedId]) => ({ trace: traces[which], index, forcedId }))
        : Array.from({ length: traces[0].steps }, (_, index) => ({ trace: traces[0], index, forcedId: null }));
    answer(what === "csv" ? stepsCsv(rows) : stepsJson(rows));
}
