"""One text under every snapshot: cells are what the model of that snapshot says, the file is checked like a trace."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy import toy_checkpoint

import manako
from manako.analysis.dynamics import nearest, passed, strongest_heads, verify_dynamics
from manako.analysis.heads import chance
from manako.errors import CapabilityError, LoadError, ManakoError, UsageError
from manako.experiments import dynamics as dynamics_module
from manako.experiments.dynamics import Following, _curve, dynamics
from manako.formats import run_folder
from manako.model import Model
from manako.refs import Ref
from manako.settings import RunSettings
from manako.trace.dynamics import Dynamics, dynamics_bytes, open_dynamics
from manako.trace.file import open as open_trace
from manako.trace.record import Vocabulary
from manako.views.document import dynamics_document

TEXT = "私は猫である。"


@pytest.fixture(scope="module")
def found(tiny_run: Path) -> Dynamics:
    return dynamics(tiny_run, TEXT, max_new_tokens=5, seed=3)


def test_lines_of_the_log_that_no_training_writes_are_passed_over(tmp_path: Path) -> None:
    hostile = ('{"st', '{"step": 1e12, "loss": 1}', f'{{"step": 2, "loss": 1{"0" * 400}}}', '{"step": [], "loss": 1}')
    (tmp_path / run_folder.METRICS).write_text("\n".join([*hostile, '{"step": 3, "loss": 0.5}']))
    assert {name: column.tolist() for name, column in _curve(tmp_path).items()} == {
        "curve_step": [3],
        "curve_loss": [0.5],
    }


def test_cells_are_those_of_the_model_of_that_step(tiny_run: Path, found: Dynamics) -> None:
    assert found.steps == tuple(run_folder.steps(tiny_run)) and len(found) == 12
    for z in (0, 4, len(found) - 1):
        model = manako.load(f"run:{tiny_run}@{found.steps[z]}")
        score = model.score(TEXT, capture=["attention", "lens"])
        assert found.p_model[z] == pytest.approx(score.columns.p_model, rel=1e-9)
        assert (found.rank[z] == score.columns.rank).all() and found.tokens == tuple(score.columns.token_id)
        assert found.bits_per_character[z] == pytest.approx(model.evaluate(TEXT).bits_per_character)
        for s in range(len(score)):
            weights = found.attention(z, s)
            assert weights is not None and (weights == score.attention[s]).all()
        for (token_id, data, p), candidate in zip(found.top(z, 2, 3), score.steps[2].candidates[:3], strict=True):
            assert (token_id, data) == (candidate.id, candidate.bytes) and p == pytest.approx(candidate.p_model)
        layers = score.lens.id[:, :, 0]
        assert (found.columns["lens_id"][z] == layers).all()
        first = [int((row != row[-1]).nonzero()[0][-1]) + 1 if (row != row[-1]).any() else 0 for row in layers]
        assert found.lens_layer[z].tolist() == first
        assert found.continuations[z].text == model.trace(TEXT, max_new_tokens=5, seed=3).text
        assert found.header.weights_sha256[z] == model.info.weights_sha256


def test_attention_of_one_token_or_of_all_as_it_fits_or_is_asked(
    tiny_run: Path, found: Dynamics, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert found.header.attention_step is None
    one = dynamics(tiny_run, TEXT, step=3, max_new_tokens=0)
    kept = one.attention(5, 2)
    assert one.header.attention_step == 2 and kept is not None and (kept == found.attention(5, 2)).all()
    last = len(found.tokens) - 1
    assert (
        np.array_equal(found.attention(5, -1), found.attention(5, last)) and one.attention(5, 2 - last - 1) is not None
    )
    assert one.attention(5, 1) is None and verify_dynamics(one).ok
    monkeypatch.setattr("manako.experiments.dynamics.ALL_ATTENTION", found.columns["attention"].nbytes - 1)
    said = dict[str, Any]()

    def report(key: str, **values: Any) -> None:
        said[key] = values

    last = dynamics(tiny_run, TEXT, max_new_tokens=0, report=report)
    assert last.header.attention_step == len(last.tokens) - 1 and "size" in said["dynamics.one_attention"]
    every = dynamics(tiny_run, TEXT, max_new_tokens=0, all_attention=True, report=report)
    assert every.header.attention_step is None and "size" in said["dynamics.all_attention"]
    with pytest.raises(UsageError, match="one of the two"):
        dynamics(tiny_run, TEXT, step=1, all_attention=True)


def test_a_file_of_the_first_version_opens() -> None:
    old = open_dynamics(Path(__file__).parents[1] / "fixtures" / "dynamics-1.manako")
    assert old.header.attention_step == 3 and verify_dynamics(old).ok
    assert old.attention(0, 0) is None
    weights = old.attention(1, 3)
    assert weights is not None and weights.shape == (2, 2, 4)


def test_the_step_from_which_a_token_is_the_likeliest(found: Dynamics) -> None:
    for n, first in enumerate(found.first_place):
        wins = found.rank[:, n] == 1
        if first is None:
            assert not wins[-1]
        else:
            z = found.steps.index(first)
            assert wins[z:].all() and (z == 0 or not wins[z - 1])
    assert any(first is not None for first in found.first_place)  # sixty steps on forty copies of a text


def test_milestones_are_in_the_order_of_what_is_harder(found: Dynamics) -> None:
    steps = [each.step for each in passed(found)]
    assert [each.name for each in passed(found)] == ["uniform", "unigram", "bigram"]
    assert steps == [1, 14, None]  # sixty steps are too few for the bigrams
    assert [each.name for each in nearest(found)] == ["unigram", "bigram", "trigram"]
    assert {head.kind for head in strongest_heads(found)} == {"previous", "duplicate", "induction"}


def test_it_goes_out_and_in(tmp_path: Path, found: Dynamics) -> None:
    found.save(tmp_path / "d.manako")
    again = open_dynamics(tmp_path / "d.manako")
    assert again == found != stored() and len({again, found}) == 1
    assert again.header == found.header and again.columns.keys() == found.columns.keys()
    assert all((again.columns[name] == column).all() for name, column in found.columns.items())
    assert dynamics_bytes(again) == (tmp_path / "d.manako").read_bytes()
    assert [t.text for t in again.continuations] == [t.text for t in found.continuations]
    for column in [*again.columns.values(), *found.columns.values(), found.logprob]:
        assert not column.flags.writeable
    assert str(tmp_path) not in repr(replace(found, header=replace(found.header, run=str(tmp_path / "mine"))))
    assert verify_dynamics(again).ok and json.dumps(dynamics_document(again), allow_nan=False)
    with pytest.raises(LoadError) as caught:
        open_trace(tmp_path / "d.manako")
    assert caught.value.key == "dynamics_not_trace"


def change(name: str, place: Any, value: Any) -> Callable[[Dynamics], Dynamics]:
    def changed(found: Dynamics) -> Dynamics:
        column = found.columns[name].copy()
        column[place] = value(column[place]) if callable(value) else value
        return replace(found, columns={**found.columns, name: column})

    return changed


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [
        ("rank", (3, 1), lambda rank: rank + 1),
        ("logit", (3, 1), lambda logit: logit + 0.5),
        ("logsumexp", (3, 1), lambda total: total + 5),
        ("top_logit", (3, 1, 0), lambda logit: logit - 9),
        ("lens_logit", (3, 1, -1), lambda logit: logit - 0.1),
        ("attention", (3, 1, 1, 2), lambda weight: weight / 2),
    ],
)
def test_a_number_that_contradicts_others_is_found(found: Dynamics, name: str, place: Any, value: Any) -> None:
    assert verify_dynamics(found).ok
    assert not verify_dynamics(change(name, place, value)(found)).ok


def stored() -> Dynamics:
    return open_dynamics(Path(__file__).parents[1] / "fixtures" / "dynamics-1.manako")


def of_another_token(found: Dynamics) -> Dynamics:
    """The first token of the text is said to be another one, which every snapshot has among its likeliest."""
    c = found.columns
    other = next(i for i in c["top_id"][0, 0].tolist() if i in c["top_id"][1, 0] and i != c["token_id"][0])
    for z in range(len(found)):
        at = c["top_id"][z, 0].tolist().index(other)
        found = change("logit", (z, 0), c["top_logit"][z, 0, at])(change("rank", (z, 0), at + 1)(found))
    return change("token_id", 0, other)(found)


def spelled_otherwise(found: Dynamics) -> Dynamics:
    named = {i: found.vocabulary[i] for i in range(found.vocabulary.size)} | {found.tokens[0]: "犬".encode()}
    header = replace(found.header, text=found.header.text.replace("猫", "犬"))
    vocabulary = Vocabulary(named, found.vocabulary.size, found.vocabulary.special_ids)
    return replace(found, vocabulary=vocabulary, header=header)


FORGED: dict[str, Callable[[Dynamics], Dynamics]] = {
    "characters": lambda found: replace(found, header=replace(found.header, characters=1000)),
    "token_id": of_another_token,
    "prompt_ids": change("prompt_ids", 0, 5),
    "lens_id": change("lens_id", ..., 5),
    "vocab_bytes": spelled_otherwise,
    "special_ids": lambda found: replace(found, header=replace(found.header, special_ids=(0, 5))),
    "model": lambda found: replace(found, header=replace(found.header, model={**found.header.model, "config": {}})),
}


@pytest.mark.parametrize("name", FORGED)
def test_what_follows_from_the_continuations_is_compared(tmp_path: Path, name: str) -> None:
    (tmp_path / "d.manako").write_bytes(dynamics_bytes(FORGED[name](stored())))
    wrong = verify_dynamics(open_dynamics(tmp_path / "d.manako")).contradictions
    assert {"prompt_ids": "token_id"}.get(name, name) in wrong and verify_dynamics(stored()).ok


@pytest.mark.parametrize("change", [{"characters": 2**64}, {"damaged": (10**4000,)}, {"special_ids": (277,)}])
def test_fields_that_cannot_be_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    found = stored()
    (tmp_path / "d.manako").write_bytes(dynamics_bytes(replace(found, header=replace(found.header, **change))))
    with pytest.raises(LoadError, match=next(iter(change))):
        open_dynamics(tmp_path / "d.manako")


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [("rank", (0, 0), 0), ("head_score", (0, 0, 0, 0), np.nan), ("step", 1, 0), ("top_id", (0, 0, 0), 10**6),
     ("ngram_kl", (0, 0), -1.0), ("held_out_bits", 0, np.inf)],
)  # fmt: skip
def test_numbers_that_cannot_be_are_refused(tmp_path: Path, found: Dynamics, name: str, place: Any, value: Any) -> None:
    class AnyToken:
        size, special_ids = found.vocabulary.size, found.vocabulary.special_ids

        def __getitem__(self, token_id: int) -> bytes:
            return b"?"

    made = replace(change(name, place, value)(found), vocabulary=AnyToken())
    (tmp_path / "d.manako").write_bytes(dynamics_bytes(made))
    with pytest.raises(LoadError) as caught:
        open_dynamics(tmp_path / "d.manako")
    assert caught.value.key == "trace_damaged"


def test_no_flipped_byte_is_silent(tmp_path: Path, found: Dynamics) -> None:
    data = bytearray(dynamics_bytes(found))
    for place in np.random.default_rng(0).integers(0, len(data), 60).tolist():
        data[place] ^= 8
        (tmp_path / "d.manako").write_bytes(data)
        with pytest.raises(LoadError):
            open_dynamics(tmp_path / "d.manako")
        data[place] ^= 8


def test_a_damaged_snapshot_is_named_and_the_others_are_shown(tiny_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "tiny"
    shutil.copytree(tiny_run, run)
    weights = run_folder.step_folder(run, 2) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    said = list[tuple[str, dict[str, object]]]()
    found = dynamics(run, TEXT, max_new_tokens=1, report=lambda key, **values: said.append((key, values)))
    assert found.header.damaged == (2,) and len(found) == 11 and 2 not in found.steps
    assert [values["step"] for key, values in said if key == "dynamics.damaged"] == [2]


def test_bad_input_is_one_clear_error(tiny_run: Path, tmp_path: Path) -> None:
    def key(run: Path, text: str | None = TEXT, **more: Any) -> tuple[str, type[ManakoError]]:
        with pytest.raises(ManakoError) as caught:
            dynamics(run, text, **more)
        assert "\n" not in str(caught.value)
        return caught.value.key, type(caught.value)

    assert key(tmp_path / "none") == ("run_none", LoadError)
    assert key(tiny_run, TEXT * 9) == ("dynamics_long", UsageError)
    assert key(tiny_run, "") == ("score_too_short", UsageError)
    assert key(tiny_run, TEXT, step=99) == ("view_step", UsageError)
    assert key(tiny_run, TEXT, step=1.5) == ("view_step_number", UsageError)
    run = tmp_path / "tiny"
    shutil.copytree(tiny_run, run)
    for step in run_folder.steps(run)[1:]:
        shutil.rmtree(run_folder.step_folder(run, step))
    (run / run_folder.LAST).write_text("step-000000\n")
    assert key(run) == ("dynamics_one_checkpoint", CapabilityError)


def test_without_its_corpus_a_run_shows_the_rest(tiny_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "tiny"
    shutil.copytree(tiny_run, run)
    (run / "config.toml").write_text('data = ["/nowhere"]\n')
    said = list[str]()
    found = dynamics(run, TEXT, max_new_tokens=1, report=lambda key, **values: said.append(key))
    assert "ngrams" not in found.header.groups and "dynamics.no_ngrams" in said and verify_dynamics(found).ok
    assert passed(found) == () and len(found) == 12
    again = dynamics(run, TEXT, data=Ref.parse(str(tiny_run)).corpus().folder, max_new_tokens=1)
    assert "ngrams" in again.header.groups
    text = dynamics(
        run, data=str(Ref.parse(str(tiny_run)).corpus().folder), step=np.int64(1), max_new_tokens=np.int8(1)
    )
    text.save(tmp_path / "t.manako")
    assert "ngrams" in text.header.groups and open_dynamics(tmp_path / "t.manako").header.attention_step == 0


def test_without_a_text_it_takes_held_out_text(tiny_run: Path) -> None:
    found = dynamics(tiny_run, max_new_tokens=1)
    assert (
        len(found.tokens) > 5
        and found.header.text in "私は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。\n" * 2
    )


@pytest.mark.parametrize("context, repeated", [(16, 7), (3, 1), (2, 0)])
def test_chance_is_that_of_as_many_tokens_as_were_read(tmp_path: Path, context: int, repeated: int) -> None:
    """Half the context at most; where that has no room for one token twice, nothing is said of heads."""
    for step in (1, 2):
        model = toy_checkpoint(seed=step, block_size=context)
        run_folder.save_snapshot(tmp_path, step, model.config, model.tensors, model.tokenizer)
        run_folder.point(tmp_path, "last", run_folder.step_folder(tmp_path, step))
    (tmp_path / "config.toml").write_text('data = ["/nowhere"]\n')
    found = dynamics(tmp_path, "私猫"[: context - 1], max_new_tokens=1)
    assert ("heads" in found.header.groups) == bool(repeated) == bool(strongest_heads(found))
    if repeated:
        assert found.columns["head_chance"] == pytest.approx(chance(1 + 2 * repeated, repeated))
    found.save(tmp_path / "d.manako")
    assert verify_dynamics(open_dynamics(tmp_path / "d.manako")).ok


def grow(run: Path, step: int, seed: int | None = None) -> None:
    """One snapshot more of a run whose corpus is nowhere."""
    model = toy_checkpoint(seed=step if seed is None else seed)
    run_folder.save_snapshot(run, step, model.config, model.tensors, model.tokenizer)
    run_folder.point(run, "last", run_folder.step_folder(run, step))
    (run / "config.toml").write_text('data = ["/nowhere"]\n')


def test_a_run_that_goes_another_way_is_followed_there(tmp_path: Path) -> None:
    """As a run of a given time does that was killed and resumed: steps of before are gone, or other ones."""
    for step in (478, 500, 520):
        grow(tmp_path, step)
    following = Following(tmp_path, "私は", None, RunSettings(max_new_tokens=2, seed=0))
    first = following.update()
    assert first is not None and first.steps == (478, 500, 520) and following.update() is None
    run_folder.rewind(tmp_path, 478, None)
    weights = run_folder.step_folder(tmp_path, 478) / "model.safetensors"
    for step, seed in ((510, 1), (500, 2)):
        grow(tmp_path, step, seed)
    found = following.update()
    assert found is not None and found.steps == (478, 500, 510)
    model = manako.load(f"run:{tmp_path}@500")
    assert found.header.weights_sha256[0] == first.header.weights_sha256[0]
    assert found.header.weights_sha256[1] == model.info.weights_sha256 != first.header.weights_sha256[1]
    found.save(tmp_path / "d.manako")
    assert verify_dynamics(open_dynamics(tmp_path / "d.manako")).ok
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-9])
    found = following.update()
    assert found is not None and found.steps == (500, 510) and found.header.damaged == (478,)
    weights.write_bytes(whole)
    run_folder.discard(run_folder.step_folder(tmp_path, 510))
    found = following.update()
    assert found is not None and found.steps == (478, 500) and found.header.damaged == ()
    assert following.update() is None


def test_a_look_that_failed_leaves_the_others_as_they_are_and_is_taken_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the next snapshot, whatever it failed in, and also where it was the first."""

    def fail(*arguments: Any, **named: Any) -> Any:
        raise ManakoError("trace_too_large", need="1 MB", free="0 MB")

    grow(tmp_path, 1)
    following = Following(tmp_path, "私は", None, RunSettings(max_new_tokens=2, seed=0))
    for step, fails in enumerate(("evaluate", "trace", None, "head_scores", "trace", None), 1):
        if step > 1:
            grow(tmp_path, step)
        with monkeypatch.context() as patch:
            if fails in ("trace", "evaluate"):
                patch.setattr(Model, fails, fail)
            if fails == "head_scores":
                patch.setattr("manako.experiments.dynamics.head_scores", fail)
            if fails is None:
                following.update()
            else:
                with pytest.raises(ManakoError):
                    following.update()
    grow(tmp_path, 7)
    found = following.update()
    assert found is not None and found.steps == (1, 2, 3, 4, 5, 6, 7)
    for step, weights, trace in zip(found.steps, found.header.weights_sha256, found.continuations, strict=True):
        model = manako.load(f"run:{tmp_path}@{step}")
        assert weights == model.info.weights_sha256 == trace.header.model.weights_sha256
    found.save(tmp_path / "d.manako")
    assert verify_dynamics(open_dynamics(tmp_path / "d.manako")).ok


def test_what_was_seen_before_a_look_that_failed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the next update, which does not try again what nothing has changed for."""
    grow(tmp_path, 1)
    following = Following(tmp_path, "私は", None, RunSettings(max_new_tokens=2, seed=0))
    assert following.update() is not None
    grow(tmp_path, 2)
    grow(tmp_path, 3)
    looked, tried = dynamics_module._Looked.at, list[int]()

    def at(self: Any, step: int, model: Model, settings: RunSettings) -> None:
        tried.append(step)
        if step == 3:
            raise ManakoError("trace_too_large", need="1 MB", free="0 MB")
        looked(self, step, model, settings)

    monkeypatch.setattr(dynamics_module._Looked, "at", at)
    with pytest.raises(ManakoError):
        following.update()
    found = following.update()
    assert found is not None and found.steps == (1, 2) and following.update() is None and tried == [2, 3]
    monkeypatch.undo()
    grow(tmp_path, 4)
    found = following.update()
    assert found is not None and found.steps == (1, 2, 3, 4)
