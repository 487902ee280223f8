"""A step beside the training text: golden texts, the sentences that sum it up, columns that fit, hostile tokens."""

import base64
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pyte
import pytest
from golden import TOKENS, with_number
from golden_corpus import golden_corpus, trace_of_corpus
from rich.cells import cell_len

from manako.analysis.evidence import Evidence, SearchedText, evidence
from manako.corpus.packed import PackedCorpus
from manako.sampling import Sampling
from manako.views.document import evidence_document, step_record
from manako.views.terminal import glyphs as g
from manako.views.terminal.evidence import corpus_lines, evidence_lines, meaning_lines
from manako.views.terminal.steps import Look

EN = Look("en", 80)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> PackedCorpus:
    return golden_corpus(tmp_path_factory.mktemp("golden") / "c")


def found_at(corpus: PackedCorpus, *steps: int, longest: int = 16) -> list[Evidence]:
    return [evidence(trace_of_corpus(), index, corpus, longest) for index in steps]


def lines_of(found: Evidence, look: Look) -> list[str]:
    return [line.plain for line in evidence_lines(found, look)]


def shares(lines: Sequence[str], label: str) -> list[str]:
    """The numbers of the row of a candidate."""
    row = next(line for line in lines if label in line and re.search(r"\d\. ", line))
    return row[row.index(label) + len(label) :].split()


@pytest.mark.parametrize(
    ("name", "look"),
    [
        ("evidence-en-80.txt", EN),
        ("evidence-ja-80.txt", Look("ja", 80)),
        ("evidence-ja-40.txt", Look("ja", 40, top=3)),
        ("evidence-en-120-ascii.txt", Look("en", 120, g.ASCII)),
        ("evidence-plain-en.txt", replace(EN, plain=True, top=3)),
        ("evidence-plain-ja.txt", Look("ja", 80, plain=True, top=3)),
    ],
)
def test_golden(corpus: PackedCorpus, check_golden: Callable[[str, str], None], name: str, look: Look) -> None:
    lines = [*corpus_lines(SearchedText.of(corpus), look)]
    for each in found_at(corpus, 0, 5, 9):
        lines += evidence_lines(each, look)
    lines += meaning_lines(look)
    check_golden(name, "\n".join(line.plain for line in lines) + "\n")


def test_shares_by_hand(corpus: PackedCorpus) -> None:
    """Step 10: 0, 10 and 11 come next after k = 1, two, one and one times; then 10 and 11; then 11 alone."""
    lines = lines_of(found_at(corpus, 9)[0], EN)
    heads = next(line for line in lines if "p_model" in line and "k=" in line).split()
    assert heads == ["p", "p_model", "k=1", "k=4", "k=5"]
    assert shares(lines, "'い'")[2:] == ["25.0%", "50.0%", "0%"]
    assert shares(lines, "'。'")[2:] == ["25.0%", "50.0%", "100.0%"]
    assert shares(lines, "<|endoftext|>")[2:] == ["50.0%", "0%", "0%"]
    contexts = [line.split()[:2] for line in lines if re.match(r" [1-5] ", line)]
    assert contexts == [["1", "4"], ["2", "2"], ["3", "2"], ["4", "2"], ["5", "1"]]


def test_shown_and_other_make_one(corpus: PackedCorpus) -> None:
    for found in found_at(corpus, *range(12)):
        for top in (1, 4, 12):
            lines = lines_of(found, replace(EN, columns=200, top=top))
            start = next(n for n, line in enumerate(lines) if "p_model" in line)
            stop = next(n for n, line in enumerate(lines) if line.startswith(" other"))
            table = [re.findall(r"(?:<?[\d.]+%|(?<= )-)(?= |$)", line) for line in lines[start + 1 : stop + 1]]
            assert len({len(row) for row in table}) == 1
            for column in zip(*table, strict=True):
                assert abs(sum(float(cell.strip("<%")) for cell in column if cell != "-") - 100) < 0.5


def test_what_it_adds_up_to(corpus: PackedCorpus, tmp_path: Path) -> None:
    def said(found: Evidence) -> list[str]:
        return [line for line in lines_of(found, EN) if line.startswith(("Longest", "The "))][-2:]

    at = found_at(corpus, *range(12))
    assert said(at[5])[0] == "Longest match: k = 6 (count 1), the whole context of the model."
    assert said(at[9])[0] == "Longest match: k = 5 (count 1); k = 6 never occurs."
    assert said(at[9])[1] == "The chosen 'い' followed k = 4: 1 of 2."
    assert said(at[10])[1].endswith("never followed any of them.")
    assert said(at[11])[0] == "The last two tokens never occur together: here the model generalises."
    short = found_at(corpus, 5, longest=2)[0]
    assert said(short)[0] == "Longest match: k = 2 (count 1); longer ones were not searched (--longest)."
    elsewhere = golden_corpus(tmp_path / "e", [(1, 2, 3)])
    nowhere = evidence(trace_of_corpus(), 0, elsewhere)
    assert said(nowhere)[0] == "The last token never occurs in the training text: here the model generalises."
    assert "k=" not in "\n".join(lines_of(nowhere, EN))


def test_a_length_at_the_same_places_as_a_longer_one_has_no_column(corpus: PackedCorpus) -> None:
    left_out = "Omitted: each k that occurs at exactly the same places as k + 1."
    assert left_out in lines_of(found_at(corpus, 9)[0], EN)
    assert left_out not in lines_of(found_at(corpus, 1)[0], EN)


