"""The page over HTTP: a fixed set of files, the traces, and generations that are streamed while they run.

Special here: no request names a file; what can be fetched are tables made at the start. Any web page can send requests
to a server on this machine, so `Guard` lets nothing pass but the page's own: right Host (no rebinding), own Origin or
none, and a token in a header, which other pages cannot know. No CORS header and no cookie anywhere.
"""

import asyncio
import hashlib
import hmac
import ipaddress
import json
import signal
import socket
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any, TypeVar

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from manako import messages
from manako.errors import LoadError, ManakoError
from manako.files import strict_json
from manako.model import Model
from manako.refs import reads
from manako.server.assets import TRAINER, merges_file, model_file, page_files
from manako.server.generations import Run, Runs
from manako.server.openapi import SHAPE, document
from manako.server.requests import checked
from manako.views.html import trainer_policy

CONNECTIONS = 512  # open at the same time; one more is closed at once
URL_BYTES = 8_192
HEADER_BYTES = 16_384
BODY_BYTES = 1_000_000
PATIENCE_SECONDS = 30.0  # for the head of a request, for its body, and for a client that takes nothing of an answer
SHUTDOWN_SECONDS = 5

TOKEN_HEADER = b"x-manako-token"
READER_HEADER = "x-manako-reader"
CSP = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; style-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types manako"
)
FOR_EVER = "public, max-age=31536000, immutable"  # what a browser may keep: a name with a digest in it
HEADERS = [  # of every answer that has none of its own
    (b"content-security-policy", CSP.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
STATUS = {  # of errors that are the server's own; any other one is about what was asked: 422
    "serve_json": 400,
    "serve_host": 403,
    "serve_origin": 403,
    "serve_token": 403,
    "serve_unknown": 404,
    "serve_forgotten": 404,
    "serve_method": 405,
    "serve_slow": 408,
    "serve_body": 413,
    "serve_url": 414,
    "serve_type": 415,
    "serve_busy": 429,
    "serve_head": 431,
    "serve_unexpected": 500,
    "serve_no_model": 503,
}
LOCAL = ("127.0.0.1", "localhost", "[::1]")
ANY_ADDRESS = ("0.0.0.0", "::")
T = TypeVar("T")


@dataclass
class Learning:
    """A training to look at: the file of its record, which whoever follows it replaces, from any thread."""

    data: bytes


class Site:
    """What the server answers, route by route."""

    def __init__(self, runs: Runs, lang: str, learning: Learning | None = None, shared: bool = False) -> None:
        """learning: of a training, whose page is then shown in place of the page of traces.

        shared: one list of traces for all readers; else each has his own, beside what was there from the start.
        """
        self.files = page_files(lang, learning is not None)
        self._runs, self._lang, self._learning, self._shared = runs, lang, learning, shared
        routes = [
            Route("/", self.page),
            Route(TRAINER, self.trainer),
            Route("/assets/{name:path}", self.page),
            Route("/api/openapi.json", self.openapi),
            Route("/api/model", self.model),
            Route("/api/models/{id}", self.model_file),
            Route("/api/merges/{id}", self.merges),
            Route("/api/traces", self.traces),
            Route("/api/traces/{id}", self.trace),
            Route("/api/dynamics", self.dynamics),
            Route("/api/generate", self.generate, methods=["POST"]),
            Route("/api/runs/{id}", self.follow),
            Route("/api/stop", self.stop, methods=["POST"]),
        ]
        handled = (ManakoError, HTTPException, ClientDisconnect, Exception)
        self.app = Starlette(routes=routes, exception_handlers=dict.fromkeys(handled, self.failed))
        self.app.router.redirect_slashes = False

    async def page(self, request: Request) -> Response:
        found = self.files.get(request.url.path) or _unknown(request)
        headers = {"Vary": "Accept-Encoding"} | ({"Cache-Control": FOR_EVER} if found.lasting else {})
        if "gzip" not in request.headers.get("accept-encoding", ""):
            return Response(found.data, media_type=found.kind, headers=headers)
        return Response(found.small, media_type=found.kind, headers=headers | {"Content-Encoding": "gzip"})

    async def trainer(self, request: Request) -> Response:
        """One file with its scripts inside, and so with a policy of its own: what the file itself names, no more."""
        response = await self.page(request)
        response.headers["content-security-policy"] = f"{trainer_policy()}; frame-ancestors 'none'"
        return response

    async def openapi(self, request: Request) -> Response:
        return _json(document())

    async def model(self, request: Request) -> Response:
        known, model = {"ready": False, "ref": self._runs.ref}, self._runs.model
        if not model.done() or model.cancelled() or model.exception():
            return _json(known)
        loaded = model.result()
        return _json(
            {
                "ready": True,
                "ref": self._runs.ref,
                "shape": {name: loaded.info.config[name] for name in SHAPE},
                "vocab_size": loaded.config.vocab_size,
                **self._told(loaded),
                "beside": [
                    {"ref": other.ref, "reads": reads(other.ref), **self._told(other)} for other in self._runs.beside
                ],
            }
        )

    def _told(self, model: Model) -> dict[str, Any]:
        """What a page must know of a model. Who shares a list has the server generate, where that list is."""
        return {
            "captures": list(model.captures),
            "weights_sha256": model.info.weights_sha256,
            "tokenizer_sha256": model.info.tokenizer_sha256,
            "in_page": model.in_page and not self._shared,
        }

    async def model_file(self, request: Request) -> Response:
        """A model for the page to run by itself."""
        models, wanted = (await self._runs.loaded(), *self._runs.beside), request.path_params["id"]
        model = next((m for m in models if m.info.weights_sha256 == wanted and m.in_page), None) or _unknown(request)
        data = await asyncio.to_thread(model_file, model.ref)
        return Response(data, media_type="application/octet-stream")

    async def merges(self, request: Request) -> Response:
        """What the merge player of the page reads of a vocabulary; null where no model here has it, or it has none."""
        models = (await self._runs.loaded(), *self._runs.beside)
        model = next((m for m in models if m.info.tokenizer_sha256 == request.path_params["id"]), None)
        table = b"" if model is None else await asyncio.to_thread(merges_file, model)
        return Response(table or b"null", media_type="application/json")

    async def traces(self, request: Request) -> Response:
        reader = self._reader(request)
        listed = [
            {"id": key, "title": k.title, "bytes": len(k.data), "parent": k.parent, "keep": k.keep}
            for key, k in self._runs.traces.items()
            if not reader or k.reader in ("", reader)
        ]
        return _json({"traces": listed, "current": self._runs.current})

    async def trace(self, request: Request) -> Response:
        kept = self._runs.traces.get(request.path_params["id"]) or _unknown(request)
        return Response(kept.data, media_type="application/octet-stream")

    async def dynamics(self, request: Request) -> Response:
        """The record of a training; 204 where its ETag is `known`. A resumed run has other snapshots, maybe as many."""
        data = (self._learning or _unknown(request)).data
        tag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
        if request.query_params.get("known") == tag:
            return Response(status_code=204)
        return Response(data, media_type="application/octet-stream", headers={"ETag": tag})

    async def generate(self, request: Request) -> Response:
        prompt, settings, after = checked(await _body(request))
        await while_there(request.receive, self._runs.loaded())
        lang = asked_language(request.scope, self._lang)
        return EventStream(await self._runs.start(prompt, settings, lang, after, self._reader(request)))

    def _reader(self, request: Request) -> str:
        """Who asks: each tab of a browser names itself; a program that names nobody sees, and writes for, everybody."""
        return "" if self._shared else request.headers.get(READER_HEADER, "")

    async def follow(self, request: Request) -> Response:
        run = self._runs.live.get(request.path_params["id"]) or _unknown(request)
        last = request.headers.get("last-event-id", "0")
        return EventStream(run, int(last) if last.isascii() and last.isdigit() and len(last) < 10 else 0)

    async def stop(self, request: Request) -> Response:
        key = (await _body(request)).get("id")
        run = self._runs.live.get(key) if isinstance(key, str) else None
        (run or _unknown(request)).stop()
        return _json({"id": key})

    def failed(self, request: Request, error: Exception) -> Response:
        """Any error as an answer."""
        if isinstance(error, HTTPException) and error.status_code == 405:
            return self.respond(ManakoError("serve_method", got=request.method), request.scope, error.headers)
        if isinstance(error, HTTPException):  # of the router: no such path
            error = ManakoError("serve_unknown", got=request.url.path)
        elif not isinstance(error, ManakoError):
            error = ManakoError("serve_unexpected", error=type(error).__name__)
        return self.respond(error, request.scope, {"Retry-After": "5"} if error.key == "serve_busy" else None)

    def respond(self, error: ManakoError, scope: Scope, headers: Mapping[str, str] | None = None) -> Response:
        """An error in the client's language; its connection closes, so that no unread body is waited for."""
        said = {"code": error.code, "message": error.text(asked_language(scope, self._lang))}
        return _json(said, STATUS.get(error.key, 422), {"Connection": "close", **(headers or {})})


class Guard:
    """What every request must pass before a route sees it, and the headers that every answer carries.

    host, port: where the server listens.
    """

    def __init__(self, site: Site, host: str, port: int, token: str) -> None:
        self.site = site
        self._port, self._token = port, token.encode()
        names = {*LOCAL, f"[{host}]" if ":" in host else host.lower()}
        self._hosts = {f"{name}:{port}" for name in names}
        if port == 80:  # which browsers leave out
            self._hosts |= names
        self._any_address = host in ANY_ADDRESS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(header for header in HEADERS if header[0] not in own)]
            await send(message)

        error = self.refusal(scope)
        await (self.site.respond(error, scope) if error else self.site.app)(scope, receive, send_with_headers)

    def refusal(self, scope: Scope) -> ManakoError | None:
        """Why this request must not pass, if so. The page's own files need no token: a browser sends none for them."""
        given: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            given.setdefault(name, []).append(value)
        if len(scope["raw_path"]) + len(scope["query_string"]) > URL_BYTES:
            return ManakoError("serve_url", most=URL_BYTES)
        if sum(len(name) + len(value) for name, value in scope["headers"]) > HEADER_BYTES:
            return ManakoError("serve_head", most=HEADER_BYTES)
        host = given.get(b"host", [])
        if len(host) != 1 or not self._is_ours(host[0].decode("latin-1").lower()) or not scope["path"].startswith("/"):
            return ManakoError("serve_host")
        if given.get(b"origin", [b"http://" + host[0]]) != [b"http://" + host[0]]:
            return ManakoError("serve_origin")
        if scope["method"] in ("GET", "HEAD") and scope["path"] in self.site.files:
            return None
        token = given.get(TOKEN_HEADER, [])
        if len(token) != 1 or not hmac.compare_digest(token[0], self._token):
            return ManakoError("serve_token")
        return None

    def _is_ours(self, host: str) -> bool:
        """Whether a Host header names this server. Under a wildcard any address does: rebinding needs a name."""
        if host in self._hosts:
            return True
        name, _, port = host.rpartition(":")
        if not self._any_address or port != str(self._port):
            return False
        try:
            return bool(ipaddress.ip_address(name.removeprefix("[").removesuffix("]")))
        except ValueError:
            return False


class EventStream(Response):
    """The events of a run, after the first `place` of them, for as long as the client stays."""

    def __init__(self, run: Run, place: int = 0) -> None:
        super().__init__(media_type="text/event-stream")
        del self.headers["content-length"]
        self._run, self._reader = run, run.join(place)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await while_there(receive, self._send(send))
        except ClientDisconnect:
            pass
        finally:
            self._run.leave(self._reader)

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async for chunk in self._run.read(self._reader):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def while_there(receive: Receive, work: Awaitable[T]) -> T:
    """What `work` gives, or raises. Raises ClientDisconnect, and gives it up, when the client leaves before."""
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _body(request: Request) -> dict[str, Any]:
    """The JSON object of a request. Raises ManakoError for another type, too many bytes, or bytes that do not come."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise ManakoError("serve_type")
    data = bytearray()
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            async for part in request.stream():
                data += part
                if len(data) > BODY_BYTES:
                    raise ManakoError("serve_body", most=BODY_BYTES)
    except TimeoutError:
        raise ManakoError("serve_slow", seconds=int(PATIENCE_SECONDS)) from None
    try:
        return strict_json(bytes(data), "body")
    except LoadError as error:
        raise ManakoError("serve_json", reason=error.values["reason"]) from None


def _unknown(request: Request) -> Any:
    raise ManakoError("serve_unknown", got=request.url.path)


def _json(value: dict[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    text = json.dumps(value, ensure_ascii=False)
    return Response(text.encode("utf-8", "backslashreplace"), status, headers, "application/json")


def asked_language(scope: Scope, otherwise: str) -> str:
    """The first of our languages that the client accepts; browsers put the preferred one first."""
    accepted = b",".join(value for name, value in scope["headers"] if name == b"accept-language").decode("latin-1")
    asked = (part.strip().lower()[:2] for part in accepted.split(","))
    return next((lang for lang in asked if lang in messages.LANGUAGES), otherwise)


class Connection(H11Protocol):
    """One client's connection, which nobody can hold by being slow: neither by sending nor by reading."""

    _waiting: asyncio.TimerHandle | None = None  # for the rest of a request's head
    _sending: asyncio.TimerHandle | None = None  # for the client to take what was sent

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS:
            transport.abort()
        self._watch_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch_head()

    def _watch_head(self) -> None:
        answering = bool(self.cycle) and not self.cycle.response_complete  # no cycle before the first request
        if answering and self._waiting:
            self._waiting.cancel()
            self._waiting = None
        elif not answering and not self._waiting:
            self._waiting = self.loop.call_later(PATIENCE_SECONDS, self.transport.abort)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._sending = self.loop.call_later(PATIENCE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._sending:
            self._sending.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for timer in (self._waiting, self._sending):
            if timer:
                timer.cancel()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP gets an answer in the form of all others; only English, since it asked for no language."""
        error = ManakoError("serve_malformed")
        body = json.dumps({"code": error.code, "message": error.text("en")}).encode()
        lines = [b"HTTP/1.1 400 Bad Request", b"content-type: application/json", b"content-length: %d" % len(body)]
        lines += [b"connection: close", *(name + b": " + value for name, value in HEADERS)]
        self.transport.write(b"\r\n".join([*lines, b"", body]))
        self.transport.close()


class Server(uvicorn.Server):
    """uvicorn with our bounds; before it ends it lets every generation end, so that no stream holds it up."""

    def __init__(self, app: Guard, runs: Runs) -> None:
        self._runs = runs
        config = uvicorn.Config(
            app,  # type: ignore[arg-type]
            http=Connection,
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            h11_max_incomplete_event_size=URL_BYTES + HEADER_BYTES,
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        )
        super().__init__(config)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._runs.close()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if sig == signal.SIGINT:
            super().handle_exit(sig, frame)
        else:
            self.should_exit = True  # ends by returning, so that who called it can clean up
