"""Work shared by many tasks: one action for all who want it, one lock for each key, and the nursery
of a service."""

from __future__ import annotations

import copy
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

import trio

from icatfs.errors import ShuttingDown

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Hashable

K = TypeVar("K", bound="Hashable")
T = TypeVar("T")


@asynccontextmanager
async def service_nursery() -> AsyncIterator[trio.Nursery]:
    """The nursery of a service, whose own tasks raise nothing.

    So what comes out of the block is what its user has raised, as it was raised, and not in a
    group.
    """
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
    except BaseExceptionGroup as group:
        if len(group.exceptions) > 1:
            raise
        raise group.exceptions[0] from group.exceptions[0].__cause__


class _Flight(Generic[T]):
    """One running action. ``results`` holds its result from the moment ``landed`` is set, unless
    ``failure`` does."""

    __slots__ = ("failure", "landed", "results")

    def __init__(self) -> None:
        self.landed = trio.Event()
        self.results: list[T] = []
        self.failure: Exception | None = None


class SingleFlight(Generic[K, T]):
    """Runs an action once for all who ask for the same key while it runs.

    The action runs in the given nursery, so it belongs to the owner of that nursery and not to
    whoever asked first: a cancelled waiter harms nobody, and the action goes on without it.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        # given
        self._nursery = nursery
        # mutable: holds exactly the keys whose action has not ended
        self._flights: dict[K, _Flight[T]] = {}

    def __contains__(self, key: K) -> bool:
        """Whether an action of this key is running."""
        return key in self._flights

    def __len__(self) -> int:
        return len(self._flights)

    async def run(self, key: K, fn: Callable[[], Awaitable[T]]) -> T:
        """The result of the running action of this key, else of ``fn``, which is started.

        An exception of the action is raised in every waiter, as a copy with the original as its
        cause. Raises ShuttingDown when the nursery ends before the action does.
        """
        flight = self.start(key, fn)
        await flight.landed.wait()
        if flight.failure is not None:
            raise _fresh(flight.failure) from flight.failure
        return flight.results[0]

    def start(self, key: K, fn: Callable[[], Awaitable[T]]) -> _Flight[T]:
        """Have the action of this key running, for whoever asks for its result later."""
        if key in self._flights:
            return self._flights[key]
        flight: _Flight[T] = _Flight()
        try:
            self._nursery.start_soon(self._fly, key, flight, fn, name=fn)
        except RuntimeError as error:  # trio's word for a nursery that has ended
            raise ShuttingDown("The mount is being taken down.") from error
        self._flights[key] = flight
        return flight

    async def _fly(self, key: K, flight: _Flight[T], fn: Callable[[], Awaitable[T]]) -> None:
        try:
            flight.results.append(await fn())
        except Exception as error:  # raised in every waiter
            flight.failure = error
        finally:
            if not flight.results and flight.failure is None:
                flight.failure = ShuttingDown("The mount is being taken down.")
            del self._flights[key]
            flight.landed.set()


def _fresh(error: Exception) -> Exception:
    """A copy without traceback, as each waiter adds its own; the original if it has no copy."""
    try:
        return copy.copy(error)
    except TypeError:
        return error


class _Shared:
    """A lock and the number of tasks that hold it or wait for it."""

    __slots__ = ("lock", "users")

    def __init__(self) -> None:
        self.lock = trio.Lock()
        self.users = 0


class KeyedLock(Generic[K]):
    """One lock for each key: ``async with locks(key): ...``. Unused keys take no memory."""

    def __init__(self) -> None:
        # mutable: holds exactly the keys with users
        self._locks: dict[K, _Shared] = {}

    def __len__(self) -> int:
        return len(self._locks)

    @asynccontextmanager
    async def __call__(self, key: K) -> AsyncIterator[None]:
        """Holds the lock of ``key``; first come, first served. Releases without a checkpoint."""
        shared = self._locks.setdefault(key, _Shared())
        shared.users += 1
        try:
            await shared.lock.acquire()
            try:
                yield
            finally:
                shared.lock.release()
        finally:
            shared.users -= 1
            if not shared.users:
                del self._locks[key]
