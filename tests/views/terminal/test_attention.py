"""Attention in a terminal: golden texts, digits below their tokens, shares that add up, a matrix that fits, JSON."""

import base64
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pyte
import pytest
from golden import TOKENS, golden_inside, patterns
from rich.cells import cell_len
from toy import toy_model

from manako.analysis.attention import StepAttention, attention
from manako.messages.numbers import percent
from manako.trace.record import SelfCheck
from manako.views.document import attention_document
from manako.views.terminal import glyphs as g
from manako.views.terminal.attention import Scope, attention_lines, meaning_lines
from manako.views.terminal.steps import Look

EN = Look("en", 80)


@cache
def found_at(index: int = 11) -> StepAttention:
    return attention(golden_inside(), index)


def lines_of(found: StepAttention, look: Look = EN, part: Scope = ()) -> list[str]:
    return [line.plain for line in attention_lines(found, look, part)]


def block(lines: Sequence[str], title: str) -> list[str]:
    """The lines below a title, up to an empty one."""
    start = next(n for n, line in enumerate(lines) if line.strip().startswith(title)) + 1
    return list(lines[start : lines.index("", start)])


def table(lines: Sequence[str]) -> list[str]:
    return [line for line in block(lines, "strongest tokens") if re.match(r" +(\d+|other) ", line)]


def with_weights(weights: Sequence[float], heads: int = 1) -> StepAttention:
    """The last step of twelve, every head with these weights."""
    return replace(found_at(), per_head=np.array([[weights] * heads], dtype=np.float32))


@pytest.mark.parametrize(
    ("name", "look", "part", "index"),
    [
        ("attention-en-80.txt", EN, (), 11),
        ("attention-ja-80.txt", Look("ja", 80), (), 11),
        ("attention-ja-40.txt", Look("ja", 40, top=3), (1,), 11),
        ("attention-en-100-ascii.txt", Look("en", 100, g.ASCII), (), 11),
        ("attention-en-80-braille.txt", Look("en", 80, g.BRAILLE), (0, 0), 11),
        ("attention-plain-en.txt", replace(EN, plain=True, top=4), (), 11),
        ("attention-plain-ja.txt", Look("ja", 80, plain=True, top=4), (1,), 5),
    ],
)
def test_golden(check_golden: Callable[[str, str], None], name: str, look: Look, part: Scope, index: int) -> None:
    trace = golden_inside()
    lines = [*attention_lines(found_at(index), look, part), *meaning_lines(trace.header.self_checks, look)]
    check_golden(name, "\n".join(line.plain for line in lines) + "\n")


def test_shares_by_hand() -> None:
    """Step 4, four heads of 1/8 1/8 1/4 1/2, 1 0 0 0, 1/4 0 0 3/4 and 1/4 each; see test_attention."""
    rows = [re.findall(r"[\d.]+%", line) for line in table(lines_of(found_at(3)))]
    assert [row[0] for row in rows] == ["40.6%", "37.5%", "12.5%", "9.38%"]
    rollout = found_at(3).rollout
    assert rollout is not None
    assert [row[1] for row in rows] == [percent(rollout[k]) for k in (0, 3, 2, 1)]
    rows = table(lines_of(found_at(3), part=(1, 0)))
    assert [row.split() for row in rows] == [
        ["4", "'\\x1b[2J'", "(itself)", "75.0%", "█" * 36 + "▌"],  # 49 cells are 100 %
        ["1", "'あ'", "25.0%", "█" * 12],
        ["2", "'[bold]'", "0%"],
        ["3", "'[bold]'", "0%"],
    ]


def test_listed_and_other_make_one() -> None:
    for part in ((), (0,), (0, 0), (1, 1)):
        rows = table(lines_of(found_at(), replace(EN, top=4), part))
        assert len(rows) == 5 and rows[-1].split()[:2] == ["other", "8"]
        for column in range(1 if part else 2):
            assert abs(sum(float(re.findall(r"[\d.]+(?=%)", row)[column]) for row in rows) - 100) < 0.3


# --- the text ---------------------------------------------------------------------------------------------------------


