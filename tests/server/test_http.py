"""The page's server: who gets in (T11, T12), what a path can name (T15), bounds (T23), and its documented answers."""

import contextlib
import gzip
import hashlib
import http.client
import itertools
import json
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from golden import golden_trace
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving import TOKEN, Gated, Serving, asgi, close, events, free, logged, raw, runs_with, serving, until
from toy import toy_model, write_toy
from toy_llama import write_toy_llama

import manako
from manako import messages
from manako.analysis.merges import merge_counts
from manako.corpus import build
from manako.formats import run_folder
from manako.model import for_page, load
from manako.sampling import DEFAULT_ORDER
from manako.server import http as server_module
from manako.server.generations import TOP
from manako.server.http import (
    BODY_BYTES,
    HEADER_BYTES,
    STATUS,
    URL_BYTES,
    Guard,
    Site,
)
from manako.server.openapi import SHAPE, document
from manako.server.requests import LONGEST_PROMPT, MOST_STEPS
from manako.settings import SETTINGS, RunSettings
from manako.tokenizer import Tokenizer
from manako.trace.file import to_bytes
from manako.training.run import keep_settings
from manako.views.document import step_record
from manako.views.html import offline_page, trainer_page

PORT = 8765
OWN = f"127.0.0.1:{PORT}"


@pytest.fixture(scope="module")
def site() -> Iterator[Serving]:
    """A server with a toy model and the golden record in it."""
    with serving(toy_model()) as found:
        found.runs.add("golden.manako", to_bytes(golden_trace()))
        yield found


def guard(host: str = "127.0.0.1", port: int = PORT) -> Guard:
    """The application alone, with the golden record in it."""
    runs = runs_with(free)
    runs.add("golden.manako", to_bytes(golden_trace()))
    return Guard(Site(runs, "en"), host, port, TOKEN)


# --- who gets in ------------------------------------------------------------------------------------------------------

HOSTS = {  # name -> (values of the Host header, path in front of the path)
    "127.0.0.1": ([OWN], ""),
    "localhost": ([f"localhost:{PORT}"], ""),
    "[::1]": ([f"[::1]:{PORT}"], ""),
    "without port": (["127.0.0.1"], ""),
    "looks alike": ([f"localhost.evil.example:{PORT}"], ""),
    "rebinding": (["evil.example"], ""),
    "empty": ([""], ""),
    "twice": ([OWN, OWN], ""),
    "absolute form": ([OWN], "http://evil.example"),
}
ORIGINS = {  # name -> values of the Origin header; HOST stands for the one that was sent
    "absent": [],
    "own": ["http://HOST"],
    "null": ["null"],
    "looks alike": [f"http://localhost.evil.example:{PORT}"],
    "https": ["https://HOST"],
    "other port": [f"http://127.0.0.1:{PORT + 1}"],
    "other site": ["http://evil.example"],
    "empty": [""],
    "twice": ["http://HOST", "http://HOST"],
}
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS")
TOKENS = {"none": [], "wrong": ["wrong-token"], "right": [TOKEN]}
SECRETS = (b"golden.manako", b"traces")  # what an answer without data does not hold


def test_only_the_pages_own_requests_get_in() -> None:
    app, asked, passed = guard(), 0, 0
    for (host, (hosts, front)), origin, method, token in itertools.product(HOSTS.items(), ORIGINS, METHODS, TOKENS):
        headers = [(b"host", h.encode()) for h in hosts]
        headers += [(b"origin", o.replace("HOST", (hosts or [""])[0]).encode()) for o in ORIGINS[origin]]
        headers += [(b"x-manako-token", t.encode()) for t in TOKENS[token]]
        got = asgi(app, method, front + "/api/traces", headers)
        asked += 1
        if token == "right" and origin in ("absent", "own") and host in ("127.0.0.1", "localhost", "[::1]"):
            passed += 1
            assert got.status == (200 if method in ("GET", "HEAD") else 405), (host, origin, method)
        else:
            assert got.status == 403, (host, origin, method, token)
            assert not any(secret in got.body for secret in SECRETS)
        assert not [name for name in got.headers if name.startswith((b"access-control", b"set-cookie"))]
        assert b"default-src 'none'" in got.headers[b"content-security-policy"]
    assert (asked, passed) == (1458, 3 * 2 * 6)


