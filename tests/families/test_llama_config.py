"""The shape of a Llama style model: what a config.json of others says is read exactly, or refused by name."""

import math
from typing import Any

import numpy as np
import pytest

from manako.errors import LoadError
from manako.families.llama import LlamaConfig, config_from_json
from manako.families.rope import Rope, yarn_attention

BASE: dict[str, Any] = {  # Llama-3.2-1B, as published
    "model_type": "llama",
    "hidden_act": "silu",
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "hidden_size": 2048,
    "head_dim": 64,
    "intermediate_size": 8192,
    "max_position_embeddings": 131_072,
    "vocab_size": 128_256,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500_000.0,
    "rope_scaling": {
        "factor": 32.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": True,
    "bos_token_id": 128_000,
    "eos_token_id": 128_001,
}
MISTRAL = {k: v for k, v in BASE.items() if k != "rope_scaling"} | {"model_type": "mistral", "sliding_window": None}
QWEN2 = MISTRAL | {"model_type": "qwen2", "use_sliding_window": False, "sliding_window": 32_768}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32_768}


def read(base: dict[str, Any] = BASE, **changes: Any) -> LlamaConfig:
    return config_from_json(base | changes)[0]


def without(*names: str, base: dict[str, Any] = BASE) -> dict[str, Any]:
    return {name: value for name, value in base.items() if name not in names}


def test_a_published_configuration() -> None:
    config = read()
    assert (config.n_layer, config.n_head, config.n_kv_head, config.head_size, config.n_mlp) == (16, 32, 8, 64, 8192)
    assert config.rope == Rope("llama3", 500_000.0, 32.0, 8192, 1.0, 4.0)
    assert config.block_size == 131_072
    assert sum(math.prod(shape) for shape in config.parameters().values()) == 1_235_814_400  # as its page says
    assert config.switches == ()


def test_qwen2_counts_its_biases() -> None:
    """Qwen2-0.5B: 494,032,768 numbers, of which 27,648 are biases that config.json doesn't mention."""
    config = read(
        QWEN2,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        hidden_size=896,
        head_dim=None,
        intermediate_size=4864,
        vocab_size=151_936,
        max_position_embeddings=32_768,
    )
    assert config.attention_bias and not config.output_bias and not config.mlp_bias
    shapes = config.parameters()
    assert sum(math.prod(shape) for shape in shapes.values()) == 494_032_768
    assert sum(shape[0] for name, shape in shapes.items() if name.endswith("bias")) == 24 * (896 + 2 * 128)


@pytest.mark.parametrize(("base", "biases"), [
    (BASE, (True, True, True)),
    (QWEN2, (True, False, False)),
    (MISTRAL, (False, False, False)),
])  # fmt: skip
def test_only_llama_asks_config_json_for_its_biases(base: dict[str, Any], biases: tuple[bool, ...]) -> None:
    config = read(base, attention_bias=True, mlp_bias=True)
    assert (config.attention_bias, config.output_bias, config.mlp_bias) == biases
    names = {name for name in config.parameters() if name.startswith("layers.0.") and name.endswith("bias")}
    assert len(names) == 3 * biases[0] + biases[1] + 3 * biases[2]


def test_what_may_be_left_out() -> None:
    config = config_from_json(
        without("head_dim", "num_key_value_heads", "rope_theta", "rope_scaling", "rms_norm_eps", "eos_token_id")
        | {"tie_word_embeddings": False}
    )[0]
    assert (config.head_size, config.n_kv_head, config.rms_norm_epsilon) == (64, 32, 1e-6)
    assert config.rope == Rope() and "lm_head.weight" in config.parameters()
    assert not config_from_json(without("tie_word_embeddings"))[0].tie_word_embeddings  # their default


