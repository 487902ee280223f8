"""Every painted number: texts, lengths, places and tints of all tabs, computed again in Python from the record.

Special here: a page is read once for each language, in one go, and all tests judge what was read then. The named cases
are the ways in which pages of this kind went wrong: each also shows that the wrong number would have been seen.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import close, watch
from playwright.sync_api import Browser
from toy import toy_model

import manako
from manako import messages
from manako.analysis import attention as looked
from manako.analysis.contributions import contributions
from manako.analysis.lens import lens
from manako.analysis.what_if import what_if
from manako.messages.numbers import addends, count, decimals, fixed, percent, perplexity, setting, signed
from manako.model import for_page
from manako.sampling import DEFAULT_ORDER, Sampling, uniform
from manako.trace.record import Candidate, Step, Trace
from manako.trace.tree import Branch, Tree
from manako.views.html import Carried, page
from manako.views.terminal.glyphs import BLOCK, pending_bytes, plain_label

INSIDE = ("attention", "lens", "contributions")
TABS = ("candidates", "what_if", "attention", "layers", "why")
AXES = ("linear", "log", "zoom")
SCRAPER = Path(__file__).with_name("painted.js").read_text(encoding="utf-8")
FEW = Sampling(temperature=1.2, top_k=40, top_p=0.6, min_p=0.02)
CHANGES = (None, FEW, Sampling(temperature=0.3), Sampling(temperature=2.0, top_k=3))
FORCED = 6  # the step of the first text behind which the second one parts
BINS = (0.5, 0.2, 0.05, 0.01)  # p_model at which the tints below the text change
HEIGHT = 40  # of the overview
TOLERANCE = 2e-3  # of a length or a place: layout is in 64ths of a pixel, colours have 8 bits
COLOURS = 0.03  # of what is drawn on a canvas

Painted = dict[str, Any]


def say(lang: str, key: str, **values: object) -> str:
    return messages.text(key, lang, **values)


def name(step: Step, token: Candidate, lang: str) -> str:
    return plain_label(token, BLOCK, lang, pending_bytes(step.bytes_before))


@pytest.fixture(scope="module")
def record() -> Tree:
    """Three texts: one by the model in the page; one that parts from it, under another chain; one past its context."""
    model = manako.load("demo")
    first = model.trace("吾輩は猫である。名前は", max_new_tokens=12, seed=33, capture=INSIDE)
    other = first.steps[FORCED].candidates[2].id
    fork = model.fork(first, FORCED, token_id=other, max_new_tokens=6, temperature=1.2, top_k=40, top_p=0.7)
    list(fork)
    long = toy_model().trace("私は猫", max_new_tokens=16, seed=3, capture=INSIDE)  # of a model whose context is 16
    return Tree((Branch("1", None, 0, first), Branch("2", "1", FORCED, fork.trace()), Branch("3", None, 0, long)), "1")


def views_of(record: Tree, lang: str) -> list[Painted]:
    """What is shown: every other step of each text, the rest in the other language; settings, scales and heads vary."""
    found: list[Painted] = []
    for branch in record.branches:
        begin = branch.keep + 1 if branch.parent else 0
        config = branch.trace.header.model.config
        for index in range(len(branch.trace)):
            n = len(found)
            scope = ((), (n % config["n_layer"],), (n // 4 % config["n_layer"], n // 2 % config["n_head"]))[n % 3]
            found.append(
                {
                    "trace": branch.trace,
                    "index": index,
                    "scope": scope,
                    "axis": AXES[n // 3 % 3],
                    "top": (10, 50)[n // 2 % 2],
                    "sampling": CHANGES[n // 2 % len(CHANGES)],
                    "branch": branch.id,
                    "place": begin + index,
                    "length": begin + len(branch.trace),
                }
            )
    return found[messages.LANGUAGES.index(lang) :: len(messages.LANGUAGES)]


def asked(view: Painted, is_first: bool) -> Painted:
    """The same for the page."""
    layer, head = (*view["scope"], None, None)[:2]
    change = {key: view[key] for key in ("branch", "place", "axis", "top")} | {"layer": layer, "head": head}
    change |= {"details": True, "sampling": view["sampling"] and view["sampling"].to_dict()}
    rows, columns = squares_of(view["trace"]).shape[1:]
    config = view["trace"].header.model.config
    square = {"layers": config["n_layer"], "heads": config["n_head"], "rows": rows, "columns": columns}
    return {"change": change, "square": square if is_first else None}


@pytest.fixture(scope="module")
def painted(browser: Browser, record: Tree, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Painted]:
    """Language -> what the page has painted."""
    data, found = for_page("demo"), dict[str, Painted]()
    for lang in messages.LANGUAGES:
        views = views_of(record, lang)
        firsts = [next(n for n, view in enumerate(views) if view["branch"] == b.id) for b in record.branches]
        file = tmp_path_factory.mktemp("painted") / "page.html"
        file.write_text(page(record, lang, Carried("demo", len(data), data)), encoding="utf-8")
        complaints: list[str] = []
        context = browser.new_context(offline=True, reduced_motion="reduce", viewport={"width": 1000, "height": 1000})
        shown = context.new_page()
        watch(shown, complaints)
        shown.goto(file.as_uri())
        shown.wait_for_selector("[data-act=go]:not([disabled])")
        wanted = [asked(view, n in firsts) for n, view in enumerate(views)]
        found[lang] = shown.evaluate(SCRAPER, {"views": wanted, "tabs": TABS})
        close([context], complaints)
    return found


def squares_of(trace: Trace) -> Any:
    """[L * H, rows, columns] the share of every token at every position on record."""
    recorded = trace.attention
    rows = range(len(recorded.starts))
    columns = int(recorded.starts[-1]) + recorded.row(len(rows) - 1).shape[2]
    found = np.zeros((recorded.n_layer * recorded.n_head, len(rows), columns))
    for i in rows:
        row, start = recorded.row(i), int(recorded.starts[i])
        found[:, i, start : start + row.shape[2]] = row.reshape(-1, row.shape[2])
    return found


def shown_step(view: Painted) -> Step:
    trace, index, sampling = view["trace"], view["index"], view["sampling"]
    return what_if(trace, index, sampling) if sampling else trace.steps[index]


def listed(step: Step, n: int, also: int | None = None) -> list[Candidate]:
    """The n first candidates, and the drawn one where it is not among them."""
    rows = step.candidates[:n]
    return rows if step.chosen.id in [c.id for c in rows] else [*rows, step.chosen]


def p_of(c: Candidate) -> str:
    return "\u2013" if c.cut_by else percent(c.p)


def stage(view: Painted, lang: str) -> Painted:
    """The stage: the sentence about the step, the candidates that hang there, the draw."""
    step, recorded = shown_step(view), view["trace"].steps[view["index"]]
    taken = recorded.chosen
    values = {"p": percent(taken.p), "p_model": percent(taken.p_model), "rank": count(taken.rank)}
    chips = [c for c in listed(step, 9) if c.cut_by is None]
    rest, pieces = step.other(chips), [c for c in step.candidates[:24] if c.p >= 0.004]
    low, high = step.interval
    digits, u = decimals(high - low), step.u or 0.0
    ends = {"u": fixed(u, digits), "low": fixed(low, digits), "high": fixed(high, digits)}
    drawn = {"token": name(step, step.chosen, lang), **ends}
    said = say(lang, "step.no_draw", u=fixed(u, 4)) if step.certain else say(lang, "step.draw", **drawn)
    start = step.window_start
    return {
        "title": say(lang, "page.step", number=view["place"] + 1, count=view["length"]),
        "chosen": say(lang, "page.chosen", token=name(recorded, taken, lang), **values),
        "window": say(lang, "step.window", start=start + 1) if start else "",
        "chips": [percent(c.p) for c in chips],
        "sizes": [math.sqrt(c.p) for c in chips],
        "others": [say(lang, "page.fan_other", count=count(rest.count), p=percent(rest.p))] if rest.count else [],
        "pieces": [] if step.certain else [c.p for c in pieces],
        "starts": [] if step.certain else [sum(c.p for c in pieces[:n]) for n in range(len(pieces))],
        "needle": [] if step.certain else [u],
        "marks": [] if step.certain else [[setting(at), at] for at in (0.0, 0.25, 0.5, 0.75, 1.0)],
        "u": [] if step.certain else [say(lang, "page.u", u=fixed(u, 4))],
        "said": [said, say(lang, "step.entropy", bits=fixed(step.entropy, 2), choices=perplexity(step.entropy))],
        "here": [(view["place"] + 0.5) / view["length"]],
    }


def candidates(view: Painted, lang: str) -> Painted:
    step, recorded = shown_step(view), view["trace"].steps[view["index"]]
    before = {c.id: c.p for c in recorded.candidates}
    rows, is_changed = listed(step, view["top"]), view["sampling"] is not None
    other = step.other(rows)
    both = any(abs(c.p - c.p_model) > 1e-12 for c in (*rows, other))
    marked = [*(p for c in rows for p in (c.p, both * c.p_model, is_changed * before[c.id]))]
    largest = max(marked)
    at = {
        "linear": lambda p: p,
        "log": lambda p: max(0.0, 1 + math.log10(p) / 6) if p else 0.0,
        "zoom": lambda p: p / largest,
    }[view["axis"]]
    marks = {
        "linear": [["0", 0], ["25", 0.25], ["50", 0.5], ["75", 0.75], ["100%", 1]],
        "log": [["0.0001%", 0], ["0.1%", 0.5], ["100%", 1]],
        "zoom": [["0", 0], [percent(largest / 2), 0.5], [percent(largest), 1]],
    }[view["axis"]]

    def bars(c: Any, is_listed: bool = True) -> list[list[Any]]:
        if is_listed and c.cut_by:
            return []
        found = [["p", at(c.p)]] + ([["p-model", at(c.p_model)]] if both else [])
        return found + ([["before", at(before[c.id])]] if is_changed and is_listed else [])

    model = (lambda c: [percent(c.p_model)]) if both else (lambda c: [])
    cells = [
        [
            f"\u25b8 {count(c.rank)}" if c.id == step.chosen.id else count(c.rank),
            str(c.id),
            c.bytes.hex(" ").upper(),
            p_of(c),
            *model(c),
        ]
        for c in rows
    ]
    beyond = at(max(other.p, other.p_model if both else 0)) > 1
    return {
        "cells": [*cells, ["\u2026", percent(other.p), *model(other)]],
        "bars": [*map(bars, rows), [] if beyond else bars(other, False)],
        "marks": marks,
        "coverage": say(
            lang, "page.coverage", count=len(rows), p=percent(sum(c.p for c in rows)), size=count(step.vocabulary.size)
        ),
        "other": say(lang, "page.other", count=count(other.count)),
    }


def what_if_tab(view: Painted, lang: str) -> Painted:
    step, size = shown_step(view), view["trace"].vocabulary.size
    chain = view["sampling"] or view["trace"].header.sampling
    stages = [say(lang, "page.model"), say(lang, "page.kept", count=count(size))]
    for each in step.stages:
        stages += [
            f"{say(lang, f'term.{each.name}')} {setting(getattr(chain, each.name))}",
            say(lang, "page.kept", count=count(each.kept)),
            say(lang, "page.removed", p=percent(each.removed_mass)),
        ]
    names = sorted(chain.to_dict().keys() - {"order"}, key=lambda n: (n.endswith("_penalty"), DEFAULT_ORDER.index(n)))
    given = {n: getattr(chain, n) for n in names}
    top_k = 1.0 if chain.top_k is None else round(math.log(chain.top_k) / math.log(size), 2)
    slid = [min(2.0, chain.temperature), top_k, 1.0 if chain.top_p is None else chain.top_p, chain.min_p or 0.0]
    beside = []
    for temperature in (0.3, 0.8, 1.2):
        again = what_if(view["trace"], view["index"], replace(chain, temperature=temperature))
        rows = [
            [f"\u25b8 {count(c.rank)}" if c.id == again.chosen.id else count(c.rank), p_of(c)] for c in listed(again, 5)
        ]
        beside.append([f"T = {setting(temperature)} ", *rows])
    return {
        "stages": stages,
        "removed": [each.removed_mass for each in step.stages],
        "typed": ["" if value is None else setting(value) for value in given.values()],
        "slid": slid,
        "beside": beside,
    }


def attention(view: Painted, lang: str) -> Painted:
    trace, index, scope = view["trace"], view["index"], view["scope"]
    found = looked.attention(trace, index)
    weights = found.weights(scope)
    best = looked.strongest(weights, 8)
    favourite = found.per_head.reshape(-1, len(weights))
    whole, matrix = trace.attention.whole(index), []
    if len(scope) == 2:
        rows = found.per_head[scope][None] if whole is None else whole[scope]
        for line, row in enumerate(rows[-16:], len(weights) - min(16, len(rows))):
            matrix.append([[percent(float(w)), float(w)] for w in row[max(0, len(weights) - 16) : line + 1]])
    rollout = found.rollout
    return {
        "figures": [percent(weights[k]) for k in sorted(best[:5])],
        "tints": (weights / weights.max()).tolist(),
        "strongest": [
            [str(found.keys[k].position + 1), percent(weights[k]), *([] if rollout is None else [percent(rollout[k])])]
            for k in best
        ],
        "matrix": matrix,
        "rows": [
            text
            for row in favourite
            for text in (str(found.keys[int(row.argmax())].position + 1), percent(float(row.max())))
        ],
    }


def layers(view: Painted, lang: str, seen: Painted) -> Painted:
    trace, index = view["trace"], view["index"]
    found, before = lens(trace, index), view["place"] - index
    readings = [
        [percent(own.p), count(own.rank), *(percent(t.p) for t in first[:4])]
        for own, first in zip(found.chosen, found.first, strict=True)
    ]
    steps = [int(number) - 1 - before for number in seen["steps"]]  # it moves only where the step is not in it
    assert index in steps and steps == list(range(steps[0], steps[0] + len(steps)))
    around = [lens(trace, step).first for step in steps]
    grid = [[column[layer][0].p for column in around] for layer in range(len(found.layers))]
    return {
        "readings": readings,
        "tints": [t.p for first in found.first for t in first[:4]],
        "ranks": [[math.log10(t.rank) for t in line] for line in found.tracked],
        "tracked": [[percent(t.p) + count(t.rank) for t in line] for line in found.tracked],
        "grid": [[percent(p) for p in row] for row in grid],
        "gridTints": [p for row in grid for p in row],
        "steps": seen["steps"],
    }


def why(view: Painted, lang: str) -> Painted:
    trace, index, scope = view["trace"], view["index"], view["scope"]
    recorded, found = trace.steps[index], contributions(trace, index)
    reasons = found.why(recorded.chosen)
    parts, token = reasons.parts, name(recorded, recorded.chosen, lang)
    longest = max(abs(part.effect) for part in parts)
    boxes = []
    for layer in sorted({part.layer for part in parts if part.layer is not None}, reverse=True):
        own = [part for part in parts if part.layer == layer]
        for part in [
            *(p for p in own if p.kind == "head"),
            *(p for p in own if p.kind != "head" and (p.kind == "mlp" or p.value)),
        ]:
            label = f"{layer}.{part.name.partition(':')[0] if part.head is None else part.head}"
            boxes.append([label, signed(part.effect), abs(part.effect) / longest, part.effect < 0])
    seen = looked.attention(trace, index)
    weights, keys = seen.weights(scope), len(seen.keys)
    arcs = [k for k in looked.strongest(weights, 8) if keys - 16 <= k < keys - 1]
    first, rest = reasons.strongest(10)
    top = max(abs(part.effect) for part in first)
    rows = [[signed(part.effect), signed(part.value)] for part in first]
    sums = dict(zip(reasons.groups, addends(list(reasons.groups.values()), reasons.logit), strict=True))
    p = next(c.p for c in shown_step(view).candidates if c.id == recorded.token_id)
    scopes = (
        ("page.all_heads", {}),
        ("lens.layer", {"number": scope[:1] and scope[0]}),
        ("why.head", dict(zip(("layer", "head"), scope, strict=False))),
    )
    heads = say(lang, scopes[len(scope)][0], **scopes[len(scope)][1])
    share = say(lang, "page.model_share", share=percent(float(weights.max())))
    return {
        "boxes": boxes,
        "given": [f"{part.name} {signed(part.effect)}" for part in parts if part.layer is None],
        "output": p,
        "said": [say(lang, "page.model_output", size=count(trace.vocabulary.size), token=token, p=percent(p))],
        "arcs": [6 * weights[k] / weights.max() for k in arcs],
        "seen": [[percent(w), w / weights.max()] for w in weights[-16:].tolist()],
        "parts": rows + ([[signed(rest.over_mean or 0.0), signed(rest.value)]] if rest.count else []),
        "bars": [["lowers" if part.effect < 0 else "raises", abs(part.effect) / top] for part in first],
        "scale": say(lang, "page.scale", longest=fixed(top, 2)),
        "sums": say(lang, "why.sum", **sums, logit=signed(reasons.logit)),
        "means": [
            say(lang, "page.model_looks", heads=heads) + " " + share,
            say(lang, "page.model_means", token=token, longest=fixed(longest, 2)),
        ],
    }


def whole_text(record: Tree, branch: Branch, lang: str) -> Painted:
    """What stands there of the whole text: tints, the numbers of each token, the overview, the facts in the list."""
    steps = [(step, step.chosen) for step in branch.trace]
    if branch.parent:
        parent = record.branches[0].trace.steps
        forced = next(c for c in parent[branch.keep].candidates if c.id == branch.trace.columns.prompt_ids[-1])
        steps = [*((step, step.chosen) for step in parent[: branch.keep]), (parent[branch.keep], forced), *steps]
    bits = math.ceil(math.log2(branch.trace.vocabulary.size))
    lines = [[step.entropy for step, _ in steps], [-math.log2(c.p_model) for _, c in steps]]
    header, derived = branch.trace.header, len(branch.trace) + (len(record.branches[0].trace) if branch.parent else 0)
    chain = " > ".join(f"{n} {setting(getattr(header.sampling, n))}" for n in header.sampling.active)
    return {
        "bins": [sum(c.p_model < limit for limit in BINS) for _, c in steps],
        "titles": [
            say(lang, "page.token_about", p_model=percent(c.p_model), rank=count(c.rank), bits=fixed(step.entropy, 2))
            for step, c in steps
        ],
        "lines": [[[n + 0.5, HEIGHT * (1 - min(1, each / bits))] for n, each in enumerate(line)] for line in lines],
        "facts": [
            say(
                lang,
                "page.branch_facts",
                steps=len(branch.trace),
                temperature=header.sampling.temperature,
                seed=header.seed,
            )
        ],
        "about": say(lang, "view.settings", chain=chain, seed=header.seed),
        "verdict": say(lang, "page.verified", count=derived, rederived=derived),
    }


def expected(record: Tree, lang: str, seen: Painted) -> Iterator[tuple[str, Any, Any]]:
    """(where, what is painted, what should be) of everything."""
    for view, found in zip(views_of(record, lang), seen["views"], strict=True):
        where, captured = f"{view['branch']}:{view['place'] + 1}", view["trace"].header.capture
        yield f"{where} stage", found["stage"], stage(view, lang)
        yield f"{where} candidates", found["candidates"], candidates(view, lang)
        yield f"{where} what if", found["what_if"], what_if_tab(view, lang)
        if captured:
            yield f"{where} attention", found["attention"], attention(view, lang)
            yield f"{where} layers", found["layers"], layers(view, lang, found["layers"])
            yield f"{where} why", found["why"], why(view, lang)
        if found.get("squares"):
            shares = squares_of(view["trace"])
            marked = shares.shape[1] - len(view["trace"]) + view["index"]  # the row of the step has a frame over it
            got = np.delete(np.array(found["squares"]), marked, axis=1)
            yield f"{where} squares", np.sqrt(np.abs(got)).tolist(), np.sqrt(np.delete(shares, marked, axis=1)).tolist()
    for branch, found in zip(record.branches, seen["text"], strict=True):
        yield f"text {branch.id}", found, whole_text(record, branch, lang)


def leaves(where: str, got: Any, wanted: Any) -> Iterator[tuple[str, Any, Any]]:
    """What is at the ends of two structures of one shape; of other shapes the structures themselves."""
    if isinstance(wanted, Mapping) and isinstance(got, Mapping) and wanted.keys() == got.keys():
        for key in wanted:
            yield from leaves(f"{where}.{key}", got[key], wanted[key])
    elif isinstance(wanted, list) and isinstance(got, list) and len(wanted) == len(got):
        for n, (one, other) in enumerate(zip(got, wanted, strict=True)):
            yield from leaves(f"{where}[{n}]", one, other)
    else:
        yield where, got, wanted


def same(where: str, got: Any, wanted: Any) -> bool:
    if isinstance(wanted, int | float) and isinstance(got, int | float):
        return abs(got - wanted) <= (COLOURS if " squares" in where else TOLERANCE)
    return got == wanted


@pytest.mark.parametrize("lang", messages.LANGUAGES)
def test_every_painted_number_is_that_of_the_record(lang: str, record: Tree, painted: dict[str, Painted]) -> None:
    found = [leaf for whole in expected(record, lang, painted[lang]) for leaf in leaves(*whole)]
    wrong = [leaf for leaf in found if not same(*leaf)]
    assert not wrong, f"{len(wrong)} of {len(found)}: {wrong[:20]}"
    assert len(found) > 5000, len(found)


# What other pages showed instead, computed for the same view in the same shape as what is painted there.


def texts(p: Any) -> list[str]:
    return [percent(float(each)) for each in p]


def chips(view: Painted) -> list[Candidate]:
    return [c for c in listed(shown_step(view), 9) if c.cut_by is None]


def model_alone(view: Painted) -> list[str]:
    """Bars of the model's own probabilities beside a draw from others."""
    return texts(c.p_model for c in chips(view))


