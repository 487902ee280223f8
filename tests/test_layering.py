"""The laws of the house: which room may import which, who may use which library, and what stays unloaded.

The rows are those of docs/architecture.md.
"""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sources import last_name, parsed
from toy import toy_model, write_toy

import manako
from manako.cli import COMMANDS
from manako.trace.schema import CAPTURE_COLUMNS, CAPTURES, COLUMNS

SOURCE = Path(manako.__file__).parent

ROWS = (  # a room imports rooms of earlier rows, and itself; never one of its own row or of a later one
    ("messages",),
    ("errors", "checks", "frozen", "sentencepiece"),
    ("files", "memory", "sampling", "encoder", "token_ids", "token_table"),
    ("trace", "tokenizer"),
    ("corpus", "settings"),
    ("settings",),
    ("families",),
    ("formats",),
    ("engines", "training"),
    ("refs",),
    ("refs",),
    ("model",),
    ("analysis",),
    ("views",),
    ("server", "tui", "experiments"),
    ("cli",),
    ("__main__",),
)
EXCEPTIONS = {  # (importer, imported): why. All of them happen inside a function, when it is called, or for a type.
    ("trace", "views"): "the display methods: a record shows itself in a terminal or a notebook",
    ("trace", "analysis"): "a step answers what one asks of it: step.attention(), step.lens(), step.why()",
}
ONLY = {  # a room that may import nothing but these of ours, whatever its row allows: the reading side of the hourglass
    "analysis": (
        "messages",
        "errors",
        "checks",
        "frozen",
        "files",
        "sampling",
        "trace",
        "tokenizer",
        "corpus",
        "settings",
    ),
    "views": ("messages", "errors", "files", "sampling", "trace", "analysis"),
}
THIRD_PARTY = {  # library: rooms or files that may use it; whatever is not named here is not used at all
    "numpy": (
        "frozen",
        "corpus",
        "sampling",
        "token_ids",
        "trace",
        "families",
        "formats",
        "engines",
        "model",
        "training",
        "analysis",
        "views",
        "experiments",
        "server",
        "tui",
    ),
    "safetensors": ("trace", "formats", "training"),
    "gguf": ("formats/gguf",),
    "tokenizers": ("tokenizer", "encoder"),
    "pyarrow": ("corpus/archives", "corpus/rows", "experiments/results"),
    "ray": ("experiments/on_ray",),
    "scipy": ("analysis/scaling",),
    "matplotlib": ("views/plots",),
    "torch": ("training", "engines/hf_engine", "engines/hf_parts"),
    "transformers": ("engines/hf_engine", "engines/hf_parts", "formats/hf_folder"),
    "jinja2": ("formats/chat_template",),
    "huggingface_hub": ("formats/hf_folder",),
    "rich": ("views", "tui", "cli"),
    "click": ("cli",),
    "starlette": ("server", "cli"),
    "uvicorn": ("server", "cli"),
    "textual": ("tui",),
}


def modules() -> list[str]:
    """Every module below the package, such as "corpus.split"; a package's own file has its name."""
    names = (p.relative_to(SOURCE).with_suffix("").as_posix().replace("/", ".") for p in SOURCE.rglob("*.py"))
    return sorted(name.removesuffix(".__init__") for name in names if name != "__init__")


def path_of(module: str) -> Path:
    path = SOURCE / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def imports(tree: ast.AST) -> Iterator[tuple[str, bool]]:
    """(full name, whether it is loaded with the module) of everything imported, `if TYPE_CHECKING` included."""
    inside = {
        id(node)
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        or (isinstance(outer, ast.If) and getattr(outer.test, "id", "") == "TYPE_CHECKING")
        for node in ast.walk(outer)
    }
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute, so that this test and a reader can find them"
            module = str(node.module)
            names = [f"manako.{alias.name}" for alias in node.names] if module == "manako" else [module]
        elif isinstance(node, ast.Call) and last_name(node.func).endswith("import_module"):
            argument = node.args[0]
            names = [argument.value] if isinstance(argument, ast.Constant) else []
        for name in names:
            yield name, id(node) not in inside


