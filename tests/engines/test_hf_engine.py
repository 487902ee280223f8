"""hf: models: what is refused before `transformers` sees it (T8, T9, F46), the hub's cache, and the step itself."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import transformers
from commands import environment
from toy import close, toy_tokenizer, write_toy
from toy_hf import FAMILIES, V, load_hf, toy_lm, write_lm

import manako
from manako.engines import hf_engine
from manako.engines.hf_engine import HfEngine
from manako.engines.provenance import model_info
from manako.engines.session import Session
from manako.errors import CapabilityError, LoadError, ManakoError, MissingExtraError
from manako.families.activations import Activations
from manako.formats import hf_folder
from manako.formats.hf_folder import read_hf_folder
from manako.model import load

transformers.logging.set_verbosity_error()

IDS = np.random.default_rng(7).integers(0, V, 12).tolist()
ABLATION = {"ablation": "lacks.hf_ablation"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A GPT-2 folder that opens; each test spoils it in its own way."""
    return write_lm(tmp_path / "m")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> HfEngine:
    return load_hf(f"hf:{write_lm(tmp_path_factory.mktemp('models') / 'm')}")


def edit(path: Path, **changes: Any) -> None:
    """Change a JSON object in place; a value of None stays None."""
    old = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps(old | changes), encoding="utf-8")


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / "model.safetensors")


def put_weights(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    safetensors.torch.save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


# --- bad input --------------------------------------------------------------------------------------------------------


def only_pickles(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def remote_code(folder: Path) -> None:
    edit(folder / "config.json", model_type="mine", auto_map={"AutoModelForCausalLM": "modeling_mine.Mine"})
    (folder / "modeling_mine.py").write_text("raise SystemExit('ran')")


def no_language_model(folder: Path) -> None:
    edit(folder / "config.json", model_type="vit")


def odd_model_type(folder: Path) -> None:
    edit(folder / "config.json", model_type=["gpt2"])


def quantized(folder: Path) -> None:
    edit(folder / "config.json", quantization_config={"quant_method": "bitsandbytes"})


def adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "org/other"}')


def link_outside(folder: Path) -> None:
    (folder.parent / "secret.json").write_text("{}")
    (folder / "generation_config.json").unlink()
    (folder / "generation_config.json").symlink_to(folder.parent / "secret.json")


def index_outside(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder.parent / "a.safetensors")
    edit(folder / "model.safetensors.index.json", weight_map={"transformer.wte.weight": "../a.safetensors"})


def many_layers(folder: Path) -> None:
    edit(folder / "config.json", n_layer=10**12)


def more_layers_than_tensors(folder: Path) -> None:
    edit(folder / "config.json", n_layer=5_000)


def many_experts(folder: Path) -> None:
    edit(folder / "config.json", text_config={"num_experts": 10**9})


def wrong_heads(folder: Path) -> None:
    edit(folder / "config.json", n_head=4)


def wrong_kind(folder: Path) -> None:
    edit(folder / "config.json", n_embd="33")


def one_layer_more(folder: Path) -> None:
    edit(folder / "config.json", n_layer=3)


def other_width(folder: Path) -> None:
    edit(folder / "config.json", n_inner=7)


def huge_width(folder: Path) -> None:
    edit(folder / "config.json", n_inner=10**15)


def not_a_number(folder: Path) -> None:
    weights = weights_of(folder)
    weights["transformer.h.1.mlp.c_fc.weight"][2, 3] = float("nan")
    put_weights(folder, weights)


def damaged(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[:-100])


def large_vocabulary(folder: Path) -> None:
    weights = weights_of(folder)
    weights["transformer.wte.weight"] = weights["transformer.wte.weight"][: V - 1].clone()
    put_weights(folder, weights)
    edit(folder / "config.json", vocab_size=V - 1)


def no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def config_pipe(folder: Path) -> None:
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")


def code_of_a_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text("{}")
    edit(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["tokenization_mine.Mine", None]})


