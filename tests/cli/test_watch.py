"""`manako watch`: what it shows is what it saves, data alone on stdout, and nothing written before all is checked."""

import base64
import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from commands import MANAKO, Run, environment
from lanes import mostly_slow
from toy import write_toy

import manako
from manako.errors import ManakoError
from manako.files import megabytes
from manako.trace.record import bytes_to_text
from manako.views.terminal.again import command_line


def test_what_is_shown_is_what_is_saved(run: Run, ref: str, tmp_path: Path) -> None:
    path = tmp_path / "a.manako"
    words = ("--seed", "3", "-n", "6", "--top-k", "12", "--view", "steps")
    watched = run("watch", "私は", "-m", ref, "--save", path, *words)
    viewed = run("view", path, "--view", "steps")
    assert watched.code == viewed.code == 0 and viewed.out == watched.out and viewed.err == ""
    size = megabytes(path.stat().st_size)
    assert watched.err == f"manako: saved {path} ({size})\n"
    assert run("verify", path).code == 0
    trace = manako.open(path)
    assert re.findall(r">>> chosen: .*rank (\d+)\)", watched.out) == [str(step.chosen.rank) for step in trace]


@pytest.mark.slow
def test_json_of_watch_view_and_python_agree(run: Run, ref: str, tmp_path: Path) -> None:
    path = tmp_path / "a.manako"
    words = ("-m", ref, "--seed", "3", "-n", "5", "-t", "0.9", "--top-p", "0.8")
    document = json.loads(run("watch", "私は", *words, "--json", "--save", path).out)
    assert json.loads(run("view", path, "--json").out) == document
    lines = run("watch", "私は", *words, "--jsonl").out.splitlines()
    assert [json.loads(line) for line in lines] == document["steps"]
    trace = manako.load(ref).trace("私は", seed=3, max_new_tokens=5, temperature=0.9, top_p=0.8)
    assert [s["chosen"]["id"] for s in document["steps"]] == trace.columns.token_id.tolist()
    assert [s["chosen"]["p"] for s in document["steps"]] == trace.columns.p.tolist()
    assert [s["u"] for s in document["steps"]] == trace.columns.u.tolist()
    assert document["text"] == trace.text and document["seed"] == 3


def test_json_is_one_line_in_any_language(run: Run, toy: str) -> None:
    words = ("watch", "あ", "-m", toy, "--seed", "0", "-n", "2", "--json")
    en, ja = run(*words, "--lang", "en"), run(*words, "--lang", "ja", env={"LANG": "ja_JP.UTF-8"})
    assert en.out == ja.out and en.out.count("\n") == 1 and en.err == ja.err == ""
    document = json.loads(en.out)
    for candidate in document["steps"][0]["candidates"]:
        data = base64.b64decode(candidate["bytes"])
        assert candidate["text"] == bytes_to_text(data)


def test_a_fresh_seed_is_always_told(run: Run, toy: str) -> None:
    words = ("watch", "あ", "-m", toy, "-n", "3")
    seed = re.search(r"seed (\d+)", run(*words).out)[1]  # type: ignore[index]
    again = run(*words, "--seed", seed, "--json")
    assert json.loads(again.out)["seed"] == int(seed)
    lines = run(*words, "--jsonl")
    told = re.fullmatch(r"manako: seed (\d+)\n", lines.err)
    assert told and run(*words, "--jsonl", "--seed", told[1]).out == lines.out
    assert len({run(*words, "--jsonl").err for _ in range(3)}) == 3


@pytest.mark.parametrize(
    ("data", "text"), [("猫".encode(), "猫"), ("猫\n".encode(), "猫"), (b"a\r\n", "a"), (b"a\n\n", "a\n")]
)
def test_prompt_from_standard_input(run: Run, toy: str, data: bytes, text: str) -> None:
    document = json.loads(run("watch", "-", "-m", toy, "-n", "1", "--json", stdin=data).out)
    assert document["prompt"]["text"] == text


