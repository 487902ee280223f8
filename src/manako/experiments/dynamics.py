"""One text under every snapshot of a run: what it came to expect, write, look at and know, and when.

Special here: one snapshot is in memory at a time, and everything is measured on it while it is. A snapshot that cannot
be read is named and left out. What a run lacks (its corpus, attention) leaves its group of columns out.

Letters: Z snapshots, S tokens of the text that are scored, K = 64, L layers, H heads, V logits.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from manako.analysis.compact import compact
from manako.analysis.heads import chance, head_scores, repeated
from manako.analysis.ngrams import NGrams, ngrams
from manako.engines.captures import best_of, logsumexps
from manako.engines.session import Session
from manako.errors import CapabilityError, LoadError, ManakoError, UsageError
from manako.families.activations import Activations
from manako.families.shape import Shape
from manako.files import exists, is_file, megabytes, read_regular, strict_json
from manako.formats import run_folder
from manako.model import Model, load
from manako.refs import Ref, at_step, run_named
from manako.settings import RunSettings, is_whole
from manako.tokenizer import Tokenizer
from manako.trace.dynamics import Dynamics, DynamicsHeader, attention_starts
from manako.trace.record import Trace, Vocabulary

TOP = 64  # candidates of each place on record
LONGEST = 60  # tokens of the text that is taken where none is given
HELD_OUT = 1_024  # tokens that the n-gram distances are means over
REPEATED = 48  # random tokens that come twice, where the context has room
ALL_ATTENTION = 1_500_000  # bytes that the attention of every token may take where nobody says which is wanted
Columns = dict[str, npt.NDArray[Any]]
Report = Callable[..., None]  # (catalog key, **values)


def quiet(key: str, **values: object) -> None:
    """Say nothing."""


def dynamics(
    run: str | Path,
    text: str | None = None,
    *,
    data: str | Path | None = None,
    step: int | None = None,
    all_attention: bool = False,
    max_new_tokens: int = 20,
    seed: int = 0,
    temperature: float | None = None,
    report: Report = quiet,
) -> Dynamics:
    """Look at one text under every checkpoint and snapshot of a run.

    run: its folder, or its name below runs/. text: by default the beginning of its held-out text. data: its packed
    corpus, if that has moved. step: the one token of the text, counted from 1, whose attention is kept. all_attention:
    that of every token, whatever room it takes. Neither: of every token where that takes 1.5 MB at most, else of the
    last one. max_new_tokens, seed, temperature: of the continuation that each snapshot writes, all of them with the
    same random numbers. report(key, **values) gets a catalog key for each line that a person should see.
    Raises LoadError where there is no run, CapabilityError for one with a single checkpoint, UsageError for a text that
    the vocabulary cannot spell or that is longer than the context.
    """
    steps = run_folder.steps(run_named(run))
    if len(steps) < 2:
        raise CapabilityError("dynamics_one_checkpoint", run=run, step=steps[0])
    settings = RunSettings().changed(max_new_tokens=max_new_tokens, seed=seed, temperature=temperature)
    if all_attention and step is not None:
        raise UsageError("dynamics_step_or_all")
    found = Following(run, text, step, settings, report, data, all_attention).update()
    assert found is not None  # nothing had been seen before
    return found


class Following:
    """A run that may still be going: each `update` looks at the snapshots that have come since the one before.

    Those that are gone by then, or other ones, since the run was stopped and takes its steps anew, are forgotten. The
    arguments are as for `dynamics`, which raises what this raises; settings: of the continuations.
    """

    def __init__(
        self,
        run: str | Path,
        text: str | None,
        step: int | None,
        settings: RunSettings,
        report: Report = quiet,
        data: str | Path | None = None,
        all_attention: bool = False,
    ) -> None:
        self.run, self._folder, self._settings, self._report = run, run_named(run), settings, report
        self._step, self._all_attention = step, all_attention
        counted = _ngrams(self._folder, run_folder.steps(self._folder), report, data)
        self._looked = _Looked(self._folder, text, self._attention_of, counted, data)
        self._seen, self._damaged = dict[int, tuple[int, ...]](), set[int]()
        self._tried = dict[int, tuple[int, ...]]()
        self._told: dict[int, tuple[int, ...]] | None = None
        """What had been seen when there was last something to tell."""

    def update(self) -> Dynamics | None:
        """The record of all snapshots that there are; None where that is as it was."""
        there = {at: made for at in run_folder.steps(self._folder) if (made := run_folder.identity(self._folder, at))}
        gone = [at for at, made in self._seen.items() if there.get(at) != made]
        for at in gone:
            del self._seen[at]
            self._damaged.discard(at)
            self._looked.forget(at)
        new = [at for at, made in there.items() if self._tried.get(at) != made]
        failed = [at for at in there if at not in self._seen and at not in new]
        steps = [*new, *failed] if new or gone else []  # what failed, not again until something has changed
        for number, at in enumerate(steps, 1):
            self._report("dynamics.progress", step=at, number=number, count=len(steps))
            self._tried[at] = there[at]
            try:
                model = load(at_step(self._folder, at))
            except LoadError as error:
                if exists(run_folder.step_folder(self._folder, at)):  # else its trainer has thinned it out meanwhile
                    self._report("dynamics.damaged", step=at, reason=error)
                    self._damaged.add(at)
                    self._seen[at] = there[at]
                continue
            self._looked.at(at, model, self._settings)
            self._seen[at] = there[at]
        if self._seen == self._told:
            return None
        found = self._looked.finish(str(self.run), tuple(sorted(self._damaged)), _curve(self._folder))
        self._told = dict(self._seen)
        return found

    def _attention_of(self, config: Shape, context: int, tokens: int) -> int | None:
        """The one token of the text, counted from 0, whose attention is kept; None for every one."""
        if self._step is not None:
            if not is_whole(self._step):
                raise UsageError("view_step_number", got=self._step)
            if not 1 <= self._step <= tokens:
                raise UsageError("view_step", got=self._step, last=tokens)
            return int(self._step) - 1
        weights = len(run_folder.steps(self._folder)) * config.n_layer * config.n_head
        size = np.dtype(np.float32).itemsize * weights * attention_starts(context, tokens, None)[-1]
        keeps_all = self._all_attention or size <= ALL_ATTENTION
        if self._all_attention or not keeps_all:
            self._report("dynamics.all_attention" if keeps_all else "dynamics.one_attention", size=megabytes(size))
        return None if keeps_all else tokens - 1


class _Look(NamedTuple):
    """What was seen of one snapshot."""

    row: Columns
    """Of each column."""
    weights_sha256: str
    trace: Trace
    """What it writes behind the text."""


class _Looked:
    """What has been seen so far."""

    def __init__(
        self,
        folder: Path,
        text: str | None,
        attention_of: Callable[[Shape, int, int], int | None],
        counted: NGrams | None,
        data: str | Path | None,
    ) -> None:
        """attention_of: asked once, with the shape of the model and how many tokens are context and how many scored."""
        self._folder, self._text, self._ngrams, self._data = folder, text, counted, data
        self._attention_of = attention_of
        self._first: Model | None = None
        self._ids, self._context, self._characters = list[int](), 0, 0
        self._looks = dict[int, _Look]()

    def at(self, at: int, model: Model, settings: RunSettings) -> None:
        """Look with the model of a step."""
        if self._first is None:
            self._begin(model)
        elif model.info.tokenizer_sha256 != self._first.info.tokenizer_sha256:
            raise LoadError("dynamics_other_vocabulary", folder=self._folder, step=at)
        columns = self._tokens(model) | {"step": np.array(at, dtype=np.int32)}
        columns |= self._heads(model) if self._has_heads(model) else {}
        if self._ngrams is not None:
            columns |= _distances(model, self._ngrams)
        assert self._text is not None
        written = compact(model.trace(self._text, settings), TOP)
        self._looks[at] = _Look(columns, model.info.weights_sha256, written)  # whole, or not at all

    def forget(self, at: int) -> None:
        """Leave a step out of the record."""
        self._looks.pop(at, None)

    def finish(self, run: str, damaged: tuple[int, ...], curve: Columns) -> Dynamics:
        """The record. Raises LoadError where no snapshot could be read."""
        looks = [self._looks[at] for at in sorted(self._looks)]
        if self._first is None or self._text is None or not looks:
            raise LoadError("dynamics_none_readable", folder=self._folder)
        columns = {name: np.stack([look.row[name] for look in looks]) for name in looks[0].row} | curve
        columns["prompt_ids"] = np.array(self._ids[: self._context], dtype=np.int32)
        columns["token_id"] = np.array(self._ids[self._context :], dtype=np.int32)
        groups = [name for name, key in _GROUPS.items() if key in columns]
        if "heads" in groups:
            columns["head_chance"] = chance(len(self._random), self._n)
        if self._ngrams is not None:
            columns["ngram_seen"] = np.array([each.seen.mean() for each in self._ngrams.shares])
            columns["guess_bits"] = self._ngrams.guess_bits
        trace, info = looks[0].trace, self._first.info
        names = ("model_type", "config", "switches", "tokenizer_sha256", "engine", "versions")
        header = DynamicsHeader(
            run=run,
            text=self._text,
            characters=self._characters,
            model={name: list(v) if isinstance(v := getattr(info, name), tuple) else v for name in names},
            weights_sha256=tuple(look.weights_sha256 for look in looks),
            damaged=damaged,
            groups=tuple(groups),
            attention_step=self._attention_step,
            held_out_tokens=0 if self._ngrams is None else self._ngrams.windows[:, 1:].size,
            special_ids=trace.header.special_ids,
            vocab_size=trace.vocabulary.size,
        )
        table = self._first.tokenizer.token_bytes
        vocabulary = Vocabulary(table, trace.vocabulary.size, frozenset(header.special_ids))
        return Dynamics(header, columns, tuple(look.trace for look in looks), vocabulary)

    def _begin(self, model: Model) -> None:
        """Settle what is the same for all snapshots: the text and its ids, the random tokens."""
        if self._text is None:
            self._text = held_out_text(self._folder, model.tokenizer, model.config.block_size, self._data)
        trace = model.score(self._text)
        self._context = len(trace.columns.prompt_ids)
        self._ids = trace.all_ids.tolist()
        if model.tokenizer.unknown_id is not None and model.tokenizer.unknown_id in self._ids:
            raise UsageError("dynamics_unknown", run=self._folder)
        if len(self._ids) - 1 > model.config.block_size:
            raise UsageError("dynamics_long", tokens=len(self._ids) - 1, context=model.config.block_size)
        self._characters = max(1, model.evaluate(self._text).characters)
        count = len(self._ids) - self._context
        self._attention_step = self._attention_of(model.config, self._context, count)
        left_out = set(trace.header.special_ids)
        start = model.config.start_id
        front = [] if start is None else [start]
        self._n = min(REPEATED, (model.config.block_size - len(front)) // 2)
        self._random = repeated([i for i in range(model.config.vocab_size) if i not in left_out], self._n, front)
        self._first = model  # last: the next one begins anew where this one could not

    def _tokens(self, model: Model) -> Columns:
        """What the model says of each token of the text, layer by layer."""
        asked = Activations(attention=self._has_heads(model))
        rows = Session(model.engine).rows(self._ids[:-1], asked)[self._context - 1 :]  # [S, V]
        targets = np.array(self._ids[self._context :])
        ids, logits = best_of(rows, TOP)
        own = rows[np.arange(len(targets)), targets]  # [S]
        tied = (rows == own[:, None]) & (np.arange(rows.shape[1]) < targets[:, None])  # equal ones go by id
        resid = asked.residual()[:, self._context - 1 :].swapaxes(0, 1)  # [S, L+1, C]
        read = model.engine.unembed(resid.reshape(-1, resid.shape[2])).astype(np.float32, copy=False)  # [S * L+1, V]
        first = read.argmax(axis=1)
        best = read[np.arange(len(read)), first]
        layers = (len(targets), resid.shape[1])
        found: Columns = {
            "logit": own,
            "logsumexp": logsumexps(rows, logits[:, 0]),
            "rank": (1 + (rows > own[:, None]).sum(axis=1) + tied.sum(axis=1)).astype(np.int32),
            "top_id": ids.astype(np.int32),
            "top_logit": logits,
            "lens_id": first.reshape(layers).astype(np.int32),
            "lens_logit": best.reshape(layers),
            "lens_logsumexp": logsumexps(read, best).reshape(layers),
        }
        if asked.attention:
            one, first = self._attention_step, self._context - 1
            places = range(first, len(rows) + first) if one is None else [first + one]
            patterns = [np.concatenate([p[:, at, : at + 1] for at in places], axis=1) for p in asked.pattern]
            found["attention"] = np.stack(patterns).astype(np.float32, copy=False)
        return found

    def _has_heads(self, model: Model) -> bool:
        """Whether it has attention, and room for one token twice: else the group of columns is left out."""
        return "attention" in model.captures and self._n > 0

    def _heads(self, model: Model) -> Columns:
        asked = Activations(attention=True)
        Session(model.engine).rows(self._random, asked)
        return {"head_score": head_scores(np.stack(asked.pattern), self._n)}


_GROUPS = {"heads": "head_score", "ngrams": "ngram_kl", "curve": "curve_step"}  # group -> a column that it has


def _distances(model: Model, counted: NGrams) -> Columns:
    """How far the model is from the shares, and from the held-out text itself."""
    session = Session(model.engine)
    rows = np.concatenate([session.rows(window) for window in counted.windows[:, :-1].tolist()])  # [R, V]
    sums = logsumexps(rows, rows.max(axis=1))
    return {
        "ngram_kl": counted.distances(rows, sums),
        "held_out_bits": np.array(counted.bits(rows, sums)),
    }


def _ngrams(folder: Path, steps: list[int], report: Report, data: str | Path | None) -> NGrams | None:
    """The counts of the corpus; None, and a word about it, where it is not there any more."""
    report("dynamics.counting")
    try:
        ref = at_step(folder, steps[0])
        return ngrams(Ref.parse(ref).corpus(data), load(ref).config.block_size, HELD_OUT)
    except ManakoError as error:
        report("dynamics.no_ngrams", reason=error)
        return None


def held_out_text(folder: Path, tokenizer: Tokenizer, context: int, data: str | Path | None) -> str:
    """The beginning of the held-out text of a run. Raises as `Ref.corpus` does, UsageError where there is none."""
    corpus = Ref.parse(folder).corpus(data)
    most = min(LONGEST, context)
    for ids in corpus.validation.documents(corpus.start_id):
        text = tokenizer.decode(ids[:most].tolist()).decode("utf-8", "ignore")
        if text.strip():
            return text
    raise UsageError("dynamics_no_text", run=folder)


def _curve(folder: Path) -> Columns:
    """The loss of the training as its log has it, in nats a token; {} without a log."""
    path = folder / run_folder.METRICS
    found = list[tuple[np.int32, float]]()
    for line in read_regular(path).splitlines() if is_file(path) else []:
        try:
            values: Mapping[str, Any] = strict_json(line, str(path))
            found.append((np.int32(int(values["step"])), float(values["loss"])))
        except (LoadError, KeyError, TypeError, ValueError, OverflowError):
            continue  # half a line of a killed run
    if not found:
        return {}
    steps, losses = zip(*found, strict=True)
    return {"curve_step": np.array(steps, dtype=np.int32), "curve_loss": np.array(losses, dtype=np.float64)}
