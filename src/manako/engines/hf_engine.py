"""An engine over any causal LM of `transformers`: logits as they are, and what was asked of the inside by hooks.

Special here: no `generate` and no setting of the author, one forward pass over the model with its own cache. The lens
runs the model itself with its blocks left out, so whatever stands behind them (norm, soft cap, scale of the logits) is
the model's own and cannot be stale. Attention is eager in the passes that record it, and in those alone. Everything is
tried once at load, on a few ids; `lacks` says what this model cannot give, and why.

Hooks, blocks left out, eager attention and the library's own settings are changes of what all threads share, so one
pass runs at a time, of whichever model (`_alone`). Each uses all threads of PyTorch, and would gain little by another.

A cache keeps the ids beside what the model made of them: where that is no longer valid, the next pass starts over.

Letters: T tokens given, K = tokens cached and given, R rows wanted, C = n_embd, nh heads, hs one's size, V logits.
"""

import contextlib
import inspect
import logging
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import transformers
from torch import Tensor, nn

from manako.engines.hf_parts import (
    Parts,
    Watched,
    find_parts,
    find_readout,
    first_tensor,
    given_tensor,
    near,
    to_numpy,
    watch,
)
from manako.errors import LoadError, ManakoError, first_line
from manako.families.activations import Activations
from manako.families.readout import Readout
from manako.formats.hf_folder import DTYPES, HfFolder
from manako.formats.special_tokens import check_vocabulary
from manako.formats.tensor_files import Stored

Array = npt.NDArray[Any]
PROBE = 6  # ids of the pass that shows what a model is made of: some before a cache is used, some after
NO_LIMIT = 1 << 20  # the context of a model without positions that run out
LENS_ROWS = 256  # at a time
_CONTEXT = ("max_position_embeddings", "max_seq_len", "context_length")
_CACHES = ("past_key_values", "cache_params")
_ONE = threading.Lock()  # see the header


@dataclass(frozen=True)
class HfConfig:
    """The facts of a model that the rest of manako needs; names as in nanoGPT."""

    n_layer: int
    n_head: int
    """0 where the model has no heads."""
    n_embd: int
    """The width of the residual stream."""
    block_size: int
    """The longest context."""
    vocab_size: int
    """Numbers in a row of logits."""
    start_id: int | None
    """The token that starts an empty text, if there is one."""
    end_ids: tuple[int, ...]
    """Every token that ends a document."""
    model_type: str
    config_sha256: str
    """Of all that config.json says besides: rotary base, window, activation, and whatever else the model has."""
    switches: tuple[str, ...] = ()


