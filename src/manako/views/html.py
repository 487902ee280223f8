"""The page as one HTML file: code, words and record inside it, nothing outside; and the same file in a notebook.

Special here: no text of a record ever becomes markup. The record goes in as base64 of its packed bytes, the words as
JSON without any "<", and the page itself puts text in by textContent. The policy in the file names the hashes of its
own script and style, so nothing else can run and nothing can be fetched. The packing sorts the bytes of all numbers by
their place (first bytes first), which makes them a fifth smaller than deflate alone does.
"""

import base64
import hashlib
import html
import json
import os
import posixpath
import re
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from manako import __version__, messages
from manako.analysis.compact import compact
from manako.files import megabytes
from manako.sampling import Sampling
from manako.trace.dynamics import Dynamics, dynamics_bytes
from manako.trace.file import to_bytes
from manako.trace.record import Trace
from manako.trace.tree import Branch, Tree, tree_bytes

WEB = Path(__file__).with_name("web")
NOTEBOOK_LIMIT = 10_000_000  # characters; a larger page makes a notebook slow to open and to save
_START, _ENGINE, _LEARNING = "page/file.js", "engine/worker.js", "learning/main.js"
_TRAINING, _TRAINER = "training/main.js", "training/worker.js"
_MERGES, _COMPARISON = "merges/player.js", "comparison/main.js"
_KEY = re.compile(r'"([a-z_]+\.\w+)"|`([a-z_]+\.\w*)\$\{')  # of a sentence: whole, or the stem of one that is built
_ERRORS = ("not_a_trace", "trace_damaged", "trace_newer", "json_invalid", *Sampling.__dataclass_fields__)
_IMPORT = re.compile(r'^import (?:\{ \w+(?:, \w+)* \} from )?"(\.{1,2}/[a-z0-9./-]+\.js)";\n', re.MULTILINE)
_IMPORT_JSON = re.compile(r'^import (\w+) from "([a-z./]+\.json)" with \{ type: "json" \};\n', re.MULTILINE)
_COMMENT = re.compile(  # types and reasons: for readers of the source; no string of it holds such a mark
    r"^ */\*\*(?:(?!\*/).)*\*/\n|/\*\*(?:(?!\*/).)*\*/ ?|(?<=[;,{}()>[=]) // [^\n]*|^ *// [^\n]*\n",
    re.MULTILINE | re.DOTALL,
)
_INDENT = re.compile(
    r"^\s+", re.MULTILINE
)  # and empty lines: an eighth of the whole; no string goes over the end of a line
_BREAK = re.compile(r"(?<=[{(\[,;])\n|\n(?=[})\]])")  # no statement ends there, so no line needs to
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function\*?|class|const) (\w+))", re.MULTILINE)
_DECLARED = re.compile(  # a constant of one line, a function
    r"^(?:export )?(?:const (\w+) = [^\n]*;\n|(?:async )?function\*? (\w+)\b.*?^\}\n)", re.MULTILINE | re.DOTALL
)
_OWN = re.compile(r"^(?:const|let|(?:async )?function\*?|class) (?:(\w+)|[\[{]([^=]*)[\]}] =)", re.MULTILINE)
_WORD = re.compile(r"(?<![.#\w\"])[a-zA-Z_]\w*\b(?!:)")  # a name: neither that of a property nor a string
_RECORD = '<script type="text/plain" id="manako-trace" data-length="{length}">{data}</script>'
NO_RECORD = _RECORD.format(length=0, data="")
_POLICY = (
    "default-src 'none'; script-src '{script}'{wasm}; style-src '{style}'; {more}base-uri 'none'; "
    "form-action 'none'; require-trusted-types-for 'script'"
)
_WASM = " 'wasm-unsafe-eval'"
_ALONE = "connect-src 'none'; "
_WITH_ENGINE = "worker-src blob:; trusted-types manako; "
_SITE = "connect-src 'self'; worker-src blob: 'self'; img-src 'self'; manifest-src 'self'; trusted-types manako; "
_LINKS = '<link rel="icon" href="icon.svg">\n<link rel="manifest" href="manifest.webmanifest">\n'


