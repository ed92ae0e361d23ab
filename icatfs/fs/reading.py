"""The read path: what the cache has, then what a stream brings, then what the archive brings back.

``read`` answers every byte that was asked for up to the end of the file, or raises: the kernel
fills a short answer with zeros and tells nobody. Waiting happens here and not in ``open``, where
nothing could end it, and always in the name of the program that opened the file, so that its
signals end the wait.

The kernel asks again when a page-cache read fails: first for the range, then for its first page.
So a failure is the answer for a short while, and after an interruption the signals of the program
are looked at before anything else. A program that was told to end (Ctrl-C) and reads on at once has
a library that tries EINTR again for ever, as HDF5 does, and never sees the signal: it gets another
error, so that it can end.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import trio

from icatfs.errors import (
    Busy,
    Damaged,
    DataArchived,
    GivenUp,
    IcatfsError,
    Interrupted,
    OpenerGone,
    ToldToEnd,
)
from icatfs.fs.handles import Failure
from icatfs.fs.ports import CacheFile, Opener
from icatfs.recall.policy import Asker, Program
from icatfs.values import DatafileId, DatasetId

if TYPE_CHECKING:
    from icatfs.fs.handles import ReadHandle
    from icatfs.fs.ports import Foresight, Recall, Transfer
    from icatfs.fs.waiting import Waits

_TIMES_LOST = 3
"""So often bytes may be fetched that the local disk does not give back."""
_FAILURE_S = 1.0
_SHORTEST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 5.0

F = TypeVar("F", bound=CacheFile)


@dataclass(frozen=True, slots=True)
class Asking:
    """In whose name a read asks the archive, and how patiently.

    ``program`` tells what an opener is, ``path`` where an inode is. ``patience_s`` is how long any
    read waits, whatever the policy says (None: no limit); ``turn_s`` how long for its turn.
    """

    program: Callable[[Opener], Program]
    path: Callable[[int], str]
    patience_s: float | None = None
    turn_s: float = 1.0


class Reader(Generic[F]):
    """Reads open files; what it knows of each it keeps in its handle."""

    def __init__(
        self,
        transfer: Transfer[F],
        foresight: Foresight,
        recall: Recall,
        waits: Waits,
        asking: Asking,
    ) -> None:
        self._transfer = transfer
        self._foresight = foresight
        self._recall = recall
        self._waits = waits
        self._asking = asking
        self._turns = trio.CapacityLimiter(math.inf)
        # mutable: counts only grow
        self.fetched = self.failed = 0
        """Reads whose bytes were not at hand, and came, or failed after an attempt."""

    def limit_waiting(self, reads: int) -> None:
        """From now on no more reads than this wait for the archive at once."""
        self._turns.total_tokens = reads

    def read_nowait(self, handle: ReadHandle[F], offset: int, size: int) -> bytes | None:
        """What ``read`` gives, where that is at hand: the way of most reads. None: ask ``read``."""
        file = handle.file
        end = file.version.size
        if end is None or file.withdrawals != handle.withdrawals:
            return None
        stop = min(offset + size, end)
        if stop <= offset or file.missing(offset, stop) is not None:
            return None
        data = file.pread(offset, stop - offset)
        return data if len(data) == stop - offset else None

    async def read(self, handle: ReadHandle[F], offset: int, size: int) -> bytes:
        """The bytes of [offset, offset + size) as far as the file goes.

        Raises what kept them from coming: `NotOnline`, `RecallFailed`, `RecallTimeout`,
        `Interrupted`, `Damaged`, `Busy`, `AccessDenied`, facility errors. `Damaged` also where
        what the handle gave before proved wrong: right bytes do not mend what has wrong ones
        already. When cancelled, what was brought so far stays in the cache.
        """
        file = handle.file
        stop = _clip(file, offset + size)
        if stop <= offset:
            return b""
        for _ in range(_TIMES_LOST):
            _trust(handle)
            if file.missing(offset, stop) is not None:
                await self._bring_once(handle, offset, stop)
                stop = _clip(file, stop)
            _trust(handle)
            data = file.pread(offset, max(stop - offset, 0))
            if len(data) == max(stop - offset, 0):
                return data
        raise Damaged(f"the cache gave {len(data)} of {stop - offset} bytes at offset {offset}")

    async def _bring_once(self, handle: ReadHandle[F], start: int, stop: int) -> None:
        self._recall_failure(handle)
        handle.waiting += 1
        try:
            with self._waits.waiting(handle.opener.process, is_mortal=not handle.is_left):
                await self._bring(handle, start, stop)
            self.fetched += 1
        except OpenerGone:
            handle.is_left = True  # if somebody has inherited it the kernel asks once more
            raise
        except IcatfsError as error:
            handle.failure = Failure(error, trio.current_time() + _FAILURE_S)
            self.failed += 1
            raise
        finally:
            handle.waiting -= 1

    def _recall_failure(self, handle: ReadHandle[F]) -> None:
        """Raises what the last attempt raised, if that was a moment ago."""
        failure, handle.failure = handle.failure, None
        if failure is None or trio.current_time() >= failure.until_s:
            return
        if isinstance(failure.error, Interrupted):
            handle.failure = Failure(failure.error, trio.current_time() + _FAILURE_S)
            self._waits.check(handle.opener.process)
            if not isinstance(failure.error, ToldToEnd):
                handle.failure = None
                return
            failure = Failure(
                GivenUp("the program was told to end while it waited, and reads on"),
                trio.current_time() + _FAILURE_S,
            )
        handle.failure = failure
        raise failure.error.with_traceback(None)

    async def _bring(self, handle: ReadHandle[F], start: int, stop: int) -> None:
        """Returns when the range is in the file; asks the archive for it as often as needed."""
        patience = Patience(self._asking.patience_s)
        pause_s = 0.0
        while True:
            obstacle = await self._try(handle, start, stop, patience)
            if obstacle is None:
                return
            if patience.is_over and pause_s > 0:
                raise obstacle
            await trio.sleep(patience.limit(pause_s))
            pause_s = min(max(2 * pause_s, _SHORTEST_PAUSE_S), _LONGEST_PAUSE_S)
            if not isinstance(obstacle, Busy):
                handle.file.treasure()
            await self._wait_online(handle, patience.left_s)

    async def _try(
        self, handle: ReadHandle[F], start: int, stop: int, patience: Patience
    ) -> DataArchived | Busy | None:
        """None when the range is there; what is in the way when waiting can help.

        Raises `NotOnline` where the policy is against it, before the facility is asked for bytes:
        each such request for archived data would queue a restore. Raises `RecallFailed` for the
        same reason, while that is remembered and the data are not back.
        """
        dataset, datafile = _address(handle)
        file = handle.file
        await self._foresight.coming(dataset, file.version)
        if file.missing(start, stop) is None:
            return None
        admission = await self._recall.admit(
            dataset, datafile, lambda: self._asker(handle), file.version.size
        )
        patience.shorten(admission.manner.patience_s)
        if not admission.fetch:
            return DataArchived("the data are in the archive")
        try:
            await self._transfer.ensure(file, start, stop)
            self._foresight.missed(dataset, file.version)
        except DataArchived as archived:
            self._recall.learn(dataset, datafile, archived)
            return archived
        except Busy as busy:
            return busy
        return None

    def _asker(self, handle: ReadHandle[F]) -> Asker:
        return Asker(
            self._asking.path(handle.inode.number),
            self._asking.program(handle.opener),
            nonblocking=handle.nonblocking,
        )

    async def _wait_online(self, handle: ReadHandle[F], patience_s: float | None) -> None:
        dataset, datafile = _address(handle)
        turn = object()
        with trio.move_on_after(self._asking.turn_s) as too_late:
            await self._turns.acquire_on_behalf_of(turn)
        if too_late.cancelled_caught:
            raise Busy(
                f"{self._turns.borrowed_tokens} reads of this mount wait for the archive already,"
                " and the kernel lets no more wait without stopping all others (max_background):"
                " read it again later, or order the data with icatfs stage"
            )
        try:
            await self._recall.wait_online(dataset, datafile, patience_s=patience_s)
        finally:
            self._turns.release_on_behalf_of(turn)


def _address(handle: ReadHandle[F]) -> tuple[DatasetId, DatafileId]:
    dataset = handle.node.dataset_id
    assert dataset is not None, "a datafile is in a dataset"
    return dataset, DatafileId(handle.node.key.id)


def _trust(handle: ReadHandle[F]) -> None:
    """Raises `Damaged` when what the handle gave, or what the kernel has of it, proved wrong."""
    if handle.file.withdrawals != handle.withdrawals:
        raise Damaged(
            f"bytes that were read of datafile {handle.node.key.id} proved not to be those of the"
            " catalogue and were dropped: open the file again"
        )


def _clip(file: CacheFile, stop: int) -> int:
    return stop if file.size is None else min(stop, file.size)


class Patience:
    """How much longer somebody is willing to wait; None is for ever."""

    def __init__(self, seconds: float | None) -> None:
        self._begun = trio.current_time()
        self._deadline = None if seconds is None else self._begun + seconds

    def shorten(self, seconds: float | None) -> None:
        """Be willing to wait for no longer than this, counted from the beginning."""
        if seconds is not None:
            deadline = self._begun + seconds
            self._deadline = min(deadline, self._deadline or deadline)

    @property
    def left_s(self) -> float | None:
        """Seconds left, not negative."""
        if self._deadline is None:
            return None
        return max(self._deadline - trio.current_time(), 0.0)

    @property
    def is_over(self) -> bool:
        """Whether nothing is left."""
        return self.left_s == 0

    def limit(self, pause_s: float) -> float:
        """A pause no longer than what is left."""
        return pause_s if self.left_s is None else min(pause_s, self.left_s)
