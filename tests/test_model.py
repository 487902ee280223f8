"""`Model` and `load`: settings checked before any work, prompts of every kind, and windows past the context."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from toy import toy_config, toy_model, worst, worst_of_row, write_toy
from toy_llama import write_toy_llama

import manako
from manako.analysis.verification import verify
from manako.engines.generation import Generation
from manako.engines.provenance import is_of
from manako.errors import CapabilityError, LoadError, ManakoError, UsageError
from manako.families.gpt2 import NumpyGPT2
from manako.model import Model, load
from manako.sampling import Sampling, uniform
from manako.settings import check_count, check_stop
from manako.tokenizer import Tokenizer, from_characters
from manako.trace.record import Trace, Vocabulary


@pytest.fixture(scope="module")
def model() -> Model:
    return toy_model()


# --- load -------------------------------------------------------------------------------------------------------------


def test_load_opens_a_folder_by_text_or_path(tmp_path: Path) -> None:
    write_toy(tmp_path / "m")
    for ref in (str(tmp_path / "m"), tmp_path / "m"):
        opened = manako.load(ref)
        assert opened.ref == str(tmp_path / "m") and opened.notices == ()
        assert len(opened.trace("私は", max_new_tokens=2, seed=0)) == 2
    assert repr(opened) == "<Model 'm' 2 layers, 2 heads, width 12, context 16>"  # not where it lies: see model_name


@pytest.mark.parametrize(("ref", "key"), [
    ("", "ref_unknown"),
    ("no-such-folder", "ref_unknown"),
    ("org/name", "ref_maybe_hub"),
    ("./org/name", "ref_unknown"),
    ("/no/such/folder", "ref_unknown"),
    ("no\0folder", "ref_unknown"),
    ("x" * 5000, "file_unreadable"),
])  # fmt: skip
def test_a_reference_to_nothing_is_named(ref: str, key: str) -> None:
    with pytest.raises(LoadError) as caught:
        load(ref)
    assert caught.value.key == key and caught.value.exit_code == 3


def test_a_bare_hub_name_suggests_hf_and_touches_no_network() -> None:
    with pytest.raises(LoadError, match="write hf:org/name"):
        load("org/name")


@pytest.mark.parametrize("ref", ["openai:x@http://127.0.0.1:1", "openai:x@http://127.0.0.1:1/v1"])
def test_kinds_to_come_say_so(ref: str) -> None:
    with pytest.raises(CapabilityError) as caught:
        load(ref)
    assert caught.value.exit_code == 4


def test_files_instead_of_folders(tmp_path: Path) -> None:
    for name, key in (("m.pt", "ref_is_pickle"), ("m.bin", "ref_is_pickle"), ("m.txt", "not_a_folder")):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(LoadError) as caught:
            load(tmp_path / name)
        assert caught.value.key == key
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(LoadError, match="not a model folder"):
        load(tmp_path / "pipe")


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [-1, 1.5, True, "3", float("nan")], ids=repr)
def test_a_number_of_tokens_that_makes_no_sense(model: Model, n: object) -> None:
    with pytest.raises(UsageError) as caught:
        model.trace("私", max_new_tokens=n)
    assert caught.value.key == "max_new_tokens" and caught.value.exit_code == 2


def test_whole_numbers_of_numpy_count() -> None:
    assert check_count(np.int64(3)) == 3 and type(check_count(np.int64(3))) is int


def test_zero_tokens_is_an_empty_record(model: Model) -> None:
    trace = model.trace("私は", max_new_tokens=0, seed=1)
    assert len(trace) == 0 and trace.header.end == "length" and trace.text == "私は"
    assert trace.header.self_checks == ()
    assert manako.verify(trace).rederived == 0


@pytest.mark.parametrize("n", [10**9, 10**12, 2**64 - 1], ids=["9", "12", "64 bits"])
def test_too_many_tokens_are_refused_before_the_first_step(model: Model, n: int) -> None:
    with pytest.raises(ManakoError) as caught:
        model.generate("私", max_new_tokens=n)
    assert caught.value.key == "trace_too_large" and caught.value.exit_code == 1
    assert "lower -n" in str(caught.value) and "GB" in str(caught.value)


@pytest.mark.parametrize("stop", ["。", [""], ["。", ""], [1], 5, {"a": 1}, ["\ud800"], [b"x"]], ids=ascii)
def test_stop_texts_that_make_no_sense(model: Model, stop: object) -> None:
    with pytest.raises(UsageError) as caught:
        model.trace("私", stop=stop)
    assert caught.value.key == "stop"
    caught.value.text("ja").encode()  # the message itself is printable


def test_stop_texts_may_come_from_any_iterable() -> None:
    assert check_stop(s for s in ("。", "\n")) == ("。", "\n")  # type: ignore[arg-type]


@pytest.mark.parametrize(("key", "ask"), [
    ("setting_text", lambda model: model.trace(None)),
    ("setting_text", lambda model: model.trace(b"a")),
    ("setting_text", lambda model: model.score(5)),
    ("setting_text", lambda model: model.evaluate(None)),
    ("setting_text", lambda model: model.fork(model.trace("私", max_new_tokens=1), 0, text=5)),
    ("setting_text", lambda model: manako.compare(model, None)),
    ("view_step_number", lambda model: model.score("私は", step=1.5)),
    ("view_step_number", lambda model: model.score("私は", step=True)),
    ("view_step_number", lambda model: model.score("私は", step="x")),
    ("capture_unknown", lambda model: model.trace("私", capture=5)),
    ("ablate_form", lambda model: model.trace("私", ablate=5)),
    ("ablate_form", lambda model: manako.compare(model, "私", ablations=5)),
    ("compare_count", lambda model: manako.compare(model, "私", temperatures=0.8)),
    ("order_unknown", lambda model: model.trace("私", order="tmp")),
    ("setting_type", lambda model: model.trace("私", sampling={"top_k": 3})),
    ("setting_type", lambda model: model.trace("私", {"seed": 1})),
    ("setting_type", lambda model: model.generate("私", {})),
    ("setting_type", lambda model: model.generate("私", Sampling())),
    ("setting_type", lambda model: model.fork("a.manako", 0)),
    ("setting_type", lambda model: model.recomputed(None)),
    ("setting_type", lambda model: manako.verify("a.manako")),
    ("setting_type", lambda model: manako.evidence("a.manako", 0, "corpus")),
    ("setting_type", lambda model: manako.tokens("demo", "私")),
    ("setting_type", lambda model: manako.tokens(model, "私")),
])  # fmt: skip
def test_a_value_of_another_type_is_told_like_one_out_of_range(
    model: Model, key: str, ask: Callable[[Any], object]
) -> None:
    with pytest.raises(UsageError) as refused:
        ask(model)
    assert refused.value.key == key


def test_ids_that_are_none_are_refused(model: Model) -> None:
    last, context = model.config.vocab_size - 1, model.config.block_size
    for ids, key in (([-1, 5], "token_ids"), ([last + 1], "token_ids"), ([1.5], "token_ids"), ([], "token_ids_count"),
                     (range(context + 1), "token_ids_count"), ("私", "token_ids")):  # fmt: skip
        with pytest.raises(UsageError) as refused:
            model.rows(ids)  # type: ignore[arg-type]
        assert refused.value.key == key
        if key == "token_ids":
            for ask in (model.evaluate_ids, model.tokenizer.decode):
                with pytest.raises(UsageError) as refused:
                    ask([0, 5, *ids])  # type: ignore[misc]
                assert refused.value.key == key
    for ids in ([5, last], range(context)):
        rows = model.rows(ids)
        assert rows.shape == (len(ids), last + 1) and (rows == model.rows(np.array(ids, dtype=np.uint64))).all()
    assert model.evaluate_ids(np.arange(9, dtype=np.uint64)) == model.evaluate_ids([*range(9)])


def test_a_row_beyond_the_tokenizer_can_be_read_and_no_text_has_it() -> None:
    model = toy_model(vocab_size=toy_config().vocab_size + 40, start_id=None)
    beyond = model.tokenizer.vocab_size
    assert model.rows([beyond]).shape == (1, model.config.vocab_size)
    for ask in (model.evaluate_ids, model.tokenizer.decode):
        with pytest.raises(UsageError, match=f"0 to {beyond - 1}"):
            ask([1, beyond])


def test_one_name_alone_is_a_list_of_it(model: Model) -> None:
    assert model.trace("私", max_new_tokens=1, ablate="head:1.0", capture="lens").header.ablate == ("head:1.0",)
    compared = manako.compare(model, "私", ablations=["mlp:0", ["head:1.0", "mlp:1"]], max_new_tokens=1)
    assert compared.ablations == ((), ("mlp:0",), ("head:1.0", "mlp:1"))


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, "x", True], ids=repr)
def test_seed_out_of_range(model: Model, seed: object) -> None:
    with pytest.raises(UsageError) as caught:
        model.trace("私", seed=seed)
    assert caught.value.key == "seed"


def test_the_largest_seed_works_and_is_kept(model: Model) -> None:
    for seed in (0, 2**64 - 1):
        assert model.trace("私", seed=seed, max_new_tokens=1).header.seed == seed


def test_settings_are_checked_before_anything_is_computed(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NumpyGPT2, "forward", lambda *_: pytest.fail("the model ran"))
    bad = [{"temperature": -1}, {"top_k": 0}, {"top_p": 0}, {"nonsense": 1}, {"order": ("top_k",)}, {"top_p": "a"}]
    for settings in bad:
        with pytest.raises(UsageError):
            model.trace("私", **settings)
    with pytest.raises(UsageError) as caught:
        model.trace("私", sampling=Sampling(temperature=1), top_k=3)
    assert caught.value.key == "sampling_twice"


def test_capture_says_what_it_can_give(model: Model) -> None:
    assert model.captures == ("attention", "lens", "contributions", "residual")
    with pytest.raises(UsageError) as unknown:
        model.trace("私", capture=("attention", "dreams"))
    assert unknown.value.key == "capture_unknown" and "dreams" in str(unknown.value)
    blind = toy_model(attention=False)
    assert blind.captures == ("lens", "contributions", "residual")
    with pytest.raises(CapabilityError) as caught:
        blind.trace("私", capture=("attention",))
    assert caught.value.exit_code == 4 and "without attention" in str(caught.value) and "lens" in str(caught.value)


def test_no_seed_means_a_fresh_one_that_is_on_record(model: Model) -> None:
    traces = [model.trace("私", max_new_tokens=3) for _ in range(4)]
    assert len({t.header.seed for t in traces}) > 1
    again = model.trace("私", max_new_tokens=3, seed=traces[0].header.seed)
    assert again.columns.token_id.tolist() == traces[0].columns.token_id.tolist()


# --- prompts ----------------------------------------------------------------------------------------------------------


def test_an_empty_prompt_starts_from_the_document_start(model: Model) -> None:
    trace = model.trace("", max_new_tokens=3, seed=0)
    assert trace.columns.prompt_ids.tolist() == [0] and trace.header.prompt == ""
    assert 0 in trace.header.special_ids and "<|endoftext|>" not in trace.text


def test_without_a_start_token_it_asks_for_a_character() -> None:
    with pytest.raises(UsageError) as caught:
        toy_model(from_characters("あい")).trace("")
    assert caught.value.key == "prompt_empty" and caught.value.exit_code == 2


def test_unknown_characters_become_their_bytes_and_come_back(model: Model) -> None:
    prompt = "龘😀€"
    trace = model.trace(prompt, max_new_tokens=0)
    assert trace.columns.prompt_ids.tolist() == [1 + b for b in prompt.encode()]
    assert trace.text == prompt != "\n\n\n"


def test_a_vocabulary_without_bytes_names_each_character() -> None:
    model = toy_model(from_characters("あい"))
    with pytest.raises(UsageError) as caught:
        model.trace("あ龘い😀")
    assert "龘 U+9F98 (2), 😀 U+1F600 (4)" in str(caught.value) and caught.value.exit_code == 2


def test_a_lone_surrogate_is_refused_with_its_place(model: Model) -> None:
    with pytest.raises(UsageError) as caught:
        model.trace("私は\udc8d猫")
    assert caught.value.key == "prompt_surrogate" and caught.value.values["index"] == "2"
    assert "U+DC8D" in str(caught.value)
    str(caught.value).encode()


@pytest.mark.parametrize(
    "prompt", ["\0", "\ufeff私", "私\r\n猫\r", "\x1b[2J", " ", "\u3000", "<|endoftext|>"], ids=ascii
)
def test_odd_characters_are_kept(model: Model, prompt: str) -> None:
    trace = model.trace(prompt, max_new_tokens=0)
    assert trace.text == prompt and trace.header.prompt == prompt


def test_a_prompt_longer_than_the_context_keeps_all_ids(model: Model) -> None:
    prompt = "私は猫。犬かも、いい" * 4  # 40 tokens, the model sees 16
    trace = model.trace(prompt, max_new_tokens=3, seed=0)
    assert len(trace.columns.prompt_ids) == len(prompt) + 3 * 0 + 2 * prompt.count("は") + 2 * prompt.count("も")
    length = len(trace.columns.prompt_ids)
    assert trace.columns.window_start.tolist() == [length - 16, length - 15, length - 14]
    assert trace.steps[0].text_before == prompt


# --- windows: P19, N6 -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("switches", [{}, {"residual": False}, {"norm": "post"}, {"attention": False}], ids=str)
def test_from_before_to_far_past_the_context_every_row_is_the_exact_window(switches: dict[str, object]) -> None:
    model = toy_model(block_size=24, n_embd=8, start_id=None, **switches)  # no start token: nothing ends the run
    trace = model.trace("私は", max_new_tokens=310, temperature=1.0, seed=3)
    assert len(trace) == 310
    ids, prompt = trace.all_ids.tolist(), len(trace.columns.prompt_ids)
    largest = 0.0
    for i in range(310):
        before = ids[: prompt + i]
        assert trace.columns.window_start[i] == max(0, len(before) - 24)
        fresh = model.rows(before[-24:])[-1]
        largest = max(largest, worst_of_row(trace.logits[i], fresh))
        if fresh.argmax() != trace.logits[i].argmax():
            top = np.sort(fresh)[-2:]
            assert top[1] - top[0] <= 1e-5
    assert largest <= 1e-5
    assert worst(trace.logits[300], model.rows(ids[: prompt + 300][-24:])[-1]) <= 1e-5  # P19: step 300
    assert manako.verify(trace).rederived == 310


@pytest.mark.parametrize("context", [1, 2, 3])
def test_the_smallest_contexts(context: int) -> None:
    model = toy_model(block_size=context, start_id=None)
    trace = model.trace("私は猫", max_new_tokens=8, seed=1)
    for i, step in enumerate(trace.steps):
        before = trace.all_ids[: len(trace.columns.prompt_ids) + i].tolist()
        assert step.window_start == len(before) - context
        np.testing.assert_allclose(trace.logits[i], model.rows(before[-context:])[-1], atol=1e-5)


# --- what a record says about the model -------------------------------------------------------------------------------


def test_the_record_names_model_switches_and_fingerprints(tmp_path: Path) -> None:
    checkpoint = write_toy(tmp_path / "m", residual=False, norm="post")
    trace = load(tmp_path / "m").trace("私", max_new_tokens=1)
    info = trace.header.model
    assert info.switches == ("no_residual", "norm_post") and info.model_type == "manako_gpt2_ablated"
    assert info.weights_sha256 == checkpoint.fingerprint and info.tokenizer_sha256 == checkpoint.tokenizer.fingerprint
    assert info.config["n_positions"] == 16 and "block_size" not in info.config
    assert (info.engine, info.device, info.dtype, info.stored_dtype) == ("numpy", "cpu", "float32", "float32")


def test_ids_beyond_the_tokenizer_can_be_drawn_and_shown(tmp_path: Path) -> None:
    """Padded rows: a model may have more rows than the tokenizer has tokens."""
    config = toy_config()
    model = toy_model(vocab_size=config.vocab_size + 40, start_id=None)
    trace = model.trace("私", max_new_tokens=40, temperature=5.0, seed=2)
    beyond = [s for s in trace.steps if s.token_id >= config.vocab_size]
    assert beyond and all(s.chosen.bytes == b"" and s.chosen.text == "" for s in beyond)
    trace.save(tmp_path / "t.manako")
    assert manako.open(tmp_path / "t.manako").text == trace.text


# --- going on from a record -------------------------------------------------------------------------------------------


def whole(generation: Generation) -> Trace:
    """The record of a run that has ended."""
    for _ in generation:
        pass
    return generation.trace()


SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "penalties": {"repetition_penalty": 1.5, "frequency_penalty": 0.5, "top_p": 0.9},
    "greedy": {"temperature": 0},
    "stop": {"stop": ("あ", "い", "b", "c")},
    "inside": {"capture": ("attention", "lens", "contributions", "residual")},
    "ablated": {"ablate": ("head:0.1", "mlp:1")},
    "ablated, means over the prompt": {"ablate": ("layer:1=mean",), "temperature": 1.5},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_with_nothing_changed_a_fork_draws_what_the_record_drew(name: str) -> None:
    """From every step, in the context of 16 and past it; also a fork of a fork."""
    model = toy_model(start_id=None)
    trace = model.trace("私は猫", max_new_tokens=20, seed=5, **SETTINGS[name])
    for step in range(0, len(trace), 3):
        fork = whole(model.fork(trace, step, max_new_tokens=len(trace) - step))
        assert fork.columns.token_id.tolist() == trace.columns.token_id[step:].tolist(), step
        assert fork.columns.u.tolist() == trace.columns.u[step:].tolist()
        assert fork.columns.window_start.tolist() == trace.columns.window_start[step:].tolist()
        assert fork.all_ids.tolist() == trace.all_ids.tolist() and fork.text == trace.text
        same = ("sampling", "seed", "stop", "end", "capture", "parts", "ablate", "special_ids")
        assert [getattr(fork.header, n) for n in same] == [getattr(trace.header, n) for n in same]
        assert fork.header.first_step == step and fork.header.prompt == trace.text_of(0, len(fork.columns.prompt_ids))
        np.testing.assert_allclose(fork.logits, trace.logits[step:], atol=1e-5)
        assert verify(fork).ok and all(check.ok for check in fork.header.self_checks)
        if len(fork) > 1:
            again = whole(model.fork(fork, 1, max_new_tokens=len(fork) - 1))
            assert again.header.first_step == step + 1
            assert again.columns.token_id.tolist() == trace.columns.token_id[step + 1 :].tolist()


def test_a_fork_is_saved_and_opened_and_forked_again(model: Model, tmp_path: Path) -> None:
    trace = model.trace("私は", max_new_tokens=6, seed=3)
    whole(model.fork(trace, 2, text="猫")).save(tmp_path / "fork.manako")
    fork = manako.open(tmp_path / "fork.manako")
    assert fork.header.first_step == 3 and verify(fork).ok
    again = whole(model.fork(fork, 4, max_new_tokens=3))
    assert again.header.first_step == 7 and again.columns.u.tolist() == [uniform(3, i) for i in (7, 8, 9)]


def test_what_is_forced_stands_in_front_and_takes_its_steps(model: Model) -> None:
    trace = model.trace("私は", max_new_tokens=6, seed=3)
    ids = trace.all_ids.tolist()
    front = len(trace.columns.prompt_ids) + 2
    typed = whole(model.fork(trace, 2, text="猫、龘", max_new_tokens=2))
    forced = model.tokenizer.encode("猫、龘")
    assert typed.columns.prompt_ids.tolist() == [*ids[:front], *forced] and len(forced) == 5
    assert typed.header.first_step == 2 + 5 and typed.columns.u.tolist() == [uniform(3, 7), uniform(3, 8)]
    assert typed.header.prompt == trace.text_of(0, front) + "猫、龘"
    for token_id in (forced[0], np.int64(forced[0]), 0, 1, model.tokenizer.vocab_size - 1):
        one = whole(model.fork(trace, np.int64(2), token_id=token_id, max_new_tokens=1))
        assert one.columns.prompt_ids.tolist() == [*ids[:front], int(token_id)]
        assert one.header.first_step == 3 and type(one.header.first_step) is int
    nothing = model.fork(trace, 6, max_new_tokens=0).trace()
    assert len(nothing) == 0 and nothing.columns.prompt_ids.tolist() == ids


def test_a_forced_text_goes_on_with_the_word_before_it(tmp_path: Path) -> None:
    """A vocabulary of SentencePiece puts a space before a text: a text of its own, not one behind another."""
    write_toy_llama(tmp_path / "m", vocab_size=500)
    (tmp_path / "m" / "tokenizer.json").unlink()
    (tmp_path / "m" / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')
    shutil.copy(Path(__file__).parent / "fixtures" / "sentencepiece" / "bpe.model", tmp_path / "m" / "tokenizer.model")
    model = manako.load(tmp_path / "m")
    walk, start = (model.trace(text, max_new_tokens=0, seed=0) for text in ("walk", ""))
    assert walk.header.prompt == "walk"

    def forced(trace: Trace, text: str) -> str:
        return model.fork(trace, 0, text=text, max_new_tokens=0).trace().header.prompt

    assert (forced(walk, "ing"), forced(walk, " ing")) == (" walking", " walk ing")
    assert forced(start, "ing") == " ing"  # nothing stands before it: it is the text


def test_settings_of_a_fork_are_the_record_s_own_or_given(model: Model) -> None:
    trace = model.trace("私は", max_new_tokens=4, seed=3, top_k=9, top_p=0.9, stop=("龘",), ablate=("mlp:0",))
    cooler = model.fork(trace, 1, temperature=0.1, top_k=None).trace().header
    assert cooler.sampling == replace(trace.header.sampling, temperature=0.1, top_k=None)
    assert (cooler.seed, cooler.stop, cooler.ablate, cooler.max_new_tokens) == (3, ("龘",), ("mlp:0",), 15)
    given: dict[str, Any] = {"seed": 0, "sampling": Sampling(0.5), "stop": (), "ablate": (), "capture": ("lens",)}
    other = whole(model.fork(trace, 1, max_new_tokens=2, **given)).header
    assert (other.seed, other.sampling, other.stop, other.ablate) == (0, Sampling(0.5), (), ())
    assert other.capture == ("lens",) and other.max_new_tokens == 2


def test_a_score_is_gone_on_from_with_a_fresh_seed(model: Model) -> None:
    score = model.score("私猫か。")
    forks = [whole(model.fork(score, 2, max_new_tokens=3)) for _ in range(4)]
    assert len({fork.header.seed for fork in forks}) > 1
    for fork in forks:
        assert fork.header.kind == "generation" and fork.text.startswith("私猫") and verify(fork).ok
        assert (fork.header.first_step, fork.header.sampling) == (2, Sampling(temperature=1))
    assert whole(model.fork(score, 0, seed=9, max_new_tokens=1)).header.seed == 9


@pytest.mark.parametrize(
    ("step", "settings", "key"),
    [
        *((step, {}, "fork_step") for step in (-1, 5, 10**400, 1.0, True, "1", None, float("nan"))),
        *((1, {"token_id": i}, "fork_token") for i in (-1, 277, 10**400, 1.0, True, "1")),
        (1, {"token_id": 3, "text": "私"}, "fork_twice"),
        (1, {"text": "\ud800"}, "prompt_surrogate"),
        (1, {"sampling": Sampling(temperature=1), "temperature": 1.0}, "sampling_twice"),
        (1, {"sampling": Sampling(temperature=1), "top_k": 3}, "sampling_twice"),
        (1, {"nonsense": 1}, "sampling_key"),
        (1, {"temperature": -1}, "temperature"),
        (1, {"seed": -1}, "seed"),
        (1, {"max_new_tokens": -1}, "max_new_tokens"),
        (1, {"stop": "。"}, "stop"),
        (1, {"ablate": ("mlp:2",)}, "ablate_range"),
    ],
    ids=lambda v: ascii(v)[:40],
)
def test_a_fork_that_makes_no_sense_is_refused_before_the_first_step(
    model: Model, step: object, settings: dict[str, Any], key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = model.trace("私は", max_new_tokens=4, seed=3)
    monkeypatch.setattr(NumpyGPT2, "forward", lambda *_: pytest.fail("the model ran"))
    with pytest.raises(UsageError) as caught:
        model.fork(trace, step, **settings)  # type: ignore[arg-type]
    assert caught.value.key == key and caught.value.exit_code == 2
    assert model.config.vocab_size == 277


def test_a_token_beyond_the_tokenizer_cannot_be_forced() -> None:
    """Padded rows can be drawn; nobody can mean one."""
    model = toy_model(vocab_size=toy_config().vocab_size + 40, start_id=None)
    trace = model.trace("私", max_new_tokens=2, seed=0)
    with pytest.raises(UsageError, match="0 to 276, got 277"):
        model.fork(trace, 1, token_id=277)


def test_another_model_cannot_go_on(model: Model) -> None:
    trace = model.trace("私は", max_new_tokens=4, seed=3)
    made = trace.header.model
    for other in (replace(made, weights_sha256="1" * 64), replace(made, tokenizer_sha256="1" * 64)):
        with pytest.raises(CapabilityError, match="made by a b") as caught:
            model.fork(replace(trace, header=replace(trace.header, model=replace(other, ref="a b"))), 1)
        assert caught.value.key == "fork_other_model" and caught.value.exit_code == 4 and "toy" in str(caught.value)
    for name, value in {"activation_function": "relu", "n_head": 3, "residual": False, "rope": {"theta": 5e4}}.items():
        config = {**made.config, "rope": {"theta": 1e4}, name: value}
        info = replace(model.info, config={**made.config, "rope": {"theta": 1e4}})
        assert is_of(replace(made, config=info.config), info) and not is_of(replace(made, config=config), info)
    told = {
        "end_ids": [5],
        "start_id": None,
        "trained_on": {},
        "of_an_older_version": 1,
    }  # change no number, or unknown
    assert is_of(replace(made, config={**made.config, **told}), model.info)
    assert is_of(replace(made, config={}), model.info)
    wider = Vocabulary(model.tokenizer.token_bytes, 300, frozenset())  # whose ids the model need not have
    with pytest.raises(CapabilityError):
        model.fork(replace(trace, vocabulary=wider), 1)


def test_the_mean_of_a_given_text_is_over_all_of_it_or_refused(model: Model) -> None:
    text, ablate = "私は猫、犬。あい", ["head:0.1", "mlp:0=mean"]
    scored, last = model.score(text, ablate=ablate), model.score(text, ablate=ablate, step=-1)
    assert model.recomputed(scored).error == 0 and model.recomputed(last).ok
    assert worst(last.logits[0], scored.logits[-1]) < 1e-5
    own = [model.score(text, ablate=ablate[:1], step=3), model.score(text, ablate=ablate[:1])]
    assert [model.recomputed(trace).ok for trace in own] == [True, True]
    for refused in (
        lambda: model.score(text, ablate=ablate, step=3),
        lambda: model.fork(scored, 3),
        lambda: model.fork(scored, len(scored)),
        lambda: model.fork(own[1], 3, ablate=ablate),
    ):
        with pytest.raises(UsageError, match="mlp:0=mean: its mean") as caught:
            refused()
        assert caught.value.key == "ablate_mean_text" and caught.value.exit_code == 2
    fork = whole(model.fork(scored, 3, ablate=ablate[:1], max_new_tokens=2))
    assert model.recomputed(fork).ok and worst(fork.logits[0], own[0].logits[0]) < 1e-5


@pytest.mark.parametrize("changes", [{"rope_theta": 50.0, "rms_norm_eps": 0.1}, {"rms_norm_eps": 0.1}])
def test_the_same_weights_under_another_configuration_are_another_model(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    write_toy_llama(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    path = tmp_path / "b" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    one, other = load(tmp_path / "a"), load(tmp_path / "b")
    assert one.info.weights_sha256 == other.info.weights_sha256
    one.trace("私は猫", max_new_tokens=3, seed=0).save(tmp_path / "t.manako")
    trace = manako.open(tmp_path / "t.manako")
    assert len(whole(load(tmp_path / "a").fork(trace, 1, max_new_tokens=2))) == 2
    for asked in (lambda: other.fork(trace, 1), lambda: other.recomputed(trace)):
        with pytest.raises(CapabilityError):
            asked()


def test_a_made_up_record_without_a_prompt_of_its_own(model: Model) -> None:
    trace = model.trace("私は", max_new_tokens=4, seed=3)
    steps = len(trace.columns.prompt_ids)
    made_up = replace(trace, header=replace(trace.header, first_step=steps, ablate=("mlp:0=mean",)))
    assert whole(model.fork(made_up, 0, max_new_tokens=1)).header.first_step == steps
    nothing = replace(trace, columns=replace(trace.columns, prompt_ids=trace.columns.prompt_ids[:0]))
    assert whole(model.fork(nothing, 0, max_new_tokens=1)).columns.prompt_ids.tolist() == [0]


def test_a_stop_text_may_begin_in_the_steps_before_and_does_not_stop_twice() -> None:
    model = toy_model(start_id=None)
    runs = (model.trace("私猫", max_new_tokens=8, seed=seed) for seed in range(1000))
    said = ((trace, trace.text_of(4, 7)) for trace in runs)  # of steps 2, 3 and 4
    trace, text = next((t, s) for t, s in said if len(s) == 3 and "‹" not in t.text and t.text.count(s) == 1)
    for step, length in ((2, 3), (3, 2), (4, 1), (5, 3)):
        fork = whole(model.fork(trace, step, stop=(text,), max_new_tokens=3))
        assert (len(fork), fork.header.end) == (length, "stop" if step < 5 else "length")


def test_unknown_text_stays_in_the_text_that_is_shown() -> None:
    """<unk> takes the place of characters; other special tokens are no part of a text."""
    rust = tokenizers.Tokenizer(tokenizers.models.WordLevel({"<unk>": 0, "猫": 1, "<s>": 2}, unk_token="<unk>"))
    rust.pre_tokenizer = tokenizers.pre_tokenizers.Split("", "isolated")
    rust.add_special_tokens(["<unk>", "<s>"])
    trace = toy_model(Tokenizer(rust.to_str()), start_id=2).trace("の猫", max_new_tokens=1)
    assert trace.columns.prompt_ids.tolist() == [0, 1] and trace.header.special_ids == (2,)
    assert trace.steps[0].text_before == "<unk>猫" and trace.header.prompt == "の猫"
