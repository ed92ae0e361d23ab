from __future__ import annotations

import stat
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icatfs.catalogue.node import Node, NodeKey
from icatfs.fs.attributes import Portrait, blocks_of, permits, statfs
from icatfs.fs.ports import Caller
from icatfs.values import Kind

PORTRAIT = Portrait(1000, 100, 60.0, 30.0)


def node(kind: Kind, size: int = 0) -> Node:
    return Node(NodeKey(kind, 1), None, "n", 5, size)


@given(st.integers(0, 2**62))
def test_blocks_are_the_fewest_that_hold_the_bytes(size: int) -> None:
    blocks = blocks_of(size)
    assert blocks * 512 >= size > (blocks - 1) * 512 or size == blocks == 0


@pytest.mark.parametrize(
    ("kind", "writable", "mode"),
    [
        (Kind.DATAFILE, False, stat.S_IFREG | 0o444),
        (Kind.DATAFILE, True, stat.S_IFREG | 0o644),
        (Kind.DATASET, False, stat.S_IFDIR | 0o555),
        (Kind.DATASET, True, stat.S_IFDIR | 0o755),
        (Kind.ROOT, False, stat.S_IFDIR | 0o555),
    ],
)
def test_modes_tell_kind_and_writability(kind: Kind, writable: bool, mode: int) -> None:
    assert PORTRAIT.of(7, node(kind), writable=writable).mode == mode


def test_the_probe_of_vim_does_not_get_the_mode_of_other_files() -> None:
    probe = replace(node(Kind.DATAFILE, 0), key=NodeKey(Kind.DATAFILE, -1), name="4913")
    assert PORTRAIT.of(7, probe, writable=True).mode == stat.S_IFREG | 0o600
    measured = (
        replace(probe, size=1),
        replace(probe, name="4914"),
        replace(probe, key=NodeKey(Kind.DATAFILE, 1)),
    )
    for one in measured:
        assert PORTRAIT.of(7, one, writable=True).mode == stat.S_IFREG | 0o644


def test_attributes_carry_owner_time_and_timeouts() -> None:
    shown = PORTRAIT.of(7, node(Kind.DATAFILE, 1000), writable=False)
    assert (shown.ino, shown.uid, shown.gid, shown.mtime_ns) == (7, 1000, 100, 5)
    assert (shown.size, shown.blocks, shown.nlink) == (1000, 2, 1)
    assert (shown.attr_timeout_s, shown.entry_timeout_s) == (60.0, 30.0)


def test_nonsense_sizes_of_a_catalogue_cannot_break_an_answer() -> None:
    assert PORTRAIT.of(7, node(Kind.DATAFILE, -1), writable=False).size == 0
    assert PORTRAIT.of(7, node(Kind.DATAFILE, 2**70), writable=False).size == 2**63 - 1


def test_an_absent_name_has_number_zero_and_is_remembered() -> None:
    assert PORTRAIT.absent.ino == 0
    assert PORTRAIT.absent.entry_timeout_s == 30.0


def test_the_kernel_may_always_rely_on_an_answer_for_a_moment() -> None:
    assert Portrait(0, 0, 0.0, 0.0).absent.entry_timeout_s == 1.0
    assert Portrait(0, 0, 0.0, 0.0).of(7, node(Kind.ROOT), writable=False).attr_timeout_s == 1.0


def test_a_read_only_mount_has_no_room() -> None:
    assert statfs(writable=False).free == 0
    assert statfs(writable=True).free > 0


@pytest.mark.parametrize(
    ("uid", "gid", "mask", "allowed"),
    [
        (1000, 1, 4 | 2, True),
        (1000, 1, 1, False),
        (5, 100, 4, True),
        (5, 100, 2, False),
        (5, 5, 4, True),
        (5, 5, 2, False),
        (0, 0, 4 | 2, True),
        (0, 0, 1, False),
        (5, 5, 0, True),
    ],
)
def test_mode_bits_bind_everybody_but_root(uid: int, gid: int, mask: int, allowed: bool) -> None:
    own = PORTRAIT.of(7, node(Kind.DATAFILE), writable=True)
    assert permits(own, Caller(1, uid, gid), mask) is allowed
