"""AdamW and Muon, and the learning rate over a run.

Special here: Muon takes the matrices inside the blocks and AdamW everything else (embeddings, head, norms, biases), as
in the speed runs. `c_attn` holds three matrices side by side, which are orthogonalised one by one. State has names, not
numbers, so that it can be written without pickle. Nothing stands on torch.optim.Optimizer, which imports PyTorch's
compiler before it is of any use: a second or two of every start.
"""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from manako.errors import LoadError
from manako.training.config import moved_by_muon

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # tuned for speed, not for convergence to exactly 1 (Jordan 2024)


@torch.no_grad()
def orthogonalize(matrices: Tensor, steps: int = 5) -> Tensor:
    """The nearest orthogonal matrices, roughly: [n, r, c] -> [n, r, c] with singular values near 1.

    Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks" (quintic Newton-Schulz).
    """
    a, b, c = NEWTON_SCHULZ
    x = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x  # the smaller side first: fewer products
    for _ in range(steps):
        gram = x @ x.mT  # [n, r, r]
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


def gradient_of(weight: Tensor) -> Tensor:
    assert weight.grad is not None, "every weight has its part in the loss"
    return weight.grad


class Part:
    """Weights that one rule moves, at one peak rate, and what the rule keeps of each."""

    def __init__(self, params: Iterable[Tensor], lr: float) -> None:
        self.lr = lr
        self.state: dict[Tensor, dict[str, Tensor]] = {p: {} for p in params}

    def step(self, factor: float = 1.0) -> None:
        """One update with the peak rate times `factor`."""
        raise NotImplementedError


class AdamW(Part):
    """AdamW with betas 0.9 and 0.95, by PyTorch's fused kernel. weight_decay: of all its weights."""

    KEPT = ("step", "exp_avg", "exp_avg_sq")

    def __init__(self, params: Iterable[Tensor], lr: float, weight_decay: float = 0.0) -> None:
        super().__init__(params, lr)
        self.weight_decay = weight_decay

    @torch.no_grad()
    def step(self, factor: float = 1.0) -> None:
        for p, kept in self.state.items():
            if not kept:
                step = torch.zeros((), device=p.device)
                kept |= zip(AdamW.KEPT, (step, torch.zeros_like(p), torch.zeros_like(p)), strict=True)
        gradients = [gradient_of(p) for p in self.state]
        steps, averages, squares = ([kept[key] for kept in self.state.values()] for key in AdamW.KEPT)
        adamw(
            list(self.state), gradients, averages, squares, [], steps,
            fused=True, amsgrad=False, maximize=False,
            lr=self.lr * factor, beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=self.weight_decay,
        )  # fmt: skip


class Muon(Part):
    """Momentum, orthogonalised: every direction of a matrix moves equally fast. For 2-D weights [in, out].

    lr: the size of one update in units of an orthogonal matrix, times sqrt(max(1, out / in)). The products run in
    `dtype`. Source: as `orthogonalize`; nesterov momentum and the scale as in KellerJordan/Muon.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = 0.95, dtype: torch.dtype = torch.float32):
        super().__init__(params, lr)
        self.momentum, self.dtype = momentum, dtype

    @torch.no_grad()
    def step(self, factor: float = 1.0) -> None:
        blocks: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}  # shape -> (part of a weight, its direction)
        for p, kept in self.state.items():
            if not kept:
                kept["momentum"] = torch.zeros_like(p)
            m = kept["momentum"]
            m.lerp_(gradient_of(p), 1 - self.momentum)
            direction = gradient_of(p).lerp(m, self.momentum)
            count = 3 if p.shape[1] == 3 * p.shape[0] else 1  # c_attn: q, k, v
            for part, along in zip(p.chunk(count, 1), direction.chunk(count, 1), strict=True):
                blocks.setdefault(part.shape, []).append((part, along))
        for shape, pairs in blocks.items():  # matrices of one shape go through together
            made = orthogonalize(torch.stack([along for _, along in pairs]).to(self.dtype)).float()
            scale = self.lr * factor * math.sqrt(max(1.0, shape[1] / shape[0]))
            for (part, _), update in zip(pairs, made, strict=True):
                part.add_(update, alpha=-scale)


class Optimizers:
    """What moves the weights of a model: AdamW, and Muon where asked for, under one schedule."""

    def __init__(
        self, model: nn.Module, name: str, learning_rate: float, muon_rate: float, decay: float, dtype: torch.dtype
    ) -> None:
        self.named = dict(model.named_parameters())
        hidden = {n for n, p in self.named.items() if name == "muon" and moved_by_muon(n, p.dim())}
        rest = [p for n, p in self.named.items() if n not in hidden]
        self.parts: list[Part] = [
            AdamW([p for p in rest if p.dim() >= 2], learning_rate, decay),
            AdamW([p for p in rest if p.dim() < 2], learning_rate),
        ]
        if hidden:
            self.parts.append(Muon([self.named[n] for n in sorted(hidden)], muon_rate, dtype=dtype))

    def step(self, factor: float) -> None:
        """One update with the peak rates times `factor`; gradients are gone afterwards."""
        for part in self.parts:
            part.step(factor)
        for p in self.named.values():
            p.grad = None

    def state(self) -> dict[str, Tensor]:
        """Everything the next step depends on, as "exp_avg/h.0.ln_1.weight" -> tensor."""
        names: dict[Tensor, str] = {p: n for n, p in self.named.items()}
        return {
            f"{key}/{names[p]}": value
            for part in self.parts
            for p, values in part.state.items()
            for key, value in values.items()
        }

    def restore(self, state: Mapping[str, Tensor], file: Path) -> None:
        """The inverse of `state`. Raises LoadError naming the file where it is not that of this model."""
        kept = {p: values for part in self.parts for p, values in part.state.items()}
        for name, value in state.items():
            key, _, weight = name.partition("/")
            p = self.named.get(weight)
            if p is None or value.shape not in (p.shape, ()):
                raise LoadError("training_state_other", file=file, name=name)
            kept[p][key] = value.to(p.device)


def schedule(kind: str, step: int, done: float, warmup: int) -> float:
    """The share of the peak rate at a step counted from 1: a linear warm-up, then down.

    done: the share of the run, by steps or by the clock, that was over as this step began. warmup: steps, at most a
    fifth of the run. linear: to zero. cosine: to a tenth. wsd (warm-up, stable, decay): flat, then linear to zero over
    the last 30 %.

    >>> [round(schedule("linear", step, (step - 1) / 10, 2), 2) for step in (1, 2, 6, 10)]
    [0.5, 0.9, 0.5, 0.1]
    """
    warm = min(1.0, max(step / max(1, warmup), 5 * done))
    if kind == "cosine":
        return warm * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * done)))
    return warm * (1 - done if kind == "linear" else min(1.0, (1 - done) / 0.3))
