"""Files sent by the worker process over real connections: whole, or not at all, and why not."""

from __future__ import annotations

import os
import signal
import ssl
import zlib
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import pytest
import trio
from support.rawserver import head, server
from support.sizes import MIB

from icatfs.errors import (
    AccessDenied,
    FacilityUnreachable,
    IcatfsError,
    NoSpace,
    SessionLost,
    StagingFailed,
)
from icatfs.facility.certificates import self_signed
from icatfs.facility.testing import FacilityHandle, running_facility
from icatfs.ids.client import IdsClient, Stored
from icatfs.mover.mover import Question, open_mover
from icatfs.mover.process import Stopped
from icatfs.mover.wire import Framing, Trouble
from icatfs.transport import Answer, FileBody, Ready, Transport, open_transport
from icatfs.transport.filebody import carry
from icatfs.values import DatafileFormatId, DatasetId

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from icatfs.transport import TransportStatus

    Serve = Callable[[trio.abc.Stream], Awaitable[None]]

CONTENT = os.urandom(9 * MIB + 7)
STORED = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}"
REFUSED = b'HTTP/1.1 403 Forbidden\r\nContent-Length: 12\r\n\r\n{"code":"x"}'


class File(FileBody):
    """A file in memory, of which ever more is ready."""

    def __init__(self, content: bytes = CONTENT, *, ready: int | None = None) -> None:
        self.fd = os.memfd_create("body")
        os.write(self.fd, content)
        self.size = len(content)
        self.told: list[int] = []
        self._stop = self.size if ready is None else ready
        self._more = trio.Event()

    def grow(self, stop: int) -> None:
        self._stop = stop
        self._more.set()

    def fileno(self) -> int:
        return self.fd

    async def ready(self, offset: int) -> Ready:
        while self._stop <= offset < self.size:
            await self._more.wait()
            self._more = trio.Event()
        return Ready(self._stop, self._stop == self.size)

    def read(self, offset: int, size: int) -> bytes:
        return os.pread(self.fd, size, offset)

    def taken(self, count: int) -> None:
        self.told.append(count)


def moved(transport: Transport) -> tuple[int, int, int]:
    """Bytes that the worker sent, all bytes that were sent, and uploads under way."""
    status: TransportStatus = transport.status()
    assert status.mover is not None
    return status.mover.bytes_sent, status.bytes_out, status.admission.bulk


def worker(transport: Transport) -> int:
    """The worker's process."""
    mover = transport.status().mover
    assert mover is not None
    assert mover.pid is not None
    return mover.pid


async def put(
    transport: Transport, url: str, body: FileBody | None = None, length: int | None = None
) -> Answer:
    return await transport.send(url, params={"x": "1"}, body=body or File(), length=length)


async def whole(stream: trio.abc.Stream) -> bytes:
    """The body of a request in chunks, without its framing."""
    data = bytearray((await head(stream)).partition(b"\r\n\r\n")[2])
    body = bytearray()
    while True:
        while b"\r\n" not in data:
            data += await stream.receive_some()
        line, _, rest = data.partition(b"\r\n")
        size, data = int(line, 16), rest
        while len(data) < size + 2:
            piece = await stream.receive_some()
            assert piece, "ended in the middle of a chunk"
            data += piece
        assert data[size : size + 2] == b"\r\n"
        body += data[:size]
        del data[: size + 2]
        if not size:
            return bytes(body)


async def swallow(stream: trio.abc.Stream, until: int) -> None:
    while until > 0:
        piece = await stream.receive_some()
        assert piece
        until -= len(piece)


async def until_gone(stream: trio.abc.Stream) -> bytes:
    """All that comes until the connection ends, one way or another."""
    data = bytearray()
    try:
        while piece := await stream.receive_some():
            data += piece
    except trio.BrokenResourceError:
        pass
    return bytes(data)


async def until(holds: Callable[[], bool]) -> None:
    with trio.fail_after(30):
        while not holds():  # noqa: ASYNC110 - of another process
            await trio.sleep(0.01)


# The facility.


@pytest.fixture(scope="module")
def plain() -> Iterator[FacilityHandle]:
    with running_facility("--storage", "single") as started:
        yield started


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FacilityHandle, Path]]:
    authority = self_signed(tmp_path_factory.mktemp("certificate"))
    with running_facility("--storage", "single", "--certificate", str(authority)) as started:
        yield started, authority


async def stored(
    facility: FacilityHandle, name: str, ca_file: Path | None = None, *, known: bool
) -> Stored:
    """What the facility says of a file that it was sent."""
    find = trio.to_thread.run_sync
    session = await find(facility.login, "simple/root")
    (dataset, *_) = await find(
        facility.search, "SELECT ds.id FROM Dataset ds WHERE ds.name = 'e208945'"
    )
    (data_format, *_) = await find(facility.search, "SELECT f.id FROM DatafileFormat f")
    async with open_transport(ca_file=ca_file) as transport:
        found = await IdsClient(transport, facility.ids).put(
            session,
            DatasetId(dataset),
            name,
            DatafileFormatId(data_format),
            File(),
            length=len(CONTENT) if known else None,
        )
        assert moved(transport) == (len(CONTENT), len(CONTENT), 0)
    return found


