"""Listing a large folder: page by page, and again without asking for what is known.

**The forces.** A million datafiles are a hundred queries and the better part of a minute; whoever
lists them wants the first ones at once, and wants them again an hour later, or after the next
mount, when most probably nothing has changed. ICAT has no log of changes, and a removed entity
leaves no trace. Visits of 90,000 datasets and facilities of as many visits are no different, but
that a visit under way is listed four times a minute.

**The decision.** Rows are packed as their pages arrive, and those of a dataset shown at once
(`Arrival`; the names in other folders are known when all have arrived). Where a listing of
more than a page is known, one query asks what the rows come to (`Mark`: their number, the highest
id, the latest change of any, the sum of the sizes of datafiles, or of the ids of datasets and
investigations, whose sizes not every ICAT knows). If that is what the known rows come to, they
are good for another TTL. If not, what was changed since shortly before the latest change that is
known is asked for; if that is more than a page, as while a dataset fills, what has higher ids,
provided that the others still come to what they did; and only if the rows then do not come to the
facility's mark, as after removals, everything. A folder of one page is fetched again: the page
costs less than the mark (147 against 377 ms, for an ordinary user among 200,000 files).

Rows that this mount added itself are no part of what is compared: they are newer than changes of
others that we have not seen, and would hide them.

**What a mark cannot tell**: that an entry was changed before the latest change we know, or in the
same second, in a transaction that ended after we had listed, while the sum stayed the same (that of
ids always does: a dataset may have another name). That cannot
have happened where the latest change was old when everything was asked for; else marks are believed
for `TRUSTED_S` only. Nor that a file was removed and another of the same size, which had been
changed before, became visible (a dataset in place of another is seen: their ids differ): so none is
believed for longer than `TRUSTED_AT_REST_S`. What this mount changes of a dataset itself has its
visit asked for anew (`icatfs.catalogue.tree.Catalogue.invalidate`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import trio

from icatfs.catalogue import fetching
from icatfs.catalogue.blocks import blocks, microseconds
from icatfs.catalogue.dataset import DatasetSnapshot
from icatfs.catalogue.kept import Kept
from icatfs.catalogue.rows import Rows
from icatfs.errors import ProtocolError
from icatfs.icat.records import DatafileRow, Row

if TYPE_CHECKING:
    from icatfs.catalogue.arrival import Arrival
    from icatfs.catalogue.blocks import Block
    from icatfs.catalogue.kept import KeptListings
    from icatfs.catalogue.lifetimes import Lifetimes
    from icatfs.catalogue.questions import Questions
    from icatfs.catalogue.shelf import Shelf
    from icatfs.icat.contents import Contents
    from icatfs.icat.records import DatasetRow, Mark

R = TypeVar("R", bound=Row)

log = logging.getLogger(__name__)

TRUSTED_S = 1800.0
TRUSTED_AT_REST_S = 7 * 86_400.0
"""How long marks are believed in place of a whole listing, by whether changes were going on."""
_AT_REST_S = 7_200.0
"""After so long without a change none is under way: beyond any transaction, and clocks differ."""
_MARGIN = timedelta(seconds=120 + 3700)
"""A change is dated before it can be seen, and in local time, which jumps by an hour twice a year
(icat.server 6.2.1)."""
_KEPT_EVERY_S = 600.0
"""A large folder that changes all the time is not written to the disk each time."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _Sum:
    """What rows come to, in the terms of a `Mark`."""

    count: int
    last_id: int | None
    newest_us: int
    total: int


def _of_rows(rows: Rows[Any]) -> _Sum:
    return _Sum(len(rows), rows.last_id, rows.newest, rows.total)


def _of_mark(mark: Mark) -> _Sum:
    newest = 0 if mark.newest is None else microseconds(mark.newest)
    return _Sum(mark.count, mark.last_id, newest, mark.total)


@dataclass(frozen=True, slots=True)
class _Current(Generic[R]):
    """Rows brought up to date; ``new`` are those of higher ids if these are all that is new."""

    rows: Rows[R]
    new: Sequence[R] | None


@dataclass(frozen=True, slots=True)
class Found:
    """The rows of a folder as they are now, and a snapshot of them if one was made."""

    rows: Rows[Any]
    snapshot: DatasetSnapshot | None = None


class Relisting:
    """Lists large folders at the least cost, with what is known of them here and on the disk."""

    def __init__(self, questions: Questions, listings: KeptListings, lifetimes: Lifetimes) -> None:
        self._questions = questions
        self._listings = listings
        self._lifetimes = lifetimes

    async def ask(self, shelf: Shelf[Any], arrival: Arrival | None) -> Found:
        """The rows that the snapshot of the shelf has, those very ones, if they are still true.

        What is asked for anew is shown by ``arrival`` as it comes, which only a DATASET has.
        """
        contents, changes, last = fetching.contents(shelf.key), shelf.changes, shelf.seen_rows()
        page, now = await self._questions.page_size(), self._lifetimes.wall_s()
        known = None
        if last is not None:
            known = Kept(last, shelf.listed_at) if len(last) >= page else None
        elif self._listings.has(shelf.key):
            known = await trio.to_thread.run_sync(self._listings.load, shelf.key)
        if known is not None and _is_trusted(known, now):
            current = await _brought_up_to_date(self._questions, contents, known.rows)
            if current is not None:
                if last is None and current.rows is known.rows:
                    shelf.kept_at = now
                shelf.listed_at, shelf.is_large = known.listed_at, True
                if current.new is not None and changes == shelf.changes:
                    return Found(shelf.taken_in(current.new) or current.rows)
                return Found(current.rows)
        gathering: Gathering[Any] = Gathering()
        if shelf.dataset is not None and arrival is not None:
            gathering = Growth(shelf.dataset, arrival)
        await self._questions.pages(contents, gathering.take)
        shelf.listed_at = now
        shelf.is_large = shelf.is_large or len(gathering.rows) >= page
        if last is not None and gathering.rows.blocks == last.blocks:
            return Found(last)
        return Found(gathering.rows, gathering.snapshot)

    def is_worth_keeping(self, shelf: Shelf[Any]) -> bool:
        """Whether to have the listing of a folder on the disk."""
        since_s = self._lifetimes.wall_s() - shelf.kept_at
        return shelf.is_large and shelf.listed_at > 0 and not 0 <= since_s < _KEPT_EVERY_S

    async def keep(self, shelf: Shelf[Any], rows: Rows[Any]) -> None:
        """Have it there."""
        shelf.kept_at = self._lifetimes.wall_s()
        kept = Kept(rows.copy(), shelf.listed_at)
        await trio.to_thread.run_sync(self._listings.save, shelf.key, kept)