@pytest.mark.parametrize(
    "path", ["/", "/assets/style.css", "/api/traces", "/api/generate", "/nowhere", "/assets/no.js"]
)
@pytest.mark.parametrize("token", TOKENS)
def test_a_rebound_name_gets_nothing_at_all(path: str, token: str) -> None:
    headers = [(b"host", b"evil.example:8765"), *((b"x-manako-token", t.encode()) for t in TOKENS[token])]
    for method in METHODS:
        got = asgi(guard(), method, path, headers)
        assert got.status == 403 and json.loads(got.body)["code"] == "E-SERVE-HOST"


@pytest.mark.parametrize(("host", "given", "ok"), [
    ("192.0.2.7", "192.0.2.7:8765", True),
    ("192.0.2.7", "192.0.2.8:8765", False),
    ("box.example", "BOX.example:8765", True),
    ("0.0.0.0", "192.0.2.8:8765", True),
    ("0.0.0.0", "[2001:db8::1]:8765", True),
    ("0.0.0.0", "192.0.2.8:8766", False),
    ("0.0.0.0", "evil.example:8765", False),
    ("::1", "[::1]:8765", True),
    ("127.0.0.1", "192.0.2.8:8765", False),
])  # fmt: skip
def test_another_address_answers_to_its_own_name(host: str, given: str, ok: bool) -> None:
    assert asgi(guard(host), "GET", "/", [(b"host", given.encode())]).status == (200 if ok else 403)


def test_port_80_is_the_one_that_browsers_leave_out() -> None:
    assert asgi(guard(port=80), "GET", "/", [(b"host", b"localhost")]).status == 200
    assert asgi(guard(), "GET", "/", [(b"host", b"localhost")]).status == 403


def test_two_tokens_are_none() -> None:
    headers = [(b"host", OWN.encode()), (b"x-manako-token", TOKEN.encode()), (b"x-manako-token", b"x")]
    assert asgi(guard(), "GET", "/api/traces", headers).status == 403


@pytest.mark.parametrize("head", [
    b"Host: evil.example\r\n",
    b"",
    b"Host: HOST\r\nHost: HOST\r\n",
    b"Host: HOST\r\nOrigin: null\r\n",
    b"Host:\r\n",
])  # fmt: skip
def test_over_a_real_socket(site: Serving, head: bytes) -> None:
    own = site.host.encode()
    request = b"GET /api/traces HTTP/1.1\r\nConnection: close\r\nX-Manako-Token: " + TOKEN.encode() + b"\r\n"
    good = raw(site.port, request + b"Host: " + own + b"\r\n\r\n")
    assert b" 200 OK" in good and b"golden.manako" in good
    bad = raw(site.port, request + head.replace(b"HOST", own) + b"\r\n")
    assert bad.split()[1] in (b"403", b"400") and b"golden.manako" not in bad


def test_a_form_of_another_page_cannot_post(site: Serving) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        status, body = site.ask("POST", "/api/generate", b'{"prompt": "a"}', Content_Type=kind)
        assert status == 415 and json.loads(body)["code"] == "E-SERVE-TYPE"


# --- the page and the traces -----------------------------------------------------------------------------------------


def test_the_shell_holds_no_data_and_needs_no_token_and_is_kept_by_its_names(site: Serving) -> None:
    front = site.ask("GET", "/")[1].decode()
    named = re.findall(r'(?:src|href)="(/assets/[^"]+)"', front)
    script = site.ask("GET", next(path for path in named if path.endswith(".js")))[1].decode()
    (engine,) = re.findall(r'"engine":"([^"]+)"', script)
    assert [re.sub("-[0-9a-f]{16}", "", path) for path in (*named, engine)] == [
        *("/assets/style.css", "/assets/page.js", "/assets/engine.js")
    ]
    kinds = {"js": "text/javascript", "css": "text/css", "txt": "text/plain"}
    for path in ("/", *named, engine, "/assets/offline.txt"):
        plain, packed = (site.open("GET", path, X_Manako_Token="", Accept_Encoding=e) for e in ("identity", "gzip, br"))
        body, small = plain.read(), packed.read()
        for response in (plain, packed):
            close(response)
            assert response.status == 200 and response.headers["vary"] == "Accept-Encoding"
            assert response.headers["content-type"].split(";")[0] == kinds.get(path.split(".")[-1], "text/html")
        assert (plain.headers["content-encoding"], packed.headers["content-encoding"]) == (None, "gzip")
        assert gzip.decompress(small) == body and len(small) < 0.8 * len(body)
        assert TOKEN.encode() not in body and b"golden.manako" not in body
        digest = re.search(r"-([0-9a-f]{16})\.", path)
        assert digest is None or hashlib.sha256(body).hexdigest().startswith(digest[1])
        assert ("immutable" in packed.headers["cache-control"]) is bool(digest)
        assert bool(digest) or packed.headers["cache-control"] == "no-store"
    assert site.ask("GET", "/assets/package.json")[0] == 404
    served = json.loads(script.removeprefix("globalThis.manakoServed = ").partition(";\n")[0])["words"]
    assert served.keys() == set(messages.LANGUAGES) and served["ja"].items() <= messages.catalog("ja").items()


