"""A record says what is true, or it is none."""

from __future__ import annotations

import zlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icatfs.content.chunks import CHUNK, Checksums, Piece, cut
from icatfs.content.extents import Extents
from icatfs.content.record import COLUMNS, Record, mark_of
from icatfs.values import ContentVersion, DatafileId

MARK = "0123456789abcdef"
NAME = f"5-{MARK}-1"


def pieces_of(*ranges: tuple[int, int]) -> bytes:
    checksums = Checksums()
    for start, stop in ranges:
        for first, last in cut(start, stop):
            checksums.add(Piece(first, last, first + 1))
    return checksums.pack(checksums.chunks())


def version(size: int | None = 1000, checksum: str | None = "aa") -> ContentVersion:
    return ContentVersion(DatafileId(5), size, 77, checksum)


PART = Record(NAME, version(), 1000, pieces_of((0, 100), (400, 500)), 200)
WHOLE = Record(NAME, version(), 1000, pieces_of((0, 1000)), 1000)


# Names.


@pytest.mark.parametrize("name", [NAME, f"-5-{MARK}-1", f"123456789012-{MARK}-99999"])
def test_the_mark_in_a_name_is_that_of_its_process(name: str) -> None:
    assert mark_of(name) == MARK


@pytest.mark.parametrize(
    "name",
    [
        "",
        "5",
        f"5-{MARK}",
        f"5-{MARK}-",
        f"5-{MARK}-1 ",
        f" 5-{MARK}-1",
        f"5-{MARK}-1\n",
        f"5-{MARK}-1.bak",
        f"5-{MARK}0-1",
        f"5-{MARK[1:]}-1",
        f"5-{MARK.upper()}-1",
        f"--5-{MARK}-1",
        f"x-{MARK}-1",
        f"../5-{MARK}-1",
        f"5-{MARK}-1/x",
        f"5-{MARK}--1",
    ],
)
def test_another_name_has_no_mark(name: str) -> None:
    assert mark_of(name) is None


# What is said of a file.


def test_a_record_is_complete_when_all_bytes_are_there() -> None:
    assert WHOLE.complete
    assert not PART.complete
    assert not replace(WHOLE, size=1001).complete
    assert not replace(WHOLE, size=None).complete
    assert Record(NAME, version(0), 0, b"", 0).complete


def test_a_file_costs_its_bytes_and_the_rest_of_a_block() -> None:
    assert PART.cost == 200 + 4096
    assert WHOLE.cost == 1000 + 4096


def test_a_data_file_reaches_to_the_end_of_its_last_piece() -> None:
    assert PART.end == 500
    assert WHOLE.end == 1000
    assert Record(NAME, version(), 1000, b"", 0).end == 0
    assert Record(NAME, version(), 1000, None, 1000).end == 1000, "one that came from elsewhere"


# Rows.


@st.composite
def records(draw: st.DrawFn) -> Record:
    ends = draw(st.lists(st.integers(0, 3 * CHUNK), max_size=8, unique=True).map(sorted))
    ranges = list(zip(ends[::2], ends[1::2], strict=False))
    end = ranges[-1][1] if ranges else 0
    size = draw(st.one_of(st.none(), st.just(end), st.integers(end, 4 * CHUNK)))
    catalogued = draw(st.sampled_from([None, size]))
    checksum = draw(st.one_of(st.none(), st.text(max_size=12)))
    number = draw(st.integers(-(2**62), 2**62))
    return Record(
        f"{number}-{MARK}-{draw(st.integers(0, 10**9))}",
        ContentVersion(DatafileId(number), catalogued, draw(st.integers(0, 2**62)), checksum),
        size,
        pieces_of(*ranges),
        sum(stop - start for start, stop in ranges),
        draw(st.booleans()),
    )


@settings(max_examples=50)
@given(records())
def test_what_is_written_is_read_back(record: Record) -> None:
    found = Record.of_row(record.row())
    assert found == replace(record, recorded=record.cost)


def test_a_row_has_a_value_for_each_column() -> None:
    assert len(PART.row()) == len(COLUMNS.split(", "))


