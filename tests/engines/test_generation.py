"""The step loop: ends, stops, interruptions, faults in the weights (F16), and self-checks that can go red."""

import copy
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy import toy_checkpoint, toy_model, toy_tokenizer

import manako
from manako.analysis.verification import verify
from manako.engines import generation
from manako.engines.captures import CaptureRecorder
from manako.engines.generation import Generation, Recorder
from manako.errors import CapabilityError, ManakoError, UsageError
from manako.families.attention import Cache
from manako.families.gpt2 import NumpyGPT2
from manako.messages import LANGUAGES
from manako.model import Model
from manako.sampling import distribution, draw, uniform
from manako.settings import RunSettings
from manako.trace.schema import FULL_ROW_LIMIT


@pytest.fixture(scope="module")
def model() -> Model:
    return toy_model(start_id=None)


class Scripted:
    """A session that makes the model say one token after another: greedy follows the script."""

    def __init__(self, script: list[int], vocab_size: int) -> None:
        self.script, self.vocab_size, self.prompt_length = script, vocab_size, 0

    def next_logits(self, ids: Any, keep: Any = None) -> tuple[np.ndarray, int]:
        return self.uncached_logits(ids), 0

    def uncached_logits(self, ids: Any) -> np.ndarray:
        row = np.zeros(self.vocab_size, dtype=np.float32)
        row[self.script[(len(ids) - self.prompt_length) % len(self.script)]] = 9
        return row

    def first_bad_layer(self, ids: Any) -> int:
        return 1


def scripted(continuation: list[int], monkeypatch: pytest.MonkeyPatch, **settings: Any) -> manako.Trace:
    """The record of a greedy run that says these tokens in turn."""
    model = toy_model()
    session = Scripted(continuation, model.config.vocab_size)
    session.prompt_length = 1
    monkeypatch.setattr("manako.model.Session", lambda _: session)
    return model.trace("私", temperature=0, max_new_tokens=40, **settings)


# --- ends -------------------------------------------------------------------------------------------------------------


def test_stop_text_across_byte_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = toy_tokenizer().encode("あ龘い")  # 龘 is three byte tokens
    assert len(tokens) == 5
    trace = scripted(tokens, monkeypatch, stop=["龘"])
    assert trace.header.end == "stop" and len(trace) == 4 and trace.text == "私あ龘"


def test_stop_text_over_several_tokens_and_the_first_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    trace = scripted(toy_tokenizer().encode("あ。\nい"), monkeypatch, stop=["。\n", "い"])
    assert trace.header.end == "stop" and trace.text == "私あ。\n" and trace.header.stop == ("。\n", "い")


def test_stop_text_in_the_prompt_alone_does_not_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    trace = scripted(toy_tokenizer().encode("あい"), monkeypatch, stop=["私"])
    assert trace.header.end == "length" and len(trace) == 40


def test_stop_text_half_prompt_half_generated_does_not_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    trace = scripted(toy_tokenizer().encode("猫い"), monkeypatch, stop=["私猫"])
    assert trace.header.end == "length"


def test_stop_text_with_a_special_token_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    model = toy_model(start_id=None)  # token 0 is special and does not end the run
    session = Scripted([*model.tokenizer.encode("a"), 0, 0, *model.tokenizer.encode("b")], model.config.vocab_size)
    session.prompt_length = 1
    monkeypatch.setattr("manako.model.Session", lambda _: session)
    trace = model.trace("私", temperature=0, max_new_tokens=40, stop=["ab"])
    assert trace.text == "私ab" and trace.header.end == "stop"


def test_document_end_is_the_last_token_and_not_text(monkeypatch: pytest.MonkeyPatch) -> None:
    trace = scripted([*toy_tokenizer().encode("あ"), 0], monkeypatch)
    assert trace.header.end == "document_end" and trace.columns.token_id.tolist()[-1] == 0 and trace.text == "私あ"