def test_the_page_that_trains_is_a_link_away_and_has_a_policy_of_its_own(site: Serving) -> None:
    front = site.ask("GET", "/")[1].decode()
    for lang in messages.LANGUAGES:
        assert f'<a href="/train.html" lang="{lang}">{messages.text("training.title", lang)}</a>' in front
    response = site.open("GET", "/train.html")
    body = response.read().decode()
    close(response)
    (inside,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', body)
    policy = response.headers["content-security-policy"]
    assert policy == f"{inside}; frame-ancestors 'none'" and response.headers["x-content-type-options"] == "nosniff"
    assert body == trainer_page("en") and TOKEN not in body
    scripts = next(part.split()[1:] for part in policy.split("; ") if part.startswith("script-src"))
    assert {each for each in scripts if not each.startswith("'sha256-")} == {"'wasm-unsafe-eval'"}


def test_every_answer_forbids_what_the_page_does_not_need(site: Serving) -> None:
    for path, token in (("/", ""), ("/api/traces", TOKEN), ("/api/traces", ""), ("/nowhere", TOKEN)):
        response = site.open("GET", path, X_Manako_Token=token)
        response.read()
        close(response)
        policy = dict(part.strip().split(" ", 1) for part in response.headers["content-security-policy"].split(";"))
        assert policy == {
            "default-src": "'none'", "script-src": "'self' 'wasm-unsafe-eval'", "worker-src": "'self'",
            "style-src": "'self'", "connect-src": "'self'", "base-uri": "'none'", "form-action": "'none'",
            "frame-ancestors": "'none'", "require-trusted-types-for": "'script'", "trusted-types": "manako",
        }  # fmt: skip
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["cache-control"] == "no-store"
        assert "server" not in response.headers


def test_traces_come_as_their_files(site: Serving, tmp_path: Path) -> None:
    listed = json.loads(site.ask("GET", "/api/traces")[1])["traces"]
    data = to_bytes(golden_trace())
    assert {"id": "1", "title": "golden.manako", "bytes": len(data), "parent": None, "keep": 0} in listed
    assert site.ask("GET", "/api/traces/1") == (200, data)
    assert site.ask("GET", "/api/traces/no")[0] == 404


def test_the_page_without_a_record_is_there_as_text(site: Serving) -> None:
    response = site.open("GET", "/assets/offline.txt", X_Manako_Token="")
    body = response.read().decode()
    close(response)
    assert response.headers["content-type"] == "text/plain; charset=utf-8" and body == offline_page("en")
    assert "golden" not in body


def test_a_model_that_the_page_can_run_comes_as_its_file_behind_the_token(tmp_path: Path) -> None:
    write_toy(tmp_path / "toy")
    model = load(tmp_path / "toy")
    path = f"/api/models/{model.info.weights_sha256}"
    with serving(model) as site:
        assert json.loads(site.ask("GET", "/api/model")[1])["in_page"]
        assert site.ask("GET", path) == (200, for_page(tmp_path / "toy"))
        assert site.ask("GET", path, X_Manako_Token="")[0] == 403
        assert site.ask("GET", "/api/models/no")[0] == 404
    with serving(model, shared=True) as site:  # where the list of texts is
        assert not json.loads(site.ask("GET", "/api/model")[1])["in_page"]
    write_toy_llama(tmp_path / "llama")
    llama = load(tmp_path / "llama")
    with serving(llama) as site:
        assert not json.loads(site.ask("GET", "/api/model")[1])["in_page"]
        assert site.ask("GET", f"/api/models/{llama.info.weights_sha256}")[0] == 404


def test_the_merges_of_its_vocabulary_come_with_what_the_corpus_has_of_them(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("猫は猫である。猫は思う。\n" * 30, encoding="utf-8")
    corpus = build(tmp_path / "a.txt", tmp_path / "c", tokenizer="bpe", vocab_size=270, validation=0.1)
    tokenizer = Tokenizer(corpus.tokenizer_source)
    step = run_folder.step_folder(tmp_path / "run", 1)
    write_toy(step, tokenizer)
    (step / run_folder.STATE).write_text(json.dumps({"corpus": corpus.digest}))
    run_folder.point(tmp_path / "run", run_folder.LAST, step)
    keep_settings(tmp_path / "run", {}, [str(tmp_path / "c")])
    path = f"/api/merges/{tokenizer.fingerprint}"
    with serving(load(tmp_path / "run")) as site:
        status, data = site.ask("GET", path)
        assert status == 200 and dict(json.loads(data)["counts"]) == merge_counts(tokenizer, corpus)
        assert site.ask("GET", path, X_Manako_Token="")[0] == 403
        assert site.ask("GET", "/api/merges/no") == (200, b"null")
    characters = toy_model()
    with serving(characters) as site:
        assert site.ask("GET", f"/api/merges/{characters.tokenizer.fingerprint}") == (200, b"null")


def test_the_model_says_what_it_is(site: Serving) -> None:
    info = toy_model().info
    assert json.loads(site.ask("GET", "/api/model")[1]) == {
        "ready": True,
        "ref": "toy",
        "shape": {"n_layer": 2, "n_head": 2, "n_embd": 12, "n_positions": 16},
        "vocab_size": toy_model().config.vocab_size,
        "captures": ["attention", "lens", "contributions", "residual"],
        "weights_sha256": info.weights_sha256,
        "tokenizer_sha256": info.tokenizer_sha256,
        "in_page": False,  # it lies in no folder
        "beside": [],
    }


def test_another_family_has_a_shape_too(tmp_path: Path) -> None:
    write_toy_llama(tmp_path / "llama")
    with serving(load(tmp_path / "llama")) as site:
        shape = json.loads(site.ask("GET", "/api/model")[1])["shape"]
        assert shape.keys() == set(SHAPE) and all(type(size) is int for size in shape.values())


SEEDED: dict[str, Any] = {"max_new_tokens": 6, "seed": 2**64 - 1, "temperature": 0.7, "top_k": 40, "capture": ["lens"]}


def test_a_generation_is_the_one_of_python_bit_for_bit(site: Serving, tmp_path: Path) -> None:
    expected = toy_model().trace("私は", **SEEDED)
    response = site.generate("私は", **SEEDED)
    assert response.headers["content-type"].startswith("text/event-stream")
    told = events(response.read())
    close(response)
    assert [number for number, _, _ in told] == list(range(1, 9))
    assert [name for _, name, _ in told] == ["start", *["step"] * 6, "end"]
    start, end = told[0][2], told[-1][2]
    assert start["seed"] == SEEDED["seed"] and start["prompt"]["text"] == "私は"
    assert [data for _, name, data in told if name == "step"] == [step_record(step, TOP) for step in expected]
    assert (end["text"], end["end"]) == (expected.text, "length") and all(c["ok"] for c in end["self_checks"])
    status, data = site.ask("GET", f"/api/traces/{end['id']}")
    assert status == 200 and data == to_bytes(expected)
    (tmp_path / "a.manako").write_bytes(data)
    assert (manako.open(tmp_path / "a.manako").logits == expected.logits).all()


def test_a_failure_on_the_way_is_told_and_what_was_made_is_kept() -> None:
    class Breaks(Gated):
        def next_logits(self, ids: Any, keep: object = None) -> Any:
            row, start = super().next_logits(ids)
            return (row * float("nan"), start) if self.made == 3 else (row, start)

    session = Breaks()
    session.gate.release(10)
    with serving(session.generate) as site:
        response = site.open("POST", "/api/generate", {"prompt": "あ"}, Accept_Language="ja,en;q=0.5")
        told = events(response.read())
        close(response)
        assert [name for _, name, _ in told] == ["start", "step", "step", "error", "end"]
        error = told[3][2]
        expected = manako.ManakoError("logits_not_finite_at", step=3, layer=1)
        assert error == {"code": expected.code, "message": expected.text("ja")}
        assert site.ask("GET", f"/api/traces/{told[-1][2]['id']}")[0] == 200


def test_what_nobody_expected_is_one_event_without_details() -> None:
    class Breaks(Gated):
        def next_logits(self, ids: Any, keep: object = None) -> Any:
            raise RuntimeError("inner details")

    with logged() as said, serving(Breaks().generate) as site:
        response = site.generate()
        body = response.read()
        close(response)
        assert [name for _, name, _ in events(body)] == ["start", "error"]
        assert b"E-SERVE-UNEXPECTED" in body and b"inner details" not in body
    assert "inner details" in "".join(said)  # for who runs the server


def test_a_run_can_be_stopped_and_read_again_from_an_event() -> None:
    session = Gated()
    with serving(session.generate) as site:
        first = site.generate()
        session.gate.release(3)
        until(lambda: len(site.only_run().events) == 4)  # start and three steps
        key = site.only_run().key
        again = site.open("GET", f"/api/runs/{key}", Last_Event_ID="2")
        until(lambda: len(site.only_run().readers) == 2)
        assert site.ask("POST", "/api/stop", {"id": key})[0] == 200
        session.gate.release(3)
        told, rest = events(first.read()), events(again.read())
        close(first)
        close(again)
        assert rest == told[2:]
        assert told[-1][2]["end"] == "interrupted" and session.made == 4  # the step in hand was finished
        for path, body in (("/api/stop", {"id": key}), ("/api/stop", {"id": [key]}), ("/api/stop", {})):
            assert site.ask("POST", path, body)[0] == 404
        assert site.ask("GET", f"/api/runs/{key}")[0] == 404


# --- what a path can name ---------------------------------------------------------------------------------------------

UP = ("..", "%2e%2e", "%252e%252e", "..%5c", ".%2e", "..%2f", "..;", "....", "%c0%ae%c0%ae", "%uff0e%uff0e")
TARGETS = ("etc/passwd", "index.html", "server.py", "main.js", "1", "%00", "style.css%00.html", "")
ODD = (
    "/", "//", "///etc/passwd", "C:/windows/win.ini", "C:%5Cwindows", "%5C%5Chost%5Cshare", "//host/share", ".",
    "file:///etc/passwd", "file:etc", "http://127.0.0.1/", "%00", "%0d%0aX-A:1", "%ff%fe", "%e3%80%80", "~", "~root",
    "*", "index.html", "main.js/", "main.js/..", "main.js%00", "MAIN.JS", "a" * 65536, "%", "%zz", ";", "&", "con",
)  # fmt: skip
PATHS = [
    *ODD,
    *(f"{'/'.join([up] * depth)}/{target}" for up in UP for depth in (1, 2, 3, 7) for target in TARGETS),
    *(f"{target}/{up}" for up in UP for target in TARGETS[:5]),
]
FRONTS = ("/", "/assets/", "/api/", "/api/traces/", "/api/runs/", "/api/openapi.json/")


def refused(site: Serving, path: str) -> bool:
    head = f"GET {path} HTTP/1.1\r\nHost: {site.host}\r\nX-Manako-Token: {TOKEN}\r\nConnection: close\r\n\r\n"
    got = raw(site.port, head.encode())
    return got.split()[1] in (b"400", b"404", b"414") and b"E-SERVE-" in got


def check_paths(site: Serving, paths: list[str]) -> None:
    opened: list[str] = []
    watching = True

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if watching and event == "open":
            opened.append(str(arguments[0]))

    sys.addaudithook(hook)  # for ever, hence the switch
    try:
        assert [path for path in paths if not refused(site, path)] == []
    finally:
        watching = False
    assert opened == []


def test_no_path_names_a_file(site: Serving) -> None:
    check_paths(site, [front + path for front in FRONTS for path in (*ODD[1:], *PATHS[len(ODD) :: 23])])


@pytest.mark.slow
def test_no_path_names_a_file_400_times_6(site: Serving) -> None:
    assert len(PATHS) >= 399
    check_paths(site, [front + path for front in FRONTS for path in PATHS])


# --- bounds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("body", "code"), [
    (b"", "E-SERVE-JSON"),
    (b"[]", "E-SERVE-JSON"),
    (b'{"prompt": "a", "prompt": "b"}', "E-SERVE-JSON"),
    (b'{"prompt": "\\ud800"}', "E-SERVE-JSON"),
    (b'{"prompt": "a", "settings": {"temperature": NaN}}', "E-SERVE-JSON"),
    (b'{"prompt": "a", "settings": {"temperature": 1e999}}', "E-SERVE-JSON"),
    (b"[" * 100_000, "E-SERVE-JSON"),
    (b"\xff", "E-SERVE-JSON"),
    (b"9" * 5000, "E-SERVE-JSON"),
])  # fmt: skip
def test_what_is_no_json_object_is_told_so(site: Serving, body: bytes, code: str) -> None:
    status, said = site.ask("POST", "/api/generate", body)
    assert status == 400 and json.loads(said)["code"] == code


