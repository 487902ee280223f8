"""Bad input costs one line: each wrong argument with its message, code and exit code, in both languages (P1 to P22).

The library's own message stands in the tests of the library; here is what a person at the prompt sees of it.
"""

import errno
import re
from pathlib import Path

import click
import pytest
from commands import Run

from manako import __version__, cli
from manako.errors import ManakoError

WATCH = ("watch", "あ", "-m", "TOY")
ORDER = "repetition_penalty, presence_penalty, frequency_penalty, temperature, top_k, top_p, min_p, typical_p"
BAD: list[tuple[tuple[str, ...], int, str, str]] = [  # arguments, exit code, code, sentence
    ((*WATCH, "-t", "-1"), 2, "TEMPERATURE", "temperature must be 0 or a positive finite number such as 0.8, got -1.0"),
    ((*WATCH, "-t", "nan"), 2, "TEMPERATURE", "got nan"),
    ((*WATCH, "-t", "1e999"), 2, "TEMPERATURE", "got inf"),
    ((*WATCH, "-t", "abc"), 2, "TEMPERATURE", "got abc"),
    ((*WATCH, "-t", ""), 2, "TEMPERATURE", "got "),
    ((*WATCH, "-t", "1_0"), 2, "TEMPERATURE", "got 1_0"),
    ((*WATCH, "-t", "0,8"), 2, "NUMBER-FORM", "-t: 0,8 is not a number of the expected form; write 0.8"),
    ((*WATCH, "--temperature", "０．８"), 2, "NUMBER-FORM", "０．８ is not a number of the expected form; write 0.8"),
    ((*WATCH, "-n", "１５"), 2, "NUMBER-FORM", "write 15"),
    (
        (*WATCH, "--top-k", "0"),
        2,
        "TOP-K",
        "top_k must be a whole number of at least 1, got 0; leave it out to keep all",
    ),
    ((*WATCH, "--top-k", "-3"), 2, "TOP-K", "got -3"),
    ((*WATCH, "--top-k", "1.5"), 2, "TOP-K", "got 1.5"),
    (
        (*WATCH, "--top-p", "0"),
        2,
        "TOP-P",
        "top_p must lie in (0, 1], got 0.0; for the likeliest token only, use temperature 0",
    ),
    ((*WATCH, "--top-p", "1.01"), 2, "TOP-P", "got 1.01"),
    ((*WATCH, "--top-p", "nan"), 2, "TOP-P", "got nan"),
    ((*WATCH, "--min-p", "-0.1"), 2, "MIN-P", "min_p must lie in [0, 1], got -0.1"),
    ((*WATCH, "--typical-p", "0"), 2, "TYPICAL-P", "typical_p must lie in (0, 1], got 0.0"),
    ((*WATCH, "--repetition-penalty", "0"), 2, "REPETITION-PENALTY", "must be a positive finite number"),
    ((*WATCH, "--presence-penalty", "inf"), 2, "PRESENCE-PENALTY", "must be a finite number"),
    ((*WATCH, "--frequency-penalty", "x"), 2, "FREQUENCY-PENALTY", "got x"),
    (
        (*WATCH, "--order", "temprature,top_k"),
        2,
        "ORDER-UNKNOWN",
        f'unknown stage, "temprature" (temperature?); known: {ORDER}',
    ),
    ((*WATCH, "--order", ORDER + ",top_k"), 2, "ORDER-TWICE", "the stage top_k more than once"),
    ((*WATCH, "--order", "top_p"), 2, "ORDER-MISSING", "a stage that is used: temperature; got top_p"),
    ((*WATCH, "--order", ORDER.replace("min_p", "max_p")), 2, "ORDER-UNKNOWN", "max_p"),
    ((*WATCH, "-n", "-1"), 2, "MAX-NEW-TOKENS", "a whole number of at least 0 and below 2^64, got -1"),
    ((*WATCH, "-n", str(2**64)), 2, "MAX-NEW-TOKENS", f"got {2**64}"),
    ((*WATCH, "--top-k", str(10**400)), 2, "TOP-K", "a whole number of at least 1, got 1"),
    ((*WATCH, "-n", "1.5"), 2, "MAX-NEW-TOKENS", "got 1.5"),
    ((*WATCH, "-n", "1000000000000"), 1, "TRACE-TOO-LARGE", "lower -n"),
    ((*WATCH, "--seed", "-1"), 2, "SEED", "seed must be a whole number from 0 to 2^64 - 1, got -1"),
    ((*WATCH, "--seed", str(2**64)), 2, "SEED", f"got {2**64}"),
    ((*WATCH, "--seed", "1.5"), 2, "SEED", "got 1.5"),
    ((*WATCH, "--seed", "x"), 2, "SEED", "got x"),
    ((*WATCH, "--top", "0"), 2, "TOP", "--top must be a whole number of at least 1, got 0"),
    ((*WATCH, "--top", "ten"), 2, "TOP", "got ten"),
    ((*WATCH, "--stop", ""), 2, "STOP", "a stop text must have at least one character"),
    ((*WATCH, "--json", "--jsonl"), 2, "JSON-TWICE", "--json and --jsonl cannot be used together; choose one"),
    ((*WATCH, "--temprature", "1"), 2, "CLI-NO-SUCH-OPTION", 'there is no option "--temprature" (--temperature?)'),
    ((*WATCH, "--temp", "1"), 2, "CLI-NO-SUCH-OPTION", 'there is no option "--temp" (--temperature?)'),
    (
        ("watch", "-猫"),
        2,
        "CLI-NO-SUCH-OPTION",
        '"-猫"; --help lists them; a text that begins with -',
    ),
    (("-m", "demo", "watch"), 2, "CLI-OPTION-FIRST", '"-m" comes before the command; write options after it'),
    (("--json", "watch"), 2, "CLI-OPTION-FIRST", '"--json" comes before the command'),
    (("watch", "--", "-はい", "-n"), 2, "CLI-EXTRA-OPTION", '"-n" comes after --'),
    ((*WATCH, "--zzz"), 2, "CLI-NO-SUCH-OPTION", 'there is no option "--zzz"; --help lists them'),
    ((*WATCH, "--color", "blue"), 2, "CLI-CHOICE", "--color must be one of: auto, always, never"),
    ((*WATCH, "--json=1"), 2, "CLI-TAKES-NO-VALUE", "--json takes no value"),
    (("watch", "あ", "-m"), 2, "CLI-NEEDS-VALUE", "-m needs a value"),
    (
        ("watch", "an", "old", "cat"),
        2,
        "CLI-EXTRA",
        'unexpected extra arguments: "old cat"; put a text with spaces in quotes',
    ),
    (("export", "pdf"), 2, "CLI-NO-SUCH-PART", 'manako export has no command "pdf"; commands: html'),
    (("corpus", "bild"), 2, "CLI-NO-SUCH-PART", 'manako corpus has no command "bild" (build?); commands: build, show'),
    (("--lang", "en"), 2, "CLI-MISSING-COMMAND", "a command is missing after manako; commands: watch"),
    (("view",), 2, "CLI-MISSING", "FILE is missing; see manako view --help"),
    (("wach",), 2, "CLI-NO-SUCH-COMMAND", 'there is no command "wach" (watch?); to continue a text'),
    (("qqq",), 2, "CLI-NO-SUCH-COMMAND", ", ".join(cli.COMMANDS) + " ["),
    (("猫",), 2, "CLI-NO-SUCH-COMMAND", "write manako watch TEXT"),
    (("watch", "あ", "-m", "no-such-folder"), 3, "REF-UNKNOWN", 'there is no model "no-such-folder"; give demo'),
    (("watch", "あ", "-m", "dmo"), 3, "REF-UNKNOWN", 'there is no model "dmo" (demo?)'),
    (("watch", "あ", "-m", "Demo"), 3, "REF-UNKNOWN", "(demo?)"),
    (("watch", "あ", "-m", "gguf:"), 3, "REF-UNKNOWN", 'there is no model "gguf:"'),
    (("watch", "あ", "-m", "run:"), 3, "REF-UNKNOWN", 'there is no model "run:"'),
    (("view", "EMPTY"), 3, "FILE-IS-FOLDER", 'EMPTY" is a folder; give a file'),
    (("eval", "--data", "EMPTY"), 3, "FILE-IS-FOLDER", 'EMPTY" is a folder'),
    (("eval",), 4, "EVIDENCE-NO-CORPUS", "give its packed corpus with --data"),
    (("watch", "あ", "-m", "org/name"), 3, "REF-MAYBE-HUB", "for a Hugging Face model write hf:org/name"),
    (("watch", "あ", "-m", "EMPTY"), 3, "FILE-MISSING", "EMPTY/model.safetensors does not exist"),
    (("watch", "あ", "-m", "PICKLE"), 3, "FOLDER-ONLY-PICKLES", "manako import"),
    (("watch", "あ", "-m", "PICKLE/weights.pt"), 3, "REF-IS-PICKLE", "manako import"),
    (("watch", "あ", "-m", "openai:x@http://127.0.0.1:1"), 4, "REF-NOT-YET", "this version cannot use servers"),
    (("compare", "あ", "-m", "TOY", "-t", "1"), 2, "COMPARE-COUNT", "at least two runs, got 1; repeat -t"),
    (("compare", "あ", "-m", "TOY", "-t", "1", "-t", "-2"), 2, "TEMPERATURE", "got -2.0"),
    (("view", "no.manako"), 3, "FILE-MISSING", "no.manako does not exist; check the path"),
    (("view", "."), 3, "FILE-IS-FOLDER", "is a folder"),
    (("view", "TOY/model.safetensors"), 3, "NOT-A-TRACE", "give a file made with --save"),
    (("view", "TOY/config.json"), 3, "NOT-A-TRACE", "config.json is not a manako trace"),
    (("verify", "no.manako"), 3, "FILE-MISSING", "no.manako does not exist"),
    (("eval", "-m", "TOY", "--data", "no.txt"), 3, "FILE-MISSING", "no.txt does not exist"),
    (("import", "no.pt", "-o", "x"), 3, "FILE-MISSING", "no.pt does not exist"),
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy: str) -> Path:
    """A working folder: nothing in it but an empty folder, and one with a pickle."""
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "PICKLE").mkdir()
    (tmp_path / "PICKLE/config.json").write_text(Path(toy, "config.json").read_text(encoding="utf-8"))
    (tmp_path / "PICKLE/weights.pt").write_bytes(b"\x80\x04.")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


