"""`Model`, what a user holds, and `load`, the one way in."""

import numbers
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

from manako.engines.ablation import Ablation, ablated
from manako.engines.captures import CaptureRecorder, check_captures
from manako.engines.generation import Generation
from manako.engines.protocol import Engine
from manako.engines.provenance import model_info
from manako.engines.scoring import Evaluation, evaluate, scored
from manako.engines.session import Session
from manako.errors import CapabilityError, LoadError, UsageError
from manako.formats import run_folder
from manako.formats.checkpoint import Checkpoint, Source
from manako.formats.model_folder import read_checkpoint
from manako.sampling import Sampling, check_seed
from manako.trace.record import Header, Trace, Vocabulary, bytes_to_text
from manako.trace.schema import CAPTURES

DEMO = Path(__file__).parent / "models" / "demo"
KINDS_TO_COME = ("openai:",)


def load(ref: str | Path) -> "Model":
    """Open a model.

    ref: "demo"; a model folder; a run (its best checkpoint) or run:NAME@STEP, where NAME is the folder of a run or its
    name below runs/ and STEP a number, "last" or "best"; gguf:FILE; hf:ORG/NAME or hf:./FOLDER, which is opened with
    `transformers`. Only hf:ORG/NAME touches the network, where the hub's cache lacks it.
    Raises LoadError naming the folder, file or tensor, MissingExtraError for a library that is not installed.
    """
    text = str(ref)
    if not text:
        raise LoadError("ref_unknown", ref='""')
    if text == "demo":
        return Model(text, read_checkpoint(DEMO))
    if text.startswith(KINDS_TO_COME):
        raise CapabilityError("ref_not_yet", ref=text)
    if text.startswith("gguf:"):
        from manako.formats.gguf import read_gguf  # its library is an extra

        return Model(text, read_gguf(Path(text.removeprefix("gguf:"))))
    if text.startswith("hf:"):
        from manako.formats.hf_folder import hf_folder

        folder = hf_folder(text)  # says what is missing before torch is imported
        from manako.engines.hf_engine import open_engine

        found = open_engine(folder)
        return Model(text, found.source, found)
    if text.startswith("run:"):
        return Model(text, read_checkpoint(run_folder.located(text)))
    folder = Path(text)
    try:
        exists = folder.exists()
    except OSError as error:  # a name that is too long, a parent folder without permission
        raise LoadError("file_unreadable", file=text, reason=error.strerror or error) from None
    if not exists:
        looks_like_hub = text.count("/") == 1 and not text.startswith((".", "/", "~"))
        raise LoadError("ref_maybe_hub" if looks_like_hub else "ref_unknown", ref=text)
    if folder.is_file():
        raise LoadError("ref_is_pickle" if folder.suffix in (".pt", ".pth", ".bin") else "not_a_folder", file=text)
    return Model(text, read_checkpoint(run_folder.checkpoint(folder) if run_folder.is_run(folder) else folder))


