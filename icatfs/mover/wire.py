"""What the mount and its worker say to each other: one message a datagram, descriptors beside it.

They speak over a pair of UNIX sockets of type SEQPACKET: a message arrives whole or not at all, and
the descriptor that an `Order` is about travels with it (SCM_RIGHTS). Nothing is said over command
line or environment, which others on the machine may read, for an `Open` holds a session id.

The course of a stream, by its number::

    Open ->                 connect, send the head of a request
              <- Head       the head of the answer; where that is a refusal, its body, then Over
    Order ->                the next bytes belong there; some are given ahead of need
              <- Arrived    these bytes are there now, in the order of the orders
    Close ->                nothing more is wanted
              <- Over       always the last of a stream: nobody writes for it any more

and of one whose request has a body, which is a file that may still grow::

    Open ->                 connect
    Feed ->                 so much of the file is there now; the first brings its descriptor
              <- Sent       so much of it is on its way
              <- Head       the answer with its body, perhaps before all was sent
              <- Over

Pure.
"""

from __future__ import annotations

from enum import Enum
from typing import TypeAlias, TypeVar

import msgspec

CHUNK = 2**20
"""No `Bytes` cross a multiple of this (`icatfs.content.chunks`)."""
LARGEST = 2**17
"""Of a message, in bytes: the system's sockets take more."""
LARGEST_BODY = 2**16
"""As much is told of a refusal."""

M = TypeVar("M")


class Trouble(Enum):
    """What ended a stream before its body did."""

    CERTIFICATE = "certificate"
    """The server's is not trusted."""
    NO_TLS = "no TLS"
    NO_HOST = "no host"
    UNREACHABLE = "unreachable"
    """No connection: nothing was sent."""
    IMPOSSIBLE = "impossible"
    """Nobody could ask this."""
    SILENT = "silent"
    BROKEN = "broken"
    """The connection ended, or what came is no HTTP."""
    SURPLUS = "surplus"
    """The body does not end where the last order does."""
    DISK = "disk"
    """The local disk took no more."""
    FILE = "file"
    """The file that is sent cannot be read."""
    GONE = "gone"
    """The worker ended; said by our side to itself."""


class Framing(Enum):
    """How the body of a request says where it ends."""

    LENGTH = "length"
    """Its head has told."""
    CHUNKS = "chunks"


class Trust(msgspec.Struct, frozen=True, tag="trust"):
    """The first message: whose certificates are trusted, beside the system's authorities."""

    ca_file: str | None
    insecure: bool


class Open(msgspec.Struct, frozen=True, tag="open"):
    """Begin a stream. ``head`` is the whole head of the request, ``host`` without brackets.

    With a ``body`` to be sent ``silence_s`` is the patience with a server that takes nothing, and
    ``first_byte_s`` the one from the last byte to the answer.
    """

    stream: int
    host: str
    port: int
    tls: bool
    head: bytes
    connect_s: float
    first_byte_s: float
    silence_s: float
    body: Framing | None = None


class Order(msgspec.Struct, frozen=True, tag="order"):
    """The next bytes of the body are [start, stop) of a file.

    They are written there through the descriptor that comes along, or dropped without one. With
    ``is_last`` the stream ends; so must the body, if it has not said before how long it is.
    """

    stream: int
    start: int
    stop: int
    is_last: bool = False


class Feed(msgspec.Struct, frozen=True, tag="feed"):
    """The first ``stop`` bytes of the file can be sent, and are all of it if ``is_last``."""

    stream: int
    stop: int
    is_last: bool


class Close(msgspec.Struct, frozen=True, tag="close"):
    """End a stream; it may have ended."""

    stream: int


class Head(msgspec.Struct, frozen=True, tag="head"):
    """The head of an answer, names in lower case; ``body`` of a refusal, or after an upload."""

    stream: int
    status: int
    headers: dict[str, str]
    body: bytes = b""


class Bytes(msgspec.Struct, frozen=True, array_like=True):
    """Bytes [start, stop) of a file, in one chunk, and their CRC-32 (0 of what was dropped)."""

    start: int
    stop: int
    crc32: int


class Arrived(msgspec.Struct, frozen=True, tag="arrived"):
    """These bytes, one after the other, are where they belong."""

    stream: int
    pieces: tuple[Bytes, ...]


class Sent(msgspec.Struct, frozen=True, tag="sent"):
    """The connection has taken bytes [start, stop) of the file; one after the other."""

    stream: int
    start: int
    stop: int


class Over(msgspec.Struct, frozen=True, tag="over"):
    """The stream has ended: at the end of its body, or by ``Close``, or by a trouble."""

    stream: int
    trouble: Trouble | None = None


ToWorker: TypeAlias = Trust | Open | Order | Feed | Close
FromWorker: TypeAlias = Head | Arrived | Sent | Over


class Garbled(ValueError):
    """A message that nobody on the other side can have meant."""


_TO_WORKER: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
_FROM_WORKER: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)


def encode(message: ToWorker | FromWorker) -> bytes:
    """As a datagram."""
    return msgspec.msgpack.encode(message)


def to_worker(datagram: bytes) -> ToWorker:
    """A message to the worker; Garbled."""
    return _decoded(_TO_WORKER, datagram)


def from_worker(datagram: bytes) -> FromWorker:
    """A message from the worker; Garbled."""
    return _decoded(_FROM_WORKER, datagram)


def _decoded(decoder: msgspec.msgpack.Decoder[M], datagram: bytes) -> M:
    try:
        return decoder.decode(datagram)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Garbled(str(error)) from error
