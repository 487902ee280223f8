"""A model folder of the Llama family as others write it: in one file or several, with what stands beside it, or bad."""

import json
import os
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from toy import same_tensors, toy_tokenizer
from toy_llama import config_json, toy_llama_config, write_toy_llama

import manako
from manako.errors import LoadError
from manako.families.rope import Rope
from manako.formats import model_folder
from manako.formats.model_folder import INDEX, WEIGHTS, read_checkpoint

SPECIAL = "<|endoftext|>"  # the toy tokenizer's id 0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_toy_llama(tmp_path / "m")
    return tmp_path / "m"


def refused(folder: Path, key: str) -> LoadError:
    with pytest.raises(LoadError) as caught:
        read_checkpoint(folder)
    error = caught.value
    assert error.key == key, str(error)
    assert error.exit_code == 3 and "\n" not in str(error) and error.text("ja")
    return error


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def stored(folder: Path) -> dict[str, np.ndarray]:
    return safetensors.numpy.load_file(folder / WEIGHTS)


def shard(folder: Path, count: int = 3, **moved: str) -> dict[str, str]:
    """Write the tensors as `count` files and an index; moved: other entries of the index."""
    tensors = stored(folder)
    (folder / WEIGHTS).unlink()
    placed = {}
    for i in range(count):
        name = f"model-{i + 1:05}-of-{count:05}.safetensors"
        part = {n: tensors[n] for n in sorted(tensors)[i::count]}
        safetensors.numpy.save_file(part, folder / name, {"format": "pt"})
        placed |= dict.fromkeys(part, name)
    write_index(folder, placed | moved)
    return placed


def write_index(folder: Path, placed: Any) -> None:
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": placed}), encoding="utf-8")


# --- what is read -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [
    {},
    {"tie_word_embeddings": True, "end_ids": (0, 5)},
    {"attention_bias": True, "output_bias": True, "mlp_bias": True, "n_kv_head": 1},
], ids=str)  # fmt: skip
def test_a_folder_in_one_file(tmp_path: Path, changes: dict[str, Any]) -> None:
    weights = write_toy_llama(tmp_path / "m", **changes)
    read = read_checkpoint(tmp_path / "m")
    assert read.config == toy_llama_config(**changes) and same_tensors(read.tensors, weights)
    assert [key for key, _ in read.notices] == ["notice.unverifiable"] and read.chat_template is None
    assert read.stored_dtype == "float32" and len(read.fingerprint) == 64


def test_a_folder_in_several_files_is_the_same_model(folder: Path) -> None:
    whole = read_checkpoint(folder)
    shard(folder)
    read = read_checkpoint(folder)
    assert same_tensors(read.tensors, whole.tensors) and read.fingerprint == whole.fingerprint
    assert read.notices == (("notice.unverifiable", {"file": folder / INDEX}),)


def test_one_whole_file_counts_before_an_index(folder: Path) -> None:
    whole = read_checkpoint(folder)
    write_index(folder, {"x": "nowhere.safetensors"})
    assert read_checkpoint(folder).fingerprint == whole.fingerprint


def test_frequencies_in_old_files_are_checked_and_left_out(folder: Path) -> None:
    """Files of 2023 hold them in every layer; theta comes from config.json alone."""
    tensors, before = stored(folder), read_checkpoint(folder)
    name = "model.layers.1.self_attn.rotary_emb.inv_freq"
    for dtype in (np.float32, np.float16):
        kept = tensors | {name: Rope().frequencies(6).astype(dtype)}
        safetensors.numpy.save_file(kept, folder / WEIGHTS)
        assert read_checkpoint(folder).fingerprint == before.fingerprint
    shard(folder)
    assert read_checkpoint(folder).fingerprint == before.fingerprint
    for other in (
        Rope(theta=500.0).frequencies(6),
        np.ones(4, np.float32),
        np.ones(3, np.int32),
        np.float32([1, np.nan, 0]),
    ):
        safetensors.numpy.save_file(tensors | {name: other}, folder / WEIGHTS)
        key = (
            "tensor_not_finite" if other.dtype == np.float32 and not np.isfinite(other).all() else "tensor_frequencies"
        )
        assert refused(folder, key).values["tensor"] == name


