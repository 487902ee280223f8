"""The stepper on a screen: every key does what it says, the mouse too, and bad input says what to do."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from math import log2
from pathlib import Path

import numpy as np
import pytest
from golden import HOSTILE, golden_header, golden_inside, golden_score, golden_trace, large_inside
from lanes import mostly_slow
from screens import press, text
from steppers import MODEL, begun, read
from textual.pilot import Pilot

from manako import messages
from manako.sampling import Sampling
from manako.trace.tree import open_tree
from manako.tui import repeat
from manako.tui.app import StepApp
from manako.tui.frame import LEAST, WIDE, Frame
from manako.tui.keys import KEYS, TABS
from manako.tui.stepper import Stepper
from manako.views.terminal.glyphs import BRAILLE
from manako.views.terminal.steps import Look

Script = Callable[[StepApp, Pilot[None]], Awaitable[None]]
SIZE = (100, 40)


def play(script: Script, stepper: Stepper | None = None, size: tuple[int, int] = SIZE, lang: str = "en") -> StepApp:
    app = StepApp(stepper or begun(most=20), Look(lang=lang))

    async def run() -> None:
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            await script(app, pilot)

    asyncio.run(run())
    return app


def keys(*names: str, **more: object) -> StepApp:
    """Press these keys and quit."""

    async def script(app: StepApp, pilot: Pilot[None]) -> None:
        await press(pilot, *names)

    return play(script, **more)  # type: ignore[arg-type]


async def typed(pilot: Pilot[None], words: str) -> None:
    """Fill the line that is asked for, and enter it."""
    asked = pilot.app.query_one("#asked")
    asked.value = words  # type: ignore[attr-defined]
    await press(pilot, "enter")


async def ticked(app: StepApp) -> None:
    """One step of playing by hand; the clock's own step could come in between."""
    app._timer.pause()
    await app._tick()


async def until(pilot: Pilot[None], there: Callable[[], bool]) -> None:
    """Wait for what no key brings about, such as a new size."""
    for _ in range(100):
        if there():
            return
        await pilot.pause(0.02)
    raise AssertionError(text(pilot.app))  # type: ignore[arg-type]


def test_arrows_step_and_choose() -> None:
    app = keys("right", "right", "right", "left", "down", "down", "up")
    assert (app.stepper.at, len(app.stepper.texts)) == (2, 1)
    assert app.frame.picked == app.stepper.step().chosen.rank


def test_enter_takes_the_highlighted_candidate() -> None:
    app = keys("right", "down", "enter")
    assert len(app.stepper.texts) == 2 and app.stepper.at == 2 and app.stepper.place(1).forced


def test_backspace_takes_a_move_back() -> None:
    app = keys("right", "down", "enter", "backspace")
    assert app.stepper.text.id == "1" and app.stepper.at == 1 and len(app.stepper.texts) == 2


def test_home_end() -> None:
    assert keys("right", "right", "right", "home").stepper.at == 0
    assert keys("right", "right", "right", "home", "end").stepper.at == 3


def test_r_resamples() -> None:
    app = keys("right", "r")
    assert app.stepper.text.trace.header.seed == 2 and app.stepper.at == 1


def test_t_moves_sliders_on_the_same_row() -> None:
    async def script(app: StepApp, pilot: Pilot[None]) -> None:
        await press(pilot, "right", "t", "left", "left")
        assert app.stepper.sampling.temperature == 0.7 and app.stepper.what_if and app.stepper.at == 1
        assert messages.text("stepper.what_if", "en") in text(app)
        await press(pilot, "down", "left")  # top_k, from off
        assert app.stepper.sampling.top_k == 200
        await press(pilot, "up", "enter")
        await typed(pilot, "0.33")
        assert app.stepper.sampling.temperature == 0.33
        await press(pilot, "enter")
        await typed(pilot, "-1")
        assert "temperature must be 0" in text(app) and app.stepper.sampling.temperature == 0.33
        await press(pilot, "enter")
        await typed(pilot, "warm")
        assert messages.text("stepper.no_number", "en") in text(app)
        await press(pilot, "escape", "right")
        assert len(app.stepper.texts) == 2 and app.stepper.at == 2

    play(script)


@pytest.mark.parametrize("number", ["inf", "-inf", "nan", "1e999", "1e300", "2.5"])
@pytest.mark.parametrize("name", ["top_k", "temperature"])
def test_no_number_that_is_typed_ends_it(name: str, number: str) -> None:
    async def script(app: StepApp, pilot: Pilot[None]) -> None:
        await press(pilot, "t", *["down"] * [each.stage.name for each in app.frame.sliders].index(name), "enter")
        await typed(pilot, number)
        assert app.is_running and (name in app.frame.told) == (app.stepper.sampling == Sampling(temperature=0.8))

    play(script)


