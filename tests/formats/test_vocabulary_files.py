"""Folders without tokenizer.json: the ids are those of `AutoTokenizer` or of SentencePiece, or the way is named."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import models, pre_tokenizers, trainers
from toy_llama import write_toy_llama

import manako
from manako.errors import LoadError, UsageError
from manako.formats import hf_folder
from manako.formats.special_tokens import token_names
from manako.formats.vocabulary_files import loader_of, read_vocabulary
from manako.refs import Ref
from manako.tokenizer import Tokenizer

TEXT = "it's  the cat, isn't it? 1234 tables\n\n  don't  stop naïve 私は猫 " * 9
SAMPLES = ["", " ", "  two  spaces ", "it's 12345 TABLES\r\n\n x", "naïve e\u0301 猫であるABC", "<|endoftext|> a"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A byte-level vocabulary as GPT-2 was published."""
    rust = tokenizers.Tokenizer(models.BPE())
    rust.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore[reportAttributeAccessIssue]
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=330, initial_alphabet=letters, show_progress=False)
    rust.train_from_iterator([TEXT], trainer)
    spec = json.loads(rust.to_str())["model"]
    vocab = spec["vocab"] | {"<|endoftext|>": len(spec["vocab"])}
    (tmp_path / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(merge) for merge in spec["merges"]), ""]
    (tmp_path / "merges.txt").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("name, settings", [
    ("GPT2Tokenizer", {}),
    ("GPT2TokenizerFast", {"add_prefix_space": True}),
    ("Qwen2Tokenizer", {}),
])  # fmt: skip
@pytest.mark.slow
def test_ids_are_those_of_transformers(name: str, settings: dict[str, Any], folder: Path) -> None:
    transformers: Any = pytest.importorskip("transformers")
    size = len(json.loads((folder / "vocab.json").read_text()))
    more = {
        str(size): {"content": "<mask>", "special": False},
        str(size + 1): {"content": "<|im_end|>", "special": True},
    }
    wrapper = {"tokenizer_class": name, "added_tokens_decoder": more, "eos_token": "<|im_end|>", **settings}
    (folder / "tokenizer_config.json").write_text(json.dumps(wrapper))
    ours = read_vocabulary(folder, wrapper, {})
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    assert ours.vocab_size == len(theirs) == size + 2
    for text in (*SAMPLES, "a <mask> b"):
        assert ours.encode(text) == theirs(text, split_special_tokens=True, add_special_tokens=False)["input_ids"], text
    assert ours.encode("a<|im_end|>b", special=True) == theirs("a<|im_end|>b")["input_ids"]
    assert not ours.front_ids


