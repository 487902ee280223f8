"""An error is the same after a trip to another process as before: class, code, sentence in both languages, notes."""

import copy
import inspect
import pickle

import pytest

from manako import errors
from manako.checks import Misfit
from manako.errors import ManakoError, Names, near
from manako.messages import LANGUAGES, Phrase

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, ManakoError)]
TRIPS = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{f"pickle {n}": lambda e, n=n: pickle.loads(pickle.dumps(e, n)) for n in range(pickle.HIGHEST_PROTOCOL + 1)},
}


@pytest.mark.parametrize("trip", TRIPS.values(), ids=TRIPS)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_can_be_copied_and_sent(kind: type[ManakoError], trip: object) -> None:
    assert callable(trip)
    range_ = Phrase("range.at_most", bound=3)
    for made in (
        kind("seed", got=5),
        kind("training_range", name="steps", got="x" * 500, range=range_),
        kind("setting_unknown", name="tempratur", near=near("tempratur", ["temperature"]), known=Names("abc" * 90)),
    ):
        made.add_note("in run 3")
        back = trip(made)
        assert type(back) is kind and (back.key, back.code, back.values) == (made.key, made.code, made.values)
        assert (str(back), back.args, back.exit_code) == (str(made), made.args, made.exit_code)
        assert [back.text(lang) for lang in LANGUAGES] == [made.text(lang) for lang in LANGUAGES]
        assert back.__notes__ == made.__notes__


def test_a_misfit_too() -> None:
    back = pickle.loads(pickle.dumps(Misfit("model.threads", "not of type integer")))
    assert (str(back), back.name) == ("model.threads: not of type integer", "model.threads")
