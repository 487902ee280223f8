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
from click.testing import CliRunner

import manako
from manako.analysis.heads import chance, head_scores
from manako.analysis.ngrams import ngrams
from manako.cli.import_ import command
from manako.corpus import build
from manako.corpus.packed import open_packed
from manako.engines.captures import logsumexps
from manako.engines.session import Session
from manako.errors import ManakoError
from manako.experiments.training_step import training_step
from manako.families.activations import Activations
from manako.families.gpt2 import ModelConfig
from manako.formats.model_folder import read_checkpoint
from manako.formats.run_folder import checkpoint
from manako.model import for_page
from manako.tokenizer import Tokenizer
from manako.trace.file import array_of, column_digest, container, read_parts
from manako.trace.schema import RUN
from manako.training import machine
from manako.training.batches import Batches
from manako.training.held_out import HeldOut
from manako.training.model import GPT
from manako.training.page_run import import_run
from manako.training.qk_clip import WINDOWS, clip_scores
from manako.training.run import resume

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
    "sums in parts": ({"n_layer": 2, "n_head": 3, "n_embd": 72, "n_positions": 40, "vocab_size": 301}, 7),  # 280 rows
}
GRADIENTS = 1e-4  # relative, in the norm of each tensor
ONE_STEP = 1e-4  # relative: AdamW divides by a gradient's own size, so small ones bring their rounding along
SETTINGS = {"n_layer": 2, "n_head": 2, "n_embd": 32, "block_size": 32, "batch_size": 4, "steps": 50, "seed": 3}
ADAMW = {"optimizer": "adamw", "learning_rate": 5e-3, "warmup_steps": 10, "dtype": "float32", "device": "cpu"}
MUON = ADAMW | {"optimizer": "muon", "muon_rate": 0.02}
KEPT = ("learning_rate", "warmup_steps", "weight_decay", "grad_clip")


@pytest.fixture(autouse=True)
def small_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "PROBE", 64)


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
    batches = Batches(corpus.train, block, 7, corpus.start_id)
    windows = [0, 1, batches.blocks - 1, batches.blocks, 5 * batches.blocks + 1]
    ours = ask(node, "corpus", text=TEXTS[name], block=block, seed=7, windows=windows)
    assert ours["tokenizer"] == corpus.tokenizer_source and ours["size"] == corpus.vocab_size
    assert ours["train"] == corpus.train.windows([0], len(corpus.train))[0].tolist()
    assert ours["heldOut"] == corpus.validation.windows([0], len(corpus.validation))[0].tolist()
    every = len(corpus.validation) - 2  # all but the document's end, which no evaluation scores
    found = ngrams(corpus, every, every)
    by = every / ours["held"]["characters"]
    assert found and list(ours["guesses"].values()) == pytest.approx([by * b for b in found.guess_bits])
    assert ours["windows"] == [batches.windows(n, 1)[0].tolist() for n in windows]
    held_out = HeldOut(corpus.validation, block, Tokenizer(corpus.tokenizer_source), corpus.start_id)
    ids, targets = (np.frombuffer(base64.b64decode(ours["held"][each]), dtype=np.int32) for each in ("ids", "targets"))
    scored = held_out.targets.flatten().numpy()
    assert np.array_equal(ids, held_out.ids.flatten()) and ours["held"]["characters"] == held_out.characters
    assert np.array_equal(targets, np.where(scored < 0, -1, scored))


