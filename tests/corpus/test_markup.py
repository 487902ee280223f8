"""Pages and books as text: what a reader reads, in a time that grows with their size."""

import time
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from manako.corpus.documents import Reading, documents, read
from manako.corpus.markup import read_page
from manako.errors import LoadError


@pytest.mark.parametrize("markup, text", [
    ("<p>猫である。</p><p>名前は</p>", "猫である。\n\n名前は\n"),
    ("<ruby>漢字<rp>（</rp><rt>かんじ</rt><rp>）</rp></ruby>だ", "漢字だ\n"),
    ("<ruby><rb>漢</rb><rt>かん<rb>字</rb><rt>じ</ruby>だ", "漢字だ\n"),  # the ends of rt left out
    ("い<img class='gaiji' alt='喰' src=a>う<img alt='a picture'>", "い喰う\n"),
    ("a<br>b<br/>c", "a\nb\nc\n"),
    ("one\n  line &amp; more &#x732b;&nbsp;", "one line & more 猫\xa0\n"),
    ("長い\n  行が\n続く", "長い行が続く\n"),
    ("<pre>a\n  b</pre>c", "a\nb\n\nc\n"),
    ("<ul><li>a</li><li>b</li></ul>", "a\n\nb\n"),
    ("<script>if (a<b) x = '</p>' </script>t<style>p > a {}</style>", "t\n"),
    ("<SCRIPT>'<script>'</SCRIPT >t", "t\n"),
    ("a<!-- <p> -->b<![CDATA[<c>]]>d<?php x ?>e", "ab<c>de\n"),
    ("a <b title='x > y' data-q=\"'\">b</b> c", "a b c\n"),
    ("1 < 2 & 3 <- 4 <!-- never ends", "1 < 2 & 3 <- 4 <!-- never ends\n"),
    ("&lt;script&gt;", "<script>\n"),
    ("&#999999999999999999999999;x&#xfffffffffff;", "x\n"),
    ("い<img alt='※(「てへん＋蚤」、第3水準1-84-86)' class=gaiji>う", "い搔う\n"),  # as Aozora Bunko describes them
    ("<img src='../gaiji/1-09/1-09-63.png' alt='※(アキュートアクセント付きE小文字)'>", "é\n"),
    ("<img alt='※［＃「口＋斗」、U+544C、123-4］'><img alt='※(名のない字)'>", "呌〓\n"),
    ("<img src='data:image/png;base64," + 5000 * "A" + "' alt='喰'>う", "喰う\n"),
    ("<tr><td>a</td><td>b</td></tr><tr><th>c<td>d", "a b\n\nc d\n"),
    ("<center>題</center>本文<details><summary>一</summary>二</details>", "題\n\n本文\n\n一\n\n二\n"),
    ("a<rt>b</rt><noscript><ruby>c<rt>d</ruby>e</noscript>", "ab\n"),  # rt outside ruby; ruby in what is not shown
    ("<ruby>漢<rt>かん<p>字</p>だ", "漢\n\n字\n\nだ\n"),
    ("<ruby><ruby>漢<rt>a</rt></ruby><rtc><rt>b</rt>c</rtc></ruby>だ", "漢だ\n"),
    ("a\r\nb\rc\f<p>\f</p>", "a b c\n"),
    ("<td><p>a</p><p>b</p></td><td>c</td>", "a\n\nb\n\nc\n"),
    ("<link rel='stylesheet'/><body style='a'>&#147;First&nbsp;&mdash;&#148;</body>", "“First\xa0—”\n"),
    ("<title>T</title>", ""),
    ("", ""),
])  # fmt: skip
def test_the_text_is_what_stands_in_the_lines(markup: str, text: str) -> None:
    assert read_page(markup).text == text


def test_title_and_what_was_left_out() -> None:
    page = read_page(
        "<head><title> A \n page</title></head><ruby>a<rt>b</rt></ruby><img src=x><svg><title>no</title></svg>"
    )
    assert (page.title, page.text, page.left_out) == ("A page", "a\n", Counter(ruby=1, picture=1))


