"""The worker sends a file, as far as it is there: no byte of it passes through the mount.

A plain connection takes its bytes from the file inside the kernel (``sendfile``); TLS has to see
them. Where the size is not known yet, the body goes in chunks as large as what is there.

The data service checks rights and locks before it reads the body, answers, and then swallows the
rest (ids.server 2.1.1, put). So the connection is looked at before each piece: an answer that
comes before the end ends the sending. A body that ends otherwise than by its last `Feed` breaks
off, and the server catalogues nothing (recorded): the last chunk is not sent before that.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from icatfs.mover import wire
from icatfs.mover.answer import Buffered
from icatfs.mover.exchange import Exchange
from icatfs.mover.line import Failed
from icatfs.mover.wire import CHUNK, Framing, Trouble

if TYPE_CHECKING:
    from icatfs.mover.answer import Answer
    from icatfs.mover.exchange import Served
    from icatfs.mover.line import Line

_LARGEST_PIECE = 4 * CHUNK
_REST_OF_ANSWER_S = 5.0


class Upload(Exchange[wire.Feed]):
    """One request with a body."""

    def __init__(self, asked: wire.Open, mount: Served) -> None:
        super().__init__(asked, mount)
        # constant
        self._in_chunks = asked.body is Framing.CHUNKS
        # mutable: the file, -1 before it came; what the connection took of it, and what was told
        self._fd = -1
        self._position = self._told = 0

    def _converse(self) -> None:
        line = self._connect()
        source = Buffered(line)
        line.queue(self._asked.head)
        answer = self._early(line, source)
        if answer is not None:
            self._tell_whole(answer, _REST_OF_ANSWER_S, must_be_whole=False)
        elif not self._closed:
            answer = self._answer(source, time.monotonic() + self._asked.first_byte_s)
            self._tell_whole(answer, self._asked.silence_s, must_be_whole=True)

    def _finish(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _early(self, line: Line, source: Buffered) -> Answer | None:
        """Send all; the answer that came before the end, if one did."""
        try:
            return self._send(line, source)
        except Failed as failed:
            # Who closes after an answer may have it read still.
            if failed.trouble is Trouble.BROKEN and not self._closed:
                with suppress(Failed):
                    return self._look(source)
            raise

    def _send(self, line: Line, source: Buffered) -> Answer | None:
        while (feed := self._next()) is not None:
            while self._position < feed.stop:
                stop = min(feed.stop, self._position + _LARGEST_PIECE)
                if self._in_chunks:
                    line.queue(b"%x\r\n" % (stop - self._position))
                if (answer := self._piece(line, source, stop)) is not None:
                    return answer
                if self._in_chunks:
                    line.queue(b"\r\n")
            if feed.is_last and self._in_chunks:
                line.queue(b"0\r\n\r\n")
            if (answer := self._flush(line, source)) is not None:
                return answer
            self._tell()
            if feed.is_last:
                break
        return None

    def _next(self) -> wire.Feed | None:
        """How far the file may be sent now; None: nothing more is wanted."""
        while True:
            work = self._works.get()
            if work is None:
                return None
            if self._fd < 0:
                self._fd, work.fd = work.fd, -1
            work.close()
            if self._works.empty():  # otherwise the next one says more
                feed: wire.Feed = work.order
                return feed

    def _piece(self, line: Line, source: Buffered, stop: int) -> Answer | None:
        while self._position < stop:
            if line.wait(0) and (answer := self._look(source)) is not None:
                return answer
            border = (self._position // CHUNK + 1) * CHUNK
            count = line.send_file(self._fd, self._position, min(border, stop) - self._position)
            if count is None:
                self._wait_for_room(line)
                continue
            self._position += count
            if self._position == border:
                self._tell()
        return None

    def _flush(self, line: Line, source: Buffered) -> Answer | None:
        while not line.push():
            if line.wait(0) and (answer := self._look(source)) is not None:
                return answer
            self._wait_for_room(line)
        return None

    def _wait_for_room(self, line: Line) -> None:
        if not line.wait_for_room(self._asked.silence_s):
            raise Failed(Trouble.SILENT)

    def _look(self, source: Buffered) -> Answer | None:
        """The answer that begins to come; TLS has things to say that are none."""
        while source.has_come():
            answer = self._next_answer(source, time.monotonic() + _REST_OF_ANSWER_S)
            if answer is not None:
                return answer
        return None

    def _tell(self) -> None:
        if self._position > self._told:
            self._mount.say(wire.Sent(self._asked.stream, self._told, self._position))
            self._told = self._position
