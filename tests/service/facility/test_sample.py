"""The sample holdings, as clients see them."""

from __future__ import annotations

import io
import zlib
from typing import TYPE_CHECKING

import h5py
import pytest

from icatfs.facility.testing import FacilityHandle, running_facility

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def facility() -> Iterator[FacilityHandle]:
    with running_facility() as handle:
        yield handle


def count(facility: FacilityHandle, entity: str, user: str = "simple/root") -> int:
    (number,) = facility.search(f"SELECT COUNT(e) FROM {entity} e", user)
    assert isinstance(number, int)
    return number


def test_there_are_three_investigations_with_nine_datasets_and_eleven_files(
    facility: FacilityHandle,
) -> None:
    assert count(facility, "Investigation") == 3
    assert count(facility, "Dataset") == 9
    assert count(facility, "Datafile") == 11
    assert facility.search("SELECT SUM(df.fileSize) FROM Datafile df") == [1_253_330]


@pytest.mark.parametrize(
    ("user", "investigations", "datasets", "files"),
    [
        ("simple/root", 3, 9, 11),
        ("db/acord", 3, 9, 11),
        ("db/nbour", 3, 9, 11),
        ("simple/idsreader", 3, 9, 11),
        ("db/jbotu", 2, 6, 6),
        ("db/jdoe", 2, 6, 6),
        ("db/rbeck", 2, 6, 7),
        ("db/ahau", 1, 4, 5),
    ],
)
def test_everyone_sees_what_the_rules_allow(
    facility: FacilityHandle, user: str, investigations: int, datasets: int, files: int
) -> None:
    assert count(facility, "Investigation", user) == investigations
    assert count(facility, "Dataset", user) == datasets
    assert count(facility, "Datafile", user) == files


def test_every_file_has_stored_bytes_of_its_size_and_checksum(facility: FacilityHandle) -> None:
    rows = facility.search("SELECT df.id, df.fileSize, df.checksum FROM Datafile df")
    for number, size, checksum in rows:
        data = facility.content(number)
        assert len(data) == size
        assert checksum is None or zlib.crc32(data) == int(checksum, 16)


def test_nexus_and_hdf5_files_are_what_their_names_say(facility: FacilityHandle) -> None:
    query = "SELECT df.id FROM Datafile df WHERE df.name LIKE '%.nxs' OR df.name LIKE '%.hdf5'"
    numbers = facility.search(query)
    assert len(numbers) == 8
    for number in numbers:
        with h5py.File(io.BytesIO(facility.content(number)), "r") as file:
            assert len(file) == 1


def test_users_have_the_passwords_that_the_ready_line_tells(facility: FacilityHandle) -> None:
    for user in facility.users:
        assert facility.login(user)