SPOILED: list[tuple[Callable[[Path], None], str, str]] = [
    (only_pickles, "E-LEGACY-NOT-ZIP", "pytorch_model.bin"),
    (no_weights, "E-FILE-MISSING", "model.safetensors"),
    (remote_code, "E-HF-REMOTE-CODE", "auto_map"),
    (no_language_model, "E-HF-MODEL-TYPE", "vit"),
    (odd_model_type, "E-HF-MODEL-TYPE", "['gpt2']"),
    (quantized, "E-HF-QUANTIZED", "quantization_config"),
    (adapter, "E-HF-ADAPTER", "adapter_config.json"),
    (link_outside, "E-LINK-OUTSIDE", "generation_config.json"),
    (index_outside, "E-SHARD-INDEX", "../a.safetensors"),
    (many_layers, "E-CONFIG-RANGE", "n_layer is 1000000000000"),
    (more_layers_than_tensors, "E-CONFIG-RANGE", "num_hidden_layers is 5000"),
    (many_experts, "E-CONFIG-RANGE", "num_experts is 1000000000"),
    (wrong_heads, "E-HF-REFUSED", "33"),
    (wrong_kind, "E-HF-REFUSED", "n_embd"),
    (one_layer_more, "E-TENSOR-MISSING", "transformer.h.2."),
    (other_width, "E-HF-REFUSED", "mismatch"),
    (huge_width, "E-HF-REFUSED", ""),
    (not_a_number, "E-TENSOR-NOT-FINITE", "h.1.mlp.c_fc.weight"),
    (damaged, "E-SAFETENSORS-DAMAGED", "model.safetensors"),
    (large_vocabulary, "E-VOCAB-MISMATCH", str(V - 1)),
    (no_tokenizer, "E-FILE-MISSING", "tokenizer.json"),
    (config_pipe, "E-FILE-NOT-REGULAR", "config.json"),
    (code_of_a_tokenizer, "E-HF-TOKENIZER", "auto_map"),
]


@pytest.mark.parametrize(("spoil", "code", "named"), SPOILED, ids=[s[0].__name__ for s in SPOILED])
def test_a_bad_folder_is_refused_in_one_line(
    folder: Path, capfd: pytest.CaptureFixture[str], spoil: Callable[[Path], None], code: str, named: str
) -> None:
    spoil(folder)
    capfd.readouterr()
    with pytest.raises(LoadError) as caught:
        load_hf(f"hf:{folder}")
    assert caught.value.code == code and caught.value.exit_code == 3
    assert named in str(caught.value) and "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")  # the library's own words and bars stay off the screen


def test_a_model_that_sees_the_future_is_refused(tmp_path: Path) -> None:
    config = transformers.BertConfig(
        vocab_size=V, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "m")
    (tmp_path / "m" / "tokenizer.json").write_text(toy_tokenizer().source, encoding="utf-8")
    with pytest.raises(LoadError) as caught:
        load_hf(f"hf:{tmp_path / 'm'}")
    assert caught.value.key == "hf_not_causal"


@pytest.mark.parametrize(
    ("ref", "code"),
    [("hf:", "E-HF-REF"), ("hf:a/b/c", "E-HF-REF"), ("hf:a//b", "E-HF-REF"), ("hf:a/..", "E-HF-REF")]
    + [
        ("hf:眼/鏡", "E-HF-REF"),
        ("hf:./nowhere", "E-FOLDER-MISSING"),
        ("hf:~nobody/m", "E-HF-REF"),
    ],
)
def test_a_bad_reference_names_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ref: str, code: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LoadError) as caught:
        load_hf(ref)
    assert caught.value.code == code


