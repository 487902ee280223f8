"""Moves through a text: what stands where, which branches they begin, and that no token is lost."""

from pathlib import Path

import numpy as np
import pytest
from golden import golden_inside, golden_score, golden_trace, large_inside
from steppers import MODEL, begun, read

import manako
from manako.errors import CapabilityError, ManakoError
from manako.model import Model
from manako.trace.record import Candidate, Step
from manako.trace.tree import Branch, Tree, open_tree, tree_bytes
from manako.tui.stepper import Stepper


def line(stepper: Stepper) -> list[int]:
    """The tokens of the line, place by place."""
    return [stepper.place(at).token_id for at in range(len(stepper))]


def seen(step: Step) -> tuple[object, ...]:
    """What a reader sees of a step."""
    return step.token_id, step.u, step.chosen, step.candidates[:20], step.stages


def other(stepper: Stepper, rank: int = 1) -> Candidate:
    """The candidate of this rank, or the next one where that was drawn."""
    step = stepper.step()
    return step.candidates[rank - 1 if step.candidates[rank - 1].id != step.token_id else rank]


def test_forward_draws_what_a_trace_of_the_same_seed_has() -> None:
    stepper, trace = begun(), MODEL.trace("私", seed=1, max_new_tokens=9)
    for at, step in enumerate(trace.steps[:8]):
        assert seen(stepper.step()) == seen(step) and stepper.at == at
        assert stepper.forward()
    assert len(stepper) == 9 and line(stepper) == trace.columns.token_id.tolist()


def test_back_and_forward_compute_nothing_again() -> None:
    stepper = begun()
    for _ in range(5):
        stepper.forward()
    made = stepper.text.trace
    assert stepper.back() and stepper.back() and stepper.at == 3
    assert stepper.forward() and stepper.text.trace is made
    stepper.jump(-3)
    assert stepper.at == 0 and not stepper.back()
    stepper.jump(99)
    assert stepper.at == 5


def test_taking_what_was_drawn_goes_on_without_a_branch() -> None:
    stepper = begun()
    assert stepper.take(stepper.step().chosen)
    assert (len(stepper.texts), stepper.at) == (1, 1)


def test_taking_another_candidate_is_a_fork_on_the_same_random_numbers() -> None:
    stepper = begun()
    for _ in range(3):
        stepper.forward()
    before, chosen = stepper.text.trace, other(stepper)
    stepper.take(chosen)
    expected = MODEL.fork(before, 3, token_id=chosen.id, max_new_tokens=4)
    for step in expected:
        assert (stepper.step().u, stepper.step().token_id) == (step.u, step.token_id)
        stepper.forward()
    place = stepper.place(3)
    assert place.forced and place.token_id == chosen.id and place.text.trace is before
    assert line(stepper)[:3] == before.columns.token_id.tolist()[:3]
    stepper.jump(3)
    assert seen(stepper.step()) == seen(before.steps[3])  # the row and the draw that it stands instead of


def test_the_row_of_a_forced_token_is_that_of_the_branch_that_begins_there() -> None:
    """As in a tree of a page, which writes each single step as a branch of its own."""
    first = MODEL.trace("私", seed=1, max_new_tokens=3)
    step = MODEL.fork(first, 3, max_new_tokens=1)
    list(step)
    tree = Tree((Branch("1", None, 0, first), Branch("s", "1", 3, step.trace())), "s")
    stepper = Stepper.read(lambda: MODEL, tree, 50)
    stepper.jump(3)
    row, taken = seen(stepper.step())[3], other(stepper)
    assert stepper.take(taken)
    place = stepper.place(3)
    assert (place.text.id, place.index, place.token_id, place.forced) == ("s", 0, taken.id, True)
    assert stepper.back() and seen(stepper.step())[3] == row


def test_the_same_choice_twice_is_one_branch_and_the_old_text_stays() -> None:
    stepper = begun()
    stepper.forward()
    root, chosen = stepper.text, other(stepper)
    was = root.trace.text
    stepper.take(chosen)
    branch = stepper.text
    stepper.undo()
    assert stepper.text is root and stepper.at == 1 and root.trace.text == was
    stepper.take(chosen)
    assert stepper.text is branch and len(stepper.texts) == 2
    stepper.back()
    stepper.take(stepper.step().chosen)  # from the branch back to what was drawn there: a branch of its own
    assert len(stepper.texts) == 3 and {t.trace.text for t in stepper.texts} >= {was, branch.trace.text}


