"""What stands on the stepper's screen, part by part, as lines for the room there is.

Special here: no Textual, and no model but through the stepper: a size goes in, lines come out, so that they can be
worked out in a thread. Where something stands is kept, for the mouse.
"""

from dataclasses import dataclass, field, replace

from rich.cells import cell_len
from rich.text import Text as Line

from manako.analysis.attention import attention
from manako.analysis.contributions import contributions
from manako.analysis.lens import lens
from manako.errors import ManakoError
from manako.messages.numbers import count, fixed, setting
from manako.trace.captures import Attention, Contributions, Lens
from manako.trace.record import Candidate, Step
from manako.tui import panels
from manako.tui.game import Guesses
from manako.tui.keys import KEYS, TABS, shown
from manako.tui.ribbon import HIDDEN, Ribbon
from manako.tui.stepper import Stepper
from manako.views.terminal import glyphs as g
from manako.views.terminal.attention import attention_lines
from manako.views.terminal.lens import layer_lines
from manako.views.terminal.steps import Look
from manako.views.terminal.why import part_lines

LEAST = (40, 16)
"""Columns and rows below which there is no room for a choice."""
WIDE = 110  # columns from which the choice and a tab stand side by side
_SLIDERS_FROM = 34  # rows from which all sliders stand on the screen
_LEGEND_FROM = 28  # rows from which the tints are explained
_NEWS_LINES = 3  # an error says at its end what to do
FARTHEST = 200  # ranks that the highlight reaches
_BRIGHT, _WARNING = "bold #d7dce2", "bold #ffd866"


