"""An upload's answer whose id was changed on the way: no other file is changed because of it.

In plain HTTP nothing protects the id; here its last digit is changed to that of a neighbour.
"""

from __future__ import annotations

import itertools
import os
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from support.mounts import Mounts, until
from support.writable import Writable, writable_on

from icatfs.facility.testing import running_facility

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NEIGHBOUR, CONTENT, NEW = b"the neighbour", b"content", b"new content"
_numbers = itertools.count()


@pytest.fixture(scope="module")
def writable(module_mounts: Mounts) -> Iterator[Writable]:
    with running_facility("--storage", "single") as facility:
        yield from writable_on(module_mounts, facility, [])


def number_of(writable: Writable, name: str) -> int:
    (number,) = writable.facility.search(
        "SELECT df.id FROM Datafile df "
        f"WHERE df.dataset.name = '{writable.dataset.name}' AND df.name = '{name}'"
    )
    return int(number)


@pytest.fixture
def misnumbered(writable: Writable) -> tuple[Path, Path]:
    """A file that the mount takes for another one, which is its neighbour."""
    while True:  # until the next id differs from this one in the lowest bit of its last digit only
        neighbour = writable.dataset / f"neighbour-{next(_numbers)}"
        neighbour.write_bytes(NEIGHBOUR)
        number = number_of(writable, neighbour.name)
        if number % 2 == 0:
            break
    last_digit = len('{"id":') + len(str(number)) - 1
    writable.facility.faults(
        {"endpoint": "ids/put", "kind": "corrupt", "after_bytes": last_digit, "times": 1}
    )
    path = writable.dataset / f"file-{next(_numbers)}"
    path.write_bytes(CONTENT)
    assert number_of(writable, path.name) == number + 1
    assert int(os.getxattr(path, "user.icat.id")) == number
    return path, neighbour


def removed(writable: Writable, path: Path) -> bool:
    with suppress(FileNotFoundError):
        path.unlink()
    return path.name not in writable.catalogued()


def renamed(writable: Writable, path: Path) -> bool:
    new = path.with_name(f"{path.name}-renamed")
    with suppress(FileNotFoundError):
        path.rename(new)
    return writable.content(new.name) == CONTENT


def written_again(writable: Writable, path: Path) -> bool:
    path.write_bytes(NEW)
    return writable.content(path.name) == NEW


def replaced(writable: Writable, path: Path) -> bool:
    aside = path.with_name(f"{path.name}.part")
    aside.write_bytes(NEW)
    aside.rename(path)
    return writable.content(path.name) == NEW


def renamed_over(writable: Writable, path: Path) -> bool:
    other = path.with_name(f"{path.name}-other")
    other.write_bytes(NEW)
    other.rename(path)
    return writable.content(path.name) == NEW


def given_a_time(writable: Writable, path: Path) -> bool:
    os.utime(path, (1_600_000_000, 1_600_000_000))
    (time,) = writable.facility.search(
        f"SELECT df.datafileModTime FROM Datafile df WHERE df.name = '{path.name}'"
    )
    return str(time).startswith("2020-09-13")


def described(writable: Writable, path: Path) -> bool:
    os.setxattr(path, "user.icat.description", b"the sample at 4 K")
    (words,) = writable.facility.search(
        f"SELECT df.description FROM Datafile df WHERE df.name = '{path.name}'"
    )
    return bool(words == "the sample at 4 K")


@pytest.mark.parametrize(
    "change",
    [removed, renamed, written_again, replaced, renamed_over, given_a_time, described],
    ids=lambda one: one.__name__,
)
def test_what_is_changed_is_the_file_of_the_name_and_not_that_of_the_id(
    writable: Writable, misnumbered: tuple[Path, Path], change: Callable[[Writable, Path], bool]
) -> None:
    path, neighbour = misnumbered
    number = number_of(writable, neighbour.name)
    facts = "df.datafileModTime, df.description, df.name"
    entry = f"SELECT {facts} FROM Datafile df WHERE df.id = {number}"
    before = writable.facility.search(entry)
    assert change(writable, path)
    assert writable.facility.search(entry) == before
    assert writable.content(neighbour.name) == NEIGHBOUR
    until(lambda: not any(name.startswith(".icatfs-") for name in writable.catalogued()))
