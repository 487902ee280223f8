"""What the page consists of, as the server sends it: a front, one script and one style, the engine's thread, the model.

Special here: scripts and style have a digest of their content in their name, so a browser keeps them and asks for the
front alone again; another version has other names. All text goes out compressed.
"""

import gzip
import hashlib
import html
from collections.abc import Callable
from functools import cached_property, lru_cache, partial

from manako import messages
from manako.analysis.merges import merge_table
from manako.model import Model, for_page
from manako.refs import Ref
from manako.views.html import bundle, frame, json_for_html, offline_page, style, trainer_page, words

TRAINER, OFFLINE = "/train.html", "/assets/offline.txt"
_SCRIPT = "text/javascript"
_DIGITS = 16  # of a digest in a file's name


class Asset:
    """One file, made when it is first asked for."""

    def __init__(self, kind: str, make: Callable[[], str], lasting: bool = False) -> None:
        """kind: its media type. lasting: what it is called names its content."""
        self.kind, self.lasting, self._make = kind, lasting, make

    @cached_property
    def data(self) -> bytes:
        return self._make().encode()

    @cached_property
    def small(self) -> bytes:
        """The same, compressed."""
        return gzip.compress(self.data, mtime=0)


def page_files(lang: str, learning: bool = False) -> dict[str, Asset]:
    """Path -> everything that the page consists of; none of it is secret.

    lang: that the page that trains opens in. learning: the page of a training in place of that of traces.
    """
    found = {
        OFFLINE: Asset("text/plain", partial(offline_page, "en")),  # what the page makes a file of its own with
        TRAINER: Asset("text/html", partial(trainer_page, lang)),
    }

    def lasting(name: str, kind: str, text: str) -> str:
        stem, _, end = name.rpartition(".")
        path = f"/assets/{stem}-{hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]}.{end}"
        found[path] = Asset(kind, lambda: text, lasting=True)
        return path

    scripts = ["learning/main.js"] if learning else ["merges/player.js", "page/live.js"]  # defined before it is drawn
    served = {"words": words(), "engine": "" if learning else lasting("engine.js", _SCRIPT, bundle("engine/worker.js"))}
    script = f"globalThis.manakoServed = {json_for_html(served)};\n" + "".join(map(bundle, scripts))
    put = {
        "style.css": lasting("style.css", "text/css", style("learning" if learning else "")),
        "page.js": lasting("page.js", _SCRIPT, script),
        "<manako-app></manako-app>": "<manako-learning></manako-learning>" if learning else _with_trainer(),
    }
    return found | {"/": Asset("text/html", partial(frame, put))}


def _with_trainer() -> str:
    """The page, with a way to the page that trains below it: a link in each language, which needs no script."""
    said = {lang: html.escape(messages.text("training.title", lang)) for lang in messages.LANGUAGES}
    links = " ".join(f'<a href="{TRAINER}" lang="{lang}">{title}</a>' for lang, title in said.items())
    return f'<manako-app></manako-app>\n<nav class="foot soft">{links}</nav>'


@lru_cache(2)  # the embedded models; who serves a class reads them once
def model_file(ref: str) -> bytes:
    """A model as the page's engine reads it."""
    return for_page(ref)


@lru_cache(2)
def merges_file(model: Model) -> bytes:
    """The merges of a model's vocabulary, with their counts where its corpus is there; empty where there are none."""
    return merge_table(model.tokenizer, Ref.parse(model.ref).counted(model.tokenizer))
