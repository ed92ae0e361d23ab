"""TLS of the worker, over a pair of sockets: what is there is read, then how it ended."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from icatfs.facility.certificates import self_signed
from icatfs.mover.line import Failed, Line, trusting
from icatfs.mover.wire import Trouble

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Say = Callable[[ssl.SSLSocket], object]

TEXT = bytes(range(250)) * 240
"""Four records."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return self_signed(tmp_path_factory.mktemp("tls"))


def line_to(authority: Path, say: Say) -> Line:
    """A connection whose other end has said something, and is closed, when this returns."""
    ours, theirs = socket.socketpair()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority)

    def serve() -> None:
        with context.wrap_socket(theirs, server_side=True, suppress_ragged_eofs=False) as peer:
            peer.recv(1)
            say(peer)

    thread = threading.Thread(target=serve)
    thread.start()
    ours.setblocking(False)
    line = Line(ours, 10.0)
    line.secure(trusting(str(authority), insecure=False), "127.0.0.1")
    line.queue(b"!")
    line.queue(b"who does not read this resets the connection")
    assert line.push()
    thread.join()
    return line


def again(peer: ssl.SSLSocket) -> socket.socket:
    """The same connection without TLS."""
    return socket.socket(fileno=os.dup(peer.fileno()))


def drained(line: Line) -> tuple[list[int], bytes]:
    """What reads of 100,000 bytes give, before one that gives none or fails; and the bytes."""
    counts, text = [], b""
    view = memoryview(bytearray(100_000))
    with suppress(Failed):
        while count := line.read(view):
            counts.append(count)
            text += view[:count]
    return counts, text


def test_all_records_that_are_there_are_read_at_once(authority: Path) -> None:
    line = line_to(authority, lambda peer: peer.sendall(TEXT))
    view = memoryview(bytearray(100_000))
    assert line.read(view) == len(TEXT)
    assert view[: len(TEXT)] == TEXT
    line.close()


def test_a_view_that_is_smaller_is_filled_and_the_rest_stays(authority: Path) -> None:
    line = line_to(authority, lambda peer: peer.sendall(TEXT))
    view = memoryview(bytearray(20_000))
    assert [line.read(view) for _ in range(3)] == [20_000] * 3
    line.close()


def test_while_nothing_is_there_nothing_is_read(authority: Path) -> None:
    kept: list[socket.socket] = []

    def say(peer: ssl.SSLSocket) -> None:
        peer.sendall(TEXT[:100])
        kept.append(again(peer))

    line = line_to(authority, say)
    view = memoryview(bytearray(1000))
    assert line.read(view) == 100
    assert line.read(view) is None
    kept[0].close()
    line.close()


def test_an_end_that_is_announced_is_the_end(authority: Path) -> None:
    def say(peer: ssl.SSLSocket) -> None:
        peer.sendall(TEXT)
        peer.recv(1000)
        peer.settimeout(0.0)
        with suppress(ssl.SSLWantReadError):  # it does not wait for our answer
            peer.unwrap()

    line = line_to(authority, say)
    assert drained(line) == ([len(TEXT)], TEXT)
    line.close()


def test_what_came_before_the_connection_was_reset_is_read_first(authority: Path) -> None:
    line = line_to(authority, lambda peer: peer.sendall(TEXT))  # and leaves something unread
    view = memoryview(bytearray(100_000))
    assert line.read(view) == len(TEXT)
    with pytest.raises(Failed):
        line.read(view)
    line.close()


def test_what_came_before_nonsense_is_read_first(authority: Path) -> None:
    def say(peer: ssl.SSLSocket) -> None:
        peer.sendall(TEXT)
        with again(peer) as raw:
            raw.sendall(b"this is no record of TLS")

    line = line_to(authority, say)
    view = memoryview(bytearray(100_000))
    assert line.read(view) == len(TEXT)
    for _ in range(2):
        with pytest.raises(Failed) as failed:
            line.read(view)
        assert failed.value.trouble is Trouble.BROKEN
    line.close()
