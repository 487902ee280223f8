"""From documents to a model folder: tokenise, split by work, train with AdamW, evaluate, save.

Special here: validation uses fixed batches from works that no training step saw; the schedule is a short warm-up and
then linear to zero, so the last weights are the ones to keep. The folder can be opened with every command while the
training goes on, since its weights are replaced in one step.
"""

import ctypes
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from manako.checkpoint import ModelConfig, start_id_of, write_checkpoint, write_weights
from manako.corpus.documents import Document
from manako.errors import ManakoError, UsageError
from manako.tokenizer import Tokenizer
from manako.training.model import GPT

Report = Callable[..., None]  # (catalog key, **values)


@dataclass(frozen=True)
class TrainingConfig:
    """How to train; the shape of the model is ModelConfig's."""

    steps: int = 2_000
    """Optimizer steps."""
    batch_size: int = 16
    """Sequences of block_size tokens a step."""
    learning_rate: float = 2e-3
    """Peak rate, reached after the warm-up, then linear to zero."""
    warmup_steps: int = 100
    """Steps of linear warm-up."""
    weight_decay: float = 0.1
    """AdamW decay of the matrices; vectors have none."""
    grad_clip: float = 1.0
    """Largest gradient norm."""
    eval_interval: int = 250
    """Steps between two evaluations."""
    seed: int = 0
    """Seed of weights and batches."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "eval_interval"):
            if getattr(self, name) < 1:
                raise UsageError("training_range", name=name, got=getattr(self, name), least=1)
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise UsageError("training_range", name="learning_rate", got=self.learning_rate, least="> 0")


def encode_corpus(documents: Sequence[Document], tokenizer: Tokenizer) -> npt.NDArray[np.uint16 | np.uint32]:
    """All ids in one row, each document behind a document-start token. uint16 where the vocabulary allows it."""
    start = start_id_of(tokenizer)
    assert start is not None  # vocabularies trained by manako always have one
    dtype = np.uint16 if tokenizer.vocab_size <= 65_536 else np.uint32
    rows: list[npt.NDArray[np.uint16 | np.uint32]] = []
    for first in range(0, len(documents), 64):
        batch = [d.text for d in documents[first : first + 64]]
        rows += [np.array([start, *ids], dtype=dtype) for ids in tokenizer.encode_documents(batch)]
    return np.concatenate([*rows, np.array([start], dtype=dtype)])


def train(
    folder: Path,
    config: ModelConfig,
    training: TrainingConfig,
    tokenizer: Tokenizer,
    train_ids: npt.NDArray[np.uint16 | np.uint32],
    validation_ids: npt.NDArray[np.uint16 | np.uint32],
    report: Report,
) -> None:
    """Train a model from scratch into a new folder.

    report(key, **values) is called with a catalog key for each line a person should see. Raises UsageError when the
    text is too short, ManakoError when the loss stops being finite; the folder then holds the last good weights.
    """
    _require_length(train_ids, config.block_size)
    _avoid_page_faults()
    torch.manual_seed(training.seed)
    generator = torch.Generator().manual_seed(training.seed)
    data = torch.from_numpy(train_ids.astype(np.int64 if train_ids.dtype == np.uint32 else np.int32))
    fixed = _validation_batches(validation_ids, config.block_size, training.batch_size)
    model = GPT(config)
    optimizer = _optimizer(model, training)
    count = sum(p.numel() for p in model.parameters())
    epochs = training.steps * training.batch_size * config.block_size / len(train_ids)
    report("train.start", parameters=f"{count:,}", tokens=f"{len(train_ids):,}", epochs=f"{epochs:.2f}")
    write_checkpoint(folder, config, _arrays(model), tokenizer)
    recipe = {"model": asdict(config), "training": asdict(training), "train_tokens": len(train_ids)}
    (folder / "training.json").write_text(json.dumps(recipe, indent=2) + "\n", encoding="utf-8")
    began = time.monotonic()
    try:
        with (folder / "metrics.jsonl").open("w", encoding="utf-8") as log:
            for step in range(1, training.steps + 1):
                for group in optimizer.param_groups:
                    group["lr"] = training.learning_rate * _schedule(step, training)
                loss = _step(
                    model, optimizer, *_batch(data, config.block_size, training.batch_size, generator), training
                )
                if not math.isfinite(loss):
                    raise ManakoError("loss_not_finite", step=step, rate=training.learning_rate)
                if step % training.eval_interval == 0 or step == training.steps:
                    held_out = _evaluate(model, fixed)
                    if not _finite(model):  # the loss was that of the weights before this step
                        raise ManakoError("loss_not_finite", step=step, rate=training.learning_rate)
                    elapsed = time.monotonic() - began
                    rate = step * training.batch_size * config.block_size / elapsed
                    line = {
                        "step": step,
                        "loss": loss,
                        "validation_loss": held_out,
                        "seconds": elapsed,
                        "tokens_s": rate,
                    }
                    log.write(json.dumps(line) + "\n")
                    log.flush()
                    write_weights(folder, config, _arrays(model), tokenizer)
                    left = elapsed / step * (training.steps - step) / 60
                    _report_step(report, step, training.steps, loss, held_out, rate, left)
    except KeyboardInterrupt:
        write_weights(folder, config, _arrays(model), tokenizer)
        raise


def _report_step(
    report: Report, step: int, steps: int, loss: float, held_out: float | None, rate: float, minutes_left: float
) -> None:
    values = {
        "step": step,
        "steps": steps,
        "loss": f"{loss:.3f}",
        "rate": f"{rate:,.0f}",
        "left": f"{minutes_left:.1f}",
    }
    if held_out is None:
        report("train.step_without_validation", **values)
    else:
        report("train.step", **values, validation=f"{held_out:.3f}", bits=f"{held_out / math.log(2):.2f}")


def _step(
    model: GPT, optimizer: torch.optim.Optimizer, ids: torch.Tensor, targets: torch.Tensor, training: TrainingConfig
) -> float:
    loss = model.loss(ids, targets)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), training.grad_clip)
    optimizer.step()
    return loss.item()


def _schedule(step: int, training: TrainingConfig) -> float:
    warm = min(1.0, step / max(1, min(training.warmup_steps, training.steps // 10)))
    return warm * (1 - (step - 1) / training.steps)


def _optimizer(model: GPT, training: TrainingConfig) -> torch.optim.Optimizer:
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": training.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=training.learning_rate, betas=(0.9, 0.95), fused=True)


def _batch(
    data: torch.Tensor, block_size: int, batch_size: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    starts = torch.randint(len(data) - block_size, (batch_size, 1), generator=generator)
    window = data[starts + torch.arange(block_size + 1)].long()  # [B, T + 1]
    return window[:, :-1], window[:, 1:]


def _validation_batches(
    ids: npt.NDArray[np.uint16 | np.uint32], block_size: int, batch_size: int
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """At most 16 batches of windows spread evenly over the held-out text, the same at every evaluation."""
    if len(ids) <= block_size:
        return []
    count = min(16 * batch_size, (len(ids) - 1) // block_size)
    starts = np.linspace(0, len(ids) - block_size - 1, count).astype(np.int64)
    windows = torch.from_numpy(ids[starts[:, None] + np.arange(block_size + 1)].astype(np.int64))  # [N, T + 1]
    return [(w[:, :-1], w[:, 1:]) for w in windows.split(batch_size)]


@torch.no_grad()
def _evaluate(model: GPT, batches: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> float | None:
    """Mean loss in nats a token over the fixed batches; None where there is no held-out text."""
    if not batches:
        return None
    weights = [len(ids) for ids, _ in batches]
    losses = [model.loss(ids, targets).item() for ids, targets in batches]
    return float(np.average(losses, weights=weights))


def _finite(model: GPT) -> bool:
    return all(bool(p.isfinite().all()) for p in model.parameters())


def _arrays(model: GPT) -> dict[str, npt.NDArray[np.float32]]:
    return {name: p.detach().numpy().copy() for name, p in model.named_parameters()}


def _require_length(ids: npt.NDArray[np.uint16 | np.uint32], block_size: int) -> None:
    if len(ids) < block_size + 1:
        raise UsageError("text_too_short", need=block_size + 1, got=len(ids), block_size=block_size)


def _avoid_page_faults() -> None:
    """Keep large temporaries in the heap (glibc): giving them back each step costs up to a third of a CPU step."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
            libc.mallopt(mmap_threshold, 1 << 30)
            libc.mallopt(trim_threshold, (1 << 31) - 1)