def test_odd_prompts_are_kept(run: Run, toy: str) -> None:
    for prompt in ("龘😀€", "a\ufeff", "a\x00b", "\x1b[2J", " ", "\u3000"):
        found = run("watch", "-", "-m", toy, "-n", "1", "--json", stdin=prompt.encode())
        assert json.loads(found.out)["prompt"]["text"] == prompt
        assert found.out.isascii() or not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", found.out)
        shown = run("watch", "-", "-m", toy, "-n", "1", stdin=prompt.encode())
        assert shown.code == 0 and not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", shown.out)


@pytest.mark.parametrize(("data", "text", "said"), [
    ("\ufeff私".encode(), "私", ["the byte order mark"]),
    ("私\r\nは\r猫\r\n".encode(), "私\nは\n猫", ["carriage returns"]),
    ("吾輩は猫である。".encode("cp932"), "吾輩は猫である。", ["was read as cp932"]),
    ("吾輩は猫である。\r\nか".encode("utf-16"), "吾輩は猫である。\nか", ["was read as utf-16"]),
    ("私は\r\n".encode(), "私は", []),
])  # fmt: skip
def test_a_prompt_is_read_as_a_corpus_is(run: Run, toy: str, data: bytes, text: str, said: list[str]) -> None:
    found = run("watch", "-", "-m", toy, "-n", "1", "--json", stdin=data)
    assert found.code == 0 and json.loads(found.out)["prompt"]["text"] == text
    assert all(words in found.err for words in said) and bool(found.err) is bool(said)
    if not said[:1] or "read as" not in said[0]:
        argument = run("watch", data.decode(), "-m", toy, "-n", "1", "--json", "--stop", "\ufeffx\r\n")
        document = json.loads(argument.out)
        assert document["prompt"]["text"].rstrip("\n") == text and document["stop"] == ["x\n"]


def test_a_prompt_that_is_not_utf8(run: Run, toy: str, tmp_path: Path) -> None:
    found = run("watch", "-", "-m", toy, "--save", tmp_path / "x", stdin="猫".encode() + b"\xff")
    assert (found.code, found.out) == (2, "")
    assert found.err == "manako: the prompt is not UTF-8: byte 0xFF at offset 3; convert it first [E-PROMPT-NOT-UTF8]\n"
    argument = run("watch", b"a\xe7\x8c", "-m", toy, "--save", tmp_path / "x")
    assert (argument.code, argument.out) == (2, "") and "U+DCE7 at index 1" in argument.err
    assert list(tmp_path.iterdir()) == []


def test_empty_prompt_starts_a_document(run: Run, toy: str) -> None:
    for words in ((), ("",)):
        found = run("watch", *words, "-m", toy, "-n", "1")
        assert found.code == 0 and "The prompt is empty: the model starts a new document." in found.out
    found = run("watch", "-", "-m", toy, "-n", "1", "--json", stdin=b"\n")
    assert json.loads(found.out)["prompt"] == {"text": "", "ids": [0]}


def test_a_long_prompt_is_announced_and_its_window_named(run: Run, toy: str) -> None:
    found = run("watch", "あ" * 20, "-m", toy, "-n", "3", "--view", "steps")
    assert found.err == "manako: the prompt has 20 tokens; the model sees only the last 16\n"
    assert re.findall(r"The context window starts at token (\d+)\.", found.out) == ["5", "6", "7"]
    within = run("watch", "あ" * 15, "-m", toy, "-n", "3", "--seed", "1")
    assert within.err == "" and "from step 3 on the model sees only the last 16 tokens" in within.out


def test_no_tokens_asked(run: Run, toy: str, tmp_path: Path) -> None:
    path = tmp_path / "a.manako"
    found = run("watch", "あ", "-m", toy, "-n", "0", "--save", path)
    assert found.code == 0 and "Nothing was generated." in found.out
    assert run("view", path).out == found.out
    assert run("verify", path).out.startswith("0 of 0 tokens")


