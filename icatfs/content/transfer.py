"""Brings bytes from the facility into cache files: carries out what `icatfs.content.plan` decides.

Readers wait for ranges (`Transfer.ensure`), streams bring them. A stream belongs to the transfer,
not to the reader who caused it: readers come and go, the stream goes on as far as the plan says. It
pins its cache file itself.

What can go wrong with the bytes of a raw answer, and what is done (ids.server 2.1.1, getData):

* the connection breaks, falls silent, or gives way to somebody else's request: it is resumed where
  it broke, ``resume_attempts`` times without a byte of progress;
* the body ends early and looks complete (a stored file that is too short, a failure behind the
  first 8 KiB): resumed likewise, then Damaged;
* asked from an offset, the server begins at 0: so we read from 0;
* the length announced, or what arrives, is not the catalogue's: Damaged;
* the CRC-32 of the whole is not the catalogue's: dropped, fetched once more from 0, then Damaged,
  and that is remembered for a minute, so that a damaged file is not fetched for every read.

Invariants: a waiter is in the queue if and only if no stream is to serve it; a fetch exists exactly
as long as it has waiters or streams; every stream has a task, and at most ``limits.streams`` exist.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from icatfs.content import plan
from icatfs.content.flows import Fetch, Habit, Stream, StreamStatus, TransferStatus, Waiter
from icatfs.content.plan import Limits
from icatfs.content.stream import Carrier, Source, Suspicion
from icatfs.errors import IcatfsError, ShuttingDown

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from icatfs.content.cachefile import CacheFile
    from icatfs.values import ContentVersion

log = logging.getLogger(__name__)

_LEARNT = 1000


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
        self._limits = limits
        self._stall_s = stall_s
        self._idle_s = idle_s
        self._resume_attempts = resume_attempts
        # mutable: see the invariants above
        self._fetches: dict[ContentVersion, Fetch] = {}
        self._streams: list[Stream] = []
        self._queue: dict[Waiter, None] = {}
        self._somebody_waits = trio.Event()
        self._closed = False
        # mutable: what was learnt, forgotten beyond a number of versions
        self._habits: OrderedDict[ContentVersion, Habit] = OrderedDict()
        self._suspicions: OrderedDict[ContentVersion, Suspicion] = OrderedDict()
        # mutable: counts only grow
        self._opened = self._resumed = self._received = self._mismatches = 0

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
        return TransferStatus(
            streams=tuple(
                StreamStatus(
                    one.fetch.file.version.datafile, one.carrier.position, len(one.waiters)
                )
                for one in self._streams
            ),
            waiting=sum(len(fetch.waiters) for fetch in self._fetches.values()),
            opened=self._opened,
            resumed=self._resumed,
            bytes_received=self._received,
            mismatches=self._mismatches,
        )

    # Waiting.

    async def _wait(self, file: CacheFile, start: int, stop: int) -> None:
        waiter = Waiter(self._fetch(file), start, stop)
        waiter.fetch.waiters[waiter] = None
        self._queue[waiter] = None
        self._somebody_waits.set()
        self._arrange()
        try:
            await waiter.served.wait()
        finally:
            self._leave(waiter)
        if waiter.error is not None:
            raise type(waiter.error)(*waiter.error.args) from waiter.error

    def _fetch(self, file: CacheFile) -> Fetch:
        fetch = self._fetches.get(file.version)
        if fetch is None:
            suspicion = self._suspicions.get(file.version) or Suspicion()
            fetch = self._fetches[file.version] = Fetch(file.pin(), suspicion)
        return fetch

    def _leave(self, waiter: Waiter) -> None:
        """The waiter has what it wants, or wants it no more."""
        waiter.fetch.waiters.pop(waiter, None)
        self._queue.pop(waiter, None)
        if waiter.stream is not None:
            waiter.stream.waiters.pop(waiter, None)
        self._forget_if_done(waiter.fetch)
        if self._queue:
            self._arrange()

    def _forget_if_done(self, fetch: Fetch) -> None:
        if not fetch.waiters and not fetch.streams:
            if self._fetches.get(fetch.file.version) is fetch:
                del self._fetches[fetch.file.version]
            fetch.file.close()

    # Planning.

    def _arrange(self) -> None:
        """Do for all who are in the queue what the plan says, first come, first served."""
        if self._closed:
            return
        coming = sum(stream.ending for stream in self._streams)
        promised: list[plan.Stream] = []
        for waiter in list(self._queue):
            gap = waiter.gap()
            if gap is None:
                waiter.served.set()
                continue
            version = waiter.fetch.file.version
            if plan.nearest(version, gap, promised, self._limits) is not None:
                continue
            promised.append(plan.Stream(version, gap, True, 0.0))
            seen = [stream.seen() for stream in self._streams]
            match self._decide(waiter, gap, seen):
                case plan.Join(number):
                    self._join(waiter, self._streams[number])
                case plan.Open():
                    self._join(waiter, self._open(waiter.fetch, gap))
                case plan.Replace(number) if not coming:
                    self._streams[number].end()
                case _:
                    coming = max(0, coming - 1)

    def _decide(self, waiter: Waiter, gap: int, seen: list[plan.Stream]) -> plan.Decision:
        fetch = waiter.fetch
        if fetch.prover is not None:
            return plan.Join(self._streams.index(fetch.prover))
        if fetch.is_whole and fetch.streams:
            stream = fetch.streams[0]
            return plan.Wait() if stream.ending else plan.Join(self._streams.index(stream))
        version = fetch.file.version
        return plan.serve(version, gap, seen, self._limits, trio.current_time())

    def _join(self, waiter: Waiter, stream: Stream) -> None:
        self._queue.pop(waiter, None)
        waiter.stream = stream
        stream.waiters[waiter] = None
        stream.furthest = max(stream.furthest, waiter.stop)

    def _open(self, fetch: Fetch, gap: int) -> Stream:
        file = fetch.file
        if fetch.is_whole:
            missing = file.missing(0, plan.ENDLESS)
        else:
            missing = file.missing(plan.aligned(gap), gap + 1)
        start = plan.begin(gap, missing[0] if missing else gap)
        carrier = Carrier(
            self._source,
            file,
            start,
            fetch.suspicion,
            stall_s=self._stall_s,
            resume_attempts=self._resume_attempts,
        )
        stream = Stream(fetch, carrier, self._window(file, start))
        fetch.streams.append(stream)
        self._streams.append(stream)
        self._opened += 1
        self._nursery.start_soon(self._run, stream)
        return stream

    def _window(self, file: CacheFile, start: int) -> int:
        """The first window of a stream; wider where the last one ended just here."""
        room = file.room
        habit = self._habits.get(file.version)
        if habit is not None and habit.stop == start:
            return plan.widened(habit.window, room)
        return min(self._limits.window, room)

    async def watch_queue(self) -> None:
        """Look now and then whether a stream that does not move may be replaced; for ever."""
        while True:
            await self._somebody_waits.wait()
            await trio.sleep(self._limits.grace_s)
            if self._queue:
                self._arrange()
            else:
                self._somebody_waits = trio.Event()

    # Streaming.

    async def _run(self, stream: Stream) -> None:
        """The life of a stream."""
        error: IcatfsError | None = None
        is_over = False
        try:
            with stream.scope:
                await stream.carrier.carry(lambda count: self._goes_on(stream, count))
            if self._is_to_prove(stream):
                stream.carrier.prove()
            is_over = True
        except IcatfsError as reason:
            error = reason
            is_over = True
        finally:
            if not is_over:
                self.close()  # the transfer itself is ending
            self._ended(stream, error)

    def _is_to_prove(self, stream: Stream) -> bool:
        """Whether the content is complete and this stream is to compare it with the catalogue."""
        fetch = stream.fetch
        if fetch.prover is None and fetch.file.unproved:
            fetch.prover = stream
        return fetch.prover is stream

    def _goes_on(self, stream: Stream, count: int) -> bool:
        """Called after each piece and before each attempt: whether to read on."""
        self._received += count
        fetch, position = stream.fetch, stream.carrier.position
        for waiter in list(fetch.waiters):
            gap = waiter.gap()
            if gap is None:
                waiter.served.set()
                stream.waiters.pop(waiter, None)
            elif waiter.stream is None and 0 <= gap - position <= self._limits.reach:
                self._join(waiter, stream)
        if stream.waiters:
            stream.wanted_at = trio.current_time()
        if self._is_to_prove(stream):
            return False
        if self._queue and self._may_be_replaced(stream):
            self._arrange()
        return (
            not stream.ending
            and not self._is_idle(stream, is_fault=not count)
            and self._has_more(stream)
        )

    def _is_idle(self, stream: Stream, *, is_fault: bool) -> bool:
        """Whether the stream reads ahead for nobody: after a fault, or long after a close."""
        if stream.waiters:
            return False
        is_late = trio.current_time() - stream.wanted_at > self._idle_s
        return (is_fault and stream.carrier.resumed > 0) or (
            is_late and not stream.fetch.file.shared
        )

    def _may_be_replaced(self, stream: Stream) -> bool:
        now = trio.current_time()
        if not stream.waiters and now - stream.wanted_at >= self._limits.grace_s:
            return True
        return now - stream.since >= self._limits.turn_s

    def _has_more(self, stream: Stream) -> bool:
        file, position = stream.fetch.file, stream.carrier.position
        if stream.fetch.is_whole:
            return file.size is None or position < file.size
        window = min(stream.window, file.room)
        stop = plan.until(stream.furthest, file.size, window, self._limits)
        missing = file.missing(position, stop)
        others = [one.carrier.position for one in stream.fetch.streams if one is not stream]
        limits = self._limits
        if stream.carrier.ignores_range:
            return missing is not None
        return plan.goes_on(position, stop, missing[0] if missing else None, others, limits)

    def _ended(self, stream: Stream, error: IcatfsError | None) -> None:
        """The stream is over: who waited for it is served, told, or planned for again."""
        fetch, file = stream.fetch, stream.fetch.file
        self._streams.remove(stream)
        fetch.streams.remove(stream)
        if fetch.prover is stream:
            fetch.prover = None
        if fetch.is_whole:
            for other in fetch.streams:
                other.end()
        self._resumed += stream.carrier.resumed
        self._mismatches += stream.carrier.mismatches
        self._remember(stream)
        for waiter in list(stream.waiters):
            waiter.stream = None
            if waiter.gap() is None:
                waiter.served.set()
            elif error is not None:
                waiter.error = error
                waiter.served.set()
            else:
                self._queue[waiter] = None
                self._somebody_waits.set()
        if error is not None and not stream.waiters:
            log.debug("reading ahead in datafile %d ended: %s", file.version.datafile, error)
        self._forget_if_done(fetch)
        self._arrange()

    def _remember(self, stream: Stream) -> None:
        version = stream.fetch.file.version
        self._habits[version] = Habit(stream.carrier.position, stream.window)
        self._habits.move_to_end(version)
        suspicion = stream.fetch.suspicion
        if suspicion.mismatches or suspicion.until_s:
            self._suspicions[version] = suspicion
        else:
            self._suspicions.pop(version, None)
        if len(self._habits) > _LEARNT:
            self._habits.popitem(last=False)
        if len(self._suspicions) > _LEARNT:
            self._suspicions.popitem(last=False)

    def close(self) -> None:
        """Wake everybody with ShuttingDown."""
        self._closed = True
        for fetch in list(self._fetches.values()):
            for waiter in fetch.waiters:
                waiter.error = _shutting_down()
                waiter.served.set()


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
    """Streams from ``source``. At the end they are closed, and who waits gets ShuttingDown."""
    try:
        async with trio.open_nursery() as nursery:
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
    except BaseExceptionGroup as group:  # the streams end without any: it is the caller's
        if len(group.exceptions) > 1:
            raise
        raise group.exceptions[0] from group.exceptions[0].__cause__
