"""The worker process over real connections: bytes where they belong, or an error that says why."""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import ssl
import subprocess
import sys
import zlib
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
import trio
import trio.lowlevel
import trio.testing
from support.rawserver import head, server
from support.sizes import MIB

from icatfs.errors import (
    Busy,
    CertificateRejected,
    DataArchived,
    FacilityTimeout,
    FacilityUnreachable,
    IcatfsError,
    NotFound,
    ProtocolError,
    SessionLost,
)
from icatfs.facility.certificates import self_signed
from icatfs.facility.testing import FacilityHandle, running_facility
from icatfs.ids.client import IdsClient
from icatfs.mover import wire
from icatfs.mover.mover import Question, Unusable, open_mover
from icatfs.transport import ByteStream, Lane, Limits, MovedStream, Transport, open_transport
from icatfs.values import DatafileId

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
    from pathlib import Path

    from icatfs.mover.wire import Bytes

    Serve = Callable[[trio.abc.Stream], Awaitable[None]]


@dataclass
class Taking:
    """Whom a stream tells; a data file in memory."""

    pieces: list[tuple[int, int, int]] = field(default_factory=list)
    overs: list[bool] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.fd = os.memfd_create("data")

    def arrived(self, pieces: Sequence[Bytes]) -> None:
        assert not self.overs, "over is the last"
        self.pieces += [(one.start, one.stop, one.crc32) for one in pieces]

    def over(self, *, disk_refused: bool) -> None:
        self.overs.append(disk_refused)

    def content(self, start: int, stop: int) -> bytes:
        return os.pread(self.fd, stop - start, start)

    def check(self, start: int) -> int:
        """Where what arrived ends; that it begins at ``start`` and is what was told of it."""
        for one, other, crc in self.pieces:
            assert one == start < other <= (one // MIB + 1) * MIB
            assert crc in (0, zlib.crc32(self.content(one, other)))
            start = other
        return start


async def take(
    stream: ByteStream | MovedStream, stop: int, *, start: int = 0, step: int = 3 * MIB + 5
) -> Taking:
    """All that comes, up to ``stop``, in orders of ``step`` bytes."""
    assert isinstance(stream, MovedStream)
    async with stream:
        taking = Taking()
        stream.into(taking)
        for one in range(start, stop, step):
            end = min(one + step, stop)
            stream.order(one, end, taking.fd, is_last=end == stop)
        await rest(stream)
    return taking


async def rest(stream: MovedStream) -> None:
    """To the end of what was ordered, or of the body."""
    while await stream.progress():
        pass


async def get(transport: Transport, url: str) -> ByteStream | MovedStream:
    return await transport.open_moved(
        url, params={"x": "1"}, headers={}, gives_way=True, waits=True
    )


def status_of(transport: Transport) -> tuple[int, int]:
    """The worker's process and how many there have been."""
    mover = transport.status().mover
    assert mover is not None
    assert mover.pid is not None
    return mover.pid, mover.started


@asynccontextmanager
async def told(answer: bytes, *, then: Serve | None = None) -> AsyncIterator[str]:
    """A server that says this to any request, does something, and closes."""

    async def serve(stream: trio.abc.Stream) -> None:
        await head(stream)
        await stream.send_all(answer)
        if then is not None:
            await then(stream)

    async with server(serve) as url:
        yield url


async def silence(_: trio.abc.Stream) -> None:
    await trio.sleep_forever()


# The facility.


@pytest.fixture(scope="module")
def large() -> Iterator[FacilityHandle]:
    with running_facility("--holdings", "large", "--size", "10", "--storage", "single") as started:
        yield started


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FacilityHandle, Path]]:
    authority = self_signed(tmp_path_factory.mktemp("certificate"))
    options = ["--holdings", "large", "--size", "10", "--storage", "single"]
    with running_facility(*options, "--certificate", str(authority)) as started:
        yield started, authority


def image(facility: FacilityHandle) -> tuple[DatafileId, bytes]:
    """A file of 4 MiB."""
    query = "SELECT df.id FROM Datafile df WHERE df.dataset.name = 'images' LIMIT 0, 1"
    number = DatafileId(facility.search(query)[0])
    return number, facility.content(number)


