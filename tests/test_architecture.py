"""The shape of the code: layers, who may import what, sizes, total tables."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from icatfs import content, errors
from icatfs.cli import exits

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(errors.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

LAYERS = [
    {"errors", "values"},
    {"config", "sharing", "hosts", "notify", "crashing", "process"},
    {"mover"},
    {"transport"},
    {"icat", "ids"},
    {"catalogue", "content", "recall", "staging"},
    {"fs"},
    {"fuse", "control"},
    {"commands", "tuning", "unsent"},
    {"daemon"},
    {"cli"},
    {"__main__"},
]
"""From the lowest to the highest; a module may import what is below its layer."""

SIBLINGS_MAY = {("ids", "icat")}
"""Imports within a layer: the data service borrows the session keeper's type."""

LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def part_of(path: Path) -> str:
    """The package or module of icatfs that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """Every module a file imports, also for type checking only."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_downwards(path: Path) -> None:
    part = part_of(path)
    if part in ("__init__", "facility"):
        return
    for module in imports(path):
        parts = module.split(".")
        if parts[0] != "icatfs" or len(parts) == 1 or parts[1] in (part, "__version__"):
            continue
        if part == "cli" and parts[1] == "facility":
            continue
        assert parts[1] in LEVEL, f"{module} has no layer"
        below = LEVEL[parts[1]] < LEVEL[part]
        assert below or (part, parts[1]) in SIBLINGS_MAY, f"{part} must not import {module}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_foreign_protocol_has_one_importer(path: Path) -> None:
    owners = {"pyfuse3": "fuse", "httpx": "transport", "httpcore": "transport"}
    for module in imports(path):
        owner = owners.get(module.split(".")[0])
        assert owner is None or part_of(path) == owner, f"only {owner} imports {module}"


def test_the_facility_shares_nothing_with_the_client_but_values() -> None:
    for path in PACKAGE.joinpath("facility").rglob("*.py"):
        for module in imports(path):
            if module.startswith("icatfs."):
                assert module.split(".")[1] in ("facility", "values"), f"{path}: {module}"


def test_only_the_command_line_prints() -> None:
    for path in MODULES:
        if part_of(path) == "cli" or name_of(path) == "facility/command.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = getattr(node, "func", None)
            assert getattr(called, "id", "") != "print", f"{path} prints"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_stays_readable_in_one_sitting(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def all_errors() -> list[type[errors.IcatfsError]]:
    return [
        one
        for _, one in inspect.getmembers(errors, inspect.isclass)
        if issubclass(one, errors.IcatfsError)
    ]


def test_the_map_of_content_names_every_module() -> None:
    words = set(re.findall(r"\w+", content.__doc__ or ""))
    names = {path.stem for path in MODULES if path.parent.name == "content"}
    assert names - {"__init__"} <= words


@pytest.mark.parametrize("error", all_errors(), ids=lambda error: error.__name__)
def test_every_error_has_an_exit_code_and_stands_in_the_tree(
    error: type[errors.IcatfsError],
) -> None:
    assert exits.exit_code(error("")) != exits.OK
    assert errors.__doc__ is not None
    assert error.__name__ in errors.__doc__


def test_the_readme_lists_every_exit_code() -> None:
    readme = PACKAGE.parent.joinpath("README.md").read_text(encoding="utf-8")
    for name, code in exits.table().items():
        assert f"| {code} |" in readme, f"exit code {code} of {name} is not in the README"