@pytest.mark.parametrize(("body", "names"), [
    ({}, "prompt"),
    ({"prompt": 1}, "prompt"),
    ({"prompt": None}, "prompt"),
    ({"prompt": "a", "settings": []}, "settings"),
    ({"prompt": "a", "file": "/etc/passwd"}, "file"),
    ({"after": {"id": "1", "steps": 0}}, "prompt"),
    ({"prompt": "", "after": "1"}, "after"),
    ({"prompt": "", "after": {}}, "id"),
    ({"prompt": "", "after": {"id": 1, "steps": 0}}, "id"),
    ({"prompt": "", "after": {"id": "1"}}, "steps"),
    ({"prompt": "", "after": {"id": "1", "steps": 1.0}}, "steps"),
    ({"prompt": "", "after": {"id": "1", "steps": True}}, "steps"),
    ({"prompt": "", "after": {"id": "1", "steps": 0, "token": "a"}}, "token"),
    ({"prompt": "", "after": {"id": "1", "steps": 0, "path": "/etc"}}, "after.path"),
    ({"prompt": "a", "settings": {"path": "x"}}, "path"),
    ({"prompt": "a", "settings": {"sampling": {}}}, "sampling"),
    ({"prompt": "a", "settings": {"stop": "x"}}, "stop"),
    ({"prompt": "a", "settings": {"stop": [1]}}, "stop"),
    ({"prompt": "a", "settings": {"stop": [""]}}, "stop"),
    ({"prompt": "a", "settings": {"capture": ["no"]}}, "no"),
    ({"prompt": "a", "settings": {"capture": "lens"}}, "capture"),
    ({"prompt": "a", "settings": {"ablate": ["head:99.99"]}}, "head:99.99"),
    ({"prompt": "a", "settings": {"order": ["top_k"]}}, "top_k"),
    ({"prompt": "a", "settings": {"temperature": -1}}, "temperature"),
    ({"prompt": "a", "settings": {"temperature": True}}, "temperature"),
    ({"prompt": "a", "settings": {"temperature": 10**400}}, "temperature"),
    ({"prompt": "a", "settings": {"top_k": 0}}, "top_k"),
    ({"prompt": "a", "settings": {"seed": -1}}, "seed"),
    ({"prompt": "a", "settings": {"seed": 2**64}}, "seed"),
    ({"prompt": "a", "settings": {"max_new_tokens": 10**9}}, "max_new_tokens"),
    ({"prompt": "a", "settings": {"max_new_tokens": -1}}, "max_new_tokens"),
    ({"prompt": "a", "settings": {"max_new_tokens": 1e308}}, "max_new_tokens"),
    ({"prompt": "a", "settings": {"max_new_tokens": "NaN"}}, "max_new_tokens"),
    ({"prompt": "a", "settings": {"max_new_tokens": MOST_STEPS + 1}}, str(MOST_STEPS)),
    ({"prompt": "a" * (LONGEST_PROMPT + 1)}, f"prompt has {LONGEST_PROMPT + 1} characters"),
    ({"prompt": "a", "settings": {"system": "a" * (LONGEST_PROMPT + 1)}}, f"system has {LONGEST_PROMPT + 1} char"),
    ({"prompt": "a", "settings": {"system": 1}}, "system"),
])  # fmt: skip
def test_a_wrong_field_is_named(site: Serving, body: Any, names: str) -> None:
    status, said = site.ask("POST", "/api/generate", body)
    error = json.loads(said)
    assert status == 422 and names in error["message"] + error["code"].lower().replace("-", "_"), said
    assert not site.runs.live


