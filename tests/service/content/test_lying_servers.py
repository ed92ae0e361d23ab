"""Servers that lie about their bodies, on both ways: the right bytes, or the documented error.

Each test says what the wire says, for all requests or only for those from an offset, and reads a
file through the real clients: no byte that a reader gets is another than the catalogue's.
"""

from __future__ import annotations

import gzip
import random
import re
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.contents import version_of
from support.rawserver import head, server
from support.sizes import KIB

from icatfs.content.store import open_store
from icatfs.content.transfer import Transfer, open_transfer
from icatfs.errors import Damaged, FacilityUnreachable, IcatfsError, NotAFacility, ProtocolError
from icatfs.ids.client import IdsClient
from icatfs.transport import open_transport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import trio

    from icatfs.content.landing import MovedBody
    from icatfs.content.stream import Body
    from icatfs.values import ContentVersion

    Answer = Callable[[int], bytes]
    """What is sent to a request from an offset on, before the connection is closed."""

DATA = random.Random(5).randbytes(900 * KIB + 17)
BREAKS_AT = 300 * KIB
PAGE = b"<html><title>Please log in</title></html>" * 100


@dataclass
class Wire:
    """A reader of one file at a server that answers as told; ``offsets`` were asked for."""

    answer: Answer
    moves: bool
    folder: Path
    offsets: list[int] = field(default_factory=list)

    async def serve(self, stream: trio.abc.Stream) -> None:
        request = await head(stream)
        found = re.search(rb"\r\nrange: bytes=(\d+)-\r\n", request, re.IGNORECASE)
        offset = int(found[1]) if found else 0
        self.offsets.append(offset)
        await stream.send_all(self.answer(offset))

    async def read(self) -> bytes:
        """All of the file, as a program reads it."""
        size = len(DATA)
        pieces: list[bytes] = []
        failure: IcatfsError | None = None
        async with self._transfer() as transfer, open_store(self.folder, max_bytes=2**30) as store:
            file = store.open(version_of(DATA))
            try:
                for start in range(0, size, 64 * KIB):
                    await transfer.ensure(file, start, start + 64 * KIB)
                    pieces.append(file.pread(start, min(64 * KIB, size - start)))
                    assert DATA.startswith(b"".join(pieces)), f"wrong bytes at {start}"
            except IcatfsError as error:
                failure = error
            file.close()
        if failure is not None:
            raise failure
        return b"".join(pieces)

    @asynccontextmanager
    async def _transfer(self) -> AsyncIterator[Transfer]:
        async with (
            server(self.serve) as url,
            open_transport(unreachable_s=0.5, silence_s=2.0, moves=self.moves) as transport,
        ):
            client = IdsClient(transport, url)

            async def source(version: ContentVersion, offset: int) -> Body | MovedBody:
                return await client.move_data("s", version.datafile, offset)

            async with open_transfer(source, stall_s=2.0, resume_attempts=2) as transfer:
                yield transfer


@pytest.fixture(params=[True, False], ids=["moved", "piecemeal"])
def wire(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Answer], Wire]:
    return lambda answer: Wire(answer, request.param, tmp_path / "cache")


def honest(offset: int) -> bytes:
    status = b"206 Partial Content" if offset else b"200 OK"
    rest = DATA[offset:]
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n" % (status, len(rest)) + rest


def breaking(answer: Answer) -> Answer:
    """The first answer breaks off, so that others are asked for from there: those are this."""
    answers = iter([honest(0)[:BREAKS_AT]])
    return lambda offset: answer(offset) if offset else next(answers, honest(0))


def chunked(body: bytes, *, extension: bytes = b"", trailers: bytes = b"") -> bytes:
    parts = [body[start : start + 8191] for start in range(0, len(body), 8191)]
    chunks = b"".join(b"%x%s\r\n%s\r\n" % (len(part), extension, part) for part in parts)
    return chunks + b"0" + extension + b"\r\n" + trailers + b"\r\n"


def told(head: bytes, body: bytes, *, status: bytes = b"200 OK") -> Answer:
    return lambda _: b"HTTP/1.1 " + status + b"\r\n" + head + b"\r\n" + body


# What is allowed.


@pytest.mark.parametrize(
    "answer",
    [
        told(b"Connection: close\r\n", DATA),
        lambda _: b"HTTP/1.0 200 OK\r\n\r\n" + DATA,
        told(b"Transfer-Encoding: chunked\r\n", chunked(DATA)),
        told(b"Transfer-Encoding: Chunked\r\n", chunked(DATA, extension=b";name=value")),
        told(
            b"Transfer-Encoding: chunked\r\nTrailer: Expires\r\n",
            chunked(DATA, trailers=b"Expires: never\r\nX-Sum: 5\r\n"),
        ),
        lambda offset: b"HTTP/1.1 100 Continue\r\n\r\n" + honest(offset),
        lambda offset: (
            b"HTTP/1.1 102 Processing\r\n\r\n"
            b"HTTP/1.1 103 Early Hints\r\nLink: </style>\r\nContent-Length: 5\r\n\r\n"
            + honest(offset)
        ),
        told(b"Content-Encoding: identity\r\nContent-Length: %d\r\n" % len(DATA), DATA),
        told(b"content-length:%d\r\n" % len(DATA), DATA + b"surplus that is no HTTP"),
    ],
    ids=[
        "no length", "HTTP/1.0", "chunks", "extensions", "trailers", "continue", "early hints",
        "identity", "surplus after a length",
    ],
)  # fmt: skip
async def test_whatever_http_allows_brings_the_bytes(
    wire: Callable[[Answer], Wire], answer: Answer
) -> None:
    reader = wire(answer)
    assert await reader.read() == DATA
    assert reader.offsets == [0]


