"""Files of each format, changed at random: opened as before, or refused by an error of ours; never anything else.

A short form runs with the other tests; `pytest tests/test_fuzz.py -m "" --fuzz 5000` makes so many files a format, and
`--fuzz-seed N` others.
"""

import hashlib
import json
import random
import shutil
import signal
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from corpora import build_toy
from fuzz import changed_bytes, changed_json
from golden import golden_trace
from toy import toy_tokenizer, write_toy
from toy_gguf import toy_file
from trees import toy_tree

import manako
from manako.corpus import aozora
from manako.corpus.documents import documents
from manako.corpus.packed import header_digest, open_whole
from manako.errors import ManakoError
from manako.formats.gguf import read_gguf
from manako.formats.pt_file import read_pt
from manako.formats.vocabulary_files import read_vocabulary
from manako.tokenizer import Tokenizer
from manako.trace.tree import open_tree, tree_bytes

SECONDS = 120  # for one file: more is a hang, also on a machine with much else to do
Change = Callable[[random.Random], bytes]


@contextmanager
def no_hang() -> Iterator[None]:
    def over(*_: object) -> None:
        raise TimeoutError(f"more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def attack(
    request: pytest.FixtureRequest, short: int, path: Path, change: Change, use: Callable[[], object]
) -> Counter[str]:
    """Put changed content into `path` again and again and `use` it; how many were accepted and refused."""
    count, seed = request.config.getoption("fuzz") or short, request.config.getoption("fuzz_seed")
    rng, found = random.Random(f"{seed} {request.node.name}"), Counter[str]()
    original = path.read_bytes()
    for number in range(count):
        path.unlink(missing_ok=True)
        path.write_bytes(data := change(rng))
        try:
            with no_hang(), warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # numbers that overflow are numbers of the file
                use()
            found["accepted"] += 1
        except ManakoError as error:
            assert str(error) and "\n" not in str(error)
            found["refused"] += 1
        except BaseException as error:
            kept = Path(request.config.rootpath) / "build" / f"fuzz-{request.node.name}-{number}".replace("/", "_")
            kept.parent.mkdir(exist_ok=True)
            kept.write_bytes(data)
            raise AssertionError(f"{type(error).__name__}: {error}; the file is kept as {kept}") from error
    path.write_bytes(original)
    use()  # it was the file, and nothing that stayed behind
    print(f"{request.node.name}: {found['refused']} refused, {found['accepted']} accepted")  # noqa: T201
    mended = ("[metrics.jsonl]", "[best]")  # damaged lines are dropped, the pointer is set anew
    assert found["refused"] > 0 or request.node.name.endswith(mended)
    return found


def either(data: bytes, seal: Callable[[Any], Any] = lambda parsed: parsed) -> Change:
    """Half of the files changed in their bytes, half in their structure."""
    return lambda rng: changed_bytes(data, rng) if rng.random() < 0.5 else changed_json(data, rng, seal)


def resealed(parsed: Any) -> Any:
    """A JSON header with its own digest made right again."""
    if isinstance(parsed, dict) and "digest" in parsed:
        parsed["digest"] = header_digest({k: v for k, v in parsed.items() if k != "digest"})
    return parsed


def test_a_trace(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    path = tmp_path / "a.manako"
    golden_trace().save(path)
    data = path.read_bytes()

    def use() -> None:
        trace = manako.open(path)
        manako.verify(trace)
        [step.text_before for step in trace]

    attack(request, 60, path, lambda rng: changed_header(data, rng), use)


def changed_header(data: bytes, rng: random.Random) -> bytes:
    """A safetensors file with other bytes, or with another header in its metadata whose digest is right."""
    if rng.random() < 0.4:
        return changed_bytes(data, rng)
    size = int.from_bytes(data[:8], "little")
    head = json.loads(data[8 : 8 + size])
    name = rng.choice([*head["__metadata__"], None])
    if name is None:
        text = changed_json(json.dumps(head).encode(), rng)
    else:
        value = head["__metadata__"][name]
        inner = changed_json(value.encode(), rng) if value.startswith("{") else changed_bytes(value.encode(), rng)
        head["__metadata__"][name] = inner.decode("utf-8", "replace")
        for other in head["__metadata__"]:
            if "sha256" in other and value.startswith("{"):
                head["__metadata__"][other] = hashlib.sha256(inner).hexdigest()
        text = json.dumps(head).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def test_a_tree(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    path = tmp_path / "a.manako"
    path.write_bytes(tree_bytes(toy_tree()))
    data = path.read_bytes()
    attack(request, 30, path, lambda rng: changed_header(data, rng), lambda: open_tree(path))


@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "model.safetensors"]
)
def test_a_model_folder(request: pytest.FixtureRequest, tmp_path: Path, name: str) -> None:
    write_toy(tmp_path / "m")
    path = tmp_path / "m" / name
    data = path.read_bytes()
    safetensors = name.endswith(".safetensors")
    change: Change = (lambda rng: changed_header(data, rng)) if safetensors else either(data)
    if not safetensors:  # without the digests, which would refuse any change
        weights = tmp_path / "m" / "model.safetensors"
        weights.write_bytes(without_metadata(weights.read_bytes()))

    def use() -> None:
        manako.load(tmp_path / "m").trace("猫", max_new_tokens=1, seed=0)

    attack(request, 40, path, change, use)


