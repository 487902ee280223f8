"""Training end to end at toy size: it learns, stops cleanly, leaves a folder that opens, and is the same twice."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy import worst

import manako
from manako import messages
from manako.checkpoint import ModelConfig, read_checkpoint, start_id_of
from manako.corpus.documents import Document
from manako.errors import ManakoError, UsageError
from manako.tokenizer import Tokenizer, train_characters
from manako.training import loop
from manako.training.loop import TrainingConfig, encode_corpus, train
from manako.training.model import GPT

TEXT = "私は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。\n" * 40
HELD_OUT = "私は猫。名前は無い。どこで生れたか。\n" * 8


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(loop, "_avoid_page_faults", lambda: None)  # a setting of the whole process
    yield
    torch.set_num_threads(before)


def parts(text: str = TEXT, held_out: str = HELD_OUT) -> tuple[Tokenizer, Any, Any]:
    tokenizer = train_characters([text], min_count=1)
    train_ids = encode_corpus([Document("a", text)], tokenizer)
    return tokenizer, train_ids, encode_corpus([Document("b", held_out)] if held_out else [], tokenizer)


def metrics(folder: Path) -> list[dict[str, Any]]:
    """What metrics.jsonl says, one record an evaluation."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def run(folder: Path, report: Any = None, parts_: Any = None, shape: Any = None, **settings: Any) -> list[Any]:
    """A tiny run; returns what was reported."""
    tokenizer, train_ids, validation_ids = parts_ or parts()
    size = {"n_layer": 2, "n_head": 2, "n_embd": 32, "block_size": 16} | (shape or {})
    config = ModelConfig(**size, vocab_size=tokenizer.vocab_size, start_id=start_id_of(tokenizer))
    wanted = {"steps": 60, "batch_size": 8, "learning_rate": 1e-2, "warmup_steps": 10, "eval_interval": 20} | settings
    lines: list[Any] = []

    def note(key: str, **values: object) -> None:
        for lang in messages.LANGUAGES:
            lines.append(messages.text(key, lang, **values))  # every line can be said
        if report:
            report(key, **values)

    train(folder, config, TrainingConfig(**wanted), tokenizer, train_ids, validation_ids, note)
    return lines


def test_a_tiny_run_learns_and_its_folder_opens(tmp_path: Path) -> None:
    lines, steps = run(tmp_path / "m"), metrics(tmp_path / "m")
    assert len(lines) >= 2 * (1 + 3) and f"{steps[-1]['loss']:.3f}" in lines[-1]
    assert [s["step"] for s in steps] == [20, 40, 60]
    vocabulary = 257 + len(set(TEXT))
    assert steps[-1]["loss"] < 0.5 * math.log(vocabulary) and steps[-1]["loss"] < steps[0]["loss"]
    assert steps[-1]["validation_loss"] < steps[0]["validation_loss"] < math.log(vocabulary)
    recipe = json.loads((tmp_path / "m" / "training.json").read_text())
    assert recipe["training"]["steps"] == 60 and recipe["model"]["n_embd"] == 32

    model = manako.load(tmp_path / "m")
    assert model.notices == () and model.config.start_id == 0
    assert model.evaluate(HELD_OUT).loss == pytest.approx(steps[-1]["validation_loss"], rel=0.35)
    theirs = GPT(model.config)
    state = {n: torch.from_numpy(np.array(t)) for n, t in read_checkpoint(tmp_path / "m").tensors.items()}
    theirs.load_state_dict(state, strict=True)
    ids = model.tokenizer.encode(HELD_OUT)[:16]
    with torch.no_grad():
        assert worst(model.rows(ids), theirs(torch.tensor([ids]))[0].numpy()) <= 1e-5
    assert "猫" in model.trace("私は", max_new_tokens=8, temperature=0).text


@pytest.mark.parametrize("switches", [{"residual": False}, {"norm": "post"}, {"attention": False}], ids=str)
def test_ablated_runs_open_as_what_they_are(tmp_path: Path, switches: dict[str, Any]) -> None:
    run(tmp_path / "m", steps=4, eval_interval=2, shape=switches)
    model = manako.load(tmp_path / "m")
    assert len(model.info.switches) == 1 and model.trace("私", max_new_tokens=2).header.model.switches


