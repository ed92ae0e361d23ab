"""Files known from a listing: counted like all others, and no others are made of them."""

from __future__ import annotations

import gc
import logging
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fake_fs import FakeListing

from icatfs.catalogue.node import Node, NodeKey
from icatfs.errors import ContentChanged
from icatfs.fs.inodes import Inode, InodeTable
from icatfs.icat.records import DatafileRow
from icatfs.values import DatafileId, DatasetId, Kind

TOP = Node(NodeKey(Kind.ROOT, 0), None, "", 0)
FOLDER = 4711
WHEN = datetime(2025, 5, 4, tzinfo=UTC)


def node(datafile: int, size: int = 10) -> Node:
    row = DatafileRow(DatafileId(datafile), f"{datafile}", size, None, None, WHEN, WHEN, None, None)
    key = NodeKey(Kind.DATAFILE, datafile)
    return Node(key, TOP.key, f"{datafile}", 0, size, row, DatasetId(1))


def listing(*datafiles: int, size: int = 10) -> FakeListing:
    return FakeListing([node(datafile, size) for datafile in datafiles])


def list_all(table: InodeTable, what: FakeListing) -> list[int]:
    """The kernel reads the folder; the numbers that it is told."""
    crowd = table.crowd(FOLDER, what)
    numbers = []
    for position in range(len(what)):
        datafile = what[position].key.id
        numbers.append(table.number_of_datafile(datafile))
        table.count_member(crowd, position, numbers[-1], datafile)
    table.disperse(crowd)
    return numbers


def test_a_listed_file_has_the_number_that_it_would_have_by_name() -> None:
    table = InodeTable(TOP)
    assert list_all(table, listing(7, 8)) == [table.number(node(7).key), table.number(node(8).key)]
    assert len(table) == 3


def test_a_listed_file_is_found_by_number_and_by_key() -> None:
    table = InodeTable(TOP)
    number, _ = list_all(table, listing(7, 8))
    inode = table[number]
    assert (inode.node, inode.parent) == (node(7), FOLDER)
    assert table.find(node(7).key) is inode
    assert table[number] is inode
    assert table.path(number) == ".../7"


def test_no_inode_is_kept_of_a_file_that_nobody_holds() -> None:
    table = InodeTable(TOP)
    list_all(table, listing(*range(1000)))
    gc.collect()
    before = sum(isinstance(one, Inode) for one in gc.get_objects())
    for number in list_all(table, listing(*range(1000))):
        assert table[number].node.size == 10
    gc.collect()
    assert sum(isinstance(one, Inode) for one in gc.get_objects()) <= before + 1


def test_lookups_by_listing_and_by_name_add_up() -> None:
    table = InodeTable(TOP)
    what = listing(7, 8)
    list_all(table, what)
    (number, _) = list_all(table, what)
    assert table.remember(node(7), FOLDER).number == number
    assert not table.forget(number, 2)
    assert table.forget(number, 1)
    with pytest.raises(ContentChanged):
        table[number]
    assert len(table) == 2


def test_newer_facts_stay_though_nobody_holds_them() -> None:
    table = InodeTable(TOP)
    number, _ = list_all(table, listing(7, 8))
    table.update(table[number], node(7, size=99))
    gc.collect()
    assert table[number].node.size == 99
    assert len(table) == 3
    assert table.forget(number, 1)


def test_the_same_facts_again_change_nothing() -> None:
    table = InodeTable(TOP)
    number, _ = list_all(table, listing(7, 8))
    inode = table[number]
    table.update(inode, node(7))
    assert table.remember(node(7), FOLDER) is inode
    assert inode.lookups == 0
    assert table.forget(number, 2)


def test_a_file_that_is_held_is_the_same_after_a_newer_listing() -> None:
    table = InodeTable(TOP)
    number, _ = list_all(table, listing(7, 8))
    held = table[number]
    list_all(table, listing(7, 8, 9, size=11))
    assert table[number] is held
    assert held.node.size == 11
    assert not table.forget(number, 1)
    assert table.forget(number, 1)


def test_a_newer_listing_takes_over_and_the_older_one_is_let_go() -> None:
    table = InodeTable(TOP)
    old = listing(*range(50))
    numbers = list_all(table, old)
    list_all(table, listing(*range(60), size=11))
    assert len(table) == 61
    assert table[numbers[3]].node.size == 11
    assert not any(old in gc.get_referents(crowd) for crowd in table._crowds)
    for number in numbers:
        assert table.forget(number, 2)
    assert len(table) == 11


def test_a_known_file_keeps_its_inode_when_it_is_listed() -> None:
    table = InodeTable(TOP)
    inode = table.remember(node(7), FOLDER)
    assert list_all(table, listing(7))[0] == inode.number
    assert table[inode.number] is inode
    assert inode.lookups == 2


def test_more_lookups_than_a_byte_holds_are_counted() -> None:
    table = InodeTable(TOP)
    what = listing(7, 8)
    for _ in range(300):
        number = list_all(table, what)[0]
    assert not table.forget(number, 299)
    assert table.forget(number, 1)


def test_forgetting_too_often_is_logged_and_does_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    table = InodeTable(TOP)
    number, _ = list_all(table, listing(7, 8))
    with caplog.at_level(logging.ERROR):
        assert table.forget(number, 2)
    assert "fell to -1" in caplog.text
    assert not table.forget(number, 1)


def test_members_are_told_for_the_kernel_to_forget_their_names() -> None:
    table = InodeTable(TOP)
    numbers = list_all(table, listing(7, 8, 9))
    table.forget(numbers[1], 1)
    assert list(table.members()) == [(FOLDER, "7"), (FOLDER, "9")]


def test_a_draft_that_was_published_is_listed_under_its_number() -> None:
    table = InodeTable(TOP)
    draft = table.remember(replace(node(8), key=NodeKey(Kind.DATAFILE, -1)), FOLDER)
    table.update(draft, node(8))
    assert list_all(table, listing(7, 8)) == [table.number(node(7).key), draft.number]
    assert draft.lookups == 2


STEP = st.tuples(st.sampled_from(["list", "look", "forget", "learn"]), st.integers(0, 5))


@given(st.lists(STEP, max_size=60))
def test_counts_and_facts_are_those_of_a_dict(steps: list[tuple[str, int]]) -> None:
    table, counts, facts, held = InodeTable(TOP), dict.fromkeys(range(6), 0), {}, {}
    size = 10
    for action, which in steps:
        size += 1
        number = table.number(node(which).key)
        match action:
            case "list":
                list_all(table, listing(*range(which + 1), size=size))
                for one in range(which + 1):
                    counts[one] += 1
                    facts[one] = size
            case "look":
                held[which] = table.remember(node(which, size), FOLDER)
                counts[which] += 1
                facts[which] = size
            case "learn" if counts[which]:
                table.update(table[number], node(which, size))
                facts[which] = size
            case "forget" if counts[which]:
                held.pop(which, None)
                assert table.forget(number, 1) == (counts[which] == 1)
                counts[which] -= 1
        assert len(table) == 1 + sum(count > 0 for count in counts.values())
        for one, count in counts.items():
            inode = table.find(node(one).key)
            assert (inode is not None) == (count > 0)
            if inode is not None:
                assert inode.node == node(one, facts[one])
                assert held.get(one, inode) is inode