def test_space_plays_and_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("manako.tui.app.PLAY_SECONDS", 3600)  # each step is asked for below

    async def script(app: StepApp, pilot: Pilot[None]) -> None:
        await press(pilot, "space")
        assert app.frame.playing and app.stepper.at == 1
        await ticked(app)
        await ticked(app)
        assert app.stepper.at >= 3
        await press(pilot, "space")
        at = app.stepper.at
        await ticked(app)
        assert not app.frame.playing and app.stepper.at == at

    play(script)


@pytest.mark.parametrize("condition", mostly_slow(["entropy 0.5", "rank 2", "text"], fast={"rank 2"}))
def test_b_sets_where_playing_stops(condition: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("manako.tui.app.PLAY_SECONDS", 3600)  # a step of the clock would come beside those asked for
    steps = MODEL.trace("私", seed=1, max_new_tokens=20).steps[1:]
    wanted = steps[4].chosen.text if condition == "text" else condition
    meets = {
        "entropy 0.5": lambda s: s.entropy >= 0.5,
        "rank 2": lambda s: s.chosen.rank >= 2,
        "text": lambda s: wanted in s.chosen.text,
    }[condition]

    async def script(app: StepApp, pilot: Pilot[None]) -> None:
        await press(pilot, "b")
        await typed(pilot, wanted)
        await press(pilot, "space")
        while app.frame.playing:
            await ticked(app)
        assert app.stepper.at == next(s.index for s in steps if meets(s))
        assert messages.text("stepper.stopped", "en") in text(app)
        await press(pilot, "b")
        await typed(pilot, "rank")
        assert "needs a number" in text(app)

    play(script)


def test_slash_finds() -> None:
    async def script(app: StepApp, pilot: Pilot[None]) -> None:
        await press(pilot, *["right"] * 8)
        wanted = app.stepper.text.trace.steps[3].chosen.text
        await press(pilot, "home", "slash")
        await typed(pilot, wanted)
        at = app.stepper.at
        assert wanted in app.stepper.step().chosen.text
        await press(pilot, "n", "N")
        assert wanted in app.stepper.step().chosen.text
        await press(pilot, "slash")
        await typed(pilot, "龍")
        assert "龍" in text(app) and app.stepper.at == at

    play(script)


@pytest.mark.parametrize("width", mostly_slow([60, 120], fast={60}))
def test_nothing_tells_what_is_to_be_guessed(width: int) -> None:
    first = messages.text("stepper.guess_first", "en")

    def part(app: StepApp, name: str) -> str:
        return " ".join(" ".join(line.plain for line in app.frame.lines(width, 40)[0][name]).split())

    async def script(app: StepApp, pilot: Pilot[None]) -> None:
        await press(pilot, "end", "n")
        await typed(pilot, "[bold]")
        whole = part(app, "ribbon")
        await press(pilot, "home", "g")
        for tab in "23456":
            await press(pilot, tab)
            assert messages.text("stepper.guess_now", "en")[:20] in text(app)
            assert part(app, "beside") == (first if width > 100 else "")
        for key in ("end", "slash", "n", "N"):
            await press(pilot, key)
            assert app.stepper.at == 0 and not app.query("#asked") and app.frame.told == first
        await press(pilot, "1", "enter", "5", "end", "n")  # guessed; what follows is not
        assert app.frame.guesses is not None and app.frame.guesses.guess and app.stepper.at == 0
        assert not app.frame.in_branches and part(app, "beside") == first
        assert whole.startswith(part(app, "ribbon")) and part(app, "ribbon") != whole
        await press(pilot, "g")
        assert part(app, "ribbon") == whole and first not in part(app, "beside")

    play(script, read(golden_inside()), size=(width, 40))


def test_g_hides_the_choice_until_it_is_guessed() -> None:
    async def script(app: StepApp, pilot: Pilot[None]) -> None:
        await press(pilot, *["right"] * 4, "home", "g")
        seen, step = text(app), app.stepper.step()
        assert not re.search(r"\d%", seen.split(messages.text("stepper.guess_now", "en"))[1])
        assert f"u = {step.u:.4f}" not in seen
        await press(pilot, "right")
        assert app.stepper.at == 0 and messages.text("stepper.guess_first", "en") in text(app)
        guess = app.frame.offered(step)[0]
        await press(pilot, "enter")
        assert app.frame.guesses is not None and app.frame.guesses.guess == guess
        assert app.frame.guesses.bits[0] == pytest.approx(-log2(guess.p))
        assert "bits" in text(app)
        await press(pilot, "enter")
        assert app.stepper.at == 1 and app.frame.guessing
        await press(pilot, "g")
        assert app.frame.guesses is None

    play(script)


@pytest.mark.parametrize("size", mostly_slow([(60, 24), (100, 30), (160, 50)], fast={(60, 24)}))
def test_every_tab_in_every_width(size: tuple[int, int]) -> None:
    words = {
        "choice": "u = ",
        "attention": "%",
        "layers": "embed",
        "why": "mlp",
        "branches": messages.text("stepper.branch", "en"),
        "stages": messages.text("stepper.stage", "en"),
    }

    async def script(app: StepApp, pilot: Pilot[None]) -> None:
        await press(pilot, "right", "right")
        for n, name in enumerate(TABS):
            await press(pilot, str(n + 1))
            assert app.frame.tab == n
            assert words[name] in text(app), name
            assert all(len(row) <= size[0] for row in text(app).splitlines()), name

    play(script, size=size)


@pytest.mark.parametrize("lang", messages.LANGUAGES)
@pytest.mark.parametrize("width", [60, 109, 110, 200])
def test_tabs_have_names_where_those_fit(lang: str, width: int) -> None:
    frame = Frame(read(golden_inside()), Look(lang=lang))
    [line] = frame.lines(width, 30)[0]["tabs"]
    first = 1 if width == 110 else 0  # beside the choice, its own tab has its number
    assert all(messages.text(f"stepper.tab_{name}", lang) in line.plain for name in TABS[first:])
    assert line.cell_len <= width - frame.left if width >= WIDE else width


def test_tab_goes_round() -> None:
    assert keys("tab", "tab").frame.tab == 2
    assert keys("tab", "shift+tab", "shift+tab").frame.tab == len(TABS) - 1


def test_enter_in_the_branches_shows_one() -> None:
    app = keys("right", "down", "enter", "5", "up", "enter")
    assert app.stepper.text.id == "1"


def test_a_tab_scrolls() -> None:
    async def script(app: StepApp, pilot: Pilot[None]) -> None:
        await press(pilot, "question_mark", "pagedown")
        side = app.query_one("#side")
        assert side.scroll_y > 0
        await press(pilot, "pageup")
        assert side.scroll_y == 0

    play(script, size=(60, 24))


@pytest.mark.parametrize("lang", messages.LANGUAGES)
def test_question_mark_explains_every_key(lang: str) -> None:
    async def script(app: StepApp, pilot: Pilot[None]) -> None:
        await press(pilot, "question_mark")
        shown = " ".join(text(app).split())
        for key in KEYS:
            assert messages.text(f"stepper.help_{key.action}", lang)[:12] in shown, key.action

    play(script, size=(120, 60), lang=lang)


@pytest.mark.parametrize("lang", messages.LANGUAGES)
@pytest.mark.parametrize("width", [60, 100, 160, 200])
def test_the_footer_names_every_key(lang: str, width: int) -> None:
    frame = Frame(begun(most=20), Look(lang=lang))
    frame.lines(width, 30)
    assert {place[3] for place in frame.places} == {key.action for key in KEYS}


def test_every_key_has_an_action() -> None:
    for key in KEYS:
        assert callable(getattr(StepApp, f"action_{key.action}"))


def test_s_saves_and_asks_before_it_replaces(tmp_path: Path) -> None:
    file = tmp_path / "t.manako"

    async def script(app: StepApp, pilot: Pilot[None]) -> None:
        await press(pilot, "right", "down", "enter", "s")
        await typed(pilot, str(file))
        assert app.stepper.saved and len(open_tree(file).branches) == 2
        was = file.read_bytes()
        await press(pilot, "right", "s")
        await typed(pilot, str(file))
        assert file.read_bytes() == was and messages.text("stepper.exists", "en") in text(app)
        await press(pilot, "enter")
        assert file.read_bytes() != was and app.file == file
        await press(pilot, "s")
        await typed(pilot, str(tmp_path / "no" / "such.manako"))
        assert "no" in app.frame.told and app.file == file

    play(script)


def test_a_file_is_replaced_by_what_was_asked_about_alone(tmp_path: Path) -> None:
    file = tmp_path / "t.manako"

    async def script(app: StepApp, pilot: Pilot[None]) -> None:
        for key in ("s", "e", "s"):
            await press(pilot, key)
            await typed(pilot, str(file))
            assert file.read_bytes() == b"mine" and messages.text("stepper.exists", "en") in text(app)
            await press(pilot, "escape")

    file.write_bytes(b"mine")
    play(script)


def test_a_tilde_is_read_as_a_shell_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()

    async def script(app: StepApp, pilot: Pilot[None]) -> None:
        await press(pilot, "right", "down", "enter", "s")
        await typed(pilot, "~nobody-at-all.manako")  # no user has this name
        assert app.stepper.saved and len(open_tree(tmp_path / "~nobody-at-all.manako").branches) == 2
        await press(pilot, "s")
        await typed(pilot, "~/t.manako")
        await press(pilot, "c")
        assert app.clipboard == f"manako step --step 3 -- {tmp_path / 'home' / 't.manako'}"

    play(script)


def test_e_exports_a_page(tmp_path: Path) -> None:
    async def script(app: StepApp, pilot: Pilot[None]) -> None:
        await press(pilot, "right", "e")
        await typed(pilot, str(tmp_path / "t.html"))

    play(script)
    assert "<!doctype html" in (tmp_path / "t.html").read_text(encoding="utf-8")[:100].lower()


def test_c_copies_the_command_that_repeats_this(tmp_path: Path) -> None:
    async def script(app: StepApp, pilot: Pilot[None]) -> None:
        await press(pilot, "right", "c")
        assert app.clipboard == "manako step --step 2 -m toy --seed 1 --temperature 0.8 -- 私"
        await press(pilot, "down", "enter", "c")
        assert messages.text("stepper.save_first", "en") in text(app)
        await press(pilot, "s")
        await typed(pilot, str(tmp_path / "t.manako"))
        await press(pilot, "c")
        assert app.clipboard == f"manako step --step 3 -- {tmp_path / 't.manako'}"

    play(script)


def test_special_tokens_of_a_prompt_are_repeated_from_the_file_alone() -> None:
    trace = golden_trace()
    header = replace(trace.header, first_step=0)
    for ids, typed in (((9,), True), ((0, 9), True), ((9, 0), False)):
        stepper = read(
            replace(trace, header=header, columns=replace(trace.columns, prompt_ids=np.array(ids, np.int32)))
        )
        assert (repeat.command(stepper, None) is not None) is typed


def test_what_stays_in_the_terminal_is_text(tmp_path: Path) -> None:
    hostile = "a\x1b]0;b\x07\u202e"
    header = golden_header(stop=(hostile,), ablate=(hostile,), first_step=0)
    header = replace(header, prompt=hostile, model=replace(header.model, ref=hostile))
    whole = read(replace(golden_trace(), header=header))
    part = read(replace(golden_trace(), header=replace(header, first_step=1)))  # repeated from its file
    for app in (StepApp(whole, Look(lang="en")), StepApp(part, Look(lang="en"), tmp_path / hostile)):
        said = [line.plain for line in app.last_words()]
        assert not set("".join(said)) & set(hostile[1:]) - set("]0;b") and "\\u001b" in said[-1]


def test_q_does_not_throw_a_tree_away_without_a_word() -> None:
    async def script(app: StepApp, pilot: Pilot[None]) -> None:
        await press(pilot, "right", "down", "enter", "q")
        assert app.is_running and messages.text("stepper.unsaved", "en", count=2) in text(app)
        await pilot.press("q")

    app = play(script)
    assert app.failed is None and app.return_code == 0


def test_escape_leaves_whatever_is_open() -> None:
    async def script(app: StepApp, pilot: Pilot[None]) -> None:
        for key in ("slash", "s", "b", "e"):
            await press(pilot, key)
            assert app.query("#asked")
            await press(pilot, "escape")
            assert not app.query("#asked")
        await press(pilot, "question_mark", "t", "escape")
        assert not app.frame.helping and not app.frame.setting
        await press(pilot, "right")
        assert app.stepper.at == 1

    play(script)


# --- the mouse --------------------------------------------------------------------------------------------------------


def test_clicks() -> None:
    async def script(app: StepApp, pilot: Pilot[None]) -> None:
        await press(pilot, *["right"] * 5)
        first = app.stepper.text.trace.steps[0].chosen
        await pilot.click("#ribbon", offset=(3, 0))  # behind the prompt, two cells wide
        await pilot.pause()
        assert app.stepper.at == 0 and app.stepper.step().chosen == first
        await pilot.click("#choice", offset=(5, 3))
        await pilot.pause()
        assert app.frame.picked == 2
        line, start, _, action = next(p for p in app.frame.places if p[3] == "forward")
        await pilot.click("#foot", offset=(start + 1, line))
        await pilot.pause()
        assert action == "forward" and app.stepper.at == 1
        await pilot.click("#choice", offset=(5, 2), times=2)
        await pilot.pause()
        assert app.stepper.at == 2
        await pilot.click("#sliders", offset=(28, 0))
        await pilot.pause()
        assert app.stepper.sampling.temperature < 0.8

    play(script)


def test_clicks_on_tabs() -> None:
    async def script(app: StepApp, pilot: Pilot[None]) -> None:
        await pilot.click("#tabs", offset=(app.frame.tab_cells[4][0] + 2, 0))
        await pilot.pause()
        assert app.frame.tab == 4

    play(script, size=(160, 40))


# --- what goes wrong --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_hostile_tokens_stay_text_in_every_tab() -> None:
    async def script(app: StepApp, pilot: Pilot[None]) -> None:
        for _ in range(12):
            for tab in "123456":
                await press(pilot, tab)
                shown = text(app)
                assert "\x1b" not in shown and "\u202e" not in shown and "\u200d" not in shown
            await press(pilot, "1", "right")

    app = play(script, read(golden_inside()), size=(160, 50))
    assert app.failed is None and len(HOSTILE) == 8


def test_markup_in_a_token_is_not_markup() -> None:
    async def script(app: StepApp, pilot: Pilot[None]) -> None:
        assert "[bold]" in text(app) and "</script>" in text(app)

    play(script, read(golden_inside()))


def test_a_trace_without_its_model_says_so() -> None:
    async def script(app: StepApp, pilot: Pilot[None]) -> None:
        await press(pilot, "down", "enter")
        assert "only the model that made a trace" in text(app) and app.stepper.at == 0
        await press(pilot, "right")
        assert app.stepper.at == 1

    play(script, read(golden_inside()), size=(160, 40))


def test_a_setting_that_cannot_be_tried_says_why() -> None:
    async def script(app: StepApp, pilot: Pilot[None]) -> None:
        await press(pilot, "t", "left")
        assert "only the model that made a trace" in " ".join(text(app).split()) and not app.stepper.what_if
        await press(pilot, "t", "right")
        assert app.stepper.at == 1

    play(script, read(large_inside()))


def test_playing_ends_with_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("manako.tui.app.PLAY_SECONDS", 3600)

    async def script(app: StepApp, pilot: Pilot[None]) -> None:
        await press(pilot, "space")
        while app.frame.playing:
            await ticked(app)
        assert app.stepper.at == 3 and messages.text("end.length", "en", count=4) in text(app)
        await press(pilot, "right")
        assert app.stepper.at == 4  # whoever wants to, continues

    play(script, begun(most=4))


def test_a_score_has_no_needle_and_says_what_it_lacks() -> None:
    async def script(app: StepApp, pilot: Pilot[None]) -> None:
        assert messages.text("step.given", "en", token="", p="", rank="")[:10] in text(app)
        await press(pilot, "3", "right", "left")
        assert "lens" in text(app)

    play(script, read(golden_score()))


def test_a_small_window_says_what_it_needs_and_comes_back() -> None:
    async def script(app: StepApp, pilot: Pilot[None]) -> None:
        await press(pilot, "right")
        await pilot.resize_terminal(30, 20)
        await until(pilot, lambda: f"{LEAST[0]} columns" in " ".join(text(app).split()))
        assert "u = " not in text(app)
        await pilot.resize_terminal(100, 30)
        await until(pilot, lambda: "u = " in text(app))
        assert app.stepper.at == 1

    play(script)


def test_resizing_while_it_plays() -> None:
    async def script(app: StepApp, pilot: Pilot[None]) -> None:
        await press(pilot, "space")
        for width in (160, 60, 35, 100, 200, 40):
            await pilot.resize_terminal(width, 30)
            await ticked(app)
            await pilot.pause()
        assert app.frame.playing and app.stepper.at >= 6

    assert play(script, begun(most=5000)).failed is None


def test_a_failure_of_our_own_ends_it_and_is_kept() -> None:
    async def script(app: StepApp, pilot: Pilot[None]) -> None:
        app.stepper.back = lambda: 1 / 0  # type: ignore[assignment,return-value]
        await pilot.press("left")
        await pilot.pause()

    with pytest.raises(ZeroDivisionError):
        play(script)


def test_without_colours_the_marks_remain() -> None:
    app = StepApp(begun(), Look(glyphs=BRAILLE))

    async def run() -> None:
        async with app.run_test(size=SIZE) as pilot:
            await press(pilot, "right", "t")
            shown = text(app)
            assert "^" in shown and "\u25ba" in shown and "Left" in shown

    asyncio.run(run())