@given(records(), st.integers(0, 9), st.data())
def test_a_row_with_one_value_altered_is_none_unless_it_says_the_same(
    record: Record, column: int, data: st.DataObject
) -> None:
    """All but ``precious``, which is of no consequence for the bytes."""
    row = list(record.row())
    value = data.draw(
        st.one_of(
            st.none(),
            st.integers(-3, 10),
            st.text(max_size=3),
            st.binary(max_size=24),
            st.floats(allow_nan=False),
        )
    )
    before, row[column] = row[column], value
    found = Record.of_row(tuple(row))
    if value == before:
        return
    if COLUMNS.split(", ")[column] == "precious":
        assert found is None or found.precious is bool(value)
    else:
        assert found is None


@pytest.mark.parametrize("column", range(10))
@pytest.mark.parametrize("value", [1.5, "x", b"x", None])
def test_a_value_of_another_kind_makes_it_none(column: int, value: object) -> None:
    row = list(PART.row())
    if type(value) is type(row[column]) or (value is None and column in (2, 4, 5)):
        value = 2.5
    row[column] = value
    assert Record.of_row(tuple(row)) is None


@pytest.mark.parametrize("row", [(), (1,), PART.row()[:-1], (*PART.row(), 1)])
def test_a_row_of_another_length_is_none(row: tuple[object, ...]) -> None:
    assert Record.of_row(row) is None


# Records that were proved, and are nonsense all the same.


def made(record: Record) -> Record | None:
    """It, as if we had written it."""
    return Record.of_row(record.row())


def test_more_or_less_than_its_pieces_is_not_held() -> None:
    assert made(PART) is not None
    assert made(replace(PART, held=199)) is None
    assert made(replace(PART, held=201)) is None


def test_pieces_beyond_the_size_in_the_catalogue_are_nonsense() -> None:
    assert made(replace(PART, version=version(500), size=500)) is not None
    assert made(replace(PART, version=version(499), size=1000)) is None


def test_pieces_beyond_a_size_that_was_learnt_are_nonsense() -> None:
    unknown = version(None)
    assert made(replace(PART, version=unknown, size=500)) is not None
    assert made(replace(PART, version=unknown, size=None)) is not None
    assert made(replace(PART, version=unknown, size=499)) is None


def test_a_name_that_we_do_not_give_is_nonsense() -> None:
    assert made(replace(PART, name="../../etc/passwd")) is None
    assert made(replace(PART, name="")) is None


@pytest.mark.parametrize("pieces", [b"x", pieces_of((0, 200))[:-1], pieces_of((0, 200)) + b"x"])
def test_pieces_that_cannot_be_unpacked_are_nonsense(pieces: bytes) -> None:
    assert made(replace(PART, pieces=pieces)) is None


def test_a_record_that_has_no_pieces_yet_is_not_found_again() -> None:
    assert made(replace(PART, pieces=None)) is None


# The proof.


@pytest.mark.parametrize(
    "other",
    [
        replace(PART, name=f"5-{MARK}-2"),
        replace(PART, version=version(1001)),
        replace(PART, version=version(checksum=None)),
        replace(PART, version=replace(version(), mtime_ns=78)),
        replace(PART, version=replace(version(), datafile=DatafileId(6))),
        replace(PART, size=None),
        replace(PART, held=201),
        replace(PART, pieces=pieces_of((0, 100), (400, 501))),
    ],
)
def test_the_proof_depends_on_all_that_tells_which_bytes_they_are(other: Record) -> None:
    assert other.proof != PART.proof


def test_the_proof_is_the_same_wherever_it_is_reckoned() -> None:
    """It is kept for the next process: no hash of this one's may be in it."""
    version = ContentVersion(DatafileId(5), 3, 7, "ab")
    record = Record("5-0123456789abcdef-1", version, 3, b"", 0)
    text = (
        "('5-0123456789abcdef-1', ContentVersion(datafile=5, size=3, mtime_ns=7, checksum='ab'),"
        " 3, b'', 0)"
    )
    assert record.proof == zlib.crc32(text.encode())


def test_whether_it_was_costly_to_get_and_what_is_counted_do_not_matter_for_the_proof() -> None:
    assert replace(PART, precious=True, recorded=9).proof == PART.proof


def test_what_is_there_is_what_was_packed() -> None:
    assert PART.checksums().extents() == Extents([(0, 100), (400, 500)])
    with pytest.raises(ValueError, match="piece"):
        replace(PART, pieces=b"12345").checksums()