def test_two_runs_are_equal_bit_by_bit_and_another_seed_is_not(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(tmp_path / name, steps=12, eval_interval=6, seed=seed)
    files = {name: (tmp_path / name / "model.safetensors").read_bytes() for name in "abc"}
    assert files["a"] == files["b"] != files["c"]
    assert [m["loss"] for m in metrics(tmp_path / "a")] == [m["loss"] for m in metrics(tmp_path / "b")]


def test_watching_a_run_changes_no_weight(tmp_path: Path) -> None:
    """Opening the folder and generating from it while the training goes on."""

    def watch(key: str, **values: object) -> None:
        if key.startswith("train.step"):
            torch.rand(3)  # only torch's global generator, which batches don't use
            manako.load(tmp_path / "a").trace("私", max_new_tokens=3, seed=0)

    run(tmp_path / "a", watch, steps=12, eval_interval=4)
    run(tmp_path / "b", steps=12, eval_interval=4)
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == (tmp_path / "b" / "model.safetensors").read_bytes()


def test_weights_of_each_evaluation_are_in_the_folder_at_once(tmp_path: Path) -> None:
    seen = []

    def watch(key: str, **values: object) -> None:
        if key.startswith("train.step"):
            seen.append(read_checkpoint(tmp_path / "m").fingerprint)

    run(tmp_path / "m", watch)
    assert len(set(seen)) == 3 and seen[-1] == read_checkpoint(tmp_path / "m").fingerprint


def test_p24_a_text_shorter_than_a_block_says_what_is_needed(tmp_path: Path) -> None:
    """A document of n characters is n + 2 tokens, with the start before and after it."""
    for characters, fits in ((14, False), (15, True)):
        parts_ = parts("あ" * characters, "")
        assert len(parts_[1]) == characters + 2
        if fits:
            run(tmp_path / "fits", parts_=parts_, steps=2)
            continue
        with pytest.raises(UsageError) as caught:
            run(tmp_path / "short", parts_=parts_)
        assert caught.value.key == "text_too_short" and caught.value.values == {
            "need": "17",
            "got": "16",
            "block_size": "16",
        }
        assert not (tmp_path / "short").exists()


def test_p25_no_validation_text_is_null_never_nan(tmp_path: Path) -> None:
    run(tmp_path / "m", parts_=parts(TEXT, ""), steps=4, eval_interval=2)
    assert [m["validation_loss"] for m in metrics(tmp_path / "m")] == [None, None]
    assert "NaN" not in (tmp_path / "m" / "metrics.jsonl").read_text()


def test_p25_one_repeated_character_trains_to_a_loss_near_zero(tmp_path: Path) -> None:
    run(tmp_path / "m", parts_=parts("あ" * 4000, "あ" * 100), steps=60)
    last = metrics(tmp_path / "m")[-1]
    assert math.isfinite(last["loss"]) and 0 <= last["loss"] < 0.2


def test_a_loss_that_is_not_finite_stops_and_the_folder_still_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ManakoError) as caught:
        run(tmp_path / "m", learning_rate=1e30, grad_clip=1e30, warmup_steps=1)
    assert caught.value.key == "loss_not_finite" and caught.value.exit_code == 1
    assert int(caught.value.values["step"]) <= 10
    manako.load(tmp_path / "m").trace("私", max_new_tokens=2)


def test_weights_that_became_nan_at_an_evaluation_are_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ManakoError):
        run(tmp_path / "m", learning_rate=1e38, grad_clip=1e30, warmup_steps=1, eval_interval=1)
    assert "NaN" not in (tmp_path / "m" / "metrics.jsonl").read_text(encoding="utf-8")
    manako.load(tmp_path / "m").trace("私", max_new_tokens=2)


@pytest.mark.parametrize("at", [1, 25])
def test_ctrl_c_keeps_the_last_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    real, calls = loop._step, []

    def step(*args: Any) -> float:
        calls.append(1)
        if len(calls) == at:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(loop, "_step", step)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "m")
    interrupted = read_checkpoint(tmp_path / "m")
    monkeypatch.setattr(loop, "_step", real)
    assert {p.name for p in (tmp_path / "m").iterdir()} >= {"model.safetensors", "config.json", "training.json"}
    assert not [p for p in (tmp_path / "m").iterdir() if p.name.startswith(".")]
    whole = []
    with pytest.MonkeyPatch.context() as patch:  # the same run, stopped by its own count at that step

        def keep(model: GPT, *rest: Any) -> float:
            whole.append({n: p.detach().numpy().copy() for n, p in model.named_parameters()})
            return real(model, *rest)

        patch.setattr(loop, "_step", keep)
        run(tmp_path / "again")
    assert all(np.array_equal(interrupted.tensors[n], whole[at - 1][n]) for n in whole[0])


