"""Our own source as trees, each text parsed once for all the tests that walk it."""

import ast
from functools import cache


@cache
def parsed(source: str) -> ast.Module:
    """The tree of a source text; nobody changes it."""
    return ast.parse(source)


def last_name(node: ast.AST) -> str:
    """What a name or an attribute ends with: "load" of `numpy.load`."""
    return getattr(node, "attr", getattr(node, "id", ""))
