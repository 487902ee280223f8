"""The Rust library behind a vocabulary: in this process, or in one of its own that can be stopped.

Special here: a tokenizer.json is a stranger's, and its regular expressions may take forever, or all memory, on some
text, and its normaliser may make a text longer and longer, or the library panic, which then writes to stderr for all to
see. Those in KNOWN_PATTERNS are known to be linear, those in BOUNDED not to grow, and where nothing is known to panic
it runs here. With any other one the library runs in a second process, with a limit of time for
each text and one of memory: whatever the file says, the answer comes or is given up. That process keeps both limits
itself too, since who asked may be ended first. Nothing is proved about an
expression, so none has to be refused. A vocabulary of SentencePiece needs no library: see sentencepiece/.
"""

import base64
import contextlib
import json
import math
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Protocol

import tokenizers

from manako.sentencepiece.cutting import Cutter
from manako.sentencepiece.model_file import PIECES, read_piece_model

MOST_FRONT = 16  # tokens that a tokenizer may put in front of every text; published ones put one or two
WORDS = (  # GPT-2's pattern, with its letters divided by Japanese script: what manako's own vocabularies have
    r"'s|'t|'re|'ve|'m|'ll|'d|\p{Han}+[\p{Hiragana}ー]*|[\p{Hiragana}ー]+|[\p{Katakana}ー]+|"
    r" ?[^\s\p{N}\p{P}\p{S}\p{Han}\p{Hiragana}\p{Katakana}ー]+| ?\p{N}+| ?[\p{P}\p{S}]+|\s+"
)
KNOWN_PATTERNS = (  # regular expressions that are known to run in linear time, as published with their models
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",  # GPT-2
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+",  # GPT-4, Llama 3
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+",  # Qwen 2
    r" {2,}",  # SentencePiece, as transformers converts it
    WORDS,
)
BOUNDED = (  # components that lengthen no text much, and never fail; a charsmap is read at the size that it claims
    "NFC", "NFD", "NFKC", "NFKD", "Lowercase", "Strip", "StripAccents", "BertNormalizer", "ByteLevel", "Metaspace",
    "Split", "Whitespace", "WhitespaceSplit", "BertPreTokenizer", "Punctuation", "Digits",
)  # fmt: skip
WHOLE = ("NFC", "NFD", "NFKC", "NFKD", "Lowercase")  # normalisers that leave no character of a text without its own
MOST_GROWTH = 8  # times
SECONDS_TO_OPEN = 60.0  # a vocabulary of 260,000 tokens takes about two
SECONDS_A_TEXT = 5.0
CHARACTERS_A_SECOND = 20_000  # beyond that; the published expressions take about a million
MEMORY = 4 << 30  # bytes of address space for the second process
GRACE = 1.0  # seconds after which a process ends that should have been ended; who asked has the first word
Spans = list[tuple[int, int]]


class Failed(Exception):
    """What the library says against a file or text, or that its time was over."""


class Ended(Failed):
    """One text took too much memory, or too long; the second process is no more."""


class TooSlow(Ended):
    """The time for one text was over."""