def test_an_existing_folder_is_not_trained_over(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "mine").write_text("x")
    with pytest.raises(ManakoError) as caught:
        run(tmp_path / "m")
    assert caught.value.key == "target_exists_folder" and [p.name for p in (tmp_path / "m").iterdir()] == ["mine"]


@pytest.mark.parametrize("settings", [
    {"steps": 0},
    {"batch_size": 0},
    {"eval_interval": 0},
    {"learning_rate": 0.0},
    {"learning_rate": -1.0},
    {"learning_rate": math.nan},
    {"learning_rate": math.inf},
], ids=str)  # fmt: skip
def test_settings_that_make_no_sense(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        TrainingConfig(**settings)
    assert caught.value.key == "training_range" and caught.value.values["name"] in settings


# --- its parts --------------------------------------------------------------------------------------------------------


def test_encode_corpus_puts_a_start_before_each_document_and_after_the_last() -> None:
    tokenizer = train_characters(["あい"], min_count=1)
    documents = [Document("a", "あい"), Document("b", "い"), Document("c", "う")]
    a, i = tokenizer.encode("あい")
    ids = encode_corpus(documents, tokenizer)
    assert ids.tolist() == [0, a, i, 0, i, 0, *(1 + b for b in "う".encode()), 0] and ids.dtype == np.uint16
    assert encode_corpus([], tokenizer).tolist() == [0]
    many = [Document(str(n), "あ" * (n % 5)) for n in range(200)]  # more than one batch
    assert encode_corpus(many, tokenizer).tolist() == [t for d in many for t in [0] + [a] * len(d.text)] + [0]


def test_encode_corpus_takes_wider_numbers_for_a_larger_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = train_characters(["あ"], min_count=1)
    monkeypatch.setattr(Tokenizer, "vocab_size", property(lambda self: 65_537))
    assert encode_corpus([Document("a", "あ")], tokenizer).dtype == np.uint32


def test_the_schedule_warms_up_and_falls_to_zero() -> None:
    config = TrainingConfig(steps=1000, warmup_steps=50)
    rates = [loop._schedule(step, config) for step in range(1, 1001)]
    assert rates[0] == pytest.approx(1 / 50) and max(rates) == rates[49] <= 1
    assert all(a >= b for a, b in zip(rates[49:], rates[50:], strict=False)) and rates[-1] == pytest.approx(1 / 1000)


def test_batches_are_windows_of_the_text_and_reach_both_ends() -> None:
    data, generator = torch.arange(20, dtype=torch.int32), torch.Generator().manual_seed(0)
    starts = set()
    for _ in range(200):
        ids, targets = loop._batch(data, 16, 4, generator)
        assert ids.shape == targets.shape == (4, 16) and torch.equal(ids + 1, targets)
        assert torch.equal(ids[:, 1:], ids[:, :-1] + 1)
        starts |= set(ids[:, 0].tolist())
    assert starts == {0, 1, 2, 3}


def test_validation_batches_are_fixed_and_spread_over_the_text() -> None:
    ids = np.arange(1000, dtype=np.uint16)
    batches = loop._validation_batches(ids, 16, 4)
    again = loop._validation_batches(ids, 16, 4)
    assert sum(len(a) for a, _ in batches) == 62
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(batches, again, strict=True))
    assert batches[0][0][0, 0] == 0 and batches[-1][1][-1, -1] == 999
    assert loop._validation_batches(ids[:16], 16, 4) == []
    assert len(loop._validation_batches(ids[:17], 16, 4)) == 1


def test_only_matrices_decay() -> None:
    model = GPT(ModelConfig(n_layer=1, n_head=1, n_embd=4, block_size=4, vocab_size=5))
    matrices, vectors = loop._optimizer(model, TrainingConfig()).param_groups
    assert matrices["weight_decay"] == 0.1 and vectors["weight_decay"] == 0.0
    assert {p.dim() for p in matrices["params"]} == {2} and {p.dim() for p in vectors["params"]} == {1}
