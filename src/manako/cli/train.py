"""`manako train`: a small GPT from your own text, in a folder from which it can always go on."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from manako.cli.console import say
from manako.cli.corpora import corpus_options
from manako.cli.options import Number, screen_options
from manako.cli.training import Watched, probe_option
from manako.errors import UsageError, near
from manako.tokenizer import utf8
from manako.training.config import CHOICES, PRESETS, SHAPE, TrainingConfig, read_toml
from manako.training.run import train


def _config(ctx: click.Context, _: click.Parameter, path: Path | None) -> None:
    if path is None:
        return
    settings = read_toml(path)
    known = [p.name for p in ctx.command.params if p.name and p.name not in ("config", "out")]
    for name in settings:
        if name not in known:
            raise UsageError("config_key", file=path, name=name, near=near(name, known))
    ctx.default_map = dict(ctx.default_map or {}) | settings


class NumberOrNone(Number):
    """A number, or the word for 0: nobody should have to ask what no snapshots are called."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | int:
        return 0 if value == "none" else super().convert(value, param, ctx)


def setting_options(command: Any) -> Any:
    """A flag for each field of SHAPE and TrainingConfig; what it says and its default come from there."""
    defaults: dict[str, Any] = SHAPE | {f.name: f.default for f in fields(TrainingConfig)}
    for name, default in reversed(defaults.items()):
        whole = isinstance(default, int) or name in ("steps", "micro_batch", "keep")
        number: dict[str, Any] = {"type": Number(whole, "train_number"), "metavar": "N"}
        kind = {"type": click.Choice(CHOICES[name])} if name in CHOICES else number
        kind = {"metavar": "RUN"} if name == "replay" else kind
        kind = {"type": NumberOrNone(True, "train_number"), "metavar": "N|none"} if name == "snapshots" else kind
        shown: dict[str, Any] = {} if default is None else {"default": default, "show_default": True}
        flag, text = f"--{name.replace('_', '-')}", say(f"option.{name if name != 'seed' else 'seed_train'}")
        command = click.option(flag, name, help=text, **kind, **shown)(command)
    return command


@click.command("train", help=say("help.train"))
@click.option("--data", required=True, multiple=True, metavar="SOURCE", help=say("option.train_data"))
@click.option(
    "-o", "--out", required=True, type=click.Path(path_type=Path), metavar="FOLDER", help=say("option.train_out")
)
@click.option("--preset", type=click.Choice(list(PRESETS)), help=say("option.preset"))
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
@probe_option
@click.option("--traces", is_flag=True, help=say("option.traces"))
@corpus_options
@screen_options
def command(
    data: tuple[str, ...],
    out: Path,
    preset: str | None,
    sample: str,
    probe: tuple[str, ...],
    traces: bool,
    plain: bool,
    color: str,
    **settings: Any,
) -> None:
    utf8(sample)  # it will be a prompt, in some minutes
    seen = Watched(out, sample, traces, probe, plain=plain, color=color)
    also = {"sample": sample, "probe": list(probe), "traces": traces}
    source = click.get_current_context().get_parameter_source
    settings = {name: value for name, value in settings.items() if source(name) != ParameterSource.DEFAULT}
    train(data, out, preset=preset, report=seen.report, watch=seen.watch, show=seen.show, also=also, **settings)
