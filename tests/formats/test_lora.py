"""LoRA adapters: merged as the formula has it, and named for what is not merged."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import safetensors.numpy
from toy import write_toy
from toy_llama import write_toy_llama

import manako
from manako.cli import main
from manako.errors import LoadError
from manako.formats.model_folder import read_checkpoint
from manako.refs import Ref

Tensors = dict[str, npt.NDArray[Any]]
PRODUCTS = {  # module -> (in, out)
    "gpt2": {"transformer.h.0.attn.c_attn": (12, 36), "transformer.h.1.mlp.c_fc": (12, 48)},
    "llama": {"model.layers.0.self_attn.q_proj": (12, 24), "model.layers.1.mlp.down_proj": (20, 12)},
}
SETTINGS: dict[str, Any] = {"peft_type": "LORA", "r": 3, "lora_alpha": 6, "init_lora_weights": True, "bias": "none"}


def write_adapter(folder: Path, base: object, kind: str = "gpt2", **changes: Any) -> Tensors:
    """An adapter as peft saves it; its tensors."""
    config = SETTINGS | {"base_model_name_or_path": str(base), "target_modules": [n for n in PRODUCTS[kind]]}
    rng, tensors = np.random.default_rng(4), Tensors()
    config |= changes
    ranks = config.get("rank_pattern", {})
    for name, (inputs, outputs) in PRODUCTS[kind].items():
        r = ranks.get(name.rpartition(".")[2], config["r"])
        tensors[f"base_model.model.{name}.lora_A.weight"] = rng.normal(0, 0.5, (r, inputs)).astype(np.float32)
        tensors[f"base_model.model.{name}.lora_B.weight"] = rng.normal(0, 0.5, (outputs, r)).astype(np.float32)
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(config))
    safetensors.numpy.save_file(tensors, folder / "adapter_model.safetensors")
    return tensors


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize(
    ("changes", "scales"),
    [
        ({}, (2.0, 2.0)),
        ({"use_rslora": True}, (6 / 3**0.5, 6 / 3**0.5)),
        ({"rank_pattern": {"c_fc": 2, "down_proj": 2}}, (2.0, 3.0)),
        ({"alpha_pattern": {"0.attn.c_attn": 12, "0.self_attn.q_proj": 12}}, (4.0, 2.0)),
    ],
    ids=str,
)
def test_the_change_is_the_scaled_product(
    kind: str, changes: dict[str, Any], scales: tuple[float, float], tmp_path: Path
) -> None:
    (write_toy if kind == "gpt2" else write_toy_llama)(tmp_path / "base")
    tensors = write_adapter(tmp_path / "mine", tmp_path / "base", kind, **changes)
    base, model = read_checkpoint(tmp_path / "base"), manako.load(tmp_path / "mine")
    for (name, _), scale in zip(PRODUCTS[kind].items(), scales, strict=True):
        a, b = (tensors[f"base_model.model.{name}.lora_{half}.weight"].astype(np.float64) for half in "AB")
        change = scale * (b @ a)
        own = name.removeprefix("transformer.").removeprefix("model.") + ".weight"
        base.tensors[own] += change.T if kind == "gpt2" else change  # GPT-2 has [in, out]
    ids = [3, 5, 9, 200, 7, 5]
    np.testing.assert_allclose(model.rows(ids), manako.Model("expected", base).rows(ids), rtol=0, atol=1e-5)
    told = dict(model.notices)["notice.lora"]
    assert (told["adapter"], told["count"]) == ("mine", 2)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_pickled_adapter_is_the_same(kind: str, tmp_path: Path) -> None:
    torch: Any = pytest.importorskip("torch")
    (write_toy if kind == "gpt2" else write_toy_llama)(tmp_path / "base")
    write_adapter(tmp_path / "mine", tmp_path / "base", kind)
    rows = manako.load(tmp_path / "mine").rows([3, 5, 9])
    saved = tmp_path / "mine" / "adapter_model.safetensors"
    numbers = {name: torch.from_numpy(t) for name, t in safetensors.numpy.load_file(saved).items()}
    saved.unlink()
    torch.save(numbers, saved.with_suffix(".bin"))
    np.testing.assert_array_equal(manako.load(tmp_path / "mine").rows([3, 5, 9]), rows)
    torch.save({"module": torch.nn.Linear(1, 1)}, saved.with_suffix(".bin"))
    with pytest.raises(LoadError, match="adapter_model.bin"):
        manako.load(tmp_path / "mine")


def test_it_is_another_model_than_its_base_wherever_that_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_toy(tmp_path / "base")
    base, prints = manako.load(tmp_path / "base"), set[str]()
    for number, changes in enumerate(({}, {"lora_alpha": 7}, {"base_model_name_or_path": "org/toy"})):
        write_adapter(folder := tmp_path / f"mine{number}", tmp_path / "base", **changes)
        if "base_model_name_or_path" in changes:  # in the hub's cache, as huggingface_hub lays it out
            place = tmp_path / "home" / "hub" / "models--org--toy"
            (place / "refs").mkdir(parents=True)
            (place / "refs" / "main").write_text("0123abc")
            (place / "snapshots").mkdir()
            (tmp_path / "base").rename(place / "snapshots" / "0123abc")
            monkeypatch.delenv("HF_HUB_CACHE", raising=False)
            monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
        model = manako.load(folder)
        prints.add(model.info.weights_sha256)
        assert Ref.parse(str(folder)).tokenizer().fingerprint == base.tokenizer.fingerprint
    assert len(prints | {base.info.weights_sha256}) == 3  # the same base and adapter are the same model
    with pytest.raises(SystemExit) as end:
        main(["watch", "あ", "-m", str(tmp_path / "mine2"), "-n", "1", "--seed", "0", "--lang", "en"])
    assert end.value.code == 0 and "adapter mine2 is merged into org/toy: 2 matrices" in capsys.readouterr().err


def test_without_a_home_there_is_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container whose user has no name, say; HF_HOME may be unset there too."""
    pwd = pytest.importorskip("pwd")

    def nobody(uid: int) -> None:
        raise KeyError(uid)

    write_toy(tmp_path / "base")
    write_adapter(folder := tmp_path / "mine", tmp_path / "base", base_model_name_or_path="org/toy")
    for name in ("HOME", "HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    with pytest.raises(LoadError) as caught:
        manako.load(folder)
    assert caught.value.key == "lora_base"


def config(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def tensors(change: Callable[[Tensors], object]) -> Callable[[Path], None]:
    def changed(folder: Path) -> None:
        file = folder / "adapter_model.safetensors"
        found = safetensors.numpy.load_file(file)
        change(found)
        safetensors.numpy.save_file(found, file)

    return changed


A = "base_model.model.transformer.h.0.attn.c_attn.lora_A.weight"
B = A.replace("lora_A", "lora_B")


def base_is_an_adapter(folder: Path) -> None:
    write_adapter(other := folder.with_name("other"), folder.with_name("base"))
    config(base_model_name_or_path=str(other))(folder)


REFUSED: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "DoRA": (config(use_dora=True), "lora_unsupported", "use_dora"),
    "another kind": (config(peft_type="IA3"), "lora_unsupported", "IA3"),
    "biases": (config(bias="all"), "lora_unsupported", "bias"),
    "whole modules": (config(modules_to_save=["wte"]), "lora_unsupported", "modules_to_save"),
    "a changed base": (config(init_lora_weights="pissa"), "lora_unsupported", "pissa"),
    "not known yet": (config(use_something_new=True), "lora_unsupported", "use_something_new"),
    "a regular expression": (config(rank_pattern={"(a+)+$": 2}), "lora_unsupported", "rank_pattern"),
    "no rank": (config(r=0), "lora_unsupported", "r = 0"),
    "endless alpha": (config(lora_alpha=1e300), "lora_unsupported", "lora_alpha"),
    "no base": (config(base_model_name_or_path="org/none"), "lora_base", "org/none"),
    "a base outside": (config(base_model_name_or_path="../../none"), "lora_base", "none"),
    "an adapter on an adapter": (base_is_an_adapter, "lora_on_adapter", "other is an adapter itself"),
    "no name of a base": (config(base_model_name_or_path=5), "lora_base", "5"),
    "other targets": (config(target_modules=["c_proj"]), "lora_tensor", "c_attn"),
    "half of a pair": (tensors(lambda t: t.pop(B)), "tensor_missing", "lora_B"),
    "a part of no model": (tensors(lambda t: t.update({A.replace("h.0", "h.7"): t[A]})), "lora_tensor", "h.7"),
    "another shape": (tensors(lambda t: t.update({A: t[A][:, :-1].copy()})), "tensor_shape", "[3, 12]"),
    "another rank": (tensors(lambda t: t.update({A: t[A][:2].copy(), B: t[B][:, :2].copy()})), "tensor_shape", "[2,"),
    "too large": (tensors(lambda t: t.update({A: t[A] * 1e38, B: t[B] * 1e38})), "tensor_not_finite", "c_attn"),
    "whole numbers": (tensors(lambda t: t.update({A: t[A].astype(np.int32)})), "lora_tensor", "lora_A"),
    "nothing": (tensors(lambda t: t.clear()), "tensor_missing", "lora_A"),
    "no file": (lambda folder: (folder / "adapter_model.safetensors").unlink(), "file_", "adapter_model"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_merged_is_named(name: str, tmp_path: Path) -> None:
    write_toy(tmp_path / "base")
    write_adapter(tmp_path / "mine", tmp_path / "base")
    change, key, named = REFUSED[name]
    change(tmp_path / "mine")
    with pytest.raises(LoadError) as caught:
        manako.load(tmp_path / "mine")
    assert caught.value.key.startswith(key) and named in str(caught.value) and caught.value.text("ja")
