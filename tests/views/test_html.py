"""The page as one file: nothing in it but code, words and base64; a policy that lets nothing else run."""

import base64
import hashlib
import html as stdlib_html
import json
import re
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from golden import HOSTILE, golden_header, golden_inside, golden_trace, large_inside
from trees import toy_tree

import manako
from manako import messages
from manako.analysis.compact import compact
from manako.analysis.compare import Comparison
from manako.trace.file import to_bytes
from manako.trace.record import Trace
from manako.trace.tree import Branch, Tree, tree_bytes
from manako.views import html
from manako.views.html import (
    NO_RECORD,
    WEB,
    Carried,
    bundle,
    imports_of,
    json_for_html,
    modules_of,
    notebook,
    offline_page,
    packed,
    page,
    trainer_page,
    words,
)

MODULES = sorted(path.relative_to(WEB).as_posix() for path in WEB.rglob("*.js"))
RECORD = re.compile(r'<script type="text/plain" id="manako-trace" data-length="(\d+)">([^<]*)</script>')
WANTED_CODE = 120_000  # bytes of script without comments: the budget of the page
LARGEST_CODE = 249_100  # parts of rows verified, an engine spoken to, lessons; it grows on purpose alone
LARGEST_LIVE = 251_800  # the same, started by a server
LARGEST_ENGINE = 60_800  # that engine, about 850 lines, with those modules of the page that its thread needs again


def source(name: str) -> str:
    return (WEB / name).read_text(encoding="utf-8")


