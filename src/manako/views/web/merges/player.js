/**
 * <manako-merges>: how the tokens of the text that is shown were put together, merge by merge, to play and to step.
 *
 * Special here: a script of its own, which only pages with merges have; the page asks this class, where it is defined,
 * whether there is anything to play. The table of merges is in the file, or comes from the server when it is first
 * asked for; the text is the trace's own tokens, so nothing is encoded anew.
 */

/** @import {View} from "../elements/view.js" */
/** @import {MergeTable} from "./replay.js" */
import { button, columnHead, inRow, make, number, rowHead, scroller, soft, table } from "../elements/dom.js";
import { folded } from "../elements/folded.js";
import { serverToken } from "../elements/stored.js";
import { ViewElement } from "../elements/view.js";
import { say, setCatalogs } from "../text/messages.js";
import { count } from "../text/numbers.js";
import { visibleBytes } from "../text/tokens.js";
import { openPacked } from "../trace/packed.js";
import { Replay } from "./replay.js";

const PLAY = 700; // ms for a merge

/** @type {Map<string, MergeTable | null>} by vocabulary; null while it is on its way, and where there are no merges */
const tables = new Map();

export class MergesElement extends ViewElement {
    /** Whether the merges of a vocabulary are here. @param {{tokenizer_sha256: string}} model */
    static knows({ tokenizer_sha256: digest }) {
        if (!tables.has(digest)) load(digest);
        return Boolean(tables.get(digest));
    }

    /** @type {Replay | null} */
    #replay = null;
    #at = 0;
    /** @type {ReturnType<typeof setInterval> | undefined} */
    #playing;
    #slider = make("input", { type: "range", min: 0, step: 1, input: () => this.#choose(Number(this.#slider.value)) });
    #text = make("div", { class: "merges", role: "img" });
    #now = make("p", { class: "merges-now" });
    #play = button(() => this.#toggle(), "", { class: "wide-label" });
    #back = button(() => this.#choose(this.#at - 1), "");
    #forward = button(() => this.#choose(this.#at + 1), "");

