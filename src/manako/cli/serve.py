"""`manako serve`: the page, live."""

import contextlib
import errno
import ipaddress
import os
import secrets
import socket
import sys
import tempfile
import time
import webbrowser
from collections.abc import Iterator
from concurrent.futures import Future, InvalidStateError, wait
from functools import partial
from pathlib import Path

import click

from manako.cli import common_options
from manako.cli.aside import aside
from manako.cli.console import chosen_language, interrupted, note, say, tell
from manako.cli.options import Number, model_option
from manako.cli.training import progress_line
from manako.errors import ManakoError, UsageError
from manako.experiments.dynamics import Following
from manako.files import is_dir
from manako.model import Model, load
from manako.refs import example, for_language, installed
from manako.server.generations import LONGEST_TITLE, Runs
from manako.server.http import ANY_ADDRESS, Guard, Learning, Server, Site
from manako.settings import RunSettings
from manako.trace.dynamics import dynamics_bytes, dynamics_of, is_dynamics
from manako.trace.file import read_bytes, read_parts, to_bytes
from manako.trace.tree import Tree, open_tree
from manako.training.run import settings_of

PORT, PORTS_TRIED = 8765, 20
LOOK_AGAIN = 2.0  # seconds between two looks at a run that may still be going
QUICK_SECONDS = 1.0  # for the model before the address is told: what is wrong with its name shows within it
SEND_BUFFER_BYTES = 65_536  # in the kernel, for each client: more would hide for long that one takes nothing


@click.command("serve", help=say("help.serve"))
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="[FILE]...")
@model_option()
@click.option("--port", type=Number(True, "port"), metavar="N", help=say("option.port", default=PORT))
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help=say("option.host"))
@click.option("--shared", is_flag=True, help=say("option.shared"))
@click.option("--no-browser", is_flag=True, help=say("option.no_browser"))
@common_options
def command(
    files: tuple[Path, ...], ref: str | None, port: int | None, host: str, shared: bool, no_browser: bool
) -> int:
    if port is not None and not 0 <= port <= 65535:
        raise UsageError("port", got=port)
    default = for_language(chosen_language())
    learning, following = _training(files)
    files = () if learning else files
    trees = [open_tree(file) for file in files or (example(default),)]  # whole and true, or an error now
    names = [os.fsencode(file.name).decode("utf-8", "replace") for file in files] or [""]
    with listen(host, port) as listener:
        runs = Runs(ref or default)
        beside = [] if ref else [name for name in installed() if name != default]
        aside(partial(_load, runs, beside))
        for name, tree in zip(names, trees, strict=True):
            _add(runs, name, tree)
        address, used = listener.getsockname()[:2]
        token = secrets.token_urlsafe(32)
        named = address if address in ANY_ADDRESS else host  # "0" is one of the ways to write 0.0.0.0
        server = Server(Guard(Site(runs, chosen_language(), learning, shared), named, used, token), runs)
        if wait([runs.model], QUICK_SECONDS).done:
            runs.model.result()  # or why there is none
        runs.model.add_done_callback(partial(_loaded, server))
        if learning and following:
            aside(partial(_follow, learning, following))
        url = f"http://{_in_url(address)}:{used}/#token={token}"
        if port is None and used != PORT:
            note("notice.port_taken", port=PORT, used=used)
        if not ipaddress.ip_address(address).is_loopback:
            note("notice.exposed", host=host)
        tell(say("notice.serve", url=url))
        note("notice.serve_stop")
        with contextlib.nullcontext() if no_browser else browser(url):
            try:
                server.run(sockets=[listener])
            except KeyboardInterrupt:
                return interrupted()
    if not runs.model.cancelled():
        runs.model.result()  # what ended the server may be that there is none
    return 0


