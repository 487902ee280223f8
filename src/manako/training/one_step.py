"""One optimizer step from a checkpoint, beside the run: what moves, and what that does to a text.

Special here: nothing is written. The step is the one that `manako resume` would take (weights, optimizer state, batch,
clipping, schedule), on a CPU to the same bits. What the text costs, and its gradient, are in float64 over the float32
weights of both sides: at a small rate the change lies below the digits of a float32 loss.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from manako.corpus.packed import PackedCorpus
from manako.errors import ManakoError
from manako.families.gpt2 import only_gpt2
from manako.formats import run_folder
from manako.formats.checkpoint import Checkpoint
from manako.frozen import Frozen
from manako.training import machine, memory
from manako.training.batches import Batches
from manako.training.config import TrainingConfig, training_settings
from manako.training.loop import gradients
from manako.training.model import GPT
from manako.training.optim import Optimizers, schedule
from manako.training.processes import Processes, device_of
from manako.training.qk_clip import WINDOWS, clip_scores, clips_after
from manako.training.recipe import SHARES
from manako.training.state import RANDOM, read_state

MOST_RATE = 1e30  # float32 holds no more
RateFrom = Literal["schedule", "peak", "given"]


@dataclass(frozen=True)
class Moved:
    """One weight, or several, as vectors."""

    norm: float
    """Its length before the step."""
    distance: float
    """The length of the way it went."""
    slope: float
    """The gradient of the text's loss times that way: what the loss changes by to first order, in nats."""


@dataclass(frozen=True, eq=False)
class OneStep(Frozen):
    """What a step did. Losses in nats."""

    step: int
    """Steps of the run before it."""
    read: int
    """Tokens of the batch."""
    loss: float
    """Of the batch, a token."""
    gradient_norm: float
    """Before clipping."""
    learning_rate: float
    """Of AdamW in this step."""
    muon_rate: float | None
    """Of Muon, where the run has it."""
    rate_from: RateFrom
    """peak: the run is over, where its schedule has come to 0."""
    before: npt.NDArray[np.float64]
    """[S] the loss of each token of the text."""
    after: npt.NDArray[np.float64]
    moved: Mapping[str, Moved]
    """Of each weight by its name."""


def one_step(
    folder: Path,
    checkpoint: Checkpoint,
    settings: Mapping[str, Any],
    batch: PackedCorpus | Sequence[int],
    ids: Sequence[int],
    learning_rate: float | None = None,
) -> OneStep:
    """Take one step from a checkpoint that has its training state, and see what it does to the tokens after ids[0].

    settings: what the run's config.toml says, for what the checkpoint does not say itself. batch: the corpus, of which
    the run's next windows are read, or the ids of one sentence. learning_rate: of AdamW, with Muon's in proportion; by
    default what the schedule says. Raises LoadError for a state that is damaged, or that is not this model's,
    ManakoError where a loss is not finite.
    """
    made, state = read_state(folder)
    training = training_settings({**settings, **made["settings"]})
    config = only_gpt2(checkpoint.config)
    shares = state.pop(SHARES, None)
    state.pop(RANDOM, None)
    done = made["done"] if shares is not None else min(1.0, made["step"] / (training.steps or math.inf))
    weights = {n: torch.from_numpy(np.array(a)) for n, a in checkpoint.tensors.items()}
    here = Processes(device=device_of(training.device))  # alone, though torchrun began it: each takes the whole batch
    with memory.said(here.device):
        memory.refuse_too_large(config, training, here.device)
        dtype, _ = machine.choose_dtype(training.dtype, here.device)
        model = GPT(config).to(here.device)
        model.load_state_dict(weights, strict=True)
        optimizers = Optimizers(
            model, training.optimizer, training.learning_rate, training.muon_rate, training.weight_decay, dtype=dtype
        )
        optimizers.restore(state, folder / run_folder.STATE_ARRAYS)
        rate, rate_from = _rate(training, made["step"], done, learning_rate)
        if isinstance(batch, PackedCorpus):
            ordered = Batches(batch.train, config.block_size, training.seed, batch.start_id)
            windows = ordered.windows(made["position"], training.batch_size)
        else:
            windows = np.array([batch])
        rows, read = training.micro_batch or memory.rows_at_once(config), windows[:, 1:].size
        loss = gradients(model, windows, rows, read, dtype, here)
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), training.grad_clip).item()
        wide = GPT(config).to(here.device).double()  # the text is read in float64, whatever the training computes in
        before = _losses(wide, weights, ids, here.device)
        before.sum().backward()
        slopes = {n: w.grad.cpu() for n, w in wide.named_parameters() if w.grad is not None}
        optimizers.step(rate)
        if clips_after(training, made["step"] + 1):
            clip_scores(model, torch.from_numpy(windows[:WINDOWS, :-1]).to(here.device))
        weights_after = {n: w.detach().cpu() for n, w in model.named_parameters()}
        with torch.no_grad():
            after = _losses(wide, weights_after, ids, here.device)
    if not all(math.isfinite(x) for x in (loss, norm, before.sum().item(), after.sum().item())):
        raise ManakoError("training_step_not_finite", step=made["step"] + 1, rate=rate * training.learning_rate)
    return OneStep(
        step=made["step"],
        read=read,
        loss=loss,
        gradient_norm=norm,
        learning_rate=rate * training.learning_rate,
        muon_rate=rate * training.muon_rate if training.optimizer == "muon" else None,
        rate_from=rate_from,
        before=before.detach().cpu().numpy(),
        after=after.cpu().numpy(),
        moved={n: _moved(weights[n].double(), weights_after[n].double(), slopes[n]) for n in slopes},
    )


def _rate(training: TrainingConfig, step: int, done: float, asked: float | None) -> tuple[float, RateFrom]:
    """The share of the peak rates, and where it is from."""
    if asked is not None:
        share = asked / training.learning_rate
        if share * max(training.learning_rate, training.muon_rate) > MOST_RATE:
            raise ManakoError("training_step_not_finite", step=step + 1, rate=asked)
        return share, "given"
    own = schedule(training.schedule, step + 1, done, training.warmup_steps)
    return (own, "schedule") if own else (1.0, "peak")


def _losses(model: GPT, weights: Mapping[str, Tensor], ids: Sequence[int], device: str) -> Tensor:
    """[S] the loss of each token after ids[0], of a model with these weights."""
    model.load_state_dict(weights)
    text = torch.tensor([ids], device=device)
    return model.loss(text[:, :-1], text[:, 1:], reduction="none")


def _moved(before: Tensor, after: Tensor, slope: Tensor) -> Moved:
    way = after - before
    return Moved(before.norm().item(), way.norm().item(), (slope * way).sum().item())