@pytest.mark.parametrize("name, in_file, said", [
    ("GPT2Tokenizer", False, True),
    ("GPT2TokenizerFast", True, None),
    ("Qwen2Tokenizer", False, True),
    ("GPTNeoXTokenizer", True, False),
    ("CodeGenTokenizer", False, True),
    ("Qwen3_5Tokenizer", False, True),
    ("PreTrainedTokenizerFast", False, True),
    ("PreTrainedTokenizerFast", True, False),
])  # fmt: skip
@pytest.mark.slow
def test_what_stands_beside_a_tokenizer_json_counts_as_in_transformers(
    name: str, in_file: bool, said: bool | None, folder: Path
) -> None:
    transformers: Any = pytest.importorskip("transformers")
    kind = "Qwen2Tokenizer" if name.startswith("Qwen") else "GPT2Tokenizer"
    plain = read_vocabulary(folder, {"tokenizer_class": kind, "add_prefix_space": in_file}, {})
    (folder / "tokenizer.json").write_text(plain.source, encoding="utf-8")
    for file in ("vocab.json", "merges.txt"):
        (folder / file).unlink()
    size, piece = plain.vocab_size, "it"
    assert plain.id_of(piece) is not None
    flags = {"special": False, "lstrip": False, "rstrip": False, "single_word": False, "normalized": False}
    contents = {size + 9: "<mask>", 3: piece, size: "<x>", size + 1: "猫で", size + 2: "猫で"}
    wrapper: dict[str, Any] = {"tokenizer_class": name, "bos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    wrapper |= {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    wrapper["added_tokens_decoder"] = {str(i): {"content": content, **flags} for i, content in contents.items()}
    wrapper |= {} if said is None else {"add_prefix_space": said}
    (folder / "tokenizer_config.json").write_text(json.dumps(wrapper))
    ours = read_vocabulary(folder, wrapper, {})
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    assert ours.vocab_size == len(theirs) == size + 3
    for text in (*SAMPLES[:4], "a <mask> b", "<x>it's it 私は猫である<mask>"):
        assert ours.encode(text) == theirs(text, add_special_tokens=False)["input_ids"], text


@pytest.mark.slow
def test_without_a_class_it_is_that_of_the_kind_of_model(folder: Path) -> None:
    transformers: Any = pytest.importorskip("transformers")
    plain = read_vocabulary(folder, {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": True}, {})
    (folder / "tokenizer.json").write_text(plain.source, encoding="utf-8")
    (folder / "config.json").write_text('{"model_type": "gpt2"}')
    theirs, config = transformers.AutoTokenizer.from_pretrained(folder), {"model_type": "gpt2"}
    ours = read_vocabulary(folder, {}, config)
    assert [ours.encode(text) for text in SAMPLES[:4]] == [theirs(text)["input_ids"] for text in SAMPLES[:4]]
    assert token_names({}, {}, loader_of({}, config)) == theirs.special_tokens_map


def test_a_tokenizer_json_that_needs_nothing_keeps_its_fingerprint(folder: Path) -> None:
    plain = read_vocabulary(folder, {}, {})
    (folder / "tokenizer.json").write_text(plain.source, encoding="utf-8")
    more = {str(plain.id_of("<|endoftext|>")): {"content": "<|endoftext|>", "special": True}}
    wrapper = {"tokenizer_class": "GPT2Tokenizer", "added_tokens_decoder": more}
    assert read_vocabulary(folder, wrapper, {}).fingerprint == plain.fingerprint
    for added in ({"5": {"content": ""}}, {"5": {"content": 1}}, {"5": "x"}, ["x"], "x", None):
        assert read_vocabulary(folder, wrapper | {"added_tokens_decoder": added}, {}).source == plain.source


def test_two_files_alone_are_gpt2s(folder: Path) -> None:
    tokenizer = Ref.parse(str(folder)).tokenizer()
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT.encode()
    assert tokenizer.special_ids == {tokenizer.id_of("<|endoftext|>")}


@pytest.mark.parametrize("number", ["9" * 5000, "-1", "1.0", "x", ""])
def test_what_is_no_id_names_no_token(number: str, folder: Path) -> None:
    plain = read_vocabulary(folder, {}, {})
    assert read_vocabulary(folder, {"added_tokens_decoder": {number: {"content": "x"}}}, {}).source == plain.source


@pytest.mark.parametrize("wrapper", [{"tokenizer_class": "CodeGenTokenizer"}, {"add_bos_token": True}])
def test_another_class_is_for_transformers(wrapper: dict[str, Any], folder: Path) -> None:
    with pytest.raises(LoadError, match="hf:./FOLDER"):
        read_vocabulary(folder, wrapper, {})


@pytest.mark.parametrize("name", ["sentencepiece.bpe.model", "vocab.txt", "tiktoken.model"])
def test_other_files_are_for_transformers(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(LoadError, match="hf:./FOLDER"):
        read_vocabulary(tmp_path, {}, {})


@pytest.mark.parametrize("file, content", [
    ("merges.txt", b"#version: 0.2\na b c\n"),
    ("merges.txt", b"\xff"),
    ("merges.txt", b"nothing else\n"),
    ("vocab.json", b"[]"),
    ("vocab.json", b'{"a": "0"}'),
    ("vocab.json", b'{"a": 0, "b": 0}'),
    ("vocab.json", b'{"a": -1}'),
    ("added_tokens.json", b'{"<x>": 1000000}'),
])  # fmt: skip
def test_files_that_lie_are_refused(file: str, content: bytes, folder: Path) -> None:
    (folder / file).write_bytes(content)
    with pytest.raises(LoadError) as caught:
        read_vocabulary(folder, {}, {})
    assert str(caught.value).isprintable()


PIECES = Path(__file__).parents[1] / "fixtures" / "sentencepiece"
IDS = json.loads((PIECES / "ids.json").read_text(encoding="utf-8"))


def pieces(place: Path, name: str, wrapper: dict[str, Any], model_type: str | None = None) -> Tokenizer:
    """A folder with nothing but the file of SentencePiece."""
    shutil.copy(PIECES / f"{name}.model", place / ("spiece.model" if name == "unigram" else "tokenizer.model"))
    return read_vocabulary(place, wrapper, {"model_type": model_type})


@pytest.mark.parametrize("name, kind", [("unigram", "T5Tokenizer"), ("bpe", "LlamaTokenizer")])
def test_a_file_of_sentencepiece_gives_its_ids(name: str, kind: str, tmp_path: Path) -> None:
    read = pieces(tmp_path, name, {"tokenizer_class": kind})
    again = Tokenizer(read.source)  # as it lies in a run or an export
    for tokenizer in (read, again):
        assert [tokenizer._encode(text)[0] for text, _ in IDS[name]] == [ids for _, ids in IDS[name]]
        assert tokenizer.encode_documents([text for text, _ in IDS[name]]) == [ids for _, ids in IDS[name]]
    rust = tokenizers.Tokenizer.from_str(read.source)  # as other programs read what is exported
    assert rust.encode("the model", add_special_tokens=False).ids == read.encode("the model")
    assert read.front_ids == ((1,) if name == "bpe" else ())
    assert read.decode(read.encode("the model")) == b" the model"


def test_a_model_folder_opens_with_such_a_file(tmp_path: Path) -> None:
    """The class may stand in config.json alone; what is exported opens again with the same ids."""
    write_toy_llama(tmp_path / "m", vocab_size=500)
    (tmp_path / "m" / "tokenizer.json").unlink()
    (tmp_path / "m" / "tokenizer_config.json").unlink(missing_ok=True)
    shutil.copy(PIECES / "unigram.model", tmp_path / "m" / "spiece.model")
    path = tmp_path / "m" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tokenizer_class": "T5Tokenizer"}))
    model = manako.load(tmp_path / "m")
    trace = model.trace("the  model", max_new_tokens=2, seed=0)
    assert manako.verify(trace).failure is None and trace.steps[0].text_before == " the model"


def test_a_reference_has_the_vocabulary_that_its_model_has(tmp_path: Path) -> None:
    """So `manako tokens` and `corpus build --tokenizer` start a text as the model does."""
    shutil.copy(PIECES / "bpe.model", tmp_path / "tokenizer.model")
    (tmp_path / "config.json").write_text('{"tokenizer_class": "LlamaTokenizer", "rope_theta": Infinity}')
    assert Ref.parse(tmp_path).tokenizer().front_ids == (1,)


def test_start_token_and_spaces_are_as_the_class_has_them(tmp_path: Path) -> None:
    later = {"500": {"content": "<|im_end|>", "special": True}, "501": {"content": "<tool>"}}
    llama = {"tokenizer_class": "LlamaTokenizerFast", "added_tokens_decoder": later}
    read = pieces(tmp_path, "bpe", llama)
    assert read.vocab_size == 502 and read.front_ids == (1,)
    a = read.encode("a")  # with the space in front
    assert read.encode("a<tool>a") == [*a, 501, *a]  # each part has one
    assert read.encode("a<|im_end|>a", special=True) == [*a, 500, *a]
    assert 500 not in read.encode("a<|im_end|>a") and 1 not in read.encode("<s>")
    assert read.encode("<s>a", special=True) == [1, *a]
    first_alone = pieces(tmp_path, "bpe", llama | {"legacy": False})
    assert first_alone.encode("a<tool>a") == [*a, 501, *[i for i in a if read.token_bytes[i] != b" "]] or len(a) == 1
    assert not pieces(tmp_path, "bpe", llama | {"add_bos_token": False}).front_ids
    assert pieces(tmp_path, "bpe", {}, "mistral").front_ids == (1,)
    lower = pieces(tmp_path, "unigram", {"tokenizer_class": "T5Tokenizer", "do_lower_case": True})
    assert lower.encode("MODEL") == lower.encode("model")
    with pytest.raises(UsageError, match="İ"):  # two characters in lower case
        lower.encode("İ")


PREPEND = {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
SPACED = [
    "",
    "a",
    " the model",
    "  the",
    "model ing",
    "a</s>the",
    "</s> the",
    "<s>model",
    "<s> a",
    "\nthe",
    "猫\u3000the ",
]


@pytest.mark.parametrize(
    "rules", [{}, {"normalizer": None, "pre_tokenizer": METASPACE}], ids=["prepended", "metaspace"]
)
@pytest.mark.parametrize("name, model_type, said", [
    ("LlamaTokenizer", None, {}),
    ("LlamaTokenizerFast", "llama", {"add_prefix_space": False}),
    ("LlamaTokenizerFast", "llama", {"add_prefix_space": None, "legacy": True}),
    ("LlamaTokenizer", "gpt2", {"add_prefix_space": True, "legacy": False}),
    ("CodeLlamaTokenizer", "llama", {"add_prefix_space": False, "legacy": True}),
    ("CodeLlamaTokenizer", "llama", {"legacy": True}),
    ("LlamaTokenizer", "mistral", {"add_prefix_space": False}),
    ("LlamaTokenizer", "phi3", {"add_prefix_space": False}),
    ("PreTrainedTokenizerFast", "llama", {"add_prefix_space": False}),
    (None, "llama", {"add_prefix_space": False}),
])  # fmt: skip
@pytest.mark.slow
def test_the_spaces_of_a_tokenizer_json_are_those_of_the_class_that_opens_it(
    name: str | None, model_type: str | None, said: dict[str, Any], rules: dict[str, Any], tmp_path: Path
) -> None:
    """The classes of Llama keep none of the file's own rules, but for a kind of model that is opened with another."""
    transformers: Any = pytest.importorskip("transformers")
    spec = json.loads(pieces(tmp_path, "bpe", {"tokenizer_class": "LlamaTokenizer"}).source)
    spec |= {"normalizer": {"type": "Sequence", "normalizers": list(PREPEND)}, **rules}
    (tmp_path / "tokenizer.model").unlink()
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec))
    config = {} if model_type is None else {"model_type": model_type}
    wrapper = {"tokenizer_class": name, "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", **said}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(wrapper))
    if config:
        (tmp_path / "config.json").write_text(json.dumps(config))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    readers = [] if model_type == "phi3" else [read_vocabulary(tmp_path, wrapper, config)]
    loader = hf_folder._loader(model_type, name)
    for ours in (*readers, hf_folder._tokenizer(tmp_path, wrapper, config, loader)):
        assert ours.front_ids == (1,) == tuple(theirs("the")["input_ids"][:1])
        for text in SPACED:
            for special in (False, True):
                ids = theirs(text, add_special_tokens=False, split_special_tokens=not special)["input_ids"]
                assert ours.encode(text, special) == ids, (text, special)


def test_llama_3_keeps_the_rules_of_its_file(folder: Path) -> None:
    """Its class is that of Llama 1 by mistake: where tokens are bytes, `AutoTokenizer` takes the file as it stands."""
    plain = read_vocabulary(folder, {}, {})
    (folder / "tokenizer.json").write_text(plain.source, encoding="utf-8")
    assert read_vocabulary(folder, {"tokenizer_class": "LlamaTokenizerFast"}, {}).source == plain.source


@pytest.mark.parametrize("wrapper", [{"tokenizer_class": "XLMRobertaTokenizer"}, {"add_prefix_space": False}])
def test_other_classes_with_such_a_file_are_for_transformers(wrapper: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="hf:./FOLDER"):
        pieces(tmp_path, "bpe", wrapper)
    with pytest.raises(LoadError, match="hf:./FOLDER"):
        pieces(tmp_path, "bpe", {}, "gpt2")  # and no class: nobody knows what stands in front


@pytest.mark.parametrize("spoil", [
    lambda spec: spec["normalizer"]["sentencepiece"].update(model="!"),
    lambda spec: spec["normalizer"]["sentencepiece"].update(model="aaaa"),
    lambda spec: spec["normalizer"]["sentencepiece"].pop("legacy"),
    lambda spec: spec["normalizer"].update(sentencepiece=[1]),
    lambda spec: spec["model"]["vocab"].update({"new": 500}),
    lambda spec: spec["added_tokens"].append(spec["added_tokens"][0] | {"id": 500, "content": "<x>", "lstrip": True}),
    lambda spec: spec.update(added_tokens=None),
    lambda spec: spec["post_processor"].update(single=[{"SpecialToken": {"id": "nobody"}}]),
])  # fmt: skip
def test_a_carried_file_that_does_not_fit_is_refused(spoil: Any, tmp_path: Path) -> None:
    spec = json.loads(pieces(tmp_path, "bpe", {"tokenizer_class": "LlamaTokenizer"}).source)
    spoil(spec)
    with pytest.raises(LoadError):
        Tokenizer(json.dumps(spec))


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    for content in (b"x", b"IQ== 0\nIg== 1\n", b""):
        (tmp_path / "tokenizer.model").write_bytes(content)
        with pytest.raises(LoadError, match="tokenizer.model is not a tokenizer"):
            read_vocabulary(tmp_path, {}, {})