def softmax_twice(view: Painted) -> list[str]:
    """Probabilities through softmax once more: a sure token is hardly likelier than any other."""
    row = np.zeros(view["trace"].vocabulary.size)
    for c in shown_step(view).candidates:
        row[c.id] = c.p
    return texts(np.exp(row[[c.id for c in chips(view)]]) / np.exp(row).sum())


def renormalised(view: Painted) -> list[str]:
    """As if there were no tokens but those that are shown."""
    return texts(c.p / sum(each.p for each in chips(view)) for c in chips(view))


def merged(view: Painted) -> list[str]:
    """All tokens that read alike as one."""
    alike: dict[str, float] = {}
    for c in shown_step(view).candidates:
        alike[c.text.strip()] = alike.get(c.text.strip(), 0.0) + c.p
    return texts(alike[c.text.strip()] for c in chips(view))


def constant_top_p(view: Painted) -> list[str]:
    """top_p 0.9, whatever is set."""
    trace, chain = view["trace"], view["sampling"] or view["trace"].header.sampling
    p = {c.id: c.p for c in what_if(trace, view["index"], replace(chain, top_p=0.9)).candidates}
    return texts(p[c.id] for c in chips(view))


def scaled_bars(view: Painted) -> list[list[list[Any]]]:
    """Bars as long as the longest one allows, on an axis that says 0 to 100 %."""
    found = candidates(view, "en")["bars"]
    longest = max((bar[1] for row in found for bar in row), default=1.0)
    return [[[kind, at / longest] for kind, at in row] for row in found]


