"""GGUF files: correct ones open bit for bit, everything else is refused in one line, in bounded time and memory.

Rows T7, T9, F13 to F17 and N3 of the reliability notes. Files are put together by toy_gguf.py, which is first compared
with the `gguf` library's own writer, so that a refusal is never its own mistake.
"""

import json
import math
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf.quants import dequantize
from toy import same_tensors, toy_weights
from toy_gguf import (
    SPM_TOKENS,
    Raw,
    Tensor,
    float_tensors,
    gguf_bytes,
    gpt2_metadata,
    llama_metadata,
    neighbours_from_halves,
    spm_metadata,
    stored,
    text,
    toy_file,
    toy_llama,
    toy_llama_weights,
    u32,
    u64,
    zeros,
)

from manako.errors import LoadError, MissingExtraError
from manako.families import FAMILIES, llama
from manako.families.gpt2 import ModelConfig
from manako.families.llama import halves_from_neighbours
from manako.families.rope import Rope
from manako.formats import gguf as gguf_file
from manako.formats.gguf import read_gguf, stored_name
from manako.formats.gguf_head import QUANTISATIONS, UNREADABLE, read_head
from manako.formats.model_folder import Checkpoint

MADE = {"general.architecture": "llama"}
PEAK = """
def peak():
    \"\"\"Bytes of memory at most; getrusage would count the process that started this one.\"\"\"
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
"""


def opened(path: Path, data: bytes) -> Checkpoint:
    path.write_bytes(data)
    return read_gguf(path)


def refusal(path: Path, data: bytes) -> LoadError:
    with pytest.raises(LoadError) as caught:
        opened(path, data)
    assert caught.value.exit_code == 3 and "\n" not in str(caught.value)
    return caught.value


# --- correct files ----------------------------------------------------------------------------------------------------


