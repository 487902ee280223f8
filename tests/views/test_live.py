"""Generations that are watched: clients that leave (F33), many (F34), that stop reading (F35), too many (F41)."""

import asyncio
import http.client
import json
import socket
import threading
from pathlib import Path

import pytest
from golden import golden_trace
from serving import TOKEN, Gated, Serving, close, events, free, serving, until

import manako
from manako.trace_file import to_bytes
from manako.views import live, server
from manako.views.live import AHEAD, RUNNING, WAITING, Run, Runs


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def state(site: Serving) -> tuple[int, int, int]:
    """What a client could leave behind: descriptors, threads (but for the bounded pools), requests in work."""
    threads = [thread for thread in threading.enumerate() if not thread.name.startswith("manako-")]
    return descriptors(), len(threads), site.tasks


# --- F33: clients that leave -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
@pytest.mark.parametrize("times", [5, pytest.param(100, marks=pytest.mark.slow)])
def test_f33_who_leaves_stops_the_generation(times: int, reset: bool) -> None:
    session = Gated()
    with serving(session.generate) as site:
        before = None
        for _ in range(times):
            session.made = 0
            response = site.generate(max_new_tokens=1000)
            session.gate.release(3)
            run = site.only_run()
            until(lambda run=run: len(run.events) == 4)  # start and three steps
            close(response, reset)
            until(lambda run=run: not run.readers)
            session.gate.release(1000)
            until(lambda: not site.tasks)
            assert session.made <= 3 + 2
            (told,) = [e for e in events(b"".join(run.events)) if e[1] == "end"]
            assert told[2]["end"] == "interrupted"
            while session.gate.acquire(blocking=False):
                pass
            before = before or state(site)  # after the first, when the threads of the pool have begun
        until(lambda: not site.server.server_state.connections)
        until(lambda: all(now <= then for now, then in zip(state(site), before, strict=True)), 5)


def test_f33_who_leaves_before_their_turn_gives_it_up() -> None:
    session = Gated()
    with serving(session.generate) as site:
        first = [site.generate() for _ in range(RUNNING)]
        until(lambda: sum(bool(run.events) for run in site.runs.live.values()) == RUNNING)
        waiting = http.client.HTTPConnection("127.0.0.1", site.port)
        body = json.dumps({"prompt": "a"})
        waiting.request("POST", "/api/generate", body, {"X-Manako-Token": TOKEN, "Content-Type": "application/json"})
        until(lambda: len(site.runs.live) == RUNNING + 1)
        (run,) = [run for run in site.runs.live.values() if not run.events]
        until(lambda: bool(run.readers))
        waiting.close()
        until(lambda: len(site.runs.live) == RUNNING)
        assert not run.events
        session.gate.release(1000)
        for response in first:
            assert response.read().endswith(b"\n\n")
            close(response)


