"""How much memory may still be taken: what the system, the limits of the process and of its container leave.

Special here: what the system keeps of files counts as free, since it gives it up at once; on a machine that has read
much, that is nearly all there is.
"""

import contextlib
from pathlib import Path

_SYSTEM, _CONTAINER = Path("/proc/meminfo"), Path("/sys/fs/cgroup/memory.max")


def available_memory() -> int | None:
    """Bytes, None where the system does not tell (Windows and macOS tell it to their own libraries alone)."""
    return min((known for known in (_system(), _container(), _limit()) if known is not None), default=None)


def _system() -> int | None:
    """What Linux says can be had without taking it from anybody."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        lines = _SYSTEM.read_text().splitlines()
        found = {name: 1024 * int(value.split()[0]) for name, _, value in (line.partition(":") for line in lines)}
        return found["MemAvailable"] + found["SwapFree"]
    return None


def _container() -> int | None:
    with contextlib.suppress(OSError, ValueError):  # "max"
        return int(_CONTAINER.read_text())
    return None


def _limit() -> int | None:
    """What is left of the address space that a shell's `ulimit -v` gave."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            return max(0, limit - used)
    return None
