"""QK-Clip: heads past the bound come below it and all else keeps its bits, in whole runs and in resumed ones."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small_runs import corpus_of, resume, train, trainer
from toy import toy_config, toy_weights

from manako.experiments.training_step import training_step
from manako.formats import run_folder
from manako.training import qk_clip
from manako.training.config import TrainingConfig
from manako.training.model import GPT
from manako.training.qk_clip import BOUND, clip_scores, clips_after
from manako.training.run import keep_settings

IDS = torch.arange(32).view(2, 16)
SWITCHES = [{}, {"norm": "post"}, {"residual": False}, {"n_layer": 3, "tie_word_embeddings": False}]


def toy(**switches: Any) -> GPT:
    config = toy_config(**switches)
    model = GPT(config)
    model.load_state_dict({n: torch.from_numpy(w) for n, w in toy_weights(config).items()})
    return model


def scores(model: GPT) -> list[list[float]]:
    """[n_layer][nh] the largest score, by attention written out."""
    found: list[list[float]] = []

    def note(attn: Any, inputs: Any, out: Any) -> None:
        q, k, _ = attn.heads(inputs[0])
        raw = torch.einsum("bhid,bhjd->bhij", q, k) / math.sqrt(q.shape[-1])
        seen = torch.ones(raw.shape[-2:]).tril().bool()
        found.append(raw.masked_fill(~seen, 0).abs().amax((0, 2, 3)).tolist())

    hooks = [block.attn.register_forward_hook(note) for block in model.h]
    with torch.no_grad():
        model(IDS)
    for hook in hooks:
        hook.remove()
    return found


@torch.no_grad()
def enlarge(model: GPT, layer: int, head: int, by: float) -> None:
    c = model.config
    attn = model.h[layer].attn.c_attn
    attn.weight.view(c.n_embd, 3, c.n_head, -1)[:, :2, head] *= by
    attn.bias.view(3, c.n_head, -1)[:2, head] *= by


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_heads_past_the_bound_come_to_it_and_the_others_keep_their_bits(switches: dict[str, Any]) -> None:
    model = toy(**switches)
    enlarge(model, 1, 1, 40)
    before = {n: w.clone() for n, w in model.named_parameters()}
    assert scores(model)[1][1] > 5 * BOUND and scores(model)[1][0] < BOUND
    clip_scores(model, IDS)
    after = dict(model.named_parameters())
    assert {n for n, w in before.items() if not torch.equal(w, after[n])} == {
        "h.1.attn.c_attn.weight",
        "h.1.attn.c_attn.bias",
    }
    for name in ("weight", "bias"):
        was, now = (each[f"h.1.attn.c_attn.{name}"].view(-1, 3, 2, 6) for each in (before, after))
        assert torch.equal(was[:, :, 0], now[:, :, 0]) and torch.equal(was[:, 2], now[:, 2])
    assert scores(model)[1][1] == pytest.approx(BOUND, rel=1e-5)


def test_what_all_keys_share_goes_and_the_model_stays() -> None:
    """Softmax takes out what it adds to a row."""
    model = toy()
    with torch.no_grad():
        model.h[0].attn.c_attn.bias.view(3, 2, 6)[1, 1] += 500
        before, weight = model(IDS), model.h[0].attn.c_attn.weight.clone()
        assert scores(model)[0][1] > 2 * BOUND
        clip_scores(model, IDS)
        assert scores(model)[0][1] < BOUND
        assert torch.equal(model.h[0].attn.c_attn.weight, weight)
        assert (model(IDS) - before).abs().max() < 1e-2  # float32 had no more digits left under 500


def test_nothing_moves_below_the_bound_or_without_attention() -> None:
    for model in (toy(), toy(attention=False)):
        before = {n: w.clone() for n, w in model.named_parameters()}
        clip_scores(model, IDS)
        assert all(torch.equal(w, before[n]) for n, w in model.named_parameters())


def test_it_is_muons() -> None:
    steps = range(1, 100)
    assert [s for s in steps if clips_after(TrainingConfig(), s)] == [32, 64, 96]
    assert not any(clips_after(TrainingConfig(optimizer="adamw"), s) for s in steps)


def test_a_run_in_two_parts_equals_the_whole_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clipped behind steps 4 and 8, stopped between; the step beside the run is clipped as the run is."""
    settings: dict[str, Any] = {"steps": 8, "eval_interval": 1}
    corpus = corpus_of(tmp_path / "corpus")
    train(tmp_path / "free", corpus, **settings)
    monkeypatch.setattr(qk_clip, "BOUND", 0.02)
    monkeypatch.setattr(qk_clip, "INTERVAL", 4)
    train(tmp_path / "whole", corpus, **settings)
    made, _ = trainer(tmp_path / "parts", corpus, **settings)
    made.plan()
    for _ in range(6):
        made.update()
        made.progress.done = made.share()
    made.save()
    assert resume(tmp_path / "parts", **settings).progress.step == 8
    runs = (tmp_path / "whole", tmp_path / "parts", tmp_path / "free")
    weights = [(run_folder.step_folder(run, 8) / "model.safetensors").read_bytes() for run in runs]
    assert weights[0] == weights[1] != weights[2]
    keep_settings(tmp_path / "whole", {}, [str(tmp_path / "corpus")])
    found = training_step(f"run:{tmp_path / 'whole'}@7", "私は猫である。")
    before, after = (load_file(run_folder.step_folder(tmp_path / "whole", s) / "model.safetensors") for s in (7, 8))
    way = sum(float((after[n].double() - w.double()).square().sum()) for n, w in before.items())
    assert sum(part.distance**2 for part in found.parts) == pytest.approx(way, rel=1e-12)


def test_a_step_that_only_measures_time_clips_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qk_clip, "BOUND", 1e-6)
    monkeypatch.setattr(qk_clip, "INTERVAL", 1)
    made, _ = trainer(tmp_path / "run", corpus_of(tmp_path / "corpus"))
    before = {n: w.clone() for n, w in made.model.named_parameters()}
    made.plan()
    assert all(torch.equal(w, before[n]) for n, w in made.model.named_parameters())
    made.update()
    assert max(map(max, scores(made.model))) < 1e-5
