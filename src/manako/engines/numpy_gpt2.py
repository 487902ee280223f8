"""The GPT-2 forward pass in NumPy: every intermediate an ordinary array, one function for prompt and single token.

Special here: the cache holds each head's block contiguous, so a step is a handful of BLAS calls; past the context there
is no valid cache, since every position changes, and the last `block_size` tokens are recomputed. Where only the
last row is wanted, the last block works on that row alone. Computes in the dtype of its weights (float32 in use).

Letters: T tokens given, P tokens cached, C = n_embd, nh heads, hs = C / nh, V logits. Names: GPT-2 for weights,
TransformerLens for activations. Source: Radford et al. 2019; parity with `transformers` GPT2LMHeadModel is tested.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from manako.checkpoint import ModelConfig

Array = npt.NDArray[Any]
QUERY_BLOCK = 64  # rows of attention at a time: keeps scores in the cache and skips most of the masked half


class Cache:
    """Keys and values of the tokens seen so far, [n_layer, nh, block_size, hs] each."""

    def __init__(self, config: ModelConfig, dtype: npt.DTypeLike) -> None:
        layers = config.n_layer if config.attention else 0
        shape = (layers, config.n_head, config.block_size, config.n_embd // config.n_head)
        self.k = np.empty(shape, dtype=dtype)
        self.v = np.empty(shape, dtype=dtype)
        self.length = 0


class NumpyGPT2:
    """A GPT-2 style model with its weights: `forward` is the whole of it."""

    name = "numpy"
    device = "cpu"

    def __init__(self, config: ModelConfig, tensors: Mapping[str, Array]) -> None:
        self.config = config
        self.weights = {name: np.ascontiguousarray(t) for name, t in tensors.items()}
        self.dtype = self.weights["wte.weight"].dtype
        self.head = self.weights.get("lm_head.weight", self.weights["wte.weight"])  # [V, C]
        self.activation = ACTIVATION[config.activation_function]

    def new_cache(self) -> Cache:
        """An empty cache for this model."""
        return Cache(self.config, self.dtype)

    def forward(self, ids: Sequence[int] | Array, cache: Cache, last_only: bool = True) -> Array:
        """Logits of `ids`, which follow the tokens in `cache`; the cache grows by them.

        Returns [1, V] for the last token alone, or [T, V]. P + T must not exceed block_size.
        """
        T, P = len(ids), cache.length
        with np.errstate(over="ignore", invalid="ignore"):  # the caller checks logits and names the layer
            x = self.weights["wte.weight"][np.asarray(ids)] + self.weights["wpe.weight"][P : P + T]  # [T, C]
            for i in range(self.config.n_layer):
                x = self.block(i, x, cache, only_last=last_only and i == self.config.n_layer - 1)
            cache.length = P + T
            return self.norm("ln_f", x) @ self.head.T  # [T or 1, V]

    def block(self, i: int, resid_pre: Array, cache: Cache, only_last: bool) -> Array:
        """One block: resid_pre [T, C] -> resid_post [T, C], or [1, C] when only the last row is wanted."""
        c = self.config
        x = resid_pre
        if c.attention:
            given = self.norm(f"h.{i}.ln_1", x) if c.norm == "pre" else x
            attn_out = self.attention(i, given, cache, only_last)  # [T or 1, C]
            x = x[-1:] + attn_out if c.residual and only_last else x + attn_out if c.residual else attn_out
            x = self.norm(f"h.{i}.ln_1", x) if c.norm == "post" else x  # resid_mid
        elif only_last:
            x = x[-1:]
        given = self.norm(f"h.{i}.ln_2", x) if c.norm == "pre" else x
        mlp_out = self.linear(f"h.{i}.mlp.c_proj", self.activation(self.linear(f"h.{i}.mlp.c_fc", given)))
        x = x + mlp_out if c.residual else mlp_out
        return self.norm(f"h.{i}.ln_2", x) if c.norm == "post" else x

    def attention(self, i: int, x: Array, cache: Cache, only_last: bool) -> Array:
        """Every token looks at itself and the past: x [T, C] -> [T, C], or [1, C] for the last token."""
        (T, C), P, nh = x.shape, cache.length, self.config.n_head
        qkv = self.linear(f"h.{i}.attn.c_attn", x).reshape(T, 3, nh, C // nh)
        q, k, v = qkv.transpose(1, 2, 0, 3)  # 3 x [nh, T, hs]
        cache.k[i, :, P : P + T], cache.v[i, :, P : P + T] = k, v
        q = q * self.dtype.type(1 / math.sqrt(C // nh))
        first = T - 1 if only_last else 0
        z = np.empty((T - first, nh, C // nh), dtype=x.dtype)
        for start in range(first, T, QUERY_BLOCK):
            stop = min(start + QUERY_BLOCK, T)
            keys, values = cache.k[i, :, : P + stop], cache.v[i, :, : P + stop]
            scores = q[:, start:stop] @ keys.transpose(0, 2, 1)  # [nh, rows, P + stop]
            if stop - start > 1:
                scores[:, :, P + start :] += _future(stop - start, x.dtype)
            scores -= np.maximum.reduce(scores, axis=-1, keepdims=True)
            np.exp(scores, out=scores)
            sums = np.add.reduce(scores, axis=-1, keepdims=True)  # pattern = scores / sums: divided where it is smaller
            z[start - first : stop - first] = ((scores @ values) / sums).transpose(1, 0, 2)
        return self.linear(f"h.{i}.attn.c_proj", z.reshape(T - first, C))

    def linear(self, name: str, x: Array) -> Array:
        """x [T, in] -> [T, out]."""
        y = x @ self.weights[name + ".weight"]
        y += self.weights[name + ".bias"]
        return y

    def norm(self, name: str, x: Array) -> Array:
        """LayerNorm over the last axis. Source: Ba et al. 2016, arXiv:1607.06450."""
        width = self.dtype.type(1 / x.shape[-1])
        x = x - np.add.reduce(x, axis=-1, keepdims=True) * width
        variance = np.add.reduce(x * x, axis=-1, keepdims=True) * width
        x *= 1 / np.sqrt(variance + self.dtype.type(self.config.layer_norm_epsilon))
        x *= self.weights[name + ".weight"]
        x += self.weights[name + ".bias"]
        return x

    def first_bad_layer(self, ids: Sequence[int] | Array) -> int:
        """The first block, from 1, whose output is not finite; 0 means the embedding, n_layer + 1 the head."""
        cache = self.new_cache()
        with np.errstate(over="ignore", invalid="ignore"):
            x = self.weights["wte.weight"][np.asarray(ids)] + self.weights["wpe.weight"][: len(ids)]
            for i in range(self.config.n_layer):
                if not np.isfinite(x).all():
                    return i
                x = self.block(i, x, cache, only_last=False)
        return self.config.n_layer + int(np.isfinite(x).all())


def gelu_new(x: Array) -> Array:
    """GPT-2's tanh form of GELU. Source: Hendrycks and Gimpel 2016, arXiv:1606.08415, and openai/gpt-2."""
    inner = x * x
    inner *= x.dtype.type(0.044715)
    inner += 1
    inner *= x
    inner *= x.dtype.type(math.sqrt(2 / math.pi))
    np.tanh(inner, out=inner)
    inner += 1
    inner *= x
    inner *= x.dtype.type(0.5)
    return inner


