"""nanoGPT's checkpoints: what its own scripts save opens with the same numbers, all else is refused by name."""

import json
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from manako.errors import LoadError
from manako.families.gpt2 import NumpyGPT2
from manako.formats.model_folder import read_checkpoint
from manako.formats.pt_file import import_pt, read_pt
from manako.tokenizer import train_byte_bpe

torch: Any = pytest.importorskip("torch")
CHARACTERS = "\n abいう"
SHAPE = {"n_layer": 2, "n_head": 2, "n_embd": 8, "block_size": 6, "vocab_size": len(CHARACTERS)}


class GPT(torch.nn.Module):
    """The model, by the description of its names and operations."""

    def __init__(self, bias: bool, vocab_size: int) -> None:
        super().__init__()
        nn, C = torch.nn, SHAPE["n_embd"]
        self.transformer = nn.ModuleDict(
            {"wte": nn.Embedding(vocab_size, C), "wpe": nn.Embedding(SHAPE["block_size"], C), "h": nn.ModuleList()}
        )
        for _ in range(SHAPE["n_layer"]):
            attn = {"c_attn": nn.Linear(C, 3 * C, bias=bias), "c_proj": nn.Linear(C, C, bias=bias)}
            mlp = {"c_fc": nn.Linear(C, 4 * C, bias=bias), "c_proj": nn.Linear(4 * C, C, bias=bias)}
            norms = {name: nn.LayerNorm(C, bias=bias) for name in ("ln_1", "ln_2")}
            block = nn.ModuleDict({**norms, "attn": nn.ModuleDict(attn), "mlp": nn.ModuleDict(mlp)})
            self.transformer["h"].append(block)
        self.transformer["ln_f"] = nn.LayerNorm(C, bias=bias)
        self.lm_head = nn.Linear(C, vocab_size, bias=False)
        self.lm_head.weight = self.transformer["wte"].weight
        for p in self.parameters():
            nn.init.normal_(p, std=0.3)

    def forward(self, ids: Any) -> Any:
        t = self.transformer
        x = t["wte"](ids) + t["wpe"](torch.arange(len(ids)))  # [T, C]
        for block in t["h"]:
            q, k, v = (
                part.view(len(ids), SHAPE["n_head"], -1).transpose(0, 1)
                for part in block["attn"]["c_attn"](block["ln_1"](x)).split(SHAPE["n_embd"], dim=1)
            )
            y = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + block["attn"]["c_proj"](y.transpose(0, 1).reshape(len(ids), -1))
            x = x + block["mlp"]["c_proj"](torch.nn.functional.gelu(block["mlp"]["c_fc"](block["ln_2"](x))))
        return self.lm_head(t["ln_f"](x))


def contents(
    bias: bool = False, vocab_size: int = len(CHARACTERS), compiled: bool = True
) -> tuple[dict[str, Any], GPT]:
    """What `train.py` saves after a step, with its optimizer's state, and the model."""
    torch.manual_seed(0)
    model = GPT(bias, vocab_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95))
    model(torch.tensor([0, 1, 2])).square().mean().backward()
    optimizer.step()
    prefix = "_orig_mod." if compiled else ""
    return {
        "model": {prefix + name: tensor for name, tensor in model.state_dict().items()},
        "optimizer": optimizer.state_dict(),
        "model_args": {**SHAPE, "vocab_size": vocab_size, "bias": bias, "dropout": 0.0},
        "iter_num": 250,
        "best_val_loss": torch.tensor(1.4697),
        "config": {"dataset": "shakespeare_char", "learning_rate": 1e-3, "compile": True, "out_dir": "out"},
    }, model


def written(folder: Path, saved: dict[str, Any], meta: bool = True, protocol: int = 4) -> Path:
    folder.mkdir(exist_ok=True)
    torch.save(saved, folder / "ckpt.pt")
    if meta:
        itos = dict(enumerate(CHARACTERS))
        table = {"vocab_size": len(itos), "itos": itos, "stoi": {ch: i for i, ch in itos.items()}}
        (folder / "meta.pkl").write_bytes(pickle.dumps(table, protocol))
    return folder / "ckpt.pt"


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("bias", [False, True])
def test_an_imported_checkpoint_computes_the_same(bias: bool, protocol: int, tmp_path: Path) -> None:
    saved, model = contents(bias, compiled=bias)
    import_pt(written(tmp_path / "out", saved, protocol=protocol), tmp_path / "new")
    checkpoint = read_checkpoint(tmp_path / "new")
    ours = NumpyGPT2(checkpoint.config, checkpoint.tensors)  # type: ignore[arg-type]
    ids = checkpoint.tokenizer.encode("いa\nう b")
    assert ids == [CHARACTERS.index(ch) for ch in "いa\nう b"]
    with torch.no_grad():
        expected = model(torch.tensor(ids)).numpy()
    assert np.abs(ours.forward(ids, ours.new_cache(), last_only=False) - expected).max() < 1e-5