class Encoder(Protocol):
    """One `tokenizer.json` at work."""

    ids: dict[str, int]
    """Name -> id, added tokens included, as the library reads the file."""
    front: tuple[int, ...]
    """What its post-processor puts before every text, in order."""

    def encode(self, text: str, special: bool = False) -> tuple[list[int], Spans]:
        """(ids, the characters of `text` that each stands for), no special token added.

        special: whether the name of a special token in the text is that token. Raises Failed.
        """
        ...

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, on all cores. Raises Failed."""
        ...


def encoder(spec: dict[str, Any], source: str) -> Encoder:
    """spec: the parsed `source`. Raises Failed where the library cannot read it."""
    if pieces := (spec.get("normalizer") or {}).get(PIECES):
        return Pieces(spec, pieces)
    return Inside(source) if runs_here(spec) else Beside(source)


def runs_here(spec: dict[str, Any]) -> bool:
    """Whether nothing in a file is known to take long, to take much memory or to panic."""
    parts = [spec.get(name) for name in ("normalizer", "pre_tokenizer", "decoder")]
    if not set(_patterns(parts)) <= set(KNOWN_PATTERNS) or _growth(parts[:2]) > MOST_GROWTH:
        return False
    # The library looks for such tokens in the text as it was changed, and cuts where a changed character has no end.
    changed = any(token.get("normalized") for token in spec.get("added_tokens") or [])
    return not changed or _kinds(parts[0]) <= set(WHOLE)


def _kinds(part: Any) -> set[Any]:
    """The types of the components of a normaliser, at any depth."""
    if not isinstance(part, dict):
        return set()
    inner = part.get("normalizers")
    return set[Any]().union(*map(_kinds, inner)) if isinstance(inner, list) else {part.get("type")}


def _growth(part: Any) -> float:
    """How many times longer components may make a text; infinity for those that nothing here knows to be bounded."""
    if isinstance(part, list):
        return math.prod(map(_growth, part))
    if not isinstance(part, dict):
        return 1 if part is None else math.inf
    content = part.get("content", part.get("prepend", ""))
    match part.get("type"):
        case "Sequence":
            return _growth(part.get("normalizers", part.get("pretokenizers")))
        case "Replace" if isinstance(content, str) and isinstance(part.get("pattern"), dict):
            old = part["pattern"].get("String", part["pattern"].get("Regex"))
            return max(1, len(content) / len(old)) if isinstance(old, str) and old else math.inf  # "" panics
        case "Prepend" if isinstance(content, str) and content:  # so does this
            return len(content)
        case known if known in BOUNDED:
            return 1
    return math.inf


def _patterns(part: Any) -> Iterator[str]:
    """Every regular expression inside a component, at any depth."""
    if isinstance(part, dict):
        for key, value in part.items():
            if key == "Regex" and isinstance(value, str):
                yield value
            else:
                yield from _patterns(value)
    elif isinstance(part, list):
        for value in part:
            yield from _patterns(value)


class Inside:
    """In this process."""

    def __init__(self, source: str) -> None:
        self._lock = threading.Lock()  # how special tokens are read is a state of the library's object
        try:
            with _unheard():
                self._rust = tokenizers.Tokenizer.from_str(source)
            self._rust.encode_special_tokens = True
            self._rust.no_truncation()
            self._rust.no_padding()
            model = self._rust.model
            if getattr(model, "dropout", None):  # a setting for training: the same text must give the same ids
                model.dropout = None
            self.ids = self._rust.get_vocab(with_added_tokens=True)
            self.front = self._front() if self._rust.post_processor is not None else ()
        except BaseException as error:
            raise _failed(error) from None

    def encode(self, text: str, special: bool = False) -> tuple[list[int], Spans]:
        """See Encoder."""
        with self._lock:
            self._rust.encode_special_tokens = not special
            try:
                made = self._rust.encode(text, add_special_tokens=False)
            except BaseException as error:
                raise _failed(error) from None
            finally:
                self._rust.encode_special_tokens = True
        return made.ids, made.offsets

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """See Encoder."""
        try:
            return [made.ids for made in self._rust.encode_batch_fast(list(texts), add_special_tokens=False)]
        except BaseException as error:
            raise _failed(error) from None

    def _front(self) -> tuple[int, ...]:
        """Asked of the library, so that it holds for any kind of post-processor.

        Any text will do that has an id; vocabularies without the letter a give one of their own.
        """
        known = set(self.ids.values())
        for text in ("a", *islice(self.ids, 1_000)):
            made = self._rust.encode(text, add_special_tokens=True)
            own = next((n for n, sequence in enumerate(made.sequence_ids) if sequence is not None), None)
            if own is not None:
                front = tuple(made.ids[:own])
                if own > MOST_FRONT or not known.issuperset(front):
                    raise ValueError(f"what it puts in front of a text are not up to {MOST_FRONT} tokens of its own")
                return front
        return ()


class Beside:
    """In a second process, which is started when it is first needed, and again after it had to be ended."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        with self._lock:
            opened = self._started()
        self.ids: dict[str, int] = opened["ids"]
        self.front: tuple[int, ...] = tuple(opened["front"])

    def encode(self, text: str, special: bool = False) -> tuple[list[int], Spans]:
        """See Encoder."""
        made = self._asked({"text": text, "special": special}, len(text))
        return made["ids"], [(start, end) for start, end in made["spans"]]

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """See Encoder."""
        return self._asked({"texts": list(texts)}, sum(map(len, texts)))["many"]

    def _started(self) -> dict[str, Any]:
        command = [
            sys.executable,
            "-c",
            "import sys; sys.path[:] = sys.argv[1:]; import manako.encoder as e; e.serve()",
        ]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            [*command, *sys.path], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, start_new_session=True
        )
        return self._exchanged({"source": self._source}, SECONDS_TO_OPEN)

    def _asked(self, question: dict[str, Any], characters: int) -> dict[str, Any]:
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._started()
            return self._exchanged(question, SECONDS_A_TEXT + characters / CHARACTERS_A_SECOND)

    def _exchanged(self, question: dict[str, Any], seconds: float) -> dict[str, Any]:
        """One line there, one line back. Raises Ended, or Failed with what the library said."""
        process = self._process
        assert process is not None and process.stdin and process.stdout
        clock, began = threading.Timer(seconds, process.kill), time.monotonic()
        try:
            clock.start()
            process.stdin.write(json.dumps(question | {"seconds": seconds}).encode() + b"\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except OSError:  # it ended: its memory was not enough, or somebody ended it
            answer = b""
        except BaseException:  # Ctrl-C: the answer, which is still to come, would be taken for that to the next text
            self.close()
            raise
        finally:
            clock.cancel()
        late = time.monotonic() - began >= seconds
        if late or not answer.endswith(b"\n"):
            self.close()
            raise TooSlow(f"more than {round(seconds)} seconds") if late else Ended("it took too much memory")
        said = json.loads(answer)
        if "failed" in said:
            raise Failed(said["failed"])
        return said

    def close(self) -> None:
        """End the second process; the next text starts another."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):  # something is still in its buffer, for nobody
                    if stream is not None:
                        stream.close()

    def __del__(self) -> None:
        self.close()


class Pieces:
    """A vocabulary of SentencePiece, cut as its own library does; what a `tokenizer.json` says besides is for others.

    The names of added tokens are looked for first, the longest one that stands at a place.
    """

    def __init__(self, spec: dict[str, Any], pieces: dict[str, Any]) -> None:
        """pieces: `model`, the file in base64; `legacy`, whether each part of a text between added tokens has the space
        in front, or the first one alone; `lower`, whether a text is read in lower case; `behind`, whether the texts go
        on with others, and none has it.
        """
        try:
            model = read_piece_model(base64.b64decode(pieces["model"], validate=True))
            self._cutter = Cutter(model)
            self._legacy, self._lower = pieces["legacy"] is True, pieces["lower"] is True
            self._behind = pieces.get("behind") is True
            self.ids = {piece.text: i for i, piece in enumerate(model.pieces)}
            added: list[dict[str, Any]] = spec["added_tokens"]
            size = len(model.pieces)
            if wrong := [t for t in added if t["id"] >= size and (t["single_word"] or t["lstrip"] or t["rstrip"])]:
                raise ValueError(f"{wrong[0]['content']!r} takes the spaces beside it")
            self.ids |= {token["content"]: token["id"] for token in added}
            self._added = _any_of(t["content"] for t in added if t["id"] >= size and not t["special"])
            self._special = _any_of(t["content"] for t in added if t["id"] >= size or t["special"])
            self.front = tuple(_front(spec["post_processor"]))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise Failed(str(error)) from None

    def encode(self, text: str, special: bool = False) -> tuple[list[int], Spans]:
        """See Encoder."""
        names = self._special if special else self._added
        ids: list[int] = []
        spans: Spans = []
        at = 0
        for found in names.finditer(text) if names else ():
            self._cut(text, at, found.start(), ids, spans)
            ids.append(self.ids[found.group()])
            spans.append(found.span())
            at = found.end()
        self._cut(text, at, len(text), ids, spans)
        return ids, spans

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """See Encoder."""
        return [self.encode(text)[0] for text in texts]

    def _cut(self, text: str, start: int, end: int, ids: list[int], spans: Spans) -> None:
        part = text[start:end].lower() if self._lower else text[start:end]
        if len(part) != end - start:
            raise Failed("in lower case its characters are more than it has")
        try:
            made, places = self._cutter.cut(part, not self._behind and (self._legacy or not start), self._behind)
        except ValueError as error:
            raise Failed(str(error)) from None
        ids += made
        spans += [(start + a, start + b) for a, b in places]


def _any_of(names: Iterable[str]) -> re.Pattern[str] | None:
    longest_first = sorted(filter(None, names), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None


def _front(template: dict[str, Any] | None) -> Iterator[int]:
    """What a template puts before a text."""
    if template:
        for part in template["single"][:MOST_FRONT]:
            if "Sequence" in part:
                return
            yield from template["special_tokens"][part["SpecialToken"]["id"]]["ids"]


def limit_memory() -> None:
    """Leave this process no more than MEMORY, where the system can; the limit of time holds on any."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    except (ImportError, ValueError, OSError):
        pass


@contextlib.contextmanager
def answering(seconds: float) -> Iterator[None]:
    """Inside, this process ends when its time is over, and on Linux as soon as nobody is there to read its answer.

    By signals that the system itself answers, since compiled code may not let Python do so. A pipe sends one when its
    other end goes; "when the parent dies" would, of Linux, be when the thread does that asked. Not on Windows.
    """
    if sys.platform == "win32":
        yield
        return
    import fcntl

    output, ends = sys.stdout.fileno(), (signal.SIGALRM, signal.SIGIO)
    flags = fcntl.fcntl(output, fcntl.F_GETFL)
    for number in ends:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ends)  # a program that uses manako may have them blocked
    signal.setitimer(signal.ITIMER_REAL, seconds + GRACE)
    with contextlib.suppress(OSError):  # a system that has none for pipes
        fcntl.fcntl(output, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(output, fcntl.F_SETFL, flags | os.O_ASYNC)
    gone = select.poll()
    gone.register(output, 0)
    if gone.poll(0):  # it went before that
        sys.exit(1)
    try:
        yield
    finally:
        fcntl.fcntl(output, fcntl.F_SETFL, flags)  # it would also tell that the answer is being read
        signal.setitimer(signal.ITIMER_REAL, 0)


def serve() -> None:
    """What the second process does: a line of JSON in, a line of JSON out, until nothing more comes."""
    limit_memory()
    inside: Inside | None = None
    for line in sys.stdin.buffer:
        question = json.loads(line)
        with answering(question["seconds"]):
            try:
                if "source" in question:
                    inside = Inside(question["source"])
                    answer: dict[str, Any] = {"ids": inside.ids, "front": inside.front}
                else:
                    assert inside is not None  # the source comes first
                    if "texts" in question:
                        answer = {"many": inside.encode_many(question["texts"])}
                    else:
                        ids, spans = inside.encode(question["text"], question["special"])
                        answer = {"ids": ids, "spans": spans}
            except Failed as error:
                answer = {"failed": str(error)}
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
        sys.stdout.buffer.flush()


@contextlib.contextmanager
def _unheard() -> Iterator[None]:
    """The Rust library writes what it says of a panic to stderr before Python hears of it: nobody should read that."""
    try:
        kept = os.dup(2)
    except OSError:  # no stderr
        yield
        return
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _failed(error: BaseException) -> Failed:
    """A panic of the Rust library is no Exception; what is not the library's goes on."""
    if isinstance(error, (KeyboardInterrupt, SystemExit, MemoryError)):
        raise error
    return Failed(str(error))
