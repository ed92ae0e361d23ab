"""The retry policy, the only one there is: what went wrong, whether to try again, and when.

Pure. Only the transport uses it. What was certainly not sent, or may be sent twice without harm,
is tried again with full jitter (waits are drawn between nothing and a growing bound, so that many
clients do not come back together). Patience is bounded in attempts and in time: a server that does
not answer at all costs a caller about ``unreachable_s``.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import Enum

_MOST_ATTEMPTS = 5
_BASE_S = 0.25
_CAP_S = 3.0
_AT_ONCE_S = 1.0
OVERLOADED_S = 20.0
"""A failure that took so long shows a server with too much to do."""
_NO_MORE_AFTER_S = 100.0


class Fault(Enum):
    """How an attempt failed."""

    HOPELESS = "hopeless"
    """Another attempt would fail alike: no such host, certificate not trusted."""
    UNREACHABLE = "unreachable"
    """No connection: nothing was sent."""
    BROKEN = "broken"
    """The connection ended before the answer: the request may have been carried out."""
    SILENT = "silent"
    """No answer in the time allowed."""
    GATEWAY = "gateway"
    """502, 503 or 504 without the server's own words: a proxy speaks, or a container."""
    FAILED = "failed"
    """500: the server tripped over something."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One failed attempt, in seconds of any steady clock."""

    fault: Fault
    begun: float
    ended: float

    @property
    def shows_overload(self) -> bool:
        """A stock server whose threads block each other: silence, or failure after a long wait."""
        if self.fault is Fault.SILENT:
            return True
        is_failure = self.fault in (Fault.BROKEN, Fault.FAILED, Fault.GATEWAY)
        return is_failure and self.ended - self.begun >= OVERLOADED_S


class Patience:
    """What one caller's request will bear."""

    def __init__(
        self, *, idempotent: bool, unreachable_s: float, dice: random.Random | None = None
    ) -> None:
        # given
        self._idempotent = idempotent
        self._unreachable_s = unreachable_s
        self._dice = dice if dice is not None else random.Random()
        # mutable: failed attempts so far, never above _MOST_ATTEMPTS
        self._failed = 0
        self._first: Attempt | None = None

    def next_delay_s(self, attempt: Attempt) -> float | None:
        """Seconds to wait before trying again; None: give up."""
        self._failed += 1
        first = self._first = self._first or attempt
        if not self._may_repeat(attempt.fault):
            return None
        delay_s = self._delay_s(attempt)
        again = attempt.ended + delay_s
        since = first.begun if first.fault is Fault.UNREACHABLE else first.ended
        if again - since > self._unreachable_s or again - first.begun > _NO_MORE_AFTER_S:
            return None
        return delay_s

    def _may_repeat(self, fault: Fault) -> bool:
        if self._failed >= _MOST_ATTEMPTS:
            return False
        if fault is Fault.UNREACHABLE:
            return True
        if fault is Fault.FAILED:
            return self._idempotent and self._failed < 2
        return self._idempotent and fault in (Fault.BROKEN, Fault.GATEWAY)

    def _delay_s(self, attempt: Attempt) -> float:
        took_s = attempt.ended - attempt.begun
        if attempt.fault is Fault.BROKEN and self._failed == 1 and took_s < _AT_ONCE_S:
            return 0.0  # an idle connection that the server had closed
        return self._dice.uniform(0, min(_CAP_S, _BASE_S * 2**self._failed))
