"""What requests cost, seen on a clock that moves only when told."""

from __future__ import annotations

import math
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from support.smallids import HELLO, LARGE, SMALL, SmallIds, wait_until

from icatfs.facility.costs import Costs, Prices

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

QUERY = "SELECT f.id FROM Datafile f"


class Slow:
    """A service whose requests cost; ``root`` says whether its session is spared the rules."""

    def __init__(self, folder: Path, serve_app: Any) -> None:
        self.root = True
        self.prices = Prices(sent_bytes_per_s=math.inf)
        self.costs: Costs | None = None
        self.ids = SmallIds(folder, wrap=self.wrap)
        self.ids.url = serve_app(self.ids.app)

    def wrap(self, app: Any) -> Any:
        async def slow(scope: Any, receive: Any, send: Any) -> None:
            if self.costs is None:
                self.costs = Costs(
                    self.prices, self.ids.clock, self.ids.counters, lambda session: self.root
                )
            await self.costs.wrap(app)(scope, receive, send)

        return slow

    def seconds(self, path: str, parameters: dict[str, object], **more: Any) -> float:
        """How far the clock had to go until the answer came, in steps of a millisecond."""
        steps = 0
        with self.ids.open(path, parameters, **more) as connection:
            while not connection.is_readable(0.02):
                self.ids.clock.advance(0.001)
                steps += 1
            connection.receive("GET")
        return steps / 1000


@pytest.fixture
def slow(tmp_path: Path, serve_app: Any) -> Iterator[Slow]:
    service = Slow(tmp_path, serve_app)
    yield service

    def all_done() -> bool:
        service.ids.clock.advance(100)
        return service.costs is None or service.costs.free_workers == Prices().workers

    wait_until(all_done)


def test_an_id_costs_and_so_do_skipped_bytes(slow: Slow) -> None:
    one = slow.seconds("ids/getData", {"datafileIds": SMALL})
    two = slow.seconds("ids/getData", {"datafileIds": f"{SMALL},{LARGE}"})
    far = slow.seconds("ids/getData", {"datafileIds": LARGE}, headers={"Range": "bytes=60000000-"})
    assert one == pytest.approx(0.015, abs=0.002)
    assert two - one == pytest.approx(0.005, abs=0.002)
    assert far - one == pytest.approx(0.024, abs=0.003)


def test_rules_cost_an_ordinary_user_but_for_an_exact_name(slow: Slow) -> None:
    query = "icat/entityManager"
    root = slow.seconds(query, {"query": QUERY})
    slow.root = False
    exact = slow.seconds(query, {"query": QUERY + " WHERE f.name = 'hello'"})
    user = slow.seconds(query, {"query": QUERY})
    assert root == pytest.approx(exact, abs=0.002)
    assert user - root == pytest.approx(0.135, abs=0.01)


def test_as_many_calls_as_workers_block_each_other_and_fail(slow: Slow) -> None:
    with ExitStack() as stack:
        calls = [
            stack.enter_context(slow.ids.open("ids/getData", {"datafileIds": SMALL}))
            for _ in range(5)
        ]
        wait_until(lambda: slow.costs is not None and slow.costs.free_workers == 0)
        assert not any(call.is_readable(0.1) for call in calls)
        slow.ids.clock.advance(1)
        assert not any(call.is_readable(0.2) for call in calls)
        slow.ids.clock.advance(61)
        answers = [call.receive("GET") for call in calls]
    assert {answer.status for answer in answers} == {500}


def test_fewer_calls_share_the_workers(slow: Slow) -> None:
    with ExitStack() as stack:
        calls = [
            stack.enter_context(slow.ids.open("ids/getData", {"datafileIds": SMALL}))
            for _ in range(4)
        ]
        for _ in range(50):
            if all(call.is_readable(0.01) for call in calls):
                break
            slow.ids.clock.advance(0.02)
        assert [call.receive("GET").body for call in calls] == [HELLO] * 4


def test_who_finds_no_worker_for_30_s_is_closed_without_an_answer(slow: Slow) -> None:
    with ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(slow.ids.open("ids/getData", {"datafileIds": SMALL}))
        wait_until(lambda: slow.costs is not None and slow.costs.free_workers == 0)
        late = stack.enter_context(slow.ids.open("ids/ping"))
        assert not late.is_readable(0.2)
        slow.ids.clock.advance(31)
        with pytest.raises(ConnectionError):
            late.receive("GET")