def test_null_leaves_a_setting_out(site: Serving) -> None:
    told = dict.fromkeys(SETTINGS - {"max_new_tokens"}) | {"max_new_tokens": 1}
    status, body = site.ask("POST", "/api/generate", {"prompt": "私", "settings": told})
    started = next(data for _, name, data in events(body) if name == "start")
    assert status == 200 and started["sampling"] == RunSettings().sampling.to_dict()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
VALUES = JSON | st.sampled_from([0, 1, 0.5, ["mlp:0"], ["lens"], ["あ"], list(DEFAULT_ORDER)])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    prompt=st.text(max_size=5) | JSON,
    chosen=st.dictionaries(st.sampled_from([*sorted(SETTINGS), "odd"]), VALUES, max_size=3),
    after=JSON
    | st.fixed_dictionaries({"id": st.sampled_from(["1", "2", "no"]), "steps": VALUES}, optional={"token": VALUES}),
)
def test_no_body_brings_it_down(site: Serving, prompt: Any, chosen: dict[str, Any], after: Any) -> None:
    count = {"max_new_tokens": 1} if isinstance(chosen.get("max_new_tokens"), int) else {}
    status, body = site.ask("POST", "/api/generate", {"prompt": prompt, "settings": chosen | count, "after": after})
    assert status in (200, 400, 404, 422)
    assert status == 200 or json.loads(body).keys() == {"code", "message"}