def test_p_stands_beside_p_model_only_where_they_differ(corpus: PackedCorpus) -> None:
    trace = trace_of_corpus(sampling=Sampling(temperature=1))
    lines = lines_of(evidence(trace, 0, corpus), EN)
    assert next(line for line in lines if "p_model" in line).split() == ["p_model", "k=1"]
    lines = lines_of(found_at(corpus, 0)[0], EN)
    assert shares(lines, "‹U+3000›")[0] == "-"  # cut


@pytest.mark.parametrize("columns", [40, 44, 60, 79, 80, 100, 160])
def test_tables_fit_and_line_up(corpus: PackedCorpus, columns: int) -> None:
    for found in found_at(corpus, *range(12)):
        for lang in ("en", "ja"):
            lines = lines_of(found, Look(lang, columns))
            table = [line for line in lines if "%" in line or "k=" in line]
            assert max(map(cell_len, table)) <= columns
            for block in "\n".join(lines).split("\n\n"):
                rows = [line for line in block.split("\n") if re.search(r"\d\. .*%$", line)]
                assert len({cell_len(row) for row in rows}) <= 1
            texts = [line for line in lines if re.match(r" *\d+ +\d+  .*%", line)]
            assert len({cell_len(line[: line.index("%")]) for line in texts}) <= 1


def test_counts_of_millions_fit_in_40_columns(corpus: PackedCorpus) -> None:
    (found,) = found_at(corpus, 9)
    often = [replace(o, followers={i: n * 999_999 for i, n in o.followers.items()}) for o in found.occurrences]
    for lang in ("en", "ja"):
        lines = lines_of(replace(found, occurrences=tuple(often)), Look(lang, 40))
        assert any("3,999,996" in line for line in lines)
        assert max(cell_len(line) for line in lines if "%" in line) <= 40


def test_several_tables_hold_every_length(corpus: PackedCorpus) -> None:
    lines = lines_of(found_at(corpus, 9)[0], Look("en", 44))
    heads = [line.split() for line in lines if "p_model" in line and "k=" in line]
    assert [name for head in heads for name in head if name.startswith("k=")] == ["k=1", "k=4", "k=5"]
    assert len(heads) > 1 and sum(line.startswith("►") for line in lines) == len(heads)


def test_columns_line_up_in_a_terminal(corpus: PackedCorpus) -> None:
    lines = lines_of(found_at(corpus, 9)[0], Look("ja", 80))
    ends = set()
    for row in (line for line in lines if re.search(r"\d\. .*%$", line)):
        screen = pyte.Screen(80, 2)
        pyte.Stream(screen).feed(row)
        ends.add(max(x for x in range(80) if screen.buffer[0][x].data == "%"))
    assert len(ends) == 1


@pytest.mark.slow
def test_no_width_is_a_crash(corpus: PackedCorpus) -> None:
    found = found_at(corpus, 0, 5, 9, 11)
    for columns in range(1, 200):
        for each in found:
            lines_of(each, Look("ja" if columns % 2 else "en", columns, plain=columns % 7 == 0))


def test_nothing_but_text_leaves(corpus: PackedCorpus) -> None:
    for found in found_at(corpus, *range(12)):
        for look in (EN, replace(EN, plain=True), Look("ja", 40, g.ASCII)):
            text = "\n".join(lines_of(found, look))
            assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e]", text)


def test_the_document_start_shows_in_a_context(tmp_path: Path) -> None:
    trace = with_number(trace_of_corpus(1), "prompt_ids", 0, 0)
    lines = lines_of(evidence(trace, 0, golden_corpus(tmp_path / "c")), EN)
    row = next(line for line in lines if re.match(r" 1 +7 ", line))  # as many as documents
    assert row.endswith("'[special] <|endoftext|>'")


# --- JSON -------------------------------------------------------------------------------------------------------------


def test_document(corpus: PackedCorpus) -> None:
    trace = trace_of_corpus()
    made = evidence_document(trace, SearchedText.of(corpus), found_at(corpus, 0, 9), top=2)
    document = json.loads(json.dumps(made, allow_nan=False))
    assert document["schema"] == "manako.evidence/1" and document["prompt"]["ids"] == [9]
    assert document["corpus"] == {"digest": corpus.digest, "documents": 7, "tokens": 29}
    assert [step["index"] for step in document["steps"]] == [0, 9]
    step = document["steps"][1]
    assert list(step) == [*step_record(trace.steps[9], 2), "looked_for", "contexts"]
    assert step["looked_for"] == {"ids": [9, 2, 2, 3, 4, 5, 6, 7, 8, 10], "more": False}
    assert [c["length"] for c in step["contexts"]] == [1, 2, 3, 4, 5]
    first, last = step["contexts"][0], step["contexts"][-1]
    assert list(first) == [
        *("length", "bytes", "count", "different_followers", "followers", "chosen_count", "candidate_counts"),
    ]
    assert base64.b64decode(last["bytes"]) == b"".join(TOKENS[i] for i in (5, 6, 7, 8, 10))
    assert (first["count"], first["different_followers"], first["chosen_count"]) == (4, 3, 1)
    assert [(f["id"], f["count"]) for f in first["followers"]] == [(0, 2), (10, 1)]  # the two most frequent
    by_id = dict(zip((c["id"] for c in step["candidates"]), first["candidate_counts"], strict=True))
    assert {i: n for i, n in by_id.items() if n} == {0: 2, 10: 1, 11: 1}
    assert len(step["candidates"]) + step["other"]["count"] == 12
