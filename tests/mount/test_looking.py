"""``icatfs ls``, ``find`` and ``du``: where data are, asked gently, and nothing brought back."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest
from support.mounts import Mounts
from support.sample import VISIT

from icatfs.facility.testing import FacilityHandle, running_facility

if TYPE_CHECKING:
    from collections.abc import Iterator

ARCHIVED, ONLINE = f"{VISIT}/e208945", f"{VISIT}/e208947"
DATASETS = 9
"""In the whole sample facility."""


class Looking:
    """A mount, and what looking at it printed."""

    def __init__(self, mounts: Mounts, facility: FacilityHandle) -> None:
        self.mounts = mounts
        self.facility = facility
        self.point = mounts.mount(facility)

    def run(self, command: str, path: str, *options: str) -> str:
        done = self.mounts.run(command, *options, self.point / path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def rows(self, command: str, path: str, *options: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = json.loads(self.run(command, path, "--json", *options))
        return rows

    def asked(self) -> int:
        count: int = self.facility.counters()["requests"].get("ids/getStatus", 0)
        return count


def tape(mounts: Mounts, storage: str) -> Iterator[Looking]:
    """One dataset of a visit is on tape."""
    with running_facility("--storage", storage) as facility:
        ids = facility.search("SELECT ds.id FROM Dataset ds WHERE ds.name = 'e208945'")
        if storage != "single":
            facility.archive(datasets=ids)
        looking = Looking(mounts, facility)
        facility.reset_counters()
        yield looking
        assert facility.counters()["restores"] == 0
        mounts.unmount(looking.point, "--lazy")


@pytest.fixture(params=["single", "dataset", "datafile"])
def looking(mounts: Mounts, request: pytest.FixtureRequest) -> Iterator[Looking]:
    yield from tape(mounts, request.param)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Looking]:
    """One mount for the tests that only look: of a facility that restores whole datasets."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("no /dev/fuse")
    folder = tmp_path_factory.mktemp("looking")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(folder))
        mounts = Mounts(folder)
        yield from tape(mounts, "dataset")
        mounts.clean()


@pytest.fixture
def of_datasets(shared: Looking, monkeypatch: pytest.MonkeyPatch) -> Looking:
    """The shared mount, with all counts at zero."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(shared.mounts.folder))
    shared.facility.reset_counters()
    return shared


@pytest.fixture
def of_datafiles(mounts: Mounts) -> Iterator[Looking]:
    yield from tape(mounts, "datafile")


def test_where_data_are_costs_one_question_a_dataset_and_no_restore(looking: Looking) -> None:
    looking.run("find", "", "--offline")
    assert looking.asked() <= DATASETS
    looking.facility.reset_counters()
    for command in ("ls", "find", "du"):
        looking.run(command, ONLINE, "--online")
    assert looking.asked() <= 3
    looking.facility.reset_counters()
    looking.run("find", ARCHIVED, "--files", "--offline")
    assert looking.asked() <= 1


def test_a_listing_tells_datasets_on_tape_from_those_on_disk(of_datasets: Looking) -> None:
    listed = of_datasets.run("ls", VISIT, "-l").splitlines()
    assert [line.split() for line in listed[:2]] == [
        ["ARCHIVED", "4", "files", "467.5", "KiB", "2012-07-30", "e208945"],
        ["ONLINE", "0", "files", "0", "B", "2012-08-06", "e208946"],
    ]
    assert len({line.index("KiB") for line in listed if "KiB" in line}) == 1, "not aligned"
    assert of_datasets.run("ls", VISIT, "--offline").split() == ["ARCHIVED", "e208945"]
    names = of_datasets.run("ls", VISIT, "--online").split()[1::2]
    assert names == ["e208946", "e208947", "pub-00027"]


def test_a_facility_folder_is_listed_without_asking_where_anything_is(
    of_datasets: Looking,
) -> None:
    assert of_datasets.run("ls", "ESNF").split() == ["08100122-EF", "10100601-ST", "12100409-ST"]
    assert of_datasets.asked() == 0


def test_a_single_file_is_asked_for_alone(of_datafiles: Looking) -> None:
    files = of_datafiles.facility.search(
        "SELECT df.id FROM Datafile df JOIN df.dataset ds"
        " WHERE ds.name = 'e208945' AND df.name = 'e208945.dat'"
    )
    of_datafiles.facility.restore(datafiles=files)
    name = str(of_datafiles.point / ARCHIVED / "e208945.dat")
    assert of_datafiles.run("ls", f"{ARCHIVED}/e208945.dat").split() == ["ONLINE", name]
    rows = of_datafiles.rows("ls", ARCHIVED, "--each")
    assert sorted(row["status"] for row in rows) == ["ARCHIVED"] * 3 + ["ONLINE"]
    sums = of_datafiles.rows("du", ARCHIVED, "--each", "-s")[0]
    assert (sums["online"], sums["files"]) == (459, 4)


def test_what_a_datasets_status_does_not_say_of_its_files_is_said_so(
    of_datasets: Looking,
) -> None:
    done = of_datasets.mounts.run("ls", of_datasets.point / ARCHIVED)
    assert done.stdout.count("ARCHIVED") == 4
    assert "--each asks for each" in done.stderr


def test_found_paths_begin_as_they_were_given(of_datasets: Looking) -> None:
    found = of_datasets.run("find", "ESNF", "--offline")
    assert found == f"{of_datasets.point / ARCHIVED}\n"
    zero = of_datasets.run("find", ARCHIVED, "--files", "--offline", "-0").split("\0")
    assert zero[0] == str(of_datasets.point / ARCHIVED / "e208341.nxs")
    assert len(zero) == 5


def test_sums_are_of_datasets_by_where_they_are(of_datasets: Looking) -> None:
    *rows, total = of_datasets.rows("du", "ESNF/12100409-ST")
    assert [row["path"] for row in rows] == [str(of_datasets.point / VISIT)]
    assert (total["offline"], total["files"]) == (478683, 6)
    assert total["online"] == rows[0]["online"] > 0
    printed = of_datasets.run("du", VISIT, "--offline").splitlines()
    assert printed[0].split() == ["offline"]
    assert printed[1].split() == ["467.5", "KiB", str(of_datasets.point / ARCHIVED)]


def test_a_name_that_the_catalogue_lacks_is_said_to_be_missing(of_datasets: Looking) -> None:
    done = of_datasets.mounts.run("ls", of_datasets.point / "ESNF/nonsense")
    assert done.returncode != 0
    assert "there is no 'nonsense'" in done.stderr


def test_a_dead_mount_is_said_to_be_dead(of_datafiles: Looking) -> None:
    os.kill(of_datafiles.mounts.status(of_datafiles.point)["pid"], signal.SIGKILL)
    done = of_datafiles.mounts.run("ls", of_datafiles.point / VISIT)
    assert done.returncode == 10
    assert "does not answer" in done.stderr
