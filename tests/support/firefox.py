"""Firefox as it is installed, driven over WebDriver BiDi: JSON commands over a WebSocket, nothing else.

Special here: Playwright drives a Firefox of its own, which nobody has; this is as much of the protocol as the tests of
the page need. The browser has no network: what it is asked for goes to a proxy that is not there.
"""

import base64
import itertools
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

PROGRAMS = ("firefox-esr", "firefox")
START_SECONDS, ANSWER_SECONDS = 120, 600
ENTER, SHIFT = "\ue007", "\ue008"
_LISTENING = re.compile(r"WebDriver BiDi listening on ws://127\.0\.0\.1:(\d+)")
_SETTINGS = {
    "network.proxy.type": 1,
    "network.proxy.http": "127.0.0.1",
    "network.proxy.http_port": 1,
    "network.proxy.ssl": "127.0.0.1",
    "network.proxy.ssl_port": 1,
    "intl.accept_languages": "en",
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
}


def program() -> str | None:
    """Where Firefox is, if it is installed."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


class Tab:
    """The one tab of a Firefox."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=ANSWER_SECONDS)
        self._numbers = itertools.count(1)
        self.complaints: list[str] = []
        key = base64.b64encode(os.urandom(16)).decode()
        head = (
            f"GET /session HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        self._socket.sendall(head.encode())
        self._read = self._socket.makefile("rb")
        assert b" 101 " in self._read.readline()
        while self._read.readline() != b"\r\n":
            pass
        self.ask("session.new", capabilities={})
        self.ask("session.subscribe", events=["log.entryAdded"])
        self._context = self.ask("browsingContext.getTree")["contexts"][0]["context"]

    def ask(self, method: str, **given: Any) -> Any:
        """What a command gives. Fails with what the browser says against it."""
        number = next(self._numbers)
        self._send(json.dumps({"id": number, "method": method, "params": given}).encode())
        while True:
            told = json.loads(self._receive())
            if told.get("method") == "log.entryAdded":
                self.complaints.append(f"{told['params']['level']}: {told['params']['text']}")
            if told.get("id") == number:
                assert told["type"] == "success", told
                return told["result"]

    def close(self) -> None:
        self._read.close()
        self._socket.close()

    def open(self, url: str) -> None:
        self.ask("browsingContext.navigate", context=self._context, url=url, wait="complete")

    def evaluate(self, expression: str) -> Any:
        """What a JavaScript expression gives, a promise's value too: a string, a number, true or false."""
        target = {"context": self._context}
        found = self.ask("script.evaluate", expression=expression, target=target, awaitPromise=True)
        assert found["type"] == "success", found["exceptionDetails"]["text"]
        return found["result"].get("value")

    def until(self, expression: str, seconds: float = 120) -> None:
        """Wait until something holds on the page; fail when it does not."""
        deadline = time.monotonic() + seconds
        while not self.evaluate(f"Boolean({expression})"):
            assert time.monotonic() < deadline, expression
            time.sleep(0.05)

    def click(self, selector: str) -> None:
        self.evaluate(f"document.querySelector({json.dumps(selector)}).click()")

    def type(self, text: str) -> None:
        """Keys, to what has the focus."""
        keys = [{"type": kind, "value": each} for each in text for kind in ("keyDown", "keyUp")]
        self.ask(
            "input.performActions", context=self._context, actions=[{"type": "key", "id": "keys", "actions": keys}]
        )

    def _send(self, data: bytes) -> None:
        """One text message. What a client sends is masked, and zeros are no mask to Firefox."""
        n = len(data)
        size = (
            bytes([n | 0x80]) if n < 126 else struct.pack("!BH", 0xFE, n) if n < 65_536 else struct.pack("!BQ", 0xFF, n)
        )
        self._socket.sendall(b"\x81" + size + b"\x01" * 4 + bytes(byte ^ 1 for byte in data))

    def _receive(self) -> bytes:
        """One message, which may come in several frames."""
        whole, is_last = b"", False
        while not is_last:
            first, size = self._read.read(2)
            if size >= 126:
                (size,) = struct.unpack("!H" if size == 126 else "!Q", self._read.read(2 if size == 126 else 8))
            whole, is_last = whole + self._read.read(size), bool(first & 0x80)
        return whole


@contextmanager
def firefox(folder: Path) -> Iterator[Tab]:
    """A Firefox of its own, with nobody's profile, for as long as the block lasts. folder: where its profile lies."""
    profile = folder / "firefox"
    profile.mkdir()
    lines = (f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in _SETTINGS.items())
    (profile / "user.js").write_text("".join(lines), encoding="utf-8")
    path = program()
    assert path is not None
    command = [path, "--headless", "--no-remote", "--profile", str(profile), "--remote-debugging-port", "0"]
    log = folder / "firefox.log"
    with (
        log.open("wb") as out,
        subprocess.Popen(command, stdout=out, stderr=out, env=os.environ | {"HOME": str(folder)}) as process,
    ):
        try:
            deadline = time.monotonic() + START_SECONDS
            while not (found := _LISTENING.search(log.read_text(encoding="utf-8", errors="replace"))):
                assert time.monotonic() < deadline and process.poll() is None, log.read_text(errors="replace")
                time.sleep(0.1)
            with closing(Tab(int(found[1]))) as tab:
                yield tab
        finally:
            process.terminate()
