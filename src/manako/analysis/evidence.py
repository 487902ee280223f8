"""A step beside the training text: how often the last tokens before it occur there, and what came next.

Special here: counts, not an explanation. A model computes its probabilities from its weights and looks nothing up; what
stands beside them is what the text itself would have said. Only the training side is searched, all of it; how much of
that a model had read by its checkpoint is another matter.
"""

from dataclasses import dataclass
from pathlib import Path

from manako.corpus.occurrences import Occurrences, context_within, occurrences
from manako.corpus.packed import PackedCorpus, open_packed
from manako.errors import UsageError
from manako.settings import check_type, is_whole
from manako.trace.record import Candidate, ModelInfo, Step, Trace, bytes_to_text

LONGEST = 16
MOST = 256  # tokens of a context; each one that occurs costs a look at all its matches


@dataclass(frozen=True)
class Follower:
    """A token that came next in the training text."""

    id: int
    bytes: bytes
    text: str
    special: bool
    """A special token; the document start, which ends a document."""
    count: int


@dataclass(frozen=True)
class Evidence:
    """One step beside the training text."""

    step: Step
    context: tuple[int, ...]
    """The tokens that were looked for: the last ones before the step."""
    more: bool
    """Whether tokens stand before these that were not looked for."""
    occurrences: tuple[Occurrences, ...]
    """Of the last token, of the last two ... as long as they occur; entry i is for i + 1 tokens."""

    @property
    def longest(self) -> int:
        """How many of the last tokens occur together somewhere; 0 where not even the last one does."""
        return len(self.occurrences)

    @property
    def distinct(self) -> tuple[Occurrences, ...]:
        """Without those at the same places as the next longer one, after which the same came next."""
        counts = [*(o.count for o in self.occurrences), 0]
        return tuple(o for o, longer in zip(self.occurrences, counts[1:], strict=True) if o.count > longer)

    @property
    def continued(self) -> Occurrences | None:
        """The longest one after which the chosen token came next at least once."""
        return next((o for o in reversed(self.occurrences) if self.step.token_id in o.followers), None)

    def followers(self, found: Occurrences, n: int) -> list[Follower]:
        """The n tokens that came next most often."""
        vocabulary, first = self.step.vocabulary, list(found.followers.items())[:n]
        return [
            Follower(i, vocabulary[i], bytes_to_text(vocabulary[i]), i in vocabulary.special_ids, count)
            for i, count in first
        ]

    def candidates(self, top: int) -> list[Candidate]:
        """The first `top` candidates, the chosen one, and of each length the token that came next most often.

        By rank; what came next most often is left out where the record of a large vocabulary does not have it.
        """
        places = {i: n for n, i in enumerate(self.step.listed.id.tolist())}
        often = (next(iter(o.followers)) for o in self.occurrences)
        first = range(min(top, len(places)))
        shown = {self.step.candidates[n] for n in {*first, *(places[i] for i in often if i in places)}}
        return sorted(shown | {self.step.chosen}, key=lambda c: c.rank)


def check_longest(longest: int) -> int:
    """How many tokens to look for: a whole number from 1 to MOST. Raises UsageError."""
    if not is_whole(longest) or not 1 <= longest <= MOST:
        raise UsageError("evidence_longest", got=longest, most=MOST)
    return longest


@dataclass(frozen=True)
class SearchedText:
    """The text that was searched: the training side of a packed corpus."""

    digest: str
    """Of the corpus, which names it."""
    documents: int
    tokens: int

    @classmethod
    def of(cls, corpus: PackedCorpus) -> "SearchedText":
        """What is known of it."""
        train = corpus.header.statistics["train"]
        return cls(corpus.digest, train["documents"], train["tokens"])


def check_vocabulary(corpus: PackedCorpus, model: ModelInfo) -> PackedCorpus:
    """A corpus whose ids mean what those of the model mean. Raises UsageError for any other."""
    if corpus.header.tokenizer_sha256 != model.tokenizer_sha256:
        raise UsageError("evidence_vocabulary", folder=corpus.folder, ref=model.ref)
    return corpus


def evidence(trace: Trace, index: int, corpus: PackedCorpus | str | Path, longest: int = LONGEST) -> Evidence:
    """Look for what stands before a step: at most `longest` tokens, all of them seen by the model.

    index: of the step, as in `trace.steps`. corpus: what `manako.corpus.build` made, or its folder.

    Raises UsageError for a length outside 1 to MOST, and where record and corpus have different vocabularies.
    """
    check_type("trace", trace, Trace)
    check_longest(longest)
    corpus = open_packed(corpus) if isinstance(corpus, str | Path) else corpus
    check_vocabulary(corpus, trace.header.model)
    step = trace.steps[index]
    seen = trace.ids_before(index)[step.window_start :].tolist()
    context = context_within(seen, corpus.start_id, longest)
    return Evidence(
        step=step,
        context=context,
        more=len(context_within(seen, corpus.start_id, len(seen))) > len(context),
        occurrences=occurrences(corpus.train, seen, corpus.start_id, longest),
    )