def test_without_the_extra_the_message_has_the_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(hf_folder, "find_spec", lambda name: None if name == "transformers" else object())
        with pytest.raises(MissingExtraError) as caught:
            load_hf("hf:org/name")
        assert caught.value.exit_code == 5 and "pip install 'manako[hf]'" in str(caught.value)
    monkeypatch.setattr(hf_folder, "version", lambda name: "4.57.1")
    with pytest.raises(MissingExtraError):
        load_hf("hf:org/name")


def test_a_device_that_does_not_work_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)

    def broken(self: Any, *args: Any) -> None:
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nCompile with ...")

    monkeypatch.setattr(transformers.GPT2LMHeadModel, "to", broken)
    with pytest.raises(LoadError) as caught:
        load_hf(f"hf:{folder}")
    assert caught.value.key == "hf_device" and "no kernel image" in str(caught.value)


def test_importing_the_loader_imports_neither_library() -> None:
    heavy = "{'torch', 'transformers', 'huggingface_hub'}"
    code = f"import sys, manako.formats.hf_folder as _; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# --- what is noticed --------------------------------------------------------------------------------------------------


def test_keys_that_steer_a_loader_are_dropped_and_named(folder: Path) -> None:
    auto_map = {"AutoConfig": "configuration_x.X", "AutoModelForCausalLM": "modeling_x.X"}
    steering = {"auto_map": auto_map, "trust_remote_code": True, "attn_implementation": "org/kernel"}
    steering |= {"_attn_implementation_internal": "org/kernel", "_name_or_path": "org/other"}
    edit(folder / "config.json", **steering, dtype="bfloat16", return_dict=False, output_attentions=True)
    for name in ("modeling_x.py", "configuration_x.py"):
        (folder / name).write_text("raise SystemExit('ran')")
    opened = load_hf(f"hf:{folder}")
    assert opened.source.notices[0] == ("notice.ignored_keys", {"names": ", ".join(sorted(steering))})
    assert opened.attention_implementation == "sdpa" and opened.dtype == "float32"
    assert close(opened.forward(IDS, opened.new_cache()), load_expected(IDS), 1e-5)


@torch.inference_mode()
def load_expected(ids: list[int]) -> np.ndarray:
    return toy_lm("gpt2")(torch.tensor([ids])).logits[0, -1:].numpy()


def test_a_chat_template_and_the_authors_settings_are_text(folder: Path) -> None:
    template = "{{ ''.__class__.__mro__ }}{% for i in range(10**9) %}{% endfor %}"
    edit(folder / "tokenizer_config.json", chat_template=template)
    edit(folder / "generation_config.json", eos_token_id=[3, 5, 10**9, "7"], top_k=20, temperature=0.1, do_sample=True)
    opened = load_hf(f"hf:{folder}")
    assert opened.source.chat_template == template
    assert ("notice.chat_template", {}) in opened.source.notices
    settings = ("notice.hf_generation", {"settings": "do_sample=True, temperature=0.1, top_k=20"})
    assert settings in opened.source.notices
    assert opened.config.start_id == 0 and opened.config.end_ids == (0, 3, 5)
    assert close(opened.forward(IDS, opened.new_cache()), load_expected(IDS), 1e-5)


def test_a_tensor_without_a_place_is_named(folder: Path) -> None:
    put_weights(folder, weights_of(folder) | {"value_head.weight": torch.ones(2)})
    notices = load_hf(f"hf:{folder}").source.notices
    assert ("notice.hf_unused", {"count": 1, "first": "value_head.weight"}) in notices


def test_a_checksum_of_ours_is_checked(tmp_path: Path) -> None:
    write_toy(tmp_path / "m")
    data = bytearray((tmp_path / "m" / "model.safetensors").read_bytes())
    data[-5] ^= 1
    (tmp_path / "m" / "model.safetensors").write_bytes(data)
    with pytest.raises(LoadError) as caught:
        load_hf(f"hf:{tmp_path / 'm'}")
    assert caught.value.key == "digest_mismatch"


