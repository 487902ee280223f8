"""N3 and N2 on GGUF: files by the `gguf` library's writer, against transformers' model, GGUF reader and tokenizers.

Special here: the writer's side follows llama.cpp's converter (the order of query and key rows, GPT-2's products turned
over), and transformers reads the same files back by code of its own, so that the two sides of the test cannot share a
mistake. Tolerance 1e-5 for logits, as in test_llama_transformers.py.
"""

import json
import random
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import tokenizers
import torch
import transformers
from tokenizers import models, pre_tokenizers, trainers
from toy import close, random_texts, toy_weights
from toy_gguf import Metadata, gpt2_metadata, llama_metadata, spm_metadata, stored, toy_llama, toy_llama_weights
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

from manako.families.gpt2 import ModelConfig, NumpyGPT2
from manako.families.llama import LlamaConfig, NumpyLlama
from manako.families.rope import Rope
from manako.formats.gguf import read_gguf
from manako.tokenizer import Tokenizer

transformers.logging.set_verbosity_error()

QUANTISED = gguf.GGMLQuantizationType.Q8_0


def write(path: Path, metadata: Metadata, tensors: dict[str, Any]) -> None:
    """A file by the library's writer; products of whole blocks as Q8_0, all else as F32."""
    writer = gguf.GGUFWriter(path, metadata["general.architecture"])
    for key, value in metadata.items():
        add = {str: writer.add_string, bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32}
        if key != "general.architecture":
            add.get(type(value), writer.add_array)(key, value)
    for name, tensor in tensors.items():
        if tensor.ndim == 2 and tensor.shape[1] % 32 == 0:
            writer.add_tensor(name, gguf.quantize(tensor, QUANTISED), raw_dtype=QUANTISED)
        else:
            writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


LLAMAS = {
    "llama": toy_llama(n_layer=2, n_head=4, n_kv_head=2, n_embd=32, head_size=8, n_mlp=64),
    "one kv head": toy_llama(n_layer=2, n_head=4, n_kv_head=1, n_embd=32, head_size=8, n_mlp=64),
    "tied": toy_llama(n_layer=2, n_head=2, n_kv_head=2, n_embd=32, head_size=16, n_mlp=32, tie_word_embeddings=True),
    "wide heads": toy_llama(n_layer=2, n_head=4, n_kv_head=2, n_embd=12, head_size=10, n_mlp=20),
    "base": toy_llama(n_layer=2, n_head=2, n_kv_head=1, n_embd=32, head_size=16, n_mlp=32, rope=Rope(theta=100.0)),
    "qwen2": toy_llama(n_layer=2, n_head=4, n_kv_head=2, n_embd=32, head_size=8, n_mlp=64, model_type="qwen2"),
}


@pytest.mark.parametrize("name", LLAMAS)
def test_llama_and_qwen2_give_the_logits_of_transformers(tmp_path: Path, name: str) -> None:
    config = LLAMAS[name]
    if config.model_type == "qwen2":
        config = toy_llama(**vars(config) | {"attention_bias": True})
    weights = toy_llama_weights(config, seed=len(name))
    path = tmp_path / "m.gguf"
    write(path, llama_metadata(config, config.model_type) | spm_metadata(), stored(config, weights))
    ours = read_gguf(path)
    assert ours.config == config

    with torch.device("meta"):
        reference = their_llama(config)
    read = load_gguf_checkpoint(str(path), return_tensors=True, model_to_load=reference)["tensors"]
    reference = their_llama(config)
    missing, unexpected = reference.load_state_dict(read, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}
    assert {n.removeprefix("model.") for n in read} == ours.tensors.keys()
    for n, tensor in read.items():
        assert np.array_equal(tensor.numpy(), ours.tensors[n.removeprefix("model.")]), n

    ids = np.random.default_rng(1).integers(0, config.vocab_size, config.block_size)
    with torch.no_grad():
        theirs = reference(torch.from_numpy(ids)[None]).logits[0].numpy()
    engine = NumpyLlama(config, ours.tensors)
    assert close(engine.forward(ids, engine.new_cache(), last_only=False), theirs, 1e-5)


