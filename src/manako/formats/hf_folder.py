"""A folder of any causal LM of `transformers`, or the hub's copy of one: all but its weights, nothing unchecked.

Special here: configuration, shard index and links are read by our own strict readers before `transformers` sees the
folder; keys that steer a loader are dropped and named; no Python of a folder ever runs, and weights come from
safetensors, or where there are none from a pickle that our own reader takes as data (torch_zip.py). A chat template and
the author's sampling settings are text to show: neither is applied. What the hub's cache holds whole is opened from it
with no connection; the network is used only because a reference names it.

torch and transformers (extra `hf`) are imported when a model is loaded, so that this module can say what is missing.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from manako.errors import LoadError, MissingExtraError, first_line
from manako.families import FAMILIES
from manako.families.shape import Notices
from manako.files import exists, is_dir, is_file, read_regular, strict_json
from manako.formats import tensor_files
from manako.formats.checkpoint import Source
from manako.formats.model_folder import (
    DIGESTS,
    PICKLED,
    QUANTIZED,
    companion_digests,
    compare_digests,
    optional_json,
    read_chat_template,
    read_token_names,
    refuse_link_outside,
    weight_files,
)
from manako.formats.special_tokens import special_tokens
from manako.formats.tensor_files import Stored
from manako.formats.vocabulary_files import (
    AS_FILED,
    PIECE_MODELS,
    as_wrapped,
    read_pieces,
    vocabulary_files,
    with_class,
)
from manako.tokenizer import Tokenizer

FILES = (
    "model*.safetensors",
    "*.json",
    "*.jinja",
    *PIECE_MODELS,
    "merges.txt",
    "vocab.txt",
)  # no Python, no pickle
PICKLES = (f"{PICKLED}.index.json", "pytorch_model*.bin")  # the weights of older models, where there are no others
MOST_PARTS = 10_000  # layers, heads or experts: as many modules are built before a weight is looked at
MOST_BYTES = 1 << 50  # of weights; what fits is for the memory to say
DTYPES = tensor_files.DTYPES | {"F64": "float64"}
_HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?", re.ASCII)
_PARTS = re.compile(r"num_\w+|n_(layers?|heads?)")
_STEERING = ("auto_map", "trust_remote_code", "attn_implementation", "experts_implementation")
_CALL = ("dtype", "torch_dtype", "return_dict", "output_attentions", "output_hidden_states", "use_cache")
_SAMPLING = ("do_sample", "temperature", "top_k", "top_p", "min_p", "typical_p", "repetition_penalty")
_NO_NUMBERS = (  # of a config.json
    "architectures", "transformers_version", "tokenizer_class", "bos_token_id", "eos_token_id", "pad_token_id",
)  # fmt: skip
_VOCABULARIES = (*PIECE_MODELS, "vocab.json", "vocab.txt")  # of tokenizers older than tokenizer.json
_BUFFERS = tuple(name for family in FAMILIES for name in family.buffers)


@dataclass(frozen=True)
class HfFolder:
    """A model folder that passed every check which needs no torch."""

    path: Path
    config: Mapping[str, Any]
    """config.json without what could steer a loader."""
    tensors: tuple[Stored, ...]
    pickled: bool
    """Whether they lie in a pickle, which `transformers` is never given."""
    digests: Mapping[str, str]
    """SHA-256 of each tensor, by name."""
    tokenizer: Tokenizer
    start_id: int | None
    """The token that starts an empty text, if there is one."""
    end_ids: tuple[int, ...]
    """What config.json and generation_config.json give as ends of a text."""
    chat_template: str | None
    """Runs only where somebody asks for it, in a sandbox."""
    token_names: Mapping[str, str]
    """What its author calls the start token, the end token and others."""
    notices: Notices

    @property
    def config_sha256(self) -> str:
        """Of all in config.json that may decide a number."""
        numbers = {name: value for name, value in self.config.items() if name not in _NO_NUMBERS}
        return hashlib.sha256(json.dumps(numbers, sort_keys=True).encode()).hexdigest()

    def source(self, prefix: str) -> Source:
        """What is known of the model beside its weights.

        prefix: what this kind of model may have in front of a tensor's name, such as "transformer.", so that the same
        weights have the fingerprint that `read_checkpoint` gives them.
        """
        weights = sorted((t for t in self.tensors if not t.name.endswith(_BUFFERS)), key=lambda t: t.name)
        listing = "".join(f"{t.name.removeprefix(prefix)} {self.digests[t.name]}\n" for t in weights)
        return Source(
            tokenizer=self.tokenizer,
            fingerprint=hashlib.sha256(listing.encode()).hexdigest(),
            stored_dtype="/".join(sorted({DTYPES.get(t.dtype, t.dtype) for t in weights})),
            notices=self.notices,
            chat_template=self.chat_template,
            token_names=self.token_names,
        )


def hf_folder(place: str, ref: str) -> HfFolder:
    """All but the weights of a folder such as "./folder", or of a hub model such as "org/name".

    A hub model is looked for in the hub's cache, then on the network. ref: what errors call it.
    Raises MissingExtraError without torch or transformers 5, LoadError naming folder, file, tensor or key.
    """
    _require_extra()
    # A name that a folder here has is never asked of a server.
    if place.startswith((".", "/", "\\")) or Path(place).is_absolute() or (place and is_dir(Path(place))):
        return read_hf_folder(Path(place))
    if _HUB_NAME.fullmatch(place) and ".." not in place:
        return read_hf_folder(_snapshot(place, ref))
    raise LoadError("hf_ref", ref=ref)


def read_hf_folder(path: Path) -> HfFolder:
    """Check a folder and read all but its weights. Raises LoadError."""
    weights = weight_files(path)
    files, whole = weights.paths, weights.index or weights.paths[0]
    try:
        for file in path.iterdir():
            refuse_link_outside(file)
    except OSError as error:
        raise LoadError("file_unreadable", file=path, reason=error.strerror or error) from None
    if exists(path / "adapter_config.json"):  # it names another model to load, wherever that may be
        raise LoadError("hf_adapter", file=path / "adapter_config.json")
    config_bytes = read_regular(path / "config.json", 1 << 20)
    config, notices = _clean_config(path, strict_json(config_bytes, str(path / "config.json"), infinity=True))
    metadata, stored = weights.announced(MOST_BYTES)
    if (layers := max(_layers(config), default=0)) > len(stored):  # each has a tensor: this is no honest number
        raise LoadError("config_range", name="num_hidden_layers", value=layers, low=1, high=len(stored))
    generation = optional_json(path / "generation_config.json", 1 << 20)
    wrapper = optional_json(path / "tokenizer_config.json", 1 << 24)
    loader = _loader(config["model_type"], with_class(wrapper, config)["tokenizer_class"])
    tokenizer, template = _tokenizer(path, wrapper, config, loader), read_chat_template(path, wrapper)
    starts = any(config["model_type"] in f.model_types and f.bos_starts_documents for f in FAMILIES)
    special = special_tokens(config, generation, wrapper, tokenizer, tokenizer.vocab_size, starts)
    notices += special.notices
    digests = {t.name: hashlib.sha256(t.read().data).hexdigest() for t in stored}
    if DIGESTS in metadata:
        expected = strict_json(metadata[DIGESTS], str(files[0]))
        compare_digests(files[0], expected, digests | companion_digests(config_bytes, tokenizer))
    else:
        notices.append(("notice.unverifiable", {"file": whole}))
    if template is not None:
        notices.append(("notice.chat_template", {}))
    if settings := ", ".join(f"{n}={generation[n]}" for n in _SAMPLING if isinstance(generation.get(n), int | float)):
        notices.append(("notice.hf_generation", {"settings": settings}))
    return HfFolder(
        path=path,
        config=config,
        tensors=tuple(stored),
        pickled=weights.pickled,
        digests=digests,
        tokenizer=tokenizer,
        start_id=special.start_id,
        end_ids=special.end_ids,
        chat_template=template,
        token_names=read_token_names(path, wrapper, loader),
        notices=notices,
    )


def _require_extra() -> None:
    missing = [name for name in ("torch", "transformers") if find_spec(name) is None]
    if missing or int(version("transformers").split(".")[0]) < 5:
        raise MissingExtraError("missing_hf")


def _snapshot(name: str, ref: str) -> Path:
    """The folder of a hub model: as the cache has it if that is whole, else fetched. Raises LoadError."""
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    def fetch(local: bool, files: tuple[str, ...] = FILES) -> Path:
        return Path(
            huggingface_hub.snapshot_download(
                name, local_files_only=local, allow_patterns=list(files), ignore_patterns=["*/*"]
            )
        )

    try:
        cached = fetch(local=True)
    except LocalEntryNotFoundError:
        cached = None
    except HFValidationError:  # a name that the hub gives to nobody
        raise LoadError("hf_ref", ref=ref) from None
    if cached and _is_whole(cached):
        return cached
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        raise LoadError("hf_not_cached", ref=ref)
    try:
        fetched = fetch(local=False)
        if not any(fetched.glob("*.safetensors")):
            fetched = fetch(local=False, files=PICKLES)
    except Exception as error:  # of the hub's client, its HTTP library or the disk
        raise LoadError("hf_download", ref=ref, reason=first_line(error)) from None
    if not _is_whole(fetched):
        raise LoadError("hf_not_whole", ref=ref)
    return fetched


def _is_whole(folder: Path) -> bool:
    """Whether everything is there that a model needs: a download may have been cut short."""
    try:
        weights = weight_files(folder)
        files = [folder / "config.json", *weights.paths]
    except LoadError:
        return False
    return all(is_file(f) for f in files) and any(is_file(folder / n) for n in ("tokenizer.json", *_VOCABULARIES))


def _clean_config(folder: Path, raw: dict[str, Any]) -> tuple[dict[str, Any], Notices]:
    """A config.json without the keys that could steer a loader, at any depth; those are named."""
    dropped: set[str] = set()

    def clean(value: Any) -> Any:
        if isinstance(value, list):
            return [clean(v) for v in value]
        if not isinstance(value, dict):
            return value
        if value.keys() == {"__float__"} and value["__float__"] in ("Infinity", "-Infinity"):  # which JSON lacks
            return float(value["__float__"])
        steering = {k for k in value if k.startswith("_") or k in _STEERING}
        dropped.update(steering)
        kept = {k: v for k, v in value.items() if k not in steering and k not in _CALL}
        for name, count in kept.items():
            if _PARTS.fullmatch(name) and type(count) is int and count > MOST_PARTS:
                raise LoadError("config_range", name=name, value=count, low=0, high=MOST_PARTS)
        return {k: clean(v) for k, v in kept.items()}

    config: dict[str, Any] = clean(raw)
    model_type = config.get("model_type")
    if not _is_causal_lm(model_type):
        key = "hf_remote_code" if "auto_map" in dropped else "hf_model_type"
        raise LoadError(key, folder=folder, value=model_type, version=version("transformers"))
    if any(config.get(name) for name in QUANTIZED):
        raise LoadError("hf_quantized", folder=folder)
    return config, [("notice.ignored_keys", {"names": ", ".join(sorted(dropped))})] if dropped else []


def _is_causal_lm(model_type: object) -> bool:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return (
        isinstance(model_type, str) and model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and model_type in CONFIG_MAPPING
    )


def _layers(config: Mapping[str, Any]) -> Iterator[int]:
    """Every number of layers that the configuration or a part of it asks for."""
    for name, value in config.items():
        if isinstance(value, dict):
            yield from _layers(value)
        elif name in ("num_hidden_layers", "n_layer", "n_layers", "num_layers") and type(value) is int:
            yield value


def _loader(model_type: object, named: object) -> object:
    """The class that `AutoTokenizer` opens a tokenizer.json with; for some kinds of model whatever the folder names."""
    from transformers.models.auto import tokenization_auto as known

    registered = (known.TOKENIZER_MAPPING_NAMES.get(str(model_type)) or "").removesuffix("Fast")
    mistaken = getattr(known, "MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS", ())
    return registered if registered == AS_FILED or model_type in mistaken else named or registered


def _tokenizer(folder: Path, wrapper: Mapping[str, Any], config: Mapping[str, Any], loader: object) -> Tokenizer:
    """The folder's tokenizer.json, or an older vocabulary as we or else `transformers` read it. Raises LoadError."""
    path = folder / "tokenizer.json"
    if exists(path) or not any(exists(folder / name) for name in _VOCABULARIES):
        return as_wrapped(Tokenizer.from_file(path), path, {**wrapper, "tokenizer_class": loader})
    older = vocabulary_files(folder)[0]
    if older.name in PIECE_MODELS and (
        pieces := read_pieces(older, with_class(wrapper, config), config.get("model_type"))
    ):
        return pieces
    if "auto_map" in wrapper:
        raise LoadError("hf_tokenizer", folder=folder, reason="it wants to run code of its own (auto_map)")
    import transformers

    try:
        found = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        source = found.backend_tokenizer.to_str()  # only those built on `tokenizers` have one
    except Exception as error:  # the library raises whatever its many readers do
        raise LoadError("hf_tokenizer", folder=folder, reason=first_line(error)) from None
    return Tokenizer(source, str(folder))