@pytest.mark.parametrize(("mine", "generation", "expected"), [
    (0, None, (0,)),
    (None, {"eos_token_id": [3, 4]}, (3, 4)),
    (0, {"eos_token_id": [3, 0]}, (0, 3)),
    ([1, 2], {"temperature": 0.6}, (1, 2)),
    ([-1, 2, 9999, "3", True], {"eos_token_id": 4}, (2, 4)),
], ids=str)  # fmt: skip
def test_ids_that_end_a_document_come_from_both_files(folder: Path, mine: Any, generation: Any, expected: Any) -> None:
    edit(folder / "config.json", eos_token_id=mine)
    if generation is not None:
        (folder / "generation_config.json").write_text(json.dumps(generation))
    assert read_checkpoint(folder).config.end_ids == expected


def template(*front: str) -> dict[str, Any]:
    special = {
        name: {"id": name, "ids": [toy_tokenizer().token_bytes.index(name.encode())], "tokens": [name]}
        for name in front
    }
    pieces = [{"SpecialToken": {"id": name, "type_id": 0}} for name in front]
    single = [*pieces, {"Sequence": {"id": "A", "type_id": 0}}]
    return {"type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": special}


BERT = {"type": "BertProcessing", "sep": [SPECIAL, 0], "cls": ["あ", 260]}


