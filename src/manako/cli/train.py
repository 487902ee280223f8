"""`manako train`: a small GPT from your own text, in a folder from which it can always go on."""

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from manako.cli import common_options
from manako.cli.console import note, say
from manako.cli.corpus import CorpusOptions, corpus_options
from manako.cli.options import Number
from manako.corpus.packed import PackedCorpus, is_packed, open_packed
from manako.errors import MissingExtraError, UsageError, near
from manako.families.gpt2 import ModelConfig
from manako.files import writable_folder, write_file
from manako.formats import run_folder
from manako.messages.numbers import fixed
from manako.model import load

SHAPE = {"n_layer": 4, "n_head": 4, "n_embd": 192, "block_size": 256}
PRESETS: dict[str, dict[str, Any]] = {  # for a machine and a patience; flags and --config go before them
    "laptop-5min": {
        "n_layer": 4,
        "n_head": 4,
        "n_embd": 128,
        "block_size": 128,
        "max_minutes": 5,
        "eval_interval": 100,
    },
    "laptop-1h": {"n_layer": 4, "n_head": 4, "n_embd": 256, "block_size": 256, "max_minutes": 60, "eval_interval": 500},
    "gpu-30min": {
        "n_layer": 8,
        "n_head": 8,
        "n_embd": 512,
        "block_size": 512,
        "batch_size": 64,
        "max_minutes": 30,
        "eval_interval": 500,
    },
}
_NOT_SETTINGS = ("out", "config", "preset", "data")
_SAMPLE_TOKENS = 40


def _preset(ctx: click.Context, _: click.Parameter, name: str | None) -> None:
    ctx.default_map = PRESETS.get(name or "", {}) | dict(ctx.default_map or {})


def _config(ctx: click.Context, _: click.Parameter, path: Path | None) -> None:
    if path is None:
        return
    from manako.training.config import read_toml

    settings = read_toml(path)
    known = [p.name for p in ctx.command.params if p.name and p.name not in ("config", "out")]
    for name in settings:
        if name not in known:
            raise UsageError("config_key", file=path, name=name, near=near(name, known))
    ctx.default_map = dict(ctx.default_map or {}) | settings


def setting_options(command: Any) -> Any:
    """A flag for each field of SHAPE and TrainingConfig; what it says and its default come from there."""
    from manako.training.config import CHOICES, TrainingConfig

    defaults: dict[str, Any] = SHAPE | {f.name: f.default for f in fields(TrainingConfig)}
    for name, default in reversed(defaults.items()):
        whole = isinstance(default, int) or name in ("steps", "micro_batch", "keep")
        kind = click.Choice(CHOICES[name]) if name in CHOICES else Number(whole, "train_number")
        shown: dict[str, Any] = {} if default is None else {"default": default, "show_default": True}
        flag, text = f"--{name.replace('_', '-')}", say(f"option.{name if name != 'seed' else 'seed_train'}")
        command = click.option(flag, name, type=kind, help=text, metavar=None if name in CHOICES else "N", **shown)(
            command
        )
    return command


@click.command("train", help=say("help.train"))
@click.option("--data", required=True, multiple=True, metavar="SOURCE", help=say("option.train_data"))
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="FOLDER", help=say("option.train_out"))
@click.option(
    "--preset",
    type=click.Choice(list(PRESETS)),
    is_eager=True,
    expose_value=False,
    callback=_preset,
    help=say("option.preset"),
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    is_eager=True,
    expose_value=False,
    callback=_config,
    metavar="FILE",
    help=say("option.config"),
)
@click.option("--no-residual", is_flag=True, help=say("option.no_residual"))
@click.option("--norm", type=click.Choice(["pre", "post"]), default="pre", show_default=True, help=say("option.norm"))
@click.option("--no-attention", is_flag=True, help=say("option.no_attention"))
@setting_options
@click.option("--sample", default="", metavar="TEXT", help=say("option.sample"))
@click.option("--traces", is_flag=True, help=say("option.traces"))
@corpus_options
@common_options
@click.pass_context
def command(
    ctx: click.Context,
    data: Sequence[str],
    out: Path,
    corpus_options: CorpusOptions,
    sample: str,
    traces: bool,
    **given: Any,
) -> None:
    require_torch()
    from manako.training.config import training_settings
    from manako.training.loop import Trainer
    from manako.training.processes import processes

    training = training_settings(given)
    switches = {"residual": not given["no_residual"], "attention": not given["no_attention"], "norm": given["norm"]}
    shape = {name: given[name] for name in SHAPE}
    _check_shape(shape)
    with processes(training.device) as here:
        if here.first:
            writable_folder(out)
        here.wait()
        with new_run(out) if here.first else contextlib.nullcontext():
            if here.first:
                _pack(data, out, corpus_options)
            here.wait()
            corpus = open_packed(Path(data[0])) if is_packed(Path(data[0])) else open_packed(out / "corpus")
            config = ModelConfig(**shape, **switches, vocab_size=corpus.vocab_size, start_id=corpus.start_id)
            trainer = Trainer(out, config, training, corpus, here, note, watcher(out, sample, traces))
            trainer.plan()
            if here.first:
                settings = {k: v for k, v in ctx.params.items() if k not in (*_NOT_SETTINGS, "corpus_options")}
                keep_settings(out, settings | {"steps": trainer.training.steps}, data)
            trainer.save()  # step 0: the untrained model, and something to go on from
            train(trainer)


