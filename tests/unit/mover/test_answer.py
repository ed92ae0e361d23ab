"""Answers as they come in pieces of any size: the same head, the same body, or a fault."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icatfs.mover.answer import Answer, Buffered, parse
from icatfs.mover.line import Failed
from icatfs.mover.wire import Trouble


@dataclass
class TornLine:
    """Gives its pieces one by one, with nothing between them, and then its end."""

    pieces: list[bytes]
    waits: bool = field(default=False)

    def read(self, view: memoryview) -> int | None:
        self.waits = not self.waits
        if self.waits:
            return None
        if not self.pieces:
            return 0
        piece = self.pieces[0][: len(view)]
        self.pieces[0] = self.pieces[0][len(piece) :]
        if not self.pieces[0]:
            del self.pieces[0]
        view[: len(piece)] = piece
        return len(piece)


def torn(data: bytes, cuts: list[int]) -> TornLine:
    """``data`` in pieces of these sizes, over and over."""
    pieces: list[bytes] = []
    start = 0
    while start < len(data):
        size = cuts[len(pieces) % len(cuts)]
        pieces.append(data[start : start + size])
        start += size
    return TornLine(pieces)


def received(line: TornLine, room: int) -> tuple[Answer, bytes]:
    """The whole of an answer, read through a view of so many bytes."""
    source = Buffered(line)
    while (head := source.until(b"\r\n\r\n", 10_000)) is None:
        pass
    answer = Answer(*parse(head), source)
    body, view = b"", memoryview(bytearray(room))
    while (count := answer.read(view)) != 0:
        body += view[: count or 0]
    return answer, body


def chunked(body: bytes, sizes: list[int]) -> bytes:
    """A body in chunks of these sizes, over and over."""
    parts: list[bytes] = []
    start = 0
    while start < len(body):
        part = body[start : start + sizes[len(parts) % len(sizes)]]
        parts.append(b"%x;note=1\r\n%s\r\n" % (len(part), part))
        start += len(part)
    return b"".join([*parts, b"0\r\nTrailer: x\r\n\r\n"])


bodies = st.binary(max_size=2000)
cuts = st.lists(st.integers(1, 300), min_size=1, max_size=5)
rooms = st.sampled_from([1, 7, 100, 70_000])


@given(bodies, cuts, rooms)
def test_a_counted_body_ends_where_it_said(body: bytes, sizes: list[int], room: int) -> None:
    head = b"HTTP/1.1 206 Partial Content\r\nContent-Length: %d\r\nX-Y: a: b \r\n\r\n" % len(body)
    answer, got = received(torn(head + body + b"surplus", sizes), room)
    assert (answer.status, got) == (206, body)
    assert answer.headers["x-y"] == "a: b"
    assert answer.says_length


@given(bodies, cuts, cuts, rooms)
def test_a_chunked_body_is_that_of_its_chunks(
    body: bytes, chunks: list[int], sizes: list[int], room: int
) -> None:
    head = b"HTTP/1.1 200 \r\nTransfer-Encoding: Chunked\r\n\r\n"
    answer, got = received(torn(head + chunked(body, chunks), sizes), room)
    assert (answer.status, got, answer.says_length) == (200, body, False)


@given(bodies, cuts, rooms)
def test_a_body_that_says_nothing_ends_with_the_connection(
    body: bytes, sizes: list[int], room: int
) -> None:
    assert received(torn(b"HTTP/1.0 200 OK\r\n\r\n" + body, sizes), room)[1] == body


@given(bodies.filter(bool), cuts, cuts, st.data())
def test_a_chunked_body_that_breaks_off_is_not_whole(
    body: bytes, chunks: list[int], sizes: list[int], data: st.DataObject
) -> None:
    whole = chunked(body, chunks)
    stop = data.draw(st.integers(0, len(whole) - len(b"0\r\nTrailer: x\r\n\r\n")))
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    with pytest.raises(Failed) as failed:
        received(torn(head + whole[:stop], sizes), 100)
    assert failed.value.trouble is Trouble.BROKEN


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nname : value\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x" * 100_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nabcde\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabcde\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 5000,
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcd",
    ],
    ids=range(14),
)
def test_what_is_no_answer_is_a_broken_connection(data: bytes) -> None:
    with pytest.raises(Failed) as failed:
        received(torn(data, [1000]), 100)
    assert failed.value.trouble is Trouble.BROKEN
