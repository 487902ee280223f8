"""The engine in the page computes what the NumPy engine computes: logits, draws, captures, token ids.

What it writes is a trace like any other.
"""

import base64
import json
import random
import runpy
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from toy import louder, random_texts, toy_checkpoint, toy_tokenizer, write_toy

from manako.analysis.verification import verify
from manako.engines.session import Session
from manako.errors import CapabilityError, UsageError
from manako.formats.checkpoint import Tensors
from manako.formats.model_folder import read_checkpoint, write_checkpoint
from manako.model import Model, for_page, load
from manako.refs import DEMO
from manako.sampling import Sampling, distribution, draw, uniform
from manako.tokenizer import Tokenizer, from_characters, from_merges, train_byte_bpe, train_character_bpe
from manako.trace.file import read_parts, to_bytes, trace_of
from manako.trace.record import Trace
from manako.views.html import WEB

Node = Callable[..., str]
TEXT = "私は猫である。名前はまだ無い。It's a truth universally acknowledged, 猫猫猫 the the then!\n12３ ア ー" * 20
EDGE = 1e-6  # nearer than this to the end of a token's share, u may draw its neighbour
TOLERANCE = 1e-5  # of logits, relative to the largest of the row: float32, added up in another order
TOKENIZERS: dict[str, Callable[[], Tokenizer]] = {
    "characters": toy_tokenizer,
    "character BPE": lambda: train_character_bpe([TEXT], 330),
    "byte BPE": lambda: train_byte_bpe([TEXT], 300),
}
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "heads of odd size": {"n_head": 4, "n_embd": 20, "n_inner": 23},
    "exact gelu, untied": {"activation_function": "gelu", "tie_word_embeddings": False},
    "relu": {"activation_function": "relu", "n_layer": 1},
    "no attention": {"attention": False},
    "norms behind": {"norm": "post"},
    "no residual": {"residual": False},
    "context of 100": {"block_size": 100},
}


def ask(node: Node, model: bytes, **question: Any) -> dict[str, Any]:
    script = Path(__file__).with_name("engine.mjs")
    given = json.dumps({"model": base64.b64encode(model).decode(), **question})
    return json.loads(node(str(script), given=given))


def floats(packed: dict[str, str]) -> npt.NDArray[np.float32]:
    return np.frombuffer(base64.b64decode(packed["float32"]), dtype=np.float32)


def read(text: str) -> Trace:
    return trace_of(read_parts(base64.b64decode(text), "page"), "page")


def run_of(model: Model, text: str, **changes: Any) -> dict[str, Any]:
    return {
        "ids": model.tokenizer.encode(text),
        "prompt": text,
        "sampling": Sampling(0.8).to_dict(),
        "seed": "0",
        "count": 12,
        "capture": [name for name in model.captures if name != "residual"],
    } | changes


def worst(ours: npt.NDArray[Any], theirs: npt.NDArray[Any]) -> float:
    return float(np.abs(ours - theirs).max() / max(1.0, np.abs(theirs).max()))


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_of_numpy_past_the_context_too(node: Node, tmp_path: Path, kind: str) -> None:
    write_toy(tmp_path / "toy", **KINDS[kind])
    model, rng = load(tmp_path / "toy"), random.Random(kind)
    size, context = model.config.vocab_size, model.config.block_size
    texts = [[rng.randrange(size) for _ in range(n)] for n in (1, 2, context - 1, context, context + 1, 3 * context)]
    texts += [[*texts[2], 5], [*texts[2][:7], 9]]  # which go on from what is cached, or part from it
    for exact in (False, True):
        answer = ask(node, for_page(tmp_path / "toy"), rows=texts, exact=exact)
        assert answer["kernel"] == ("plain" if exact else "wasm")
        for ids, row in zip(texts, answer["rows"], strict=True):
            assert worst(floats(row), Session(model.engine).uncached_logits(ids)) < (1e-6 if exact else TOLERANCE)