@pytest.mark.parametrize(("processor", "add", "bos", "front", "told"), [
    (None, None, 0, (), []),  # as with Qwen2: a start token that no text ever begins with
    (None, False, 0, (), []),
    (None, True, 0, (), ["front_differs"]),
    (template(SPECIAL), None, 0, (0,), []),
    (template(SPECIAL), None, None, (0,), []),
    (template(SPECIAL), True, 0, (0,), []),
    (template(SPECIAL), False, 0, (0,), ["front_differs"]),
    (template(SPECIAL), None, 5, (0,), ["start_differs"]),  # as with DeepSeek-R1-Distill-Qwen
    (template(SPECIAL), None, "0", (0,), ["ids_outside"]),
    (template(SPECIAL, "い"), None, 0, (0, 265), []),
    (template(), None, 0, (), []),
    ({"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}, None, 0, (), []),
    ({"type": "Sequence", "processors": [template(SPECIAL)]}, None, 5, (0,), ["start_differs"]),
    (BERT, None, None, (260,), []),
], ids=str)  # fmt: skip
def test_what_stands_in_front_of_a_text_is_the_tokenizers(
    folder: Path, processor: Any, add: Any, bos: Any, front: tuple[int, ...], told: list[str]
) -> None:
    edit(folder / "tokenizer.json", post_processor=processor)
    edit(folder / "config.json", bos_token_id=bos)
    named = {"bos_token": {"content": SPECIAL}} | ({} if add is None else {"add_bos_token": add})
    (folder / "tokenizer_config.json").write_text(json.dumps(named))
    model = manako.load(folder)
    assert model.tokenizer.front_ids == front and model.config.start_id == (front[-1] if front else None)
    ids = model.trace("あ", max_new_tokens=1).columns.prompt_ids.tolist()
    assert ids == [*front, *model.tokenizer.encode("あ")]
    assert [key.removeprefix("notice.") for key, _ in model.notices if key != "notice.unverifiable"] == told


@pytest.mark.parametrize("front", [[SPECIAL] * 17, [SPECIAL, "no such token"]], ids=len)
def test_what_can_stand_in_front_of_no_text_is_refused(folder: Path, front: list[str]) -> None:
    made = template(SPECIAL)
    made["special_tokens"]["no such token"] = {"id": "no such token", "ids": [999], "tokens": ["no such token"]}
    made["single"] = [{"SpecialToken": {"id": name, "type_id": 0}} for name in front] + made["single"]
    edit(folder / "tokenizer.json", post_processor=made)
    assert "in front of a text" in str(refused(folder, "tokenizer_unreadable"))


HOSTILE = "{{ ''.__class__.__mro__[1].__subclasses__() }}{% for m in messages %}{{ m['content'] }}{% endfor %}"


@pytest.mark.parametrize(("wrapper", "file", "expected"), [
    ({"chat_template": HOSTILE}, None, HOSTILE),
    ({"chat_template": HOSTILE}, "眼 {{ x }}", "眼 {{ x }}"),
    ({}, HOSTILE, HOSTILE),
    ({"chat_template": [{"name": "tool", "template": "a"}, {"name": "default", "template": "b"}]}, None, "b"),
    ({"chat_template": [{"name": "tool", "template": "a"}, 5]}, None, None),
    ({"chat_template": {"name": "default"}}, None, None),
    ({"chat_template": None}, None, None),
    ({"chat_template": "x" * (2**20 + 1)}, None, None),
    (None, None, None),
], ids=lambda v: str(v)[:30])  # fmt: skip
def test_a_chat_template_is_kept_as_text(folder: Path, wrapper: Any, file: str | None, expected: str | None) -> None:
    if wrapper is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(wrapper), encoding="utf-8")
    if file is not None:
        (folder / "chat_template.jinja").write_text(file, encoding="utf-8")
    read = read_checkpoint(folder)
    assert read.chat_template == expected
    assert ("notice.chat_template" in [key for key, _ in read.notices]) == (expected is not None)


@pytest.mark.parametrize("name", ["generation_config.json", "tokenizer_config.json", "chat_template.jinja"])
def test_what_stands_beside_the_model_is_checked_as_well(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / name).write_bytes(b"\xff{")
    refused(folder, "file_unreadable" if name.endswith("jinja") else "json_invalid")
    (folder / name).write_bytes(b" " * (17 * 2**20))
    refused(folder, "file_too_large")
    (folder / name).unlink()
    (folder / name).mkdir()
    refused(folder, "file_is_folder")
    (folder / name).rmdir()
    (tmp_path / "outside").write_text("{}")
    (folder / name).symlink_to(tmp_path / "outside")
    refused(folder, "link_outside")


# --- bad weights ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize(("change", "key", "tensor"), [
    (lambda t: t.pop("model.layers.1.mlp.up_proj.weight"), "tensor_missing", "layers.1.mlp.up_proj.weight"),
    (lambda t: t.pop("lm_head.weight"), "tensor_missing", "lm_head.weight"),
    (lambda t: t.update({"model.layers.2.mlp.up_proj.weight": np.ones(3, np.float32)}), "tensor_extra", "layers.2"),
    (lambda t: t.update({"model.layers.0.self_attn.q_proj.bias": np.ones(24, np.float32)}), "tensor_extra", "q_proj"),
    (lambda t: t.update({"norm.weight": t["model.norm.weight"].copy()}), "tensor_extra", "norm.weight"),
    (lambda t: t.update({"transformer.h.0.attn.bias": np.ones((1, 1), np.float32)}), "tensor_extra", "transformer"),
    (lambda t: t.update({"model.norm.weight": np.ones(13, np.float32)}), "tensor_shape", "norm.weight"),
    (
        lambda t: t.update(
            {"model.layers.0.mlp.up_proj.weight": t["model.layers.0.mlp.up_proj.weight"].T.copy()}
        ),
        "tensor_shape",
        "layers.0.mlp.up_proj.weight",
    ),
    (lambda t: t.update({"model.norm.weight": np.ones(12, np.float64)}), "tensor_dtype", "model.norm.weight"),
    (lambda t: t.update({"model.norm.weight": np.ones(12, np.int8)}), "tensor_dtype", "model.norm.weight"),
    (lambda t: t.update({"model.norm.weight": np.ones((0, 12), np.float32)}), "tensor_empty", "model.norm.weight"),
    (lambda t: t["model.norm.weight"].__setitem__(7, np.nan), "tensor_not_finite", "model.norm.weight"),
    (lambda t: t["model.embed_tokens.weight"].__setitem__((3, 4), -np.inf), "tensor_not_finite", "embed_tokens"),
], ids=lambda v: v if isinstance(v, str) else "")  # fmt: skip
def test_weights_that_do_not_fit(folder: Path, change: Any, key: str, tensor: str, sharded: bool) -> None:
    tensors = stored(folder)
    change(tensors)
    safetensors.numpy.save_file(tensors, folder / WEIGHTS)
    if sharded:
        shard(folder)
    error = refused(folder, key)
    assert tensor in error.values["tensor"]
    if key == "tensor_not_finite":
        assert error.values["count"] == "1" and error.values["index"] in ("(7,)", "(3, 4)")
    if key == "tensor_shape" and "up_proj" in tensor:
        assert (error.values["found"], error.values["expected"]) == ("[12, 20]", "[20, 12]")


