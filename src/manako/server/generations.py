"""Generations that somebody watches while they run: a step at a time in a thread, told to every reader as events.

Special here: nothing of HTTP. All but the step itself happens on one event loop, so nothing needs a lock; engines take
passes from several threads. A reader's queue is a stretch of the run's one list of events: it costs no memory of its
own, and a run never gets more than AHEAD events in front of its fastest reader. So a slow reader holds up nobody, and
a run that nobody reads stops.
"""

import asyncio
import itertools
import json
import logging
import re
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

from manako.engines.generation import Generation
from manako.engines.provenance import is_of
from manako.errors import ManakoError, UsageError
from manako.files import megabytes
from manako.model import Model
from manako.refs import for_text
from manako.trace.file import read_parts, to_bytes, trace_of
from manako.trace.record import Step, Trace
from manako.views.document import step_record, trace_document

RUNNING = 2  # generations that compute at the same time
WAITING = 256  # generations that wait for their turn; a request beyond them is refused
AHEAD = 64  # events of a run that its fastest reader has not taken yet: the bound of every reader's queue
PING_SECONDS = 15.0  # a reader who hears nothing else hears this
KEPT_BYTES = 512_000_000  # of traces made here; beyond it the oldest is forgotten
KEPT_TRACES = 1_000  # of short ones that would be ten thousand, and a list of 1 MB each time that a page asks
OPENED = 4  # traces that stay open, since who forks one often forks it again
LONGEST_TEXT = 32_768  # characters in front of a generation that goes on; every event of a step has all of them
TOP = 10  # candidates in the event of a step; the trace has all
ENDING = ("text", "end", "self_checks")  # of a trace's document: what is known at the end alone
LONGEST_TITLE = 40  # characters of its text that name a trace


@dataclass(eq=False)
class Reader:
    """Somebody who reads a run."""

    place: int = 0
    """How many of its events they have taken."""


@dataclass(frozen=True)
class After:
    """Where a generation goes on instead of starting anew: behind the first steps of a trace that is kept."""

    id: str
    steps: int
    token: int | None = None
    """Put next, before anything is drawn."""


@dataclass(frozen=True, eq=False)
class Kept:
    """A trace that can be fetched."""

    title: str
    data: bytes
    """The content of its file."""
    parent: str | None = None
    """The trace that it goes on from, while that is kept."""
    keep: int = 0
    """How many of the parent's own steps it goes on behind."""
    reader: str = ""
    """In whose list it stands; empty: in everybody's."""


class Run:
    """One generation and what has been told of it."""

    def __init__(self, key: str, lang: str, after: After | None = None, reader: str = "") -> None:
        self.key = key
        self.lang = lang
        self.after = after
        self.reader = reader
        self.events: list[bytes] = []
        self.readers: set[Reader] = set()
        self.stopped = False
        self.ended = False
        self.task: asyncio.Task[None] | None = None
        self._made, self._taken = asyncio.Event(), asyncio.Event()

    def join(self, place: int = 0) -> Reader:
        """A new reader, who has had the first `place` events already."""
        reader = Reader(min(place, len(self.events)))
        self.readers.add(reader)
        return reader

    def leave(self, reader: Reader) -> None:
        """A reader goes away; with the last of them a run that waits for its turn gives it up, any other one stops."""
        self.readers.discard(reader)
        self._taken.set()
        if not self.readers and not self.events and self.task:
            self.task.cancel()

    def stop(self) -> None:
        """End after the step in hand."""
        self.stopped = True
        self._taken.set()

    async def read(self, reader: Reader) -> AsyncIterator[bytes]:
        """What has been told, and what will be until the end: one or several events at a time."""
        while True:
            made = self._made
            if reader.place < len(self.events):
                chunk = self.events[reader.place : reader.place + AHEAD]
                yield b"".join(chunk)
                reader.place += len(chunk)
                self._taken.set()
            elif self.ended:
                return
            else:
                try:
                    async with asyncio.timeout(PING_SECONDS):  # wait_for would make a task for each reader and event
                        await made.wait()
                except TimeoutError:
                    yield b": still here\n\n"

    def tell(self, name: str, data: dict[str, Any] | str) -> None:
        """One event for everybody. data: an object, or its JSON where that was made in the thread."""
        text = data if isinstance(data, str) else _json(data)
        self.events.append(f"id: {len(self.events) + 1}\nevent: {name}\ndata: {text}\n\n".encode())
        self._wake()

    def end(self) -> None:
        """Nothing more will be told."""
        self.ended = True
        self._wake()

    def _wake(self) -> None:
        self._made.set()
        self._made = asyncio.Event()  # a new one, so that each waits for what comes after its own last look

    async def wanted(self) -> bool:
        """Whether to go on; waits while even the fastest reader is AHEAD events behind."""
        while self.readers and not self.stopped:
            if len(self.events) - max(r.place for r in self.readers) < AHEAD:
                return True
            self._taken.clear()
            await self._taken.wait()
        return False


