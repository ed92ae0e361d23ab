"""What could not be written of a draft: as long as something lacks it must not look whole.

A program that is told at once knows from where on nothing was written. It may try again from there,
or from before, and what it then writes is its business. Of what the kernel keeps no program knows
which part was refused, nor when: so every byte of it has to come once more.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from icatfs.content.extents import Extents

if TYPE_CHECKING:
    from icatfs.errors import IcatfsError

_FAR = 1 << 63


class Lacking:
    """The bytes that one draft lacks. Invariant: ``error`` is None exactly if it lacks nothing."""

    def __init__(self) -> None:
        # mutable
        self.error: IcatfsError | None = None
        """Why the first of them could not be written."""
        self._from: float = math.inf
        """From where on a program knows that it must try again."""
        self._kept = Extents()
        """What the kernel kept, and could not write."""

    def refused(self, offset: int, error: IcatfsError) -> None:
        """A write from ``offset`` on failed, and its program was told."""
        if offset < self._from:
            self._from, self.error = offset, error

    def lost(self, start: int, stop: int, error: IcatfsError) -> None:
        """A range that the kernel kept could not be written."""
        self._kept.add(start, stop)
        self.error = self.error or error

    def written(self, start: int, stop: int) -> None:
        """A range was written."""
        if start <= self._from:
            self._from = math.inf
        self._kept.remove(start, stop)
        self._settle()

    def cut(self, size: int) -> None:
        """The draft ends at ``size`` now."""
        self.written(size, _FAR)

    def _settle(self) -> None:
        if self._from == math.inf and not self._kept:
            self.error = None