def _training(files: tuple[Path, ...]) -> tuple[Learning | None, Following | None]:
    """The training that is meant: the file of a record, or a run, which is looked at now and may go on.

    Raises LoadError, UsageError where something else is named beside it.
    """
    for file in files:
        is_run = is_dir(file)
        if not is_run and not is_dynamics(read_parts(read_bytes(file), str(file))):
            continue
        if len(files) > 1:
            raise UsageError("serve_training_alone", file=file)
        if not is_run:
            data = read_bytes(file)
            dynamics_of(read_parts(data, str(file)), str(file))  # or it cannot be shown
            return Learning(data), None
        sample = settings_of(file).get("sample")
        with progress_line("dynamics.progress") as report:
            following = Following(file, sample or None, None, RunSettings(max_new_tokens=20, seed=0), report)
            found = following.update()
        assert found is not None  # a run has a checkpoint
        return Learning(dynamics_bytes(found)), following
    return None, None


def _follow(learning: Learning, following: Following) -> None:
    """Renew what the page asks for whenever there is a new snapshot, for as long as the server runs."""
    while True:
        time.sleep(LOOK_AGAIN)
        with contextlib.suppress(ManakoError):  # a run that is removed meanwhile: what there is stays
            if found := following.update():
                learning.data = dynamics_bytes(found)


def _load(runs: Runs, beside: list[str]) -> None:
    """Load the model; when nobody wants it any more it goes nowhere.

    beside: other embedded models, for texts that they read.
    """
    with contextlib.suppress(InvalidStateError):
        try:
            model, runs.beside = load(runs.ref), tuple(map(load, beside))
        except BaseException as error:
            runs.model.set_exception(error)
        else:
            runs.model.set_result(model)


def _loaded(server: Server, model: Future[Model]) -> None:
    """Tell what there is to know of a model; without one the server ends."""
    if model.cancelled():
        return
    if model.exception():
        server.should_exit = True
        return
    for key, values in model.result().notices:
        note(key, **values)


def _add(runs: Runs, name: str, tree: Tree) -> None:
    """Add the branches of a file, parents first. name: the title of the one branch; each of several has its own."""
    keys: dict[str | None, str | None] = {None: None}
    for branch in tree.branches:
        title = name if name and len(tree.branches) == 1 else branch.trace.text[:LONGEST_TITLE]
        keys[branch.id] = runs.add(title, to_bytes(branch.trace), keys[branch.parent], branch.keep)
    runs.current = runs.current or keys[tree.current]  # of the first file


def listen(host: str, port: int | None) -> socket.socket:
    """A listening socket. port: None takes the first free one from PORT on, 0 any. Raises ManakoError."""
    tried = range(PORT, PORT + PORTS_TRIED) if port is None else (port,)
    for number in tried:
        try:
            family, _, _, _, address = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)[0]
            listener = socket.socket(family)
        except (OSError, UnicodeError) as error:
            raise _refused(host, number, error) from None
        try:
            if os.name == "posix":  # elsewhere it would let two programs share a port
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)  # its clients inherit it
            listener.bind(address)
            listener.listen()
            return listener
        except OSError as error:
            listener.close()
            if error.errno != errno.EADDRINUSE:
                raise _refused(host, number, error) from None
    if port is None:
        raise ManakoError("ports_taken", host=host, first=tried[0], last=tried[-1])
    raise ManakoError("port_taken", host=host, port=port)


def _refused(host: str, port: int, error: OSError | UnicodeError) -> ManakoError:
    return ManakoError("port_refused", host=host, port=port, reason=getattr(error, "strerror", None) or error)


def _in_url(address: str) -> str:
    """The address to open: of all addresses, the one of this machine."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)
    return f"[{shown}]" if ":" in shown else shown


@contextlib.contextmanager
def browser(url: str) -> Iterator[None]:
    """Open the browser, where there is one, through a file that only this user can read.

    The list of processes shows what a browser was started with; the token must not stand there.
    """
    has_screen = sys.platform != "linux" or any(os.environ.get(n) for n in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))
    if not has_screen:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="manako-", ignore_cleanup_errors=True) as folder:
        page = Path(folder) / "open.html"
        page.write_text(f'<!doctype html><meta http-equiv="refresh" content="0;url={url}">', encoding="utf-8")
        page.chmod(0o600)
        aside(partial(webbrowser.open, page.as_uri()))
        yield
