"""Locks on datasets: shared by readers and writers, exclusive for what removes or replaces.

Never waited for. Several datasets are locked together or not at all (ids.server: LockManager).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_EXCLUSIVE = -1


class Busy(Exception):
    """Somebody else holds one of the locks."""


class Hold:
    """Locks that were acquired; ``release`` may be called again without harm."""

    def __init__(self, release: Callable[[], None]) -> None:
        self._release: Callable[[], None] | None = release

    def release(self) -> None:
        """Give the locks back."""
        release, self._release = self._release, None
        if release is not None:
            release()


class Locks:
    """All locks of a data service."""

    def __init__(self) -> None:
        # mutable, by dataset: how many share it, or -1; never 0
        self._held: dict[int, int] = {}

    def acquire(self, datasets: Iterable[int], *, exclusive: bool) -> Hold:
        """Lock all of these; raises Busy and then has locked none."""
        wanted = frozenset(datasets)
        for dataset in wanted:
            count = self._held.get(dataset, 0)
            if count == _EXCLUSIVE or (exclusive and count):
                raise Busy(f"dataset {dataset} is locked")
        for dataset in wanted:
            self._held[dataset] = _EXCLUSIVE if exclusive else self._held.get(dataset, 0) + 1
        return Hold(lambda: self._release(wanted))

    def _release(self, datasets: frozenset[int]) -> None:
        for dataset in datasets:
            left = self._held.pop(dataset)
            if left > 1:
                self._held[dataset] = left - 1

    def as_json(self) -> list[dict[str, object]]:
        """As getServiceStatus shows them."""
        return [
            {
                "id": dataset,
                "type": "EXCLUSIVE" if count == _EXCLUSIVE else "SHARED",
                "count": abs(count),
            }
            for dataset, count in self._held.items()
        ]

    def __len__(self) -> int:
        return len(self._held)
