"""The points of the program at which a test can have it killed, as its text has them."""

from __future__ import annotations

import ast
from pathlib import Path

import icatfs

_PACKAGE = Path(icatfs.__file__).parent


def named_points(package: str) -> set[str]:
    """The names of all points in a package of icatfs; one that is composed has ``*`` for a part."""
    return {
        _text(node.args[0])
        for path in (_PACKAGE / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "crash_point"
    }


def _text(argument: ast.expr) -> str:
    if isinstance(argument, ast.Constant):
        return str(argument.value)
    assert isinstance(argument, ast.JoinedStr), "a point has a name that can be read in the text"
    return "".join(
        str(part.value) if isinstance(part, ast.Constant) else "*" for part in argument.values
    )
