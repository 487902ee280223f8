"""One step of training: it is the one that the run took, its prediction holds at a small rate, the run stays."""

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from safetensors.torch import load_file

import manako
from manako.analysis.training_step import part_of
from manako.errors import CapabilityError, LoadError, ManakoError, UsageError
from manako.experiments.training_step import training_step
from manako.formats import run_folder
from manako.refs import Ref
from manako.training.config import training_settings
from manako.training.recipe import recipe
from manako.training.state import read_state

TEXT = "私は猫である。"
SMALL = 1e-5  # a thousandth of the peak of these runs


@pytest.fixture(scope="module")
def short_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Six steps with AdamW alone, a snapshot of each, the training state of the fourth and the last."""
    import torch
    from small_runs import corpus_of, train

    from manako.training import machine
    from manako.training.run import keep_settings

    place, before = tmp_path_factory.mktemp("short"), torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "avoid_page_faults", lambda: None)
        patch.setattr(machine, "PROBE", 64)
        train(place / "run", corpus_of(place / "corpus"), steps=6, eval_interval=2, snapshots=60, optimizer="adamw")
        keep_settings(place / "run", {}, [str(place / "corpus")])
        yield place / "run"
    torch.set_num_threads(before)


def contents(run: Path) -> dict[str, tuple[str, int]]:
    return {
        str(p): (hashlib.sha256(p.read_bytes()).hexdigest(), p.stat().st_mtime_ns)
        for p in run.rglob("*")
        if p.is_file()
    }


def test_it_is_the_step_that_the_run_took(short_run: Path) -> None:
    before = contents(short_run)
    found = training_step(f"run:{short_run}@4", TEXT)
    assert contents(short_run) == before
    assert (found.step, found.rate_from, found.muon_rate, found.read_tokens) == (4, "schedule", None, 8 * 16)
    for bits, step in (([t.before for t in found.tokens], 4), ([t.after for t in found.tokens], 5)):
        score = manako.load(f"run:{short_run}@{step}").score(TEXT)
        assert bits == pytest.approx((-np.log2(score.columns.p_model)).tolist(), rel=1e-5)
    weights = [
        load_file(run_folder.step_folder(short_run, step) / "model.safetensors")
        for step in (found.step, found.step + 1)
    ]
    for part in found.parts:
        own = [n for n in weights[0] if part_of(n.removeprefix("transformer.")) == (part.kind, part.layer)]
        way, norm = (
            sum(float((each.double() ** 2).sum()) for each in vectors) ** 0.5
            for vectors in (
                [weights[1][n].double() - weights[0][n].double() for n in own],
                [weights[0][n] for n in own],
            )
        )
        assert own and (part.distance, part.norm) == pytest.approx((way, norm), rel=1e-12)  # to the bits of each weight


def test_it_is_a_step_of_this_process_alone(short_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where torchrun's variables are set: each process would add the whole batch to the sum."""
    alone = training_step(f"run:{short_run}@4", TEXT)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert training_step(f"run:{short_run}@4", TEXT) == alone


@pytest.mark.parametrize("kind", ["tiny_run", "short_run"])  # Muon and AdamW; AdamW alone
@pytest.mark.parametrize("read", [TEXT, None])
def test_the_gradient_foretells_a_small_step(kind: str, read: str | None, request: pytest.FixtureRequest) -> None:
    run: Path = request.getfixturevalue(kind)
    found = training_step(run, TEXT, read=read, learning_rate=SMALL)
    assert found.error is not None and found.error < 0.05 and found.change
    assert found.predicted == pytest.approx(sum(part.predicted for part in found.parts))


def test_at_its_peak_the_line_is_left(tiny_run: Path) -> None:
    found = training_step(tiny_run, read=TEXT)
    assert found.rate_from == "peak" and found.text == TEXT == "".join(t.text for t in found.tokens)
    assert found.change < 0 and found.error is not None and found.error > 0.05
    assert [(part.kind, part.layer) for part in found.parts] == [
        ("embedding", None),
        ("position", None),
        *((kind, layer) for layer in range(2) for kind in ("attn", "mlp")),
        ("final_norm", None),
    ]


def test_without_a_text_it_takes_held_out_text(tiny_run: Path) -> None:
    found = training_step(tiny_run)
    assert found.text == manako.dynamics(tiny_run, max_new_tokens=1).header.text and found.read is None


def test_a_corpus_by_its_name_and_a_rate_of_numpy(tiny_run: Path) -> None:
    folder = Ref.parse(str(tiny_run)).corpus().folder
    found = training_step(tiny_run, data=str(folder), learning_rate=np.float32(0.5))
    assert (found.learning_rate, type(found.learning_rate)) == (0.5, float)
    assert found.text == training_step(tiny_run, data=folder, learning_rate=0.5).text


def test_bad_input_is_one_clear_error(tiny_run: Path, short_run: Path, tmp_path: Path) -> None:
    def key(run: object, text: str | None = TEXT, **more: Any) -> tuple[str, type[ManakoError]]:
        with pytest.raises(ManakoError) as caught:
            training_step(str(run), text, **more)
        assert "\n" not in str(caught.value)
        return caught.value.key, type(caught.value)

    assert key(tmp_path / "none") == ("run_none", LoadError)
    assert key(f"run:{tiny_run}@3") == ("run_step", LoadError)
    assert key(f"run:{short_run}@5") == ("training_step_no_state", CapabilityError)
    assert key(tiny_run, "") == key(tiny_run, read="") == ("score_too_short", UsageError)
    assert key(tiny_run, TEXT * 9) == key(tiny_run, read=TEXT * 9) == ("dynamics_long", UsageError)
    assert key(tiny_run, "\ud800")[1] == UsageError
    assert (
        key(tiny_run, learning_rate=0.0) == key(tiny_run, learning_rate=float("nan")) == ("training_range", UsageError)
    )
    assert key(tiny_run, learning_rate=1e300) == ("training_step_not_finite", ManakoError)
    assert key(tiny_run, data=tmp_path)[1] == LoadError

    run = tmp_path / "other"
    shutil.copytree(tiny_run, run)
    last = run_folder.pointed(run, run_folder.LAST)
    made, state = read_state(last)
    arrays = safetensors.numpy.save({n.replace("wpe", "wqe"): v.numpy() for n, v in state.items()})
    (last / run_folder.STATE_ARRAYS).write_bytes(arrays)
    progress = {name: value for name, value in made.items() if name not in ("settings", "threads", "corpus", "sha256")}
    (last / run_folder.STATE).write_bytes(
        recipe(progress, training_settings(made["settings"]), 1, made["corpus"], hashlib.sha256(arrays).hexdigest())
    )
    assert key(run) == ("training_state_other", LoadError)
    (last / run_folder.STATE_ARRAYS).write_bytes(arrays[:-1])
    assert key(run) == ("digest_mismatch", LoadError)