class Runs:
    """All generations of a server, and the traces that can be fetched."""

    def __init__(self, ref: str) -> None:
        self.ref = ref
        self.model: Future[Model] = Future()
        """Set by who loads it, from any thread; cancelled when the server ends before."""
        self.beside: tuple[Model, ...] = ()
        """Other embedded models, where none was named; there before `model` is."""
        self.live: dict[str, Run] = {}
        self.traces: dict[str, Kept] = {}
        self.current: str | None = None
        """The trace that is shown first."""
        self._made: dict[str, int] = {}  # traces made here, oldest first, with their sizes
        self._keys = map(str, itertools.count(1))
        self._life = secrets.token_hex(4)  # a page may outlive a server, and then has texts of both
        self._threads = ThreadPoolExecutor(RUNNING, "manako-step")
        self._starting = ThreadPoolExecutor(1, "manako-start")  # of its own: a wrong setting is told without a wait
        self._slots = asyncio.Semaphore(RUNNING)
        self._opened = lru_cache(OPENED)(_opened)

    def add(self, title: str, data: bytes, parent: str | None = None, keep: int = 0) -> str:
        """A trace to look at from the start, which is never forgotten; its id."""
        key = next(self._keys)
        self.traces[key] = Kept(title, data, parent, keep)
        return key

    async def loaded(self) -> Model:
        """The model, once it is there. Raises ManakoError when it will not be."""
        if not self.model.done():
            there = asyncio.wrap_future(self.model)
            there.add_done_callback(lambda f: f.cancelled() or f.exception())  # looked at, though its reader may leave
            await asyncio.wait([there])  # which cancels nothing when it is cancelled itself
        if self.model.cancelled() or self.model.exception():
            raise ManakoError("serve_no_model")
        return self.model.result()

    async def start(
        self, prompt: str, settings: dict[str, Any], lang: str, after: After | None = None, reader: str = ""
    ) -> Run:
        """Begin a generation, or let it wait for its turn. reader: in whose list its trace will stand.

        Raises ManakoError when too many wait already, for settings that make no sense, and for an unknown trace.
        """
        model = await self.loaded()
        if len(self.live) >= RUNNING + WAITING:
            raise ManakoError("serve_busy", most=RUNNING + WAITING)
        kept = self.traces.get(after.id) if after else None
        if after and not kept:
            raise ManakoError("serve_forgotten", kept=megabytes(KEPT_BYTES))
        run = Run(f"{self._life}-{next(self._keys)}", lang, after, reader)
        self.live[run.key] = run
        begin = partial(self._generation, model, prompt, settings, after, kept)
        try:
            generation = await asyncio.get_running_loop().run_in_executor(self._starting, begin)
        except BaseException:
            del self.live[run.key]
            run.end()  # somebody may have joined it already
            raise
        run.task = asyncio.create_task(self._take_turn(run, generation))
        return run

    def _generation(
        self, model: Model, prompt: str, settings: dict[str, Any], after: After | None, kept: Kept | None
    ) -> Generation:
        if after is None or kept is None:
            reads = for_text(prompt)
            return next((m for m in self.beside if m.ref == reads), model).generate(prompt, **settings)
        trace = self._opened(kept)
        model = next((m for m in self.beside if is_of(trace.header.model, m.info)), model)
        generation = model.fork(trace, after.steps, text=prompt, token_id=after.token, **settings)
        length = len(generation.record().header.prompt)
        if length > LONGEST_TEXT:
            raise UsageError("serve_text", got=length, most=LONGEST_TEXT)
        return generation

    def close(self) -> None:
        """Let every generation end, and its readers go without waiting for the step in hand, nor for the model."""
        self.model.cancel()
        for run in self.live.values():
            run.stop()
            run.end()

    async def _take_turn(self, run: Run, generation: Generation) -> None:
        try:
            async with self._slots:
                await self._make(run, generation)
        finally:
            del self.live[run.key]
            run.end()

    async def _make(self, run: Run, generation: Generation) -> None:
        """Tell a run from start to end; what was made before a failure is a trace all the same."""
        try:
            run.tell("start", _beginning(run, generation.record()))
            try:
                steps = iter(generation)
                while await run.wanted():
                    step = await self._in_thread(lambda: _next(steps))
                    if step is None:
                        break
                    run.tell("step", step)
            except ManakoError as error:
                run.tell("error", {"code": error.code, "message": error.text(run.lang)})
            told, title, data = await self._in_thread(lambda: _finished(generation))
            self._keep(run, title, data)
            run.tell("end", {"id": run.key} | told)
        except Exception as error:
            logging.getLogger("manako").exception("a generation failed")
            unexpected = ManakoError("serve_unexpected", error=type(error).__name__)
            run.tell("error", {"code": unexpected.code, "message": unexpected.text(run.lang)})

    def _keep(self, run: Run, title: str, data: bytes) -> None:
        known = run.after is not None and run.after.id in self.traces  # it may have been forgotten meanwhile
        parent, keep = (run.after.id, run.after.steps) if run.after and known else (None, 0)
        self.traces[run.key] = Kept(title, data, parent, keep, run.reader)
        self._made[run.key] = len(data)
        while len(self._made) > KEPT_TRACES or (sum(self._made.values()) > KEPT_BYTES and len(self._made) > 1):
            self._forget(next(iter(self._made)))

    def _forget(self, key: str) -> None:
        del self._made[key], self.traces[key]
        for child, kept in self.traces.items():
            if kept.parent == key:
                self.traces[child] = replace(kept, parent=None, keep=0)

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _opened(kept: Kept) -> Trace:
    return trace_of(read_parts(kept.data, kept.title), kept.title)


def _next(steps: Iterator[Step]) -> str | None:
    step = next(steps, None)
    return None if step is None else _json(step_record(step, TOP))


def _finished(generation: Generation) -> tuple[dict[str, Any], str, bytes]:
    """(what only the end of a run tells, a title, the file's content)."""
    trace = generation.trace()
    told = {name: value for name, value in trace_document(trace, 0).items() if name in ENDING}
    return told, trace.text[:LONGEST_TITLE], to_bytes(trace)


def _beginning(run: Run, record: Trace) -> dict[str, Any]:
    """What is known before the first step: a trace's document without what only its end tells."""
    parent = None if run.after is None else {"id": run.after.id, "keep": run.after.steps}
    known = {n: v for n, v in trace_document(record, 0).items() if n not in ("steps", *ENDING)}
    return {"id": run.key, "parent": parent} | known


def _json(data: dict[str, Any]) -> str:
    """One line, also for readers who see the end of one in more characters than the standard of events does."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False)
    return re.sub("[\x85\u2028\u2029]", lambda found: f"\\u{ord(found[0]):04x}", text)