@dataclass(frozen=True)
class Carried:
    """A model that the page runs by itself."""

    ref: str
    """Its name, for the time until it is loaded."""
    length: int
    """Bytes of its file."""
    data: bytes | None = None
    """That file, where the page holds it."""
    address: str = ""
    """Where it is fetched from otherwise, beside the page."""
    merges: bytes = b""
    """What the merge player reads (`analysis.merges.merge_table`); empty for a vocabulary without merges."""

    def block(self) -> str:
        """The part of the page that has it; behind all else, so that a text is shown before it has been read."""
        told = html.escape(self.ref), self.length, html.escape(self.address)
        start = '<script type="text/plain" id="manako-model" data-ref="{}" data-length="{}" data-address="{}">'
        return start.format(*told) + ("" if self.data is None else packed(self.data)) + "</script>"


def page(record: Trace | Tree, lang: str, model: Carried | None = None) -> str:
    """The whole page with this record in it. lang: the language it opens in; the reader may switch.

    model: what it writes by itself with.
    """
    if isinstance(record, Tree):
        data = tree_bytes(replace(record, branches=tuple(replace(b, trace=_named(b.trace)) for b in record.branches)))
    else:
        data = to_bytes(_named(record))
    empty = offline_page(lang, model)
    assert empty.count(NO_RECORD) == 1  # the script must not spell it, or the page that saves itself would break
    return empty.replace(NO_RECORD, _RECORD.format(length=len(data), data=packed(data)))


def _named(trace: Trace) -> Trace:
    """The same trace for others to see: where the model lay on this machine is left out."""
    model = trace.header.model
    return replace(trace, header=replace(trace.header, model=replace(model, ref=model.name)))


def offline_page(lang: str, model: Carried | None = None) -> str:
    """The page with NO_RECORD where the record goes: a live page puts its own in, to save itself."""
    style, scripts = f"\n{_read('style.css')}", [f"\n{bundle()}"]
    wasm, more, engine, behind, links = "", _ALONE, "", "", _LINKS if model and model.address else ""
    if model:
        wasm, behind = _WASM, f"\n{model.block()}"
        more = _SITE if model.address else _ALONE + _WITH_ENGINE
        engine = f'<script type="text/plain" id="manako-engine">\n{bundle(_ENGINE)}</script>\n'
    if model and model.merges:
        scripts.insert(0, f"\n{bundle(_MERGES)}")  # before the page draws what it defines
        engine += f'<script type="text/plain" id="manako-merges" data-length="{len(model.merges)}">'
        engine += f"{packed(model.merges)}</script>\n"
    policy = _POLICY.format(script="' '".join(map(_hash, scripts)), style=_hash(style), wasm=wasm, more=more)
    run = "".join(f"<script>{script}</script>" for script in scripts)
    inside = f"<manako-app></manako-app>\n{_words()}\n{NO_RECORD}\n{engine}{run}{behind}"
    return _whole(lang, policy, style, inside, links)


def learning_page(found: Dynamics, lang: str) -> str:
    """The page of one text under the snapshots of a training: a view of its own, with a script of its own."""
    return _alone("manako-learning", _LEARNING, "learning", dynamics_bytes(found), lang)


def comparison_page(traces: Sequence[Trace], lang: str) -> str:
    """The page of one text that two models scored: a view of its own, too."""
    kept = [_named(compact(trace)) for trace in traces]
    data = tree_bytes(Tree(tuple(Branch(str(n), None, 0, trace) for n, trace in enumerate(kept, 1)), "1"))
    return _alone("manako-comparison", _COMPARISON, "comparison", data, lang)


def _alone(element: str, start: str, room: str, data: bytes, lang: str) -> str:
    """A page of one element, with its script, the style of its room, and the record that it shows."""
    script, look = f"\n{bundle(start)}", f"\n{style(room)}"
    record = _RECORD.format(length=len(data), data=packed(data))
    policy = _POLICY.format(script=_hash(script), style=_hash(look), wasm="", more=_ALONE)
    inside = f"<{element}></{element}>\n{_words()}\n{record}\n<script>{script}</script>"
    return _whole(lang, policy, look, inside)


