"""The loop: batches, updates, evaluations, checkpoints, until the steps are done or somebody stops it.

Special here: a run of a given number of steps is a function of its settings and the corpus. Stopped at any moment,
killed included, it goes on from its last checkpoint and ends, on a CPU, with the same bits as a run that was never
stopped. Where a time was given, the schedule follows the clock, so that the rate is at its end when the time is over
however busy the machine was; the share of the run that was over as each step began is kept with the training state,
and `replay` takes the steps by that record again, to the same bits. Wherever a run ends, by its plan, its time or a
signal, it is evaluated there, so that `best` is the best of all that was trained; after a signal the checkpoint is
safe before that.
"""

import contextlib
import hashlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import safetensors.numpy
import torch

from manako.corpus.packed import PackedCorpus
from manako.errors import LoadError, ManakoError, UsageError
from manako.families.gpt2 import ModelConfig
from manako.files import megabytes, write_file
from manako.formats import run_folder
from manako.formats.checkpoint import Checkpoint, Tensors
from manako.messages.numbers import count, fixed
from manako.tokenizer import Tokenizer
from manako.training import machine, memory
from manako.training.batches import Batches, pairs
from manako.training.config import TrainingConfig
from manako.training.held_out import HeldOut
from manako.training.log import Log
from manako.training.model import GPT
from manako.training.optim import Optimizers, schedule
from manako.training.processes import Processes
from manako.training.qk_clip import WINDOWS, clip_scores, clips_after
from manako.training.recipe import SHARES, recipe
from manako.training.signals import ASKING, answered
from manako.training.snapshots import all_due, due
from manako.training.state import RANDOM, read_state, shares_of

Report = Callable[..., None]  # (catalog key, **values)
DEFAULT_STEPS = 2_000
LOG_INTERVAL = 10  # steps between two lines of metrics.jsonl
FEW_EPOCHS, MANY_EPOCHS = 0.5, 40.0  # outside of them a plan says what will come of it


@dataclass
class Progress:
    """Where a run stands; with the weights and the optimizer's state, all that the next step depends on."""

    step: int = 0
    position: int = 0
    """Windows of the corpus that have been used."""
    seconds: float = 0.0
    done: float = 0.0
    """The share of the run that is over, by its steps or by the clock, whichever is nearer to the end."""
    best_loss: float | None = None
    best_step: int | None = None
    ends_after: float | None = None
    """Seconds at which its steps are over, where it was resumed with a time of its own; None: as its settings say."""
    evaluation_seconds: float = 0.0
    """What the last evaluation took, or will take by the plan: the time that one at the end will need."""


class End(NamedTuple):
    """Why a training is at its end."""

    why: Literal["done", "time", "signal"]
    """It has done what it shall do; its time was over before its steps; it was asked to stop before both."""
    signal: int | None = None
    """What reached this process or one beside it, also after the last step; the caller has to answer it."""


def gradients(
    model: GPT, windows: npt.NDArray[np.int64], rows: int, tokens: int, dtype: torch.dtype, here: Processes
) -> float:
    """Leave in the parameters the gradient of the mean loss over a batch of so many tokens; returns that loss in nats.

    windows: the share of the batch that this process has, of which `rows` go through at once, with products in `dtype`.
    """
    kind, low = torch.device(here.device).type, dtype == torch.bfloat16
    total = 0.0
    for ids, targets in pairs(windows, rows, here.device):
        with torch.autocast(kind, dtype=torch.bfloat16, enabled=low):
            loss = model.loss(ids, targets, reduction="sum")
        (loss * (1 / tokens)).backward()
        total += loss.item()
    here.sum_gradients(model.parameters())
    return here.total(total)[0] / tokens


