"""A model folder: written whole or not at all, read only if every part fits (T4-T6, T8, P21), no silent change."""

import copy
import errno
import json
import math
import os
import random
import re
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toy import same_tensors, toy_checkpoint, toy_config, toy_tokenizer, toy_weights, write_toy

from manako.errors import LoadError, ManakoError
from manako.families.gpt2 import ModelConfig
from manako.formats import model_folder
from manako.formats.model_folder import Checkpoint, read_checkpoint, write_checkpoint, write_weights
from manako.tokenizer import from_characters

WEIGHTS = "model.safetensors"
FILES = {"config.json", "generation_config.json", WEIGHTS, "tokenizer.json", "tokenizer_config.json"}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy's folder, of which each test has a copy."""
    folder = tmp_path_factory.mktemp("toy") / "m"
    write_toy(folder)
    return folder


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "m"))


def refused(folder: Path, key: str | None = None) -> LoadError:
    with pytest.raises(LoadError) as caught:
        read_checkpoint(folder)
    assert key is None or caught.value.key == key, str(caught.value)
    assert caught.value.exit_code == 3 and "\n" not in str(caught.value) and caught.value.text("ja")
    return caught.value


def same(a: Checkpoint, b: Checkpoint) -> bool:
    return a.config == b.config and a.tokenizer.source == b.tokenizer.source and same_tensors(a.tensors, b.tensors)


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes), encoding="utf-8")


def rewrite(
    folder: Path, change: Callable[[dict[str, np.ndarray]], Any], metadata: dict[str, str] | None = None
) -> None:
    """Another weights file with no digests, as other programs write it."""
    tensors = {n: t.copy() for n, t in safetensors.numpy.load_file(folder / WEIGHTS).items()}
    change(tensors)
    safetensors.numpy.save_file(tensors, folder / WEIGHTS, metadata)


# --- round trip -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [
    {},
    {"tie_word_embeddings": False},
    {"n_inner": 7, "activation_function": "relu", "layer_norm_epsilon": 1e-6},
    {"residual": False, "norm": "post", "attention": False},
    {"start_id": None, "n_head": 3, "block_size": 5},
], ids=str)  # fmt: skip
def test_what_is_written_comes_back(tmp_path: Path, changes: dict[str, Any]) -> None:
    made, read = toy_checkpoint(**changes), write_toy(tmp_path / "new" / "m", **changes)
    assert {p.name for p in (tmp_path / "new" / "m").iterdir()} == FILES
    assert same(made, read) and read.notices == () and read.stored_dtype == "float32"
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["m"]


def test_an_end_that_is_a_byte_or_has_no_token_comes_back(tmp_path: Path) -> None:
    made = toy_checkpoint()
    name = made.tokenizer.name_of(200)
    assert name is not None and made.tokenizer.token_bytes[200] not in (name.encode(), b"")
    config = replace(made.config, end_ids=(200,))
    write_checkpoint(tmp_path / "m", config, made.tensors, made.tokenizer)
    read = read_checkpoint(tmp_path / "m")
    assert read.config.end_ids == (200,) and read.notices == ()
    assert json.loads((tmp_path / "m" / "tokenizer_config.json").read_text())["eos_token"] == name
    write_checkpoint(tmp_path / "n", config, made.tensors, from_characters("あいう"))
    assert "eos_token" not in json.loads((tmp_path / "n" / "tokenizer_config.json").read_text())


def test_float16_is_widened_and_named(tmp_path: Path) -> None:
    made = toy_checkpoint()
    half = {n: t.astype(np.float16) for n, t in made.tensors.items()}
    write_checkpoint(tmp_path / "m", made.config, half, made.tokenizer)
    read = read_checkpoint(tmp_path / "m")
    assert read.stored_dtype == "float16"
    assert same_tensors(read.tensors, {n: t.astype(np.float32) for n, t in half.items()})


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        write_toy(tmp_path / name)
    for file in FILES:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_fingerprint_follows_the_weights_and_not_the_prefix(tmp_path: Path) -> None:
    one = write_toy(tmp_path / "a").fingerprint
    assert write_toy(tmp_path / "b", seed=1).fingerprint != one
    rewrite(tmp_path / "a", lambda t: [t.__setitem__(n.removeprefix("transformer."), t.pop(n)) for n in list(t)])
    assert read_checkpoint(tmp_path / "a").fingerprint == one


# --- T5: a checkpoint that lies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [
    {"n_head": 3},
    {"n_head": 1},
    {"layer_norm_epsilon": 1e-6},
    {"activation_function": "relu"},
    {"model_type": "manako_gpt2_ablated"},
    {"model_type": "manako_gpt2_ablated", "residual": False},
    {"bos_token_id": 3},
    {"bos_token_id": None},
    {"unknown_key": 1},
], ids=str)  # fmt: skip
def test_config_edited_after_saving_is_noticed(folder: Path, change: dict[str, Any]) -> None:
    edit(folder / "config.json", **change)
    error = refused(folder, "digest_mismatch")
    assert error.values["part"] == "config.json" and str(folder / WEIGHTS) in str(error)


def test_tokenizer_edited_after_saving_is_noticed(folder: Path) -> None:
    path = folder / "tokenizer.json"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('"あ": ', '"ゐ": '), encoding="utf-8")
    assert refused(folder, "digest_mismatch").values["part"] == "tokenizer.json"


