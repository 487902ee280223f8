"""`manako compare`: one prompt, one luck, several temperatures; text or JSON."""

import json
import re
from pathlib import Path

import pytest
from commands import Run
from toy import CHARACTERS, write_toy

import manako
from manako.analysis.aligned import aligned
from manako.messages.numbers import signed
from manako.tokenizer import train_character_bpe
from manako.trace.tree import open_tree


@pytest.mark.slow
def test_json_holds_whole_runs(run: Run, ref: str) -> None:
    words = ("compare", "あ", "-m", ref, "-t", "0.3", "-t", "1.5", "--seed", "4", "-n", "8", "--json")
    found = run(*words)
    assert (found.code, found.err) == (0, "")
    document = json.loads(found.out)
    assert list(document) == ["schema", "diverged_at", "left", "runs"] and document["schema"] == "manako.comparison/1"
    expected = manako.compare(manako.load(ref), "あ", temperatures=(0.3, 1.5), seed=4, max_new_tokens=8)
    assert document["diverged_at"] == expected.diverged_at
    for shown, trace in zip(document["runs"], expected.traces, strict=True):
        assert shown["sampling"]["temperature"] == trace.header.sampling.temperature
        assert [s["chosen"]["id"] for s in shown["steps"]] == trace.columns.token_id.tolist()
        assert [s["u"] for s in shown["steps"]] == trace.columns.u.tolist()
    assert run(*words, "--lang", "ja").out == found.out


def test_three_temperatures_without_being_told(run: Run, toy: str) -> None:
    found = run("compare", "あ", "-m", toy, "--seed", "4", "-n", "5")
    assert found.code == 0 and "temperature 0.3 / 0.8 / 1.2; seed 4" in found.out
    assert re.findall(r"^T=([\d.]+)  ", found.out, re.M) == ["0.3", "0.8", "1.2"]


def test_a_fresh_seed_is_shared_and_shown(run: Run, toy: str) -> None:
    document = json.loads(run("compare", "あ", "-m", toy, "-n", "3", "--json").out)
    assert len({r["seed"] for r in document["runs"]}) == 1
    assert re.search(r"seed \d+", run("compare", "あ", "-m", toy, "-n", "1").out)


def test_other_stages_apply_to_all(run: Run, toy: str) -> None:
    found = run("compare", "あ", "-m", toy, "-t", "0", "-t", "1", "--top-k", "3", "-n", "3", "--seed", "1")
    assert "sampler chain: temperature 0 / 1 > top_k 3; seed 1" in found.out and " cut" in found.out


def test_notices_stand_on_stderr(run: Run, toy: str) -> None:
    found = run("compare", "あ" * 30, "-m", toy, "-n", "2", "--json")
    assert found.err == "manako: the prompt has 30 tokens; the model sees only the last 16\n"
    json.loads(found.out)


def test_nothing_asked(run: Run, toy: str) -> None:
    found = run("compare", "あ", "-m", toy, "-n", "0")
    assert found.code == 0 and "All runs chose the same tokens." in found.out


def test_parts_switched_off_stand_beside_the_untouched_model(run: Run, toy: str) -> None:
    words = (
        "compare",
        "あ",
        "-m",
        toy,
        "--seed",
        "4",
        "-n",
        "6",
        "--ablate",
        "head:0.1,mlp:1",
        "--ablate",
        "layer:1=mean",
    )
    found = run(*words)
    assert found.code == 0 and "temperature 0.8; seed 4" in found.out
    titles = re.search(r"^ +(unmodified +head:0\.1\+mlp:1 +layer:1=mean)$", found.out, re.M)
    assert titles is not None
    assert re.findall(r"^(unmodified|head:0.1\+mlp:1|layer:1=mean)  ", found.out, re.M)[-3:] == titles[1].split()
    document = json.loads(run(*words, "--json").out)
    assert [r["ablate"] for r in document["runs"]] == [[], ["head:0.1", "mlp:1"], ["layer:1=mean"]]
    assert len({tuple(s["u"] for s in r["steps"]) for r in document["runs"]}) == 1
    model = manako.load(toy)
    expected = manako.compare(
        model, "あ", ablations=[["head:0.1", "mlp:1"], ["layer:1=mean"]], temperature=0.8, seed=4, max_new_tokens=6
    )
    for shown, trace in zip(document["runs"], expected.traces, strict=True):
        assert [s["chosen"]["id"] for s in shown["steps"]] == trace.columns.token_id.tolist()
    assert document["diverged_at"] == expected.diverged_at
    assert "Run unmodified:" in run(*words, "--plain").out