@pytest.mark.parametrize("part", [
    "<!--", "<![CDATA[", "<a ", "<a b='", "<a b=\"", "</", "<!", "<?", "&#", "&", "<div>", "<rt>", "<ruby><rt>", "< ",
    "<a='\"", "</script", "<p a=", "<!-->", "=", "\n", "&#9", "<title>",
    "<a b='>'", "<a \">\"", "<a b='\">", "<a b= '", "<a b=\"'\">'",
])  # fmt: skip
def test_the_time_grows_with_the_size_alone(part: str) -> None:
    """Each mark that never ends, again and again: ten times as much takes not a hundred times as long."""
    taken: list[float] = []
    for size in (10_000, 100_000):
        began = time.process_time()
        read_page(part * (size // len(part)))
        taken.append(time.process_time() - began)
    assert taken[1] < 40 * taken[0] + 0.5


@pytest.mark.parametrize("data, text", [
    ("<meta charset=x-sjis>①".encode("cp932"), "①\n"),
    (b"<meta charset='shift_jis'>" + b"\xff\xfe", None),
    ("<meta charset=iso-8859-1>\u201cquoted\u201d".encode("cp1252"), "\u201cquoted\u201d\n"),  # as browsers take it
    ("<meta charset=utf-16>\u732b".encode(), "猫\n"),
    ("\ufeff<meta charset=shift_jis>猫".encode(), "猫\n"),
    ("<?xml version='1.0' encoding='EUC-JP'?>猫、犬".encode("euc_jp"), "猫、犬\n"),
    ("<script charset=euc-jp src=a></script><meta charset=gb2312>猫和狗".encode("gb18030"), "猫和狗\n"),
    ("\ufeff<meta charset=x-sjis>猫".encode("utf-16-le"), "猫\n"),
    ("<meta charset=windows-874>แมว".encode("cp874"), "แมว\n"),
    (b"<meta charset=windows-UTF-8>\xff", None),
    (b"<meta charset=punycode>\xff", None),
    (b"<meta charset=klingon>\xff", None),
], ids=str)  # fmt: skip
def test_a_mark_goes_before_what_a_page_declares(data: bytes, text: str | None, tmp_path: Path) -> None:
    (tmp_path / "a.html").write_bytes(data)
    write_book(
        tmp_path / "a.epub",
        **{"OPS/b c.xhtml": data, "a.xhtml": None, "OPS/book.opf": PACKAGE.replace('idref="a"', 'idref="b"')},
    )
    for name in ("a.html", "a.epub"):
        if text is None:
            with pytest.raises(LoadError, match=name):
                list(documents(tmp_path / name))
        else:
            assert [d.text for d in documents(tmp_path / name)] == [text]


CONTAINER = '<container><rootfiles><rootfile full-path="OPS/book.opf"/></rootfiles></container>'
PAGE = 'media-type="application/xhtml+xml"'
PACKAGE = f"""<?xml version="1.0"?><package>
<metadata><dc:title>本</dc:title><dc:creator>猫</dc:creator></metadata>
<manifest><item id="b" href="b%20c.xhtml" {PAGE}/><item id="a" href="../a.xhtml" {PAGE}/>
<item id="n" href="n.xhtml" properties="nav" {PAGE}/><item id="i" href="i.png" media-type="image/png"/></manifest>
<spine><itemref idref="n"/><itemref idref="b"/><itemref idref="a"/><itemref idref="i"/><itemref idref="gone"/></spine>
</package>"""
BOOK = {
    "mimetype": "application/epub+zip",
    "META-INF/container.xml": CONTAINER,
    "OPS/book.opf": PACKAGE,
    "OPS/b c.xhtml": "<html><body><p>一<ruby>章<rt>しょう</rt></ruby></p></body></html>",
    "a.xhtml": "<html><body><p>二章</p><img src='i.png'/></body></html>",
    "OPS/n.xhtml": "<html><body><nav>目次</nav></body></html>",
}


def write_book(path: Path, **changes: str | bytes | None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (BOOK | changes).items():
            if content is not None:
                archive.writestr(name, content)
    return path


def test_a_book_is_one_document_in_its_own_order(tmp_path: Path) -> None:
    write_book(tmp_path / "a.epub")
    (tmp_path / "p.html").write_bytes(
        "<meta charset=shift_jis><title>頁</title>猫<ruby>犬<rt>いぬ</rt></ruby>".encode("cp932")
    )
    told: list[tuple[str, object]] = []
    found = list(read([tmp_path], report=lambda key, **values: told.append((key, values.get("count")))))
    assert [(d.text, d.title, d.author) for d in found] == [("一章\n\n二章\n", "本", "猫"), ("猫犬\n", "頁", None)]
    assert ("corpus.not_read_ruby", "2") in told and ("corpus.not_read_picture", "1") in told


@pytest.mark.parametrize("written, address, stored", [
    ("OPS/kkk.xhtml", "章.xhtml", "OPS/章.xhtml"),  # in UTF-8, without the flag that says so
    ("OPS/がaxhtml", "か\u3099axhtml#p2", None),  # another form of the same name; a place in the page
    ("OPS\\b.xhtml", "/OPS/b.xhtml", None),
    ("OPS/b#c.xhtml", "b%23c.xhtml", None),
], ids=str)  # fmt: skip
def test_pages_are_found_however_their_names_are_written(
    written: str, address: str, stored: str | None, tmp_path: Path
) -> None:
    package = PACKAGE.replace("b%20c.xhtml", address).replace(
        "</metadata>", "<dc:title>副題</dc:title><dc:creator>訳者</dc:creator></metadata>"
    )
    path = write_book(tmp_path / "a.epub", **{"OPS/book.opf": package, written: BOOK["OPS/b c.xhtml"]})
    path.write_bytes(path.read_bytes().replace(written.encode(), (stored or written).encode()))
    (book,) = documents(path)
    assert (book.text, book.title, book.author) == ("一章\n\n二章\n", "本", "猫")


@pytest.mark.parametrize("changes, said", [
    ({"META-INF/container.xml": None}, "container.xml"),
    ({"META-INF/container.xml": "<a>"}, "has no"),
    ({"OPS/book.opf": None}, "book.opf"),
    ({"OPS/book.opf": "<package/>"}, ""),
    ({"a.xhtml": None}, "a.xhtml"),
    ({"META-INF/encryption.xml": '<CipherReference URI="a.xhtml"/>'}, "DRM"),
    ({"META-INF/encryption.xml": '<CipherReference URI="OPS/b%20c.xhtml"/>'}, "DRM"),
    ({"OPS/book.opf": PACKAGE.replace("../a.xhtml", "../../../etc/passwd")}, "passwd"),
    ({"a.xhtml": "x" * (33 << 20)}, ""),
], ids=lambda value: str(value)[:40])  # fmt: skip
def test_a_book_that_lies_is_one_line(changes: dict[str, str | None], said: str, tmp_path: Path) -> None:
    path = write_book(tmp_path / "a.epub", **changes)
    with pytest.raises(LoadError) as caught:
        list(documents(path))
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_html_with_its_markup_and_files_of_other_kinds(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("<p>a</p>")
    assert next(iter(documents(tmp_path / "a.html", Reading(format="text")))).text == "<p>a</p>"
    (tmp_path / "b.epub").write_bytes(b"no zip")
    with pytest.raises(LoadError, match="b.epub"):
        list(documents(tmp_path / "b.epub"))
