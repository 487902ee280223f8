"""Which module of a model is which, found by watching one pass over a few ids.

Special here: no architecture is known by name. A module is what its numbers make it: the blocks are the chain in which
each one's output is the next one's input, the attention is what returns rows that sum to 1, its output matrix and the
MLP are the two whose outputs add up to what the block added. What cannot be found so is not guessed: the model then
lacks what would rest on it (post-norms, scaled sums and recurrent layers are seen this way).

Letters: T ids, C the width of the residual stream, V logits, nh heads.
"""

import copy
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from manako.families.readout import Readout

Matrix = nn.Linear | Conv1D


@dataclass(frozen=True)
class Parts:
    """The modules that a capture hooks. Empty tuples where the model has nothing of the kind, or hides it."""

    blocks: tuple[nn.Module, ...] = ()
    embed: tuple[nn.Module, ...] = ()
    """Their outputs add up to what enters the first block; empty where that is not so, and the sum itself is taken."""
    outputs: tuple[Matrix, ...] = ()
    """A block's matrix from the heads to the residual stream; with `mlps`, all that the blocks add."""
    mlps: tuple[nn.Module, ...] = ()
    beside: tuple[int | None, ...] = ()
    """How many things each block returns beside the stream; None where it returns the stream alone."""
    norm: nn.Module | None = None
    """What stands between the last block and the head, where it is one module."""


@dataclass
class Call:
    """What one module was given and made in the pass, as rows [T, width]."""

    given: Tensor | None = None
    made: Tensor | None = None
    beside: int | None = None
    """How many other things it returned in a tuple; None where it returned the tensor alone."""
    attends: bool = False
    """Whether one of them is attention: rows that sum to 1."""


@dataclass(frozen=True)
class Watched:
    """One pass over a few ids, seen from inside."""

    calls: dict[nn.Module, Call]
    logits: Tensor
    """[T, V] float32."""
    patterns: tuple[Tensor, ...]
    """[nh, T, T] a layer, empty where the model gives none."""


@torch.inference_mode()
def watch(model: Any, ids: Sequence[int], attention: bool) -> Watched:
    """Run the model over `ids` and keep the input and output of every module. attention: ask for its rows too."""
    calls: dict[nn.Module, Call] = {}
    handles: list[Any] = []

    def before(module: nn.Module, args: Any, kwargs: Any) -> None:
        calls[module] = Call(given=_rows(given_tensor(args, kwargs)))

    def after(module: nn.Module, args: Any, kwargs: Any, made: Any) -> None:
        others = made[1:] if isinstance(made, tuple) else ()
        call = calls[module]
        call.made, call.beside = _rows(first_tensor(made)), len(others) if isinstance(made, tuple) else None
        call.attends = any(_attends(t, len(ids)) for t in others)

    try:
        for module in model.modules():
            handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
            handles.append(module.register_forward_hook(after, with_kwargs=True))
        asked = {"output_attentions": True} if attention else {}
        made = model(
            input_ids=torch.tensor([list(ids)], device=model.device), use_cache=False, return_dict=True, **asked
        )
    finally:
        for handle in handles:
            handle.remove()
    given: Sequence[Any] = getattr(made, "attentions", None) or ()
    whole = all(_attends(t, len(ids)) for t in given) and len({t.shape for t in given}) == 1
    return Watched(calls, made.logits[0].float(), tuple(t[0].float() for t in given) if whole else ())


def find_parts(model: Any, watched: Watched, tolerance: float) -> Parts:
    """The parts of a model, from one pass over it. tolerance: relative to the largest number of a sum."""
    calls = watched.calls
    blocks = _blocks(model, calls)
    if not blocks:
        return Parts()
    pairs = [_summands(block, calls, tolerance) for block in blocks]
    found = [pair for pair in pairs if pair is not None]
    whole = len(found) == len(blocks)
    return Parts(
        blocks=blocks,
        embed=_embed(model, blocks, calls, tolerance),
        outputs=tuple(pair[0] for pair in found) if whole else (),
        mlps=tuple(pair[1] for pair in found) if whole else (),
        beside=tuple(calls[block].beside for block in blocks),
        norm=_norm(model, blocks, calls),
    )


def _blocks(model: nn.Module, calls: dict[nn.Module, Call]) -> tuple[nn.Module, ...]:
    """The longest list of modules that hand one stream on to each other; of equal ones the outermost."""
    found: tuple[nn.Module, ...] = ()
    for module in model.modules():
        if not isinstance(module, nn.ModuleList) or len(module) <= len(found):
            continue
        chain = [calls.get(block, Call()) for block in module]
        shapes = {None if t is None else t.shape for call in chain for t in (call.given, call.made)}
        linked = all(_equal(a.made, b.given) for a, b in itertools.pairwise(chain))
        if len(shapes) == 1 and None not in shapes and linked:
            found = tuple(module)
    return found


def _embed(
    model: Any, blocks: Sequence[nn.Module], calls: dict[nn.Module, Call], tolerance: float
) -> tuple[nn.Module, ...]:
    """The token embedding, or it and the one of positions, where they alone make the start of the stream."""
    token = model.get_input_embeddings()
    start, made = calls[blocks[0]].given, calls.get(token, Call()).made
    if start is None or made is None or made.shape != start.shape:
        return ()
    if torch.equal(made, start):
        return (token,)
    inside = {m for block in blocks for m in block.modules()}
    others = [m for m in calls if m not in inside and m is not token]
    position = _maker(start - made, others, calls, tolerance)
    return () if position is None else (token, position)


