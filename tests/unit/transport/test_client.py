"""Requests, streams and uploads against a stand-in for the network."""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

import httpx
import pytest
import trio
import trio.testing

from icatfs.errors import (
    CertificateRejected,
    ConfigError,
    FacilityTimeout,
    FacilityUnreachable,
    ProtocolError,
)
from icatfs.transport import Lane, Transport, open_transport
from icatfs.transport.tls import tls_context

if TYPE_CHECKING:
    from pathlib import Path

URL = "https://icat.example.org/icat/version"
SESSION = "0d9a3706-80d4-4d29-9ff3-4d65d4308a24"
Handler = Callable[[httpx.Request], Coroutine[None, None, httpx.Response]]


class Script:
    """Answers one request after the other; an exception is raised."""

    def __init__(self, *steps: httpx.Response | Exception) -> None:
        self.steps = list(steps)
        self.seen: list[httpx.Request] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        await trio.lowlevel.checkpoint()
        self.seen.append(request)
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        return step


class Pieces(httpx.AsyncByteStream):
    """A body in pieces; an exception among them breaks it."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        self.pieces = list(pieces)
        self.is_closed = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        await trio.lowlevel.checkpoint()
        if not self.pieces:
            raise StopAsyncIteration
        piece = self.pieces.pop(0)
        if isinstance(piece, Exception):
            raise piece
        return piece

    async def aclose(self) -> None:
        self.is_closed = True


@asynccontextmanager
async def opened(handler: Handler) -> AsyncIterator[Transport]:
    async with open_transport(http=httpx.MockTransport(handler)) as transport:
        yield transport


def answer(status: int = 200, text: str = "{}") -> httpx.Response:
    return httpx.Response(status, stream=Pieces(text.encode()))


def is_idle(transport: Transport) -> bool:
    now = transport.status().admission
    return (now.catalogue, now.data, now.bulk, now.waiting) == (0, 0, 0, 0)


async def get(transport: Transport) -> int:
    return (await transport.request("GET", URL, lane=Lane.CATALOGUE, idempotent=True)).status


async def write(transport: Transport) -> int:
    form = {"a": "ü &"}
    answer = await transport.request("POST", URL, lane=Lane.CATALOGUE, form=form, idempotent=False)
    return answer.status


async def test_any_status_is_an_answer(autojump_clock: trio.abc.Clock) -> None:
    for status in (200, 204, 301, 400, 403, 404, 412, 501):
        async with opened(Script(answer(status))) as transport:
            assert await get(transport) == status


async def test_headers_say_who_asks() -> None:
    script = Script(answer())
    async with opened(script) as transport:
        await get(transport)
    headers = script.seen[0].headers
    assert headers["user-agent"].startswith("icatfs/")
    assert headers["accept"] == "*/*"


async def test_a_cookie_that_a_balancer_sets_comes_back_with_every_kind_of_request() -> None:
    first = answer()
    first.headers["Set-Cookie"] = "server=2; Path=/"
    script = Script(first, answer(), answer(), answer())
    async with opened(script) as transport:
        await get(transport)
        await get(transport)
        await write(transport)
        await one_stream(transport)
    assert [one.headers.get("cookie") for one in script.seen] == [None, *["server=2"] * 3]


async def test_a_form_is_sent_as_utf8() -> None:
    script = Script(answer())
    async with opened(script) as transport:
        await write(transport)
    assert script.seen[0].content == b"a=%C3%BC+%26"


async def test_a_broken_connection_is_repeated_at_once(autojump_clock: trio.abc.Clock) -> None:
    begun = trio.current_time()
    async with opened(Script(httpx.RemoteProtocolError("closed"), answer())) as transport:
        assert await get(transport) == 200
        assert transport.status().retries == 1
    assert trio.current_time() - begun < 0.01


async def test_a_change_is_never_repeated(autojump_clock: trio.abc.Clock) -> None:
    script = Script(httpx.ReadError("reset"), answer())
    async with opened(script) as transport:
        with pytest.raises(FacilityUnreachable):
            await write(transport)
        assert is_idle(transport)
    assert len(script.seen) == 1


async def test_a_change_that_could_not_be_sent_is_tried_again(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with opened(Script(httpx.ConnectError("refused"), answer())) as transport:
        assert await write(transport) == 200


async def test_an_unreachable_server_costs_ten_seconds_at_most(
    autojump_clock: trio.abc.Clock,
) -> None:
    async def black_hole(request: httpx.Request) -> httpx.Response:
        await trio.sleep(request.extensions["timeout"]["connect"])
        raise httpx.ConnectTimeout("")

    begun = trio.current_time()
    async with opened(black_hole) as transport:
        with pytest.raises(FacilityUnreachable):
            await get(transport)
    assert trio.current_time() - begun <= 10.1


async def test_silence_is_a_timeout_and_shows_overload(autojump_clock: trio.abc.Clock) -> None:
    async with opened(Script(httpx.ReadTimeout(""))) as transport:
        with pytest.raises(FacilityTimeout):
            await get(transport)
        assert transport.status().admission.limit == 2


async def test_a_failure_after_a_long_wait_is_taken_as_overload_and_repeated(
    autojump_clock: trio.abc.Clock,
) -> None:
    delays = [60.0, 0.0]

    async def slow(request: httpx.Request) -> httpx.Response:
        delay_s = delays.pop(0)
        await trio.sleep(delay_s)
        return answer(500 if delay_s else 200)

    async with opened(slow) as transport:
        result = await transport.request("GET", URL, lane=Lane.DATA, idempotent=True)
        assert result.status == 200
        assert transport.status().admission.limit == 2


async def test_a_quick_failure_of_the_data_service_is_an_answer() -> None:
    async with opened(Script(answer(500))) as transport:
        result = await transport.request("GET", URL, lane=Lane.DATA, idempotent=True)
        assert result.status == 500
        assert transport.status().admission.limit == 4


async def test_a_failing_catalogue_is_asked_once_more(autojump_clock: trio.abc.Clock) -> None:
    async with opened(Script(answer(500), answer(500))) as transport:
        assert await get(transport) == 500


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_a_proxys_page_is_a_fault_of_the_network(
    status: int, autojump_clock: trio.abc.Clock
) -> None:
    async with opened(Script(answer(status, "<html>"), answer())) as transport:
        assert await get(transport) == 200
    async with opened(Script(*[answer(status, "<html>") for _ in range(9)])) as transport:
        with pytest.raises(FacilityUnreachable, match=str(status)):
            await get(transport)


async def test_a_503_with_json_is_an_answer() -> None:
    async with opened(Script(answer(503, '{"code":"DataNotOnlineException"}'))) as transport:
        assert await get(transport) == 503


async def test_an_untrusted_certificate_is_hopeless_and_says_what_to_do() -> None:
    async def distrust(request: httpx.Request) -> httpx.Response:
        try:
            raise ssl.SSLCertVerificationError("self-signed certificate")
        except ssl.SSLError as error:
            raise httpx.ConnectError("certificate") from error

    async with opened(distrust) as transport:
        with pytest.raises(CertificateRejected, match="--ca-file"):
            await get(transport)
        assert transport.status().requests == 1


async def test_neither_text_nor_log_shows_the_address_beyond_the_host(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    url = f"https://icat.example.org/icat/session/{SESSION}?sessionId={SESSION}"
    async with opened(Script(httpx.ReadTimeout(SESSION), answer())) as transport:
        with pytest.raises(FacilityTimeout) as caught:
            await transport.request("GET", url, lane=Lane.CATALOGUE, idempotent=True)
        await transport.request("GET", url, lane=Lane.CATALOGUE, idempotent=True)
    assert SESSION not in str(caught.value)
    assert SESSION not in caplog.text


async def test_a_stream_is_read_piece_by_piece_and_holds_a_slot() -> None:
    body = Pieces(b"one", b"two")
    async with opened(Script(httpx.Response(200, stream=body))) as transport:
        stream = await transport.open_stream("GET", URL, lane=Lane.BULK)
        assert transport.status().admission.bulk == 1
        async with stream:
            assert [piece async for piece in stream] == [b"one", b"two"]
            assert is_idle(transport)
        assert transport.status().bytes_in == 6


async def test_a_stream_left_early_is_closed() -> None:
    body = Pieces(*[b"x"] * 1000)
    async with opened(Script(httpx.Response(200, stream=body))) as transport:
        async with await transport.open_stream("GET", URL, lane=Lane.BULK) as stream:
            async for _ in stream:
                break
        assert body.is_closed
        assert is_idle(transport)


async def test_a_stream_that_breaks_says_so_and_frees_its_slot() -> None:
    body = Pieces(b"one", httpx.ReadError("reset"))
    async with opened(Script(httpx.Response(200, stream=body))) as transport:
        stream = await transport.open_stream("GET", URL, lane=Lane.BULK)
        assert await anext(stream) == b"one"
        with pytest.raises(FacilityUnreachable):
            await anext(stream)
        assert is_idle(transport)


async def test_a_silent_body_is_a_timeout_of_twenty_seconds() -> None:
    body = Pieces(httpx.ReadTimeout(""))
    script = Script(httpx.Response(200, stream=body))
    async with opened(script) as transport:
        stream = await transport.open_stream("GET", URL, lane=Lane.BULK)
        assert script.seen[0].extensions["timeout"]["read"] == 20
        with pytest.raises(FacilityTimeout):
            await anext(stream)


async def test_the_body_of_an_error_is_there_and_the_slot_free() -> None:
    async with opened(Script(answer(503, '{"code":"x"}'))) as transport:
        stream = await transport.open_stream("GET", URL, lane=Lane.BULK)
        assert is_idle(transport)
        assert await stream.body() == b'{"code":"x"}'


async def test_a_stream_gives_way_when_a_short_call_waits() -> None:
    async def endless(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/ids/getStatus":
            return answer()
        return httpx.Response(200, stream=Pieces(*[b"x"] * 10_000))

    async with opened(endless) as transport, trio.open_nursery() as nursery:
        streams = [
            await transport.open_stream("GET", URL, lane=Lane.BULK, gives_way=True)
            for _ in range(3)
        ]
        for stream in streams:
            await anext(stream)
        status_url = "https://icat.example.org/ids/getStatus"

        async def ask() -> None:
            await transport.request("GET", status_url, lane=Lane.DATA, idempotent=True)

        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(FacilityUnreachable, match="gave way"):
            await anext(streams[0])
        assert await anext(streams[1]) == b"x"
        for stream in streams:
            await stream.aclose()


async def test_an_answer_beyond_all_measure_is_refused() -> None:
    body = Pieces(*[b"x" * 2**20] * 3)
    async with opened(Script(httpx.Response(404, stream=body))) as transport:
        with pytest.raises(ProtocolError):
            await transport.open_stream("GET", URL, lane=Lane.BULK)
        assert is_idle(transport)


async def pieces(*some: bytes) -> AsyncIterator[bytes]:
    for piece in some:
        yield piece


@pytest.mark.parametrize("length", [6, None])
async def test_an_upload_has_a_length_or_chunks(length: int | None) -> None:
    script = Script(answer(201))
    async with opened(script) as transport:
        body = pieces(b"one", b"two")
        result = await transport.send(URL, params=None, body=body, length=length)
        assert result.status == 201
        assert transport.status().bytes_out == 6
    headers = script.seen[0].headers
    assert headers["content-type"] == "application/octet-stream"
    assert headers.get("content-length") == (None if length is None else "6")
    assert ("transfer-encoding" in headers) is (length is None)
    assert script.seen[0].content == b"onetwo"


async def test_small_uploads_take_all_places_of_the_data_service_and_large_ones_leave_one() -> None:
    for length, most in ((10_000, 3), (10_000_000, 2), (None, 2)):
        under_way = most_at_once = 0

        async def slow(request: httpx.Request) -> httpx.Response:
            nonlocal under_way, most_at_once
            await request.aread()
            under_way += 1
            most_at_once = max(most_at_once, under_way)
            await trio.testing.wait_all_tasks_blocked()
            under_way -= 1
            return answer()

        async with opened(slow) as transport, trio.open_nursery() as nursery:
            for _ in range(6):
                send = partial(transport.send, URL, params=None, body=pieces(b"x"), length=length)
                nursery.start_soon(send)
        assert most_at_once == most


async def test_an_upload_is_never_repeated() -> None:
    script = Script(httpx.ReadError("reset"), answer(201))
    async with opened(script) as transport:
        with pytest.raises(FacilityUnreachable):
            await transport.send(URL, params=None, body=pieces(b"x"), length=1)
        assert is_idle(transport)
    assert len(script.seen) == 1


async def test_an_error_of_the_body_is_raised_as_it_is() -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x"
        raise ConfigError("the staged file is gone")

    async with opened(Script(answer(201))) as transport:
        with pytest.raises(ConfigError):
            await transport.send(URL, params=None, body=broken(), length=None)
        assert is_idle(transport)


async def one_request(transport: Transport) -> None:
    await get(transport)


async def one_stream(transport: Transport) -> None:
    async with await transport.open_stream("GET", URL, lane=Lane.BULK) as stream:
        async for _ in stream:
            pass


async def one_stream_left(transport: Transport) -> None:
    async with await transport.open_stream("GET", URL, lane=Lane.BULK) as stream:
        await anext(stream)


async def one_upload(transport: Transport) -> None:
    await transport.send(URL, params=None, body=pieces(b"a", b"b"), length=None)


@pytest.mark.parametrize("act", [one_request, one_stream, one_stream_left, one_upload])
async def test_cancelled_at_any_checkpoint_nothing_leaks(
    act: Callable[[Transport], Awaitable[None]],
) -> None:
    async def network(request: httpx.Request) -> httpx.Response:
        with suppress(httpx.StreamConsumed):
            await request.aread()
        await trio.lowlevel.checkpoint()
        return httpx.Response(200, stream=Pieces(b"one", b"two"))

    async with opened(network) as transport:
        for steps in range(100):
            with trio.CancelScope() as scope:
                cancelling = Cancelling(scope, steps)
                trio.lowlevel.add_instrument(cancelling)
                try:
                    await act(transport)
                finally:
                    trio.lowlevel.remove_instrument(cancelling)
            assert is_idle(transport)
            if not scope.cancelled_caught:
                break
        else:
            pytest.fail("never came to its end")
        assert steps > 3


class Cancelling(trio.abc.Instrument):
    """Cancels a scope after the present task has run a number of steps."""

    def __init__(self, scope: trio.CancelScope, steps: int) -> None:
        self.scope, self.steps = scope, steps
        self.task = trio.lowlevel.current_task()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self.task:
            self.steps -= 1
            if self.steps < 0:
                self.scope.cancel()


def test_an_unreadable_authority_is_an_error_of_configuration(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing")
    for path in (tmp_path / "missing.pem", empty):
        with pytest.raises(ConfigError, match=str(path)):
            tls_context(path, insecure=False)


def test_doing_without_certificates_warns(caplog: pytest.LogCaptureFixture) -> None:
    tls_context(None, insecure=True)
    assert "--insecure" in caplog.text
