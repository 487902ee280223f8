"""Two models on one text: what is between two shared borders, whole characters, and the bits of whole tokens."""

import json
import math
from dataclasses import replace

import pytest
from toy import toy_model

from manako.analysis.aligned import Aligned, aligned
from manako.errors import UsageError
from manako.model import Model
from manako.tokenizer import from_merges, train_character_bpe
from manako.trace.record import Vocabulary
from manako.views.document import aligned_document
from manako.views.terminal.aligned import aligned_lines
from manako.views.terminal.steps import Look

TEXT = "私は猫、猫は私。abc 眼"
BYTES = [bytes([b]) for b in range(256)]


def bpe_model() -> Model:
    return toy_model(train_character_bpe([f"{TEXT}\n" * 20], 272), seed=3, block_size=40)


def both(text: str, one: Model, other: Model) -> Aligned:
    return aligned(text, one.score(text), other.score(text))


def test_the_parts_are_the_text_and_their_bits_those_of_its_tokens() -> None:
    one, other = toy_model(block_size=40), bpe_model()
    found = both(TEXT, one, other)
    assert "".join(stretch.text for stretch in found.stretches) == TEXT and found.given == ""
    assert found.characters == len(TEXT) and found.tokens(0) > found.tokens(1) == len(other.tokenizer.encode(TEXT))
    for n, model in enumerate((one, other)):
        assert found.bits_per_character(n) == pytest.approx(model.evaluate(TEXT).bits_per_character, rel=1e-6)
    steps = other.score(TEXT).steps
    at = 0
    for stretch in found.stretches:
        assert stretch.tokens[0] and stretch.tokens[1]
        tokens = steps[at : at + stretch.tokens[1]]
        at += stretch.tokens[1]
        assert b"".join(step.chosen.bytes for step in tokens).decode() == stretch.text
        assert stretch.bits[1] == pytest.approx(sum(-math.log2(step.chosen.p_model) for step in tokens), rel=1e-12)
        assert stretch.difference == stretch.bits[1] - stretch.bits[0]


def test_a_border_inside_of_a_character_divides_nothing() -> None:
    """眼 is three bytes for the one, and 眼's last byte and "a" one token for the other: both end after its second."""
    vocab = [*BYTES, "眼".encode()[:2], "眼".encode()[2:] + b"a"]
    split = toy_model(from_merges(vocab, [(0xE7, 0x9C), (0xBC, ord("a"))]), start_id=None, block_size=40)
    found = both("ab眼ab", split, toy_model(block_size=40))
    assert [stretch.text for stretch in found.stretches] == ["b", "眼a", "b"]
    assert found.stretches[1].tokens == (2, 4)
    assert found.given == "a"  # the first has no token in front of a text, so its first one is context alone


def test_a_text_that_one_of_them_reads_as_another_is_refused() -> None:
    model = toy_model(block_size=40)
    trace = model.score(TEXT)
    with pytest.raises(UsageError, match="another one"):
        aligned(TEXT + "x", trace, trace)
    known, size = trace.vocabulary.spelled(range(trace.vocabulary.size)), trace.vocabulary.size
    special = Vocabulary(known, size, frozenset(trace.all_ids.tolist()))
    with pytest.raises(UsageError, match="another one"):
        aligned(TEXT, trace, replace(trace, vocabulary=special))


def test_nothing_left_to_compare_is_said() -> None:
    one, other = toy_model(start_id=None, block_size=40), toy_model(block_size=40)
    with pytest.raises(UsageError, match="nothing to score"):
        both("a", one, other)


def test_what_a_model_holds_for_impossible_takes_infinitely_many_bits() -> None:
    trace = toy_model(block_size=40).score(TEXT)
    never = replace(trace, columns=replace(trace.columns, p_model=trace.columns.p_model * (trace.columns.rank == 1)))
    found = aligned(TEXT, trace, never)
    assert math.isfinite(found.bits(0)) and found.bits(1) == math.inf
    assert "inf" in "\n".join(line.plain for line in aligned_lines(found, Look()))
    assert json.loads(json.dumps(aligned_document(found), allow_nan=False))["bits_per_character"][1] is None