@dataclass
class Frame:
    """What is looked at, and how; see the module."""

    stepper: Stepper
    look: Look
    picked: int = 0
    """The candidate that is highlighted, counted from 0; of a guess, among those that are offered."""
    picked_branch: int = 0
    tab: int = 0
    beside: int = len(TABS) - 1
    """The tab that stands beside the choice, in a wide window."""
    helping: bool = False
    setting: bool = False
    """Whether the arrows move sliders."""
    slider: int = 0
    playing: bool = False
    guesses: Guesses | None = None
    told: str = ""
    """The line of news."""
    places: list[tuple[int, int, int, str]] = field(default_factory=list[tuple[int, int, int, str]])
    """(line, first cell, end, action) of what can be clicked in the footer."""
    tab_cells: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    listed: tuple[int, int] = (0, 0)
    """Which candidate stands below the titles, and how many do."""
    sliders_from: int = 0
    left: int = 0
    """Columns of the choice."""

    def __post_init__(self) -> None:
        self.ribbon = Ribbon(self.stepper.text.trace.vocabulary, self.look)

    def say(self, key: str, **values: object) -> str:
        """A sentence of the catalog."""
        return self.look.say(key, **values)

    @property
    def guessing(self) -> bool:
        """Whether a guess is to be made before anything is shown."""
        return self.guesses is not None and self.guesses.guess is None

    @property
    def in_front(self) -> int:
        """The tab that a narrow window shows: the choice, while a token is to be guessed."""
        return 0 if self.guessing else self.tab

    @property
    def in_branches(self) -> bool:
        """Whether the arrows move through the branches."""
        return TABS[self.tab] == "branches" and self.guesses is None and not self.helping

    @property
    def sliders(self) -> list[panels.Slider]:
        """Of the settings in force."""
        return panels.sliders(self.stepper.sampling, self.stepper.text.trace.vocabulary.size)

    def pick_chosen(self) -> None:
        """Highlight what stands at this place; where it is to be guessed, nothing in particular."""
        if self.guesses is not None:
            self.guesses.guess = None
        step = self.stepper.step()
        stands = panels.taken(step, self.stepper.here) or step.chosen
        self.picked = 0 if self.guessing or stands.rank > FARTHEST else stands.rank - 1

    def offered(self, step: Step) -> list[Candidate]:
        """What one may guess: the first candidates that can be drawn, in an order that tells nothing."""
        return sorted((c for c in step.candidates[: self.look.top] if c.p > 0), key=lambda c: c.bytes)

    def lines(self, width: int, height: int) -> tuple[dict[str, list[Line]], dict[str, int]]:
        """The lines of every part for so much room, and the heights of those that have a fixed one."""
        step, room = self.stepper.step(), width - 2
        made = {"head": [self._head(room)], "foot": self._foot(room, max(2, height // 6))}
        made["told"] = panels.wrapped([Line(g.prose(self.told, self.look.glyphs))], room)[:_NEWS_LINES]
        made["sliders"] = self._slider_lines(room, height)
        tall = min(max(3, height // 7), 6)
        made["ribbon"] = self._ribbon_lines(step, room, tall)
        made["legend"] = [self._legend()] if height >= _LEGEND_FROM else []
        parts = {name: len(made[name]) for name in ("foot", "told", "sliders", "legend")} | {"ribbon": tall}
        rest = height - sum(parts.values()) - 3  # head, a line above and below the ribbon
        wide = width >= WIDE
        self.left = left = width // 2 if wide else width
        made["choice"] = self._choice(step, left - 2, rest)
        made["tabs"] = [self._tab_line(width - left - 2 if wide else room, wide)]
        look = replace(self.look, columns=(width - left if wide else width) - 3)
        made["beside"] = self._beside_lines(step, look) if wide or self.in_front or self.helping else []
        return made, parts | {"head": 1, "tabs": 1, "choice": rest}

    def _head(self, room: int) -> Line:
        """Which model with which settings; at the right, which step."""
        text, n = self.stepper.text, self.stepper.at + 1
        sampling = self.stepper.sampling
        chain = " > ".join(f"{name} {setting(getattr(sampling, name))}" for name in sampling.active)
        shown = g.visible(text.trace.header.model.name, self.look.glyphs)
        seed = text.trace.header.seed
        words = [shown, chain if seed is not None else "", "" if seed is None else self.say("stepper.seed", seed=seed)]
        if len(self.stepper.texts) > 1:
            words.append(self.say("stepper.in_branch", id=text.id, count=len(self.stepper.texts)))
        if self.stepper.what_if:
            words.append(self.say("stepper.what_if"))
        right = self.say("stepper.at", step=count(n), steps=count(len(self.stepper)))
        if self.playing:
            right = f"{self.say('stepper.playing')}  {right}"
        left = g.cut("  ".join(filter(None, words)), max(0, room - cell_len(right) - 2))
        return Line(g.pad(left, room - cell_len(right)), no_wrap=True).append(right, _BRIGHT)

    def _ribbon_lines(self, step: Step, room: int, height: int) -> list[Line]:
        """The text around the step, tinted by what the model thought of each token."""
        stepper = self.stepper
        text = stepper.text
        positions, ids = stepper.positions, text.trace.all_ids.tolist()
        cursor, first = stepper.here.position, positions[0]
        columns = [(len(t.trace.columns.prompt_ids), n, t.trace.columns.p_model) for t, n in text.line]
        forced = {len(t.trace.columns.prompt_ids) - 1 for t, _ in text.line[1:] if t.forced}
        if self.guesses is not None or stepper.what_if:  # what comes after it is to be guessed, or another text
            here = HIDDEN if self.guessing else step.token_id if stepper.what_if else ids[cursor]
            ids = [*ids[:cursor], here]

        def style(n: int) -> str:
            if n == cursor:
                return "bold reverse"
            if n > cursor or n < first:
                return "#6e7681" if n > cursor else panels.QUIET
            if n in forced:
                return panels.FORCED
            p = next((float(p_model[n - start]) for start, length, p_model in columns if 0 <= n - start < length), 1.0)
            return next(tint for least, tint in panels.TINTS if p >= least)

        return self.ribbon.lines(ids, room, height, cursor, style)

    def _legend(self) -> Line:
        """What the tints mean."""
        line = Line(self.say("stepper.legend"), no_wrap=True)
        for n, (least, style) in enumerate(panels.TINTS):
            shown = f">={setting(100 * least)}%" if least else f"<{setting(100 * panels.TINTS[n - 1][0])}%"
            line.append(" ").append(f" {shown} ", style)
        return line.append(f" {self.say('stepper.legend_forced')} ", panels.FORCED)

    def _choice(self, step: Step, room: int, height: int) -> list[Line]:
        """The candidates and the draw, or the guess."""
        if self.guessing:
            return self._guess_lines(step, room, height)
        here = self.stepper.here
        below = panels.draw_lines(step, here, room, self.look)
        if self.guesses is not None:
            below = [*panels.wrapped([Line(self._guessed(step, self.guesses), _WARNING)], room), *below]
        shown = max(1, min(self.look.top, height - 3 - len(below)))
        self.picked = min(self.picked, len(step.candidates) - 1, FARTHEST)
        first = max(0, self.picked - shown + 1)
        self.listed = first, shown
        return [*panels.candidates(step, here, self.picked, first, room, shown, self.look), Line(), *below]

    def _guess_lines(self, step: Step, room: int, height: int) -> list[Line]:
        lines = panels.wrapped([Line(self.say("stepper.guess_now"), _WARNING)], room)
        offered = self.offered(step)[: max(1, height - len(lines) - 2)]
        self.picked = min(self.picked, len(offered) - 1)
        self.listed = 1 - len(lines), len(offered) + len(lines) - 1
        for n, c in enumerate(offered):
            label = self.look.label(c, g.pending_bytes(step.bytes_before), room - 4)
            mark = self.look.glyphs.mark if n == self.picked else " "
            lines.append(Line(g.pad(f" {mark} {label}", room), panels.PICKED if n == self.picked else ""))
        return lines

    def _guessed(self, step: Step, guesses: Guesses) -> str:
        assert guesses.guess is not None  # asked for once it is made
        pending = g.pending_bytes(step.bytes_before)
        mine, drawn = guesses.mean
        values = {"guess": self.look.label(guesses.guess, pending), "drawn": self.look.label(step.chosen, pending)}
        bits = {"bits": fixed(guesses.bits[-1], 2), "drawn_bits": fixed(guesses.drawn_bits[-1], 2)}
        means = {"mean": fixed(mine, 2), "drawn_mean": fixed(drawn, 2)}
        count_of = {"right": guesses.right, "count": len(guesses.bits)}
        return self.say("stepper.guessed", **values, **bits, **means, **count_of)

    def _slider_lines(self, room: int, height: int) -> list[Line]:
        """All of them where there is room, else the one in hand."""
        made = self.sliders
        self.slider = min(self.slider, len(made) - 1)
        picked = self.slider if self.setting else None
        lines = [panels.slider_line(each, n == picked, room, self.look) for n, each in enumerate(made)]
        self.sliders_from = 0 if height >= _SLIDERS_FROM else self.slider
        if height >= _SLIDERS_FROM:
            return lines
        return lines[self.slider : self.slider + 1] if self.setting else []

    def _tab_line(self, room: int, wide: bool) -> Line:
        """The tabs with their names; a narrow window has them closer, then their numbers alone but for the one shown.

        Beside the choice its own tab is the first to lose its name.
        """
        line = Line(no_wrap=True)
        self.tab_cells = []
        beside = self.in_front or (self.beside if wide else 0)
        named = [f"{n} {self.say(f'stepper.tab_{name}')}" for n, name in enumerate(TABS, 1)]
        close = ["1", *named[1:]] if wide else named
        numbers = [name if n == beside else str(n + 1) for n, name in enumerate(named)]
        padded = [[f" {name} " for name in names] for names in (named, numbers)]
        fitting = (names for names in (padded[0], close) if sum(map(cell_len, names)) + len(names) - 1 <= room)
        for n, tab in enumerate(next(fitting, padded[1])):
            at = line.cell_len
            self.tab_cells.append((at, at + cell_len(tab)))
            line.append(tab, "bold reverse" if n == beside and not self.helping else panels.QUIET).append(" ")
        return line

    def _beside_lines(self, step: Step, look: Look) -> list[Line]:
        """What the tab in front shows; an error where that cannot be had."""
        if self.helping:
            return self._help_lines(look)
        name = TABS[self.in_front or self.beside]
        if self.guessing or (self.guesses is not None and name == "branches"):  # which tell what is to be guessed
            return panels.wrapped([Line(self.say("stepper.guess_first"), panels.QUIET)], look.columns)
        try:
            lines = getattr(self, f"_{name}_lines")(step, look)
        except ManakoError as error:
            lines = [Line(error.text(look.lang), _WARNING)]
        return panels.wrapped(list(lines), look.columns)

    def _attention_lines(self, step: Step, look: Look) -> list[Line]:
        found = attention(*self.stepper.inside(Attention.name))
        return list(attention_lines(found, look))[1:]  # the number of a step that was computed again says nothing

    def _layers_lines(self, step: Step, look: Look) -> list[Line]:
        return list(layer_lines(lens(*self.stepper.inside(Lens.name)), look))

    def _why_lines(self, step: Step, look: Look) -> list[Line]:
        """Why the token that was drawn; rather than the highlighted one, where that is another and taken apart too."""
        known = contributions(*self.stepper.inside(Contributions.name))
        token, rival = known.step.chosen, None
        picked = step.candidates[self.picked].id if self.guesses is None else token.id
        rival = next((c for c in known.tokens if c.id == picked != token.id), None)
        beside = None if rival else known.next_best(token)
        return list(part_lines(known.step, known.why(token, rival), known.why(token, beside) if beside else None, look))

    def _branches_lines(self, step: Step, look: Look) -> list[Line]:
        texts = self.stepper.texts
        self.picked_branch = min(self.picked_branch, len(texts) - 1)
        return panels.branches(texts, self.stepper.text, self.picked_branch, look.columns, look)

    def _stages_lines(self, step: Step, look: Look) -> list[Line]:
        return panels.stages(step, self.stepper.sampling, look.columns, look)

    def _help_lines(self, look: Look) -> list[Line]:
        lines = [Line(self.say("stepper.help"), "bold"), Line()]
        for key in KEYS:
            head = g.pad(shown(key, look), 7)
            said = panels.wrapped([Line(self.say(f"stepper.help_{key.action}"))], max(10, look.columns - 7))
            for n, part in enumerate(said):
                line = Line(no_wrap=True).append(" " * 7 if n else head, "bold")
                lines.append(line.append_text(part))
        return [*lines, Line(), Line(self.say("stepper.help_tabs")), Line(self.say("stepper.help_plain"))]

    def _foot(self, room: int, most: int) -> list[Line]:
        """Every key with its name, in as many lines as there may be."""
        lines, self.places = [Line(no_wrap=True)], []
        for n, key in enumerate(KEYS):
            if key.beside:
                continue
            group = KEYS[n : n + 1 + (n + 1 < len(KEYS) and KEYS[n + 1].beside)]
            names = [shown(each, self.look) for each in group]
            label = self.say(f"stepper.key_{key.action}")
            cells = cell_len(" ".join([*names, label]))
            if lines[-1].cell_len + cells > room:
                if len(lines) == most:
                    break
                lines.append(Line(no_wrap=True))
            for each, name in zip(group, names, strict=True):
                at = lines[-1].cell_len
                self.places.append((len(lines) - 1, at, at + cell_len(name), each.action))
                lines[-1].append(name, _BRIGHT).append(" ")
            if len(group) == 1:  # its name is a place to click too
                at = lines[-1].cell_len
                self.places.append((len(lines) - 1, at, at + cell_len(label), key.action))
            lines[-1].append(f"{label}  ", panels.QUIET)
        return lines
