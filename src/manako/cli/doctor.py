"""`manako doctor`: what is installed and what works, for a bug report: short paths, no names, no secrets.

Special here: nothing is opened, downloaded or computed but the demo's folder. torch is imported only where it is there.
"""

import importlib
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from manako import __version__
from manako.cli.console import chosen_language, say
from manako.cli.options import json_option, screen_options
from manako.cli.output import Screen, print_json
from manako.errors import first_line
from manako.families import blas
from manako.files import expanded, is_dir
from manako.views.terminal.glyphs import pad, prose
from manako.views.terminal.steps import Look

EXTRAS = {  # extra -> the packages whose import it is there for
    "train": ("torch",),
    "hf": ("torch", "transformers"),
    "gguf": ("gguf",),
    "parquet": ("pyarrow",),
    "tui": ("textual",),
}
_CORE = ("numpy", "safetensors", "tokenizers", "rich", "click", "starlette", "uvicorn")
_SET = (  # variables that change what manako does; only these are told, and no value of another
    "LANG LC_ALL LC_CTYPE LC_MESSAGES TERM COLORTERM COLUMNS NO_COLOR FORCE_COLOR MANAKO_AMBIGUOUS_WIDTH "
    "OPENBLAS_NUM_THREADS OMP_NUM_THREADS OMP_WAIT_POLICY MKL_NUM_THREADS CUDA_VISIBLE_DEVICES HF_HUB_OFFLINE"
).split()
_FOLDERS = {"HF_HOME": "~/.cache/huggingface"}


@click.command("doctor", help=say("help.doctor"))
@json_option
@screen_options
def command(as_json: bool, plain: bool, color: str) -> None:
    screen = Screen(Look.top, plain, color)
    facts = _facts(screen.look)
    if as_json:
        print_json({"schema": "manako.doctor/1"} | facts)
        return
    flat = dict(_flat(facts))
    width = max(map(len, flat)) + 2
    screen.lines(Text(pad(name, width) + prose(said, screen.look.glyphs)) for name, said in flat.items())
    screen.lines([Text(""), Text(say("doctor.share"), style="dim")])


def _facts(look: Look) -> dict[str, Any]:
    """Name -> what there is to say, in plain values; names are English in any language, as in a bug report."""
    return {
        "manako": __version__,
        "python": f"{platform.python_version()} {platform.python_implementation()}",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processors": os.cpu_count(),
        "packages": {name: _version(name) for name in _CORE},
        "extras": {extra: _extra(packages) for extra, packages in EXTRAS.items()},
        "blas": {"library": blas.library(), "threads": blas.threads()},
        "torch": _torch(),
        "terminal": _terminal(look),
        "variables": {name: os.environ[name] for name in _SET if name in os.environ},
        "folders": {
            "package": short(Path(__file__).parents[1]),
            "runs": "there" if is_dir(Path("runs")) else None,
            **{name: short(expanded(os.environ.get(name, usual))) for name, usual in _FOLDERS.items()},
        },
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _extra(packages: tuple[str, ...]) -> str:
    """Whether an extra's packages can be imported, with their versions or what is wrong."""
    for name in packages:
        try:
            importlib.import_module(name)
        except ImportError as error:
            return "not installed" if _version(name) is None else f"{name} {_version(name)}: {first_line(error)}"
        except Exception as error:  # a broken library may raise anything
            return f"{name}: {first_line(error)}"
    return ", ".join(f"{name} {_version(name)}" for name in packages)


def _torch() -> dict[str, Any] | None:
    """What the trainer would run on; None where torch is not there."""
    torch: Any = sys.modules.get("torch")  # imported above, if it can be
    if torch is None:
        return None
    cuda = torch.cuda.is_available()
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if cuda else []
    return {"device": "cuda" if cuda else "cpu", "gpus": devices, "threads": torch.get_num_threads()}


def _terminal(look: Look) -> dict[str, Any]:
    glyphs = look.glyphs
    return {
        "language": chosen_language(),
        "encoding": sys.stdout.encoding,
        "columns": look.columns,
        "is_terminal": sys.stdout.isatty(),
        "colours": look.color,
        "glyphs": f"{glyphs.full}{glyphs.half} {glyphs.shades.strip()} {glyphs.mark} {glyphs.newline}",
    }


def short(path: Path) -> str:
    """A path without the name of whoever it belongs to."""
    try:
        return str(Path("~") / path.relative_to(Path.home()))
    except (ValueError, RuntimeError):  # not below it, or there is none
        return str(path)


def _flat(facts: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """A line for each fact, those inside another one with its name in front."""
    for name, value in facts.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name} ")
        else:
            yield before + name, _said(value)


def _said(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_said, value)) or "-"
    return "-" if value is None else "yes" if value is True else "no" if value is False else str(value)
