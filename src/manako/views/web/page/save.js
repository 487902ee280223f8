/**
 * What a reader takes along: a view as a picture, the steps as a table or as JSON.
 *
 * Special here: numbers have all their digits. A table is opened by programs that run what looks like a formula, and a
 * token is hostile: one that begins like a formula gets an apostrophe in front; its bytes stand beside it.
 */

/** @import {Lang} from "../text/messages.js" */
/** @import {Trace} from "../trace/trace-file.js" */
/** @import {Candidate} from "../analysis/step-numbers.js" */
/** @import {Drawing, Look} from "../elements/drawing.js" */
import { button, download, make } from "../elements/dom.js";
import { say } from "../text/messages.js";
import { boxShape, currentLook, textShape, toPng, toSvg } from "../elements/drawing.js";
import { StepNumbers } from "../analysis/step-numbers.js";
import { binary, hex, recordText, visibleBytes, visibleText } from "../text/tokens.js";

/**
 * A step of the text that is shown: which record has its numbers, and which token a reader put there, if one did.
 * @typedef {{trace: Trace, index: number, forcedId: number | null}} StepRow
 */

const FORMULA = /^[=+\-@\t\r\uff1d\uff0b\uff0d\uff20]/; // spreadsheets in Japanese take the wide signs too
const STEPS_SCHEMA = "manako.steps/1";
const CANDIDATES = 10; // of each step in JSON, as on the command line
const FOOT = 32; // pixels below a drawing, for the line that says where it is from

/**
 * Two buttons that save a drawing.
 * @param {Lang} lang
 * @param {string} name of the file, which has no other place to be told from
 * @param {() => Drawing | null} take
 * @param {() => string} ref the model's, which stands below it
 */
export function pictureButtons(lang, name, take, ref) {
    /** @param {(drawing: Drawing, look: Look) => Blob | Promise<Blob>} made */
    const file = (made) => () => {
        const drawing = take();
        if (drawing === null) return null;
        const framed = onGround(drawing, `manako \u00b7 ${visibleText(ref())}`);
        return made(framed, currentLook(framed));
    };
    const svg = (/** @type {Drawing} */ drawing, /** @type {Look} */ look) => toSvg(drawing, look, lang);
    return saveButtons(lang, name, {
        svg: file((...drawn) => new Blob([svg(...drawn)], { type: "image/svg+xml" })),
        png: file((...drawn) => toPng(...drawn)),
    });
}

/**
 * On a ground of its own, with a line below it.
 * @param {Drawing} drawing
 * @param {string} source
 * @returns {Drawing}
 */
function onGround({ width, height, title, shapes }, source) {
    const foot = textShape(16, height + FOOT - 12, source, { soft: true, size: 12 });
    const ground = boxShape(0, 0, width, height + FOOT, "--card");
    return { width, height: height + FOOT, title, shapes: [ground, ...shapes, foot] };
}

/**
 * Two buttons that save the numbers of all steps.
 * @param {Lang} lang
 * @param {() => readonly StepRow[]} getRows
 */
export function saveMenu(lang, getRows) {
    return saveButtons(lang, "steps", {
        csv: () => new Blob([stepsCsv(getRows())], { type: "text/csv" }),
        json: () => new Blob([stepsJson(getRows())], { type: "application/json" }),
    });
}

/**
 * The steps as a table in the manner of RFC 4180, with the mark by which Excel knows UTF-8.
 * @param {readonly StepRow[]} rows
 * @returns {string}
 */
export function stepsCsv(rows) {
    const head = ["step", "token_id", "token", "bytes", "u", "p", "p_model", "rank", "entropy_bits", "surprisal_bits", "forced"];
    const lines = rows.map((row) => {
        const { numbers, taken, u, number } = stepOf(rows, row);
        const text = visibleBytes(taken.bytes).replace(FORMULA, "'$&");
        const surprisal = Math.max(0, -Math.log2(taken.pModel));
        const forced = row.forcedId === null ? null : 1;
        return [number, taken.id, text, hex(taken.bytes), u, taken.p, taken.pModel, taken.rank, numbers.entropy, surprisal, forced];
    });
    const cell = (/** @type {string | number | null} */ value) => {
        const text = value === null || Number.isNaN(value) ? "" : String(value); // a number in the fewest digits that give it back
        return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    };
    return `\ufeff${[head, ...lines].map((line) => `${line.map(cell).join(",")}\r\n`).join("")}`;
}

