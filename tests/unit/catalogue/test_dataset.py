"""Datafile names as folders and files: everything reachable, nothing hidden."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icatfs.catalogue.blocks import blocks
from icatfs.catalogue.dataset import DatasetSnapshot, split
from icatfs.catalogue.listing import Listing
from icatfs.catalogue.node import NodeKey, dataset_node
from icatfs.icat.records import DatafileRow, DatasetRow
from icatfs.values import DatafileId, DatasetId, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from icatfs.catalogue.listing import Table
    from icatfs.catalogue.node import Node

CREATED = datetime(2020, 1, 1, tzinfo=UTC)
DATASET = DatasetRow(DatasetId(77), "ds", True, None, None, CREATED, CREATED, None, None)
VISIT = NodeKey(Kind.VISIT, 3)


def row(datafile: int, name: str) -> DatafileRow:
    return DatafileRow(DatafileId(datafile), name, 10, None, None, CREATED, CREATED, None, None)


def snapshot_of(*names: str) -> DatasetSnapshot:
    return DatasetSnapshot(DATASET, [row(i, name) for i, name in enumerate(names, 1)])


def walk(snapshot: DatasetSnapshot, folder: Node | None = None) -> Iterator[Node]:
    """All entries below a folder, as a reader finds them by listing."""
    folder = folder or dataset_node(VISIT, "ds", DATASET)
    table = snapshot.table(folder.path_in_dataset)
    assert table is not None
    for node in Listing(folder, table):
        yield node
        if node.is_folder:
            yield from walk(snapshot, node)


def appended(*names: str) -> DatasetSnapshot:
    """The same dataset, listed one row at a time."""
    snapshot = DatasetSnapshot(DATASET)
    for i, name in enumerate(names, 1):
        grow(snapshot, [row(i, name)])
    return snapshot


def grow(snapshot: DatasetSnapshot, rows: Sequence[DatafileRow]) -> None:
    for block in blocks(rows):
        for _ in snapshot.grow(block):
            pass


def files(snapshot: DatasetSnapshot) -> dict[str, int]:
    return {
        node.path_in_dataset: node.key.id for node in walk(snapshot) if node.kind is Kind.DATAFILE
    }


def top(snapshot: DatasetSnapshot) -> Table:
    table = snapshot.table("")
    assert table is not None
    return table


def check(snapshot: DatasetSnapshot, rows: Sequence[DatafileRow]) -> None:
    """Each datafile has a path of its own, by which, and by whose id, it is found."""
    nodes = list(walk(snapshot))
    paths = [node.path_in_dataset for node in nodes]
    assert len(paths) == len(set(paths))
    assert sorted(n.key.id for n in nodes if not n.is_folder) == sorted(r.id for r in rows)
    for node in nodes:
        assert snapshot.find(node.path_in_dataset) == node
        assert len(node.name.encode()) <= 255
        if not node.is_folder:
            assert snapshot.by_id(node.key.id) == node


def test_slashes_that_do_not_separate_do_not_show() -> None:
    snapshot = snapshot_of("/scan0001/a.h5", "scan0001//b.h5", "c.h5/", "//d.h5")
    assert files(snapshot) == {"scan0001/a.h5": 1, "scan0001/b.h5": 2, "c.h5": 3, "d.h5": 4}


def test_the_names_that_break_naive_clients_are_all_reachable_by_distinct_paths() -> None:
    names = ["", "/", ".", "a//b", "a/", "/a", "a/b", "a", "..", "%", "a/..", "./a", "%~3"]
    snapshot = snapshot_of(*names)
    assert files(snapshot) == {
        "%": 1,
        "%%~2": 2,
        "%2E%~3": 3,
        "a/b": 4,
        "a%~5": 5,
        "a%~6": 6,
        "a/b%~7": 7,
        "a%~8": 8,
        "%2E%2E": 9,
        "%25": 10,
        "a/%2E%2E": 11,
        "%2E/a": 12,
        "%25~3": 13,
    }
    check(snapshot, snapshot.rows)


def test_a_folder_keeps_the_plain_name_and_the_file_gets_its_id() -> None:
    snapshot = snapshot_of("a", "a/b")
    assert files(snapshot) == {"a%~1": 1, "a/b": 2}
    folder = snapshot.find("a")
    assert folder is not None
    assert folder.key == NodeKey(Kind.FOLDER, 77, "a")
    assert folder.parent == NodeKey(Kind.DATASET, 77)


def test_of_files_that_look_equal_the_lowest_id_keeps_the_plain_name() -> None:
    assert files(snapshot_of("/x", "x", "x/")) == {"x": 1, "x%~2": 2, "x%~3": 3}


def test_a_folder_too_long_for_linux_is_cut_for_the_lowest_id_in_it() -> None:
    long = "試" * 100
    snapshot = snapshot_of("x", f"{long}験/b", f"{long}験/a", f"{long}駅/a")
    assert files(snapshot) == {
        "x": 1,
        "試" * 84 + "%~2/b": 2,
        "試" * 84 + "%~2/a": 3,
        "試" * 84 + "%~4/a": 4,
    }
    check(snapshot, snapshot.rows)


def test_nodes_of_folders_and_files_know_their_places() -> None:
    snapshot = snapshot_of("a/b/c")
    middle, file = snapshot.find("a/b"), snapshot.find("a/b/c")
    assert middle is not None
    assert file is not None
    assert middle.parent == NodeKey(Kind.FOLDER, 77, "a")
    assert middle.entity is DATASET
    assert file.parent == middle.key
    assert (file.name, file.path_in_dataset, file.dataset) == ("c", "a/b/c", 77)
    assert file.version.datafile == 1


def test_a_listing_does_not_change_when_its_dataset_grows() -> None:
    snapshot = snapshot_of("a", "b")
    folder = dataset_node(VISIT, "ds", DATASET)
    table = snapshot.table("")
    assert table is not None
    before = Listing(folder, table)
    assert snapshot.append(row(9, "c"))
    after = Listing(folder, table)
    assert list(before.names()) == ["a", "b"]
    assert before.find("c") is None
    assert after.find("c") == after[2]
    with pytest.raises(IndexError):
        before[2]
    check(snapshot, snapshot.rows)


def test_what_changes_other_names_or_is_not_the_newest_does_not_fit_at_the_end() -> None:
    snapshot = snapshot_of("a", "b", "c/d")
    for new in (row(9, "a/x"), row(9, "/b/x/y"), row(9, "c/d/e"), row(1, "e")):
        assert not snapshot.append(new)
    assert len(snapshot) == 3
    assert snapshot.append(row(9, "c/x/y"))
    check(snapshot, snapshot.rows)


def test_entries_are_in_the_order_of_their_ids_and_folders_of_their_first() -> None:
    listing = Listing(dataset_node(VISIT, "ds", DATASET), top(snapshot_of("b", "x/a", "a", "x/b")))
    assert list(listing.names()) == ["b", "x", "a"]


def test_a_file_gives_its_name_to_a_folder_that_comes_later_and_keeps_its_place() -> None:
    snapshot = DatasetSnapshot(DATASET)
    grow(snapshot, [row(1, "a"), row(2, "b")])
    listing = Listing(dataset_node(VISIT, "ds", DATASET), top(snapshot))
    assert list(listing.names()) == ["a", "b"]
    grow(snapshot, [row(3, "a/x"), row(4, "b/")])
    assert list(Listing(listing.folder, top(snapshot)).names()) == ["a%~1", "b", "a", "b%~4"]
    assert [node.key.id for node in listing] == [1, 2]
    check(snapshot, snapshot.rows)


def test_a_million_names_with_one_hash_would_still_be_told_apart() -> None:
    twins = ["plumless", "buckeroo"]  # of the same CRC-32
    assert crc32(twins[0].encode()) == crc32(twins[1].encode())
    snapshot = snapshot_of(*twins)
    assert files(snapshot) == {"plumless": 1, "buckeroo": 2}
    assert snapshot.find("plumless") == snapshot.by_id(1)
    assert snapshot.find("buckeroo") == snapshot.by_id(2)


def test_twenty_thousand_paths_are_all_found_and_no_others() -> None:
    names = [f"scan{i % 50:02}/{i:05}.h5" for i in range(20_000)]
    snapshot = snapshot_of(*names)
    for i in range(0, 20_000, 37):
        node = snapshot.find(names[i])
        assert node is not None
        assert node.key.id == i + 1
        assert snapshot.find(f"scan{(i + 1) % 50:02}/{i:05}.h5") is None
    assert len(top(snapshot)) == 50


def test_an_empty_dataset_is_an_empty_folder() -> None:
    snapshot = snapshot_of()
    table = snapshot.table("")
    assert table is not None
    assert len(table) == 0
    assert snapshot.by_id(1) is None
    assert snapshot.find("a/b") is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a", ("", "a", True)),
        ("/a", ("", "a", True)),
        ("/a/b", ("/a", "b", True)),
        ("a//b", ("a", "b", False)),
        ("//a", ("", "a", False)),
        ("a/", ("", "a", False)),
        ("/", ("", "", False)),
        ("", ("", "", False)),
        ("a//b/c", ("a/b", "c", False)),
    ],
)
def test_names_are_split_at_the_slashes_that_separate(
    name: str, expected: tuple[str, str, bool]
) -> None:
    assert split(name) == expected


PATHS = st.text(st.sampled_from(list("a/.%~1b")), max_size=7)


@given(st.dictionaries(st.integers(1, 30), PATHS, max_size=14))
def test_nothing_is_ever_hidden(entries: dict[int, str]) -> None:
    rows = [row(datafile, name) for datafile, name in entries.items()]
    check(DatasetSnapshot(DATASET, rows), rows)


@given(st.lists(PATHS, max_size=20))
def test_it_does_not_matter_in_how_many_pages_a_listing_arrives(names: list[str]) -> None:
    assert files(appended(*names)) == files(snapshot_of(*names))
    assert list(walk(appended(*names))) == list(walk(snapshot_of(*names)))


@given(st.lists(PATHS, max_size=10), st.lists(PATHS, max_size=5))
def test_what_is_appended_looks_as_if_it_had_been_listed(first: list[str], then: list[str]) -> None:
    rows = [row(i, name) for i, name in enumerate(first, 1)]
    snapshot = DatasetSnapshot(DATASET, rows)
    for i, name in enumerate(then, 100):
        if snapshot.append(row(i, name)):
            rows.append(row(i, name))
    assert files(snapshot) == files(DatasetSnapshot(DATASET, rows))
    check(snapshot, rows)
