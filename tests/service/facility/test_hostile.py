"""The hostile holdings, as clients see them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from icatfs.facility.holdings import hostile
from icatfs.facility.holdings.hostile_facts import (
    LARGE_IDS,
    LONG_NAMES,
    ODD_FILES,
    ODD_NAMES,
    PATH_NAMES,
    REPEATED_NAME,
    REPEATED_VISITS,
)
from icatfs.facility.testing import FacilityHandle, running_facility

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def facility() -> Iterator[FacilityHandle]:
    with running_facility("--holdings", "hostile") as handle:
        yield handle


def files_of(facility: FacilityHandle, dataset: str) -> dict[str, int]:
    query = (
        "SELECT df.id, df.name FROM Datafile df WHERE df.dataset.investigation.name = 'odd-files'"
        f" AND df.dataset.name = '{dataset}' ORDER BY df.id"
    )
    return {name: number for number, name in facility.search(query)}


def test_the_names_are_all_different() -> None:
    for names in (ODD_NAMES + LONG_NAMES, PATH_NAMES, tuple(file.name for file in ODD_FILES)):
        assert len(set(names)) == len(names)
    assert all(len(name) <= 255 for name in (*ODD_NAMES, *LONG_NAMES, *PATH_NAMES))


@pytest.mark.parametrize(
    ("dataset", "names"), [("names", ODD_NAMES), ("paths", PATH_NAMES), ("long", LONG_NAMES)]
)
def test_every_odd_name_is_a_file_with_its_bytes(
    facility: FacilityHandle, dataset: str, names: tuple[str, ...]
) -> None:
    files = files_of(facility, dataset)
    assert tuple(files) == names
    for name, number in files.items():
        assert facility.content(number) == hostile.plain_bytes(name)


def test_every_odd_name_is_an_investigation_a_visit_and_a_dataset(
    facility: FacilityHandle,
) -> None:
    odd = {*ODD_NAMES, *LONG_NAMES}
    assert odd <= set(facility.search("SELECT i.name FROM Investigation i"))
    visits = "SELECT i.visitId FROM Investigation i WHERE i.name = 'odd-visits'"
    assert set(facility.search(visits)) == odd
    datasets = "SELECT ds.name FROM Dataset ds WHERE ds.investigation.name = 'odd-datasets'"
    assert set(facility.search(datasets)) == odd


def test_names_that_differ_in_case_only_are_told_apart(facility: FacilityHandle) -> None:
    for name in ("Case", "case", "CASE"):
        query = f"SELECT i.name FROM Investigation i WHERE i.name = '{name}'"
        assert facility.search(query) == [name]


def test_a_proposal_has_several_visits(facility: FacilityHandle) -> None:
    query = f"SELECT i.visitId FROM Investigation i WHERE i.name = '{REPEATED_NAME}'"
    assert set(facility.search(query)) == set(REPEATED_VISITS)


@pytest.mark.parametrize("entity", ["Investigation", "Dataset", "Datafile"])
def test_ids_need_more_than_31_bits(facility: FacilityHandle, entity: str) -> None:
    for number in LARGE_IDS:
        assert facility.search(f"SELECT e.id FROM {entity} e WHERE e.id = {number}") == [number]


def test_sizes_times_and_checksums_are_as_odd_as_they_are_said_to_be(
    facility: FacilityHandle,
) -> None:
    query = (
        "SELECT df.name, df.fileSize, df.datafileModTime, df.checksum, df.location"
        " FROM Datafile df WHERE df.dataset.name = 'facts'"
    )
    rows = {row[0]: row[1:] for row in facility.search(query)}
    assert rows["size-null.dat"][0] is None
    assert rows["size-too-small.dat"][0] == 9
    assert rows["times-null.dat"][1] is None
    assert rows["time-before-1970.dat"][1] == "1969-07-20T20:17:40.000Z"
    assert rows["checksum-short.dat"][2] == "abc"
    assert rows["checksum-padded.dat"][2] == "00000abc"
    assert rows["checksum-upper.dat"][2] == rows["checksum-upper.dat"][2].upper()
    assert rows["location-null.dat"][3] is None
    assert rows["location-unc.txt"][3].startswith("\\\\isis\\inst$")
    assert rows["location-shared-1.dat"][3] == rows["location-shared-2.dat"][3]


def test_rewritten_files_have_new_ids_under_their_old_names(facility: FacilityHandle) -> None:
    files = files_of(facility, "replaced")
    assert set(files) == {"result.dat", "report.txt"}
    for number in files.values():
        assert facility.content(number) == b"later version\n"


def test_some_containers_are_empty(facility: FacilityHandle) -> None:
    assert files_of(facility, "empty") == {}
    query = "SELECT COUNT(ds) FROM Dataset ds WHERE ds.investigation.name = 'empty'"
    assert facility.search(query) == [0]
