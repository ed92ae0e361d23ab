from __future__ import annotations

import logging
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icatfs.catalogue.node import Node, NodeKey
from icatfs.errors import ContentChanged
from icatfs.fs import inodes as module
from icatfs.fs.inodes import ROOT, InodeTable, number_of
from icatfs.values import Kind

TOP = Node(NodeKey(Kind.ROOT, 0), None, "", 0)


def node(number: int, name: str = "f", kind: Kind = Kind.DATAFILE) -> Node:
    return Node(NodeKey(kind, number), TOP.key, name, 0)


@given(st.sampled_from(Kind), st.integers(-(2**40), 2**63), st.text())
def test_numbers_fit_in_63_bits_and_are_not_the_roots(kind: Kind, id_: int, name: str) -> None:
    assert ROOT < number_of(NodeKey(kind, id_, name)) < 2**63 + 2


def test_numbers_are_the_same_in_every_mount() -> None:
    assert number_of(NodeKey(Kind.DATAFILE, 812)) == (0b1_0100 << 58) + 812
    assert number_of(NodeKey(Kind.FOLDER, 812, "a")) == 4021935366076203839


@given(st.integers(0, 2**58 - 1), st.integers(0, 2**58 - 1))
def test_datafiles_are_numbered_in_the_order_of_their_ids(one: int, other: int) -> None:
    numbers = [number_of(NodeKey(Kind.DATAFILE, id_)) for id_ in (one, other)]
    assert (numbers[0] < numbers[1]) == (one < other)


def test_numbers_differ_by_kind_id_and_name() -> None:
    keys = [
        NodeKey(Kind.DATASET, 1),
        NodeKey(Kind.DATAFILE, 1),
        NodeKey(Kind.DATAFILE, -1),
        NodeKey(Kind.FOLDER, 1, "a"),
        NodeKey(Kind.FOLDER, 1, "b"),
    ]
    assert len({number_of(key) for key in keys}) == len(keys)


def test_an_inode_lives_as_long_as_its_lookups() -> None:
    table = InodeTable(TOP)
    inode = table.remember(node(7), ROOT)
    assert table.remember(node(7), ROOT) is inode
    assert not table.forget(inode.number, 1)
    assert table[inode.number] is inode
    assert table.forget(inode.number, 1)
    with pytest.raises(ContentChanged):
        table[inode.number]
    assert len(table) == 1


def test_the_root_is_never_forgotten() -> None:
    table = InodeTable(TOP)
    assert not table.forget(ROOT, 99)
    assert table[ROOT].node is TOP


def test_forgetting_the_unknown_or_too_often_does_no_harm(
    caplog: pytest.LogCaptureFixture,
) -> None:
    table = InodeTable(TOP)
    assert not table.forget(12345, 1)
    with caplog.at_level(logging.ERROR):
        assert table.forget(table.remember(node(7), ROOT).number, 2)
    assert "fell to -1" in caplog.text


def test_asking_for_a_number_counts_nothing() -> None:
    table = InodeTable(TOP)
    number = table.number(node(7).key)
    assert len(table) == 1
    assert table.find(node(7).key) is None
    assert table.remember(node(7), ROOT).number == number


def test_a_newer_node_replaces_the_older_one() -> None:
    table = InodeTable(TOP)
    inode = table.remember(node(7), ROOT)
    table.remember(replace(node(7), name="g"), 5)
    assert (inode.node.name, inode.parent, inode.lookups) == ("g", 5, 2)


def test_a_published_draft_keeps_its_number() -> None:
    table = InodeTable(TOP)
    inode = table.remember(node(-1), ROOT)
    table.update(inode, node(812))
    assert table.remember(node(812), ROOT) is inode
    assert inode.number == number_of(node(-1).key)
    assert table.find(node(-1).key) is not inode or inode.node.key == node(812).key
    assert table.forget(inode.number, 2)
    assert table.remember(node(812), ROOT).number == number_of(node(812).key)


def test_a_draft_published_under_a_known_number_leaves_both() -> None:
    table = InodeTable(TOP)
    known = table.remember(node(812), ROOT)
    draft = table.remember(node(-1), ROOT)
    table.update(draft, node(812))
    assert table.remember(node(812), ROOT) is known
    assert table.forget(draft.number, 1)
    assert table.find(node(812).key) is known


def test_keys_that_share_a_hash_get_numbers_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "number_of", lambda key: 77)
    table = InodeTable(TOP)
    found = [table.remember(node(number), ROOT) for number in range(3)]
    assert [inode.number for inode in found] == [77, 78, 79]
    table.forget(77, 1)
    assert table.remember(node(2), ROOT) is found[2]
    assert table.remember(node(5), ROOT).number == 77
    assert table.find(node(1).key) is found[1]


def test_paths_lead_from_the_root() -> None:
    table = InodeTable(TOP)
    folder = table.remember(node(1, "folder", Kind.FACILITY), ROOT)
    file = table.remember(node(2, "file"), folder.number)
    assert table.path(file.number) == "/folder/file"
    assert table.path(ROOT) == "/"
    table.forget(folder.number, 1)
    assert table.path(file.number) == ".../file"


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(-2, 3)), max_size=60))
def test_counts_never_go_wrong(steps: list[tuple[int, int]]) -> None:
    table, counts = InodeTable(TOP), dict.fromkeys(range(6), 0)
    for number, change in steps:
        if change > 0:
            for _ in range(change):
                table.remember(node(number), ROOT)
            counts[number] += change
        elif counts[number] + change >= 0 and change < 0:
            table.forget(number_of(node(number).key), -change)
            counts[number] += change
        for one, count in counts.items():
            inode = table.find(node(one).key)
            assert (inode.lookups if inode else 0) == count


def test_a_number_that_was_superseded_is_not_given_again_while_it_is_known() -> None:
    table = InodeTable(TOP)
    before = table.remember(node(7), ROOT)
    table.supersede(before)
    after = table.remember(node(7), ROOT)
    assert table.forget(after.number, 1)
    assert table.number(node(7).key) == after.number != before.number
    assert table.forget(before.number, 1)
    assert table.number(node(7).key) == before.number
    assert table.remember(node(7), ROOT).number == before.number
