"""One generation and many readers: how long after a step was made each reader has it.

    python serve.py

The server runs in a process of its own, the readers in this one; both read the same clock. One reader alone is the
baseline, then 200, then 50 beside 50 more that never read. Every reader joins before the first step is made.
"""

import asyncio
import json
import subprocess
import sys
import threading
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
from measure import calibration, report

ROUNDS = {"1": (1, 0), "200": (200, 0), "50 beside 50 stopped": (50, 50)}  # readers, and others that never read
STEPS, TOKEN = 200, "benchmark"
EVENTS = STEPS + 2  # start and end


def serve() -> None:
    """The server's process: on stdout the port, at the end when each event was made; a line on stdin starts a run."""
    import manako
    from manako.cli.serve import listen
    from manako.server.generations import Run, Runs
    from manako.server.http import Guard, Server, Site

    model, go = manako.load("demo"), threading.Semaphore(0)
    made: dict[str, list[float]] = {}
    plain = Run.tell

    def tell(run: Run, name: str, data: Any) -> None:
        made.setdefault(run.key, []).append(time.time())
        plain(run, name, data)

    def generate(prompt: str, **settings: Any) -> Any:
        go.acquire()
        return model.generate(prompt, **settings)

    def listen_to_stdin() -> None:
        for _ in sys.stdin:
            go.release()
        server.should_exit = True

    Run.tell = tell
    runs = Runs("demo")
    runs.model.set_result(SimpleNamespace(generate=generate))  # type: ignore[arg-type]  all that is asked of it
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        server = Server(Guard(Site(runs, "en"), "127.0.0.1", port, TOKEN), runs)
        threading.Thread(target=listen_to_stdin, daemon=True).start()
        print(port, flush=True)
        server.run(sockets=[listener])
    print(json.dumps(list(made.values())))


async def ask(port: int, request: str, body: str = "") -> asyncio.StreamReader:
    """A stream of events that has been asked for."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"{request} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nX-Manako-Token: {TOKEN}\r\nConnection: close\r\n"
    writer.write(f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
    reader.writer = writer  # type: ignore[attr-defined]  or the connection would close
    return reader


async def arrivals(reader: asyncio.StreamReader) -> list[float]:
    """When each event had come whole."""
    found, tail = list[float](), b""
    while data := await reader.read(1 << 20):
        tail += data
        now = time.time()
        found += [now] * tail.count(b"\n\n")
        tail = tail[tail.rfind(b"\n\n") + 2 :] if b"\n\n" in tail else tail
    return found


async def one_round(port: int, key: int, readers: int, stopped: int, go: Any) -> list[list[float]]:
    """What each reader got of one run."""
    settings = {"max_new_tokens": STEPS, "seed": 5}
    streams = [await ask(port, "POST /api/generate", json.dumps({"prompt": "", "settings": settings}))]
    await asyncio.sleep(0.5)  # until the run is there to join
    streams += [await ask(port, f"GET /api/runs/{key}") for _ in range(readers - 1)]
    lazy = [await ask(port, f"GET /api/runs/{key}") for _ in range(stopped)]
    for stream in lazy:
        stream.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await asyncio.sleep(2)  # until the server has let all of them join
    go.write("\n")
    go.flush()
    got = await asyncio.gather(*map(arrivals, streams))
    for stream in (*streams, *lazy):
        stream.writer.close()  # type: ignore[attr-defined]
    return got


def main() -> None:
    start, found = calibration(), dict[str, list[list[float]]]()
    command = [sys.executable, __file__, "serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin and server.stdout
        port = int(server.stdout.readline())
        for key, (name, (readers, stopped)) in enumerate(ROUNDS.items(), 1):
            found[name] = asyncio.run(one_round(port, key, readers, stopped, server.stdin))
        server.stdin.close()
        made = json.loads(server.stdout.read())
    results = {}
    for (name, streams), times in zip(found.items(), made, strict=True):
        assert {len(stream) for stream in streams} == {EVENTS}, "a reader missed an event"
        delays = 1000 * (np.array(streams) - np.array(times))  # [reader, event] ms
        shown = {f"p{q}": round(float(np.percentile(delays, q)), 1) for q in (50, 99, 100)}
        results[name] = {"delay_ms": shown, "steps_per_second": round(EVENTS / (times[-1] - times[0]), 1)}
    report("serve", "p99 with 200 readers <= 250 ms", start, readers=results)


if __name__ == "__main__":
    serve() if sys.argv[1:] else main()