class Gathering(Generic[R]):
    """Rows that take in one page after another, and what is made of them meanwhile."""

    def __init__(self) -> None:
        # mutable
        self.rows: Rows[R] = Rows()
        self.snapshot: DatasetSnapshot | None = None

    async def take(self, page: Sequence[R], is_last: bool) -> None:
        """One page of ICAT's, in steps of a few milliseconds."""
        newest = self.rows.last_id
        if newest is not None and page and page[0].id <= newest:
            page = [row for row in page if row.id > newest]
        for block in blocks(page):
            await self.add(block)

    async def add(self, block: Block[R]) -> None:
        """One block."""
        self.rows.add(block)
        await trio.lowlevel.checkpoint()


class Growth(Gathering[DatafileRow]):
    """A snapshot of a dataset that grows with the rows, and tells those who wait for it."""

    def __init__(self, dataset: DatasetRow, arrival: Arrival) -> None:
        super().__init__()
        # given
        self._arrival = arrival
        # mutable: a snapshot of these very rows
        self.snapshot: DatasetSnapshot = DatasetSnapshot(dataset)
        self.rows = self.snapshot.rows

    async def take(self, page: Sequence[DatafileRow], is_last: bool) -> None:
        """What has more than one page is shown before it is complete."""
        await super().take(page, is_last)
        if not is_last:
            self.show()

    def show(self) -> None:
        """There is more to be read."""
        self._arrival.snapshot = self.snapshot
        self._arrival.tell()

    async def add(self, block: Block[DatafileRow]) -> None:
        for _ in self.snapshot.grow(block):
            await trio.lowlevel.checkpoint()


async def rebuilt(
    dataset: DatasetRow, rows: Rows[DatafileRow], arrival: Arrival
) -> DatasetSnapshot:
    """The snapshot of rows that are true; shown by ``arrival`` as it is made."""
    growth = Growth(dataset, arrival)
    for block in rows.blocks:
        await growth.add(block)
        growth.show()
    return growth.snapshot


def _is_trusted(kept: Kept, now: float) -> bool:
    """Whether a mark may confirm these rows; ``now`` is in seconds since 1970."""
    age_s = now - kept.listed_at
    was_at_rest = kept.listed_at - kept.rows.newest / 1e6 > _AT_REST_S
    return 0 <= age_s < (TRUSTED_AT_REST_S if was_at_rest else TRUSTED_S)


async def _brought_up_to_date(
    questions: Questions, contents: Contents[R], known: Rows[R]
) -> _Current[R] | None:
    """The rows as they are now, ``known`` itself if nothing has changed; None: ask for all.

    What this mount adds to ``known`` while the facility is asked is no part of what is compared.
    """
    ours = _of_rows(known)
    try:
        mark = await questions.mark(contents)
    except ProtocolError as error:
        log.info("%s has no mark, so all of it is asked for: %s", contents, error)
        return None
    truth = _of_mark(mark)
    if truth == ours:
        return _Current(known, ())
    if truth.count < ours.count or mark.newest is None:
        return None
    since = _EPOCH + timedelta(microseconds=ours.newest_us) - _MARGIN
    changed = await questions.changed(contents, since.astimezone(mark.newest.tzinfo))
    if changed is None:
        return await _with_many_new(questions, contents, known, ours, truth)
    changed = [row for row in changed if not known.has(row)]
    hidden = [row.id for row in changed if not contents.is_shown(row)]
    shown = [row for row in changed if contents.is_shown(row)]
    current = known.edited(hidden, shown)
    if _of_rows(current) != truth:
        return None
    is_above = not changed or ours.last_id is None or changed[0].id > ours.last_id
    return _Current(current, shown if is_above else None)


async def _with_many_new(
    questions: Questions, contents: Contents[R], known: Rows[R], ours: _Sum, truth: _Sum
) -> _Current[R] | None:
    """The same where more than a page was changed lately, if all of that is new."""
    if truth.count > 2 * ours.count or truth.last_id == ours.last_id:
        return None
    if _of_mark(await questions.mark(contents, ours.last_id)) != ours:
        return None
    new = await _above(questions, contents, ours.last_id)
    current = known.edited((), new)
    return _Current(current, new) if _of_rows(current) == truth else None


async def _above(questions: Questions, contents: Contents[R], last_id: int | None) -> list[R]:
    """The entities of higher ids."""
    new: list[R] = []

    async def take(page: Sequence[R], _: bool) -> None:
        new.extend(page)

    await questions.pages(contents, take, after=last_id)
    return new
