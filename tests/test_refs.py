"""References: each kind is taken apart as it is written, and a wrong one says what may be meant."""

from pathlib import Path

import pytest
from toy import write_toy

from manako.errors import CapabilityError, LoadError
from manako.refs import DEMO, EMBEDDED, ENGLISH, Ref, completions, for_language, for_text, installed


@pytest.mark.parametrize(("text", "kind", "name", "step"), [
    ("demo", "demo", "demo", None),
    ("demo2", "folder", "demo2", None),
    ("runs/soseki", "folder", "runs/soseki", None),
    ("C:/models/a", "folder", "C:/models/a", None),
    ("run:mine", "run", "mine", None),
    ("run:mine@200", "run", "mine", "200"),
    ("run:a@b@best", "run", "a@b", "best"),
    ("run:mine@", "run", "mine", None),
    ("gguf:a:b.gguf", "gguf", "a:b.gguf", None),
    ("hf:org/name", "hf", "org/name", None),
    ("hf:./folder@1", "hf", "./folder@1", None),
    ("openai:x@http://127.0.0.1:1/v1", "openai", "x@http://127.0.0.1:1/v1", None),
])  # fmt: skip
def test_a_reference_is_taken_apart(text: str, kind: str, name: str, step: str | None) -> None:
    found = Ref.parse(text)
    assert (found.text, found.kind, found.name, found.step) == (text, kind, name, step)
    assert Ref.parse(Path("runs/soseki")) == Ref.parse("runs/soseki")


@pytest.mark.parametrize("text", ["", "run:", "gguf:", "hf:", "openai:"])
def test_a_prefix_with_nothing_behind_it_names_no_model(text: str) -> None:
    with pytest.raises(LoadError, match=f'there is no model "{text}"; give demo') as refused:
        Ref.parse(text)
    assert refused.value.code == "E-REF-UNKNOWN"


@pytest.mark.parametrize(("file", "code", "hint"), [
    ("m.gguf", "E-REF-IS-GGUF", '"m.gguf" is a GGUF file; write gguf:m.gguf'),
    ("m.pt", "E-REF-IS-PICKLE", "manako import m.pt"),
    ("m.safetensors", "E-NOT-A-FOLDER", "the folder that holds config.json"),
])  # fmt: skip
def test_a_file_where_a_folder_is_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, code: str, hint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(file).write_bytes(b"x")
    with pytest.raises(LoadError) as refused:
        Ref.parse(file).checkpoint()
    assert refused.value.code == code and hint in str(refused.value)


def test_a_near_miss_of_demo_is_told_so() -> None:
    for text in ("dmo", "Demo", "demmo"):
        with pytest.raises(LoadError, match=rf'"{text}" \(demo\?\)'):
            Ref.parse(text).checkpoint()
    with pytest.raises(LoadError, match='"nothing"; give demo'):
        Ref.parse("nothing").checkpoint()


def test_the_demo_has_a_folder_and_no_corpus() -> None:
    assert Ref.parse("demo").checkpoint() == DEMO and Ref.parse("demo").run() is None
    with pytest.raises(CapabilityError, match="the training text of demo is not known"):
        Ref.parse("demo").corpus()


@pytest.mark.parametrize("said", ["", "data = []", "data = 3", "data = [3]"])
def test_a_run_that_does_not_say_what_it_read_has_no_corpus(tmp_path: Path, said: str) -> None:
    write_toy(tmp_path / "checkpoints" / "step-000001")
    (tmp_path / "last").write_text("step-000001\n")
    (tmp_path / "config.toml").write_text(said)
    with pytest.raises(CapabilityError, match="is not known; give its packed corpus"):
        Ref.parse(tmp_path).corpus()
    (tmp_path / "config.toml").write_text('data = "gone"')
    with pytest.raises(LoadError, match="no longer at gone"):
        Ref.parse(tmp_path).corpus()


def test_a_kind_to_come_is_refused_before_anything_is_read() -> None:
    with pytest.raises(CapabilityError) as refused:
        Ref.parse("openai:x@http://127.0.0.1:1").tokenizer()
    assert refused.value.exit_code == 4


@pytest.mark.parametrize(("text", "japanese"), [
    ("私は", True),
    ("The cat is 猫", True),
    ("ｶﾅ", True),
    ("「", True),
    ("", True),
    ("12 / 7 !", True),
    ("The old man", False),
    ("l’été", False),
    ("Ελλάδα", False),
])  # fmt: skip
def test_a_text_without_japanese_has_the_english_model_where_it_is_installed(
    text: str, japanese: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(EMBEDDED, ENGLISH, tmp_path / "nowhere")
    assert for_text(text) == "demo" and for_language("en") == "demo"
    monkeypatch.setitem(EMBEDDED, ENGLISH, tmp_path)
    assert for_text(text) == ("demo" if japanese else "demo-en")
    assert (for_language("en"), for_language("ja")) == ("demo-en", "demo")
    assert Ref.parse("demo-en").checkpoint() == tmp_path


def test_a_shell_is_offered_models_runs_and_their_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.gguf").touch()
    monkeypatch.setattr("manako.refs.run_folder.is_run", lambda folder: folder == Path("runs/mine"))
    for step in (100, 200):
        (tmp_path / "runs" / "mine" / "checkpoints" / f"step-{step:06d}").mkdir(parents=True)
    assert completions("") == [*installed(), "run:mine", "gguf:a.gguf"]
    assert completions("run:mine@") == ["run:mine@best", "run:mine@last", "run:mine@100", "run:mine@200"]
    assert completions("run:other@") == ["run:other@best", "run:other@last"] and completions("x") == []
