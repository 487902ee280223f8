"""What the fast lane has shown in an environment of its own is not run again with the rest: `-p tests.support.shown`.

`--show=FILE` writes which tests passed there, `--shown=FILE` leaves them out; each is one word, since a file that
stands alone would be taken for tests, and for the root of all. Special here: only those are left out whose answer
could be no other. A test stays where it started a process, where its file asked for a package that is missing there
and is here, and all stay where a package that the program names in pyproject.toml has another version here.
"""

import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from importlib.metadata import DistributionFinder, PackageNotFoundError, distributions, requires, version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

STARTS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "os.exec"}  # audit events


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--show", metavar="FILE", help="write which tests passed, for --shown")
    parser.addoption("--shown", metavar="FILE", help="leave out what --show wrote, where nothing could differ")


def pytest_configure(config: pytest.Config) -> None:
    if config.option.show:
        config.pluginmanager.register(Showing(Path(config.option.show)))


def pytest_report_header(config: pytest.Config) -> str | None:
    return f"{len(shown(config))} tests of the fast lane are not run again" if config.option.shown else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.option.shown:
        names = shown(config)
        items[:] = [item for item in items if item.nodeid not in names]


class Showing(DistributionFinder):
    """Watches what each test asks for. As a finder behind all others it is asked for what nobody has found."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.place = ""  # the file whose tests are collected or run
        self.starts = False
        self.missing: defaultdict[str, set[str]] = defaultdict(set)
        self.passed, self.others = set[str](), set[str]()
        sys.meta_path.append(self)
        sys.addaudithook(self.heard)

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        if path is None:
            self.missing[self.place].add(name)

    def find_distributions(self, context: Any = None) -> Iterator[Any]:
        if context is not None and context.name:
            self.missing[self.place].add(context.name)
        return iter(())

    def heard(self, event: str, values: tuple[Any, ...]) -> None:
        self.starts |= event in STARTS

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self, collector: pytest.Collector) -> Any:
        self.place = collector.nodeid.partition("::")[0]
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        self.place, self.starts = item.nodeid.partition("::")[0], False
        result = yield
        if self.starts:
            self.others.add(item.nodeid)
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        is_good = report.passed and not hasattr(report, "wasxfail")
        (self.passed if is_good else self.others).add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        versions = {each.name: each.version for each in distributions()}
        missing = {place: sorted(names) for place, names in self.missing.items()}
        found = {"versions": versions, "missing": missing, "passed": sorted(self.passed - self.others)}
        self.file.write_text(json.dumps(found), encoding="utf-8")


def shown(config: pytest.Config) -> set[str]:
    return left_out(json.loads(Path(config.option.shown).read_text(encoding="utf-8")))


def left_out(found: dict[str, Any]) -> set[str]:
    """Of the tests that passed there, those that could give no other answer here."""
    if any(version(name) != there for name, there in found["versions"].items() if name in named()):
        return set()
    asked = {place for place, names in found["missing"].items() if any(map(is_here, names))}
    return {name for name in found["passed"] if name.partition("::")[0] not in asked}


def named() -> set[str]:
    """The packages that the program names, those for its tests and documentation aside."""
    found = [each for each in requires("manako") or [] if not re.search("extra == .(test|dev|docs)", each)]
    return {name[0] for each in found if (name := re.match(r"[\w.-]+", each))}


def is_here(name: str) -> bool:
    """Whether there is a package of this name, or a module."""
    try:
        return bool(version(name))
    except PackageNotFoundError:
        return find_spec(name) is not None
