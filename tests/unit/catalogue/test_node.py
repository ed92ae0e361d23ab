"""Nodes: exact times, keys, and the version of the content."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icatfs.catalogue.layout import LAYOUT, accepts_files, accepts_folders
from icatfs.catalogue.node import NodeKey, datafile_node, inside_key, nanoseconds, root_node
from icatfs.icat.records import DatafileRow
from icatfs.values import ContentVersion, DatafileId, DatasetId, Kind

CREATED = datetime(2020, 1, 1, tzinfo=UTC)
FOLDER = inside_key(DatasetId(7), "a/b")


def row(mod_time: datetime | None = None, create_time: datetime | None = None) -> DatafileRow:
    return DatafileRow(
        DatafileId(2**40), "a/b/c", None, mod_time, create_time, CREATED, CREATED, "ab", None
    )


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        (datetime(1970, 1, 1, tzinfo=UTC), 0),
        (datetime(1970, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))), 0),
        (datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC), -1_000_000_000),
        (datetime(2020, 2, 29, 12, 0, 0, 1000, tzinfo=UTC), 1_582_977_600_001_000_000),
        (datetime(2999, 12, 31, 23, 59, 59, tzinfo=UTC), 32_503_679_999_000_000_000),
    ],
)
def test_times_are_exact(moment: datetime, expected: int) -> None:
    assert nanoseconds(moment) == expected


@given(st.datetimes(timezones=st.just(UTC)))
def test_every_time_has_nanoseconds(moment: datetime) -> None:
    assert timedelta(microseconds=nanoseconds(moment) // 1000) == moment - datetime(
        1970, 1, 1, tzinfo=UTC
    )


def test_a_datafile_is_as_old_as_its_file() -> None:
    one, two = CREATED - timedelta(days=2), CREATED - timedelta(days=1)
    for record, expected in ((row(one, two), one), (row(None, two), two), (row(), CREATED)):
        assert datafile_node(FOLDER, "c", record).mtime_ns == nanoseconds(expected)


def test_the_version_tells_what_the_catalogue_does_not_know() -> None:
    node = datafile_node(FOLDER, "c", row())
    version = ContentVersion(DatafileId(2**40), None, nanoseconds(CREATED), "ab")
    assert node.version == version
    assert node.size == 0


def test_the_time_of_a_version_fits_into_64_bits() -> None:
    for year in (1, 2999):
        node = datafile_node(FOLDER, "c", row(datetime(year, 1, 1, tzinfo=UTC)))
        assert -(2**63) <= node.version.mtime_ns < 2**63
        assert node.mtime_ns == nanoseconds(datetime(year, 1, 1, tzinfo=UTC))


def test_a_folder_has_no_content() -> None:
    with pytest.raises(TypeError):
        root_node().version  # noqa: B018


def test_keys_tell_where_a_file_is() -> None:
    node = datafile_node(FOLDER, "c", row())
    assert node.parent == NodeKey(Kind.FOLDER, 7, "a/b")
    assert node.dataset_key == NodeKey(Kind.DATASET, 7) == inside_key(DatasetId(7), "")
    assert node.dataset_id == 7
    assert node.path_in_dataset == "a/b/c"
    assert root_node().path_in_dataset == ""
    assert not node.is_folder


def test_files_and_folders_can_be_made_in_datasets_and_datasets_in_visits() -> None:
    assert LAYOUT.keys() == set(Kind)
    assert [kind for kind in Kind if accepts_files(kind)] == [Kind.DATASET, Kind.FOLDER]
    assert [kind for kind in Kind if accepts_folders(kind)] == [
        Kind.VISIT,
        Kind.DATASET,
        Kind.FOLDER,
    ]
    assert LAYOUT[Kind.VISIT].new_folder is Kind.DATASET
