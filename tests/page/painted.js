/**
 * What a page has painted: texts, and lengths and places as a share of the frame that they lie in, measured from boxes
 * and colours and not read from what was meant. Each view is brought about as a reader does it, by an event.
 */
async ({ views, tabs }) => {
    const app = document.querySelector("manako-app");
    const frame = () => new Promise(requestAnimationFrame);
    const all = (root, selector) => [...root.querySelectorAll(selector)];
    const texts = (root, selector) => all(root, selector).map((e) => e.textContent);
    const box = (e) => e.getBoundingClientRect();
    const frameOf = ({ parentElement: frame }) => ({ left: box(frame).left + frame.clientLeft, width: box(frame).width - frame.offsetWidth + frame.clientWidth });
    const length = (e) => box(e).width / frameOf(e).width;
    const start = (e) => (box(e).left - frameOf(e).left) / frameOf(e).width;
    const opacity = (e) => {
        const { backgroundColor } = getComputedStyle(e);
        return Number(/(?:\/|rgba\(.*,) *([\d.e-]+)\)$/.exec(backgroundColor)?.[1] ?? 1);
    };
    const place = (e) => {
        const [inside, outside] = [box(e), frameOf(e)];
        return (inside.left - outside.left) / (outside.width - inside.width); // 0 at the left end, 1 at the right one
    };
    const points = (e) => e.getAttribute("points").split(" ").map((point) => point.split(",").map(Number));
    const table = (root, selector) => all(root, `${selector} tbody tr`).map((row) => texts(row, ".number, .bytes"));

    const painted = {
        stage: (root) => ({
            title: root.querySelector("[data-place=title]").textContent,
            chosen: root.querySelector("[data-place=chosen]").textContent,
            window: root.querySelector("[data-place=window]").textContent,
            chips: texts(root, "manako-fan .chip small"),
            sizes: all(root, "manako-fan .chip").map((e) => (parseFloat(getComputedStyle(e).fontSize) - 15.2) / 24),
            others: texts(root, "manako-fan > .soft"),
            pieces: all(root, ".strip .piece").map(length),
            starts: all(root, ".strip .piece").map(start),
            needle: all(root, ".needle").map(start),
            marks: all(root, ".line .axis > span").map((e) => [e.textContent, place(e)]),
            u: texts(root, ".needle b"),
            said: texts(root, "manako-draw .said p"),
            here: all(root, ".chart .here").map(start),
        }),
        candidates: (root) => ({
            cells: table(root, "manako-candidates"),
            bars: all(root, "manako-candidates tbody tr").map((row) => all(row, ".bar > *").map((e) => [e.className, e.className === "before" ? place(e) : length(e)])),
            marks: all(root, "manako-candidates .axis > span").map((e) => [e.textContent, place(e)]),
            coverage: root.querySelector("manako-candidates > .soft").textContent,
            other: root.querySelector("tr.other th").textContent,
        }),
        what_if: (root) => ({
            stages: texts(root, ".stages li > :is(strong, div:not(.removed))"),
            removed: all(root, ".removed > span").map(length),
            typed: all(root, "manako-what-if [type=number]").map((e) => e.value),
            slid: all(root, "manako-what-if [type=range]").map((e) => Number(e.value)),
            beside: all(root, "manako-beside table").map((each) => [each.caption.textContent, ...all(each, "tbody tr").map((row) => texts(row, ".number"))]),
        }),
        attention: (root) => ({
            figures: texts(root, "manako-attention .text small"),
            tints: all(root, "manako-attention .text .share").map(opacity),
            strongest: table(root, "manako-attention > div > table"),
            matrix: all(root, ".matrix tbody tr").map((row) => all(row, "td").filter((e) => e.title).map((e) => [e.textContent, opacity(e)])),
            rows: texts(root, "manako-heads details td.number"),
        }),
        layers: (root) => {
            const axis = all(root, "svg.ranks polyline:not([stroke-width])").map((e) => points(e)).filter(([[x]]) => x === 56);
            const [top, bottom] = [axis[0][0][1], axis[axis.length - 1][0][1]];
            return {
                readings: all(root, "table.lens tbody tr").map((row) => texts(row, ".number, small")),
                tints: all(root, "table.lens .lens-cell").map((e) => opacity(e) / 0.7),
                ranks: all(root, "svg.ranks polyline[stroke-width]").map((e) => points(e).map(([, y]) => ((y - top) / (bottom - top)) * (axis.length - 1))),
                tracked: all(root, "manako-lens details tbody tr").map((row) => texts(row, ".number")),
                grid: all(root, ".lens-grid tbody tr").map((row) => texts(row, "small")),
                gridTints: all(root, ".lens-grid .lens-cell").map((e) => opacity(e) / 0.7),
                steps: texts(root, ".lens-grid thead small"),
            };
        },
        why: (root) => ({
            boxes: all(root, "manako-model [data-part]").map((e) => [e.dataset.part, e.textContent, Number(e.style.getPropertyValue("--weight")), e.classList.contains("lowers")]),
            given: texts(root, "manako-model span.part"),
            output: length(root.querySelector(".meter > span")),
            said: texts(root, "manako-model .output > span"),
            arcs: all(root, "manako-model polyline").map((e) => Number(e.getAttribute("stroke-width"))),
            seen: all(root, ".seen").map((e) => [e.title, opacity(e) / 0.5]),
            parts: table(root, "manako-why"),
            bars: all(root, "manako-why .signed > span").map((e) => [e.className, length(e) * 2]),
            scale: root.querySelector("manako-why th.wide").textContent,
            sums: texts(root, "manako-why .pane > p:not([class])").at(-1),
            means: texts(root, "manako-model > .soft"),
        }),
    };
    const squares = async () => {
        const canvas = app.querySelector("manako-heads canvas");
        for (let n = 0; n < 3; n++) await frame(); // its size is seen, and it begins
        while (canvas.hasAttribute("aria-busy")) await frame();
        const { width, height } = canvas;
        const pen = Object.assign(document.createElement("canvas"), { width, height }).getContext("2d", { willReadFrequently: true });
        pen.drawImage(canvas, 0, 0);
        const { data } = pen.getImageData(0, 0, width, height);
        const style = getComputedStyle(canvas);
        const ends = [style.caretColor, style.color].map((colour) => colour.match(/[\d.]+/g).map(Number));
        return { width, ends, pixels: (x, y) => [...data.subarray(4 * (y * width + x), 4 * (y * width + x) + 3)] };
    };
    const found = [];
    for (const { change, square } of views) {
        const seen = {};
        for (const tab of tabs) {
            app.dispatchEvent(new CustomEvent("view-change", { detail: { ...change, tab } }));
            if (tab === "layers") for (const e of all(app, "manako-lens details")) e.open = true;
            if (tab === "attention") for (const e of all(app, "manako-heads details")) e.open = true;
            if (tab === "layers" || tab === "attention") await new Promise((resolve) => setTimeout(resolve)); // what is folded fills
            if (tab === tabs[0]) seen.stage = painted.stage(app);
            seen[tab] = painted[tab](app);
        }
        if (square) {
            app.dispatchEvent(new CustomEvent("view-change", { detail: { ...change, tab: "attention" } }));
            const { width, ends, pixels } = await squares();
            const { layers, heads, rows, columns } = square;
            const side = Math.round((width - 22) / heads) - 6;
            const at = (n, of) => Math.floor(((n + 0.5) * side) / of);
            const [from, to] = ends;
            const widest = [0, 1, 2].reduce((best, i) => (Math.abs(to[i] - from[i]) > Math.abs(to[best] - from[best]) ? i : best));
            const depth = (x, y) => ((pixels(x, y)[widest] - from[widest]) / (to[widest] - from[widest])) ** 2;
            const numbers = (n) => Array.from({ length: n }, (_, i) => i);
            seen.squares = numbers(layers * heads).map((n) => numbers(rows).map((line) => numbers(columns).map((column) =>
                depth(22 + (n % heads) * (side + 6) + at(column, columns), 22 + Math.floor(n / heads) * (side + 6) + at(line, rows)))));
        }
        found.push(seen);
    }
    const text = [];
    for (const branch of new Set(views.map(({ change }) => change.branch))) {
        app.dispatchEvent(new CustomEvent("view-change", { detail: { branch, place: 1e6, sampling: null, tab: "branches" } }));
        const tokens = all(app, "manako-ribbon [role=option]");
        for (const token of tokens) token.dispatchEvent(new MouseEvent("mouseover", { bubbles: true }));
        const isDone = () => all(app, "manako-overview polyline")[1].points.numberOfItems === tokens.length && app.querySelector("manako-checks summary").textContent.startsWith("\u2713");
        for (let n = 0; n < 300 && !isDone(); n++) await frame();
        text.push({
            bins: tokens.map((token) => Number(token.dataset.bin)),
            titles: tokens.map((token) => token.title.split(" \u00b7 ").at(-1)),
            lines: all(app, "manako-overview polyline").slice(1, 3).map(points),
            facts: texts(app, "manako-tree [aria-selected=true] small"),
            about: texts(app, "manako-about .soft").at(-1),
            verdict: app.querySelector("manako-checks summary").textContent,
        });
    }
    return { views: found, text };
}