@pytest.mark.parametrize("known", [True, False], ids=["length", "chunks"])
async def test_a_file_is_sent_whole(plain: FacilityHandle, known: bool) -> None:
    found = await stored(plain, f"sent-{known}", known=known)
    assert (found.size, found.crc32) == (len(CONTENT), zlib.crc32(CONTENT))


@pytest.mark.parametrize("known", [True, False], ids=["length", "chunks"])
async def test_a_file_is_sent_whole_over_tls(
    secure: tuple[FacilityHandle, Path], known: bool
) -> None:
    found = await stored(secure[0], f"sent-{known}", secure[1], known=known)
    assert (found.size, found.crc32) == (len(CONTENT), zlib.crc32(CONTENT))


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"kind": "session"}, SessionLost),
        ({"kind": "disk_full", "after_bytes": MIB}, NoSpace),
        (
            {"kind": "error", "status": 403, "code": "InsufficientPrivilegesException"},
            AccessDenied,
        ),
    ],
    ids=["session", "disk", "rights"],
)
async def test_a_refusal_is_told_as_by_any_other_way(
    plain: FacilityHandle, fault: dict[str, object], error: type[IcatfsError]
) -> None:
    await trio.to_thread.run_sync(
        lambda: plain.faults({"endpoint": "ids/put", **fault}, clear=True)
    )
    try:
        with pytest.raises(error):
            await stored(plain, "refused", known=True)
    finally:
        await trio.to_thread.run_sync(plain.clear_faults)
    assert not await trio.to_thread.run_sync(
        plain.search, "SELECT df.id FROM Datafile df WHERE df.name = 'refused'"
    )


# What servers do.


async def test_a_file_is_sent_while_it_grows() -> None:
    came: list[bytes] = []

    async def serve(stream: trio.abc.Stream) -> None:
        came.append(await whole(stream))
        await stream.send_all(STORED)

    file = File(ready=MIB)
    async with server(serve) as url, open_transport() as transport, trio.open_nursery() as nursery:
        nursery.start_soon(put, transport, url, file)
        for stop in (MIB, 5 * MIB, 5 * MIB + 1, len(CONTENT)):
            file.grow(stop)
            await until(lambda stop=stop: file.told[-1:] == [stop])  # type: ignore[misc]
            assert moved(transport)[:2] == (stop, stop)
    assert came == [CONTENT]
    assert file.told == sorted(set(file.told))


