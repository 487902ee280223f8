"""The vocabulary of a model folder: its tokenizer.json, or files of older kinds made into one.

Special here: the older files do not say everything. How vocab.json with merges.txt cuts a text into words, and what
stands before a text in the vocabulary of a SentencePiece file, is known from the class that the folder names, or else
from its kind of model. Classes that are not known here are for `transformers` to convert, with their rules of their
own. Source: `tokenization_gpt2.py`, `_qwen2.py`, `_llama.py`, `_gemma.py` and `_t5.py` there.
"""

import base64
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from manako.errors import LoadError
from manako.files import exists, read_regular, strict_json
from manako.formats.gguf_tokenizer import byte_level, merges_of, template
from manako.sentencepiece import model_file
from manako.sentencepiece.model_file import PIECES, SPACE, PieceModel, read_piece_model
from manako.token_table import is_byte_level
from manako.tokenizer import MAX_FILE_BYTES, Tokenizer

AS_FILED = "TokenizersBackend"  # the class that takes a tokenizer.json as it stands
TOKENIZER, VOCAB, MERGES = "tokenizer.json", "vocab.json", "merges.txt"
PIECE_MODELS = ("tokenizer.model", "spiece.model")
_OTHERS = ("vocab.txt", "tiktoken.model", "sentencepiece.bpe.model")
_PIECE_CLASSES = {  # class -> whether it puts the start token before a text where nobody says so
    "LlamaTokenizer": True,
    "CodeLlamaTokenizer": True,
    "GemmaTokenizer": True,
    "T5Tokenizer": False,
}
_CLASSES = {"GPT2Tokenizer": "gpt-2", "Qwen2Tokenizer": "qwen2"}  # class -> tokenizer.ggml.pre of the same way
_OF_MODEL = {"gpt2": "GPT2Tokenizer", "qwen2": "Qwen2Tokenizer"}
_PIECES_OF_MODEL = {"llama": "LlamaTokenizer", "mistral": "LlamaTokenizer", "gemma": "GemmaTokenizer"}
_PREFIXING = (*_CLASSES, "GPTNeoXTokenizer", "CodeGenTokenizer", "Qwen3_5Tokenizer")
_REBUILDING = ("LlamaTokenizer", "CodeLlamaTokenizer")  # of a tokenizer.json they take vocabulary and template alone
_LOADERS = {"mistral": AS_FILED, "qwen2": "Qwen2Tokenizer"}  # kinds of model whose folder is not asked for the class
_NAMED = ("bos_token", "eos_token", "unk_token", "pad_token")
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
_ID = re.compile("[0-9]{1,9}")
_END = "<|endoftext|>"  # the one special token of both where no file says more


def vocabulary_files(folder: Path) -> list[Path]:
    """The files of a folder that make its vocabulary; tokenizer.json where it has none of the kinds that open."""
    kinds = [[TOKENIZER], [VOCAB, MERGES], *([name] for name in PIECE_MODELS)]
    found = [[folder / name for name in kind] for kind in kinds]
    return next((files for files in found if all(exists(path) for path in files)), found[0])


def with_class(wrapper: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """tokenizer_config.json, with the class that config.json names where it names none, as `AutoTokenizer` has it."""
    return {**wrapper, "tokenizer_class": wrapper.get("tokenizer_class") or config.get("tokenizer_class")}


def loader_of(wrapper: Mapping[str, Any], config: Mapping[str, Any]) -> object:
    """The class of `transformers` that opens a folder of a family of ours, None where no file and no kind names one."""
    kind = str(config.get("model_type"))
    return _LOADERS.get(kind) or with_class(wrapper, config)["tokenizer_class"] or _OF_MODEL.get(kind)


def read_vocabulary(folder: Path, wrapper: Mapping[str, Any], config: Mapping[str, Any]) -> Tokenizer:
    """wrapper, config: the folder's tokenizer_config.json and config.json, empty where it has none.

    Raises LoadError naming the file that is missing or wrong.
    """
    files = vocabulary_files(folder)
    wrapper, model_type = with_class(wrapper, config), config.get("model_type")
    if files[0].name in PIECE_MODELS:
        if (pieces := read_pieces(files[0], wrapper, model_type)) is None:
            raise LoadError("tokenizer_older", folder=folder)
        return pieces
    if len(files) == 1:
        if not exists(files[0]) and any(exists(folder / name) for name in _OTHERS):
            raise LoadError("tokenizer_older", folder=folder)
        loaded = wrapper | {"tokenizer_class": loader_of(wrapper, config)}
        return as_wrapped(Tokenizer.from_file(files[0]), files[0], loaded)
    named = wrapper.get("tokenizer_class") or _OF_MODEL.get(str(model_type), "GPT2Tokenizer")
    pre = _CLASSES.get(str(named).removesuffix("Fast"))
    if pre is None or wrapper.get("add_bos_token"):
        raise LoadError("tokenizer_older", folder=folder)
    vocab = strict_json(read_regular(files[0], MAX_FILE_BYTES), str(files[0]))
    parts = byte_level(vocab, _merges(files[1]), pre)
    parts["pre_tokenizer"] = _prefixing(parts["pre_tokenizer"], wrapper.get("add_prefix_space") is True)
    added = _added(folder, wrapper, vocab)
    fixed = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "post_processor": None}
    return Tokenizer(json.dumps(fixed | parts, ensure_ascii=False), str(files[0]))


