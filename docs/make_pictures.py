"""Draw the pictures of the README from real commands: their coloured output, cell by cell, in an SVG.

    python docs/make_pictures.py

Every character is placed by its display width, since a browser's fonts give kanji any width they like. The stepper is
drawn from its screen, without a terminal. The picture of the page is a photograph, by Chromium, of an exported one.
"""

import os
import shutil
import subprocess
import sys
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import sync_playwright
from rich.cells import cell_len
from rich.console import Console
from rich.segment import Segment
from rich.text import Text

import manako
from manako.messages.lines import breaks
from manako.settings import RunSettings
from manako.tui.app import StepApp
from manako.tui.stepper import Stepper
from manako.views.html import page
from manako.views.terminal.steps import Look

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from screens import played  # noqa: E402

HERE = Path(__file__).parent / "images"
COLUMNS = 82
PAGE_SEED = 22
PICTURES = {  # name -> (command, lines of its output)
    "watch-ja": ("watch 私は -n 2 --seed 105 --view steps --lang ja", 29),
    "watch-en": ("watch 私は -n 2 --seed 105 --view steps --lang en", 29),
    "compare-ja": ("compare 吾輩は猫 -n 16 --seed 2 --lang ja", 60),
    "attention-ja": ("attention 吾輩は猫である。名前はまだ -t 0.3 --seed 1 --lang ja", 60),
    "lens-ja": ("lens 吾輩は猫である。名前はまだ -t 0.3 --seed 1 --lang ja", 40),
    "why-ja": ("why 吾輩は猫である。名前はまだ -t 0.3 --seed 1 --lang ja", 40),
}
STEPPED = {  # name -> (language, size, keys)
    "step-ja": ("ja", (110, 38), [*["right"] * 9, "down", "enter", *["right"] * 5]),
    "step-why-ja": ("ja", (150, 40), [*["right"] * 9, "4", "up"]),
    "step-en": ("en", (110, 38), [*["right"] * 9, "t", *["left"] * 9]),
}
CELL, LINE, SIZE, MARGIN = 8, 19, 13.5, 16
PAPER, INK, FAINT = "#fbfbf9", "#24292f", "#6b727b"
COLOURS = {"color(2)": "#0a7d4f", "color(3)": "#9a6700"}  # as rich names what it reads from ANSI codes
GROUNDS = {"color(4)": "#d6e4f5", "color(6)": "#a9d3d8", "color(2)": "#8fce9f", "color(3)": "#f2cf63"}  # behind text
SHADES = {"\u2591": 0.15, "\u2592": 0.35, "\u2593": 0.65}  # how much ink
FONTS = "Menlo, Consolas, 'DejaVu Sans Mono', 'Noto Sans Mono CJK JP', 'MS Gothic', monospace"


def main() -> None:
    HERE.mkdir(exist_ok=True)
    for name, (words, count) in PICTURES.items():
        env = os.environ | {"COLUMNS": str(COLUMNS), "MANAKO_AMBIGUOUS_WIDTH": "1"}
        command = [str(Path(sys.executable).with_name("manako")), *words.split(), "--color", "always"]
        made = subprocess.run(command, check=True, capture_output=True, env=env).stdout.decode()
        lines = [Text(f"$ manako {words}", style="bold"), Text("")]
        for line in map(Text.from_ansi, made.splitlines()[:count]):
            lines += line.divide(breaks(line.plain, COLUMNS))  # as a terminal gets it
        (HERE / f"{name}.svg").write_text(picture(lines), encoding="utf-8")
    stepper()
    photograph()


def stepper() -> None:
    """The full-screen stepper after some keys."""
    model = manako.load("demo")
    for name, (lang, size, keys) in STEPPED.items():
        begun = Stepper.begin(lambda: model, "吾輩は猫である。", RunSettings(seed=1, max_new_tokens=100))
        (HERE / f"{name}.svg").write_text(played(StepApp(begun, Look(lang=lang)), size, keys), encoding="utf-8")


def photograph() -> None:
    """The page of a text of the embedded model, as far as a window shows it."""
    capture = ("attention", "lens", "contributions")
    trace = manako.load("demo").trace("吾輩は猫である。", max_new_tokens=60, seed=PAGE_SEED, capture=capture)
    with TemporaryDirectory() as folder, sync_playwright() as playwright:
        file = Path(folder) / "page.html"
        file.write_text(page(trace, "ja"), encoding="utf-8")
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1280, "height": 1000}, color_scheme="light")
        tab.goto(f"{file.as_uri()}#lang=ja&step=5")
        tab.wait_for_selector("manako-model .block")
        tab.wait_for_timeout(1000)  # the entropies of the line above the text follow little by little
        tab.screenshot(path=HERE / "page-ja.png")
        browser.close()


def picture(lines: list[Text]) -> str:
    """One SVG of some lines of a terminal."""
    width, height = COLUMNS * CELL + 2 * MARGIN, len(lines) * LINE + 2 * MARGIN
    console = Console(width=COLUMNS, color_system="standard", force_terminal=True)
    drawn: list[str] = []
    for row, line in enumerate(lines):
        column = 0
        for segment in line.render(console):
            drawn.append(run(segment, column, row))
            column += cell_len(segment.text)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">\n'
        f'<rect width="100%" height="100%" rx="8" fill="{PAPER}" stroke="#d8dadd"/>\n'
        f'<g font-family="{FONTS}" font-size="{SIZE}" xml:space="preserve">\n' + "\n".join(drawn) + "\n</g>\n</svg>\n"
    )


def run(segment: Segment, column: int, row: int) -> str:
    """One run of one style: characters at their cells, bars as rectangles."""
    style, places, letters, bars = segment.style, list[float](), "", list[str]()
    colour = style.color.name if style and style.color else ""
    ground = style.bgcolor.name if style and style.bgcolor else ""
    fill = INK if ground else COLOURS.get(colour, FAINT if style and style.dim else INK)
    top = MARGIN + row * LINE
    for ch in segment.text:
        x = MARGIN + column * CELL
        if ground in GROUNDS:
            wide = cell_len(ch) * CELL
            bars.append(f'<rect x="{x}" y="{top}" width="{wide}" height="{LINE - 1}" fill="{GROUNDS[ground]}"/>')
        if ch in SHADES:
            bars.append(f'<rect x="{x}" y="{top + 3}" width="{CELL}" height="13" opacity="{SHADES[ch]}"/>')
        elif ch in "\u2588\u258c":
            bars.append(f'<rect x="{x}" y="{top + 3}" width="{CELL if ch == chr(0x2588) else CELL / 2}" height="13"/>')
        elif ch != " ":
            places.append(x)
            letters += ch
        column += cell_len(ch)
    weight = ' font-weight="bold"' if style and style.bold else ""
    positions = " ".join(f"{x:g}" for x in places)
    text = f'<text x="{positions}" y="{top + 14}"{weight}>{escape(letters)}</text>' if letters else ""
    return f'<g fill="{fill}">{"".join(bars)}{text}</g>'


if __name__ == "__main__":
    main()