    /** @param {View} view @param {View | null} before */
    draw(view, before) {
        const { lang, path, textLang } = view;
        const found = tables.get(path.leaf.trace.header.model.tokenizer_sha256);
        if (!found || (before?.path === path && before.lang === lang)) return;
        this.#stop();
        const { trace } = path.leaf;
        const tokens = Array.from(path.ids, (id) => ({ id, ...trace.token(id) })).filter(({ special }) => !special);
        this.#replay = new Replay(found, tokens);
        this.#at = before?.path === path ? this.#at : 0;
        const { merges } = this.#replay;
        this.#slider.max = String(merges.length);
        this.#text.lang = textLang ?? "";
        for (const [part, key] of /** @type {const} */ ([[this.#back, "page.merges_back"], [this.#forward, "page.merges_forward"]])) part.textContent = say(lang, key);
        for (const part of [this.#slider, this.#text]) part.setAttribute("aria-label", say(lang, "page.merges"));
        const behind = folded(say(lang, "learning.as_table"), () => this.#table());
        this.replaceChildren(
            soft(say(lang, merges.length ? "merges.how" : "merges.none")),
            inRow(this.#play, this.#back, this.#forward),
            this.#slider,
            this.#now,
            this.#text,
            ...(found.counts ? [] : [soft(say(lang, "page.merges_unknown"))]),
            behind.element,
        );
        this.#show();
    }

    #toggle() {
        const last = this.#replay?.merges.length ?? 0;
        if (this.#playing !== undefined) return this.#stop();
        if (this.#at === last) this.#at = -1;
        this.#step(last);
        if (this.#at < last) this.#playing = setInterval(() => this.#step(last), PLAY);
        this.#show();
    }

    /** @param {number} last */
    #step(last) {
        this.#at++;
        if (this.#at >= last || !this.isConnected || this.closest("[hidden]")) this.#stop();
        this.#show();
    }

    #stop() {
        clearInterval(this.#playing);
        this.#playing = undefined;
    }

    /** By hand, which ends the playing. @param {number} at */
    #choose(at) {
        this.#stop();
        this.#at = at;
        this.#show();
    }

    /** The text after the merge of the moment, and what that was. */
    #show() {
        const replay = this.#replay;
        if (!replay) return;
        const { lang } = this.view;
        const { merges, bytes } = replay;
        const pieces = replay.pieces(this.#at);
        const merge = merges[this.#at - 1];
        const made = new Set(merge?.places.map(([start]) => start));
        this.#text.replaceChildren(...pieces.map(([start, end]) => make("span", { class: made.has(start) ? "cut made" : "cut" }, visibleBytes(bytes.subarray(start, end)))));
        this.querySelector(".made")?.scrollIntoView({ block: "nearest", inline: "nearest" });
        const values = { number: count(this.#at), count: count(merges.length), pieces: count(pieces.length) };
        const said = merge ? this.#say(merge, values) : say(lang, "page.merges_start", values);
        this.#now.textContent = said;
        this.#slider.value = String(this.#at);
        this.#slider.setAttribute("aria-valuetext", said);
        this.#play.textContent = say(lang, this.#playing === undefined ? "page.act_play" : "page.act_pause");
        this.#back.disabled = this.#at === 0;
        this.#forward.disabled = this.#at === merges.length;
        this.#play.disabled = this.#slider.disabled = merges.length === 0;
    }

    /** @param {Replay["merges"][number]} merge @param {Record<string, string>} values */
    #say(merge, values) {
        const [left, right, made] = this.#parts(merge);
        const told = { ...values, left, right, made, rank: count(merge.rank), places: count(merge.places.length) };
        if (merge.count === null) return say(this.view.lang, "page.merges_now", told);
        return say(this.view.lang, "page.merges_counted", { ...told, times: count(merge.count) });
    }

    /** What became one, and that one. @param {Replay["merges"][number]} merge */
    #parts({ places: [[start, middle, end]] }) {
        const { bytes } = /** @type {Replay} */ (this.#replay);
        return [[start, middle], [middle, end], [start, end]].map(([from, to]) => visibleBytes(bytes.subarray(from, to)));
    }

    #table() {
        const { lang } = this.view;
        const title = say(lang, "page.merges");
        const heads = ["merges.merge", "merges.rank", "page.merges_places", "merges.count"].map((key, n) => columnHead(say(lang, key), n ? "number" : null));
        const rows = (this.#replay?.merges ?? []).map((merge) => {
            const [left, right, made] = this.#parts(merge);
            const times = merge.count === null ? say(lang, "merges.not_known") : count(merge.count);
            return make("tr", {}, rowHead(null, `${left} + ${right} \u2192 ${made}`), number(count(merge.rank)), number(count(merge.places.length)), number(times));
        });
        return scroller(title, table(heads, rows));
    }
}

/**
 * Look for the merges of a vocabulary, and have the page drawn anew where there are any.
 * @param {string} digest
 */
async function load(digest) {
    tables.set(digest, null);
    const found = document.documentElement.dataset.mode === "live" ? await fromServer(digest) : await fromFile();
    if (found === null) return;
    tables.set(found.tokenizer_sha256, found);
    document.querySelector("manako-app")?.dispatchEvent(new CustomEvent("view-change", { detail: {} }));
}

/** Each script has modules of its own, so the sentences come from there too. @returns {Promise<MergeTable | null>} */
async function fromFile() {
    const block = document.getElementById("manako-merges");
    if (!block) return null;
    setCatalogs(JSON.parse(document.getElementById("manako-words")?.textContent ?? ""));
    const bytes = await openPacked(block.textContent ?? "", Number(block.dataset.length));
    return JSON.parse(new TextDecoder().decode(bytes));
}

/** @param {string} digest @returns {Promise<MergeTable | null>} */
async function fromServer(digest) {
    setCatalogs(/** @type {any} */ (globalThis).manakoServed.words);
    const headers = { "X-Manako-Token": serverToken() };
    const answer = await fetch(`/api/merges/${digest}`, { headers }).catch(() => null); // gone: without a player, then
    return answer?.ok ? answer.json() : null;
}

customElements.define("manako-merges", MergesElement);