@pytest.mark.parametrize("kernel", ["wasm", "plain", "wide"])
@pytest.mark.parametrize("name", SHAPES)
def test_gradients_of_random_models_are_those_of_pytorch(node: Node, name: str, kernel: str) -> None:
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
    ours = ask(node, "gradients", shape=shape, batch=batch, kernel=kernel, weights=packed(weights), **given)
    assert ours["kernel"] == kernel
    assert ours["loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert {n: tuple(s) for n, s in ours["shapes"].items()} == {n: w.shape for n, w in weights.items()}
    for n, parameter in model.named_parameters():
        assert parameter.grad is not None
        theirs = parameter.grad.numpy().ravel()
        assert np.linalg.norm(floats(ours["gradients"][n]) - theirs) < GRADIENTS * np.linalg.norm(theirs), n


def trained(text: Path, out: Path, **settings: Any) -> list[float]:
    """The losses of `manako train`."""
    losses, noting = noted()
    manako.train(text, out, show=noting, snapshots=0, format="text", **settings)
    return losses


def noted() -> tuple[list[float], Any]:
    """Where the losses of a training go, and what `show` is to be for that."""
    losses: list[float] = []

    @contextlib.contextmanager
    def noting(trainer: Any) -> Iterator[None]:
        trainer.tick = losses.append
        yield

    return losses, noting


@pytest.mark.parametrize("how", [ADAMW, MUON], ids=["AdamW", "Muon"])
def test_fifty_steps_have_the_losses_of_python(node: Node, tmp_path: Path, how: dict[str, Any]) -> None:
    (tmp_path / "text.txt").write_bytes(TEXTS["prose"].encode())
    theirs = trained(tmp_path / "text.txt", tmp_path / "run", **SETTINGS | how, eval_interval=50)
    first = read_checkpoint(checkpoint(tmp_path / "run", "0"))
    settings = told(muon_rate=how.get("muon_rate"))
    ours = ask(node, "train", text=TEXTS["prose"], settings=settings, weights=packed(first.tensors))
    assert len(theirs) == 50 and theirs[-1] < theirs[0] - 1
    assert np.abs(np.array(ours["losses"]) - theirs).max() < 1e-3
    (line,) = [
        each
        for each in map(json.loads, (tmp_path / "run/metrics.jsonl").read_text().splitlines())
        if "bits_per_character" in each
    ]
    assert ours["bits"] == pytest.approx(line["bits_per_character"], abs=1e-3)
    again = ask(node, "train", text=TEXTS["prose"], settings=settings, weights=packed(first.tensors))
    assert again["weights"] == ours["weights"]


def test_scores_past_the_bound_are_clipped_as_python_clips_them(node: Node) -> None:
    shape, batch = SHAPES["three heads"]
    torch.manual_seed(2)
    model = GPT(ModelConfig(n_layer=2, n_head=3, n_embd=24, block_size=16, vocab_size=64, start_id=0))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=1.2)
    ids = torch.randint(64, (batch, 16))
    before = {n: p.detach().numpy().copy() for n, p in model.named_parameters()}
    clip_scores(model, ids[:WINDOWS])
    ours = ask(node, "clip", shape=shape, batch=batch, weights=packed(before), ids=ids.flatten().tolist())
    for n, parameter in model.named_parameters():
        np.testing.assert_allclose(floats(ours[n]), parameter.detach().numpy().ravel(), rtol=1e-4, atol=1e-5, err_msg=n)
    clipped = [n for n, p in model.named_parameters() if not np.array_equal(p.detach().numpy(), before[n])]
    assert clipped == ["h.0.attn.c_attn.weight", "h.0.attn.c_attn.bias", "h.1.attn.c_attn.bias"]  # there the rest does


def test_the_first_weights_are_spread_as_python_spreads_them(node: Node) -> None:
    settings = {**SETTINGS, "n_layer": 3, "n_embd": 64, "steps": 1, "learning_rate": 0, "warmup_steps": 1}
    ours = ask(
        node,
        "train",
        text=TEXTS["prose"],
        settings=settings | {"weight_decay": 0, "grad_clip": 1, "muon_rate": None},
        until=0,
    )
    torch.manual_seed(0)
    config = ModelConfig(n_layer=3, n_head=2, n_embd=64, block_size=32, vocab_size=300, start_id=0)
    for name, theirs in GPT(config).named_parameters():
        found, wanted = floats(ours["weights"][name]), theirs.detach().numpy()
        assert abs(found.mean() - wanted.mean()) < 3e-3 and found.std() == pytest.approx(wanted.std(), rel=0.1), name


def told(**changes: Any) -> dict[str, Any]:
    chosen = {name: value for name, value in ADAMW.items() if name in KEPT}
    return SETTINGS | chosen | {"weight_decay": 0.1, "grad_clip": 1.0, "muon_rate": None} | changes


@pytest.fixture(scope="module")
def saved(node: Node) -> Answer:
    """A training of 30 steps with Muon, saved after 10 of them and gone on with."""
    return ask(node, "train", text=TEXTS["Japanese"], settings=told(steps=30, muon_rate=0.02), save=10)


def test_a_run_saved_in_the_page_goes_on_in_python_with_the_same_losses(saved: Answer, tmp_path: Path) -> None:
    file, run = tmp_path / "mine.manako-run", tmp_path / "run"
    file.write_bytes(base64.b64decode(saved["saved"]))
    found = CliRunner().invoke(command, [str(file), "-o", str(run), "--lang", "en"])
    assert found.exit_code == 0 and "10 of 30 steps" in found.output
    trace = manako.load(run).trace("吾輩は", max_new_tokens=3, seed=0)
    losses, noting = noted()
    resume(run, show=noting)
    assert np.abs(np.array(losses) - saved["losses"][10:]).max() < 1e-3 and len(losses) == 20
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["loss"] for line in lines[:10]] == pytest.approx(saved["losses"][:10])
    assert lines[-1]["step"] == 30 and lines[-1]["bits_per_character"] == pytest.approx(saved["bits"], abs=1e-3)
    assert trace.header.model.weights_sha256 == manako.load(run / "checkpoints/step-000010").info.weights_sha256


