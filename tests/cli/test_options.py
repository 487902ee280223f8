"""One set of options everywhere: which command has which, and that each means the same wherever it stands."""

import json
from collections import defaultdict

import click
import pytest
from commands import Run, every_command

NAMES = ("--step", "--top", "--layer", "--head", "--model", "--data", "--json", "--plain", "--color")
TABLE = """
                 step  top  layer  head  model  data  json  plain  color
watch             x     x     .     .      x     .     x      x      x
step              x     x     .     .      x     .     .      x      x
compare           x     x     .     .      x     .     x      x      x
view              x     x     .     .      .     .     x      x      x
export html       .     .     .     .      x     .     .      .      .
export site       .     .     .     .      x     .     .      .      .
export trainer   .     .     .     .      .     .     .      .      .
export model      .     .     .     .      .     .     .      .      .
attention         x     x     x     x      x     .     x      x      x
lens              x     x     x     .      x     .     x      x      x
why               x     x     x     x      x     .     x      x      x
serve             .     .     .     .      x     .     .      .      .
verify            .     .     .     .      x     .     x      x      x
train             .     .     .     .      .     x     .      x      x
resume            .     .     .     .      .     x     .      x      x
dynamics          x     .     .     .      .     x     x      x      x
training-step     .     .     .     .      .     x     x      x      x
sweep             .     .     .     .      .     x     x      x      x
scaling           .     .     .     .      .     .     x      x      x
corpus build      .     .     .     .      .     .     .      .      .
corpus show       .     .     .     .      .     .     x      x      x
tokens            .     .     .     .      x     x     x      x      x
info              .     .     .     .      .     .     x      x      x
doctor            .     .     .     .      .     .     x      x      x
eval              .     .     .     .      x     x     x      x      x
evidence          x     x     .     .      x     x     x      x      x
import            .     .     .     .      .     .     .      .      .
"""
"""What has none, and why: a layer has no lens of one head; `view` and `scaling` read a file; `export model`, `info`,
`dynamics`, `training-step` and `import` are about what their argument names; where no figures are shown (export, serve,
import, corpus build) nothing can be plain or coloured."""
OWN = {  # options that differ on purpose -> the commands where they do
    "--data": {"train", "sweep"},  # texts, as many as one likes, where others take one packed corpus
}


def options() -> dict[str, dict[str, click.Option]]:
    """Command -> long name -> option, of every command that runs."""
    found: dict[str, dict[str, click.Option]] = {}
    for command, context in every_command():
        if not isinstance(command, click.Group):
            name = context.command_path.removeprefix("manako ")
            named = (p for p in command.params if isinstance(p, click.Option))
            found[name] = {flag: p for p in named for flag in p.opts}
    return found


def test_the_table_holds() -> None:
    head, *rows = (line for line in TABLE.splitlines() if line.strip())
    assert tuple(f"--{name}" for name in head.split()) == NAMES
    said = {" ".join(words[: -len(NAMES)]): words[-len(NAMES) :] for words in map(str.split, rows)}
    has = {name: ["x" if flag in mine else "." for flag in NAMES] for name, mine in options().items()}
    assert said == has


def test_every_command_has_a_language_and_tells_tracebacks() -> None:
    for name, mine in options().items():
        assert {"--lang", "--debug"} <= mine.keys(), name


@pytest.mark.parametrize("flag", [*NAMES, "--force", "--temperature", "--seed", "--max-new-tokens", "--out", "--save"])
def test_an_option_means_the_same_everywhere(flag: str) -> None:
    kinds = defaultdict[object, set[str]](set)
    for name, mine in options().items():
        if (option := mine.get(flag)) and name not in OWN.get(flag, ()):
            kind = (
                type(option.type),
                getattr(option.type, "whole", None),
                option.is_flag,
                len(min(option.opts, key=len)),
            )
            kinds[kind].add(name)
    assert len(kinds) == 1, dict(kinds)


def test_models_are_completed_wherever_they_are_asked_for() -> None:
    for name, mine in options().items():
        if option := mine.get("--model"):
            context = click.Context(click.Command(name))
            assert [c.value for c in option.shell_complete(context, "demo-")][:1] == ["demo-en"], name


def test_what_is_given_is_what_the_long_way_gives(run: Run, toy: str) -> None:
    asked = ("-m", toy, "-n", 3, "--seed", 4)
    whole = json.loads(run("watch", "私は", *asked, "--json").out)["steps"]
    assert json.loads(run("watch", "私は", *asked, "--json", "--step", 2).out)["steps"] == whole[1:2]
    one = run("watch", "私は", *asked, "--step", 2).out
    assert one.count("--- Step ") == 1 and "--- Step 2" in one
    assert run("watch", "私は", *asked, "--step", 4).code == 2
    table = run("tokens", "私は", "-m", toy).out
    assert table == run("tokens", "私は", "--with", toy).out and "私" in table
