"""`manako verify`: draw every token of a saved trace again, and check what was captured, without its model."""

import math
from dataclasses import asdict
from pathlib import Path

import click

import manako
from manako.analysis.verification import verify
from manako.cli import common_options, complain, say, tell
from manako.cli.output import print_json


@click.command("verify", help=say("help.verify"))
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help=say("option.json"))
@common_options
def command(file: Path, as_json: bool) -> int:
    trace = manako.open(file)
    found = verify(trace)
    failed_checks = [check.name for check in trace.header.self_checks if not check.ok]
    good = found.ok and not failed_checks
    if as_json:
        keys = ("steps", "rederived", "unverifiable", "failure", "largest_error")
        checks = [
            asdict(check) | {"error": check.error if math.isfinite(check.error) else None, "ok": check.ok}
            for check in found.checks
        ]
        shown = {key: getattr(found, key) for key in keys} | {"checks": checks}
        print_json({"schema": "manako.verification/1", "ok": good} | shown)
        return 0 if good else 1
    if found.failure is not None:
        index, recorded, again = found.failure
        key = "verify.numbers" if again in (recorded, -1) else "verify.failed"
        return complain(say(key, step=index + 1, recorded=recorded, again=again), "E-VERIFY", 1)
    values = {"steps": found.steps, "rederived": found.rederived, "error": f"{found.largest_error:.1e}"}
    key = "verify.score" if trace.header.kind == "score" else "verify.ok"
    tell(say(key, **values))
    if found.unverifiable:
        tell(say("verify.partial", count=found.unverifiable))
    for check in found.checks:
        values = {"error": f"{check.error:.1e}", "limit": f"{check.limit:.0e}"}
        tell(say("check.ok" if check.ok else "check.failed", name=say(f"check.{check.name}"), **values))
    if wrong := [say(f"check.{check.name}") for check in found.checks if not check.ok]:
        return complain(say("verify.inside", names=", ".join(wrong)), "E-VERIFY", 1)
    if failed_checks:
        return complain(say("verify.checks", names=", ".join(failed_checks)), "E-VERIFY", 1)
    return 0
