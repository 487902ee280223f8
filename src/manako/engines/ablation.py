"""Switch parts of a model off while it generates: a head, an MLP, or all that a layer adds.

Special here: an ablation is an edit of weights, so the forward pass knows nothing of it, and lens, contributions and
caches stay true as they are. A head is off when its rows of the output matrix are zero; "mean" puts the average of what
it added over the prompt in its place, as a bias. Layers and heads count from 0, as in the names of weights.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from manako.engines.protocol import Editable, Engine, editable
from manako.errors import CapabilityError, UsageError
from manako.families.activations import Activations
from manako.messages import Phrase
from manako.settings import Ablation

Array = npt.NDArray[Any]


def ablated(engine: Engine, ablations: Sequence[Ablation], prompt_ids: Sequence[int]) -> Engine:
    """The engine with these parts switched off. prompt_ids: what means are taken over, its last n_positions tokens.

    Raises UsageError for a part that the model does not have, CapabilityError where its engine cannot be edited.
    """
    if not editable(engine):
        raise CapabilityError("ablate_engine", reason=Phrase(engine.lacks["ablation"]))
    c = engine.config
    heads = 0 if "attention" in engine.lacks else c.n_head
    for each in ablations:
        if each.layer >= c.n_layer or (each.head or 0) >= heads and each.kind == "head":
            raise UsageError("ablate_range", got=each, layers=c.n_layer, heads=heads)
    places = [(each.kind, each.layer, each.head) for each in ablations]
    for place, each in zip(places, ablations, strict=True):
        if places.count(place) > 1:
            raise UsageError("ablate_twice", got=each)
    kept = Activations()
    if any(each.mean for each in ablations):
        engine.forward(prompt_ids[-c.block_size :], engine.new_cache(), last_only=False, keep=kept)
    for each in ablations:
        i = each.layer
        if each.kind in ("mlp", "layer"):
            engine = engine.with_constant_mlp(i, kept.mlp_out[i].mean(axis=0) if each.mean else _nothing(engine))
        if each.kind != "mlp" and heads:
            engine = _without_heads(engine, each, kept.z[i].mean(axis=0) if each.mean else None)
    return engine


def _without_heads(engine: Editable, ablation: Ablation, mean: Array | None) -> Editable:
    """Without one head, or all of a layer. mean: [nh, hs] of what each head read."""
    i, weight, bias = ablation.layer, engine.output_weight(ablation.layer), engine.output_bias(ablation.layer)
    size = len(weight) // engine.config.n_head
    rows = slice(None) if ablation.head is None else slice(ablation.head * size, (ablation.head + 1) * size)
    bias = _nothing(engine) if bias is None else bias
    if mean is not None:
        bias = bias + mean.ravel()[rows] @ weight[rows]
    elif ablation.kind == "layer":
        bias = _nothing(engine)  # all that the layer adds, which its bias is part of
    weight = weight.copy()
    weight[rows] = 0
    return engine.with_output(i, weight, bias)


def _nothing(engine: Engine) -> Array:
    return np.zeros(engine.config.n_embd, dtype=engine.dtype)