@pytest.mark.parametrize(
    ("arguments", "exit_code", "code", "sentence"),
    BAD,
    ids=lambda v: " ".join(v)[:60] if isinstance(v, tuple) else None,
)
def test_bad_input(
    run: Run, here: Path, toy: str, arguments: tuple[str, ...], exit_code: int, code: str, sentence: str
) -> None:
    before = files(here)
    words = [a.replace("TOY", toy) for a in arguments]
    words[1:1] = ["--save", "never.manako"] if words[0] == "watch" else []
    english, japanese = run("--lang", "en", *words), run("--lang", "ja", *words)
    for found in (english, japanese):
        assert (found.code, found.out) == (exit_code, "")
        assert found.err.startswith("manako: ") and found.err.endswith(f" [E-{code}]\n")
        assert found.err.count("\n") == 1
    assert sentence in english.err
    assert re.search("[ぁ-ん]", japanese.err) and not re.search("[ぁ-んァ-ン]", english.err)
    assert files(here) == before


@pytest.mark.slow
def test_edges_that_are_no_mistakes(run: Run, toy: str, tmp_path: Path) -> None:
    for n, good in enumerate(
        [
            ("-t", "0"), ("-t", "-0.0"), ("-t", "5e-324"), ("-t", "1e30"), ("--top-k", "99999"), ("--top-p", "1"),
            ("--top-p", "1e-300"), ("--min-p", "0"), ("--min-p", "1"), ("--typical-p", "1"), ("-n", "0"),
            ("--seed", "0"), ("--seed", str(2**64 - 1)), ("--top", "100000"), ("--stop", "\n"),
            ("--order", ORDER.replace(" ", "")), ("--order", ORDER),
        ]
    ):  # fmt: skip
        words = good if "-n" in good else ("-n", "2", *good)
        found = run("watch", "あ", "-m", toy, *words, "--save", tmp_path / f"{n}.manako")
        assert found.code == 0, (good, found.err)
        assert run("verify", tmp_path / f"{n}.manako").code == 0


