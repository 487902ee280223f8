"""The shape of a Llama style model, and how it is read from the values of a config.json.

Special here: names as in nanoGPT, where config.json has its own; errors use the words of config.json, since that is the
file to mend. Whatever would change a number and is not run exactly is refused by name. A sliding window is not run, so
a model that has one gets no longer context than its window: within it the two agree.

Sources: Touvron et al. 2023, arXiv:2302.13971; RoPE: Su et al. 2021, arXiv:2104.09864; YaRN: Peng et al. 2023,
arXiv:2309.00071; the arithmetic of each kind, step by step, as in `modeling_rope_utils.py` of `transformers`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from manako.errors import LoadError

MODEL_TYPES = ("llama", "qwen2", "mistral")
ROPE_KINDS: dict[str, tuple[str, ...]] = {  # kind: the settings that it takes beside rope_theta
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor",),
    "llama3": ("factor", "original_max_position_embeddings", "low_freq_factor", "high_freq_factor"),
    "yarn": (
        "factor",
        "original_max_position_embeddings",
        "attention_factor",
        "beta_fast",
        "beta_slow",
        "mscale",
        "mscale_all_dim",
        "truncate",
    ),
}
MOST_END_IDS = 100
Notices = list[tuple[str, dict[str, object]]]
_BOUNDS = {  # field: (name in config.json, least, most); a config from elsewhere is hostile until it lies in here
    "n_layer": ("num_hidden_layers", 1, 1_000),
    "n_head": ("num_attention_heads", 1, 1_000),
    "n_kv_head": ("num_key_value_heads", 1, 1_000),
    "n_embd": ("hidden_size", 1, 65_536),
    "head_size": ("head_dim", 2, 4_096),
    "n_mlp": ("intermediate_size", 1, 1_000_000),
    "block_size": ("max_position_embeddings", 1, 10_000_000),
    "vocab_size": ("vocab_size", 1, 5_000_000),
}


@dataclass(frozen=True)
class Rope:
    """How positions turn queries and keys: the base, and how it was stretched for longer contexts."""

    kind: str = "default"
    """default, linear, dynamic, llama3 or yarn. Within the context "dynamic" changes nothing, and beyond it nothing
    is run."""
    theta: float = 10_000.0
    factor: float = 1.0
    """How many times longer the context was made."""
    original_context: int | None = None
    """The context before that, which llama3 and yarn need."""
    low_freq_factor: float = 1.0
    """llama3: rotations over the original context below which a frequency is divided by the whole factor."""
    high_freq_factor: float = 4.0
    """llama3: rotations above which a frequency stays."""
    beta_fast: float = 32.0
    """yarn: rotations above which a frequency stays."""
    beta_slow: float = 1.0
    """yarn: rotations below which a frequency is divided by the whole factor."""
    truncate: bool = True
    """yarn: whether the two borders are rounded to whole frequencies."""
    attention_factor: float = 1.0
    """What cosine and sine are multiplied by; yarn's is `yarn_attention(factor)` where nothing else is said."""

    def __post_init__(self) -> None:
        if self.kind not in ROPE_KINDS:
            raise LoadError("config_elsewhere", name="rope_type", value=self.kind)
        _check_number("rope_theta", self.theta, 1.001, 1e15)
        _check_number("factor", self.factor, 1, 1e6)
        _check_number("attention_factor", self.attention_factor, 1e-3, 1e3)
        if self.kind in ("llama3", "yarn"):
            _check_number("original_max_position_embeddings", self.original_context, 1, 10_000_000, whole=True)
        for name in ("low_freq_factor", "high_freq_factor", "beta_fast", "beta_slow"):
            _check_number(name, getattr(self, name), 1e-6, 1e6)
        if type(self.truncate) is not bool:
            raise LoadError("config_unsupported", name="truncate", value=self.truncate)
        for low, high in (("low_freq_factor", "high_freq_factor"), ("beta_slow", "beta_fast")):
            if not getattr(self, low) < getattr(self, high):
                raise LoadError("config_range", name=low, value=getattr(self, low), low=0, high=getattr(self, high))

    def frequencies(self, size: int, dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
        """[size / 2] radians a position for each pair of a head of `size`, in `dtype`.

        Every step is rounded to `dtype`, as `transformers` does in float32: at position 100,000 a frequency that is
        "better" by 1e-6 turns a key by 0.1.
        """
        number: Any = np.dtype(dtype).type
        exponents = np.arange(0, size, 2, dtype=dtype) / number(size)
        periods = (self.theta ** exponents.astype(np.float64)).astype(dtype)  # [size / 2] positions a radian
        plain = 1 / periods
        if self.kind == "linear":
            return plain / number(self.factor)
        if self.kind == "llama3":
            assert self.original_context is not None  # checked above
            rotations = self.original_context / (2 * math.pi / plain)  # [size / 2] over the original context
            share = (rotations - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)
            mixed = (1 - share) * plain / self.factor + share * plain
            return np.where(share < 0, plain / self.factor, np.where(share > 1, plain, mixed)).astype(dtype)
        if self.kind == "yarn":
            low, high = self._yarn_borders(size)
            ramp = ((np.arange(size // 2, dtype=dtype) - number(low)) / number(high - low)).clip(0, 1)
            stays = 1 - ramp
            return 1 / (number(self.factor) * periods) * (1 - stays) + plain * stays
        return plain

    def _yarn_borders(self, size: int) -> tuple[float, float]:
        """The first frequency that is stretched, and the first that is stretched wholly; both as an index."""

        def index(rotations: float) -> float:
            assert self.original_context is not None  # checked above
            return size * math.log(self.original_context / (rotations * 2 * math.pi)) / (2 * math.log(self.theta))

        low, high = index(self.beta_fast), index(self.beta_slow)
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, size - 1)
        return low, high + 0.001 if low == high else high


@dataclass(frozen=True)
class LlamaConfig:
    """The shape of a Llama style model; names as in nanoGPT."""

    prefix: ClassVar[str] = "model."
    embedding: ClassVar[str] = "embed_tokens.weight"
    buffers: ClassVar[tuple[str, ...]] = (".rotary_emb.inv_freq",)
    """Ends of names of what old files carry beside the weights: their frequencies."""
    start_in_front: ClassVar[bool] = True
    """Whether every text begins with the start token, where there is one."""
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
    """The token that is put in front of every text, if there is one."""
    end_ids: tuple[int, ...] = ()
    """Every token that ends a document."""
    model_type: str = "llama"
    """llama, qwen2 or mistral."""

    def __post_init__(self) -> None:
        for name, (on_disk, low, high) in _BOUNDS.items():
            _check_number(on_disk, getattr(self, name), low, high, whole=True)
        if self.n_head % self.n_kv_head:
            raise LoadError("config_kv_heads", n_head=self.n_head, n_kv_head=self.n_kv_head)
        if self.head_size % 2:
            raise LoadError("config_unsupported", name="head_dim", value=self.head_size)
        _check_number("rms_norm_eps", self.rms_norm_epsilon, 1e-15, 1)
        for name in ("attention_bias", "output_bias", "mlp_bias", "tie_word_embeddings"):
            if type(getattr(self, name)) is not bool:
                raise LoadError("config_unsupported", name=name, value=getattr(self, name))
        if self.start_id is not None:
            _check_number("bos_token_id", self.start_id, 0, self.vocab_size - 1, whole=True)
        for end_id in self.end_ids:
            _check_number("eos_token_id", end_id, 0, self.vocab_size - 1, whole=True)
        if self.model_type not in MODEL_TYPES:
            raise LoadError("model_type_unknown", value=self.model_type)

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


def yarn_attention(factor: float, strength: float = 1.0) -> float:
    """YaRN's factor for cosine and sine. Source: Peng et al. 2023, arXiv:2309.00071, equation 22.

    >>> round(yarn_attention(4.0), 4), yarn_attention(1.0)
    (1.1386, 1.0)
    """
    return 0.1 * strength * math.log(factor) + 1.0 if factor > 1 else 1.0


def llama_config_from_json(raw: Mapping[str, Any], end_ids: object = None) -> tuple[LlamaConfig, Notices]:
    """The shape that a config.json describes, and what a user should know about it.

    raw: the whole object, of a `model_type` in MODEL_TYPES. end_ids: the `eos_token_id` of generation_config.json, a
    number, a list or None, which counts beside that of config.json. `start_id` stays None: whether a text begins with
    the start token is for the tokenizer to say. Raises LoadError naming the key and its value.
    """
    model_type = raw["model_type"]
    if raw.get("hidden_act", "silu") != "silu":
        raise LoadError("config_unsupported", name="hidden_act", value=raw["hidden_act"])
    for name in ("quantization_config", "partial_rotary_factor"):
        if raw.get(name) not in (None, 1.0):
            raise LoadError("config_elsewhere", name=name, value=raw[name])
    values: dict[str, Any] = {}
    for name, (on_disk, _, _) in _BOUNDS.items():
        values[name] = raw.get(on_disk)
        # transformers fills a gap with a value of its own for each family; a whole file has none
        if values[name] is None and not (name == "head_size" or name == "n_kv_head" and _may_miss_kv_heads(raw)):
            raise LoadError("config_missing", name=on_disk)
    for name in ("n_embd", "n_head", "block_size", "vocab_size"):  # what other values are made from
        on_disk, low, high = _BOUNDS[name]
        _check_number(on_disk, values[name], low, high, whole=True)
    if values["head_size"] is None:
        if values["n_embd"] % values["n_head"]:
            raise LoadError("config_heads", n_embd=values["n_embd"], n_head=values["n_head"])
        values["head_size"] = values["n_embd"] // values["n_head"]
    if values["n_kv_head"] is None:
        values["n_kv_head"] = values["n_head"]
    flags = {name: raw.get(name, False) for name in ("attention_bias", "mlp_bias", "tie_word_embeddings")}
    for name, flag in flags.items():
        if type(flag) is not bool:
            raise LoadError("config_unsupported", name=name, value=flag)
    llama, notices = model_type == "llama", Notices()
    window = _window(raw)
    if window is not None and window < values["block_size"]:
        notices.append(("notice.sliding_window", {"window": window, "context": values["block_size"]}))
    config = LlamaConfig(
        **values | {"block_size": min(values["block_size"], window or values["block_size"])},
        rms_norm_epsilon=raw.get("rms_norm_eps", 1e-6),
        rope=_rope(raw),
        attention_bias=flags["attention_bias"] if llama else model_type == "qwen2",  # as the classes have it
        output_bias=llama and flags["attention_bias"],
        mlp_bias=llama and flags["mlp_bias"],
        tie_word_embeddings=flags["tie_word_embeddings"],
        end_ids=_end_ids(raw.get("eos_token_id"), end_ids),
        model_type=model_type,
    )
    return config, notices


def _may_miss_kv_heads(raw: Mapping[str, Any]) -> bool:
    """Without the key Llama has as many as query heads; the other families once had a default of their own."""
    return raw["model_type"] == "llama" or "num_key_value_heads" in raw


def _window(raw: Mapping[str, Any]) -> int | None:
    """How many tokens the narrowest layer sees, None where every layer sees all."""
    used = {"mistral": True, "qwen2": raw.get("use_sliding_window", False)}.get(raw["model_type"], False)
    if type(used) is not bool:
        raise LoadError("config_unsupported", name="use_sliding_window", value=used)
    # transformers writes null for "none"; a file without the key means its default
    window = raw.get("sliding_window", 4096) if used else None
    if window is not None:
        _check_number("sliding_window", window, 1, 10_000_000, whole=True)
    layer_types = raw.get("layer_types") or ()
    known = ("full_attention",) if window is None else ("full_attention", "sliding_attention")
    if not isinstance(layer_types, list | tuple) or any(kind not in known for kind in layer_types):
        raise LoadError("config_elsewhere", name="layer_types", value=layer_types)
    return window


def _rope(raw: Mapping[str, Any]) -> Rope:
    """Both spellings: `rope_parameters` of transformers 5, `rope_theta` and `rope_scaling` of older files."""
    given = raw.get("rope_scaling") or raw.get("rope_parameters") or {}
    if not isinstance(given, Mapping):
        raise LoadError("config_unsupported", name="rope_scaling", value=given)
    kind = given.get("rope_type", given.get("type", "default"))
    if not isinstance(kind, str) or kind not in ROPE_KINDS:
        raise LoadError("config_elsewhere", name="rope_type", value=kind)
    known = {"rope_type", "type", "rope_theta", *ROPE_KINDS[kind]}
    for name in given.keys() - known:
        raise LoadError("config_elsewhere", name=f"rope_scaling: {name}", value=given[name])
    theta = given.get("rope_theta", raw.get("rope_theta"))
    values: dict[str, Any] = {"theta": 10_000.0 if theta is None else theta}
    settings = {name: given[name] for name in ROPE_KINDS[kind] if given.get(name) is not None}
    if kind in ("llama3", "yarn"):
        original = settings.pop("original_max_position_embeddings", raw["max_position_embeddings"])
        values["original_context"] = raw.get("original_max_position_embeddings") or original
        _check_number("original_max_position_embeddings", values["original_context"], 1, 10_000_000, whole=True)
    if kind == "yarn":
        strengths = [settings.pop(name, None) for name in ("mscale", "mscale_all_dim")]
        factor = settings.setdefault("factor", raw["max_position_embeddings"] / values["original_context"])
        if "attention_factor" not in settings:
            _check_number("factor", factor, 1, 1e6)
            settings["attention_factor"] = yarn_attention(factor)
            if all(strengths):
                for name, strength in zip(("mscale", "mscale_all_dim"), strengths, strict=True):
                    _check_number(name, strength, 1e-3, 1e3)
                above, below = (yarn_attention(factor, strength) for strength in strengths)
                settings["attention_factor"] = above / below
    elif kind != "default":
        for name in ROPE_KINDS[kind]:
            if given.get(name) is None and name != "original_max_position_embeddings":
                raise LoadError("config_missing", name=f"rope_scaling: {name}")
    return Rope(kind=kind, **values, **settings)


def _end_ids(*found: object) -> tuple[int, ...]:
    """Each id once, in order; every source is a number, a list of them, or None."""
    ids: list[Any] = []
    for value in found:
        more: list[Any] = value if isinstance(value, list) else [] if value is None else [value]
        if len(more) > MOST_END_IDS or any(type(i) is not int for i in more):
            raise LoadError("config_unsupported", name="eos_token_id", value=value)
        ids += more
    return tuple(dict.fromkeys(ids))


def _check_number(name: str, value: object, low: float, high: float, whole: bool = False) -> None:
    if type(value) is not int and (whole or type(value) is not float) or not low <= value <= high:  # pyright: ignore[reportOperatorIssue]
        raise LoadError("config_range", name=name, value=value, low=low, high=high)
