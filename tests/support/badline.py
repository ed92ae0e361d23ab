"""A bad line to a facility: a TCP proxy that cuts, stalls and damages what passes.

Everything a line does follows from its seed, the numbers of its connections and the bytes that
passed: the same seed does the same to the same traffic. What it did is in ``mishaps``, and counted
by kind in ``counted``: a test can say that there really was trouble.

**Damage is one bit**, the highest of a byte. In plain HTTP nothing but size and CRC-32 protects the
bytes of a file, so any byte of a body may be hit, in both directions. Elsewhere nothing is allowed
that no client could ever find: a request for another name, or to remove another file, is carried
out as it was received. So of a request only the first letter is hit, and the server refuses it;
and text (heads, JSON) that is hit anywhere is no ASCII and no UTF-8 any more.
"""

from __future__ import annotations

import math
import random
import socket
import struct
import threading
import time
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from icatfs.facility.handle import FacilityHandle

_BLOCK = 1 << 18
_METHODS = (b"GET ", b"PUT ", b"POST ", b"DELETE ", b"HEAD ")
_NEAREST, _FARTHEST = 50, 3_000_000
_LONGEST_STALL_S = 1.5
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER without lingering: the peer gets a reset


class Harm(StrEnum):
    """What can happen to a connection."""

    CUT = "cut"
    RESET = "reset"
    STALL = "stall"
    DAMAGE = "damage"


@dataclass(frozen=True, slots=True)
class Mishap:
    """What happens once so many bytes have passed ``upward``, to the facility, or down from it.

    One that is told to happen (`BadLine.befall`) counts the bytes of one upload's body, or those of
    the answer to it; one that comes by itself counts whatever passes.
    """

    harm: Harm
    upward: bool
    after: int
    seconds: float = 0.0


class Came(StrEnum):
    """What came of a mishap, as far as uploads are concerned."""

    DAMAGED_BODY = "damaged body"
    DAMAGED_ANSWER = "damaged answer"
    CUT_BODY = "cut in a body"
    LOST_ANSWER = "lost answer"
    STALL = "stall"
    ELSEWHERE = "elsewhere"

    @classmethod
    def of(cls, mishap: Mishap, *, is_put: bool) -> Came:
        """What it is, in an upload or elsewhere."""
        if not is_put:
            return cls.ELSEWHERE
        if mishap.harm is Harm.STALL:
            return cls.STALL
        if mishap.harm is Harm.DAMAGE:
            return cls.DAMAGED_BODY if mishap.upward else cls.DAMAGED_ANSWER
        return cls.CUT_BODY if mishap.upward else cls.LOST_ANSWER