async def moved_from_facility(
    facility: FacilityHandle, ca_file: Path | None, offset: int
) -> tuple[Taking, bytes]:
    number, content = await trio.to_thread.run_sync(image, facility)
    session = await trio.to_thread.run_sync(facility.login, "simple/root")
    async with open_transport(ca_file=ca_file) as transport:
        ids = IdsClient(transport, facility.ids)
        stream = await ids.move_data(session, number, offset)
        assert stream.length == len(content) - offset
        taking = await take(stream, len(content), start=offset)
        assert transport.status().bytes_in == len(content) - offset
        assert transport.status().admission.bulk == 0
    return taking, content


@pytest.mark.parametrize("offset", [0, 1_234_567])
async def test_bytes_are_written_where_they_belong(large: FacilityHandle, offset: int) -> None:
    taking, content = await moved_from_facility(large, None, offset)
    assert taking.check(offset) == len(content)
    assert taking.content(offset, len(content)) == content[offset:]
    assert taking.overs == [False]


async def test_bytes_over_tls_are_written_where_they_belong(
    secure: tuple[FacilityHandle, Path],
) -> None:
    taking, content = await moved_from_facility(*secure, offset=1000)
    assert taking.check(1000) == len(content)
    assert taking.content(1000, len(content)) == content[1000:]


async def test_a_certificate_that_nobody_vouches_for_is_rejected(
    secure: tuple[FacilityHandle, Path],
) -> None:
    async with open_transport() as transport:
        with pytest.raises(CertificateRejected, match="--ca-file"):
            await get(transport, f"{secure[0].ids}/getData")
    async with open_transport(insecure=True) as transport:
        await (await get(transport, f"{secure[0].ids}/getData")).aclose()


async def test_bytes_that_nobody_wants_are_passed_over(large: FacilityHandle) -> None:
    number, content = await trio.to_thread.run_sync(image, large)
    session = await trio.to_thread.run_sync(large.login, "simple/root")
    async with open_transport() as transport:
        stream = await IdsClient(transport, large.ids).move_data(session, number)
        assert isinstance(stream, MovedStream)
        async with stream:
            taking = Taking()
            stream.into(taking)
            stream.order(0, 1_500_000, None, is_last=False)
            stream.order(1_500_000, 1_600_000, taking.fd, is_last=False)
            while not taking.pieces or taking.pieces[-1][1] < 1_600_000:
                await stream.progress()
    assert taking.content(0, 1_500_000) == bytes(1_500_000)
    assert taking.content(1_500_000, 1_600_000) == content[1_500_000:1_600_000]
    assert os.fstat(taking.fd).st_size == 1_600_000
    assert {crc for _, stop, crc in taking.pieces if stop <= 1_500_000} == {0}


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({"status": 503, "code": "DataNotOnlineException", "message": "Restore queued"}, Busy),
        ({"status": 404, "code": "NotFoundException", "message": "no datafile"}, NotFound),
        (
            {
                "status": 403,
                "code": "InsufficientPrivilegesException",
                "message": "Unable to find user by sessionid: 0",
            },
            SessionLost,
        ),
        ({"status": 404, "body": "<html>starting</html>"}, ProtocolError),
        ({"status": 502, "body": "<html>proxy</html>"}, FacilityUnreachable),
    ],
    ids=["archived", "not found", "session", "page", "proxy"],
)
async def test_a_refusal_is_told_as_by_any_other_way(
    large: FacilityHandle, answer: dict[str, object], error: type[IcatfsError]
) -> None:
    """What the server says means the same whoever asks, so both ways are asked."""
    number, _ = await trio.to_thread.run_sync(image, large)
    fault = {"endpoint": "ids/getData", "kind": "error", **answer}
    session = await trio.to_thread.run_sync(large.login, "simple/root")
    await trio.to_thread.run_sync(lambda: large.faults(fault, clear=True))
    try:
        async with open_transport(unreachable_s=0.1) as transport:
            ids = IdsClient(transport, large.ids)
            said = []
            for ask in (ids.open_data, ids.move_data):
                with pytest.raises(IcatfsError) as raised:
                    await ask(session, number, 5)
                said.append((type(raised.value), str(raised.value)))
            assert transport.status().admission.bulk == 0
    finally:
        await trio.to_thread.run_sync(large.clear_faults)
    assert said[0] == said[1]
    assert issubclass(said[0][0], (error, DataArchived) if error is Busy else error)