def test_a_vocabulary_may_be_named(tmp_path: Path) -> None:
    """As GPT-2's for OpenWebText, with a matrix that was padded."""
    tokenizer = train_byte_bpe(["to be or not to be " * 9], 262)
    saved, _ = contents(vocab_size=272)
    import_pt(written(tmp_path / "out", saved, meta=False), tmp_path / "new", tokenizer)
    checkpoint = read_checkpoint(tmp_path / "new")
    assert (checkpoint.config.vocab_size, checkpoint.tokenizer.vocab_size) == (272, 262)
    assert checkpoint.config.start_id == 0 and checkpoint.config.end_ids == (0,)


def test_without_a_vocabulary_it_is_said_where_one_is(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="data/shakespeare_char/meta.pkl into its folder, or .* --tokenizer"):
        read_pt(written(tmp_path / "out", contents()[0], meta=False))


def with_mask(saved: dict[str, Any], mask: Any) -> None:
    saved["model"]["_orig_mod.transformer.h.0.attn.bias"] = mask.view(1, 1, 6, 6)


def test_the_mask_of_an_older_torch_is_checked_and_left_out(tmp_path: Path) -> None:
    saved, _ = contents()
    with_mask(saved, torch.ones(6, 6).tril())
    assert "h.0.attn.bias" not in read_pt(written(tmp_path, saved)).tensors


LIES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "heads": (lambda c: c["model_args"].update(n_head=3), "model_args.n_embd is 8, expected: k * n_head (3)"),
    "layers": (lambda c: c["model_args"].update(n_layer=3), "h.2.ln_1.weight is missing"),
    "fewer layers": (lambda c: c["model_args"].update(n_layer=1), "'h.1.attn.c_attn.weight' is not part"),
    "no number": (lambda c: c["model_args"].update(n_layer="2"), "model_args.n_layer is '2', expected: int"),
    "no bias": (lambda c: c["model_args"].update(bias=True), "h.0.ln_1.bias is missing"),
    "a bias more": (lambda c: c["model"].update({"transformer.ln_f.bias": torch.ones(8)}), "ln_f.bias"),
    "a setting of a fork": (lambda c: c["model_args"].update(n_kv_head=1), "model_args: 'n_kv_head'"),
    "shape": (lambda c: c["model_args"].update(block_size=7), "wpe.weight shape is '(6, 8)', expected: (7, 8)"),
    "vocabulary": (lambda c: c["model_args"].update(vocab_size=4), "vocab_size is 4, expected: 6"),
    "a name twice": (lambda c: c["model"].update({"lm_head.weight": torch.ones(6, 8)}), "'lm_head.weight'"),
    "head of its own": (
        lambda c: c["model"].update({"_orig_mod.lm_head.weight": torch.ones(6, 8)}),
        "lm_head.weight differs from transformer.wte.weight",
    ),
    "not finite": (lambda c: c["model"]["_orig_mod.transformer.ln_f.weight"].fill_(math.nan), "ln_f.weight"),
    "whole numbers": (
        lambda c: c["model"].update({"_orig_mod.transformer.ln_f.weight": torch.ones(8, dtype=torch.long)}),
        "I64",
    ),
    "a view": (
        lambda c: c["model"].update({"_orig_mod.transformer.ln_f.weight": torch.ones(20)[:8]}),
        "ln_f.weight is not one whole block",
    ),
    "no tensor": (lambda c: c["model"].update({"_orig_mod.transformer.ln_f.weight": 3}), "is no tensor"),
    "a mask that looks ahead": (lambda c: with_mask(c, torch.ones(6, 6)), "causal mask"),
    "no table": (lambda c: c.update(model=[]), "model is list"),
}


@pytest.mark.parametrize("kind", LIES)
def test_a_checkpoint_that_lies_is_refused(kind: str, tmp_path: Path) -> None:
    saved, _ = contents()
    change, said = LIES[kind]
    change(saved)
    with pytest.raises(LoadError) as caught:
        read_pt(written(tmp_path, saved))
    assert said in str(caught.value) and str(caught.value).isprintable()


class Touches:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("manako_was_here"),)