@pytest.mark.parametrize("kind", KINDS)
def test_a_trace_of_the_page_is_that_of_numpy_and_verifies(node: Node, tmp_path: Path, kind: str) -> None:
    write_toy(tmp_path / "toy", **KINDS[kind])
    model = load(tmp_path / "toy")
    run = run_of(model, "私は猫あいう", count=25)
    ours = read(ask(node, for_page(tmp_path / "toy"), runs=[run])["traces"][0])
    theirs = model.trace("私は猫あいう", seed=0, temperature=0.8, max_new_tokens=25, capture=run["capture"])
    assert ours.header.model.engine == "page-wasm" and ours.header.model.stored_dtype == "float32"
    assert verify(ours).ok and all(check.ok for check in ours.header.self_checks)
    assert [c.name for c in ours.header.self_checks] == [c.name for c in theirs.header.self_checks]
    for name in ("kind", "prompt", "sampling", "seed", "stop", "end", "special_ids", "capture", "parts", "first_step"):
        assert getattr(ours.header, name) == getattr(theirs.header, name), name
    assert ours.header.model.config == theirs.header.model.config
    assert np.array_equal(ours.all_ids, theirs.all_ids) and np.array_equal(ours.columns.u, theirs.columns.u)
    assert np.array_equal(ours.columns.window_start, theirs.columns.window_start)
    assert to_bytes(read_again(ours)) == to_bytes(ours)
    for name, column in theirs.columns.captured.items():
        assert ours.columns.captured[name].shape == column.shape, name
        if not name.endswith(("_id", "_rank")):  # of two that all but tie either may be first
            assert worst(ours.columns.captured[name], column) < 1e-4, name


def test_rounding_is_allowed_for_by_the_size_of_the_logits(node: Node, tmp_path: Path) -> None:
    made = louder(toy_checkpoint(), 1000)
    write_checkpoint(tmp_path / "loud", made.config, made.tensors, made.tokenizer)
    run = run_of(load(tmp_path / "loud"), "私は猫あいう", capture=["contributions"])
    ours = read(ask(node, for_page(tmp_path / "loud"), runs=[run])["traces"][0])
    logits = np.take_along_axis(ours.logits, ours.contributions.id, axis=1)
    assert np.abs(ours.contributions.value.sum(axis=1, dtype=np.float64) - logits).max() > 1e-4
    (noted,) = (c for c in ours.header.self_checks if c.name == "contributions_sum_to_logit")
    (again,) = verify(ours).checks
    assert verify(ours).ok and noted.ok and 0 < noted.error <= again.error * 1.000001  # that looks at means too


def read_again(trace: Trace) -> Trace:
    return trace_of(read_parts(to_bytes(trace), "again"), "again")


def partings(session: Session, prompt: list[int], ours: list[int], seed: int) -> list[float]:
    """How near u was to an edge of the token that NumPy draws, wherever that is another one behind the same text."""
    rows = session.rows([*prompt, *ours[:-1]])[len(prompt) - 1 :]
    drawn = [draw(distribution(row, Sampling(0.8)), uniform(seed, step)) for step, row in enumerate(rows)]
    assert len(drawn) == len(ours)
    return [min(d.u - d.low, d.high - d.u) for d, token in zip(drawn, ours, strict=True) if d.token_id != token]


@pytest.mark.slow
def test_1000_seeds_write_the_same_text_but_for_draws_at_an_edge(node: Node) -> None:
    model = load("demo")
    runs = [run_of(model, "私は", seed=str(n), count=6, capture=[]) for n in range(1000)]
    drawn = ask(node, for_page("demo"), draws=runs)["drawn"]
    session = Session(model.engine)  # one pass of a whole text, where writing it takes one for each token
    parted = [found for n in range(1000) for found in partings(session, runs[n]["ids"], drawn[n], n)]
    written = [
        model.trace("私は", seed=n, temperature=0.8, max_new_tokens=6).columns.token_id.tolist() for n in range(5)
    ]
    assert written == drawn[:5]
    assert all(distance < EDGE for distance in parted) and len(parted) <= 5, parted


def test_the_end_of_a_text_is_that_of_numpy(node: Node, tmp_path: Path) -> None:
    write_toy(tmp_path / "toy")
    model = load(tmp_path / "toy")
    long = model.trace("私は", seed=3, temperature=1, max_new_tokens=60)
    some = long.text_of(8, 10)
    start = model.config.start_id
    assert start is not None
    runs = [
        run_of(model, "私は", seed="3", count=60, sampling=Sampling(1).to_dict(), stop=[some], capture=[]),
        run_of(model, "私は", count=0),
        run_of(model, "私は", seed=str(2**64 - 1), count=200, sampling=Sampling(3.0, 50).to_dict(), capture=[]),
    ]
    ours = [read(text) for text in ask(node, for_page(tmp_path / "toy"), runs=runs)["traces"]]
    theirs = [
        model.trace("私は", seed=3, temperature=1, max_new_tokens=60, stop=[some]),
        model.trace("私は", max_new_tokens=0, seed=0),
        model.trace("私は", seed=2**64 - 1, max_new_tokens=200, temperature=3.0, top_k=50),
    ]
    for a, b in zip(ours, theirs, strict=True):
        assert (a.header.end, a.header.stop, a.header.seed) == (b.header.end, b.header.stop, b.header.seed)
        assert a.text == b.text
    assert ours[0].header.end == "stop"