# --- F34: many clients ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clients", [30, pytest.param(200, marks=pytest.mark.slow)])
def test_f34_all_readers_of_one_generation_get_the_same_whole_sequence(clients: int) -> None:
    session = Gated()
    with serving(session.generate) as site:
        responses = [site.generate(max_new_tokens=50)]
        until(lambda: len(site.only_run().events) == 1)
        key = site.only_run().key
        responses += [site.open("GET", f"/api/runs/{key}") for _ in range(clients // 2)]
        session.gate.release(20)  # some come while it runs
        responses += [site.open("GET", f"/api/runs/{key}") for _ in range(clients - len(responses))]
        until(lambda: len(site.only_run().readers) == clients)
        session.gate.release(1000)
        told = [response.read() for response in responses]
        for response in responses:
            close(response)
    assert set(told) == {told[0]}
    found = events(told[0])
    assert [n for n, _, _ in found] == list(range(1, 53))
    assert [data["index"] for _, name, data in found if name == "step"] == list(range(50))


@pytest.mark.slow
def test_f34_two_hundred_generations_wait_for_their_turn() -> None:
    with serving(free) as site:
        responses: list[http.client.HTTPResponse | None] = [None] * 200

        def one(n: int) -> None:
            responses[n] = site.generate(max_new_tokens=5, seed=n)

        threads = [threading.Thread(target=one, args=(n,)) for n in range(200)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for n, response in enumerate(responses):
            assert response is not None
            found = events(response.read())
            close(response)
            assert found[0][2]["seed"] == n
            assert [name for _, name, _ in found] == ["start", *["step"] * 5, "end"]


# --- F35: readers that stop ------------------------------------------------------------------------------------------


def stopped(site: Serving, path: str = "", body: bytes = b"") -> socket.socket:
    """A client that asks, and takes nothing of the answer."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", site.port))
    line = f"POST /api/generate HTTP/1.1\r\nContent-Length: {len(body)}\r\n" if body else f"GET {path} HTTP/1.1\r\n"
    head = f"{line}Host: {site.host}\r\nX-Manako-Token: {TOKEN}\r\nContent-Type: application/json\r\n\r\n"
    client.sendall(head.encode() + body)
    return client


@pytest.mark.parametrize("count", [5, pytest.param(50, marks=pytest.mark.slow)])
def test_f35_readers_that_stop_hold_up_nobody_and_are_dropped(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(server, "PATIENCE_SECONDS", 0.5)
    session = Gated()
    with serving(session.generate) as site:
        responses = [site.generate(max_new_tokens=300)]
        run = site.only_run()
        responses += [site.open("GET", f"/api/runs/{run.key}") for _ in range(count - 1)]
        lazy = [stopped(site, f"/api/runs/{run.key}") for _ in range(count)]
        until(lambda: len(run.readers) == 2 * count)
        session.gate.release(10_000)
        told: dict[int, bytes] = {}
        threads = [
            threading.Thread(target=lambda n=n, r=r: told.update({n: r.read()})) for n, r in enumerate(responses)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(told) == count and set(told.values()) == {told[0]}
        assert len(events(told[0])) == 302
        until(lambda: not run.readers)  # the stopped ones were waited for no longer than patience lasts
        for response in responses:
            close(response)
        for client in lazy:
            client.close()
        until(lambda: not site.server.server_state.connections)


def test_f35_a_run_waits_for_its_only_reader_and_then_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "PATIENCE_SECONDS", 0.5)
    with serving(free) as site:
        client = stopped(site, body=json.dumps({"prompt": "a", "settings": {"max_new_tokens": 2000}}).encode())
        until(lambda: bool(site.runs.live))
        run = site.only_run()
        until(lambda: bool(run.readers))
        (reader,) = run.readers
        ahead = [0]

        def over() -> bool:
            ahead.append(len(run.events) - reader.place)
            return not run.readers

        until(over)
        assert AHEAD - 1 <= max(ahead) <= AHEAD  # it came so far ahead, and no further
        until(lambda: not site.tasks)
        told = events(b"".join(run.events))
        assert told[-1][2]["end"] == "interrupted" and len(told) < 2000
        client.close()


# --- F41: too many ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("waiting", "asked"), [(3, 20), pytest.param(WAITING, 1000, marks=pytest.mark.slow)])
def test_f41_beyond_those_that_wait_comes_429(monkeypatch: pytest.MonkeyPatch, waiting: int, asked: int) -> None:
    monkeypatch.setattr(live, "WAITING", waiting)
    session = Gated()
    with serving(session.generate) as site:
        accepted: list[http.client.HTTPResponse] = []
        refused = 0
        for _ in range(asked):
            response = site.generate(max_new_tokens=2)
            if response.status == 200:
                accepted.append(response)
            else:
                error = json.loads(response.read())
                assert (response.status, error["code"]) == (429, "E-SERVE-BUSY")
                assert int(response.headers["retry-after"]) > 0
                close(response)
                refused += 1
        assert (len(accepted), refused) == (RUNNING + waiting, asked - RUNNING - waiting)
        session.gate.release(10_000)
        for response in accepted:
            assert len(events(response.read())) == 4
            close(response)
        last = site.generate(max_new_tokens=2)
        assert last.status == 200 and len(events(last.read())) == 4
        close(last)


# --- what is kept -----------------------------------------------------------------------------------------------------


def test_the_oldest_generation_is_forgotten_and_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with serving(free) as site:
        site.runs.add("golden.manako", to_bytes(golden_trace()))
        first = site.generate(max_new_tokens=2)
        key = events(first.read())[-1][2]["id"]
        close(first)
        size = len(site.runs.traces[key].data)
        monkeypatch.setattr(live, "KEPT_BYTES", 2 * size)
        for _ in range(2):
            response = site.generate(max_new_tokens=2)
            response.read()
            close(response)
        assert len(site.runs.traces) == 3 and key not in site.runs.traces
        assert site.ask("GET", f"/api/traces/{key}")[0] == 404
        for n, kept in enumerate(site.runs.traces.values()):
            (tmp_path / f"{n}.manako").write_bytes(kept.data)
            assert len(manako.open(tmp_path / f"{n}.manako")) == (12 if n == 0 else 2)


def test_who_waits_hears_that_the_server_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "PING_SECONDS", 0.01)

    async def first_chunk() -> bytes:
        run = Run("1", "en")
        return await anext(run.read(run.join()))

    assert asyncio.run(first_chunk()).startswith(b":")


def test_a_setting_that_makes_no_sense_leaves_no_run_and_no_reader_behind() -> None:
    joined = threading.Event()

    def generate(prompt: str, **settings: object) -> None:
        assert joined.wait(60)
        raise manako.ManakoError("seed", got=-1)

    async def start() -> tuple[Runs, list[bytes]]:
        runs = Runs(generate)  # type: ignore[arg-type]
        starting = asyncio.create_task(runs.start("a", {}, "en"))
        await asyncio.sleep(0)
        (run,) = runs.live.values()
        reader = run.join()
        joined.set()
        with pytest.raises(manako.ManakoError):
            await starting
        return runs, [chunk async for chunk in run.read(reader)]

    runs, told = asyncio.run(start())
    assert not runs.live and told == []
