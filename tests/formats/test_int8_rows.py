"""Weights as int8, one scale a row: the rule to the bit, what is noticed, and that no other program takes q for W."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from toy import same_tensors, toy_checkpoint

from manako.errors import LoadError
from manako.formats.int8_rows import FILE, SCALE, dequantised, quantised
from manako.formats.model_folder import WEIGHTS, read_checkpoint, write_checkpoint

NAME = "transformer.h.0.mlp.c_fc.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = toy_checkpoint()
    write_checkpoint(tmp_path / "m", made.config, made.tensors, made.tokenizer, int8=True)
    return tmp_path / "m"


def rewritten(folder: Path, **changes: Any) -> None:
    """Another weights file without digests. changes: arrays by name; None removes one."""
    tensors = safetensors.numpy.load_file(folder / FILE) | changes
    safetensors.numpy.save_file({n: t for n, t in tensors.items() if t is not None}, folder / FILE)


def refused(folder: Path) -> LoadError:
    with pytest.raises(LoadError) as caught:
        read_checkpoint(folder)
    return caught.value


def test_the_rule_by_hand() -> None:
    rows = np.array([[127, -63.5, 0.5, 1.5], [0, 0, 0, 0], [-254, 1, 3, 127]], np.float32)
    q, scale = quantised(rows)
    assert scale.tolist() == [1, 0, 2] and scale.dtype == np.float32 and q.dtype == np.int8
    assert q.tolist() == [[127, -64, 0, 2], [0, 0, 0, 0], [-127, 0, 2, 64]]  # ties to even
    assert dequantised(q, scale).tolist() == [[127, -64, 0, 2], [0, 0, 0, 0], [-254, 0, 4, 128]]


@pytest.mark.parametrize("size", [1e-45, 1e-42, 1e-38, 1.0, 3e38])
def test_no_row_leaves_the_range(size: float) -> None:
    rows = (np.random.default_rng(0).uniform(-1, 1, (50, 9)) * size).astype(np.float32)
    q, scale = quantised(rows)
    again = dequantised(q, scale)
    assert np.isfinite(again).all() and q.min() >= -127
    step = np.maximum(scale, np.abs(rows).max(axis=1) / 127)[:, None].astype(np.float64)
    assert (np.abs(again.astype(np.float64) - rows) <= 0.51 * step + 127 * 1.5e-45).all()  # and what a tiny scale lacks


def test_a_model_comes_back_as_the_rule_has_it(folder: Path) -> None:
    made, read = toy_checkpoint(), read_checkpoint(folder)
    expected = {n: dequantised(*quantised(t)) if t.ndim == 2 else t for n, t in made.tensors.items()}
    assert same_tensors(read.tensors, expected) and read.notices == () and read.config == made.config
    assert read.stored_dtype == "float32/int8"
    stored = safetensors.numpy.load_file(folder / FILE)
    assert stored[NAME].dtype == np.int8 and stored[NAME + SCALE].shape == (12,)
    assert {n for n, t in stored.items() if t.dtype == np.float32 and t.ndim == 2} == set()


def test_the_fingerprint_is_that_of_the_same_numbers_in_float32(folder: Path, tmp_path: Path) -> None:
    read = read_checkpoint(folder)
    write_checkpoint(tmp_path / "plain", read.config, read.tensors, read.tokenizer)
    assert read_checkpoint(tmp_path / "plain").fingerprint == read.fingerprint


def test_writing_what_was_read_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    read = read_checkpoint(folder)
    write_checkpoint(tmp_path / "again", read.config, read.tensors, read.tokenizer, int8=True)
    again = read_checkpoint(tmp_path / "again")
    worst = max(float(np.abs(again.tensors[n] - t).max()) for n, t in read.tensors.items())
    assert worst <= 1e-6  # 127 * scale / 127 may round to the neighbour of scale
    written = [safetensors.numpy.load_file(f / FILE) for f in (folder, tmp_path / "again")]
    assert (written[0][NAME] == written[1][NAME]).all()


@pytest.mark.parametrize("place", ["q", "scale"])
def test_a_flipped_bit_is_noticed(folder: Path, place: str) -> None:
    path = folder / FILE
    data = bytearray(path.read_bytes())
    size = int.from_bytes(data[:8], "little")
    name = NAME + (SCALE if place == "scale" else "")
    data[8 + size + json.loads(data[8 : 8 + size])[name]["data_offsets"][0]] ^= 1
    path.write_bytes(data)
    error = refused(folder)
    assert error.key == "digest_mismatch" and error.values["part"] == NAME


def test_a_matrix_may_lie_in_either_form(folder: Path) -> None:
    before = read_checkpoint(folder)
    whole = np.ascontiguousarray(before.tensors[NAME.removeprefix("transformer.")])
    rewritten(folder, **{NAME: whole, NAME + SCALE: None})
    assert same_tensors(read_checkpoint(folder).tensors, before.tensors)


def test_what_does_not_fit_is_refused_by_name(folder: Path) -> None:
    stored = safetensors.numpy.load_file(folder / FILE)
    q, scale = stored[NAME], stored[NAME + SCALE]
    for changes, key, tensor in (
        ({NAME + SCALE: None}, "tensor_missing", NAME + SCALE),
        ({NAME + SCALE: scale[:-1]}, "tensor_shape", NAME + SCALE),
        ({NAME + SCALE: scale.astype(np.float16)}, "tensor_dtype", NAME + SCALE),
        ({NAME + SCALE: np.full_like(scale, np.nan)}, "tensor_not_finite", NAME + SCALE),
        ({NAME + SCALE: np.full_like(scale, 3e38)}, "tensor_not_finite", NAME),
        ({NAME: q[:, :-1]}, "tensor_shape", NAME.removeprefix("transformer.")),
        ({NAME: q.view(np.uint8)}, "tensor_dtype", NAME),
        ({NAME: None}, "tensor_missing", NAME.removeprefix("transformer.")),
        ({NAME: None, NAME + SCALE: None}, "tensor_missing", NAME.removeprefix("transformer.")),
        ({"other" + SCALE: scale}, "tensor_extra", "other" + SCALE),
        ({"transformer.ln_f.weight": np.ones(12, np.int8)}, "tensor_dtype", "transformer.ln_f.weight"),
    ):
        rewritten(folder, **stored | changes)
        error = refused(folder)
        assert (error.key, error.values["tensor"]) == (key, tensor), changes.keys()


def test_int8_is_no_weight_under_another_name(folder: Path) -> None:
    (folder / FILE).rename(folder / WEIGHTS)
    error = refused(folder)
    assert error.key == "tensor_dtype" and error.values["dtype"] == "I8"
