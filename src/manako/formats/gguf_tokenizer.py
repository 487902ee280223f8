"""The tokenizer inside a GGUF file, as the text of a `tokenizer.json`.

Special here: GGUF names the way a byte-level vocabulary cuts text into words (`tokenizer.ggml.pre`) instead of spelling
it out. A name that we don't know is refused, since another way gives other ids without a word. A file that has no name,
or `default`, does not say: GPT-2's way is then used, with a notice. SentencePiece vocabularies carry scores and no
merges; merges follow from the scores, as `transformers` derives them, and a space is put in front of every text, as
SentencePiece itself and llama.cpp do.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from manako.errors import LoadError
from manako.formats.gguf_head import Metadata

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # token types
MAX_PIECE_CHARACTERS = 2_000_000  # in all; 256,000 pieces have about 1,800,000
MAX_PIECE = 256  # characters; SentencePiece itself stops at 16 where nobody asks for more
DEFAULT_BOS = ("llama", "llama3", "llama-v3", "llama-bpe", "tekken")  # llama.cpp puts it in front without a flag
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
_QWEN35 = _QWEN2.replace(r"?\p{L}+", r"?[\p{L}\p{M}]+").replace(r"[^\s\p{L}\p{N}]", r"[^\s\p{L}\p{M}\p{N}]")
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CASED = tuple(rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}{a}{_LOWER}{b}" for a, b in ("*+", "+*"))  # words of either case
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_TEKKEN = "|".join((*_CASED, r"\p{N}", _REST))
_GPT4O = "|".join((*(rf"{word}(?i:'s|'t|'re|'ve|'m|'ll|'d)?" for word in _CASED), r"\p{N}{1,3}", _REST))
_DEEPSEEK3 = (
    r"\p{N}{1,3}",
    "[一-龥\u3040-ゟ゠-ヿ]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+",
)
_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False}
_GPT2_WORDS = _BYTES | {"use_regex": True}


def _words(*regexes: str) -> list[dict[str, Any]]:
    splits = [{"type": "Split", "pattern": {"Regex": r}, "behavior": "Isolated", "invert": False} for r in regexes]
    return [*splits, _BYTES | {"use_regex": False}]


_DIGITS = [{"type": "Digits", "individual_digits": True}, _GPT2_WORDS]
_PRE = {  # tokenizer.ggml.pre -> pre-tokenizers, as published with the models; which names share one: llama.cpp
    **dict.fromkeys(("gpt-2", "gpt2", "default", "mpt", "olmo", "jais"), [_GPT2_WORDS]),
    **dict.fromkeys(("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone"), _DIGITS),
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3", "dbrx", "smaug-bpe"), _words(_LLAMA3)),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "stablelm2", "hunyuan", "solar-open"), _words(_QWEN2)),
    "qwen35": _words(_QWEN35),
    "tekken": _words(_TEKKEN),
    "gpt-4o": _words(_GPT4O),
    "deepseek-v3": _words(*_DEEPSEEK3),
}
_WHOLE_WORDS = ("llama-bpe", "llama3", "llama-v3", "tekken")  # a word that is a token is taken whole


def tokenizer_json(file: Path, metadata: Metadata) -> str:
    """The text of a `tokenizer.json` with the vocabulary of the file; ids as in the file.

    Unused tokens at the end only fill up the rows of a matrix, and are left out, unless another key names one.
    Raises LoadError naming the key.
    """
    tokens: list[str] = _list(file, metadata, "tokens", str)
    kinds = _kinds(file, metadata, len(tokens))
    while kinds and kinds[-1] == UNUSED:
        kinds.pop()
    tokens = tokens[: len(kinds)]
    seen: set[str] = set()
    for token in tokens:
        if token in seen:
            raise _refusal(file, "tokens", f"{token!r} twice")
        seen.add(token)
    model = metadata.get("tokenizer.ggml.model")
    if model == "gpt2":
        parts = _byte_level(file, metadata, tokens)
    elif model == "llama":
        parts = _sentence_piece(file, metadata, tokens, kinds)
    else:
        raise _refusal(file, "model", model)
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [
        {"id": i, "content": token, **flags, "special": kind != USER_DEFINED}
        for i, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
        if kind in (UNKNOWN, CONTROL, USER_DEFINED)
    ]
    fixed = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added}
    start = start_token(file, metadata)
    fixed |= {"post_processor": None if start is None else template(start, tokens[start])}
    return json.dumps(fixed | parts, ensure_ascii=False)


def template(start: int, name: str) -> dict[str, Any]:
    """What puts the start token in front of a text, as a part of a `tokenizer.json`."""
    single = [{"SpecialToken": {"id": name, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    special = {name: {"id": name, "ids": [start], "tokens": [name]}}
    return {"type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": special}


def token_id(file: Path, metadata: Metadata, name: str) -> int | None:
    """The id that `tokenizer.ggml.<name>_token_id` names, None where there is none. Raises LoadError."""
    value = metadata.get(f"tokenizer.ggml.{name}_token_id")
    if value is not None and (type(value) is not int or not 0 <= value < len(metadata["tokenizer.ggml.tokens"])):
        raise _refusal(file, f"{name}_token_id", value)
    return value


def start_token(file: Path, metadata: Metadata) -> int | None:
    """The token that this tokenizer puts in front of a text, None where it puts none. Raises LoadError."""
    ggml = "tokenizer.ggml."
    default = any(metadata.get(ggml + name) in DEFAULT_BOS for name in ("model", "pre"))
    flag = metadata.get(f"{ggml}add_bos_token", default)
    if type(flag) is not bool:
        raise _refusal(file, "add_bos_token", flag)
    return token_id(file, metadata, "bos") if flag else None


def notices(file: Path, metadata: Metadata) -> list[tuple[str, dict[str, object]]]:
    """What a user should know about this tokenizer."""
    unsaid = metadata["tokenizer.ggml.model"] == "gpt2" and metadata.get("tokenizer.ggml.pre", "default") == "default"
    return [("notice.gguf_pre", {"file": file})] if unsaid else []


def _refusal(file: Path, name: str, found: object) -> LoadError:
    return LoadError("gguf_value", file=file, name=f"tokenizer.ggml.{name}", found=found)


def _list(file: Path, metadata: Metadata, name: str, kind: type, size: int | None = None) -> list[Any]:
    value = metadata.get(f"tokenizer.ggml.{name}")
    if value is None:
        raise LoadError("gguf_missing", file=file, name=f"tokenizer.ggml.{name}")
    if type(value) is not list or not all(type(item) is kind for item in value):
        raise _refusal(file, name, "no list of the right kind")
    if size not in (None, len(value)):
        raise _refusal(file, name, f"a list of {len(value)} for {size} tokens")
    return value


def _kinds(file: Path, metadata: Metadata, size: int) -> list[int]:
    """The type of each token. One that the file names as start or end is a control token where no type says more."""
    named = {name: token_id(file, metadata, name) for name in ("bos", "eos", "eot", "eom", "unknown")}
    if "tokenizer.ggml.token_type" in metadata:
        kinds = list(_list(file, metadata, "token_type", int, size))
        if strange := set(kinds) - set(range(NORMAL, BYTE + 1)):
            raise _refusal(file, "token_type", strange.pop())
        return [CONTROL if kind == UNUSED and i in named.values() else kind for i, kind in enumerate(kinds)]
    control = {i for name, i in named.items() if name != "unknown"}
    return [CONTROL if i in control else NORMAL for i in range(size)]


def _byte_level(file: Path, metadata: Metadata, tokens: Sequence[str]) -> dict[str, Any]:
    pre = metadata.get("tokenizer.ggml.pre", "default")
    if type(pre) is not str or pre not in _PRE:
        raise _refusal(file, "pre", pre)
    merges = [merge.split(" ") for merge in _list(file, metadata, "merges", str)]
    if wrong := next((m for m in merges if len(m) != 2), None):
        raise _refusal(file, "merges", " ".join(wrong))
    return byte_level({token: i for i, token in enumerate(tokens)}, merges, pre)


def byte_level(vocab: Mapping[str, Any], merges: Sequence[Sequence[str]], pre: str) -> dict[str, Any]:
    """The parts of a `tokenizer.json` of GPT-2's kind. pre: a name in `tokenizer.ggml.pre` that is known."""
    model = {"vocab": dict(vocab), "merges": merges}
    model |= {"type": "BPE", "ignore_merges": pre in _WHOLE_WORDS}  # whatever the merges say
    return {
        "normalizer": {"type": "NFC"} if pre == "qwen2" else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": _PRE[pre]},
        "decoder": _GPT2_WORDS,
        "model": model,
    }


