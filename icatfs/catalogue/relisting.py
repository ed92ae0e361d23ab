"""Listing a dataset: page by page, and again without asking for what is known.

**The forces.** A million datafiles are a hundred queries and the better part of a minute; whoever
lists them wants the first ones at once, and wants them again an hour later, or after the next
mount, when most probably nothing has changed. ICAT has no log of changes, and a removed datafile
leaves no trace.

**The decision.** Rows are packed and shown as their pages arrive (`Arrival`). Where a listing of
more than a page is known, one query asks what the rows come to (`Mark`: their number, the highest
id, the latest change of any, the sum of their sizes). If that is what the known rows come to, they
are good for another TTL. If not, what has higher ids is asked for, then what was changed since
shortly before the latest change that is known, and only if that still does not come to the
facility's mark, as after removals, everything. A dataset of one page is fetched again: the page
costs less than the mark (147 against 377 ms, for an ordinary user among 200,000 files).

**What a mark cannot tell**: that an entry was changed before the latest change we know, but in a
transaction that ended after we had listed, and that the sum of all sizes stayed the same; or that a
file was removed and another of the same size, older than all, became visible. So marks are believed
for `TRUSTED_S` after everything was asked for, and no longer.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import trio

from icatfs.catalogue.columns import DatafileRows, blocks, microseconds
from icatfs.catalogue.dataset import DatasetSnapshot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from icatfs.catalogue.arrival import Arrival
    from icatfs.catalogue.columns import Block
    from icatfs.catalogue.questions import Questions
    from icatfs.icat.records import DatafileRow, DatasetRow, Mark
    from icatfs.values import DatasetId

TRUSTED_S = 1800.0
"""How long marks are believed in place of a whole listing."""
_MARGIN = timedelta(seconds=120 + 3700)
"""A change is dated before it can be seen, and in local time, which jumps by an hour twice a year
(icat.server 6.2.1)."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _Sum:
    """What rows come to, in the terms of a `Mark`."""

    count: int
    last_id: int | None
    newest_us: int
    size: int


def _of_rows(rows: DatafileRows) -> _Sum:
    return _Sum(len(rows), rows.last_id, rows.newest, rows.total)


def _of_mark(mark: Mark) -> _Sum:
    newest = 0 if mark.newest is None else microseconds(mark.newest)
    return _Sum(mark.count, mark.last_id, newest, mark.size)


class Growth:
    """A snapshot that takes in one block after another, and tells those who wait for it."""

    def __init__(self, dataset: DatasetRow, arrival: Arrival) -> None:
        # given
        self._arrival = arrival
        # mutable
        self.snapshot = DatasetSnapshot(dataset)

    async def take(self, page: Sequence[DatafileRow], is_last: bool) -> None:
        """One page of ICAT's. What has more than one is shown before it is complete."""
        newest = self.snapshot.rows.last_id
        if newest is not None and page and page[0].id <= newest:
            page = [row for row in page if row.id > newest]
        for block in blocks(page):
            await self.add(block)
        if not is_last:
            self.show()

    def show(self) -> None:
        """There is more to be read."""
        self._arrival.snapshot = self.snapshot
        self._arrival.tell()

    async def add(self, block: Block) -> None:
        """One block, in steps of a few milliseconds."""
        for _ in self.snapshot.grow(block):
            await trio.lowlevel.checkpoint()


async def listed(questions: Questions, dataset: DatasetRow, arrival: Arrival) -> DatasetSnapshot:
    """Everything, asked for anew; shown by ``arrival`` as it comes."""
    growth = Growth(dataset, arrival)
    await questions.datafiles(dataset.id, growth.take)
    return growth.snapshot


async def rebuilt(dataset: DatasetRow, rows: DatafileRows, arrival: Arrival) -> DatasetSnapshot:
    """The snapshot of rows that are true; shown by ``arrival`` as it is made."""
    growth = Growth(dataset, arrival)
    for block in rows.blocks:
        await growth.add(block)
        growth.show()
    return growth.snapshot


async def brought_up_to_date(
    questions: Questions, dataset: DatasetId, known: DatafileRows
) -> DatafileRows | None:
    """The rows as they are now, ``known`` itself if nothing has changed; None: ask for all."""
    mark = await questions.mark(dataset)
    truth, ours = _of_mark(mark), _of_rows(known)
    if truth == ours:
        return known
    if truth.count < ours.count or truth.count > 2 * ours.count:
        return None
    if (truth.last_id or 0) > (ours.last_id or 0):
        known = known.edited((), await _above(questions, dataset, ours.last_id))
        if _of_rows(known) == truth:
            return known
    if mark.newest is None:
        return None
    since = _EPOCH + timedelta(microseconds=ours.newest_us) - _MARGIN
    changed = await questions.changed(dataset, since.astimezone(mark.newest.tzinfo))
    if changed is None:
        return None
    known = known.edited((), changed)
    return known if _of_rows(known) == truth else None


async def _above(
    questions: Questions, dataset: DatasetId, last_id: int | None
) -> list[DatafileRow]:
    """The datafiles of higher ids."""
    new: list[DatafileRow] = []

    async def take(page: Sequence[DatafileRow], _: bool) -> None:
        new.extend(page)

    await questions.datafiles(dataset, take, after=last_id)
    return new
