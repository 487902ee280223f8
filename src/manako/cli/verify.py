"""`manako verify`: draw every token of a saved trace again, and check what was captured, without its model."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from manako.analysis.verification import Verification, verify
from manako.cli import common_options
from manako.cli.console import fail, say, tell
from manako.cli.output import print_json
from manako.messages.numbers import small
from manako.trace.record import SelfCheck, Trace
from manako.trace.tree import Tree, open_tree


@click.command("verify", help=say("help.verify"))
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help=say("option.json"))
@common_options
def command(file: Path, as_json: bool) -> int:
    tree = open_tree(file)
    if (trace := tree.only) is None:
        return verify_tree(tree, as_json)
    found = verify(trace)
    wrong = problem(found)
    if as_json:
        print_json({"schema": "manako.verification/1"} | document(found))
        return 0 if wrong is None else 1
    if found.failure is None:
        tell(summary(trace, found))
        if found.unverifiable:
            tell(say("verify.partial", count=found.unverifiable))
        for check in found.checks:
            values = {"error": small(check.error), "limit": small(check.limit)}
            tell(say("check.ok" if check.ok else "check.failed", name=say(f"check.{check.name}"), **values))
        if wrong is None:
            tell(say("verify.itself"))
    return 0 if wrong is None else fail(wrong, "E-VERIFY")


def verify_tree(tree: Tree, as_json: bool) -> int:
    """A line for each branch: what holds on stdout, what does not on stderr."""
    found = [(branch, verify(branch.trace)) for branch in tree.branches]
    wrong = {branch.id: problem(each) for branch, each in found}
    code = 1 if any(wrong.values()) else 0
    if as_json:
        branches = [{"id": branch.id} | document(each) for branch, each in found]
        print_json({"schema": "manako.tree_verification/1", "ok": code == 0, "branches": branches})
        return code
    for branch, each in found:
        said = wrong[branch.id]
        line = say("verify.branch", id=branch.id, found=summary(branch.trace, each) if said is None else said)
        if said is None:
            tell(line)
        else:
            fail(line, "E-VERIFY")
    if not code:
        tell(say("verify.itself"))
    return code


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


def document(found: Verification) -> dict[str, Any]:
    """What was found, for a program."""
    keys = ("ok", "steps", "rederived", "unverifiable", "failure", "contradictions", "largest_error")
    return {key: getattr(found, key) for key in keys} | {"checks": [_check(check) for check in found.checks]}


def _check(check: SelfCheck) -> dict[str, Any]:
    return asdict(check) | {"error": check.error if math.isfinite(check.error) else None, "ok": check.ok}
