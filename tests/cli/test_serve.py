"""`manako serve`: where it listens (F37, T14), where its token shows (T13), how it ends, what it refuses to start."""

import hashlib
import http.client
import json
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from commands import MANAKO, Run, environment
from serving import Gated, events, serving, until
from toy import write_toy

import manako
from manako import messages
from manako.cli import serve
from manako.cli.serve import browser, listen
from manako.engines.generation import Generation
from manako.errors import ManakoError
from manako.formats import run_folder
from manako.model import load
from manako.refs import example
from manako.server.generations import Runs
from manako.trace.dynamics import open_dynamics
from manako.trace.file import to_bytes
from manako.trace.schema import TRACE
from manako.trace.tree import Branch, Tree, open_tree, tree_bytes

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
URL = re.compile(r"http://(\S+):(\d+)/#token=([\w-]{43})\n")


@contextmanager
def command(
    *words: str, program: Sequence[str] = MANAKO, **changes: str
) -> Iterator[tuple[subprocess.Popen[str], str, int, str]]:
    """`manako serve` in a process of its own; (process, host, port, token) once it has told them."""
    process = subprocess.Popen(
        [*program, "serve", "--lang", "en", *words],
        env=environment(**changes),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    watchdog = threading.Timer(120, process.kill)  # one that does not end must be a failure, not a hang
    watchdog.start()
    try:
        with process:
            assert process.stdout
            found = URL.search(process.stdout.readline())
            assert found
            yield process, found[1], int(found[2]), found[3]
            process.kill()
    finally:
        watchdog.cancel()


def ask(port: int, path: str, token: str = "", body: object = None, host: str = "127.0.0.1") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(host, port, timeout=60)
    headers = {"X-Manako-Token": token} | ({} if body is None else {"Content-Type": "application/json"})
    connection.request("GET" if body is None else "POST", path, None if body is None else json.dumps(body), headers)
    response = connection.getresponse()
    try:
        return response.status, response.read()
    finally:
        connection.close()


def listening(pid: int) -> set[str]:
    """Local addresses of the listening sockets of a process, in hex, as `ss -ltnp` reads them."""
    inodes = set[str]()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed in the meantime
            inodes |= {str(descriptor.readlink())}
    found = set[str]()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                found.add(fields[1].split(":")[0])
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
@pytest.mark.slow
def test_the_token_shows_once_and_only_loopback_is_open(saved: Path, tmp_path: Path) -> None:
    with command(str(saved), "--port", "0", "--no-browser", "--debug") as found:
        process, host, port, token = found
        assert host == "127.0.0.1" and listening(process.pid) == {"0100007F"}
        for address in ("127.0.0.2", *_other_addresses()):
            with pytest.raises(OSError, match=r"refused|unreachable"):
                socket.create_connection((address, port), timeout=10)
        status, body = ask(port, "/api/traces", token)
        assert status == 200 and json.loads(body)["traces"][0]["title"] == saved.name
        assert ask(port, "/api/traces/1", token) == (200, saved.read_bytes())
        answers = [ask(port, "/"), ask(port, f"/{token}", token + "x"), ask(port, "/nowhere", token)]
        answers += [ask(port, "/api/generate", token, body) for body in ({"prompt": 1}, {"prompt": "私は"})]
        assert events(answers[-1][1])[-1][1] == "end"
        shown = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        assert not [answer for answer in answers if token.encode() in answer[1]] and token.encode() not in shown
        process.send_signal(signal.SIGINT)
        assert process.stdout and process.stderr
        assert token not in process.stdout.read() + process.stderr.read()
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and token.encode() in path.read_bytes()]


