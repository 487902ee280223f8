"""What a reference to a model means: "demo", "demo-en", "run:mine@200", "gguf:file.gguf", "hf:org/name", a folder.

Special here: the one module that spells the prefixes, and that says which embedded model reads which text. It finds
folders, files, vocabularies and corpora; a model is opened by `model.load`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from manako.corpus.packed import PackedCorpus, is_packed, open_packed, open_whole
from manako.errors import CapabilityError, LoadError, ManakoError, UsageError, near
from manako.files import exists, is_dir, is_file, read_regular, strict_json
from manako.formats import lora, run_folder
from manako.formats.model_folder import read_tokenizer
from manako.formats.vocabulary_files import vocabulary_files
from manako.tokenizer import Tokenizer

DEFAULT, ENGLISH = "demo", "demo-en"
Kind = Literal["demo", "folder", "run", "gguf", "hf", "openai"]
EMBEDDED = {name: Path(__file__).parent / "models" / name for name in (DEFAULT, ENGLISH)}
DEMO = EMBEDDED[DEFAULT]
_JAPANESE = (  # code points of kana, kanji, their punctuation and the full-width forms
    (0x3000, 0x30FF),
    (0x31F0, 0x31FF),
    (0x3400, 0x9FFF),
    (0xF900, 0xFAFF),
    (0xFF00, 0xFFEF),
    (0x20000, 0x3FFFF),
)
_PREFIXES: dict[str, Kind] = {"run:": "run", "gguf:": "gguf", "hf:": "hf", "openai:": "openai"}


def installed() -> list[str]:
    """The embedded models that are there, the default one first."""
    return [name for name, folder in EMBEDDED.items() if is_dir(folder)]


def for_text(text: str) -> str:
    """The embedded model that reads a text, for whoever names none: `demo-en` where no character is Japanese.

    A text without a letter, such as the empty one, says nothing and has the default model; so has every text where
    `demo-en` is not installed.

    >>> for_text("私は"), for_text("ｍａｎａｋｏ 2026"), for_text("12 / 7")
    ('demo', 'demo', 'demo')
    """
    japanese = any(low <= ord(ch) <= high for ch in set(text) for low, high in _JAPANESE)
    foreign = any(map(str.isalpha, text)) and not japanese
    return ENGLISH if foreign and ENGLISH in installed() else DEFAULT


def reads(name: str) -> str:
    """The texts that `for_text` gives an embedded model, as a pattern of JavaScript: what it is for a page."""
    ranges = "".join(f"\\u{{{low:x}}}-\\u{{{high:x}}}" for low, high in _JAPANESE)
    foreign = rf"(?=[^{ranges}]*$)\P{{L}}*\p{{L}}"  # none of those, and some letter
    return f"^{foreign}" if name == ENGLISH else f"^(?!{foreign})"


def for_language(lang: str) -> str:
    """The embedded model for a reader of a language, where there is no text yet."""
    return ENGLISH if lang != "ja" and ENGLISH in installed() else DEFAULT


def example(name: str = DEFAULT) -> Path:
    """A trace that an embedded model wrote; that of the default model where it has none."""
    path = EMBEDDED[name] / "example.manako"
    return path if exists(path) else DEMO / path.name


@dataclass(frozen=True)
class Ref:
    """A reference, taken apart; whether it leads anywhere shows when it is followed."""

    text: str
    """As somebody wrote it."""
    kind: Kind
    name: str
    """Without its prefix: of a folder, file, run or hub model."""
    step: str | None = None
    """Of a run: a number, "last" or "best"."""

    @classmethod
    def parse(cls, ref: str | Path) -> "Ref":
        """Take a reference apart. Raises LoadError for an empty one, or for a prefix with nothing behind it.

        >>> Ref.parse("run:mine@200")
        Ref(text='run:mine@200', kind='run', name='mine', step='200')
        """
        text = str(ref)
        if text in EMBEDDED:
            return cls(text, "demo", text)
        prefix, colon, name = text.partition(":")
        kind = _PREFIXES.get(prefix + colon)
        if not text or (kind and not name):
            raise LoadError("ref_unknown", ref=text, near="")
        if kind is None:
            return cls(text, "folder", text)
        if kind == "run" and "@" in name:
            name, _, step = name.rpartition("@")
            return cls(text, kind, name, step or None)
        return cls(text, kind, name)

    def checkpoint(self) -> Path:
        """The model folder of a demo, run or folder. Raises LoadError saying what is there instead, or may be meant."""
        if self.kind == "demo":
            return EMBEDDED[self.name]
        if self.kind == "run":
            return run_folder.checkpoint(self._run_folder(), self.step)
        path = self._existing()
        if is_file(path) and path.suffix == ".gguf":
            raise LoadError("ref_is_gguf", file=self.text, ref=f"gguf:{self.text}")
        if not is_dir(path):
            raise LoadError(
                "ref_is_pickle" if path.suffix in (".pt", ".pth", ".bin") else "not_a_folder", file=self.text
            )
        return run_folder.checkpoint(path) if run_folder.is_run(path) else path

    def tokenizer(self) -> Tokenizer:
        """The vocabulary: of a model, a run or a corpus, or that of a `tokenizer.json` itself.

        Raises LoadError naming what is missing, CapabilityError for a kind that this version cannot open.
        """
        self.check_supported()
        if self.kind == "gguf":
            from manako.formats.gguf import read_gguf_tokenizer  # its library is an extra

            return read_gguf_tokenizer(Path(self.name))
        if self.kind == "hf":
            from manako.formats.hf_folder import hf_folder  # torch

            return hf_folder(self.name, self.text).tokenizer
        if self.kind == "folder" and is_file(self._existing("tokenizer_ref")):
            return Tokenizer.from_file(Path(self.name))
        folder = Path(self.name) if is_packed(Path(self.name)) else self.checkpoint()
        if lora.is_adapter(folder):
            folder = lora.base_of(folder)
        if not all(exists(path) for path in vocabulary_files(folder)):
            raise LoadError("tokenizer_none", folder=folder)
        return read_tokenizer(folder)

    def check_supported(self) -> None:
        """Raise CapabilityError for a kind that this version cannot open."""
        if self.kind == "openai":
            raise CapabilityError("ref_not_yet", ref=self.text)

    def run(self) -> Path | None:
        """The run that is meant, or that the folder is a checkpoint of."""
        if self.kind not in ("run", "folder"):
            return None
        folder = self.checkpoint() if self.kind == "run" else Path(self.name)
        above = folder if len(folder.parts) > 2 else folder.absolute()  # as it was written where that says enough
        return next((place for place in (folder, above.parent.parent) if run_folder.is_run(place)), None)

    def corpus(self, data: str | Path | None = None) -> PackedCorpus:
        """The packed corpus that the model was trained on: `data`, or the one on record in the run that it is part of.

        Raises CapabilityError where neither is known, LoadError where it is no longer there or is damaged, UsageError
        where it is not the one that the run was trained on.
        """
        from manako.training.config import recorded_corpus  # most commands ask for none

        run = self.run()
        if run is None:
            if data is None:
                raise CapabilityError("evidence_no_corpus", ref=self.text)
            return open_whole(data)
        corpus = open_whole(data or recorded_corpus(run))
        # Older checkpoints have lost theirs; a run has one corpus.
        state = run_folder.pointed(run, run_folder.LAST) / run_folder.STATE
        was = strict_json(read_regular(state), str(state)).get("corpus")
        if corpus.digest != was:
            raise UsageError("resume_corpus", run=run, was=str(was)[:12], now=corpus.digest[:12])
        return corpus

    def counted(self, tokenizer: Tokenizer) -> PackedCorpus | None:
        """The packed corpus that is meant, or that the model was trained on; None where it is not there any more.

        tokenizer: of the reference; a corpus that is packed with another one is none of its own.
        """
        try:
            corpus = open_packed(Path(self.name)) if is_packed(Path(self.name)) else self.corpus()
        except ManakoError:
            return None
        return corpus if corpus.tokenizer_source == tokenizer.source else None

    def _run_folder(self) -> Path:
        """A run by its folder, or by its name below runs/."""
        return Path(self.name) if run_folder.is_run(Path(self.name)) else Path("runs") / self.name

    def _existing(self, otherwise: str = "ref_unknown") -> Path:
        path = Path(self.name)
        if exists(path):
            return path
        if self.text.count("/") == 1 and not self.text.startswith((".", "/", "~")) and otherwise == "ref_unknown":
            raise LoadError("ref_maybe_hub", ref=self.text)
        raise LoadError(otherwise, ref=self.text, near=near(self.text, EMBEDDED))


def run_named(run: str | Path) -> Path:
    """The folder of a run: itself, or the one of that name below runs/. Raises LoadError where there is none."""
    name = str(run).removeprefix("run:")
    folder = Ref(str(run), "run", name)._run_folder()
    if not run_folder.is_run(folder):
        raise LoadError("run_none", folder=run)
    return folder


def run_and_checkpoint(run: str | Path) -> tuple[Path, Path]:
    """(the folder of a run, one of its checkpoints): of run:NAME@STEP that step's, else the last.

    Raises LoadError where there is no run, or no such step.
    """
    ref = Ref.parse(run)
    found = ref if ref.kind == "run" else Ref(ref.text, "run", ref.text)
    folder = found._run_folder()
    return folder, run_folder.checkpoint(folder, found.step or run_folder.LAST)


def at_step(run: Path, step: int) -> str:
    """The reference to a checkpoint of a run."""
    return f"run:{run}@{step}"


def completions(begun: str) -> list[str]:
    """What a shell may offer behind `begun`: embedded models, runs below runs/, their steps, GGUF files here.

    >>> completions("dem")[0]
    'demo'
    """
    name, at, _ = begun.removeprefix("run:").partition("@")
    if begun.startswith("run:") and at:
        folder = Ref(begun, "run", name)._run_folder()
        there = run_folder.steps(folder) if run_folder.is_run(folder) else ()
        known = [f"run:{name}@{step}" for step in ("best", "last", *there)]
    else:
        runs = sorted(path.name for path in Path("runs").glob("*") if run_folder.is_run(path))
        files = sorted(map(str, Path().glob("*.gguf")))
        known = [*installed(), *(f"run:{run}" for run in runs), *(f"gguf:{file}" for file in files)]
    return [ref for ref in known if ref.startswith(begun)]
