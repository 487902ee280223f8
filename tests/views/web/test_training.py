"""The trainer in the page computes what the trainer in Python computes: corpus, batches, gradients, whole trainings."""

import base64
import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

import manako
from manako.corpus import build
from manako.families.gpt2 import ModelConfig
from manako.formats.model_folder import read_checkpoint
from manako.formats.run_folder import checkpoint
from manako.tokenizer import Tokenizer
from manako.training import machine
from manako.training.batches import Batches
from manako.training.held_out import HeldOut
from manako.training.model import GPT

Node = Callable[..., str]
Answer = dict[str, Any]
TEXTS = {
    "prose": "It is a truth universally acknowledged, that a single man in possession of a good fortune.\n" * 40,
    "Japanese": "吾輩は猫である。名前はまだ無い。どこで生れたか頓と見当がつかぬ。9８7\r\n眼😀" * 30 + "一度",
    "digits, quotes and signs": '0123"\\ \t\u2028<0x41><|endoftext|> ' * 50 + "\x7f\x7f\ufeffé",
    "shorter than a context": "abcabc" * 4,
}
SHAPES: dict[str, tuple[dict[str, int], int]] = {  # and windows a step
    "one layer": ({"n_layer": 1, "n_head": 1, "n_embd": 8, "n_positions": 8, "vocab_size": 21}, 1),
    "three heads": ({"n_layer": 2, "n_head": 3, "n_embd": 24, "n_positions": 16, "vocab_size": 64}, 3),
    "wide": ({"n_layer": 3, "n_head": 2, "n_embd": 64, "n_positions": 40, "vocab_size": 301}, 2),
}
GRADIENTS = 1e-4  # relative, in the norm of each tensor
SETTINGS = {"n_layer": 2, "n_head": 2, "n_embd": 32, "block_size": 32, "batch_size": 4, "steps": 50, "seed": 3}
ADAMW = {"optimizer": "adamw", "learning_rate": 5e-3, "warmup_steps": 10, "dtype": "float32", "device": "cpu"}
KEPT = ("learning_rate", "warmup_steps", "weight_decay", "grad_clip")


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(machine, "PROBE", 64)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def ask(node: Node, what: str, **given: Any) -> Answer:
    script = Path(__file__).with_name("training.mjs")
    return json.loads(node(str(script), given=json.dumps({"ask": what, **given})))


def packed(tensors: dict[str, npt.NDArray[np.float32]]) -> dict[str, str]:
    return {name: base64.b64encode(np.ascontiguousarray(each).tobytes()).decode() for name, each in tensors.items()}


def floats(text: str) -> npt.NDArray[np.float32]:
    return np.frombuffer(base64.b64decode(text), dtype=np.float32)


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_is_taken_apart_as_python_packs_it(node: Node, tmp_path: Path, name: str) -> None:
    (tmp_path / "text.txt").write_bytes(TEXTS[name].encode())
    corpus = build(tmp_path / "text.txt", tmp_path / "corpus", format="text")
    block = 16
    batches = Batches(corpus.train, block, seed=7)
    windows = [0, 1, batches.blocks - 1, batches.blocks, 5 * batches.blocks + 1]
    ours = ask(node, "corpus", text=TEXTS[name], block=block, seed=7, windows=windows)
    assert ours["tokenizer"] == corpus.tokenizer_source and ours["size"] == corpus.vocab_size
    assert ours["train"] == corpus.train.windows([0], len(corpus.train))[0].tolist()
    assert ours["heldOut"] == corpus.validation.windows([0], len(corpus.validation))[0].tolist()
    assert ours["windows"] == [batches.windows(n, 1)[0].tolist() for n in windows]
    held_out = HeldOut(corpus.validation, block, Tokenizer(corpus.tokenizer_source), corpus.start_id)
    ids, targets = (np.frombuffer(base64.b64decode(ours["held"][each]), dtype=np.int32) for each in ("ids", "targets"))
    scored = held_out.targets.flatten().numpy()
    assert np.array_equal(ids, held_out.ids.flatten()) and ours["held"]["characters"] == held_out.characters
    assert np.array_equal(targets, np.where(scored < 0, -1, scored))


