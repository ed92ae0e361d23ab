"""Whose bytes a member is: names, order and content, in every combination."""

from __future__ import annotations

import itertools
import zlib
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icatfs.content.members import Expected, Roll

FRONT = "ids/F/I/V/D/"


@dataclass(frozen=True)
class File:
    """A datafile, and whether the catalogue has its CRC-32."""

    name: str
    data: bytes
    checked: bool = True

    @property
    def expected(self) -> Expected:
        return Expected(self.name, len(self.data), zlib.crc32(self.data) if self.checked else None)


def roll_of(*files: File) -> Roll:
    return Roll([file.expected for file in files])


def match(roll: Roll, name: str, data: bytes) -> int | None:
    return roll.match(name, len(data), zlib.crc32(data))


@pytest.mark.parametrize("checked", [True, False])
@pytest.mark.parametrize("front", [FRONT, "", "other/"])
def test_members_as_the_stock_server_sends_them_are_known(checked: bool, front: str) -> None:
    names = ["a", "b/a", "/lead", "deep//er/x", "b/c", "ü"]
    files = [File(name, name.encode() * 3, checked) for name in names]
    roll = roll_of(*files)
    for place, file in enumerate(files):
        assert roll.size(front + file.name) in (len(file.data), None)
        assert match(roll, front + file.name, file.data) == place
        assert roll.place == roll.came == place + 1


@pytest.mark.parametrize("skipped", list(itertools.product([True, False], repeat=4)))
@pytest.mark.parametrize("checked", [True, False])
def test_members_that_were_left_out_are_nobody_elses(
    skipped: tuple[bool, ...], checked: bool
) -> None:
    """The server leaves out what has no location, and all but the first of equal names."""
    files = [File("first", b"first", checked)]
    files += [File(f"n{i}", b"same length %d" % i, checked) for i in range(4)]
    roll = roll_of(*files)
    assert match(roll, FRONT + "first", b"first") == 0
    for place, (file, left_out) in enumerate(zip(files[1:], skipped, strict=True), 1):
        if not left_out:
            assert match(roll, FRONT + file.name, file.data) == place


@pytest.mark.parametrize("checked", [True, False])
def test_what_the_catalogue_does_not_know_is_nobodys(checked: bool) -> None:
    roll = roll_of(File("a", b"aaa", checked), File("b", b"bbb", checked))
    assert match(roll, FRONT + "a", b"aaa") == 0
    assert match(roll, FRONT + "new", b"new") is None
    assert match(roll, FRONT + "x/b", b"xbx") is None
    assert match(roll, FRONT + "b", b"longer") is None
    assert match(roll, FRONT + "b", b"bbb") == 1
    assert match(roll, FRONT + "b", b"bbb") is None


def test_changed_content_is_nobodys() -> None:
    roll = roll_of(File("a", b"aaa"), File("b", b"bbb"))
    assert match(roll, FRONT + "a", b"axa") is None
    assert match(roll, FRONT + "b", b"bbb") == 1


def test_of_equal_names_each_gets_its_own_bytes_or_none() -> None:
    """A facility whose zips leave the folder out of the name."""
    files = [File("p/a", b"one"), File("q/a", b"two"), File("r/b", b"end")]
    for sent in itertools.permutations(range(3), 2):
        roll = roll_of(*files)
        for place in sorted(sent):
            name = files[place].name.rpartition("/")[2]
            assert match(roll, name, files[place].data) == place


def test_strange_names_are_proved_by_content_in_order() -> None:
    files = [File(f"file{i}", b"content %d" % i) for i in range(100)]
    roll = roll_of(*files)
    for place in [0, 1, 5, 30, 31, 60]:
        assert match(roll, f"{place:x}.bin", files[place].data) == place
    assert match(roll, "far", files[99].data) is None
    unchecked = roll_of(*(File(file.name, file.data, checked=False) for file in files))
    assert match(unchecked, "0.bin", files[0].data) is None


def test_a_folder_named_like_the_dataset_misleads_nobody() -> None:
    for checked in (True, False):
        files = [File("D/x", b"one", checked), File("x", b"two", checked), File("y", b"3", checked)]
        roll = roll_of(*files)
        for place, file in enumerate(files):
            assert match(roll, FRONT + file.name, file.data) == (place if checked else None)
        roll = roll_of(*files)
        assert match(roll, FRONT + "x", b"two") == (1 if checked else None)


def test_without_a_checksum_the_order_counts() -> None:
    roll = roll_of(*(File(name, b"123", checked=False) for name in "abc"))
    assert match(roll, FRONT + "a", b"123") == 0
    assert match(roll, FRONT + "c", b"123") == 2
    assert match(roll, FRONT + "b", b"123") is None


def test_without_a_checksum_another_front_is_another_file() -> None:
    roll = roll_of(File("a", b"123", checked=False), File("b", b"123", checked=False))
    assert match(roll, FRONT + "a", b"123") == 0
    assert match(roll, FRONT + "new/b", b"123") is None


def test_a_size_that_is_not_known_is_no_match() -> None:
    roll = Roll([Expected("a", None, None), Expected("b", None, 5)])
    assert roll.match(FRONT + "a", 0, 0) is None
    assert roll.match(FRONT + "b", 3, 5) is None
    assert roll.size(FRONT + "a") is None


files_drawn = st.lists(
    st.builds(
        File,
        st.text("ab/", min_size=1, max_size=4),
        st.sampled_from([b"", b"x", b"y", b"xy", b"yx"]),
        st.booleans(),
    ),
    max_size=6,
    unique_by=lambda file: file.name,
)


@given(
    files_drawn,
    st.lists(st.booleans(), min_size=6, max_size=6),
    files_drawn,
    st.sampled_from([FRONT, "", "a/", "/a/b/"]),
)
def test_nobody_gets_bytes_that_are_not_his(
    files: list[File], sent: list[bool], strangers: list[File], front: str
) -> None:
    """Of a stock server, some left out, and some that are newer than our listing."""
    roll = roll_of(*files)
    names = {file.name for file in files}
    coming = [file for file, is_sent in zip(files, sent, strict=False) if is_sent]
    if coming:  # else nothing tells what is in front of names, and a stranger may be taken for one
        coming += [file for file in strangers if file.name not in names]
    matched = [match(roll, front + file.name, file.data) for file in coming]
    for file, place in zip(coming, matched, strict=True):
        if place is not None:
            assert files[place].data == file.data
            assert files[place].checked or files[place].name == file.name
    found = [place for place in matched if place is not None]
    assert len(found) == len(set(found))
