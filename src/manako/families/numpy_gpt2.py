"""The GPT-2 forward pass in NumPy: every intermediate an ordinary array, one function for prompt and single token.

Special here: the cache holds each head's block contiguous, so a step is a handful of BLAS calls; past the context there
is no valid cache, since every position changes, and the last `block_size` tokens are recomputed. Where only the
last row is wanted, the last block works on that row alone. What it is asked to keep is what it computes anyway, so a
run with captures has the same bits. Computes in the dtype of its weights (float32 in use).

Letters: T tokens given, P tokens cached, C = n_embd, nh heads, hs = C / nh, V logits. Names: GPT-2 for weights,
TransformerLens for activations. Source: Radford et al. 2019; parity with `transformers` GPT2LMHeadModel is tested.
"""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from manako.families.activations import Activations
from manako.families.gpt2 import ModelConfig
from manako.families.readout import Readout, layer_norm

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
        head = self.weights.get("lm_head.weight", self.weights["wte.weight"])  # [V, C]
        final = self.weights["ln_f.weight"], self.weights["ln_f.bias"]
        self.readout = Readout(*final, config.layer_norm_epsilon, head)
        self.activation = ACTIVATION[config.activation_function]

    def new_cache(self) -> Cache:
        """An empty cache for this model."""
        return Cache(self.config, self.dtype)

    def forward(
        self, ids: Sequence[int] | Array, cache: Cache, last_only: bool = True, keep: Activations | None = None
    ) -> Array:
        """Logits of `ids`, which follow the tokens in `cache`; the cache grows by them.

        Returns [1, V] for the last token alone, or [T, V]. P + T must not exceed block_size. keep: filled on the way.
        """
        T, P, last = len(ids), cache.length, self.config.n_layer - 1
        R = 1 if last_only else T
        with np.errstate(over="ignore", invalid="ignore"):  # the caller checks logits and names the layer
            token, position = self.weights["wte.weight"][np.asarray(ids)], self.weights["wpe.weight"][P : P + T]
            x = token + position  # [T, C]
            if keep is not None:
                keep.returned = R
                keep.embed += [token, position]
            for i in range(self.config.n_layer):
                x = self.block(i, x, cache, R if i == last else T, keep)
            cache.length = P + T
            if keep is not None:
                keep.trim(R)
            return self.readout.logits(x[-R:])  # [R, V]

    def block(self, i: int, resid_pre: Array, cache: Cache, rows: int, keep: Activations | None = None) -> Array:
        """One block: resid_pre [T, C] -> resid_post [rows, C], of the last `rows` tokens."""
        c = self.config
        x = resid_pre
        if c.attention:
            given = self.norm(f"h.{i}.ln_1", x) if c.norm == "pre" else x
            attn_out = self.attention(i, given, cache, rows, keep)  # [rows, C]
            x = x[-rows:] + attn_out if c.residual else attn_out
            x = self.norm(f"h.{i}.ln_1", x) if c.norm == "post" else x  # resid_mid
        else:
            x = x[-rows:]
        given = self.norm(f"h.{i}.ln_2", x) if c.norm == "pre" else x
        mlp_out = self.linear(f"h.{i}.mlp.c_proj", self.activation(self.linear(f"h.{i}.mlp.c_fc", given)))
        x = x + mlp_out if c.residual else mlp_out
        x = self.norm(f"h.{i}.ln_2", x) if c.norm == "post" else x
        if keep is not None:
            keep.mlp_out.append(mlp_out)
            keep.resid_post.append(x)
        return x

    def attention(self, i: int, x: Array, cache: Cache, rows: int, keep: Activations | None = None) -> Array:
        """Every token looks at itself and the past: x [T, C] -> [rows, C], of the last `rows` tokens."""
        (T, C), P, nh = x.shape, cache.length, self.config.n_head
        qkv = self.linear(f"h.{i}.attn.c_attn", x).reshape(T, 3, nh, C // nh)
        q, k, v = qkv.transpose(1, 2, 0, 3)  # 3 x [nh, T, hs]
        cache.k[i, :, P : P + T], cache.v[i, :, P : P + T] = k, v
        q = q * self.dtype.type(1 / math.sqrt(C // nh))
        first, seen = T - rows, T - (keep.pattern_rows(T) if keep is not None else 0)  # rows of z and of pattern
        z = np.empty((rows, nh, C // nh), dtype=x.dtype)
        pattern = np.zeros((nh, T - seen, P + T), dtype=x.dtype)
        # Rows that only a capture wants are blocks of their own, so that the others have the same bits without it.
        for start, stop in pairwise([*range(seen, first, QUERY_BLOCK), *range(first, T, QUERY_BLOCK), T]):
            keys, values = cache.k[i, :, : P + stop], cache.v[i, :, : P + stop]
            scores = q[:, start:stop] @ keys.transpose(0, 2, 1)  # [nh, stop - start, P + stop]
            if stop - start > 1:
                scores[:, :, P + start :] += _future(stop - start, x.dtype)
            scores -= np.maximum.reduce(scores, axis=-1, keepdims=True)
            np.exp(scores, out=scores)
            sums = np.add.reduce(scores, axis=-1, keepdims=True)  # pattern = scores / sums: divided where it is smaller
            if start >= first:
                z[start - first : stop - first] = ((scores @ values) / sums).transpose(1, 0, 2)
            if (low := max(start, seen)) < stop:
                out = pattern[:, low - seen : stop - seen, : P + stop]
                np.divide(scores[:, low - start :], sums[:, low - start :], out=out)
        if keep is not None:
            keep.z.append(z)
            keep.pattern.append(pattern)
        return self.linear(f"h.{i}.attn.c_proj", z.reshape(rows, C))

    def linear(self, name: str, x: Array) -> Array:
        """x [T, in] -> [T, out]."""
        y = x @ self.weights[name + ".weight"]
        y += self.weights[name + ".bias"]
        return y

    def norm(self, name: str, x: Array) -> Array:
        """LayerNorm over the last axis."""
        return layer_norm(
            x, self.weights[name + ".weight"], self.weights[name + ".bias"], self.config.layer_norm_epsilon
        )

    def first_bad_layer(self, ids: Sequence[int] | Array) -> int:
        """The first block, from 1, whose output is not finite; 0 means the embedding, n_layer + 1 the head."""
        cache = self.new_cache()
        with np.errstate(over="ignore", invalid="ignore"):
            x = self.weights["wte.weight"][np.asarray(ids)] + self.weights["wpe.weight"][: len(ids)]
            for i in range(self.config.n_layer):
                if not np.isfinite(x).all():
                    return i
                x = self.block(i, x, cache, len(ids))
        return self.config.n_layer + int(np.isfinite(x).all())

    def unembed(self, resid: Array) -> Array:
        """[R, C] -> [R, V]: what the final norm and the output matrix say of any row of the residual stream."""
        return self.readout.logits(resid)

    @property
    def lacks(self) -> Mapping[str, str]:
        """What cannot be captured, with the catalog key of the reason: an ablated model has less to show."""
        c, found = self.config, {}
        if not c.attention:
            found["attention"] = "lacks.no_attention"
        if not c.residual or c.norm == "post":  # a part's output does not reach the logits as it is
            found["contributions"] = "lacks.no_sum"
        return found

    def output_weight(self, i: int) -> Array:
        """Block i's matrix from the heads to the residual stream, [nh * hs, C]."""
        return self.weights[f"h.{i}.attn.c_proj.weight"]

    def output_bias(self, i: int) -> Array | None:
        """[C]: what that block's attention adds whatever its heads read."""
        return self.weights[f"h.{i}.attn.c_proj.bias"]

    def with_output(self, i: int, weight: Array, bias: Array) -> "NumpyGPT2":
        """This model with another such matrix and bias."""
        return self._with({f"h.{i}.attn.c_proj.weight": weight, f"h.{i}.attn.c_proj.bias": bias})

    def with_constant_mlp(self, i: int, out: Array) -> "NumpyGPT2":
        """This model with `out` [C] as the output of block i's MLP, whatever the text."""
        zero = np.zeros_like(self.weights[f"h.{i}.mlp.c_proj.weight"])
        return self._with({f"h.{i}.mlp.c_proj.weight": zero, f"h.{i}.mlp.c_proj.bias": out})

    def _with(self, weights: Mapping[str, Array]) -> "NumpyGPT2":
        changed = copy.copy(self)
        changed.weights = self.weights | dict(weights)
        return changed


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