def test_shards_are_read_like_one_file(folder: Path, engine: HfEngine) -> None:
    toy_lm("gpt2").save_pretrained(folder, max_shard_size="20KB")
    (folder / "model.safetensors").unlink(missing_ok=True)
    assert len(list(folder.glob("*.safetensors"))) > 1
    opened = load_hf(f"hf:{folder}")
    assert opened.source.fingerprint == engine.source.fingerprint
    assert close(opened.forward(IDS, opened.new_cache()), engine.forward(IDS, engine.new_cache()), 1e-6)
    next(folder.glob("*-00002-*.safetensors")).unlink()
    with pytest.raises(LoadError) as caught:
        read_hf_folder(folder)
    assert caught.value.key == "file_missing"


def test_an_older_vocabulary_is_converted(folder: Path) -> None:
    spell = [chr(i) for i in (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100), *range(0x100, 0x144))]
    pairs = [("a", "b"), ("ab", "c")]
    names = [*spell, "ab", "abc", "<|endoftext|>"]
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps({name: i for i, name in enumerate(names)}), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(map(" ".join, pairs)) + "\n", encoding="utf-8")
    edit(folder / "tokenizer_config.json", tokenizer_class="GPT2Tokenizer")
    opened = load_hf(f"hf:{folder}")
    ids = opened.source.tokenizer.encode("abcab 眼")
    assert ids[:2] == [257, 256] and opened.source.tokenizer.decode(ids) == "abcab 眼".encode()


# --- the hub's cache --------------------------------------------------------------------------------------------------

REVISION = "0123456789abcdef0123456789abcdef01234567"


def hub_cache(home: Path, repo: str, source: Path) -> Path:
    """What huggingface_hub leaves behind after a download: blobs, and a snapshot of links to them."""
    entry = home / "hub" / f"models--{repo.replace('/', '--')}"
    snapshot = entry / "snapshots" / REVISION
    for place in (entry / "blobs", snapshot, entry / "refs"):
        place.mkdir(parents=True)
    (entry / "refs" / "main").write_text(REVISION)
    for i, file in enumerate(sorted(source.iterdir())):
        (entry / "blobs" / f"{i:040x}").write_bytes(file.read_bytes())
        (snapshot / file.name).symlink_to(Path("../../blobs") / f"{i:040x}")
    return snapshot


RUN = """
import json, sys
seen = []
def watch(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system"):
        seen.append(event)
    if event == "open" and isinstance(args[0], str) and args[0].endswith("modeling_x.py"):
        seen.append(args[0])
    if event == "compile" and args[1] == "<template>":  # what jinja2 makes of a template
        seen.append(event)
sys.addaudithook(watch)
from manako.engines.hf_engine import open_engine
from manako.formats.hf_folder import hf_folder
from manako.errors import ManakoError
for ref in sys.argv[1:]:
    seen.clear()
    try:
        engine = open_engine(hf_folder(ref.removeprefix("hf:"), ref))
        row = engine.forward([5, 6, 7], engine.new_cache())[0]
        found = [float(x) for x in row[:5]]
    except ManakoError as error:
        found = error.code
    print(json.dumps([found, seen, "modeling_x" in sys.modules]))
"""


def fresh(home: Path, *refs: str, **more: str) -> list[list[Any]]:
    """What a new Python gets from each, what it connected to, started or compiled, whether the code was run."""
    given = {**environment(), "HF_HOME": str(home), "PYTHONWARNINGS": "ignore", **more}
    done = subprocess.run([sys.executable, "-c", RUN, *refs], env=given, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()[-len(refs) :]]


