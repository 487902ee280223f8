"""A model folder in the Hugging Face layout, read and written.

    config.json              the shape; families/ says how each family writes it
    model.safetensors        weights under their HF names and in their orientation; GPT-2: [in, out] for every product;
                             of the embedded models int8.safetensors in its place: see int8_rows.py
    tokenizer.json           see tokenizer.py
    tokenizer_config.json    what AutoTokenizer wants to see; a chat template is kept as text and never run
    generation_config.json   start and end ids, nothing else

A model of others may lie in several files, which `model.safetensors.index.json` names: see tensor_files.py; or in a
`pytorch_model.bin`, a pickle that is read and never run: see torch_zip.py.

Special here: the safetensors metadata holds a SHA-256 for each tensor and for config.json and tokenizer.json, so a
flipped bit or an edited `n_head` is noticed. A model trained with an ablation switch has its own `model_type`, so that
no other loader takes it for a plain GPT-2. Weights are never folded, centred or transposed at load.
"""

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy

from manako.errors import LoadError
from manako.families import family_of
from manako.families.family import Family, StoredTensor
from manako.families.shape import FileShape, Notices
from manako.files import exists, is_dir, new_folder, read_regular, strict_json, write_file
from manako.formats import int8_rows, torch_zip
from manako.formats.checkpoint import Checkpoint, Tensors, count_weights
from manako.formats.special_tokens import check_vocabulary, special_tokens, token_names
from manako.formats.tensor_files import (
    DTYPES,
    MAX_HEADER_BYTES,
    Stored,
    all_announced,
    announced,
    check_finite,
    check_placed,
    read_index,
)
from manako.formats.vocabulary_files import loader_of, read_vocabulary, vocabulary_files
from manako.tokenizer import Tokenizer

