"""The Llama family (Llama, Qwen2, Mistral): its shape, its files, and its forward pass in NumPy.

Special here: names as in nanoGPT, where config.json has its own; errors use the words of config.json, since that is the
file to mend. Whatever would change a number and is not run exactly is refused by name. A sliding window is not run, so
a model that has one gets no longer context than its window: within it the two agree. Keys are cached as they were
turned, so a cached step turns one row. Query, key and value are one product, gate and up another. Weights keep the
orientation of the file, [out, in]: a product of one row reads them in order. What it is asked to keep never changes a
bit: attention rows that only a capture wants are computed beside the row that counts.

Letters: T tokens given, P tokens cached, R rows returned, C = n_embd, nh heads, nkv heads of keys and values, hs the
size of one head, V logits. Names: HF for weights, TransformerLens for activations. Source: Touvron et al. 2023,
arXiv:2302.13971; parity with `transformers` LlamaForCausalLM, Qwen2ForCausalLM and MistralForCausalLM is tested.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from manako.errors import LoadError
from manako.families.activations import Activations
from manako.families.attention import Cache, attend
from manako.families.family import Family, GGUFLayout, GGUFSettings, StoredTensor
from manako.families.numpy_model import NumpyModel
from manako.families.readout import Readout, rms_norm
from manako.families.rope import Rope, rope_from_gguf, rope_from_json, turned_by
from manako.families.shape import FLAG, Notices, between, check_ids, check_value, whole
from manako.families.weights import Weights, held

Array = npt.NDArray[Any]
MODEL_TYPES = ("llama", "qwen2", "mistral")
_FUSED = {  # one product, whose result is cut into these: the same numbers in fewer calls
    "self_attn.qkv_proj": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "mlp.gate_up_proj": ("mlp.gate_proj", "mlp.up_proj"),
}
_COUNTS = {  # field: (its name in config.json, what it may be)
    "n_layer": ("num_hidden_layers", whole(1, 1_000)),
    "n_head": ("num_attention_heads", whole(1, 1_000)),
    "n_kv_head": ("num_key_value_heads", whole(1, 1_000)),
    "n_embd": ("hidden_size", whole(1, 65_536)),
    "head_size": ("head_dim", whole(2, 4_096)),
    "n_mlp": ("intermediate_size", whole(1, 1_000_000)),
    "block_size": ("max_position_embeddings", whole(1, 10_000_000)),
    "vocab_size": ("vocab_size", whole(1, 5_000_000)),
}


@dataclass(frozen=True)
class LlamaConfig:
    """The shape of a Llama style model; names as in nanoGPT."""

    n_layer: int
    n_head: int
    n_kv_head: int
    """Heads of keys and values; each serves n_head / n_kv_head heads of queries."""
    n_embd: int
    head_size: int
    """Width of one head; n_head heads need not add up to n_embd."""
    n_mlp: int
    """Width of the hidden layer of each MLP."""
    block_size: int
    """The longest context: `max_position_embeddings` in config.json, or the sliding window where that is shorter."""
    vocab_size: int
    rms_norm_epsilon: float = 1e-6
    rope: Rope = field(default_factory=Rope)
    attention_bias: bool = False
    """Whether queries, keys and values have a bias."""
    output_bias: bool = False
    """Whether the output matrix of the attention has one."""
    mlp_bias: bool = False
    tie_word_embeddings: bool = False
    """Whether the output matrix is the token embedding."""
    start_id: int | None = None
    """The token that starts an empty text, if there is one."""
    end_ids: tuple[int, ...] = ()
    """Every token that ends a document."""
    model_type: str = "llama"
    """llama, qwen2 or mistral."""

    def __post_init__(self) -> None:
        for name, (on_disk, rule) in _COUNTS.items():
            check_value(on_disk, getattr(self, name), rule)
        if self.n_head % self.n_kv_head:
            raise LoadError("config_kv_heads", n_head=self.n_head, n_kv_head=self.n_kv_head)
        if self.head_size % 2:
            raise LoadError("config_unsupported", name="head_dim", value=self.head_size)
        check_value("rms_norm_eps", self.rms_norm_epsilon, between(1e-15, 1))
        for name in ("attention_bias", "output_bias", "mlp_bias", "tie_word_embeddings"):
            check_value(name, getattr(self, name), FLAG)
        check_ids(self)
        if self.model_type not in MODEL_TYPES:
            raise LoadError("model_type_unknown", value=self.model_type, known=", ".join(MODEL_TYPES))

    @property
    def switches(self) -> tuple[str, ...]:
        """The ablation switches that differ from a plain model: this family has none."""
        return ()

    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Every tensor of this model, by HF name without "model.", with its shape ([out, in] for every product)."""
        d, m, q, kv = self.n_embd, self.n_mlp, self.n_head * self.head_size, self.n_kv_head * self.head_size
        products = {  # name: (out, in, whether it has a bias)
            "self_attn.q_proj": (q, d, self.attention_bias),
            "self_attn.k_proj": (kv, d, self.attention_bias),
            "self_attn.v_proj": (kv, d, self.attention_bias),
            "self_attn.o_proj": (d, q, self.output_bias),
            "mlp.gate_proj": (m, d, self.mlp_bias),
            "mlp.up_proj": (m, d, self.mlp_bias),
            "mlp.down_proj": (d, m, self.mlp_bias),
        }
        shapes: dict[str, tuple[int, ...]] = {"embed_tokens.weight": (self.vocab_size, d)}
        for i in range(self.n_layer):
            shapes |= {f"layers.{i}.{name}.weight": (d,) for name in ("input_layernorm", "post_attention_layernorm")}
            for name, (rows, width, bias) in products.items():
                shapes[f"layers.{i}.{name}.weight"] = (rows, width)
                if bias:
                    shapes[f"layers.{i}.{name}.bias"] = (rows,)
        shapes["norm.weight"] = (d,)
        if not self.tie_word_embeddings:
            shapes["lm_head.weight"] = (self.vocab_size, d)
        return shapes


