"""Stepping through a text by hand, without a screen: a tree of texts, a place in one of them, and the moves.

Special here: no token is ever lost. Whatever is decided otherwise begins a branch beside what was there; one that is
there already is gone to, not made twice. A text holds one step more than its reader has passed, so that each place is a
whole step of a trace, with its row, its random number and the token that the draw takes. Settings that differ from
those of the text are a what-if on the same row and the same u until somebody goes on; then they begin a branch.

A place is counted from 0 along the line of text from its root to the branch that is shown; put-in tokens count, where
there is a row for what they stand instead of.
"""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate

from manako.analysis.what_if import what_if
from manako.engines.generation import Generation
from manako.errors import CapabilityError, ManakoError
from manako.model import Model
from manako.sampling import Sampling
from manako.settings import RunSettings
from manako.trace.record import Candidate, Step, Trace
from manako.trace.tree import Branch, Tree

LIVE = 8  # generations that stay open, each with its cache; behind any other text a new one begins
LOOKED_INTO = 32  # steps whose inside stays at hand


@dataclass(eq=False)
class Text:
    """One branch while it grows."""

    id: str
    parent: "Text | None"
    keep: int
    """How many of the parent's own steps it keeps."""
    trace: Trace
    forced: int
    """How many tokens were put in behind them."""

    @property
    def line(self) -> "list[tuple[Text, int]]":
        """The branches from the root to this one, each with how many of its steps stand in the line."""
        child: Text = self
        found: list[tuple[Text, int]] = [(child, len(self.trace))]
        while (parent := child.parent) is not None:
            found.append((parent, child.keep + (child.forced > 0 and len(parent.trace) > child.keep)))
            child = parent
        return found[::-1]


@dataclass(frozen=True)
class Place:
    """One step of the line that is shown."""

    text: Text
    """Whose trace has its row."""
    index: int
    """Which of that trace's steps it is."""
    token_id: int
    """What stands there in the line."""
    forced: bool
    """Whether somebody put that token there instead of the one that was drawn."""

    @property
    def position(self) -> int:
        """Of the token in the line, counted from the start of the prompt."""
        return len(self.text.trace.columns.prompt_ids) + self.index


