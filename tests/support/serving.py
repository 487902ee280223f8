"""A real server in a thread of this process, and clients that say exactly what a test wants said."""

import asyncio
import http.client
import json
import logging
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
from golden import LOGITS, MODEL, PROMPT_IDS, FakeSession, golden_header, golden_vocabulary
from toy import toy_tokenizer

from manako.cli.serve import listen
from manako.engines.generation import Generation
from manako.server.generations import Run, Runs
from manako.server.http import Guard, Server, Site

TOKEN = "right-token"


@contextmanager
def logged() -> Iterator[list[str]]:
    """What is logged meanwhile."""
    texts: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: texts.append(handler.format(record))  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    try:
        yield texts
    finally:
        logging.getLogger().removeHandler(handler)


@dataclass
class Serving:
    """A server that runs."""

    runs: Runs
    port: int
    server: Server

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def tasks(self) -> int:
        """Requests in work, and generations."""
        return len(self.server.server_state.tasks) + len(self.runs.live)

    def open(self, method: str, path: str, body: Any = None, **headers: str) -> http.client.HTTPResponse:
        """An answer whose head has come; its body is read by who gets it. body: bytes as they are, or JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        given = {"X-Manako-Token": TOKEN} | ({} if body is None else {"Content-Type": "application/json"})
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, data, given)
        response = connection.getresponse()
        response.connection = connection  # type: ignore[attr-defined]  closed by `close`
        return response

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
        """(status, body) of a whole answer."""
        response = self.open(method, path, body, **headers)
        try:
            return response.status, response.read()
        finally:
            close(response)

    def generate(self, prompt: str = "あ", **settings: Any) -> http.client.HTTPResponse:
        """A generation whose answer has begun."""
        return self.open("POST", "/api/generate", {"prompt": prompt, "settings": settings})

    def only_run(self) -> Run:
        """The one generation there is."""
        (run,) = self.runs.live.values()
        return run


@contextmanager
def serving(model: Any = None, lang: str = "en", shared: bool = False) -> Iterator[Serving]:
    """A server on any free port for as long as the block lasts.

    model: one that is loaded, or only what it generates with; without one it is still loading.
    """
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        runs = runs_with(model)
        server = Server(Guard(Site(runs, lang, shared=shared), "127.0.0.1", port, TOKEN), runs)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            until(lambda: server.started)
            yield Serving(runs, port, server)
        finally:
            server.should_exit = True
            thread.join(30)
            runs._threads.shutdown(cancel_futures=True)
            runs._starting.shutdown()
            assert not thread.is_alive()


class Loaded(SimpleNamespace):
    """What the server asks of a model; each is one of its own, as models are."""

    __hash__ = object.__hash__


def runs_with(model: Any) -> Runs:
    """No runs yet, of a model as for `serving`."""
    runs = Runs("golden" if callable(model) else getattr(model, "ref", "slow"))
    if callable(model):
        known: dict[str, Any] = {"ref": "golden", "info": MODEL, "config": SimpleNamespace(vocab_size=12)}
        model = Loaded(generate=model, tokenizer=toy_tokenizer(), captures=(), in_page=False, **known)
    if model is not None:
        runs.model.set_result(model)
    return runs


class Gated(FakeSession):
    """The golden rows, each of which has to be let through."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Semaphore(0)
        self.made = 0

    def next_logits(self, ids: Sequence[int], keep: object = None) -> tuple[npt.NDArray[np.float32], int]:
        assert self.gate.acquire(timeout=60)
        self.made += 1
        return super().next_logits(ids)

    def generate(self, prompt: str, **settings: Any) -> Generation:
        """As `Model.generate`: golden rows for as long as it takes, whatever the prompt."""
        return endless(self, **settings)


def endless(session: FakeSession, max_new_tokens: int = 15, seed: int | None = None, **_: Any) -> Generation:
    """A run over the golden tokens that no token ends."""
    header = golden_header(
        max_new_tokens=max_new_tokens, seed=7 if seed is None else seed, end="interrupted", self_checks=()
    )
    return Generation(session, header, PROMPT_IDS, golden_vocabulary(), ())


def free(prompt: str, **settings: Any) -> Generation:
    """As `Model.generate`: golden rows at full speed."""
    return endless(FakeSession(LOGITS), **settings)


def events(text: bytes) -> list[tuple[int, str, Any]]:
    """(id, name, data) of each event; comments left out."""
    found = []
    for block in text.decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line and line[0] != ":")
        if fields:
            found.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
    return found


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until something holds that another thread brings about; fail when it does not."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def close(response: http.client.HTTPResponse, reset: bool = False) -> None:
    """End a connection: by FIN, or by RST."""
    connection = response.connection  # type: ignore[attr-defined]
    if reset and connection.sock:
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    response.close()


def raw(port: int, data: bytes) -> bytes:
    """All that comes back for some bytes until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        got = b""
        try:
            client.sendall(data)
            while part := client.recv(65536):
                got += part
        except (ConnectionResetError, BrokenPipeError):  # it closed before it had read all
            pass
        return got


@dataclass
class Answer:
    """What an application answered."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


def asgi(app: Guard, method: str, path: str, headers: list[tuple[bytes, bytes]]) -> Answer:
    """One request straight to the application, with exactly these headers."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
    }
    asyncio.run(app(scope, receive, send))
    return Answer(sent[0]["status"], dict(sent[0]["headers"]), b"".join(m.get("body", b"") for m in sent[1:]))