@pytest.mark.parametrize("table, said", [
    (Touches(), "nothing in it was run"),
    ([1], "itos is None"),
    ({"itos": {0: "ab"}, "stoi": {"ab": 0}}, "itos[0] is 'ab', expected: one character"),
    ({"itos": {1: "a"}, "stoi": {"a": 1}}, "itos[0] is None"),
    ({"itos": {0: "a"}, "stoi": {"a": 1}}, "stoi is dict, expected: the same as itos"),
    ({"itos": {0: "a"}}, "stoi is None"),
    ({"itos": {}, "stoi": {}}, "itos is dict"),
])  # fmt: skip
def test_a_vocabulary_that_lies_is_refused_and_nothing_in_it_runs(
    table: Any, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path / "out", contents()[0])
    path.with_name("meta.pkl").write_bytes(pickle.dumps(table))
    with pytest.raises(LoadError) as caught:
        read_pt(path)
    assert said in str(caught.value) and "meta.pkl" in str(caught.value)
    assert not Path("manako_was_here").exists()


@pytest.mark.parametrize("name, program", [
    ("transformer.h.0.attn.c_q.weight", "nanochat"),
    ("transformer.h.0.attn.qkv.weight", "litgpt"),
    ("transformer.h.0.attn.c_attn.weight", "minGPT"),
    ("layers.0.attention.wq.weight", "Llama"),
    ("model.layers.0.self_attn.q_proj.weight", "transformers"),
])  # fmt: skip
@pytest.mark.parametrize("wrapped", [False, True])
def test_checkpoints_of_other_programs_are_named(name: str, program: str, wrapped: bool, tmp_path: Path) -> None:
    table = {name: torch.ones(2, 2)}
    torch.save({"model": table} if wrapped else table, tmp_path / "model.pt")
    with pytest.raises(LoadError, match=f"is a checkpoint of {program}, which"):
        read_pt(tmp_path / "model.pt")


# ---- pytorch_model.bin


def as_pickle(folder: Path, parts: int = 1, change: Callable[[dict[str, Any]], Any] = lambda table: None) -> None:
    """The weights of a folder as transformers wrote them before safetensors."""
    from safetensors.torch import load_file

    table = load_file(folder / "model.safetensors")
    change(table)
    (folder / "model.safetensors").unlink()
    names, placed = list(table), dict[str, str]()
    for part in range(parts):
        file = "pytorch_model.bin" if parts == 1 else f"pytorch_model-{part + 1:05}-of-{parts:05}.bin"
        torch.save({name: table[name] for name in names[part::parts]}, folder / file)
        placed |= dict.fromkeys(names[part::parts], file)
    if parts > 1:
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": placed}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    import_pt(written(tmp_path / "out", contents()[0]), tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("parts", [1, 3])
def test_pickled_weights_open_with_the_same_numbers(parts: int, folder: Path) -> None:
    before = read_checkpoint(folder)
    as_pickle(folder, parts)
    after = read_checkpoint(folder)
    assert after.fingerprint == before.fingerprint and after.stored_dtype == "float32"
    assert all(np.array_equal(before.tensors[name], tensor) for name, tensor in after.tensors.items())


def test_safetensors_come_first(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Touches()))
    read_checkpoint(folder)


SPOILED: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "nested": (lambda t: t.update(more={"a": torch.ones(2)}), "more is no tensor"),
    "extra": (lambda t: t.update(more=torch.ones(2)), "more"),
    "a view": (lambda t: t.update({"transformer.ln_f.weight": torch.ones(9)[1:]}), "ln_f.weight is not one whole"),
    "transposed": (
        lambda t: t.update({n: x.T for n, x in t.items() if n.endswith("c_fc.weight")}), "is not one whole block"
    ),
    "hostile": (lambda t: t.update(more=Touches()), "nothing in it was run"),
}  # fmt: skip


@pytest.mark.parametrize("kind", SPOILED)
def test_a_pickle_that_is_no_table_of_the_tensors_is_refused(
    kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    change, said = SPOILED[kind]
    as_pickle(folder, change=change)
    with pytest.raises(LoadError) as caught:
        read_checkpoint(folder)
    assert said in str(caught.value)
    assert not Path("manako_was_here").exists()


def test_a_flipped_bit_in_pickled_weights_is_noticed(folder: Path) -> None:
    as_pickle(folder)
    file = folder / "pytorch_model.bin"
    data, number = file.read_bytes(), read_checkpoint(folder).tensors["ln_f.weight"].tobytes()
    at = data.index(number)
    file.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    with pytest.raises(LoadError, match="CRC-32"):
        read_checkpoint(folder)