def _other_addresses() -> list[str]:
    """What else this machine is called, if anything."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            return []
        return [] if probe.getsockname()[0].startswith("127.") else [probe.getsockname()[0]]


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.slow
def test_a_signal_ends_it_cleanly_in_the_middle_of_a_generation(sent: signal.Signals, tmp_path: Path) -> None:
    with command("--port", "0", "--no-browser", TMPDIR=str(tmp_path)) as (process, _, port, token):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        body = json.dumps({"prompt": "私は", "settings": {"max_new_tokens": 2000}})
        connection.request("POST", "/api/generate", body, {"X-Manako-Token": token, "Content-Type": "application/json"})
        response = connection.getresponse()
        first = response.readline()
        process.send_signal(sent)
        assert 0 < len(events(first + response.read())) < 2000  # the stream ends, and whole
        response.close()
        connection.close()
        assert process.stderr
        said = process.stderr.read().splitlines()
        assert process.wait() == (130 if sent == signal.SIGINT else 0)
        assert said == ["manako: Ctrl-C ends it", *(["manako: interrupted"] if sent == signal.SIGINT else [])]
    assert list(tmp_path.iterdir()) == []


def test_the_default_port_or_the_next_free_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(serve, "PORT", port)
        with listen("127.0.0.1", None) as other:
            assert port < other.getsockname()[1] < port + serve.PORTS_TRIED
        monkeypatch.setattr(serve, "PORTS_TRIED", 1)
        with pytest.raises(ManakoError) as raised:
            listen("127.0.0.1", None)
        assert raised.value.code == "E-PORTS-TAKEN"


def test_a_named_port_that_is_taken_is_an_error(run: Run) -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        result = run("serve", "--port", port, "--no-browser", "--lang", "en")
    assert (result.code, result.out) == (1, "")
    assert (
        result.err == f"manako: {messages.text('error.port_taken', 'en', host='127.0.0.1', port=port)} [E-PORT-TAKEN]\n"
    )


@pytest.mark.slow
def test_a_move_to_another_port_is_said() -> None:
    """Whether 8765 is free here or not, the second of two servers has to move."""
    with command("--no-browser") as (_, _, first, _), command("--no-browser") as (process, _, second, token):
        assert second != first and second > serve.PORT
        assert ask(second, "/api/traces", token)[0] == 200
        process.send_signal(signal.SIGINT)
        assert process.stderr
        assert messages.text("notice.port_taken", "en", port=serve.PORT, used=second) in process.stderr.read()


@pytest.mark.parametrize("port", ["-1", "65536", "x", "1.5"])
def test_a_port_that_cannot_be(run: Run, port: str) -> None:
    result = run("serve", "--port", port, "--no-browser")
    assert result.code == 2 and "[E-PORT]" in result.err


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid", "x" * 300, ""])
def test_an_address_that_is_not_this_machines(run: Run, host: str) -> None:
    result = run("serve", "--host", host, "--port", 0, "--no-browser")
    assert result.code == 1 and "[E-PORT-REFUSED]" in result.err and len(result.err.splitlines()) == 1


def test_a_port_without_rights(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")  # tests may run as root, whom nothing refuses

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(ManakoError) as raised:
        listen("127.0.0.1", 80)
    assert raised.value.code == "E-PORT-REFUSED" and "Permission denied" in str(raised.value)


@pytest.mark.slow
def test_another_host_warns_and_keeps_the_token() -> None:
    with command("--host", "0.0.0.0", "--port", "0", "--no-browser") as (process, host, port, token):
        assert host == "127.0.0.1"
        assert ask(port, "/api/traces")[0] == 403 and ask(port, "/api/traces", token)[0] == 200
        process.send_signal(signal.SIGINT)
        assert process.stderr
        assert messages.text("notice.exposed", "en", host="0.0.0.0") in process.stderr.read()


@pytest.mark.parametrize(("words", "code"), [
    (["no.manako"], 3),
    (["-m", "no-such-model"], 3),
    (["-m", "openai:name@http://127.0.0.1:1/v1"], 4),
])  # fmt: skip
def test_what_cannot_be_opened_is_told_before_anything_is_served(run: Run, words: list[str], code: int) -> None:
    result = run("serve", "--port", 0, "--no-browser", *words)
    assert (result.code, result.out) == (code, "") and len(result.err.splitlines()) == 1


# --- a model that takes its time -------------------------------------------------------------------------------------

SLOW = """
import sys
from manako.cli import main, serve
from manako.errors import LoadError

def slow(ref):
    if sys.stdin.readline() == "fail\\n":
        raise LoadError("ref_unknown", ref=ref, near="")
    return plain("demo")