def test_length_end_and_calls_after_it(model: Model) -> None:
    run = model.generate("私", max_new_tokens=2, seed=0)
    assert [run.advance() for _ in range(4)] == [True, True, False, False]
    assert run.trace().header.end == "length" and len(run.trace()) == 2


def test_an_unfinished_run_is_interrupted_and_can_go_on(model: Model) -> None:
    run = model.generate("私は", max_new_tokens=40, seed=5)
    for _ in range(7):
        run.advance()
    part = run.trace()
    assert part.header.end == "interrupted" and len(part) == 7
    assert {c.name: c.ok for c in part.header.self_checks} == {
        "probabilities_sum_to_1": True,
        "cached_equals_uncached": True,
    }
    while run.advance():
        run.trace()  # a record taken at any time disturbs nothing
    whole = model.trace("私は", max_new_tokens=40, seed=5)
    assert run.trace().columns.token_id.tolist() == whole.columns.token_id.tolist()
    np.testing.assert_allclose(run.trace().logits, whole.logits, atol=2e-5)


def test_ctrl_c_in_the_middle_of_a_step_keeps_the_steps_before(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    run = model.generate("私は", max_new_tokens=30, seed=5)
    for _ in range(6):
        run.advance()
    put = Cache.put

    def interrupted(self: Cache, i: int, *rest: Any) -> Any:
        if i == 1:
            raise KeyboardInterrupt
        return put(self, i, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Cache, "put", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run.advance()
    part = run.trace()
    assert len(part) == 6 and part.header.end == "interrupted" and all(c.ok for c in part.header.self_checks)
    while run.advance():
        pass
    assert (
        run.trace().columns.token_id.tolist()
        == model.trace("私は", max_new_tokens=30, seed=5).columns.token_id.tolist()
    )


@pytest.mark.parametrize("steps", [0, 6])
def test_ctrl_c_between_the_row_and_its_record_and_on(
    model: Model, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    run = model.generate("私は", max_new_tokens=9, seed=5)
    for _ in range(steps):
        run.advance()

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("manako.engines.generation.draw", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run.advance()
    while run.advance():  # at once: nobody looked at the record in between
        pass
    again = model.trace("私は", max_new_tokens=9, seed=5)
    assert run.trace().columns.token_id.tolist() == again.columns.token_id.tolist()


def test_ctrl_c_between_the_row_and_its_record(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    run = model.generate("私は", max_new_tokens=30, seed=5)
    for _ in range(6):
        run.advance()
    with monkeypatch.context() as patch:

        def interrupted(*_: Any) -> None:
            raise KeyboardInterrupt

        patch.setattr("manako.engines.generation.draw", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run.advance()
    assert len(run.trace()) == 6 and all(c.ok for c in run.trace().header.self_checks)


class Cut:
    """Raises KeyboardInterrupt at the n-th instruction that generation.py runs."""

    def __init__(self, n: int) -> None:
        self.n, self.count = n, 0

    def __call__(self, frame: Any, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename != generation.__file__:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            self.count += 1
            if self.count == self.n:
                raise KeyboardInterrupt
        return self

    def run(self, action: Callable[[], object]) -> bool:
        """Whether it was cut off."""
        before = sys.gettrace()
        sys.settrace(self)
        try:
            action()
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(before)
        return False


@pytest.mark.slow
@pytest.mark.parametrize("captures", [(), ("lens",)])
def test_ctrl_c_between_any_two_instructions(model: Model, captures: tuple[str, ...]) -> None:
    """In the step that completes a stop text: the record is true at once, and so is what comes after."""
    settings = RunSettings(max_new_tokens=5, seed=5, capture=captures)
    whole = model.trace("私は", settings)
    settings = settings.changed(stop=[whole.steps[3].chosen.text])
    stopped = model.trace("私は", settings)
    assert len(stopped) == 4 and stopped.header.end == "stop"

    def step(run: Generation) -> None:
        run.advance()
        assert run.step.candidates[0] == whole.steps[len(run.record()) - 1].candidates[0]

    cut, places = True, 0
    while cut:
        places += 1
        run = model.generate("私は", settings)
        for _ in range(3):
            step(run)
        cut = Cut(places).run(lambda run=run: step(run))
        part = run.trace()
        assert verify(part).ok and part.header.end == ("interrupted" if len(part) == 3 else "stop"), places
        if cut:
            shown = run.step
            expected = whole.steps[len(part) - 1]
            assert (shown.text_before, shown.candidates[:3]) == (expected.text_before, expected.candidates[:3]), places
            while run.advance():
                pass
        made = run.trace()
        assert made.header.end == "stop" and verify(made).ok, places
        assert made.columns.token_id.tolist() == stopped.columns.token_id.tolist(), places
    assert places > 100


# --- the record -------------------------------------------------------------------------------------------------------


def test_shown_is_used_every_step_is_the_draw_of_its_row(model: Model) -> None:
    settings: dict[str, Any] = {"temperature": 0.9, "top_k": 20, "top_p": 0.9, "frequency_penalty": 0.3}
    run = model.generate("私は", max_new_tokens=60, seed=9, **settings)
    shown = list(run)
    trace = run.trace()
    for i, step in enumerate(shown):
        d = distribution(trace.logits[i], trace.header.sampling, trace.all_ids[: 4 + i])
        assert draw(d, uniform(9, i)).token_id == step.token_id == trace.steps[i].token_id
        assert step.chosen.p == trace.columns.p[i] == d.p[step.token_id]
        assert step.chosen.p_model == trace.columns.p_model[i]
        assert step.chosen == trace.steps[i].chosen
    assert manako.verify(trace).rederived == 60


@pytest.mark.slow
def test_same_seed_same_tokens_whatever_watches(model: Model, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"max_new_tokens": 20, "temperature": 1.1}
    for seed in range(40):
        plain = model.trace("猫は", seed=seed, **settings)
        watched = model.generate("猫は", seed=seed, **settings)
        for step in watched:
            repr(step.candidates[:3])
            step.other(step.candidates[:3])
        streamed = watched.trace()
        streamed.save(tmp_path / "t.manako", force=True)
        opened = manako.open(tmp_path / "t.manako")
        often = model.generate("猫は", seed=seed, **settings)
        while often.advance():
            often.trace()
        expected = plain.columns.token_id.tolist()
        for other in (streamed, opened, often.trace()):
            assert other.columns.token_id.tolist() == expected


@pytest.mark.slow
def test_a_larger_limit_changes_no_earlier_token(model: Model) -> None:
    long = model.trace("猫", max_new_tokens=300, seed=1).columns.token_id  # more than one growth of the columns
    for n in (1, 255, 256, 257):
        assert model.trace("猫", max_new_tokens=n, seed=1).columns.token_id.tolist() == long[:n].tolist()


def test_a_vocabulary_above_the_limit_keeps_the_first_256(tmp_path: Path) -> None:
    model = toy_model(vocab_size=FULL_ROW_LIMIT + 1, start_id=None, n_embd=8)
    trace = model.trace("私は", max_new_tokens=12, temperature=0.7, top_k=50, seed=3)
    assert not trace.exact and trace.columns.part is not None
    ids = trace.all_ids.tolist()
    for i, step in enumerate(trace.steps):
        row = model.rows(ids[: len(trace.columns.prompt_ids) + i])[-1]
        d = distribution(row, trace.header.sampling)
        assert step.candidates[0].id == d.top(1)[0] and len(step.candidates) == 256
        assert step.chosen.p == pytest.approx(d.p[step.token_id], rel=1e-4)
        assert step.entropy == pytest.approx(d.entropy, rel=1e-4)
    trace.save(tmp_path / "t.manako")
    opened = manako.open(tmp_path / "t.manako")
    assert opened.text == trace.text and manako.verify(opened).rederived == 12


# --- faults -----------------------------------------------------------------------------------------------------------


def test_weights_that_overflow_in_a_run_name_step_and_layer() -> None:
    checkpoint = toy_checkpoint()
    tensors = {n: t.copy() for n, t in checkpoint.tensors.items()}
    tensors["h.1.mlp.c_proj.weight"][:] = 3e38  # finite in the file, inf in the run
    model = Model("toy", toy_checkpoint())
    model.engine = NumpyGPT2(checkpoint.config, tensors)
    run = model.generate("私は", max_new_tokens=5, seed=0)
    with pytest.raises(ManakoError) as caught:
        run.advance()
    assert caught.value.key == "logits_not_finite_at" and caught.value.exit_code == 1
    assert caught.value.values == {"step": "1", "layer": "2"}
    assert "non-finite logits at step 1, first in layer 2" in str(caught.value)
    assert len(run.trace()) == 0


def test_the_steps_before_an_overflow_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    model = toy_model(start_id=None)
    run = model.generate("私は", max_new_tokens=20, seed=0)
    for _ in range(4):
        run.advance()
    with monkeypatch.context() as patch:
        weights = {
            n: t * np.float32(np.inf) if n == "h.0.mlp.c_fc.bias" else t for n, t in model.engine.weights.items()
        }
        patch.setattr(model.engine, "weights", weights)
        with pytest.raises(ManakoError, match="at step 5, first in layer 1"):
            run.advance()
    trace = run.trace()
    assert len(trace) == 4 and trace.header.end == "interrupted"
    assert all(c.ok for c in trace.header.self_checks)
    assert trace.columns.token_id.tolist() == model.trace("私は", max_new_tokens=4, seed=0).columns.token_id.tolist()


def test_no_warning_reaches_the_user_when_weights_overflow() -> None:
    """Warnings are errors here: the engine must be silent and leave the word to the step loop."""
    checkpoint = toy_checkpoint()
    for name in checkpoint.tensors:
        if name.startswith("ln_") or ".ln_" in name:
            continue
        tensors = dict(checkpoint.tensors)
        tensors[name] = tensors[name] * np.float32(1e38)
        model = Model("toy", checkpoint)
        model.engine = NumpyGPT2(checkpoint.config, tensors)
        try:
            model.trace("私は", max_new_tokens=2, seed=0)
        except ManakoError as error:
            assert error.key == "logits_not_finite_at"


# --- self-checks, with their negative controls ------------------------------------------------------------------------


def errors_of(run: Generation) -> dict[str, bool]:
    return {check.name: check.ok for check in run.trace().header.self_checks}


def test_self_check_goes_red_when_the_cache_is_broken(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    run = model.generate("私は", max_new_tokens=5, seed=0)
    session = run._session
    run.advance()
    session._cache.k[0, :, 1] += 0.5  # type: ignore[attr-defined]
    run.advance()
    assert errors_of(run) == {"probabilities_sum_to_1": True, "cached_equals_uncached": False}


@pytest.mark.parametrize("steps", [8, 30])
def test_self_check_goes_red_past_the_context_too(steps: int) -> None:
    """There every row is computed with nothing kept, so the steps before it are repeated."""
    model = toy_model()
    right = model.engine.forward

    def wrong(ids: Any, cache: Cache, *rest: Any, **more: Any) -> Any:
        cached = cache.length > 0
        rows = right(ids, cache, *rest, **more).copy()
        rows[:, 3] += 0.5 * cached
        return rows

    model.engine = copy.copy(model.engine)
    model.engine.forward = wrong  # type: ignore[method-assign]
    run = model.generate("私は", max_new_tokens=steps, seed=0)
    while run.advance():
        pass
    assert errors_of(run)["cached_equals_uncached"] is False


def test_what_no_step_used_is_not_measured(model: Model) -> None:
    once = model.generate("私は", max_new_tokens=1, seed=0)
    once.advance()
    long = model.generate("私は" * model.config.block_size, max_new_tokens=3, seed=0)
    while long.advance():
        pass
    assert errors_of(once) == errors_of(long) == {"probabilities_sum_to_1": True}


def test_self_check_goes_red_when_positions_are_off_by_one(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = NumpyGPT2.forward

    def off(self: NumpyGPT2, ids: Any, cache: Cache, last_only: bool = True, keep: Any = None) -> Any:
        rows = forward(self, ids, cache, last_only, keep)
        if len(ids) == 1:
            rows = forward(self, ids, cache, last_only)  # seen twice
        return rows

    monkeypatch.setattr(NumpyGPT2, "forward", off)
    run = model.generate("私は", max_new_tokens=4, seed=0)
    run.advance()
    run.advance()
    assert errors_of(run)["cached_equals_uncached"] is False


def test_self_check_goes_red_when_probabilities_do_not_add_up(model: Model) -> None:
    run = model.generate("私は", max_new_tokens=2, seed=0)
    run.advance()
    last = run.last
    assert last is not None
    wrong = type(last)(last.logits, last.row, last.p_model, last.p * 1.001, last.cut_by, last.stages)
    run._recorder.add(wrong, 5, 0.5, 0)
    assert run._recorder.worst_sum == pytest.approx(1e-3, rel=1e-3)


def test_recorder_counts_a_step_only_once_it_is_whole(model: Model) -> None:
    recorder = Recorder.start(5, 1, 3)
    d = distribution(np.zeros(5), manako.Sampling(temperature=1))
    with pytest.raises(IndexError):
        recorder.add(d, 7, 0.5, 0)  # no such token
    assert recorder.length == 0
    recorder.add(d, 2, 0.5, 0)
    assert recorder.finish([1], 1).token_id.tolist() == [2]


# --- what leaves a run ------------------------------------------------------------------------------------------------


def arrays_of(trace: manako.Trace) -> dict[str, np.ndarray]:
    columns = trace.columns
    plain = {name: value for name, value in vars(columns).items() if isinstance(value, np.ndarray)}
    return plain | dict(columns.part or {}) | dict(columns.captured) | {"all_ids": trace.all_ids, "u": columns.u}


@pytest.mark.parametrize("size", [300, FULL_ROW_LIMIT + 1])
def test_nobody_writes_into_the_record_of_a_run(tmp_path: Path, size: int) -> None:
    """A record taken of a run that goes on shares memory with it, and a penalty would follow what was written."""
    model = toy_model(vocab_size=size, start_id=None, n_embd=8)
    settings = {"max_new_tokens": 6, "seed": 5, "capture": ("attention", "lens", "contributions", "residual")}
    run = model.generate("私は", repetition_penalty=1.5, **settings)
    run.advance()
    run.advance()
    run.trace().save(tmp_path / "a.manako")
    fork = model.fork(run.trace(), 1, max_new_tokens=1)
    fork.advance()
    records = {"so far": run.trace(), "cheap": run.record(), "step": run.step.trace, "fork": fork.trace()}
    records |= {"opened": manako.open(tmp_path / "a.manako"), "score": model.score("私は猫", capture=["attention"])}
    for name, trace in records.items():
        for column, array in arrays_of(trace).items():
            with pytest.raises(ValueError, match="read-only"):
                array[...] = 0
            assert not array.flags.writeable, (name, column)
        for array in (trace.attention[0], trace.attention.starts, trace.steps[0].listed.p, trace.steps[0].listed.id):
            assert not array.flags.writeable, name
    last = run.last
    assert last is not None and not last.logits.flags.writeable and not last.p.flags.writeable
    assert verify(run.trace()).ok
    while run.advance():
        pass
    assert verify(run.trace()).ok and len(run.trace()) == 6


CAPTURED: dict[str, Any] = {
    "max_new_tokens": 6,
    "seed": 5,
    "capture": ("attention", "lens", "contributions", "residual"),
}


def inside(step: manako.Step) -> tuple[Any, ...]:
    attention, lens, why = step.attention(), step.lens(), step.why()
    parts = [round(part.value, 4) for part in why.parts]
    first = [[reading.id for reading in layer] for layer in lens.first]
    return attention.per_head.round(5).tolist(), first, parts, step.trace.residual[step.index].round(4).tolist()


def test_a_step_has_what_was_captured_as_soon_as_it_is_made(model: Model) -> None:
    whole = model.trace("私は", **CAPTURED)
    expected = [inside(step) for step in whole.steps]
    at_once = list[manako.Step]()
    for step in model.generate("私は", **CAPTURED):
        assert inside(step) == expected[step.index]
        assert len(step.trace.columns.captured["residual"]) == step.index + 1 and verify(step.trace).ok
        at_once.append(step)
    later = list(model.generate("私は", **CAPTURED))  # asked when the run has gone on: of as many steps as it had then
    for step in [later[3], *later]:
        assert inside(step) == expected[step.index] and verify(step.trace).ok
        assert len(step.trace.columns.captured["residual"]) == step.index + 1
        assert len(step.trace.attention) == step.index + 1
    assert inside(copy.deepcopy(later[2])) == expected[2]
    assert copy.deepcopy(later[2]) == later[2] and type(copy.deepcopy(later[2].trace.columns.captured)) is dict


def test_a_step_costs_no_capture_unless_somebody_asks(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    read = list[int]()
    finish = CaptureRecorder.finish
    monkeypatch.setattr(CaptureRecorder, "finish", lambda self, steps: (read.append(steps), finish(self, steps))[1])
    steps = list(model.generate("私は", **CAPTURED))
    assert read == [] and steps[2].trace.header.capture == CAPTURED["capture"]
    steps[2].attention(), steps[2].lens()
    assert read == [3]


def test_a_step_without_captures_says_what_is_missing(model: Model) -> None:
    for step in model.generate("私は", max_new_tokens=2, capture=["lens"]):
        with pytest.raises(CapabilityError) as caught:
            step.attention()
        assert caught.value.values["got"] == "attention" and caught.value.values["can"] == "lens"
    with pytest.raises(CapabilityError):
        next(iter(model.generate("私は", max_new_tokens=1))).attention()


# --- several threads --------------------------------------------------------------------------------------------------


def in_thread(action: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(action).result(timeout=60)


def test_a_run_is_one_threads_at_a_time(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    run = model.generate("私は", max_new_tokens=4, seed=5)
    inner, seen = generation.draw, list[Any]()

    def disturbed(*arguments: Any) -> Any:
        with pytest.raises(UsageError) as caught:
            in_thread(run.advance)
        seen.append(caught.value)
        return inner(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(generation, "draw", disturbed)
        assert run.advance()
    assert [error.key for error in seen] == ["generation_busy"] and all(map(seen[0].text, LANGUAGES))
    while in_thread(run.advance):  # one after the other, in any thread
        assert len(in_thread(run.record)) == len(run.record())
    undisturbed = model.trace("私は", max_new_tokens=4, seed=5)
    assert run.trace().columns.token_id.tolist() == undisturbed.columns.token_id.tolist() and verify(run.trace()).ok


def test_a_step_that_failed_leaves_the_run_free(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    run = model.generate("私は", max_new_tokens=2, seed=5)
    with monkeypatch.context() as patch:
        patch.setattr(generation, "draw", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run.advance()
    assert in_thread(run.advance) and len(run.trace()) == 1


def test_steps_are_looked_into_in_another_thread_while_the_run_goes_on(model: Model) -> None:
    """A reader of captures takes nothing from the record that grows meanwhile."""
    settings = CAPTURED | {"max_new_tokens": 40}
    run, ended = model.generate("私は", **settings), threading.Event()

    def look() -> int:
        looks = 0
        while not ended.is_set() or not looks:
            if len(run.record()):
                looks += len(run.record().columns.captured["residual"]) > 0
        return looks

    with ThreadPoolExecutor(2) as threads:
        readers = [threads.submit(look) for _ in range(2)]
        while run.advance():
            pass
        ended.set()
        assert all(reader.result(timeout=60) for reader in readers)
    whole = model.trace("私は", **settings)
    assert len(run.trace()) == 40 and verify(run.trace()).ok
    for name, column in run.trace().columns.captured.items():
        np.testing.assert_allclose(column, whole.columns.captured[name], atol=1e-4, err_msg=name)