def require_torch() -> None:
    """Raise MissingExtraError where PyTorch is not installed."""
    if find_spec("torch") is None:
        raise MissingExtraError("missing_torch")


@contextlib.contextmanager
def new_run(out: Path) -> Iterator[None]:
    """A run folder, locked; gone again when it comes to no checkpoint."""
    out.mkdir(parents=True, exist_ok=True)
    try:
        with run_folder.locked(out):
            yield
    finally:
        if not run_folder.is_run(out):
            shutil.rmtree(out, ignore_errors=True)


def train(trainer: Any) -> None:
    """Go to the end, and say where the run is and how it can be opened or resumed."""
    try:
        with status_line(trainer):
            trainer.go()
    except KeyboardInterrupt:
        trainer.report("train.interrupted", folder=trainer.run)
        raise
    if trainer.progress.step >= trainer.training.steps:
        trainer.report("train.done", folder=trainer.run)


@contextlib.contextmanager
def status_line(trainer: Any) -> Iterator[None]:
    """One line below the others, rewritten after each step, where stderr is a terminal."""
    if not (trainer.here.first and sys.stderr.isatty()) or os.environ.get("TERM") == "dumb":
        yield
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    def tick(loss: float) -> None:
        p, steps = trainer.progress, trainer.training.steps
        left = p.seconds / p.step * (steps - p.step) / 60
        line = say("train.status", step=p.step, steps=steps, loss=fixed(loss, 3), left=fixed(left, 1))
        live.update(Text(line, style="dim"))

    with Live(console=Console(stderr=True), transient=True, refresh_per_second=4) as live:
        trainer.tick = tick
        yield


def watcher(run: Path, prompt: str, keep: bool) -> Callable[[Path, int], None]:
    """What to do with each evaluated checkpoint: let it write a little, always with the same random numbers."""

    def watch(folder: Path, step: int) -> None:
        trace = load(folder).trace(prompt, max_new_tokens=_SAMPLE_TOKENS, seed=0)
        note("train.sample", text=trace.text)
        if keep:
            (run / "traces").mkdir(exist_ok=True)
            path = run / "traces" / f"step-{step:06d}.manako"
            path.unlink(missing_ok=True)
            trace.save(path)

    return watch


def keep_settings(run: Path, settings: dict[str, Any], data: Sequence[str]) -> None:
    """config.toml of a run: every setting as it was used."""
    from manako.training.config import to_toml

    sources = [str(Path(d).absolute()) if d != "-" else d for d in data]
    write_file(run / "config.toml", to_toml({"data": sources} | settings))


def _pack(data: Sequence[str], out: Path, options: CorpusOptions) -> PackedCorpus | None:
    """Text becomes a packed corpus inside the run, so that nothing outside can change it later."""
    if is_packed(Path(data[0])):
        if len(data) > 1:
            raise UsageError("train_one_packed", folder=data[0])
        corpus = open_packed(Path(data[0]))
        corpus.verify()
        return corpus
    return options.build(data, out / "corpus", note)


def _check_shape(shape: dict[str, Any]) -> None:
    """The shape as the user typed it, checked before any text is read."""
    for name in SHAPE:
        if shape[name] < 1:
            raise UsageError("training_range", name=name, got=shape[name], least=1)
    if shape["n_embd"] % shape["n_head"]:
        raise UsageError("train_heads", n_embd=shape["n_embd"], n_head=shape["n_head"])
