"""Muon against its definition and PyTorch's own, the groups of both optimizers, their state, the schedules."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from toy import toy_config

from manako.training.model import GPT
from manako.training.optim import AdamW, Muon, Optimizers, orthogonalize, schedule


@pytest.mark.parametrize("shape", [(8, 8), (4, 12), (12, 4)], ids=str)
def test_orthogonalize_brings_singular_values_near_1_and_keeps_directions(shape: tuple[int, int]) -> None:
    u, _, vh = np.linalg.svd(np.random.default_rng(0).normal(size=(3, *shape)), full_matrices=False)
    values = np.linspace(0.3, 1, min(shape))  # five steps are too few for values near zero
    matrices = torch.from_numpy(u * values @ vh).float()
    made = orthogonalize(matrices)
    for before, after in zip(matrices, made, strict=True):
        u, _, vh = torch.linalg.svd(before, full_matrices=False)
        inner = u.mT @ after @ vh.mT  # diagonal where the directions are those of `before`
        assert (inner - torch.diag(inner.diagonal())).abs().max() < 1e-3
        assert 0.6 < inner.diagonal().min() and inner.diagonal().max() < 1.3


def test_muon_moves_as_pytorchs_own() -> None:
    """torch.optim.Muon (2.9 and later) computes in bfloat16, hence the tolerance."""
    if not hasattr(torch.optim, "Muon"):
        pytest.fail("the reference is torch.optim.Muon; install torch 2.9 or later to test")
    start, rng = torch.randn(6, 6, generator=torch.Generator().manual_seed(0)), np.random.default_rng(1)
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    a = Muon([ours], lr=0.02)
    b = torch.optim.Muon([theirs], lr=0.02, weight_decay=0.0, momentum=0.95, nesterov=True)
    for _ in range(5):
        gradient = torch.from_numpy(rng.normal(size=(6, 6))).float()
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        a.step()
        b.step()
    moved = (theirs - start).norm()
    assert moved > 0.1 and (ours - theirs).norm() < 0.03 * moved


def test_adamw_moves_as_pytorchs_own_to_the_bit() -> None:
    start, rng = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0)), np.random.default_rng(1)
    ours, theirs = ([torch.nn.Parameter(part.clone()) for part in start] for _ in range(2))
    a = AdamW(ours, lr=0.02, weight_decay=0.1)
    b = torch.optim.AdamW(theirs, lr=0.02, weight_decay=0.1, betas=(0.9, 0.95), fused=True)
    for factor in (0.1, 1.0, 0.7, 0.3, 0.0):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.from_numpy(rng.normal(size=one.shape)).float()
            other.grad = one.grad.clone()
        b.param_groups[0]["lr"] = 0.02 * factor
        a.step(factor)
        b.step()
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))
    assert not any(torch.equal(one, before) for one, before in zip(ours, start, strict=True))


@pytest.mark.parametrize("name", ["muon", "adamw"])
def test_a_step_imports_no_compiler(name: str) -> None:
    """torch.optim.Optimizer imports torch._dynamo when it is made, for a second or two."""
    code = (
        "import sys, torch; from manako.training.optim import Optimizers\n"
        "net = torch.nn.ModuleDict({'h': torch.nn.Linear(4, 4)}); net.h(torch.ones(2, 4)).sum().backward()\n"
        f"Optimizers(net, {name!r}, 0.1, 0.1, 0.1, torch.float32).step(1.0)\n"
        "torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_c_attn_is_three_matrices() -> None:
    whole = torch.nn.Parameter(torch.zeros(4, 12))
    whole.grad = torch.from_numpy(np.random.default_rng(0).normal(size=(4, 12))).float()
    parts = [torch.nn.Parameter(torch.zeros(4, 4)) for _ in range(3)]
    for part, gradient in zip(parts, whole.grad.chunk(3, 1), strict=True):
        part.grad = gradient.clone()
    for parameters in ([whole], parts):
        Muon(parameters, lr=0.1).step()
    assert torch.allclose(whole, torch.cat(parts, 1), atol=1e-6) and whole.abs().max() > 0.01


def optimizers(name: str = "muon") -> tuple[GPT, Optimizers]:
    torch.manual_seed(0)
    model = GPT(toy_config())
    return model, Optimizers(model, name, 1e-2, 0.02, 0.1, torch.float32)


def test_muon_takes_the_matrices_of_the_blocks_and_only_matrices_decay() -> None:
    model, made = optimizers()
    matrices, vectors, muon = made.parts
    names = {p: n for n, p in model.named_parameters()}
    taken = {names[p] for p in muon.state}
    assert taken == {n for n, p in model.named_parameters() if n.startswith("h.") and p.dim() == 2} and taken
    assert isinstance(matrices, AdamW) and matrices.weight_decay == 0.1
    assert isinstance(vectors, AdamW) and vectors.weight_decay == 0.0
    assert {p.dim() for p in vectors.state} == {1}
    everything = [p for part in made.parts for p in part.state]
    assert len(everything) == len(set(everything)) == len(names)
    assert len(optimizers("adamw")[1].parts) == 2


@pytest.mark.parametrize("name", ["muon", "adamw"])
def test_state_goes_out_and_in_without_a_bit_changed(name: str) -> None:
    ids = torch.arange(8)[None]

    def go(model: GPT, made: Optimizers, steps: int) -> None:
        for _ in range(steps):
            model.loss(ids[:, :-1], ids[:, 1:]).backward()
            made.step(0.5)

    model, made = optimizers(name)
    go(model, made, 3)
    again, second = optimizers(name)
    again.load_state_dict(model.state_dict())
    second.restore({n: v.clone() for n, v in made.state().items()}, Path("state"))
    go(model, made, 3)
    go(again, second, 3)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize("kind", ["linear", "cosine", "wsd"])
def test_schedules_warm_up_and_fall(kind: str) -> None:
    rates = [schedule(kind, step, (step - 1) / 1000, 50) for step in range(1, 1001)]
    assert rates[0] == pytest.approx(1 / 50, rel=0.02) and max(rates) <= 1 and rates.index(max(rates)) == 49
    assert all(a >= b for a, b in zip(rates[49:], rates[50:], strict=False))
    assert rates[-1] == pytest.approx({"linear": 1 / 1000, "cosine": 0.1, "wsd": 1 / 300}[kind], rel=0.01)
    assert (rates[600] == 1) == (kind == "wsd")


def test_a_short_run_warms_up_for_a_fifth_of_it_at_most() -> None:
    assert [schedule("wsd", 1 + step, step / 10, 100) for step in range(4)] == [0.01, 0.5, 1.0, 1.0]