def test_parts_that_cannot_be_switched_off(run: Run, toy: str) -> None:
    for words, stable in (
        (("--ablate", "head:0"), "E-ABLATE-FORM"),
        (("--run", "top_k=3 dreams=1"), "E-RUN-FORM"),
        (("--run", "top_k"), "E-RUN-FORM"),
        (("--run", 't=1 "'), "E-RUN-FORM"),
        (("--run", "top_k=0 "), "E-TOP-K"),
        (("-t", "0.3"), "E-COMPARE-COUNT"),
        (("--step", "99"), "E-VIEW-STEP"),
        (("--ablate", "head:7.0"), "E-ABLATE-RANGE"),
        (("--ablate", "head:0.2"), "E-ABLATE-RANGE"),
        (("--ablate", "layer:2"), "E-ABLATE-RANGE"),
        (("--ablate", ""), "E-ABLATE-FORM"),
    ):
        found = run("compare", "あ", "-m", toy, *words)
        assert found.code == 2 and stable in found.err and found.err.count("\n") == 1, words


def test_whatever_is_repeated_is_combined(run: Run, toy: str) -> None:
    words = ("compare", "あ", "-m", toy, "-n", "4", "--seed", "1")
    found = json.loads(run(*words, "--seed", "2", "--top-k", "3", "--top-k", "5", "--json").out)["runs"]
    assert [(r["sampling"]["top_k"], r["seed"]) for r in found] == [(3, 1), (3, 2), (5, 1), (5, 2)]
    both = run(*words, "-t", "0.3", "-t", "1", "--ablate", "mlp:0").out
    expected = [f"T={t} {off}" for t in ("0.3", "1") for off in ("unmodified", "mlp:0")]
    assert re.findall(r"^(T=[\d.]+ [a-z:0]+) +あ", both, re.M) == expected


@pytest.mark.parametrize("base", [(), ("-t", "0.5")])
def test_runs_with_settings_of_their_own(run: Run, toy: str, base: tuple[str, ...]) -> None:
    words = ("compare", "あ", "-m", toy, *base, "--seed", "1", "-n", "4", "--json")
    found = json.loads(run(*words, "--run", "t=1 top_k=3", "--run", "min-p=0.2").out)["runs"]
    settings = [tuple(r["sampling"][name] for name in ("temperature", "top_k", "min_p")) for r in found]
    assert settings == [(1.0, 3, None), (float(base[1]) if base else 0.8, None, 0.2)]
    assert len(json.loads(run(*words, "--run", "t=1").out)["runs"]) == 2  # against the settings that all have