def test_bodies_addresses_and_heads_have_a_bound(site: Serving) -> None:
    own = f"Host: {site.host}\r\nX-Manako-Token: {TOKEN}\r\nContent-Type: application/json\r\n".encode()

    def status(request: bytes) -> bytes:
        got = raw(site.port, request)
        assert not got or json.loads(got.partition(b"\r\n\r\n")[2])["code"].startswith("E-SERVE-")
        return got.split()[1] if got else b"closed"

    post = b"POST /api/generate HTTP/1.1\r\n" + own
    assert status(post + b"Content-Length: %d\r\n\r\n" % 10**8 + b" " * 3 * BODY_BYTES) in (b"413", b"closed")
    fits = b'{"prompt": 1}'.ljust(BODY_BYTES)
    close_after = b"Connection: close\r\nContent-Length: %d\r\n\r\n"
    assert status(post + close_after % len(fits) + fits) == b"422"
    assert status(post + close_after % (len(fits) + 1) + fits + b" ") == b"413"
    assert status(b"GET /" + b"a" * URL_BYTES + b" HTTP/1.1\r\nConnection: close\r\n" + own + b"\r\n") == b"414"
    many = b"".join(b"X-%d: 1\r\n" % n for n in range(100_000))
    assert status(b"GET / HTTP/1.1\r\n" + own + many + b"\r\n") in (b"400", b"431", b"closed")
    large = b"X: " + b"x" * HEADER_BYTES + b"\r\nConnection: close\r\n\r\n"
    assert status(b"GET / HTTP/1.1\r\n" + own + large) == b"431"
    assert site.ask("GET", "/")[0] == 200