def room(module: str) -> str:
    return module.split(".")[0]


def row(name: str) -> int:
    return next(i for i, rooms in enumerate(ROWS) if name in rooms)


def violations(module: str, tree: ast.AST) -> list[str]:
    """What this module imports against the law."""
    found, here = [], room(module)
    for name, at_top in imports(tree):
        top, _, rest = name.partition(".")
        if top == "manako":
            there = room(rest)
            if rest in ("", "__version__") or there == here:
                continue
            if (here, there) in EXCEPTIONS and not at_top:
                continue
            if row(there) >= row(here) or there not in ONLY.get(here, (there,)):
                found.append(f"{module} imports {name}")
        elif top not in sys.stdlib_module_names:
            allowed = THIRD_PARTY.get(top, ())
            if here not in allowed and module.replace(".", "/") not in allowed:
                found.append(f"{module} uses {top}")
    return found


def test_every_room_stands_in_the_table() -> None:
    assert {room(m) for m in modules()} == {name for rooms in ROWS for name in rooms}


def test_imports_follow_the_table_of_rooms() -> None:
    trees = {module: parsed(path_of(module).read_text(encoding="utf-8")) for module in modules()}
    assert [found for module, tree in trees.items() for found in violations(module, tree)] == []


@pytest.mark.parametrize(("module", "source", "count"), [
    ("sampling", "from manako.trace.record import Trace", 1),
    ("sampling", "from manako.trace import record", 1),
    ("sampling", "def f():\n    import manako.trace.record", 1),
    ("sampling", "from manako.files import megabytes", 1),  # a sibling
    ("engines.generation", "from manako.training.model import GPT", 1),
    ("training.loop", "from manako.engines.generation import Generation", 1),
    ("training.loop", "import torch", 0),
    ("model", "import torch", 1),
    ("engines.hf_engine", "import torch, transformers", 0),
    ("corpus.split", "from manako.corpus.documents import Document\nfrom manako.files import read_regular", 0),
    ("trace.record", "from manako.views.terminal import steps", 1),  # lazily, or not at all
    ("trace.record", "def f():\n    from manako.views.terminal import steps", 0),
    ("trace.record", "from manako.analysis.lens import lens", 1),
    ("trace.record", "if TYPE_CHECKING:\n    from manako.analysis.lens import LensStep", 0),
    ("trace.record", "if TYPE_CHECKING:\n    from manako.model import Model", 1),
    ("views.html", "from manako.model import load", 1),
    ("views.document", "from manako.corpus.packed import Packed", 1),
    ("analysis.lens", "from manako.engines.generation import Generation", 1),
    ("analysis.lens", "from manako.trace.record import Trace", 0),
    ("views.terminal.steps", "from manako.cli import say", 1),
    ("server.http", "from manako.cli import say", 1),
    ("server.generations", "from manako.model import Model", 0),
    ("files", "from manako import messages, __version__", 0),
    ("formats.model_folder", "import tokenizers", 1),
    ("cli.watch", "import requests", 1),
    ("trace.record", "import importlib\nimportlib.import_module('manako.cli')", 1),
])  # fmt: skip
def test_negative_control_the_law_sees_what_breaks_it(module: str, source: str, count: int) -> None:
    assert len(violations(module, parsed(source))) == count


# --- families ---------------------------------------------------------------------------------------------------------

FAMILY_CLASSES = {
    node.name
    for file in (SOURCE / "families").glob("*.py")
    for node in ast.walk(parsed(file.read_text(encoding="utf-8")))
    if isinstance(node, ast.ClassDef)
}


