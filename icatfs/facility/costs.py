"""What a real server costs: time for each kind of request, and few workers that share the work.

Figures as measured on icat.server 6.2.1 and ids.server 2.1.1 on one machine. A request holds one
worker; a request to the data service needs a second one while it asks the catalogue. So as many of
them at once as there are workers block each other until they give up, as with the stock pool of 5.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from icatfs.facility.asked import Asked, ask
from icatfs.facility.exchange import compact_json
from icatfs.facility.wire import wire_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from icatfs.facility.clock import Clock
    from icatfs.facility.counters import Counters
    from icatfs.facility.exchange import App, Receive, Scope, Send

_EXACT = re.compile(r"\bname\s*=\s*'")
_AGGREGATE = re.compile(r"\b(COUNT|MAX|MIN|SUM|AVG)\s*\(", re.IGNORECASE)
_RANGE = re.compile(rb"bytes=([0-9]+)-")
_MOMENT_S = 0.002
_BLOCKED = {
    "code": "InternalException",
    "message": "class java.net.SocketTimeoutException Read timed out",
}


@dataclass(frozen=True, slots=True)
class Prices:
    """Seconds, unless it says otherwise. Every request costs ``request_s`` and what it does.

    ``rules_s``: what the rules cost an ordinary user who searches Datafiles or Datasets, but for an
    exact name; ``aggregate_s``: the same for a COUNT or MAX.
    """

    workers: int = 5
    queue_patience_s: float = 30.0
    catalogue_patience_s: float = 60.0
    request_s: float = 0.002
    query_s: float = 0.004
    row_s: float = 3.1e-6
    rules_s: float = 0.135
    aggregate_s: float = 0.370
    data_request_s: float = 0.008
    id_s: float = 0.005
    dataset_s: float = 0.020
    put_s: float = 0.012
    skipped_bytes_per_s: float = 2.5e9
    sent_bytes_per_s: float = 760e6
    stored_bytes_per_s: float = 520e6


class Costs:
    """Lets requests take their time. ``is_root(session)``: whether no rules apply."""

    def __init__(
        self,
        prices: Prices,
        clock: Clock,
        counters: Counters,
        is_root: Callable[[str | None], bool],
    ) -> None:
        # given
        self._prices = prices
        self._clock = clock
        self._counters = counters
        self._is_root = is_root
        # mutable: workers that are free, as a semaphore and as a number to look at
        self._workers = asyncio.Semaphore(prices.workers)
        self.free_workers = prices.workers

    def wrap(self, app: App) -> App:
        """The application, as slow and as narrow as a real one."""

        async def slow(scope: Scope, receive: Receive, send: Send) -> None:
            async with self._worker(self._prices.queue_patience_s) as has_worker:
                if not has_worker:
                    await wire_of(scope).close()
                    return
                asked, receive = await ask(scope, receive, with_body=True)
                await self._clock.sleep(self._prices.request_s)
                if asked.endpoint.startswith("ids/"):
                    if not await self._ask_catalogue(asked, scope):
                        await _refuse(send)
                        return
                    await self._move(asked, app, scope, receive, send)
                else:
                    await self._search(asked, app, scope, receive, send)

        return slow

    @asynccontextmanager
    async def _worker(self, patience_s: float) -> AsyncIterator[bool]:
        """Hold a worker; False if none was free for so long."""
        getting = asyncio.ensure_future(self._workers.acquire())
        waiting = asyncio.ensure_future(self._clock.sleep(patience_s))
        try:
            await asyncio.wait({getting, waiting}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            if not getting.done():
                getting.cancel()
        if not getting.done():
            yield False
            return
        self.free_workers -= 1
        try:
            yield True
        finally:
            self.free_workers += 1
            self._workers.release()

    async def _ask_catalogue(self, asked: Asked, scope: Scope) -> bool:
        """The catalogue's part of a call of the data service, on another worker."""
        seconds = self._data_price(asked, scope)
        if asked.prepared is not None or not asked.session:
            await self._clock.sleep(seconds)
            return True
        async with self._worker(self._prices.catalogue_patience_s) as has_worker:
            if has_worker:
                await self._clock.sleep(seconds)
            return has_worker

    def _data_price(self, asked: Asked, scope: Scope) -> float:
        prices = self._prices
        if asked.endpoint == "ids/put":
            return prices.put_s
        seconds = prices.data_request_s if asked.session or asked.prepared else 0.0
        seconds += prices.id_s * len(asked.datafiles) + prices.dataset_s * len(asked.datasets)
        wanted = _RANGE.match(dict(scope["headers"]).get(b"range", b""))
        if wanted and asked.endpoint == "ids/getData":
            seconds += int(wanted[1]) / prices.skipped_bytes_per_s
        return seconds

    async def _move(
        self, asked: Asked, app: App, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """A call of the data service; its bytes come and go as fast as a disk and one thread do."""
        sent = _Pace(self._clock, self._prices.sent_bytes_per_s)
        stored = _Pace(self._clock, self._prices.stored_bytes_per_s)

        async def send_slowly(message: Scope) -> None:
            await sent.passed(len(message.get("body", b"")))
            await send(message)

        async def receive_slowly() -> Scope:
            message = await receive()
            await stored.passed(len(message.get("body", b"")))
            return message

        await app(scope, receive_slowly, send_slowly)

    async def _search(
        self, asked: Asked, app: App, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """A call of the catalogue; the price of its rows is due before they are sent."""
        await self._clock.sleep(self._catalogue_price(asked))
        before = self._counters.rows

        async def send_later(message: Scope) -> None:
            if message["type"] == "http.response.start":
                rows = max(0, self._counters.rows - before)
                await self._clock.sleep(rows * self._prices.row_s)
            await send(message)

        await app(scope, receive, send_later)

    def _catalogue_price(self, asked: Asked) -> float:
        prices = self._prices
        if not asked.endpoint.startswith("icat/entityManager"):
            return 0.0
        if self._is_root(asked.session) or _EXACT.search(asked.text):
            return prices.query_s
        if _AGGREGATE.search(asked.text):
            return prices.query_s + prices.aggregate_s
        if "Datafile" in asked.text or "Dataset" in asked.text:
            return prices.query_s + prices.rules_s
        return prices.query_s


class _Pace:
    """Bytes that pass at most so fast on average, from the first on."""

    def __init__(self, clock: Clock, bytes_per_s: float) -> None:
        # given
        self._clock = clock
        self._bytes_per_s = bytes_per_s
        # mutable: when the bytes so far are due
        self._due: float | None = None

    async def passed(self, count: int) -> None:
        """Return when so many more may have passed; what is due within a moment passes at once."""
        if not count:
            return
        due = self._clock.now() if self._due is None else self._due
        self._due = due + count / self._bytes_per_s
        early_s = self._due - self._clock.now()
        if early_s > _MOMENT_S:
            await self._clock.sleep(early_s)


async def _refuse(send: Send) -> None:
    body = compact_json(_BLOCKED)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 500, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
