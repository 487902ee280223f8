"""`Model` and `load`: settings checked before any work, prompts of every kind, and windows past the context."""

import os
from pathlib import Path

import numpy as np
import pytest
from toy import toy_config, toy_model, worst, worst_of_row, write_toy

import manako
from manako.engines.model import Model, check_count, check_stop, load
from manako.engines.numpy_gpt2 import NumpyGPT2
from manako.errors import CapabilityError, LoadError, ManakoError, UsageError
from manako.sampling import Sampling
from manako.tokenizer import from_characters


@pytest.fixture(scope="module")
def model() -> Model:
    return toy_model()


# --- load -------------------------------------------------------------------------------------------------------------


def test_p21_load_opens_a_folder_by_text_or_path(tmp_path: Path) -> None:
    write_toy(tmp_path / "m")
    for ref in (str(tmp_path / "m"), tmp_path / "m"):
        opened = manako.load(ref)
        assert opened.ref == str(tmp_path / "m") and opened.notices == ()
        assert len(opened.trace("私は", max_new_tokens=2, seed=0)) == 2
    assert "2 layers, 2 heads, width 12, context 16" in repr(opened)


@pytest.mark.parametrize(("ref", "key"), [
    ("", "ref_unknown"),
    ("no-such-folder", "ref_unknown"),
    ("org/name", "ref_maybe_hub"),
    ("./org/name", "ref_unknown"),
    ("/no/such/folder", "ref_unknown"),
    ("no\0folder", "ref_unknown"),
    ("x" * 5000, "file_unreadable"),
])  # fmt: skip
def test_p21_a_reference_to_nothing_is_named(ref: str, key: str) -> None:
    with pytest.raises(LoadError) as caught:
        load(ref)
    assert caught.value.key == key and caught.value.exit_code == 3


def test_p21_a_bare_hub_name_suggests_hf_and_touches_no_network() -> None:
    with pytest.raises(LoadError, match="write hf:org/name"):
        load("org/name")


@pytest.mark.parametrize("ref", ["openai:x@http://127.0.0.1:1", "openai:x@http://127.0.0.1:1/v1"])
def test_p21_kinds_to_come_say_so(ref: str) -> None:
    with pytest.raises(CapabilityError) as caught:
        load(ref)
    assert caught.value.exit_code == 4


def test_p21_files_instead_of_folders(tmp_path: Path) -> None:
    for name, key in (("m.pt", "ref_is_pickle"), ("m.bin", "ref_is_pickle"), ("m.txt", "not_a_folder")):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(LoadError) as caught:
            load(tmp_path / name)
        assert caught.value.key == key
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(LoadError, match="not a model folder"):
        load(tmp_path / "pipe")


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [-1, 1.5, True, "3", None, float("nan")], ids=repr)
def test_p10_a_number_of_tokens_that_makes_no_sense(model: Model, n: object) -> None:
    with pytest.raises(UsageError) as caught:
        model.trace("私", max_new_tokens=n)
    assert caught.value.key == "max_new_tokens" and caught.value.exit_code == 2


def test_p10_whole_numbers_of_numpy_count() -> None:
    assert check_count(np.int64(3)) == 3 and type(check_count(np.int64(3))) is int


def test_p10_zero_tokens_is_an_empty_record(model: Model) -> None:
    trace = model.trace("私は", max_new_tokens=0, seed=1)
    assert len(trace) == 0 and trace.header.end == "length" and trace.text == "私は"
    assert trace.header.self_checks == ()
    assert manako.verify(trace).rederived == 0


@pytest.mark.parametrize("n", [10**9, 10**12, 10**30, 10**400], ids=["9", "12", "30", "400"])
def test_p10_too_many_tokens_are_refused_before_the_first_step(model: Model, n: int) -> None:
    with pytest.raises(ManakoError) as caught:
        model.generate("私", max_new_tokens=n)
    assert caught.value.key == "trace_too_large" and caught.value.exit_code == 1
    assert "lower -n" in str(caught.value) and "GB" in str(caught.value)


@pytest.mark.parametrize("stop", ["。", [""], ["。", ""], [1], 5, None, ["\ud800"], [b"x"]], ids=ascii)
def test_p12_stop_texts_that_make_no_sense(model: Model, stop: object) -> None:
    with pytest.raises(UsageError) as caught:
        model.trace("私", stop=stop)
    assert caught.value.key == "stop"
    caught.value.text("ja").encode()  # the message itself is printable


