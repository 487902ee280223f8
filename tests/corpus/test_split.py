"""Training and validation documents: stable whatever else is there, no work on both sides, no side empty."""

import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manako.corpus.documents import Document, documents
from manako.corpus.split import VALIDATION_SHARE, split
from manako.errors import ManakoError

KANJI = [chr(c) for c in range(0x4E00, 0x5E00)]


def works(count: int, seed: int = 0) -> list[Document]:
    """Works of some hundred characters, kanji among kana."""
    rng = random.Random(seed)
    return [
        Document(
            f"w{n}", "".join(rng.choice(KANJI) + rng.choice("のをはがに。") for _ in range(rng.randrange(50, 300)))
        )
        for n in range(count)
    ]


def test_about_the_share_goes_to_validation() -> None:
    train, validation = split(works(3000))
    assert len(train) + len(validation) == 3000
    assert 0.7 * VALIDATION_SHARE < len(validation) / 3000 < 1.3 * VALIDATION_SHARE
    assert 0.45 < len(split(works(1000), share=0.5)[1]) / 1000 < 0.55


def test_order_is_kept_and_every_document_is_on_one_side() -> None:
    everything = works(500)
    train, validation = split(everything)
    places = {d.name: i for i, d in enumerate(everything)}
    for side in (train, validation):
        assert [places[d.name] for d in side] == sorted(places[d.name] for d in side)
    assert {d.name for d in train} | {d.name for d in validation} == set(places)
    assert not {d.name for d in train} & {d.name for d in validation}


def test_a_work_falls_on_the_same_side_whatever_else_is_there() -> None:
    everything = works(600)
    whole = {d.name for d in split(everything)[1]}
    rng = random.Random(1)
    for _ in range(10):
        some = rng.sample(everything, 400)
        train, validation = split(some)
        assert {d.name for d in validation} == whole & {d.name for d in some}


def test_the_split_is_the_same_on_every_machine() -> None:
    """Names written down once: a change of the rule would mix up what a published model was judged on."""
    plain = [Document(str(n), chr(0x4E00 + n) * 9) for n in range(200)]
    assert [d.name for d in split(plain)[1]] == ["72", "77", "97", "146", "158", "165"]


def test_the_name_of_a_file_does_not_decide() -> None:
    everything = works(300)
    renamed = [Document("other" + d.name, d.text) for d in everything]
    assert [d.name for d in split(renamed)[1]] == ["other" + d.name for d in split(everything)[1]]


def test_a_second_copy_or_edition_of_a_work_does_not_leak() -> None:
    """Copies, copies with another ending, and editions in old kana (same kanji) fall on the side of the first."""
    everything = works(400)
    copies = [Document("copy " + d.name, d.text) for d in everything]
    longer = [Document("long " + d.name, d.text + "終わりが違う版" * 9) for d in everything if len(d.text) > 450]
    old = [Document("old " + d.name, d.text.replace("は", "ハ").replace("に", "ゐ")) for d in everything]
    train, validation = split([*everything, *copies, *longer, *old])
    held_out = {d.name for d in validation}
    for name in [n for n in held_out if " " not in n]:
        assert "copy " + name in held_out and "old " + name in held_out
    assert all(d.name.split()[-1] in held_out for d in validation)


@given(st.lists(st.text(alphabet="あいう漢字一二三\n", min_size=2, max_size=60), min_size=1, max_size=6))
def test_p25_neither_side_is_ever_empty(texts: list[str]) -> None:
    everything = [Document(str(i), t) for i, t in enumerate(texts)]
    train, validation = split(everything)
    assert train and validation
    assert all(d.text for d in validation) and any(d.text for d in train)
    given, shown = Counter(texts), Counter(d.text for d in [*train, *validation])
    if validation[0].name.endswith("[end]"):  # then the cut text counts once, its copies are left out
        whole = next(d.text for d in train if d.name + " [end]" == validation[0].name) + validation[0].text
        given = Counter({t: n for t, n in given.items() if t != whole})
        shown = Counter({t: n for t, n in shown.items() if t in given})
    assert shown == given  # nothing lost, nothing twice


def test_p25_one_document_is_cut_and_the_name_says_so() -> None:
    text = "私は猫である。" * 100
    (train,), (validation,) = split([Document("a.txt", text)])
    assert validation.name == "a.txt [end]" and train.name == "a.txt"
    assert train.text + validation.text == text and len(validation.text) == pytest.approx(0.1 * len(text), abs=1)


def test_p25_when_chance_leaves_a_side_empty_the_longest_is_cut() -> None:
    few = split(works(100))[0][:4]  # all on the training side
    train, validation = split(few)
    longest = max(few, key=lambda d: len(d.text))
    assert [d.name for d in validation] == [longest.name + " [end]"]
    assert sorted(d.name for d in train) == sorted(d.name for d in few)


def test_p25_a_cut_document_does_not_leak_through_its_copy() -> None:
    text = "".join(f"私は猫である、{n}。" for n in range(100))
    train, validation = split([Document("a", text), Document("copy", text)])
    assert not any(validation[0].text in d.text for d in train)


def test_p23_no_documents_at_all_is_an_error_of_ours() -> None:
    with pytest.raises(ManakoError):
        split([])


def test_p25_a_document_of_one_character() -> None:
    train, validation = split([Document("a", "あ")])
    assert all(d.text for d in train)


def test_split_of_a_folder(tmp_path: Path) -> None:
    for d in works(80):
        (tmp_path / f"{d.name}.txt").write_text(d.text, encoding="utf-8")
    train, validation = split(documents(tmp_path))
    expected = {d.name for d in split(works(80))[1]}
    assert {Path(d.name).stem for d in validation} == expected and len(train) == 80 - len(expected)
