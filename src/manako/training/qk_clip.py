"""QK-Clip: attention scores that grow past a bound are brought back by the weights of queries and keys.

Muon moves every direction of a matrix equally fast, so that in a long training queries and keys of a head may grow
without end: scores of a thousand, where the digits of float32 are too few for 1e-5 in a logit. Source: Kimi Team 2025,
"Kimi K2: Open Agentic Intelligence", arXiv:2507.20534, algorithm 1 (MuonClip), with its bound of 100 and the factor
shared evenly by queries and keys.

Special here: scores are measured on two windows of the batch every 32 steps, since fused attention shows none. What a
score has in common with the others of its row does nothing (softmax takes it out), but costs digits as well; a head
past the bound loses it first, through the key bias, and is scaled only for what is left. All other heads keep their
bits.
"""

import math
from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor

from manako.training.config import TrainingConfig
from manako.training.model import GPT, Block

BOUND = 100.0
INTERVAL = 32  # steps
WINDOWS = 2


def clips_after(training: TrainingConfig, step: int) -> bool:
    """Whether scores are held behind this step, counted from 1: with Muon, which alone lets them grow."""
    return training.optimizer == "muon" and step % INTERVAL == 0


@torch.no_grad()
def clip_scores(model: GPT, ids: Tensor) -> None:
    """Bring the scores that each head gives to the windows ids [B, T] to BOUND at most, as absolute values."""
    c = model.config
    if not c.attention:
        return
    x = model.embed(ids)  # [B, T, C]
    for block in cast("Iterable[Block]", model.h):
        attn = block.attn
        seen = block.ln_1(x) if c.norm == "pre" else x
        weight = attn.c_attn.weight.view(c.n_embd, 3, c.n_head, -1)  # [C, 3, nh, hs]
        bias = attn.c_attn.bias.view(3, c.n_head, -1)  # [3, nh, hs]
        q, k, _ = attn.heads(seen)  # [B, nh, T, hs]
        for head in range(c.n_head):
            q_of, k_of = q[:, head], k[:, head]  # [B, T, hs]
            if largest(q_of, k_of) > BOUND:
                common = k_of.mean((0, 1))  # [hs]
                bias[1, head] -= common
                factor = math.sqrt(BOUND / max(BOUND, largest(q_of, k_of - common)))
                weight[:, :2, head] *= factor
                bias[:2, head] *= factor
        x = block(x)


def largest(q: Tensor, k: Tensor) -> float:
    """The largest absolute score between queries and keys [B, T, hs] of one head."""
    return (q @ k.mT).tril().abs().max().item() / math.sqrt(q.shape[-1])