def foreign_number(view: Painted) -> list[float]:
    """A random number that is not the one of the draw: from a seed of the clock."""
    return [uniform(view["trace"].header.seed + 1, view["index"]) for _ in stage(view, "en")["needle"]]


def below(view: Painted) -> list[list[str]]:
    """Each layer with what the one below it said: its input under its name."""
    found = readings_of(view)
    return [found[0], *found[:-1]]


def readings_of(view: Painted) -> list[list[str]]:
    return layers(view, "en", {"steps": [str(view["place"] + 1)]})["readings"]


def without_its_norm(view: Painted) -> list[list[str]]:
    """The last layer without the final norm: not the model's own p, which is what the row must end in."""
    own = view["trace"].steps[view["index"]].chosen.p_model
    found = readings_of(view)
    assert found[-1][0] == percent(own)  # with it
    return [*found[:-1], [percent(math.sqrt(own)), *found[-1][1:]]]


def exaggerated(view: Painted) -> list[float]:
    """The largest head instead of their mean, raised to a power."""
    weights = looked.attention(view["trace"], view["index"]).per_head[view["scope"]]
    most = weights.reshape(-1, weights.shape[-1]).max(axis=0).astype(float) ** 1.5
    return (most / most.max()).tolist()


def unmoved_window(view: Painted) -> list[list[str]]:
    """Positions counted from the window, under the labels of the first tokens."""
    start = shown_step(view).window_start
    return [[str(int(row[0]) - start), *row[1:]] for row in attention(view, "en")["strongest"]]


