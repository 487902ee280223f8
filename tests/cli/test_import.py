"""`manako import`: a checkpoint of torch.save becomes a folder that opens."""

import os
from pathlib import Path
from typing import Any

import pytest
from commands import Run

torch: Any = pytest.importorskip("torch")


def test_a_checkpoint_of_nanogpt_with_a_vocabulary_of_its_own(run: Run, toy: str, tmp_path: Path) -> None:
    size = 300
    shapes = {"wte": (size, 4), "wpe": (8, 4), "h.0.ln_1": (4,), "h.0.attn.c_attn": (12, 4), "h.0.attn.c_proj": (4, 4)}
    shapes |= {"h.0.ln_2": (4,), "h.0.mlp.c_fc": (16, 4), "h.0.mlp.c_proj": (4, 16), "ln_f": (4,)}
    model = {f"_orig_mod.transformer.{name}.weight": torch.rand(shape) for name, shape in shapes.items()}
    arguments = {"n_layer": 1, "n_head": 1, "n_embd": 4, "block_size": 8, "vocab_size": size, "bias": False}
    torch.save({"model": model, "model_args": arguments, "config": {"dataset": "mine"}}, tmp_path / "ckpt.pt")
    missing = run("import", tmp_path / "ckpt.pt", "-o", tmp_path / "new")
    assert missing.code == 3 and "data/mine/meta.pkl" in missing.err
    done = run("import", tmp_path / "ckpt.pt", "-o", tmp_path / "new", "--tokenizer", toy)
    assert done.code == 0, done.err
    assert run("watch", "私は", "-m", tmp_path / "new", "-n", 2).code == 0


def test_a_pipe_is_refused_before_it_is_opened(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To open it would wait for a writer, for ever."""
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(Path, "open", lambda path, *_, **__: pytest.fail(f"{path} was opened"))
    done = run("import", tmp_path / "pipe", "-o", tmp_path / "new")
    assert done.code == 3 and "is not a regular file" in done.err and not (tmp_path / "new").exists()