# What servers do.


BODY = bytes(range(256)) * 4000


def in_chunks(body: bytes, size: int = 8192) -> bytes:
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in [*parts, b""])


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + in_chunks(BODY),
        b"HTTP/1.1 200 OK\r\n\r\n" + BODY,
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1024000\r\n\r\n" + BODY,
    ],
    ids=["chunks", "no length", "continue"],
)
async def test_every_way_to_send_a_body_brings_its_bytes(answer: bytes) -> None:
    async with told(answer) as url, open_transport() as transport:
        stream = await get(transport, url)
        taking = await take(stream, len(BODY), step=300_001)
        assert taking.check(0) == len(BODY)
        assert taking.content(0, len(BODY)) == BODY


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + in_chunks(BODY + b"x"),
        b"HTTP/1.1 200 OK\r\n\r\n" + BODY + b"x",
    ],
    ids=["chunks", "no length"],
)
async def test_surplus_bytes_are_noticed_before_the_last_are_told(answer: bytes) -> None:
    async with told(answer) as url, open_transport() as transport:
        stream = await get(transport, url)
        taking = await take(stream, len(BODY), step=300_001)
        assert isinstance(stream, MovedStream)
        assert stream.has_surplus
        assert taking.check(0) < len(BODY)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2p1\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1024000\r\n\r\n" + BODY[:500_000],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + in_chunks(BODY)[:500_000],
    ],
    ids=["nothing", "no HTTP", "short", "short chunks"],
)
async def test_a_connection_that_ends_too_early_broke_off(answer: bytes) -> None:
    async with told(answer) as url, open_transport(unreachable_s=0.1) as transport:
        with pytest.raises(FacilityUnreachable, match="broke off"):
            await take(await get(transport, url), len(BODY))
        assert transport.status().admission.bulk == 0


async def test_what_came_before_the_connection_broke_is_told() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1024000\r\n\r\n" + BODY[:70_000]
    said = trio.Event()

    async def note(_: trio.abc.Stream) -> None:
        said.set()

    async with told(answer, then=note) as url, open_transport() as transport:
        stream = await get(transport, url)
        assert isinstance(stream, MovedStream)
        taking = Taking()
        async with stream:
            stream.into(taking)
            await said.wait()
            await trio.testing.wait_all_tasks_blocked()  # the end is there before it is looked for
            stream.order(0, len(BODY), taking.fd, is_last=True)
            with pytest.raises(FacilityUnreachable, match="broke off"):
                await rest(stream)
    assert taking.check(0) == 70_000
    assert taking.content(0, 70_000) == BODY[:70_000]


async def test_silence_in_a_body_is_a_timeout_and_what_came_before_is_told() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1024000\r\n\r\n" + BODY[:70_000]
    async with told(answer, then=silence) as url, open_transport(silence_s=0.5) as transport:
        stream = await get(transport, url)
        assert isinstance(stream, MovedStream)
        taking = Taking()
        async with stream:
            stream.into(taking)
            stream.order(0, len(BODY), taking.fd, is_last=True)
            with pytest.raises(FacilityTimeout, match="in time"):
                await rest(stream)
    assert taking.check(0) == 70_000
    assert taking.content(0, 70_000) == BODY[:70_000]


async def test_where_nobody_listens_there_is_no_connection() -> None:
    async with told(b"") as url:
        pass
    async with open_transport(unreachable_s=0.1) as transport:
        with pytest.raises(FacilityUnreachable, match="no connection"):
            await get(transport, url)
        with pytest.raises(FacilityUnreachable, match="There is no host"):
            await get(transport, "http://nowhere.invalid/")


async def test_a_proxy_is_asked_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    async with told(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}") as proxy:
        monkeypatch.setenv("http_proxy", proxy)
        async with open_transport() as transport:
            stream = await get(transport, "http://facility.invalid/")
            assert isinstance(stream, ByteStream)
            assert await stream.body() == b"{}"


