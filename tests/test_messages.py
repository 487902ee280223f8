"""One catalog: both languages hold the same keys and names, and every key that the source uses exists."""

import ast
import string
from pathlib import Path

import pytest
from sources import parsed

import manako
from manako import messages
from manako.errors import CapabilityError

SOURCE = Path(manako.__file__).parent


def names_in(sentence: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(sentence) if name}


def test_both_languages_have_the_same_keys_and_names() -> None:
    en, ja = messages.catalog("en"), messages.catalog("ja")
    assert en.keys() == ja.keys()
    assert {k for k in en if names_in(en[k]) != names_in(ja[k])} == set()


def used_keys() -> set[str]:
    found = set[str]()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(parsed(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                called = ast.unparse(node.func)
                key = node.args[0].value
                if called.endswith("Error") and called not in ("ValueError", "AttributeError", "TypeError"):
                    found.add(f"error.{key}")
                elif called in ("messages.text", "report", "say"):
                    found.add(str(key))
    return found


def test_every_key_that_the_source_uses_exists() -> None:
    assert used_keys() - messages.catalog("en").keys() == set()


@pytest.mark.parametrize(("lang", "stop"), [("en", "."), ("ja", "。")])
def test_what_an_option_does_is_a_sentence(lang: str, stop: str) -> None:
    known = {key: said for key, said in messages.catalog(lang).items() if key.startswith("option.")}
    assert [key for key, said in known.items() if stop not in said[-2:]] == []  # a bracket may close behind it


def test_a_value_that_was_given_is_written_alike() -> None:
    assert [key for key, said in messages.catalog("ja").items() if "指定された値" in said or "：" in said] == []


def test_a_value_with_braces_is_shown_as_it_is() -> None:
    assert "{0} {got}" in messages.text("error.seed", "en", got="{0} {got}")


def test_language_follows_the_posix_order() -> None:
    assert messages.language({}) == "en"
    assert messages.language({"LC_MESSAGES": "ja_JP", "LANG": "en_US.UTF-8"}) == "ja"
    assert messages.language({"LC_ALL": "", "LANG": "ja"}) == "ja"


def test_a_phrase_inside_a_sentence_is_said_in_its_language() -> None:
    reason = messages.Phrase("lacks.no_attention")
    error = CapabilityError("capture_lacking", got="attention", reason=reason, can="lens")
    for lang in messages.LANGUAGES:
        assert messages.catalog(lang)["lacks.no_attention"] in error.text(lang)
    assert "lacks." not in str(error)
