"""N22: the same weights, batches and AdamW in our model and in that of `transformers`: the first 100 losses."""

from pathlib import Path

import numpy as np
import torch
import transformers
from toy import toy_config, write_toy

from manako.formats.model_folder import read_checkpoint
from manako.training.model import GPT

STEPS = 100


def test_the_first_100_losses_are_those_of_transformers(tmp_path: Path) -> None:
    """Within 1e-4: a step multiplies differences of rounding; dropout off, as ours has none."""
    config = toy_config()
    made = write_toy(tmp_path / "m")
    ours = GPT(made.config)
    ours.load_state_dict({n: torch.from_numpy(np.array(t)) for n, t in read_checkpoint(tmp_path / "m").tensors.items()})
    none = {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}
    theirs = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "m", dtype=torch.float32, **none).train()
    optimizers = [torch.optim.AdamW(m.parameters(), lr=1e-3, betas=(0.9, 0.95)) for m in (ours, theirs)]
    random, losses = np.random.default_rng(0), []
    for _ in range(STEPS):
        ids = torch.from_numpy(random.integers(0, config.vocab_size, (4, config.block_size)))
        both = [ours.loss(ids[:, :-1], ids[:, 1:]), theirs(ids, labels=ids).loss]
        for loss, optimizer in zip(both, optimizers, strict=True):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses.append([loss.item() for loss in both])
    difference = np.abs(np.diff(losses, axis=1)).max()
    assert difference <= 1e-4 and abs(losses[-1][0] - losses[0][0]) > 0.05
