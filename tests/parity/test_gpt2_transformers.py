"""N1: our GPT-2 against transformers' on random weights, and each other's model folders; N7, N8: its inside.

Tolerances: float32 within 1e-5, absolutely or relatively, which is what two orders of summation differ by at these
sizes; float64 within 1e-12, where only the order of summation is left; attention within 1e-6, since it lies in [0, 1].
"""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from toy import close, toy_config, toy_tokenizer, toy_weights, worst, write_toy

from manako.engines.captures import lens_columns
from manako.families.activations import Activations
from manako.families.gpt2 import ModelConfig, NumpyGPT2
from manako.formats.model_folder import read_checkpoint, write_checkpoint
from manako.model import load
from manako.tokenizer import from_characters

transformers.logging.set_verbosity_error()

SHAPES = [  # n_layer, n_head, n_embd, n_inner, context, vocabulary: one head, one layer, odd widths, sizes of one
    (1, 1, 5, None, 9, 11),
    (1, 1, 1, None, 4, 3),
    (2, 1, 12, None, 16, 40),
    (2, 3, 9, 7, 13, 29),
    (3, 2, 10, 33, 8, 17),
    (1, 7, 21, None, 6, 50),
    (4, 4, 32, None, 24, 64),
    (2, 5, 35, 1, 7, 2),
    (2, 2, 16, None, 1, 12),
]
CASES = [
    (*shape, activation, tied)
    for (shape, activation), tied in zip(
        itertools.product(SHAPES, ["gelu_new", "gelu", "relu"]), itertools.cycle([True, False]), strict=False
    )
]  # 27: every shape with every activation, tied and untied in turn
CASES += [(*shape, activation, not tied) for *shape, activation, tied in CASES[::2]]  # 14 of them the other way round


def config_of(case: tuple[Any, ...]) -> ModelConfig:
    n_layer, n_head, n_embd, n_inner, context, vocabulary, activation, tied = case
    return ModelConfig(
        n_layer=n_layer,
        n_head=n_head,
        n_embd=n_embd,
        n_inner=n_inner,
        block_size=context,
        vocab_size=vocabulary,
        activation_function=activation,
        tie_word_embeddings=tied,
        layer_norm_epsilon=1e-5 if n_layer != 3 else 1e-3,
    )


def reference(config: ModelConfig, weights: dict[str, np.ndarray], dtype: torch.dtype) -> transformers.GPT2LMHeadModel:
    """transformers' model with the same weights."""
    theirs = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            n_layer=config.n_layer,
            n_head=config.n_head,
            n_embd=config.n_embd,
            n_inner=config.n_inner,
            n_positions=config.block_size,
            vocab_size=config.vocab_size,
            activation_function=config.activation_function,
            tie_word_embeddings=config.tie_word_embeddings,
            layer_norm_epsilon=config.layer_norm_epsilon,
            bos_token_id=None,
            eos_token_id=None,
            attn_implementation="eager",
        )
    ).to(dtype)
    named = {n if n == "lm_head.weight" else f"transformer.{n}": torch.from_numpy(t.copy()) for n, t in weights.items()}
    missing, unexpected = theirs.load_state_dict(named, strict=False)
    assert unexpected == [] and set(missing) <= {"lm_head.weight"}
    theirs.tie_weights()
    return theirs.eval()