class HfCache:
    """The ids so far, and the model's own cache over all of them or none."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.past: Any = None

    @property
    def length(self) -> int:
        """How many tokens have been seen. Setting it to fewer forgets the later ones, and 0 all."""
        return len(self.ids)

    @length.setter
    def length(self, length: int) -> None:
        if length != len(self.ids):
            self.ids, self.past = self.ids[:length], None  # not every kind of cache can be cut


class HfEngine:
    """A causal LM with its weights, checked; an engine as engines/protocol.py describes it."""

    name = "transformers"
    libraries = ("torch", "transformers")
    kernel: Mapping[str, str] = {}  # the version of PyTorch says which linear algebra it brings
    captures = ("attention", "lens", "contributions", "residual")

    def __init__(self, model: Any, folder: HfFolder) -> None:
        self.model, self.source = model, folder.source(model.base_model_prefix + ".")
        self.device, self.dtype = str(model.device), str(model.dtype).removeprefix("torch.")
        self.attention_implementation: str = model.config._attn_implementation
        """What computes attention where it is not recorded: "sdpa", "eager" ..."""
        accepted = inspect.signature(model.forward).parameters
        self._keeps_rows = "logits_to_keep" in accepted
        self._cache_name = next((name for name in _CACHES if name in accepted), "")
        self._continues = sys.maxsize if self._cache_name else 0
        """How many tokens a pass can take that goes on from a cache: any number, 1, or 0."""
        rows = model.get_input_embeddings().weight.shape[0]
        folder.notices.extend(check_vocabulary(folder.path, folder.tokenizer, rows))
        ids = [(7919 * i + 11) % min(rows, folder.tokenizer.vocab_size) for i in range(PROBE)]
        self._tolerance = max(1e-5, 4 * torch.finfo(model.dtype).eps)  # of a sum, relative to its largest number
        watched = self._watched(ids)
        self.parts = find_parts(model, watched, self._tolerance)
        self.config = _config(model, self.parts, watched, folder)
        self._check_causal(ids, watched.logits, folder)
        last = watched.calls[self.parts.blocks[-1]].made if self.parts.blocks else None
        self._make_readout = self._readout = None
        if last is not None:
            self._make_readout = find_readout(model, self.parts.norm, last, watched.logits, 10 * self._tolerance)
        self.lacks: Mapping[str, str] = dict(self._lacking(watched, last))

    @property
    def readout(self) -> Readout | None:
        """Final norm and output matrix, where they are all that stands behind the last block."""
        if self._readout is None and self._make_readout is not None:
            self._readout = self._make_readout(to_numpy(self.model.get_output_embeddings().weight))
        return self._readout

    @property
    def threads(self) -> int | None:
        """Those of PyTorch; None where a GPU computes."""
        return torch.get_num_threads() if self.device == "cpu" else None

    @property
    def n_parameters(self) -> int:
        """How many numbers its weights are; shared ones count once."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def name_with(self, captures: Sequence[str]) -> str:
        """With what computes attention, which is another way, with other last digits, where its rows are recorded."""
        return f"{self.name} {'eager' if 'attention' in captures else self.attention_implementation}"

    def new_cache(self) -> HfCache:
        """An empty cache for this model."""
        return HfCache()

    def forward(
        self, ids: Sequence[int] | Array, cache: HfCache, last_only: bool = True, keep: Activations | None = None
    ) -> Array:
        """Logits of `ids`, which follow the tokens in `cache`; the cache grows by them.

        Returns float32 [1, V] for the last token alone, or [T, V]. keep: filled on the way.
        Raises ManakoError when the device has not enough memory.
        """
        whole = [*cache.ids, *map(int, ids)]
        # A pass that breaks off leaves a cache half written: it is out of reach until the pass has ended.
        past, cache.past = cache.past if len(ids) <= self._continues else None, None
        given = whole if past is None else whole[cache.length :]
        rows = 1 if last_only else len(ids)
        attention = keep is not None and keep.attention
        try:
            with torch.inference_mode(), _alone(), self._eager(attention):
                if keep is None:
                    made = self._pass(given, past, rows)
                else:
                    with _hooks(self.parts, keep, rows, self.config.n_head):
                        made = self._pass(given, past, rows, output_attentions=attention)
                    if attention:
                        wanted = keep.pattern_rows(len(ids))
                        keep.pattern += [_pattern(t[0], wanted, len(whole)) for t in made.attentions]
        except torch.OutOfMemoryError:
            raise ManakoError("hf_out_of_memory", device=self.device, tokens=len(whole)) from None
        cache.ids = whole
        cache.past = getattr(made, self._cache_name) if self._continues else None
        return to_numpy(made.logits[0, -rows:])

    def unembed(self, resid: Array) -> Array:
        """[R, C] -> [R, V]: what the model says where this is the stream behind its last block."""
        parts = [self._unembed(torch.tensor(resid[i : i + LENS_ROWS])) for i in range(0, len(resid), LENS_ROWS)]
        return np.concatenate([to_numpy(part) for part in parts])

    def output_weight(self, i: int) -> Array:
        """Block i's matrix from the heads to the residual stream, [nh * hs, C]."""
        matrix = self.parts.outputs[i]
        return to_numpy(matrix.weight.T if isinstance(matrix, nn.Linear) else matrix.weight)  # Conv1D is [in, out]

    def output_bias(self, i: int) -> Array | None:
        """[C]: what that block's attention adds whatever its heads read; None where it has none."""
        bias = self.parts.outputs[i].bias
        return None if bias is None else to_numpy(bias)

    def _pass(self, ids: Sequence[int], past: Any, rows: int, **asked: Any) -> Any:
        """The model's own output for one text."""
        asked |= {"logits_to_keep": rows} if self._keeps_rows else {}
        asked |= {self._cache_name: past} if past is not None else {}
        given = torch.tensor([ids], device=self.model.device)  # [1, T]
        return self.model(input_ids=given, use_cache=self._continues > 0, return_dict=True, **asked)

    @torch.inference_mode()
    def _unembed(self, resid: Tensor) -> Tensor:
        """[R, C] -> [R, V] float32, the rows as R texts of one token each, so that no context limits them."""
        given = torch.zeros((len(resid), 1), dtype=torch.long, device=self.model.device)  # [R, 1]
        stream = resid.to(self.model.device, self.model.dtype)[:, None]  # [R, 1, C]
        with _alone(), _left_out(self.parts, stream):
            return self.model(input_ids=given, use_cache=False, return_dict=True).logits[:, 0].float()

    @contextlib.contextmanager
    def _eager(self, wanted: bool) -> Iterator[None]:
        if not wanted or self.attention_implementation == "eager":
            yield
            return
        self.model.set_attn_implementation("eager")
        try:
            yield
        finally:
            self.model.set_attn_implementation(self.attention_implementation)

    def _watched(self, ids: Sequence[int]) -> Watched:
        """One pass seen from inside, with attention if the model gives it and still says the same."""
        with _alone():
            plain = watch(self.model, ids, attention=False)
            try:
                with self._eager(True):
                    eager = watch(self.model, ids, attention=True)
            except Exception:  # each model has its own way to say that it has no attention to give
                return plain
        # Falcon forgets its mask where it is asked for attention and cannot be switched to eager.
        return eager if near(eager.logits, plain.logits, 10 * self._tolerance) else plain

    def _check_causal(self, ids: Sequence[int], logits: Tensor, folder: HfFolder) -> None:
        """Refuse a model in which later tokens change earlier rows; learn how far its cache gives the rows of none."""
        expected, half, cache = logits.cpu(), len(ids) // 2, self.new_cache()

        def same(rows: Array, places: slice) -> bool:
            return near(torch.from_numpy(rows), expected[places], 10 * self._tolerance)

        if not same(self.forward(ids[:half], cache, last_only=False), slice(half)):
            raise LoadError("hf_not_causal", folder=folder.path)
        try:
            one = same(self.forward(ids[half : half + 1], cache), slice(half, half + 1))
            more = same(self.forward(ids[half + 1 :], cache, last_only=False), slice(half + 1, None))
        except Exception:  # a cache of a kind that does not go on from where it ended
            one = more = False
        if not (one and more):
            self._continues = int(one)

    def _lacking(self, watched: Watched, last: Tensor | None) -> Iterator[tuple[str, str]]:
        """(name, catalog key of the reason) for what this model cannot give."""
        yield "ablation", "lacks.hf_ablation"
        if len(watched.patterns) != self.config.n_layer:
            yield "attention", "lacks.hf_attention"
        if last is None:
            yield from ((name, "lacks.hf_blocks") for name in ("residual", "lens", "contributions"))
            return
        try:
            lens = self._unembed(last)
            if not near(lens, watched.logits, 10 * self._tolerance):
                yield "lens", "lacks.hf_lens"
        except Exception:  # the model needs something of its blocks that only they can give
            yield "lens", "lacks.hf_lens"
        if not self.parts.outputs:
            yield "contributions", "lacks.hf_sum"
        elif self._make_readout is None:
            yield "contributions", "lacks.hf_readout"


