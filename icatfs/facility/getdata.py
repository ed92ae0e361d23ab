"""Sending stored bytes: one datafile as it is, or a zip, and what if they are not as promised.

A response up to 8192 bytes is buffered by the server and has its length; errors then are still
clean. A longer one is chunked, and an error in it ends it as if it were complete. Only a single
datafile by session has the length of the *catalogue*, whatever is stored: bytes that are missing
are waited for in vain, surplus ones follow. (Recorded from ids.server 2.1.1.)
"""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import quote_plus

from icatfs.facility.exchange import Answer, Disconnected
from icatfs.facility.idserrors import bad_request, internal
from icatfs.facility.selection import File
from icatfs.facility.storage import Missing
from icatfs.facility.zipping import ZipStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from icatfs.facility.clock import Clock
    from icatfs.facility.counters import Counters
    from icatfs.facility.exchange import Exchange
    from icatfs.facility.selection import Resolver
    from icatfs.facility.storage import Reader, Storage

BINARY = "application/octet-stream"
BUFFER = 8192
"""What Jersey buffers before it commits to a status."""

CHUNK = 1 << 18
KEEP_ALIVE_S = 30.0
"""How long the container waits after a response that is shorter than declared."""

UNREAD_S = 45.0
"""How long a client may stop reading (recorded; by its source the container waits 30 s)."""

_WATCH_S = 5.0
_RANGE = re.compile(r"bytes=([0-9]+)-")
_LARGEST_LONG = 2**63 - 1
_PAGE = (
    b"<!DOCTYPE html>\n<html><head><title>Error report</title></head>"
    b"<body><h1>HTTP Status 500 - Internal Server Error</h1></body></html>\n"
)
FAILED = Answer(500, _PAGE, "text/html", (("content-language", ""), ("connection", "close")))
"""The container's page when the stored bytes could not be read."""


@dataclass(frozen=True, slots=True)
class Download:
    """What is to be sent. ``declared``: the catalogue's length, for one datafile by session."""

    files: tuple[File, ...]
    zip: bool
    compress: bool
    offset: int
    outname: str | None
    declared: int | None


def parse_range(header: str | None) -> int | None:
    """The offset of a Range header, None without one; raises IdsError."""
    if header is None:
        return None
    match = _RANGE.fullmatch(header.rstrip(" \t"))
    if match is None:
        raise bad_request(r"The range must match bytes=(\d+)-")
    if int(match[1]) > _LARGEST_LONG:
        raise internal(f'class java.lang.NumberFormatException For input string: "{match[1]}"')
    return int(match[1])