def test_tied_and_untied_at_once(folder: Path) -> None:
    edit(folder / "config.json", tie_word_embeddings=True)
    error = refused(folder, "tensor_untied")
    assert error.values["embedding"] == "embed_tokens.weight"
    tensors = stored(folder)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()  # some writers store it twice
    safetensors.numpy.save_file(tensors, folder / WEIGHTS)
    assert "lm_head.weight" not in read_checkpoint(folder).tensors
    tensors["lm_head.weight"] = tensors["lm_head.weight"][:9].copy()
    safetensors.numpy.save_file(tensors, folder / WEIGHTS)
    refused(folder, "tensor_shape")


@pytest.mark.parametrize("model_type", ["qwen3", "gemma3", "phi3", "mixtral", "llama4", "Llama", None, ["llama"]])
def test_another_architecture_is_refused_by_name(folder: Path, model_type: Any) -> None:
    edit(folder / "config.json", model_type=model_type, auto_map={"AutoModelForCausalLM": "modeling_x.Evil"})
    (folder / "modeling_x.py").write_text("raise SystemExit('it ran')")
    error = refused(folder, "model_type_unknown")
    assert str(model_type) in str(error) and "hf:" in str(error)


def test_a_family_with_other_biases_is_noticed(folder: Path) -> None:
    edit(folder / "config.json", model_type="qwen2")
    refused(folder, "tensor_missing")


def test_a_tokenizer_that_does_not_fit(folder: Path) -> None:
    edit(folder / "config.json", vocab_size=200)
    assert refused(folder, "vocab_mismatch").values["rows"] == "200"
    edit(folder / "config.json", vocab_size=300)
    refused(folder, "tensor_shape")


def test_remote_code_is_named_and_not_run(folder: Path) -> None:
    edit(folder / "config.json", auto_map={"AutoModelForCausalLM": "modeling_x.Evil"}, trust_remote_code=True)
    (folder / "modeling_x.py").write_text("raise SystemExit('it ran')")
    names = dict(read_checkpoint(folder).notices)["notice.ignored_keys"]["names"]
    assert names == "auto_map, trust_remote_code"


@pytest.mark.parametrize("name", ["training_args.bin", "consolidated.00.pth", "model.pt"])
def test_a_folder_of_pickles(folder: Path, name: str) -> None:
    (folder / WEIGHTS).rename(folder / name)
    assert name in str(refused(folder, "folder_only_pickles"))


# --- bad indexes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [
    "../model.safetensors",
    "/etc/passwd.safetensors",
    "a/b.safetensors",
    "a\\b.safetensors",
    "c:x.safetensors",
    "a\0.safetensors",
    "model.bin",
    "",
    "..",
    None,
    5,
    ["model.safetensors"],
], ids=repr)  # fmt: skip
def test_an_index_that_leads_elsewhere(folder: Path, name: Any) -> None:
    (folder.parent / "model.safetensors").write_bytes((folder / WEIGHTS).read_bytes())
    (folder / WEIGHTS).unlink()
    write_index(folder, {"model.norm.weight": name})
    refused(folder, "shard_index")


def test_a_shard_that_is_a_link_outside(folder: Path, tmp_path: Path) -> None:
    placed = shard(folder)
    name = placed["lm_head.weight"]
    (folder / name).rename(tmp_path / "outside.safetensors")
    (folder / name).symlink_to(tmp_path / "outside.safetensors")
    assert name in str(refused(folder, "link_outside"))
    (folder / name).unlink()
    assert name in str(refused(folder, "file_missing"))
    os.mkfifo(folder / name)
    refused(folder, "file_not_regular")
    (folder / INDEX).rename(tmp_path / "index")
    (folder / INDEX).symlink_to(tmp_path / "index")
    assert INDEX in str(refused(folder, "link_outside"))


