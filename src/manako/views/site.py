"""The page as a folder of static files for any web host: it opens on a text at once and loads its model behind it.

index.html              the page with its record, complete but for the model
model-DIGEST.bin        the model, by its content: it may be cached for ever
service-worker.js       keeps all of it at the first visit, so that it opens without a network after
manifest.webmanifest    what a browser wants to know before it installs the page
icon.svg
"""

import hashlib
import json

from manako.trace.record import Trace
from manako.trace.tree import Tree
from manako.views.html import WEB, Carried, bundle, json_for_html, page

SERVICE_WORKER, MANIFEST, ICON = "service-worker.js", "manifest.webmanifest", "icon.svg"
_DIGITS = 16  # of a digest in a file's name


def site(record: Trace | Tree, lang: str, ref: str, model: bytes, merges: bytes = b"") -> dict[str, bytes]:
    """Name -> content of every file. ref: the model's name, which the page shows while it loads.

    merges: as `Carried` has them.
    """
    name = f"model-{hashlib.sha256(model).hexdigest()[:_DIGITS]}.bin"
    index = page(record, lang, Carried(ref, len(model), address=name, merges=merges)).encode()
    files = {"index.html": index, name: model, MANIFEST: _manifest(lang), ICON: (WEB / ICON).read_bytes()}
    version = hashlib.sha256(b"".join(hashlib.sha256(files[each]).digest() for each in sorted(files))).hexdigest()
    kept = {"version": version[:_DIGITS], "files": ["./", *(each for each in sorted(files) if each != "index.html")]}
    script = f"globalThis.manakoSite = {json_for_html(kept)};\n{bundle('page/offline.js')}"
    return files | {SERVICE_WORKER: script.encode()}


def _manifest(lang: str) -> bytes:
    icon = {"src": ICON, "sizes": "any", "type": "image/svg+xml"}
    told = {"name": "manako \u773c", "short_name": "manako", "lang": lang, "start_url": "./", "display": "standalone"}
    return json.dumps(told | {"icons": [icon]}, ensure_ascii=False).encode()