WEIGHTS = "model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
PICKLED = "pytorch_model.bin"
DIGESTS = "manako.sha256"
CHAT_TEMPLATE = "chat_template.jinja"
QUANTIZED = ("quantization_config", "quantization")  # of config.json; the second is MLX's
_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
_PICKLES = ("*.bin", "*.pt", "*.pth")
_MAX_CONFIG_BYTES, _MAX_TOKENIZER_CONFIG_BYTES, _MAX_TEMPLATE_BYTES = 2**20, 16 * 2**20, 2**20


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read and check a model folder.

    Raises LoadError naming the file, tensor and both values for whatever is missing, damaged or contradictory.
    """
    found = weight_files(folder)
    paths, whole = found.paths, found.index or found.paths[0]
    for path in (*paths, folder / "config.json", *vocabulary_files(folder)):
        refuse_link_outside(path)
    config_bytes = read_regular(folder / "config.json", _MAX_CONFIG_BYTES)
    raw = strict_json(config_bytes, str(folder / "config.json"), infinity=True)  # as older programs wrote it
    generation = optional_json(folder / "generation_config.json", _MAX_CONFIG_BYTES)
    wrapper = optional_json(folder / "tokenizer_config.json", _MAX_TOKENIZER_CONFIG_BYTES)
    family, notices = family_of(raw.get("model_type")), _ignored_keys(raw)
    for name in QUANTIZED:
        if raw.get(name) is not None:
            raise LoadError("config_quantized", name=name)
    config, told = family.config_from_json(raw)
    tokenizer = read_vocabulary(folder, wrapper, raw)
    notices += check_vocabulary(folder, tokenizer, config.vocab_size)
    special = special_tokens(raw, generation, wrapper, tokenizer, config.vocab_size, family.bos_starts_documents)
    config = replace(config, start_id=special.start_id, end_ids=special.end_ids)
    notices += [*told, *special.notices]
    metadata, named = found.announced(_largest_file(family, config))
    stored = int8_rows.paired(named) if paths[0].name == int8_rows.FILE else named
    expected = None
    if DIGESTS in metadata:
        expected = strict_json(metadata[DIGESTS], str(paths[0]))
        compare_digests(paths[0], expected, companion_digests(config_bytes, tokenizer))
    else:
        notices.append(("notice.unverifiable", {"file": whole}))
    template = read_chat_template(folder, wrapper)
    if template is not None:
        notices.append(("notice.chat_template", {}))
    weights = _checked_layout(whole, family, config, stored)
    tensors, digests = _read_tensors(family, config, weights)
    if expected is not None:
        compare_digests(paths[0], expected, digests)
        for part in expected.keys() - digests.keys() - {"config.json", "tokenizer.json"}:
            raise LoadError("digest_mismatch", file=paths[0], part=part)
    listing = "".join(f"{name.removeprefix(family.prefix)} {digest}\n" for name, digest in sorted(digests.items()))
    return Checkpoint(
        config=config,
        tensors=tensors,
        tokenizer=tokenizer,
        fingerprint=hashlib.sha256(listing.encode()).hexdigest(),
        stored_dtype="/".join(sorted({DTYPES.get(s.dtype, s.dtype) for s in weights.values()})),
        notices=tuple(notices),
        chat_template=template,
        token_names=read_token_names(folder, wrapper, loader_of(wrapper, raw)),
    )


def write_checkpoint(
    folder: Path,
    config: FileShape,
    tensors: Mapping[str, npt.NDArray[Any]],
    tokenizer: Tokenizer,
    extra: Mapping[str, bytes] | None = None,
    int8: bool = False,
) -> None:
    """Write a new model folder, whole or not at all. `tensors` keep their dtype (float32 or float16).

    extra: files to put beside the model's own, by name. int8: whether the matrices, then float32, are written as
    int8_rows.py says.
    Raises ManakoError when the folder is there already or cannot be written.
    """
    described = config_to_json(config, tensors)
    with new_folder(folder) as temporary:
        for name, content in (_companions(config, described, tokenizer) | dict(extra or {})).items():
            write_file(temporary / name, content)
        write_weights(temporary, config, tensors, tokenizer, int8)


def write_weights(
    folder: Path,
    config: FileShape,
    tensors: Mapping[str, npt.NDArray[Any]],
    tokenizer: Tokenizer,
    int8: bool = False,
) -> None:
    """Replace the weights of a model folder in one step."""
    prefix = family_of(config.model_type).prefix
    digests = companion_digests(_json_bytes(config_to_json(config, tensors)), tokenizer)
    stored: Tensors = {}
    for name, tensor in tensors.items():
        name = name if name == "lm_head.weight" else prefix + name
        tensor = np.ascontiguousarray(tensor)
        if int8 and tensor.ndim == 2:
            stored[name], stored[name + int8_rows.SCALE] = q, scale = int8_rows.quantised(tensor)
            tensor = int8_rows.dequantised(q, scale)
        else:
            stored[name] = tensor
        digests[name] = _sha256(tensor)
    metadata = {"format": "pt", DIGESTS: json.dumps(digests)}
    file = folder / (int8_rows.FILE if int8 else WEIGHTS)
    write_file(file, _in_order(safetensors.numpy.save(stored, metadata=metadata)))


def config_to_json(config: FileShape, tensors: Mapping[str, npt.NDArray[Any]]) -> dict[str, Any]:
    """The object of config.json for these weights."""
    return family_of(config.model_type).config_to_json(config, str(next(iter(tensors.values())).dtype))


@dataclass(frozen=True)
class WeightFiles:
    """Where the weights of a folder lie."""

    paths: Sequence[Path]
    index: Path | None = None
    """What names them where they are several."""
    placed: Mapping[str, str] | None = None
    """There: tensor -> name of its file."""

    @property
    def pickled(self) -> bool:
        """Whether they are pickles, which only our own reader opens."""
        return self.paths[0].suffix == ".bin"

    def announced(self, limit: int) -> tuple[dict[str, str], list[Stored]]:
        """(metadata, tensors) of all files with at most `limit` bytes together. Raises LoadError."""
        read = torch_zip.announced if self.pickled else announced
        metadata, stored = all_announced(self.paths, limit, read)
        if self.index and self.placed is not None:
            check_placed(self.index, self.placed, stored)
        return metadata, stored


def weight_files(folder: Path) -> WeightFiles:
    """The files with the weights, safetensors before pickles. Raises LoadError where there are none."""
    try:
        if not is_dir(folder):
            raise LoadError("folder_missing" if not exists(folder) else "not_a_folder", file=folder)
        for name in (WEIGHTS, int8_rows.FILE, PICKLED):
            index = folder / f"{name}.index.json"
            if exists(folder / name):
                return WeightFiles([folder / name])
            if exists(index):
                refuse_link_outside(index)
                placed = read_index(index)
                return WeightFiles([folder / name for name in sorted(set(placed.values()))], index, placed)
        if pickles := sorted(path for pattern in _PICKLES for path in folder.glob(pattern)):
            raise LoadError("folder_only_pickles", file=pickles[0])
        raise _without_weights(folder)
    except OSError as error:
        raise LoadError("file_unreadable", file=folder, reason=error.strerror or error) from None


def _without_weights(folder: Path) -> LoadError:
    """The error for a folder that has no weights: what it is instead, and what to do."""
    if exists(folder / "adapter_config.json"):
        return LoadError("hf_adapter", file=folder / "adapter_config.json")
    checkpoints = [p for p in folder.glob("checkpoint-*") if p.name.removeprefix("checkpoint-").isdecimal()]
    if checkpoints:
        newest = max(checkpoints, key=lambda p: int(p.name.removeprefix("checkpoint-")))
        return LoadError("folder_of_checkpoints", folder=folder, newest=newest)
    if snapshots := sorted(folder.glob("snapshots/*")):
        return LoadError("folder_of_snapshots", folder=folder, first=snapshots[0])
    if found := sorted(p for kind in ("*.onnx", "onnx/*.onnx", "*.gguf") for p in folder.glob(kind)):
        return LoadError("folder_of_others", folder=folder, found=found[0].name)
    if shards := sorted(folder.glob("*.safetensors")):
        return LoadError("folder_without_index", folder=folder, found=shards[0].name, index=INDEX)
    return LoadError("file_missing", file=folder / WEIGHTS)


def refuse_link_outside(path: Path) -> None:
    """A file of the folder lies in it, or, in a Hugging Face cache, among the blobs of the same model."""
    # Not `resolve`, which before Python 3.13 raises RuntimeError for a link to itself: its reader says what that is.
    target, home = Path(os.path.realpath(path)), Path(os.path.realpath(path.parent))
    blobs = [home.parent.parent / "blobs"] if home.parent.name == "snapshots" else []
    if not any(target.is_relative_to(place) for place in (home, *blobs)):
        raise LoadError("link_outside", file=path, target=target)


def read_tokenizer(folder: Path) -> Tokenizer:
    """The vocabulary of a model folder, as `read_checkpoint` has it, whatever its weights are. Raises LoadError."""
    wrapper = optional_json(folder / "tokenizer_config.json", _MAX_TOKENIZER_CONFIG_BYTES)
    config = optional_json(folder / "config.json", _MAX_CONFIG_BYTES, infinity=True)
    return read_vocabulary(folder, wrapper, config)


def optional_json(path: Path, limit: int, infinity: bool = False) -> dict[str, Any]:
    """A JSON object that a folder may lack."""
    if not exists(path):
        return {}
    refuse_link_outside(path)
    return strict_json(read_regular(path, limit), str(path), infinity=infinity)


def read_token_names(folder: Path, wrapper: Mapping[str, Any], loader: object) -> dict[str, str]:
    """What a chat template calls special tokens by; loader: the class that opens the folder. Raises LoadError."""
    return token_names(wrapper, optional_json(folder / "special_tokens_map.json", _MAX_CONFIG_BYTES), loader)


def read_chat_template(folder: Path, wrapper: Mapping[str, Any]) -> str | None:
    """The text in chat_template.jinja, else in tokenizer_config.json, there the one named "default" of several."""
    path, template = folder / CHAT_TEMPLATE, wrapper.get("chat_template")
    if exists(path):
        refuse_link_outside(path)
        try:
            return read_regular(path, _MAX_TEMPLATE_BYTES).decode("utf-8")
        except UnicodeDecodeError as error:
            raise LoadError("file_unreadable", file=path, reason=error) from None
    if isinstance(template, list):
        named = [t for t in template if isinstance(t, dict) and t.get("name") == "default"]
        template = named[0].get("template") if named else None
    return template if isinstance(template, str) and len(template) <= _MAX_TEMPLATE_BYTES else None


def _largest_file(family: Family[Any], config: FileShape) -> int:
    """Bytes that the weights can have at most, with a tied matrix stored twice and the buffers of old files.

    Raises LoadError as `count_weights`.
    """
    numbers, embedding = count_weights(config), math.prod(config.parameters()[family.embedding])
    buffers = config.n_layer * family.buffer_size(config)
    return 4 * (numbers + embedding + buffers) + MAX_HEADER_BYTES


def _checked_layout(
    path: Path, family: Family[Any], config: FileShape, stored: Sequence[StoredTensor]
) -> dict[str, StoredTensor]:
    """The tensors of the model, by name without prefix, before any of them is read; buffers are checked and left out.

    path: the file that a missing tensor is missing in.
    """
    found: dict[str, StoredTensor] = {}
    for tensor in stored:
        name = tensor.name.removeprefix(family.prefix)
        if name.endswith(family.buffers):
            family.check_buffer(config, tensor)
            continue
        if name in found:  # with and without the prefix it is the same tensor to us: which of the two would hold?
            raise LoadError("tensor_extra", file=tensor.file, tensor=tensor.name)
        if not tensor.is_float:
            raise LoadError("tensor_dtype", file=tensor.file, tensor=tensor.name, dtype=tensor.dtype)
        if 0 in tensor.shape:  # no tensor of a model is empty, and NumPy cannot build some such shapes
            raise LoadError("tensor_empty", file=tensor.file, tensor=tensor.name, shape=list(tensor.shape))
        found[name] = tensor
    _check_shapes(str(path), family, config, {name: tensor.shape for name, tensor in found.items()})
    return found


def _read_tensors(
    family: Family[Any], config: FileShape, weights: Mapping[str, StoredTensor]
) -> tuple[Tensors, dict[str, str]]:
    """(float32 by name without prefix, SHA-256 by name as stored)."""
    tensors, digests = family.weights(config), dict[str, str]()
    twice = None
    for name, tensor in weights.items():
        numbers, digests[tensor.name] = tensor.widened()
        if name in tensors:
            tensors[name][...] = numbers
        else:  # some writers store the tied matrix twice
            twice = tensor, numbers
    if twice and not np.array_equal(twice[1], tensors[family.embedding]):
        raise LoadError("tensor_untied", file=twice[0].file, embedding=family.embedding)
    return tensors, digests


def check_tensors(file: str, config: FileShape, tensors: Tensors) -> None:
    """Raise LoadError unless exactly the tensors of `config` are there, in shape and finite."""
    _check_shapes(file, family_of(config.model_type), config, {name: tensor.shape for name, tensor in tensors.items()})
    for name, tensor in tensors.items():
        check_finite(file, name, tensor)


def _check_shapes(file: str, family: Family[Any], config: FileShape, found: Mapping[str, tuple[int, ...]]) -> None:
    shapes = config.parameters()
    if config.tie_word_embeddings and "lm_head.weight" in found:
        shapes["lm_head.weight"] = shapes[family.embedding]
    for name in sorted(shapes.keys() - found.keys()):
        raise LoadError("tensor_missing", file=file, tensor=name)
    for name in sorted(found.keys() - shapes.keys()):
        raise LoadError("tensor_extra", file=file, tensor=name)
    for name, shape in shapes.items():
        if found[name] != shape:
            raise LoadError("tensor_shape", file=file, tensor=name, found=list(found[name]), expected=list(shape))


def compare_digests(path: Path, expected: Mapping[str, Any], actual: Mapping[str, str]) -> None:
    """Raise LoadError naming the first part whose digest is not the expected one."""
    for name in sorted(actual):
        if expected.get(name) != actual[name]:
            raise LoadError("digest_mismatch", file=path, part=name)


def _in_order(data: bytes) -> bytes:
    """The same safetensors file with its metadata sorted: the library writes it in another order at each call."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def _sha256(tensor: npt.NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(tensor).reshape(-1).view(np.uint8).data).hexdigest()


