"""Chat templates against `transformers`, and what a template can do besides: nothing (T10)."""

import importlib.metadata
import json
import time
from pathlib import Path
from typing import Any

import pytest
from lanes import mostly_slow
from toy import toy_tokenizer
from toy_llama import write_toy_llama

import manako
from manako.errors import CapabilityError, LoadError, MissingExtraError, UsageError
from manako.formats import chat_template
from manako.formats.chat_template import filled

TURNS = [{"role": "system", "content": "あい"}, {"role": "user", "content": "私は猫。"}]
CHATML = (
    "{{ bos_token }}{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
PUBLISHED = {
    "ChatML": CHATML,
    "blocks trimmed": "{% for m in messages %}\n {% if m.role == 'user' %}\n{{ m.role }}\n {% endif %}\n{% endfor %}",
    "JSON": "{{ messages | tojson(indent=2) }}{{ tools is none }}",
    "loop controls": "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m.content }}{% endfor %}",
    "what is trained on": "{% for m in messages %}{% generation %}{% set x = m.role %}\n{{ x }}{{ m.content }}"
    "{% endgeneration %}{{ x }}{% endfor %}",
    "dicts": "{{ dict(messages[0], a=1) }}{{ dict.fromkeys(['a', 'b'], 2) }}",
    "a name of Python's": "{% set s = namespace({'self': 1}, n=2) %}{{ s.self + s.n }}",
    "a namespace": "{% set s = namespace(n=0) %}{% for m in messages %}{% set s.n = s.n + 1 %}{% endfor %}{{ s.n }}",
}
HOSTILE = {
    "a hidden name": "{% set s = namespace(_x=1) %}",
    "a hidden name later": "{% set s = namespace() %}{% set s.__x__ = 1 %}",
    "reaches for Python": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "reaches for the house": "{{ self.__init__.__globals__ }}",
    "changes what it was given": "{% set x = messages.append(1) %}",
    "no end": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "much": "{% for a in range(99999) %}{{ 'x' * 9999 }}{% endfor %}",
    "much memory": "{{ 'x' * 99999999999 }}",
    "not Jinja": "{% if %}",
    "says no": "{{ raise_exception('roles must\nalternate') }}",
    "includes a file": "{% include 'x' %}",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_same_text_as_transformers(name: str) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    theirs, _ = render_jinja_template(
        [TURNS], chat_template=PUBLISHED[name], add_generation_prompt=True, bos_token="<s>"
    )
    assert filled(PUBLISHED[name], TURNS, {"bos_token": "<s>"}) == theirs[0]


@pytest.mark.parametrize("name", mostly_slow(HOSTILE, fast={"reaches for Python", "not Jinja"}))  # a process each
def test_whatever_a_template_does_it_ends(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_template, "SECONDS", 3.0)
    began = time.monotonic()
    with pytest.raises(LoadError) as caught:
        filled(HOSTILE[name], TURNS, {})
    assert caught.value.key == "chat_template" and "\n" not in str(caught.value) and caught.value.text("ja")
    assert time.monotonic() - began < 60  # a ceiling against hangs


@pytest.mark.parametrize("found", ["3.1.5", "2.11.3", ""])
def test_an_older_jinja_is_refused(found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if not found:
            raise importlib.metadata.PackageNotFoundError(name)
        return found

    monkeypatch.setattr(importlib.metadata, "version", version)
    with pytest.raises(MissingExtraError, match=r"3\.1\.6"):
        filled(CHATML, TURNS, {})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A Llama with ChatML's tokens, one token that every text begins with, and a token without a row."""
    write_toy_llama(tmp_path / "m", vocab_size=279)
    spec = json.loads(toy_tokenizer().source)
    names = ("<|im_start|>", "<|im_end|>", "<pad>")
    spec["added_tokens"] += [
        {**spec["added_tokens"][0], "id": 277 + n, "content": name} for n, name in enumerate(names)
    ]
    single = [{"SpecialToken": {"id": "s", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    special = {"s": {"id": "s", "ids": [0], "tokens": ["s"]}}
    spec["post_processor"] = {"type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": special}
    (tmp_path / "m" / "tokenizer.json").write_text(json.dumps(spec))
    wrapper: dict[str, Any] = {"chat_template": CHATML, "bos_token": "<|endoftext|>"}
    (tmp_path / "m" / "tokenizer_config.json").write_text(json.dumps(wrapper))
    return tmp_path / "m"


def test_special_tokens_of_a_prompt_are_text_unless_asked_for(folder: Path) -> None:
    model = manako.load(folder)
    assert "notice.vocab_beyond" in [key for key, _ in model.notices]
    text = "<|im_start|>猫<|im_end|>"

    def ids(prompt: str, **settings: Any) -> list[int]:
        return model.trace(prompt, max_new_tokens=1, **settings).columns.prompt_ids.tolist()

    cat = toy_tokenizer().encode("猫")
    assert ids(text) == [0, *toy_tokenizer().encode(text)]
    assert ids(text, special=True) == [0, 277, *cat, 278]
    assert ids("<|endoftext|>猫", special=True) == [0, *cat]  # not twice
    trace = model.trace(text, special=True, max_new_tokens=1)
    assert trace.header.prompt == "猫" and not trace.header.special_ids[-1] > 278
    assert model.score(text, special=True).columns.token_id.tolist() == [277, *cat, 278]
    with pytest.raises(UsageError) as caught:
        ids("<pad>", special=True)
    assert caught.value.key == "prompt_token_without_row"


@pytest.mark.slow
def test_a_chat_is_what_transformers_makes_of_it(folder: Path) -> None:
    import transformers

    theirs = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    expected = theirs.apply_chat_template(TURNS, add_generation_prompt=True, return_dict=False)
    made = manako.load(folder).trace("私は猫。", chat=True, system="あい", max_new_tokens=1)
    assert made.columns.prompt_ids.tolist() == expected
    with pytest.raises(CapabilityError):
        manako.load("demo").trace("私", chat=True)
    with pytest.raises(UsageError):
        manako.load("demo").trace("私", system="x")


ALL = "".join(f"{{{{ {name} }}}}|" for name in (*chat_template.TOKENS, "image_token", "nobodys_token"))
MAP = {"bos_token": {"content": "<|im_start|>"}, "eos_token": "<|im_end|>", "pad_token": None}


@pytest.mark.slow
@pytest.mark.parametrize("route", ["", "hf:"])
@pytest.mark.parametrize("wrapper, older", [
    ({"tokenizer_class": "PreTrainedTokenizerFast"}, MAP),
    ({"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "a", "image_token": "<i>"}, MAP),
    ({"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "a", "added_tokens_decoder": {}}, MAP),
    ({"tokenizer_class": "LlamaTokenizer"}, {}),
    ({"tokenizer_class": "LlamaTokenizerFast", "eos_token": None}, {"bos_token": "<|endoftext|>"}),
    ({"tokenizer_class": "GPT2Tokenizer", "pad_token": "x"}, MAP),
    ({"tokenizer_class": "GPTNeoXTokenizer"}, {}),
    ({"tokenizer_class": "CodeGenTokenizer"}, {}),
    ({"tokenizer_class": "GemmaTokenizer"}, {}),
    ({"tokenizer_class": "Qwen3_5Tokenizer"}, {}),
    ({}, {}),
])  # fmt: skip
def test_a_template_has_the_names_of_tokens_that_transformers_has(
    wrapper: dict[str, Any], older: dict[str, Any], route: str, folder: Path
) -> None:
    """Of the files in their order, and those that the class fills in; what nobody named is nothing."""
    import transformers

    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": ALL, **wrapper}))
    (folder / "special_tokens_map.json").write_text(json.dumps(older))
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    assert manako.load(f"{route}{folder}").chat("x") == theirs.apply_chat_template(TURNS, tokenize=False)
