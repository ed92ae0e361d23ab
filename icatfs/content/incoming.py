"""A zip that is coming: who is expected in it, how far it has come, who waits."""

from __future__ import annotations

import math
from itertools import islice
from typing import TYPE_CHECKING

import trio

from icatfs.content import foresight
from icatfs.content.members import Expected, Roll

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from icatfs.content.foresight import Contents, Window
    from icatfs.values import ContentVersion, DatafileId, DatasetId

LARGEST = 4 * 2**20
"""A member is held in memory until it is complete; larger ones are let pass."""
_AT_ONCE = 1000
"""Files take 6 us each to be expected, and others wait meanwhile."""
_PATIENCE_S = 1.0
"""Seventy requests of one's own; and less than what a program would call hanging."""
_STILL_S = 0.5


class Incoming:
    """One zip. Made when it is asked for; the first files of many are expected at once, the others
    when it is ``prepared``: nobody waits for these before, nor would he, they are far behind.
    """

    def __init__(
        self,
        dataset: DatasetId,
        contents: Contents,
        window: Window | None,
        *,
        front: str | None = None,
        known: Mapping[DatafileId, int] | None = None,
    ) -> None:
        """All of the dataset if there is no window.

        ``front`` is what another zip of it showed (`icatfs.content.members`), and ``known`` has
        CRC-32s beside those of the catalogue.
        """
        positions: Sequence[int] = (
            range(len(contents.files)) if window is None else window.positions
        )
        # given
        self.dataset = dataset
        self.is_whole = window is None
        self._contents = contents
        self._known = known or {}
        # constant
        self._ready_s = trio.current_time() + self._price_s(len(positions))
        # mutable: who is expected, the place of each datafile, and where in the zip its member
        # should end; and who is still to be expected
        self.versions: list[ContentVersion] = []
        self.roll = Roll(is_named=window is not None, front=front)
        self._places: dict[DatafileId, int] = {}
        self._ends: list[int] = []
        self._left = iter(positions)
        self._expect()
        # mutable: how much has come since the first byte, and when the last did
        self._received = 0
        self._begun_s: float | None = None
        self._moved_s = 0.0
        # mutable: how many members have begun; what the last one is called, and its bytes so far,
        # None once they are too many
        self.members = 0
        self._name = ""
        self._parts: list[bytes] | None = []
        self._size = 0
        # mutable: by place in the roll
        self.waiting: dict[int, trio.Event] = {}

    @property
    def datafiles(self) -> Sequence[DatafileId] | None:
        """What is to be named in the request."""
        return None if self.is_whole else [version.datafile for version in self.versions]

    async def prepare(self) -> None:
        """Expect all who are still to be expected; before anything comes."""
        while self._expect():
            await trio.lowlevel.checkpoint()

    def _expect(self) -> bool:
        """Expect the next files; whether there were any."""
        end = self._ends[-1] if self._ends else 0
        before = len(self.versions)
        for position in islice(self._left, _AT_ONCE):
            version = self._contents.version(position)
            name = self._contents.files[position].name
            crc32 = self._known.get(version.datafile, version.crc32)
            self.roll.expect(Expected(name, version.size, crc32))
            self._places[version.datafile] = len(self.versions)
            self.versions.append(version)
            end += (version.size or 0) + foresight.OVERHEAD
            self._ends.append(end)
        return len(self.versions) > before

    def _price_s(self, count: int) -> float:
        each = foresight.MEMBER_S if self.is_whole else foresight.NAMED_S
        return foresight.ZIP_S + each * count

    def received(self, count: int) -> None:
        """So many bytes have come."""
        self._moved_s = trio.current_time()
        if self._begun_s is None:
            self._begun_s = self._moved_s
        self._received += count

    def begin(self, name: str) -> None:
        """A member begins."""
        self.members += 1
        self._name, self._parts, self._size = name, [], 0

    def add(self, data: bytes) -> None:
        """The next bytes of the member."""
        self._size += len(data)
        if self._size > LARGEST:
            self._parts = None
        elif self._parts is not None:
            self._parts.append(data)

    def take(self) -> tuple[str, bytes | None]:
        """Name and bytes of the member; None if there were too many to hold."""
        parts, self._parts = self._parts, None
        return self._name, None if parts is None else b"".join(parts)

    def place_of(self, version: ContentVersion) -> int | None:
        """The place of a version that may still come."""
        place = self._places.get(version.datafile)
        if place is None or place < self.roll.place or self.versions[place] != version:
            return None
        return None if (version.size or 0) > LARGEST else place

    def wait_s(self, place: int) -> float:
        """In how many seconds somebody's file should be here; endless while nothing moves.

        What is late will probably be as late again.
        """
        now, rate, late_s = trio.current_time(), foresight.BYTES_PER_S, 0.0
        if self._begun_s is None:
            late_s = abs(self._ready_s - now)
        elif now - self._moved_s > _STILL_S:
            late_s = math.inf
        elif now > self._begun_s:
            rate = self._received / (now - self._begun_s)
        return late_s + max(0, self._ends[place] - self._received) / rate

    async def wait(self, place: int) -> None:
        """Return when the file of this place has come, or will not come soon."""
        deadline = trio.current_time() + _PATIENCE_S
        while trio.current_time() + self.wait_s(place) < deadline:
            event = self.waiting.setdefault(place, trio.Event())
            try:
                with trio.move_on_after(min(_STILL_S, deadline - trio.current_time())):
                    await event.wait()
                    return
            finally:
                self._leave(place, event)

    def _leave(self, place: int, event: trio.Event) -> None:
        """One less waits for this; for the last it is not waited for any more."""
        if not event.is_set() and not event.statistics().tasks_waiting:
            del self.waiting[place]

    def wake(self) -> None:
        """Wake those whose file has come or was passed over."""
        for place in [place for place in self.waiting if place < self.roll.place]:
            self.waiting.pop(place).set()

    def end(self) -> None:
        """Wake everybody."""
        for event in self.waiting.values():
            event.set()
        self.waiting.clear()
