"""Rows in columns: equal to what was packed, wherever one looks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icatfs.catalogue import blocks
from icatfs.catalogue import rows as rows_module
from icatfs.catalogue.blocks import Loose, PackedDatafiles, PackedDatasets, microseconds, packed
from icatfs.catalogue.encoding import numbers, texts
from icatfs.catalogue.rows import Rows
from icatfs.icat.records import DatafileRow, DatasetRow
from icatfs.values import DatafileId, DatasetId

if TYPE_CHECKING:
    from collections.abc import Sequence

CREATED = datetime(2020, 1, 1, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ZONE = timezone(timedelta(hours=2))

moments = st.integers(-(10**15), 10**16).map(lambda us: EPOCH + timedelta(microseconds=us))
rounded = moments.map(lambda moment: moment.replace(microsecond=0))
sizes = st.none() | st.integers(0, 100) | st.integers(-(2**63), 2**63 - 1)
names = st.text(max_size=12)
rows = st.builds(
    DatafileRow,
    id=st.integers(0, 60).map(DatafileId),
    name=names,
    size=sizes,
    mod_time=st.none() | rounded,
    create_time=st.none() | moments,
    created=rounded,
    modified=rounded,
    checksum=st.none() | st.text("0123456789abcdef", max_size=8),
    location=st.none() | names,
)


def row(datafile: int, **values: object) -> DatafileRow:
    facts: dict[str, object] = {
        "name": f"scan/{datafile:05}.h5",
        "size": 10,
        "mod_time": CREATED + timedelta(seconds=datafile),
        "create_time": None,
        "created": CREATED,
        "modified": CREATED,
        "checksum": f"{datafile:x}",
        "location": f"here/{datafile}",
        **values,
    }
    return DatafileRow(id=DatafileId(datafile), **facts)  # type: ignore[arg-type]


def block_of(entries: Sequence[DatafileRow]) -> PackedDatafiles:
    """A packed block, however few rows there are."""
    padding = [row(1000 + i) for i in range(blocks.PACKED)]
    block = packed([*entries, *padding])
    assert isinstance(block, PackedDatafiles)
    return block


@given(st.lists(sizes, max_size=20), st.integers(0, 20), st.integers(0, 20))
def test_numbers_come_back_one_by_one_and_in_slices(
    values: list[int | None], one: int, other: int
) -> None:
    try:
        column = numbers(values)
    except OverflowError:
        known = [value for value in values if value is not None]
        assert max(known) - min(known) >= 2**63
        return
    assert [column[i] for i in range(len(values))] == values
    start, stop = sorted(min(place, len(values)) for place in (one, other))
    assert list(column.values(start, stop)) == values[start:stop]
    assert column.sum(len(values)) == sum(value or 0 for value in values)
    assert column.highest(len(values)) == max((v for v in values if v is not None), default=None)


@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=20, unique=True), st.integers(0, 2**40))
def test_a_number_is_found_where_it_is(values: list[int], other: int) -> None:
    values.sort()
    column = numbers(values)
    for position, value in enumerate(values):
        assert column.position(value, len(values)) == position
    expected = values.index(other) if other in values else None
    assert column.position(other, len(values)) == expected


@given(st.lists(st.none() | st.text(max_size=9), max_size=15), st.booleans(), st.integers(0, 15))
def test_texts_come_back_one_by_one_and_in_slices(
    values: list[str | None], compress: bool, start: int
) -> None:
    column = texts(values, compress=compress)
    assert [column[i] for i in range(len(values))] == values
    start = min(start, len(values))
    assert column.values(start, len(values)) == values[start:]


def test_text_that_is_no_unicode_comes_back() -> None:
    assert texts(["a\ud800"])[0] == "a\ud800"


@given(st.lists(rows, max_size=12, unique_by=lambda one: one.id))
def test_a_packed_row_is_equal_to_what_it_was(entries: list[DatafileRow]) -> None:
    entries.sort(key=lambda one: one.id)
    try:
        block = block_of(entries)
    except AssertionError:  # a column that 64 bits do not hold
        assert any(abs(one.size or 0) >= 2**62 for one in entries)
        return
    assert list(block.rows())[: len(entries)] == entries
    for index, entry in enumerate(entries):
        assert (block.id(index), block.name(index)) == (entry.id, entry.name)
        assert block.position(entry.id) == index
    shown = list(block.facts(0, len(entries)))
    for entry, (datafile, size, time_us) in zip(entries, shown, strict=True):
        moment = entry.mod_time or entry.create_time or entry.created
        assert (datafile, size, time_us) == (entry.id, entry.size, microseconds(moment))


@given(
    st.lists(
        st.builds(
            DatasetRow,
            id=st.integers(0, 10**9).map(DatasetId),
            name=names,
            complete=st.booleans(),
            start=st.none() | rounded,
            end=st.none() | rounded,
            created=rounded,
            modified=moments,
            location=st.none() | names,
            doi=st.none() | names,
        ),
        min_size=20,
        max_size=30,
        unique_by=lambda one: one.id,
    )
)
def test_packed_datasets_are_equal_to_what_they_were(entries: list[DatasetRow]) -> None:
    entries.sort(key=lambda one: one.id)
    block = packed(entries)
    assert isinstance(block, PackedDatasets)
    assert list(block.rows()) == entries
    assert list(block.ids_of_all()) == [one.id for one in entries]
    assert block.all_names() == [one.name for one in entries]
    assert [block.position(one.id) for one in entries] == list(range(len(entries)))
    loose = Loose(entries)
    assert (block.total(), block.newest()) == (loose.total(), loose.newest())
    assert block.total() == sum(one.id for one in entries)


def test_times_of_another_zone_are_the_same_moments() -> None:
    here = CREATED.astimezone(ZONE)
    assert block_of([row(1, modified=here)]).row(0).modified == CREATED


def test_what_no_column_holds_is_kept_as_it_is() -> None:
    entries = [row(i, size=2**70 if i else -(2**70)) for i in range(blocks.PACKED)]
    block = packed(entries)
    assert isinstance(block, Loose)
    assert list(block.rows()) == entries


def test_a_file_of_the_year_1970_has_a_time() -> None:
    block = block_of([row(1, mod_time=EPOCH, create_time=CREATED)])
    assert next(block.facts(0, 1))[2] == 0


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks so small that a few rows make several of them."""
    monkeypatch.setattr(blocks, "BLOCK", 7)
    monkeypatch.setattr(blocks, "PACKED", 4)
    monkeypatch.setattr(rows_module, "PACKED", 4)


