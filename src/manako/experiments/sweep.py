"""A grid of trainings in one folder, one after the other here or many at once on a Ray cluster.

    sweep.toml             text, settings, and what varies
    corpora/               the packed text: one a vocabulary, and of each the shares that runs are trained on
    runs/NAME/             ordinary run folders
    results.jsonl          a line for each run that has ended; results.parquet holds the same

Special here: all runs are measured on the same held-out text, short enough that an evaluation scores all of it
whatever the tokenizer. A sweep that was killed goes on when it is called again: what is in results.jsonl is not done
again, and a run that had begun goes on from its last checkpoint. One that fails is named there too, and tried again by
the next call.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import manako.corpus
from manako.analysis.sweep import RESULTS, Failure, Outcome, read_results, results_lines
from manako.corpus.packed import PackedCorpus, is_packed, open_packed, open_whole
from manako.corpus.sample import sample
from manako.corpus.settings import CorpusSettings
from manako.errors import ManakoError, UsageError, first_line
from manako.experiments.grid import FLOPS, SHARE, SWEEP, Grid, Point, read_grid
from manako.experiments.results import write_parquet
from manako.families.gpt2 import ModelConfig
from manako.files import exists, read_regular, writable_folder, write_file
from manako.formats import run_folder
from manako.messages.numbers import count, fixed, small
from manako.training.run import Report, Show, quiet, require_torch, resume, train

RUNS, CORPORA = "runs", "corpora"
BYTES_A_CHARACTER = 3  # of Japanese: the most tokens that a character takes
_PACKED = ("tokenizer", "vocab_size", "min_count")  # what a packed corpus has decided


@dataclass(frozen=True)
class Job:
    """A run to be done, in plain values: it may be done on another machine."""

    point: Point
    folder: str
    corpus: str
    config: ModelConfig
    steps: int
    flops: float

    def settings(self) -> dict[str, Any]:
        """What `train` is told."""
        of_corpus = CorpusSettings.__dataclass_fields__.keys() | {SHARE, FLOPS}
        told = {name: value for name, value in self.point.settings.items() if name not in of_corpus}
        return {name: value for name, value in told.items() if value is not None} | {"steps": self.steps}


Done = tuple[Job, Outcome | Failure]


def sweep(
    grid: Grid,
    out: Path,
    *,
    report: Report = quiet,
    show: Show | None = None,
    spread: Callable[[Sequence[Job]], Iterable[Done]] | None = None,
) -> list[Outcome | Failure]:
    """Train every run of a grid that has no result yet, and return the results of all, in the order of the grid.

    report(key, **values) gets a catalog key for each line that a person should see; show(trainer) is a context held
    while a run trains. spread: what does the runs elsewhere; None does one after the other here. Raises UsageError for
    a grid that makes no sense or another one than the folder's, LoadError for the text.
    """
    require_torch()
    points = list(grid.points())
    new = not exists(out / SWEEP)
    if new:
        run_folder.clear_unfinished(out)
        writable_folder(out, in_place=True)
        out.mkdir(parents=True, exist_ok=True)
    with run_folder.locked(out) as unlocked:
        if unlocked:
            report("train.unlocked", folder=out, reason=unlocked)
        if not exists(out / SWEEP):  # another sweep may have been quicker
            write_file(out / SWEEP, grid.to_toml())
        _refuse_changed(grid, out)
        jobs = _jobs(points, out, _corpora(grid, points, out, report))
        _plan(jobs, report)
        known = {each.run: each for each in (read_results(out) if exists(out / RESULTS) else ())}
        results = {j.point.name: known[j.point.name] for j in jobs if isinstance(known.get(j.point.name), Outcome)}
        if results:
            report("sweep.known", count=len(results), of=len(jobs))
        waiting = [job for job in jobs if job.point.name not in results]
        flops = seconds = 0.0
        for job, ended in spread(waiting) if spread else _in_turn(waiting, report, show):
            results[ended.run] = ended
            _write(out, [results[j.point.name] for j in jobs if j.point.name in results])
            if isinstance(ended, Failure):
                report("sweep.failed", run=ended.run, reason=ended.error)
                continue
            flops, seconds = flops + job.flops, seconds + ended.seconds
            left = sum(j.flops for j in jobs if j.point.name not in results) * seconds / flops
            bits = fixed(ended.bits_per_character, 3)
            minutes, rest = fixed(ended.seconds / 60, 1), fixed(left / 60, 1)
            report("sweep.done", run=ended.run, bits=bits, minutes=minutes, left=rest)
        if find_spec("pyarrow") is None:
            report("sweep.no_parquet")
    return [results[job.point.name] for job in jobs]


def go(job: Job, show: Show | None = None) -> Outcome | Failure:
    """Train one run, or go on with it; what it came to."""
    run = Path(job.folder)
    more: dict[str, Any] = {"show": show} if show else {}
    try:
        if run_folder.is_run(run):
            resume(run, job.corpus, **more)
        else:
            train(job.corpus, run, **more, **job.settings())
        return _outcome(job)
    except ManakoError as error:
        return Failure(job.point.name, job.point.varied, f"{error} [{error.code}]")
    except Exception as error:  # whatever it is, the other runs are none the worse for it
        return Failure(job.point.name, job.point.varied, first_line(error))


def _in_turn(jobs: Sequence[Job], report: Report, show: Show | None) -> Iterator[Done]:
    for number, job in enumerate(jobs, 1):
        report("sweep.begins", number=number, count=len(jobs), run=job.point.name)
        yield job, go(job, show)


def _refuse_changed(grid: Grid, out: Path) -> None:
    """Raise UsageError where the folder's sweep is another one, naming the first line that differs."""
    now = grid.to_toml().decode().splitlines()
    was = read_grid(out / SWEEP, (), {}, {}).to_toml().decode().splitlines()
    for line in [*now, *was]:
        if line not in now or line not in was:
            name = line.partition(" = ")[0]
            value = [
                next((x.partition(" = ")[2] for x in lines if x.startswith(f"{name} = ")), "-") for lines in (now, was)
            ]
            raise UsageError("sweep_changed", folder=out, name=name, now=value[0], was=value[1])


