"""`export`: an int8 model becomes an ordinary folder of transformers; the Llama family: test_llama_transformers.py."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy import close, toy_checkpoint

from manako.errors import CapabilityError, ManakoError
from manako.formats.model_folder import write_checkpoint
from manako.model import export, load

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
IDS = [1, 5, 2, 260, 261, 3]


def their_logits(folder: Path) -> Any:
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    with torch.no_grad():
        return model.eval()(torch.tensor([IDS])).logits[0].numpy()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_an_int8_model(tmp_path: Path, dtype: Any) -> None:
    made = toy_checkpoint()
    write_checkpoint(tmp_path / "small", made.config, made.tensors, made.tokenizer, int8=True)
    export(tmp_path / "small", tmp_path / "plain", dtype)
    ours, plain = load(tmp_path / "small"), load(tmp_path / "plain")
    assert plain.info.stored_dtype == dtype and plain.notices == ()
    assert json.loads((tmp_path / "plain" / "config.json").read_text())["dtype"] == dtype
    assert (ours.info.weights_sha256 == plain.info.weights_sha256) == (dtype == "float32")
    assert np.array_equal(ours.rows(IDS), plain.rows(IDS)) == (dtype == "float32")
    assert close(plain.rows(IDS), their_logits(tmp_path / "plain"), 1e-4)
    text = "私は猫。a"
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "plain")
    assert tokenizer(text, add_special_tokens=False)["input_ids"] == ours.tokenizer.encode(text)


def test_other_programs_refuse_the_int8_form(tmp_path: Path) -> None:
    made = toy_checkpoint()
    write_checkpoint(tmp_path / "small", made.config, made.tensors, made.tokenizer, int8=True)
    with pytest.raises(OSError, match="model.safetensors"):
        transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "small")


def test_what_cannot_be_exported(tmp_path: Path) -> None:
    made = toy_checkpoint()
    made.tensors["h.1.mlp.c_fc.weight"][2, 3] = -7e4
    write_checkpoint(tmp_path / "wide", made.config, made.tensors, made.tokenizer)
    with pytest.raises(ManakoError) as caught:
        export(tmp_path / "wide", tmp_path / "half", "float16")
    assert caught.value.key == "export_float16" and caught.value.values["tensor"] == "h.1.mlp.c_fc.weight"
    with pytest.raises(CapabilityError):
        export("hf:./somewhere", tmp_path / "half")
    assert [p.name for p in tmp_path.iterdir()] == ["wide"]
    with pytest.raises(ManakoError):
        export("nowhere at all", tmp_path / "wide")  # the folder is there: said before the model is looked for