def _sentence_piece(file: Path, metadata: Metadata, tokens: Sequence[str], kinds: Sequence[int]) -> dict[str, Any]:
    for name in ("precompiled_charsmap", "remove_extra_whitespaces"):  # a rewriting of the text that we don't do
        if metadata.get(f"tokenizer.ggml.{name}"):
            raise _refusal(file, name, "set")
    scores = _list(file, metadata, "scores", float, len(metadata["tokenizer.ggml.tokens"]))
    if not all(map(math.isfinite, scores)):
        raise _refusal(file, "scores", "a number that is not finite")
    byte_tokens = {f"<0x{b:02X}>" for b in range(256)}
    for token, kind in zip(tokens, kinds, strict=True):
        if (kind == BYTE) != (token in byte_tokens):
            raise _refusal(file, "token_type", f"{kind} for {token!r}")
    unknown = token_id(file, metadata, "unknown")
    space = metadata.get("tokenizer.ggml.add_space_prefix", True)
    if type(space) is not bool:
        raise _refusal(file, "add_space_prefix", space)
    front = [{"type": "Prepend", "prepend": "▁"}] if space else []
    back = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if space else []
    return {
        "normalizer": {
            "type": "Sequence",
            "normalizers": [*front, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}],
        },
        "pre_tokenizer": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                *back,
            ],
        },
        "model": {
            "type": "BPE",
            "unk_token": None if unknown is None else tokens[unknown],
            "fuse_unk": True,
            "byte_fallback": BYTE in kinds,
            "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": _merges(file, tokens, kinds, scores),
        },
    }


