"""`manako verify`: draw every token of a saved trace again, and check what was captured, or by it."""

from pathlib import Path
from typing import Any

import click

from manako.analysis.dynamics import verify_dynamics
from manako.analysis.verification import Verification, verify
from manako.cli.console import fail, say, while_read
from manako.cli.options import json_option, model_option, screen_options
from manako.cli.output import Screen, print_json
from manako.messages.numbers import small
from manako.model import load
from manako.trace.dynamics import Dynamics, dynamics_of, is_dynamics
from manako.trace.file import read_bytes, read_parts
from manako.trace.record import SelfCheck, Trace
from manako.trace.schema import CHECKS, check_limit
from manako.trace.tree import tree_of
from manako.views.terminal.steps import Look


@click.command("verify", help=say("help.verify"))
@click.argument("file", type=click.Path(path_type=Path))
@model_option("option.verify_model")
@json_option
@screen_options
def command(file: Path, ref: str | None, as_json: bool, plain: bool, color: str) -> int:
    screen = Screen(Look.top, plain, color)
    read = read_parts(read_bytes(file), str(file))
    if is_dynamics(read):
        return _dynamics(dynamics_of(read, str(file)), as_json, screen)
    tree = tree_of(read, str(file))
    model = load(ref) if ref else None
    found = [(branch.id, branch.trace, verify(branch.trace)) for branch in tree.branches]
    again = {id: model.recomputed(trace) for id, trace, _ in found} if model else {}
    own = model.info.dtype if model else ""
    wrong = {id: problem(each) or _not_again(again.get(id), ref, own, trace) for id, trace, each in found}
    code = 1 if any(wrong.values()) else 0
    if as_json:
        documents = [document(each, again.get(id)) for id, _, each in found]
        with while_read():
            if tree.only is not None:
                print_json({"schema": "manako.verification/1"} | documents[0])
            else:
                branches = [{"id": id} | each for (id, _, _), each in zip(found, documents, strict=True)]
                print_json({"schema": "manako.tree_verification/1", "ok": code == 0, "branches": branches})
        return code
    for id, trace, each in found:
        said = wrong[id]
        with while_read():
            if tree.only is not None:
                _tell(trace, each, screen)
            elif said is None:
                screen.tell(say("verify.branch", id=id, found=summary(trace, each)))
        if said is not None:
            fail(said if tree.only is not None else say("verify.branch", id=id, found=said), "E-VERIFY")
    if not code and again:
        worst = max(again.values(), key=lambda check: check.error)
        screen.tell(say("verify.recomputed", ref=ref, error=small(worst.error), limit=small(worst.limit)))
    elif not code:
        screen.tell(say("verify.itself"))
    return code


def _dynamics(found: Dynamics, as_json: bool, screen: Screen) -> int:
    """One text under the snapshots of a training: the columns, then each continuation."""
    result = verify_dynamics(found)
    said = [
        f"{step}: {line}"
        for step, each in zip(found.steps, result.continuations, strict=True)
        if (line := problem(each))
    ]
    if result.contradictions:
        said.insert(0, say("verify.contradictions", names=", ".join(result.contradictions)))
    if as_json:
        each = [{"step": step} | document(v, None) for step, v in zip(found.steps, result.continuations, strict=True)]
        wrong = list(result.contradictions)
        with while_read():
            print_json(
                {"schema": "manako.dynamics_verification/1", "ok": result.ok, "contradictions": wrong, "traces": each}
            )
    elif said:
        return fail(said[0], "E-VERIFY")
    else:
        names = ("steps", "rederived", "unverifiable")
        steps, drawn, outside = (sum(getattr(v, name) for v in result.continuations) for name in names)
        screen.tell(say("verify.dynamics", count=len(found), steps=steps, rederived=drawn))
        if outside:
            screen.tell(say("verify.partial", count=outside))
        screen.tell(say("verify.itself"))
    return 0 if result.ok else 1


def _tell(trace: Trace, found: Verification, screen: Screen) -> None:
    """What holds of one trace, and what could not be told."""
    if found.failure is not None:
        return
    screen.tell(summary(trace, found))
    if found.unverifiable:
        screen.tell(say("verify.partial", count=found.unverifiable))
    for check in found.checks:
        values = {"error": small(check.error), "limit": small(check.limit)}
        said = say("check.ok" if check.ok else "check.failed", name=say(f"check.{check.name}"), **values)
        screen.tell(said, "" if check.ok else "bold red")
    known = [check for check in (*found.checks, *found.recorded_checks) if check.name in CHECKS]
    if any(check.limit > check_limit(check.name, "float32", trace.header.rounded) for check in known):
        screen.tell(say("verify.dtype", dtype=trace.header.model.dtype))


def _not_again(check: SelfCheck | None, ref: str | None, own: str, trace: Trace) -> str | None:
    """In a sentence that the model gives other rows, if it does. own: what it computed in."""
    if check is None or check.ok:
        return None
    said = trace.header.model.dtype
    key = "verify.not_recomputed" if said == own else "verify.not_recomputed_dtype"
    return say(key, ref=ref, error=small(check.error), limit=small(check.limit), own=own, dtype=said)


def problem(found: Verification) -> str | None:
    """The first thing that does not hold, in a sentence."""
    if found.failure is not None:
        index, recorded, again = found.failure
        key = "verify.column" if again in (recorded, -1) else "verify.failed"
        return say(key, step=index + 1, recorded=recorded, again=again, name=", ".join(found.contradictions[:1]))
    if found.contradictions:
        return say("verify.contradictions", names=", ".join(found.contradictions))
    if wrong := [say(f"check.{check.name}") for check in found.checks if not check.ok]:
        return say("verify.inside", names=", ".join(wrong))
    if failed := [check.name for check in found.recorded_checks if not check.ok]:
        return say("verify.checks", names=", ".join(failed))
    return None


def summary(trace: Trace, found: Verification) -> str:
    """How many tokens were drawn again."""
    key = "verify.score" if trace.header.kind == "score" else "verify.ok"
    return say(key, steps=found.steps, rederived=found.rederived, error=small(found.largest_error))


def document(found: Verification, again: SelfCheck | None) -> dict[str, Any]:
    """What was found, for a program."""
    keys = ("steps", "rederived", "unverifiable", "failure", "contradictions", "largest_error")
    shown = {"ok": found.ok and (again is None or again.ok)} | {key: getattr(found, key) for key in keys}
    checks = {name: [_check(check) for check in getattr(found, name)] for name in ("checks", "recorded_checks")}
    return shown | checks | ({"model": _check(again)} if again else {})


def _check(check: SelfCheck) -> dict[str, Any]:
    return check.to_dict() | {"ok": check.ok}
