"""The brake for ``rm -r``."""

from __future__ import annotations

import pytest

from icatfs.errors import NotPermitted
from icatfs.fs.guard import OF_A_PROCESS, OF_ALL, DeletionGuard


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def removed(guard: DeletionGuard, process: int, times: int) -> int:
    """How many of so many deletions are allowed."""
    allowed = 0
    for _ in range(times):
        try:
            guard.check(process, "file")
        except NotPermitted:
            continue
        allowed += 1
    return allowed


def test_a_process_removes_a_few_and_no_more(clock: Clock) -> None:
    guard = DeletionGuard(unlimited=False, clock=clock)
    assert removed(guard, 1, 1000) == OF_A_PROCESS
    assert removed(guard, 2, 3) == 3
    with pytest.raises(NotPermitted, match="--allow-recursive-delete"):
        guard.check(1, "file")


def test_a_process_that_goes_on_trying_is_not_let_through(clock: Clock) -> None:
    guard = DeletionGuard(unlimited=False, clock=clock)
    removed(guard, 1, OF_A_PROCESS)
    for _ in range(200):
        clock.now += 1
        assert removed(guard, 1, 1) == 0
    clock.now += 61
    assert removed(guard, 1, 1) == 1


def test_many_processes_together_are_limited_too(clock: Clock) -> None:
    guard = DeletionGuard(unlimited=False, clock=clock)
    assert sum(removed(guard, process, 1) for process in range(1000)) == OF_ALL
    clock.now += 61
    assert removed(guard, 5000, 1) == 1


def test_who_says_so_removes_without_limit(clock: Clock) -> None:
    assert removed(DeletionGuard(unlimited=True, clock=clock), 1, 10_000) == 10_000
