"""A training from text to its last checkpoint, and on from one: what `manako train` and `manako resume` do.

Special here: no torch until one of them is called. The settings are flat, under the names of config.toml.
"""

import contextlib
import os
import shutil
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manako.checks import plain
from manako.corpus import build
from manako.corpus.packed import PackedCorpus, is_packed, open_packed, open_whole
from manako.corpus.settings import VOCABULARY_SETTINGS, CorpusSettings, check_names, check_range, check_sources
from manako.errors import LoadError, MissingExtraError, UsageError
from manako.families.gpt2 import RULES, ModelConfig, only_gpt2
from manako.families.shape import FLAG
from manako.files import writable_folder, write_file
from manako.formats import run_folder
from manako.formats.model_folder import read_checkpoint
from manako.training.config import (
    POSITIVE,
    SHAPE,
    TrainingConfig,
    preset_settings,
    read_toml,
    recorded_corpus,
    to_toml,
    training_settings,
)
from manako.training.signals import ASKING, answered

if TYPE_CHECKING:
    from manako.training.loop import Trainer

SWITCHES = {"no_residual": False, "norm": "pre", "no_attention": False}
DEFAULTS: dict[str, Any] = {
    **SWITCHES,
    **SHAPE,
    **{f.name: f.default for each in (TrainingConfig, CorpusSettings) for f in fields(each)},
}
"""Every setting of a training, with its default."""

Report = Callable[..., None]  # (catalog key, **values)
Watch = Callable[[Path, int], None]  # (checkpoint, step)
Show = Callable[["Trainer"], contextlib.AbstractContextManager[Any]]


def quiet(key: str, **values: object) -> None:
    """Say nothing."""


