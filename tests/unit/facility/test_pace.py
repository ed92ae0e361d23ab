"""Bytes of the data service come and go as fast as its prices say, on a clock that stands."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from icatfs.facility.clock import Clock
from icatfs.facility.costs import Costs, Prices
from icatfs.facility.counters import Counters

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

PIECE = bytes(1_000_000)
PIECES = 40


async def sending(receive: Any, send: Any) -> None:
    for _ in range(PIECES):
        await send({"type": "http.response.body", "body": PIECE})


async def receiving(receive: Any, send: Any) -> None:
    for _ in range(PIECES):
        await receive()


@pytest.mark.parametrize(
    ("path", "work", "megabytes_per_s"),
    [("/ids/getData", sending, 2.0), ("/ids/put", receiving, 0.5)],
)
def test_bytes_pass_as_fast_as_the_prices_say(
    path: str, work: Callable[[Any, Any], Awaitable[None]], megabytes_per_s: float
) -> None:
    assert asyncio.run(passed_after(10.0, path, work)) == pytest.approx(10 * megabytes_per_s, abs=2)


async def passed_after(
    seconds: float, path: str, work: Callable[[Any, Any], Awaitable[None]]
) -> int:
    """How many pieces of a megabyte have passed on their way after so many seconds."""
    clock = Clock(running=False)
    prices = Prices(sent_bytes_per_s=2e6, stored_bytes_per_s=5e5, request_s=0, put_s=0)
    passed = 0

    async def receive() -> dict[str, object]:
        nonlocal passed
        passed += 1
        return {"type": "http.request", "body": PIECE, "more_body": True}

    async def send(message: object) -> None:
        nonlocal passed
        passed += 1

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await work(receive, send)

    scope = {"type": "http", "path": path, "method": "GET", "query_string": b"", "headers": []}
    slow = Costs(prices, clock, Counters(), lambda session: True).wrap(app)
    task = asyncio.ensure_future(slow(scope, receive, send))
    for _ in range(round(seconds * 10)):
        for _ in range(20):
            await asyncio.sleep(0)
        clock.advance(0.1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return passed