@pytest.mark.parametrize(("change", "key"), [
    ({"n_head": 5}, "config_heads"),
    ({"n_layer": 3}, "tensor_missing"),
    ({"n_layer": 1}, "tensor_extra"),
    ({"n_positions": 17}, "tensor_shape"),
    ({"vocab_size": 400}, "tensor_shape"),
    ({"vocab_size": 100}, "vocab_mismatch"),
    ({"n_embd": 14}, "tensor_shape"),
    ({"n_inner": 9}, "tensor_shape"),
    ({"tie_word_embeddings": False}, "tensor_missing"),
    ({"tie_word_embeddings": 0}, "config_unsupported"),
    ({"n_layer": 0}, "config_range"),
    ({"n_layer": 10**9}, "config_range"),
    ({"n_layer": True}, "config_range"),
    ({"n_layer": 2.0}, "config_range"),
    ({"n_layer": "2"}, "config_range"),
    ({"n_layer": None}, "config_range"),
    ({"n_head": [2]}, "config_range"),
    ({"n_positions": -1}, "config_range"),
    ({"vocab_size": 2**63}, "config_range"),
    ({"n_embd": 10**400}, "config_range"),
    ({"n_inner": 0}, "config_range"),
    ({"n_inner": True}, "config_unsupported"),
    ({"layer_norm_epsilon": 0.0}, "config_range"),
    ({"layer_norm_epsilon": -1e-5}, "config_range"),
    ({"layer_norm_epsilon": 1}, "config_unsupported"),
    ({"activation_function": "silu"}, "config_unsupported"),
    ({"activation_function": ["gelu"]}, "config_unsupported"),
    ({"activation_function": None}, "config_unsupported"),
    ({"model_type": "llama"}, "config_missing"),
    ({"model_type": "qwen3"}, "model_type_unknown"),
    ({"model_type": "gemma"}, "model_type_unknown"),
    ({"model_type": "phi3"}, "model_type_unknown"),
    ({"model_type": None}, "model_type_unknown"),
    ({"model_type": {"a": 1}}, "model_type_unknown"),
    ({"scale_attn_weights": False}, "config_unsupported"),
    ({"scale_attn_by_inverse_layer_idx": True}, "config_unsupported"),
    ({"add_cross_attention": True}, "config_unsupported"),
    ({"model_type": "manako_gpt2_ablated", "norm": "none"}, "config_unsupported"),
    ({"model_type": "manako_gpt2_ablated", "residual": 0}, "config_unsupported"),
    ({"model_type": "manako_gpt2_ablated", "attention": False}, "tensor_extra"),
], ids=str)  # fmt: skip
def test_a_config_that_cannot_be(folder: Path, change: dict[str, Any], key: str) -> None:
    rewrite(folder, lambda tensors: None)  # no digests: the contradiction itself must be seen
    edit(folder / "config.json", **change)
    refused(folder, key)


@pytest.mark.parametrize("name", ["n_layer", "n_head", "n_embd", "vocab_size", "n_positions", "model_type"])
def test_a_config_without_its_shape(folder: Path, name: str) -> None:
    rewrite(folder, lambda tensors: None)
    raw = json.loads((folder / "config.json").read_text())
    del raw[name]
    (folder / "config.json").write_text(json.dumps(raw))
    error = refused(folder)
    assert name in str(error)


def test_shape_errors_name_file_tensor_and_both_values(folder: Path) -> None:
    rewrite(folder, lambda t: t.__setitem__("transformer.wpe.weight", t["transformer.wpe.weight"][:9]))
    error = refused(folder, "tensor_shape")
    assert error.values == {
        "file": str(folder / WEIGHTS)[:117]
        + ("..." if len(str(folder / WEIGHTS)) > 120 else str(folder / WEIGHTS)[117:]),
        "tensor": "wpe.weight",
        "found": "[9, 12]",
        "expected": "[16, 12]",
    }


@pytest.mark.parametrize(("value", "count"), [(np.nan, 1), (np.inf, 2), (-np.inf, 3)])
def test_numbers_that_are_not_finite(folder: Path, value: float, count: int) -> None:
    def poison(tensors: dict[str, np.ndarray]) -> None:
        tensors["transformer.h.1.attn.c_attn.weight"][3, 5 : 5 + count] = value

    rewrite(folder, poison)
    error = refused(folder, "tensor_not_finite")
    assert error.values["tensor"] == "transformer.h.1.attn.c_attn.weight"
    assert (error.values["count"], error.values["index"]) == (str(count), "(3, 5)")


def test_tied_weights_that_differ(folder: Path) -> None:
    rewrite(folder, lambda t: t.__setitem__("lm_head.weight", t["transformer.wte.weight"].copy()))
    read_checkpoint(folder)  # stored twice, alike: some writers do so
    rewrite(folder, lambda t: t["lm_head.weight"].__setitem__((3, 4), 0.5))
    refused(folder, "tensor_untied")


def test_extra_missing_and_doubled_tensors(folder: Path) -> None:
    rewrite(folder, lambda t: t.__setitem__("transformer.h.2.ln_1.weight", np.ones(12, np.float32)))
    assert refused(folder, "tensor_extra").values["tensor"] == "h.2.ln_1.weight"
    rewrite(folder, lambda t: (t.pop("transformer.h.2.ln_1.weight"), t.pop("transformer.h.0.mlp.c_fc.bias")))
    assert refused(folder, "tensor_missing").values["tensor"] == "h.0.mlp.c_fc.bias"