def lengths(config: ModelConfig) -> list[int]:
    """1, 2, the middle, n_positions - 1 and n_positions."""
    n = config.block_size
    return sorted({1, min(2, n), (n + 1) // 2, max(1, n - 1), n})


@torch.no_grad()
def worst_of(case: tuple[Any, ...], dtype: str) -> float:
    config = config_of(case)
    weights = toy_weights(config, seed=sum(case[:2]) + config.vocab_size, dtype=dtype)
    ours, theirs = NumpyGPT2(config, weights), reference(config, weights, getattr(torch, dtype))
    rng, largest = np.random.default_rng(1), 0.0
    for length in lengths(config):
        ids = rng.integers(0, config.vocab_size, length)
        expected = theirs(torch.from_numpy(ids)[None]).logits[0].numpy()  # [T, V]
        cache, every = ours.new_cache(), ours.forward(ids, ours.new_cache(), last_only=False)
        last = ours.forward(ids, cache)
        assert every.dtype == last.dtype == expected.dtype == dtype
        largest = max(largest, worst(every, expected), worst(last[0], expected[-1]))
    return largest


def case_id(case: tuple[Any, ...]) -> str:
    return "-".join(map(str, case))


def test_there_are_forty_configurations() -> None:
    assert len(set(CASES)) == len(CASES) >= 40


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_float32(case: tuple[Any, ...]) -> None:
    assert worst_of(case, "float32") <= 1e-5


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_float64(case: tuple[Any, ...]) -> None:
    assert worst_of(case, "float64") <= 1e-12


def test_negative_control_a_swapped_activation_is_seen() -> None:
    """The smallest real mistake here: the two forms of GELU differ by 5e-4 at most."""
    config = config_of(CASES[6])
    weights = toy_weights(config)
    theirs = reference(config, weights, torch.float32)
    other = "gelu" if config.activation_function == "gelu_new" else "gelu_new"
    ours = NumpyGPT2(toy_config(**{**config.__dict__, "activation_function": other}), weights)
    ids = np.arange(8) % config.vocab_size
    with torch.no_grad():
        expected = theirs(torch.from_numpy(ids)[None]).logits[0].numpy()
    assert worst(ours.forward(ids, ours.new_cache(), last_only=False), expected) > 1e-5


# --- what it keeps on the way -----------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES[::4], ids=case_id)
def test_attention_stream_and_lens(case: tuple[Any, ...], dtype: str) -> None:
    """transformers' attentions and hidden_states; the lens is its own ln_f and lm_head over its own hidden states."""
    config, limit = config_of(case), {"float32": (1e-6, 1e-5), "float64": (1e-12, 1e-12)}[dtype]
    weights = toy_weights(config, seed=5, dtype=dtype)
    ours, theirs = NumpyGPT2(config, weights), reference(config, weights, getattr(torch, dtype))
    last: list[torch.Tensor] = []  # hidden_states ends with ln_f's output: the stream before it is taken at the block
    theirs.transformer.h[-1].register_forward_hook(
        lambda _, __, out: last.append(out[0] if type(out) is tuple else out)
    )
    for length in lengths(config):
        ids = np.random.default_rng(length).integers(0, config.vocab_size, length)
        last.clear()
        found = theirs(torch.from_numpy(ids)[None], output_attentions=True, output_hidden_states=True)
        keep = Activations(attention=True)
        ours.forward(ids, ours.new_cache(), last_only=False, keep=keep)
        for pattern, expected in zip(keep.pattern, found.attentions, strict=True):
            assert pattern.shape == expected[0].shape and np.abs(pattern - expected[0].numpy()).max() <= limit[0]
        stream = [*found.hidden_states[:-1], *last]  # [L+1] of [1, T, C]
        assert worst(keep.residual(), torch.cat(stream).numpy()) <= limit[1]
        unembedded = torch.stack([theirs.lm_head(theirs.transformer.ln_f(x[0, -1])) for x in stream]).numpy()
        chosen = np.array([unembedded[-1].argmin()])
        lens = {n: a[0] for n, a in lens_columns(ours, keep.residual()[:, -1:].transpose(1, 0, 2), chosen).items()}
        count = min(10, config.vocab_size)
        assert lens["lens_id"].shape == (config.n_layer + 1, count) and lens["lens_tracked_id"][0] == chosen[0]
        best = np.sort(unembedded, axis=1)[:, ::-1][:, :count]
        listed = np.take_along_axis(unembedded, lens["lens_id"].astype(int), axis=1)
        assert max(worst(lens["lens_logit"], best), worst(listed, best)) <= 1e-5
        assert worst(lens["lens_logsumexp"], torch.logsumexp(torch.from_numpy(unembedded), dim=1).numpy()) <= 1e-5
        assert worst(lens["lens_tracked_logit"], unembedded[:, lens["lens_tracked_id"]]) <= 1e-5


# --- our folders in transformers --------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize(
    "changes", [{}, {"tie_word_embeddings": False}, {"n_inner": 30, "activation_function": "gelu"}], ids=str
)
def test_a_folder_of_ours_opens_with_transformers(tmp_path: Path, changes: dict[str, Any]) -> None:
    folder, config = tmp_path / "m", toy_config(**changes)
    weights = toy_weights(config)
    # Byte tokens unlikely: transformers writes U+FFFD for every byte of a run that is no UTF-8, ASCII included.
    weights["wte.weight" if config.tie_word_embeddings else "lm_head.weight"][:257] *= 0.05
    write_checkpoint(folder, config, weights, toy_tokenizer())
    ours = load(folder)
    theirs, info = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert type(theirs) is transformers.GPT2LMHeadModel
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert theirs.config.bos_token_id == theirs.config.eos_token_id == tokenizer.bos_token_id == 0
    assert tokenizer.model_max_length == 16 and len(tokenizer) == ours.tokenizer.vocab_size
    for prompt in ("私は猫", "a", "龘😀 b"):
        ids = ours.tokenizer.encode(prompt)
        assert tokenizer(prompt, add_special_tokens=False)["input_ids"] == ids
        expected = theirs(torch.tensor([ids])).logits[0].numpy()
        assert close(ours.rows(ids), expected, 1e-4)
        made = theirs.generate(torch.tensor([ids]), max_new_tokens=16 - len(ids), do_sample=False)[0].tolist()
        trace = ours.trace(prompt, max_new_tokens=16 - len(ids), temperature=0)
        assert trace.all_ids.tolist() == made
        assert tokenizer.decode(made, skip_special_tokens=True) == trace.text


@torch.no_grad()
def test_a_folder_of_ours_without_start_token_opens_with_transformers(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    write_toy(folder, from_characters("あいう。"))
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
    assert theirs.config.bos_token_id is None and theirs.generation_config.eos_token_id is None
    assert close(load(folder).rows([0, 2, 1]), theirs(torch.tensor([[0, 2, 1]])).logits[0].numpy(), 1e-4)
    assert transformers.AutoTokenizer.from_pretrained(folder)("いう。")["input_ids"] == [1, 2, 3]


@pytest.mark.parametrize("switch", [{"residual": False}, {"norm": "post"}, {"attention": False}], ids=str)
def test_an_ablated_folder_is_refused_by_transformers(tmp_path: Path, switch: dict[str, Any]) -> None:
    write_toy(tmp_path / "m", **switch)
    with pytest.raises(ValueError, match="manako_gpt2_ablated"):
        transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "m")


# --- their folders in manako ------------------------------------------------------------------------------------------


def their_folder(
    folder: Path, dtype: torch.dtype, tied: bool = True, prefix: bool = True
) -> transformers.GPT2LMHeadModel:
    tokenizer = toy_tokenizer()
    config = toy_config(tokenizer, tie_word_embeddings=tied)
    theirs = reference(config, toy_weights(config), torch.float32).to(dtype)
    theirs.config.bos_token_id = theirs.config.eos_token_id = 0
    (theirs if prefix else theirs.transformer).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(tokenizer.source, encoding="utf-8")
    return theirs.float()


@torch.no_grad()
@pytest.mark.parametrize("prefix", [True, False], ids=["GPT2LMHeadModel", "GPT2Model"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_a_folder_of_theirs_opens_with_manako(tmp_path: Path, dtype: torch.dtype, prefix: bool) -> None:
    theirs = their_folder(tmp_path / "m", dtype, prefix=prefix)
    ours = load(tmp_path / "m")
    assert [key for key, _ in ours.notices] == ["notice.unverifiable"]
    assert ours.info.stored_dtype == str(dtype).removeprefix("torch.") and ours.info.dtype == "float32"
    assert ours.config.start_id == 0
    ids = ours.tokenizer.encode("私は猫。abc")
    assert close(ours.rows(ids), theirs(torch.tensor([ids])).logits[0].numpy(), 1e-5)


@torch.no_grad()
def test_an_untied_folder_of_theirs(tmp_path: Path) -> None:
    theirs = their_folder(tmp_path / "m", torch.float32, tied=False)
    ours = load(tmp_path / "m")
    assert not ours.config.tie_word_embeddings
    assert close(ours.rows([5, 6, 7]), theirs(torch.tensor([[5, 6, 7]])).logits[0].numpy(), 1e-5)


@torch.no_grad()
def test_a_small_folder_with_the_default_start_token_of_transformers(tmp_path: Path) -> None:
    """GPT2Config writes bos_token_id 50256 on its own accord, far outside a small vocabulary."""
    theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(n_layer=1, n_head=1, n_embd=8, vocab_size=300))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transformers.GPT2Config, "validate", lambda self: None, raising=False)
        theirs.save_pretrained(tmp_path / "m")
    if json.loads((tmp_path / "m" / "config.json").read_text()).get("bos_token_id") != 50256:
        pytest.fail("transformers no longer writes it: take the special case out of checkpoint.py")
    (tmp_path / "m" / "tokenizer.json").write_text(toy_tokenizer().source, encoding="utf-8")
    ours = load(tmp_path / "m")
    assert ours.config.start_id is None and "notice.ids_outside" in [key for key, _ in ours.notices]
    assert close(ours.rows([5, 6]), theirs.eval()(torch.tensor([[5, 6]])).logits[0].numpy(), 1e-5)


def test_square_weights_keep_their_orientation(tmp_path: Path) -> None:
    """c_proj of the attention is square: a transposed one has the right shape, and only parity can tell."""
    config = toy_config()
    weights = toy_weights(config)
    turned = {n: np.ascontiguousarray(t.T) if n.endswith("attn.c_proj.weight") else t for n, t in weights.items()}
    write_checkpoint(tmp_path / "m", config, weights, toy_tokenizer())
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    ids = [5, 270, 271, 9]
    with torch.no_grad():
        expected = theirs(torch.tensor([ids])).logits[0].numpy()
    read = read_checkpoint(tmp_path / "m")
    rows = [NumpyGPT2(config, t).forward(ids, NumpyGPT2(config, t).new_cache(), False) for t in (read.tensors, turned)]
    assert close(rows[0], expected, 1e-5) and not close(rows[1], expected, 1e-2)
