"""The body of an answer that a worker process writes where it belongs (`icatfs.mover`)."""

from __future__ import annotations

import urllib.request
from typing import TYPE_CHECKING

import trio

from icatfs.errors import FacilityUnreachable
from icatfs.mover.mover import Question
from icatfs.mover.process import Stopped
from icatfs.mover.wire import Trouble
from icatfs.transport.faults import meaning

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Self

    import httpx

    from icatfs.mover.mover import Mover
    from icatfs.mover.process import Moved, Sink
    from icatfs.transport.admission import Slot

_PORTS = {"http": 80, "https": 443}


class MovedStream:
    """Like `ByteStream`, but its bytes never come here: they go where they are ordered to.

    Use it as ``async with stream``: first ``into``, then ``order`` what is wanted, in the order in
    which it comes, and ``progress`` until all of it is there.
    """

    def __init__(
        self, moved: Moved, slot: Slot, host: str, asked_at: float, received: Callable[[int], None]
    ) -> None:
        # given
        self._moved = moved
        self._slot = slot
        self._host = host
        self._received = received
        self.asked_at = asked_at
        # constant
        assert moved.head is not None
        self.status = moved.head.status
        self.headers: Mapping[str, str] = moved.head.headers
        length = self.headers.get("content-length", "")
        self.length = int(length) if length.isdecimal() else None
        # mutable
        self.has_surplus = False
        """Whether the body went on behind the last byte that was ordered."""
        self._has_begun = self._is_finishing = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def into(self, sink: Sink) -> None:
        """Whom to tell what arrived; before the first order."""
        self._moved.into(sink)

    def order(self, start: int, stop: int, fd: int | None, *, is_last: bool) -> None:
        """The next bytes are [start, stop) of a file and go there through ``fd``, or nowhere.

        At ``is_last`` a body that has not told its length must end, or it ``has_surplus``.
        """
        self._moved.order(start, stop, fd, is_last=is_last)

    def finish(self) -> None:
        """Nothing more is wanted; ``progress`` tells what is under way still, and the end."""
        self._is_finishing = True
        self._moved.close()

    async def progress(self) -> int:
        """How many bytes arrived since it was asked last, at least one; 0: the body ended.

        Raises what `ByteStream` raises.
        """
        may_go = self._has_begun and not self._is_finishing
        if may_go and self._slot.should_give_way():
            await self.aclose()
            raise FacilityUnreachable(f"The transfer from {self._host} gave way to another.")
        try:
            count = await self._moved.progress()
        except Stopped as stopped:
            self._slot.release()
            if stopped.trouble is Trouble.SURPLUS:
                self.has_surplus = True
                return 0
            raise meaning(stopped.trouble, self._host)[1] from stopped
        if not count:
            self._slot.release()
        self._has_begun = True
        self._received(count)
        return count

    async def body(self) -> bytes:
        """What an answer that is a refusal says."""
        assert self._moved.head is not None
        return self._moved.head.body

    async def aclose(self) -> None:
        """Break off, if it has not ended, and give the place back."""
        self._moved.close()
        self._slot.release()
        await trio.lowlevel.cancel_shielded_checkpoint()


def question(request: httpx.Request, silence_s: float) -> Question:
    """What the mover is to ask."""
    url = request.url
    timeouts = request.extensions["timeout"]
    lines = [b"%s: %s" % pair for pair in request.headers.raw]
    target = b"%s %s HTTP/1.1" % (request.method.encode("ascii"), url.raw_path)
    return Question(
        host=url.raw_host.decode("ascii").strip("[]"),
        port=url.port or _PORTS[url.scheme],
        tls=url.scheme == "https",
        head=b"\r\n".join([target, *lines, b"", b""]),
        connect_s=timeouts["connect"],
        first_byte_s=timeouts["read"],
        silence_s=silence_s,
    )


def can_move(mover: Mover | None, url: httpx.URL, *, waits: bool) -> bool:
    """Whether a worker can ask there, now or, where one ``waits``, soon.

    Not through a proxy: that is httpx's business.
    """
    if mover is None or not mover.is_usable or url.scheme not in _PORTS:
        return False
    if not waits and not mover.is_running:
        return False
    proxies = urllib.request.getproxies()
    if "all" not in proxies and url.scheme not in proxies:
        return True
    return bool(urllib.request.proxy_bypass(url.host))
