"""A GGUF file as a checkpoint, its quantised weights unpacked to float32; families/ says what holds a family.

Special here: the head is read by our own strict reader (gguf_head.py), and shapes are compared with the configuration
before anything is allocated; the `gguf` library sees packed blocks only. Weights are unpacked some blocks at a time, so
that memory stays near the float32 weights alone. The keys of an architecture form a closed list: one that we don't know
could change a number. A chat template is kept as text and never run.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import numpy.typing as npt

from manako.errors import LoadError, MissingExtraError
from manako.families import FAMILIES
from manako.families.family import Family, GGUFLayout, GGUFSettings
from manako.families.shape import FileShape
from manako.files import check_regular
from manako.formats.checkpoint import Checkpoint, Tensors, count_weights
from manako.formats.gguf_head import QUANTISATIONS, GGUFHead, Metadata, TensorPlace, read_head
from manako.formats.gguf_tokenizer import notices, start_token, token_id, tokenizer_json
from manako.formats.special_tokens import check_vocabulary
from manako.formats.tensor_files import check_finite
from manako.tokenizer import Tokenizer

NUMBERS_AT_A_TIME = 1 << 18  # a megabyte of float32, which stays in a processor's cache
MOST_SMALL = 1 << 16  # numbers of a tensor that is part of the configuration
_WITHOUT_EFFECT: dict[str, tuple[object, ...]] = {  # the values with which a key changes nothing
    "expert_count": (0,),
    "expert_used_count": (0,),
    "attention.causal": (True,),
    "rope.scaling.attn_factor": (1.0,),
    "rope.scaling.finetuned": (True, False),
    "tensor_data_layout": ("Meta AI original pth",),
}
T = TypeVar("T")


def read_gguf(path: Path) -> Checkpoint:
    """Read and check a GGUF file.

    Raises MissingExtraError without the `gguf` package, LoadError naming the file, key or tensor for whatever is
    missing, damaged, contradictory or not run by the NumPy engine.
    """
    if find_spec("gguf") is None:
        raise MissingExtraError("missing_gguf")
    return _opened(path, _read)


def read_gguf_tokenizer(path: Path) -> Tokenizer:
    """The vocabulary of a GGUF file alone. Raises LoadError as `read_gguf` does."""

    def read(path: Path, stream: BinaryIO) -> Tokenizer:
        return Tokenizer(tokenizer_json(path, read_head(path, stream).metadata), str(path))

    return _opened(path, read)


def _opened(path: Path, read: Callable[[Path, BinaryIO], T]) -> T:
    try:
        check_regular(path)
        with path.open("rb") as stream:
            return read(path, stream)
    except OSError as error:
        raise LoadError("file_unreadable", file=path, reason=error.strerror or error) from None
    except MemoryError:
        raise LoadError("file_unreadable", file=path, reason="it is larger than the memory") from None


def _read(path: Path, stream: BinaryIO) -> Checkpoint:
    head = read_head(path, stream)
    metadata = head.metadata
    family = _family(path, metadata)
    if metadata.get("split.count", 1) != 1:
        raise LoadError("gguf_split", file=path, count=metadata["split.count"])
    template = metadata.get("tokenizer.chat_template")
    if type(template) not in (str, type(None)):
        raise LoadError("gguf_value", file=path, name="tokenizer.chat_template", found="not a text")
    tokenizer = Tokenizer(tokenizer_json(path, metadata), str(path))
    told = notices(path, metadata)
    small: dict[str, str] = {}  # digests of the tensors that are part of the configuration
    settings = _settings(path, stream, head, family, small)
    try:
        config: FileShape = family.gguf.config(settings)
    except LoadError as error:
        if not error.key.startswith("config_"):
            raise
        raise LoadError("gguf_config", file=path, reason=str(error).removeprefix("config.json: ")) from None
    told += check_vocabulary(path, tokenizer, config.vocab_size)
    places = _checked_layout(path, head, family.gguf, config, small)
    count_weights(config)
    tensors, digests = _tensors(path, stream, family, config, places)
    digests = [f"{name} {digest}\n" for name, digest in (digests | small).items()]
    if config.block_size < (context := settings["context_length"]):
        told.append(("notice.gguf_window", {"file": path, "window": config.block_size, "context": context}))
    if template is not None:
        told.append(("notice.chat_template", {}))
    sizes = Counter[str]()
    for place in head.tensors.values():
        sizes[QUANTISATIONS[place.kind].name] += place.size
    return Checkpoint(
        config=config,
        tensors=tensors,
        tokenizer=tokenizer,
        fingerprint=hashlib.sha256("".join(sorted(digests)).encode()).hexdigest(),
        stored_dtype="/".join(name for name, _ in sizes.most_common()),
        notices=(*told, ("notice.unverifiable", {"file": path})),
        chat_template=template,
        token_names={
            f"{name}_token": metadata["tokenizer.ggml.tokens"][i]
            for name in ("bos", "eos")
            if (i := token_id(path, metadata, name)) is not None
        },
    )


# ---- configuration


def _family(path: Path, metadata: Metadata) -> Family[Any]:
    architecture = metadata.get("general.architecture")
    for family in FAMILIES:
        if architecture in family.gguf.architectures:
            return family
    known = ", ".join(name for family in FAMILIES for name in family.gguf.architectures)
    raise LoadError("gguf_architecture", file=path, found=architecture, known=known)


def _settings(path: Path, stream: BinaryIO, head: GGUFHead, family: Family[Any], small: dict[str, str]) -> GGUFSettings:
    """The keys of the architecture, without its name: all of them known, each of its kind. small: see `_read`."""
    metadata, architecture = head.metadata, head.metadata["general.architecture"]
    prefix = f"{architecture}."
    values = {k.removeprefix(prefix): v for k, v in metadata.items() if k.startswith(prefix)}
    for name, value in values.items():
        if type(value) is not family.gguf.keys.get(name) and value not in _WITHOUT_EFFECT.get(name, ()):
            raise LoadError("gguf_value", file=path, name=prefix + name, found=value)
    if "token_embd.weight" not in head.tensors:
        raise LoadError("tensor_missing", file=path, tensor="token_embd.weight")

    def small_tensor(name: str) -> npt.NDArray[np.float32] | None:
        if (place := head.tensors.get(name)) is None:
            return None
        if len(place.shape) != 1 or place.size > MOST_SMALL:
            raise LoadError("gguf_shape", file=path, tensor=name, found=list(place.shape), expected="[half a head]")
        numbers = np.empty(place.shape, np.float32)
        small[name] = _unpack(path, stream, place, numbers.reshape(-1))
        return numbers

    ends = [token_id(path, metadata, name) for name in ("eos", "eot", "eom")]
    settings = GGUFSettings(
        file=path,
        architecture=architecture,
        values=values,
        tensors=head.tensors.keys(),
        vocab_size=head.tensors["token_embd.weight"].shape[0],  # the size of the vocabulary is that of the matrix
        start_id=token_id(path, metadata, "bos") if family.bos_starts_documents else start_token(path, metadata),
        end_ids=tuple(dict.fromkeys(i for i in ends if i is not None)),
        small_tensor=small_tensor,
    )
    settings.expect("vocab_size", settings.vocab_size)
    return settings


# ---- weights


def _checked_layout(
    path: Path, head: GGUFHead, layout: GGUFLayout[Any], config: FileShape, small: Collection[str]
) -> dict[str, TensorPlace]:
    """Where the tensors of the model lie, by our name, before any of them is read; each of its shape, none unknown."""
    places: dict[str, TensorPlace] = {}
    for name, shape in config.parameters().items():
        stored = stored_name(layout.names, name)
        if stored not in head.tensors:
            raise LoadError("tensor_missing", file=path, tensor=stored)
        places[name] = head.tensors[stored]
        expected = shape[::-1] if layout.transposed(name) else shape
        if places[name].shape != expected:
            found = list(places[name].shape)
            raise LoadError("gguf_shape", file=path, tensor=stored, found=found, expected=list(expected))
    for stored in sorted(head.tensors.keys() - {stored_name(layout.names, name) for name in places} - set(small)):
        raise LoadError("gguf_extra", file=path, tensor=stored)
    return places


def _tensors(
    path: Path, stream: BinaryIO, family: Family[Any], config: FileShape, places: Mapping[str, TensorPlace]
) -> tuple[Tensors, dict[str, str]]:
    """(float32 by our name, digests by the file's name)."""
    tensors, layout, digests = family.weights(config), family.gguf, dict[str, str]()
    for name, place in places.items():
        stored, tensor = stored_name(layout.names, name), tensors[name]
        as_stored = tensor.T if layout.transposed(name) else tensor  # of our room: nothing else holds the numbers
        digests[stored] = _unpack(path, stream, place, as_stored.reshape(-1))
        check_finite(str(path), stored, as_stored)
        if (ordered := layout.reordered(config, name, tensor)) is not tensor:
            tensor[...] = ordered
    return tensors, digests


def stored_name(names: Mapping[str, str], name: str) -> str:
    """The name in the file of one of our tensors; names: those of the family's layout.

    >>> stored_name({"self_attn.q_proj": "attn_q"}, "layers.3.self_attn.q_proj.weight")
    'blk.3.attn_q.weight'
    """
    part, suffix = name.rsplit(".", 1)
    block = re.fullmatch(r"(?:layers|h)\.(\d+)\.(.+)", part)
    return f"blk.{block[1]}.{names[block[2]]}.{suffix}" if block else f"{names[part]}.{suffix}"


def _unpack(path: Path, stream: BinaryIO, place: TensorPlace, out: npt.NDArray[np.float32]) -> str:
    """Fill `out`, flat, with the numbers of one tensor; the SHA-256 of its bytes."""
    from gguf import GGMLQuantizationType  # imports yaml and more: nothing but opening such a file may pay for it
    from gguf.quants import dequantize

    packed, kind = QUANTISATIONS[place.kind], GGMLQuantizationType(place.kind)
    at_a_time = NUMBERS_AT_A_TIME // packed.block * packed.block
    digest = hashlib.sha256()
    stream.seek(place.offset)
    for start in range(0, out.size, at_a_time):
        part = out[start : start + at_a_time]
        data = stream.read(part.size // packed.block * packed.size)
        if len(data) < part.size // packed.block * packed.size:
            raise LoadError("file_unreadable", file=path, reason="it was cut short while it was read")
        digest.update(data)
        with np.errstate(all="ignore"):  # what is not finite is named later, with its tensor and place
            part[:] = dequantize(np.frombuffer(data, np.uint8), kind)  # blocks know no rows: one long row is fastest
    return digest.hexdigest()