class Trainer:
    """One run: a model, what moves it, its data, its folder."""

    def __init__(
        self,
        run: Path,
        config: ModelConfig,
        training: TrainingConfig,
        corpus: PackedCorpus,
        here: Processes,
        report: Report,
        watch: Callable[[Path, int], None] | None = None,
    ) -> None:
        if training.batch_size < here.size:
            raise UsageError("train_few_sequences", batch_size=training.batch_size, processes=here.size)
        self.run, self.config, self.corpus, self.here, self.watch = run, config, corpus, here, watch
        self.report = report if here.first else lambda key, **values: None
        self.tokenizer = Tokenizer(corpus.tokenizer_source)
        self.batches = Batches(corpus.train, config.block_size, training.seed, corpus.start_id)
        memory.refuse_too_large(config, training, here.device, here.size)
        self.held_out = HeldOut(corpus.validation, config.block_size, self.tokenizer, corpus.start_id)
        self.dtype, why = machine.choose_dtype(training.dtype, here.device)
        machine.avoid_page_faults()
        torch.manual_seed(training.seed)
        self.model = GPT(config).to(here.device)
        self.rate = machine.product_rate(here.device, torch.float32)
        self.report(why, rate=fixed(self.rate / 1e9, 0))
        self.progress = Progress()
        self.shares: list[float] = []
        """Of each step so far: the share of the run that was over as it began."""
        self.replayed = shares_of(Path(training.replay)) if training.replay is not None else None
        self.tick: Callable[[float], None] = lambda loss: None
        """Called after each step with its loss; `progress` tells the rest."""
        self.logged: Callable[[Mapping[str, Any]], None] = lambda line: None
        """Called with each line of metrics.jsonl."""
        self.signal: int | None = None
        """That asked this process, or one beside it, to stop."""
        self._ready(training)

    def _ready(self, training: TrainingConfig) -> None:
        self.training = training
        t = training
        self.optimizers = Optimizers(
            self.model, t.optimizer, t.learning_rate, t.muon_rate, t.weight_decay, dtype=self.dtype
        )
        self.here.share(self.model.parameters())

    @property
    def tokens_per_step(self) -> int:
        return self.training.batch_size * self.config.block_size

    def update(self, still: bool = False) -> tuple[float, float]:
        """One optimizer step. Returns (mean loss in nats a token, gradient norm); both of the weights before it.

        still: do all the work at a rate of 0, so that no weight moves.
        """
        t, here, p = self.training, self.here, self.progress
        windows = self.batches.windows(p.position, t.batch_size, here.rank, here.size)
        rows = t.micro_batch or memory.rows_at_once(self.config)
        total = gradients(self.model, windows, rows, self.tokens_per_step, self.dtype, here)
        rate = 0.0 if still else schedule(t.schedule, p.step + 1, p.done, t.warmup_steps)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), t.grad_clip).item()
        if not (math.isfinite(total) and math.isfinite(norm)):
            raise ManakoError("loss_not_finite", step=p.step + 1, rate=t.learning_rate)
        self.optimizers.step(rate)
        if clips_after(t, p.step + 1) and not still:
            common = self.batches.windows(p.position, min(WINDOWS, t.batch_size))  # all processes measure the same
            clip_scores(self.model, torch.from_numpy(common[:, :-1]).to(here.device))
        self.shares.append(p.done)
        p.step, p.position = p.step + 1, p.position + t.batch_size
        return total, norm

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """The held-out text: loss in nats a token, perplexity, bits a character and a byte; {} where there is none.

        In float32, the type of the weights that are saved.
        """
        held_out, here = self.held_out, self.here
        if not held_out.tokens:
            return {}
        began, total = time.monotonic(), 0.0
        rows = max(1, min(2 * self.training.batch_size // here.size, memory.rows_at_once(self.config)))
        ids, targets = (each[here.rank :: here.size].to(here.device) for each in (held_out.ids, held_out.targets))
        for first in range(0, len(ids), rows):  # none where there are fewer windows than processes
            some = slice(first, first + rows)
            total += self.model.loss(ids[some], targets[some], reduction="sum").item()
        total = here.total(total)[0]
        if not math.isfinite(total):
            raise ManakoError("loss_not_finite", step=self.progress.step, rate=self.training.learning_rate)
        self.progress.evaluation_seconds = time.monotonic() - began
        loss, bits = total / held_out.tokens, total / math.log(2)
        return {
            "validation_loss": loss,
            "perplexity": math.exp(min(loss, 700)),
            "bits_per_character": bits / max(1, held_out.characters),
            "bits_per_byte": bits / max(1, held_out.bytes),
        }

    def plan(self) -> None:
        """Settle what a new run will do, and say what it will take."""
        t = self.training
        if t.steps is None and t.max_minutes is None and self.replayed is None:
            self.training = t = replace(t, steps=DEFAULT_STEPS)
        took = self._step_seconds()
        evaluation = took * len(self.held_out.ids) / (3 * t.batch_size)  # a step goes there and back
        self.progress.evaluation_seconds = evaluation
        steps = self._expected_steps(took)
        epochs = steps * self.tokens_per_step / len(self.corpus.train)
        self.report(
            "train.start_timed" if t.steps is None and self.replayed is None else "train.start",
            parameters=count(sum(p.numel() for p in self.model.parameters())),
            tokens=count(len(self.corpus.train)),
            steps=count(steps),
            epochs=fixed(epochs, 2),
            minutes=fixed(min(steps * took / 60, t.max_minutes or math.inf), 1),
            memory=megabytes(machine.peak_memory()),
        )
        if t.snapshots:
            each = 4 * sum(p.numel() for p in self.model.parameters()) + len(self.tokenizer.source.encode())
            most = min(t.snapshots, steps + 1)
            self.report("train.snapshots", count=most, each=megabytes(each), all=megabytes(most * each))
        if epochs < FEW_EPOCHS:
            self.report("train.few_epochs", epochs=fixed(epochs, 2))
        if epochs > MANY_EPOCHS:
            self.report("train.many_epochs", epochs=count(int(epochs)))

    def go(self) -> End:
        """Train to the end. One that is asked to stop finishes its step and saves; asked again, it stops at once."""
        t, p = self.training, self.progress
        began, before = time.monotonic(), p.seconds
        log = Log(self.run / run_folder.METRICS, self.report) if self.here.first else None
        with answered(ASKING, self._note):
            while p.done < 1:
                loss, norm = self.update()
                p.seconds = before + time.monotonic() - began
                self.tick(loss)
                share = self.share() if self.here.first else 0.0
                *asked, p.done = self.here.total(*(self.signal == number for number in ASKING), share)
                stops = any(asked)
                if stops:
                    self.signal = next(number for number, ranks in zip(ASKING, asked, strict=True) if ranks)
                    self.report("train.stopping", step=p.step)
                    self.save()  # an evaluation may take longer than whoever sent the signal waits
                ends = stops or p.done >= 1
                evaluated = self.evaluate() if ends or p.step % t.eval_interval == 0 else None
                if log and (evaluated is not None or p.step % LOG_INTERVAL == 0 or p.step == 1):
                    line = self._line(loss, norm) | (evaluated or {})
                    log.add(line)
                    self.logged(line)
                    self._say(line, evaluated)
                if stops:
                    self.judge(evaluated)
                elif evaluated is not None:
                    self.save(evaluated)
                elif due(p.step, self.shares[-1], p.done, t.snapshots):
                    self.snapshot()
                if ends:
                    break
        over: Literal["done", "time"] = "time" if p.step < (self.planned or 0) else "done"
        return End(over if p.done >= 1 else "signal", self.signal)

    def _note(self, number: int) -> None:
        self.signal = number  # nothing is printed here: the step may be printing, too

    @property
    def planned(self) -> int | None:
        """The steps that it shall have; None where its time alone says."""
        return len(self.replayed) if self.replayed is not None else self.training.steps

    def share(self) -> float:
        """The share of the run that is over now, 0 to 1; the end of the time is kept for an evaluation."""
        t, p = self.training, self.progress
        if self.replayed is not None:  # whose time is on that record
            by_steps, own = float(self.replayed[p.step]) if p.step < len(self.replayed) else 1.0, math.inf
        else:
            by_steps = p.step / t.steps if t.steps else 0.0
            own = 60 * t.max_minutes if t.max_minutes else math.inf
        ends_after = self._without_evaluation(own) if p.ends_after is None else p.ends_after
        return min(1.0, max(by_steps, p.seconds / ends_after))

    def _without_evaluation(self, seconds: float) -> float:
        """What of a time is left for steps: half of it at least."""
        return seconds - min(self.progress.evaluation_seconds, seconds / 2)

    def _expected_steps(self, seconds: float) -> int:
        """How many steps the run will have, at so many seconds each."""
        t = self.training
        if self.replayed is not None:
            return len(self.replayed)
        in_time = max(1, int(60 * t.max_minutes / seconds)) if t.max_minutes else math.inf
        return int(min(t.steps or math.inf, in_time))

    def save(self, evaluated: dict[str, float] | None = None) -> None:
        """Leave a checkpoint of this moment; `best` follows the validation loss."""
        p = self.progress
        if not all(bool(w.isfinite().all()) for w in self.model.parameters()):  # the loss was that of the step before
            raise ManakoError("loss_not_finite", step=p.step, rate=self.training.learning_rate)
        better = self._is_best(evaluated)
        if self.here.first:
            shares = torch.tensor(self.shares, dtype=torch.float64)
            state = self.optimizers.state() | {RANDOM: torch.get_rng_state(), SHARES: shares}
            arrays = safetensors.numpy.save({n: v.detach().cpu().numpy() for n, v in state.items()})
            self._arrays_sha256 = hashlib.sha256(arrays).hexdigest()
            files = {run_folder.STATE_ARRAYS: arrays, run_folder.STATE: self._recipe()}
            folder = run_folder.save(self.run, p.step, self.config, self._weights(), self.tokenizer, files, better)
            with contextlib.suppress(OSError):  # what could not be removed now is tried again at the next save
                spared = all_due(self.shares, p.done, self.training.snapshots)
                run_folder.thin(self.run, self.training.keep, spared)
            if self.watch and evaluated is not None:
                self.watch(folder, p.step)
        self.here.wait()

    def snapshot(self) -> None:
        """Leave the weights of this moment, to be looked at; a run never goes on from them."""
        if self.here.first:
            run_folder.save_snapshot(self.run, self.progress.step, self.config, self._weights(), self.tokenizer)

    def _weights(self) -> Tensors:
        return {name: w.detach().cpu().numpy() for name, w in self.model.named_parameters()}

    def judge(self, evaluated: dict[str, float] | None) -> None:
        """Note what the checkpoint just saved came out as: `best` may move to it, and a resumed run knows."""
        if self._is_best(evaluated) and self.here.first:
            folder = run_folder.step_folder(self.run, self.progress.step)
            write_file(folder / run_folder.STATE, self._recipe())
            run_folder.point(self.run, run_folder.BEST, folder)
        self.here.wait()

    def _is_best(self, evaluated: dict[str, float] | None) -> bool:
        """Whether this is the best of all evaluations; noted in the progress."""
        p, loss = self.progress, (evaluated or {}).get("validation_loss")
        if loss is None or (p.best_loss is not None and loss >= p.best_loss):
            return False
        p.best_loss, p.best_step = loss, p.step
        return True

    def _recipe(self) -> bytes:
        """training.json: where the run stands, and the settings that brought it there."""
        threads = torch.get_num_threads()
        return recipe(vars(self.progress), self.training, threads, self.corpus.digest, self._arrays_sha256)

    def restore(self, checkpoint: Checkpoint, folder: Path) -> None:
        """Go back to a checkpoint.

        Raises LoadError when its training state is missing or damaged, UsageError when it was made with another corpus
        or other settings than those of this trainer.
        """
        made, state = read_state(folder)
        if made["corpus"] != self.corpus.digest:
            raise UsageError("resume_corpus", run=self.run, was=made["corpus"][:12], now=self.corpus.digest[:12])
        now = vars(self.training)
        for name, was in made["settings"].items():
            if now.get(name) != was:
                raise UsageError("resume_setting", run=self.run, name=name, was=was, now=now.get(name))
        if made["threads"] not in (None, torch.get_num_threads()):
            self.report("train.other_threads", was=made["threads"], now=torch.get_num_threads())
        if RANDOM in state:  # a run of the page has none
            try:
                torch.set_rng_state(state.pop(RANDOM))
            except RuntimeError:  # it is of another size, or none that the generator could have
                file = folder / run_folder.STATE_ARRAYS
                raise LoadError("training_state_other", file=file, name=RANDOM) from None
        done = made["done"]
        if done is None:  # a run of a fixed number of steps, as all were once
            state[SHARES] = torch.arange(made["step"]) / (self.training.steps or 1)
            done = min(1.0, made["step"] / (self.training.steps or 1))
        self.shares = state.pop(SHARES).tolist()
        arrays = {n: torch.from_numpy(np.array(a)) for n, a in checkpoint.tensors.items()}
        self.model.load_state_dict(arrays, strict=True)
        self._ready(self.training)
        self.optimizers.restore(state, folder / run_folder.STATE_ARRAYS)
        self.progress = Progress(**{name: made[name] for name in vars(Progress())})
        self.progress.done = done

    def extend(self, max_minutes: float | None) -> None:
        """Let a restored run have so many minutes from now on, or, where its steps are given, no limit of time.

        One of a given time keeps the end that it had, be it of an earlier extension.
        """
        p = self.progress
        if max_minutes is None and self.planned is None:
            return
        p.ends_after = None if max_minutes is None else p.seconds + self._without_evaluation(60 * max_minutes)
        self.training = replace(self.training, max_minutes=None)
        p.done = self.share()

    def _step_seconds(self) -> float:
        """How long a step takes here; weights, optimizer and position stay as they are."""
        self.update(still=True)
        began = time.perf_counter()
        self.update(still=True)
        self.update(still=True)
        machine.finish(self.here.device)
        took = self.here.total((time.perf_counter() - began) / 2)[0] / self.here.size
        self._ready(self.training)
        self.progress, self.shares = Progress(), []
        return took

    def status(self) -> dict[str, object]:
        """What a line about a running training says: `step`, `steps` and the minutes that are `left`."""
        p, share = self.progress, max(self.share(), 1e-9)
        steps = count(self.planned) if self.planned else f"≈{count(max(p.step, round(p.step / share)))}"
        return {"step": p.step, "steps": steps, "left": fixed(p.seconds * (1 - share) / share / 60, 1)}

    def _line(self, loss: float, norm: float) -> dict[str, Any]:
        t, p = self.training, self.progress
        rate = p.step * self.tokens_per_step / p.seconds
        return {
            "step": p.step,
            "tokens": p.position * self.config.block_size,
            "loss": loss,
            "learning_rate": t.learning_rate * schedule(t.schedule, p.step, self.shares[-1], t.warmup_steps),
            "done": p.done,
            "gradient_norm": norm,
            "seconds": p.seconds,
            "tokens_s": rate,
            "mfu": rate * machine.flops_per_token(self.config) / (self.rate * self.here.size),
            "memory": machine.peak_memory(),
        }

    def _say(self, line: dict[str, Any], evaluated: dict[str, float] | None) -> None:
        values = self.status() | {
            "loss": fixed(line["loss"], 3),
            "rate": fixed(line["tokens_s"], 0),
            "mfu": fixed(line["mfu"], 2),
        }
        if evaluated:
            bits = fixed(evaluated["bits_per_character"], 3)
            self.report("train.step", **values, validation=fixed(evaluated["validation_loss"], 3), bits=bits)
        elif evaluated is not None:
            self.report("train.step_without_validation", **values)
