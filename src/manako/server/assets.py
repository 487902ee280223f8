"""What the page consists of, as the server sends it: its files, the engine's thread, the model that a page runs."""

import html
import json
from collections.abc import Callable
from functools import cache, lru_cache, partial
from importlib import resources
from importlib.resources.abc import Traversable

from manako import messages
from manako.analysis.merges import merge_table
from manako.model import Model, for_page
from manako.refs import Ref
from manako.views.html import WEB, bundle, offline_page, trainer_page, words

ENGINE = "/assets/engine.js"
TRAINER = "/train.html"
KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".json": "application/json"}


def page_files(lang: str) -> dict[str, tuple[Callable[[], bytes], str]]:
    """Path -> (content, media type) of everything that the page consists of; none of it is secret.

    lang: that the page that trains opens in.
    """
    files = *WEB.rglob("*.js"), *WEB.glob("*.css"), *WEB.glob("*/*.json")  # what JSON lies above is for other programs
    found: dict[str, Traversable] = {f"/assets/{f.relative_to(WEB).as_posix()}": f for f in files}
    # There leads the path by which the page's trace/schema.js imports it.
    found["/trace/schema.json"] = resources.files("manako.trace") / "schema.json"
    read: dict[str, tuple[Callable[[], bytes], str]] = {
        path: (partial(bytes, f.read_bytes()), KINDS["." + f.name.rpartition(".")[2]]) for path, f in found.items()
    }
    read["/assets/words.json"] = partial(bytes, json.dumps(words(), ensure_ascii=False).encode()), KINDS[".json"]
    read["/"], read[TRAINER] = (_front, KINDS[".html"]), (partial(_trainer, lang), KINDS[".html"])
    return read | {ENGINE: (_engine, KINDS[".js"]), "/assets/offline.txt": (_offline, "text/plain")}


@cache
def _front() -> bytes:
    """The page's frame, with a way to the page that trains below it: a link in each language, which needs no script."""
    said = {lang: html.escape(messages.text("training.title", lang)) for lang in messages.LANGUAGES}
    links = " ".join(f'<a href="{TRAINER}" lang="{lang}">{title}</a>' for lang, title in said.items())
    frame, app = (WEB / "index.html").read_text(encoding="utf-8"), "</manako-app>"
    assert frame.count(app) == 1
    return frame.replace(app, f'{app}\n<nav class="foot soft">{links}</nav>').encode()


@lru_cache(2)
def _trainer(lang: str) -> bytes:
    """The page that trains, made when it is first asked for."""
    return trainer_page(lang).encode()


@cache
def _engine() -> bytes:
    """The script of the thread that runs a model in the page, joined as in a file."""
    return bundle("engine/worker.js").encode()


@cache
def _offline() -> bytes:
    """What the page makes a file of its own with: made when it is first asked for, which takes a moment."""
    return offline_page("en").encode()


@lru_cache(2)  # the embedded models; who serves a class reads them once
def model_file(ref: str) -> bytes:
    """A model as the page's engine reads it."""
    return for_page(ref)


@lru_cache(2)
def merges_file(model: Model) -> bytes:
    """The merges of a model's vocabulary, with their counts where its corpus is there; empty where there are none."""
    return merge_table(model.tokenizer, Ref.parse(model.ref).counted(model.tokenizer))