def config_from_json(raw: Mapping[str, Any]) -> tuple[LlamaConfig, Notices]:
    """The shape that a config.json describes, and what a user should know about it.

    raw: the whole object, of a `model_type` in MODEL_TYPES. Which tokens start and end a text is left open: other files
    have a say in it. Raises LoadError naming the key and its value.
    """
    model_type = raw["model_type"]
    if raw.get("hidden_act", "silu") != "silu":
        raise LoadError("config_unsupported", name="hidden_act", value=raw["hidden_act"])
    if raw.get("partial_rotary_factor") not in (None, 1.0):
        raise LoadError("config_elsewhere", name="partial_rotary_factor", value=raw["partial_rotary_factor"])
    values: dict[str, Any] = {}
    for name, (on_disk, _) in _COUNTS.items():
        values[name] = raw.get(on_disk)
        # transformers fills a gap with a value of its own for each family; a whole file has none
        if values[name] is None and not (name == "head_size" or name == "n_kv_head" and _may_miss_kv_heads(raw)):
            raise LoadError("config_missing", name=on_disk)
    for name in ("n_embd", "n_head", "block_size", "vocab_size"):  # what other values are made from
        on_disk, rule = _COUNTS[name]
        check_value(on_disk, values[name], rule)
    if values["head_size"] is None:
        if values["n_embd"] % values["n_head"]:
            raise LoadError("config_heads", n_embd=values["n_embd"], n_head=values["n_head"])
        values["head_size"] = values["n_embd"] // values["n_head"]
    values["n_kv_head"] = values["n_head"] if values["n_kv_head"] is None else values["n_kv_head"]
    flags = {name: raw.get(name, False) for name in ("attention_bias", "mlp_bias", "tie_word_embeddings")}
    for name, flag in flags.items():
        check_value(name, flag, FLAG)
    llama, notices = model_type == "llama", Notices()
    window = _window(raw)
    if window is not None and window < values["block_size"]:
        notices.append(("notice.sliding_window", {"window": window, "context": values["block_size"]}))
    config = LlamaConfig(
        **values | {"block_size": min(values["block_size"], window or values["block_size"])},
        rms_norm_epsilon=raw.get("rms_norm_eps", 1e-6),
        rope=rope_from_json(raw),
        attention_bias=flags["attention_bias"] if llama else model_type == "qwen2",  # as the classes have it
        output_bias=llama and flags["attention_bias"],
        mlp_bias=llama and flags["mlp_bias"],
        tie_word_embeddings=flags["tie_word_embeddings"],
        model_type=model_type,
    )
    return config, notices


def _may_miss_kv_heads(raw: Mapping[str, Any]) -> bool:
    """Without the key Llama has as many as query heads; the other families once had a default of their own."""
    return raw["model_type"] == "llama" or "num_key_value_heads" in raw


def _window(raw: Mapping[str, Any]) -> int | None:
    """How many tokens the narrowest layer sees, None where every layer sees all."""
    used = {"mistral": True, "qwen2": raw.get("use_sliding_window", False)}.get(raw["model_type"], False)
    check_value("use_sliding_window", used, FLAG)
    # transformers writes null for "none"; a file without the key means its default
    window = raw.get("sliding_window", 4096) if used else None
    if window is not None:
        check_value("sliding_window", window, whole(1, 10_000_000))
    layer_types = raw.get("layer_types") or ()
    known = ("full_attention",) if window is None else ("full_attention", "sliding_attention")
    if not isinstance(layer_types, list | tuple) or any(kind not in known for kind in layer_types):
        raise LoadError("config_elsewhere", name="layer_types", value=layer_types)
    return window