def without_metadata(data: bytes) -> bytes:
    size = int.from_bytes(data[:8], "little")
    head = {k: v for k, v in json.loads(data[8 : 8 + size]).items() if k != "__metadata__"}
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


@pytest.mark.slow
def test_a_tokenizer(request: pytest.FixtureRequest, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(toy_tokenizer().source.encode())
    parts = [{"type": "NFKC"}, {"type": "Lowercase"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]
    spec = json.loads(path.read_bytes()) | {"normalizer": {"type": "Sequence", "normalizers": parts}}
    spec["pre_tokenizer"] = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": True}
    data = json.dumps(spec).encode()
    attack(request, 100, path, either(data), lambda: Tokenizer.from_file(path).encode("猫 abc"))
    assert "panicked" not in capfd.readouterr().err


@pytest.mark.parametrize("name", ["unigram", "bpe"])
def test_a_file_of_sentencepiece(request: pytest.FixtureRequest, tmp_path: Path, name: str) -> None:
    path = tmp_path / "tokenizer.model"
    shutil.copy(Path(__file__).parent / "fixtures" / "sentencepiece" / f"{name}.model", path)
    data = path.read_bytes()

    def use() -> None:
        tokenizer = read_vocabulary(tmp_path, {"tokenizer_class": "LlamaTokenizer"}, {})
        tokenizer.aligned("私は ｶﾞ a<mask>\n")

    attack(request, 40, path, lambda rng: changed_bytes(data, rng), use)


def test_a_gguf(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(data := toy_file()[2])
    head = data.index(b"token_embd")  # what stands behind are numbers

    def change(rng: random.Random) -> bytes:
        return (
            changed_bytes(data[: head + 200], rng) + data[head + 200 :]
            if rng.random() < 0.8
            else changed_bytes(data, rng)
        )

    attack(request, 100, path, change, lambda: read_gguf(path))


def test_a_legacy_pt(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    fixture = Path(__file__).parent / "fixtures" / "legacy_gpt2mini_char.pt"
    if not fixture.exists():
        pytest.skip("the sdist leaves out this file of 6 MB")
    path = tmp_path / "a.pt"
    shutil.copy(fixture, path)
    data = path.read_bytes()
    ends = [(0, 3000), (len(data) - 4000, len(data))]  # the pickle, and the directory of the zip

    def change(rng: random.Random) -> bytes:
        start, end = rng.choice(ends)
        return data[:start] + changed_bytes(data[start:end], rng) + data[end:]

    attack(request, 12, path, change, lambda: read_pt(path))


@pytest.mark.parametrize("name", ["corpus.json", "tokenizer.json", "documents.jsonl", "train-00000.ids"])
def test_a_packed_corpus(request: pytest.FixtureRequest, tmp_path: Path, name: str) -> None:
    build_toy(tmp_path / "c")
    path, header = tmp_path / "c" / name, tmp_path / "c" / "corpus.json"
    data, whole = path.read_bytes(), json.loads(header.read_bytes())

    def change(rng: random.Random) -> bytes:
        if name == "corpus.json":
            return either(data, resealed)(rng)
        made = changed_bytes(data, rng)
        if rng.random() < 0.7 and not name.endswith(".ids"):  # with its digest made right
            header.write_text(json.dumps(resealed(whole | {f"{path.stem}_sha256": hashlib.sha256(made).hexdigest()})))
        return made

    def use() -> None:
        if path.read_bytes() == data:
            header.write_text(json.dumps(whole))
        corpus = open_whole(tmp_path / "c")
        list(corpus.documents())

    attack(request, 60, path, change, use)


def test_text_and_tables(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    lines = [json.dumps({"text": f"猫{n}", "title": "題", "n": n}, ensure_ascii=False) for n in range(20)]
    path.write_bytes(data := "\n".join(lines).encode())
    attack(request, 60, path, lambda rng: changed_bytes(data, rng), lambda: list(documents(path)))


def test_parquet(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"text": ["猫", "犬"] * 40, "title": ["a", "b"] * 40}), path)
    data = path.read_bytes()
    attack(request, 40, path, lambda rng: changed_bytes(data, rng), lambda: list(documents(path)))


@pytest.mark.parametrize("suffix", ["zip", "tar.gz", "tar.xz", "txt.gz"])
def test_an_archive(request: pytest.FixtureRequest, tmp_path: Path, suffix: str) -> None:
    (tmp_path / "in").mkdir()
    for n in range(3):
        (tmp_path / "in" / f"{n}.txt").write_text("猫である。\n" * 50, encoding="utf-8")
    path = tmp_path / f"a.{suffix}"
    if suffix == "txt.gz":
        import gzip

        path.write_bytes(gzip.compress((tmp_path / "in" / "0.txt").read_bytes()))
    else:
        kind = {"zip": "zip", "tar.gz": "gztar", "tar.xz": "xztar"}[suffix]
        shutil.make_archive(str(tmp_path / "a"), kind, tmp_path / "in")
    data = path.read_bytes()
    attack(request, 40, path, lambda rng: changed_bytes(data, rng), lambda: list(documents(path)))


@pytest.mark.parametrize("suffix", ["html", "epub"])
def test_pages_and_books(request: pytest.FixtureRequest, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    page = (
        "<html><title>題</title><p class='a'>猫<ruby>犬<rt>いぬ</rt></ruby>&amp;</p><!-- a --><img alt='喰'></html>" * 9
    )
    path.write_text(page, encoding="utf-8")
    if suffix == "epub":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("META-INF/container.xml", '<rootfile full-path="b.opf"/>')
            items = '<item id="a" href="a.xhtml" media-type="application/xhtml+xml"/><itemref idref="a"/>'
            archive.writestr("b.opf", f"<package><dc:title>本</dc:title>{items}</package>")
            archive.writestr("a.xhtml", page)
    assert list(documents(path)), "as it is, it is read"
    data = path.read_bytes()
    attack(request, 40, path, lambda rng: changed_bytes(data, rng), lambda: list(documents(path)))


def test_aozora_notation(request: pytest.FixtureRequest) -> None:
    """Random mixes of its marks: read in a time that grows with the text, and never an exception."""
    marks = "［＃ ］ ※ 《 》 ｜ 〔 〕 ' ` ^ & / ／＼ ／″＼ 底本： 、第3水準1-84-86 U+546D 猫 a".split() + [
        "\n",
        "\n\n",
        " ",
        "\t",
        "　",
    ]
    rng = random.Random(request.config.getoption("fuzz_seed"))
    for _ in range(request.config.getoption("fuzz") or 150):
        weights = [rng.random() ** 4 for _ in marks]
        with no_hang():
            work = aozora.work("".join(rng.choices(marks, weights, k=rng.randrange(5000))))
        assert work.text.endswith("\n")


RUN_FILES = ["config.toml", "metrics.jsonl", "last", "best", "checkpoints/step-000004/training.json",
             "checkpoints/step-000004/training.safetensors"]  # fmt: skip


@pytest.fixture(scope="module")
def run_of_four_steps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch")
    place = tmp_path_factory.mktemp("run")
    (place / "a.txt").write_text("私は猫である。名前はまだ無い。\n" * 40, encoding="utf-8")
    shape: dict[str, Any] = {"n_layer": 1, "n_head": 1, "n_embd": 8, "block_size": 8, "batch_size": 2}
    return manako.train(place / "a.txt", place / "m", steps=4, eval_interval=2, min_count=1, device="cpu", **shape)


@pytest.mark.slow
@pytest.mark.parametrize("name", RUN_FILES)
def test_a_run_folder(request: pytest.FixtureRequest, tmp_path: Path, run_of_four_steps: Path, name: str) -> None:
    """`resume`, which may write, and a look at the model; afterwards nothing outside has changed."""
    pytest.importorskip("torch")
    from manako.training.run import resume

    data = (run_of_four_steps / name).read_bytes()
    run, other = tmp_path / "m", tmp_path / "other"
    other.write_text("mine")

    def use() -> None:
        changed = path.read_bytes()
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(run_of_four_steps, run)
        (run / name).write_bytes(changed)
        try:
            resume(run)
        finally:
            assert other.read_text() == "mine" and sorted(p.name for p in tmp_path.iterdir()) == [
                "changed",
                "m",
                "other",
            ]
        manako.load(run)

    def change(rng: random.Random) -> bytes:
        if name.endswith("training.json"):
            return either(data, resealed)(rng)
        if name == "config.toml" and rng.random() < 0.6:
            lines = data.decode().splitlines()
            at = rng.randrange(len(lines))
            key = lines[at].split(" = ")[0]
            lines[at] = f"{key} = " + rng.choice(
                ('""', "-1", "0", "1e400", "10000000000000000000000", "[]", "true", '"\\u0000"', "nan", "[1]")
            )
            return "\n".join(lines).encode()
        return changed_bytes(data, rng)

    path = tmp_path / "changed"
    path.write_bytes(data)
    attack(request, 12, path, change, use)