async def test_a_host_that_speaks_no_tls_is_told_so() -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with server(serve) as url, open_transport() as transport:
        with pytest.raises(FacilityUnreachable, match="does not speak TLS"):
            await get(transport, url.replace("http:", "https:"))


async def test_a_file_that_cannot_be_written_to_ends_the_stream() -> None:
    answer = b"HTTP/1.1 200 OK\r\n\r\n" + BODY
    async with told(answer) as url, open_transport() as transport:
        stream = await get(transport, url)
        assert isinstance(stream, MovedStream)
        taking = Taking()
        full = os.open("/dev/full", os.O_WRONLY)
        async with stream:
            stream.into(taking)
            stream.order(0, len(BODY), full, is_last=True)
            with pytest.raises(FacilityUnreachable, match="disk"):
                await stream.progress()
        os.close(full)
    assert taking.overs == [True]
    assert taking.pieces == []


async def test_a_stream_gives_way_to_a_short_call() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1024000\r\n\r\n" + BODY[:70_000]
    limits = Limits(in_flight=3, data=2, bulk_while_others_wait=1)
    async with (
        told(answer, then=silence) as url,
        told(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}") as other,
        open_transport(limits=limits) as transport,
        trio.open_nursery() as nursery,
    ):
        streams = [await get(transport, url) for _ in range(2)]
        takings = [Taking() for _ in streams]
        for stream, taking in zip(streams, takings, strict=True):
            assert isinstance(stream, MovedStream)
            stream.into(taking)
            stream.order(0, 50_000, taking.fd, is_last=False)
            await stream.progress()

        async def ask() -> None:
            await transport.request("GET", other, lane=Lane.DATA, idempotent=True)

        nursery.start_soon(ask)
        while not transport.status().admission.waiting:
            await trio.lowlevel.checkpoint()
        last = streams[1]
        assert isinstance(last, MovedStream)
        with pytest.raises(FacilityUnreachable, match="gave way"):
            await rest(last)
        await streams[0].aclose()


# The process.


async def test_the_first_small_body_does_not_wait_for_the_worker_to_start() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    async with told(answer) as url, open_transport() as transport:

        async def ask() -> ByteStream | MovedStream:
            return await transport.open_moved(
                url, params={}, headers={}, gives_way=True, waits=False
            )

        first = await ask()
        assert isinstance(first, ByteStream)
        assert await first.body() == b"{}"
        with trio.fail_after(30):
            while not isinstance(stream := await ask(), MovedStream):
                await stream.aclose()
        assert (await take(stream, 2)).content(0, 2) == b"{}"


async def test_a_worker_that_is_killed_is_replaced_and_the_log_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1024000\r\n\r\n" + BODY[:70_000]
    async with told(answer, then=silence) as url, open_transport() as transport:
        stream = await get(transport, url)
        assert isinstance(stream, MovedStream)
        taking = Taking()
        async with stream:
            stream.into(taking)
            stream.order(0, len(BODY), taking.fd, is_last=True)
            assert await stream.progress()
            pid, _ = status_of(transport)
            os.kill(pid, signal.SIGKILL)
            with pytest.raises(FacilityUnreachable, match="broke off"):
                await rest(stream)
        assert taking.overs == [False]
        await (await get(transport, url)).aclose()
        new, started = status_of(transport)
        assert new != pid
        assert started == 2
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert str(pid) in caplog.text
    caplog.clear()