@pytest.mark.parametrize(("changes", "context", "noticed"), [
    ({}, 131_072, False),
    ({"sliding_window": 4096}, 4096, True),
    ({"sliding_window": 200_000}, 131_072, False),
    ({"sliding_window": 4096, "layer_types": ["sliding_attention"] * 16}, 4096, True),
])  # fmt: skip
def test_mistral_ends_at_its_window(changes: dict[str, Any], context: int, noticed: bool) -> None:
    config, notices = config_from_json(MISTRAL | changes)
    assert config.block_size == context and [key for key, _ in notices] == ["notice.sliding_window"] * noticed


def test_a_window_that_is_left_out_is_the_default_of_mistral() -> None:
    assert config_from_json(without("sliding_window", base=MISTRAL))[0].block_size == 4096


def test_qwen2_has_a_window_where_it_says_so() -> None:
    assert read(QWEN2).block_size == 131_072
    assert read(QWEN2, use_sliding_window=True).block_size == 32_768
    assert read(QWEN2, layer_types=["full_attention"] * 16).block_size == 131_072


# --- rotary positions -------------------------------------------------------------------------------------------------


def test_frequencies_by_hand() -> None:
    assert Rope(theta=100.0).frequencies(4, "float64").tolist() == [1.0, 0.1]
    assert Rope("linear", 100.0, 4.0).frequencies(4, "float64").tolist() == [0.25, 0.025]
    assert np.array_equal(Rope("dynamic", 100.0, 4.0).frequencies(4), Rope(theta=100.0).frequencies(4))
    # 1 and 0.1 and 0.01 radians a position: 200, 20 and 2 rotations over 1257 positions
    llama3 = Rope("llama3", 1000.0, 10.0, 1257, 10.0, 30.0).frequencies(6, "float64")
    share = (1257 * 0.1 / (2 * math.pi) - 10) / 20
    assert np.allclose(llama3, [1.0, 0.1 * share + 0.01 * (1 - share), 0.001], rtol=1e-12)


def test_yarn_keeps_the_fast_ones_and_divides_the_slow_ones() -> None:
    rope = read(QWEN2, rope_scaling=YARN, rope_theta=1e6).rope
    assert rope.attention_factor == yarn_attention(4.0) == 0.1 * math.log(4) + 1
    ratio = Rope(theta=1e6).frequencies(128) / rope.frequencies(128)
    assert np.allclose(ratio[:20], 1) and np.allclose(ratio[-20:], 4) and (np.diff(ratio) >= -1e-5).all()


@pytest.mark.parametrize(("scaling", "expected"), [
    (YARN | {"attention_factor": 1.5}, 1.5),
    (YARN | {"mscale": 1.0, "mscale_all_dim": 1.0}, 1.0),
    (YARN | {"mscale": 0.7}, yarn_attention(4.0)),
    (YARN | {"factor": None}, yarn_attention(4.0)),
    (YARN | {"factor": 1.0}, 1.0),
])  # fmt: skip
def test_yarn_attention_factor(scaling: dict[str, Any], expected: float) -> None:
    assert read(QWEN2, rope_scaling=scaling, max_position_embeddings=131_072).rope.attention_factor == expected


def test_both_spellings_and_both_places_of_the_original_context() -> None:
    inside = read(QWEN2, rope_scaling=YARN, rope_theta=1e6)
    assert read(QWEN2, rope_theta=None, rope_parameters=YARN | {"rope_theta": 1e6}) == inside
    assert read(QWEN2, rope_theta=5.0, rope_parameters=YARN | {"rope_theta": 1e6}) == inside  # as transformers has it
    old = {"type": "yarn", "factor": 4.0}
    assert read(QWEN2, rope_scaling=old, original_max_position_embeddings=32_768, rope_theta=1e6) == inside
    assert read(QWEN2, rope_scaling=old, rope_theta=1e6).rope.original_context == 131_072