def test_one_more_token_is_a_step_of_the_text_that_it_goes_on_from(node: Node, tmp_path: Path) -> None:
    write_toy(tmp_path / "toy")
    model = load(tmp_path / "toy")
    before = model.trace("私は", seed=1, max_new_tokens=6, capture=["attention"])
    run = run_of(model, "", ids=before.all_ids.tolist(), prompt=before.text, firstStep=6, seed="1", count=1)
    ours = read(ask(node, for_page(tmp_path / "toy"), runs=[run])["traces"][0])
    theirs = model.fork(before, 6, max_new_tokens=1, capture=run["capture"]).__iter__()
    assert ours.columns.token_id.tolist() == [next(theirs).token_id]
    assert ours.header.first_step == 6 and verify(ours).ok
    assert ours.attention.prompt_rows == 0  # those are on record in the text that it goes on from


@cache
def vocabulary(name: str) -> Tokenizer:
    return TOKENIZERS[name]()


@pytest.mark.parametrize("name", TOKENIZERS)
def test_ids_are_those_of_the_tokenizer(node: Node, tmp_path: Path, name: str) -> None:
    tokenizer = vocabulary(name)
    write_toy(tmp_path / "toy", tokenizer)
    pieces = [
        "It's",
        "I'LL ",
        "  the",
        "の",
        "猫猫",
        "ア",
        "ー",
        "1２",
        "!?",
        "\n\n",
        "\u3000",
        "\u0085",
        "\ufeff",
        "が",
    ]
    rng = random.Random(name)
    texts = ["", TEXT, *random_texts(3000), *("".join(rng.choices(pieces, k=9)) for _ in range(300))]
    answer = ask(node, for_page(tmp_path / "toy"), texts=texts)["ids"]
    assert answer == [tokenizer.encode(text) for text in texts]


OLD = (  # as old checkpoints have them: no bytes to fall back on; no words that merges stay in
    from_characters([*"私は猫ab"]),
    from_merges([*(bytes([n]) for n in range(256)), b"ab", b"abab"], [(97, 98), (256, 256)]),
)


@pytest.mark.parametrize("tokenizer", OLD)
def test_what_cannot_be_written_down_is_told_as_python_tells_it(
    node: Node, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    write_toy(tmp_path / "toy", tokenizer)
    texts = ["私は猫", "ababab", "a犬b\u3000😀", "x" * 9]
    for text, found in zip(texts, ask(node, for_page(tmp_path / "toy"), texts=texts)["ids"], strict=True):
        try:
            assert found == tokenizer.encode(text)
        except UsageError as error:
            assert found == {"error": error.key, **error.values}


@pytest.mark.parametrize("int8", [False, True], ids=["float16", "int8"])
def test_weights_in_any_form_are_the_same_numbers(node: Node, tmp_path: Path, int8: bool) -> None:
    given, rng = read_checkpoint(DEMO), np.random.default_rng(0)
    tensors = Tensors({n: w + rng.normal(0, 1e-3, w.shape).astype(np.float32) for n, w in given.tensors.items()})
    for name in ("rows", "whole"):  # numbers that lie between those of int8
        write_checkpoint(tmp_path / name, given.config, tensors, given.tokenizer, int8=name == "rows")
    ref, ids = tmp_path / ("rows" if int8 else "whole"), load("demo").tokenizer.encode("吾輩は猫である。")
    (row,) = ask(node, for_page(ref), rows=[ids])["rows"]
    assert worst(floats(row), Session(load(ref).engine).uncached_logits(ids)) < TOLERANCE
    assert (worst(floats(row), Session(load(tmp_path / "whole").engine).uncached_logits(ids)) > 1e-3) is int8


def test_what_the_page_cannot_run_is_refused(tmp_path: Path) -> None:
    for ref in ("gguf:some.gguf", "hf:org/name"):
        with pytest.raises(CapabilityError, match="model.safetensors"):
            for_page(ref)


def test_the_bytes_of_the_kernels_are_their_text() -> None:
    assembler = runpy.run_path(str(Path(__file__).parents[3] / "scripts" / "assemble_kernel.py"))
    assert len(assembler["KERNELS"]) == len([*WEB.rglob("*.wat")])
    for path, name in assembler["KERNELS"].items():
        script, text = path.read_text(encoding="utf-8"), path.with_name(name).read_text(encoding="utf-8")
        assert assembler["written"](script, text) == script
        assert assembler["written"](script, text.replace("f32x4.mul", "f32x4.add")) != script
