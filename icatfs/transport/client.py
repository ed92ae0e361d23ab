"""Requests, streams and uploads over HTTP.

Two httpx clients inside: short calls share connections that are kept alive; transfers have a
connection each and leave it to nobody, because after a raw getData surplus bytes may follow, which
would be taken for the next answer (ids.server 2.1.1). A small upload is a short call: most of its
time would be the connection's, over TLS nearly all. Where the server closes a connection just as
one begins, nobody knows whether it arrived, as after any other break: its sender looks.

The pool of httpx leaks a place for each cancelled request (encode/httpcore#1093). So its limits are
off, and ``admission`` admits requests instead; a slot is released synchronously.

Session ids and passwords travel in URLs and forms: no URL is logged or put into an error, only the
host; the loggers of httpx and httpcore, which would log URLs, are kept to warnings.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar, cast

import httpx
import trio

from icatfs.mover.mover import Mover, MoverStatus, Unusable
from icatfs.mover.process import Stopped
from icatfs.mover.wire import Framing
from icatfs.transport.admission import Admission, AdmissionStatus, Lane, Limits, Slot
from icatfs.transport.attempt import Answer, Failed, judge, whole
from icatfs.transport.cookies import Client, Cookies
from icatfs.transport.faults import explained, meaning
from icatfs.transport.filebody import FileBody, carry
from icatfs.transport.moving import MovedStream, can_move, question
from icatfs.transport.patience import Attempt, Patience
from icatfs.transport.stream import LARGEST_ERROR, SILENCE_S, ByteStream
from icatfs.transport.uploading import EarlyAnswer, Watch, WatchedBody, ended

if TYPE_CHECKING:
    import random
    import ssl
    from collections.abc import (
        AsyncIterable,
        Awaitable,
        Callable,
        Mapping,
    )


T = TypeVar("T")

FIRST_BYTE_S = 75.0
"""An overloaded server answers 500 after 60 s."""
_CONNECT_S = 10.0
_SEND_S = 60.0
_STORED_S = 120.0  # from the last byte of an upload to its answer
_KEEP_S = 15.0  # servers close an idle connection after 20 to 35 s
_WORTH_A_START = 8 * 2**20  # as much is sent in the time that a worker takes to start
_LARGEST_ANSWER = 256 * 2**20


@dataclass(frozen=True, slots=True)
class TransportStatus:
    """Counts since the start, bytes of bodies only, and who is under way now."""

    requests: int
    retries: int
    faults: int
    bytes_in: int
    bytes_out: int
    admission: AdmissionStatus
    mover: MoverStatus | None


class Transport:
    """Carries requests to a facility. Made by ``opening.open_transport``."""

    def __init__(
        self,
        *,
        limits: Limits,
        unreachable_s: float,
        user_agent: str,
        tls: ssl.SSLContext,
        silence_s: float = SILENCE_S,
        answer_s: float | None = None,
        http: httpx.AsyncBaseTransport | None = None,
        dice: random.Random | None = None,
        mover: Mover | None = None,
    ) -> None:
        # given
        self._mover = mover
        self._unreachable_s = unreachable_s
        self._silence_s = silence_s
        self._answer_s = answer_s
        self._dice = dice
        # constant
        jar = Cookies()
        headers = {"User-Agent": user_agent, "Accept": "*/*", "Accept-Encoding": "identity"}
        self._shared = Client(
            jar,
            headers=headers,
            verify=tls,
            transport=http,
            limits=httpx.Limits(max_connections=None, keepalive_expiry=_KEEP_S),
        )
        self._single = Client(
            jar,
            headers={**headers, "Connection": "close"},
            verify=tls,
            transport=http,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
        )
        # mutable: counts only grow
        self._admission = Admission(limits)
        self._requests = self._retries = self._faults = self._bytes_in = self._bytes_out = 0

    async def request(
        self,
        method: str,
        url: str,
        *,
        lane: Lane,
        params: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        idempotent: bool,
        timeout_s: float | None = None,
    ) -> Answer:
        """The complete answer, whatever its status. ``timeout_s`` is for its first byte.

        FacilityUnreachable or FacilityTimeout when there is none, after retries if ``idempotent``
        (about ``unreachable_s`` when nothing answers). Cancelled, the request may have been done.
        """
        # What must not be repeated gets a fresh connection: one kept alive may have been closed.
        client = self._shared if idempotent else self._single

        async def attempt() -> Answer:
            with await self._admission.acquire(lane):
                begun = trio.current_time()
                request = self._build(client, method, url, params, timeout_s, form=form)
                stream = await self._head(client, request, begun)
                answer = await whole(stream, begun, _LARGEST_ANSWER)
                self._judge(answer, answer, lane, begun, url)
                return answer

        return await self._persist(attempt, idempotent=idempotent)

    async def open_stream(
        self,
        method: str,
        url: str,
        *,
        lane: Lane,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        gives_way: bool = False,
        timeout_s: float | None = None,
    ) -> ByteStream:
        """A body to be read piece by piece; that of an answer with an error is there already.

        The request is repeated like an idempotent one until the head of an answer is there. With
        ``gives_way`` the stream may end early, by FacilityUnreachable, when others wait for its
        place: the reader asks again for the rest.
        """

        if lane is Lane.BULK:
            self.prepare()

        async def attempt() -> ByteStream:
            slot = await self._admission.acquire(lane, gives_way=gives_way)
            try:
                begun = trio.current_time()
                request = self._build(self._single, method, url, params, timeout_s, headers=headers)
                stream = await self._head(self._single, request, begun, slot)
                if stream.status >= 400:
                    answer = await whole(stream, begun, LARGEST_ERROR)
                    self._judge(answer, stream, lane, begun, url)
                return stream
            except BaseException:  # not swallowed: nobody else knows of the slot yet
                slot.release()
                raise

        return await self._persist(attempt, idempotent=True)

    async def open_moved(
        self,
        url: str,
        *,
        params: Mapping[str, str],
        headers: Mapping[str, str],
        gives_way: bool,
        waits: bool,
    ) -> ByteStream | MovedStream:
        """GET a body on lane BULK, by the mover; otherwise like ``open_stream``.

        That is what comes where there is no mover, no way for it, or none yet without ``waits``.
        """

        async def attempt() -> MovedStream:
            slot = await self._admission.acquire(Lane.BULK, gives_way=gives_way)
            try:
                begun = trio.current_time()
                request = self._build(self._single, "GET", url, params, None, headers=headers)
                stream = await self._moved(request, begun, slot)
                if stream.status >= 400:
                    answer = Answer(stream.status, stream.headers, await stream.body())
                    self._judge(answer, stream, Lane.BULK, begun, url)
                return stream
            except BaseException:  # not swallowed: nobody else knows of the slot yet
                slot.release()
                raise

        if can_move(self._mover, httpx.URL(url), waits=waits):
            with suppress(Unusable):
                return await self._persist(attempt, idempotent=True)
        return await self.open_stream(
            "GET", url, lane=Lane.BULK, params=params, headers=headers, gives_way=gives_way
        )

    def prepare(self) -> None:
        """Large bodies will come or go soon: start now what moves them, which takes a moment."""
        if self._mover is not None:
            self._mover.prepare()

    async def send(
        self,
        url: str,
        *,
        params: Mapping[str, str] | None,
        body: AsyncIterable[bytes],
        length: int | None,
        at_once: bool = False,
        timeout_s: float | None = None,
    ) -> Answer:
        """PUT ``body``, of ``length`` bytes if known. Never repeated.

        ``at_once``: Busy where no place is free, instead of waiting. An answer that comes before
        the end of the body stops the upload. After FacilityUnreachable or FacilityTimeout, or when
        cancelled, the server may have stored the bytes: look. What ``body`` raises is raised. A
        large `FileBody` is sent by the mover; a small body shares connections with short calls.
        """
        framing = {"Transfer-Encoding": "chunked"}
        if length is not None:
            framing = {"Content-Length": str(length)}
        headers = {"Content-Type": "application/octet-stream", **framing}
        timeout_s = timeout_s or _STORED_S
        client = self._shared if Lane.of_upload(length) is Lane.DATA else self._single
        head = self._build(client, "PUT", url, params, timeout_s, headers=headers)
        async with ended(body):
            with await self._admission.place(Lane.of_upload(length), at_once=at_once):
                try:
                    if isinstance(body, FileBody) and self._moves_out(head.url, length):
                        with suppress(Unusable):
                            return await self._send_moved(head, body, length)
                    return await self._send(client, head, body)
                except EarlyAnswer as early:
                    return Answer(early.status, early.headers, early.body)
                except Failed as failed:
                    self._note(failed.attempt)
                    return cast("Answer", failed.outcome())

    async def _send(
        self, client: Client, head: httpx.Request, body: AsyncIterable[bytes]
    ) -> Answer:
        begun = trio.current_time()
        watch = Watch()
        watched = WatchedBody(body, watch.connection, self._sent)
        request = httpx.Request(
            head.method,
            head.url,
            headers=head.headers,
            stream=watched,
            extensions={**head.extensions, "trace": watch.saw},
        )
        stream = await self._head(client, request, begun)
        answer = await whole(stream, begun, LARGEST_ERROR)
        self._judge(answer, answer, Lane.BULK, begun, str(head.url))
        return answer

    def _moves_out(self, url: httpx.URL, length: int | None) -> bool:
        """Whether the mover sends so much; it is not waited for where that would take longer."""
        if Lane.of_upload(length) is not Lane.BULK:
            return False
        waits = length is None or length > _WORTH_A_START
        if not waits:
            self.prepare()
        return can_move(self._mover, url, waits=waits)

    async def _send_moved(self, head: httpx.Request, body: FileBody, length: int | None) -> Answer:
        assert self._mover is not None
        begun = trio.current_time()
        asked = question(head, _SEND_S)
        framing = Framing.CHUNKS if length is None else Framing.LENGTH
        self._requests += 1
        try:
            answer = await carry(self._mover, asked, framing, body, self._sent)
        except Stopped as stopped:
            fault, ours = meaning(stopped.trouble, head.url.netloc.decode("ascii"))
            raise Failed(fault, begun, error=ours) from stopped
        self._judge(answer, answer, Lane.BULK, begun, str(head.url))
        return answer

    def status(self) -> TransportStatus:
        """Counts as they are now."""
        return TransportStatus(
            requests=self._requests,
            retries=self._retries,
            faults=self._faults,
            bytes_in=self._bytes_in,
            bytes_out=self._bytes_out,
            admission=self._admission.status(),
            mover=None if self._mover is None else self._mover.status(),
        )

    async def aclose(self) -> None:
        """Close what connections are left."""
        await self._shared.aclose()
        await self._single.aclose()

    async def _persist(self, attempt: Callable[[], Awaitable[T]], *, idempotent: bool) -> T:
        patience = Patience(
            idempotent=idempotent, unreachable_s=self._unreachable_s, dice=self._dice
        )
        while True:
            try:
                return await attempt()
            except Failed as failed:
                self._note(failed.attempt)
                delay_s = patience.next_delay_s(failed.attempt)
                if delay_s is None:
                    return cast("T", failed.outcome())
            self._retries += 1
            await trio.sleep(delay_s)

    def _build(
        self,
        client: Client,
        method: str,
        url: str,
        params: Mapping[str, str] | None,
        timeout_s: float | None,
        *,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Request:
        timeouts = {
            "connect": min(_CONNECT_S, self._unreachable_s),
            "read": self._answer_s or timeout_s or FIRST_BYTE_S,
            "write": _SEND_S,
            "pool": None,
        }
        return client.build_request(
            method, url, params=params, data=form, headers=headers, extensions={"timeout": timeouts}
        )

    async def _head(
        self,
        client: Client,
        request: httpx.Request,
        begun: float,
        slot: Slot | None = None,
    ) -> ByteStream:
        self._requests += 1
        try:
            response = await client.send(request, stream=True, follow_redirects=False)
        except httpx.TransportError as error:
            fault, ours = explained(error, request.url.netloc.decode("ascii"))
            raise Failed(fault, begun, error=ours) from error
        # httpcore looks the time-out up when it begins to read the body.
        request.extensions["timeout"]["read"] = self._silence_s
        return ByteStream(response, slot, self._received, begun)

    async def _moved(self, request: httpx.Request, begun: float, slot: Slot) -> MovedStream:
        assert self._mover is not None
        host = request.url.netloc.decode("ascii")
        self._requests += 1
        try:
            moved = await self._mover.open(question(request, self._silence_s))
        except Stopped as stopped:
            fault, ours = meaning(stopped.trouble, host)
            raise Failed(fault, begun, error=ours) from stopped
        return MovedStream(moved, slot, host, begun, self._received)

    def _judge(self, answer: Answer, outcome: object, lane: Lane, begun: float, url: str) -> None:
        """Raise Failed if this answer is none, or worth another attempt."""
        judge(answer, outcome, lane, begun, url)
        self._admission.went_well()

    def _note(self, attempt: Attempt) -> None:
        self._faults += 1
        if attempt.shows_overload:
            self._admission.was_too_much(attempt.begun)

    def _received(self, size: int) -> None:
        self._bytes_in += size

    def _sent(self, size: int) -> None:
        self._bytes_out += size