def unpacked(text: str, length: int) -> bytes:
    """What the page does with the block of the record."""
    data = zlib.decompress(base64.b64decode(text))
    planes = [data[i * len(data) // 4 : (i + 1) * len(data) // 4] for i in range(4)]
    return bytes(b for group in zip(*planes, strict=True) for b in group)[:length]


@pytest.mark.parametrize("trace", [golden_trace(), golden_inside(), large_inside(), golden_trace(0)])
def test_the_record_in_the_page_is_the_record(trace: Trace) -> None:
    ((length, text),) = RECORD.findall(page(trace, "en"))
    assert unpacked(text, int(length)) == to_bytes(trace)


def test_a_tree_goes_in_as_its_file() -> None:
    ((length, text),) = RECORD.findall(page(toy_tree(), "ja"))
    assert unpacked(text, int(length)) == tree_bytes(toy_tree())


def test_a_page_for_others_does_not_say_where_the_model_lay() -> None:
    trace = golden_trace()
    moved = replace(trace, header=replace(trace.header, model=replace(trace.header.model, ref="/home/somebody/m")))
    for record in (moved, Tree((Branch("1", None, 0, moved),), "1")):
        ((length, text),) = RECORD.findall(page(record, "en"))
        data = unpacked(text, int(length))
        assert b"somebody" in to_bytes(moved) and b"somebody" not in data and len(data) > 1000


def test_no_cell_of_a_notebook_says_where_the_model_lay() -> None:
    """What a cell showed is in the file that is passed on, with the plain text of whatever stood in its last line."""
    trace = golden_trace(2)
    moved = replace(trace, header=replace(trace.header, model=replace(trace.header.model, ref="/home/somebody/m")))
    assert moved._repr_mimebundle_()["text/plain"].startswith("<Trace generation 'm' 2 steps")
    records = (
        moved,
        moved.header,
        moved.steps[0],
        Comparison((moved, trace)),
        Tree((Branch("1", None, 0, moved),), "1"),
    )
    for record in records:
        assert "somebody" not in repr(record)
    assert "/home/somebody/m" in str(moved.header.to_dict())  # negative control: the record itself knows


@pytest.mark.parametrize("lang", messages.LANGUAGES)
def test_a_page_without_a_record_is_the_page_but_for_it(lang: str) -> None:
    text, data = offline_page(lang), to_bytes(golden_trace())
    assert NO_RECORD == '<script type="text/plain" id="manako-trace" data-length="0"></script>'
    assert text.count(NO_RECORD) == 1 and RECORD.findall(text) == [("0", "")]
    record = NO_RECORD.replace('"0">', f'"{len(data)}">{packed(data)}')  # as the page puts one in
    assert text.replace(NO_RECORD, record) == page(golden_trace(), lang)


@pytest.mark.slow
def test_a_compact_page_of_200_steps_takes_at_most_1_25_mb_and_35_kb_a_head() -> None:
    model, capture = manako.load("demo"), ("attention", "lens")
    trace = model.trace("私は", max_new_tokens=200, temperature=0.8, seed=0, capture=capture)
    most = 1_250_000 + 35_000 * model.config.n_layer * model.config.n_head
    assert len(page(compact(trace), "ja").encode()) <= most < len(page(trace, "ja").encode()) / 2


@pytest.mark.parametrize("lang", messages.LANGUAGES)
def test_the_policy_names_the_hashes_of_the_only_script_and_style(lang: str) -> None:
    text = page(golden_trace(), lang)
    policy = stdlib_html.unescape(re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[0])
    for kind in ("script", "style"):
        (content,) = re.findall(rf"<{kind}>(.*?)</{kind}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}';" in policy
    assert policy.startswith("default-src 'none';") and "unsafe" not in policy and "connect-src 'none'" in policy
    assert text.index("Content-Security-Policy") < text.index("<style>")  # it must stand before what it rules
    assert f'<html lang="{lang}" data-mode="file">' in text


def test_nothing_is_fetched_from_anywhere() -> None:
    text = page(golden_inside(), "ja")
    assert not re.findall(r"\b(?:src|href|action|formaction|poster|background)\s*=\s*[\"'][^\"']", text)
    assert not re.findall(r"@import|url\(", text)
    names = {"http://www.w3.org/2000/svg"}  # of a kind of element: nothing is fetched from there
    assert set(re.findall(r"https?://[^\s\"'`]+", text)) <= names


def test_no_text_of_the_record_stands_in_the_markup() -> None:
    trace = golden_trace(prompt="</script><script>alert(1)</script>")
    text = page(trace, "en")
    assert "alert(1)" not in text
    assert text.count("<script") == 3 and text.count("</script>") == 3


def test_words_hold_nothing_that_ends_their_block() -> None:
    text = json_for_html({"a": "</script><!--\u2028\u2029\ud800\x00"})
    assert not set(text) & set("<\u2028\u2029\ud800\x00")
    assert json.loads(text) == {"a": "</script><!--\u2028\u2029\ud800\x00"}


def test_words_are_those_of_the_catalog_in_both_languages() -> None:
    assert set(words()) == set(messages.LANGUAGES)
    for lang, said in words().items():
        assert said.items() <= messages.catalog(lang).items()


def said_keys() -> set[str]:
    """Every key of the catalog that a module writes down whole, and of those it builds, every one that it can be."""
    text = "\n".join(map(source, MODULES))
    known = messages.catalog("en")
    written = set(re.findall(r'"((?:page|step|token|check|end|view|lens|why|attention)\.[a-z_]+)"', text))
    stems = set(re.findall(r"`((?:page|why|check|end|error)\.(?:[a-z]+_)?)\$\{", text))
    return written | {key for key in known for stem in stems if key.startswith(stem) and stem != "error."}


def test_every_sentence_that_the_modules_say_is_in_the_page() -> None:
    assert said_keys() - words()["en"].keys() == set()
    assert len(said_keys()) > 80  # the search finds them


def test_every_key_that_a_module_gives_whole_is_in_the_catalog() -> None:
    given = {key for name in MODULES for key in re.findall(r'say\((?:[\w.]+\.)?lang, "([^"]+)"', source(name))}
    assert given - messages.catalog("en").keys() == set() and len(given) > 60


def test_a_key_of_a_family_that_no_sentence_had_goes_into_the_page(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "new.js").write_text('say(lang, "cli.watch"); say(lang, `option.${name}`); say(lang, "no.sentence");')
    monkeypatch.setattr(html, "WEB", tmp_path)
    words.cache_clear()
    try:
        found = words()["ja"]
    finally:
        monkeypatch.undo()
        words.cache_clear()
    errors = {key for key in found if key.startswith("error.")}
    assert found.keys() - errors == {"cli.watch", *(k for k in messages.catalog("ja") if k.startswith("option."))}
    assert 5 < len(errors) < 20


def test_every_sentence_for_the_page_is_said() -> None:
    text = "\n".join(map(source, MODULES)) + Path(html.__file__).read_text(encoding="utf-8")
    said = said_keys() | set(re.findall(r'"(page\.[a-z_]+)"', text))
    assert {key for key in messages.catalog("en") if key.startswith("page.")} - said == set()


def test_no_module_turns_a_string_into_markup_or_code() -> None:
    text = "\n".join(map(source, MODULES))
    for danger in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "DOMParser", "srcdoc", "eval(",
                   "new Function", "createContextualFragment", "setHTMLUnsafe", "setHTML", "javascript:"):  # fmt: skip
        assert danger not in text, danger
    assert not re.search(r'set(?:Timeout|Interval)\(\s*["\'`]', text)


def test_no_module_states_a_colour_of_its_own() -> None:
    colour = r"#[0-9a-f]{3,8}\b|rgba?\(|hsla?\(|\.style\.(?!setProperty)"
    assert [name for name in MODULES if re.search(colour, source(name))] == []


def test_every_module_is_in_the_script_once_behind_what_it_imports() -> None:
    both: set[str] = set()
    starts = ["page/file.js", "page/live.js", "engine/worker.js", "page/offline.js", "learning/main.js"]
    starts += ["comparison/main.js", "merges/player.js", "training/main.js", "training/worker.js"]
    for start in starts:
        order = modules_of(start)
        both |= {*order}
        assert len(set(order)) == len(order)
        for name in order:
            assert all(order.index(other) < order.index(name) for other in imports_of(name))
    assert sorted(both) == MODULES


def test_no_string_goes_over_the_end_of_a_line_whose_indentation_the_script_loses() -> None:
    for name in MODULES:
        for line in html._COMMENT.sub("", source(name)).splitlines():  # pyright: ignore[reportPrivateUsage]
            assert line.count("`") % 2 == 0 and not line.endswith("\\"), (name, line)


@pytest.mark.xfail(reason="missed by 132 kB; benchmarks/README.md and docs/log.md say why", strict=True)
def test_the_script_stays_within_its_budget() -> None:
    assert len(bundle().encode()) <= WANTED_CODE


def test_the_script_grows_no_further() -> None:
    assert len(bundle().encode()) <= LARGEST_CODE
    assert len(bundle("page/live.js").encode()) <= LARGEST_LIVE
    assert len(bundle("engine/worker.js").encode()) <= LARGEST_ENGINE


def test_the_page_of_a_training_has_a_script_of_its_own() -> None:
    """What only it needs weighs on no other page."""
    assert "manako-learning" not in bundle() and "manako-app" not in bundle("learning/main.js")
    assert len(bundle("learning/main.js").encode()) <= 54_000


def test_the_page_of_two_models_has_a_script_of_its_own() -> None:
    assert "manako-comparison" not in bundle() and len(bundle("comparison/main.js").encode()) <= 56_900


def test_the_merge_player_is_in_pages_whose_model_has_merges_and_in_no_other() -> None:
    assert "class MergesElement" not in bundle() and len(bundle("merges/player.js").encode()) <= 23_500
    table = b'{"tokenizer_sha256":"</script>"}'
    text, plain = (page(golden_trace(), "en", Carried("m", 4, b"abcd", merges=each)) for each in (table, b""))
    ((length, found),) = re.findall(r'id="manako-merges" data-length="(\d+)">([^<]*)<', text)
    assert unpacked(found, int(length)) == table and "</script>" in table.decode()
    assert "class MergesElement" not in plain and 'id="manako-merges"' not in plain
    policy = stdlib_html.unescape(re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[0])
    hashes = [
        base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        for script in re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    ]
    assert len(hashes) == 2 and f"script-src 'sha256-{hashes[0]}' 'sha256-{hashes[1]}' 'wasm-unsafe-eval';" in policy


def test_the_page_that_trains_is_one_file_of_at_most_700_kb_whose_policy_lets_both_pages_run() -> None:
    text = trainer_page("ja")
    assert len(text.encode()) <= 700_000
    assert '<html lang="ja" data-mode="file">' in text and "connect-src 'none'" in text and "<manako-app" not in text
    (inside,) = re.findall(r'id="manako-page" data-version="[^"]+">([^<]+)<', text)
    empty = zlib.decompress(base64.b64decode(inside)).decode()
    assert empty == offline_page("en", Carried("", 0))
    policy = stdlib_html.unescape(re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[0])
    for kind in ("script", "style"):
        both = [re.findall(rf"<{kind}>(.*?)</{kind}>", each, re.DOTALL)[0] for each in (text, empty)]
        hashes = [base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in both]
        assert f"{kind}-src 'sha256-{hashes[0]}' 'sha256-{hashes[1]}'" in policy
    model = 'id="manako-model" data-ref="" data-length="0" data-address="">'
    for place in ('id="manako-trace" data-length="0">', model):
        assert place in source("training/cards.js") and empty.count(place) == 1  # where a model goes


@pytest.mark.parametrize("data", [b"", b"a", b"abcd", bytes(range(256)) * 5, b"\0" * 7])
def test_packing_loses_nothing(data: bytes) -> None:
    assert unpacked(packed(data), len(data)) == data


def test_a_notebook_gets_the_page_in_a_frame_that_can_reach_nothing() -> None:
    bundle_ = golden_trace()._repr_mimebundle_()
    assert bundle_["text/plain"] == repr(golden_trace())
    frame = bundle_["text/html"]
    assert frame.count("<") == 2 and "allow-same-origin" not in frame
    assert 'sandbox="allow-scripts allow-downloads"' in frame
    (inside,) = re.findall(r'srcdoc="([^"]*)"', frame)
    assert stdlib_html.unescape(inside) in {page(golden_trace(), lang) for lang in messages.LANGUAGES}


def test_a_page_too_large_for_a_notebook_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(html, "NOTEBOOK_LIMIT", 1000)
    assert "manako export html" in notebook(golden_trace()) and "<iframe" not in notebook(golden_trace())


def test_hostile_names_stay_out_of_the_markup() -> None:
    for token in HOSTILE:
        header = golden_header(prompt=token.decode("utf-8", "replace"))
        assert page(golden_trace(prompt=header.prompt), "en").count("<script") == 3
