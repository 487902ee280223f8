"""The loop: batches, updates, evaluations, checkpoints, until the steps are done or somebody stops it.

Special here: a run is a function of its settings and the corpus. Stopped at any moment, killed included, it goes on
from its last checkpoint and ends, on a CPU, with the same bits as a run that was never stopped. Validation uses fixed
windows of works that no training step saw. Wherever a run ends, by its plan, its time or a signal, it is evaluated
there, so that `best` is the best of all that was trained; after a signal the checkpoint is safe before that.
"""

import contextlib
import hashlib
import json
import math
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import safetensors.numpy
import torch
from torch import Tensor, nn

from manako.checks import Misfit, Rule, check
from manako.corpus.packed import PackedCorpus, header_digest
from manako.errors import LoadError, ManakoError, UsageError
from manako.families.gpt2 import ModelConfig
from manako.files import megabytes, read_regular, strict_json, write_file
from manako.formats import run_folder
from manako.formats.model_folder import Checkpoint
from manako.messages.numbers import count, fixed
from manako.tokenizer import Tokenizer, start_id_of
from manako.training import machine
from manako.training.batches import Batches, pairs, validation_windows
from manako.training.config import TrainingConfig
from manako.training.model import GPT
from manako.training.optim import Optimizers, schedule
from manako.training.processes import Processes

Report = Callable[..., None]  # (catalog key, **values)
SCHEMA = "manako.training/2"
_STATE: Rule = {
    "type": "object",
    "properties": {
        "schema": {"type": "string", "enum": [SCHEMA]},
        "step": {"type": "integer", "minimum": 0},
        "position": {"type": "integer", "minimum": 0},
        "seconds": {"type": "number", "minimum": 0},
        "best_loss": {"type": ["number", "null"]},
        "best_step": {"type": ["integer", "null"], "minimum": 0},
        "settings": {"type": "object"},
        "threads": {"type": ["integer", "null"]},
        "corpus": {"type": "string"},
        "sha256": {"type": "string"},
    },
}
FREE_SETTINGS = ("max_minutes", "keep", "device")  # what may differ when a run goes on
DEFAULT_STEPS = 2_000
FITS = 0.9  # share of max_minutes that the steps should take; evaluations and saving need some, too
LOG_INTERVAL = 10  # steps between two lines of metrics.jsonl
MOST_LOGITS = 2**26  # numbers of one micro-batch, 256 MB in float32


@dataclass
class Progress:
    """Where a run stands; with the weights and the optimizer's state, all that the next step depends on."""

    step: int = 0
    position: int = 0
    """Windows of the corpus that have been used."""
    seconds: float = 0.0
    best_loss: float | None = None
    best_step: int | None = None