@given(
    st.dictionaries(st.integers(0, 60), st.integers(0, 3), max_size=40),
    st.sets(st.integers(0, 70), max_size=20),
    st.dictionaries(st.integers(0, 80), st.integers(4, 6), max_size=20),
)
def test_edited_rows_are_those_of_a_dict(
    before: dict[int, int], gone: set[int], new: dict[int, int]
) -> None:
    found = Rows.of([row(i, size=size) for i, size in before.items()])
    edited = found.edited(gone, [row(i, size=size) for i, size in new.items()])
    model = {i: size for i, size in before.items() if i not in gone} | new
    assert [(one.id, one.size) for one in edited] == sorted(model.items())
    assert [(one.id, one.size) for one in found] == sorted(before.items())
    check(edited)


@given(st.lists(st.integers(1, 5), max_size=60), st.integers(0, 20))
def test_rows_are_appended_to_whatever_there_is(steps: list[int], first: int) -> None:
    entries = [row(i) for i in range(first)]
    found = Rows.of(entries)
    copy = found.copy()
    last = first
    for step in steps:
        last += step
        entries.append(row(last))
        found.append(entries[-1])
    assert list(found) == entries
    assert len(copy) == first
    check(found)


def check(found: Rows[DatafileRow]) -> None:
    """Every way to look at rows shows the same."""
    entries = list(found)
    assert len(found) == len(entries)
    assert [found[i] for i in range(len(entries))] == entries
    assert found[2:5] == entries[2:5]
    for position, entry in enumerate(entries):
        assert found.position(entry.id) == position
        assert (found.name(position), found.id(position)) == (entry.name, entry.id)
    assert found.names() == [entry.name for entry in entries]
    assert found.position(1_000_000) is None
    assert found.position(-1) is None
    assert found.total == sum(entry.size or 0 for entry in entries)
    assert found.last_id == (entries[-1].id if entries else None)
    with pytest.raises(IndexError):
        found[len(entries)]
