"""One request and its answer, in a thread of the worker: what is the same for both directions.

Invariants: `Over` is the last message of a stream, sent when its thread uses no descriptor more; a
descriptor is closed when its work is done or its stream over.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from icatfs.mover import wire
from icatfs.mover.answer import Answer, Buffered, parse
from icatfs.mover.line import Failed, Line, connect
from icatfs.mover.wire import LARGEST_BODY, Trouble

if TYPE_CHECKING:
    import ssl

LARGEST_HEAD = 2**16 - 1

W = TypeVar("W", wire.Order, wire.Feed)


class Served(Protocol):
    """Who is served: the part of the mount that an exchange needs."""

    def say(self, message: wire.FromWorker) -> None: ...

    def forget(self, stream: int) -> None: ...

    def context(self) -> ssl.SSLContext: ...


class Work(Generic[W]):
    """What is to be done, and the descriptor that came with it; -1: none."""

    __slots__ = ("fd", "order")

    def __init__(self, order: W, fd: int) -> None:
        self.order: W = order
        self.fd = fd

    def close(self) -> None:
        """The descriptor is not needed any more."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Exchange(ABC, Generic[W]):
    """One request and its answer, in a thread of its own."""

    def __init__(self, asked: wire.Open, mount: Served) -> None:
        # given
        self._asked = asked
        self._mount = mount
        # mutable: what is to be done; None: nothing more is wanted
        self._works: queue.SimpleQueue[Work[W] | None] = queue.SimpleQueue()
        self._line: Line | None = None
        self._closed = False

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._run, daemon=True).start()

    # Called by the thread that hears the mount.

    def add(self, order: W, fd: int) -> None:
        """More to be done, after all that was given before."""
        self._works.put(Work(order, fd))

    def close(self) -> None:
        """Nothing more is wanted."""
        self._closed = True
        if self._line is not None:
            self._line.shut()
        self._works.put(None)

    # The thread of the stream.

    @abstractmethod
    def _converse(self) -> None:
        """All of it, up to the end of the answer; Failed."""

    @abstractmethod
    def _finish(self) -> None:
        """Say what is to be said yet, and let go of what is held."""

    def _run(self) -> None:
        trouble: Trouble | None = Trouble.BROKEN  # what a mistake of ours looks like from outside
        try:
            self._converse()
            trouble = None
        except Failed as failed:
            trouble = failed.trouble
        finally:
            self._end(None if self._closed else trouble)

    def _end(self, trouble: Trouble | None) -> None:
        self._finish()
        if self._line is not None:
            self._line.close()
        self._mount.forget(self._asked.stream)
        while not self._works.empty():
            work = self._works.get()
            if work is not None:
                work.close()
        self._mount.say(wire.Over(self._asked.stream, trouble))

    def _connect(self) -> Line:
        asked = self._asked
        context = self._mount.context() if asked.tls else None
        self._line = connect(asked.host, asked.port, asked.connect_s, context)
        return self._line

    def _answer(self, source: Buffered, deadline: float) -> Answer:
        """The answer, behind those that only say that it is to come (100 ...)."""
        while (answer := self._next_answer(source, deadline)) is None:
            pass
        return answer

    def _next_answer(self, source: Buffered, deadline: float) -> Answer | None:
        """The same; None: one that only says that it is to come."""
        while (head := source.until(b"\r\n\r\n", LARGEST_HEAD)) is None:
            self._wait(deadline - time.monotonic())
        status, headers = parse(head)
        return Answer(status, headers, source) if status >= 200 else None

    def _tell_whole(self, answer: Answer, patience_s: float, *, must_be_whole: bool) -> None:
        """Tell the answer with its body, or the begin of it where that says enough."""
        body, view = b"", memoryview(bytearray(LARGEST_BODY))
        try:
            while len(body) < LARGEST_BODY:
                count = answer.read(view[: LARGEST_BODY - len(body)])
                if count == 0:
                    break
                if count is None:
                    self._wait(patience_s)
                else:
                    body += view[:count]
        except Failed:
            if must_be_whole or not body:
                raise
        self._mount.say(wire.Head(self._asked.stream, answer.status, answer.headers, body))

    def _wait(self, seconds: float) -> None:
        if not self._line_has_more(seconds):
            raise Failed(Trouble.SILENT)

    def _line_has_more(self, seconds: float) -> bool:
        assert self._line is not None
        return seconds > 0 and self._line.wait(seconds)