class BadLine:
    """The line: good until it is told otherwise. Safe to use from any thread.

    Invariant: ``_told`` are mishaps that are still to happen, in this order.
    """

    def __init__(self, host: str, port: int) -> None:
        # given
        self._server = (host, port)
        # constant
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.lock = threading.Lock()
        # mutable
        self.seed: int | None = None
        self.mishaps: list[str] = []
        self.counted: Counter[Came] = Counter()
        self._told: list[Mishap] = []
        self._wires: set[Wire] = set()
        self._count = 0

    def bad(self, seed: int) -> None:
        """From now on things happen at random, on connections that are open, too."""
        self.seed = seed

    def good(self) -> None:
        """From now on nothing happens."""
        self.seed = None
        with self.lock:
            self._told.clear()

    def befall(self, *mishaps: Mishap) -> None:
        """These are to happen to uploads, one after the other."""
        with self.lock:
            self._told += mishaps

    @property
    def is_quiet(self) -> bool:
        """Whether all that was told to happen has happened."""
        return not self._told

    def serve(self) -> None:
        """Carry connections until the line is closed."""
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._carry(client)

    def _carry(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._server)
        except OSError:
            client.close()
            return
        self._count += 1
        wire = Wire(self, self._count, client, server)
        with self.lock:  # whoever ends it finds it begun
            self._wires.add(wire)
            wire.start()

    def due(self, upward: bool, passed: int, more: int) -> Mishap | None:
        """The mishap told to happen within the next ``more`` bytes of an upload or its answer."""
        with self.lock:
            first = self._told[0] if self._told else None
            if first and first.upward is upward and passed <= first.after < passed + more:
                return self._told.pop(0)
        return None

    def note(self, number: int, mishap: Mishap, *, is_put: bool) -> None:
        """This happens on a connection, now."""
        with self.lock:
            self.mishaps.append(f"connection {number}: {mishap}")
            self.counted[Came.of(mishap, is_put=is_put)] += 1

    def ended(self, wire: Wire) -> None:
        """A connection is closed."""
        with self.lock:
            self._wires.discard(wire)

    def close(self) -> None:
        """Take no more connections, and end those there are."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self.lock:
            wires = list(self._wires)
        for wire in wires:
            wire.cut(Harm.CUT)
            wire.join()


class Wire:
    """One connection, in two threads.

    Invariants: ``_is_put`` and ``_in_body`` describe the request that was begun last, as far as it
    has passed; ``_passed`` counts the bytes of its body and of its answer, if it is a ``PUT``.
    """

    def __init__(
        self, line: BadLine, number: int, client: socket.socket, server: socket.socket
    ) -> None:
        # given
        self._line = line
        self._number = number
        self._client = client
        self._server = server
        # constant
        self._fates = {upward: Fate(f"{number} {upward}") for upward in (True, False)}
        self._threads = [threading.Thread(target=self._pump, args=(one,)) for one in (True, False)]
        # mutable
        self._running = len(self._threads)
        self._is_put = self._in_body = False
        self._passed = {True: 0, False: 0}

    def start(self) -> None:
        """Begin to carry."""
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        """Return when it is closed."""
        for thread in self._threads:
            thread.join()

    def cut(self, harm: Harm) -> None:
        """End it both ways, with a reset or without one."""
        for end in (self._client, self._server):
            with suppress(OSError):
                if harm is Harm.RESET:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                    end.shutdown(socket.SHUT_RD)
                else:
                    end.shutdown(socket.SHUT_RDWR)

    def _pump(self, upward: bool) -> None:
        source, target = self._client, self._server
        if not upward:
            source, target = target, source
        with suppress(OSError):
            while block := source.recv(_BLOCK):
                start = self._follow(block) if upward else 0
                target.sendall(self._harmed(block, start, upward))
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)
        with self._line.lock:
            self._running -= 1
            is_last = not self._running
        if is_last:
            self._client.close()
            self._server.close()
            self._line.ended(self)

    def _follow(self, block: bytes) -> int:
        """Where the body of a ``PUT`` begins in what is sent: at its end if there is none of it."""
        if block.startswith(_METHODS):
            self._is_put, self._in_body = block.startswith(b"PUT "), False
            self._passed = {True: 0, False: 0}
        if self._in_body:
            return 0
        head = block.find(b"\r\n\r\n")
        self._in_body = self._is_put and head >= 0
        return head + 4 if self._in_body else len(block)

    def _harmed(self, block: bytes, start: int, upward: bool) -> bytes:
        """What goes on of a block, after what happens to it; OSError when it is cut."""
        mishap: Mishap | None = None
        if self._is_put:
            mishap = self._line.due(upward, self._passed[upward], len(block) - start)
            self._passed[upward] += len(block) - start
        if mishap is None:
            mishap = self._fates[upward].next(self._line.seed, upward, len(block))
        if mishap is None:
            return block
        place = start + mishap.after % max(1, len(block) - start)
        if mishap.harm is Harm.DAMAGE and start == len(block):  # a request, and none of a body
            if not block.startswith(_METHODS):
                return block
            place = 0
        in_put = self._is_put and (not upward or start < len(block))
        self._line.note(self._number, mishap, is_put=in_put)
        return self._after(mishap, block, place, upward)

    def _after(self, mishap: Mishap, block: bytes, place: int, upward: bool) -> bytes:
        if mishap.harm is Harm.STALL:
            time.sleep(mishap.seconds)
        elif mishap.harm is Harm.DAMAGE:
            return block[:place] + bytes([block[place] ^ 0x80]) + block[place + 1 :]
        else:
            (self._server if upward else self._client).sendall(block[:place])
            self.cut(mishap.harm)
            raise ConnectionError("cut")
        return block


class Fate:
    """What is to happen by itself to one direction of one connection."""

    def __init__(self, name: str) -> None:
        # given
        self._name = name
        # mutable: how far it is to the next mishap, as long as the seed is the same
        self._seed: int | None = None
        self._random = random.Random()
        self._distance = 0

    def next(self, seed: int | None, upward: bool, more: int) -> Mishap | None:
        """The mishap within the next ``more`` bytes, if there is one."""
        if seed is None:
            return None
        if seed != self._seed:
            self._seed, self._random = seed, random.Random(f"{seed} {self._name}")
            self._distance = self._drawn()
        self._distance -= more
        if self._distance >= 0:
            return None
        self._distance = self._drawn()
        harm = self._random.choice(list(Harm))
        seconds = self._random.uniform(0, _LONGEST_STALL_S)
        return Mishap(harm, upward, self._random.randrange(1 << 30), seconds)

    def _drawn(self) -> int:
        """Near places as often as far ones, by their orders of magnitude."""
        return int(math.exp(self._random.uniform(math.log(_NEAREST), math.log(_FARTHEST))))


@contextmanager
def bad_line(facility: FacilityHandle) -> Iterator[tuple[BadLine, FacilityHandle]]:
    """A line to a facility, and the facility as it is reached through it; good to begin with.

    What the handle itself asks for still goes the straight way.
    """
    address = urlsplit(facility.url)
    assert address.hostname is not None
    assert address.port is not None
    line = BadLine(address.hostname, address.port)
    thread = threading.Thread(target=line.serve)
    thread.start()
    try:
        url = address._replace(netloc=f"{address.hostname}:{line.port}").geturl()
        yield line, replace(facility, url=url)
    finally:
        line.close()
        thread.join()