def train(
    data: str | Path | Iterable[str | Path],
    out: str | Path,
    *,
    preset: str | None = None,
    report: Report = quiet,
    watch: Watch | None = None,
    show: Show = contextlib.nullcontext,
    also: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Path:
    """Train a small GPT on text, in a new run folder from which it can always go on; returns that folder.

    data: text as for `manako.corpus.build`, or one packed corpus. settings: under the names of config.toml, such as
    max_minutes=5, n_layer=4, tokenizer="bpe", learning_rate=1e-3; see DEFAULTS. preset: one of PRESETS, behind them.
    What the command does beside training, --sample, --probe and --traces, is a watch of its own, --config its reading.
    report(key, **values) gets a catalog key for each line that a person should see, watch(folder, step) each evaluated
    checkpoint; show(trainer) is a context held while it trains. also: what else config.toml shall keep.
    Raises UsageError for a setting that makes no sense, MissingExtraError without PyTorch, LoadError for the text;
    a run that comes to no checkpoint leaves nothing.
    """
    require_torch()
    from manako.training import memory
    from manako.training.loop import Trainer
    from manako.training.processes import processes

    check_names(settings, [*DEFAULTS, "preset"])
    settings = preset_settings(preset) | {name: plain(value) for name, value in settings.items()}
    told, out = DEFAULTS | settings, Path(out)
    if isinstance(told["replay"], str):  # what is no path is refused below
        told["replay"] = str(Path(told["replay"]).absolute())
    sources = check_sources("data", data)
    training, shape = training_settings(told), checked_shape(told)
    switches = {"residual": not told["no_residual"], "attention": not told["no_attention"], "norm": told["norm"]}
    with processes(training.device) as here:
        if here.first:
            run_folder.clear_unfinished(out)
            writable_folder(out, in_place=True)
        here.wait()
        some = ModelConfig(**shape, **switches, vocab_size=2, start_id=0)  # its own vocabulary is not known yet
        memory.refuse_too_large(some, training, here.device, here.size)
        with memory.said(here.device), _new_run(out, report) if here.first else contextlib.nullcontext():
            with _ending_cleanly():
                if here.first:
                    _pack(sources, out, settings, report)
                here.wait()
                corpus = open_packed(sources[0] if _packed(sources) else out / "corpus")
                told |= corpus_settings(corpus)
                config = ModelConfig(
                    **shape,
                    **switches,
                    vocab_size=corpus.vocab_size,
                    start_id=corpus.start_id,
                    end_ids=(corpus.start_id,),
                )
                trainer = Trainer(out, config, training, corpus, here, report, watch)
                trainer.plan()
                if here.first:
                    keep_settings(out, told | dict(also or {}) | {"steps": trainer.training.steps}, sources)
                trainer.save()  # step 0: the untrained model, and something to go on from
            _go(trainer, show)
    return out


def resume(
    run: str | Path,
    data: str | Path | None = None,
    *,
    max_minutes: float | None = None,
    report: Report = quiet,
    watch: Watch | None = None,
    show: Show = contextlib.nullcontext,
) -> None:
    """Go on with a run from its last checkpoint, to the same bits as if it had never stopped.

    data: its packed corpus, where it is no longer where it was. max_minutes: from now on, in place of the run's own;
    without it a run of a given number of steps goes to the last of them, one of a given time until that is over.
    The rest as for `train`. Raises LoadError, and UsageError for another corpus.
    """
    require_torch()
    if max_minutes is not None:
        max_minutes = check_range("max_minutes", max_minutes, POSITIVE)
    from manako.training import memory
    from manako.training.loop import Trainer
    from manako.training.processes import processes
    from manako.training.state import keep_lines

    run = Path(run)
    settings = settings_of(run)
    training = training_settings(settings)
    with processes(training.device) as here, _held(run, report) if here.first else contextlib.nullcontext():
        if here.first:
            run_folder.sweep(run)
        here.wait()
        folder = run_folder.pointed(run, run_folder.LAST)
        checkpoint = read_checkpoint(folder)
        config = only_gpt2(checkpoint.config)
        corpus = open_whole(data or recorded_corpus(run))
        with memory.said(here.device):
            trainer = Trainer(run, config, training, corpus, here, report, watch)
            trainer.restore(checkpoint, folder)
            trainer.extend(max_minutes)
            if here.first:
                run_folder.rewind(run, trainer.progress.step, trainer.progress.best_step)
                keep_lines(run / run_folder.METRICS, trainer.progress.step)
            trainer.report("train.resumed", **trainer.status())
            _go(trainer, show)


def require_torch() -> None:
    """Raise MissingExtraError where PyTorch is not installed.

    Its threads are told to sleep while they wait for each other, unless somebody said otherwise: threads that spin
    take the core from the one they wait for, and a machine with other work to do trains many times slower.
    """
    if find_spec("torch") is None:
        raise MissingExtraError("missing_torch")
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read as PyTorch is imported, not later


def settings_of(run: Path) -> dict[str, Any]:
    """What the config.toml of a run says. Raises LoadError where there is no run."""
    if not run_folder.is_run(run):
        raise LoadError("run_none", folder=run)
    return read_toml(run / run_folder.CONFIG)


def keep_settings(run: Path, settings: Mapping[str, Any], data: Iterable[str]) -> None:
    """config.toml of a run: every setting as it was used."""
    sources = [str(Path(d).absolute()) if d != "-" else d for d in data]
    write_file(run / run_folder.CONFIG, to_toml({"data": sources} | dict(settings)))


def _go(trainer: "Trainer", show: Show) -> None:
    """Go to the end, say where the run is and how it can be opened or resumed, and answer what asked it to stop.

    Not before all that was shown is away: by most signals the process ends there and then.
    """
    try:
        with show(trainer):
            ended = trainer.go()
    except KeyboardInterrupt:  # the second: it waited for no step
        trainer.report("train.interrupted", folder=trainer.run)
        raise
    if ended.why == "time":
        trainer.report("train.time_over", step=trainer.progress.step, steps=trainer.planned, run=trainer.run)
    else:
        trainer.report("train.done" if ended.why == "done" else "train.interrupted", folder=trainer.run)
    if ended.signal == signal.SIGINT:
        raise KeyboardInterrupt
    if ended.signal is not None:
        signal.raise_signal(ended.signal)


@contextlib.contextmanager
def _ending_cleanly() -> Iterator[None]:
    """SIGTERM and SIGHUP before there is a checkpoint end as Ctrl-C does: what was begun is removed."""

    def end(number: int) -> None:
        raise SystemExit(128 + number)

    with answered([number for number in ASKING if number != signal.SIGINT], end):
        yield


@contextlib.contextmanager
def _held(run: Path, report: Report) -> Iterator[None]:
    """A run for this trainer alone; where nothing can be locked, that is said."""
    with run_folder.locked(run) as unlocked:
        if unlocked:
            report("train.unlocked", folder=run, reason=unlocked)
        yield


@contextlib.contextmanager
def _new_run(out: Path, report: Report) -> Iterator[None]:
    """A run folder, locked; gone again when it comes to no checkpoint."""
    out.mkdir(parents=True, exist_ok=True)
    with _held(out, report):  # outside of the rest: a folder that another trainer has, or had, is not ours to remove
        run_folder.refuse_filled(out)
        try:
            yield
        finally:
            if not run_folder.is_run(out):
                shutil.rmtree(out, ignore_errors=True)


def _pack(sources: list[str], out: Path, settings: Mapping[str, Any], report: Report) -> None:
    """Text becomes a packed corpus inside the run, so that nothing outside can change it later.

    settings: those that were given. Raises UsageError for one that a corpus packed before was not made with.
    """
    asked = {f.name: settings[f.name] for f in fields(CorpusSettings) if f.name in settings}
    if not _packed(sources):
        build(sources, out / "corpus", report=report, **asked)
        return
    if len(sources) > 1:
        raise UsageError("train_one_packed", folder=sources[0])
    corpus = open_whole(sources[0])
    made, said = corpus_settings(corpus), corpus.header.settings
    for name, value in vars(CorpusSettings(**asked)).items():
        if name in asked and value != made[name]:
            was = made[name] if name in said or name not in VOCABULARY_SETTINGS else f"tokenizer {made['tokenizer']}"
            raise UsageError("train_packed_setting", name=name, now=value, was=was, folder=sources[0])


def _packed(sources: Sequence[str]) -> bool:
    """Whether they are a corpus packed before, and not text."""
    return any(is_packed(Path(source)) for source in sources[:1])


def corpus_settings(corpus: PackedCorpus) -> dict[str, Any]:
    """What a corpus says of how it was made, under the names of CorpusSettings; the defaults where it says nothing."""
    said = dict(corpus.header.settings)
    said["validation"] = said.pop("validation_share", CorpusSettings.validation)
    known = vars(CorpusSettings()) | {name: said[name] for name in said.keys() & CorpusSettings.__dataclass_fields__}
    return known | {"authors": tuple(known["authors"])}


def checked_shape(told: Mapping[str, Any]) -> dict[str, int]:
    """The shape as the user gave it, checked with the ablation switches before any text is read."""
    for name in ("no_residual", "no_attention"):
        check_range(name, told[name], FLAG)
    if told["norm"] not in ("pre", "post"):
        raise UsageError("cli_choice", name="norm", choices="pre, post")
    shape: dict[str, int] = {name: check_range(name, told[name], RULES[name]) for name in SHAPE}
    if shape["n_embd"] % shape["n_head"]:
        raise UsageError("train_heads", n_embd=shape["n_embd"], n_head=shape["n_head"])
    return shape
