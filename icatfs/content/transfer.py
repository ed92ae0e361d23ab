"""Brings bytes from the facility into cache files: carries out what `icatfs.content.plan` says.

Readers wait for ranges (`Transfer.ensure`), streams bring them. A stream belongs to the transfer,
not to the reader who caused it: readers come and go, the stream goes on as far as the plan says. It
pins its cache file itself.

What can go wrong with the bytes of a raw answer, and what is done (ids.server 2.1.1, getData):

* the connection breaks, falls silent, or gives way to somebody else's request: it is resumed where
  it broke, ``resume_attempts`` times without a byte of progress;
* it is silent at the same byte again and again, for streams that had their turn and went too:
  Damaged;
* the body ends early and looks complete (a stored file that is too short, a failure behind the
  first 8 KiB): resumed likewise, then Damaged;
* asked from an offset, the server begins at 0: so we read from 0;
* the length announced, or what arrives, is not the catalogue's: Damaged;
* the CRC-32 of the whole is not the catalogue's: dropped, fetched once more from 0, then Damaged,
  and that is remembered for a minute, so that a damaged file is not fetched for every read.

Who waits for what, and what the plan says to that, is `icatfs.content.dispatch`'s. Here are the
tasks: every stream has one, all in one nursery.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from icatfs.content.cachefile import CacheFile
from icatfs.content.dispatch import Dispatch
from icatfs.content.flows import Fetch, Stream, StreamStatus, TransferStatus
from icatfs.content.landing import Landing, all_over
from icatfs.content.plan import Limits
from icatfs.content.stream import Carrier, Source, Suspicion
from icatfs.errors import IcatfsError, ShuttingDown
from icatfs.sharing import service_nursery

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from icatfs.content.courses import Course
    from icatfs.values import ContentVersion

log = logging.getLogger(__name__)

_LEARNT = 1000
_LAST_PIECE_S = 2.0


__all__ = ["Limits", "Source", "StreamStatus", "Transfer", "TransferStatus", "open_transfer"]


class Transfer:
    """Made by ``open_transfer``."""

    def __init__(
        self,
        nursery: trio.Nursery,
        source: Source,
        limits: Limits,
        *,
        stall_s: float,
        idle_s: float,
        resume_attempts: int,
    ) -> None:
        # given
        self._nursery = nursery
        self._source = source
        self._grace_s = limits.grace_s
        self._stall_s = stall_s
        self._resume_attempts = resume_attempts
        # constant
        self._dispatch = Dispatch(limits, self._open, trio.current_time, idle_s=idle_s)
        self.under_way = set[Landing]()
        """Where a worker process may still write."""
        # mutable
        self._somebody_waits = trio.Event()
        """Set while somebody may be in the queue, to be looked after by ``watch_queue``."""
        self._closed = False
        # mutable: what was learnt, forgotten beyond a number of versions
        self._suspicions: OrderedDict[ContentVersion, Suspicion] = OrderedDict()

    async def ensure(self, file: CacheFile, start: int, stop: int) -> None:
        """Return when [start, stop), as far as the file goes, can be read from the cache file.

        It can be read until the next checkpoint of the caller. Raises what the source raises
        (DataArchived, Busy, NotFound, AccessDenied, facility errors), Damaged, ShuttingDown.
        Cancelled: the bytes come or not, nobody else is concerned.
        """
        await trio.lowlevel.checkpoint()
        while file.missing(start, stop) is not None:
            if self._closed:
                raise _shutting_down()
            suspicion = self._suspicions.get(file.version)
            if suspicion is not None:
                suspicion.check(trio.current_time(), stop)
            await self._wait(file, start, stop)

    def status(self) -> TransferStatus:
        """What is going on now."""
        return self._dispatch.status()

    async def _wait(self, file: CacheFile, start: int, stop: int) -> None:
        waiter = self._dispatch.wait(self._fetch(file), start, stop)
        self._look_after_queue()
        try:
            await waiter.served.wait()
        finally:
            self._dispatch.leave(waiter)
        if waiter.error is not None:
            raise type(waiter.error)(*waiter.error.args) from waiter.error

    def _fetch(self, file: CacheFile) -> Fetch:
        fetch = self._dispatch.fetches.get(file.version)
        if fetch is None:
            suspicion = self._suspicions.get(file.version) or Suspicion()
            fetch = self._dispatch.fetches[file.version] = Fetch(file.pin(), suspicion)
        return fetch

    def _look_after_queue(self) -> None:
        if self._dispatch.queue:
            self._somebody_waits.set()

    async def watch_queue(self) -> None:
        """Look now and then whether a stream that does not move may be replaced; for ever."""
        while True:
            await self._somebody_waits.wait()
            await trio.sleep(self._grace_s)
            if self._dispatch.queue:
                self._dispatch.arrange()
            else:
                self._somebody_waits = trio.Event()

    def _open(self, fetch: Fetch, course: Course) -> Stream:
        """What the plan said: a stream, and a task that carries its bytes."""
        assert isinstance(fetch.file, CacheFile), "it was pinned by `_fetch`"
        carrier = Carrier(
            self._source,
            fetch.file,
            course.start,
            fetch.suspicion,
            self.under_way,
            stall_s=self._stall_s,
            resume_attempts=self._resume_attempts,
        )
        stream = Stream(fetch, carrier, course, trio.current_time())
        self._nursery.start_soon(self._run, stream, carrier)
        return stream

    async def _run(self, stream: Stream, carrier: Carrier) -> None:
        """The life of a stream."""
        error: IcatfsError | None = None
        is_over = False
        try:
            with stream.scope:
                await carrier.carry(lambda count: self._dispatch.goes_on(stream, count))
            if self._dispatch.is_to_prove(stream):
                carrier.prove()
            is_over = True
        except IcatfsError as reason:
            error = reason
            is_over = True
        finally:
            if not is_over:
                self.close()  # the transfer itself is ending
            self._ended(stream, error)

    def _ended(self, stream: Stream, error: IcatfsError | None) -> None:
        version = stream.fetch.file.version
        if error is not None and not stream.waiters:
            log.debug("reading ahead in datafile %d ended: %s", version.datafile, error)
        self._remember(version, stream.fetch.suspicion)
        self._dispatch.ended(stream, error)
        self._look_after_queue()

    def _remember(self, version: ContentVersion, suspicion: Suspicion) -> None:
        if suspicion.mismatches or suspicion.until_s or suspicion.silent_s:
            self._suspicions[version] = suspicion
        else:
            self._suspicions.pop(version, None)
        if len(self._suspicions) > _LEARNT:
            self._suspicions.popitem(last=False)

    def close(self) -> None:
        """Wake everybody with ShuttingDown."""
        self._closed = True
        self._dispatch.close(_shutting_down())


def _shutting_down() -> ShuttingDown:
    return ShuttingDown("the mount is being taken down; mount it again to go on")


@asynccontextmanager
async def open_transfer(
    source: Source,
    *,
    limits: Limits | None = None,
    stall_s: float = 20.0,
    idle_s: float = 5.0,
    resume_attempts: int = 5,
) -> AsyncIterator[Transfer]:
    """Streams from ``source``. At the end they are closed, and who waits gets ShuttingDown.

    Then nobody writes for them any more, unless a worker process is very slow to hear of it.
    """
    transfer: Transfer | None = None
    try:
        async with service_nursery() as nursery:
            transfer = Transfer(
                nursery,
                source,
                limits or Limits(),
                stall_s=stall_s,
                idle_s=idle_s,
                resume_attempts=resume_attempts,
            )
            nursery.start_soon(transfer.watch_queue)
            try:
                yield transfer
            finally:
                transfer.close()
            nursery.cancel_scope.cancel()
    finally:
        if transfer is not None and transfer.under_way:
            with trio.move_on_after(_LAST_PIECE_S) as scope:
                scope.shield = True  # of the store's last record
                await all_over(transfer.under_way)