@pytest.mark.parametrize(
    "said",
    [REFUSED, b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 6\r\n\r\n<html>"],
    ids=["refusal", "proxy"],
)
@pytest.mark.parametrize("length", [64 * MIB, None], ids=["length", "chunks"])
@pytest.mark.parametrize("is_secure", [False, True], ids=["plain", "tls"])
async def test_an_answer_before_the_end_ends_the_sending(
    secure: tuple[FacilityHandle, Path], is_secure: bool, length: int | None, said: bytes
) -> None:
    """Whatever it says: it is no sign of how the server fares with whole uploads."""

    async def serve(stream: trio.abc.Stream) -> None:
        await head(stream)
        await stream.send_all(said)
        await trio.sleep_forever()

    tls = None
    if is_secure:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(secure[1])
    file = File(bytes(64 * MIB))
    async with server(serve, tls) as url, open_transport(ca_file=secure[1]) as transport:
        answer = await put(transport, url, file, length)
        assert b"%d" % answer.status == said.split()[1]
        assert answer.body == said.partition(b"\r\n\r\n")[2]
        assert moved(transport)[1] < 64 * MIB
        assert moved(transport)[2] == 0


async def test_an_answer_that_only_says_that_another_is_to_come_ends_nothing() -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        data = await head(stream)
        await stream.send_all(b"HTTP/1.1 100 Continue\r\n\r\n")
        await swallow(stream, len(CONTENT) - len(data.partition(b"\r\n\r\n")[2]))
        await stream.send_all(STORED)

    async with server(serve) as url, open_transport() as transport:
        assert (await put(transport, url, length=len(CONTENT))).status == 201


@pytest.mark.parametrize("is_complete", [False, True])
async def test_a_connection_that_ends_without_an_answer_broke_off(is_complete: bool) -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        if is_complete:
            await whole(stream)
        else:
            await head(stream)

    async with server(serve) as url, open_transport() as transport:
        with pytest.raises(FacilityUnreachable, match="broke off"):
            await put(transport, url)
        assert moved(transport)[2] == 0


@asynccontextmanager
async def asking(serve: Serve, head_of: bytes, **patience: float) -> AsyncIterator[Question]:
    async with server(serve) as url:
        port = int(url.rpartition(":")[2])
        patient = {"connect_s": 20.0, "first_byte_s": 20.0, "silence_s": 20.0, **patience}
        yield Question("127.0.0.1", port, False, head_of, **patient)


@pytest.mark.parametrize("lacks", ["room", "answer"])
async def test_a_server_that_stands_still_is_not_waited_for(lacks: str) -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        if lacks == "answer":
            await whole(stream)
        await trio.sleep_forever()

    patience = {"silence_s" if lacks == "room" else "first_byte_s": 0.3}
    file = File(bytes(32 * MIB) if lacks == "room" else CONTENT)
    async with (
        asking(serve, b"PUT / HTTP/1.1\r\n\r\n", **patience) as question,
        open_mover(ca_file=None, insecure=False) as mover,
    ):
        with trio.fail_after(15), pytest.raises(Stopped) as stopped:
            await carry(mover, question, Framing.CHUNKS, file, lambda _: None)
        assert stopped.value.trouble is Trouble.SILENT
        assert (mover.status().bytes_sent < file.size) is (lacks == "room")


async def test_what_is_given_up_never_looks_whole() -> None:
    came: list[bytes] = []

    async def serve(stream: trio.abc.Stream) -> None:
        came.append(await until_gone(stream))

    file = File(ready=3 * MIB)
    async with server(serve) as url, open_transport() as transport:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(put, transport, url, file)
            await until(lambda: file.told[-1:] == [3 * MIB])
            nursery.cancel_scope.cancel()
        assert moved(transport)[2] == 0
        await until(lambda: bool(came))
    assert not came[0].endswith(b"0\r\n\r\n")
    assert len(came[0]) < len(CONTENT)


async def test_a_worker_that_is_killed_breaks_the_upload_off_and_the_next_one_sends() -> None:
    came: list[bytes] = []

    async def serve(stream: trio.abc.Stream) -> None:
        came.append(await until_gone(stream) if not came else await whole(stream))
        await stream.send_all(STORED)

    file = File(ready=3 * MIB)
    async with server(serve) as url, open_transport() as transport:
        async with trio.open_nursery() as nursery:

            async def first() -> None:
                with pytest.raises(FacilityUnreachable, match="broke off"):
                    await put(transport, url, file)

            nursery.start_soon(first)
            await until(lambda: file.told[-1:] == [3 * MIB])
            os.kill(worker(transport), signal.SIGKILL)
        assert moved(transport)[2] == 0
        assert (await put(transport, url)).status == 201
    assert not came[0].endswith(b"0\r\n\r\n")
    assert came[1] == CONTENT


async def test_a_file_that_cannot_be_read_is_no_fault_of_the_server(tmp_path: Path) -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        await until_gone(stream)

    async with server(serve) as url, open_transport() as transport:
        for fd in (os.open(tmp_path, os.O_RDONLY), os.memfd_create("too short")):
            file = File(ready=MIB)
            os.dup2(fd, file.fd)
            os.close(fd)
            with pytest.raises(StagingFailed, match="disk"):
                await put(transport, url, file)


async def test_what_is_small_is_not_worth_a_worker() -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        data = await head(stream)
        await swallow(stream, MIB - len(data.partition(b"\r\n\r\n")[2]))
        await stream.send_all(STORED)

    async with server(serve) as url, open_transport() as transport:
        assert (await put(transport, url, File(bytes(MIB)), MIB)).status == 201
        mover = transport.status().mover
        assert mover is not None
        assert (mover.started, mover.bytes_sent) == (0, 0)


def open_files(pid: int) -> str:
    """The names of what a process has open."""
    names = []
    for one in os.scandir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):
            names.append(os.readlink(one.path))
    return " ".join(names)


async def test_no_descriptor_is_left_open_however_uploads_end() -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        request = await head(stream)
        if b"/refused" in request:
            await stream.send_all(REFUSED)
            await until_gone(stream)
        elif b"/reset" not in request:
            await until_gone(stream)

    async with server(serve) as url, open_transport() as transport:

        def descriptors() -> tuple[int, int]:
            return len(os.listdir("/proc/self/fd")), len(
                os.listdir(f"/proc/{worker(transport)}/fd")
            )

        async def use_all() -> None:
            file = File()
            assert (await put(transport, f"{url}/refused", file)).status == 403
            with pytest.raises(FacilityUnreachable):
                await put(transport, f"{url}/reset", file)
            with trio.move_on_after(0.1):
                await put(transport, f"{url}/given-up", file)
            os.close(file.fd)

        await use_all()
        await until(lambda: "memfd:body" not in open_files(worker(transport)))
        before = descriptors()
        for _ in range(3):
            await use_all()
        await until(lambda: descriptors() <= before)
