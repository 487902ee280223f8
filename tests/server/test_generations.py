"""Generations that are watched: clients that leave (F33), many (F34), that stop reading (F35), too many (F41); forks,
and a model that is not there yet."""

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from golden import golden_trace
from serving import TOKEN, Gated, Serving, close, endless, events, free, logged, runs_with, serving, until
from toy import toy_model

import manako
from manako.server import generations
from manako.server import http as server
from manako.server.generations import AHEAD, RUNNING, WAITING, Run, Runs
from manako.trace.file import to_bytes


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def state(site: Serving) -> tuple[int, int, int]:
    """What a client could leave behind: descriptors, threads (but for the bounded pools), requests in work."""
    threads = [thread for thread in threading.enumerate() if not thread.name.startswith("manako-")]
    return descriptors(), len(threads), site.tasks


# --- F33: clients that leave -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
@pytest.mark.parametrize("times", [5, pytest.param(100, marks=pytest.mark.slow)])
def test_who_leaves_stops_the_generation(times: int, reset: bool) -> None:
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


def test_who_leaves_before_their_turn_gives_it_up() -> None:
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


@pytest.mark.slow
def test_two_hundred_who_leave_in_the_middle_leave_nothing_behind() -> None:
    model = toy_model()
    with serving(model) as site:
        site.runs.add("toy", to_bytes(model.trace("私は", max_new_tokens=5, seed=1)))
        loop = site.server.servers[0].get_loop()

        def behind() -> tuple[int, ...]:
            return *state(site), len(site.runs.live), len(asyncio.all_tasks(loop))

        def leave(n: int, times: int) -> None:
            for i in range(times):
                after = {"after": {"id": "1", "steps": 3}} if i % 2 else {}
                body = {"prompt": "あ", "settings": {"max_new_tokens": 400 if i % 3 else 3, "capture": ["lens"]}}
                response = site.open("POST", "/api/generate", body | after)
                assert response.status == 200
                response.readline()  # it has begun
                close(response, reset=bool((n + i) % 2))

        def all_leave(times: int) -> None:
            threads = [threading.Thread(target=leave, args=(n, times)) for n in range(10)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        all_leave(1)  # when the threads of the pools have begun
        until(lambda: not site.tasks and not site.server.server_state.connections)
        before = behind()
        all_leave(20)
        until(lambda: all(now <= then for now, then in zip(behind(), before, strict=True)))
        assert len(site.runs.traces) > 1


# --- F34: many clients ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clients", [30, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.slow
def test_all_readers_of_one_generation_get_the_same_whole_sequence(clients: int) -> None:
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
def test_two_hundred_generations_wait_for_their_turn() -> None:
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
@pytest.mark.slow
def test_readers_that_stop_hold_up_nobody_and_are_dropped(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(server, "PATIENCE_SECONDS", 2)  # who reads is at it again within that on a busy machine too
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


@pytest.mark.slow
def test_a_run_waits_for_its_only_reader_and_then_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "PATIENCE_SECONDS", 3)  # also on a busy machine the run comes so far before that
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
def test_beyond_those_that_wait_comes_429(monkeypatch: pytest.MonkeyPatch, waiting: int, asked: int) -> None:
    monkeypatch.setattr(generations, "WAITING", waiting)
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


# --- forks ------------------------------------------------------------------------------------------------------------


def told_by(site: Serving, body: dict[str, Any]) -> list[tuple[int, str, Any]]:
    """All events of a generation."""
    response = site.open("POST", "/api/generate", body)
    try:
        return events(response.read())
    finally:
        close(response)


def listed(site: Serving) -> dict[str, tuple[str | None, int]]:
    """(parent, keep) of each trace."""
    return {t["id"]: (t["parent"], t["keep"]) for t in json.loads(site.ask("GET", "/api/traces")[1])["traces"]}


@pytest.fixture(scope="module")
def forked() -> Iterator[tuple[Serving, manako.Trace]]:
    """A server with one trace of its toy model."""
    model = toy_model()
    trace = model.trace("私は", max_new_tokens=8, seed=5, temperature=1.3, top_k=50)
    with serving(model) as site:
        site.runs.add("toy", to_bytes(trace))
        yield site, trace


def test_a_fork_is_the_one_of_python_bit_for_bit(forked: tuple[Serving, manako.Trace], tmp_path: Path) -> None:
    site, trace = forked
    settings = {"max_new_tokens": 4, "temperature": 0.7, "capture": ["lens"]}
    told = told_by(site, {"prompt": "猫、", "after": {"id": "1", "steps": 3}, "settings": settings})
    expected = toy_model().fork(trace, 3, text="猫、", **settings)
    while expected.advance():
        pass
    start, end = told[0][2], told[-1][2]
    assert start["parent"] == {"id": "1", "keep": 3} and start["first_step"] == 5
    assert start["sampling"]["top_k"] == 50 and start["seed"] == 5  # the trace's own
    assert site.ask("GET", f"/api/traces/{end['id']}")[1] == to_bytes(expected.trace())
    assert listed(site)["1"] == (None, 0) and listed(site)[end["id"]] == ("1", 3)
    again = told_by(site, {"prompt": "", "after": {"id": end["id"], "steps": 2}, "settings": {"max_new_tokens": 1}})
    assert listed(site)[again[-1][2]["id"]] == (end["id"], 2)  # of a fork a fork
    assert again[0][2]["first_step"] == 7


def test_a_fork_with_nothing_changed_draws_the_same_again(forked: tuple[Serving, manako.Trace]) -> None:
    site, trace = forked
    told = told_by(site, {"prompt": "", "after": {"id": "1", "steps": 2}, "settings": {"max_new_tokens": 6}})
    assert [data["chosen"]["id"] for _, name, data in told if name == "step"] == trace.columns.token_id[2:].tolist()


def test_a_forced_token_comes_next(forked: tuple[Serving, manako.Trace]) -> None:
    site, _ = forked
    token = toy_model().tokenizer.encode("犬")[0]
    told = told_by(site, {"prompt": "", "after": {"id": "1", "steps": 2, "token": token}, "settings": {}})
    assert told[0][2]["prompt"]["ids"][-1] == token and told[0][2]["first_step"] == 3


@pytest.mark.parametrize(("after", "prompt", "status", "code"), [
    ({"id": "no", "steps": 0}, "", 404, "E-SERVE-FORGOTTEN"),
    ({"id": "1", "steps": 9}, "", 422, "E-FORK-STEP"),
    ({"id": "1", "steps": -1}, "", 422, "E-FORK-STEP"),
    ({"id": "1", "steps": 1, "token": 10**6}, "", 422, "E-FORK-TOKEN"),
    ({"id": "1", "steps": 1, "token": 5}, "a", 422, "E-FORK-TWICE"),
])  # fmt: skip
def test_what_cannot_be_gone_on_from_is_told(
    forked: tuple[Serving, manako.Trace], after: dict[str, Any], prompt: str, status: int, code: str
) -> None:
    got, body = forked[0].ask("POST", "/api/generate", {"prompt": prompt, "after": after})
    assert (got, json.loads(body)["code"]) == (status, code)
    assert not forked[0].runs.live


def test_another_models_trace_is_not_gone_on_from(forked: tuple[Serving, manako.Trace]) -> None:
    site = forked[0]
    other = site.runs.add("golden.manako", to_bytes(golden_trace()))
    got, body = site.ask("POST", "/api/generate", {"prompt": "", "after": {"id": other, "steps": 1}})
    assert got == 422
    expected = manako.CapabilityError("fork_other_model", made="golden", ref="toy")
    assert json.loads(body) == {"code": expected.code, "message": expected.text("en")}


def test_too_much_text_in_front_is_not_gone_on_from(
    forked: tuple[Serving, manako.Trace], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generations, "LONGEST_TEXT", 5)
    site, trace = forked
    at_most = {"id": "1", "steps": 8}
    got, body = site.ask("POST", "/api/generate", {"prompt": "", "after": at_most})
    assert len(trace.text) > 5 and got == 422 and json.loads(body)["code"] == "E-SERVE-TEXT"
    assert told_by(site, {"prompt": "", "after": {"id": "1", "steps": 0}, "settings": {"max_new_tokens": 1}})


def test_a_trace_that_is_forked_again_is_opened_once(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    plain = generations.trace_of
    monkeypatch.setattr(generations, "trace_of", lambda parts, name: opened.append(name) or plain(parts, name))
    model = toy_model()
    with serving(model) as site:
        site.runs.add("toy", to_bytes(model.trace("私は", max_new_tokens=3, seed=5)))
        for steps in (0, 1, 2):
            told_by(site, {"prompt": "", "after": {"id": "1", "steps": steps}, "settings": {"max_new_tokens": 1}})
    assert opened == ["toy"]


def test_children_of_a_forgotten_trace_stay_as_roots(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(toy_model()) as site:
        first = told_by(site, {"prompt": "私", "settings": {"max_new_tokens": 3, "seed": 1}})[-1][2]["id"]
        monkeypatch.setattr(generations, "KEPT_BYTES", len(site.runs.traces[first].data) * 7 // 2)
        body = {"prompt": "", "after": {"id": first, "steps": 1}, "settings": {"max_new_tokens": 3}}
        second, third = (told_by(site, body)[-1][2]["id"] for _ in range(2))
        assert listed(site) == {first: (None, 0), second: (first, 1), third: (first, 1)}
        fourth = told_by(site, body)[-1][2]["id"]  # for which its own parent has to go
        assert listed(site) == {second: (None, 0), third: (None, 0), fourth: (None, 0)}


def test_a_trace_that_is_forgotten_before_its_fork_has_ended_is_no_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    session = Gated()
    forking = SimpleNamespace(generate=free, fork=lambda trace, steps, **settings: endless(session))
    with serving(forking) as site:
        first = told_by(site, {"prompt": "a", "settings": {"max_new_tokens": 2}})[-1][2]["id"]
        response = site.open("POST", "/api/generate", {"prompt": "", "after": {"id": first, "steps": 1}})
        until(lambda: len(site.only_run().events) == 1)
        monkeypatch.setattr(generations, "KEPT_BYTES", 1)
        second = told_by(site, {"prompt": "a", "settings": {"max_new_tokens": 2}})[-1][2]["id"]
        monkeypatch.setattr(generations, "KEPT_BYTES", 10**9)
        session.gate.release(100)
        told = events(response.read())
        close(response)
        assert told[0][2]["parent"] == {"id": first, "keep": 1}
        assert listed(site) == {second: (None, 0), told[-1][2]["id"]: (None, 0)}


# --- a model that is not there yet -----------------------------------------------------------------------------------


def asked(site: Serving) -> http.client.HTTPConnection:
    """A client that waits for a generation to begin."""
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=60)
    body = json.dumps({"prompt": "あ", "settings": {"max_new_tokens": 2}})
    connection.request("POST", "/api/generate", body, {"X-Manako-Token": TOKEN, "Content-Type": "application/json"})
    return connection


def test_traces_show_before_the_model_is_there_and_a_generation_waits_for_it() -> None:
    with serving() as site:
        site.runs.add("golden.manako", to_bytes(golden_trace()))
        assert json.loads(site.ask("GET", "/api/model")[1]) == {"ready": False, "ref": "slow"}
        assert site.ask("GET", "/api/traces/1")[0] == 200
        assert site.ask("POST", "/api/generate", {"prompt": 1})[0] == 422  # nonsense is told at once
        client = asked(site)
        until(lambda: bool(site.tasks))
        site.runs.model.set_result(toy_model())
        told = events(client.getresponse().read())
        client.close()
        assert [name for _, name, _ in told] == ["start", "step", "step", "end"]
        assert json.loads(site.ask("GET", "/api/model")[1])["ready"]


def test_who_leaves_before_the_model_is_there_leaves_nothing_behind() -> None:
    with serving() as site:
        clients = [asked(site) for _ in range(5)]
        until(lambda: site.tasks == 5)
        for client in clients:
            client.close()
        until(lambda: not site.tasks)
        site.runs.model.set_result(toy_model())
        until(lambda: not site.runs.live and list(site.runs.traces) == [])


@pytest.mark.parametrize("ends", [False, True], ids=["no model", "the server ends"])
def test_who_waits_for_a_model_that_does_not_come_is_told(ends: bool) -> None:
    with logged() as said, serving() as site:
        client = asked(site)
        until(lambda: bool(site.tasks))
        if ends:
            site.server.should_exit = True
        else:
            site.runs.model.set_exception(manako.LoadError("ref_unknown", ref="slow", near=""))
        response = client.getresponse()
        assert response.status == 503 and json.loads(response.read())["code"] == "E-SERVE-NO-MODEL"
        client.close()
        if not ends:
            assert json.loads(site.ask("GET", "/api/model")[1]) == {"ready": False, "ref": "slow"}
            assert site.ask("POST", "/api/generate", {"prompt": "あ"})[0] == 503
    assert said == []


# --- what is kept -----------------------------------------------------------------------------------------------------


def test_the_oldest_generation_is_forgotten_and_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with serving(free) as site:
        site.runs.add("golden.manako", to_bytes(golden_trace()))
        first = site.generate(max_new_tokens=2)
        key = events(first.read())[-1][2]["id"]
        close(first)
        size = len(site.runs.traces[key].data)
        monkeypatch.setattr(generations, "KEPT_BYTES", 2 * size)
        for _ in range(2):
            response = site.generate(max_new_tokens=2)
            response.read()
            close(response)
        assert len(site.runs.traces) == 3 and key not in site.runs.traces
        assert site.ask("GET", f"/api/traces/{key}")[0] == 404
        for n, kept in enumerate(site.runs.traces.values()):
            (tmp_path / f"{n}.manako").write_bytes(kept.data)
            assert len(manako.open(tmp_path / f"{n}.manako")) == (12 if n == 0 else 2)


def test_no_more_generations_are_kept_than_a_list_can_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generations, "KEPT_TRACES", 2)
    with serving(toy_model()) as site:
        body = {"prompt": "私", "settings": {"max_new_tokens": 1}}
        first, *others = (told_by(site, body)[-1][2]["id"] for _ in range(3))
        assert [*site.runs.traces] == others and first not in listed(site)


@pytest.mark.parametrize("end", ["\n", "\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029"])
def test_no_text_ends_the_line_of_an_event(end: str) -> None:
    run = Run("1", "en")
    run.tell("start", {"text": f"a{end}{end}event: step{end}"})
    told = run.events[0].decode()
    assert len(told.splitlines()) == 4 and events(run.events[0])[0][2]["text"].count(end) == 3


def test_who_waits_hears_that_the_server_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generations, "PING_SECONDS", 0.01)

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
        runs = runs_with(generate)
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
