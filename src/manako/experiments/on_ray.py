"""The runs of a sweep on a Ray cluster: many at once, each in a process of its own.

Special here: a run whose worker or machine is lost goes on elsewhere from its last checkpoint, since a job trains or
resumes, whichever its folder asks for. All machines must see that folder under the same path. Ray is asked for nothing
but that: no data goes through it but settings and figures.
"""

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from manako.analysis.sweep import Failure
from manako.errors import ManakoError, MissingExtraError, first_line
from manako.experiments.sweep import Done, Job, go
from manako.training.run import Report

LOCAL = "local"
TRIES = 5  # at a run whose workers are lost: after that it may be what ends them


def on_ray(address: str, gpu: bool, report: Report) -> Callable[[Sequence[Job]], Iterator[Done]]:
    """What does the runs of a sweep on a cluster. address: HOST:PORT, "auto", or LOCAL for one that is started here.

    gpu: whether each run shall have a GPU, where the cluster has any; else each has one processor. Raises
    MissingExtraError without Ray; the runs then raise ManakoError where no cluster answers.
    """
    if find_spec("ray") is None:
        raise MissingExtraError("missing_ray")

    def spread(jobs: Sequence[Job]) -> Iterator[Done]:
        if not jobs:
            return
        _refuse_unreachable(address)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would tell its makers
        ray: Any = import_module("ray")
        try:
            where = None if address == LOCAL else address
            ray.init(where, include_dashboard=False if where is None else None, log_to_driver=False)
        except Exception as error:  # each kind of address fails in its own way
            raise ManakoError("ray_unreachable", address=address, reason=first_line(error)) from None
        try:
            have = ray.cluster_resources()
            report("sweep.on_ray", cpus=int(have.get("CPU", 0)), gpus=int(have.get("GPU", 0)), runs=len(jobs))
            task = ray.remote(num_cpus=1, num_gpus=int(gpu and have.get("GPU", 0) > 0), max_retries=TRIES)(go)
            waiting = {task.remote(job): job for job in jobs}
            while waiting:
                for done in ray.wait(list(waiting))[0]:
                    job = waiting.pop(done)
                    try:
                        yield job, ray.get(done)
                    except ray.exceptions.RayError as error:
                        yield job, Failure(job.point.name, job.point.varied, first_line(error))
        finally:
            ray.shutdown()

    return spread


def _refuse_unreachable(address: str) -> None:
    """Raise ManakoError where nothing listens at HOST:PORT; Ray itself would try for minutes."""
    host, _, port = address.rpartition("/")[2].rpartition(":")
    if host and port.isascii() and port.isdigit():
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except (OSError, OverflowError) as error:
            raise ManakoError("ray_unreachable", address=address, reason=first_line(error)) from None