@pytest.mark.parametrize("plain", [False, True], ids=["wasm", "plain"])
@pytest.mark.parametrize("name", SHAPES)
def test_gradients_of_random_models_are_those_of_pytorch(node: Node, name: str, plain: bool) -> None:
    shape, batch = SHAPES[name]
    torch.manual_seed(5)
    sizes = shape | {"block_size": shape["n_positions"]}
    model = GPT(ModelConfig(**{k: v for k, v in sizes.items() if k != "n_positions"}, start_id=0))
    for parameter in model.parameters():  # far from where a training begins, so that nothing is nearly zero
        torch.nn.init.normal_(parameter, std=0.3)
    ids, targets = torch.randint(shape["vocab_size"], (2, batch, shape["n_positions"]))
    loss = model.loss(ids, targets)
    loss.backward()
    weights = {n: p.detach().numpy() for n, p in model.named_parameters()}
    given = {"ids": ids.flatten().tolist(), "targets": targets.flatten().tolist()}
    ours = ask(node, "gradients", shape=shape, batch=batch, plain=plain, weights=packed(weights), **given)
    assert ours["kernel"] == ("plain" if plain else "wasm")
    assert ours["loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert {n: tuple(s) for n, s in ours["shapes"].items()} == {n: w.shape for n, w in weights.items()}
    for n, parameter in model.named_parameters():
        assert parameter.grad is not None
        theirs = parameter.grad.numpy().ravel()
        assert np.linalg.norm(floats(ours["gradients"][n]) - theirs) < GRADIENTS * np.linalg.norm(theirs), n


def trained(text: Path, out: Path, **settings: Any) -> list[float]:
    """The losses of `manako train`."""
    losses: list[float] = []

    @contextlib.contextmanager
    def noting(trainer: Any) -> Iterator[None]:
        trainer.tick = losses.append
        yield

    manako.train(text, out, show=noting, snapshots=0, format="text", **settings)
    return losses


def test_fifty_steps_have_the_losses_of_python(node: Node, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_bytes(TEXTS["prose"].encode())
    theirs = trained(tmp_path / "text.txt", tmp_path / "run", **SETTINGS | ADAMW, eval_interval=50)
    first = read_checkpoint(checkpoint(tmp_path / "run", "0"))
    told = (
        SETTINGS
        | {name: value for name, value in ADAMW.items() if name in KEPT}
        | {"weight_decay": 0.1, "grad_clip": 1.0}
    )
    ours = ask(node, "train", text=TEXTS["prose"], settings=told, weights=packed(first.tensors))
    assert len(theirs) == 50 and theirs[-1] < theirs[0] - 1
    assert np.abs(np.array(ours["losses"]) - theirs).max() < 1e-3
    (line,) = [
        each
        for each in map(json.loads, (tmp_path / "run/metrics.jsonl").read_text().splitlines())
        if "bits_per_character" in each
    ]
    assert ours["bits"] == pytest.approx(line["bits_per_character"], abs=1e-3)
    again = ask(node, "train", text=TEXTS["prose"], settings=told, weights=packed(first.tensors))
    assert again["weights"] == ours["weights"]


def test_the_first_weights_are_spread_as_python_spreads_them(node: Node) -> None:
    settings = {**SETTINGS, "n_layer": 3, "n_embd": 64, "steps": 1, "learning_rate": 0, "warmup_steps": 1}
    ours = ask(node, "train", text=TEXTS["prose"], settings=settings | {"weight_decay": 0, "grad_clip": 1}, until=0)
    torch.manual_seed(0)
    config = ModelConfig(n_layer=3, n_head=2, n_embd=64, block_size=32, vocab_size=300, start_id=0)
    for name, theirs in GPT(config).named_parameters():
        found, wanted = floats(ours["weights"][name]), theirs.detach().numpy()
        assert abs(found.mean() - wanted.mean()) < 3e-3 and found.std() == pytest.approx(wanted.std(), rel=0.1), name
