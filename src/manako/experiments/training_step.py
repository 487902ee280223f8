"""One optimizer step of a run, and what it does to a text: what did reading this sentence once change?"""

import math
from pathlib import Path

from manako.analysis.training_step import TokenChange, TrainingStep, together
from manako.corpus.settings import check_range
from manako.errors import CapabilityError, UsageError
from manako.experiments.dynamics import held_out_text
from manako.families.gpt2 import only_gpt2
from manako.files import is_file
from manako.formats import run_folder
from manako.formats.checkpoint import Checkpoint
from manako.formats.model_folder import read_checkpoint
from manako.refs import Ref, run_and_checkpoint
from manako.trace.record import Vocabulary, bytes_to_text
from manako.training.config import POSITIVE
from manako.training.run import require_torch, settings_of


def training_step(
    run: str | Path,
    text: str | None = None,
    *,
    read: str | None = None,
    learning_rate: float | None = None,
    data: str | Path | None = None,
) -> TrainingStep:
    """Take one optimizer step from a checkpoint of a run, and compare a text before and after it.

    run: its folder, its name below runs/, or run:NAME@STEP; by default its last checkpoint. Nothing in it is changed.
    text: by default what is read, or the beginning of the held-out text. read: a sentence to read in place of the next
    batch of the run. learning_rate: of AdamW in this step, with Muon's in proportion; by default what the schedule
    says, or the peak of a run that is over, where that is 0. data: the packed corpus of the run, if that has moved.
    Raises MissingExtraError without PyTorch, LoadError where there is no run, CapabilityError for a checkpoint without
    optimizer state, UsageError for a text or sentence that is empty, too long, or that the vocabulary cannot spell.
    """
    require_torch()
    from manako.training.one_step import one_step

    if learning_rate is not None:
        learning_rate = check_range("learning_rate", learning_rate, POSITIVE)
    folder, at = run_and_checkpoint(run)
    if not is_file(at / run_folder.STATE):
        kept = [s for s in run_folder.steps(folder) if is_file(run_folder.step_folder(folder, s) / run_folder.STATE)]
        raise CapabilityError("training_step_no_state", folder=at, steps=", ".join(map(str, kept)))
    source = read_checkpoint(at)
    context = only_gpt2(source.config).block_size
    if text is None:
        text = read if read is not None else held_out_text(folder, source.tokenizer, context, data)
    ids = _ids(source, text)
    batch = Ref.parse(folder).corpus(data) if read is None else _ids(source, read)
    found = one_step(at, source, settings_of(folder), batch, ids, learning_rate)
    bit = math.log(2)
    moved = ((name, w.norm, w.distance, w.slope / bit) for name, w in found.moved.items())
    vocabulary = Vocabulary(source.tokenizer.token_bytes, source.tokenizer.vocab_size, source.tokenizer.special_ids)
    return TrainingStep(
        run=str(run),
        step=found.step,
        read=read,
        read_tokens=found.read,
        loss=found.loss,
        gradient_norm=found.gradient_norm,
        learning_rate=found.learning_rate,
        muon_rate=found.muon_rate,
        rate_from=found.rate_from,
        text=text,
        tokens=tuple(
            TokenChange(i, vocabulary[i], bytes_to_text(vocabulary[i]), i in vocabulary.special_ids, before, after)
            for i, before, after in zip(
                ids[1:], (found.before / bit).tolist(), (found.after / bit).tolist(), strict=True
            )
        ),
        parts=together(moved),
    )


def _ids(source: Checkpoint, text: str) -> list[int]:
    """A text as one document: the document start, then its tokens. Raises UsageError for one that is no such batch."""
    start, context = only_gpt2(source.config).start_id, source.config.block_size
    ids = [*([] if start is None else [start]), *source.tokenizer.encode(text)]
    if len(ids) < 2:
        raise UsageError("score_too_short")
    if len(ids) - 1 > context:
        raise UsageError("dynamics_long", tokens=len(ids) - 1, context=context)
    return ids
