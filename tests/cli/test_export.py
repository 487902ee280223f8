"""`manako export`: a page or a site out of a saved trace, a folder out of a model, whole or not at all."""

import re
from pathlib import Path

import pytest
from commands import Run
from golden import golden_trace
from toy import write_toy
from trees import toy_tree

import manako
from manako.analysis.compact import compact
from manako.files import megabytes
from manako.model import for_page
from manako.refs import example
from manako.trace.tree import Branch, Tree, tree_bytes
from manako.views.html import Carried, page, trainer_page


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_the_page_is_written_and_its_size_told(run: Run, saved: Path, tmp_path: Path, lang: str) -> None:
    out = tmp_path / "run.html"
    found = run("export", "html", saved, "-o", out, "--lang", lang)
    assert (found.code, found.out) == (0, "")
    assert str(out) in found.err and megabytes(out.stat().st_size) in found.err
    assert out.read_text(encoding="utf-8") == page(manako.open(saved), lang)


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_the_page_that_trains_is_written(run: Run, tmp_path: Path, lang: str) -> None:
    out = tmp_path / "train.html"
    found = run("export", "trainer", "-o", out, "--lang", lang)
    assert (found.code, found.out) == (0, "") and megabytes(out.stat().st_size) in found.err
    assert out.read_text(encoding="utf-8") == trainer_page(lang)
    assert run("export", "trainer", "-o", out).code == 2 and out.read_text(encoding="utf-8") == trainer_page(lang)


def test_a_tree_becomes_one_page_with_all_its_branches(run: Run, tmp_path: Path) -> None:
    (tmp_path / "tree.manako").write_bytes(tree_bytes(toy_tree()))
    out = tmp_path / "run.html"
    assert run("export", "html", tmp_path / "tree.manako", "-o", out).code == 0
    assert out.read_text(encoding="utf-8") == page(toy_tree(), "en")


def test_compact_makes_every_branch_smaller_and_tells_the_size(run: Run, saved: Path, tmp_path: Path) -> None:
    (tmp_path / "tree.manako").write_bytes(tree_bytes(toy_tree()))
    small = [Branch(b.id, b.parent, b.keep, compact(b.trace)) for b in toy_tree().branches]
    out = tmp_path / "run.html"
    found = run("export", "html", "--compact", tmp_path / "tree.manako", "-o", out)
    assert found.code == 0 and megabytes(out.stat().st_size) in found.err
    assert out.read_text(encoding="utf-8") == page(Tree(tuple(small), "2-1"), "en")
    assert run("export", "html", saved, "-o", out, "-f", "--compact").code == 0
    assert out.read_text(encoding="utf-8") == page(compact(manako.open(saved)), "en")


def test_a_damaged_tree_leaves_nothing_behind(run: Run, tmp_path: Path) -> None:
    data = bytearray(tree_bytes(toy_tree()))
    data[-1] ^= 1
    (tmp_path / "tree.manako").write_bytes(data)
    found = run("export", "html", tmp_path / "tree.manako", "-o", tmp_path / "run.html")
    assert found.code == 3 and "branch b: " in found.err and not (tmp_path / "run.html").exists()


def test_a_file_that_exists_is_replaced_only_with_force(run: Run, saved: Path, tmp_path: Path) -> None:
    out = tmp_path / "run.html"
    out.write_text("mine", encoding="utf-8")
    found = run("export", "html", saved, "-o", out)
    assert found.code == 2 and "E-TARGET-EXISTS" in found.err and out.read_text(encoding="utf-8") == "mine"
    assert run("export", "html", saved, "-o", out, "-f").code == 0
    assert "manako-trace" in out.read_text(encoding="utf-8")


def test_what_is_no_trace_leaves_nothing_behind(run: Run, tmp_path: Path) -> None:
    (tmp_path / "x.manako").write_bytes(b"not a trace")
    for source in ("x.manako", "missing.manako"):
        found = run("export", "html", tmp_path / source, "-o", tmp_path / "run.html")
        assert found.code == 3 and found.out == "" and found.err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.manako"]


