"""The planner's state, with streams that are carried by hand: no time passes, no byte is moved."""

from __future__ import annotations

from typing import TYPE_CHECKING

from icatfs.content.dispatch import Dispatch
from icatfs.content.flows import Fetch, Stream, Waiter
from icatfs.content.plan import Limits
from icatfs.content.stream import Suspicion
from support.simulator import SimulatedCarrier, SimulatedFile
from support.sizes import MIB, PLENTY

if TYPE_CHECKING:
    from icatfs.content.courses import Course


class Desk:
    """A dispatch, and a file of ``size`` of which the cache can have ``room``."""

    def __init__(
        self, limits: Limits | None = None, size: int = 64 * MIB, room: int = PLENTY
    ) -> None:
        self.now = 0.0
        self.file = SimulatedFile(1, size, room)
        self.carriers: dict[Stream, SimulatedCarrier] = {}
        self.dispatch = Dispatch(limits or Limits(), self._open, lambda: self.now, idle_s=5.0)

    def _open(self, fetch: Fetch, course: Course) -> Stream:
        carrier = SimulatedCarrier(course.start)
        stream = Stream(fetch, carrier, course, self.now)
        self.carriers[stream] = carrier
        return stream

    def fetch(self, file: SimulatedFile | None = None) -> Fetch:
        file = file or self.file
        if file.version not in self.dispatch.fetches:
            self.dispatch.fetches[file.version] = Fetch(file, Suspicion())
        return self.dispatch.fetches[file.version]

    def wait(self, start: int, count: int = 1, file: SimulatedFile | None = None) -> Waiter:
        """Somebody waits for so many bytes of the file, or of another one."""
        return self.dispatch.wait(self.fetch(file), start, start + count)

    def bring(self, stream: Stream, count: int, seconds: float = 0.0) -> bool:
        """So many bytes come; whether the stream is to go on."""
        carrier, file = self.carriers[stream], stream.fetch.file
        assert isinstance(file, SimulatedFile)
        self.now += seconds
        file.arrived(carrier.position, carrier.position + count)
        carrier.position += count
        return self.dispatch.goes_on(stream, count)

    def bring_all(self, stream: Stream, piece: int = MIB) -> int:
        """Bring pieces until the stream goes on no more, and end it; where it got to.

        Who has what he waited for leaves.
        """
        carrier, size = self.carriers[stream], stream.fetch.file.size
        assert size is not None
        goes_on = self.dispatch.goes_on(stream, 0)
        while goes_on:
            goes_on = self.bring(stream, min(piece, size - carrier.position))
        for waiter in list(stream.fetch.waiters):
            if waiter.served.is_set():
                self.dispatch.leave(waiter)
        self.dispatch.ended(stream, None)
        return carrier.position

    def look(self, start: int, count: int = 1) -> tuple[Stream, int]:
        """Somebody waits for so many bytes, and gets them from a stream; where that ends."""
        waiter = self.wait(start, count)
        stream = waiter.stream
        assert stream is not None
        stop = self.bring_all(stream)
        assert waiter.served.is_set()
        return stream, stop

    @property
    def streams(self) -> list[Stream]:
        return self.dispatch.streams