@pytest.mark.slow
def test_two_models_with_different_tokenizers_are_aligned_by_their_text(
    run: Run, toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, name = tmp_path / "both.manako", Path(toy).name
    monkeypatch.chdir(Path(toy).parent)  # a long path would put one below the other
    words = ("compare", "あい", "-m", name, "-m", "demo", "--seed", "4", "-n", "6")
    found = run(*words, "--save", path)
    assert found.code == 0 and re.search(rf"^ +{re.escape(name)} +demo$", found.out, re.M)
    assert run("verify", path).out.count("re-derived") == 2
    assert len(run(*words, "--jsonl").out.splitlines()) == 2
    assert re.search(r"^ +1 ", run(*words, "--lines").out, re.M)


def test_samples_are_runs_with_consecutive_seeds(run: Run, toy: str, tmp_path: Path) -> None:
    words = ("watch", "あ", "-m", toy, "-n", "5", "--seed", str(2**64 - 1), "--samples", "3")
    found = run(*words, "--save", tmp_path / "x.manako")
    assert re.findall(r"^seed (\d+)  ", found.out, re.M) == [str(2**64 - 1), "0", "1"]
    several = json.loads(run(*words, "--json").out)["runs"]
    assert [r["seed"] for r in several] == [2**64 - 1, 0, 1]
    ends = next(s["chosen"]["text"] for s in several[0]["steps"][:4] if s["chosen"]["text"] in CHARACTERS)
    late = run(*words, "--stop", ends, "--step", "5", "--save", tmp_path / "y.manako")
    assert late.code == 2 and "E-VIEW-STEP" in late.err and (tmp_path / "y.manako").exists()
    for bad in ("1", "x"):
        assert "E-SAMPLES" in run("watch", "あ", "-m", toy, "--samples", bad).err


@pytest.fixture
def two(tmp_path: Path, toy: str) -> tuple[str, ...]:
    """The options that name two models with different vocabularies."""
    write_toy(tmp_path / "bpe", train_character_bpe(["あい、うえ。\n" * 20], 266), block_size=40)
    return ("-m", toy, "-m", str(tmp_path / "bpe"))


def test_a_given_text_under_two_models(run: Run, two: tuple[str, ...]) -> None:
    document = json.loads(run("compare", "あい、うえ", *two, "--given", "--json").out)
    one, other = (manako.load(two[n]) for n in (1, 3))
    found = aligned("あい、うえ", one.score("あい、うえ"), other.score("あい、うえ"))
    assert document["schema"] == "manako.aligned/1" and document["tokens"] == [5, found.tokens(1)]
    assert [s["bits"] for s in document["stretches"]] == [list(s.bits) for s in found.stretches]
    shown = run("compare", "あい、うえ", *two, "--given").out.splitlines()
    assert shown[2].split()[-1] == "difference"
    for line, s in zip(shown[3:], found.stretches, strict=False):
        assert line.split() == [s.text, str(s.tokens[0]), f"{s.bits[0]:.2f}", str(s.tokens[1]), f"{s.bits[1]:.2f}",
                                signed(s.difference)]  # fmt: skip
    assert (
        f"difference, second less first: {signed(found.bits_per_character(1) - found.bits_per_character(0))} "
        in shown[-1]
    )
    plain = run("compare", "あい、うえ", *two, "--given", "--plain", "--lang", "ja").out.splitlines()
    assert len(plain) == len(found.stretches) + 3 and all("1 つ目のモデルで" in line for line in plain[:-3])


def test_its_page_and_its_traces_are_written_or_nothing_is(run: Run, two: tuple[str, ...], tmp_path: Path) -> None:
    page, tree = tmp_path / "c.html", tmp_path / "c.manako"
    words = ("compare", "あい", *two, "--given", "--html", str(page), "--save", str(tree))
    assert run(*words).code == 0
    assert "<manako-comparison>" in page.read_text(encoding="utf-8")
    assert [branch.trace.header.kind for branch in open_tree(tree).branches] == ["score", "score"]
    again = run(*words)
    assert again.code == 2 and str(tree) in again.err and again.out == ""


def test_what_makes_no_sense_with_a_given_text(run: Run, two: tuple[str, ...]) -> None:
    for more, said in (
        (("--given", "-t", "0.5"), "--temperature: with --given nothing is generated"),
        (("--given", "--step", "1", "--lines"), "--step, --lines: with"),
        (("--given", "-m", two[1]), "--given compares two models, got 3"),
        (("--html", "x.html"), "--html only together with --given"),
    ):
        found = run("compare", "あい", *two, *more)
        assert found.code == 2 and said in found.err and found.out == "", found.err


@pytest.mark.slow
def test_standard_input_is_read_once_for_all_models(run: Run) -> None:
    words = ["-m", "demo", "-m", "demo-en", "-n", "2", "--seed", "1", "--jsonl"]
    piped = run("compare", "-", *words, stdin=b"It was\n")
    assert piped.out == run("compare", "It was", *words).out and piped.out.count("\n") == 2
