"""The transport on real connections, to servers that misbehave as real ones were seen to."""

from __future__ import annotations

import random
import ssl
from typing import TYPE_CHECKING

import pytest
import trio
from support.rawserver import head, server

from icatfs.errors import CertificateRejected, FacilityTimeout, FacilityUnreachable
from icatfs.facility.certificates import self_signed
from icatfs.transport import Lane, Transport, open_transport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


async def get(transport: Transport, url: str, timeout_s: float | None = None) -> bytes:
    answer = await transport.request(
        "GET", url, lane=Lane.CATALOGUE, idempotent=True, timeout_s=timeout_s
    )
    return answer.body


def is_idle(transport: Transport) -> bool:
    now = transport.status().admission
    return (now.catalogue, now.data, now.bulk, now.waiting) == (0, 0, 0, 0)


async def test_short_calls_share_a_connection() -> None:
    connections = 0

    async def serve(stream: trio.abc.Stream) -> None:
        nonlocal connections
        connections += 1
        while await head(stream):
            await stream.send_all(OK)

    async with server(serve) as url, open_transport() as transport:
        for _ in range(5):
            assert await get(transport, url) == b"{}"
    assert connections == 1


async def test_an_idle_connection_that_the_server_closed_is_replaced_silently() -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        await head(stream)
        await stream.send_all(OK)
        await head(stream)  # the second request is read, and the connection closed

    async with server(serve) as url, open_transport() as transport:
        for _ in range(4):
            assert await get(transport, url) == b"{}"
        assert transport.status().retries >= 1


async def test_a_refused_connection_is_told_in_bounded_time() -> None:
    async with server(lambda stream: stream.aclose()) as url:
        pass
    async with open_transport(unreachable_s=1) as transport:
        with trio.fail_after(5), pytest.raises(FacilityUnreachable, match="cannot be reached"):
            await get(transport, url)
        assert is_idle(transport)


async def test_a_server_that_never_answers_is_a_timeout() -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        await head(stream)
        await trio.sleep_forever()

    async with server(serve) as url, open_transport() as transport:
        with trio.fail_after(5), pytest.raises(FacilityTimeout):
            await get(transport, url, timeout_s=0.1)
        assert is_idle(transport)