@pytest.mark.slow  # two times two libraries that take seconds to import
def test_a_model_in_the_cache_opens_without_a_connection(folder: Path, tmp_path: Path) -> None:
    edit(folder / "config.json", auto_map={"AutoModelForCausalLM": "modeling_x.X"})
    edit(folder / "tokenizer_config.json", chat_template="{% for i in range(10**9) %}{% endfor %}")
    hub_cache(tmp_path / "home", "org/name", folder)
    (folder / "modeling_x.py").write_text("raise SystemExit('ran')")
    row = load_expected([5, 6, 7])[0, :5]
    told = fresh(tmp_path / "home", "hf:org/name", f"hf:{folder}")
    told += fresh(tmp_path / "home", "hf:org/name", HF_HUB_OFFLINE="1")
    for found, seen, ran in told:
        assert close(found, row, 1e-5) and seen == [] and not ran
    assert len(told) == 3


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub cache of this test alone, offline."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "home"


@pytest.mark.parametrize("name", ["a--b/c", "a/b-", "a.git", "x" * 120, "a b"])
def test_a_name_that_the_hub_gives_to_nobody_is_no_name(name: str, home: Path) -> None:
    with pytest.raises(LoadError) as caught:
        load_hf(f"hf:{name}")
    assert caught.value.key == "hf_ref"


def test_offline_a_model_that_is_not_whole_says_so(folder: Path, home: Path) -> None:
    with pytest.raises(LoadError) as caught:
        load_hf("hf:org/name")
    assert caught.value.key == "hf_not_cached"
    snapshot = hub_cache(home, "org/name", folder)
    assert load_hf("hf:org/name").config.n_layer == 2
    (snapshot / "tokenizer.json").unlink()
    with pytest.raises(LoadError) as caught:
        load_hf("hf:org/name")
    assert caught.value.key == "hf_not_cached" and "hf:org/name" in str(caught.value)


def test_a_snapshot_that_links_out_of_its_entry_is_refused(folder: Path, home: Path) -> None:
    snapshot = hub_cache(home, "org/name", folder)
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").symlink_to(folder / "config.json")
    with pytest.raises(LoadError) as caught:
        load_hf("hf:org/name")
    assert caught.value.key == "link_outside"


