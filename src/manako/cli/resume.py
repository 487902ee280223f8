"""`manako resume`: a run goes on from its last checkpoint."""

import contextlib
from dataclasses import replace
from pathlib import Path

import click

from manako.cli import common_options
from manako.cli.console import note, say
from manako.cli.options import Number
from manako.cli.train import require_torch, train, watcher
from manako.corpus.packed import open_packed
from manako.errors import LoadError
from manako.families.gpt2 import only_gpt2
from manako.formats import run_folder
from manako.formats.model_folder import read_checkpoint


@click.command("resume", help=say("help.resume"))
@click.argument("run", type=click.Path(path_type=Path), metavar="RUN")
@click.option("--data", type=click.Path(path_type=Path), metavar="DIR", help=say("option.resume_data"))
@click.option("--max-minutes", type=Number(False, "train_number"), metavar="N", help=say("option.resume_minutes"))
@common_options
def command(run: Path, data: Path | None, max_minutes: float | None) -> None:
    require_torch()
    from manako.training.config import read_toml, training_settings
    from manako.training.loop import Trainer, keep_lines
    from manako.training.processes import processes

    if not run_folder.is_run(run):
        raise LoadError("run_none", folder=run)
    settings = read_toml(run / "config.toml")
    training = training_settings(settings)
    with processes(training.device) as here, run_folder.locked(run) if here.first else contextlib.nullcontext():
        if here.first:
            run_folder.sweep(run)
        here.wait()
        folder = run_folder.pointed(run, run_folder.LAST)
        checkpoint = read_checkpoint(folder)
        config = only_gpt2(checkpoint.config)
        inside = run / "corpus"
        corpus = open_packed(data or (inside if inside.exists() else Path(settings["data"][0])))
        corpus.verify()
        keep = watcher(run, settings.get("sample", ""), settings.get("traces", False))
        trainer = Trainer(run, config, training, corpus, here, note, keep)
        trainer.restore(checkpoint, folder)
        minutes = None if max_minutes is None else max_minutes + trainer.progress.seconds / 60
        trainer.training = replace(trainer.training, max_minutes=minutes)
        if here.first:
            keep_lines(run / run_folder.METRICS, trainer.progress.step)
        trainer.report("train.resumed", step=trainer.progress.step, steps=trainer.training.steps)
        train(trainer)