def test_a_worker_whose_mount_was_killed_goes_without_a_word() -> None:
    """Also when the mount had not heard yet what it was told: then the socket is reset."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        command = [sys.executable, "-m", "icatfs.mover.worker"]
        worker = subprocess.Popen(command, stdin=theirs.fileno(), stderr=subprocess.PIPE)
    with worker:
        nobody = wire.Open(1, "127.0.0.1", 1, False, b"", 1.0, 1.0, 1.0)
        ours.send(wire.encode(nobody))
        assert select.select([ours], [], [], 30)[0], "it answers, and is not heard"
        ours.close()
        _, complaints = worker.communicate(timeout=30)
    assert (worker.returncode, complaints) == (0, b"")


async def test_signals_that_mean_the_mount_do_not_end_the_worker() -> None:
    async with told(b"HTTP/1.1 200 OK\r\n\r\n" + BODY) as url, open_transport() as transport:
        await (await get(transport, url)).aclose()
        pid, _ = status_of(transport)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(pid, number)
        await take(await get(transport, url), len(BODY))
        assert status_of(transport) == (pid, 1)


async def test_no_descriptor_is_left_open_however_streams_end() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1024000\r\n\r\n" + BODY

    def count(pid: int | str) -> int:
        return len(os.listdir(f"/proc/{pid}/fd"))

    async with told(answer) as url, open_transport() as transport:
        await take(await get(transport, url), len(BODY))
        pid, _ = status_of(transport)
        before = count(pid), count("self")
        for number in range(20):
            stream = await get(transport, url)
            assert isinstance(stream, MovedStream)
            async with stream:
                taking = Taking()
                stream.into(taking)
                for start in range(0, MIB, 65_536):
                    stream.order(start, start + 65_536, taking.fd, is_last=False)
                for _ in range(number % 3):
                    await stream.progress()
            while not taking.overs:
                await trio.lowlevel.checkpoint()
            os.close(taking.fd)
        with trio.fail_after(10):
            while (count(pid), count("self")) != before:  # noqa: ASYNC110 - another process
                await trio.sleep(0.01)


async def test_a_worker_that_is_given_no_descriptor_says_of_no_byte_that_it_is_there(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with told(b"HTTP/1.1 200 OK\r\n\r\n" + BODY) as url, open_transport() as transport:
        stream = await get(transport, url)
        assert isinstance(stream, MovedStream)
        pid, _ = status_of(transport)
        most = 1 + max(map(int, os.listdir(f"/proc/{pid}/fd")))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, most))
        taking = Taking()
        async with stream:
            stream.into(taking)
            stream.order(0, len(BODY), taking.fd, is_last=True)
            with pytest.raises(FacilityUnreachable):
                await rest(stream)
        assert taking.pieces == []
        assert (await take(await get(transport, url), len(BODY))).check(0) == len(BODY)
    assert "are resumed by a new one" in caplog.text
    caplog.clear()


async def test_a_request_that_is_cancelled_holds_nothing() -> None:
    gone = trio.Event()

    async def until_gone(stream: trio.abc.Stream) -> None:
        assert not await stream.receive_some()
        gone.set()

    async with told(b"", then=until_gone) as url, open_transport() as transport:
        with trio.move_on_after(1.5):
            await get(transport, url)
        assert transport.status().admission.bulk == 0
        with trio.fail_after(10):
            await gone.wait()


async def test_a_worker_that_cannot_work_is_given_up_and_bytes_come_without_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with (
        told(b"HTTP/1.1 200 OK\r\n\r\n" + BODY) as url,
        open_mover(ca_file=None, insecure=False, command=[sys.executable, "-c", ""]) as mover,
    ):
        transport = Transport(
            limits=Limits(),
            unreachable_s=10.0,
            user_agent="test",
            tls=ssl.create_default_context(),
            mover=mover,
        )
        stream = await get(transport, url)
        assert isinstance(stream, ByteStream)
        assert await stream.body(2 * MIB) == BODY
        assert not mover.is_usable
        await stream.aclose()
        await transport.aclose()
    assert "large files are slow" in caplog.text
    assert len(caplog.records) == 3
    caplog.clear()


async def test_a_mount_that_can_have_no_more_files_open_has_a_worker_later() -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with (
        told(b"HTTP/1.1 200 OK\r\n\r\n" + BODY) as url,
        open_transport(unreachable_s=0.5) as transport,
    ):
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
        try:
            with pytest.raises(FacilityUnreachable):
                await get(transport, url)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert (await take(await get(transport, url), len(BODY))).check(0) == len(BODY)


async def test_a_program_that_is_not_there_is_given_up_at_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_mover(ca_file=None, insecure=False, command=["/no/such/program"]) as mover:
        for _ in range(2):
            with pytest.raises(Unusable):
                await mover.open(Question("localhost", 80, False, b"", 1.0, 1.0, 1.0))
    assert len(caplog.records) == 1
    caplog.clear()
