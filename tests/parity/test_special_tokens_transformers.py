"""Which tokens go in and where a text ends, against AutoTokenizer and `generate`, for every toy family and route."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, processors
from toy import toy_tokenizer
from toy_hf import FAMILIES, toy_lm, write_lm

import manako

transformers.logging.set_verbosity_error()
FRONTS = {"none": (), "one": ("<|endoftext|>",), "two": ("<|endoftext|>", "猫")}
NUMPY = ("gpt2", "llama", "qwen2", "mistral")
ROUTES = [(family, "hf:") for family in FAMILIES] + [(family, "") for family in NUMPY]
TEXT, SHORT = "私は猫。", "猫"  # the short one stays within the window of the toy Mistral


def with_front(folder: Path, front: tuple[str, ...], config_bos: int | None) -> None:
    """Give the folder's tokenizer a template; config.json says something else."""
    rust = Tokenizer.from_str(toy_tokenizer().source)
    if front:
        named = [(name, rust.token_to_id(name)) for name in dict.fromkeys(front)]
        rust.post_processor = processors.TemplateProcessing(single=[*front, "$A"], special_tokens=named)
    rust.save(str(folder / "tokenizer.json"))
    wrapper = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|endoftext|>", "add_bos_token": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(wrapper))
    edit(folder / "config.json", bos_token_id=config_bos)


def read_tokenizer(folder: Path, family: str) -> Any:
    """AutoTokenizer; for Qwen 2 it builds a kind of its own, whatever the file holds."""
    reader = transformers.PreTrainedTokenizerFast if family == "qwen2" else transformers.AutoTokenizer
    return reader.from_pretrained(folder)


def edit(path: Path, **changes: Any) -> None:
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(known | changes))


@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize(("family", "route"), ROUTES)
def test_the_ids_of_a_prompt(tmp_path: Path, family: str, route: str, front: str) -> None:
    folder = write_lm(tmp_path / "m", family)
    with_front(folder, FRONTS[front], config_bos=7)
    theirs = read_tokenizer(folder, family)(TEXT)["input_ids"]
    ours = manako.load(f"{route}{folder}").trace(TEXT, max_new_tokens=1).columns.prompt_ids.tolist()
    assert ours == theirs and len(ours) == len(toy_tokenizer().encode(TEXT)) + len(FRONTS[front])


@pytest.mark.parametrize("place", ["number", "list", "generation"])
@pytest.mark.parametrize(("family", "route"), ROUTES)
def test_where_a_text_ends(tmp_path: Path, family: str, route: str, place: str) -> None:
    """The third token that the model would say is made an end token: `generate` and manako stop there."""
    folder = write_lm(tmp_path / "m", family)
    with_front(folder, FRONTS["one"], config_bos=None)
    ids = read_tokenizer(folder, family)(SHORT, return_tensors="pt")["input_ids"]
    settings: dict[str, Any] = {"do_sample": False, "max_new_tokens": 6, "eos_token_id": None, "pad_token_id": 0}
    free = generated(toy_lm(family), ids, **settings)
    end = free[2]
    generation, said = folder / "generation_config.json", {"number": end, "list": [5000, end], "generation": None}
    edit(folder / "config.json", eos_token_id=said[place])
    generation.unlink(missing_ok=True)
    if place == "generation":
        edit(generation, eos_token_id=[end, 9], bos_token_id=0)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    theirs = generated(model, ids, **{k: v for k, v in settings.items() if k != "eos_token_id"})
    trace = manako.load(f"{route}{folder}").trace(SHORT, max_new_tokens=6, temperature=0)
    assert trace.columns.token_id.tolist() == theirs == free[: free.index(end) + 1]
    assert trace.header.end == "document_end"


def generated(model: Any, ids: torch.Tensor, **settings: Any) -> list[int]:
    made = model.generate(ids, attention_mask=torch.ones_like(ids), **settings)
    return made[0, ids.shape[1] :].tolist()