def companion_digests(config_bytes: bytes, tokenizer: Tokenizer) -> dict[str, str]:
    """SHA-256 of what lies beside the weights and decides what they mean."""
    return {"config.json": hashlib.sha256(config_bytes).hexdigest(), "tokenizer.json": tokenizer.fingerprint}


def _companions(config: FileShape, described: Mapping[str, Any], tokenizer: Tokenizer) -> dict[str, bytes]:
    """The files beside the weights; described: the object of config.json."""
    ids = {name: described[name] for name in _IDS if name in described}
    wrapper: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": config.block_size,
        "clean_up_tokenization_spaces": False,
    }
    if tokenizer.front_ids:
        wrapper["add_bos_token"] = True  # for readers that do not ask the tokenizer
    for name, found in ids.items():
        first = found[0] if isinstance(found, list) and found else found
        if type(first) is int and (token := tokenizer.name_of(first)) is not None:
            wrapper[name.removesuffix("_id")] = token
    return {
        "config.json": _json_bytes(described),
        "tokenizer.json": tokenizer.source.encode("utf-8"),
        "tokenizer_config.json": _json_bytes(wrapper),
        "generation_config.json": _json_bytes({"_from_model_config": True, **ids}),
    }


def _ignored_keys(raw: Mapping[str, Any]) -> Notices:
    """Keys that would steer another loader, named."""
    steering = sorted(k for k in raw if k.startswith("_") or k in ("auto_map", "trust_remote_code"))
    return [("notice.ignored_keys", {"names": ", ".join(steering)})] if steering else []


def _json_bytes(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode("utf-8")
