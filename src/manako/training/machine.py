"""What the machine can do: the type of the products, their speed, memory."""

import ctypes
import sys
import time

import torch

from manako.errors import UsageError
from manako.families.gpt2 import ModelConfig

PROBE = 1024  # side of the square matrices whose product is timed


def choose_dtype(asked: str, device: str) -> tuple[torch.dtype, str]:
    """(type of the products, catalog key that says why). Raises UsageError for bfloat16 on a CPU without it.

    A CPU without bfloat16 instructions emulates them, 50 times slower than float32 (pytorch#146508).
    """
    able = torch.cuda.is_bf16_supported() if device != "cpu" else _cpu_has_bfloat16()
    if asked == "bfloat16" and not able:
        raise UsageError("train_bfloat16", device=device)
    if asked == "float32":
        return torch.float32, "train.dtype_asked"
    return (torch.bfloat16, "train.dtype_bfloat16") if able else (torch.float32, "train.dtype_float32")


def _cpu_has_bfloat16() -> bool:
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()  # torch before 2.11 cannot tell
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def product_rate(device: str, dtype: torch.dtype) -> float:
    """Floating-point operations a second of a large square product: what MFU is a share of."""
    a = torch.ones(PROBE, PROBE, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(8):
        began = time.perf_counter()
        torch.mm(a, a)
        finish(device)
        best = min(best, time.perf_counter() - began)
    return 2 * PROBE**3 / best


def flops_per_token(config: ModelConfig) -> int:
    """6 N_mm + 12 L d T: products forward and backward, the whole attention square, lookups left out.

    Source: Chowdhery et al. 2022, arXiv:2204.02311, appendix B, with the output matrix counted.
    """
    matrices = sum(r * c for n, (r, *cs) in config.parameters().items() for c in cs if n.startswith("h."))
    matrices += config.vocab_size * config.n_embd
    attention = 12 * config.n_layer * config.n_embd * config.block_size if config.attention else 0
    return 6 * matrices + attention


def finish(device: str) -> None:
    """Wait for what a GPU was asked to do; a CPU is done already."""
    if device != "cpu":
        torch.cuda.synchronize()


def peak_memory() -> int:
    """Most bytes that this process has held."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def avoid_page_faults() -> None:
    """Keep large temporaries in the heap (glibc): giving them back each step costs up to a third of a CPU step."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
            libc.mallopt(mmap_threshold, 1 << 30)
            libc.mallopt(trim_threshold, (1 << 31) - 1)
