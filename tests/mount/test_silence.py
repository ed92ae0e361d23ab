"""A facility that takes a file and says nothing: ``close`` says so, and the file arrives once."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest
from support.badline import Came, Harm, Mishap, bad_line
from support.counting import Waiting, stored
from support.mounts import Mounts, fails_with
from support.sample import VISIT
from support.sizes import MIB

from icatfs.facility.testing import running_facility

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.badline import BadLine

    from icatfs.facility.handle import FacilityHandle

LIMIT_S = 3
NAME = "silence"


@pytest.fixture(scope="module")
def facility() -> Iterator[FacilityHandle]:
    with running_facility("--storage", "single") as running:
        yield running


@pytest.fixture(scope="module")
def line(facility: FacilityHandle) -> Iterator[tuple[BadLine, FacilityHandle]]:
    with bad_line(facility) as between:
        yield between


@pytest.fixture(scope="module")
def folder(module_mounts: Mounts, line: tuple[BadLine, FacilityHandle]) -> Iterator[Path]:
    """A dataset of a mount that waits for three seconds; what is asked once has been asked."""
    options = f"answer_wait={LIMIT_S},stream_after=1M"
    point = module_mounts.mount(line[1], "-o", options, user="simple/root")
    path = point / VISIT / NAME
    path.mkdir()
    (path / "first.dat").write_bytes(b"first")
    yield path
    assert module_mounts.unmount(point).returncode == 0


def close(path: Path, content: bytes, facility: FacilityHandle, *silent: str) -> None:
    """Write a file, and close it when these parts of the facility answer no more."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    written = 0
    while written < len(content):
        written += os.write(descriptor, content[written : written + MIB])
    facility.faults(*({"endpoint": endpoint, "kind": "stall"} for endpoint in silent))
    try:
        os.close(descriptor)
    finally:
        facility.clear_faults()


def test_a_put_that_is_never_answered_ends_with_the_limit_and_is_sent_once_later(
    module_mounts: Mounts, facility: FacilityHandle, folder: Path
) -> None:
    content, name = os.urandom(1000), "unanswered.dat"
    before = facility.counters()["puts"]
    with fails_with(errno.ETIMEDOUT):
        close(folder / name, content, facility, "ids/put")
    assert name not in stored(facility, NAME)
    waiting = Waiting(module_mounts)
    (kept,) = waiting.kept()
    assert (kept.shown, kept.content, kept.is_whole) == (f"{NAME}/{name}", content, True)
    assert waiting.send() == f"{NAME}/{name}: stored\n"
    assert stored(facility, NAME)[name] == content
    assert facility.counters()["puts"] == before + 1
    assert waiting.left() == []


@pytest.mark.parametrize("size", [1000, 5 * MIB])
def test_a_put_that_arrived_and_of_which_nobody_says_so_is_not_sent_again(
    module_mounts: Mounts,
    facility: FacilityHandle,
    line: tuple[BadLine, FacilityHandle],
    folder: Path,
    size: int,
) -> None:
    content, name = os.urandom(size), f"arrived-{size}.dat"
    before, stalls = facility.counters()["puts"], line[0].counted[Came.STALL]
    line[0].befall(Mishap(Harm.STALL, upward=False, after=1, seconds=10 * LIMIT_S))
    with fails_with(errno.ETIMEDOUT):
        close(folder / name, content, facility, "icat/")
    assert line[0].counted[Came.STALL] == stalls + 1
    assert stored(facility, NAME)[name] == content, "the facility has it, and nobody knows"
    waiting = Waiting(module_mounts)
    (kept,) = waiting.kept()
    assert (kept.shown, kept.content, kept.is_whole) == (f"{NAME}/{name}", content, True)
    assert waiting.send() == f"{NAME}/{name}: stored\n"
    assert stored(facility, NAME)[name] == content
    assert facility.counters()["puts"] == before + 1
    assert waiting.left() == []


def test_a_put_that_arrived_unanswered_is_found_and_close_tells_the_truth(
    facility: FacilityHandle, line: tuple[BadLine, FacilityHandle], folder: Path
) -> None:
    before = facility.counters()["puts"]
    line[0].befall(Mishap(Harm.STALL, upward=False, after=1, seconds=10 * LIMIT_S))
    (folder / "found.dat").write_bytes(b"found")
    assert line[0].is_quiet
    assert stored(facility, NAME)["found.dat"] == b"found"
    assert facility.counters()["puts"] == before + 1
