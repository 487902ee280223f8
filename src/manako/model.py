"""`Model`, what a user holds, and `load`, the one way in."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from manako.engines.ablation import ablated
from manako.engines.captures import CaptureRecorder
from manako.engines.generation import Generation
from manako.engines.protocol import Engine, lacking
from manako.engines.provenance import is_of, model_info
from manako.engines.recomputing import recomputed
from manako.engines.scoring import Evaluation, Given, Told, evaluate, evaluate_ids, scored, scored_last
from manako.engines.session import Session
from manako.errors import CapabilityError, LoadError, ManakoError, UsageError
from manako.families.shape import FileShape
from manako.files import exists, writable_folder
from manako.formats import lora
from manako.formats.chat_template import filled
from manako.formats.checkpoint import Checkpoint, Source, Tensors
from manako.formats.model_folder import CHAT_TEMPLATE, read_checkpoint, write_checkpoint
from manako.formats.page_model import lacks, page_model, page_weights
from manako.refs import Ref
from manako.sampling import Sampling
from manako.settings import Ablation, RunSettings, check_type, is_whole
from manako.token_ids import Ids, check_ids
from manako.tokenizer import sizes_of
from manako.trace.record import Excerpt, Header, SelfCheck, Trace, Vocabulary, bytes_to_text
from manako.trace.schema import CAPTURES


def load(ref: str | Path) -> "Model":
    """Open a model.

    ref: "demo"; a model folder; a run (its best checkpoint) or run:NAME@STEP, where NAME is the folder of a run or its
    name below runs/ and STEP a number, "last" or "best"; gguf:FILE; hf:ORG/NAME or hf:./FOLDER, which is opened with
    `transformers`. Only hf:ORG/NAME touches the network, where the hub's cache lacks it.
    Raises LoadError naming the folder, file or tensor, MissingExtraError for a library that is not installed.
    """
    found = Ref.parse(ref)
    if found.kind == "hf":
        from manako.formats.hf_folder import hf_folder

        folder = hf_folder(found.name, found.text)  # says what is missing before torch is imported
        from manako.engines.hf_engine import open_engine

        engine = open_engine(folder)
        return Model(found.text, engine.source, engine)
    return Model(found.text, checkpoint(found))


def checkpoint(ref: Ref) -> Checkpoint:
    """The shape and weights of a model that NumPy runs.

    Raises LoadError as `load` does, CapabilityError for a model that another program runs.
    """
    ref.check_supported()
    if ref.kind == "hf":
        raise CapabilityError("export_hf", ref=ref.text)
    if ref.kind == "gguf":
        from manako.formats.gguf import read_gguf  # its library is an extra

        return read_gguf(Path(ref.name))
    folder = ref.checkpoint()
    try:
        if lora.is_adapter(folder):
            return lora.merged(folder, read_checkpoint(lora.base_of(folder)))
        return read_checkpoint(folder)
    except LoadError:
        if exists(folder):
            raise
        return read_checkpoint(ref.checkpoint())  # its trainer removed it after `best` or `last` had been read


def export(ref: str | Path, folder: Path, dtype: Literal["float32", "float16"] = "float32") -> FileShape:
    """Write a model as an ordinary folder of the Hugging Face layout, which other programs open too; its shape.

    ref: as for `load`, but for hf:, which is such a folder already. dtype: of the weights there.
    Raises ManakoError where the folder is there already or cannot be written, or where a weight is beyond float16.
    """
    writable_folder(folder)
    source = checkpoint(Ref.parse(ref))
    tensors: Tensors = {}
    for name, tensor in source.tensors.items():
        with np.errstate(over="ignore"):  # said below, by name
            tensors[name] = tensor.astype(dtype, copy=False)
        if not np.isfinite(tensors[name]).all():
            raise ManakoError("export_float16", tensor=name, value=float(np.abs(tensor).max()))
    template = {} if source.chat_template is None else {CHAT_TEMPLATE: source.chat_template.encode()}
    write_checkpoint(folder, source.config, tensors, source.tokenizer, template)
    return source.config


def for_page(ref: str | Path) -> bytes:
    """The file of a model that the page carries and runs by itself.

    ref: as for `load`; of a folder the page says its name alone, not where it lies. Raises LoadError as `load` does,
    CapabilityError for a model that the page cannot run.
    """
    found = Ref.parse(ref)
    folder = _page_folder(found)
    source = read_checkpoint(folder)
    name = Path(found.name).absolute().name if found.kind == "folder" else found.text
    return page_model(folder, source, Model(name, source).info)


def _page_folder(ref: Ref) -> Path:
    """Where a model lies that the page may be able to run. Raises as `for_page` does."""
    ref.check_supported()
    if ref.kind in ("gguf", "hf"):
        raise lacks("weights")
    return ref.checkpoint()


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
        """How its author has conversations written down: a program, which runs only where `chat` asks for it."""
        self._token_names = source.token_names
        self.info = model_info(ref, source, engine)
        self._vocabulary = Vocabulary(self.tokenizer.token_bytes, self.config.vocab_size, self._left_out())

    def __repr__(self) -> str:
        c, name = self.config, self.info.name
        return f"<Model {name!r} {c.n_layer} layers, {c.n_head} heads, width {c.n_embd}, context {c.block_size}>"

    @property
    def captures(self) -> tuple[str, ...]:
        """What this model can record of its inside, names for `capture`."""
        return tuple(name for name in CAPTURES if name not in lacking(self.engine))

    @cached_property
    def in_page(self) -> bool:
        """Whether the page can run this model by itself, from the file that `for_page` makes."""
        try:
            page_weights(_page_folder(Ref.parse(self.ref)), self.engine.config, self.tokenizer, self.info)
        except (CapabilityError, LoadError):  # LoadError: an adapter, or a folder that went away
            return False
        return True

    def trace(self, prompt: str, settings: RunSettings | None = None, **changes: Any) -> Trace:
        """Generate, and return the whole record. Settings as for `generate`."""
        generation = self.generate(prompt, settings, **changes)
        while generation.advance():
            pass
        return generation.trace()

    def generate(
        self,
        prompt: str,
        settings: RunSettings | None = None,
        *,
        max_new_tokens: int | None = None,
        temperature: float | None = None,
        seed: int | None = None,
        stop: Sequence[str] | None = None,
        capture: Sequence[str] | None = None,
        ablate: Sequence[str] | None = None,
        special: bool | None = None,
        chat: bool | None = None,
        system: str | None = None,
        sampling: Sampling | None = None,
        **stages: Any,
    ) -> Generation:
        """Start to generate: iterate over the result for one step after another.

        prompt: any text; the empty one starts a document where the vocabulary has a token for that.
        settings: all at once, by default `RunSettings()`; what else is given takes the place of single ones.
        max_new_tokens: how many tokens to draw at most, 15 by default. temperature (0.8) and `stages` (top_k, top_p,
        min_p, typical_p, repetition_penalty, presence_penalty, frequency_penalty, order) are the settings of a
        `Sampling`; `sampling` gives one whole.
        seed: 0 to 2^64 - 1; a fresh one when left out. stop: texts that end the run once generated.
        capture: what else to record of each step, names out of `captures`: attention, lens, contributions, residual.
        special: whether the name of a special token in the prompt is that token. chat: whether the prompt is a user's
        turn, to be put into the model's chat template, behind what `system` says.
        ablate: parts to switch off, such as "head:3.5", "mlp:2", "layer:4"; with "=mean" behind it, the average of what
        it added over the prompt takes its place.
        Raises UsageError before anything is computed, CapabilityError for what this model cannot give.
        """
        own = {"max_new_tokens": max_new_tokens, "seed": seed, "stop": stop, "capture": capture, "ablate": ablate}
        own |= {"special": special, "chat": chat, "system": system}
        settings = RunSettings() if settings is None else settings
        check_type("settings", settings, RunSettings)
        settings = settings.changed(sampling=sampling, temperature=temperature, **own, **stages)
        ids = self.prompt_ids(prompt, settings) or self._start()
        if settings.special or settings.chat:
            prompt = bytes_to_text(self._vocabulary.join(ids))
        return self._generation(ids, prompt, 0, settings)

    def prompt_ids(self, prompt: str, settings: RunSettings) -> list[int]:
        """What the model sees of a prompt: with the tokens that come before every text, or as its chat template has it.

        Raises UsageError and CapabilityError as `generate` does.
        """
        if settings.chat:  # a template says itself what comes first
            return self._known(self.tokenizer.encode(self.chat(prompt, settings.system), special=True))
        front, ids = list(self.tokenizer.front_ids), self.tokenizer.encode(prompt, settings.special)
        if settings.special and ids[: len(front)] == front:  # it is written out in the prompt
            front = []
        return self._known([*front, *ids])

    def chat(self, user: str, system: str = "") -> str:
        """The model's chat template with these turns, ready for its answer.

        Raises CapabilityError where it has none, LoadError with what the template says against them.
        """
        if self.chat_template is None:
            raise CapabilityError("chat_without_template", ref=self.ref)
        turns = [{"role": "system", "content": system}] if system else []
        return filled(self.chat_template, [*turns, {"role": "user", "content": user}], self._token_names)

    def _left_out(self) -> frozenset[int]:
        """The special tokens that are no part of a text; `<unk>` is one, since it takes the place of characters."""
        known = (i for i in self.tokenizer.special_ids if i < self.config.vocab_size)
        return frozenset(i for i in known if i != self.tokenizer.unknown_id)

    def _known(self, ids: list[int]) -> list[int]:
        """The same ids. Raises UsageError for a token that the model has no row for."""
        for i in ids:
            if i >= self.config.vocab_size:
                name = self.tokenizer.token_bytes[i].decode("utf-8", "replace")
                raise UsageError("prompt_token_without_row", token=name, id=i, rows=self.config.vocab_size)
        return ids

    def fork(
        self,
        trace: Trace,
        step: int,
        *,
        text: str = "",
        token_id: int | None = None,
        **changes: Any,
    ) -> Generation:
        """Continue a trace that this model made after its first `step` steps; 0 continues from its prompt.

        text: forced next, cut into tokens by itself, with no space before it but its own. token_id: that token is
        forced next instead.
        changes: as for `generate`; settings left out, `max_new_tokens` aside, are those of the trace. A score has no
        seed: a fresh one. temperature and the stages change single settings of its sampling, `sampling` all of them.
        Step i has the random number of step `step` + i of the trace, forced tokens counted: with nothing changed, the
        same tokens are generated again. "=mean" is the mean over the original prompt, which a score does not have.
        Raises UsageError for a step or token that is not there and for "=mean" behind a score, CapabilityError for the
        trace of another model.

        >>> import manako
        >>> model = manako.load("demo")
        >>> trace = model.trace("私は", max_new_tokens=4, seed=1)
        >>> [step.token_id for step in model.fork(trace, 2, max_new_tokens=2)] == trace.columns.token_id[2:].tolist()
        True
        """
        self._check_made(trace, "fork_other_model")
        before = trace.header
        if not is_whole(step) or not 0 <= step <= len(trace):
            raise UsageError("fork_step", got=step, steps=len(trace))
        given = trace.all_ids[: len(trace.columns.prompt_ids) + step].tolist()
        forced = self._forced(text, token_id, given)
        own = RunSettings(
            seed=before.seed, stop=before.stop, capture=before.capture, ablate=before.ablate, sampling=before.sampling
        )
        settings = own.changed(**changes)
        if before.kind == "score":
            settings.refuse_mean()
        ids = [*given, *forced] or self._start()
        prompt = bytes_to_text(self._vocabulary.join(ids))
        return self._generation(ids, prompt, before.first_step + int(step) + len(forced), settings)

    def recomputed(self, trace: Trace) -> SelfCheck:
        """The rows of a trace that this model made, computed again: the largest difference, relative to the row's.

        Raises CapabilityError for the trace of another model.

        >>> import manako
        >>> model = manako.load("demo")
        >>> model.recomputed(model.trace("私は", max_new_tokens=3, seed=0)).ok
        True
        """
        self._check_made(trace, "verify_other_model")
        ids = trace.all_ids.tolist()
        own = ids if trace.header.kind == "score" else ids[: len(trace.columns.prompt_ids) - trace.header.first_step]
        engine, _ = self._prepared(RunSettings(ablate=trace.header.ablate), own or ids)
        return recomputed(engine, trace)

    def _check_made(self, trace: Trace, key: str) -> None:
        """Raise CapabilityError unless a trace was made with these weights, as this configuration has them used."""
        check_type("trace", trace, Trace)
        made = trace.header.model
        if not is_of(made, self.info) or trace.vocabulary.size != self.config.vocab_size:
            raise CapabilityError(key, made=made.ref, ref=self.ref)

    def _forced(self, text: str, token_id: int | None, given: Sequence[int]) -> list[int]:
        """The ids that somebody puts next, behind `given`: those of a text, or one."""
        if token_id is None:
            begins = self._left_out().issuperset(given)  # only special tokens stand before it
            return (self.tokenizer if begins else self.tokenizer.behind).encode(text)
        if text:
            raise UsageError("fork_twice")
        if not is_whole(token_id) or not 0 <= token_id < self._tokens:
            raise UsageError("fork_token", got=token_id, last=self._tokens - 1)
        return [int(token_id)]

    def _generation(self, ids: list[int], prompt: str, first_step: int, settings: RunSettings) -> Generation:
        """A run behind `ids`, whose last `first_step` ones are steps already taken."""
        header = Header(
            kind="generation",
            model=replace(self.info, engine=self.engine.name_with(settings.capture)),
            prompt=prompt,
            prompt_rewritten=prompt != bytes_to_text(self._vocabulary.join(ids)),
            sampling=settings.sampling,
            seed=settings.seeded().seed,
            stop=settings.stop,
            end="interrupted",
            max_new_tokens=settings.max_new_tokens,
            window="exact",
            special_ids=tuple(sorted(self._left_out())),
            self_checks=(),
            ablate=settings.ablate,
            first_step=first_step,
        )
        own = ids[: len(ids) - first_step] or ids  # a made-up record may call all of its prompt steps
        engine, captures = self._prepared(settings, own)
        return Generation(Session(engine), header, ids, self._vocabulary, self.config.end_ids, captures)

    def _prepared(self, settings: RunSettings, ids: Sequence[int]) -> tuple[Engine, CaptureRecorder | None]:
        """The engine without what is switched off, where a mean is one over `ids`, and what records its inside."""
        parts = [Ablation.parse(part) for part in settings.ablate]
        engine = ablated(self.engine, parts, ids) if parts else self.engine
        return engine, CaptureRecorder(engine, settings.capture) if settings.capture else None

    def score(
        self,
        text: str,
        *,
        capture: Sequence[str] = (),
        ablate: Sequence[str] = (),
        special: bool = False,
        step: int | None = None,
        told: Told | None = None,
    ) -> Trace:
        """The same record for a given text: each token's probability, rank and surprisal, nothing drawn.

        capture, ablate, special: as for `generate`; a mean is taken over the whole text. step: the only one to compute,
        counted from 0, with -1 for the last; what stands before it is then the prompt. told: called after each part of
        a long text with the tokens read so far, and those in all.
        Raises UsageError for a text with no token to score or without that step, and for a mean where that is not the
        last, since its record lacks the rest of the text; CapabilityError for what this model cannot give.

        >>> import manako
        >>> text, model = "吾輩は猫である", manako.load("demo")
        >>> model.score(text, step=2).steps[0].chosen.text == model.score(text).steps[2].chosen.text == "は"
        True
        """
        settings = RunSettings(sampling=Sampling(temperature=1)).changed(capture=capture, ablate=ablate)
        given = self._given(text, special)
        ids, context = given.ids, given.context
        engine, captures = self._prepared(settings, ids)
        steps, before = len(ids) - context, 0
        if step is not None:
            if not is_whole(step):
                raise UsageError("view_step_number", got=step)
            if not -steps <= step < steps:
                raise UsageError("view_step", got=step + 1, last=steps)
            before = range(steps)[int(step)]
            if before < steps - 1:
                settings.refuse_mean()
            ids, context = ids[: context + before + 1], context + before
        header = Header(
            kind="score",
            model=replace(self.info, engine=self.engine.name_with(settings.capture)),
            prompt=bytes_to_text(self._vocabulary.join(ids[:context])),
            prompt_rewritten=False,
            sampling=settings.sampling,
            seed=None,
            stop=(),
            end="text",
            max_new_tokens=len(ids) - context,
            window="exact",
            special_ids=tuple(sorted(self._left_out())),
            self_checks=(),
            ablate=settings.ablate,
        )
        if step is None:
            return scored(Session(engine), header, ids, context, self._vocabulary, captures, told)
        alone = scored_last(Session(engine), header, ids, self._vocabulary, captures)
        return replace(alone, excerpt=Excerpt(text, before))

    def evaluate(self, text: str, told: Told | None = None) -> Evaluation:
        """Loss, perplexity and bits of a text, every character scored once. `told` and errors as for `score`."""
        return evaluate(Session(self.engine), self._given(text), self.tokenizer.unknown_id, told)

    def evaluate_ids(self, ids: Sequence[int] | Ids, told: Told | None = None) -> Evaluation:
        """The same of a stretch of a packed corpus: tokens of this vocabulary, documents behind the start token.

        Raises UsageError, too, for what is no id of a token.
        """
        one, ids = self.tokenizer, check_ids(ids, self._tokens)
        return evaluate_ids(Session(self.engine), ids, sizes_of(one), self.config.start_id, one.unknown_id, told)

    def rows(self, ids: Sequence[int] | Ids) -> npt.NDArray[np.float32]:
        """[T, V]: the row of logits after each of `ids`, with no more than the context of them.

        Raises UsageError for none, for more, and for what is no id of a row.
        """
        return Session(self.engine).rows(check_ids(ids, self.config.vocab_size, 1, self.config.block_size))

    @property
    def _tokens(self) -> int:
        """How many ids are both tokens and rows; a model may have rows beyond its tokenizer."""
        return min(self.tokenizer.vocab_size, self.config.vocab_size)

    def _start(self) -> list[int]:
        if self.config.start_id is None:
            raise UsageError("prompt_empty")
        return [self.config.start_id]

    def _given(self, text: str, special: bool = False) -> Given:
        """A text to score. Where nothing stands before it, its first whole characters are context alone."""
        ids, spans = self.tokenizer.aligned(text, special)
        self._known(ids)
        front = self.tokenizer.front_ids or (() if self.config.start_id is None else (self.config.start_id,))
        context = len(front) or self._whole(ids)
        if len(front) + len(ids) <= context:
            raise UsageError("score_too_short")
        return Given(text, [*front, *ids], context, [*[(0, 0)] * len(front), *spans])

    def _whole(self, ids: Sequence[int]) -> int:
        """How many of the first ids end where a character does: one, but for tokens that are parts of one."""
        for n in range(1, len(ids)):
            try:
                self.tokenizer.decode(ids[:n]).decode("utf-8")
                return n
            except UnicodeDecodeError:
                continue
        return len(ids)
