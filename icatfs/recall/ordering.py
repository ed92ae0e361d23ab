"""Works through the list of what was asked for deliberately, for as long as a mount is there.

Of all mounts that share a list one works on it: the one that holds its lock, which the kernel gives
to another when that process ends, however it ends. It has an interest in the units at the head of
the list, only so many at a time, however long the list is; the coordinator asks for them together
with what readers wait for, and each one that ends makes room for the next. What other mounts and
the command line write into the list is seen within seconds, what this mount does at once.

After a restart all pending units are looked at anew: those that the server forgot are asked for
again, those that are online meanwhile are not. A list that cannot be used (a full disk) is no
reason to end a mount: it is tried again later, and the log says so.

Invariant: ``_followed`` has exactly the units whose task runs.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import sqlite3
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol, TypeVar

import trio

from icatfs.crashing import crash_point
from icatfs.errors import (
    ConfigError,
    DataArchived,
    FacilityTimeout,
    FacilityUnreachable,
    IcatfsError,
    NoSpace,
)
from icatfs.recall.book import BOOK, Book
from icatfs.recall.orders import PENDING, Fetch, Home, Ordered, State
from icatfs.recall.state import Phase
from icatfs.sharing import service_nursery

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from pathlib import Path

    from icatfs.recall.orders import Wish
    from icatfs.recall.units import Key

log = logging.getLogger(__name__)

T = TypeVar("T")

AT_ONCE = 400
"""So many units are watched at a time."""
_LOOK_S = 2.0
"""How soon the changes of others are seen."""
_TRY_AGAIN_S = 30.0
_ROUNDS = 3
_NO_ROOM = "the cache has no room left for it (mount with a larger --cache-size)"

_STATES = {Phase.RESTORING: State.RESTORING, Phase.ONLINE: State.ONLINE, Phase.FAILED: State.FAILED}
"""What a phase is on the list; any other: asked for."""


class Interest(Protocol):
    """What of `icatfs.recall.coordinator.Interest` is used here."""

    @property
    def phase(self) -> Phase: ...
    @property
    def words(self) -> str | None: ...
    async def changed(self) -> None:
        """Return at the next change of the phase."""
        ...

    def drop(self) -> None: ...


class Recall(Protocol):
    """What of `icatfs.recall.coordinator.RecallCoordinator` is used here."""

    def hold(self, key: Key, /) -> Interest: ...


class Orders:
    """Made by ``open_orders``."""

    def __init__(
        self,
        book: Book,
        recall: Recall,
        bring: Callable[[Ordered, int], Awaitable[bool]] | None,
        at_once: int,
    ) -> None:
        # given
        self.book = book
        self._recall = recall
        self._bring = bring
        self._at_once = at_once
        # constant: the connection takes one thread at a time
        self._one_thread = trio.CapacityLimiter(1)
        # mutable: see the invariant above
        self._followed: dict[int, trio.CancelScope] = {}
        self._news = trio.Event()
        self._online = trio.Event()
        # mutable: how often units were in the archive again when they were to be fetched
        self._evictions: Counter[int] = Counter()

    async def place(self, wishes: Sequence[Wish], command: int, fetch: Fetch) -> list[int]:
        """Put units on the list; their ids."""
        ids = await self.in_thread(self.book.place, wishes, command, fetch)
        crash_point("ordered")
        self._news.set()
        return ids

    async def remarks(self) -> list[str]:
        """What the user should know at the start."""
        count = await self.in_thread(self.book.count_pending)
        remark = (
            f"{count:,} datasets or files that were asked for earlier are not back yet; icatfs goes"
            " on with them (icatfs stage --list)"
        )
        return [remark] if count else []

    async def in_thread(self, fn: Callable[..., T], *args: object) -> T:
        """Call the book, in the one thread that may. Raises NoSpace, ConfigError."""
        try:
            return await trio.to_thread.run_sync(fn, *args, limiter=self._one_thread)
        except sqlite3.Error as error:
            raise _explained(error, self.book.path) from error

    async def work(self) -> None:
        """Bring back what is on the list, for ever; waits until no other mount does."""
        while True:
            try:
                async with (
                    _turn(self.book.path.with_name("lock")),
                    trio.open_nursery() as nursery,
                ):
                    nursery.start_soon(self._fetch_all)
                    await self._follow_all(nursery)
            except* (OSError, IcatfsError) as group:
                log.warning("the list of what was asked for cannot be used: %s", _first(group))
            await trio.sleep(_TRY_AGAIN_S)

    # Bringing back.

    async def _follow_all(self, nursery: trio.Nursery) -> None:
        while True:
            self._news = news = trio.Event()
            seen = await self.in_thread(self.book.version)
            head = await self.in_thread(self.book.pending, self._at_once)
            wanted = {unit.id for unit in head}
            for number, scope in self._followed.items():
                if number not in wanted:
                    scope.cancel()
            for unit in head:
                if unit.id not in self._followed:
                    scope = self._followed[unit.id] = trio.CancelScope()
                    nursery.start_soon(self._follow, unit, scope)
            self._online.set()
            await self._wait_for_news(news, seen)

    async def _wait_for_news(self, news: trio.Event, version: int) -> None:
        """Return when something is new on the list."""
        while not news.is_set():
            with trio.move_on_after(_LOOK_S):
                await news.wait()
            if await self.in_thread(self.book.version) != version:
                return

    async def _follow(self, unit: Ordered, scope: trio.CancelScope) -> None:
        """Have an interest in a unit until it has ended, or is on the list no more."""
        try:
            with scope:
                interest = self._recall.hold(unit.key)
                try:
                    await self._record(unit, interest)
                finally:
                    interest.drop()
        finally:
            del self._followed[unit.id]
            self._news.set()

    async def _record(self, unit: Ordered, interest: Interest) -> None:
        """Write down what becomes of it, until that is final."""
        known = unit.state
        while True:
            phase = interest.phase
            state = _STATES.get(phase, State.ASKED)
            if state is not known:
                words = interest.words if state is State.FAILED else None
                if not await self.in_thread(self.book.move, unit.id, state, words):
                    return
                crash_point(f"order {state}")
                known = state
            if known not in PENDING:
                return
            if interest.phase is phase:
                await interest.changed()

    # Into the cache.

    async def _fetch_all(self) -> None:
        """Fetch what is to be fetched of what is online, one unit after the other."""
        while self._bring is not None:
            self._online = trio.Event()
            unit = await self.in_thread(self.book.to_fetch)
            if unit is None:
                await self._online.wait()
            else:
                await self._fetch(unit, self._bring)

    async def _fetch(self, unit: Ordered, bring: Callable[[Ordered, int], Awaitable[bool]]) -> None:
        there = await self.in_thread(self.book.fetched_bytes, unit.command)
        try:
            fits = await bring(unit, there)
        except (FacilityUnreachable, FacilityTimeout) as error:
            log.info("%s is fetched later: %s", unit.path, error)
            await trio.sleep(_TRY_AGAIN_S)
            return
        except IcatfsError as error:
            if isinstance(error, DataArchived) and self._evictions[unit.id] < _ROUNDS:
                self._evictions[unit.id] += 1
                await self.in_thread(self.book.ask_again, unit.id)
                self._news.set()
                return
            fetch, words = Fetch.FAILED, str(error)
        else:
            fetch, words = (Fetch.DONE, "") if fits else (Fetch.NO_ROOM, _NO_ROOM)
        crash_point("brought")
        self._evictions.pop(unit.id, None)
        await self.in_thread(self.book.fetched, unit.id, fetch, words or None)


@asynccontextmanager
async def _turn(path: Path) -> AsyncIterator[None]:
    """Has the lock of the list, as soon as no other process has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while not _is_locked(descriptor):  # noqa: ASYNC110 (the kernel tells nobody when it is)
            await trio.sleep(_LOOK_S)
        yield
    finally:
        os.close(descriptor)


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    one: BaseException = group
    while isinstance(one, BaseExceptionGroup):
        one = one.exceptions[0]
    return one