def digits_below(lines: Sequence[str]) -> list[tuple[str, str]]:
    """(text, digit) of each token of the tinted text: what begins above each digit, by a terminal's own columns."""
    start = next(n for n, line in enumerate(lines) if line.startswith("Attention received")) + 1
    stop = next(n for n, line in enumerate(lines) if line.startswith("Digit:"))
    pairs = [(a, b) for a, b in zip(lines[start:stop], lines[start + 1 : stop], strict=False) if re.match(r"[\dS]", b)]
    found = list[tuple[str, str]]()
    for text, digits in pairs:
        screen = pyte.Screen(200, 2)
        pyte.Stream(screen).feed(f"{text}\r\n{digits}")
        places = [x for x in range(200) if screen.buffer[1][x].data.strip()]
        for x, end in zip(places, [*places[1:], 200], strict=True):
            shown = "".join(screen.buffer[0][n].data for n in range(x, end)).rstrip()
            found.append((shown.split(" ►")[0], screen.buffer[1][x].data))
    return found


@pytest.mark.parametrize("columns", [40, 80, 100])
def test_a_digit_stands_below_each_token(columns: int) -> None:
    trace = toy_model(block_size=64).trace("私は猫、犬。abc \nかき", max_new_tokens=1, seed=1, capture=("attention",))
    found = attention(trace, 0)
    below = digits_below(lines_of(found, Look("en", columns)))
    shown = [
        g.visible_bytes(k.bytes, g.BLOCK) if g.is_partial(k.bytes) else g.prose(k.text, g.BLOCK) for k in found.keys
    ]
    assert [text for text, _ in below] == [text.rstrip() for text in shown]
    largest = max(w for k, w in enumerate(found.mean) if k not in found.sink_heads)
    digits = ["S" if k in found.sink_heads else str(round(9 * w / largest)) for k, w in enumerate(found.mean)]
    assert [digit for _, digit in below] == digits and "9" in digits


def test_a_sink_does_not_drown_the_others() -> None:
    lines = lines_of(with_weights([0.9, *[0.0] * 8, 0.02, 0.03, 0.05]))
    assert [digit for _, digit in digits_below(lines)] == ["S", *"00000000", "2", "3", "5"]
    assert any(line.startswith("Digit:") and "9 is 8.33%, S a sink" in line for line in lines)  # an even share at least
    assert "Sink: token 1, 'あ'; heads that give it over 2 times an even share: 1 of 1." in lines
    assert any("'あ' (sink)" in row for row in table(lines))


def test_noise_beside_a_sink_stays_noise() -> None:
    lines = lines_of(with_weights([1 - 11e-6, *[1e-6] * 11]))
    assert "".join(digit for _, digit in digits_below(lines)) == "S" + "0" * 11


def test_tints_are_never_alone() -> None:
    """What is coloured has a digit above 0 below it, and the more the brighter; the token that looks is underlined."""
    found = with_weights([0.0, 0.0, 0.01, 0.02, 0.04, 0.05, 0.07, 0.09, 0.11, 0.15, 0.2, 0.26])
    texts = [*attention_lines(found, EN)]
    spans = next(text for text in texts if text.plain.startswith("あ[bold]")).spans
    styles = [str(span.style) for span in spans][:12]
    digits = [int(digit) for _, digit in digits_below([text.plain for text in texts])]
    assert digits == [0, 0, 0, 1, 1, 2, 2, 3, 4, 5, 7, 9]
    tints = ["", "white on blue", "black on cyan", "black on green", "black on yellow"]
    levels = [tints.index(style.removesuffix(" bold underline")) for style in styles if style != "bold green"]
    assert levels == [0, 1, 1, 1, 1, 2, 2, 3, 4, 4][-len(levels) :]
    assert styles[-1].endswith("bold underline")


def test_of_a_long_text_the_end_stands_and_the_rest_is_summed() -> None:
    trace = toy_model(block_size=512).score("かきくけこ" * 80, capture=("attention",))
    found = attention(trace, 390)
    lines = lines_of(found)
    shown = digits_below(lines)
    said = next(line for line in lines if line.startswith("(earlier"))
    left = len(found.keys) - len(shown)
    assert 0 < left and said == f"(earlier tokens: {left:,}, together {percent(found.mean[:left].sum())})"
    assert len([line for line in lines if line.startswith("か") or line.startswith("き")]) <= 8


# --- the matrix -------------------------------------------------------------------------------------------------------


def matrix(lines: Sequence[str], title: str = "Rows: heads") -> list[str]:
    return [line for line in block(lines, title) if re.match(r" {1,2}\d+(\.\d+)? ", line)]