def test_p12_stop_texts_may_come_from_any_iterable() -> None:
    assert check_stop(s for s in ("。", "\n")) == ("。", "\n")  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, "x", True], ids=repr)
def test_p11_seed_out_of_range(model: Model, seed: object) -> None:
    with pytest.raises(UsageError) as caught:
        model.trace("私", seed=seed)
    assert caught.value.key == "seed"


def test_p11_the_largest_seed_works_and_is_kept(model: Model) -> None:
    for seed in (0, 2**64 - 1):
        assert model.trace("私", seed=seed, max_new_tokens=1).header.seed == seed


def test_p2_settings_are_checked_before_anything_is_computed(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NumpyGPT2, "forward", lambda *_: pytest.fail("the model ran"))
    bad = [{"temperature": -1}, {"top_k": 0}, {"top_p": 0}, {"nonsense": 1}, {"order": ("top_k",)}, {"top_p": "a"}]
    for settings in bad:
        with pytest.raises(UsageError):
            model.trace("私", **settings)
    with pytest.raises(UsageError) as caught:
        model.trace("私", sampling=Sampling(), top_k=3)
    assert caught.value.key == "sampling_twice"


def test_p22_capture_says_what_it_can_give(model: Model) -> None:
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


def test_p14_an_empty_prompt_starts_from_the_document_start(model: Model) -> None:
    trace = model.trace("", max_new_tokens=3, seed=0)
    assert trace.columns.prompt_ids.tolist() == [0] and trace.header.prompt == ""
    assert 0 in trace.header.special_ids and "<|endoftext|>" not in trace.text


def test_p14_without_a_start_token_it_asks_for_a_character() -> None:
    with pytest.raises(UsageError) as caught:
        toy_model(from_characters("あい")).trace("")
    assert caught.value.key == "prompt_empty" and caught.value.exit_code == 2


def test_p15_unknown_characters_become_their_bytes_and_come_back(model: Model) -> None:
    prompt = "龘😀€"
    trace = model.trace(prompt, max_new_tokens=0)
    assert trace.columns.prompt_ids.tolist() == [1 + b for b in prompt.encode()]
    assert trace.text == prompt != "\n\n\n"


def test_p16_a_vocabulary_without_bytes_names_each_character() -> None:
    model = toy_model(from_characters("あい"))
    with pytest.raises(UsageError) as caught:
        model.trace("あ龘い😀")
    assert "龘 U+9F98 at 2, 😀 U+1F600 at 4" in str(caught.value) and caught.value.exit_code == 2


def test_p17_a_lone_surrogate_is_refused_with_its_place(model: Model) -> None:
    with pytest.raises(UsageError) as caught:
        model.trace("私は\udc8d猫")
    assert caught.value.key == "prompt_surrogate" and caught.value.values["index"] == "2"
    assert "U+DC8D" in str(caught.value)
    str(caught.value).encode()


@pytest.mark.parametrize(
    "prompt", ["\0", "\ufeff私", "私\r\n猫\r", "\x1b[2J", " ", "\u3000", "<|endoftext|>"], ids=ascii
)
def test_p17_odd_characters_are_kept(model: Model, prompt: str) -> None:
    trace = model.trace(prompt, max_new_tokens=0)
    assert trace.text == prompt and trace.header.prompt == prompt


def test_p18_a_prompt_longer_than_the_context_keeps_all_ids(model: Model) -> None:
    prompt = "私は猫。犬かも、いい" * 4  # 40 tokens, the model sees 16
    trace = model.trace(prompt, max_new_tokens=3, seed=0)
    assert len(trace.columns.prompt_ids) == len(prompt) + 3 * 0 + 2 * prompt.count("は") + 2 * prompt.count("も")
    length = len(trace.columns.prompt_ids)
    assert trace.columns.window_start.tolist() == [length - 16, length - 15, length - 14]
    assert trace.steps[0].text_before == prompt


# --- windows: P19, N6 -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("switches", [{}, {"residual": False}, {"norm": "post"}, {"attention": False}], ids=str)
def test_p19_n6_from_before_to_far_past_the_context_every_row_is_the_exact_window(switches: dict[str, object]) -> None:
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
def test_p19_the_smallest_contexts(context: int) -> None:
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
