"""Steps beside the training text, counted by hand, and what a record and a corpus must have in common."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from golden import END_ID, TOKENS, golden_trace, large_generation, with_number
from golden_corpus import golden_corpus, trace_of_corpus

from manako.analysis.evidence import MOST, evidence
from manako.corpus.packed import PackedCorpus
from manako.errors import UsageError


@pytest.fixture
def corpus(tmp_path: Path) -> PackedCorpus:
    return golden_corpus(tmp_path / "c")


def counts(corpus: PackedCorpus, index: int, longest: int = 16) -> list[dict[int, int]]:
    return [dict(o.followers) for o in evidence(trace_of_corpus(), index, corpus, longest).occurrences]


def test_counts_by_hand(corpus: PackedCorpus) -> None:
    assert counts(corpus, 0) == [{2: 3, 0: 1, 1: 1, 9: 1}]  # 9 six times, once at the end of a document
    assert counts(corpus, 1) == [{2: 2, 0: 1, 3: 1, 10: 1}, {2: 2, 0: 1}]
    assert counts(corpus, 5) == [{0: 1, 6: 1}, *[{0: 1}] * 5]  # 9 2 2 3 4 5, a whole document
    assert counts(corpus, 9) == [{0: 2, 10: 1, 11: 1}, *[{10: 1, 11: 1}] * 3, {11: 1}]
    assert counts(corpus, 11) == [{0: 1, 1: 1}]  # 10 1 never stand together


def test_how_far_it_goes(corpus: PackedCorpus) -> None:
    found = [evidence(trace_of_corpus(), index, corpus) for index in range(12)]
    assert [each.longest for each in found] == [1, 2, 3, 4, 5, 6, 2, 3, 4, 5, 5, 1]
    assert [each.continued and each.continued.length for each in found] == [1, 2, 3, 4, 5, 1, 2, 3, 4, 4, None, 1]
    assert [o.length for o in found[5].distinct] == [1, 6]
    assert [o.length for o in found[9].distinct] == [1, 4, 5]
    assert [each.more for each in found] == [False] * 12
    assert found[3].context == (9, 2, 2, 3)


def test_no_more_is_looked_for_than_asked_and_seen(corpus: PackedCorpus) -> None:
    trace = trace_of_corpus()
    found = evidence(trace, 5, corpus, longest=2)
    assert (found.context, found.longest, found.more) == ((4, 5), 2, True)
    assert not evidence(trace, 1, corpus, longest=2).more
    trace = with_number(trace, "window_start", 5, 3)  # the window of the model begins at 3 4 5
    found = evidence(trace, 5, corpus)
    assert (found.context, found.longest, found.more) == ((3, 4, 5), 3, False)


def test_followers_are_named(corpus: PackedCorpus) -> None:
    found = evidence(trace_of_corpus(), 0, corpus)
    first, second = found.followers(found.occurrences[0], 2)
    assert (first.id, first.bytes, first.text, first.special, first.count) == (2, TOKENS[2], "[bold]", False, 3)
    assert (second.id, second.special, second.count) == (END_ID, True, 1)


def test_candidates_have_the_chosen_one_and_what_came_next_most_often(corpus: PackedCorpus) -> None:
    found = evidence(trace_of_corpus(), 9, corpus)  # 10 was taken; most often came 0, 10 and 11
    assert {c.id for c in found.candidates(1)} == {found.step.candidates[0].id, 0, 10, 11}
    ranks = [c.rank for c in found.candidates(1)]
    assert ranks == sorted(ranks)
    assert [c.rank for c in found.candidates(12)] == list(range(1, 13)) == [c.rank for c in found.candidates(99)]


def test_what_a_partial_record_lacks_is_left_out(tmp_path: Path) -> None:
    """A vocabulary of 20,000 keeps 256 candidates a step; the corpus says 9, then an id that is not among them."""
    generation = large_generation()
    list(generation)
    trace = generation.trace()
    unlisted = next(i for i in range(1, 12) if i not in trace.steps[0].listed.id.tolist() and i != 9)
    corpus = golden_corpus(tmp_path / "c", [(9, unlisted), (9, unlisted)])
    corpus.header = replace(corpus.header, tokenizer_sha256=trace.header.model.tokenizer_sha256)
    found = evidence(trace, 0, corpus)
    assert found.followers(found.occurrences[0], 1)[0].id == unlisted
    shown = found.candidates(3)
    assert [c.rank for c in shown[:3]] == [1, 2, 3] and {c.id for c in shown[3:]} <= {found.step.token_id}
    outside = next(step for step in trace if step.chosen.rank > 256)
    assert evidence(trace, outside.index, corpus).candidates(3)[-1].id == outside.token_id


def test_another_vocabulary_is_refused(corpus: PackedCorpus) -> None:
    with pytest.raises(UsageError) as caught:
        evidence(golden_trace(), 0, corpus)
    assert caught.value.key == "evidence_vocabulary" and caught.value.text("ja")


@pytest.mark.parametrize("longest", [0, -1, MOST + 1, 10**9, 1.5, "x", None])
def test_lengths_out_of_range(corpus: PackedCorpus, longest: Any) -> None:
    with pytest.raises(UsageError) as caught:
        evidence(trace_of_corpus(), 0, corpus, longest)
    assert caught.value.key == "evidence_longest" and str(longest) in str(caught.value)
    assert evidence(trace_of_corpus(), 0, corpus, MOST).longest == 1


def test_an_id_that_the_corpus_cannot_have(corpus: PackedCorpus) -> None:
    for token_id, longest in ((11, 1), (70_000, 0)):
        assert evidence(with_number(trace_of_corpus(), "prompt_ids", 0, token_id), 0, corpus).longest == longest