def as_wrapped(tokenizer: Tokenizer, file: Path, wrapper: Mapping[str, Any]) -> Tokenizer:
    """What `AutoTokenizer` makes of a tokenizer.json: with what tokenizer_config.json says besides, where it counts.

    Tokens that only `added_tokens_decoder` names are added, at the next free id whatever it says; and for the classes
    that build their cutting into words themselves, their `add_prefix_space` goes before that of the file. Those of
    Llama drop the file's rules of spaces as well, for rules of their own.
    """
    listed = sorted(_listed(wrapper).items())
    added = [token for _, token in listed if tokenizer.id_of(token["content"]) not in tokenizer.added_ids]
    named = str(wrapper.get("tokenizer_class")).removesuffix("Fast")
    prefixes, rebuilds = named in _PREFIXING, named in _REBUILDING
    if not (added or prefixes or rebuilds):
        return tokenizer
    spec: dict[str, Any] = json.loads(tokenizer.source)
    asked = dict(spec)
    if added:
        there, size = list(spec.get("added_tokens") or []), tokenizer.vocab_size
        for token in {token["content"]: token for token in added}.values():
            known = tokenizer.id_of(token["content"])
            there.append(token | {"id": size if known is None else known})
            size += known is None
        asked["added_tokens"] = there
    if prefixes and asked.get("pre_tokenizer"):
        asked["pre_tokenizer"] = _prefixing(asked["pre_tokenizer"], wrapper.get("add_prefix_space") is True)
    if rebuilds and spec["model"].get("type") == "BPE" and not is_byte_level(spec):
        asked |= _rebuilt(spec["model"], wrapper, named)
    return tokenizer if asked == spec else Tokenizer(json.dumps(asked, ensure_ascii=False), str(file))


def _rebuilt(model: Mapping[str, Any], wrapper: Mapping[str, Any], named: str) -> dict[str, Any]:
    """The parts of a tokenizer.json that the classes of Llama make anew. Its `<unk>` stays, where they would drop text.

    Unlike a rule that prepends always, theirs puts no space before one that the text has, nor behind a special token.
    """
    always = named == "LlamaTokenizer" and bool(wrapper.get("legacy"))
    space = wrapper.get("add_prefix_space") is not False
    scheme = ("always" if always else "first") if space else "never"
    flags = {"fuse_unk": True, "byte_fallback": True, "ignore_merges": False}
    return {
        "normalizer": None,
        "pre_tokenizer": {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme, "split": False},
        "decoder": _decoder(space),
        "model": {**model, **{name: on for name, on in flags.items() if bool(model.get(name)) is not on}},
    }


def _decoder(before: bool) -> dict[str, Any]:
    """What makes text of pieces again. before: whether a space stands in front that is none of the text's."""
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if before else []
    spaces = {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}
    return {"type": "Sequence", "decoders": [spaces, {"type": "ByteFallback"}, {"type": "Fuse"}, *strip]}


def _prefixing(part: Mapping[str, Any], space: bool) -> dict[str, Any]:
    """A pre-tokenizer whose byte-level parts put a space in front of a text, or none."""
    if part.get("type") == "Sequence":
        return {**part, "pretokenizers": [_prefixing(inner, space) for inner in part["pretokenizers"]]}
    return {**part, "add_prefix_space": space} if part.get("type") == "ByteLevel" else dict(part)


def read_pieces(file: Path, wrapper: Mapping[str, Any], model_type: object) -> Tokenizer | None:
    """The vocabulary of a SentencePiece file, None where a class that is not known here has rules of its own.

    The result carries the file, since no other form of it gives the same ids. Raises LoadError.
    """
    named = wrapper.get("tokenizer_class") or _PIECES_OF_MODEL.get(str(model_type))
    starts = _PIECE_CLASSES.get(str(named).removesuffix("Fast"), None if named or model_type else False)
    if starts is None or wrapper.get("add_prefix_space") is False:
        return None
    data = read_regular(file, model_file.MAX_BYTES)
    try:
        model = read_piece_model(data)
        text = json.dumps(_pieces_json(file.parent, wrapper, model, data, starts), ensure_ascii=False)
    except ValueError as error:
        raise LoadError("tokenizer_unreadable", file=file, reason=error) from None
    return Tokenizer(text, str(file))


