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


def roll_of(*files: File, is_named: bool = True, front: str | None = None) -> Roll:
    return Roll([file.expected for file in files], is_named=is_named, front=front)


def front_of(roll: Roll) -> str | None:
    return roll.front


def match(roll: Roll, name: str, data: bytes) -> int | None:
    return roll.match(name, len(data), zlib.crc32(data))


@pytest.mark.parametrize("checked", [True, False])
@pytest.mark.parametrize("front", [FRONT, "", "other/"])
def test_members_as_the_stock_server_sends_them_are_known(checked: bool, front: str) -> None:
    names = ["b/c", "a", "b/a", "/lead", "deep//er/x", "ü"]
    files = [File(name, name.encode() * 3, checked or name == "b/c") for name in names]
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
    files = [File("first", b"first")]
    files += [File(f"n{i}", b"same length %d" % i, checked) for i in range(4)]
    roll = roll_of(*files)
    assert match(roll, FRONT + "first", b"first") == 0
    for place, (file, left_out) in enumerate(zip(files[1:], skipped, strict=True), 1):
        if not left_out:
            assert match(roll, FRONT + file.name, file.data) == place


@pytest.mark.parametrize("checked", [True, False])
def test_what_the_catalogue_does_not_know_is_nobodys(checked: bool) -> None:
    roll = roll_of(File("a", b"aaa"), File("b", b"bbb", checked))
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
        roll = roll_of(*files, front=FRONT)
        for place, file in enumerate(files):
            assert match(roll, FRONT + file.name, file.data) == place
        roll = roll_of(*files)
        assert match(roll, FRONT + "x", b"two") == (1 if checked else None)


WITNESS = File("w", b"witness")


def test_without_a_checksum_the_order_counts() -> None:
    roll = roll_of(WITNESS, *(File(name, b"123", checked=False) for name in "abc"))
    assert match(roll, FRONT + "w", b"witness") == 0
    assert match(roll, FRONT + "a", b"123") == 1
    assert match(roll, FRONT + "c", b"123") == 3
    assert match(roll, FRONT + "b", b"123") is None


def test_without_a_checksum_another_front_is_another_file() -> None:
    roll = roll_of(WITNESS, File("a", b"123", checked=False), File("b", b"123", checked=False))
    assert match(roll, FRONT + "w", b"witness") == 0
    assert match(roll, FRONT + "a", b"123") == 1
    assert match(roll, FRONT + "new/b", b"123") is None


def test_no_name_is_believed_before_the_front_is_shown() -> None:
    roll = roll_of(File("a", b"123", checked=False), WITNESS, File("b", b"123", checked=False))
    assert front_of(roll) is None
    assert match(roll, FRONT + "a", b"123") is None
    assert match(roll, FRONT + "w", b"witness") == 1
    assert front_of(roll) == FRONT
    assert match(roll, FRONT + "b", b"123") == 2


def test_a_front_that_an_earlier_zip_showed_is_as_good() -> None:
    roll = roll_of(File("a", b"123", checked=False), front=FRONT)
    assert match(roll, "other/a", b"123") is None
    assert match(roll, FRONT + "a", b"123") == 0


def test_in_a_zip_of_a_whole_dataset_no_name_is_believed() -> None:
    """A file may be gone since it was listed, and another one have its name and size."""
    files = (WITNESS, File("a", b"123", checked=False))
    roll = roll_of(*files, is_named=False, front=FRONT)
    assert match(roll, FRONT + "w", b"witness") == 0
    assert match(roll, FRONT + "a", b"123") is None


def test_an_empty_file_shows_nothing() -> None:
    roll = roll_of(File("w", b""), File("a", b"123", checked=False))
    assert match(roll, FRONT + "w", b"") == 0
    assert front_of(roll) is None
    assert match(roll, FRONT + "a", b"123") is None


def test_a_name_that_may_be_that_of_two_files_shows_nothing() -> None:
    roll = roll_of(File("D/x", b"one"), File("x", b"one"), File("y", b"2", checked=False))
    assert match(roll, "F/D/x", b"one") == 0
    assert front_of(roll) is None
    assert match(roll, "F/x", b"one") == 1
    assert front_of(roll) == "F/"
    assert match(roll, "F/y", b"2") == 2


def test_where_two_fronts_are_shown_names_tell_nothing() -> None:
    roll = roll_of(File("a", b"one"), File("b", b"two"), File("c", b"3", checked=False))
    assert match(roll, "here/a", b"one") == 0
    assert match(roll, "there/b", b"two") == 1
    assert front_of(roll) is None
    assert match(roll, "here/c", b"3") is None
    assert match(roll, "there/c", b"3") is None


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


fronts = st.sampled_from([FRONT, "", "a/", "/a/b/"])
some = st.lists(st.booleans(), min_size=6, max_size=6)


def matched(roll: Roll, front: str, coming: list[File]) -> list[int | None]:
    """Where each went; nobody gets two."""
    places = [match(roll, front + file.name, file.data) for file in coming]
    found = [place for place in places if place is not None]
    assert len(found) == len(set(found)) == roll.came
    assert all(place < roll.place for place in found)
    return places


@given(files_drawn, some, files_drawn, fronts)
def test_of_a_whole_dataset_nobody_gets_bytes_that_are_not_his(
    files: list[File], sent: list[bool], strangers: list[File], front: str
) -> None:
    """Some are left out or gone, and some are newer than our listing, maybe of the same names."""
    coming = [file for file, is_sent in zip(files, sent, strict=False) if is_sent]
    coming += strangers
    places = matched(roll_of(*files, is_named=False), front, coming)
    for file, place in zip(coming, places, strict=True):
        if place is not None:
            assert files[place].checked
            assert files[place].data == file.data


@given(files_drawn, some, fronts, st.booleans())
def test_of_those_who_are_named_nobody_gets_bytes_that_are_not_his(
    files: list[File], sent: list[bool], front: str, is_front_known: bool
) -> None:
    """Some may be left out; nobody else is in such a zip."""
    coming = [file for file, is_sent in zip(files, sent, strict=False) if is_sent]
    roll = roll_of(*files, front=front if is_front_known else None)
    for file, place in zip(coming, matched(roll, front, coming), strict=True):
        if place is not None:
            assert files[place].data == file.data
            assert files[place].checked or files[place] == file
    assert roll.front in (front, None)


@given(files_drawn, fronts)
def test_of_those_who_are_named_all_are_known_behind_a_witness(
    drawn: list[File], front: str
) -> None:
    """But where one name, behind the front, may be another one's, too."""
    files = [File("witness", b"bytes")]
    files += [File(one.name, b"%d" % i, one.checked) for i, one in enumerate(drawn)]
    places = matched(roll_of(*files), front, files)
    for number, file in enumerate(files):
        others = (other.name for other in files if other is not file)
        if not any((front + file.name).endswith(other) for other in others):
            assert places[number] == number