class Sender:
    """Sends downloads of one data service."""

    def __init__(
        self, storage: Storage, resolver: Resolver, clock: Clock, counters: Counters
    ) -> None:
        # given
        self._storage = storage
        self._resolver = resolver
        self._clock = clock
        self._counters = counters

    async def send(self, exchange: Exchange, download: Download) -> None:
        """Answer with a download; raises Disconnected when the client leaves."""
        headers = self._headers(download)
        status = 206 if download.offset else 200
        if exchange.method == "HEAD":
            declared = ("content-length", str(download.declared or 0))
            await exchange.start(status, [*headers, declared])
            await exchange.give(b"", more=False)
            return
        pieces = self._zip(download) if download.zip else self._raw(download)
        try:
            if download.declared is not None:
                await self._send_declared(exchange, download, status, headers)
            else:
                await self._send_chunked(exchange, pieces, status, headers)
        except Missing:
            await exchange.answer(FAILED)

    def _headers(self, download: Download) -> list[tuple[str, str]]:
        name = _visible(self._name(download))
        return [
            ("content-disposition", f'attachment; filename="{name}"'),
            ("accept-ranges", "bytes"),
            ("content-type", BINARY),
        ]

    def _name(self, download: Download) -> str:
        if not download.zip:
            return download.outname or download.files[0].name
        if download.outname:
            return download.outname.removesuffix(".zip") + ".zip"
        return f"{self._now():%Y-%m-%d_%H-%M-%S}.zip"

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now(), UTC)

    # Bytes.

    def _raw(self, download: Download) -> Iterator[bytes]:
        reader = self._storage.open(download.files[0].id)
        try:
            yield from self._content(reader, download.offset)
        finally:
            reader.close()

    def _content(self, reader: Reader, offset: int = 0) -> Iterator[bytes]:
        """The bytes from ``offset``; the server reads and drops those before it."""
        skipped = min(offset, reader.size)
        self._counters.read(skipped)
        self._counters.skipped(skipped)
        while data := reader.read(offset, CHUNK):
            self._counters.read(len(data))
            offset += len(data)
            yield data

    def _zip(self, download: Download) -> Iterator[bytes]:
        """The bytes of a zip from ``offset``, without those of members before."""
        skip = download.offset
        for piece in self._whole_zip(download):
            if len(piece) > skip:
                yield piece[skip:]
            dropped = min(skip, len(piece))
            self._counters.skipped(dropped)
            skip -= dropped

    def _whole_zip(self, download: Download) -> Iterator[bytes]:
        stream = ZipStream(compress=download.compress, modified=self._now())
        prefixes: dict[int, str] = {}
        names: set[str] = set()
        for file in download.files:
            if file.dataset not in prefixes:
                prefixes[file.dataset] = self._prefix(file.dataset)
            name = prefixes[file.dataset] + file.name
            if name in names:
                continue
            names.add(name)
            reader = self._storage.open(file.id)
            try:
                yield stream.begin(name)
                for data in self._content(reader):
                    yield stream.data(data)
                yield stream.end()
            finally:
                reader.close()
        yield stream.finish()

    def _prefix(self, dataset: int) -> str:
        place = self._resolver.place(dataset)
        names = place.names if place is not None else ()
        return "/".join(["ids", *(quote_plus(name, safe="*") for name in names), ""])

    # Framing.

    async def _send_chunked(
        self,
        exchange: Exchange,
        pieces: Iterator[bytes],
        status: int,
        headers: list[tuple[str, str]],
    ) -> None:
        """A body of unknown length; bytes that are missing late end it like a complete one."""
        head = bytearray()
        for piece in pieces:
            head += piece
            if len(head) > BUFFER:
                break
        else:
            self._counters.sent(len(head))
            await exchange.answer(Answer(status, bytes(head), None, tuple(headers)))
            return
        async with self._watched(exchange) as watch:
            await exchange.start(status, headers)
            await self._give(exchange, bytes(head), watch)
            batch, size = [], 0
            try:
                for piece in pieces:
                    batch.append(piece)
                    size += len(piece)
                    if size >= CHUNK:
                        await self._give(exchange, b"".join(batch), watch)
                        batch, size = [], 0
            except Missing:
                pass
            await self._give(exchange, b"".join(batch), watch)
            await exchange.give(b"", more=False)

    async def _send_declared(
        self, exchange: Exchange, download: Download, status: int, headers: list[tuple[str, str]]
    ) -> None:
        """The bytes there are, under the length that the catalogue says."""
        assert download.declared is not None
        reader = self._storage.open(download.files[0].id)
        try:
            actual = max(0, reader.size - download.offset)
            async with self._watched(exchange) as watch:
                await exchange.start(status, [*headers, ("content-length", str(download.declared))])
                exchange.wire.send_in_spite_of_length(actual)
                for data in self._content(reader, download.offset):
                    await self._give(exchange, data, watch)
        finally:
            reader.close()
        if actual < download.declared:
            await self._fall_silent(exchange)
        else:
            await exchange.give(b"", more=False)

    async def _give(self, exchange: Exchange, data: bytes, watch: _Watch) -> None:
        if data:
            await exchange.give(data, more=True)
            self._counters.sent(len(data))
            watch.moved_at = self._clock.now()

    async def _fall_silent(self, exchange: Exchange) -> None:
        gone = asyncio.ensure_future(exchange.wire.wait_gone())
        enough = asyncio.ensure_future(self._clock.sleep(KEEP_ALIVE_S))
        try:
            await asyncio.wait({gone, enough}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            enough.cancel()
        await exchange.wire.close()

    @asynccontextmanager
    async def _watched(self, exchange: Exchange) -> AsyncIterator[_Watch]:
        """Cut the connection of a client that reads nothing for a while; raises Disconnected."""
        watch = _Watch(self._clock.now())
        stream = asyncio.current_task()
        assert stream is not None

        async def cut_when_stuck(stream: asyncio.Task[object]) -> None:
            while self._clock.now() < watch.moved_at + UNREAD_S or not exchange.wire.is_stuck:
                await self._clock.sleep(_WATCH_S)
                if not exchange.wire.is_stuck:
                    watch.moved_at = self._clock.now()
            await exchange.wire.close()
            stream.cancel()

        watcher = asyncio.ensure_future(cut_when_stuck(stream))
        try:
            yield watch
        except asyncio.CancelledError:
            if watcher.done():
                raise Disconnected from None
            raise
        finally:
            watcher.cancel()


@dataclass(slots=True)
class _Watch:
    """When a stream last moved."""

    moved_at: float


def _visible(name: str) -> str:
    """A name as the container puts it in a header: low bytes, blanks for what is no ASCII."""
    low = (chr(ord(letter) & 0xFF) for letter in name)
    return "".join(letter if letter == "\t" or " " <= letter < "\x7f" else " " for letter in low)