def _explained(error: sqlite3.Error, path: Path) -> IcatfsError:
    if "full" in str(error):
        return NoSpace(f"the list of what was asked for, {path}, cannot be written: {error}")
    return ConfigError(
        f"the list of what was asked for, {path}, cannot be used: {error}; move it away, or choose"
        " another place with ICATFS_STATE_DIR"
    )


def folder_of(state_dir: Path, home: Home) -> Path:
    """Where the list of this user at this facility is, and what belongs to it."""
    digest = hashlib.sha256(f"{home.user}\n{home.server}".encode()).hexdigest()[:16]
    return state_dir / "orders" / digest


def open_book(state_dir: Path, home: Home) -> Book:
    """The list of this user at this facility, made if need be. ConfigError, NoSpace."""
    folder = folder_of(state_dir, home)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"cannot use the folder {folder}: {error.strerror}; choose another place with"
            " ICATFS_STATE_DIR"
        ) from error
    try:
        book = Book(folder / BOOK)
        book.settle(home)
    except sqlite3.Error as error:
        raise _explained(error, folder / BOOK) from error
    return book


@asynccontextmanager
async def open_orders(
    book: Book,
    recall: Recall,
    *,
    bring: Callable[[Ordered, int], Awaitable[bool]] | None = None,
    at_once: int = AT_ONCE,
) -> AsyncIterator[Orders]:
    """The orders of a mount, being worked on. At the end they stay on the list.

    ``bring`` fetches the bytes of an online unit into the cache, where so many bytes of the same
    command are there already; False where it has no room. It raises what the data service raises.
    """
    orders = Orders(book, recall, bring, at_once)
    try:
        async with service_nursery() as nursery:
            nursery.start_soon(orders.work)
            yield orders
            nursery.cancel_scope.cancel()
    finally:
        book.close()