def config_to_json(config: LlamaConfig, dtype: str) -> dict[str, Any]:
    """The object of a config.json that transformers reads too. dtype: of the weights beside it.

    Raises LoadError for biases that the classes of transformers do not have together, as some GGUF files do.
    """
    c, llama = config, config.model_type == "llama"
    biases = {"llama": (c.attention_bias, c.attention_bias, c.mlp_bias), "qwen2": (True, False, False)}
    if (c.attention_bias, c.output_bias, c.mlp_bias) != biases.get(c.model_type, (False, False, False)):
        raise LoadError("config_unsupported", name="attention_bias", value=[c.attention_bias, c.output_bias])
    return {
        "model_type": c.model_type,
        "architectures": [{"llama": "Llama", "qwen2": "Qwen2", "mistral": "Mistral"}[c.model_type] + "ForCausalLM"],
        **{on_disk: getattr(c, name) for name, (on_disk, _) in _COUNTS.items()},
        "hidden_act": "silu",
        "rms_norm_eps": c.rms_norm_epsilon,
        "rope_theta": c.rope.theta,
        "rope_scaling": c.rope.scaling(),
        **({"attention_bias": c.attention_bias, "mlp_bias": c.mlp_bias} if llama else {}),
        **({"sliding_window": None} if c.model_type == "mistral" else {}),
        "tie_word_embeddings": c.tie_word_embeddings,
        "dtype": dtype,
        "bos_token_id": c.start_id,
        "eos_token_id": list(c.end_ids) if len(c.end_ids) > 1 else next(iter(c.end_ids), None),
    }


