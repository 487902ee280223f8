"""Which files of a folder or an archive are read, and what each of them is: by its name, whatever the case.

Special here: nothing is left out without a word. What is not read is counted by kind (`LeftOut`) and told at the end:
hidden files, since a folder's .git or .venv is nobody's corpus; what macOS and Office leave beside real files; links
that lead out of the folder; and everything whose suffix is none of ours.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from manako.errors import LoadError
from manako.files import is_dir, is_file
from manako.messages.numbers import count

TEXT_SUFFIXES = (".txt", ".md")
JSON_LINES_SUFFIXES = (".jsonl", ".ndjson")
ARCHIVE_SUFFIXES = (".zip", ".tar", ".tgz", ".txz", ".tbz2")
COMPRESSED_SUFFIXES = (".gz", ".xz", ".bz2", ".zst")  # one file, or a .tar
PAGE_SUFFIXES = (".html", ".htm", ".xhtml")
KINDS = ("text", "json lines", "parquet", "archive", "page", "book")
STREAMED = ("text", "json lines", "page")  # kinds that can be read front to back, so inside an archive too
PLACES_SHOWN = 10  # of bad records

Report = Callable[..., None]  # (catalog key, **values)


def kind_of(name: str) -> str | None:
    """What a file is by its name, one of KINDS; None for what is not read.

    >>> [kind_of(name) for name in ("A.TXT", "b.jsonl.gz", "c.tar.xz", "d.ZIP", "e.html", "f.epub", "g.pdf")]
    ['text', 'json lines', 'archive', 'archive', 'page', 'book', None]
    """
    plain = uncompressed_name(name)
    if plain.endswith(ARCHIVE_SUFFIXES):
        return "archive"
    if plain.endswith(TEXT_SUFFIXES):
        return "text"
    if plain.endswith(JSON_LINES_SUFFIXES):
        return "json lines"
    if plain.endswith(PAGE_SUFFIXES):
        return "page"
    if name.lower().endswith(".epub"):
        return "book"
    return "parquet" if name.lower().endswith(".parquet") else None


def uncompressed_name(name: str) -> str:
    """The name in lower case, without the suffix of a compressed file.

    >>> uncompressed_name("A.TXT.gz"), uncompressed_name("a.txt")
    ('a.txt', 'a.txt')
    """
    lower = name.lower()
    return next((lower.removesuffix(s) for s in COMPRESSED_SUFFIXES if lower.endswith(s)), lower)


def by_system(parts: tuple[str, ...]) -> str | None:
    """The kind of what an operating system or a program put there, from the names below a source; None for a work.

    >>> by_system(("__MACOSX", "._a.txt")), by_system((".git", "x.txt")), by_system(("~$a.txt",)), by_system(("a.txt",))
    ('macos', 'hidden', 'lock', None)
    """
    if "__MACOSX" in parts or parts[-1].startswith("._"):
        return "macos"
    if any(part.startswith(".") and part not in (".", "..") for part in parts):
        return "hidden"
    return "lock" if parts[-1].startswith("~$") else None


class LeftOut:
    """What was not read, and why.

    skip_bad: whether a file or record that cannot be read is counted, and its error kept, rather than raised.
    """

    def __init__(self, skip_bad: bool = False) -> None:
        self._skip_bad = skip_bad
        self._kinds: Counter[str] = Counter()
        self._suffixes: Counter[str] = Counter()
        self._bad: list[LoadError] = []
        self._bad_count = 0

    def takes(self, name: str, kinds: tuple[str | None, ...] = KINDS) -> bool:
        """Whether a file below a source is read, by the name it has there; counted where it is not."""
        path = PurePosixPath(name)
        if kind := by_system(path.parts or (str(path),)):  # an archive may call a file "." or nothing
            self._kinds[kind] += 1
        elif kind_of(path.name) not in kinds:
            self._suffixes[path.suffix.lower() or path.name or str(path)] += 1
        else:
            return True
        return False

    def link(self) -> None:
        """Count a link that leads nowhere or out of the folder, or what is neither file nor folder."""
        self._kinds["link"] += 1

    def parts(self, kinds: Counter[str]) -> None:
        """Count what was left out of a page or book: "ruby", "picture"."""
        self._kinds += kinds

    def bad(self, error: LoadError) -> None:
        """Count what cannot be read, or raise the error where that was not asked for."""
        if not self._skip_bad:
            raise error
        self._bad_count += 1
        if len(self._bad) < PLACES_SHOWN:
            self._bad.append(error)

    def tell(self, report: Report) -> None:
        """One line for each kind, then the first bad places."""
        for kind, n in sorted(self._kinds.items()):
            report(f"corpus.not_read_{kind}", count=count(n))
        if self._suffixes:
            kinds = ", ".join(f"{suffix} {count(n)}" for suffix, n in self._suffixes.most_common(PLACES_SHOWN))
            report("corpus.not_read_suffixes", count=count(self._suffixes.total()), kinds=kinds)
        for error in self._bad:
            report("corpus.skipped", error=error)
        if self._bad_count:
            report("corpus.skipped_all", count=count(self._bad_count))


def inside(folder: Path, left_out: LeftOut) -> Iterator[Path]:
    """The files of a folder that are read, at any depth, in the order of their names."""
    home = folder.resolve()
    for path in sorted(folder.rglob("*")):
        nested = is_dir(path)  # what lies in one that is linked and not outside is met where it is
        if not (nested or is_file(path)) or (path.is_symlink() and not path.resolve().is_relative_to(home)):
            if by_system(path.relative_to(folder).parts) is None:
                left_out.link()
        elif not nested and left_out.takes(path.relative_to(folder).as_posix()):
            yield path
