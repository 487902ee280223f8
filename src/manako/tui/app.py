"""`manako step` on the whole screen: the text above, the choice below it, beside it what one asks.

Special here: a key is worked out and drawn into lines in a thread, so that a slow model holds up no drawing; moves
follow each other in the order of the keys. Sizes are worked out here, since lines are laid out for them. No borders:
their characters take two cells in some Japanese terminals.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.terminal_theme import TerminalTheme
from rich.text import Text as Line
from textual import events
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import Static

from manako.errors import ManakoError
from manako.files import exists, expanded, write_file
from manako.trace.file import to_bytes
from manako.trace.tree import tree_bytes
from manako.tui import panels, repeat
from manako.tui.frame import FARTHEST, LEAST, WIDE, Frame
from manako.tui.game import Guesses, Stop
from manako.tui.keys import KEYS, TABS
from manako.tui.stepper import Stepper
from manako.views.terminal import glyphs as g
from manako.views.terminal.steps import Look

if TYPE_CHECKING:
    from textual.widgets import Input

PLAY_SECONDS = 0.1
_SIXTEEN = [
    (27, 31, 38),
    (224, 108, 117),
    (126, 200, 136),
    (214, 179, 92),
    (43, 74, 107),
    (190, 140, 220),
    (92, 158, 173),
    (215, 220, 226),
]
_COLOURS = TerminalTheme((20, 23, 28), (215, 220, 226), _SIXTEEN, _SIXTEEN)
"""What the names of colours in the terminal views look like here."""


class StepApp(App[None]):
    """See the module."""

    ENABLE_COMMAND_PALETTE = False
    AUTO_FOCUS = None
    BINDINGS = [
        *(Binding(",".join(k.keys), k.action, k.action, show=False, priority="tab" in k.keys) for k in KEYS),
        *(Binding(str(n), f"show_tab({n - 1})", name, show=False) for n, name in enumerate(TABS, 1)),
        Binding("shift+tab", "tab_back", "tab_back", show=False, priority=True),
        Binding("escape", "escape", "escape", show=False, priority=True),
    ]
    CSS = """
    Screen { background: #14171c; color: #d7dce2; layers: base; }
    Static { width: 1fr; height: auto; background: transparent; }
    #head { height: 1; background: #1d232b; color: #aab4c0; padding: 0 1; }
    #ribbon { padding: 0 1; margin: 1 0; }
    #legend { padding: 0 1; height: 1; color: #8b949e; }
    #body { height: 1fr; }
    #choice { padding: 0 1; }
    #side { scrollbar-size-vertical: 1; scrollbar-background: #14171c; scrollbar-color: #2b3440; }
    #beside { padding: 0 1; }
    #tabs, #sliders { padding: 0 1; }
    #tabs { height: 1; margin: 0 0 1 0; }
    #asked { height: 1; border: none; padding: 0 1; background: #1d232b; }
    #told { padding: 0 1; color: #ffd866; }
    #foot { background: #1d232b; padding: 0 1; }
    """

    def __init__(self, stepper: Stepper, look: Look, file: Path | None = None) -> None:
        """file: where the tree lies that was opened."""
        super().__init__()
        self.ansi_theme_dark = _COLOURS
        self.stepper, self.file = stepper, file
        self.frame = Frame(stepper, look)
        self.failed: Exception | None = None
        """What ended it, if anything did."""
        self._lock = asyncio.Lock()
        self._put_before: dict[str, tuple[Sequence[Line], int | None]] = {}
        self._leaving = False
        self._stop: Stop | None = None
        self._wanted = ""
        self._asking: Callable[[str], Awaitable[None]] | None = None

    def say(self, key: str, **values: object) -> str:
        """A sentence of the catalog."""
        return self.frame.say(key, **values)

    # --- the screen ---------------------------------------------------------------------------------------------------

    def compose(self) -> ComposeResult:
        yield Static(id="head")
        yield Static(id="ribbon")
        yield Static(id="legend")
        with Horizontal(id="body"):
            yield Static(id="choice")
            with VerticalScroll(id="side", can_focus=False):
                yield Static(id="tabs")
                yield Static(id="beside")
        yield Static(id="sliders")
        yield Static(id="told")
        yield Static(id="foot")

    async def on_mount(self) -> None:
        self._timer = self.set_interval(PLAY_SECONDS, self._tick, pause=True)
        self.frame.pick_chosen()
        await self._draw()

    def on_resize(self) -> None:
        self.call_later(self._draw)  # Textual takes the size over only after this

    def _handle_exception(self, error: Exception) -> None:
        """Textual would print a traceback with all local variables; whoever runs this says it in one line."""
        self.failed = self.failed or error
        super()._handle_exception(error)

    def _fatal_error(self) -> None:
        self._close_messages_no_wait()

    def last_words(self) -> list[Line]:
        """What stays in the terminal: the text, and how to see it again."""
        text = g.prose(self.stepper.text.trace.text, self.frame.look.glyphs, one_line=False)
        command = repeat.command(self.stepper, self.file)
        again = [Line(self.say("stepper.again", command=command), no_wrap=True)] if command else []
        return [Line(self.say("stepper.text"), "bold"), *(Line(t, no_wrap=True) for t in text.split("\n")), *again]

    async def _do(self, move: Callable[[], Any], pick: bool = True) -> Any:
        """Make a move, which may ask the model, and show what has come of it. None where it is refused."""
        async with self._lock:
            self.frame.told = ""
            self._leaving = False
            try:
                done = await asyncio.to_thread(move)
            except ManakoError as error:
                self.frame.told, done = error.text(self.frame.look.lang), None
                self._stop_playing()
        if pick and done:
            self.frame.pick_chosen()
        await self._draw()
        return done

    async def _draw(self) -> None:
        """Lay everything out for the size at hand, and put it on the screen."""
        if not self.is_running:
            return
        async with self._lock:
            width, height = self.size
            too_small = width < LEAST[0] or height < LEAST[1]
            for name in ("ribbon", "legend", "body", "sliders", "told", "foot"):
                self.query_one(f"#{name}").display = not too_small
            if too_small:
                least = self.say("stepper.too_small", columns=LEAST[0], rows=LEAST[1])
                self._put("head", panels.wrapped([Line(least)], max(10, width - 2)), height)
                return
            lines, heights = await asyncio.to_thread(self.frame.lines, width, height)
            self.query_one("#choice").styles.width = self.frame.left
            wide = width >= WIDE
            self.query_one("#choice").display = wide or (self.frame.in_front == 0 and not self.frame.helping)
            self.query_one("#side").display = wide or self.frame.in_front > 0 or self.frame.helping
            self.query_one("#legend").display = bool(lines["legend"])
            for name, made in lines.items():
                self._put(name, made, heights.get(name))

    def _put(self, name: str, lines: Sequence[Line], height: int | None = None) -> None:
        """Lines in their place. height: where it is fixed; then nothing else moves, which saves half of the work."""
        if self._put_before.get(name) == (lines, height):
            return
        widget = self.query_one(f"#{name}", Static)
        if height is not None:
            widget.styles.height = height
        widget.update(Line("\n").join(lines), layout=height is None)
        self._put_before[name] = lines, height

    # --- keys ---------------------------------------------------------------------------------------------------------

    async def action_back(self) -> None:
        if self.frame.setting:
            await self._moved_slider(-1)
        else:
            self._stop_playing()
            await self._do(self.stepper.back)

    async def action_forward(self) -> None:
        if self.frame.setting:
            await self._moved_slider(1)
            return
        self._stop_playing()
        await self._forward()

    async def _forward(self) -> bool:
        if self.frame.guessing:
            await self._tell("stepper.guess_first")
            return False
        done = await self._do(self.stepper.forward)
        if done is False:
            await self._tell("stepper.ended")
        return bool(done)

    async def action_up(self) -> None:
        await self._pick(-1)

    async def action_down(self) -> None:
        await self._pick(1)

    async def _pick(self, by: int) -> None:
        if self.frame.setting:
            made = self.frame.sliders
            self.frame.slider = (self.frame.slider + by) % len(made)
        elif self.frame.in_branches:
            self.frame.picked_branch = min(max(self.frame.picked_branch + by, 0), len(self.stepper.texts) - 1)
        else:
            self.frame.picked = max(0, self.frame.picked + by)
        await self._draw()

    async def action_take(self) -> None:
        self._stop_playing()
        if self.frame.setting:
            await self._ask("stepper.ask_value", self._typed_value)
            return
        if self.frame.in_branches:
            text = self.stepper.texts[self.frame.picked_branch]
            await self._do(lambda: self.stepper.show(text) or True)
            return
        step = self.stepper.step()
        if self.frame.guesses is not None:
            if self.frame.guesses.guess is None:
                self.frame.guesses.make(self.frame.offered(step)[self.frame.picked], step.chosen)
                self.frame.picked = min(step.chosen.rank - 1, FARTHEST)
                await self._draw()
            else:
                await self._forward()
            return
        candidate = step.candidates[self.frame.picked]
        if await self._do(lambda: self.stepper.take(candidate)) is False:
            await self._tell("stepper.ended")

    async def action_play(self) -> None:
        if self.frame.playing:
            self._stop_playing()
            await self._draw()
        elif self.frame.guesses is None:
            self.frame.playing, self.frame.setting = True, False
            self._timer.resume()
            await self._tick()

    async def _tick(self) -> None:
        """One step of playing; it ends with the text, and before the choice that it is told to stop at."""
        if not self.frame.playing:
            return
        if not await self._forward():
            self._stop_playing()
            await self._draw()
        elif self._stop is not None and self._stop.met(self.stepper.step()):
            self._stop_playing()
            await self._tell("stepper.stopped")
        elif self.stepper.ended is not None:
            self._stop_playing()
            await self._tell(f"end.{self.stepper.ended}", count=len(self.stepper))

    def _stop_playing(self) -> None:
        self.frame.playing = False
        self._timer.pause()

    async def action_undo(self) -> None:
        self._stop_playing()
        await self._do(self.stepper.undo)

    async def action_settings(self) -> None:
        self.frame.setting = not self.frame.setting
        await self._draw()

    async def _moved_slider(self, by: int) -> None:
        made = self.frame.sliders
        await self._set(made[self.frame.slider].stage.name, made[self.frame.slider].moved(by))

    async def _set(self, name: str, value: float | None) -> None:
        await self._do(lambda: self.stepper.set(name, value) or True)

    async def _typed_value(self, said: str) -> None:
        made = self.frame.sliders[self.frame.slider].stage
        try:
            value = float(said) if said.strip() else None
        except ValueError:
            await self._tell("stepper.no_number")
            return
        await self._set(made.name, int(value) if value is not None and made.whole and value.is_integer() else value)

    async def action_resample(self) -> None:
        self._stop_playing()
        await self._do(lambda: self.stepper.resample() or True)

    async def action_stop_at(self) -> None:
        await self._ask("stepper.ask_stop", self._stop_set)

    async def _stop_set(self, said: str) -> None:
        try:
            self._stop = Stop.parse(said)
        except ManakoError as error:
            self.frame.told = error.text(self.frame.look.lang)
            await self._draw()
        else:
            await self._tell("stepper.stop_set" if self._stop else "stepper.stop_none", stop=said.strip())

    async def action_find(self) -> None:
        if not await self._to_guess():
            await self._ask("stepper.ask_find", self._find)

    async def _find(self, said: str) -> None:
        self._wanted = said or self._wanted
        await self._found(False)

    async def action_find_next(self) -> None:
        await self._found(False)

    async def action_find_before(self) -> None:
        await self._found(True)

    async def _found(self, backwards: bool) -> None:
        wanted = self._wanted
        if await self._to_guess():
            return
        if not wanted:
            await self.action_find()
        elif await self._do(lambda: self.stepper.find(wanted, backwards)) is False:
            await self._tell("stepper.not_found", text=wanted)

    async def action_guess(self) -> None:
        self._stop_playing()
        self.frame.guesses = Guesses() if self.frame.guesses is None else None
        self.frame.pick_chosen()
        await self._draw()

    async def _to_guess(self) -> bool:
        """Whether tokens ahead are to be guessed, which a jump would pass; then it is said instead."""
        if self.frame.guesses is not None:
            await self._tell("stepper.guess_first")
        return self.frame.guesses is not None

    async def action_tab(self) -> None:
        await self.action_show_tab((self.frame.tab + 1) % len(TABS))

    async def action_tab_back(self) -> None:
        await self.action_show_tab((self.frame.tab - 1) % len(TABS))

    async def action_show_tab(self, tab: int) -> None:
        self.frame.tab, self.frame.helping = tab, False
        self.frame.beside = tab or self.frame.beside
        self.frame.picked_branch = self.stepper.texts.index(self.stepper.text)
        self.query_one("#side", VerticalScroll).scroll_home(animate=False)
        await self._draw()

    async def action_first(self) -> None:
        await self._do(lambda: self.stepper.jump(0) or True)

    async def action_last(self) -> None:
        if not await self._to_guess():
            await self._do(lambda: self.stepper.jump(len(self.stepper) - 1) or True)

    async def action_page_up(self) -> None:
        self.query_one("#side", VerticalScroll).scroll_page_up(animate=False)

    async def action_page_down(self) -> None:
        self.query_one("#side", VerticalScroll).scroll_page_down(animate=False)

    async def action_help(self) -> None:
        self.frame.helping = not self.frame.helping
        self.query_one("#side", VerticalScroll).scroll_home(animate=False)
        await self._draw()

    async def action_escape(self) -> None:
        if self._asking is not None:
            await self._answered()
        else:
            self.frame.helping = self.frame.setting = False
            self._stop_playing()
            self.frame.told = ""
        await self._draw()

    async def action_copy(self) -> None:
        """Through the terminal, which may refuse; so it is shown too, and said again at the end."""
        command = repeat.command(self.stepper, self.file)
        if command is None:
            await self._tell("stepper.save_first")
        else:
            self.copy_to_clipboard(command)
            await self._tell("stepper.copied", command=command)

    async def action_leave(self) -> None:
        """A tree that was made by hand is not thrown away without a word."""
        if not self.stepper.saved and len(self.stepper.texts) > 1 and not self._leaving:
            self._leaving = True
            await self._tell("stepper.unsaved", count=len(self.stepper.texts))
            return
        self.exit()

    # --- files --------------------------------------------------------------------------------------------------------

    async def action_save(self) -> None:
        await self._ask("stepper.ask_save", self._save, str(self.file or "step.manako"))

    async def action_export(self) -> None:
        await self._ask("stepper.ask_export", self._export, "step.html")

    async def _save(self, said: str, agreed: str | None = None) -> None:
        def data() -> bytes:
            tree = self.stepper.tree()
            return tree_bytes(tree) if tree.only is None else to_bytes(tree.only)

        file = await self._written(said, data, agreed, "stepper.ask_save", self._save)
        if file is not None:
            self.file, self.stepper.saved = file, True

    async def _export(self, said: str, agreed: str | None = None) -> None:
        from manako.views.html import page  # only here, and its tables of names take as long

        def data() -> bytes:
            tree = self.stepper.tree()
            return page(tree if tree.only is None else tree.only, self.frame.look.lang).encode()

        await self._written(said, data, agreed, "stepper.ask_export", self._export)

    async def _written(
        self, said: str, data: Callable[[], bytes], agreed: str | None, key: str, then: Callable[..., Awaitable[None]]
    ) -> Path | None:
        """Write a file and say where; None where nothing was written.

        One that is there is replaced once the question, `key` and `then`, is answered with its name a second time.
        agreed: the name that this question was asked about; a question that is left takes it along.
        """
        if not said:
            return None
        path = expanded(said)
        if await self._do(lambda: exists(path), pick=False) and said != agreed:
            await self._ask(key, partial(then, agreed=said), said)
            await self._tell("stepper.exists")
            return None
        if not await self._do(lambda: write_file(path, data(), replace=said == agreed) or True, pick=False):
            return None
        await self._tell("stepper.written", file=said)
        return path

    # --- what is typed ------------------------------------------------------------------------------------------------

    async def _ask(self, key: str, then: Callable[[str], Awaitable[None]], value: str = "") -> None:
        """A line to type in."""
        from textual.widgets import Input  # thirty milliseconds that the first frame does not need

        self._stop_playing()
        await self._answered()
        asked = Input(value, placeholder=self.say(key), id="asked", select_on_focus=False)
        await self.mount(asked, before="#told")
        self._asking = then
        self.set_focus(asked)  # at once: what is typed ahead belongs here

    async def _answered(self) -> Callable[[str], Awaitable[None]] | None:
        """Nothing is typed any more; what the answer was for."""
        then, self._asking = self._asking, None
        await self.query("#asked").remove()
        return then

    async def on_input_submitted(self, event: "Input.Submitted") -> None:
        if then := await self._answered():
            await then(event.value)

    async def _tell(self, key: str, **values: object) -> None:
        """Show a sentence in the line of news."""
        self.frame.told = self.say(key, **values)
        await self._draw()

    # --- the mouse ----------------------------------------------------------------------------------------------------

    async def on_click(self, event: events.Click) -> None:
        name, x, y = event.widget.id if event.widget else None, event.x - 1, event.y
        if name == "ribbon":
            token = self.frame.ribbon.token_at(y, x)
            positions = self.stepper.positions
            if token in positions and self.frame.guesses is None:
                await self._do(lambda: self.stepper.jump(positions.index(token)) or True)
        elif name == "choice":
            await self._clicked_candidate(y, event.chain > 1)
        elif name == "tabs":
            tab = next((n for n, (start, end) in enumerate(self.frame.tab_cells) if start <= x < end), None)
            if tab is not None:
                await self.action_show_tab(tab)
        elif name == "foot":
            action = next((a for line, start, end, a in self.frame.places if line == y and start <= x < end), None)
            if action:
                await self.run_action(action)

    async def _clicked_candidate(self, y: int, twice: bool) -> None:
        first, listed = self.frame.listed
        if 0 < y <= listed and first + y - 1 >= 0:
            self.frame.picked = first + y - 1
            await (self.action_take() if twice else self._draw())

    async def on_mouse_down(self, event: events.MouseDown) -> None:
        await self._slid(event)

    async def on_mouse_move(self, event: events.MouseMove) -> None:
        if event.button:
            await self._slid(event)

    async def _slid(self, event: events.MouseEvent) -> None:
        if event.widget is None or event.widget.id != "sliders":
            return
        made = self.frame.sliders
        n = event.y + self.frame.sliders_from
        if n < len(made) and event.x - 1 >= panels.SLIDER_AT - 1:
            self.frame.slider = n
            share = panels.slider_share(event.x - 1, self.size.width - 2)
            await self._set(made[n].stage.name, made[n].at(share))
