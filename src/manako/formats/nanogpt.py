"""nanoGPT's `ckpt.pt`: a GPT-2 with the exact GELU, of which the biases may be missing.

Special here: the file has no vocabulary. It stands in the `meta.pkl` of the data that the model was trained on, or is
GPT-2's; without the one or the other there is nothing to show, so one of them has to be given. What only training
reads (optimizer, losses, settings) is left. Source: `model.py`, `train.py` and `data/*/prepare.py` of karpathy/nanoGPT.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from manako import tokenizer as tokenizers
from manako.errors import LoadError
from manako.families.gpt2 import FAMILY
from manako.files import exists, read_regular
from manako.formats.checkpoint import Tensors
from manako.formats.imported import Imported, Notices, gpt2_config
from manako.formats.pickle_reader import MAX_BYTES, read_pickle
from manako.formats.tensor_files import DTYPES, Stored
from manako.formats.torch_zip import Archive, stored
from manako.tokenizer import Tokenizer, start_id_of

COMPILED = "_orig_mod."  # what torch.compile puts in front of a name
META = "meta.pkl"
_SHAPE = ("n_layer", "n_head", "n_embd", "block_size", "vocab_size")


def is_nanogpt(saved: Any) -> bool:
    """Whether what a pickle says is such a checkpoint."""
    return isinstance(saved, dict) and {"model", "model_args"} <= saved.keys()


def read_nanogpt(archive: Archive, saved: Mapping[str, Any], tokenizer: Tokenizer | None) -> Imported:
    """saved: what the pickle says. tokenizer: that of the data; None looks for the `meta.pkl` beside the file.

    Raises LoadError naming the setting, tensor or file that is missing or contradictory.
    """
    path, arguments = archive.path, saved["model_args"]
    archive.check_byte_order()
    _require(path, "model_args", arguments, isinstance(arguments, dict), "dict")
    for name in sorted(arguments.keys() - {*_SHAPE, "bias", "dropout"}, key=ascii):  # it could change a number
        raise LoadError("legacy_extra", file=path, name=f"model_args: {ascii(name)}")
    shape = {name: arguments.get(name) for name in _SHAPE}
    for name, value in shape.items():
        _require(path, f"model_args.{name}", value, type(value) is int, "int")
    bias = arguments.get("bias", True)
    _require(path, "model_args.bias", bias, type(bias) is bool, "True, False")
    tokenizer = tokenizer or _characters(path, saved.get("config"))
    _require(path, "vocab_size", shape["vocab_size"], shape["vocab_size"] >= tokenizer.vocab_size, tokenizer.vocab_size)
    start = start_id_of(tokenizer)
    config = gpt2_config(path, "model_args", shape, start_id=start, end_ids=() if start is None else (start,))  # pyright: ignore[reportArgumentType]
    weights = _weights(archive, saved["model"])
    tensors: Tensors = {}
    used = {"lm_head.weight"}
    for name, expected in config.parameters().items():
        if not bias and name.endswith(".bias"):
            tensors[name] = np.zeros(expected, np.float32)
            continue
        used.add(name)
        linear = name.startswith("h.") and len(expected) == 2  # torch has it as [out, in]
        numbers = _numbers(path, weights, name, expected[::-1] if linear else expected)
        tensors[name] = np.ascontiguousarray(numbers.T) if linear else numbers
    if "lm_head.weight" in weights:
        head = _numbers(path, weights, "lm_head.weight", config.parameters()["wte.weight"])
        if not np.array_equal(head, tensors["wte.weight"]):
            raise LoadError("nanogpt_untied", file=path)
    for name in [name for name in weights if name.endswith(FAMILY.buffers) and len(weights[name].shape) == 4]:
        FAMILY.check_buffer(config, weights.pop(name))  # a causal mask, of a torch without flash attention
    for name in sorted(weights.keys() - used):
        raise LoadError("legacy_extra", file=path, name=f"model: {ascii(name)}")
    dtypes = {DTYPES.get(weights[name].dtype, "") for name in used & weights.keys()}
    notices: Notices = () if archive.verifiable else (("notice.unverifiable", {"file": path}),)
    return Imported(config, tensors, tokenizer, "/".join(sorted(dtypes)), notices)


def _weights(archive: Archive, model: Any) -> dict[str, Stored]:
    """The tensors by name, without what torch.compile and the model put in front. Nothing is read yet."""
    path = archive.path
    _require(path, "model", model, isinstance(model, dict), "dict")
    found: dict[str, Stored] = {}
    for key, record in model.items():
        name = str(key).removeprefix(COMPILED).removeprefix(FAMILY.prefix)
        if name in found:
            raise LoadError("legacy_extra", file=path, name=f"model: {ascii(key)}")
        found[name] = stored(archive, str(key), record)
    return found


def _numbers(path: Path, weights: Mapping[str, Stored], name: str, shape: tuple[int, ...]) -> Any:
    """float32 of a shape, all finite."""
    if name not in weights:
        raise LoadError("tensor_missing", file=path, tensor=name)
    tensor = weights[name]
    _require(path, f"{name} shape", str(tensor.shape), tensor.shape == shape, shape)
    if not tensor.is_float:
        raise LoadError("tensor_dtype", file=path, tensor=name, dtype=tensor.dtype)
    return tensor.widened()[0]


def _characters(path: Path, settings: Any) -> Tokenizer:
    """The vocabulary in the `meta.pkl` beside the file: a character each, ids 0 to V - 1."""
    file = path.with_name(META)
    if not exists(file):
        dataset = settings.get("dataset") if isinstance(settings, dict) else None
        place = f"data/{dataset if isinstance(dataset, str) else 'NAME'}/{META}"
        raise LoadError("nanogpt_no_vocabulary", file=path, meta=place)
    meta = read_pickle(read_regular(file, MAX_BYTES), file)
    meta = meta if isinstance(meta, dict) else {}
    itos: Any = meta.get("itos")
    _require(file, "itos", itos, isinstance(itos, dict) and bool(itos), "dict")
    for i in range(len(itos)):
        ch = itos.get(i)
        _require(file, f"itos[{i}]", ch, type(ch) is str and len(ch) == 1, "one character")
    stoi = meta.get("stoi")
    same = isinstance(stoi, dict) and stoi == {ch: i for i, ch in itos.items()}
    _require(file, "stoi", stoi, same, "the same as itos")
    return tokenizers.from_characters([itos[i] for i in range(len(itos))])


def _require(file: Path, name: str, found: object, holds: bool, expected: object) -> None:
    if not holds:  # only flat values are shown: the text of a nested one could be endless
        shown = ascii(found)[:80] if isinstance(found, (str, int, float)) or found is None else type(found).__name__
        raise LoadError("legacy_value", file=file, name=name, found=shown, expected=expected)