plain, serve.load, serve.QUICK_SECONDS = serve.load, slow, 0.01
main()
"""
LOADS_SLOWLY = [sys.executable, "-W", "error", "-c", SLOW]
ONE = {"prompt": "私は", "settings": {"max_new_tokens": 1}}


@pytest.mark.slow
def test_the_page_is_there_before_the_model() -> None:
    with command("--port", "0", "--no-browser", "-m", "big", program=LOADS_SLOWLY) as (process, _, port, token):
        assert json.loads(ask(port, "/api/model", token)[1]) == {"ready": False, "ref": "big"}
        assert ask(port, "/api/traces/1", token) == (200, serve.example("demo-en").read_bytes())
        assert process.stdin
        print("go", file=process.stdin, flush=True)
        assert events(ask(port, "/api/generate", token, ONE)[1])[-1][1] == "end"
        about = json.loads(ask(port, "/api/model", token)[1])
        assert about["ready"] and about["ref"] == "big" and about["weights_sha256"] == load("demo").info.weights_sha256


@pytest.mark.slow
def test_a_model_that_fails_later_ends_the_server_and_tells_who_waits() -> None:
    with command("--port", "0", "--no-browser", "-m", "big", program=LOADS_SLOWLY) as (process, _, port, token):
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        client.request(
            "POST", "/api/generate", json.dumps(ONE), {"X-Manako-Token": token, "Content-Type": "application/json"}
        )
        assert ask(port, "/api/model", token)[0] == 200  # so what was asked before has been read
        assert process.stdin and process.stderr
        print("fail", file=process.stdin, flush=True)
        assert client.getresponse().status == 503
        client.close()
        said = messages.text("error.ref_unknown", "en", ref="big", near="")
        assert process.stderr.read().splitlines() == ["manako: Ctrl-C ends it", f"manako: {said} [E-REF-UNKNOWN]"]
        assert process.wait() == 3


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
@pytest.mark.slow
def test_a_signal_ends_it_while_the_model_loads(sent: signal.Signals, code: int) -> None:
    with command("--port", "0", "--no-browser", program=LOADS_SLOWLY) as (process, _, port, token):
        assert ask(port, "/api/model", token)[0] == 200
        process.send_signal(sent)
        assert process.wait(30) == code and process.stderr
        assert len(process.stderr.read().splitlines()) == (2 if code else 1)


# --- what is shown ----------------------------------------------------------------------------------------------------


def test_the_example_is_the_embedded_models(run: Run) -> None:
    trace = manako.open(serve.example())
    info, settings = load("demo").info, trace.header
    assert (settings.model.weights_sha256, settings.model.tokenizer_sha256) == (
        info.weights_sha256,
        info.tokenizer_sha256,
    )
    assert (settings.prompt, len(trace), settings.sampling.temperature) == ("彼は", 13, 0.8)
    assert settings.capture == ("attention", "lens", "contributions")
    assert manako.verify(trace).rederived == 13
    assert TRACE.id.encode() in serve.example().read_bytes()  # or it is older than the program
    again = load("demo").trace("彼は", max_new_tokens=13, temperature=0.8, seed=settings.seed)
    assert (again.columns.token_id == trace.columns.token_id).all()
    assert serve.example().stat().st_size < 400_000


def test_a_tree_is_served_branch_by_branch(tmp_path: Path, saved: Path) -> None:
    model = load("demo")
    root = model.trace("私は", max_new_tokens=4, seed=1)
    second = finished(model.fork(root, 2, text="猫", max_new_tokens=3))
    third = finished(model.fork(second, 1, max_new_tokens=2))
    branches = (Branch("a", None, 0, root), Branch("b", "a", 2, second), Branch("c", "b", 1, third))
    (tmp_path / "tree.manako").write_bytes(tree_bytes(Tree(branches, "b")))
    runs = Runs("demo")
    for name in (saved, tmp_path / "tree.manako"):
        serve._add(runs, name.name, open_tree(name))
    found = [(key, kept.title, kept.parent, kept.keep) for key, kept in runs.traces.items()]
    assert found == [
        ("1", saved.name, None, 0),
        ("2", root.text, None, 0),
        ("3", second.text, "2", 2),
        ("4", third.text, "3", 1),
    ]
    assert runs.traces["3"].data == to_bytes(second)


def finished(generation: Generation) -> manako.Trace:
    """The record of a run, brought to its end."""
    while generation.advance():
        pass
    return generation.trace()


@pytest.mark.slow
def test_without_a_file_the_example_is_shown() -> None:
    with command("--port", "0", "--no-browser") as (_, _, port, token):
        (only,) = json.loads(ask(port, "/api/traces", token)[1])["traces"]
        assert only["title"] == manako.open(serve.example("demo-en")).text


def test_the_browser_starts_without_the_token_in_its_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    found: list[tuple[int, str]] = []

    def note(url: str) -> bool:
        path = Path(url.removeprefix("file://"))
        found.append((stat.S_IMODE(path.stat().st_mode), path.read_text(encoding="utf-8")))
        opened.append(url)
        return True

    monkeypatch.setattr(webbrowser, "open", note)
    monkeypatch.setenv("BROWSER", "true")
    with browser("http://127.0.0.1:1/#token=secret"):
        until(lambda: bool(opened))
    assert "secret" not in opened[0]
    assert found[0][0] == 0o600 and 'content="0;url=http://127.0.0.1:1/#token=secret"' in found[0][1]
    assert not Path(opened[0].removeprefix("file://")).exists()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is always a screen")
def test_no_browser_starts_where_there_is_no_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webbrowser, "open", lambda url: pytest.fail("opened"))
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    with browser("http://127.0.0.1:1/"):
        pass


def test_the_servers_language_is_that_of_the_command() -> None:
    with serving(Gated().generate, lang="ja") as site:
        body = site.ask("GET", "/api/traces", X_Manako_Token="")[1]
        assert json.loads(body)["message"] == messages.text("error.serve_token", "ja")


@pytest.mark.slow
def test_serving_loads_no_torch() -> None:
    code = (
        "import sys; from manako.cli import serve; from manako.server.generations import Runs; "
        "from manako.server.http import Guard, Site; import manako; "
        "runs = Runs('demo'); runs.model.set_result(manako.load('demo')); "
        "Guard(Site(runs, 'en'), '127.0.0.1', 1, 't'); "
        "print(*sorted({'torch', 'transformers', 'httptools', 'websockets'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


# --- a training -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_that_still_goes_is_followed(tmp_path: Path) -> None:
    """Each new snapshot is there soon after it was left; without news there is nothing to send."""
    run = tmp_path / "mine"
    for step in (0, 4):
        write_toy(run_folder.step_folder(run, step), seed=step)
    run_folder.point(run, run_folder.LAST, run_folder.step_folder(run, 4))
    (run / "config.toml").write_text('data = ["/nowhere"]\nsample = "私は猫"\n')
    with command(str(run), "--port", "0", "--no-browser") as (_, _, port, token):
        assert b"<manako-learning>" in ask(port, "/")[1] and ask(port, "/api/dynamics")[0] == 403
        status, data = ask(port, "/api/dynamics?known=", token)
        known = f"/api/dynamics?known=%22{hashlib.sha256(data).hexdigest()[:32]}%22"
        assert status == 200 and ask(port, known, token) == (204, b"")
        (tmp_path / "d.manako").write_bytes(data)
        found = open_dynamics(tmp_path / "d.manako")
        assert found.steps == (0, 4) and found.header.text == "私は猫"
        run_folder.discard(run_folder.step_folder(run, 4))  # as by a resumed run that takes its steps anew
        write_toy(run_folder.step_folder(run, 8), seed=8)
        run_folder.point(run, run_folder.LAST, run_folder.step_folder(run, 8))

        def steps() -> tuple[int, ...]:
            (tmp_path / "d.manako").write_bytes(ask(port, known, token)[1] or data)
            return open_dynamics(tmp_path / "d.manako").steps

        until(lambda: steps() == (0, 8))
    with command(str(tmp_path / "d.manako"), "--port", "0", "--no-browser") as (_, _, port, token):
        assert ask(port, "/api/dynamics", token)[1] == (tmp_path / "d.manako").read_bytes()


def test_a_training_is_served_alone_and_a_page_of_traces_has_none(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert run("serve", tmp_path / "empty").code == 3
    assert run("serve", example(), tmp_path / "empty").code == 2
    with serving() as server:
        assert server.ask("GET", "/api/dynamics")[0] == 404
