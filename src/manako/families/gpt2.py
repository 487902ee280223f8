"""GPT-2: its shape, its files, and its forward pass in NumPy, with every intermediate an ordinary array.

Special here: names as in nanoGPT; `n_positions` on disk is `block_size` everywhere else. A model trained with an
ablation switch has its own `model_type`, so that no other loader takes it for a plain GPT-2. Past the context there is
no valid cache, since every position changes, and the last `block_size` tokens are recomputed. Where only the last row
is wanted, the last block works on that row alone. What it is asked to keep is what it computes anyway, so a run with
captures has the same bits.

Letters: T tokens given, P tokens cached, R rows returned, C = n_embd, nh heads, hs = C / nh, V logits. Names: GPT-2 for
weights, TransformerLens for activations. Source: Radford et al. 2019; parity with `transformers` GPT2LMHeadModel is
tested.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from manako.checks import Rule
from manako.errors import LoadError
from manako.families.activations import Activations
from manako.families.attention import Cache, attend
from manako.families.family import Family, GGUFLayout, GGUFSettings, StoredTensor
from manako.families.nonlinear import ACTIVATION
from manako.families.numpy_model import NumpyModel
from manako.families.readout import Readout, layer_norm
from manako.families.shape import FLAG, Notices, Shape, check_ids, check_value, whole
from manako.families.weights import Weights, held

Array = npt.NDArray[Any]
ABLATED_MODEL_TYPE = "manako_gpt2_ablated"
_FIXED = {"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False, "add_cross_attention": False}
RULES: Mapping[str, Rule] = {
    "n_layer": whole(1, 1_000),
    "n_head": whole(1, 1_000),
    "n_embd": whole(1, 65_536),
    "block_size": whole(1, 10_000_000),
    "vocab_size": whole(1, 5_000_000),
    "activation_function": {"type": "string", "enum": list(ACTIVATION)},
    "layer_norm_epsilon": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    "tie_word_embeddings": FLAG,
    "n_inner": {"type": ["integer", "null"], "minimum": 1, "maximum": 1_000_000},
    "residual": FLAG,
    "norm": {"type": "string", "enum": ["pre", "post"]},
    "attention": FLAG,
    "trained_on": {
        "type": ["object", "null"],
        "additionalProperties": {"type": "string", "pattern": "(?s).{0,200}"},
    },
}


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a GPT-2 style model; names as in nanoGPT."""

    n_layer: int
    n_head: int
    n_embd: int
    block_size: int
    """The longest context, `n_positions` in config.json."""
    vocab_size: int
    activation_function: str = "gelu_new"
    """gelu_new (GPT-2's tanh form), gelu (exact) or relu."""
    layer_norm_epsilon: float = 1e-5
    tie_word_embeddings: bool = True
    """Whether the output matrix is the token embedding."""
    n_inner: int | None = None
    """Width of the MLP; None means 4 n_embd."""
    residual: bool = True
    """Ablation switch: off drops `x +` from both halves of every block."""
    norm: Literal["pre", "post"] = "pre"
    """Ablation switch: where the LayerNorms of a block stand."""
    attention: bool = True
    """Ablation switch: off leaves each block its MLP alone."""
    start_id: int | None = None
    """The token that starts a document, if there is one."""
    end_ids: tuple[int, ...] = ()
    """Every token that ends a document."""
    trained_on: Mapping[str, str] | None = None
    """What text it was trained on, in words: language -> such as "English fiction 1813–1925"."""

    def __post_init__(self) -> None:
        for name, rule in RULES.items():
            check_value(name, getattr(self, name), rule)
        if self.n_embd % self.n_head:
            raise LoadError("config_heads", n_embd=self.n_embd, n_head=self.n_head)
        check_ids(self)

    @property
    def n_mlp(self) -> int:
        """Width of the hidden layer of each MLP."""
        return self.n_inner or 4 * self.n_embd

    @property
    def model_type(self) -> str:
        """Its name in config.json; an ablated one has its own, so that no loader takes it for a plain GPT-2."""
        return ABLATED_MODEL_TYPE if self.switches else "gpt2"

    @property
    def switches(self) -> tuple[str, ...]:
        """The ablation switches that differ from a plain GPT-2, as words for every view."""
        on = {"no_residual": not self.residual, "norm_post": self.norm == "post", "no_attention": not self.attention}
        return tuple(name for name, differs in on.items() if differs)

    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Every tensor of this model, by HF name without "transformer.", with its shape."""
        d, m = self.n_embd, self.n_mlp
        shapes: dict[str, tuple[int, ...]] = {"wte.weight": (self.vocab_size, d), "wpe.weight": (self.block_size, d)}
        for i in range(self.n_layer):
            if self.attention:
                shapes |= {f"h.{i}.ln_1.weight": (d,), f"h.{i}.ln_1.bias": (d,)}
                shapes |= {f"h.{i}.attn.c_attn.weight": (d, 3 * d), f"h.{i}.attn.c_attn.bias": (3 * d,)}
                shapes |= {f"h.{i}.attn.c_proj.weight": (d, d), f"h.{i}.attn.c_proj.bias": (d,)}
            shapes |= {f"h.{i}.ln_2.weight": (d,), f"h.{i}.ln_2.bias": (d,)}
            shapes |= {f"h.{i}.mlp.c_fc.weight": (d, m), f"h.{i}.mlp.c_fc.bias": (m,)}
            shapes |= {f"h.{i}.mlp.c_proj.weight": (m, d), f"h.{i}.mlp.c_proj.bias": (d,)}
        shapes |= {"ln_f.weight": (d,), "ln_f.bias": (d,)}
        if not self.tie_word_embeddings:
            shapes["lm_head.weight"] = (self.vocab_size, d)
        return shapes


def config_from_json(raw: Mapping[str, Any]) -> tuple[ModelConfig, Notices]:
    """The shape that a config.json describes, and what a user should know about it: nothing for this family.

    raw: the whole object, of model_type "gpt2" or our own for an ablated one. Raises LoadError naming key and value.
    """
    for name, only in _FIXED.items():
        if raw.get(name, only) is not only:
            raise LoadError("config_unsupported", name=name, value=raw[name])
    names = {"n_positions": "block_size"}
    known = ["n_layer", "n_head", "n_embd", "vocab_size", "activation_function", "layer_norm_epsilon"]
    known += ["tie_word_embeddings", "n_inner", "n_positions", "trained_on"]
    if raw["model_type"] == ABLATED_MODEL_TYPE:
        known += ["residual", "norm", "attention"]
    values = {names.get(k, k): raw[k] for k in known if k in raw}
    for name in ("n_layer", "n_head", "n_embd", "vocab_size", "block_size"):
        if name not in values:
            raise LoadError("config_missing", name="n_positions" if name == "block_size" else name)
    for name, kinds in {"layer_norm_epsilon": (float,), "n_inner": (int, type(None))}.items():
        if name in values and type(values[name]) not in kinds:  # not one out of its range: no such number at all
            raise LoadError("config_unsupported", name=name, value=values[name])
    return ModelConfig(**values), []


def config_to_json(config: ModelConfig, dtype: str) -> dict[str, Any]:
    """The object of a config.json that transformers reads too. dtype: of the weights beside it."""
    ablated = bool(config.switches)
    stored = asdict(config)
    start, ends, block = stored.pop("start_id"), stored.pop("end_ids"), stored.pop("block_size")
    trained_on = stored.pop("trained_on")
    switches = {name: stored.pop(name) for name in ("residual", "norm", "attention")}
    return {
        "model_type": ABLATED_MODEL_TYPE if ablated else "gpt2",
        "architectures": ["ManakoAblatedGPT2" if ablated else "GPT2LMHeadModel"],
        **stored,
        "n_positions": block,
        **(switches if ablated else {}),
        **({"trained_on": trained_on} if trained_on else {}),
        "dtype": dtype,
        # Written even when null: the reader's default, 50256, lies outside a small vocabulary.
        "bos_token_id": start,
        "eos_token_id": ends[0] if len(ends) == 1 else list(ends) or None,
        "pad_token_id": start,
    }


def config_from_gguf(settings: GGUFSettings) -> ModelConfig:
    """The shape that a GGUF file describes. Raises LoadError naming the key and its value."""
    return ModelConfig(
        n_layer=settings["block_count"],
        n_head=settings["attention.head_count"],
        n_embd=settings["embedding_length"],
        block_size=settings["context_length"],
        vocab_size=settings.vocab_size,
        layer_norm_epsilon=settings["attention.layer_norm_epsilon"],
        tie_word_embeddings="output.weight" not in settings.tensors,
        n_inner=settings.values.get("feed_forward_length"),
        start_id=settings.start_id,
        end_ids=settings.end_ids,
    )


def only_gpt2(config: Shape) -> ModelConfig:
    """The same, for what works with this family alone, such as training. Raises LoadError for another one."""
    if not isinstance(config, ModelConfig):
        raise LoadError("model_type_unknown", value=config.model_type, known="gpt2")
    return config


def _check_mask(config: ModelConfig, tensor: StoredTensor) -> None:
    """Raise LoadError for a causal mask that is none. Old files also carry the number that it puts in: no matter."""
    if not tensor.name.endswith(".attn.bias"):
        return
    *batch, rows, width = tensor.shape if len(tensor.shape) >= 2 else (0, 0)
    if rows != width or math.prod(batch) != 1 or tensor.size == 0 or rows < 1 or tensor.size % rows**2:
        raise LoadError("tensor_mask", file=tensor.file, tensor=tensor.name)
    seen = tensor.read().reshape(rows, width, -1).any(axis=2)  # [T, T], whatever the dtype
    if not np.array_equal(seen, np.tri(rows, dtype=bool)):
        raise LoadError("tensor_mask", file=tensor.file, tensor=tensor.name)


class NumpyGPT2(NumpyModel[ModelConfig]):
    """A GPT-2 style model with its weights: `forward` is the whole of it."""

    attention_output = "h.{}.attn.c_proj"
    mlp_output = "h.{}.mlp.c_proj"
    in_out = True

    def __init__(self, config: ModelConfig, tensors: Mapping[str, Array]) -> None:
        weights = held(tensors, partial(room, config))
        final = weights["ln_f.weight"], weights["ln_f.bias"]
        head = weights.get("lm_head.weight", weights["wte.weight"])  # [V, C]
        super().__init__(config, weights, Readout(*final, config.layer_norm_epsilon, head))
        self.activation = ACTIVATION[config.activation_function]

    @property
    def lacks(self) -> Mapping[str, str]:
        """What it cannot do, with the catalog key of the reason: an ablated model has less to show."""
        c, found = self.config, {}
        if not c.attention:
            found["attention"] = "lacks.no_attention"
        if not c.residual or c.norm == "post":  # a part's output does not reach the logits as it is
            found["contributions"] = "lacks.no_sum"
        return found

    def new_cache(self) -> Cache:
        """An empty cache for this model."""
        c = self.config
        return Cache(c.n_layer if c.attention else 0, c.n_head, c.n_embd // c.n_head, c.block_size, self.dtype)

    def forward(
        self, ids: Sequence[int] | Array, cache: Cache, last_only: bool = True, keep: Activations | None = None
    ) -> Array:
        """Logits of `ids`, which follow the tokens in `cache`; the cache grows by them.

        Returns [1, V] for the last token alone, or [T, V]. P + T must not exceed block_size. keep: filled on the way.
        """
        if len(ids) == 1 and not self.config.switches:
            return self.step(int(ids[0]), cache, keep)
        T, P, last = len(ids), cache.length, self.config.n_layer - 1
        R = 1 if last_only else T
        cache.make_room(P + T)
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

    def step(self, token_id: int, cache: Cache, keep: Activations | None = None) -> Array:
        """`forward` of one token by a plain model: [1, V]. The same products, on vectors and in fewer calls."""
        c, w, P = self.config, self.weights, cache.length
        nh, hs = c.n_head, c.n_embd // c.n_head
        shown = 0
        if keep is not None:
            keep.returned = 1
            shown = keep.pattern_rows(1)
        cache.make_room(P + 1)
        with np.errstate(over="ignore", invalid="ignore"):  # as in `forward`
            token, position = w["wte.weight"][token_id], w["wpe.weight"][P]
            x = token + position  # [C]
            for i in range(c.n_layer):
                qkv = self.product(f"h.{i}.attn.c_attn", self.norm_row(f"h.{i}.ln_1", x))
                q, k, v = qkv.reshape(3, nh, 1, hs)
                keys, values = cache.put(i, k, v)  # [nh, P + 1, hs]
                q *= self.dtype.type(1 / math.sqrt(hs))
                pattern = q @ keys.transpose(0, 2, 1)  # [nh, 1, P + 1]
                pattern -= np.maximum.reduce(pattern, axis=-1, keepdims=True)
                np.exp(pattern, out=pattern)
                pattern /= np.add.reduce(pattern, axis=-1, keepdims=True)
                z = pattern @ values  # [nh, 1, hs]
                x = x + self.product(f"h.{i}.attn.c_proj", z.reshape(-1))
                hidden = self.activation(self.product(f"h.{i}.mlp.c_fc", self.norm_row(f"h.{i}.ln_2", x)))
                mlp_out = self.product(f"h.{i}.mlp.c_proj", hidden)
                x = x + mlp_out
                if keep is not None:
                    keep.pattern.append(pattern[:, :shown])
                    keep.z.append(z.transpose(1, 0, 2))
                    keep.mlp_out.append(mlp_out[None])
                    keep.resid_post.append(x[None])
            cache.length = P + 1
            if keep is not None:
                keep.embed += [token[None], position[None]]
            return self.readout.logits(x[None])

    def product(self, name: str, x: Array) -> Array:
        """x [in] -> [out]. Row by row: in order of memory, and the same bits on any number of threads."""
        y = np.vecdot(self.weights[name + ".weight"].T, x)
        y += self.weights[name + ".bias"]
        return y

    def norm_row(self, name: str, x: Array) -> Array:
        """LayerNorm of one row [C]."""
        width = self.dtype.type(1 / len(x))
        x = x - np.add.reduce(x) * width
        x *= 1 / np.sqrt(np.vecdot(x, x) * width + self.dtype.type(self.config.layer_norm_epsilon))
        x *= self.weights[name + ".weight"]
        x += self.weights[name + ".bias"]
        return x

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
        (T, C), nh, hs = x.shape, self.config.n_head, self.config.n_embd // self.config.n_head
        qkv = self.linear(f"h.{i}.attn.c_attn", x).reshape(T, 3, nh, hs)
        q, k, v = qkv.transpose(1, 2, 0, 3)  # 3 x [nh, T, hs]
        keys, values = cache.put(i, k, v)  # [nh, P + T, hs]
        z = attend(q * self.dtype.type(1 / math.sqrt(hs)), keys, values, rows, keep)  # [rows, nh, hs]
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


def room(config: ModelConfig, dtype: npt.DTypeLike = np.float32) -> Weights:
    """Room for the weights of a model."""
    return Weights(config.parameters(), _in_out, dtype=dtype)


def _in_out(name: str) -> bool:
    """Whether a tensor is a Conv1D's, which lies in files as [in, out]."""
    return name.endswith(".weight") and ".c_" in name


FAMILY = Family(
    model_types=("gpt2", ABLATED_MODEL_TYPE),
    prefix="transformer.",
    embedding="wte.weight",
    bos_starts_documents=True,
    config_from_json=config_from_json,
    config_to_json=config_to_json,
    weights=room,
    model=NumpyGPT2,
    in_page=True,
    buffers=(".attn.bias", ".attn.masked_bias"),
    buffer_size=lambda config: config.block_size**2 + 1,  # a float32 mask, and the number that it puts in
    check_buffer=_check_mask,
    gguf=GGUFLayout(
        architectures=("gpt2",),
        keys={
            **dict.fromkeys(("block_count", "context_length", "embedding_length", "feed_forward_length"), int),
            **dict.fromkeys(("attention.head_count", "vocab_size"), int),
            "attention.layer_norm_epsilon": float,
        },
        names={
            **{"wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm", "lm_head": "output"},
            **{"ln_1": "attn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output"},
            **{"ln_2": "ffn_norm", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down"},
        },
        config=config_from_gguf,
        transposed=_in_out,
    ),
)
