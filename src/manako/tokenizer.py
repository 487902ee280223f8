"""Text to token ids and back, over a Hugging Face `tokenizer.json`, with the exact bytes of every token.

Special here: bytes come from one table id -> bytes built once, as the file's decoder spells each token inside a text;
`decode([id])` drops spaces for some tokenizers and turns part of a character into U+FFFD. A literal "<|endoftext|>" in
a text is text unless somebody asks for more. Nothing is mapped silently to another token: a text that would lose a
character is refused, and a corpus says how many it lost. A foreign vocabulary's own `<unk>` is the one exception, where
it is a special token, which every view marks.

The file is hostile data: ids are compared with those that the Rust library uses, dropout is turned off, and a regular
expression that is not known to be safe runs where it can be stopped (encoder.py).
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from manako.encoder import WORDS, Ended, Failed, Spans, TooSlow, encoder
from manako.errors import LoadError, UsageError
from manako.files import read_regular, strict_json
from manako.token_ids import Ids, check_ids
from manako.token_table import byte_characters, drops_spaces, read_tokens, without_prefix

DOCUMENT_START = "<|endoftext|>"  # GPT-2's name: one token both ends a document and starts the next
MAX_FILE_BYTES = 256 * 2**20
LEAST_BPE_VOCAB = 260  # the document start, the bytes, and room for a character and two merges
SAMPLE_CHARACTERS = 10_000_000  # at most that merges are learned from; docs/tokenizers.md: what more would change
_COVERAGE = 0.999  # of a text, by the characters that get an id of their own
_LONGEST_PIECE = 16  # characters; the longest words end below it, rules of dashes do not
_SAMPLE_BLOCK = 10_000  # characters
_CUT = "\uffff"  # stands in a training text where no merge may pass; Unicode keeps it free of meaning
_BYTE_TOKENS = tuple(f"<0x{b:02X}>" for b in range(256))
_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
_SPLIT_WORDS = {"type": "Split", "pattern": {"Regex": WORDS}, "behavior": "Isolated", "invert": False}
_BYTE_WORDS = {"type": "Sequence", "pretokenizers": [_SPLIT_WORDS, _BYTE_LEVEL]}
_BYTES_BACK = {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]}
_OWN = (None, _BYTES_BACK), (_SPLIT_WORDS, _BYTES_BACK), (_BYTE_LEVEL, _BYTE_LEVEL), (_BYTE_WORDS, _BYTE_LEVEL)


class Tokenizer:
    """A fixed vocabulary: `encode`, `decode`, and the bytes of each token.

    source: the text of a `tokenizer.json`. name: the file it came from, for messages.
    Raises LoadError when the text is not a tokenizer that this version understands.
    """

    def __init__(self, source: str, name: str = "tokenizer.json") -> None:
        self.source = source
        self._name = name
        try:
            spec = strict_json(source, name)
            table = read_tokens(spec)
            self._encoder = encoder(spec, source)
            if self._encoder.ids != table.ids:  # the library numbers added tokens itself, unless the model has them
                spec["model"]["vocab"] = table.ids
                self._encoder = encoder(spec, json.dumps(spec))
            if self._encoder.ids != table.ids:
                raise ValueError("an added token has another id than the file says")
            unknown = spec["model"].get("unk_token")
            self.unknown_id: int | None = spec["model"].get("unk_id") if unknown is None else table.ids.get(unknown)
            """The id of a foreign vocabulary's `<unk>`, None where nothing is ever mapped to one."""
        except LoadError:
            raise
        except Exception as error:  # whatever strange values lead to
            raise LoadError("tokenizer_unreadable", file=name, reason=error) from None
        self._ids, self._token_bytes = table.ids, table.token_bytes
        self.special_ids, self.added_ids, self.gaps = table.special_ids, table.added_ids, table.gaps
        self.front_ids = self._encoder.front
        """The tokens that it puts in front of every text, in order: what a model saw in training."""
        self._normalises = bool(spec.get("normalizer"))
        self._drops_spaces = drops_spaces(spec)

    @classmethod
    def from_file(cls, path: Path) -> "Tokenizer":
        """Read a `tokenizer.json`. Raises LoadError naming the file."""
        try:
            return cls(read_regular(path, MAX_FILE_BYTES).decode("utf-8"), str(path))
        except UnicodeDecodeError as error:
            raise LoadError("tokenizer_unreadable", file=path, reason=error) from None

    @property
    def vocab_size(self) -> int:
        """How many ids there are, special ones included."""
        return len(self._token_bytes)

    @property
    def token_bytes(self) -> Sequence[bytes]:
        """The table id -> bytes. A special token's bytes are its name; `special_ids` tells it from the same text."""
        return self._token_bytes

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the `tokenizer.json` text, hexadecimal."""
        return hashlib.sha256(self.source.encode("utf-8")).hexdigest()

    @property
    def is_own(self) -> bool:
        """Whether it is of a kind that this module makes: BPE over characters or bytes, cut by nothing or by words.

        The page's engine reads no others: whatever else a file says would give other ids there, or other bytes.
        """
        spec = json.loads(self.source)
        model, added = spec["model"], [token["content"] for token in spec.get("added_tokens") or []]
        said = {n: v for n, v in model.items() if n not in ("vocab", "merges", "byte_fallback") and v}
        kind = spec.get("pre_tokenizer", ""), spec.get("decoder")
        by_bytes, fallback = kind[1] == _BYTE_LEVEL, bool(model.get("byte_fallback"))
        signs = {sign for name in model["vocab"].keys() - set(added) for sign in name} if by_bytes else set[str]()
        return (
            (said == {"type": "BPE"} and self.unknown_id is None and kind in _OWN)
            and not (spec.get("normalizer") or spec.get("post_processor"))
            and all(isinstance(merge, list) for merge in model["merges"])
            and (model["vocab"] == self._ids and len(added) == len(self.special_ids) and not self.gaps)
            and (by_bytes != fallback or not any(name in model["vocab"] for name in _BYTE_TOKENS))
            and signs <= byte_characters().keys()
        )

    @cached_property
    def behind(self) -> "Tokenizer":
        """The same vocabulary for a text that goes on with another: no space is put before it, nor taken from it."""
        asked = without_prefix(spec := json.loads(self.source))
        return self if asked == spec else Tokenizer(json.dumps(asked), self._name)

    def encode(self, text: str, special: bool = False) -> list[int]:
        """The ids of a text, nothing put in front or behind.

        special: whether the name of a special token in the text is read as that token, and not as text.
        Raises UsageError when the text is not valid Unicode, or has characters that this vocabulary cannot express;
        it names each with its code point and position, counted from 1.
        """
        return self.aligned(text, special)[0]

    def aligned(self, text: str, special: bool = False) -> tuple[list[int], Spans]:
        """As `encode`, and for each id the characters of the text that it stands for, a part of one counted whole.

        A space that is no token's own, as before a word of WordPiece, belongs to the token that spells one.
        """
        given = utf8(text)
        try:
            ids, spans = self._encode(text, special)
        except TooSlow as error:
            raise LoadError("tokenizer_slow", file=self._name, reason=error) from None
        except Failed as error:
            if not isinstance(error, Ended):  # some tokenizers fail at a character that they don't know
                self._refuse_unknown(text, None)
            raise LoadError("tokenizer_unreadable", file=self._name, reason=error) from None
        if self._joined(ids) != given:
            self._refuse_unknown(text, None if self.unknown_id in ids or not self._drops_spaces else spans)
        return ids, self._with_spaces(text, ids, spans)

    def _with_spaces(self, text: str, ids: Sequence[int], spans: Spans) -> Spans:
        if not self._drops_spaces:
            return spans
        ends = [0, *(end for _, end in spans)]
        starts = [*(start for start, _ in spans), len(text)]
        wider: Spans = []
        for n, i in enumerate(ids):
            token, start, end = self._token_bytes[i], starts[n], ends[n + 1]
            before = token[:1].isspace() and start > ends[n] and text[start - 1].isspace()
            behind = token[-1:].isspace() and end < starts[n + 1] and text[end].isspace()
            wider.append((start - before, end + behind))
        return wider

    def id_of(self, name: str) -> int | None:
        """The id of a token by its name in the file, None where there is none of that name."""
        return self._ids.get(name)

    def name_of(self, token_id: int) -> str | None:
        """The name of a token in the file, which need not be its text; None where no token has the id."""
        return next((name for name, i in self._ids.items() if i == token_id), None)

    def special_names(self, text: str) -> list[str]:
        """The names of special tokens that stand in a text, in the order of the vocabulary."""
        names = (self._token_bytes[i].decode("utf-8", "ignore") for i in sorted(self.special_ids - self.gaps))
        return [name for name in names if name and name in text]

    def rewritten(self, text: str) -> str | None:
        """What is read in place of a text, where the tokenizer changes more than the space before it; None if not."""
        ids = self.encode(text)
        read = self._joined(ids).decode("utf-8", "replace")
        return None if self.unknown_id in ids or read.strip(" ") == text.strip(" ") else read

    def encode_documents(self, documents: Sequence[str]) -> list[list[int]]:
        """`encode` for many texts at once, on all cores. What it loses of them is the caller's to say: `unspelled`."""
        try:
            return self._encoder.encode_many(documents)
        except TooSlow as error:
            raise LoadError("tokenizer_slow", file=self._name, reason=error) from None
        except Failed as error:
            raise LoadError("tokenizer_unreadable", file=self._name, reason=error) from None

    def unspelled(self, characters: Sequence[str]) -> list[str]:
        """Those of some characters that come through as nothing, or as others; what becomes `<unk>` has its token."""
        cut = zip(characters, self.encode_documents(characters), strict=True)
        return [ch for ch, ids in cut if self.unknown_id not in ids and self._lost(ch, ids)]

    def decode(self, ids: Iterable[int] | Ids) -> bytes:
        """The bytes of the ids, joined; they may end inside a character. Raises UsageError for what is no id."""
        return self._joined(check_ids(ids, self.vocab_size).tolist())

    def _joined(self, ids: Iterable[int]) -> bytes:
        return b"".join(self._token_bytes[i] for i in ids)

    def _encode(self, text: str, special: bool = False) -> tuple[list[int], Spans]:
        return self._encoder.encode(text, special)

    def _refuse_unknown(self, text: str, spans: Spans | None) -> None:
        """spans: where a character has no tokens of its own, only those of the word that it is a part of."""
        if spans is None:
            lost = {ch for ch in set(text) if self._loses(ch)}
            unknown = [(i, ch) for i, ch in enumerate(text, 1) if ch in lost]
        else:
            covered = {i for start, end in spans for i in range(start, end)}
            unknown = [(i + 1, ch) for i, ch in enumerate(text) if i not in covered and not ch.isspace()]
        if unknown:
            named = ", ".join(f"{ch} U+{ord(ch):04X} ({i})" for i, ch in unknown[:5])
            more = f", +{len(unknown) - 5}" if len(unknown) > 5 else ""
            raise UsageError("prompt_unknown_characters", characters=named + more)

    def _loses(self, ch: str) -> bool:
        """Whether one character does not come through: no ids, other bytes, or an `<unk>` that no view would mark."""
        try:
            ids, _ = self._encode(ch)
        except TooSlow as error:
            raise LoadError("tokenizer_slow", file=self._name, reason=error) from None
        except Failed:
            return True
        return self._lost(ch, ids)

    def _lost(self, ch: str, ids: Sequence[int]) -> bool:
        if self.unknown_id in ids:
            return self.unknown_id not in self.special_ids
        if not ids:  # a space that comes back between two words, or what a normaliser takes away and `rewritten` shows
            space = ch.isspace() and (self._drops_spaces or self._normalises)
            return not space and not (self._normalises and self.unknown_id is not None)
        # A normaliser (NFC, lower case) changes the bytes and loses no character.
        return not self._normalises and ch.encode("utf-8") not in self._joined(ids)