def _summands(block: nn.Module, calls: dict[nn.Module, Call], tolerance: float) -> tuple[Matrix, nn.Module] | None:
    """(the attention's output matrix, the MLP) of a block that adds both to its stream as they are, else None."""
    attention = [m for m in block.modules() if calls.get(m, Call()).attends and m is not block]
    if not attention:
        return None
    inside = set(attention[-1].modules())  # the innermost: an outer one hands on what it returned
    call = calls[block]
    assert call.given is not None and call.made is not None  # it stands in a chain
    added = call.made - call.given
    others = [m for m in block.modules() if m not in inside and m is not block]
    for matrix in inside:
        made = calls.get(matrix, Call()).made
        if isinstance(matrix, Matrix) and made is not None and made.shape == added.shape:
            if (mlp := _maker(added - made, others, calls, tolerance)) is not None:
                return matrix, mlp
    return None


def _norm(model: Any, blocks: Sequence[nn.Module], calls: dict[nn.Module, Call]) -> nn.Module | None:
    """The one module that makes the head's input from the last block's output."""
    head = model.get_output_embeddings()
    wanted, last = calls.get(head, Call()).given, calls[blocks[-1]].made
    fits = [m for m, call in calls.items() if _equal(call.given, last) and _equal(call.made, wanted)]
    return fits[0] if len(fits) == 1 and not isinstance(fits[0], Matrix) else None


def _maker(
    wanted: Tensor, among: Sequence[nn.Module], calls: dict[nn.Module, Call], tolerance: float
) -> nn.Module | None:
    """The module whose output is `wanted` [T, C], the closest where several are; None where none is."""
    made = [(m, t) for m in among if (t := calls.get(m, Call()).made) is not None and t.shape == wanted.shape]
    close = [(float((t - wanted).abs().max()), i, m) for i, (m, t) in enumerate(made) if near(t, wanted, tolerance)]
    return min(close)[2] if close else None


def find_readout(
    model: Any, norm: nn.Module | None, last: Tensor, logits: Tensor, tolerance: float
) -> Callable[[Any], Readout] | None:
    """What makes the readout from the head's matrix, where norm and head are all that stands behind the last block.

    last: [T, C] the stream behind the last block. logits: [T, V] what the model made of it. The norm's weight and bias
    are measured and not read, since some families store the weight less 1.
    """
    head, width = model.get_output_embeddings(), last.shape[1]
    epsilon = next((v for n, v in vars(norm or model).items() if "eps" in n and isinstance(v, float)), None)
    if norm is None or epsilon is None or not isinstance(head, nn.Linear) or width < 2:
        return None
    norm = copy.deepcopy(norm).float()  # in float32, so that the weight comes out exactly
    ones, ups = torch.ones(1, width, device=last.device), width - width // 2
    even = torch.where(torch.arange(width, device=last.device) < ups, 1.0, -ups / (width - ups))[None]  # its mean is 0
    with torch.inference_mode():
        bias = norm(0 * ones)[0]
        centres = near(norm(ones)[0], bias, 1e-6)  # a LayerNorm
        row = even if centres else ones
        weight = (norm(row)[0] - bias) / (row[0] * (row.square().mean() + epsilon).rsqrt())
    make = partial(Readout, to_numpy(weight), to_numpy(bias) if centres else None, epsilon)
    normed = torch.from_numpy(make(to_numpy(head.weight[:1])).normed(to_numpy(last))).to(head.weight.device)
    return make if near(normed @ head.weight.float().T, logits, tolerance) else None


def near(a: Tensor, b: Tensor, tolerance: float) -> bool:
    """Whether two tensors agree within `tolerance` times the largest number of the second, or 1."""
    finite = b[b.isfinite()]
    scale = max(1.0, float(finite.abs().max())) if finite.numel() else 1.0
    return torch.allclose(a, b, rtol=0.0, atol=tolerance * scale, equal_nan=True)


def to_numpy(tensor: Tensor) -> Any:
    """float32 on the CPU; of a float32 weight there the very memory."""
    return tensor.detach().to("cpu", torch.float32).numpy()


def first_tensor(value: Any) -> Tensor | None:
    """The tensor, or the first of what a module gave back."""
    if isinstance(value, dict):
        value = next(iter(value.values()), None)
    elif isinstance(value, tuple | list):
        value = value[0] if value else None
    return value if isinstance(value, Tensor) else None


def given_tensor(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """The stream that a module was given: its first tensor, by place or by name."""
    return next((v for v in (*args, *kwargs.values()) if isinstance(v, Tensor)), None)


def _rows(tensor: Tensor | None) -> Tensor | None:
    """A copy as [T, width] in float32: what comes after may change the original in place."""
    if tensor is None or tensor.ndim < 2:
        return None
    return tensor.detach().reshape(-1, tensor.shape[-1]).to(torch.float32, copy=True)


def _attends(value: Any, count: int) -> bool:
    """Whether this is attention of one text: [1, nh, T, T], rows that sum to 1, nothing of the future."""
    if not isinstance(value, Tensor) or value.ndim != 4 or value.shape[0] != 1 or value.shape[2:] != (count, count):
        return False
    return near(value.float().sum(-1), torch.ones_like(value[..., 0], dtype=torch.float32), 1e-2) and not bool(
        value.triu(1).any()
    )


def _equal(a: Tensor | None, b: Tensor | None) -> bool:
    return a is not None and b is not None and a.shape == b.shape and torch.equal(a, b)