def open_engine(folder: HfFolder) -> HfEngine:
    """Build the model of a checked folder on the best device, and its engine. Raises LoadError."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    counts = [t.dtype for t in folder.tensors if t.dtype in DTYPES]
    stored = getattr(torch, DTYPES[max(set(counts), key=counts.count)]) if counts else torch.float32
    dtype = stored if device == "cuda" else torch.float32
    try:
        model, info = _built(folder, dtype)
        for name in sorted(info["missing_keys"]):  # the library has filled these with random numbers
            raise LoadError("tensor_missing", file=folder.path, tensor=name)
        if unused := sorted(info["unexpected_keys"]):
            folder.notices.append(("notice.hf_unused", {"count": len(unused), "first": unused[0]}))
        model = model.to(device).eval()
        _check_finite(model, folder)
        return HfEngine(model, folder)
    except ManakoError:
        raise
    except Exception as error:  # a configuration or file that the library cannot make a model of
        if device == "cuda" and isinstance(error, RuntimeError):  # it is there and does not work, or is too small
            raise LoadError("hf_device", device=device, reason=first_line(error)) from None
        raise LoadError("hf_refused", folder=folder.path, reason=first_line(error)) from None


def _built(folder: HfFolder, dtype: torch.dtype) -> tuple[Any, Mapping[str, Any]]:
    """The model as `transformers` builds it, and what it says about the tensors."""
    with _alone():
        kind = type(transformers.AutoConfig.for_model(folder.config["model_type"]))
        made: Any = transformers.AutoModelForCausalLM
        weights: dict[str, Any] = {"pretrained_model_name_or_path": folder.path, "use_safetensors": True}
        if folder.pickled:  # read by our own reader, so that no library opens the pickle
            made = transformers.MODEL_FOR_CAUSAL_LM_MAPPING[kind]
            weights = {"pretrained_model_name_or_path": None, "state_dict": dict(map(_tensor, _numbers(folder)))}
        loaded: Any = made.from_pretrained(
            **weights,
            config=kind.from_dict(dict(folder.config)),
            dtype=dtype,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
        return loaded


def _numbers(folder: HfFolder) -> Iterator[Stored]:
    return (tensor for tensor in folder.tensors if tensor.dtype in DTYPES)  # masks of older files are truth values


def _tensor(stored: Stored) -> tuple[str, Tensor]:
    return stored.name, torch.from_numpy(stored.read()).view(getattr(torch, DTYPES[stored.dtype])).view(stored.shape)


def _check_finite(model: nn.Module, folder: HfFolder) -> None:
    for name, tensor in model.named_parameters():
        if not bool(tensor.isfinite().all()):
            bad = (~tensor.isfinite()).nonzero()
            first = tuple(bad[0].tolist())
            raise LoadError("tensor_not_finite", file=folder.path, tensor=name, count=len(bad), index=first)


def _config(model: Any, parts: Parts, watched: Watched, folder: HfFolder) -> HfConfig:
    text = model.config.get_text_config()
    start = watched.calls[parts.blocks[0]].given if parts.blocks else None
    return HfConfig(
        n_layer=len(parts.blocks) or int(text.num_hidden_layers),
        n_head=watched.patterns[0].shape[0] if watched.patterns else int(getattr(text, "num_attention_heads", 0)),
        n_embd=int(text.hidden_size) if start is None else start.shape[1],
        block_size=next((n for name in _CONTEXT if type(n := getattr(text, name, None)) is int), NO_LIMIT),
        vocab_size=watched.logits.shape[1],
        start_id=folder.start_id,
        end_ids=folder.end_ids,
        model_type=str(model.config.model_type),
        config_sha256=folder.config_sha256,
    )


@contextlib.contextmanager
def _hooks(parts: Parts, keep: Activations, rows: int, heads: int) -> Iterator[None]:
    """Fill `keep` with the last `rows` rows of what the parts make in one pass; nothing stays hooked."""
    found: dict[tuple[str, int], Array] = {}
    handles: list[Any] = []
    keep.returned = rows

    def take(place: tuple[str, int], tensor: Tensor | None) -> None:
        assert tensor is not None  # it was one in the pass at load
        flat = tensor.reshape(-1, tensor.shape[-1])[-rows:]
        found[place] = flat.to("cpu", torch.float32, copy=True).numpy()  # what comes after may change it in place

    def made(place: tuple[str, int]) -> Any:
        return lambda module, args, out: take(place, first_tensor(out))

    def given(place: tuple[str, int]) -> Any:
        return lambda module, args, kwargs: take(place, given_tensor(args, kwargs))

    try:
        for name, modules in (("embed", parts.embed), ("resid_post", parts.blocks), ("mlp_out", parts.mlps)):
            handles += [m.register_forward_hook(made((name, i))) for i, m in enumerate(modules)]
        for name, modules in (("z", parts.outputs), ("embed", () if parts.embed else parts.blocks[:1])):
            handles += [m.register_forward_pre_hook(given((name, i)), with_kwargs=True) for i, m in enumerate(modules)]
        yield
    finally:
        for handle in handles:
            handle.remove()
    for (name, _), array in sorted(found.items(), key=lambda item: item[0]):
        getattr(keep, name).append(array.reshape(rows, heads, -1) if name == "z" else array)


def _pattern(attention: Tensor, rows: int, keys: int) -> Array:
    """[nh, T, K'] -> [nh, rows, K]: a layer that sees a window has no columns for what lies before it."""
    cut = to_numpy(attention[:, attention.shape[1] - rows :])
    return np.pad(cut, ((0, 0), (0, 0), (keys - cut.shape[2], 0)))


@contextlib.contextmanager
def _left_out(parts: Parts, stream: Tensor) -> Iterator[None]:
    """The model without its blocks: each returns `stream`, as the last one would, in the shape that it has."""
    try:
        for block, beside in zip(parts.blocks, parts.beside, strict=True):
            made = stream if beside is None else (stream, *[None] * beside)
            block.forward = lambda *args, made=made, **kwargs: made
        yield
    finally:
        for block in parts.blocks:
            block.__dict__.pop("forward", None)  # what the class has stands again


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Wait until no other thread is in here; keep the library's own remarks and progress bars off the screen.

    What a user should know is in `notices`. Remarks, like warnings, are switched for the whole process: two threads
    that do so crosswise would leave them off.
    """
    log = transformers.logging
    with _ONE:
        level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
        log.set_verbosity(logging.CRITICAL)
        log.disable_progress_bar()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        finally:
            log.set_verbosity(level)
            if bars:
                log.enable_progress_bar()