@pytest.mark.parametrize("words", [("--help",), ("-h",), ("watch", "--help"), ("--lang", "ja", "--help")])
def test_help(run: Run, words: tuple[str, ...]) -> None:
    found = run(*words)
    assert (found.code, found.err) == (0, "") and found.out.startswith(("Usage: manako", "使い方: manako"))


def test_no_arguments_is_help_and_a_usage_error(run: Run) -> None:
    found = run()
    assert found.code == 2 and "watch" in found.out and found.err == ""


def test_version(run: Run) -> None:
    assert run("--version").out == f"manako {__version__}\n"


@pytest.mark.parametrize(
    ("words", "env", "lang"),
    [
        ((), {}, "en"),
        ((), {"LANG": "ja_JP.UTF-8"}, "ja"),
        ((), {"LANG": "ja_JP.UTF-8", "LC_MESSAGES": "en_US.UTF-8"}, "en"),
        ((), {"LANG": "en_US.UTF-8", "LC_ALL": "ja_JP.eucJP"}, "ja"),
        ((), {"LANG": "C"}, "en"),
        (("--lang", "en"), {"LANG": "ja_JP.UTF-8"}, "en"),
        (("--lang=ja",), {}, "ja"),
    ],
)
def test_language(run: Run, words: tuple[str, ...], env: dict[str, str], lang: str) -> None:
    for found in (run("view", "no.manako", *words, env=env), run(*words, "view", "no.manako", env=env)):
        assert ("確かめてください" in found.err) == (lang == "ja") and found.code == 3