def family_questions(tree: ast.AST) -> list[str]:
    """Where code asks which family it has: isinstance, issubclass, `type(x) is` and class patterns."""
    asked: list[tuple[ast.AST, ast.AST]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and last_name(node.func) in ("isinstance", "issubclass"):
            asked.append((node, node.args[1]))
        elif isinstance(node, ast.Compare) and ast.unparse(node.left).startswith("type("):
            asked += [(node, other) for other in node.comparators]
        elif isinstance(node, ast.MatchClass):
            asked.append((node, node.cls))
    names = [(node, last_name(part)) for node, of in asked for part in ast.walk(of)]
    return [ast.unparse(node) for node, name in names if name in FAMILY_CLASSES]


def test_no_code_outside_families_asks_which_family_it_has() -> None:
    for module in modules():
        if room(module) != "families":
            assert (module, family_questions(parsed(path_of(module).read_text(encoding="utf-8")))) == (module, [])


@pytest.mark.parametrize(("source", "count"), [
    ("isinstance(config, ModelConfig)", 1),
    ("isinstance(config, (int, llama.LlamaConfig))", 1),
    ("issubclass(kind, NumpyGPT2)", 1),
    ("type(config) is ModelConfig", 1),
    ("match config:\n    case LlamaConfig(): ...", 1),
    ("isinstance(config, int)", 0),
    ("def f(config: ModelConfig) -> None: ...", 0),
])  # fmt: skip
def test_negative_control_such_a_question_is_seen(source: str, count: int) -> None:
    assert len(family_questions(parsed(source))) == count


# --- names of columns and captures ------------------------------------------------------------------------------------

PART_OF = "works on the columns of a part, number by number"
LACKS = "says what a model lacks, capture by capture"
SWITCH = "a switch of the model's own shape has the same name"
COMMAND = "a command has the same name"
TRAINING = "the record of a training has columns of the same names"
MAY_NAME = {  # file outside trace/ that spells a column or capture: why
    "analysis/compact.py": PART_OF,
    "analysis/dynamics.py": TRAINING,
    "analysis/partial.py": PART_OF,
    "analysis/verification.py": PART_OF,
    "cli/__init__.py": COMMAND,
    "cli/attention.py": COMMAND,
    "cli/lens.py": COMMAND,
    "tui/keys.py": "a tab has the same name",
    "experiments/dynamics.py": TRAINING,
    "training/run.py": SWITCH,
    "engines/ablation.py": SWITCH,
    "engines/captures.py": "its recorders make the columns",
    "engines/generation.py": PART_OF,
    "engines/recomputing.py": PART_OF,
    "engines/hf_engine.py": LACKS,
    "engines/session.py": LACKS,
    "families/gpt2.py": LACKS,
}


def spelled(tree: ast.AST) -> set[str]:
    """Names of captures, and of columns that only some traces have, that stand as text in a module."""
    groups = (COLUMNS["part"], *CAPTURE_COLUMNS.values())
    names = {*CAPTURES, *(column for group in groups for column in group)} - {"entropy"}  # a word of its own
    return {
        n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str) and n.value in names
    }


def test_columns_and_captures_are_named_in_one_room() -> None:
    files = {path.relative_to(SOURCE).as_posix(): path for path in SOURCE.rglob("*.py")}
    found = {name for name, path in files.items() if spelled(parsed(path.read_text(encoding="utf-8")))}
    assert {name for name in found if not name.startswith("trace/")} == MAY_NAME.keys()
    assert spelled(parsed("if 'lens' in wanted: part['part_id']")) == {"lens", "part_id"}


# --- what stays unloaded ----------------------------------------------------------------------------------------------

HEAVY = (
    "torch",
    "transformers",
    "gguf",
    "yaml",
    "requests",
    "tqdm",
    "starlette",
    "uvicorn",
    "rich",
    "click",
    "jinja2",
    "matplotlib",
    "http.client",
    "asyncio",
)


def loaded_after(code: str, *arguments: str) -> set[str]:
    """Names in sys.modules of a fresh Python after this code."""
    code = f"import json, sys\n{code}\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_manako_loads_next_to_nothing() -> None:
    names = loaded_after("import manako")
    assert not names & {*HEAVY, "numpy", "safetensors", "tokenizers"}
    assert {n for n in names if n.startswith("manako")} == {"manako"}