def test_a_run_opened_in_the_page_goes_on_as_if_it_had_never_been_closed(node: Node, saved: Answer) -> None:
    ours = ask(node, "resume", file=saved["saved"], steps=20)
    assert ours["losses"] == [float(np.float32(loss)) for loss in saved["losses"][:10]] + saved["losses"][10:]
    assert ours["seconds"] == 1.5 and ours["evaluations"] == []
    assert ask(node, "resume", file=saved["saved"], steps=0)["again"] == saved["saved"]


def test_a_model_of_the_page_is_the_model_that_python_reads(saved: Answer, tmp_path: Path) -> None:
    file, run = tmp_path / "mine.manako-run", tmp_path / "run"
    file.write_bytes(base64.b64decode(saved["saved"]))
    import_run(file, run)
    ours, theirs = (header_of(data) for data in (base64.b64decode(saved["model"]), for_page(run)))
    for name in ("ref", "versions"):  # how it is called there
        del ours["model"][name], theirs["model"][name]
    assert ours == theirs


ONE_STEPS: list[dict[str, Any]] = [  # of which each leaves the training as it was for the next
    {"read": "吾輩は猫である。", "text": "吾輩は猫である。", "rate": None},
    {"read": "吾輩は猫である。", "text": "どこで生れたか", "rate": 1e-5},
    {"read": None, "text": "名前はまだ無い。眼😀", "rate": None},
]


def test_one_step_beside_a_training_is_that_of_python(node: Node, saved: Answer, tmp_path: Path) -> None:
    """Tolerances: the text before is the same weights in float64; the step is made in float32 by both."""
    file, run = tmp_path / "mine.manako-run", tmp_path / "run"
    file.write_bytes(base64.b64decode(saved["saved"]))
    import_run(file, run)
    ours = ask(node, "one_step", file=saved["saved"], asked=ONE_STEPS)
    assert ours["again"] == saved["saved"]  # and beside it, to the bits
    for asked, found in zip(ONE_STEPS, ours["found"], strict=True):
        theirs = training_step(run, asked["text"], read=asked["read"], learning_rate=asked["rate"])
        assert (found["step"], found["readTokens"]) == (theirs.step, theirs.read_tokens)
        same = {"loss": "loss", "gradientNorm": "gradient_norm", "rate": "learning_rate", "muonRate": "muon_rate"}
        for ours_, theirs_ in same.items():
            assert found[ours_] == pytest.approx(getattr(theirs, theirs_), rel=1e-5)
        assert [t["id"] for t in found["tokens"]] == [t.id for t in theirs.tokens]
        assert [t["before"] for t in found["tokens"]] == pytest.approx([t.before for t in theirs.tokens], rel=1e-12)
        changes = [t["after"] - t["before"] for t in found["tokens"]]
        largest = max(abs(t.change) for t in theirs.tokens)
        assert changes == pytest.approx([t.change for t in theirs.tokens], abs=ONE_STEP * largest)
        for part, other in zip(found["parts"], theirs.parts, strict=True):
            assert (part["kind"], part["layer"]) == (other.kind, other.layer)
            assert part["norm"] == pytest.approx(other.norm, rel=1e-12)
            assert part["distance"] == pytest.approx(other.distance, rel=ONE_STEP)
            assert part["predicted"] == pytest.approx(other.predicted, abs=ONE_STEP * abs(theirs.predicted))
    small = ours["found"][1]
    predicted = sum(p["predicted"] for p in small["parts"])
    change = sum(t["after"] - t["before"] for t in small["tokens"])
    assert predicted == pytest.approx(change, rel=0.05)


def test_likenesses_are_those_that_python_finds_at_the_same_weights(node: Node, saved: Answer, tmp_path: Path) -> None:
    file, run = tmp_path / "mine.manako-run", tmp_path / "run"
    file.write_bytes(base64.b64decode(saved["saved"]))
    import_run(file, run)
    ours = ask(node, "likeness", file=saved["saved"])
    assert ours["again"] == saved["saved"] and ours["step"] == 10
    session, length = Session(manako.load(run).engine), SETTINGS["block_size"]
    counted = ngrams(open_packed(run / "corpus"), length, 1024)
    assert counted and len(counted.windows) > 2
    rows = np.concatenate([session.rows(window) for window in counted.windows[:, :-1].tolist()])
    assert ours["ngrams"] == pytest.approx(counted.distances(rows, logsumexps(rows, rows.max(axis=1))), rel=1e-5)
    asked = Activations(attention=True)
    session.rows(ours["random"], asked)
    n = (length - 1) // 2
    assert ours["random"][1 : n + 1] == ours["random"][n + 1 :] and len(set(ours["random"])) == n + 1
    assert ours["heads"] == pytest.approx(head_scores(np.stack(asked.pattern), n).ravel(), abs=1e-5)
    assert ours["chance"] == pytest.approx(chance(2 * n + 1, n))


