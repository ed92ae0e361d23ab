"""What moves between disk and tape, and how requests for it are merged: two pure tables.

From ids.server 2.1.1, ``FiniteStateMachine.queue``: for each unit at most one request is queued,
and at most one more is running. A new request is merged with the one that is queued already.
"""

from __future__ import annotations

from enum import Enum, StrEnum


class StorageUnit(StrEnum):
    """What is archived as one: nothing, whole datasets, single datafiles."""

    SINGLE = "single"
    DATASET = "dataset"
    DATAFILE = "datafile"


class Request(Enum):
    """What is asked for a unit. DELETE is of the copy on tape, with datafile units only."""

    WRITE = "WRITE"
    ARCHIVE = "ARCHIVE"
    RESTORE = "RESTORE"
    DELETE = "DELETE"


class Pending(Enum):
    """What is queued for a unit, or running."""

    WRITE = "WRITE_REQUESTED"
    WRITE_THEN_ARCHIVE = "WRITE_THEN_ARCHIVE_REQUESTED"
    ARCHIVE = "ARCHIVE_REQUESTED"
    RESTORE = "RESTORE_REQUESTED"
    DELETE = "DELETE_REQUESTED"

    @property
    def is_write(self) -> bool:
        """Whether the unit is written to tape; such work shares the dataset with readers."""
        return self in {Pending.WRITE, Pending.WRITE_THEN_ARCHIVE}


class Status(StrEnum):
    """What getStatus says."""

    ONLINE = "ONLINE"
    RESTORING = "RESTORING"
    ARCHIVED = "ARCHIVED"


_Q, _R = Pending, Request

_COMMON: dict[tuple[Pending | None, Request], Pending | None] = {
    (None, _R.WRITE): _Q.WRITE,
    (None, _R.ARCHIVE): _Q.ARCHIVE,
    (None, _R.RESTORE): _Q.RESTORE,
    (_Q.WRITE, _R.WRITE): _Q.WRITE,
    (_Q.WRITE, _R.ARCHIVE): _Q.WRITE_THEN_ARCHIVE,
    (_Q.WRITE, _R.RESTORE): _Q.WRITE,
    (_Q.WRITE_THEN_ARCHIVE, _R.WRITE): _Q.WRITE_THEN_ARCHIVE,
    (_Q.WRITE_THEN_ARCHIVE, _R.ARCHIVE): _Q.WRITE_THEN_ARCHIVE,
    (_Q.WRITE_THEN_ARCHIVE, _R.RESTORE): _Q.WRITE,
    (_Q.ARCHIVE, _R.ARCHIVE): _Q.ARCHIVE,
    (_Q.RESTORE, _R.ARCHIVE): _Q.ARCHIVE,
    (_Q.RESTORE, _R.RESTORE): _Q.RESTORE,
}
_OF_DATASETS: dict[tuple[Pending | None, Request], Pending | None] = {
    (_Q.ARCHIVE, _R.WRITE): _Q.WRITE_THEN_ARCHIVE,
    (_Q.ARCHIVE, _R.RESTORE): _Q.RESTORE,
    (_Q.RESTORE, _R.WRITE): _Q.WRITE,
}
_OF_DATAFILES: dict[tuple[Pending | None, Request], Pending | None] = {
    (_Q.ARCHIVE, _R.WRITE): _Q.ARCHIVE,
    (_Q.ARCHIVE, _R.RESTORE): None,
    (_Q.RESTORE, _R.WRITE): _Q.RESTORE,
    (None, _R.DELETE): _Q.DELETE,
    (_Q.WRITE, _R.DELETE): None,
    (_Q.WRITE_THEN_ARCHIVE, _R.DELETE): None,
    (_Q.ARCHIVE, _R.DELETE): _Q.DELETE,
    (_Q.RESTORE, _R.DELETE): _Q.DELETE,
    (_Q.DELETE, _R.WRITE): _Q.DELETE,
    (_Q.DELETE, _R.ARCHIVE): _Q.DELETE,
    (_Q.DELETE, _R.RESTORE): _Q.DELETE,
    (_Q.DELETE, _R.DELETE): _Q.DELETE,
}
_TABLES = {
    StorageUnit.DATASET: _COMMON | _OF_DATASETS,
    StorageUnit.DATAFILE: _COMMON | _OF_DATAFILES,
}


def merge(unit: StorageUnit, queued: Pending | None, new: Request) -> Pending | None:
    """What is queued after a new request; None: nothing."""
    return _TABLES[unit][queued, new]


def delay_restarts(unit: StorageUnit, new: Request) -> bool:
    """Whether the wait before a write to tape begins anew: it is counted from the last change."""
    return unit is StorageUnit.DATASET and new is Request.WRITE


def visible(*, pending: frozenset[Pending], is_present: bool) -> Status:
    """What getStatus says of a unit with that queued or running. A failure is not seen here."""
    if Pending.RESTORE in pending:
        return Status.RESTORING
    if pending & {Pending.ARCHIVE, Pending.WRITE_THEN_ARCHIVE} or not is_present:
        return Status.ARCHIVED
    return Status.ONLINE


def worst(statuses: set[Status]) -> Status:
    """What getStatus says of several units together."""
    for status in (Status.ARCHIVED, Status.RESTORING):
        if status in statuses:
            return status
    return Status.ONLINE
