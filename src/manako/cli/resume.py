"""`manako resume`: a run goes on from its last checkpoint."""

from pathlib import Path

import click

from manako.cli.console import say
from manako.cli.options import Number, screen_options
from manako.cli.training import Watched
from manako.training.run import require_torch, resume, settings_of


@click.command("resume", help=say("help.resume"))
@click.argument("run", type=click.Path(path_type=Path), metavar="RUN")
@click.option("--data", type=click.Path(path_type=Path), metavar="DIR", help=say("option.resume_data"))
@click.option("--max-minutes", type=Number(False, "train_number"), metavar="N", help=say("option.resume_minutes"))
@screen_options
def command(run: Path, data: Path | None, max_minutes: float | None, plain: bool, color: str) -> None:
    require_torch()
    settings = settings_of(run)
    kept = settings.get("sample", ""), settings.get("traces", False), settings.get("probe", ())
    seen = Watched(run, *kept, plain=plain, color=color)
    resume(run, data, max_minutes=max_minutes, report=seen.report, watch=seen.watch, show=seen.show)
