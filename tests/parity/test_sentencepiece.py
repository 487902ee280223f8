"""Random texts against the library `sentencepiece`, for vocabularies of each kind that it trains."""

import io
import random
from collections.abc import Iterator
from typing import Any

import pytest

from manako.sentencepiece.cutting import Cutter
from manako.sentencepiece.model_file import read_piece_model

pytestmark = pytest.mark.slow
library: Any = pytest.importorskip("sentencepiece")
WORDS = (
    "the model reads a text 私は 猫で ある。 名前は まだ無い ガラス カタカナ ABC 2026 it's -- ==== ababab aaaa\t".split(
        " "
    )
)
ODD = [
    *"é e\u0301 \uff76\uff9e \uff8a\uff9f \u304b\u3099 \u1100\u1161\u11a8 \ufdfa \u337f \u2460 \uff21".split(" "),
    *"\u3000 \u00a8 \u00a0 \u200b \u200d\ufeff \u0130\u00df\u03a3\u03c2 \U0001f468\u200d\U0001f469 \t".split(" "),
    *"\r\n \0 \1 \x7f \u2028 \u2581 \u2581\u2581 <s> </s> <unk> <0x41> <mask> \ufffd \U00020b9f".split(" "),
    *"\u845b\U000e0100 \u0f71\u0f72\u0f74 \u0344 =\u0338 <\u0338".split(" "), " ", "  ", "   ",
]  # fmt: skip
RANGES = ((0x20, 0x250), (0x300, 0x370), (0x3000, 0x3100), (0xFF00, 0xFFF0), (0x1100, 0x1200), (0xE000, 0x110000))
KINDS: tuple[dict[str, Any], ...] = (
    {},
    {"byte_fallback": True},
    {"remove_extra_whitespaces": False, "add_dummy_prefix": False},
    {"user_defined_symbols": ["<mask>", "aaa", "\u2581\u2581", "\u00e9"]},
    {"treat_whitespace_as_suffix": True, "allow_whitespace_only_pieces": True},
    {"control_symbols": ["<mask>", "--"], "split_by_whitespace": False, "remove_extra_whitespaces": False},
)


def texts(rng: random.Random, count: int) -> Iterator[str]:
    for _ in range(count):
        kind, size = rng.random(), rng.randrange(1, 30)
        if kind < 0.5:
            yield "".join(rng.choice(ODD if rng.random() < 0.4 else WORDS) for _ in range(size // 2 + 1))
        elif kind < 0.75:
            yield "".join(rng.choice("ab 猫-=ー") for _ in range(size))
        else:
            yield "".join(chr(rng.randrange(*rng.choice(RANGES))) for _ in range(size))


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
@pytest.mark.parametrize("rule", ["nmt_nfkc", "identity", "nfkc_cf"])
def test_ids_of_random_texts(kind: str, rule: str) -> None:
    rng, told = random.Random(f"{kind} {rule}"), 0
    lines = [" ".join(rng.choices(WORDS, k=12)) for _ in range(400)]
    lines += ["".join(rng.choices("ab", k=30)) for _ in range(100)]
    for settings in KINDS:
        data = io.BytesIO()
        library.SentencePieceTrainer.train(
            sentence_iterator=iter(lines), model_writer=data, vocab_size=400, model_type=kind, hard_vocab_limit=False,
            normalization_rule_name=rule, character_coverage=0.98, num_threads=1, minloglevel=2, **settings,
        )  # fmt: skip
        theirs = library.SentencePieceProcessor(model_proto=data.getvalue())
        ours = Cutter(read_piece_model(data.getvalue()))
        for text in texts(rng, 150):
            assert ours.cut(text)[0] == theirs.encode(text), (settings, text)
            told += 1
    assert told == 150 * len(KINDS)