@pytest.mark.parametrize("head", [
    b"nonsense\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: HOST\r\nA: b\x00c\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 30_000,
])  # fmt: skip
def test_what_is_no_http_is_answered_and_closed(site: Serving, head: bytes) -> None:
    got = raw(site.port, head.replace(b"HOST", site.host.encode()))
    assert not got or (got.split()[1] in (b"400", b"403") and b'"code": "E-SERVE-' in got)


@pytest.mark.parametrize("count", [20, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.parametrize("begun", [b"", b"GET / HT", b"POST /api/generate HTTP/1.1\r\nHost: HOST\r\nX: y"])
@pytest.mark.slow
def test_who_sends_slowly_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, count: int, begun: bytes) -> None:
    monkeypatch.setattr(server_module, "PATIENCE_SECONDS", 2)  # what asks at once gets through on a busy machine too
    with serving(free) as site:
        clients = [socket.create_connection(("127.0.0.1", site.port), timeout=30) for _ in range(count)]
        for client in clients:
            with contextlib.suppress(ConnectionError):  # the first may be closed before the last has begun
                client.sendall(begun.replace(b"HOST", site.host.encode()))
        assert site.ask("GET", "/")[0] == 200
        for client in clients:
            with contextlib.suppress(ConnectionError):
                assert client.recv(100) == b""
            client.close()
        until(lambda: not site.server.server_state.connections)


@pytest.mark.slow
def test_a_connection_that_asks_nothing_more_is_closed() -> None:
    with serving(free) as site:
        site.server.config.timeout_keep_alive = 1  # uvicorn's own timer, whole seconds
        with socket.create_connection(("127.0.0.1", site.port), timeout=30) as client:
            client.sendall(f"GET / HTTP/1.1\r\nHost: {site.host}\r\n\r\n".encode())
            got = b""
            while part := client.recv(65536):
                got += part
            assert b" 200 OK" in got
        until(lambda: not site.server.server_state.connections)


def test_who_closes_their_half_of_a_connection_has_left() -> None:
    session = Gated()
    with serving(session.generate) as site:
        body = json.dumps({"prompt": "a"}).encode()
        head = f"POST /api/generate HTTP/1.1\r\nHost: {site.host}\r\nX-Manako-Token: {TOKEN}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", site.port), timeout=30) as client:
            client.sendall(head.encode() + body)
            until(lambda: bool(site.runs.live) and bool(site.only_run().events))
            run = site.only_run()
            client.shutdown(socket.SHUT_WR)
            until(lambda: not run.readers)
            session.gate.release(100)
            until(lambda: not site.tasks)
        assert session.made <= 2