def their_llama(config: LlamaConfig) -> transformers.PreTrainedModel:
    qwen2 = config.model_type == "qwen2"
    shape: dict[str, Any] = {
        "hidden_size": config.n_embd,
        "intermediate_size": config.n_mlp,
        "num_hidden_layers": config.n_layer,
        "num_attention_heads": config.n_head,
        "num_key_value_heads": config.n_kv_head,
        "head_dim": config.head_size,
        "max_position_embeddings": config.block_size,
        "vocab_size": config.vocab_size,
        "rms_norm_eps": config.rms_norm_epsilon,
        "rope_theta": config.rope.theta,
        "tie_word_embeddings": config.tie_word_embeddings,
        "attn_implementation": "eager",
    }
    if qwen2:
        return transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**shape))
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**shape))


def test_negative_control_rows_in_the_other_order_change_the_logits(tmp_path: Path) -> None:
    """A `llama` file written without llama.cpp's order of rows: the parity above would see it."""
    config = LLAMAS["llama"]
    weights = toy_llama_weights(config)
    plain = {stored_as: w for stored_as, w in zip(stored(config, weights), weights.values(), strict=True)}
    path = tmp_path / "m.gguf"
    write(path, llama_metadata(config) | spm_metadata(), plain)
    engine, right = NumpyLlama(config, read_gguf(path).tensors), NumpyLlama(config, weights)
    ids = list(range(8))
    assert not close(engine.forward(ids, engine.new_cache()), right.forward(ids, right.new_cache()), 1e-2)


def test_gpt2_gives_the_logits_of_transformers(tmp_path: Path) -> None:
    config = ModelConfig(n_layer=2, n_head=4, n_embd=32, block_size=16, vocab_size=11, layer_norm_epsilon=2**-17)
    config = ModelConfig(**vars(config) | {"start_id": 1, "n_inner": 64})
    weights = toy_weights(config)
    path = tmp_path / "m.gguf"
    write(path, gpt2_metadata(config) | spm_metadata(), stored(config, weights))
    ours = read_gguf(path)
    reference = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            n_layer=2,
            n_head=4,
            n_embd=32,
            n_inner=64,
            n_positions=16,
            vocab_size=11,
            layer_norm_epsilon=2**-17,
            bos_token_id=1,
            eos_token_id=1,
            attn_implementation="eager",
        )
    ).eval()
    read = load_gguf_checkpoint(str(path), return_tensors=True, model_to_load=reference)["tensors"]
    _, unexpected = reference.load_state_dict(read, strict=False)
    assert not unexpected and len(read) == len(ours.tensors)
    ids = np.random.default_rng(1).integers(0, 11, 16)
    with torch.no_grad():
        theirs = reference(torch.from_numpy(ids)[None]).logits[0].numpy()
    assert isinstance(ours.config, ModelConfig)
    engine = NumpyGPT2(ours.config, ours.tensors)
    assert close(engine.forward(ids, engine.new_cache(), last_only=False), theirs, 1e-5)


# --- tokenizers -------------------------------------------------------------------------------------------------------

WORDS = ["the", " cat", " sat", "私は", "猫である", "。", "\n\n", "  ", "1234", " 5", "'s", "def f(x):\n\t", "😀", "é"]


def mixed_texts(seed: int) -> list[str]:
    rng = random.Random(seed)
    return ["".join(rng.choices(WORDS, k=rng.randrange(1, 20))) for _ in range(300)]