def header_of(data: bytes) -> dict[str, Any]:
    return json.loads(read_parts(data, "page")[1]["manako.model"])


def rewritten(saved: Answer, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> bytes:
    """A saved run changed by somebody who makes its digests right."""
    parts, metadata = read_parts(base64.b64decode(saved["saved"]), "page")
    arrays, meta = {name: array_of(name, part, "page") for name, part in parts}, json.loads(metadata[RUN.name])
    change(meta, arrays)
    meta["columns_sha256"] = {name: column_digest(name, array) for name, array in arrays.items()}
    return container(RUN, meta, arrays)


def older(saved: Answer) -> bytes:
    """As version 1 had it, which knew of no sentences and of AdamW alone."""

    def change(meta: dict[str, Any], arrays: dict[str, Any]) -> None:
        meta["schema"] = "manako.run/1"
        del meta["sentences"], meta["muon_rate"]
        for name in [name for name in arrays if name.startswith("momentum/")]:
            momentum = arrays.pop(name)
            arrays |= {name.replace("momentum", kind): np.zeros_like(momentum) for kind in ("exp_avg", "exp_avg_sq")}

    return rewritten(saved, change)


def test_sentences_that_were_read_besides_are_on_record(saved: Answer, tmp_path: Path) -> None:
    sentence = {"step": 4, "text": "一度だけ", "learning_rate": 0.001}
    (tmp_path / "mine").write_bytes(rewritten(saved, lambda meta, arrays: meta["sentences"].append(sentence)))
    import_run(tmp_path / "mine", tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert lines[4] == {"step": 4, "sentence": "一度だけ", "learning_rate": 0.001} and len(lines) == 11
    (tmp_path / "older").write_bytes(older(saved))
    assert import_run(tmp_path / "older", tmp_path / "run-1").step == 10


CHANGES: dict[str, Callable[[dict[str, Any], dict[str, Any]], Any]] = {
    "a step after the last": lambda meta, arrays: meta.update(step=31),
    "another text": lambda meta, arrays: arrays.update(text=np.frombuffer(b"abcabc" * 40, dtype=np.uint8)),
    "no text": lambda meta, arrays: arrays.pop("text"),
    "no letters": lambda meta, arrays: arrays.update(text=np.frombuffer(b"  \n", dtype=np.uint8)),
    "a text that is none": lambda meta, arrays: arrays.update(text=np.frombuffer(b"\xff", dtype=np.uint8)),
    "a momentum less": lambda meta, arrays: arrays.pop("momentum/h.0.attn.c_attn.weight"),
    "a rate of Muon's that is none": lambda meta, arrays: meta.update(muon_rate=0),
    "a tensor less": lambda meta, arrays: arrays.pop("exp_avg/ln_f.bias"),
    "a tensor of another type": lambda meta, arrays: arrays.update({"weight/ln_f.bias": np.zeros(32)}),
    "weights without end": lambda meta, arrays: arrays.update({"weight/ln_f.bias": np.full(32, np.inf, np.float32)}),
    "heads that do not fit": lambda meta, arrays: meta["settings"].update(n_head=3),
    "a rate that is none": lambda meta, arrays: meta["settings"].update(learning_rate=-1),
    "an unknown setting": lambda meta, arrays: meta["settings"].update(magic=1),
    "losses that are none": lambda meta, arrays: arrays.update(loss=np.full(10, np.nan, np.float32)),
}


def test_the_page_refuses_what_python_refuses(node: Node, saved: Answer) -> None:
    whole = base64.b64decode(saved["saved"])
    files = {name: rewritten(saved, change) for name, change in CHANGES.items()}
    files |= {"cut short": whole[:-1], "another byte": whole[:-1] + bytes([whole[-1] ^ 1]), "a model": b"{}"}
    packed_files = {name: base64.b64encode(data).decode() for name, data in files.items()}
    good = {"": saved["saved"], "older": base64.b64encode(older(saved)).decode()}
    told = ask(node, "refused", files=packed_files | good)
    assert [told.pop(name) for name in good] == [None, None]
    assert {name for name, fault in told.items() if fault is None} == set()
    assert {fault["key"] for fault in told.values()} == {"trace_damaged"}


@pytest.mark.parametrize("name", CHANGES)
def test_a_run_changed_by_hand_is_refused_and_leaves_nothing(saved: Answer, tmp_path: Path, name: str) -> None:
    (tmp_path / "mine").write_bytes(rewritten(saved, CHANGES[name]))
    with pytest.raises(ManakoError):
        import_run(tmp_path / "mine", tmp_path / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    (tmp_path / "whole").write_bytes(rewritten(saved, lambda meta, arrays: None))
    assert import_run(tmp_path / "whole", tmp_path / "run").step == 10