def test_frequencies_keep_their_dtype() -> None:
    for rope in (Rope(), Rope("linear", factor=2), read().rope, read(QWEN2, rope_scaling=YARN).rope):
        assert rope.frequencies(64).dtype == np.float32 and rope.frequencies(64, "float64").dtype == np.float64
        assert np.allclose(rope.frequencies(64), rope.frequencies(64, "float64"), rtol=1e-5)


# --- what is refused --------------------------------------------------------------------------------------------------


def refused(base: dict[str, Any], key: str) -> LoadError:
    with pytest.raises(LoadError) as caught:
        config_from_json(base)
    error = caught.value
    assert error.key == key, str(error)
    assert error.exit_code == 3 and "\n" not in str(error) and error.text("ja")
    return error


@pytest.mark.parametrize("name", [
    "num_hidden_layers",
    "num_attention_heads",
    "hidden_size",
    "intermediate_size",
    "max_position_embeddings",
    "vocab_size",
])  # fmt: skip
def test_a_configuration_without_its_shape(name: str) -> None:
    assert refused(without(name), "config_missing").values["name"] == name
    assert refused(BASE | {name: None}, "config_missing").values["name"] == name
    for value in (0, -1, 10**9, 10**400, 2.0, "2", True, [2], {"a": 1}):
        assert refused(BASE | {name: value}, "config_range").values["name"] == name


@pytest.mark.parametrize("base", [QWEN2, MISTRAL], ids=["qwen2", "mistral"])
def test_families_whose_default_is_no_business_of_ours_must_say_how_many_key_heads(base: dict[str, Any]) -> None:
    refused(without("num_key_value_heads", base=base), "config_missing")
    assert read(base, num_key_value_heads=None).n_kv_head == 32


@pytest.mark.parametrize(("changes", "key"), [
    ({"num_key_value_heads": 5}, "config_kv_heads"),
    ({"num_key_value_heads": 64}, "config_kv_heads"),
    ({"num_key_value_heads": 0}, "config_range"),
    ({"num_key_value_heads": True}, "config_range"),
    ({"head_dim": None, "num_attention_heads": 24}, "config_heads"),
    ({"head_dim": 63}, "config_unsupported"),
    ({"head_dim": 0}, "config_range"),
    ({"head_dim": 64.0}, "config_range"),
    ({"hidden_act": "gelu"}, "config_unsupported"),
    ({"hidden_act": None}, "config_unsupported"),
    ({"hidden_act": ["silu"]}, "config_unsupported"),
    ({"rms_norm_eps": 0.0}, "config_range"),
    ({"rms_norm_eps": None}, "config_range"),
    ({"rms_norm_eps": "1e-5"}, "config_range"),
    ({"attention_bias": 1}, "config_unsupported"),
    ({"mlp_bias": None}, "config_unsupported"),
    ({"tie_word_embeddings": "true"}, "config_unsupported"),
    ({"partial_rotary_factor": 0.5}, "config_elsewhere"),
    ({"layer_types": ["sliding_attention"]}, "config_elsewhere"),
    ({"layer_types": "full_attention"}, "config_elsewhere"),
    ({"layer_types": [["full_attention"]]}, "config_elsewhere"),
    ({"layer_types": 1}, "config_elsewhere"),
    ({"rope_theta": 1.0}, "config_range"),
    ({"rope_theta": -5}, "config_range"),
    ({"rope_theta": "10000"}, "config_range"),
    ({"rope_theta": [1]}, "config_range"),
    ({"rope_scaling": "linear"}, "config_unsupported"),
    ({"rope_scaling": [1]}, "config_unsupported"),
], ids=str)  # fmt: skip
def test_a_configuration_that_cannot_be(changes: dict[str, Any], key: str) -> None:
    refused(BASE | changes, key)