def still_file(lang: str, policy: str, inside: str) -> str:
    """A file that needs no script: what is inside, with its style. policy: with {style} for the hash of that."""
    style = f"\n{_read('style.css')}\n{_read('still.css')}"
    return _whole(lang, policy.format(style=_hash(style)), style, inside)


def trainer_page(lang: str) -> str:
    """The page that trains on its reader's text, with the page that writes in it, for the model that comes out."""
    return _whole(lang, *_trainer())


def trainer_policy() -> str:
    """What that page may do: for who sends it with a policy beside it, where both must allow a thing."""
    return _trainer()[0]


@cache
def _trainer() -> tuple[str, str, str]:
    """(policy, style, what is inside). As it opens the page that writes under its own policy, which a browser hands on,
    the policy names scripts and styles of both."""
    empty = offline_page("en", Carried("", 0))
    within = {kind: re.findall(rf"<{kind}>(.*?)</{kind}>", empty, re.DOTALL)[0] for kind in ("script", "style")}
    script = f"\n{bundle(_TRAINING)}"
    style = f"\n{_read('style.css')}\n{_read('learning/style.css')}\n{_read('training/style.css')}"
    both = {
        "script": f"{_hash(script)}' '{_hash(within['script'])}",
        "style": f"{_hash(style)}' '{_hash(within['style'])}",
    }
    small = base64.b64encode(zlib.compress(empty.encode(), 9)).decode("ascii")
    blocks = (
        f'<script type="text/plain" id="manako-trainer">\n{bundle(_TRAINER)}</script>\n'
        f'<script type="text/plain" id="manako-page" data-version="{__version__}">{small}</script>\n'
    )
    inside = f"<manako-training></manako-training>\n{_words()}\n{blocks}<script>{script}</script>"
    return _POLICY.format(**both, wasm=_WASM, more=_ALONE + _WITH_ENGINE), style, inside


def style(room: str = "") -> str:
    """The style of all pages, with that of a room behind it."""
    return _read("style.css") + (f"\n{_read(f'{room}/style.css')}" if room else "")


def _words() -> str:
    return f'<script type="application/json" id="manako-words">{json_for_html(words())}</script>'


def _whole(lang: str, policy: str, style: str, inside: str, links: str = "") -> str:
    """The frame with all that a file needs inside it."""
    put = {
        '<html lang="en" data-mode="live">': f'<html lang="{lang}" data-mode="file">',
        '<link rel="stylesheet" href="style.css">': (
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n{links}<style>{style}</style>'
        ),
        '<script defer src="page.js"></script>\n': "",
        "<manako-app></manako-app>": inside,
    }
    return frame(put)


def frame(put: Mapping[str, str]) -> str:
    """The frame that all pages have, with some of its parts in place of others."""
    text = _read("index.html")
    for old, new in put.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def notebook(trace: Trace) -> str:
    """The page in a frame of its own, which can reach neither the notebook nor the network."""
    lang = messages.language(os.environ)
    text = page(trace, lang)
    if len(text) > NOTEBOOK_LIMIT:
        return f"<p>{html.escape(messages.text('page.too_large', lang, size=megabytes(len(text))))}</p>"
    return (
        f'<iframe sandbox="allow-scripts allow-downloads" title="manako" width="100%" height="720" style="border:0" '
        f'srcdoc="{html.escape(text)}"></iframe>'
    )


def packed(data: bytes) -> str:
    """Bytes in base64, deflated after sorting them by their place in a group of four.

    >>> list(zlib.decompress(base64.b64decode(packed(bytes(range(8))))))
    [0, 4, 1, 5, 2, 6, 3, 7]
    """
    whole = data + bytes(-len(data) % 4)  # zeros behind the last column, which no reader looks at
    return base64.b64encode(zlib.compress(b"".join(whole[place::4] for place in range(4)), 9)).decode("ascii")


