"""The shape of a GPT-2 style model, and how it lies in a config.json.

Special here: names as in nanoGPT; `n_positions` on disk is `block_size` everywhere else. A model trained with an
ablation switch has its own `model_type`, so that no other loader takes it for a plain GPT-2.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

from manako.errors import LoadError

ACTIVATIONS = ("gelu_new", "gelu", "relu")
ABLATED_MODEL_TYPE = "manako_gpt2_ablated"
GPT2_START_ID = 50_256  # what transformers writes into every config.json whose author set nothing
_FIXED = {"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False, "add_cross_attention": False}
_KINDS = {"tie_word_embeddings": bool, "residual": bool, "attention": bool, "layer_norm_epsilon": float}
_BOUNDS = {  # inclusive; a config from elsewhere is hostile data until it lies in here
    "n_layer": (1, 1_000),
    "n_head": (1, 1_000),
    "n_embd": (1, 65_536),
    "block_size": (1, 10_000_000),
    "vocab_size": (1, 5_000_000),
}


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a GPT-2 style model; names as in nanoGPT."""

    prefix: ClassVar[str] = "transformer."
    embedding: ClassVar[str] = "wte.weight"
    start_in_front: ClassVar[bool] = False
    """Whether every text begins with the start token: GPT-2 was trained on texts cut anywhere."""
    buffers: ClassVar[tuple[str, ...]] = (".attn.bias", ".attn.masked_bias")
    """Ends of names of what old files carry beside the weights: their causal mask."""
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
    """The token that starts (and ends) a document, if there is one."""

    def __post_init__(self) -> None:
        for name, (low, high) in _BOUNDS.items():
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                raise LoadError("config_range", name=name, value=value, low=low, high=high)
        if self.n_embd % self.n_head:
            raise LoadError("config_heads", n_embd=self.n_embd, n_head=self.n_head)
        if self.activation_function not in ACTIVATIONS:
            raise LoadError("config_unsupported", name="activation_function", value=self.activation_function)
        if not 0 < self.layer_norm_epsilon < 1:
            raise LoadError("config_range", name="layer_norm_epsilon", value=self.layer_norm_epsilon, low=0, high=1)
        if self.norm not in ("pre", "post"):
            raise LoadError("config_unsupported", name="norm", value=self.norm)
        if self.n_inner is not None and not 1 <= self.n_inner <= 1_000_000:
            raise LoadError("config_range", name="n_inner", value=self.n_inner, low=1, high=1_000_000)
        if self.start_id is not None and not 0 <= self.start_id < self.vocab_size:
            raise LoadError("config_range", name="bos_token_id", value=self.start_id, low=0, high=self.vocab_size - 1)

    @property
    def n_mlp(self) -> int:
        """Width of the hidden layer of each MLP."""
        return self.n_inner or 4 * self.n_embd

    @property
    def model_type(self) -> str:
        """Its name in config.json; an ablated one has its own, so that no loader takes it for a plain GPT-2."""
        return ABLATED_MODEL_TYPE if self.switches else "gpt2"

    @property
    def end_ids(self) -> tuple[int, ...]:
        """Tokens that end a document: with GPT-2 the one that starts the next."""
        return () if self.start_id is None else (self.start_id,)

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


def gpt2_config_from_json(raw: Mapping[str, Any]) -> tuple[ModelConfig, list[tuple[str, dict[str, object]]]]:
    """The shape that a config.json describes, and what a user should know about it.

    raw: the whole object, of model_type "gpt2" or our own for an ablated one. Raises LoadError naming key and value.
    """
    notices: list[tuple[str, dict[str, object]]] = []
    for name, only in _FIXED.items():
        if raw.get(name, only) is not only:
            raise LoadError("config_unsupported", name=name, value=raw[name])
    names = {"n_positions": "block_size", "bos_token_id": "start_id"}
    known = ["n_layer", "n_head", "n_embd", "vocab_size", "activation_function", "layer_norm_epsilon"]
    known += ["tie_word_embeddings", "n_inner", "n_positions", "bos_token_id"]
    if raw["model_type"] == ABLATED_MODEL_TYPE:
        known += ["residual", "norm", "attention"]
    values = {names.get(k, k): raw[k] for k in known if k in raw}
    for name in ("n_layer", "n_head", "n_embd", "vocab_size", "block_size"):
        if name not in values:
            raise LoadError("config_missing", name="n_positions" if name == "block_size" else name)
    for name, kind in _KINDS.items():
        if name in values and type(values[name]) is not kind:
            raise LoadError("config_unsupported", name=name, value=values[name])
    for name in ("n_inner", "start_id"):
        if type(values.get(name)) not in (int, type(None)):
            raise LoadError("config_unsupported", name=name, value=values[name])
    vocab_size = values["vocab_size"]
    if values.get("start_id") == GPT2_START_ID and type(vocab_size) is int and vocab_size <= GPT2_START_ID:
        values["start_id"] = None
        notices.append(("notice.start_outside", {"id": GPT2_START_ID, "rows": vocab_size}))
    return ModelConfig(**values), notices


def gpt2_config_to_json(config: ModelConfig, dtype: str) -> dict[str, Any]:
    """The object of a config.json that transformers reads too. dtype: of the weights beside it."""
    ablated = bool(config.switches)
    stored = asdict(config)
    start, block = stored.pop("start_id"), stored.pop("block_size")
    switches = {name: stored.pop(name) for name in ("residual", "norm", "attention")}
    return {
        "model_type": ABLATED_MODEL_TYPE if ablated else "gpt2",
        "architectures": ["ManakoAblatedGPT2" if ablated else "GPT2LMHeadModel"],
        **stored,
        "n_positions": block,
        **(switches if ablated else {}),
        "dtype": dtype,
        # Written even when null: the reader's default, 50256, lies outside a small vocabulary.
        "bos_token_id": start,
        "eos_token_id": start,
        "pad_token_id": start,
    }
