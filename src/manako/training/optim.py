"""AdamW and Muon, and the learning rate over a run.

Special here: Muon takes the matrices inside the blocks and AdamW everything else (embeddings, head, norms, biases), as
in the speed runs. `c_attn` holds three matrices side by side, which are orthogonalised one by one. State has names, not
numbers, so that it can be written without pickle.
"""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from manako.errors import LoadError

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


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised: every direction of a matrix moves equally fast. For 2-D weights [in, out].

    lr: the size of one update in units of an orthogonal matrix, times sqrt(max(1, out / in)). The products run in
    `dtype`. Source: as `orthogonalize`; nesterov momentum and the scale as in KellerJordan/Muon.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = 0.95, dtype: torch.dtype | None = None):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": 0.0})
        self.dtype = dtype or torch.float32

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            blocks: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}  # shape -> (part of a weight, its direction)
            for p in group["params"]:
                if "momentum" not in self.state[p]:
                    self.state[p]["momentum"] = torch.zeros_like(p)
                m = self.state[p]["momentum"]
                m.lerp_(p.grad, 1 - group["momentum"])
                direction = p.grad.lerp(m, group["momentum"])
                p.mul_(1 - group["lr"] * group["weight_decay"])
                count = 3 if p.shape[1] == 3 * p.shape[0] else 1  # c_attn: q, k, v
                for part, along in zip(p.chunk(count, 1), direction.chunk(count, 1), strict=True):
                    blocks.setdefault(part.shape, []).append((part, along))
            for shape, pairs in blocks.items():  # matrices of one shape go through together
                made = orthogonalize(torch.stack([along for _, along in pairs]).to(self.dtype)).float()
                scale = group["lr"] * math.sqrt(max(1.0, shape[1] / shape[0]))
                for (part, _), update in zip(pairs, made, strict=True):
                    part.add_(update, alpha=-scale)


class Optimizers:
    """What moves the weights of a model: AdamW, and Muon where asked for, under one schedule."""

    def __init__(
        self, model: nn.Module, name: str, learning_rate: float, muon_rate: float, decay: float, dtype: torch.dtype
    ) -> None:
        self.named = dict(model.named_parameters())
        hidden = {n for n, p in self.named.items() if name == "muon" and p.dim() == 2 and n.startswith("h.")}
        rest = {n: p for n, p in self.named.items() if n not in hidden}
        groups = [
            {"params": [p for p in rest.values() if p.dim() >= 2], "weight_decay": decay},
            {"params": [p for p in rest.values() if p.dim() < 2], "weight_decay": 0.0},
        ]
        self.parts: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.95), fused=True)
        ]
        if hidden:
            self.parts.append(Muon([self.named[n] for n in sorted(hidden)], lr=muon_rate, dtype=dtype))
        for part in self.parts:
            for group in part.param_groups:
                group["peak"] = group["lr"]

    def step(self, factor: float) -> None:
        """One update with the peak rates times `factor`; gradients are gone afterwards."""
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = group["peak"] * factor
            part.step()
            part.zero_grad(set_to_none=True)

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
        owner: dict[nn.Parameter, torch.optim.Optimizer] = {
            p: part for part in self.parts for group in part.param_groups for p in group["params"]
        }
        for name, value in state.items():
            key, _, weight = name.partition("/")
            p = self.named.get(weight)
            if p is None or value.shape not in (p.shape, ()):
                raise LoadError("training_state_other", file=file, name=name)
            owner[p].state[p][key] = value.to(p.device) if key != "step" else value


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