def test_threads_and_versions_are_those_of_what_computes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 17)
    monkeypatch.setattr("manako.families.blas.threads", lambda: 5)
    monkeypatch.setattr("manako.families.blas.kernel", lambda: {"blas": "OpenBLAS Toy"})
    folder = write_lm(tmp_path / "m", "gpt2")
    model, numpy = load(f"hf:{folder}"), load(folder)
    made = model.trace("私", max_new_tokens=1, seed=0).header.model
    assert made.threads == 17 and {"torch", "transformers"} <= {*made.versions} and "blas" not in made.versions
    assert numpy.info.threads == 5 and numpy.info.versions["blas"] == "OpenBLAS Toy"
    engine = load_hf(str(folder))
    engine.device = "cuda:0"
    assert model_info("m", engine.source, engine).threads is None


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox"])
def test_pickled_weights_are_read_by_our_own_reader(
    family: str, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a folder, and from a hub model that has no others, which are then asked for."""
    import huggingface_hub

    folder = write_lm(tmp_path / "m", family)
    plain = load_hf(str(folder))
    weights = weights_of(folder)
    (folder / "model.safetensors").unlink()
    if family == "gpt2":  # as older versions saved it
        weights["transformer.h.0.attn.bias"] = torch.ones(1, 1, 64, 64, dtype=torch.uint8).tril()
    asked: list[list[str]] = []

    def download(name: str, **how: Any) -> str:
        if how["local_files_only"]:
            raise huggingface_hub.errors.LocalEntryNotFoundError("not there")
        asked.append(how["allow_patterns"])
        if any(pattern.endswith(".bin") for pattern in how["allow_patterns"]):
            torch.save(weights, folder / "pytorch_model.bin")
        return str(folder)

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(torch, "load", None)
    for ref in ("hf:org/name", str(folder)):
        opened = load_hf(ref)
        there = opened.model.state_dict()
        assert {n for n, w in plain.model.state_dict().items() if not torch.equal(w, there[n])} == set()
        ours, theirs = (each.forward(IDS, each.new_cache()) for each in (opened, plain))
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)  # PyTorch's sums depend on where its memory lies
    assert len(asked) == 2 and not any(pattern.endswith(".bin") for pattern in asked[0])


@pytest.mark.parametrize("whole", [True, False])
def test_what_the_cache_lacks_is_fetched_once(
    folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    asked: list[dict[str, Any]] = []

    def download(name: str, **how: Any) -> str:
        asked.append(how)
        if how["local_files_only"]:
            raise LocalEntryNotFoundError("not there")
        return str(folder)

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    if whole:
        assert load_hf("hf:org/name").config.n_layer == 2
    else:
        no_weights(folder)
        with pytest.raises(LoadError) as caught:
            load_hf("hf:org/name")
        assert caught.value.key == "hf_not_whole"
    assert [how["local_files_only"] for how in asked] == [True, False] + [False] * (not whole)
    assert not any(pattern.endswith((".py", ".bin", ".pt", "*")) for pattern in asked[1]["allow_patterns"])


def test_a_failed_download_is_one_line(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def download(name: str, **how: Any) -> str:
        if how["local_files_only"]:
            raise huggingface_hub.errors.LocalEntryNotFoundError("not there")
        raise OSError("404 Client Error.\n\nRepository Not Found for url")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(LoadError) as caught:
        load_hf("hf:org/name")
    assert caught.value.key == "hf_download" and "404 Client Error." in str(caught.value)


# --- the step ---------------------------------------------------------------------------------------------------------


def test_a_cache_can_be_emptied_and_shortened(engine: HfEngine) -> None:
    cache = engine.new_cache()
    engine.forward(IDS[:8], cache)
    cache.length = 5  # back on the same text, then another way
    assert cache.length == 5
    other = [*IDS[:5], 3, 4]
    assert close(engine.forward([3, 4], cache), engine.forward(other, engine.new_cache()), 1e-5)
    cache.length = 0
    assert close(engine.forward(IDS, cache), engine.forward(IDS, engine.new_cache()), 1e-6) and cache.length == 12


def test_a_pass_that_breaks_off_leaves_a_cache_that_goes_on(engine: HfEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = engine.new_cache()
    engine.forward(IDS[:8], cache)
    last = engine.parts.blocks[-1]

    def interrupted(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(last, "forward", interrupted)
        engine.forward(IDS[8:9], cache, keep=Activations(attention=True))
    assert cache.length == 8 and engine.model.config._attn_implementation == "sdpa"
    assert close(engine.forward(IDS[8:], cache), engine.forward(IDS, engine.new_cache()), 1e-5)


@pytest.mark.parametrize("what", ["kept", "lens"])
def test_a_pass_of_another_thread_disturbs_nothing(engine: HfEngine, what: str) -> None:
    """A plain pass that another thread begins in the middle of one that hooks modules, or leaves out blocks."""

    def plain() -> list[Any]:
        return [engine.forward(IDS[:5], engine.new_cache())]

    def ours() -> list[Any]:
        keep = Activations(attention=True)
        if what == "lens":
            return [engine.unembed(np.ones((3, engine.config.n_embd), np.float32))]
        rows = engine.forward(IDS, engine.new_cache(), False, keep)
        return [rows, *keep.pattern, *keep.embed, *keep.resid_post, *keep.z, *keep.mlp_out]

    def beside(*_: Any) -> None:
        handle.remove()
        thread.start()
        thread.join(0.3)  # time to disturb us; one that waits for us is waited for below

    expected = [*plain(), *ours()]
    others: list[Any] = []
    thread = threading.Thread(target=lambda: others.extend(plain()))
    handle = engine.parts.blocks[-1].register_forward_hook(beside)
    found = ours()
    thread.join()
    assert len(others) + len(found) == len(expected)
    assert all(close(a, b, 1e-6) for a, b in zip([*others, *found], expected, strict=True))


def test_too_little_memory_is_a_message(engine: HfEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(engine.model, "forward", full)
    with pytest.raises(ManakoError) as caught:
        engine.forward(IDS, engine.new_cache())
    assert caught.value.key == "hf_out_of_memory" and caught.value.exit_code == 1


@pytest.mark.parametrize("family", [f for f in FAMILIES if f != "rwkv"])
def test_the_first_bad_layer_is_the_one_with_the_bad_weight(tmp_path: Path, family: str) -> None:
    opened = load_hf(f"hf:{write_lm(tmp_path / 'm', family)}")
    assert Session(opened).first_bad_layer(IDS) == 3  # nothing is wrong: what is left is the head
    for block, layer in ((1, 2), (0, 1)):
        with torch.no_grad():
            max(opened.parts.blocks[block].parameters(), key=torch.numel).fill_(float("nan"))
        assert Session(opened).first_bad_layer(IDS) == layer
    with torch.no_grad():
        opened.model.get_input_embeddings().weight.fill_(float("nan"))
    assert Session(opened).first_bad_layer(IDS) == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2"])
def test_half_precision_is_judged_by_its_own_digits(tmp_path: Path, family: str, dtype: torch.dtype) -> None:
    """What a GPU computes in: the same parts are found, and everything comes out as float32."""
    folder = read_hf_folder(write_lm(tmp_path / "m", family))
    model, _ = hf_engine._built(folder, dtype)
    opened = HfEngine(model.eval(), folder)
    assert opened.dtype == str(dtype).removeprefix("torch.") and opened.source.stored_dtype == "float32"
    assert opened.lacks == ABLATION | ({"contributions": "lacks.hf_sum"} if family == "gemma2" else {})
    keep = Activations(attention=True)
    rows = opened.forward(IDS, opened.new_cache(), False, keep)
    assert {a.dtype for a in (rows, *keep.pattern, *keep.resid_post, *keep.z)} == {np.dtype("float32")}
    with torch.inference_mode():
        expected = toy_lm(family)(torch.tensor([IDS])).logits[0].numpy()
    assert np.abs(rows - expected).max() <= 0.1 * np.abs(expected).max()
    assert np.abs(opened.unembed(keep.resid_post[-1]) - rows).max() <= 0.03 * np.abs(rows).max()


def test_a_model_whose_sum_is_off_lacks_contributions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control of what is found at load: a block that adds 1 % more than its parts give."""
    kind = transformers.models.gpt2.modeling_gpt2.GPT2Block
    original = kind.forward

    def block(self: Any, hidden: Any, *args: Any, **kwargs: Any) -> Any:
        made = original(self, hidden, *args, **kwargs)
        first = made[0] if isinstance(made, tuple) else made
        changed = hidden + 1.01 * (first - hidden)
        return (changed, *made[1:]) if isinstance(made, tuple) else changed

    monkeypatch.setattr(kind, "forward", block)
    opened = load_hf(f"hf:{write_lm(tmp_path / 'm')}")
    assert opened.lacks == ABLATION | {"contributions": "lacks.hf_sum"}


def test_the_same_weights_under_another_configuration_are_another_model(tmp_path: Path) -> None:
    """Also where nothing else in the header tells of it; what decides no number may differ."""
    folder = write_lm(tmp_path / "a", "llama")
    models = {"a": manako.load(f"hf:{folder}")}
    for name, changes in {
        "same": {"transformers_version": "5.0.0", "bos_token_id": 9},
        "other": {"rms_norm_eps": 0.1},
    }.items():
        shutil.copytree(folder, tmp_path / name)
        path = tmp_path / name / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
        models[name] = manako.load(f"hf:{tmp_path / name}")
    trace = models["a"].trace("私は猫", max_new_tokens=3, seed=0)
    plain = manako.load(folder)  # of which NumPy runs the same numbers
    assert [len(list(m.fork(trace, 1, max_new_tokens=1))) for m in (models["same"], plain)] == [1, 1]
    with pytest.raises(CapabilityError):
        models["other"].fork(trace, 1)