@pytest.mark.slow
def test_a_million_shards_are_refused_in_no_time(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    entries = ",".join(f'"t{i}":"{i}.safetensors"' for i in range(10**6))
    (folder / INDEX).write_text('{"weight_map":{' + entries + "}}")
    began = time.process_time()
    refused(folder, "file_too_large")
    assert time.process_time() - began < 5
    write_index(folder, {f"t{i}": f"{i}.safetensors" for i in range(1001)})
    assert "1001" in str(refused(folder, "shard_index"))


@pytest.mark.parametrize(
    "index", ["", "[]", "{}", '{"weight_map": {}}', '{"weight_map": []}', '{"weight_map": null}', "{"]
)
def test_an_index_that_is_none(folder: Path, index: str) -> None:
    (folder / WEIGHTS).unlink()
    (folder / INDEX).write_text(index)
    refused(folder, "shard_index" if "}" in index else "json_invalid")


def test_an_index_that_contradicts_its_files(folder: Path) -> None:
    placed = shard(folder)
    names = sorted(set(placed.values()))
    norm = "model.norm.weight"
    other = next(name for name in names if name != placed[norm])
    write_index(folder, placed | {norm: other})
    assert refused(folder, "tensor_elsewhere").values["tensor"] == norm
    write_index(folder, {n: f for n, f in placed.items() if n != norm})
    assert refused(folder, "tensor_elsewhere").values["tensor"] == norm
    write_index(folder, placed | {"model.more": other})
    error = refused(folder, "tensor_missing")
    assert error.values["tensor"] == "model.more" and other in str(error)


def test_a_tensor_in_two_files(folder: Path) -> None:
    placed = shard(folder)
    first, second = sorted(set(placed.values()))[:2]
    norm = next(n for n, f in placed.items() if f == first)
    tensors = safetensors.numpy.load_file(folder / second)
    safetensors.numpy.save_file(tensors | safetensors.numpy.load_file(folder / first), folder / second)
    error = refused(folder, "tensor_twice")
    assert second in str(error) and first in str(error) and norm in placed


@pytest.mark.parametrize("size", [0, 7, 50, -1])
def test_a_shard_cut_short(folder: Path, size: int) -> None:
    name = sorted(set(shard(folder).values()))[1]
    (folder / name).write_bytes((folder / name).read_bytes()[:size])
    with pytest.raises(LoadError) as caught:
        read_checkpoint(folder)
    assert caught.value.key in ("safetensors_damaged", "file_unreadable") and name in str(caught.value)


# --- F15: bounded memory ----------------------------------------------------------------------------------------------


def test_a_shape_larger_than_the_machine_is_refused_before_anything_is_read(folder: Path) -> None:
    edit(folder / "config.json", hidden_size=65_536, intermediate_size=1_000_000, num_hidden_layers=1000, head_dim=64)
    began = time.process_time()
    error = refused(folder, "model_too_large")
    assert time.process_time() - began < 5 and "GB" in error.values["need"]


def test_nothing_is_read_before_every_shape_is_known_to_fit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(self: Any) -> Any:
        raise AssertionError("a tensor was read")

    monkeypatch.setattr("manako.formats.tensor_files.Stored.read", read)
    edit(folder / "config.json", intermediate_size=21)
    refused(folder, "tensor_shape")


def test_one_tensor_at_a_time_is_held_twice(tmp_path: Path) -> None:
    """A half-precision file of 5.2 MB becomes 10.5 MB; the peak beside that is that of one tensor."""
    config = toy_llama_config(n_layer=20, n_embd=128, n_mlp=256, head_size=32, tie_word_embeddings=True)
    (tmp_path / "config.json").write_text(json.dumps(config_json(config)))
    (tmp_path / "tokenizer.json").write_text(toy_tokenizer().source, encoding="utf-8")
    tensors = {f"model.{n}": np.ones(shape, np.float16) for n, shape in config.parameters().items()}
    safetensors.numpy.save_file(tensors, tmp_path / WEIGHTS)
    size = 2 * sum(t.nbytes for t in tensors.values())
    del tensors
    read_checkpoint(tmp_path)  # what is made once, is made
    tracemalloc.start()
    read = read_checkpoint(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sum(t.nbytes for t in read.tensors.values()) == size > 10e6 and peak < 1.15 * size


def test_a_folder_of_absurd_size(folder: Path) -> None:
    name = sorted(set(shard(folder).values()))[0]
    with (folder / name).open("r+b") as stream:
        stream.truncate(2**36)  # sparse: takes no room
    began = time.process_time()
    refused(folder, "file_too_large")
    assert time.process_time() - began < 5


def test_a_file_that_changes_while_it_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = model_folder._read_tensors

    def cut(*given: Any) -> Any:
        with (folder / WEIGHTS).open("r+b") as stream:
            stream.truncate(3000)
        return original(*given)

    monkeypatch.setattr(model_folder, "_read_tensors", cut)
    refused(folder, "safetensors_damaged")