def test_one_tensor_under_both_names_is_refused(folder: Path) -> None:
    """With and without "transformer." it is one tensor to us: which of the two would hold?"""
    rewrite(folder, lambda t: t.__setitem__("ln_f.bias", t["transformer.ln_f.bias"] + 1))
    refused(folder)


MASK = np.tril(np.ones((1, 1, 16, 16), dtype=np.uint8))


@pytest.mark.parametrize("dtype", ["uint8", "bool", "float32", "float16"])
def test_a_causal_mask_in_the_file_is_accepted(folder: Path, dtype: str) -> None:
    before = read_checkpoint(folder)

    def add(tensors: dict[str, np.ndarray]) -> None:
        for i in range(2):
            tensors[f"transformer.h.{i}.attn.bias"] = MASK.astype(dtype)
            tensors[f"transformer.h.{i}.attn.masked_bias"] = np.array(-1e4, dtype=np.float32)

    rewrite(folder, add)
    read = read_checkpoint(folder)
    assert same(before, read) and [key for key, _ in read.notices] == ["notice.unverifiable"]


@pytest.mark.parametrize("mask", [
    np.ones((1, 1, 16, 16), np.uint8),
    np.zeros((1, 1, 16, 16), np.uint8),
    np.tril(np.ones((1, 1, 16, 16), np.uint8), 1),
    np.tril(np.ones((1, 1, 16, 16), np.uint8), -1),
    np.triu(np.ones((1, 1, 16, 16), np.uint8)),
    np.tril(np.ones((1, 1, 16, 15), np.uint8)),
    np.tril(np.ones((2, 1, 16, 16), np.uint8)),
    np.ones(16, np.uint8),
    np.ones((), np.uint8),
    np.ones((16, 0), np.uint8),
], ids=["ones", "zeros", "shifted", "strict", "upper", "oblong", "two", "a row", "a number", "nothing"])  # fmt: skip
def test_a_mask_that_is_not_causal(folder: Path, mask: np.ndarray) -> None:
    rewrite(folder, lambda t: t.__setitem__("transformer.h.1.attn.bias", mask))
    assert refused(folder, "tensor_mask").values["tensor"].endswith("h.1.attn.bias")


@pytest.mark.parametrize("dtype", ["float64", "int32", "int8", "bool"])
def test_weights_of_another_type(folder: Path, dtype: str) -> None:
    rewrite(folder, lambda t: t.__setitem__("transformer.ln_f.bias", t["transformer.ln_f.bias"].astype(dtype)))
    error = refused(folder, "tensor_dtype")
    assert error.values["tensor"] == "transformer.ln_f.bias"


def test_transposed_weights_are_refused_by_shape(folder: Path) -> None:
    rewrite(
        folder, lambda t: t.update({"transformer.h.0.mlp.c_fc.weight": t["transformer.h.0.mlp.c_fc.weight"].T.copy()})
    )
    error = refused(folder, "tensor_shape")
    assert (error.values["found"], error.values["expected"]) == ("[48, 12]", "[12, 48]")


def test_a_tokenizer_larger_than_the_model(tmp_path: Path) -> None:
    made = toy_checkpoint(from_characters("あいう"))
    write_checkpoint(tmp_path / "m", made.config, made.tensors, from_characters("あいうえ"))
    error = refused(tmp_path / "m", "vocab_mismatch")
    assert (error.values["tokens"], error.values["rows"]) == ("4", "3")


def test_an_ablated_model_is_never_taken_for_a_plain_one(tmp_path: Path) -> None:
    read = write_toy(tmp_path / "m", residual=False)
    assert json.loads((tmp_path / "m" / "config.json").read_text())["model_type"] == "manako_gpt2_ablated"
    assert read.config.switches == ("no_residual",)
    edit(tmp_path / "m" / "config.json", model_type="gpt2")
    refused(tmp_path / "m", "digest_mismatch")


@pytest.mark.parametrize("value", [50256, 277, -1, [400], True, "0"], ids=str)
def test_an_id_that_is_no_token_is_named_and_dropped(folder: Path, value: object) -> None:
    """transformers writes 50256 into every config.json whose author set nothing."""
    rewrite(folder, lambda tensors: None)
    edit(folder / "config.json", bos_token_id=value, eos_token_id=value)
    edit(folder / "generation_config.json", eos_token_id=None)
    (folder / "tokenizer_config.json").unlink()
    read = read_checkpoint(folder)
    assert (read.config.start_id, read.config.end_ids) == (None, ())
    told = dict(read.notices)["notice.ids_outside"]
    assert str(value).strip("[]") in str(told["ids"]) and told["rows"] == read.config.vocab_size


def test_the_end_token_is_not_taken_for_the_start_token(folder: Path) -> None:
    """As GPT-2s outside English have it: <s> and </s>; a list, and a file that has more of them, count too."""
    rewrite(folder, lambda tensors: None)
    edit(folder / "config.json", bos_token_id=258, eos_token_id=[257, 259])
    edit(folder / "generation_config.json", eos_token_id=260)
    (folder / "tokenizer_config.json").unlink()
    read = read_checkpoint(folder)
    assert (read.config.start_id, read.config.end_ids) == (258, (257, 259, 260))
    assert "notice.ends_differ" in dict(read.notices)