def test_stop_text_ends_the_run(run: Run, toy: str) -> None:
    text = json.loads(run("watch", "あ", "-m", toy, "-n", "12", "--seed", "5", "--json").out)
    third = text["steps"][2]["chosen"]["text"]
    found = json.loads(run("watch", "あ", "-m", toy, "-n", "12", "--seed", "5", "--json", "--stop", third).out)
    assert found["end"] == "stop" and len(found["steps"]) <= 3 and found["stop"] == [third]


# Saving ------------------------------------------------------------------------------------------------------------


def test_a_file_is_only_replaced_with_force(run: Run, toy: str, tmp_path: Path) -> None:
    path = tmp_path / "a.manako"
    path.write_bytes(b"mine")
    found = run("watch", "あ", "-m", toy, "-n", "1", "--save", path)
    assert (found.code, found.out, path.read_bytes()) == (2, "", b"mine")
    assert found.err.startswith(f"manako: {path} exists already; choose another name, or replace it with -f ")
    assert found.err.endswith(" [E-TARGET-EXISTS]\n")
    assert run("watch", "あ", "-m", toy, "-n", "1", "--save", path, "-f").code == 0
    assert len(manako.open(path)) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["a.manako"]


@pytest.mark.parametrize(
    ("target", "exit_code", "code"),
    [("", 2, "TARGET-IS-FOLDER"), ("no/x.manako", 1, "TARGET-FOLDER-MISSING")],
)
def test_bad_targets_are_found_before_the_model_is_loaded(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, exit_code: int, code: str
) -> None:
    monkeypatch.chdir(tmp_path)
    found = run("watch", "あ", "-m", "no-such-model", "--save", target)
    assert (found.code, found.out) == (exit_code, "") and found.err.endswith(f"[E-{code}]\n")
    assert found.err.count("\n") == 1 and list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_later(run: Run, toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes, replace: bool = True) -> None:
        raise ManakoError("disk_full", file=path, need="1.0 MB", free="0.0 MB")

    monkeypatch.setattr("manako.cli.watch.write_file", full)
    found = run("watch", "あ", "-m", toy, "-n", "2", "--seed", "77", "--save", tmp_path / "x")
    assert found.code == 1 and "The whole text:" in found.out
    first, second = found.err.splitlines()
    assert first == "manako: the trace was NOT saved; --seed 77 generates the same text again"
    assert second.endswith("free some space or choose another place [E-DISK-FULL]")


def test_a_disk_that_is_full_from_the_start(
    run: Run, toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000))
    found = run("watch", "あ", "-m", toy, "-n", "2", "--save", tmp_path / "x")
    assert (found.code, found.out) == (1, "") and found.err.endswith("[E-DISK-FULL]\n")
    assert list(tmp_path.iterdir()) == []