def test_opening_a_record_needs_no_model_and_no_torch(tmp_path: Path) -> None:
    toy_model().trace("私は", max_new_tokens=3, seed=0).save(tmp_path / "t.manako")
    code = "import manako\nt = manako.open(sys.argv[1]); t.steps[0].candidates[:3]; t.text; manako.verify(t)"
    names = loaded_after(code, str(tmp_path / "t.manako"))
    assert "numpy" in names and not names & {*HEAVY, "tokenizers", "manako.formats.model_folder", "manako.model"}


def test_loading_a_model_and_tracing_needs_no_torch(tmp_path: Path) -> None:
    write_toy(tmp_path / "m")
    code = (
        "import manako\nm = manako.load(sys.argv[1]); m.trace('私', max_new_tokens=2); m.score('私'); m.evaluate('私')"
    )
    names = loaded_after(code, str(tmp_path / "m"))
    assert not names & set(HEAVY)


def test_negative_control_a_heavy_import_is_seen() -> None:
    assert "asyncio" in loaded_after("import manako, asyncio")


@pytest.mark.slow
def test_importing_every_light_module_changes_no_setting() -> None:
    """Importing does nothing: no environment, hooks, warnings filters, signal handlers or working folder changed."""
    names = [m for m in modules() if not m.startswith(("training", "__main__", "engines.hf_"))]
    code = f"""
import os, signal, warnings, locale, random
def state():
    return (dict(os.environ), sys.excepthook, sys.displayhook, list(warnings.filters), os.getcwd(), random.getstate(),
            [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)], sys.path[:],
            sys.getrecursionlimit(), sys.stdout, locale.setlocale(locale.LC_ALL))
import numpy, safetensors.numpy, tokenizers, click, rich.console
before = state()
import importlib
for name in {names!r}:
    importlib.import_module("manako." + name)
changed = [i for i, (a, b) in enumerate(zip(before, state())) if a != b]
assert changed == [], changed
"""
    loaded_after(code)


# --- the public list --------------------------------------------------------------------------------------------------


def test_the_public_list_is_proved() -> None:
    assert sorted(manako._HOMES) == manako.__all__ == sorted(set(manako.__all__)) == dir(manako)
    for name in manako.__all__:
        assert getattr(manako, name).__name__.rpartition(".")[2] == name
    with pytest.raises(AttributeError, match="no_such_name"):
        manako.no_such_name  # noqa: B018


def test_type_checkers_see_the_same_homes() -> None:
    tree = parsed((SOURCE / "__init__.py").read_text(encoding="utf-8"))
    typed = {
        alias.name: node.module
        for outer in tree.body
        if isinstance(outer, ast.If)
        for node in outer.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert typed == manako._HOMES


def test_a_star_import_gives_the_public_list() -> None:
    names: dict[str, object] = {}
    exec("from manako import *", names)
    assert set(manako.__all__) <= names.keys()


def test_only_refs_spells_a_prefix() -> None:
    """Of the strings that a program runs on; docstrings and the catalog may explain them."""
    found = []
    for module in modules():
        tree = parsed(path_of(module).read_text(encoding="utf-8"))
        explained = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            text = node.value if isinstance(node, ast.Constant) and id(node) not in explained else None
            if isinstance(text, str) and (text == "demo" or text.startswith(("run:", "gguf:", "hf:", "openai:"))):
                found.append((module, text))
    assert {module for module, _ in found} == {"refs"}, found


def test_no_command_imports_another() -> None:
    """What two commands share has a module of its own, in a room below where it is of use to a program as well."""
    commands = set(COMMANDS.values())
    for module in commands:
        tree = parsed(path_of(module.removeprefix("manako.")).read_text(encoding="utf-8"))
        assert not {name for name, _ in imports(tree)} & commands - {module}, module