def test_the_assembler_writes_what_the_library_writes(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "theirs.gguf", "llama")
    writer.add_uint32("llama.block_count", 3)
    writer.add_float32("llama.rope.freq_base", 1e5)
    writer.add_bool("tokenizer.ggml.add_bos_token", True)
    writer.add_array("tokenizer.ggml.tokens", ["a", "あ", ""])
    writer.add_array("tokenizer.ggml.token_type", [1, 3, 6])
    numbers = np.arange(12, dtype=np.float32).reshape(3, 4)
    writer.add_tensor("output.weight", numbers)
    writer.add_tensor("token_embd.weight", numbers.astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    metadata = MADE | {"llama.block_count": 3, "llama.rope.freq_base": 1e5, "tokenizer.ggml.add_bos_token": True}
    metadata |= {"tokenizer.ggml.tokens": ["a", "あ", ""], "tokenizer.ggml.token_type": [1, 3, 6]}
    half = numbers.astype(np.float16).tobytes()
    tensors = [
        Tensor("output.weight", (4, 3), 0, numbers.tobytes()),
        Tensor("token_embd.weight", (4, 3), 1, half),
    ]
    theirs, ours = (tmp_path / "theirs.gguf").read_bytes(), gguf_bytes(metadata, tensors)
    assert theirs[: len(ours)] == ours and not any(theirs[len(ours) :])
    with (tmp_path / "theirs.gguf").open("rb") as stream:
        head = read_head(tmp_path / "theirs.gguf", stream)
    assert head.metadata == metadata
    place = head.tensors["token_embd.weight"]
    assert (place.kind, place.shape) == (1, (3, 4)) and theirs[place.offset :][: place.size] == half


def test_a_toy_llama_opens_bit_for_bit(tmp_path: Path) -> None:
    config, weights, data = toy_file()
    model = opened(tmp_path / "m.gguf", data)
    assert model.config == config
    assert same_tensors(model.tensors, weights)
    assert (model.stored_dtype, model.chat_template) == ("F32", None)
    assert [key for key, _ in model.notices] == ["notice.unverifiable"]
    assert model.tokenizer.token_bytes[model.tokenizer.encode("ab")[0]] == b" ab"


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("alignment", [8, 32, 4096])
def test_each_version_and_alignment_opens(tmp_path: Path, version: int, alignment: int) -> None:
    config, weights, _ = toy_file()
    metadata = llama_metadata(config) | spm_metadata() | {"general.alignment": alignment}
    data = gguf_bytes(metadata, float_tensors(config, weights), version=version, alignment=alignment)
    assert same_tensors(opened(tmp_path / "m.gguf", data).tensors, weights)


@pytest.mark.parametrize("changes", [
    {"tie_word_embeddings": True},
    {"attention_bias": True, "output_bias": True, "mlp_bias": True},
    {"n_layer": 3, "n_head": 4, "n_kv_head": 4, "head_size": 6},
    {"rope": Rope(theta=5e5)},
    {"model_type": "qwen2", "attention_bias": True},
])  # fmt: skip
def test_shapes_biases_and_heads_come_from_the_file(tmp_path: Path, changes: dict[str, Any]) -> None:
    config = toy_llama(**changes)
    weights = toy_llama_weights(config)
    metadata = llama_metadata(config, config.model_type) | spm_metadata()
    model = opened(tmp_path / "m.gguf", gguf_bytes(metadata, float_tensors(config, weights)))
    assert model.config == config and same_tensors(model.tensors, weights)


def test_gpt2_opens_bit_for_bit(tmp_path: Path) -> None:
    config = ModelConfig(n_layer=2, n_head=2, n_embd=8, block_size=6, vocab_size=len(SPM_TOKENS), n_inner=12)
    config = replace(config, layer_norm_epsilon=2**-17, start_id=1, end_ids=(2,))
    weights = toy_weights(config)
    data = gguf_bytes(gpt2_metadata(config) | spm_metadata(), float_tensors(config, weights))
    model = opened(tmp_path / "m.gguf", data)
    assert model.config == config and same_tensors(model.tensors, weights)


def test_the_fingerprint_is_that_of_the_weights(tmp_path: Path) -> None:
    config, weights, data = toy_file()
    first = opened(tmp_path / "m.gguf", data).fingerprint
    assert len(first) == 64
    tensors = float_tensors(config, weights)
    metadata = llama_metadata(config) | spm_metadata() | {"general.name": "another name"}
    assert opened(tmp_path / "n.gguf", gguf_bytes(metadata, tensors[::-1])).fingerprint == first
    changed = bytearray(data)
    changed[-1] ^= 1
    assert opened(tmp_path / "o.gguf", bytes(changed)).fingerprint != first


def test_the_tables_are_those_of_the_library() -> None:
    kinds = gguf.GGMLQuantizationType
    assert {k: (q.name, q.block, q.size) for k, q in QUANTISATIONS.items()} == {
        k: (kinds(k).name, *gguf.GGML_QUANT_SIZES[kinds(k)]) for k in QUANTISATIONS
    }
    assert all(kinds(k).name == name for k, name in UNREADABLE.items() if k in {int(kind) for kind in kinds})
    assert {name for family in FAMILIES for name in family.gguf.architectures} <= set(gguf.MODEL_ARCH_NAMES.values())


def test_the_order_of_rows_is_undone() -> None:
    rows = np.arange(24 * 3).reshape(24, 3)
    for heads in (1, 2, 3, 6):
        assert (halves_from_neighbours(neighbours_from_halves(rows, heads), heads) == rows).all()
    assert not (neighbours_from_halves(rows, 3) == rows).all()


# --- quantisations (N3) -----------------------------------------------------------------------------------------------


def packed_blocks(kind: int, numbers: int, rng: np.random.Generator) -> bytes:
    """Random blocks of a quantisation. Scales are float16 (or float32, bfloat16) somewhere in a block: no NaN."""
    packed = QUANTISATIONS[kind]
    if packed.name in ("F32", "F16"):
        return rng.normal(size=numbers).astype(np.float32 if kind == 0 else np.float16).tobytes()
    if packed.name == "BF16":
        return (rng.normal(size=numbers).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16).tobytes()
    blocks = rng.integers(0, 256, (numbers // packed.block, packed.size), dtype=np.uint8)
    blocks[:, 1::2] &= 0xBF  # of a float16 wherever one starts at an even byte: an exponent below the one for NaN
    if packed.name == "MXFP4":
        blocks[:, 0] = rng.integers(120, 135, len(blocks))  # a power of two, which could be beyond every float32
    return blocks.tobytes()


@pytest.mark.parametrize("kind", QUANTISATIONS, ids=lambda kind: QUANTISATIONS[kind].name)
def test_each_quantisation_bit_for_bit(tmp_path: Path, kind: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf_file, "NUMBERS_AT_A_TIME", 1024 + 256)  # several parts, and a shorter last one
    config = toy_llama(n_embd=256, head_size=64, n_head=4, n_kv_head=2, n_mlp=512)
    rng = np.random.default_rng(kind)
    tensors = float_tensors(config, toy_llama_weights(config))
    packed = QUANTISATIONS[kind]
    tensors = [
        replace(t, kind=kind, data=packed_blocks(kind, math.prod(t.dims), rng)) if len(t.dims) == 2 else t
        for t in tensors
    ]
    model = opened(tmp_path / "m.gguf", gguf_bytes(llama_metadata(config) | spm_metadata(), tensors))
    ours = stored(config, model.tensors)
    for t in tensors:
        if len(t.dims) == 2:
            rows = np.frombuffer(t.data, np.uint8).reshape(t.dims[1], -1)
            theirs = dequantize(rows, gguf.GGMLQuantizationType(kind))
            assert np.isfinite(theirs).all() and len(np.unique(theirs)) > 15
            assert ours[t.name].tobytes() == theirs.astype(np.float32).tobytes(), t.name
    assert model.stored_dtype == ("F32" if kind == 0 else f"{packed.name}/F32")


@pytest.mark.parametrize("kind", [*UNREADABLE, 4, 5, 31, 999])
def test_a_quantisation_that_cannot_be_read_is_named(tmp_path: Path, kind: int) -> None:
    error = refusal(tmp_path / "m.gguf", gguf_bytes(MADE, [Tensor("output.weight", (256,), kind, bytes(256))]))
    assert error.key == "gguf_quantisation"
    assert error.values["found"] == UNREADABLE.get(kind, f"number {kind}") and "Q4_0" in str(error)


# --- structural lies (T7) ---------------------------------------------------------------------------------------------

HUGE = 2**63
LIES: dict[str, tuple[str, bytes]] = {  # name: (error key, file)
    "empty": ("gguf_magic", b""),
    "magic": ("gguf_magic", gguf_bytes(MADE, magic=b"GGUX")),
    "magic alone": ("gguf_damaged", b"GGUF"),
    "version 1": ("gguf_version", gguf_bytes(MADE, version=1)),
    "version 4": ("gguf_version", gguf_bytes(MADE, version=4)),
    "big-endian": ("gguf_version", gguf_bytes(MADE, version=3 << 24)),
    "tensor count": ("gguf_damaged", gguf_bytes(MADE, tensor_count=HUGE)),
    "tensor count of a million": ("gguf_damaged", gguf_bytes(MADE, tensor_count=1_000_000)),
    "one tensor more": ("gguf_damaged", gguf_bytes(MADE, [zeros("a")], tensor_count=2)),
    "key count": ("gguf_damaged", gguf_bytes(MADE, key_count=HUGE)),
    "one key more": ("gguf_damaged", gguf_bytes(MADE, key_count=2)),
    "key length": ("gguf_damaged", gguf_bytes(MADE, key_count=2) + u64(HUGE)),
    "key length beyond the cap": ("gguf_damaged", gguf_bytes([("k" * 2000, 1)])),
    "key twice": ("gguf_damaged", gguf_bytes([("k", 1), ("k", 1)])),
    "key not UTF-8": ("gguf_damaged", gguf_bytes([(b"\xff", 1)])),
    "value type": ("gguf_damaged", gguf_bytes({"k": Raw(13, bytes(8))})),
    "value type 2^32 - 1": ("gguf_damaged", gguf_bytes({"k": Raw(2**32 - 1, bytes(8))})),
    "text length": ("gguf_damaged", gguf_bytes({"k": Raw(8, u64(HUGE))})),
    "text length 2^64 - 1": ("gguf_damaged", gguf_bytes({"k": Raw(8, u64(2**64 - 1))})),
    "text beyond the cap": ("gguf_damaged", gguf_bytes({"k": "x" * (1 << 20) + "x"})),
    "text not UTF-8": ("gguf_damaged", gguf_bytes({"k": Raw(8, text(b"\xe3\x81"))})),
    "truth value 2": ("gguf_damaged", gguf_bytes({"k": Raw(7, b"\x02")})),
    "array in array": ("gguf_damaged", gguf_bytes({"k": Raw(9, u32(9) + u64(1) + u32(4) + u64(1) + u32(7))})),
    "array 10^5 deep": ("gguf_damaged", gguf_bytes({"k": Raw(9, (u32(9) + u64(1)) * 100_000)})),
    "array type": ("gguf_damaged", gguf_bytes({"k": Raw(9, u32(99) + u64(1) + bytes(8))})),
    "array count": ("gguf_damaged", gguf_bytes({"k": Raw(9, u32(4) + u64(HUGE))})),
    "array count times size wraps": ("gguf_damaged", gguf_bytes({"k": Raw(9, u32(10) + u64(2**61 + 1) + bytes(8))})),
    "array count beyond the file": ("gguf_damaged", gguf_bytes({"k": Raw(9, u32(4) + u64(1_000_000))})),
    "array of texts beyond the file": ("gguf_damaged", gguf_bytes({"k": Raw(9, u32(8) + u64(1_000_000))})),
    "array of texts, one too long": (
        "gguf_damaged",
        gguf_bytes({"k": Raw(9, u32(8) + u64(2) + text("a") + u64(HUGE))}),
    ),
    "array of texts, one not UTF-8": ("gguf_damaged", gguf_bytes({"k": Raw(9, u32(8) + u64(1) + text(b"\xff"))})),
    "array of texts, one cut": ("gguf_damaged", gguf_bytes({"k": Raw(9, u32(8) + u64(2) + text("abc"))})[:-30]),
    "arrays beyond the cap": (
        "gguf_damaged",
        gguf_bytes({f"k{i}": Raw(9, u32(0) + u64(500_000) + bytes(500_000)) for i in range(4)}),
    ),
    "alignment 0": ("gguf_damaged", gguf_bytes({"general.alignment": 0}, [zeros("a")])),
    "alignment 13": ("gguf_damaged", gguf_bytes({"general.alignment": 13}, [zeros("a")])),
    "alignment 2^30": ("gguf_damaged", gguf_bytes({"general.alignment": 2**30}, [zeros("a")])),
    "alignment narrower than read": ("gguf_damaged", gguf_bytes({"general.alignment": Raw(0, b"\x20")}, [zeros("a")])),
    "alignment as text": ("gguf_damaged", gguf_bytes({"general.alignment": "32"}, [zeros("a")])),
    "no dimension": ("gguf_damaged", gguf_bytes(MADE, [Tensor("a", (), 0, bytes(4))])),
    "five dimensions": ("gguf_damaged", gguf_bytes(MADE, [zeros("a", (2, 1, 1, 1, 1))])),
    "2^32 - 1 dimensions": (
        "gguf_damaged",
        gguf_bytes(MADE, tensor_count=1).rstrip(b"\0") + text("a") + u32(2**32 - 1),
    ),
    "dimension 0": ("gguf_damaged", gguf_bytes(MADE, [Tensor("a", (8, 0), 0, bytes(32))])),
    "dimension 2^63": ("gguf_damaged", gguf_bytes(MADE, [Tensor("a", (HUGE,), 0, bytes(32))])),
    "product wraps to 0": ("gguf_damaged", gguf_bytes(MADE, [Tensor("a", (2**32, 2**32), 0, bytes(32))])),
    "product wraps to 8": ("gguf_damaged", gguf_bytes(MADE, [Tensor("a", (2**62, 2, 2, 2), 0, bytes(32))])),
    "no whole block": ("gguf_damaged", gguf_bytes(MADE, [Tensor("a", (33,), 8, bytes(68))])),
    "tensor beyond the end": ("gguf_damaged", gguf_bytes(MADE, [Tensor("a", (9,), 0, bytes(32))])),
    "offset beyond the end": ("gguf_damaged", gguf_bytes(MADE, [zeros("a", offset=1 << 40)])),
    "offset that wraps": ("gguf_damaged", gguf_bytes(MADE, [zeros("a", offset=2**64 - 32)])),
    "offset not aligned": ("gguf_damaged", gguf_bytes(MADE, [zeros("a"), zeros("b", offset=4)])),
    "overlapping": ("gguf_damaged", gguf_bytes(MADE, [zeros("a", (64,)), zeros("b", offset=32)])),
    "same place": ("gguf_damaged", gguf_bytes(MADE, [zeros("a"), zeros("b", offset=0)])),
    "name twice": ("gguf_damaged", gguf_bytes(MADE, [zeros("a"), zeros("a")])),
    "name of 65 bytes": ("gguf_damaged", gguf_bytes(MADE, [zeros("a" * 65)])),
    "million tensors in a small file": ("gguf_damaged", gguf_bytes(MADE, [zeros("a")], tensor_count=60_000)),
}


@pytest.mark.parametrize("name", LIES)
def test_each_lie_is_refused(tmp_path: Path, name: str) -> None:
    key, data = LIES[name]
    assert refusal(tmp_path / "m.gguf", data).key == key


@pytest.mark.slow
def test_refusals_cost_no_time_and_no_memory(tmp_path: Path) -> None:
    """Under 100 ms of work and 150 MB, the library that unpacks weights included; measured in a process of its own."""
    for number, (_, data) in enumerate(LIES.values()):
        (tmp_path / f"{number}.gguf").write_bytes(data)
    with (tmp_path / "sparse.gguf").open("wb") as stream:
        stream.truncate(1 << 40)
    code = f"""{PEAK}
import sys, time
from pathlib import Path
import gguf
from manako.errors import LoadError
from manako.formats.gguf import read_gguf
slowest = 0.0
for path in Path(sys.argv[1]).iterdir():
    best = 9.0
    for _ in range(3):
        start = time.process_time()  # the machine may be busy with other things
        try:
            read_gguf(path)
            sys.exit(str(path) + " was opened")
        except LoadError:
            best = min(best, time.process_time() - start)
    slowest = max(slowest, best)
print(slowest, peak())
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    slowest, most = done.stdout.split()
    assert float(slowest) < 0.1 and int(most) < 150e6


@pytest.mark.slow
def test_a_vocabulary_of_250000_tokens_and_500000_merges_is_no_effort(tmp_path: Path) -> None:
    """What the largest vocabularies have; quadratic work anywhere would take minutes."""
    tokens, merges = [f"token{i}" for i in range(250_000)], [f"to ken{i}" for i in range(500_000)]
    lists = {"t": tokens, "m": merges, "s": [0.5] * len(tokens), "k": [1] * len(tokens)}
    (tmp_path / "m.gguf").write_bytes(gguf_bytes(lists))
    with (tmp_path / "m.gguf").open("rb") as stream:
        head = read_head(tmp_path / "m.gguf", stream)
    assert head.metadata == lists


# --- damage (F13, F14, F15) -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [61, pytest.param(1, marks=pytest.mark.slow)])
def test_cut_at_every_byte(tmp_path: Path, step: int) -> None:
    _, _, data = toy_file()
    assert len(data) < 8192
    for length in range(0, len(data), step):
        assert refusal(tmp_path / "m.gguf", data[:length]).key in ("gguf_damaged", "gguf_magic")


@pytest.mark.slow
def test_each_flipped_bit_is_refused_or_harmless(tmp_path: Path) -> None:
    """A flip is refused by name, or what opens is a model of the same shape: nothing crashes, hangs or misplaces."""
    config, weights, data = toy_file()
    names, outcomes = weights.keys(), {"refused": 0, "opened": 0}
    for bit in range(0, 8 * len(data), 5):  # of each byte one or two, in turn all eight
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        (tmp_path / "m.gguf").write_bytes(changed)
        try:
            model = read_gguf(tmp_path / "m.gguf")
        except LoadError as error:
            assert "\n" not in str(error)
            outcomes["refused"] += 1
            continue
        outcomes["opened"] += 1
        assert model.tensors.keys() == names
        assert {n: t.shape for n, t in model.tensors.items()} == config.parameters()
        different = [n for n in names if model.tensors[n].tobytes() != weights[n].tobytes()]
        assert len(different) <= 1  # no checksum guards the weights themselves
    assert outcomes["refused"] > 500 < outcomes["opened"]


@pytest.mark.parametrize("kind", ["missing", "folder", "fifo", "socket", "device", "dangling", "sparse", "denied"])
def test_what_is_no_file_is_refused(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.gguf"
    expected = "file_not_regular"
    if kind in ("missing", "dangling"):
        expected = "file_missing"
        if kind == "dangling":
            path.symlink_to(tmp_path / "nowhere")
    elif kind == "folder":
        expected = "file_is_folder"
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    elif kind == "device":
        path = Path("/dev/zero")
    elif kind == "sparse":
        expected = "gguf_magic"
        with path.open("wb") as stream:
            stream.truncate(1 << 40)
    else:
        expected = "file_unreadable"
        path.write_bytes(b"GGUF")

        def denied(*_: Any) -> Any:  # tests may run as root, who may read everything
            raise PermissionError(13, os.strerror(13))

        monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(LoadError) as caught:
        read_gguf(path)
    assert caught.value.key == expected


def test_a_file_that_shrinks_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, data = toy_file()
    path = tmp_path / "m.gguf"

    def head_then_cut(path: Path, stream: Any) -> Any:
        head = read_head(path, stream)
        os.truncate(path, len(data) - 40)
        return head

    monkeypatch.setattr(gguf_file, "read_head", head_then_cut)
    assert refusal(path, data).key == "file_unreadable"


def test_without_the_library_the_install_line_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf_file, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'manako\[gguf\]'") as caught:
        read_gguf(tmp_path / "m.gguf")
    assert caught.value.exit_code == 5


# --- metadata and tensors that contradict each other (F16, F17) -------------------------------------------------------


def changed(metadata: dict[str, Any] | None = None, without: str = "", tensors: Any = None, **config: Any) -> bytes:
    """The toy file with some metadata replaced, one key left out, or its list of tensors rewritten."""
    made, weights, _ = toy_file(**config)
    pairs = llama_metadata(made) | spm_metadata() | (metadata or {})
    pairs = {k: v for k, v in pairs.items() if k != without}
    listed = float_tensors(made, weights)
    return gguf_bytes(pairs, tensors(listed) if tensors else listed)


def reshaped(name: str, dims: tuple[int, ...]) -> Any:
    return lambda listed: [zeros(name, dims) if t.name == name else t for t in listed]


CONTRADICTIONS: dict[str, tuple[str, bytes, str]] = {  # name: (error key, file, what the message names)
    "architecture": ("gguf_architecture", changed({"general.architecture": "gemma3"}), "gemma3"),
    "no architecture": ("gguf_architecture", changed(without="general.architecture"), "None"),
    "architecture a number": ("gguf_architecture", changed({"general.architecture": 7}), "7"),
    "architecture a list": ("gguf_architecture", changed({"general.architecture": ["llama"]}), "llama"),
    "part of a model": ("gguf_split", changed({"split.count": 3}), "llama-gguf-split"),
    "no layers key": ("gguf_missing", changed(without="llama.block_count"), "llama.block_count"),
    "no heads key": ("gguf_missing", changed(without="llama.attention.head_count"), "llama.attention.head_count"),
    "heads a truth value": ("gguf_value", changed({"llama.attention.head_count": True}), "head_count"),
    "heads a list": ("gguf_value", changed({"llama.attention.head_count": [2, 2]}), "head_count"),
    "no heads": ("gguf_config", changed({"llama.attention.head_count": 0}), "num_attention_heads"),
    "2^32 - 1 layers": ("gguf_config", changed({"llama.block_count": 2**32 - 1}), "num_hidden_layers"),
    "more layers": ("tensor_missing", changed({"llama.block_count": 2}), "blk.1."),
    "fewer layers": ("gguf_extra", changed({"llama.block_count": 1}, n_layer=2), "blk.1."),
    "width": ("gguf_shape", changed({"llama.embedding_length": 6}), "[11, 6]"),
    "kv heads": ("gguf_config", changed({"llama.attention.head_count_kv": 3}), "num_key_value_heads"),
    "kv heads in shape": ("gguf_shape", changed({"llama.attention.head_count_kv": 2}), "attn_k"),
    "odd head": ("gguf_value", changed({"llama.attention.key_length": 3}), "value_length"),
    "part of a head turned": ("gguf_value", changed({"llama.rope.dimension_count": 1}), "rope.dimension_count"),
    "vocabulary": ("gguf_value", changed({"llama.vocab_size": 12}), "llama.vocab_size"),
    "unknown key": ("gguf_value", changed({"llama.logit_scale": 2.0}), "llama.logit_scale"),
    "experts": ("gguf_value", changed({"llama.expert_count": 8}), "llama.expert_count"),
    "epsilon 0": ("gguf_config", changed({"llama.attention.layer_norm_rms_epsilon": 0.0}), "rms_norm_eps"),
    "epsilon NaN": ("gguf_config", changed({"llama.attention.layer_norm_rms_epsilon": math.nan}), "rms_norm_eps"),
    "RoPE base NaN": ("gguf_config", changed({"llama.rope.freq_base": math.nan}), "rope_theta"),
    "RoPE kind": ("gguf_value", changed({"llama.rope.scaling.type": "longrope"}), "longrope"),
    "RoPE without factor": ("gguf_missing", changed({"llama.rope.scaling.type": "linear"}), "rope.scaling.factor"),
    "frequencies": ("gguf_value", changed(tensors=lambda t: [*t, zeros("rope_freqs.weight", (1,))]), "rope_freqs"),
    "frequencies shape": ("gguf_shape", changed(tensors=lambda t: [*t, zeros("rope_freqs.weight", (1, 1))]), "rope_f"),
    "missing tensor": ("tensor_missing", changed(tensors=lambda t: [t[0], *t[2:]]), "blk.0.attn_norm.weight"),
    "no embedding": ("tensor_missing", changed(tensors=lambda t: t[1:]), "token_embd.weight"),
    "extra tensor": ("gguf_extra", changed(tensors=lambda t: [*t, zeros("blk.0.ffn_gate_inp.weight")]), "gate_inp"),
    "bias in one layer": ("gguf_extra", changed(tensors=lambda t: [*t, zeros("blk.0.attn_k.bias", (2,))]), "attn_k"),
    "transposed": ("gguf_shape", changed(tensors=reshaped("blk.0.ffn_up.weight", (6, 4))), "[4, 6]"),
    "another axis": ("gguf_shape", changed(tensors=reshaped("output_norm.weight", (4, 1))), "[1, 4]"),
    "start outside": ("gguf_value", changed({"tokenizer.ggml.bos_token_id": 11}), "bos_token_id"),
    "end outside": ("gguf_value", changed({"tokenizer.ggml.eos_token_id": 2**31}), "eos_token_id"),
    "end not whole": ("gguf_value", changed({"tokenizer.ggml.eos_token_id": 2.0}), "eos_token_id"),
    "start flag": ("gguf_value", changed({"tokenizer.ggml.add_bos_token": 1}), "add_bos_token"),
    "template": ("gguf_value", changed({"tokenizer.chat_template": 1}), "chat_template"),
    "fewer rows than tokens": (
        "vocab_mismatch",
        changed({"llama.vocab_size": 9}, tensors=reshaped("token_embd.weight", (4, 9))),
        "11",
    ),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_each_contradiction_is_named(tmp_path: Path, name: str) -> None:
    key, data, named = CONTRADICTIONS[name]
    error = refusal(tmp_path / "m.gguf", data)
    assert error.key == key and named in str(error)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_named(tmp_path: Path, bad: float) -> None:
    config, weights, _ = toy_file()
    weights["layers.0.mlp.up_proj.weight"][2, 1] = bad
    data = gguf_bytes(llama_metadata(config) | spm_metadata(), float_tensors(config, weights))
    error = refusal(tmp_path / "m.gguf", data)
    assert (error.key, error.values["tensor"]) == ("tensor_not_finite", "blk.0.ffn_up.weight")
    assert (error.values["count"], error.values["index"]) == ("1", "(2, 1)")


def test_a_scale_that_is_not_finite_is_named_without_a_warning(tmp_path: Path) -> None:
    config = toy_llama(n_embd=32, n_mlp=32)
    tensors = float_tensors(config, toy_llama_weights(config))
    nan = np.full(1, np.nan, np.float16).tobytes() + bytes(32)
    tensors = [
        replace(t, kind=8, data=nan * math.prod(t.dims[1:])) if t.name == "blk.0.ffn_up.weight" else t for t in tensors
    ]
    error = refusal(tmp_path / "m.gguf", gguf_bytes(llama_metadata(config) | spm_metadata(), tensors))
    assert (error.key, error.values["count"]) == ("tensor_not_finite", str(32 * 32))


def test_keys_that_change_nothing_are_no_obstacle(tmp_path: Path) -> None:
    harmless = {"llama.expert_count": 0, "llama.attention.causal": True, "llama.rope.scaling.finetuned": True}
    harmless |= {"general.file_type": 3, "quantize.imatrix.file": "x", "llama.rope.scaling.attn_factor": 1.0}
    assert opened(tmp_path / "m.gguf", changed(harmless)).config == toy_llama()


@pytest.mark.parametrize(("metadata", "rope"), [
    ({"llama.rope.scaling.type": "none"}, Rope()),
    ({"llama.rope.scaling.type": "none", "llama.rope.scaling.factor": 4.0}, Rope()),
    ({"llama.rope.scaling.factor": 4.0}, Rope("linear", factor=4.0)),
    ({"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}, Rope("linear", factor=4.0)),
    (
        {
            "llama.rope.scaling.type": "yarn",
            "llama.rope.scaling.factor": 4.0,
            "llama.rope.scaling.original_context_length": 4096,
        },
        Rope("yarn", factor=4.0, original_context=4096, attention_factor=0.1 * math.log(4) + 1),
    ),
])  # fmt: skip
def test_scaled_rope(tmp_path: Path, metadata: dict[str, Any], rope: Rope) -> None:
    assert opened(tmp_path / "m.gguf", changed(metadata)).config == toy_llama(rope=rope)


def llama3_divisors(factor: float, high: float = 4.0) -> np.ndarray:
    """What llama.cpp's converter writes. Source: `generate_extra_tensors` in its convert_hf_to_gguf.py."""
    divisors = []
    for frequency in 1.0 / 500_000.0 ** (np.arange(0, 64, 2, dtype=np.float32) / 64):
        wavelength = 2 * math.pi / float(frequency)
        if wavelength < 8192 / high:
            divisors.append(1.0)
        elif wavelength > 8192:
            divisors.append(factor)
        else:
            smooth = (8192 / wavelength - 1) / (high - 1)
            divisors.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(divisors, dtype=np.float32)


@pytest.mark.parametrize(("divisors", "factor"), [
    (llama3_divisors(8), 8.0),
    (llama3_divisors(32), 32.0),
    (llama3_divisors(8, high=4.01), None),
    (llama3_divisors(8) * np.float32(1.001), None),
    (llama3_divisors(8)[:31], None),
    (llama3_divisors(8) * np.nan, None),
])  # fmt: skip
def test_the_frequencies_of_llama_3_are_recognised_or_refused(
    tmp_path: Path, divisors: np.ndarray, factor: float | None
) -> None:
    tensor = Tensor("rope_freqs.weight", divisors.shape, 0, divisors.tobytes())
    rope = Rope(theta=500_000.0)
    shape = {"tensors": lambda listed: [tensor, *listed], "head_size": 64, "rope": rope}
    data, both = changed(**shape), changed({"llama.rope.scaling.factor": 2.0}, **shape)
    assert refusal(tmp_path / "m.gguf", both).values["name"] == "llama.rope.scaling.factor"
    if factor is None:
        assert refusal(tmp_path / "m.gguf", data).values["name"] == "rope_freqs.weight"
        return
    model = opened(tmp_path / "m.gguf", data)
    expected = Rope("llama3", theta=500_000.0, factor=factor, original_context=8192)
    assert isinstance(model.config, type(toy_llama())) and model.config.rope == expected


def test_a_sliding_window_is_the_context_and_said(tmp_path: Path) -> None:
    model = opened(tmp_path / "m.gguf", changed({"llama.attention.sliding_window": 7}))
    assert model.config.block_size == 7 and "notice.gguf_window" in dict(model.notices)
    model = opened(tmp_path / "m.gguf", changed({"llama.attention.sliding_window": 70}))
    assert model.config.block_size == 16 and "notice.gguf_window" not in dict(model.notices)


@pytest.mark.slow
def test_a_chat_template_is_text_and_is_never_run(tmp_path: Path) -> None:
    template = "{{ ''.__class__.__mro__ }}{% for i in range(10**12) %}x{% endfor %}"
    (tmp_path / "m.gguf").write_bytes(changed({"tokenizer.chat_template": template}))
    code = """
import json, sys
from pathlib import Path
from manako.formats.gguf import read_gguf
model = read_gguf(Path(sys.argv[1]))
print(json.dumps([model.chat_template, [key for key, _ in model.notices], "jinja2" in sys.modules]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "m.gguf")], capture_output=True, text=True, check=True
    )
    shown, notices, run = json.loads(done.stdout)
    assert (shown, run) == (template, False) and "notice.chat_template" in notices


def test_weights_larger_than_the_machine_are_refused_before_any_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packed weights become eight times as large in float32."""
    monkeypatch.setattr(gguf_file, "_tensors", lambda *_: pytest.fail("room was made for the weights"))
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 1, "SC_PAGE_SIZE": 512}.__getitem__)
    error = refusal(tmp_path / "m.gguf", toy_file()[2])
    assert error.key == "model_too_large" and error.values["have"] == "0.5 kB"


@pytest.mark.slow
def test_the_weights_take_little_more_than_float32(tmp_path: Path) -> None:
    """The peak of a process that opens 34 million numbers in Q8_0, above that of one that opens 17 million."""
    code = f"""{PEAK}
import sys
from pathlib import Path
from manako.formats.gguf import read_gguf
model = read_gguf(Path(sys.argv[1]))
print(peak(), sum(t.nbytes for t in model.tensors.values()))
"""
    measured: list[list[int]] = []
    block = np.ones(1, np.float16).tobytes() + bytes(range(32))
    for rows in (1 << 14, 1 << 15):
        config = toy_llama(n_embd=1024, vocab_size=rows, tie_word_embeddings=True)
        names = llama.FAMILY.gguf.names
        others = [
            zeros(stored_name(names, n), s[::-1]) for n, s in config.parameters().items() if n != "embed_tokens.weight"
        ]
        embedding = Tensor("token_embd.weight", (1024, rows), 8, block * (rows * 32))
        (tmp_path / "m.gguf").write_bytes(gguf_bytes(llama_metadata(config) | spm_metadata(), [embedding, *others]))
        command = [sys.executable, "-c", code, str(tmp_path / "m.gguf")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        measured.append([int(n) for n in done.stdout.split()])
    (small_peak, small), (large_peak, large) = measured
    assert large_peak - small_peak < 1.3 * (large - small)  # the check for finite numbers takes a byte of each
