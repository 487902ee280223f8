#!/usr/bin/env python3
"""Begin a training where a smaller model ended: its function, inside the larger shape of a run.

    manako train --data corpora/aozora --out runs/demo --n-layer 5 --n-embd 384 …     (Ctrl-C at once)
    python scripts/grow.py demo runs/demo
    manako resume runs/demo

The model to grow and the run, whose last checkpoint gets the weights.

After Net2Net (Chen et al. 2016), for a residual stream with LayerNorm: new coordinates carry the mean of the old ones,
so that the mean stays and the variance shrinks by old/new, which the gains take back; new heads, hidden units and
layers read at random and write nothing until they learn to. Positions past the old context begin as the mean of the
last 64, tokens that the old vocabulary lacks at random around the mean of its rows.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from manako.formats import run_folder
from manako.formats.model_folder import Checkpoint, read_checkpoint, write_weights
from manako.refs import Ref

Array = npt.NDArray[Any]


def main(model: str, run: str) -> None:
    folder = run_folder.pointed(Path(run), run_folder.LAST)
    old, new = read_checkpoint(Ref.parse(model).checkpoint()), read_checkpoint(folder)
    write_weights(folder, new.config, grown(old, new, np.random.default_rng(0)), new.tokenizer)


def grown(old: Checkpoint, new: Checkpoint, rng: np.random.Generator) -> dict[str, Array]:
    """float32 weights of the shape of `new` that compute what `old` does wherever its positions and tokens reach."""
    small, large = old.config.n_embd, new.config.n_embd
    if small // old.config.n_head != large // new.config.n_head:
        raise SystemExit("grow.py: the heads of both models must be of one size")

    def added(rows: Array) -> Array:
        """What goes into the residual stream [..., small], at the new width."""
        return np.concatenate([rows, np.repeat(rows.mean(-1, keepdims=True), large - small, -1)], -1)

    weights = {}
    for name, first in new.tensors.items():
        w, have = np.zeros(first.shape), old.tensors.get(name)
        part, kind = name.split(".")[-2:]
        if part.startswith("ln_"):
            w[:] = kind == "weight"
        elif part in ("c_attn", "c_fc") and kind == "weight":
            w[:] = rng.normal(0, 0.02, w.shape)
        if have is not None:
            have = have.astype(np.float64)
            corner = tuple(slice(n) for n in have.shape)
            if part == "wte":
                w[:] = added(_rows(have, _vocabulary(old), _vocabulary(new), rng))
            elif part == "wpe":
                w[: len(have)] = added(have)
                w[len(have) :] = w[max(0, len(have) - 64) : len(have)].mean(0)
            elif part == "c_proj":
                w[corner[:-1]] = added(have)
            elif part == "c_attn":  # queries, keys and values side by side
                w.reshape(*w.shape[:-1], 3, large)[(*corner[:-1], slice(3), slice(small))] = have.reshape(
                    *have.shape[:-1], 3, small
                )
            else:
                w[corner] = have * np.sqrt(small / large) if (part[:3], kind) == ("ln_", "weight") else have
        weights[name] = w.astype(np.float32)
    return weights


def _rows(have: Array, old: dict[str, int], new: dict[str, int], rng: np.random.Generator) -> Array:
    """The embedding rows of the new vocabulary, at the old width."""
    rows = rng.normal(have.mean(0), have.std(0), (len(new), have.shape[1]))
    for token, i in new.items():
        if token in old:
            rows[i] = have[old[token]]
    return rows


def _vocabulary(model: Checkpoint) -> dict[str, int]:
    return json.loads(model.tokenizer.source)["model"]["vocab"]


if __name__ == "__main__":
    main(*sys.argv[1:])
