"""What was learnt of units a while ago, and for how long it counts. Times are trio's."""

from __future__ import annotations

from typing import TypeVar

import trio

from icatfs.errors import RecallFailed
from icatfs.recall.units import Key
from icatfs.values import OnlineStatus

K = TypeVar("K")
V = TypeVar("V")

FAILURE_S = 300.0
"""How long a failed restore is the answer, unless the data are seen to be back."""
ANSWER_S = 5.0
ONLINE_S = 60.0
"""How long data that were seen online are asked for without a question."""
_MOST = 10_000


class Memory:
    """Invariant: no dictionary has more than 10,000 entries; what is past its time is no entry."""

    def __init__(self) -> None:
        self._failures: dict[Key, tuple[float, str]] = {}
        self._answers: dict[Key, tuple[float, OnlineStatus]] = {}
        self._online: dict[Key, float] = {}

    def note(self, key: Key, status: OnlineStatus) -> None:
        """Where a unit was just now. What is back has not failed to come back."""
        now = trio.current_time()
        self._answers = bounded(self._answers)
        self._answers[key] = (now + ANSWER_S, status)
        if status is OnlineStatus.ONLINE:
            self._forget_failures(key)
            self._online = bounded(self._online)
            self._online[key] = now + ONLINE_S
        else:
            self._online.pop(key, None)

    def answer(self, key: Key) -> OnlineStatus | None:
        """Where the unit was some seconds ago, if that was looked at."""
        until_s, status = self._answers.get(key, (0.0, None))
        return status if trio.current_time() < until_s else None

    def is_online(self, key: Key) -> bool:
        """Whether the unit, or the dataset it is in, was online a moment ago."""
        now = trio.current_time()
        return any(now < self._online.get(one, 0.0) for one in (Key(key.dataset), key))

    def doubt(self, key: Key) -> None:
        """The unit is not where it was believed to be."""
        for one in (Key(key.dataset), key):
            self._online.pop(one, None)
            self._answers.pop(one, None)

    def note_failure(self, key: Key, error: RecallFailed) -> RecallFailed:
        """The restore of a unit failed; what to tell those who wait."""
        words = f"{error} (no read asks for it again for {FAILURE_S / 60:.0f} minutes)"
        self._failures = bounded(self._failures)
        self._failures[key] = (trio.current_time() + FAILURE_S, words)
        return RecallFailed(words)

    def failure(self, key: Key) -> RecallFailed | None:
        """The failed restore of the unit, or of its dataset, while it is remembered."""
        for one in (Key(key.dataset), key):
            until_s, words = self._failures.get(one, (0.0, ""))
            if trio.current_time() < until_s:
                return RecallFailed(words)
        return None

    def forget_failure(self, key: Key) -> None:
        """Forget it; of a dataset also those of its datafiles."""
        self._forget_failures(key)
        self.doubt(key)

    def _forget_failures(self, key: Key) -> None:
        for one in list(self._failures):
            if one.dataset == key.dataset and key.datafile in (None, one.datafile):
                del self._failures[one]
        self._failures.pop(Key(key.dataset), None)


def bounded(memory: dict[K, V]) -> dict[K, V]:
    """A memory with room for one entry more: a new one when it is full."""
    return memory if len(memory) < _MOST else {}