def test_shades_by_hand() -> None:
    rows = matrix(lines_of(found_at(3)))
    assert [row.split(maxsplit=2)[:2] for row in rows] == [
        ["0.0", "1.75"], ["0.1", "0.00"], ["1.0", "0.81"], ["1.1", "2.00"],
    ]  # fmt: skip
    assert [row[11:] for row in rows] == ["▒▒▒▒▓▓██", "██", "▓▓    ██", "▓▓▓▓▓▓▓▓"]
    rows = matrix(lines_of(found_at(3), Look("en", 80, g.ASCII)))
    assert [row[11:] for row in rows] == ["::::**##", "##", "**    ##", "********"]


def test_every_shade_begins_where_the_legend_says() -> None:
    found = with_weights([0.0199, 0.0201, 0.0999, 0.1001, 0.2499, 0.25, 0.4999, 0.5, 0, 0, 0, 0])
    assert matrix(lines_of(found))[0][11:].rstrip() == "  ░░░░▒▒▒▒▓▓▓▓██"
    assert any("░ 2% or more, ▒ 10%, ▓ 25%, █ 50%." in line for line in lines_of(found))


def test_what_has_no_room_is_summed() -> None:
    found = found_at()
    lines = lines_of(found, Look("en", 34))
    assert "6 of the 12 tokens are shown; the others are summed on the right." in lines
    rows = matrix(lines)
    assert [row[11:13] for row in rows] == ["  ", "██", "▓▓", "░░"]  # the sink in front, whatever the room
    assert {row[13:15] for row in rows} == {"| "}
    for row, weights in zip(rows, found.per_head.reshape(4, 12), strict=True):
        assert row.split()[-1] == percent(float(weights[1:7].sum()))
    numbers = next(line for line in lines if "bits" in line and "others" in line)
    assert numbers.split() == ["bits", "1", "|", "10", "others"]
    assert numbers.index("10") == 11 + 2 * 4  # where the column of token 10 begins, behind 1, the gap, 8 and 9


def test_a_model_of_many_heads_shows_its_layers() -> None:
    trace = toy_model(n_layer=5, n_head=16, n_embd=32).trace("あ", max_new_tokens=1, seed=1, capture=("attention",))
    lines = lines_of(attention(trace, 0))
    assert [row.split()[0] for row in matrix(lines, "Rows: layers")] == ["0", "1", "2", "3", "4"]
    assert any("--layer N" in line for line in lines) and not any("bits" in line for line in lines)
    rows = matrix(lines_of(attention(trace, 0), part=(2,)))
    assert [row.split()[0] for row in rows] == [f"2.{h}" for h in range(16)]