def test_weights_that_overflow_keep_what_was_made(
    run: Run, toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from manako.engines.generation import Generation

    advance = Generation.advance

    def burst(self: Generation) -> bool:
        if self._recorder.length == 2:
            raise ManakoError("logits_not_finite_at", step=3, layer=1)
        return advance(self)

    monkeypatch.setattr(Generation, "advance", burst)
    path = tmp_path / "x.manako"
    found = run("watch", "あ", "-m", toy, "--save", path)
    assert found.code == 1 and "non-finite logits at step 3, first in layer 1" in found.err
    assert "The whole text:" in found.out and len(manako.open(path)) == 2


def test_notices_of_a_folder_stand_on_stderr(run: Run, toy: str, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    shutil.copytree(toy, folder)
    import numpy as np
    import safetensors.numpy

    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    safetensors.numpy.save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, folder / "model.safetensors")
    found = run("watch", "あ", "-m", folder, "-n", "1", "--json")
    assert found.code == 0 and "integrity cannot be verified" in found.err
    json.loads(found.out)


# Where it cannot write, or nobody reads ----------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="permissions of Unix")
@pytest.mark.slow
def test_no_home_and_nothing_writable(toy: str, tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    if as_nobody:
        for parent in (*Path(toy).parents, *tmp_path.parents):
            if Path(tempfile.gettempdir()) in parent.parents:
                parent.chmod(0o755)
        for item in (Path(toy), *Path(toy).iterdir()):
            item.chmod(item.stat().st_mode | 0o055)
    env = environment(HOME="/no/such/home", XDG_CACHE_HOME="/no/such/cache", TMPDIR="/no/such/tmp")
    command = [*as_nobody, *MANAKO, "watch", "あ", "-m", toy, "-n", "1"]
    reading = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, timeout=60)
    assert (reading.returncode, reading.stderr) == (0, "") and "The whole text:" in reading.stdout
    target = folder / "x.manako"
    saving = subprocess.run(
        [*command, "--save", str(target)], env=env, cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert (saving.returncode, saving.stdout) == (1, "")
    assert (
        saving.stderr
        == f"manako: {target} cannot be written: Permission denied; nothing was changed [E-WRITE-FAILED]\n"
    )
    assert list(folder.iterdir()) == []


@pytest.mark.slow
def test_a_working_folder_that_is_gone(toy: str, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    line = 'rmdir "$PWD"; exec "$@"'
    for more, code in ((["--seed", "1"], 0), (["--save", "x.manako"], 1)):
        words = ["sh", "-c", line, "sh", *MANAKO, "watch", "あ", "-m", toy, "-n", "1", *more]
        gone.mkdir(exist_ok=True)
        found = subprocess.run(words, cwd=gone, env=environment(), capture_output=True, text=True, timeout=60)
        assert found.returncode == code, found.stderr
        assert "Traceback" not in found.stderr
        assert code == 0 or "x.manako cannot be written" in found.stderr


@pytest.mark.slow
def test_a_reader_that_leaves_ends_it_quietly_and_the_record_is_kept(toy: str, tmp_path: Path) -> None:
    path = tmp_path / "a.manako"
    process = subprocess.Popen(
        [*MANAKO, "watch", "あ", "-m", toy, "-n", "3000", "--seed", "1", "--view", "steps", "--save", str(path)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout and process.stderr
    while not process.stdout.readline().startswith(b">>> chosen"):
        pass
    process.stdout.close()
    errors = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(60) == 0
    assert errors.startswith(f"manako: saved {path}") and errors.count("\n") == 1
    assert 0 < len(manako.open(path)) < 3000


@pytest.mark.parametrize(
    "words", [["--help"], ["watch", "あ", "-m", "TOY", "-n", "1"], ["watch", "あ", "-m", "TOY", "-n", "1", "--json"]]
)
@pytest.mark.slow
def test_stdout_closed_or_full(toy: str, words: list[str]) -> None:
    words = [w.replace("TOY", toy) for w in words]
    closed = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *MANAKO, *words],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (closed.returncode, closed.stderr) == (0, "")
    if Path("/dev/full").exists():
        full = subprocess.run(
            ["sh", "-c", 'exec "$@" >/dev/full', "sh", *MANAKO, *words],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert full.returncode == 1
        assert full.stderr == "manako: the output cannot be written: No space left on device [E-OUTPUT]\n"


def test_captures_are_saved_and_change_nothing(run: Run, toy: str, tmp_path: Path) -> None:
    words = ("watch", "あ", "-m", toy, "--seed", "4", "-n", "4", "--json")
    path = tmp_path / "a.manako"
    more = ("--capture", "lens,attention", "--capture", "contributions", "--save", path)
    plain, captured = json.loads(run(*words).out), json.loads(run(*words, *more).out)
    assert captured["capture"] == ["attention", "lens", "contributions"] and plain["capture"] == []
    assert captured["steps"] == plain["steps"]
    assert all(check["ok"] for check in captured["self_checks"]) and len(captured["self_checks"]) == 5
    trace = manako.open(path)
    assert trace.attention[3].shape == (2, 2, 4) and manako.verify(trace).failure is None
    for view in ("attention", "lens", "why"):
        assert run(view, path).code == 0


def test_an_ablated_run_is_named_wherever_it_is_shown(run: Run, toy: str, tmp_path: Path) -> None:
    path = tmp_path / "a.manako"
    found = run("watch", "あ", "-m", toy, "-n", "2", "--ablate", "head:1.0,mlp:0=mean", "--save", path)
    for shown in (found, run("view", path), run("view", path, "--step", "1")):
        assert "ablated parts: head:1.0, mlp:0=mean" in shown.out
    assert json.loads(run("view", path, "--json").out)["ablate"] == ["head:1.0", "mlp:0=mean"]


def test_captures_that_do_not_exist_or_cannot_be_given(run: Run, toy: str, tmp_path: Path) -> None:
    found = run("watch", "あ", "-m", toy, "--capture", "dreams", "--save", tmp_path / "a.manako")
    assert found.code == 2 and "E-CAPTURE-UNKNOWN" in found.err
    write_toy(tmp_path / "blind", attention=False)
    for lang, reason in (("en", "without attention"), ("ja", "アテンションなし")):
        found = run("watch", "あ", "-m", tmp_path / "blind", "--capture", "attention", "--lang", lang)
        assert found.code == 4 and "E-CAPTURE-LACKING" in found.err and reason in found.err


def test_no_view_and_no_document_says_where_the_model_lies(run: Run, toy: str, tmp_path: Path) -> None:
    """The file alone keeps it, with the command that looks again."""
    folder = str(Path(toy).parent)
    done = run("watch", "私は", "-m", toy, "-n", 2, "--save", tmp_path / "a.manako", "--view", "steps")
    assert folder not in done.out and "model toy:" in done.out
    assert folder not in run("watch", "私は", "-m", toy, "-n", 2, "--json").out
    assert manako.open(tmp_path / "a.manako").header.model.ref == toy


CHAT = "<|endoftext|>{{ messages[-1].content }}<|endoftext|>{% if messages[1:] %}{{ messages[0].content }}{% endif %}"
AS_TYPED: dict[str, tuple[list[str], str]] = {  # the words of a command, and how the one that it ends with begins
    "plain": (["あい"], "あい -m"),
    "special": (["<|endoftext|>あ<|endoftext|>い", "--special"], "'<|endoftext|>あ<|endoftext|>い' --special -m"),
    "special in front alone": (["<|endoftext|>あ", "--special"], "'<|endoftext|>あ' --special -m"),
    "chat": (["あい", "--chat", "--system", "うえ"], "あい --chat --system うえ -m"),
    "given": (["あ<|endoftext|>い", "--special", "--given"], "'あ<|endoftext|>い' --special -m"),
}


@pytest.mark.parametrize("name", mostly_slow(AS_TYPED, fast={"special"}))
def test_the_command_at_the_end_makes_the_same_run(run: Run, toy: str, tmp_path: Path, name: str) -> None:
    typed, begins = AS_TYPED[name]
    folder = tmp_path / "m"
    shutil.copytree(toy, folder)
    (folder / "chat_template.jinja").write_text(CHAT, encoding="utf-8")
    settings = ["-m", str(folder)] + ([] if "--given" in typed else ["--seed", "4", "-n", "3"])
    for command in ("watch", "attention", "why"):
        found = run(command, *typed, *settings, "--lang", "en")
        said = next(line for line in found.out.splitlines() if ": manako " in line)
        words = shlex.split(said.partition(": ")[2])
        assert command_line(words[2:]).startswith(begins), said
        if command == "watch":
            made = [json.loads(run(*each, "--json").out) for each in (["watch", *typed, *settings], words[1:])]
            assert made[0] == made[1]