# --- the text ---------------------------------------------------------------------------------------------------------


def _corpora(grid: Grid, points: Sequence[Point], out: Path, report: Report) -> dict[str, PackedCorpus]:
    """The corpus of each run, by the run's name; packed now where it is not there yet."""
    from manako.training.held_out import MOST_TOKENS

    packed = is_packed(Path(grid.data[0]))
    if packed and (len(grid.data) > 1 or {*_PACKED} & {*grid.vary, *grid.base}):
        raise UsageError("sweep_packed", folder=grid.data[0])
    wholes: dict[tuple[Any, ...], Path] = {}
    found: dict[str, PackedCorpus] = {}
    for point in points:
        kind = tuple(point.settings[name] for name in _PACKED)
        if kind not in wholes:
            wholes[kind] = out / CORPORA / f"{len(wholes) + 1}"
            _whole(grid, point, wholes[kind], report)
        share = wholes[kind].with_name(f"{wholes[kind].name}-{point.settings[SHARE]}")
        if share not in [corpus.folder for corpus in found.values()]:
            source = Path(grid.data[0]) if packed else wholes[kind]
            if not is_packed(share):
                sample(open_whole(source), share, point.settings[SHARE], MOST_TOKENS // BYTES_A_CHARACTER)
        found[point.name] = open_packed(share)
    return found


def _whole(grid: Grid, point: Point, folder: Path, report: Report) -> None:
    """All of the text under one vocabulary."""
    if is_packed(Path(grid.data[0])) or is_packed(folder):
        return
    settings = {name: point.settings[name] for name in CorpusSettings.__dataclass_fields__}
    manako.corpus.build(grid.data, folder, report=report, **settings)


# --- the plan ---------------------------------------------------------------------------------------------------------


def _jobs(points: Sequence[Point], out: Path, corpora: Mapping[str, PackedCorpus]) -> list[Job]:
    from manako.training.loop import DEFAULT_STEPS
    from manako.training.machine import flops_per_token

    jobs: list[Job] = []
    for point in points:
        s, corpus = point.settings, corpora[point.name]
        config = ModelConfig(
            **{name: s[name] for name in ("n_layer", "n_head", "n_embd", "block_size", "norm")},
            residual=not s["no_residual"],
            attention=not s["no_attention"],
            vocab_size=corpus.vocab_size,
            start_id=corpus.start_id,
            end_ids=(corpus.start_id,),
        )
        if not corpus.header.statistics["validation"]["characters"]:
            raise UsageError("sweep_nothing_held_out")
        if len(corpus.train) < config.block_size + 1:
            raise UsageError("sweep_short", run=point.name, got=len(corpus.train), need=config.block_size + 1)
        a_step = flops_per_token(config) * s["batch_size"] * config.block_size
        steps = max(1, round(s[FLOPS] / a_step)) if s[FLOPS] else s["steps"] or DEFAULT_STEPS
        jobs.append(Job(point, str(out / RUNS / point.name), str(corpus.folder), config, steps, float(a_step * steps)))
    return jobs


def _plan(jobs: Sequence[Job], report: Report) -> None:
    """What all of it will take, before the first step."""
    for job in jobs if len(jobs) <= 30 else ():
        tokens = job.steps * job.point.settings["batch_size"] * job.config.block_size
        report(
            "sweep.plan_run",
            run=job.point.name,
            parameters=count(_parameters(job.config)[0]),
            steps=count(job.steps),
            epochs=fixed(tokens / len(open_packed(Path(job.corpus)).train), 2),
            flops=small(job.flops),
        )
    text = [open_packed(Path(folder)).header.statistics for folder in {job.corpus for job in jobs}]
    report(
        "sweep.plan",
        runs=count(len(jobs)),
        flops=small(sum(job.flops for job in jobs)),
        train=count(max(each["train"]["characters"] for each in text)),
        held_out=count(max(each["validation"]["characters"] for each in text)),
    )


def _parameters(config: ModelConfig) -> tuple[int, int]:
    """(all parameters, those of the embeddings)."""
    sizes = {name: math.prod(shape) for name, shape in config.parameters().items()}
    return sum(sizes.values()), sizes["wte.weight"] + sizes["wpe.weight"]


# --- the results ------------------------------------------------------------------------------------------------------


def _outcome(job: Job) -> Outcome:
    """What a run says of itself. Raises ManakoError for one that did not come to its end, or whose log did not."""
    last = run_folder.pointed(Path(job.folder), run_folder.LAST)
    if last != run_folder.step_folder(Path(job.folder), job.steps):
        raise ManakoError("sweep_run_stopped", step=int(last.name.partition("-")[2]), steps=job.steps)
    lines = read_regular(Path(job.folder) / run_folder.METRICS).splitlines()
    metrics = [json.loads(line) for line in lines]
    curve = [[line["step"], line["bits_per_character"]] for line in metrics if "bits_per_character" in line]
    if not curve or curve[-1][0] != job.steps:
        raise ManakoError("sweep_run_log", file=Path(job.folder) / run_folder.METRICS, step=job.steps)
    best_step, best = min(curve, key=lambda point: point[1])
    text = open_packed(Path(job.corpus)).header.statistics
    per_token = {side: text[side]["characters"] / text[side]["tokens"] for side in ("train", "validation")}
    parameters, embeddings = _parameters(job.config)
    return Outcome(
        run=job.point.name,
        varied=job.point.varied,
        parameters=parameters,
        embeddings=embeddings,
        block_size=job.config.block_size,
        corpus_characters=text["train"]["characters"],
        steps=job.steps,
        characters=metrics[-1]["tokens"] * per_token["train"],
        flops=job.flops,
        seconds=metrics[-1]["seconds"],
        bits_per_character=best,
        best_step=best_step,
        last_bits_per_character=curve[-1][1],
        characters_per_token=per_token["validation"],
        curve=curve,
    )


def _write(out: Path, results: Sequence[Outcome | Failure]) -> None:
    write_file(out / RESULTS, results_lines(results))
    if find_spec("pyarrow") is not None:
        write_parquet(out, [each for each in results if isinstance(each, Outcome)])