class Model:
    """A model and its tokenizer, ready to generate and to score."""

    def __init__(self, ref: str, source: Source, engine: Engine | None = None) -> None:
        """engine: what runs the model; a checkpoint brings its own."""
        if engine is None:
            assert isinstance(source, Checkpoint)  # everything else comes with an engine
            engine = source.model()
        self.ref = ref
        self.engine = engine
        self.config = engine.config
        self.tokenizer = source.tokenizer
        self.notices = source.notices
        """(catalog key, values) of what a user should know about the file."""
        self.chat_template = source.chat_template
        """How its author has conversations written down: text to show, never run."""
        self.info = model_info(ref, source, engine)
        self._vocabulary = Vocabulary(self.tokenizer.token_bytes, self.config.vocab_size, self.tokenizer.special_ids)

    def __repr__(self) -> str:
        c = self.config
        return f"<Model {self.ref!r} {c.n_layer} layers, {c.n_head} heads, width {c.n_embd}, context {c.block_size}>"

    @property
    def captures(self) -> tuple[str, ...]:
        """What this model can record of its inside, names for `capture`."""
        return tuple(name for name in CAPTURES if name not in self.engine.lacks)

    def trace(self, prompt: str, **settings: Any) -> Trace:
        """Generate, and return the whole record. Settings as for `generate`."""
        generation = self.generate(prompt, **settings)
        while generation.advance():
            pass
        return generation.trace()

    def generate(
        self,
        prompt: str,
        *,
        max_new_tokens: int = 15,
        temperature: float = 0.8,
        seed: int | None = None,
        stop: Sequence[str] = (),
        capture: Sequence[str] = (),
        ablate: Sequence[str] = (),
        sampling: Sampling | None = None,
        **stages: Any,
    ) -> Generation:
        """Start to generate: iterate over the result for one step after another.

        prompt: any text; the empty one starts a document where the vocabulary has a token for that.
        max_new_tokens: how many tokens to draw at most. temperature and `stages` (top_k, top_p, min_p, typical_p,
        repetition_penalty, presence_penalty, frequency_penalty, order) make a `Sampling`; `sampling` gives one whole.
        seed: 0 to 2^64 - 1; a fresh one when left out. stop: texts that end the run once generated.
        capture: what else to record of each step, names out of `captures`: attention, lens, contributions, residual.
        ablate: parts to switch off, such as "head:3.5", "mlp:2", "layer:4"; with "=mean" behind it, the average of what
        it added over the prompt takes its place.
        Raises UsageError before anything is computed, CapabilityError for what this model cannot give.
        """
        if sampling is None:
            sampling = Sampling(temperature=temperature, **known_stages(stages))
        elif stages:
            raise UsageError("sampling_twice", got=", ".join(stages))
        ids = self._in_front(self.tokenizer.encode(prompt)) or self._start()
        return self._generation(ids, prompt, 0, sampling, seed, max_new_tokens, stop, capture=capture, ablate=ablate)

    def fork(
        self,
        trace: Trace,
        step: int,
        *,
        text: str = "",
        token_id: int | None = None,
        max_new_tokens: int = 15,
        seed: int | None = None,
        sampling: Sampling | None = None,
        temperature: float | None = None,
        stop: Sequence[str] | None = None,
        capture: Sequence[str] | None = None,
        ablate: Sequence[str] | None = None,
        **stages: Any,
    ) -> Generation:
        """Go on from a record that this model made, behind its first `step` steps: 0 goes on from its prompt.

        text: put next, cut into tokens by itself. token_id: that token is put next instead.
        Settings as for `generate`; those left out, `max_new_tokens` aside, are the record's own. A score has no seed: a
        fresh one. temperature and `stages` change single settings of the record's sampling, `sampling` all of them.
        Step i has the random number of step `step` + i of the trace, forced tokens counted: with nothing changed, the
        same tokens are generated again. "=mean" is the mean over the original prompt.
        Raises UsageError for a step or token that is not there, CapabilityError for the record of another model.

        >>> import manako
        >>> model = manako.load("demo")
        >>> trace = model.trace("私は", max_new_tokens=4, seed=1)
        >>> [step.token_id for step in model.fork(trace, 2, max_new_tokens=2)] == trace.columns.token_id[2:].tolist()
        True
        """
        before, made = trace.header, trace.header.model
        same = (made.weights_sha256, made.tokenizer_sha256) == (self.info.weights_sha256, self.info.tokenizer_sha256)
        if not same or trace.vocabulary.size != self.config.vocab_size:
            raise CapabilityError("fork_other_model", made=made.ref, ref=self.ref)
        if not _is_whole(step) or not 0 <= step <= len(trace):
            raise UsageError("fork_step", got=step, steps=len(trace))
        forced = self._forced(text, token_id)
        changes = known_stages(stages) | ({} if temperature is None else {"temperature": temperature})
        if sampling is None:
            sampling = replace(before.sampling, **changes)
        elif changes:
            raise UsageError("sampling_twice", got=", ".join(changes))
        ids = [*trace.all_ids[: len(trace.columns.prompt_ids) + step].tolist(), *forced] or self._start()
        return self._generation(
            ids,
            bytes_to_text(self._vocabulary.join(ids)),
            before.first_step + int(step) + len(forced),
            sampling,
            before.seed if seed is None else seed,
            max_new_tokens,
            before.stop if stop is None else stop,
            capture=before.capture if capture is None else capture,
            ablate=before.ablate if ablate is None else ablate,
        )

    def _forced(self, text: str, token_id: int | None) -> list[int]:
        """The ids that somebody puts next: those of a text, or one."""
        if token_id is None:
            return self.tokenizer.encode(text)
        if text:
            raise UsageError("fork_twice")
        size = min(len(self.tokenizer.token_bytes), self.config.vocab_size)
        if not _is_whole(token_id) or not 0 <= token_id < size:
            raise UsageError("fork_token", got=token_id, last=size - 1)
        return [int(token_id)]

    def _generation(
        self,
        ids: list[int],
        prompt: str,
        first_step: int,
        sampling: Sampling,
        seed: int | None,
        max_new_tokens: int,
        stop: Sequence[str],
        *,
        capture: Sequence[str],
        ablate: Sequence[str],
    ) -> Generation:
        """A run behind `ids`, whose last `first_step` ones are steps already taken."""
        wanted, ablations = check_captures(capture), [Ablation.parse(part) for part in ablate]
        header = Header(
            kind="generation",
            model=replace(self.info, engine=self.engine.name_with(wanted)),
            prompt=prompt,
            sampling=sampling,
            seed=secrets.randbelow(2**32) if seed is None else check_seed(seed),
            stop=check_stop(stop),
            end="interrupted",
            max_new_tokens=check_count(max_new_tokens),
            window="exact",
            special_ids=tuple(sorted(self.tokenizer.special_ids)),
            self_checks=(),
            ablate=tuple(map(str, ablations)),
            first_step=first_step,
        )
        own = ids[: len(ids) - first_step] or ids  # a made-up record may call all of its prompt steps
        engine = ablated(self.engine, ablations, own) if ablations else self.engine
        captures = CaptureRecorder(engine, wanted) if wanted else None
        return Generation(Session(engine), header, ids, self._vocabulary, self.config.end_ids, captures)

    def score(self, text: str, *, capture: Sequence[str] = (), ablate: Sequence[str] = ()) -> Trace:
        """The same record for a given text: each token's probability, rank and surprisal, nothing drawn.

        capture, ablate: as for `generate`; a mean is taken over the text.
        Raises UsageError for a text with no token to score, CapabilityError for what this model cannot give.
        """
        wanted, ablations = check_captures(capture), [Ablation.parse(part) for part in ablate]
        ids, _ = self._scored_ids(text)
        engine = ablated(self.engine, ablations, ids) if ablations else self.engine
        captures = CaptureRecorder(engine, wanted) if wanted else None
        header = Header(
            kind="score",
            model=replace(self.info, engine=self.engine.name_with(wanted)),
            prompt="" if ids[0] == self.config.start_id else self.tokenizer.decode(ids[:1]).decode("utf-8", "ignore"),
            sampling=Sampling(),
            seed=None,
            stop=(),
            end="text",
            max_new_tokens=len(ids) - 1,
            window="exact",
            special_ids=tuple(sorted(self.tokenizer.special_ids)),
            self_checks=(),
            ablate=tuple(map(str, ablations)),
        )
        return scored(Session(engine), header, ids, self._vocabulary, captures)

    def evaluate(self, text: str) -> Evaluation:
        """Loss, perplexity and bits of a text, every character scored once."""
        ids, skipped = self._scored_ids(text)
        return evaluate(Session(self.engine), ids, text, skipped)

    def rows(self, ids: Sequence[int]) -> npt.NDArray[np.float32]:
        """[T, V]: the row of logits after each of `ids`, with no more than the context of them."""
        return Session(self.engine).rows(ids)

    def _in_front(self, ids: list[int]) -> list[int]:
        """With the start token in front, where this family has it in front of every text."""
        start = self.config.start_id
        return [start, *ids] if self.config.start_in_front and start is not None else ids

    def _start(self) -> list[int]:
        if self.config.start_id is None:
            raise UsageError("prompt_empty")
        return [self.config.start_id]

    def _scored_ids(self, text: str) -> tuple[list[int], str]:
        """(ids with their context token in front, the part of the text which that token is)."""
        ids = self.tokenizer.encode(text)
        if self.config.start_id is not None and ids:
            return [self.config.start_id, *ids], ""
        if len(ids) < 2:
            raise UsageError("score_too_short")
        first = self.tokenizer.decode(ids[:1]).decode("utf-8", "ignore")
        return ids, first if text.startswith(first) else ""  # some tokenizers put a space of their own in front


def check_count(max_new_tokens: object) -> int:
    """A number of tokens to draw: a whole number of at least 0. Raises UsageError."""
    if not _is_whole(max_new_tokens) or max_new_tokens < 0:
        raise UsageError("max_new_tokens", got=max_new_tokens)
    return int(max_new_tokens)


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def check_stop(stop: Sequence[str]) -> tuple[str, ...]:
    """Texts to stop at, none of them empty, all of them Unicode. Raises UsageError."""
    if isinstance(stop, str) or not isinstance(stop, Iterable):
        raise UsageError("stop", got=repr(stop))
    texts = tuple(stop)
    for text in texts:
        if not isinstance(text, str) or not text or any("\ud800" <= ch <= "\udfff" for ch in text):
            raise UsageError("stop", got=ascii(text))
    return texts


def known_stages(stages: dict[str, Any]) -> dict[str, Any]:
    """The settings, if Sampling knows all of them; UsageError naming the others."""
    return {name: value for name, value in Sampling.from_dict(stages).to_dict().items() if name in stages}