def _pieces_json(
    folder: Path, wrapper: Mapping[str, Any], model: PieceModel, data: bytes, starts: bool
) -> dict[str, Any]:
    """A `tokenizer.json` that carries the file, and beside it as much as other programs can follow."""
    texts = {piece.text: i for i, piece in enumerate(model.pieces)}
    scores = [piece.score for piece in model.pieces]
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = {token["id"]: token for token in _added(folder, wrapper, texts)}
    for i, piece in enumerate(model.pieces):
        if piece.kind in (model_file.UNKNOWN, model_file.CONTROL, model_file.USER_DEFINED):
            special = piece.kind != model_file.USER_DEFINED or added.get(i, {}).get("special", False)
            added[i] = {"id": i, "content": piece.text, **plain, "special": special}
    front = None
    if starts if wrapper.get("add_bos_token") is None else wrapper["add_bos_token"]:
        bos = wrapper.get("bos_token") or "<s>"
        name = str(bos.get("content") if isinstance(bos, dict) else bos)
        if name not in texts:
            raise ValueError(f"the start token {name!r} is none of its pieces")
        front = template(texts[name], name)
    fixed = {"version": "1.0", "truncation": None, "padding": None}
    fixed |= {"added_tokens": [added[i] for i in sorted(added)], "post_processor": front}
    carried: dict[str, Any] = {"model": base64.b64encode(data).decode(), "legacy": wrapper.get("legacy") is not False}
    carried["lower"] = wrapper.get("do_lower_case") is True
    rules: list[dict[str, Any]] = [{"type": "Lowercase"}] if carried["lower"] else []
    if model.charsmap:
        chars = base64.b64encode(model.charsmap.data).decode()
        rules.append({"type": "Precompiled", "precompiled_charsmap": chars})
    if model.remove_extra_whitespaces:
        rules.append({"type": "Strip", "strip_left": True, "strip_right": True})
        rules.append({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})
    before = model.add_dummy_prefix and not model.space_is_suffix
    rules += [{"type": "Prepend", "prepend": SPACE}] if before else []
    rules.append({"type": "Replace", "pattern": {"String": " "}, "content": SPACE})
    kind: dict[str, Any] = {"type": "Unigram", "unk_id": model.unknown_id}
    if model.kind == model_file.UNIGRAM:
        kind["vocab"] = [[piece.text, piece.score] for piece in model.pieces]
    else:
        merged = (model_file.NORMAL, model_file.USER_DEFINED)
        pieces = {piece.text: i for i, piece in enumerate(model.pieces) if piece.kind in merged}
        kind = {"type": "BPE", "unk_token": model.pieces[model.unknown_id].text, "fuse_unk": True, "vocab": texts}
        kind["merges"] = merges_of(pieces, scores)
    return fixed | {
        "normalizer": {"type": "Sequence", "normalizers": rules, PIECES: carried},
        "pre_tokenizer": None,
        "decoder": _decoder(before),
        "model": kind | {"byte_fallback": model.byte_fallback},
    }


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


def _listed(wrapper: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """The tokens of `added_tokens_decoder` by id, as a tokenizer.json has them."""
    listed = wrapper.get("added_tokens_decoder")
    return {
        int(id): _token(int(id), token)
        for id, token in (listed if isinstance(listed, dict) else {}).items()
        if _ID.fullmatch(id) and isinstance(token, dict) and isinstance(token.get("content"), str) and token["content"]
    }


def _token(id: int, token: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": id, "content": token["content"]} | {name: token.get(name) is True for name in _FLAGS}


def _added(folder: Path, wrapper: Mapping[str, Any], vocab: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The tokens beside the vocabulary's own, from the three places that may name them."""
    found = _listed(wrapper)

    def put(id: object, token: Mapping[str, Any]) -> None:
        if type(id) is int:
            found.setdefault(id, _token(id, token))

    more = folder / "added_tokens.json"
    ids = dict(vocab) | (strict_json(read_regular(more, MAX_FILE_BYTES), str(more)) if exists(more) else {})
    for name in (*(wrapper.get(key) for key in _NAMED), _END):
        text = name.get("content") if isinstance(name, dict) else name
        if isinstance(text, str):
            put(ids.get(text), {"content": text, "special": True})
    for text in ids.keys() - vocab.keys():
        put(ids[text], {"content": text})
    return [found[id] for id in sorted(found)]