def start_id_of(tokenizer: Tokenizer) -> int | None:
    """The id of manako's own document-start token, if the vocabulary has it as a special token."""
    wanted = DOCUMENT_START.encode()
    return next((i for i in tokenizer.special_ids if tokenizer.token_bytes[i] == wanted), None)


def utf8(text: str) -> bytes:
    """The bytes of a text. Raises UsageError naming the first half of a surrogate pair, which is no Unicode."""
    if not isinstance(text, str):  # of a program, whatever its types say
        raise UsageError("setting_text", name="prompt", got=text)
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UsageError("prompt_surrogate", index=error.start, code=f"U+{ord(text[error.start]):04X}") from None


def sizes_of(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """(characters, bytes) [V] of the text that each id stands for, none for a special token.

    A character whose bytes are several tokens counts where its first byte is; the name of `<unk>` is no text.
    """
    none = tokenizer.special_ids | {tokenizer.unknown_id}
    texts = [b"" if i in none else b for i, b in enumerate(tokenizer.token_bytes)]
    return [sum(x & 0xC0 != 0x80 for x in b) for b in texts], [len(b) for b in texts]


def train_characters(documents: Iterable[str], min_count: int) -> Tokenizer:
    """A character vocabulary: every character that occurs at least `min_count` times, and the 256 bytes.

    Ids: 0 the document start, 1-256 the bytes, then characters by code point. A rarer or unseen character becomes its
    UTF-8 bytes. The file is a `tokenizers` BPE model with byte fallback and no merges, which `AutoTokenizer` opens.

    >>> t = train_characters(["ああい"], min_count=2)
    >>> [t.token_bytes[i] for i in t.encode("あい")] == ["あ".encode(), b"\\xe3", b"\\x81", b"\\x84"]
    True
    """
    counts: Counter[str] = Counter()
    for document in documents:
        counts.update(document)
    tokens = [DOCUMENT_START, *_BYTE_TOKENS, *sorted(ch for ch, n in counts.items() if n >= min_count)]
    return Tokenizer(_bpe_json(tokens, special=[DOCUMENT_START], byte_fallback=True))


def train_character_bpe(documents: Iterable[str], vocab_size: int) -> Tokenizer:
    """Character-based BPE with byte fallback: common characters, and pieces merged from them within a word.

    Ids: 0 the document start, 1-256 the bytes, characters by code point, then the pieces as they were learned. At most
    half of what the bytes leave goes to characters (more where the text has too few pairs), the most frequent ones, and
    no more than make up 99.9 % of the text; a rarer one becomes its UTF-8 bytes.

    Raises UsageError when `vocab_size` is below LEAST_BPE_VOCAB, or above what the text has repeated pairs for.
    Source: Sennrich et al. 2016, arXiv:1508.07909; coverage and byte fallback as in SentencePiece, arXiv:1808.06226.
    """
    _check_vocab_size(vocab_size)
    texts, room = list(documents), vocab_size - 1 - len(_BYTE_TOKENS)
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    common, most = _common_characters(counts), room // 2
    while True:
        characters = sorted(common[:most])
        # Where the trainer drops a rare character, it lets the neighbours touch and learns pairs that no text has.
        rare = dict.fromkeys(map(ord, counts.keys() - set(characters)), _CUT)
        merges = _learn_merges(
            (text.translate(rare) for text in _sample(texts)),
            [pre_tokenizers.Split(_CUT, "removed"), pre_tokenizers.Split(tokenizers.Regex(WORDS), "isolated")],
            alphabet=characters,
            size=room,
            longest=_LONGEST_PIECE,
        )
        tokens = _with_pieces([DOCUMENT_START, *_BYTE_TOKENS, *characters], merges)
        if len(tokens) == vocab_size or len(common) <= most:
            break
        most += vocab_size - len(tokens)  # a short text has few pairs: what they leave goes to characters
    _check_reached(tokens, vocab_size)
    return Tokenizer(_bpe_json(tokens, [DOCUMENT_START], True, merges, pre_tokenizer=_SPLIT_WORDS))


def train_byte_bpe(documents: Iterable[str], vocab_size: int) -> Tokenizer:
    """Byte-level BPE, as GPT-2 has it: pieces merged from bytes within a word; one may end inside a character.

    Ids: 0 the document start, 1-256 the bytes, then the pieces as they were learned. Words are those of
    `train_character_bpe`, so that the two differ in their alphabet alone. Raises UsageError as that does.
    Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.2.
    """
    _check_vocab_size(vocab_size)
    stand_in = byte_characters()
    alphabet = sorted(stand_in, key=stand_in.__getitem__)
    merges = _learn_merges(
        _sample(list(documents)),
        [
            pre_tokenizers.Split(tokenizers.Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ],
        alphabet=alphabet,
        size=vocab_size - 1,
        longest=3 * _LONGEST_PIECE,  # kana and kanji have three bytes each
    )
    tokens = _with_pieces([DOCUMENT_START, *alphabet], merges)
    _check_reached(tokens, vocab_size)
    return Tokenizer(_bpe_json(tokens, [DOCUMENT_START], False, merges, pre_tokenizer=_BYTE_WORDS, decoder=_BYTE_LEVEL))


def from_characters(characters: Sequence[str]) -> Tokenizer:
    """A vocabulary of just these characters, id = position, as old checkpoints have it: no bytes, no special tokens."""
    return Tokenizer(_bpe_json(characters, special=[], byte_fallback=False))


def from_merges(vocab: Sequence[bytes], merges: Sequence[tuple[int, int]]) -> Tokenizer:
    """A byte-level BPE vocabulary: ids 0-255 are bytes, then one id a merge, in the order they were learned.

    Nothing splits a text into words first, since such a vocabulary was trained on whole texts.
    """
    spell = {byte: ch for ch, byte in byte_characters().items()}
    names = ["".join(spell[b] for b in token) for token in vocab]
    pairs = [(names[a], names[b]) for a, b in merges]
    return Tokenizer(_bpe_json(names, [], False, pairs, pre_tokenizer=_BYTE_LEVEL, decoder=_BYTE_LEVEL))


def _check_vocab_size(vocab_size: int) -> None:
    if vocab_size < LEAST_BPE_VOCAB:
        raise UsageError("vocab_size", got=vocab_size, least=LEAST_BPE_VOCAB)


def _check_reached(tokens: Sequence[str], vocab_size: int) -> None:
    if len(tokens) < vocab_size:
        raise UsageError("vocab_size_not_reached", got=vocab_size, most=len(tokens))


def _sample(texts: Sequence[str]) -> Iterator[str]:
    """The texts in blocks; every n-th block where they are more than SAMPLE_CHARACTERS."""
    every = max(1, -(-sum(map(len, texts)) // SAMPLE_CHARACTERS))
    blocks = (text[i : i + _SAMPLE_BLOCK] for text in texts for i in range(0, len(text), _SAMPLE_BLOCK))
    return islice(blocks, 0, None, every)


def _common_characters(counts: Mapping[str, int]) -> list[str]:
    """The characters that make up _COVERAGE of the text, the most frequent one first."""
    common: list[str] = []
    needed = _COVERAGE * sum(counts.values())
    for ch, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if needed <= 0:
            break
        common.append(ch)
        needed -= count
    return common


def _learn_merges(
    texts: Iterable[str], splits: Sequence[Any], alphabet: Sequence[str], size: int, longest: int
) -> list[tuple[str, str]]:
    """The merges that make a vocabulary of `size` from an alphabet, fewer where no pair is left that occurs twice."""
    rust = tokenizers.Tokenizer(models.BPE())
    rust.pre_tokenizer = pre_tokenizers.Sequence(list(splits))  # pyright: ignore[reportAttributeAccessIssue]
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        initial_alphabet=list(alphabet),
        max_token_length=longest,
        show_progress=False,
    )
    rust.train_from_iterator(texts, trainer)
    return [(a, b) for a, b in json.loads(rust.to_str())["model"]["merges"]]


def _with_pieces(tokens: Sequence[str], merges: Sequence[tuple[str, str]]) -> list[str]:
    return list(dict.fromkeys([*tokens, *(a + b for a, b in merges)]))  # two merges may make the same piece


def _bpe_json(
    tokens: Sequence[str],
    special: Sequence[str],
    byte_fallback: bool,
    merges: Sequence[tuple[str, str]] = (),
    pre_tokenizer: Mapping[str, Any] | None = None,
    decoder: Mapping[str, Any] | None = None,
) -> str:
    """The text of a `tokenizer.json` with a BPE model; id = position."""
    vocab = {token: i for i, token in enumerate(tokens)}
    if len(vocab) < len(tokens):
        raise LoadError("tokenizer_unreadable", file="tokenizer.json", reason="two of its tokens are the same")
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    spec = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": tokens.index(s), "content": s, **flags} for s in special],
        "normalizer": None,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": None,
        "decoder": decoder or _BYTES_BACK,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": byte_fallback,
            "ignore_merges": False,
            "vocab": vocab,
            "merges": list(merges),
        },
    }
    return json.dumps(spec, ensure_ascii=False)