@cache
def bundle(start: str = _START) -> str:
    """A module and all that it needs as one script, each after those that it imports, without comments.

    What a module exports has a name that no other module exports, and those after it see it under that name. What it
    does not export may have any name: where another module has that word too, it is a function of its own.
    """
    order = modules_of(start)
    exported = [found[1] for name in order for found in _EXPORT.finditer(_read(name))]
    assert len(set(exported)) == len(exported), "two modules export the same name"
    wanted = {
        name for each in order for found in _IMPORT.finditer(_read(each)) for name in re.findall(r"\w+", found[0])
    }
    texts = [_inlined(name, wanted) for name in order]
    known = Counter(word for text in texts for word in set(_WORD.findall(text)))
    modules = "".join(_joined(text, wanted, known) for text in texts)
    whole = _BREAK.sub("", "(() => {\n" + '"use strict";\n' + modules + "})();\n")
    return whole.replace("</script", r"<\/script")  # the same string to a module, and no end of the block


def modules_of(start: str) -> list[str]:
    """A module and all that it needs, each behind those that it imports."""
    order: list[str] = []
    _visit(start, order, ())
    return order


@cache
def words() -> Mapping[str, Mapping[str, str]]:
    """Language -> key -> sentence: what the modules name of the one catalog, and the errors that the page can meet."""
    written = [found for path in WEB.rglob("*.js") for found in _KEY.findall(path.read_text(encoding="utf-8"))]
    whole = {key for key, _ in written} | {f"error.{name}" for name in _ERRORS}
    stems = tuple({stem for _, stem in written} - {"", "error."})
    return {
        lang: {key: said for key, said in messages.catalog(lang).items() if key in whole or key.startswith(stems)}
        for lang in messages.LANGUAGES
    }


def json_for_html(value: object) -> str:
    """JSON in which nothing ends a script block or a line, whatever the strings hold.

    >>> json_for_html("</script>\u2028")
    '"\\\\u003c/script>\\\\u2028"'
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return re.sub("[<\u2028\u2029\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text)


def imports_of(name: str) -> list[str]:
    """The modules that a module imports, each as its path below the page's folder."""
    return [_resolved(name, found[1]) for found in _IMPORT.finditer(_read(name))]


def _visit(name: str, order: list[str], above: tuple[str, ...]) -> None:
    assert name not in above, f"modules import each other: {' > '.join((*above, name))}"
    if name not in order:
        for other in imports_of(name):
            _visit(other, order, (*above, name))
        order.append(name)


def _inlined(name: str, wanted: Set[str]) -> str:
    """wanted: what other modules import; what none does is given to none, and left out where nobody needs it."""
    text, before = _COMMENT.sub("", _read(name)), ""

    def used(found: re.Match[str]) -> str:
        is_named = len(re.findall(rf"\b{found[1] or found[2]}\b", text)) > 1
        return found[0] if is_named or (found[1] or found[2]) in wanted else ""

    while text != before:  # what only something left out needed goes too
        before, text = text, _DECLARED.sub(used, text)

    def table(found: re.Match[str]) -> str:
        read = re.findall(rf"\b{found[1]}\.(\w+)", text)  # the rest is for other readers
        data = json.loads(_read(_resolved(name, found[2])))
        return f"const {found[1]} = {json_for_html({key: data[key] for key in data if key in read})};\n"

    text = _IMPORT_JSON.sub(table, _IMPORT.sub("", text)).strip() + "\n"
    odd = re.search(r"^(?:(?:import|export)\b|.* // ).*", _EXPORT.sub("", text), re.MULTILINE)
    assert odd is None, (
        f"{name}: only named imports and exports at the start of a line can be joined, and no such comment: {odd[0]}"
    )
    return text


def _joined(text: str, wanted: Set[str], known: Mapping[str, int]) -> str:
    """A module among others: a function of its own, where a name in it is theirs too. known: word -> its modules."""
    given = [found[1] for found in _EXPORT.finditer(text) if found[1] in wanted]
    text = _EXPORT.sub("", text)
    own = {name for found in _OWN.finditer(text) for name in re.findall(r"\w+", found[1] or found[2])}
    text = _INDENT.sub("", text)
    if all(known[name] == 1 for name in own.difference(given)):
        return text
    names = ", ".join(given)
    return f"const {{ {names} }} = (() => {{\n{text}return {{ {names} }};\n}})();\n"


def _resolved(name: str, path: str) -> str:
    """What `path` in module `name` means, below the page's folder."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), path))


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


@cache
def _read(name: str) -> str:
    return (WEB / name).read_text(encoding="utf-8")