class Stepper:
    """See the module. Every method may raise a ManakoError, and then nothing has changed."""

    def __init__(self, load: Callable[[], Model], most: int) -> None:
        """load: called once, when a move first needs the model. most: tokens of one generation."""
        self._load, self._most = load, most
        self._model: Model | None = None
        self.texts: list[Text] = []
        self._live: OrderedDict[Text, Generation] = OrderedDict()
        self._computed: OrderedDict[tuple[object, ...], Trace] = OrderedDict()
        self._history: list[tuple[Text, int, Sampling | None]] = []
        self._other: Sampling | None = None
        self.at = 0
        self.saved = True
        """Whether everything that was made here is in a file."""

    @classmethod
    def begin(cls, load: Callable[[], Model], prompt: str, settings: RunSettings) -> "Stepper":
        """Start with the first token of a new text."""
        made = cls(load, max(1, settings.max_new_tokens))
        generation = made.model.generate(prompt, settings.changed(max_new_tokens=made._most))
        generation.advance()
        made.text = made._added(generation, None, 0, 0)
        return made

    @classmethod
    def read(cls, load: Callable[[], Model], tree: Tree, most: int) -> "Stepper":
        """Start at the first step of a tree's text. Raises UsageError for one without any."""
        made, known = cls(load, most), dict[str | None, Text]({})
        for branch in tree.branches:
            parent = known.get(branch.parent)
            before = len(parent.trace.columns.prompt_ids) + branch.keep if parent else 0
            forced = len(branch.trace.columns.prompt_ids) - before if parent else 0
            known[branch.id] = Text(branch.id, parent, branch.keep, branch.trace, forced)
        made.texts = [text for text in known.values() if text is not None]
        made.text = known[tree.current]
        if not _length(made.text):
            raise ManakoError("step_nothing")
        return made

    # --- where the reader is ------------------------------------------------------------------------------------------

    @property
    def model(self) -> Model:
        """The model, loaded when it is first asked for."""
        self._model = self._model or self._load()
        return self._model

    def __len__(self) -> int:
        """Places of the line, the one that is being decided included."""
        return _length(self.text)

    @property
    def _starts(self) -> list[int]:
        return [0, *accumulate(count for _, count in self.text.line)]

    def place(self, at: int) -> Place:
        """One place of the line."""
        starts, line = self._starts, self.text.line
        n = bisect_right(starts, at) - 1
        text, index = line[n][0], at - starts[n]
        token_id = int(self.text.trace.all_ids[len(text.trace.columns.prompt_ids) + index])
        return Place(text, index, token_id, text is not self.text and index == line[n + 1][0].keep)

    @property
    def positions(self) -> list[int]:
        """Of each place, where its token stands in the line, counted from the start of the prompt."""
        starts = ((len(text.trace.columns.prompt_ids), count) for text, count in self.text.line)
        return [first + i for first, count in starts for i in range(count)]

    @property
    def here(self) -> Place:
        """The place that is shown."""
        return self.place(self.at)

    @property
    def sampling(self) -> Sampling:
        """The settings in force."""
        return self._other or self.here.text.trace.header.sampling

    @property
    def what_if(self) -> bool:
        """Whether they are others than this place was decided with."""
        return self.sampling != self.here.text.trace.header.sampling

    @property
    def ended(self) -> str | None:
        """Why the text ends here, in the words of `Header.end`; None where it does not, or was only interrupted."""
        trace = self.text.trace
        if self.at + 1 < len(self):
            return None
        if trace.header.end in ("stop", "document_end"):
            return trace.header.end
        return "length" if trace.header.kind == "generation" and len(trace) >= trace.header.max_new_tokens else None

    def step(self) -> Step:
        """The step that is shown, under the settings in force."""
        here, trace = self.here, self.here.text.trace
        if not self.what_if:
            return trace.steps[here.index]
        if trace.exact or trace.header.kind == "score":
            return what_if(trace, here.index, self.sampling)
        return self._again(here).steps[0]  # its whole row is not on record: the model says it again

    # --- moves --------------------------------------------------------------------------------------------------------

    def forward(self) -> bool:
        """One step on, as it was drawn; False where the text has ended."""
        text = self._branch(self.here, None) if self.what_if else self.text
        if self.at + 1 >= _length(text):
            text = self._grown(text)
        if text is not None:
            self._go(text, self.at + 1)
        return text is not None

    def take(self, candidate: Candidate) -> bool:
        """Put a candidate next and go on to the choice behind it; where it stands there already, only go on."""
        here = self.here
        stands = here.token_id if not self.what_if else self.step().token_id
        if candidate.id == stands:
            return self.forward()
        self._go(self._branch(here, candidate.id), self.at + 1)
        return True

    def back(self) -> bool:
        """One step back along the line; False at its start."""
        if self.at:
            self._go(self.text, self.at - 1)
            return True
        return False

    def undo(self) -> bool:
        """Back to where the reader was before the last move; False where there was none."""
        if not self._history:
            return False
        self.text, self.at, self._other = self._history.pop()
        return True

    def jump(self, at: int) -> None:
        """To some place of the line."""
        self._go(self.text, min(max(at, 0), len(self) - 1))

    def reach(self, at: int) -> None:
        """On to a place, or as far as the text goes; there is no way back from it but step by step."""
        while self.at < at and self.forward():
            pass
        self._history.clear()

    def show(self, text: Text) -> None:
        """To another branch, at its first own choice."""
        self._go(text, max(0, min(sum(count for _, count in text.line[:-1]), _length(text) - 1)))

    def resample(self) -> None:
        """Decide this step again with the next seed: another u, the same row."""
        here = self.here
        seed = here.text.trace.header.seed
        self._go(self._branch(here, None, seed=0 if seed is None else (seed + 1) % 2**64), self.at)

    def set(self, name: str, value: float | None) -> None:
        """Change one setting of the sampler chain, from here on."""
        before, self._other = self._other, replace(self.sampling, **{name: value})
        try:
            self.step()
        except ManakoError:
            self._other = before
            raise

    # --- what else is asked -------------------------------------------------------------------------------------------

    def inside(self, capture: str) -> tuple[Trace, int]:
        """(a trace with this capture, the step of it) for the place that is shown.

        Where it is not on record, the model computes the one step again. Raises CapabilityError where it cannot.
        """
        here = self.here
        trace = here.text.trace
        if capture in trace.header.capture and not self.what_if:
            return trace, here.index
        if trace.header.kind == "score":  # drawn again, it would be another token
            raise CapabilityError("trace_without_capture", got=capture, can=", ".join(trace.header.capture) or "-")
        return self._again(here, capture), 0

    def find(self, wanted: str, backwards: bool = False) -> bool:
        """To the next step whose token ends where `wanted` begins to stand or later; False where there is none."""
        vocabulary, first = self.text.trace.vocabulary, self.positions
        pieces = [vocabulary.join([i]) for i in self.text.trace.all_ids.tolist()]
        ends = list(accumulate(map(len, pieces)))
        tokens = [bisect_right(ends, at) for at in _all(b"".join(pieces), wanted.encode())]
        known = dict(zip(first, range(len(first)), strict=True))
        places = sorted({known[n] for n in tokens if n in known}, reverse=backwards)
        ahead = [at for at in places if (at < self.at if backwards else at > self.at)]
        if places:
            self.jump((ahead or places)[0])
        return bool(places)

    def tree(self) -> Tree:
        """Everything, as one file holds it. Raises UsageError where that is too much for a tree."""
        branches = (Branch(t.id, t.parent.id if t.parent else None, t.keep, self._whole(t)) for t in self.texts)
        return Tree(tuple(branches), self.text.id)

    # --- how ----------------------------------------------------------------------------------------------------------

    def _go(self, text: Text, at: int) -> None:
        self._history.append((self.text, self.at, self._other))
        if text is not self.text:
            self._other = None
        self.text, self.at = text, at

    def _branch(self, place: Place, token_id: int | None, seed: int | None = None) -> Text:
        """The branch that goes on from this place with a token, or with the settings in force."""
        header = place.text.trace.header
        seed = header.seed if seed is None else seed
        forced = token_id is not None
        for text in self.texts:
            same = text.parent is place.text and text.keep == place.index and text.forced == forced
            own = text.trace.header
            if same and (own.sampling, own.seed) == (self.sampling, seed):
                if not forced or int(text.trace.columns.prompt_ids[-1]) == token_id:
                    return text
        fork = partial(self.model.fork, place.text.trace, place.index, sampling=self.sampling, seed=seed)
        generation = fork(token_id=token_id, max_new_tokens=self._most)
        generation.advance()
        return self._added(generation, place.text, place.index, int(forced))

    def _grown(self, text: Text) -> Text | None:
        """The text with one more token behind it, or the one that goes on from it; None where it has ended."""
        generation = self._live.get(text)
        grown = generation is not None and generation.advance()
        if generation is not None:
            text.trace = generation.record()  # which also says why it has ended
            self._live.move_to_end(text)
            self.saved = self.saved and not grown
        if grown:
            return text
        if text.trace.header.end == "document_end":
            return None
        more = self.model.fork(text.trace, len(text.trace), max_new_tokens=self._most)
        more.advance()
        return self._added(more, text, len(text.trace), 0)

    def _added(self, generation: Generation, parent: Text | None, keep: int, forced: int) -> Text:
        text = Text(str(len(self.texts) + 1), parent, keep, generation.record(), forced)
        while any(text.id == other.id for other in self.texts):  # a tree from elsewhere may name them as it likes
            text.id += "-"
        self.texts.append(text)
        self._live[text] = generation
        self.saved = False
        while len(self._live) > LIVE:
            old, ended = self._live.popitem(last=False)
            old.trace = ended.trace()
        return text

    def _whole(self, text: Text) -> Trace:
        """The record with its self-checks."""
        generation = self._live.get(text)
        return text.trace if generation is None else generation.trace()

    def _again(self, place: Place, *capture: str) -> Trace:
        """This one step computed again, under the settings in force, with what else is wanted of it."""
        key = (place.text, place.index, self.sampling, capture)
        if key not in self._computed:
            fork = partial(self.model.fork, place.text.trace, place.index, sampling=self.sampling)
            generation = fork(capture=capture, max_new_tokens=1)
            generation.advance()
            self._computed[key] = generation.trace()
            if len(self._computed) > LOOKED_INTO:
                self._computed.popitem(last=False)
        return self._computed[key]


def _length(text: Text) -> int:
    """Places of its line."""
    return sum(count for _, count in text.line)


def _all(data: bytes, wanted: bytes) -> Iterator[int]:
    """Where `wanted` stands in `data`."""
    at = data.find(wanted)
    while at >= 0:
        yield at
        at = data.find(wanted, at + 1)
