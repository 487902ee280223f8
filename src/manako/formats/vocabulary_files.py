"""The vocabulary of a model folder: its tokenizer.json, or the older vocab.json and merges.txt made into one.

Special here: the two older files do not say how a text is cut into words; the class that the folder names, or else its
kind of model, does. Two such classes are known, GPT-2's and Qwen 2's; what names another one, or has the file of
SentencePiece, is for `transformers` to convert. Source: `tokenization_gpt2.py` and `tokenization_qwen2.py` there.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from manako.errors import LoadError
from manako.files import read_regular, strict_json
from manako.formats.gguf_tokenizer import byte_level
from manako.tokenizer import MAX_FILE_BYTES, Tokenizer

TOKENIZER, VOCAB, MERGES = "tokenizer.json", "vocab.json", "merges.txt"
_OTHERS = ("tokenizer.model", "spiece.model", "vocab.txt", "tiktoken.model")
_CLASSES = {"GPT2Tokenizer": "gpt-2", "Qwen2Tokenizer": "qwen2"}  # class -> tokenizer.ggml.pre of the same way
_OF_MODEL = {"qwen2": "Qwen2Tokenizer"}
_NAMED = ("bos_token", "eos_token", "unk_token", "pad_token")
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
_END = "<|endoftext|>"  # the one special token of both where no file says more


def vocabulary_files(folder: Path) -> list[Path]:
    """The files of a folder that make its vocabulary; tokenizer.json where it has neither kind."""
    older = [folder / VOCAB, folder / MERGES]
    return older if not (folder / TOKENIZER).exists() and all(path.exists() for path in older) else [folder / TOKENIZER]


def read_vocabulary(folder: Path, wrapper: Mapping[str, Any], model_type: object = None) -> Tokenizer:
    """wrapper: the folder's tokenizer_config.json. model_type: as config.json has it.

    Raises LoadError naming the file that is missing or wrong.
    """
    files = vocabulary_files(folder)
    if len(files) == 1:
        if not files[0].exists() and any((folder / name).exists() for name in _OTHERS):
            raise LoadError("tokenizer_older", folder=folder)
        return Tokenizer.from_file(files[0])
    named = wrapper.get("tokenizer_class") or _OF_MODEL.get(str(model_type), "GPT2Tokenizer")
    pre = _CLASSES.get(str(named).removesuffix("Fast"))
    if pre is None or wrapper.get("add_bos_token"):
        raise LoadError("tokenizer_older", folder=folder)
    vocab = strict_json(read_regular(files[0], MAX_FILE_BYTES), str(files[0]))
    parts = byte_level(vocab, _merges(files[1]), pre)
    if wrapper.get("add_prefix_space") is True:
        words = parts["pre_tokenizer"]["pretokenizers"]
        parts["pre_tokenizer"]["pretokenizers"] = [part | {"add_prefix_space": True} for part in words]
    added = _added(folder, wrapper, vocab)
    fixed = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "post_processor": None}
    return Tokenizer(json.dumps(fixed | parts, ensure_ascii=False), str(files[0]))


def _merges(file: Path) -> list[list[str]]:
    try:
        lines = read_regular(file, MAX_FILE_BYTES).decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise LoadError("tokenizer_unreadable", file=file, reason=error) from None
    lines = lines[1:] if lines[0].startswith("#version") else lines
    merges = [line.rstrip("\r").split(" ") for line in lines if line.rstrip("\r")]
    if wrong := next((merge for merge in merges if len(merge) != 2), None):
        raise LoadError("tokenizer_unreadable", file=file, reason=f"{' '.join(wrong)[:80]!r} is no pair")
    return merges


def _added(folder: Path, wrapper: Mapping[str, Any], vocab: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The tokens beside the vocabulary's own, from the three places that may name them."""
    found: dict[int, dict[str, Any]] = {}

    def put(id: object, token: Mapping[str, Any]) -> None:
        if type(id) is int and isinstance(token.get("content"), str):
            flags = {name: token.get(name) is True for name in _FLAGS}
            found.setdefault(id, {"id": id, "content": token["content"], **flags})

    listed = wrapper.get("added_tokens_decoder")
    for id, token in (listed if isinstance(listed, dict) else {}).items():
        if id.isdecimal() and isinstance(token, dict):
            put(int(id), token)
    more = folder / "added_tokens.json"
    ids = dict(vocab) | (strict_json(read_regular(more, MAX_FILE_BYTES), str(more)) if more.exists() else {})
    for name in (*(wrapper.get(key) for key in _NAMED), _END):
        text = name.get("content") if isinstance(name, dict) else name
        if isinstance(text, str):
            put(ids.get(text), {"content": text, "special": True})
    for text in ids.keys() - vocab.keys():
        put(ids[text], {"content": text})
    return [found[id] for id in sorted(found)]
