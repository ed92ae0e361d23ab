"""Where whole datasets are archived: what is changed here can be restored afterwards."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest
from support.mounts import Mounts, fails_with, until
from support.sample import VISIT

from icatfs.facility.testing import FacilityHandle, running_facility

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def facility() -> Iterator[FacilityHandle]:
    with running_facility("--storage", "dataset") as running:
        yield running


@pytest.fixture
def dataset(mounts: Mounts, facility: FacilityHandle, request: pytest.FixtureRequest) -> Path:
    """A dataset with two files, made through a mount, and written to the archive."""
    point = mounts.mount(facility, "-o", "ttl=1")
    path = point / VISIT / f"poison-{request.node.name[:60]}"
    path.mkdir()
    for name in "ab":
        (path / name).write_bytes(name.encode())
    written(facility)
    return path


def number(facility: FacilityHandle, dataset: Path) -> int:
    (found,) = facility.search(f"SELECT ds.id FROM Dataset ds WHERE ds.name = '{dataset.name}'")
    assert isinstance(found, int)
    return found


def written(facility: FacilityHandle) -> None:
    """Let the server write to the archive what waits for that."""
    facility.advance(3600)


def come_back(facility: FacilityHandle, dataset: Path) -> None:
    """Archive the dataset and bring it back; RuntimeError where that fails."""
    facility.archive(datasets=[number(facility, dataset)])
    facility.restore(datasets=[number(facility, dataset)])


def test_names_changed_here_are_those_that_the_archive_has(
    facility: FacilityHandle, dataset: Path
) -> None:
    (dataset / "a").rename(dataset / "renamed")
    (dataset / "b").write_bytes(b"another version")
    (dataset / "c").write_bytes(b"c")
    (dataset / "c").rename(dataset / "b")
    until(lambda: len(names(facility, dataset)) == 2)
    written(facility)
    come_back(facility, dataset)
    until(lambda: (dataset / "renamed").read_bytes() == b"a")
    assert (dataset / "b").read_bytes() == b"c"


def names(facility: FacilityHandle, dataset: Path) -> list[object]:
    return facility.search(
        f"SELECT df.name FROM Datafile df WHERE df.dataset.name = '{dataset.name}'"
    )


def test_nothing_in_an_archived_dataset_is_renamed(
    mounts: Mounts, facility: FacilityHandle, dataset: Path
) -> None:
    facility.archive(datasets=[number(facility, dataset)])
    with fails_with(errno.ENODATA):
        (dataset / "a").rename(dataset / "renamed")
    assert sorted(map(str, names(facility, dataset))) == ["a", "b"]
    assert "restore it first" in mounts.log()
    assert facility.counters()["restores"] == 0
    facility.restore(datasets=[number(facility, dataset)])
    (dataset / "a").rename(dataset / "renamed")
    assert sorted(map(str, names(facility, dataset))) == ["b", "renamed"]


def test_a_file_in_an_archived_dataset_is_refused_when_it_is_created(
    mounts: Mounts, facility: FacilityHandle
) -> None:
    """Also after a first read from tape, which tells that the facility archives whole datasets."""
    stored = mounts.mount(facility) / VISIT / "e208945"
    facility.archive(datasets=[number(facility, stored)])
    assert (stored / "e208945.dat").read_bytes()
    facility.archive(datasets=[number(facility, stored)])
    facility.reset_counters()
    before = names(facility, stored)
    with fails_with(errno.ENODATA):
        os.open(stored / "new", os.O_CREAT | os.O_WRONLY)
    assert facility.counters()["requests"].get("ids/put", 0) == 0
    assert facility.counters()["restores"] == 0
    assert names(facility, stored) == before