class SummedLoss(nn.Module):
    """Cross-entropy summed over targets, in nats: what one process adds to the loss of the whole batch."""

    def __init__(self, model: GPT) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, targets: Tensor) -> Tensor:
        return self.model.loss(ids, targets, reduction="sum")


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
        self.batches = Batches(corpus.train, config.block_size, training.seed)
        self.validation = validation_windows(corpus.validation, config.block_size)
        self.dtype, why = machine.choose_dtype(training.dtype, here.device)
        machine.avoid_page_faults()
        torch.manual_seed(training.seed)
        self.model = GPT(config).to(here.device)
        self.rate = machine.product_rate(here.device, torch.float32)
        self.report(why, rate=fixed(self.rate / 1e9, 0))
        self.progress = Progress()
        self.tick: Callable[[float], None] = lambda loss: None
        """Called after each step with its loss; `progress` tells the rest."""
        self.signal: int | None = None
        self.evaluation_seconds = 0.0
        """What the last evaluation took: the time that one at the end will need."""
        self._ready(training)

    def _ready(self, training: TrainingConfig) -> None:
        self.training = training
        t = training
        self.optimizers = Optimizers(
            self.model, t.optimizer, t.learning_rate, t.muon_rate, t.weight_decay, dtype=self.dtype
        )
        self.net: nn.Module = SummedLoss(self.model)
        if self.here.size > 1:
            self.net = nn.parallel.DistributedDataParallel(self.net)

    @property
    def tokens_per_step(self) -> int:
        return self.training.batch_size * self.config.block_size

    def update(self, still: bool = False) -> tuple[float, float]:
        """One optimizer step. Returns (mean loss in nats a token, gradient norm); both of the weights before it.

        still: do all the work at a rate of 0, so that no weight moves.
        """
        t, here, p = self.training, self.here, self.progress
        windows = self.batches.windows(p.position, t.batch_size, here.rank, here.size)
        rows = t.micro_batch or max(1, MOST_LOGITS // (self.config.block_size * self.config.vocab_size))
        parts = list(pairs(windows, rows, here.device))
        total = 0.0
        for n, (ids, targets) in enumerate(parts):
            last = n == len(parts) - 1
            with contextlib.nullcontext() if last or here.size == 1 else self.net.no_sync():  # type: ignore[operator]
                with self._autocast():
                    loss = self.net(ids, targets)
                # DDP takes the mean over processes; the loss is a mean over the whole batch.
                (loss * (here.size / self.tokens_per_step)).backward()
            total += loss.item()
        total = here.total(total)[0] / self.tokens_per_step
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), t.grad_clip).item()
        if not (math.isfinite(total) and math.isfinite(norm)):
            raise ManakoError("loss_not_finite", step=p.step + 1, rate=t.learning_rate)
        self.optimizers.step(0.0 if still else schedule(t.schedule, p.step + 1, t.steps or 1, t.warmup_steps))
        p.step, p.position = p.step + 1, p.position + t.batch_size
        return total, norm

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """The held-out text: loss in nats a token, perplexity, bits a character and a byte; {} where there is none."""
        if not len(self.validation):
            return {}
        began, total = time.monotonic(), 0.0
        mine = self.validation[self.here.rank :: self.here.size]
        for ids, targets in pairs(mine, max(1, 2 * self.training.batch_size // self.here.size), self.here.device):
            with self._autocast():
                total += self.model.loss(ids, targets, reduction="sum").item()
        total = self.here.total(total)[0]
        if not math.isfinite(total):
            raise ManakoError("loss_not_finite", step=self.progress.step, rate=self.training.learning_rate)
        targets = self.validation[:, 1:]
        table = self.tokenizer.token_bytes
        start = start_id_of(self.tokenizer)
        sizes = np.array([0 if i == start else len(b) for i, b in enumerate(table)])
        heads = np.array([0 if i == start else sum(x & 0xC0 != 0x80 for x in b) for i, b in enumerate(table)])
        loss, bits = total / targets.size, total / math.log(2)
        self.evaluation_seconds = time.monotonic() - began
        return {
            "validation_loss": loss,
            "perplexity": math.exp(min(loss, 700)),
            "bits_per_character": bits / max(1, int(heads[targets].sum())),
            "bits_per_byte": bits / max(1, int(sizes[targets].sum())),
        }

    def plan(self) -> None:
        """Settle the number of steps of a new run, and say what it will take."""
        t, c = self.training, self.config
        took = self._step_seconds()
        fit = DEFAULT_STEPS if t.max_minutes is None else max(1, int(FITS * 60 * t.max_minutes / took))
        steps = t.steps or fit
        self.training = replace(t, steps=steps)
        tokens = len(self.corpus.train)
        self.report(
            "train.start",
            parameters=count(sum(p.numel() for p in self.model.parameters())),
            tokens=count(tokens),
            steps=count(steps),
            epochs=fixed(steps * t.batch_size * c.block_size / tokens, 2),
            minutes=fixed(steps * took / 60, 1),
            memory=megabytes(machine.peak_memory()),
        )

    def go(self) -> None:
        """Train to the end. Raises KeyboardInterrupt after SIGINT, when the checkpoint is safe."""
        t, p = self.training, self.progress
        assert t.steps is not None  # resolved at the start
        began, before = time.monotonic(), p.seconds
        log = (self.run / run_folder.METRICS).open("a", encoding="utf-8") if self.here.first else None
        with self._signals(), log or contextlib.nullcontext():
            while p.step < t.steps:
                loss, norm = self.update()
                p.seconds = before + time.monotonic() - began
                self.tick(loss)
                over = t.max_minutes is not None and p.seconds + self.evaluation_seconds > 60 * t.max_minutes
                stops, late = self.here.total(float(self.signal or 0), float(over))
                if stops:
                    self.report("train.stopping", step=p.step)
                    self.save()  # an evaluation may take longer than whoever sent the signal waits
                ends = bool(stops or late) or p.step == t.steps
                evaluated = self.evaluate() if ends or p.step % t.eval_interval == 0 else None
                if log and (evaluated is not None or p.step % LOG_INTERVAL == 0 or p.step == 1):
                    line = self._line(loss, norm) | (evaluated or {})
                    log.write(json.dumps(line) + "\n")
                    log.flush()
                    self._say(line, evaluated)
                if stops:
                    self.judge(evaluated)
                elif evaluated is not None:
                    self.save(evaluated)
                if ends:
                    break
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        if self.signal is not None:
            signal.raise_signal(self.signal)
        if p.step < t.steps:
            self.report("train.time_over", step=p.step, steps=t.steps, run=self.run)

    def save(self, evaluated: dict[str, float] | None = None) -> None:
        """Leave a checkpoint of this moment; `best` follows the validation loss."""
        p = self.progress
        if not all(bool(w.isfinite().all()) for w in self.model.parameters()):  # the loss was that of the step before
            raise ManakoError("loss_not_finite", step=p.step, rate=self.training.learning_rate)
        better = self._is_best(evaluated)
        if self.here.first:
            state = self.optimizers.state() | {"torch_rng": torch.get_rng_state()}
            arrays = safetensors.numpy.save({n: v.detach().cpu().numpy() for n, v in state.items()})
            self._arrays_sha256 = hashlib.sha256(arrays).hexdigest()
            files = {run_folder.STATE_ARRAYS: arrays, run_folder.STATE: self._recipe()}
            weights = {name: w.detach().cpu().numpy() for name, w in self.model.named_parameters()}
            keep = self.training.keep
            folder = run_folder.save(self.run, p.step, self.config, weights, self.tokenizer, files, better, keep)
            if self.watch and evaluated is not None:
                self.watch(folder, p.step)
        self.here.wait()

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
        recipe = {
            "schema": SCHEMA,
            **vars(self.progress),
            "settings": {name: value for name, value in vars(self.training).items() if name not in FREE_SETTINGS},
            "threads": torch.get_num_threads(),
            "corpus": self.corpus.digest,
            "sha256": self._arrays_sha256,
        }
        return (json.dumps(recipe | {"digest": header_digest(recipe)}, indent=1) + "\n").encode()

    def restore(self, checkpoint: Checkpoint, folder: Path) -> None:
        """Go back to a checkpoint.

        Raises LoadError when its training state is missing or damaged, UsageError when it was made with another corpus
        or other settings than those of this trainer.
        """
        recipe, state = read_state(folder)
        if recipe["corpus"] != self.corpus.digest:
            raise UsageError("resume_corpus", run=self.run, was=recipe["corpus"][:12], now=self.corpus.digest[:12])
        now = vars(self.training)
        for name, was in recipe["settings"].items():
            if now.get(name) != was:
                raise UsageError("resume_setting", run=self.run, name=name, was=was, now=now.get(name))
        if recipe["threads"] not in (None, torch.get_num_threads()):
            self.report("train.other_threads", was=recipe["threads"], now=torch.get_num_threads())
        torch.set_rng_state(state.pop("torch_rng"))
        arrays = {n: torch.from_numpy(np.array(a)) for n, a in checkpoint.tensors.items()}
        self.model.load_state_dict(arrays, strict=True)
        self._ready(self.training)
        self.optimizers.restore(state)
        self.progress = Progress(**{name: recipe[name] for name in vars(Progress())})

    def _step_seconds(self) -> float:
        """How long a step takes here; weights, optimizer and position stay as they are."""
        self.update(still=True)
        began = time.perf_counter()
        self.update(still=True)
        self.update(still=True)
        machine.finish(self.here.device)
        took = self.here.total((time.perf_counter() - began) / 2)[0] / self.here.size
        self._ready(self.training)
        self.progress = Progress()
        return took

    def _line(self, loss: float, norm: float) -> dict[str, Any]:
        t, p = self.training, self.progress
        assert t.steps is not None
        rate = p.step * self.tokens_per_step / p.seconds
        return {
            "step": p.step,
            "tokens": p.position * self.config.block_size,
            "loss": loss,
            "learning_rate": t.learning_rate * schedule(t.schedule, p.step, t.steps, t.warmup_steps),
            "gradient_norm": norm,
            "seconds": p.seconds,
            "tokens_s": rate,
            "mfu": rate * machine.flops_per_token(self.config) / (self.rate * self.here.size),
            "memory": machine.peak_memory(),
        }

    def _say(self, line: dict[str, Any], evaluated: dict[str, float] | None) -> None:
        t, p = self.training, self.progress
        assert t.steps is not None
        values = {
            "step": p.step,
            "steps": t.steps,
            "loss": fixed(line["loss"], 3),
            "rate": fixed(line["tokens_s"], 0),
            "mfu": fixed(line["mfu"], 2),
            "left": fixed(p.seconds / p.step * (t.steps - p.step) / 60, 1),
        }
        if evaluated:
            bits = fixed(evaluated["bits_per_character"], 3)
            self.report("train.step", **values, validation=fixed(evaluated["validation_loss"], 3), bits=bits)
        elif evaluated is not None:
            self.report("train.step_without_validation", **values)

    def _autocast(self) -> Any:
        kind = torch.device(self.here.device).type
        return torch.autocast(kind, dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Finish the step and save when asked to stop; asked again, stop at once."""
        wanted = [s for name in ("SIGINT", "SIGTERM", "SIGHUP") if (s := getattr(signal, name, None))]

        def note(number: int, frame: FrameType | None) -> None:
            self.signal = number  # nothing is printed here: the step may be printing, too
            for s, handler in before.items():
                signal.signal(s, handler)

        before: dict[int, Any] = {}
        try:
            for s in wanted:
                before[s] = signal.signal(s, note)
        except ValueError:  # not the main thread: whoever runs it there has the signals
            before = {}
        try:
            yield
        finally:
            for s, handler in before.items():
                signal.signal(s, handler)


def read_state(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(training.json, the arrays) of a checkpoint. Raises LoadError for what is missing or damaged."""
    path = folder / run_folder.STATE
    recipe = strict_json(read_regular(path, limit=1 << 20), str(path))
    if recipe.pop("digest", None) != header_digest(recipe):
        raise LoadError("digest_mismatch", file=path, part="digest")
    if recipe.get("schema") == "manako.training/1":  # without the settings, which are then believed
        recipe |= {"schema": SCHEMA, "settings": {}, "threads": None}
    try:
        check(recipe, _STATE, "")
    except Misfit as error:
        raise LoadError("json_invalid", file=path, reason=error) from None
    data = read_regular(folder / run_folder.STATE_ARRAYS)
    if recipe["sha256"] != hashlib.sha256(data).hexdigest():
        raise LoadError("digest_mismatch", file=folder / run_folder.STATE_ARRAYS, part="SHA-256")
    return recipe, {n: torch.from_numpy(np.array(a)) for n, a in safetensors.numpy.load(data).items()}


def keep_lines(path: Path, step: int) -> None:
    """Cut metrics.jsonl back to a step: what came after it is computed again. Damaged lines go: nothing needs them."""
    lines = read_regular(path).splitlines() if path.exists() else []
    write_file(path, b"".join(line + b"\n" for line in lines if _step_of(line) <= step))


def _step_of(line: bytes) -> float:
    """The step of a line of the log; infinity for what is none, such as half a line of a killed run."""
    try:
        found = json.loads(line)["step"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return math.inf
    return found if type(found) is int else math.inf