def one_less_the_others(view: Painted) -> list[list[str]]:
    """What is left of 1, which is not nothing where everything is shown, but the rounding of a sum."""
    cells = candidates(view, "en")["cells"]
    rest = 1 - sum(c.p for c in listed(shown_step(view), view["top"]))
    return [*cells[:-1], [cells[-1][0], percent(max(rest, 0.0)), *cells[-1][2:]]]


FAULTS = {
    "the model's own p beside another draw": (("stage", "chips"), model_alone),
    "softmax of what was softmax already": (("stage", "chips"), softmax_twice),
    "p over the visible candidates": (("stage", "chips"), renormalised),
    "tokens merged that read alike": (("stage", "chips"), merged),
    "a constant top_p": (("stage", "chips"), constant_top_p),
    "bars scaled to the longest": (("candidates", "bars"), scaled_bars),
    "what is left of 1": (("candidates", "cells"), one_less_the_others),
    "another random number": (("stage", "needle"), foreign_number),
    "a lens off by one layer": (("layers", "readings"), below),
    "a lens without the final norm": (("layers", "readings"), without_its_norm),
    "attention of the largest head, raised": (("attention", "tints"), exaggerated),
    "a window that has not moved": (("attention", "strongest"), unmoved_window),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_went_wrong_elsewhere_is_not_painted_and_would_be_seen(
    fault: str, record: Tree, painted: dict[str, Painted]
) -> None:
    (tab, part), wrongly = FAULTS[fault]
    would_be_seen = 0
    for lang in messages.LANGUAGES:
        for view, seen in zip(views_of(record, lang), painted[lang]["views"], strict=True):
            found = leaves(part, seen[tab][part], wrongly(view))
            would_be_seen += any(not same(*leaf) for leaf in found)
    assert would_be_seen > 0, "nothing that was read tells this fault from what is right"


def test_a_mark_lies_where_its_number_does_however_small(record: Tree, painted: dict[str, Painted]) -> None:
    marks = [bar for view in painted["en"]["views"] for row in view["candidates"]["bars"] for bar in row]
    assert any(kind == "before" and at < 0.01 for kind, at in marks)  # where a border of 3 pixels once moved it
