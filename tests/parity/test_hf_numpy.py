"""The engine over `transformers` against the models themselves and against our NumPy engines, on the same weights.

Tolerances: float32 logits and streams within 1e-5, absolutely or relatively, for two orders of summation; attention
within 1e-6, since it lies in [0, 1].
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from toy import close, worst, write_toy
from toy_hf import FAMILIES, V, load_hf, toy_lm, write_lm

from manako.engines.hf_engine import HfEngine
from manako.families.activations import Activations
from manako.families.gpt2 import NumpyGPT2
from manako.families.llama import NumpyLlama
from manako.formats.model_folder import read_checkpoint

transformers.logging.set_verbosity_error()

IDS = np.random.default_rng(5).integers(0, V, 14).tolist()
LACKS: dict[str, dict[str, str]] = {family: {} for family in FAMILIES} | {
    "gemma2": {"contributions": "lacks.hf_sum"},
    "phi": {"contributions": "lacks.hf_readout"},
    "falcon": {"attention": "lacks.hf_attention", "contributions": "lacks.hf_sum"},
    "mamba": {"attention": "lacks.hf_attention", "contributions": "lacks.hf_sum"},
    "rwkv": {"attention": "lacks.hf_attention", "contributions": "lacks.hf_sum"},
}
ATTENTIVE = [f for f in FAMILIES if "attention" not in LACKS[f]]
ADDITIVE = [f for f in FAMILIES if "contributions" not in LACKS[f]]


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, HfEngine]:
    folder = tmp_path_factory.mktemp("models")
    return {family: load_hf(f"hf:{write_lm(folder / family, family)}") for family in FAMILIES}


def kept(engine: HfEngine, last_only: bool = False) -> tuple[np.ndarray, Activations]:
    keep = Activations(attention="attention" not in engine.lacks)
    return engine.forward(IDS, engine.new_cache(), last_only, keep), keep


@torch.inference_mode()
def theirs(family: str, **asked: Any) -> Any:
    return toy_lm(family)(torch.tensor([IDS]), **asked)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_model_can_give_is_found_out(engines: dict[str, HfEngine], family: str) -> None:
    engine, config = engines[family], engines[family].config
    assert engine.lacks == {"ablation": "lacks.hf_ablation"} | LACKS[family]
    assert (config.n_layer, config.n_embd, config.vocab_size) == (2, 33 if family == "gpt2" else 32, V)
    assert config.n_head == {"gpt2": 3, "mamba": 0, "rwkv": 0}.get(family, 4)
    assert config.model_type == family and config.switches == ()


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_and_stream_are_those_of_the_model(engines: dict[str, HfEngine], family: str) -> None:
    engine, expected = engines[family], theirs(family, output_hidden_states=True)
    logits, keep = kept(engine)
    assert logits.dtype == np.float32 and close(logits, expected.logits[0].numpy(), 1e-5)
    assert close(engine.forward(IDS, engine.new_cache()), logits[-1:], 1e-5)
    stream = keep.residual()
    assert stream.shape == (3, len(IDS), engine.config.n_embd) and len(keep.resid_post) == 2
    first = family in ("mamba", "rwkv")  # whose list begins behind the first block; the last one of most is normed
    for ours, hidden in zip(stream[first : first + 2], expected.hidden_states, strict=False):
        assert close(ours, hidden[0].numpy(), 1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_lens_at_the_last_layer_is_the_logits(engines: dict[str, HfEngine], family: str) -> None:
    """Soft caps, scaled logits, a bias of the head: whatever stands behind the blocks."""
    engine = engines[family]
    logits, keep = kept(engine)
    keep.resid_post[-1].setflags(write=False)  # as the rows of a record are
    assert worst(engine.unembed(keep.resid_post[-1]), logits) <= 1e-5
    assert worst(engine.unembed(keep.resid_post[0]), logits) > 1e-2  # the last block does something
    assert worst(engine.unembed(np.repeat(keep.resid_post[-1], 40, axis=0)), np.repeat(logits, 40, axis=0)) <= 1e-5


@pytest.mark.parametrize("family", ATTENTIVE)
def test_attention_is_that_of_the_model(engines: dict[str, HfEngine], family: str) -> None:
    _, keep = kept(engines[family])
    for ours, expected in zip(keep.pattern, theirs(family, output_attentions=True).attentions, strict=True):
        assert np.abs(ours - expected[0].numpy()).max() <= 1e-6
        assert np.abs(ours.sum(axis=-1) - 1).max() <= 1e-6 and not np.triu(ours, 1).any()


@pytest.mark.parametrize("family", ATTENTIVE)
def test_attention_of_a_cached_step_has_a_column_for_every_token(engines: dict[str, HfEngine], family: str) -> None:
    engine, (_, whole) = engines[family], kept(engines[family])
    cache = engine.new_cache()
    engine.forward(IDS[:9], cache)
    for i in range(9, len(IDS)):  # far beyond the windows of 4 and 5 tokens
        keep = Activations(attention=True, last_attention=True)
        engine.forward(IDS[i : i + 1], cache, keep=keep)
        for ours, expected in zip(keep.pattern, whole.pattern, strict=True):
            assert ours.shape == (engine.config.n_head, 1, i + 1)
            assert np.abs(ours[:, 0] - expected[:, i, : i + 1]).max() <= 1e-6


@pytest.mark.parametrize("family", FAMILIES)
def test_cached_equals_uncached(engines: dict[str, HfEngine], family: str) -> None:
    engine = engines[family]
    expected = engine.forward(IDS, engine.new_cache(), last_only=False)
    for cuts in ((1, 2, 3, 4, 5, 6, 7), (5, 6, 13), (3, 10), (7, 8)):
        cache, done = engine.new_cache(), 0
        for stop in (*cuts, len(IDS)):
            rows = engine.forward(IDS[done:stop], cache, last_only=False)
            assert close(rows, expected[done:stop], 1e-5) and cache.length == stop
            done = stop


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_kept_changes_nothing(engines: dict[str, HfEngine], family: str) -> None:
    engine = engines[family]
    plain, keep = engine.forward(IDS, engine.new_cache(), last_only=False), Activations()
    assert np.array_equal(engine.forward(IDS, engine.new_cache(), False, keep), plain)
    assert keep.pattern == [] and keep.returned == len(IDS)
    with_attention, _ = kept(engine)  # eager: other last digits
    assert close(with_attention, plain, 1e-5)
    assert np.array_equal(with_attention.argmax(axis=1), plain.argmax(axis=1))
    hooks = [h for m in engine.model.modules() for h in (*m._forward_hooks.values(), *m._forward_pre_hooks.values())]
    assert not [h for h in hooks if h.__module__.startswith("manako")]  # transformers leaves some of its own
    assert engine.model.config._attn_implementation == engine.attention_implementation
    assert np.array_equal(engine.forward(IDS, engine.new_cache(), last_only=False), plain)


@pytest.mark.parametrize("family", ADDITIVE)
def test_the_parts_add_up_to_the_stream_and_the_readout_to_the_logits(
    engines: dict[str, HfEngine], family: str
) -> None:
    engine = engines[family]
    logits, keep = kept(engine)
    stream = sum(keep.embed)
    assert len(keep.embed) == (2 if family in ("gpt2", "opt") else 1)
    for i, (z, mlp_out) in enumerate(zip(keep.z, keep.mlp_out, strict=True)):
        bias = engine.output_bias(i)
        stream = stream + z.reshape(len(IDS), -1) @ engine.output_weight(i) + mlp_out + (0 if bias is None else bias)
        assert close(stream, keep.resid_post[i], 1e-5)
    assert engine.readout is not None
    assert worst(engine.readout.logits(keep.resid_post[-1]), logits) <= 1e-5
    biased = {"gpt2", "gpt_neox", "opt", "bloom", "llama"}
    assert (engine.output_bias(0) is not None) == (family in biased)


# --- the same trace from both engines ---------------------------------------------------------------------------------


def numpy_engine(folder: Path) -> Any:
    read = read_checkpoint(folder)
    kind: Any = NumpyGPT2 if read.config.model_type == "gpt2" else NumpyLlama
    return read, kind(read.config, read.tensors)


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen2", "mistral"])
def test_both_engines_see_the_same(tmp_path: Path, family: str) -> None:
    folder = write_lm(tmp_path / "m", family)
    hf, (read, ours) = load_hf(f"hf:{folder}"), numpy_engine(folder)
    ids = IDS[:5]  # Mistral's window: NumpyLlama ends where more would differ
    keep = Activations(attention=True), Activations(attention=True)
    a = hf.forward(ids, hf.new_cache(), last_only=False, keep=keep[0])
    b = ours.forward(ids, ours.new_cache(), last_only=False, keep=keep[1])
    assert close(a, b, 1e-5)
    for name, tolerance in (("pattern", 1e-6), ("z", 1e-5), ("mlp_out", 1e-5), ("resid_post", 1e-5), ("embed", 1e-5)):
        for x, y in zip(getattr(keep[0], name), getattr(keep[1], name), strict=True):
            assert x.shape == y.shape and close(x, y, tolerance), name
    assert close(hf.unembed(keep[0].residual()[1]), ours.unembed(keep[1].residual()[1]), 1e-5)
    for i in range(hf.config.n_layer):
        assert np.array_equal(hf.output_weight(i), ours.output_weight(i))
        bias = hf.output_bias(i)
        assert (bias is None) == (ours.output_bias(i) is None)
        assert bias is None or np.array_equal(bias, ours.output_bias(i))
    assert hf.readout is not None and close(hf.readout.weight, ours.readout.weight, 1e-6)
    assert (hf.readout.bias is None) == (ours.readout.bias is None)
    assert np.array_equal(hf.readout.head, ours.readout.head)
    assert hf.source.fingerprint == read.fingerprint and hf.source.stored_dtype == read.stored_dtype == "float32"
    c, d = hf.config, read.config
    assert (c.n_layer, c.n_head, c.n_embd, c.vocab_size) == (d.n_layer, d.n_head, d.n_embd, d.vocab_size)
    assert (c.start_id, c.end_ids) == (d.start_id, d.end_ids)
    assert c.block_size == 64 and (d.block_size == 64) == (family != "mistral")


def test_a_folder_of_ours_opens_with_both(tmp_path: Path) -> None:
    made = write_toy(tmp_path / "m")
    hf = load_hf(f"hf:{tmp_path / 'm'}")
    assert hf.source.fingerprint == made.fingerprint and hf.source.notices == []  # its checksums are checked
    _, ours = numpy_engine(tmp_path / "m")
    ids = IDS[:9]
    assert close(hf.forward(ids, hf.new_cache()), ours.forward(ids, ours.new_cache()), 1e-5)
