"""The table of merged requests, cell by cell, and what getStatus makes of a state."""

from __future__ import annotations

import pytest

from icatfs.facility.storageunit import (
    Pending,
    Request,
    Status,
    StorageUnit,
    delay_restarts,
    merge,
    visible,
    worst,
)

DS, DF = StorageUnit.DATASET, StorageUnit.DATAFILE
ROWS = {
    None: ("W", "A", "R", "D"),
    "W": ("W", "WA", "W", ""),
    "WA": ("WA", "WA", "W", ""),
    "A": ("WA|A", "A", "R|", "D"),
    "R": ("W|R", "A", "R", "D"),
    "D": ("D", "D", "D", "D"),
}
SHORT = {
    "W": Pending.WRITE,
    "WA": Pending.WRITE_THEN_ARCHIVE,
    "A": Pending.ARCHIVE,
    "R": Pending.RESTORE,
    "D": Pending.DELETE,
    "": None,
    None: None,
}
NEW = (Request.WRITE, Request.ARCHIVE, Request.RESTORE, Request.DELETE)
CELLS = [
    (unit, queued, new, cell.split("|")[-1 if unit is DF else 0])
    for queued, cells in ROWS.items()
    for new, cell in zip(NEW, cells, strict=True)
    for unit in (DS, DF)
    if unit is DF or (queued != "D" and new is not Request.DELETE)
]


@pytest.mark.parametrize(("unit", "queued", "new", "merged"), CELLS)
def test_a_new_request_is_merged_with_the_queued_one(
    unit: StorageUnit, queued: str | None, new: Request, merged: str
) -> None:
    assert merge(unit, SHORT[queued], new) is SHORT[merged]


def test_dataset_units_know_no_deletion() -> None:
    with pytest.raises(KeyError):
        merge(DS, None, Request.DELETE)


def test_only_a_write_of_a_dataset_waits_anew() -> None:
    waiting = [(unit, new) for unit in (DS, DF) for new in NEW if delay_restarts(unit, new)]
    assert waiting == [(DS, Request.WRITE)]


@pytest.mark.parametrize(
    ("pending", "present", "status"),
    [
        (set(), True, Status.ONLINE),
        ({Pending.WRITE}, True, Status.ONLINE),
        ({Pending.WRITE_THEN_ARCHIVE}, True, Status.ARCHIVED),
        ({Pending.ARCHIVE}, True, Status.ARCHIVED),
        (set(), False, Status.ARCHIVED),
        ({Pending.RESTORE}, True, Status.RESTORING),
        ({Pending.RESTORE}, False, Status.RESTORING),
        ({Pending.DELETE}, True, Status.ONLINE),
    ],
)
def test_what_getstatus_says(pending: set[Pending], present: bool, status: Status) -> None:
    assert visible(pending=frozenset(pending), is_present=present) is status


def test_of_several_units_the_worst_counts() -> None:
    assert worst(set()) is Status.ONLINE
    assert worst({Status.ONLINE, Status.RESTORING}) is Status.RESTORING
    assert worst(set(Status)) is Status.ARCHIVED
