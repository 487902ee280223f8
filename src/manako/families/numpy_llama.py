"""The Llama forward pass in NumPy: RMSNorm, rotary positions, grouped queries, SwiGLU.

Special here: keys are cached as they were turned, so a cached step turns one row. The cache grows by doubling, since a
context of 131,072 tokens would take gigabytes at once. Query, key and value are one product, gate and up another.
Weights keep the orientation of the file, [out, in]: a product of one row reads them in order. What it is asked to keep
never changes a bit: attention rows that only a capture wants are computed beside the row that counts.

Letters: T tokens given, P tokens cached, R rows returned, C = n_embd, nh heads, nkv heads of keys and values, G = nh /
nkv, hs the size of one head, V logits. Names: HF for weights, TransformerLens for activations. Source: Touvron et al.
2023, arXiv:2302.13971; parity with `transformers` LlamaForCausalLM, Qwen2ForCausalLM and MistralForCausalLM is tested.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from manako.families.activations import Activations
from manako.families.llama import LlamaConfig
from manako.families.readout import Readout, rms_norm

Array = npt.NDArray[Any]
QUERY_BLOCK = 64  # rows of attention at a time: keeps scores in the cache and skips most of the masked half
_FIRST_ROOM = 256  # tokens that a new cache has room for
_FUSED = {  # one product, whose result is cut into these: the same numbers in fewer calls
    "self_attn.qkv_proj": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "mlp.gate_up_proj": ("mlp.gate_proj", "mlp.up_proj"),
}


class Cache:
    """Turned keys, and values, of the tokens seen so far: [n_layer, nkv, room, hs] each."""

    def __init__(self, config: LlamaConfig, dtype: npt.DTypeLike) -> None:
        room = min(_FIRST_ROOM, config.block_size)
        shape = (config.n_layer, config.n_kv_head, room, config.head_size)
        self.k = np.empty(shape, dtype=dtype)
        self.v = np.empty(shape, dtype=dtype)
        self.length = 0
        self.limit = config.block_size

    def make_room(self, length: int) -> None:
        """Room for `length` tokens, at least twice what there was, at most the context."""
        room = self.k.shape[2]
        if length > room:
            self.k, self.v = (self._grown(a, max(length, min(2 * room, self.limit))) for a in (self.k, self.v))

    def _grown(self, old: Array, room: int) -> Array:
        new = np.empty((*old.shape[:2], room, old.shape[3]), dtype=old.dtype)
        new[:, :, : self.length] = old[:, :, : self.length]
        return new


class NumpyLlama:
    """A Llama style model with its weights: `forward` is the whole of it."""

    name = "numpy"
    device = "cpu"
    lacks: Mapping[str, str] = {}
    """What cannot be captured: nothing."""

    def __init__(self, config: LlamaConfig, tensors: Mapping[str, Array]) -> None:
        self.config = config
        parts = {name for names in _FUSED.values() for name in names}
        # layers.0.mlp.up_proj.weight is part of another array; without its layer and kind it is mlp.up_proj
        self.weights = {
            n: np.ascontiguousarray(t) for n, t in tensors.items() if ".".join(n.split(".")[2:-1]) not in parts
        }
        for i in range(config.n_layer):
            for fused, names in _FUSED.items():
                for kind in ("weight", "bias"):
                    if f"layers.{i}.{names[0]}.{kind}" in tensors:
                        joined = np.concatenate([tensors[f"layers.{i}.{name}.{kind}"] for name in names])
                        self.weights[f"layers.{i}.{fused}.{kind}"] = joined
        self.embedding = self.weights["embed_tokens.weight"]  # [V, C]
        self.dtype = self.embedding.dtype
        self.frequencies = config.rope.frequencies(config.head_size, self.dtype)  # [hs / 2]
        head = self.weights.get("lm_head.weight", self.embedding)  # [V, C]
        self.readout = Readout(self.weights["norm.weight"], None, config.rms_norm_epsilon, head)

    def new_cache(self) -> Cache:
        """An empty cache for this model."""
        return Cache(self.config, self.dtype)

    def forward(
        self, ids: Sequence[int] | Array, cache: Cache, last_only: bool = True, keep: Activations | None = None
    ) -> Array:
        """Logits of `ids`, which follow the tokens in `cache`; the cache grows by them.

        Returns [1, V] for the last token alone, or [T, V]. P + T must not exceed block_size. keep: filled on the way.
        """
        T, P = len(ids), cache.length
        R = 1 if last_only else T
        cache.make_room(P + T)
        with np.errstate(over="ignore", invalid="ignore"):  # the caller checks logits and names the layer
            x = self.embedding[np.asarray(ids)]  # [T, C]
            turn = self.rotation(P, T)
            if keep is not None:
                keep.returned = R
                keep.embed.append(x)
            for i in range(self.config.n_layer):
                x = self.block(i, x, turn, cache, R if i == self.config.n_layer - 1 else T, keep)
            cache.length = P + T
            if keep is not None:
                keep.trim(R)
            return self.readout.logits(x)  # [R, V]

    def block(
        self,
        i: int,
        resid_pre: Array,
        turn: tuple[Array, Array],
        cache: Cache,
        rows: int,
        keep: Activations | None = None,
    ) -> Array:
        """One block: resid_pre [T, C] -> resid_post [rows, C], of the last `rows` tokens."""
        given = self.norm(f"layers.{i}.input_layernorm", resid_pre)
        z = self.attention(i, given, turn, cache, rows, keep)
        resid_mid = self.linear(f"layers.{i}.self_attn.o_proj", z.reshape(rows, -1))  # [rows, C] attn_out
        resid_mid += resid_pre[-rows:]
        mlp_out = self.mlp(i, self.norm(f"layers.{i}.post_attention_layernorm", resid_mid))
        resid_post = resid_mid + mlp_out
        if keep is not None:
            keep.mlp_out.append(mlp_out)
            keep.resid_post.append(resid_post)
        return resid_post

    def attention(
        self, i: int, x: Array, turn: tuple[Array, Array], cache: Cache, rows: int, keep: Activations | None = None
    ) -> Array:
        """Every token looks at itself and the past: x [T, C] -> z [rows, nh, hs], what heads of the last rows read."""
        T, P, nh, nkv, hs = len(x), cache.length, self.config.n_head, self.config.n_kv_head, self.config.head_size
        qkv = self.linear(f"layers.{i}.self_attn.qkv_proj", x).reshape(T, nh + 2 * nkv, hs)
        turned = turned_by(turn, qkv[:, : nh + nkv])
        cache.k[i, :, P : P + T] = turned[:, nh:].transpose(1, 0, 2)
        cache.v[i, :, P : P + T] = qkv[:, nh + nkv :].transpose(1, 0, 2)
        q = (turned[:, :nh] * self.dtype.type(1 / math.sqrt(hs))).transpose(1, 0, 2)  # [nh, T, hs]
        first, seen = T - rows, T - (keep.pattern_rows(T) if keep is not None else 0)  # rows of z and of pattern
        z = np.empty((rows, nh, hs), dtype=x.dtype)
        pattern = np.zeros((nh, T - seen, P + T), dtype=x.dtype)
        for start, stop in pairwise([*range(seen, first, QUERY_BLOCK), *range(first, T, QUERY_BLOCK), T]):
            keys, values = cache.k[i, :, : P + stop], cache.v[i, :, : P + stop]  # [nkv, P + stop, hs]
            # Heads that share keys lie behind each other, so their rows are one matrix: no key is copied.
            scores = q[:, start:stop].reshape(nkv, -1, hs) @ keys.transpose(0, 2, 1)  # [nkv, G * (stop - start), ...]
            if stop - start > 1:
                scores.reshape(nh, stop - start, -1)[:, :, P + start :] += _future(stop - start, x.dtype)
            scores -= np.maximum.reduce(scores, axis=-1, keepdims=True)
            np.exp(scores, out=scores)
            sums = np.add.reduce(scores, axis=-1, keepdims=True)  # pattern = scores / sums: divided where it is smaller
            if start >= first:
                read = ((scores @ values) / sums).reshape(nh, stop - start, hs)
                z[start - first : stop - first] = read.transpose(1, 0, 2)
            if (low := max(start, seen)) < stop:
                shares = (scores / sums).reshape(nh, stop - start, -1)
                pattern[:, low - seen : stop - seen, : P + stop] = shares[:, low - start :]
        if keep is not None:
            keep.z.append(z)
            keep.pattern.append(pattern)
        return z

    def mlp(self, i: int, x: Array) -> Array:
        """SwiGLU: [T, C] -> [T, C]. Source: Shazeer 2020, arXiv:2002.05202."""
        both = self.linear(f"layers.{i}.mlp.gate_up_proj", x)  # [T, 2 n_mlp]
        gate, up = both[:, : self.config.n_mlp], both[:, self.config.n_mlp :]
        hidden = np.negative(gate)
        np.exp(hidden, out=hidden)
        hidden += 1
        np.divide(gate, hidden, out=hidden)  # silu(gate)
        hidden *= up
        return self.linear(f"layers.{i}.mlp.down_proj", hidden)

    def linear(self, name: str, x: Array) -> Array:
        """x [T, in] -> [T, out], with a bias where there is one."""
        y = x @ self.weights[name + ".weight"].T
        if (bias := self.weights.get(name + ".bias")) is not None:
            y += bias
        return y

    def norm(self, name: str, x: Array) -> Array:
        """RMSNorm over the last axis."""
        return rms_norm(x, self.weights[name + ".weight"], self.config.rms_norm_epsilon)

    def rotation(self, first: int, count: int) -> tuple[Array, Array]:
        """Cosine and sine for positions from `first` on, [count, 1, hs / 2] each."""
        angles = np.arange(first, first + count, dtype=self.dtype)[:, None, None] * self.frequencies
        scale = self.dtype.type(self.config.rope.attention_factor)
        return np.cos(angles) * scale, np.sin(angles) * scale

    def first_bad_layer(self, ids: Sequence[int] | Array) -> int:
        """The first block, from 1, whose output is not finite; 0 means the embedding, n_layer + 1 the head."""
        cache = self.new_cache()
        cache.make_room(len(ids))
        with np.errstate(over="ignore", invalid="ignore"):
            x, turn = self.embedding[np.asarray(ids)], self.rotation(0, len(ids))
            for i in range(self.config.n_layer):
                if not np.isfinite(x).all():
                    return i
                x = self.block(i, x, turn, cache, len(ids))
        return self.config.n_layer + int(np.isfinite(x).all())

    def unembed(self, resid: Array) -> Array:
        """[R, C] -> [R, V]: what the final norm and the output matrix say of any row of the residual stream."""
        return self.readout.logits(resid)

    def output_weight(self, i: int) -> Array:
        """Block i's matrix from the heads to the residual stream, [nh * hs, C]."""
        return self.weights[f"layers.{i}.self_attn.o_proj.weight"].T

    def output_bias(self, i: int) -> Array | None:
        """[C]: what that block's attention adds whatever its heads read; None where it adds nothing."""
        return self.weights.get(f"layers.{i}.self_attn.o_proj.bias")

    def with_output(self, i: int, weight: Array, bias: Array) -> "NumpyLlama":
        """This model with another such matrix and bias."""
        name = f"layers.{i}.self_attn.o_proj"
        return self._with({f"{name}.weight": np.ascontiguousarray(weight.T), f"{name}.bias": bias})

    def with_constant_mlp(self, i: int, out: Array) -> "NumpyLlama":
        """This model with `out` [C] as the output of block i's MLP, whatever the text."""
        name = f"layers.{i}.mlp.down_proj"
        return self._with({f"{name}.weight": np.zeros_like(self.weights[f"{name}.weight"]), f"{name}.bias": out})

    def _with(self, weights: Mapping[str, Array]) -> "NumpyLlama":
        changed = copy.copy(self)
        changed.weights = self.weights | dict(weights)
        return changed


def turned_by(turn: tuple[Array, Array], x: Array) -> Array:
    """x [T, heads, hs] with each pair (j, j + hs / 2) turned by its angle; a new array. Source: arXiv:2104.09864.

    HF files have the halves of a head apart, where the paper has each pair side by side.
    """
    cos, sin = turn
    half = x.shape[-1] // 2
    a, b = x[..., :half], x[..., half:]
    return np.concatenate((a * cos - b * sin, b * cos + a * sin), axis=-1)


def _future(rows: int, dtype: npt.DTypeLike) -> Array:
    """[rows, rows]: 0 where a row may look, -inf above the diagonal."""
    return np.triu(np.full((rows, rows), -np.inf, dtype=dtype), k=1)