@pytest.mark.parametrize(
    "content_range",
    [b"", b"Content-Range: bytes %(a)d-%(z)d/%(n)d\r\n", b"Content-Range: bytes %(a)d-%(z)d/*\r\n"],
    ids=["not said", "said", "of unknown size"],
)
async def test_what_broke_is_resumed_where_it_broke(
    wire: Callable[[Answer], Wire], content_range: bytes
) -> None:
    def rest(offset: int) -> bytes:
        said = content_range % {b"a": offset, b"z": len(DATA) - 1, b"n": len(DATA)}
        return honest(offset).replace(b"\r\n\r\n", b"\r\n" + said + b"\r\n", 1)

    reader = wire(breaking(rest))
    assert await reader.read() == DATA
    assert len(reader.offsets) == 2
    assert 0 < reader.offsets[1] <= BREAKS_AT


# Lies about where the bytes begin: all of them are asked for, and taken from the beginning.


@pytest.mark.parametrize(
    "answer",
    [
        honest,
        told(b"Content-Length: %d\r\n" % len(DATA), DATA),
        told(b"Transfer-Encoding: chunked\r\n", chunked(DATA)),
        lambda offset: told(
            b"Content-Range: bytes 0-%d/%d\r\nContent-Length: %d\r\n"
            % (len(DATA) - 1 - offset, len(DATA), len(DATA) - offset),
            DATA[: len(DATA) - offset],
            status=b"206 Partial Content",
        )(offset),
        told(
            b"Content-Range: bytes 7-%d/%d\r\nTransfer-Encoding: chunked\r\n"
            % (len(DATA) - 1, len(DATA)),
            chunked(DATA[7:]),
            status=b"206 Partial Content",
        ),
        told(
            b"Content-Range: bytes */%d\r\n" % len(DATA), DATA, status=b"206 Partial Content"
        ),
        told(b"Content-Range: lines 3-5/7\r\n", DATA, status=b"206 Partial Content"),
        told(
            b"Content-Type: multipart/byteranges; boundary=x\r\nTransfer-Encoding: chunked\r\n",
            chunked(b"--x\r\nContent-Range: bytes 0-9/10\r\n\r\n" + DATA[:10] + b"\r\n--x--\r\n"),
            status=b"206 Partial Content",
        ),
    ],
    ids=[
        "none", "200", "200 in chunks", "from 0", "from 7", "from nowhere", "lines", "in parts",
    ],
)  # fmt: skip
async def test_bytes_from_another_place_are_not_taken_for_those_asked_for(
    wire: Callable[[Answer], Wire], answer: Answer
) -> None:
    reader = wire(breaking(lambda offset: answer(offset)))
    assert await reader.read() == DATA


# Lies about what the bytes are, or how many: an error, and no byte of it is read.


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (told(b"Content-Type: text/html\r\nTransfer-Encoding: chunked\r\n", chunked(PAGE)),
         NotAFacility),
        (told(b"Content-Type: Text/HTML; charset=utf-8\r\n", PAGE), NotAFacility),
        (told(b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
              chunked(gzip.compress(DATA))), ProtocolError),
        (told(b"Content-Encoding: gzip\r\n", gzip.compress(DATA)), ProtocolError),
        (told(b"Content-Length: %d\r\n" % (len(DATA) + 1), DATA + b"x"), Damaged),
        (told(b"Content-Length: %d\r\n" % (len(DATA) - 1), DATA[:-1]), Damaged),
        (told(b"Content-Range: bytes 0-%d/%d\r\nContent-Length: %d\r\n"
              % (len(DATA) - 1, len(DATA), len(DATA)), DATA, status=b"206 OK"), ProtocolError),
        (told(b"", b"", status=b"204 No Content"), ProtocolError),
    ],
    ids=[
        "page in chunks", "page", "zipped in chunks", "zipped", "more announced",
        "less announced", "206 unasked", "204",
    ],
)  # fmt: skip
async def test_what_are_no_bytes_of_the_file_are_an_error(
    wire: Callable[[Answer], Wire], answer: Answer, error: type[IcatfsError]
) -> None:
    with pytest.raises(error):
        await wire(answer).read()


@pytest.mark.parametrize(
    "answer",
    [
        told(b"", DATA + b"x"),
        told(b"Transfer-Encoding: chunked\r\n", chunked(DATA + b"x")),
        told(b"Transfer-Encoding: chunked\r\n", chunked(DATA[:-1] + b"x")),
        told(b"", DATA[:-1]),
        told(b"Content-Length: %d\r\n" % len(DATA), DATA[:-1]),
        told(b"Transfer-Encoding: gzip, chunked\r\n", chunked(gzip.compress(DATA))),
        told(b"Transfer-Encoding: gzip\r\n", gzip.compress(DATA)),
        told(b"Content-Length: 5\r\nContent-Length: %d\r\n" % len(DATA), DATA),
        told(b"Content-Length: -5\r\n", DATA),
        told(b"", b"", status=b"101 Switching Protocols"),
    ],
    ids=[
        "more", "more in chunks", "last is wrong", "less", "less than announced",
        "zipped chunks", "zipped on the way", "two lengths", "negative", "another protocol",
    ],
)  # fmt: skip
async def test_a_file_that_is_not_as_the_catalogue_says_is_not_read_to_its_end(
    wire: Callable[[Answer], Wire], answer: Answer
) -> None:
    """Or it is, where what arrives is right in the end."""
    with suppress(Damaged, ProtocolError, FacilityUnreachable):
        assert await wire(answer).read() == DATA
