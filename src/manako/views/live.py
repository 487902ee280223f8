"""Generations that somebody watches while they run: a step at a time in a thread, told to every reader as events.

Special here: nothing of HTTP. All but the step itself happens on one event loop, so nothing needs a lock. A reader's
queue is a stretch of the run's one list of events: it costs no memory of its own, and a run never gets more than AHEAD
events in front of its fastest reader. So a slow reader holds up nobody, and a run that nobody reads stops.
"""

import asyncio
import itertools
import json
import logging
import math
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from manako.engines.generation import Generation
from manako.errors import ManakoError
from manako.trace import Step, Trace
from manako.trace_file import to_bytes
from manako.views.document import step_record, trace_document

RUNNING = 2  # generations that compute at the same time
WAITING = 256  # generations that wait for their turn; a request beyond them is refused
AHEAD = 64  # events of a run that its fastest reader has not taken yet: the bound of every reader's queue
PING_SECONDS = 15.0  # a reader who hears nothing else hears this
KEPT_BYTES = 256_000_000  # of traces made here; beyond it the oldest is forgotten
TOP = 10  # candidates in the event of a step; the trace has all
ENDING = ("text", "end", "self_checks")  # of a trace's document: what is known at the end alone
LONGEST_TITLE = 40  # characters of its text that name a trace


@dataclass(eq=False)
class Reader:
    """Somebody who reads a run."""

    place: int = 0
    """How many of its events they have taken."""


@dataclass(frozen=True)
class Kept:
    """A trace that can be fetched."""

    title: str
    data: bytes
    """The content of its file."""


class Run:
    """One generation and what has been told of it."""

    def __init__(self, key: str, lang: str) -> None:
        self.key = key
        self.lang = lang
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

    def __init__(self, generate: Callable[..., Generation]) -> None:
        self.live: dict[str, Run] = {}
        self.traces: dict[str, Kept] = {}
        self._generate = generate
        self._made: dict[str, int] = {}  # traces made here, oldest first, with their sizes
        self._keys = map(str, itertools.count(1))
        self._threads = ThreadPoolExecutor(RUNNING, "manako-step")
        self._starting = ThreadPoolExecutor(1, "manako-start")  # of its own: a wrong setting is told without a wait
        self._slots = asyncio.Semaphore(RUNNING)

    def add(self, title: str, data: bytes) -> None:
        """A trace to look at from the start, which is never forgotten."""
        self.traces[next(self._keys)] = Kept(title, data)

    async def start(self, prompt: str, settings: dict[str, Any], lang: str) -> Run:
        """Begin a generation, or let it wait for its turn.

        Raises ManakoError when too many wait already, and for settings that make no sense.
        """
        if len(self.live) >= RUNNING + WAITING:
            raise ManakoError("serve_busy", most=RUNNING + WAITING)
        run = Run(next(self._keys), lang)
        self.live[run.key] = run
        try:
            loop = asyncio.get_running_loop()
            generation = await loop.run_in_executor(self._starting, lambda: self._generate(prompt, **settings))
        except BaseException:
            del self.live[run.key]
            run.end()  # somebody may have joined it already
            raise
        run.task = asyncio.create_task(self._take_turn(run, generation))
        return run

    def close(self) -> None:
        """Let every generation end, and its readers go without waiting for the step in hand."""
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
            run.tell("start", {"id": run.key} | _beginning(generation.record()))
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
            self._keep(run.key, title, data)
            run.tell("end", {"id": run.key} | told)
        except Exception as error:
            logging.getLogger("manako").exception("a generation failed")
            unexpected = ManakoError("serve_unexpected", error=type(error).__name__)
            run.tell("error", {"code": unexpected.code, "message": unexpected.text(run.lang)})

    def _keep(self, key: str, title: str, data: bytes) -> None:
        self.traces[key] = Kept(title, data)
        self._made[key] = len(data)
        while sum(self._made.values()) > KEPT_BYTES and len(self._made) > 1:
            oldest = next(iter(self._made))
            del self._made[oldest], self.traces[oldest]

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _next(steps: Iterator[Step]) -> str | None:
    step = next(steps, None)
    return None if step is None else _json(step_record(step, TOP))


def _finished(generation: Generation) -> tuple[dict[str, Any], str, bytes]:
    """(what only the end of a run tells, a title, the file's content)."""
    trace = generation.trace()
    told = {name: value for name, value in trace_document(trace, 0).items() if name in ENDING}
    for check in told["self_checks"]:  # null where it is not finite, as in the file
        check["error"] = check["error"] if math.isfinite(check["error"]) else None
    return told, trace.text[:LONGEST_TITLE], to_bytes(trace)


def _beginning(record: Trace) -> dict[str, Any]:
    """What is known before the first step: a trace's document without what only its end tells."""
    return {n: v for n, v in trace_document(record, 0).items() if n not in ("steps", *ENDING)}


def _json(data: dict[str, Any]) -> str:
    return json.dumps(data, ensure_ascii=False, allow_nan=False)