def config_from_gguf(settings: GGUFSettings) -> LlamaConfig:
    """The shape that a GGUF file describes. Raises LoadError naming the key and its value."""
    values = settings.values
    n_head, n_embd = settings["attention.head_count"], settings["embedding_length"]
    head_size = values.get("attention.key_length", n_embd // max(1, n_head))
    settings.expect("attention.value_length", head_size)
    settings.expect("rope.dimension_count", head_size)
    context = settings["context_length"]
    return LlamaConfig(
        n_layer=settings["block_count"],
        n_head=n_head,
        n_kv_head=values.get("attention.head_count_kv", n_head),
        n_embd=n_embd,
        head_size=head_size,
        n_mlp=settings["feed_forward_length"],
        block_size=min(context, values.get("attention.sliding_window", context)),
        vocab_size=settings.vocab_size,
        rms_norm_epsilon=settings["attention.layer_norm_rms_epsilon"],
        rope=rope_from_gguf(settings, head_size),
        attention_bias=settings.architecture != "llama" or "blk.0.attn_q.bias" in settings.tensors,
        output_bias="blk.0.attn_output.bias" in settings.tensors,
        mlp_bias="blk.0.ffn_gate.bias" in settings.tensors,
        tie_word_embeddings="output.weight" not in settings.tensors,
        start_id=settings.start_id,
        end_ids=settings.end_ids,
        model_type=settings.architecture,
    )


def _check_frequencies(config: LlamaConfig, tensor: StoredTensor) -> None:
    """Raise LoadError for frequencies that config.json does not ask for; no file holds stretched ones."""
    expected = replace(config.rope, kind="default").frequencies(config.head_size)
    fits = tensor.shape == expected.shape and tensor.is_float
    if not fits or not np.allclose(tensor.widened()[0], expected, rtol=0.01, atol=1e-6):  # as exact as float16 has them
        raise LoadError("tensor_frequencies", file=tensor.file, tensor=tensor.name, theta=config.rope.theta)


def _halves(config: LlamaConfig, name: str, tensor: Array) -> Array:
    """Rows of queries and keys in the order of transformers: llama.cpp's RoPE turns neighbours, theirs turns halves."""
    if config.model_type != "llama" or not (".q_proj." in name or ".k_proj." in name):
        return tensor
    return halves_from_neighbours(tensor, config.n_head if ".q_proj." in name else config.n_kv_head)


def halves_from_neighbours(tensor: Array, heads: int) -> Array:
    """Rows of each head from llama.cpp's order (0, n/2, 1, n/2 + 1 ...) to that of transformers (0, 1, 2 ...).

    >>> halves_from_neighbours(np.array([0, 3, 1, 4, 2, 5]), heads=1).tolist()
    [0, 1, 2, 3, 4, 5]
    """
    pairs = tensor.reshape(heads, -1, 2, *tensor.shape[1:])  # [nh, hs / 2, 2, in]
    return pairs.swapaxes(1, 2).reshape(tensor.shape)


class NumpyLlama(NumpyModel[LlamaConfig]):
    """A Llama style model with its weights: `forward` is the whole of it."""

    attention_output = "layers.{}.self_attn.o_proj"
    mlp_output = "layers.{}.mlp.down_proj"
    in_out = False

    def __init__(self, config: LlamaConfig, tensors: Mapping[str, Array]) -> None:
        weights = _fused(config, held(tensors, partial(room, config)))
        self.embedding = weights["embed_tokens.weight"]  # [V, C]
        head = weights.get("lm_head.weight", self.embedding)  # [V, C]
        super().__init__(config, weights, Readout(weights["norm.weight"], None, config.rms_norm_epsilon, head))
        self.frequencies = config.rope.frequencies(config.head_size, self.dtype)  # [hs / 2]

    def new_cache(self) -> Cache:
        """An empty cache for this model."""
        c = self.config
        return Cache(c.n_layer, c.n_kv_head, c.head_size, c.block_size, self.dtype)

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
        T, nh, nkv, hs = len(x), self.config.n_head, self.config.n_kv_head, self.config.head_size
        qkv = self.linear(f"layers.{i}.self_attn.qkv_proj", x).reshape(T, nh + 2 * nkv, hs)
        turned, v = turned_by(turn, qkv[:, : nh + nkv]), qkv[:, nh + nkv :]
        keys, values = cache.put(i, turned[:, nh:].transpose(1, 0, 2), v.transpose(1, 0, 2))  # [nkv, P + T, hs]
        q = (turned[:, :nh] * self.dtype.type(1 / math.sqrt(hs))).transpose(1, 0, 2)  # [nh, T, hs]
        return attend(q, keys, values, rows, keep)

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
        weight = self.weights[name + ".weight"]
        y = np.vecdot(weight, x[0])[None] if len(x) == 1 else x @ weight.T
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


def room(config: LlamaConfig, dtype: npt.DTypeLike = np.float32) -> Weights:
    """Room for the weights of a model; what is read as one product lies behind each other."""
    shapes, order = config.parameters(), dict[str, None]()
    for name in shapes:
        layer, part, kind = _taken_apart(name)
        fused = next((names for names in _FUSED.values() if part in names), (part,))
        order |= dict.fromkeys(f"{layer}{other}.{kind}" for other in fused)
    return Weights(shapes, lambda name: False, list(order), dtype)


def _taken_apart(name: str) -> tuple[str, str, str]:
    """
    >>> _taken_apart("layers.0.mlp.up_proj.weight"), _taken_apart("norm.weight")
    (('layers.0.', 'mlp.up_proj', 'weight'), ('', 'norm', 'weight'))
    """
    part, _, kind = name.rpartition(".")
    layer = ".".join(part.split(".")[:2]) + "." if part.startswith("layers.") else ""
    return layer, part.removeprefix(layer), kind


def _fused(config: LlamaConfig, tensors: Weights) -> dict[str, Array]:
    """The weights, with those that read the same input joined into one array."""
    parts = {name for names in _FUSED.values() for name in names}
    weights = {name: tensor for name, tensor in tensors.items() if _taken_apart(name)[1] not in parts}
    for i in range(config.n_layer):
        for fused, names in _FUSED.items():
            for kind in ("weight", "bias"):
                found = [f"layers.{i}.{name}.{kind}" for name in names]
                if found[0] in tensors:
                    weights[f"layers.{i}.{fused}.{kind}"] = tensors.joined(found)
    return weights


FAMILY = Family(
    model_types=MODEL_TYPES,
    prefix="model.",
    embedding="embed_tokens.weight",
    bos_starts_documents=False,
    config_from_json=config_from_json,
    config_to_json=config_to_json,
    weights=room,
    model=NumpyLlama,
    buffers=(".rotary_emb.inv_freq",),
    buffer_size=lambda config: config.head_size,
    check_buffer=_check_frequencies,
    gguf=GGUFLayout(
        architectures=("llama", "qwen2"),
        keys={
            **dict.fromkeys(("block_count", "context_length", "embedding_length", "feed_forward_length"), int),
            **dict.fromkeys(("attention.head_count", "attention.head_count_kv", "vocab_size"), int),
            **dict.fromkeys(("attention.key_length", "attention.value_length", "attention.sliding_window"), int),
            **dict.fromkeys(("rope.dimension_count", "rope.scaling.original_context_length"), int),
            **dict.fromkeys(("attention.layer_norm_rms_epsilon", "rope.freq_base", "rope.scaling.factor"), float),
            "rope.scaling.type": str,
        },
        names={
            **{"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"},
            **{"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"},
            **{"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k"},
            **{"self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output"},
            **{"mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"},
        },
        config=config_from_gguf,
        reordered=_halves,
    ),
)
