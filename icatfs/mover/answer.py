"""The answer to one request, HTTP/1.1: its head, and the bytes of its body without framing.

Written out here because the libraries at hand either hand over each piece as a new object, or wait
until all that was asked for has come (``http.client``'s ``readinto``). One request a connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from icatfs.mover.line import Failed
from icatfs.mover.wire import Trouble

if TYPE_CHECKING:
    from collections.abc import Callable

_LARGEST_HEAD = 2**16
_BUFFER = 2**18
_LONGEST_SIZE_LINE = 2**10


class Readable(Protocol):
    """The part of `icatfs.mover.line.Line` that is used here."""

    def read(self, view: memoryview) -> int | None:
        """Bytes that are there; 0 at the end, None: none yet."""
        ...


class Answer:
    """``status`` and ``headers``, names in lower case; ``read`` gives the body."""

    def __init__(self, status: int, headers: dict[str, str], source: Buffered) -> None:
        # given
        self.status = status
        self.headers = headers
        # constant
        self._read: Callable[[memoryview], int | None]
        length = headers.get("content-length", "")
        coding = headers.get("transfer-encoding", "").lower()
        self.says_length = False
        if coding:
            if coding != "chunked":  # whoever packs it as well was not asked to
                raise Failed(Trouble.BROKEN)
            self._read = Chunked(source).read
        elif length.isdecimal():
            self.says_length = True
            self._read = Counted(source, int(length)).read
        else:
            self._read = source.read

    def read(self, view: memoryview) -> int | None:
        """Bytes that are there; 0 at the end of the body, None: none yet. Failed."""
        return self._read(view)


class Buffered:
    """A connection, and what was read from it beyond what was wanted."""

    def __init__(self, line: Readable) -> None:
        # given
        self._line = line
        # mutable: what is left is [start, stop) of the buffer
        self._buffer = bytearray(_LARGEST_HEAD)
        self._view = memoryview(self._buffer)
        self._start = self._stop = 0

    def read(self, view: memoryview) -> int | None:
        """Bytes that are there; 0 at the end, None: none yet."""
        left = self._stop - self._start
        if not left:
            if len(view) >= len(self._buffer):
                return self._line.read(view)
            count = self._more()
            if not count:
                return count
            left = count
        count = min(left, len(view))
        view[:count] = self._view[self._start : self._start + count]
        self._start += count
        return count

    def has_come(self) -> bool:
        """Whether something is there; Failed where the connection has ended."""
        if self._start == self._stop and self._more() == 0:
            raise Failed(Trouble.BROKEN)
        return self._start < self._stop

    def until(self, mark: bytes, most: int) -> bytes | None:
        """What comes before a mark, which is passed over; None: not all of it is there yet."""
        while (place := self._buffer.find(mark, self._start, self._stop)) < 0:
            if self._stop - self._start > most:
                raise Failed(Trouble.BROKEN)
            count = self._more()
            if count is None:
                return None
            if not count:
                raise Failed(Trouble.BROKEN)
        found = bytes(self._view[self._start : place])
        self._start = place + len(mark)
        return found

    def _more(self) -> int | None:
        left = self._stop - self._start
        if self._start:
            self._view[:left] = bytes(self._view[self._start : self._stop])
            self._start, self._stop = 0, left
        if left == len(self._buffer):
            raise Failed(Trouble.BROKEN)
        count = self._line.read(self._view[left:])
        self._stop += count or 0
        return count


class Counted:
    """A body that has said how long it is."""

    def __init__(self, source: Buffered, length: int) -> None:
        self._source = source
        self._left = length

    def read(self, view: memoryview) -> int | None:
        """As of `Answer`."""
        if not self._left:
            return 0
        count = self._source.read(view[: self._left])
        if count == 0:
            raise Failed(Trouble.BROKEN)
        self._left -= count or 0
        return count


class Chunked:
    """A body in chunks, each with its size in front."""

    def __init__(self, source: Buffered) -> None:
        # given
        self._source = source
        # mutable: bytes left of this chunk; what lies between two chunks is still to be read;
        # the last chunk, of no bytes, was seen
        self._left = 0
        self._is_first = True
        self._ended = False

    def read(self, view: memoryview) -> int | None:
        """As of `Answer`."""
        if not self._left and not self._ended and not self._next():
            return None
        if self._ended:
            return 0
        count = self._source.read(view[: self._left])
        if count == 0:
            raise Failed(Trouble.BROKEN)
        self._left -= count or 0
        return count

    def _next(self) -> bool:
        """Begin the next chunk; False where its size has not come yet."""
        if not self._is_first:
            rest = self._source.until(b"\r\n", 1)
            if rest is None:
                return False
            if rest:
                raise Failed(Trouble.BROKEN)
            self._is_first = True
        line = self._source.until(b"\r\n", _LONGEST_SIZE_LINE)
        if line is None:
            return False
        self._is_first = False
        size = line.partition(b";")[0].strip()
        try:
            self._left = int(size, 16) if size.isalnum() else -1
        except ValueError:
            self._left = -1
        if self._left < 0:
            raise Failed(Trouble.BROKEN)
        self._ended = not self._left  # trailers, if any, go with the connection
        return True


def parse(head: bytes) -> tuple[int, dict[str, str]]:
    """Status and headers of what comes before the empty line; Failed."""
    first, *lines = head.decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    status = rest[:3]
    if not version.startswith("HTTP/1.") or not status.isdecimal() or len(status) != 3:
        raise Failed(Trouble.BROKEN)
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise Failed(Trouble.BROKEN)
        headers[name.lower()] = value.strip()
    return int(status), headers
