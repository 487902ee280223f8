"""T2: no dangerous call in our own source; and the sizes that ask for a reason."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from sources import last_name, parsed

import manako

SOURCE = Path(manako.__file__).parent
FILES = sorted(p.relative_to(SOURCE).as_posix() for p in SOURCE.rglob("*.py"))

FORBIDDEN_MODULES = {
    "pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "jinja2", "imp", "runpy",
    "code", "codeop", "xmlrpc", "telnetlib", "yaml",
}  # fmt: skip
FORBIDDEN_BUILTINS = {"eval", "exec", "compile", "__import__", "execfile", "breakpoint"}
FORBIDDEN_CALLS = {  # by their last two names
    "torch.load", "torch.save", "np.load", "numpy.load", "os.system", "os.popen", "hub.load", "jit.load",
    "pd.read_pickle",
}  # fmt: skip
ALLOWED = {"safetensors.numpy.load"}  # the name ends as numpy's does; the format holds arrays alone
SANDBOXED = {  # templates of chats are programs: they run in Jinja's sandbox, in a process with limits (see there)
    "import jinja2", "import jinja2.ext", "import jinja2.sandbox",
}  # fmt: skip
FORBIDDEN_NAMES = {  # attribute or function, whatever it is called on
    "all_gather_object", "broadcast_object_list", "gather_object", "scatter_object_list", "send_object_list",
    "recv_object_list", "unsafe_load", "extractall", "execvp", "execv", "spawnv",
}  # fmt: skip


def dangers(source: str) -> Iterator[str]:
    """Every dangerous construct in a source text, with its line."""
    for node in ast.walk(parsed(source)):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [str(node.module)]
            yield from (f"{line}: import {n}" for n in names if n.split(".")[0] in FORBIDDEN_MODULES)
            if isinstance(node, ast.ImportFrom):
                imported = {f"{str(node.module).split('.')[-1]}.{a.name}" for a in node.names}
                yield from (f"{line}: {name}" for name in imported & FORBIDDEN_CALLS)
                yield from (f"{line}: {a.name}" for a in node.names if a.name in FORBIDDEN_NAMES)
        elif isinstance(node, ast.Name) and node.id in FORBIDDEN_BUILTINS:
            yield f"{line}: {node.id}"
        elif isinstance(node, ast.Attribute):
            called = f"{last_name(node.value)}.{node.attr}" in FORBIDDEN_CALLS and ast.unparse(node) not in ALLOWED
            if called or node.attr in FORBIDDEN_NAMES:
                yield f"{line}: {ast.unparse(node)}"
            if node.attr in FORBIDDEN_BUILTINS and ast.unparse(node).split(".")[0] in ("builtins", "__builtins__"):
                yield f"{line}: {ast.unparse(node)}"
        elif isinstance(node, ast.keyword):
            value = ast.unparse(node.value) if node.arg in ("allow_pickle", "shell", "trust_remote_code") else ""
            if node.arg == "allow_pickle" or (value and value != "False"):
                yield f"{line}: {node.arg}={value}"
        elif isinstance(node, ast.Call) and last_name(node.func).endswith("import_module"):
            argument = node.args[0]
            if isinstance(argument, ast.Constant) and str(argument.value).split(".")[0] in FORBIDDEN_MODULES:
                yield f"{line}: import_module {argument.value}"


def test_paths_are_asked_in_one_way() -> None:
    """By files.py, since pathlib takes what may not be looked at for nothing from Python 3.14 on."""
    asked = [
        (name, ast.unparse(node))
        for name in FILES
        for node in ast.walk(parsed((SOURCE / name).read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in ("exists", "is_file", "is_dir")
    ]
    assert asked == []


def test_threads_that_nobody_waits_for_start_in_one_place() -> None:
    """In cli/aside.py, which knows how a process ends beside one."""
    started = {
        name
        for name in FILES
        for node in ast.walk(parsed((SOURCE / name).read_text(encoding="utf-8")))
        if (isinstance(node, ast.keyword) and node.arg == "daemon")
        or (isinstance(node, ast.Attribute) and node.attr == "daemon")
    }
    assert started == {"cli/aside.py"}


def test_no_dangerous_call() -> None:
    texts = {file: (SOURCE / file).read_text(encoding="utf-8") for file in FILES}
    found = {f"{file}:{each.partition(': ')[2]}" for file, text in texts.items() for each in dangers(text)}
    assert found == {f"formats/chat_template.py:{each}" for each in SANDBOXED}


@pytest.mark.parametrize("source", [
    "import pickle",
    "import os, pickle as p",
    "from pickle import loads",
    "def f():\n    import marshal",
    "import shelve",
    "from jinja2 import Template",
    "import torch\ntorch.load(f)",
    "from torch import load",
    "torch.hub.load('x')",
    "np.load(f)",
    "np.load(f, allow_pickle=True)",
    "g(allow_pickle=False)",
    "eval('1')",
    "exec(code)",
    "f = eval",
    "builtins.eval('1')",
    "__import__('x')",
    "compile('1', '', 'eval')",
    "subprocess.run(c, shell=True)",
    "subprocess.run(c, shell=s)",
    "AutoModel.from_pretrained(x, trust_remote_code=True)",
    "dist.broadcast_object_list(x)",
    "from torch.distributed import all_gather_object",
    "os.system('x')",
    "tar.extractall('.')",
    "importlib.import_module('pickle')",
])  # fmt: skip
def test_negative_control_each_danger_is_seen(source: str) -> None:
    assert list(dangers(source))


@pytest.mark.parametrize("source", [
    "model.eval()",
    "re.compile('x')",
    "json.load(f)",
    "subprocess.run(c, shell=False)",
    "known = ('trust_remote_code', 'pickle')",
    "from manako.formats.pickle_reader import read_pickle",
    "'eval(x)'",
])  # fmt: skip
def test_harmless_look_alikes_pass(source: str) -> None:
    assert list(dangers(source)) == []


# --- sizes ------------------------------------------------------------------------------------------------------------

LONGEST_FILE, LONGEST_FUNCTION, MOST_PARAMETERS = 450, 70, 10
REASONS: dict[str, str] = {  # "file" or "file:function": why it is as large as it is
    "model.py:generate": "a public call that spells out the settings of a run, so that completion shows them",
    "trace/record.py": "the glossary of the whole program: one dataclass after another, half of it docstrings",
    "tui/app.py": "one screen: each key and each click is a method of a few lines",
    "sampling.py": "the whole way from logits to a token on one page; half of it docstrings with sources and examples",
}


def large(file: str, source: str) -> Iterator[str]:
    """Names of what is larger than the sizes that need no reason."""
    if len(source.splitlines()) > LONGEST_FILE:
        yield file
    for node in ast.walk(parsed(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            a = node.args
            given = [*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, (a.vararg, a.kwarg))]
            parameters = [p for p in given if p.arg not in ("self", "cls")]
            lines = (node.end_lineno or 0) - node.lineno + 1
            if lines > LONGEST_FUNCTION or len(parameters) > MOST_PARAMETERS:
                yield f"{file}:{node.name}"


def test_whatever_is_large_is_named_with_its_reason() -> None:
    found = {name for file in FILES for name in large(file, (SOURCE / file).read_text(encoding="utf-8"))}
    assert found - REASONS.keys() == set(), "split it where a noun appears, or name it in REASONS with a reason"
    assert REASONS.keys() - found == set(), "no longer large: take it off the list"


def test_negative_control_sizes_are_seen() -> None:
    wide = "def f(a, b, /, c, d, *e, f, g, h, i, j, **k): ..."
    assert list(large("x.py", wide)) == ["x.py:f"]
    assert list(large("x.py", wide.replace("a, ", "self, "))) == []
    assert list(large("x.py", "\n" * 451)) == ["x.py"]
    assert list(large("x.py", "def f():\n" + "    x = 1\n" * 70)) == ["x.py:f"]