def test_an_end_that_the_tokenizer_alone_names_is_named(folder: Path) -> None:
    rewrite(folder, lambda tensors: None)
    edit(folder / "config.json", eos_token_id=257)
    edit(folder / "generation_config.json", eos_token_id=257)
    name = read_checkpoint(folder).tokenizer.token_bytes[0].decode()
    for token in (name, {"content": name}):
        (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": token}))
        read = read_checkpoint(folder)
        assert read.config.end_ids == (257,)
        assert dict(read.notices)["notice.tokenizer_end_differs"]["token"] == f"{name} (0)"
    edit(folder / "generation_config.json", eos_token_id=[257, 0])
    assert "notice.tokenizer_end_differs" not in dict(read_checkpoint(folder).notices)


@pytest.mark.parametrize("name", ["quantization_config", "quantization"])
def test_quantised_weights_are_named(folder: Path, name: str) -> None:
    edit(folder / "config.json", **{name: {"bits": 4}})
    assert name in str(refused(folder, "config_quantized"))


@pytest.mark.parametrize("name", [WEIGHTS, "pytorch_model.bin"])
def test_a_pointer_of_git_lfs_is_named(folder: Path, name: str) -> None:
    (folder / WEIGHTS).unlink()
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    assert "git lfs pull" in str(refused(folder, "lfs_pointer"))


def test_an_infinity_in_a_setting_that_nobody_reads_is_no_matter(folder: Path) -> None:
    rewrite(folder, lambda tensors: None)
    file = folder / "config.json"
    file.write_text(file.read_text().replace("{", '{"time_step_limit": [0.0, Infinity],', 1))
    read_checkpoint(folder)


def test_an_infinity_that_counts_is_refused(folder: Path) -> None:
    file = folder / "config.json"
    file.write_text(re.sub(r'"layer_norm_epsilon": [^,]+', '"layer_norm_epsilon": Infinity', file.read_text()))
    assert "layer_norm_epsilon" in str(refused(folder))


# --- T4, F13: flips and truncations -----------------------------------------------------------------------------------


def stratified(data: bytes, count: int) -> list[int]:
    """Places in the magic, the JSON header, each part of the data, and the ends."""
    header = 8 + int.from_bytes(data[:8], "little")
    rng = random.Random(4)
    places = [*range(8), *rng.sample(range(8, header), min(count // 2, header - 8)), header, len(data) - 1]
    step = max(1, (len(data) - header) // (count - len(places)))
    return sorted({*places, *range(header, len(data), step)})


@pytest.mark.parametrize("count", [300, pytest.param(2_000, marks=pytest.mark.slow)])
@pytest.mark.slow
def test_a_flipped_bit_in_the_weights_is_never_silent(folder: Path, count: int) -> None:
    path, before = folder / WEIGHTS, read_checkpoint(folder)
    data = path.read_bytes()
    rng, errors, tolerated = random.Random(1), 0, 0
    for place in stratified(data, count):
        flipped = bytearray(data)
        flipped[place] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped)
        try:
            read = read_checkpoint(folder)
        except LoadError:
            errors += 1
            continue
        assert same(before, read), f"byte {place} changed the model in silence"
        tolerated += 1
    assert errors >= 0.9 * count and tolerated <= 0.1 * count


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_flipped_bit_in_the_companions_is_always_reported(folder: Path, name: str) -> None:
    path = folder / name
    data = path.read_bytes()
    for place in range(0, len(data), max(1, len(data) // 150)):
        flipped = bytearray(data)
        flipped[place] ^= 1 << (place % 8)
        path.write_bytes(flipped)
        refused(folder)


def test_negative_control_without_digests_flips_go_unseen(folder: Path) -> None:
    """The test above sees what the digests see: without them, the same flips load as another model."""
    before = read_checkpoint(folder)
    rewrite(folder, lambda tensors: None)
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (folder / WEIGHTS).write_bytes(data)
    read = read_checkpoint(folder)
    assert not same(before, read) and [key for key, _ in read.notices] == ["notice.unverifiable"]


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", WEIGHTS])
def test_truncated_files_are_refused(folder: Path, name: str) -> None:
    data = (folder / name).read_bytes()
    for n in sorted({*range(0, min(len(data), 64)), *range(0, len(data), max(1, len(data) // 100)), len(data) - 1}):
        (folder / name).write_bytes(data[:n])
        refused(folder)
    (folder / name).write_bytes(data + b"\0")
    refused(folder)


# --- T6: safetensors headers ------------------------------------------------------------------------------------------

HEADER_VALUES = (
    None, True, 0, 1, -1, 2**31, 2**62, 2**64, 1.0, 4.5, "F32", "", "x", "\x00", [], [1], [0], {}, {"a": "b"}, "12",
)  # fmt: skip


def split(data: bytes) -> tuple[dict[str, Any], bytes]:
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def join(header: bytes, body: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + body


def mutated(original: bytes, rng: random.Random) -> bytes:
    """The file with one to three changes in its header: values, keys, order, raw text, or length."""
    header, body = split(original)
    names = [n for n in header if n != "__metadata__"]
    text: str | None = None
    for _ in range(rng.randint(1, 3)):
        header = copy.deepcopy(header)  # one value may have been put in two places
        name = rng.choice(names)
        match rng.randint(0, 9):
            case 0:
                header[name] = copy.deepcopy(rng.choice(HEADER_VALUES))
            case 1 if isinstance(header.get(name), dict):
                key = rng.choice(["dtype", "shape", "data_offsets", "more"])
                header[name][key] = copy.deepcopy(rng.choice(HEADER_VALUES))
            case 2 if isinstance(header.get(name), dict):
                types = ["F16", "BF16", "F64", "I32", "U8", "BOOL", "F8_E4M3", "F4", "f32"]
                header[name]["dtype"] = rng.choice(types)
            case 3 if isinstance(header.get(name), dict):
                sizes = [0, 1, 2, 12, 24, 36, 144, 2**20, 2**32, 2**62, -1]
                header[name]["shape"] = [rng.choice(sizes) for _ in range(rng.randint(0, 4))]
            case 4 if isinstance(header.get(name), dict):
                places = [rng.randint(-9, len(body) + 9) for _ in range(rng.randint(1, 3))]
                header[name]["data_offsets"] = places
            case 5:
                header.pop(name, None)
            case 6:
                other = rng.choice(names)
                header[name], header[other] = header.get(other), header.get(name)
            case 7:
                key = rng.choice(["h.0.attn.bias", "x", "", "__metadata__", name + " ", "lm_head.weight"])
                header[key] = header.get(name)
            case 8:
                header["__metadata__"] = rng.choice([{}, None, {"a": 1}, {"manako.sha256": "{}"}, [], "x"])
            case _:
                raw = json.dumps(header) if text is None else text
                bad = [
                    "NaN",
                    "1e999",
                    '"\\ud800"',
                    "[" * 2000,
                    '{"a":' * 500,
                    "9" * 5000,
                    "-0",
                    "1.0",
                    "true",
                    ",",
                    "}",
                ]
                at = rng.randint(0, len(raw))
                text = raw[:at] + rng.choice([*bad, f'"{name}": 1,', f'"{name}": null, ']) + raw[at:]
    encoded = (json.dumps(header) if text is None else text).encode("utf-8", "surrogatepass")
    whole = join(encoded, body)
    size = rng.choice([0] * 8 + [-1, 1, 8, 2**40, 2**63 - len(encoded)])
    return struct.pack("<Q", (len(encoded) + size) % 2**64) + whole[8:]


def check_header(folder: Path, data: bytes) -> bool:
    """Whether it opens; then the reference opens it too and has the same numbers."""
    (folder / WEIGHTS).unlink()  # a disk that is asked to shorten a file writes it out first, which takes milliseconds
    (folder / WEIGHTS).write_bytes(data)
    began = time.process_time()
    try:
        read = read_checkpoint(folder)
    except LoadError:
        return False
    finally:
        assert time.process_time() - began < 5
    theirs = dict(safetensors.deserialize(data))
    for name, tensor in read.tensors.items():
        part = theirs.get(f"transformer.{name}") or theirs[name]
        if part["dtype"] == "F32":
            assert tensor.tobytes() == bytes(part["data"])
    return True


def to_mutate(folder: Path, with_digests: bool) -> bytes:
    """The weights file of a tiny model in this folder."""
    write_toy(folder, n_layer=1, n_embd=4, block_size=4)
    if not with_digests:
        rewrite(folder, lambda tensors: None)
    return (folder / WEIGHTS).read_bytes()


@pytest.mark.parametrize("with_digests", [True, False])
@pytest.mark.slow
def test_mutated_headers_open_as_the_reference_does_or_not_at_all(tmp_path: Path, with_digests: bool) -> None:
    original = to_mutate(tmp_path / "m", with_digests)

    @settings(max_examples=200, suppress_health_check=list(HealthCheck), derandomize=True, deadline=None)
    @given(st.randoms(use_true_random=False))
    def run(rng: random.Random) -> None:
        check_header(tmp_path / "m", mutated(original, rng))

    run()


@pytest.mark.parametrize("with_digests", [True, False])
@pytest.mark.slow
def test_ten_thousand_mutated_headers(tmp_path: Path, with_digests: bool) -> None:
    """Without Hypothesis, which makes a case smaller and takes twenty times as long. What fails stays in the folder."""
    original, rng = to_mutate(tmp_path / "m", with_digests), random.Random(6)
    opened = sum(check_header(tmp_path / "m", mutated(original, rng)) for _ in range(10_000))
    assert 100 < opened < 9_900


def one_tensor(**changes: Any) -> str:
    return json.dumps({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} | changes})


@pytest.mark.parametrize("header", [
    "",
    "{}",
    "[]",
    "[" * 100_000,
    '{"a":' * 100_000,
    one_tensor(shape=[0]),
    one_tensor(shape=[0, 2**62, 2]),
    one_tensor(shape=[2**63, 0]),
    one_tensor(shape=[-1]),
    one_tensor(shape=[True]),
    one_tensor(shape=[1.0]),
    one_tensor(shape=[2**32, 2**32]),
    one_tensor(data_offsets=[0, 2**63]),
    one_tensor(data_offsets=[4, 0]),
    one_tensor(data_offsets=[0.0, 4.0]),
    one_tensor(dtype="F4", shape=[8]),
    one_tensor(dtype="NOPE"),
    one_tensor().replace("[1]", "[" + "1" * 5000 + "]"),
    one_tensor().replace("[1]", "NaN"),
    one_tensor().replace('"x"', '"\\ud800"'),
    one_tensor()[:-1] + "," + one_tensor()[1:],
    '{"__metadata__": {"a": "b", "a": "c"}}',
    '{"__metadata__": {"manako.sha256": "[1]"}}',
    '{"__metadata__": {"manako.sha256": "{\\"a\\": 1, \\"a\\": 2}"}}',
], ids=lambda h: h[:60])  # fmt: skip
def test_headers_that_lie(folder: Path, header: str) -> None:
    assert not check_header(folder, join(header.encode(), b"\0\0\0\0" if '"x"' in header else b""))


def test_a_tensor_named_twice_is_refused_though_the_library_takes_the_last(folder: Path) -> None:
    data = (folder / WEIGHTS).read_bytes()
    header, body = split(data)
    first = json.dumps({"transformer.ln_f.bias": header["transformer.ln_f.weight"]})
    doubled = first[:-1] + ", " + json.dumps(header)[1:]
    assert len(safetensors.deserialize(join(doubled.encode(), body))) == len(header) - 1
    assert not check_header(folder, join(doubled.encode(), body))


def test_digests_of_strange_shapes(folder: Path) -> None:
    header, body = split((folder / WEIGHTS).read_bytes())
    for digests in ("{}", "[]", "null", '"x"', '{"config.json": 5}', "{", "\\"):
        header["__metadata__"]["manako.sha256"] = digests
        assert not check_header(folder, join(json.dumps(header).encode(), body))


def test_a_weights_file_of_absurd_size_is_refused_before_it_is_read(folder: Path) -> None:
    with (folder / WEIGHTS).open("r+b") as stream:
        stream.truncate(2**36)  # sparse: takes no room
    began = time.process_time()
    refused(folder, "file_too_large")
    assert time.process_time() - began < 5


def test_a_config_of_absurd_size(folder: Path) -> None:
    (folder / "config.json").write_bytes(b" " * (2**20 + 1))
    refused(folder, "file_too_large")


# --- T8: nothing in a folder runs -------------------------------------------------------------------------------------

AUDIT = """
import json, os, sys
import manako
good, *hostile = sys.argv[1:]
manako.load(good).trace("私", max_new_tokens=1)  # all imports are done,
try:
    manako.load("nowhere")  # and the catalog of messages is read
except manako.LoadError:
    pass
watched, events = None, []
def inside(name):
    return os.path.realpath(str(name)).startswith(os.path.realpath(watched) + os.sep)
def hook(event, args):
    if watched is None:
        return
    if event in ("import", "exec", "compile", "subprocess.Popen", "os.system", "socket.connect", "pickle.find_class"):
        events.append([event, str(args[0])[:200]])
    elif event == "open" and args[0] != os.devnull and not inside(args[0]):
        events.append([event, str(args[0])])
sys.addaudithook(hook)
results = []
for folder in hostile:
    watched, events = folder, []
    try:
        manako.load(folder)
        outcome = "opened"
    except manako.ManakoError as error:
        outcome = error.key
    except BaseException as error:
        outcome = repr(error)
    watched = None
    results.append([outcome, events])
print(json.dumps(results))
"""


def audited(good: Path, hostile: list[Path]) -> list[tuple[str, list[Any]]]:
    command = [sys.executable, "-c", AUDIT, str(good), *map(str, hostile)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return json.loads(done.stdout)


@pytest.mark.slow
def test_nothing_in_a_folder_is_run_imported_or_followed(tmp_path: Path) -> None:
    write_toy(tmp_path / "good")
    evil = "import pathlib; pathlib.Path(__file__).with_name('ran').touch()\n"
    steering = {
        "auto_map": {"AutoModelForCausalLM": "modeling_x.Evil", "AutoTokenizer": "modeling_x.Evil"},
        "trust_remote_code": True,
        "_attn_implementation_internal": "evil/kernel",
        "_name_or_path": "../../etc",
    }

    def make(name: str) -> Path:
        write_toy(tmp_path / name)
        for file in (
            "modeling_x.py",
            "configuration_x.py",
            "setup.py",
            "__init__.py",
            "conftest.py",
            "sitecustomize.py",
        ):
            (tmp_path / name / file).write_text(evil)
        return tmp_path / name

    code = make("code")
    rewrite(code, lambda tensors: None)
    edit(code / "config.json", **steering)
    edit(code / "tokenizer_config.json", auto_map={"AutoTokenizer": ["modeling_x.Evil", None]}, tokenizer_class="Evil")
    pickles = make("pickles")
    (pickles / WEIGHTS).unlink()
    (pickles / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    shards = make("shards")
    (shards / WEIGHTS).unlink()
    index = {"weight_map": {"x": "../../outside.safetensors"}}
    (shards / "model.safetensors.index.json").write_text(json.dumps(index))
    both = make("both")
    (both / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    links = []
    for file in (WEIGHTS, "config.json", "tokenizer.json"):
        links.append(make("link-" + file))
        (links[-1] / file).unlink()
        (links[-1] / file).symlink_to(tmp_path / "good" / file)

    results = audited(tmp_path / "good", [code, pickles, shards, both, *links])
    outcomes, events = zip(*results, strict=True)
    assert outcomes == ("opened", "legacy_not_zip", "shard_index", "opened", *["link_outside"] * 3)
    assert list(events) == [[]] * len(results)
    assert not list(tmp_path.rglob("ran"))
    names = dict(read_checkpoint(code).notices)["notice.ignored_keys"]["names"]
    assert all(key in str(names) for key in steering)


@pytest.mark.slow
def test_negative_control_the_hook_sees_an_open_outside(tmp_path: Path) -> None:
    write_toy(tmp_path / "good")
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / WEIGHTS).write_bytes(b"x")
    (tmp_path / "m" / "config.json").symlink_to(tmp_path / "good" / "config.json")
    script = AUDIT.replace("manako.load(folder)", "open(folder + '/config.json').close(); import this")
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "good"), str(tmp_path / "m")],
        capture_output=True,
        text=True,
        check=True,
    )
    ((_, events),) = json.loads(done.stdout.splitlines()[-1])
    assert {"open", "import"} <= {event for event, _ in events}


def test_a_snapshot_of_a_hugging_face_cache_opens(tmp_path: Path) -> None:
    """Its files are links to blobs of the same model; a link to another model's blobs is refused."""
    cache, snapshot = tmp_path / "models--a--b", tmp_path / "models--a--b" / "snapshots" / "0123"
    write_toy(tmp_path / "m")
    (cache / "blobs").mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for i, name in enumerate(sorted(FILES)):
        (tmp_path / "m" / name).rename(cache / "blobs" / str(i))
        (snapshot / name).symlink_to(Path("../../blobs") / str(i))
    assert read_checkpoint(snapshot).notices == ()
    other = tmp_path / "models--c--d" / "blobs"
    other.mkdir(parents=True)
    (snapshot / WEIGHTS).resolve().rename(other / "x")
    (snapshot / WEIGHTS).unlink()
    (snapshot / WEIGHTS).symlink_to(other / "x")
    refused(snapshot, "link_outside")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "generation_config.json"])
def test_a_link_to_itself_is_no_file(tmp_path: Path, name: str) -> None:
    write_toy(tmp_path / "m")
    (tmp_path / "m" / name).unlink()
    (tmp_path / "m" / name).symlink_to(name)
    if name != "generation_config.json":  # which a folder may lack
        assert refused(tmp_path / "m", "file_missing").exit_code == 3
    else:
        read_checkpoint(tmp_path / "m")


def test_a_checkpoint_whose_number_is_none_is_passed_over(tmp_path: Path) -> None:
    for number in ("\u00b2", "7"):  # a power of two in one character: a digit, and no number
        (tmp_path / "m" / f"checkpoint-{number}").mkdir(parents=True)
    assert "checkpoint-7" in str(refused(tmp_path / "m", "folder_of_checkpoints"))


# --- P21, F15: references to what is no model -------------------------------------------------------------------------


def test_what_is_missing_is_named(folder: Path, tmp_path: Path) -> None:
    assert "nowhere" in str(refused(tmp_path / "nowhere", "folder_missing"))
    refused(folder / "config.json", "not_a_folder")
    refused(Path("x" * 5000), "file_unreadable")
    for name, key in ((WEIGHTS, "file_missing"), ("config.json", "file_missing"), ("tokenizer.json", "file_missing")):
        kept = (folder / name).read_bytes()
        (folder / name).unlink()
        assert name in str(refused(folder, key))
        (folder / name).mkdir()
        assert name in str(refused(folder, "file_is_folder"))
        (folder / name).rmdir()
        os.mkfifo(folder / name)
        assert name in str(refused(folder, "file_not_regular"))
        (folder / name).unlink()
        (folder / name).write_bytes(b"")
        assert name in str(refused(folder))
        (folder / name).write_bytes(kept)
    read_checkpoint(folder)


@pytest.mark.parametrize("name", ["pytorch.bin", "model.pt", "anything.pt"])
def test_pickles_only_names_the_import_command(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x80\x04.")
    error = refused(tmp_path, "folder_only_pickles")
    assert "manako import" in str(error) and "pytorch_model.bin" in str(error)


# --- writing: whole or not at all -------------------------------------------------------------------------------------


def failing(at: int, error: BaseException, function: Callable[..., Any]) -> Callable[..., Any]:
    calls = iter(range(1, 10**6))

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == at:
            raise error
        return function(*args, **kwargs)

    return wrapper


MADE = toy_checkpoint()


def write(folder: Path) -> None:
    write_checkpoint(folder, MADE.config, MADE.tensors, MADE.tokenizer)


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize(
    "function", ["os.fsync", "os.open", "pathlib.Path.replace", "pathlib.Path.rename", "pathlib.Path.mkdir"]
)
@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()], ids=["full", "^C"]
)
def test_a_new_folder_is_there_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, error: BaseException, existing: bool
) -> None:
    """Every call of one save fails once."""
    import importlib

    module_name, _, attribute = function.partition(".")
    owner: Any = importlib.import_module(module_name)
    *path, last = attribute.split(".")
    for name in path:
        owner = getattr(owner, name)
    original, failures = getattr(owner, last), 0
    for at in range(1, 40):
        place = tmp_path / str(at)
        place.mkdir()
        if existing:
            (place / "m").mkdir()
        with monkeypatch.context() as patch:
            patch.setattr(owner, last, failing(at, error, original))
            try:
                write(place / "m")
            except (ManakoError, KeyboardInterrupt) as caught:
                failures += 1
                left = list(place.rglob("*"))
                whole = any(p.is_file() for p in left)  # failed after the rename
                if isinstance(caught, ManakoError):
                    assert caught.key == ("write_not_synced" if whole else "write_failed") and caught.exit_code == 1
                    assert caught.values["file"][:100] == str(place / "m")[:100]  # long values are cut
                if whole:
                    assert {p.name for p in (place / "m").iterdir()} == FILES and read_checkpoint(place / "m")
                    assert [p.name for p in place.iterdir()] == ["m"]
                else:
                    assert [p.name for p in left] in ([], ["m"])
                continue
        read_checkpoint(place / "m")
        break
    assert failures >= 1 and at == failures + 1  # the last run met no failure: all calls were tried


def test_an_existing_folder_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "mine.txt").write_text("x")
    (tmp_path / "file").write_text("x")
    for target in ("m", "file"):
        with pytest.raises(ManakoError) as caught:
            write(tmp_path / target)
        assert caught.value.key == "target_exists_folder" and caught.value.exit_code == 1
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "m", "mine.txt"]
    assert (tmp_path / "m" / "mine.txt").read_text() == "x"


def test_an_empty_folder_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m").mkdir()
    write(tmp_path / "m")
    read_checkpoint(tmp_path / "m")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    write(Path())
    read_checkpoint(tmp_path / "here")


def test_a_link_with_the_temporary_name_leads_nowhere(tmp_path: Path) -> None:
    """A predictable temporary name, cleaned before use, once deleted what such a link pointed to."""
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("x")
    (tmp_path / ".m.tmp").symlink_to(tmp_path / "precious")
    write(tmp_path / "m")
    assert (tmp_path / "precious" / "thesis.txt").read_text() == "x"


@pytest.mark.parametrize("name", ["a\0b", "x" * 300, "x" * 250, "😀" * 60])
def test_names_that_cannot_be(tmp_path: Path, name: str) -> None:
    if len(name.encode()) in (240, 250):  # long, but fine: the temporary name beside it must not be too long
        write(tmp_path / name)
        read_checkpoint(tmp_path / name)
        return
    with pytest.raises(ManakoError) as caught:
        write(tmp_path / name)
    assert caught.value.key == "write_failed" and list(tmp_path.iterdir()) == []


def test_two_writers_of_one_folder_leave_one_whole_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one comes while the first is writing: one wins, the other says that the folder is there."""
    original, done = model_folder.write_weights, []

    def race(*args: Any) -> None:
        if not done:
            done.append(True)
            write(tmp_path / "m")
        original(*args)

    monkeypatch.setattr(model_folder, "write_weights", race)
    with pytest.raises(ManakoError):
        write(tmp_path / "m")
    read_checkpoint(tmp_path / "m")
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize("function", ["fsync", "open", "replace"])
def test_write_weights_leaves_the_old_ones_or_the_new_ones(
    folder: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    old, config, tokenizer = read_checkpoint(folder), toy_config(), toy_tokenizer()
    new, failures = toy_weights(config, seed=5), 0
    owner: Any = Path if function == "replace" else os
    original = getattr(owner, function)
    for at in range(1, 10):
        error = OSError(errno.EIO, "Input/output error")
        with monkeypatch.context() as patch:
            patch.setattr(owner, function, failing(at, error, original))
            try:
                write_weights(folder, config, new, tokenizer)
            except ManakoError as caught:
                is_new = same_tensors(read_checkpoint(folder).tensors, new)
                assert caught.key == ("write_not_synced" if is_new else "write_failed")
                failures += 1
            else:
                break
        read = read_checkpoint(folder)
        assert same_tensors(read.tensors, old.tensors) or same_tensors(read.tensors, new)
        assert {p.name for p in folder.iterdir()} == FILES
    assert failures >= 1 and same_tensors(read_checkpoint(folder).tensors, new)


def test_weights_of_another_shape_are_noticed_at_load(folder: Path) -> None:
    write_weights(folder, toy_config(n_embd=14), toy_weights(toy_config(n_embd=14)), toy_tokenizer())
    refused(folder)


# --- the shape --------------------------------------------------------------------------------------------------------


def test_parameters_count_a_gpt2() -> None:
    gpt2 = ModelConfig(n_layer=12, n_head=12, n_embd=768, block_size=1024, vocab_size=50257)
    assert sum(math.prod(shape) for shape in gpt2.parameters().values()) == 124_439_808


def test_switches_name_what_differs() -> None:
    assert toy_config().switches == ()
    assert toy_config(residual=False, norm="post", attention=False).switches == (
        "no_residual",
        "norm_post",
        "no_attention",
    )


def touch(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"")


@pytest.mark.parametrize(("there", "key", "named"), [
    (["adapter_config.json", "adapter_model.safetensors"], "hf_adapter", "adapter_config.json"),
    (["checkpoint-500/config.json", "checkpoint-1500/config.json"], "folder_of_checkpoints", "checkpoint-1500"),
    (["snapshots/abc"], "folder_of_snapshots", "snapshots/abc"),
    (["model.onnx"], "folder_of_others", "model.onnx"),
    (["model-q4.gguf"], "folder_of_others", "gguf:"),
    (["model-00001-of-00002.safetensors"], "folder_without_index", "model-00001-of-00002.safetensors"),
    ([], "file_missing", "model.safetensors"),
], ids=str)  # fmt: skip
def test_a_folder_without_weights_is_named_for_what_it_is(
    tmp_path: Path, there: list[str], key: str, named: str
) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    for name in there:
        touch(folder / name)
    assert named in str(refused(folder, key))