def byte_level_metadata(pre: str) -> Metadata:
    """Merges learned from mixed text, as a converted vocabulary has them."""
    rust = tokenizers.Tokenizer(models.BPE())
    rust.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    specials = ["<|endoftext|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    rust.train_from_iterator([*mixed_texts(1), *random_texts(100, seed=5)], trainer)
    vocab: dict[str, int] = rust.get_vocab()
    tokens = sorted(vocab, key=vocab.__getitem__)
    merges = [" ".join(pair) for pair in json.loads(rust.to_str())["model"]["merges"]]
    names = {"model": "gpt2", "pre": pre, "tokens": tokens, "merges": merges, "eos_token_id": 0, "bos_token_id": 0}
    names["token_type"] = [3, *[1] * (len(tokens) - 1)]
    return {f"tokenizer.ggml.{name}": value for name, value in names.items()}


def both(tmp_path: Path, metadata: Metadata) -> tuple[Tokenizer, Any]:
    """Our tokenizer and transformers' out of one file."""
    config = toy_llama(vocab_size=len(metadata["tokenizer.ggml.tokens"]))
    weights = toy_llama_weights(config)
    write(tmp_path / "m.gguf", llama_metadata(config) | metadata, stored(config, weights))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path, gguf_file="m.gguf")
    return read_gguf(tmp_path / "m.gguf").tokenizer, theirs


@pytest.mark.parametrize("pre", ["gpt-2", "default", "llama-bpe", "qwen2"])
def test_byte_level_ids_are_those_of_transformers(tmp_path: Path, pre: str) -> None:
    metadata = byte_level_metadata(pre)
    ours, theirs = both(tmp_path, metadata)
    if pre == "qwen2":  # the converted one leaves out the NFC that the model's own class has
        vocab = {token: i for i, token in enumerate(metadata["tokenizer.ggml.tokens"])}
        merges = [tuple(merge.split(" ")) for merge in metadata["tokenizer.ggml.merges"]]
        theirs = transformers.Qwen2Tokenizer(vocab=vocab, merges=merges)
    for text in [*mixed_texts(2), *random_texts(700, seed=6)]:
        assert ours.encode(text) == theirs(text, add_special_tokens=False)["input_ids"], text


def test_smollm_ids_are_those_of_its_own_pre_tokenizer(tmp_path: Path) -> None:
    """transformers' converter cuts as GPT-2 does, which differs where blanks stand before a digit; its own does not."""
    ours, theirs = both(tmp_path, byte_level_metadata("smollm"))
    gpt2 = [theirs(text, add_special_tokens=False)["input_ids"] for text in mixed_texts(2)]
    digits = pre_tokenizers.Digits(individual_digits=True)
    own = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])  # its tokenizer.json
    theirs.backend_tokenizer.pre_tokenizer = own
    ids = [theirs(text, add_special_tokens=False)["input_ids"] for text in mixed_texts(2)]
    assert [ours.encode(text) for text in mixed_texts(2)] == ids != gpt2


def test_sentence_piece_ids_are_those_of_transformers(tmp_path: Path) -> None:
    rng = random.Random(3)
    letters = "▁abcdef猫私は。"
    found = {"".join(rng.sample(letters, rng.randrange(2, 6))) for _ in range(600)}
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), *letters, *sorted(found)]
    scores = [0.0, *rng.sample([-float(i) for i in range(1, 5000)], len(tokens) - 1)]
    names = {"model": "llama", "tokens": tokens, "scores": scores}
    names["token_type"] = [2, 3, 3, *[6] * 256, *[1] * (len(tokens) - 259)]
    names |= {"bos_token_id": 1, "eos_token_id": 2, "unknown_token_id": 0}
    ours, theirs = both(tmp_path, {f"tokenizer.ggml.{name}": value for name, value in names.items()})
    for _ in range(500):
        text = "".join(rng.choices(letters.replace("▁", " ") + "xé😀\n", k=rng.randrange(1, 40))).lstrip(" ")
        # A blank at the start transformers leaves away, where SentencePiece and llama.cpp put another before it.
        assert ours.encode(text) == theirs(text, add_special_tokens=False)["input_ids"], text
