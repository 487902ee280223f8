"""A picture and the numbers behind it as one HTML file: the page of a sweep, and of its power laws.

Special here: no script at all, and a policy that lets none run. Names of runs and settings are hostile text as
everywhere: all of it is escaped, and the picture is an image, in which markup is nothing but a drawing.
"""

import base64
import html
from collections.abc import Mapping, Sequence

from manako.views.html import still_file

_POLICY = "default-src 'none'; img-src data:; style-src '{style}'; base-uri 'none'; form-action 'none'"
Table = Mapping[str, Sequence[str]]
"""Column -> cells."""


def still_page(lang: str, title: str, svg: bytes, said: Sequence[str], tables: Mapping[str, Table]) -> bytes:
    """The file. said: sentences below the picture. tables: by their captions."""
    source = "data:image/svg+xml;base64," + base64.b64encode(svg).decode("ascii")
    image = f'<img src="{source}" alt="{html.escape(title)}"/>'
    sentences = "".join(f"<p>{html.escape(line.strip())}</p>" for line in said if line.strip())
    behind = "".join(_table(caption, table) for caption, table in tables.items())
    inside = (
        f'<main class="still"><h1>{html.escape(title)}</h1><section class="card">'
        f"{_scroller(title, image)}{sentences}{behind}</section></main>"
    )
    return still_file(lang, _POLICY, inside).encode("utf-8")


def _table(caption: str, table: Table) -> str:
    heads = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in table)
    rows = "".join(
        "<tr>" + "".join(f'<td class="number">{html.escape(cell)}</td>' for cell in row) + "</tr>"
        for row in zip(*table.values(), strict=True)
    )
    shown = (
        f"<table><caption>{html.escape(caption)}</caption><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"
    )
    return _scroller(caption, shown)


def _scroller(label: str, inside: str) -> str:
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{html.escape(label)}">{inside}</div>'