def gelu(x: Array) -> Array:
    """Exact GELU, x times the normal distribution function."""
    return x.dtype.type(0.5) * x * (1 + erf(x * x.dtype.type(math.sqrt(0.5))))


def relu(x: Array) -> Array:
    """max(x, 0)."""
    return np.maximum(x, 0)


def erf(x: Array) -> Array:
    """The error function, which NumPy lacks.

    float32: the rational approximation of Eigen and XLA (`generic_fast_erf_float`), within 5e-7 of `math.erf`
    everywhere. Other types: `math.erf` itself, for tests that need every digit.
    """
    if x.dtype != np.float32:
        return np.vectorize(math.erf, otypes=[x.dtype])(x)
    x = np.clip(x, -4, 4)
    x2 = x * x
    return x * _polynomial(x2, _ERF_ABOVE) / _polynomial(x2, _ERF_BELOW)


ACTIVATION: Mapping[str, Callable[[Array], Array]] = {"gelu_new": gelu_new, "gelu": gelu, "relu": relu}
_ERF_ABOVE = (
    -2.72614225801306e-10,
    2.77068142495902e-08,
    -2.10102402082508e-06,
    -5.69250639462346e-05,
    -7.34990630326855e-04,
    -2.95459980854025e-03,
    -1.60960333262415e-02,
)
_ERF_BELOW = (
    -1.45660718464996e-05,
    -2.13374055278905e-04,
    -1.68282697438203e-03,
    -7.37332916720468e-03,
    -1.42647390514189e-02,
)


def _polynomial(x: Array, coefficients: Sequence[float]) -> Array:
    total = np.full_like(x, coefficients[0])
    for c in coefficients[1:]:
        total *= x
        total += x.dtype.type(c)
    return total


def _future(rows: int, dtype: npt.DTypeLike) -> Array:
    """[rows, rows]: 0 where a row may look, -inf above the diagonal."""
    return np.triu(np.full((rows, rows), -np.inf, dtype=dtype), k=1)
