"""Scoring: windows that score each token once with enough before it (N5), and losses against brute force."""

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers
from toy import toy_model, toy_tokenizer

from manako.engines.scoring import Given, evaluate, scored_rows, surprisals
from manako.engines.session import Session
from manako.errors import ManakoError, UsageError
from manako.model import Model
from manako.sampling import Sampling
from manako.tokenizer import Tokenizer, from_characters, from_merges


class Windows:
    """Rows that say what they were computed from: (last token seen, tokens seen)."""

    def __init__(self, context: int) -> None:
        self.context = context

    def rows(self, ids: Sequence[int], keep: Any = None) -> np.ndarray:
        assert 1 <= len(ids) <= self.context
        return np.array([[t, n + 1, len(ids)] for n, t in enumerate(ids)], dtype=np.float32)


@settings(max_examples=300)
@given(st.integers(2, 200), st.integers(1, 70))
def test_every_token_is_scored_once_with_half_a_context_before_it(length: int, context: int) -> None:
    text = list(range(length))
    scored = []
    for part in scored_rows(Windows(context), text):
        assert len(part.targets) == len(part.rows) > 0
        for target, (last_seen, seen, _) in zip(part.targets.tolist(), part.rows.tolist(), strict=True):
            assert last_seen == target - 1  # its row follows the token right before it
            assert seen == target - part.window_start  # and everything from the window's start
            assert seen >= min(target, (context + 1) // 2)
            scored.append(target)
    assert scored == text[1:]


@pytest.mark.parametrize("context", [1, 2, 3, 4, 16, 64])
def test_the_smallest_texts(context: int) -> None:
    for length in (0, 1):
        assert list(scored_rows(Windows(context), list(range(length)))) == []
    for length in range(2, 3 * context + 3):
        assert sum(len(p.targets) for p in scored_rows(Windows(context), list(range(length)))) == length - 1


def test_windows_are_no_more_than_needed() -> None:
    parts = list(scored_rows(Windows(64), list(range(1000))))
    assert len(parts) <= 1 + math.ceil((1000 - 65) / 32)


def brute_force(model: Model, ids: Sequence[int]) -> list[float]:
    """Surprisal in nats of ids[1:], each from a window of its own, in float64 with Python's fsum."""
    context, found = model.config.block_size, []
    starts = {}
    for part in scored_rows(Windows(context), range(len(ids))):
        starts |= {int(t): part.window_start for t in part.targets}
    for i in range(1, len(ids)):
        row = model.rows(ids[starts[i] : i])[-1].astype(np.float64).tolist()
        top = max(row)
        found.append(top + math.log(math.fsum(math.exp(v - top) for v in row)) - row[ids[i]])
    return found


@pytest.mark.parametrize("context", [1, 2, 5, 16])
def test_evaluate_equals_brute_force(context: int) -> None:
    model = toy_model(block_size=context)
    text = "私は猫。犬かも、いいえ龘😀\n" * 4
    ids = [0, *model.tokenizer.encode(text)]
    nats = brute_force(model, ids)
    result = model.evaluate(text)
    assert result.tokens == len(ids) - 1 and result.characters == len(text)
    assert result.loss == pytest.approx(math.fsum(nats) / len(nats), rel=1e-6)
    assert result.perplexity == pytest.approx(math.exp(result.loss), rel=1e-12)
    assert result.bits_per_character == pytest.approx(math.fsum(nats) / math.log(2) / len(text), rel=1e-6)
    assert result.bits_per_byte == pytest.approx(math.fsum(nats) / math.log(2) / len(text.encode()), rel=1e-6)


def test_without_a_start_token_the_first_token_is_context_alone() -> None:
    tokenizer = from_characters("あいう。")
    model = toy_model(tokenizer)
    text = "いあう。あ" * 5
    ids = tokenizer.encode(text)
    nats = brute_force(model, ids)
    result = model.evaluate(text)
    assert (result.tokens, result.characters) == (24, 24)
    assert result.bits_per_byte == pytest.approx(math.fsum(nats) / math.log(2) / 72, rel=1e-6)
    trace = model.score(text)
    assert len(trace) == 24 and trace.columns.prompt_ids.tolist() == ids[:1] and trace.text == text
    assert trace.header.prompt == "い"


@pytest.mark.parametrize("start", [True, False])
def test_the_record_of_a_score_holds_the_row_rank_and_surprisal_of_each_token(start: bool) -> None:
    tokenizer = None if start else from_characters("あいう。")
    model = toy_model(tokenizer)
    text = "いあう。あ" * 6  # longer than the context of 16
    ids = ([0] if start else []) + model.tokenizer.encode(text)
    trace = model.score(text)
    assert len(trace) == len(ids) - 1 and trace.columns.token_id.tolist() == ids[1:]
    assert trace.header.kind == "score" and trace.header.end == "text" and trace.header.seed is None
    nats = brute_force(model, ids)
    for i, step in enumerate(trace.steps):
        window = ids[step.window_start : i + 1]
        assert len(window) >= min(i + 1, 8)
        row = model.rows(window)[-1]
        np.testing.assert_allclose(trace.logits[i], row, atol=1e-5)
        kept = trace.logits[i]
        chosen = ids[i + 1]
        order = sorted(range(len(kept)), key=lambda j: (-kept[j], j))
        assert step.chosen.rank == order.index(chosen) + 1
        assert step.surprisal == pytest.approx(nats[i] / math.log(2), rel=1e-5)
        assert step.u is None and step.chosen.id == chosen
    assert trace.header.sampling == Sampling(temperature=1)


def test_evaluate_and_the_record_agree() -> None:
    model, text = toy_model(), "私は猫。犬かも、いいえ" * 5
    bits = sum(step.surprisal for step in model.score(text))
    assert model.evaluate(text).bits_per_character == pytest.approx(bits / len(text), rel=1e-9)


@pytest.mark.parametrize("text", ["", "あ"])
def test_nothing_to_score_says_so(text: str) -> None:
    model = toy_model(from_characters("あいう。"))
    for call in (model.score, model.evaluate):
        with pytest.raises(UsageError) as caught:
            call(text)
        assert caught.value.key == "score_too_short" and caught.value.exit_code == 2


def test_one_token_is_enough_with_a_start_token() -> None:
    model = toy_model()
    assert len(model.score("あ")) == 1 and model.evaluate("あ").characters == 1
    with pytest.raises(UsageError):
        model.score("")


def test_a_token_that_the_tokenizer_put_in_front_counts_no_character() -> None:
    """A Metaspace tokenizer writes " a" for "a": one token stands before all characters, and none is skipped."""
    metaspace = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True}
    spec = json.loads(from_characters(["\u2581", "a", "b"]).source)
    spec["pre_tokenizer"] = spec["decoder"] = metaspace
    model = toy_model(Tokenizer(json.dumps(spec)))
    assert model.tokenizer.decode(model.tokenizer.encode("a")) == b" a"
    result = model.evaluate("a")
    assert (result.tokens, result.characters) == (1, 1) and math.isfinite(result.bits_per_byte)