@pytest.mark.slow
def test_numbers_stand_over_their_columns() -> None:
    trace = toy_model(block_size=256).score("かきくけこ" * 40, capture=("attention",))
    for columns in range(30, 200, 3):
        lines = lines_of(attention(trace, 150), Look("en", columns))
        numbers = next(line for line in lines if line.lstrip().startswith("bits "))
        found = [(m.start(), int(m[0])) for m in re.finditer(r"\d+", numbers)]
        last = 11 + 2 * ((columns - 11 - 8) // 2) - 2  # where the column of the last key, the 151st, begins
        assert found and all(151 - (last - start) // 2 == number for start, number in found if start > 11)


def test_one_head_has_neither_layers_nor_a_matrix() -> None:
    lines = lines_of(found_at(), part=(1, 1))
    assert "entropy 3.58 bits (perplexity 12)" in lines
    assert not any(line.startswith(("By ", "Every ")) or "rollout" in line for line in lines)


# --- whatever the window ----------------------------------------------------------------------------------------------


def drawn(lines: Sequence[str]) -> list[str]:
    """What must line up: the text with its digits, the tables, the matrix; not the sentences around them."""
    start = next(n for n, line in enumerate(lines) if line.startswith(("Attention received", "各トークンが受けた"))) + 1
    stop = next(n for n, line in enumerate(lines) if line.startswith(("Digit:", "数字は")))
    found = [line for line in lines[start:stop] if not line.startswith(("(earlier", "（これより"))]
    for names in (("strongest", "割合の大きい"), ("By ", "層ごと", "ヘッドごと"), ("Rows: ", "行は")):
        for n, line in enumerate(lines):
            if line.strip().startswith(names):
                found += [row for row in lines[n : lines.index("", n)] if row.startswith(" ")]
    return found


@pytest.mark.parametrize("columns", [40, 44, 60, 79, 80, 100, 160])
def test_tables_fit(columns: int) -> None:
    toy = toy_model(block_size=128).score("私は猫、犬。abc \nかきくけこ" * 5, capture=("attention",))
    for found in (found_at(), found_at(0), attention(toy, 5), attention(toy, len(toy) - 1)):
        for lang in ("en", "ja"):
            for part in ((), (1,), (0, 1)):
                lines = lines_of(found, Look(lang, columns), part)
                rows = drawn(lines)
                assert len(rows) >= (3 if len(part) == 2 else 9) and max(map(cell_len, rows)) <= columns
                if columns >= 100:
                    assert max(map(cell_len, lines)) <= columns


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_columns_line_up_in_a_terminal(lang: str) -> None:
    shares = set[tuple[int, ...]]()
    for line in block(lines_of(found_at(), Look(lang, 80)), "strongest" if lang == "en" else "割合の大きい")[:11]:
        screen = pyte.Screen(80, 2)
        pyte.Stream(screen).feed(line)
        shares.add(tuple(x for x in range(80) if screen.buffer[0][x].data == "%"))
    assert len(shares) == 1 and len(next(iter(shares))) == 2


@pytest.mark.slow
def test_no_width_is_a_crash() -> None:
    for columns in range(1, 160):
        look = Look("ja" if columns % 2 else "en", columns, plain=columns % 7 == 0)
        for index, part in ((0, ()), (1, (0, 1)), (11, ()), (11, (1,))):
            lines_of(found_at(index), look, part)


def test_nothing_but_text_leaves() -> None:
    for index in range(12):
        for look in (EN, replace(EN, plain=True), Look("ja", 40, g.ASCII)):
            for part in ((), (0,), (1, 1)):
                text = "\n".join(lines_of(found_at(index), look, part))
                assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e]", text)


def test_a_special_token_is_never_a_text() -> None:
    trace = golden_inside(prompt_ids=(0, 9))
    lines = lines_of(attention(trace, 1))
    assert any(line.startswith("[special] <|endoftext|>あ") for line in lines)


def test_past_the_context_is_said() -> None:
    found = attention(golden_inside(context=5), 8)
    for look in (EN, replace(EN, plain=True)):
        lines = lines_of(found, look)
        assert "The context window starts at token 5." in lines
        assert "No rollout: the context window has moved, so earlier rows do not belong to this step." in lines
        assert not any("by rollout" in line for line in lines)
    assert {int(row.split()[0]) for row in table(lines_of(found))} == {5, 6, 7, 8, 9}


def test_a_failed_check_is_never_hidden() -> None:
    checks = (
        SelfCheck("attention_rows_sum_to_1", 1e-8, 1e-6),
        SelfCheck("other", 0.0, 1.0),
        SelfCheck("bad", 2.0, 1.0),
    )
    lines = [line.plain for line in meaning_lines(checks, EN)]
    assert [line for line in lines if "attention rows sum to 1" in line] and not any("other" in line for line in lines)
    assert any(line.startswith("SELF-CHECK FAILED bad") for line in lines)


def test_for_screen_readers_no_pictures() -> None:
    for part in ((), (1,), (1, 0)):
        lines = lines_of(found_at(), replace(EN, plain=True, top=12), part)
        assert not re.search("[░▒▓█►]", "\n".join(lines))
        keys = [line for line in lines if line.startswith("Token ")]
        shares = [float(re.findall(r": ([\d.]+) percent", line)[0]) for line in keys]
        assert len(keys) == 12 and abs(sum(shares) - 100) < 0.3


# --- JSON -------------------------------------------------------------------------------------------------------------


def test_document() -> None:
    trace = golden_inside()
    document = json.loads(json.dumps(attention_document(trace, found_at()), allow_nan=False))
    assert document["schema"] == "manako.attention/1" and document["ablate"] == [] and "steps" not in document
    assert document["step"]["index"] == 11 and document["step"]["chosen"]["id"] == trace.columns.token_id[11]
    assert [k["position"] for k in document["keys"]] == list(range(12))
    assert [base64.b64decode(k["bytes"]) for k in document["keys"]] == [TOKENS[i] for i in trace.all_ids[:12]]
    assert document["per_head"] == patterns(12).tolist()
    assert document["per_layer"] == found_at().per_layer.tolist() and document["mean"] == found_at().mean.tolist()
    assert document["rollout"] == pytest.approx(found_at().rollout.tolist(), abs=0)  # pyright: ignore
    assert document["rollout_lacks"] is None and document["sinks"] == [0]
    assert document["entropy_bits"] == found_at().entropy.tolist()
    moved = golden_inside(context=5)
    document = attention_document(moved, attention(moved, 8))
    assert (document["rollout"], document["rollout_lacks"]) == (None, "window")
    assert [k["position"] for k in document["keys"]] == [4, 5, 6, 7, 8]