async def test_garbage_instead_of_http_is_no_answer() -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        await head(stream)
        await stream.send_all(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")

    async with server(serve) as url, open_transport(unreachable_s=0.5) as transport:
        with pytest.raises(FacilityUnreachable):
            await get(transport, url)


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 100", b"Transfer-Encoding: chunked"], ids=["length", "chunks"]
)
async def test_a_body_that_ends_too_early_is_a_broken_connection(framing: bytes) -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        await head(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n3\r\nabc\r\n")

    async with server(serve) as url, open_transport() as transport:
        async with await transport.open_stream("GET", url, lane=Lane.BULK) as stream:
            with pytest.raises(FacilityUnreachable):
                _ = [piece async for piece in stream]
        assert is_idle(transport)


async def test_a_body_that_falls_silent_is_a_timeout() -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        await head(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")
        await trio.sleep_forever()

    async with (
        server(serve) as url,
        open_transport(silence_s=0.1) as transport,
        await transport.open_stream("GET", url, lane=Lane.BULK) as stream,
    ):
        assert await anext(stream) == b"abc"
        with trio.fail_after(5), pytest.raises(FacilityTimeout):
            await anext(stream)


async def test_surplus_bytes_after_a_transfer_reach_nobody() -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        while request := await head(stream):
            if b"getData" in request:
                assert b"connection: close" in request.lower()
                await stream.send_all(OK + b"surplus that is no HTTP")
            else:
                await stream.send_all(OK)

    async with server(serve) as url, open_transport() as transport:
        for _ in range(3):
            async with await transport.open_stream(
                "GET", f"{url}/getData", lane=Lane.BULK
            ) as stream:
                assert await stream.body() == b"{}"
            assert await get(transport, url) == b"{}"
        assert transport.status().faults == 0


async def endless() -> AsyncIterator[bytes]:
    while True:
        await trio.lowlevel.checkpoint()
        yield b"x" * 65536


async def swallow_after_refusal(stream: trio.abc.Stream) -> None:
    """What the container of ids.server 2.1.1 does with an upload it refuses."""
    await head(stream)
    body = b'{"code":"InsufficientPrivilegesException","message":"no"}'
    await stream.send_all(
        b"HTTP/1.1 403 Forbidden\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    )
    while await stream.receive_some():
        pass


async def test_an_early_refusal_stops_an_upload() -> None:
    async with server(swallow_after_refusal) as url, open_transport() as transport:
        with trio.fail_after(10):
            answer = await transport.send(url, params=None, body=endless(), length=None)
        assert answer.status == 403
        assert b"InsufficientPrivileges" in answer.body
        assert is_idle(transport)


async def accept(stream: trio.abc.Stream) -> None:
    """Reads a chunked body to its end and tells how long the request was."""
    data = await head(stream)
    while not data.endswith(b"0\r\n\r\n"):
        data += bytes(await stream.receive_some())
    body = b'{"received":%d}' % len(data)
    await stream.send_all(b"HTTP/1.1 201 Created\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


async def some() -> AsyncIterator[bytes]:
    for _ in range(50):
        await trio.sleep(0.001)
        yield b"y" * 10_000


async def test_an_upload_arrives() -> None:
    async with server(accept) as url, open_transport() as transport:
        answer = await transport.send(url, params=None, body=some(), length=None)
    assert answer.status == 201


async def small() -> AsyncIterator[bytes]:
    yield b"y" * 10_000


async def take_small(stream: trio.abc.Stream) -> bool:
    """Reads the head and the 10,000 bytes of an upload; whether there was one."""
    data = await head(stream)
    while data and len(data.partition(b"\r\n\r\n")[2]) < 10_000:
        data += bytes(await stream.receive_some())
    return bool(data)


async def test_small_uploads_share_a_connection_and_large_ones_have_their_own() -> None:
    connections = 0

    async def serve(stream: trio.abc.Stream) -> None:
        nonlocal connections
        connections += 1
        while await take_small(stream):
            await stream.send_all(OK)

    async def put(length: int | None) -> int:
        return (await transport.send(url, params=None, body=small(), length=length)).status

    async with server(serve) as url, open_transport() as transport:
        assert [await put(10_000) for _ in range(5)] == [200] * 5
        assert connections == 1
        assert [await put(None) for _ in range(2)] == [200] * 2
        assert connections == 3


async def test_a_small_upload_whose_connection_broke_is_not_repeated() -> None:
    uploads = 0

    async def serve(stream: trio.abc.Stream) -> None:
        nonlocal uploads
        while await take_small(stream):
            uploads += 1
            if uploads == 2:  # taken, and nobody is told
                return
            await stream.send_all(OK)

    async with server(serve) as url, open_transport() as transport:
        await transport.send(url, params=None, body=small(), length=10_000)
        with pytest.raises(FacilityUnreachable):
            await transport.send(url, params=None, body=small(), length=10_000)
        assert uploads == 2
        assert is_idle(transport)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for localhost, with its key in the same file."""
    return self_signed(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


async def answer_once(stream: trio.abc.Stream) -> None:
    if await head(stream):
        await stream.send_all(OK)


async def test_a_self_signed_certificate_is_rejected_at_once(tls: ssl.SSLContext) -> None:
    async with server(answer_once, tls) as url, open_transport() as transport:
        with pytest.raises(CertificateRejected, match="--ca-file"):
            await get(transport, url)
        assert transport.status().requests == 1


async def test_a_given_authority_is_trusted(tls: ssl.SSLContext, certificate: Path) -> None:
    async with server(answer_once, tls) as url, open_transport(ca_file=certificate) as transport:
        assert await get(transport, url) == b"{}"


async def test_the_check_can_be_switched_off(tls: ssl.SSLContext) -> None:
    async with server(answer_once, tls) as url, open_transport(insecure=True) as transport:
        assert await get(transport, url) == b"{}"


async def test_plain_http_where_tls_is_expected_is_hopeless() -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")

    async with server(serve) as url, open_transport() as transport:
        with pytest.raises(FacilityUnreachable, match="TLS"):
            await get(transport, url.replace("http:", "https:"))
        assert transport.status().requests == 1


async def test_an_upload_over_tls_is_not_disturbed_by_tls_itself(
    tls: ssl.SSLContext, certificate: Path
) -> None:
    async with server(accept, tls) as url, open_transport(ca_file=certificate) as transport:
        answer = await transport.send(url, params=None, body=some(), length=None)
        assert answer.status == 201


async def test_an_early_refusal_stops_an_upload_over_tls(
    tls: ssl.SSLContext, certificate: Path
) -> None:
    async with (
        server(swallow_after_refusal, tls) as url,
        open_transport(ca_file=certificate) as transport,
    ):
        with trio.fail_after(10):
            answer = await transport.send(url, params=None, body=endless(), length=None)
        assert answer.status == 403


async def test_after_many_cancelled_requests_every_place_is_free() -> None:
    dice = random.Random(7)

    async def serve(stream: trio.abc.Stream) -> None:
        while await head(stream):
            await trio.sleep(dice.random() * 0.004)
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n")
            await stream.send_all(b"x" * 10_000)
            await stream.send_all(b"x" * 10_000)

    async with server(serve) as url, open_transport() as transport:

        async def one(lane: Lane) -> None:
            with trio.move_on_after(dice.random() * 0.02):
                if lane is Lane.BULK:
                    async with await transport.open_stream("GET", url, lane=lane) as stream:
                        async for _ in stream:
                            pass
                else:
                    await transport.request("GET", url, lane=lane, idempotent=True)

        for _ in range(20):
            async with trio.open_nursery() as nursery:
                for lane in [*Lane] * 4:
                    nursery.start_soon(one, lane)
        assert is_idle(transport)
        with trio.fail_after(5):
            assert len(await get(transport, url)) == 20_000