/**
 * The steps as `manako view --json` gives them. Of a text that goes through several records the head is the first one's,
 * and a step of another record names its own seed and settings.
 * @param {readonly StepRow[]} rows at least one
 * @returns {string}
 */
export function stepsJson(rows) {
    const [{ trace: first }] = rows;
    const last = stepOf(rows, /** @type {StepRow} */ (rows.at(-1)));
    const { header } = first;
    const { kind, model, prompt, sampling, first_step, ablate, capture, rounded, end, stop, self_checks } = header;
    const head = { schema: STEPS_SCHEMA, kind, model, prompt: { text: prompt, ids: [...first.promptIds] }, sampling, first_step, ablate, capture, rounded };
    const text = recordText(last.taken.special ? last.before : Uint8Array.of(...last.before, ...last.taken.bytes));
    const steps = rows.map((row) => {
        const record = stepRecord(rows, row);
        return row.trace === first ? JSON.stringify(record) : seeded(row.trace, { ...record, sampling: row.trace.header.sampling });
    });
    const foot = JSON.stringify({ text, end, stop, self_checks });
    return `${seeded(first, head).slice(0, -1)},"steps":[\n${steps.join(",\n")}\n],${foot.slice(1)}\n`;
}

/**
 * A seed has more digits than a number of JavaScript; it stands first, where no text can be mistaken for it.
 * @param {Trace} trace
 * @param {object} record
 */
function seeded({ header }, record) {
    return `{"seed":${header.seed},${JSON.stringify(record).slice(1)}`;
}

/** @param {readonly StepRow[]} rows @param {StepRow} row */
function stepOf(rows, { trace, index, forcedId }) {
    const numbers = new StepNumbers(trace, index);
    numbers.whole = /** @type {StepRow} */ (rows.at(-1)).trace;
    return {
        numbers,
        taken: numbers.candidate(forcedId ?? numbers.takenId),
        u: forcedId === null ? numbers.u : null, // it decided nothing
        number: trace.header.first_step - rows[0].trace.header.first_step + index + 1,
        before: trace.textBytes(0, trace.promptIds.length + index),
    };
}

/** @param {readonly StepRow[]} rows @param {StepRow} row */
function stepRecord(rows, row) {
    const { trace, index, forcedId } = row;
    const { numbers, taken, u, number, before } = stepOf(rows, row);
    const shown = numbers.top(CANDIDATES);
    const other = numbers.other(shown);
    const { id, text, bytes, p, p_model, rank } = candidateRecord(trace, index, taken);
    return {
        index: number - 1,
        text_before: recordText(before),
        window_start: trace.windowStart[index],
        u,
        entropy_bits: numbers.entropy,
        chosen: { id, text, bytes, p, p_model, rank },
        candidates: shown.map((candidate) => candidateRecord(trace, index, candidate)),
        other: { count: other.count, p: other.p, p_model: other.pModel },
        stages: numbers.stages.map(({ name, kept, removedMass }) => ({ name, kept, removed_mass: removedMass })),
        ...(forcedId !== null && { forced: true }),
    };
}

/** @param {Trace} trace @param {number} index @param {Candidate} candidate */
function candidateRecord(trace, index, { id, bytes, p, pModel, rank, cutBy }) {
    const part = trace.part(index);
    const logit = part ? part.logits[part.ids.indexOf(id)] : trace.logitsRow(index)?.[id];
    const base64 = btoa(binary(bytes));
    return { id, text: recordText(bytes), bytes: base64, logit: logit !== undefined && Number.isFinite(logit) ? logit : null, p, p_model: pModel, rank, cut_by: cutBy };
}

/**
 * @param {Lang} lang
 * @param {string} name
 * @param {Record<string, () => Blob | Promise<Blob> | null>} kinds ending of the file -> what makes it, null: nothing
 */
function saveButtons(lang, name, kinds) {
    const buttons = Object.entries(kinds).map(([kind, blob]) => {
        const click = async () => {
            const made = await blob();
            if (made) download(`manako-${name}.${kind}`, made);
        };
        const about = say(lang, `page.save_${kind}`);
        return button(click, kind.toUpperCase(), { "aria-label": about, title: about });
    });
    return make("div", { class: "row save" }, ...buttons);
}
