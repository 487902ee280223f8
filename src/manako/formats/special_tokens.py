"""Which token starts a text and which ones end a document, as the files of a model folder say it.

Special here: several files state these facts, and some contradict each other. What stands in front of a text is the
tokenizer's business alone (`Tokenizer.front_ids`); the start token of its tokenizer_config.json counts before that of
config.json; the ends of config.json and generation_config.json count together. A notice names both sides of a
difference. Ids without a token can never occur: they are named, and change nothing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from manako.errors import LoadError
from manako.families.shape import Notices
from manako.formats.chat_template import TOKENS
from manako.messages import Phrase
from manako.tokenizer import Tokenizer

MOST_END_IDS = 100
_END = "<|endoftext|>"
_LLAMA = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
_GPT2 = {"bos_token": _END, "eos_token": _END, "unk_token": _END}
_QWEN = {"eos_token": _END, "unk_token": _END, "pad_token": _END}
_OF_CLASS: dict[str, dict[str, str]] = {  # what a class of `transformers` calls its tokens where no file names them
    "LlamaTokenizer": _LLAMA,
    "CodeLlamaTokenizer": _LLAMA,
    "GPT2Tokenizer": _GPT2,
    "CodeGenTokenizer": _GPT2,
    "GPTNeoXTokenizer": _GPT2 | {"pad_token": "<|padding|>"},
    "Qwen2Tokenizer": _QWEN,
    "Qwen3_5Tokenizer": _QWEN,
    "GemmaTokenizer": {f"{name}_token": f"<{name}>" for name in ("bos", "eos", "unk", "pad", "mask")},
    "T5Tokenizer": {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"},
}


@dataclass(frozen=True)
class SpecialTokens:
    """What the files of a folder say together."""

    start_id: int | None
    """The token that starts an empty text, if there is one."""
    end_ids: tuple[int, ...]
    """Every token that ends a document."""
    notices: Notices


def special_tokens(
    config: Mapping[str, Any],
    generation: Mapping[str, Any],
    wrapper: Mapping[str, Any],
    tokenizer: Tokenizer,
    rows: int,
    bos_starts_documents: bool,
) -> SpecialTokens:
    """config, generation, wrapper: config.json, generation_config.json and tokenizer_config.json.

    rows: of the model, which may be fewer than the tokenizer has tokens. bos_starts_documents: as a `Family` has it.
    """
    stated = {
        ("config.json", "bos_token_id"): _ids(config.get("bos_token_id")),
        ("config.json", "eos_token_id"): _ids(config.get("eos_token_id")),
        ("generation_config.json", "eos_token_id"): _ids(generation.get("eos_token_id")),
    }
    size = min(rows, tokenizer.vocab_size)
    known = {place: [i for i in ids if type(i) is int and 0 <= i < size] for place, ids in stated.items()}
    outside = [f"{key} {i}" for (_, key), ids in stated.items() for i in ids if i not in known[_, key]]
    bos, mine, others = known.values()
    notices: Notices = []
    if outside:
        notices.append(("notice.ids_outside", {"ids": ", ".join(dict.fromkeys(outside)), "rows": size}))
    named = tokenizer.id_of(_name(wrapper.get("bos_token")))
    if named is not None and named >= size:
        named = None
    front = tokenizer.front_ids
    theirs = front or (() if named is None else (named,))
    if theirs and bos and not set(bos) & set(theirs):
        notices.append(("notice.start_differs", {"used": _spelled(tokenizer, theirs), "config": bos[0]}))
    if type(add := wrapper.get("add_bos_token")) is bool and add != bool(front) and (front or named is not None):
        used = _spelled(tokenizer, front) or Phrase("info.none")
        notices.append(("notice.front_differs", {"add": str(add).lower(), "used": used}))
    if others and not set(mine) <= set(others):
        notices.append(("notice.ends_differ", {"config": mine, "generation": others}))
    end = tokenizer.id_of(_name(wrapper.get("eos_token")))
    if end is not None and end < size and end not in (*mine, *others):
        ends = _spelled(tokenizer, dict.fromkeys((*mine, *others))) or Phrase("info.none")
        notices.append(("notice.tokenizer_end_differs", {"token": _spelled(tokenizer, [end]), "ends": ends}))
    start = next(reversed((*bos, *theirs)), None) if front or bos_starts_documents else None
    return SpecialTokens(start, tuple(dict.fromkeys((*mine, *others))), notices)


def check_vocabulary(place: object, tokenizer: Tokenizer, rows: int) -> Notices:
    """What a user should know of ids without a token, and of tokens without a row, which can then never occur.

    Raises LoadError where other than added tokens lack a row: the two files are of different models.
    """
    notices: Notices = []
    beyond = sorted(set(range(rows, tokenizer.vocab_size)) - tokenizer.gaps)
    if not tokenizer.added_ids.issuperset(beyond) or max(tokenizer.front_ids, default=-1) >= rows:
        raise LoadError("vocab_mismatch", folder=place, tokens=tokenizer.vocab_size, rows=rows)
    if beyond:
        names = ", ".join(tokenizer.token_bytes[i].decode("utf-8", "replace") for i in beyond[:5])
        notices.append(("notice.vocab_beyond", {"tokens": tokenizer.vocab_size, "rows": rows, "names": names}))
    if tokenizer.gaps:
        notices.append(("notice.vocab_gaps", {"count": len(tokenizer.gaps), "first": min(tokenizer.gaps)}))
    return notices


def token_names(wrapper: Mapping[str, Any], older: Mapping[str, Any], loader: object) -> dict[str, str]:
    """What a chat template may call special tokens by, as `transformers` 5 fills it in.

    older: special_tokens_map.json, which goes before tokenizer_config.json (wrapper) where that lists no tokens by id.
    loader: the class that opens the folder, whose own names stand in for those that neither file has.
    """
    given = {**wrapper, **({} if "added_tokens_decoder" in wrapper else older)}
    more = [key for key, name in given.items() if key.endswith("_token") and isinstance(name, str)]
    own = _OF_CLASS.get(str(loader).removesuffix("Fast"), {})
    return {key: name for key in (*TOKENS, *more) if (name := _name(given.get(key, own.get(key))))}


def _ids(value: object) -> list[Any]:
    """The ids of a setting that may be a number, a list or null."""
    values = value if isinstance(value, list) else [] if value is None else [value]
    return values[:MOST_END_IDS]


def _name(token: object) -> str:
    """A token's name, which may stand in an object of its own; "" for what is none."""
    name = token.get("content") if isinstance(token, dict) else token
    return name if isinstance(name, str) else ""


def _spelled(tokenizer: Tokenizer, ids: Any) -> str:
    def each() -> Iterator[str]:
        for i in ids:
            yield f"{tokenizer.token_bytes[i].decode('utf-8', 'replace')} ({i})"

    return " ".join(each())