def test_other_settings_are_a_what_if_until_somebody_goes_on() -> None:
    stepper = begun(temperature=2.0)
    for _ in range(4):
        stepper.forward()
    root, step = stepper.text, stepper.step()
    stepper.set("temperature", 0)
    greedy = stepper.step()
    assert stepper.what_if and len(stepper.texts) == 1
    assert greedy.u == step.u and greedy.token_id == int(np.argmax(root.trace.logits[4]))
    stepper.forward()
    assert not stepper.what_if and stepper.text.parent is root and stepper.text.keep == 4
    assert stepper.text.trace.header.sampling.temperature == 0 and stepper.at == 5
    assert line(stepper)[4] == greedy.token_id
    stepper.jump(2)
    assert not stepper.what_if  # an older place keeps the settings it was decided with
    assert seen(stepper.step()) == seen(root.trace.steps[2])


def test_settings_back_to_what_they_were_are_no_what_if() -> None:
    stepper = begun()
    stepper.set("temperature", 0.3)
    stepper.set("temperature", 0.8)
    assert not stepper.what_if
    stepper.set("top_k", 3)
    stepper.undo()
    assert stepper.what_if  # a setting is no move
    with pytest.raises(ManakoError):
        stepper.set("top_k", 0)
    assert stepper.sampling.top_k == 3


def test_resampling_takes_the_next_seed_on_the_same_row() -> None:
    stepper = begun()
    stepper.forward()
    before = stepper.step()
    stepper.resample()
    after = stepper.step()
    assert stepper.at == 1 and stepper.text.trace.header.seed == 2 and after.u != before.u
    assert after.candidates[0].p == pytest.approx(before.candidates[0].p, abs=1e-6)
    stepper.resample()
    assert stepper.text.trace.header.seed == 3
    stepper.undo()
    stepper.undo()
    stepper.resample()
    assert len(stepper.texts) == 3  # the same seed again is the branch that is there


def test_undo_goes_back_through_every_move() -> None:
    stepper = begun()
    places = []
    for move in (stepper.forward, stepper.forward, stepper.resample, stepper.back, stepper.forward):
        places.append((stepper.text, stepper.at))
        move()
    while places:
        assert stepper.undo() and (stepper.text, stepper.at) == places.pop()
    assert not stepper.undo()


def test_behind_its_length_a_text_continues_as_a_branch() -> None:
    stepper = begun(most=3)
    for _ in range(7):
        assert stepper.forward()
    assert len(stepper) == 8 and len(stepper.texts) > 1
    assert line(stepper) == MODEL.trace("私", seed=1, max_new_tokens=8).columns.token_id.tolist()


def test_a_document_that_ended_ends() -> None:
    stepper = read(golden_trace())
    stepper.jump(99)
    assert stepper.forward() is False and stepper.at == 11


def test_a_trace_opens_without_its_model() -> None:
    def load() -> Model:
        raise AssertionError("nobody asked for it")

    stepper = Stepper.read(load, Tree((Branch("1", None, 0, golden_inside()),), "1"), 50)
    while stepper.at + 1 < len(stepper):
        stepper.forward()
    stepper.set("temperature", 1.5)
    assert stepper.step().entropy > 0 and stepper.inside is not None


def test_what_was_captured_needs_no_model() -> None:
    trace, index = read(golden_inside()).inside("lens")
    assert "lens" in trace.header.capture and index == 0


def test_what_was_not_captured_is_computed_for_the_one_step() -> None:
    stepper = begun()
    for _ in range(3):
        stepper.forward()
    expected = MODEL.trace("私", seed=1, max_new_tokens=4, capture=("attention",))
    trace, index = stepper.inside("attention")
    np.testing.assert_allclose(trace.attention[index], expected.attention[3], atol=1e-6)
    assert stepper.inside("attention")[0] is trace  # at hand the second time
    assert trace.steps[index].token_id == stepper.step().token_id