def test_a_folder_that_is_not_there_is_told_before_any_work(run: Run, saved: Path, tmp_path: Path) -> None:
    found = run("export", "html", saved, "-o", tmp_path / "none" / "run.html")
    assert found.code == 1 and "E-TARGET-FOLDER-MISSING" in found.err


def test_a_page_must_be_given_a_name(run: Run, saved: Path) -> None:
    assert run("export", "html", saved).code == 2


def test_a_record_shows_itself_as_the_page(saved: Path) -> None:
    shown = golden_trace()._repr_mimebundle_()
    assert set(shown) == {"text/plain", "text/html"} and shown["text/html"].startswith("<iframe sandbox=")


def test_a_page_carries_the_model_that_its_trace_names(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "run.html"
    assert run("export", "html", example(), "--with-model", "-o", out).code == 0
    text, data = out.read_text(encoding="utf-8"), for_page("demo")
    assert text == page(manako.open(example()), "en", Carried("demo", len(data), data))
    assert "script-src 'sha256-" in text and "'wasm-unsafe-eval'" in text and len(text) < 17_000_000


def test_a_folder_is_named_and_not_told_where_it_lies(run: Run, saved: Path, tmp_path: Path) -> None:
    write_toy(tmp_path / "secret" / "toy")
    out = tmp_path / "run.html"
    assert run("export", "html", saved, "-m", tmp_path / "secret" / "toy", "-o", out).code == 0
    text = out.read_text(encoding="utf-8")
    assert 'data-ref="toy"' in text and "secret" not in text


def test_a_model_that_the_page_cannot_run_is_refused_and_nothing_written(run: Run, saved: Path, tmp_path: Path) -> None:
    write_toy(tmp_path / "toy")
    (tmp_path / "toy" / "model.safetensors").unlink()
    assert run("export", "html", saved, "-m", tmp_path / "toy", "-o", tmp_path / "run.html").code == 3
    found = run("export", "html", saved, "-m", "gguf:x.gguf", "-o", tmp_path / "run.html")
    assert found.code == 4 and "E-PAGE-MODEL" in found.err and "model.safetensors" in found.err
    assert run("export", "site", "-m", "gguf:x.gguf", "-o", tmp_path / "site").code != 0
    assert not (tmp_path / "run.html").exists() and not (tmp_path / "site").exists()


def test_a_site_opens_on_a_text_of_its_own_model(run: Run, tmp_path: Path) -> None:
    write_toy(tmp_path / "toy")
    assert run("export", "site", "-m", tmp_path / "toy", "-o", tmp_path / "site").code == 0
    index = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    (name,) = re.findall(r'data-address="(model-[0-9a-f]{16}\.bin)"', index)
    assert (tmp_path / "site" / name).read_bytes() == for_page(tmp_path / "toy")
    made = {path.name for path in (tmp_path / "site").iterdir()}
    assert made == {"index.html", name, "service-worker.js", "manifest.webmanifest", "icon.svg"}
    assert f'"{name}"' in (tmp_path / "site" / "service-worker.js").read_text(encoding="utf-8")


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_a_model_becomes_a_folder(run: Run, tmp_path: Path, lang: str) -> None:
    out = tmp_path / "plain"
    found = run("export", "model", "demo", "-o", out, "--dtype", "float16", "--lang", lang)
    assert (found.code, found.err) == (0, "") and str(out) in found.out and "float16" in found.out
    assert manako.load(out).info.stored_dtype == "float16"
    found = run("export", "model", "demo", "-o", out)
    assert (found.code, found.out) == (1, "") and str(out) in found.err


def test_a_model_of_transformers_is_refused_in_one_line(run: Run, tmp_path: Path) -> None:
    found = run("export", "model", "hf:org/name", "-o", tmp_path / "m")
    assert found.code == 4 and found.err.count("\n") == 1 and not (tmp_path / "m").exists()