def test_unknown_language(run: Run) -> None:
    found = run("view", "x", "--lang", "fr")
    assert (found.code, found.err) == (2, "manako: --lang must be one of: en, ja [E-CLI-CHOICE]\n")


@pytest.mark.parametrize(("file", "code"), [(None, "E-OUTPUT"), ("/data/run", "E-UNEXPECTED")])
def test_a_disk_that_is_full_is_that_of_the_file_which_the_error_names(
    run: Run, monkeypatch: pytest.MonkeyPatch, file: str | None, code: str
) -> None:
    """A write to stdout names none."""

    def burst(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", file)

    monkeypatch.setattr("manako.cli.running.load", burst)
    found = run("watch", "あ", "--lang", "en")
    assert found.code == 1 and f"[{code}]" in found.err and (file or "the output") in found.err


def test_an_unexpected_failure_is_one_line_without_debug(run: Run, toy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def burst(*_: object) -> None:
        raise RuntimeError("line one\nline two \x1b[2J" + "x" * 1000)

    monkeypatch.setattr("manako.cli.running.load", burst)
    found = run("watch", "あ")
    assert found.code == 1 and found.out == "" and found.err.count("\n") == 1 and len(found.err) < 400
    assert "unexpected failure: RuntimeError: line one\\nline two \\x1b[2J" in found.err
    assert found.err.endswith("[E-UNEXPECTED]\n") and "--debug" in found.err
    monkeypatch.setattr("sys.argv", ["manako", "watch", "あ", "--debug"])
    with pytest.raises(RuntimeError, match="line one"):
        cli.main()


def test_ctrl_c_before_the_first_step(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("manako.cli.running.load", interrupted)
    found = run("watch", "あ", "--save", tmp_path / "x.manako")
    assert (found.code, found.out, found.err) == (
        130,
        "",
        "\nmanako: interrupted\n",
    )  # below the ^C that a terminal shows
    assert not (tmp_path / "x.manako").exists()


def test_every_command_is_listed_with_its_summary(run: Run) -> None:
    listed = re.findall(r"^  ([\w-]+)  +\w", run("--help").out.split("Commands:")[1], re.M)
    assert listed == list(cli.COMMANDS)
    for name in cli.COMMANDS:
        command = cli.group.get_command(click.Context(cli.group), name)
        assert command is not None and command.name == name


def test_every_error_text_is_safe_whatever_it_names() -> None:
    hostile = "\x1b]0;x\x07\u202e\x9b2J\r\u200b" + "e" + "\u0301" * 1000
    for lang in ("en", "ja"):
        text = cli.console.safe(ManakoError("file_missing", file=hostile).text(lang))
        assert text.isprintable() and "\x1b" not in text and text.count("\u0301") <= 4  # two on each side of the cut


@pytest.mark.parametrize("words", [
    ["watch", "a", "-t", "0.3", "-t", "0.8"], ["watch", "a", "-t", "0.3", "--temperature=0.3"],
    ["eval", "--data", "a", "--data", "b"], ["corpus", "build", "a", "-o", "b", "-o", "c"],
    ["train", "--data", "a", "--out", "b", "--steps", "1", "--out", "c"],
    ["resume", "r", "--max-minutes", "1", "--max-minutes", "2"],
], ids=str)  # fmt: skip
def test_an_option_of_one_value_is_given_once(run: Run, words: list[str]) -> None:
    done = run(*words, "--lang", "en")
    assert done.code == 2 and done.err.count("\n") == 1 and "E-CLI-TWICE" in done.err, done.err


def test_flags_and_options_of_several_values_may_repeat(run: Run) -> None:
    done = run("compare", "私", "-t", "0.3", "-t", "0.8", "--plain", "--plain", "-n", "1", "--seed", "0")
    assert done.code == 0, done.err


def test_a_second_ctrl_c_while_the_first_is_answered_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.group, "main", interrupted)
    monkeypatch.setattr(cli, "interrupted", interrupted)
    with pytest.raises(SystemExit) as ended:
        cli.main(["watch"])
    assert ended.value.code == 130


def test_a_command_called_again_is_wrapped_no_deeper() -> None:
    context = click.Context(cli.group)
    made = []
    for _ in range(2):
        command = cli.group.get_command(context, "info")
        assert command is not None
        made.append(command.make_parser)
    assert made[0] is made[1]


LONG = "n" * 300  # longer than any file system lets a name be
READERS = ("view", "verify", "attention", "lens", "why", "evidence", "serve")
SLOW = pytest.mark.slow  # they need torch


@pytest.mark.parametrize(
    ("words", "code", "stable"),
    [
        (("watch", "あ", "-m", LONG), 3, "FILE-UNREADABLE"),
        (("watch", "あ", "-m", f"run:{LONG}"), 3, "FILE-UNREADABLE"),
        (("watch", "あ", "-m", f"gguf:{LONG}"), 3, "FILE-UNREADABLE"),
        (("watch", "あ", "-m", "TOY", "--save", f"{LONG}.manako"), 1, "WRITE-FAILED"),
        *(((name, f"{LONG}.manako"), 3, "FILE-UNREADABLE") for name in READERS),
        (("export", "html", f"{LONG}.manako", "-o", "a.html"), 3, "FILE-UNREADABLE"),
        (("export", "model", "TOY", "-o", LONG), 1, "WRITE-FAILED"),
        (("import", "TOY", "-o", LONG), 1, "WRITE-FAILED"),
        (("import", LONG, "-o", "new"), 3, "FILE-UNREADABLE"),
        (("corpus", "build", LONG, "-o", "new"), 3, "FILE-UNREADABLE"),
        (("corpus", "build", "TEXT", "-o", LONG), 1, "WRITE-FAILED"),
        (("corpus", "build", "TEXT", "-o", "new", "--tokenizer", LONG), 3, "FILE-UNREADABLE"),
        (("eval", "-m", "TOY", "--data", LONG), 3, "FILE-UNREADABLE"),
        (("dynamics", LONG), 3, "FILE-UNREADABLE"),
        pytest.param(("train", "--data", "TEXT", "--out", LONG), 3, "FILE-UNREADABLE", marks=SLOW),
        pytest.param(("train", "--data", LONG, "--out", "new"), 3, "FILE-UNREADABLE", marks=SLOW),
        pytest.param(("resume", LONG), 3, "FILE-UNREADABLE", marks=SLOW),
        pytest.param(("training-step", LONG), 3, "FILE-UNREADABLE", marks=SLOW),
    ],
)  # fmt: skip
def test_a_path_that_cannot_be_looked_at_is_one_line(
    run: Run, toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], code: int, stable: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("吾輩は猫である。", encoding="utf-8")
    found = run(*(word.replace("TOY", toy).replace("TEXT", "text.txt") for word in words))
    assert (found.code, found.out) == (code, "") and found.err.endswith(f"[E-{stable}]\n")
    assert found.err.count("\n") == 1 and sorted(p.name for p in tmp_path.iterdir()) == ["text.txt"]