@pytest.mark.slow
def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "PATIENCE_SECONDS", 0.2)
    with serving(free) as site:
        head = f"POST /api/stop HTTP/1.1\r\nHost: {site.host}\r\nX-Manako-Token: {TOKEN}\r\n"
        got = raw(site.port, f"{head}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{".encode())
        assert got.split()[1] == b"408" and b"E-SERVE-SLOW" in got


def test_one_connection_too_many_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "CONNECTIONS", 5)
    with serving(free) as site:
        clients = [socket.create_connection(("127.0.0.1", site.port), timeout=30) for _ in range(5)]
        until(lambda: len(site.server.server_state.connections) == 5)
        with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
            site.ask("GET", "/")
        clients.pop().close()
        until(lambda: len(site.server.server_state.connections) == 4)
        assert site.ask("GET", "/")[0] == 200
        for client in clients:
            client.close()


# --- languages and the document -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("accepted", "lang"), [
    ("ja", "ja"), ("ja-JP,en;q=0.8", "ja"), ("fr,EN-gb,ja", "en"), ("fr", "en"), ("", "en"), ("\xff,,;", "en"),
])  # fmt: skip
def test_errors_speak_the_language_of_the_client(site: Serving, accepted: str, lang: str) -> None:
    _, body = site.ask("GET", "/api/traces", X_Manako_Token="", Accept_Language=accepted)
    assert json.loads(body)["message"] == messages.text("error.serve_token", lang)


def test_the_document_names_every_route_and_no_other(site: Serving) -> None:
    assert json.loads(site.ask("GET", "/api/openapi.json")[1]) == document()
    routes: Any = guard().site.app.routes
    paths = {route.path.replace(":path", ""): route.methods - {"HEAD"} for route in routes}
    known = {(path, method.lower()) for path, methods in paths.items() for method in methods}
    assert known == {(path, method) for path, methods in document()["paths"].items() for method in methods}


def test_the_document_knows_settings_and_bounds() -> None:
    schema = document()["components"]["schemas"]["Settings"]["properties"]
    assert schema.keys() == SETTINGS
    assert schema["max_new_tokens"]["maximum"] == MOST_STEPS
    assert schema["top_p"] == {"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": 1}
    body = document()["paths"]["/api/generate"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["properties"]["prompt"]["maxLength"] == schema["system"]["maxLength"] == LONGEST_PROMPT


def test_the_document_knows_every_status_that_a_route_can_answer_with() -> None:
    """405, 414, 431 and 500 are those of any server, and named nowhere."""
    paths = document()["paths"].values()
    named = {int(status) for methods in paths for each in methods.values() for status in each["responses"]}
    assert named == {200, 204, 422, *STATUS.values()} - {405, 414, 431, 500}


def test_every_reference_in_the_document_leads_somewhere() -> None:
    whole = document()

    def references(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            yield from ([value["$ref"]] if "$ref" in value else [])
            value = list(value.values())
        for item in value if isinstance(value, list) else []:
            yield from references(item)

    found = set(references(whole))
    assert found
    for reference in found:
        place = whole
        for name in reference.removeprefix("#/").split("/"):
            place = place[name]


def test_a_program_sees_all_traces_and_one_that_names_a_reader_only_his() -> None:
    with serving(free) as site:
        for reader in ("one", "two"):
            asked = site.open("POST", "/api/generate", {"prompt": "あ"}, X_Manako_Reader=reader)
            asked.read()
            close(asked)
        ids = {
            reader: [t["id"] for t in json.loads(site.ask("GET", "/api/traces", X_Manako_Reader=reader)[1])["traces"]]
            for reader in ("one", "two", "")
        }
        assert len(ids["one"]) == len(ids["two"]) == 1
        assert ids[""] == ids["one"] + ids["two"]