@pytest.mark.parametrize(("base", "changes", "key"), [
    (QWEN2, {"use_sliding_window": 1}, "config_unsupported"),
    (QWEN2, {"use_sliding_window": True, "sliding_window": 0}, "config_range"),
    (QWEN2, {"layer_types": ["sliding_attention"] * 16}, "config_elsewhere"),
    (MISTRAL, {"sliding_window": "4096"}, "config_range"),
    (MISTRAL, {"sliding_window": 4096, "layer_types": ["linear_attention"]}, "config_elsewhere"),
])  # fmt: skip
def test_a_window_that_cannot_be(base: dict[str, Any], changes: dict[str, Any], key: str) -> None:
    refused(base | changes, key)


@pytest.mark.parametrize(("scaling", "key"), [
    ({"rope_type": "longrope", "short_factor": [1.0], "long_factor": [2.0]}, "config_elsewhere"),
    ({"rope_type": "su"}, "config_elsewhere"),
    ({"rope_type": "mrope", "mrope_section": [16, 24, 24]}, "config_elsewhere"),
    ({"rope_type": "default", "mrope_section": [16, 24, 24]}, "config_elsewhere"),
    ({"rope_type": "default", "partial_rotary_factor": 0.5}, "config_elsewhere"),
    ({"rope_type": None}, "config_elsewhere"),
    ({"rope_type": ["yarn"]}, "config_elsewhere"),
    ({"full_attention": {"rope_type": "default"}}, "config_elsewhere"),
    ({"rope_type": "linear"}, "config_missing"),
    ({"rope_type": "linear", "factor": None}, "config_missing"),
    ({"rope_type": "linear", "factor": 0.5}, "config_range"),
    ({"rope_type": "linear", "factor": True}, "config_range"),
    ({"rope_type": "linear", "factor": "4"}, "config_range"),
    ({"rope_type": "linear", "factor": 4.0, "low_freq_factor": 1.0}, "config_elsewhere"),
    ({"rope_type": "dynamic"}, "config_missing"),
    ({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0}, "config_missing"),
    ({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 4.0}, "config_range"),
    ({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 0, "high_freq_factor": 4.0}, "config_range"),
    (YARN | {"original_max_position_embeddings": "32768"}, "config_range"),
    (YARN | {"original_max_position_embeddings": 0}, "config_range"),
    (YARN | {"original_max_position_embeddings": [8]}, "config_range"),
    (YARN | {"factor": "4"}, "config_range"),
    (YARN | {"factor": [4]}, "config_range"),
    (YARN | {"attention_factor": 0}, "config_range"),
    (YARN | {"attention_factor": [1]}, "config_range"),
    (YARN | {"mscale": [1], "mscale_all_dim": 1.0}, "config_range"),
    (YARN | {"mscale": 1.0, "mscale_all_dim": -1.0}, "config_range"),
    (YARN | {"beta_fast": 1.0, "beta_slow": 32.0}, "config_range"),
    (YARN | {"beta_fast": "32"}, "config_range"),
    (YARN | {"truncate": 1}, "config_unsupported"),
], ids=str)  # fmt: skip
@pytest.mark.parametrize("spelling", ["rope_scaling", "rope_parameters"])
def test_positions_that_are_not_run_exactly_are_refused(scaling: dict[str, Any], key: str, spelling: str) -> None:
    refused(without("rope_scaling") | {spelling: scaling}, key)


def test_what_another_engine_runs_is_refused_with_its_name() -> None:
    error = refused(without("rope_scaling") | {"rope_scaling": {"rope_type": "longrope"}}, "config_elsewhere")
    assert "longrope" in str(error) and "hf:" in str(error)


@pytest.mark.parametrize("changes", [
    {"model_type": "gemma"},
    {"start_id": 128_256},
    {"start_id": True},
    {"end_ids": (1, -1)},
    {"n_kv_head": 3},
], ids=str)  # fmt: skip
def test_the_same_checks_hold_for_a_shape_that_comes_from_elsewhere(changes: dict[str, Any]) -> None:
    with pytest.raises(LoadError):
        LlamaConfig(**read().__dict__ | changes)