def test_only_the_model_of_a_trace_continues_it() -> None:
    stepper = read(golden_trace())
    with pytest.raises(CapabilityError) as caught:
        stepper.take(other(stepper))
    assert caught.value.key == "fork_other_model"
    assert (len(stepper.texts), stepper.at) == (1, 0)


def test_the_inside_of_a_score_is_what_it_has() -> None:
    with pytest.raises(CapabilityError):
        read(golden_score()).inside("lens")


def test_a_what_if_that_needs_the_model_of_another_is_refused() -> None:
    """Where the whole row is not on record, only the model could say it again."""
    stepper = read(large_inside())
    was = seen(stepper.step())
    with pytest.raises(CapabilityError):
        stepper.set("temperature", 0.1)
    assert not stepper.what_if and seen(stepper.step()) == was


def test_a_what_if_without_whole_rows_asks_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = begun(temperature=2.0)
    monkeypatch.setattr("manako.engines.generation.FULL_ROW_LIMIT", 10)
    part = begun(temperature=2.0)
    for stepper in (exact, part):
        stepper.reach(3)
        stepper.set("temperature", 0.3)
    assert exact.text.trace.exact and not part.text.trace.exact and part.what_if
    assert part.step().token_id == exact.step().token_id
    # Asked again without the cache: logits differ in their last digits, of which 1 / 0.3 makes three times as much.
    assert part.step().candidates[0].p == pytest.approx(exact.step().candidates[0].p, rel=1e-5)
    assert part.forward() and part.text.trace.header.sampling.temperature == 0.3


def test_why_a_text_ends() -> None:
    stepper = begun(most=3)
    assert stepper.ended is None
    stepper.reach(2)
    assert stepper.ended == "length"
    stepper.back()
    assert stepper.ended is None
    stop = MODEL.trace("私", seed=1, max_new_tokens=3).steps[2].chosen.text
    stepper = begun(stop=(stop,))
    stepper.reach(2)
    assert stepper.ended == "stop"


def test_nothing_to_step_through() -> None:
    with pytest.raises(ManakoError) as caught:
        read(golden_trace(0))
    assert caught.value.key == "step_nothing"


def test_find_goes_around() -> None:
    stepper = begun(most=30)
    for _ in range(25):
        stepper.forward()
    text = stepper.text.trace
    wanted = text.steps[10].chosen.text
    at = [n for n, step in enumerate(text.steps) if wanted in step.chosen.text]
    stepper.jump(0)
    met = []
    for _ in range(len([n for n in at if n])):
        assert stepper.find(wanted)
        met.append(stepper.at)
    assert met == [n for n in at if n]
    assert stepper.find(wanted, backwards=True) and stepper.at in at
    assert not stepper.find("無い")


def test_everything_is_one_file_and_opens_again(tmp_path: Path) -> None:
    stepper = begun()
    for _ in range(3):
        stepper.forward()
    stepper.take(other(stepper))
    stepper.forward()
    stepper.set("temperature", 0.3)
    stepper.forward()
    stepper.resample()
    (tmp_path / "t.manako").write_bytes(tree_bytes(stepper.tree()))
    tree = open_tree(tmp_path / "t.manako")
    assert [b.id for b in tree.branches] == [t.id for t in stepper.texts]
    assert all(manako.verify(b.trace).ok for b in tree.branches)
    again = Stepper.read(lambda: MODEL, tree, 50)
    again.jump(99)
    assert line(again) == line(stepper) and [again.place(n).forced for n in range(len(again))] == [
        stepper.place(n).forced for n in range(len(stepper))
    ]
    assert again.positions == stepper.positions


def test_more_branches_than_open_generations() -> None:
    stepper = begun()
    for n in range(12):
        stepper.take(other(stepper, 1 + n % 3))
    assert len(stepper._live) <= 8
    first = stepper.texts[0]
    stepper.show(first)
    assert stepper.forward() and stepper.forward()  # its own generation is gone: another one continues it
    assert line(stepper)[:2] == MODEL.trace("私", seed=1, max_new_tokens=2).columns.token_id.tolist()


def test_a_place_is_reached_by_drawing_up_to_it() -> None:
    stepper = begun()
    stepper.reach(6)
    assert stepper.at == 6 and not stepper.undo()