def word_piece() -> Tokenizer:
    """Lower case, accents dropped, spaces and newlines alike, one <unk> for a whole word; no token starts a text."""
    words = ["the", "rain", "##ed", "cafe", "[UNK]"]
    rust = tokenizers.Tokenizer(models.WordPiece({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    rust.normalizer, rust.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    rust.decoder = decoders.WordPiece()
    rust.add_special_tokens(["[UNK]"])
    return Tokenizer(rust.to_str())


def compatible() -> Tokenizer:
    """NFKC makes one character into several."""
    rust = tokenizers.Tokenizer(models.BPE({ch: i for i, ch in enumerate("株式会社あ1")}, []))
    rust.normalizer = normalizers.NFKC()
    return Tokenizer(rust.to_str())


def halves() -> Tokenizer:
    """Each character in its bytes, and one token that ends a character and begins the next."""
    merges = [(0xE3, 0x81)]
    return from_merges([*(bytes([b]) for b in range(256)), b"\xe3\x81"], merges)


@pytest.mark.parametrize(("make", "text", "counted", "unknown"), [
    (word_piece, "the\n\nRained café", " rained café", 0),  # the first word is context; two newlines came as one space
    (word_piece, "the rain 猫猫 dog the", " rain the", 5),
    (word_piece, "the 猫", "", 1),
    (compatible, "あ㍿１", "㍿１", 0),
    (halves, "あい", "い", 0),  # the first token is two thirds of a character
    (halves, "aあ", "あ", 0),
], ids=lambda value: getattr(value, "__name__", str(value)))  # fmt: skip
def test_only_characters_that_were_predicted_count(make: Any, text: str, counted: str, unknown: int) -> None:
    tokenizer = make()
    model, result = toy_model(tokenizer, start_id=None), toy_model(tokenizer, start_id=None).evaluate(text)
    known = [step for step in model.score(text) if step.token_id != tokenizer.unknown_id]
    bits = sum(step.surprisal for step in known)
    assert (result.characters, result.unknown_characters) == (len(counted), unknown)
    assert result.bits_per_character == (pytest.approx(bits / len(counted), rel=1e-6) if counted else None)
    assert result.bits_per_byte == (pytest.approx(bits / len(counted.encode()), rel=1e-6) if counted else None)


def test_what_stands_before_a_text_is_not_scored() -> None:
    spec = json.loads(toy_tokenizer().source)
    single = [{"SpecialToken": {"id": "x", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    special = {"x": {"id": "x", "ids": [0, 265], "tokens": ["x", "x"]}}
    template = {"type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": special}
    model = toy_model(Tokenizer(json.dumps(spec | {"post_processor": template})))
    trace = model.score("猫。")
    assert trace.columns.prompt_ids.tolist() == [0, 265] and len(trace) == 2
    assert model.evaluate("猫。").tokens == 2 and model.evaluate("猫").characters == 1


def test_surprisals_of_huge_and_cut_logits() -> None:
    rows = np.array([[1000.0, -1000.0], [0.0, -np.inf]])
    assert surprisals(rows, np.array([1, 0])).tolist() == [2000.0, 0.0]


def test_a_loss_too_large_for_a_float_is_an_infinite_perplexity() -> None:
    class Sure:
        context = 4

        def rows(self, ids: Sequence[int], keep: Any = None) -> np.ndarray:
            return np.tile(np.array([[2000.0, 0.0]], dtype=np.float32), (len(ids), 1))

    result = evaluate(Sure(), Given("ab", [0, 1, 1], 1, [(0, 0), (0, 1), (1, 2)]))
    assert result.loss == 2000 and result.perplexity == math.inf


def test_an_unknown_token_of_a_corpus_counts_neither_as_text_nor_as_surprisal() -> None:
    model = toy_model(word_piece(), start_id=None)
    text = "the rain 猫猫 dog the"
    ids = model.score(text).all_ids.tolist()
    of_text, of_ids = model.evaluate(text), model.evaluate_ids(ids)
    assert (of_ids.tokens, of_ids.unknown_characters) == (2, ids.count(model.tokenizer.unknown_id)) == (2, 3)
    assert of_ids.bits_per_character == pytest.approx(of_text.bits_per_character, rel=1e-6)
    assert of_ids.characters == of_text.characters


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_score_nothing(monkeypatch: pytest.MonkeyPatch, bad: float) -> None:
    """The first of them is named, whoever asks: for the figures, of a corpus too, for the record, for its last step."""
    text, model = "私は猫である。" * 4 + "犬" + "私は猫である。" * 4, toy_model()
    ids = model.score(text).all_ids.tolist()
    [dog] = model.tokenizer.encode("犬")
    rows, last = Session.rows, Session.uncached_logits

    def broken_rows(self: Session, ids: Sequence[int], keep: Any = None) -> Any:
        return np.where((np.asarray(ids) == dog)[:, None], np.float32(bad), rows(self, ids, keep))

    def broken_last(self: Session, ids: Sequence[int], keep: Any = None) -> Any:
        return np.where(ids[-1] == dog, np.float32(bad), last(self, ids, keep))

    monkeypatch.setattr(Session, "rows", broken_rows)
    monkeypatch.setattr(Session, "uncached_logits", broken_last)
    monkeypatch.setattr(Session, "first_bad_layer", lambda self, seen: {dog: 2}[seen[-1]])
    after = ids.index(dog) + 1
    askers: list[Callable[[], object]] = [
        lambda: model.evaluate(text),
        lambda: model.evaluate_ids(ids),
        lambda: model.score(text),
        lambda: model.score(text, step=after - 1),
    ]
    for ask in askers:
        with pytest.raises(ManakoError) as caught:
            ask()
        assert caught.value.key == "score_not_finite"
        assert caught.value.values == {"tokens": str(after), "layer": "2"}
    assert model.score(text, step=after).steps[0].number == after + 1  # the row after the next token is a good one