def _merges(file: Path, tokens: Sequence[str], kinds: Sequence[int], scores: Sequence[float]) -> list[tuple[str, str]]:
    pieces = {t: i for i, (t, kind) in enumerate(zip(tokens, kinds, strict=True)) if kind in (NORMAL, USER_DEFINED)}
    if sum(map(len, pieces)) > MAX_PIECE_CHARACTERS or max(map(len, pieces), default=0) > MAX_PIECE:
        raise _refusal(file, "tokens", "longer than any vocabulary of pieces")
    return merges_of(pieces, scores)


def merges_of(pieces: Mapping[str, int], scores: Sequence[float]) -> list[tuple[str, str]]:
    """Every way to put a piece together from two others, the best score first; equals in the order of transformers."""
    found: list[tuple[float, int, int, str, str]] = []
    for piece, i in pieces.items():
        halves = ((piece[:cut], piece[cut:]) for cut in range(1, len(piece)))
        pairs = sorted((pieces[a], pieces[b], a, b) for a, b in halves if a in pieces and b in pieces)
        found += [(scores[i], len(a), len(b), a, b) for _, _, a, b in pairs]
    found.sort(key=lambda merge: merge[:3], reverse=True)  # stable, also in reverse
    return [(a, b) for _, _, _, a, b in found]
