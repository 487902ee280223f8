"""Rotary positions (RoPE): each pair of numbers of a query or key is turned by an angle that grows with its position.

Special here: each kind follows `modeling_rope_utils.py` of `transformers` step by step, rounding included. Errors use
the words of config.json, since that is the file to mend; a setting that we don't run and that could change a number is
refused.

Sources: Su et al. 2021, arXiv:2104.09864; YaRN: Peng et al. 2023, arXiv:2309.00071.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from manako.errors import LoadError
from manako.families.family import GGUFSettings
from manako.families.shape import FLAG, between, check_value, whole

Array = npt.NDArray[Any]
_DIVISORS = "rope_freqs.weight"  # of a GGUF file: divisors of the frequencies
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
        check_value("rope_theta", self.theta, between(1.001, 1e15))
        check_value("factor", self.factor, between(1, 1e6))
        check_value("attention_factor", self.attention_factor, between(1e-3, 1e3))
        if self.kind in ("llama3", "yarn"):
            check_value("original_max_position_embeddings", self.original_context, whole(1, 10_000_000))
        for name in ("low_freq_factor", "high_freq_factor", "beta_fast", "beta_slow"):
            check_value(name, getattr(self, name), between(1e-6, 1e6))
        check_value("truncate", self.truncate, FLAG)
        for low, high in (("low_freq_factor", "high_freq_factor"), ("beta_slow", "beta_fast")):
            if not getattr(self, low) < getattr(self, high):
                raise LoadError("config_range", name=low, value=getattr(self, low), low=0, high=getattr(self, high))

    def scaling(self) -> dict[str, Any] | None:
        """`rope_scaling` of config.json, as `rope_from_json` reads it; None where nothing is stretched."""
        if self.kind == "default":
            return None
        own = {name: getattr(self, name) for name in ROPE_KINDS[self.kind] if hasattr(self, name)}
        if self.original_context is not None:
            own["original_max_position_embeddings"] = self.original_context
        return {"rope_type": self.kind, **own}

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


def turned_by(turn: tuple[Array, Array], x: Array) -> Array:
    """x [T, heads, hs] with each pair (j, j + hs / 2) turned by its angle; a new array. Source: arXiv:2104.09864.

    HF files have the halves of a head apart, where the paper has each pair side by side.
    """
    cos, sin = turn
    half = x.shape[-1] // 2
    a, b = x[..., :half], x[..., half:]
    return np.concatenate((a * cos - b * sin, b * cos + a * sin), axis=-1)


def yarn_attention(factor: float, strength: float = 1.0) -> float:
    """YaRN's factor for cosine and sine. Source: Peng et al. 2023, arXiv:2309.00071, equation 22.

    >>> round(yarn_attention(4.0), 4), yarn_attention(1.0)
    (1.1386, 1.0)
    """
    return 0.1 * strength * math.log(factor) + 1.0 if factor > 1 else 1.0


def rope_from_json(raw: Mapping[str, Any]) -> Rope:
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
        check_value("original_max_position_embeddings", values["original_context"], whole(1, 10_000_000))
    if kind == "yarn":
        strengths = [settings.pop(name, None) for name in ("mscale", "mscale_all_dim")]
        factor = settings.setdefault("factor", raw["max_position_embeddings"] / values["original_context"])
        if "attention_factor" not in settings:
            check_value("factor", factor, between(1, 1e6))
            settings["attention_factor"] = yarn_attention(factor)
            if all(strengths):
                for name, strength in zip(("mscale", "mscale_all_dim"), strengths, strict=True):
                    check_value(name, strength, between(1e-3, 1e3))
                above, below = (yarn_attention(factor, strength) for strength in strengths)
                settings["attention_factor"] = above / below
    elif kind != "default":
        for name in ROPE_KINDS[kind]:
            if given.get(name) is None and name != "original_max_position_embeddings":
                raise LoadError("config_missing", name=f"rope_scaling: {name}")
    return Rope(kind=kind, **values, **settings)


def rope_from_gguf(settings: GGUFSettings, head_size: int) -> Rope:
    """What the keys of a GGUF file say, and the divisors that its converter made of what it had no keys for.

    A factor without a kind is linear, as llama.cpp has it; beside the divisors it would count as well.
    """
    unsaid = "linear" if "rope.scaling.factor" in settings.values else "none"
    kind, theta = settings.values.get("rope.scaling.type", unsaid), settings.values.get("rope.freq_base", 10_000.0)
    divisors = settings.small_tensor(_DIVISORS) if settings.architecture == "llama" else None
    if divisors is not None:
        settings.expect("rope.scaling.type", "none")
        if kind != "none":
            settings.expect("rope.scaling.factor", 1.0)
        return _llama3(settings, theta, head_size, divisors)
    if kind == "none":
        return Rope(theta=theta)
    if kind not in ("linear", "yarn"):
        raise settings.refusal(f"{settings.architecture}.rope.scaling.type", kind)
    factor = settings["rope.scaling.factor"]
    if kind == "linear":
        return Rope(kind, theta=theta, factor=factor)
    original = settings["rope.scaling.original_context_length"]
    return Rope(kind, theta=theta, factor=factor, original_context=original, attention_factor=yarn_attention(factor))


def _llama3(settings: GGUFSettings, theta: float, head_size: int, divisors: npt.NDArray[np.float32]) -> Rope:
    """The settings of Llama 3.1 and later that give these divisors of the frequencies.

    The file holds the divisors alone. All published models share all settings but the factor, which is the largest
    divisor; any others are refused, since a guess would be a little wrong at every position.
    """
    if np.isfinite(divisors).all() and (1 <= divisors).all() and divisors.max() <= 1e6:
        rope = Rope("llama3", theta=theta, factor=float(divisors.max()), original_context=8192)
        plain = Rope(theta=theta).frequencies(head_size, np.float64)
        expected = plain / rope.frequencies(head_size, np.float64)
        if divisors.shape == expected.shape and np.allclose(divisors, expected, rtol=1e-4, atol=0):
            return rope
    raise settings.refusal(_DIVISORS, "not that of a published Llama 3")
