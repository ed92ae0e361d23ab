"""The retry policy."""

from __future__ import annotations

import random

import pytest

from icatfs.transport.patience import Attempt, Fault, Patience


def patience(*, idempotent: bool = True) -> Patience:
    return Patience(idempotent=idempotent, unreachable_s=10, dice=random.Random(1))


@pytest.mark.parametrize("fault", [Fault.BROKEN, Fault.GATEWAY, Fault.FAILED, Fault.SILENT])
def test_what_may_have_been_done_is_not_repeated(fault: Fault) -> None:
    assert patience(idempotent=False).next_delay_s(Attempt(fault, 0, 1)) is None


def test_what_was_never_sent_is_repeated() -> None:
    assert patience(idempotent=False).next_delay_s(Attempt(Fault.UNREACHABLE, 0, 0)) is not None


def test_a_closed_idle_connection_is_replaced_at_once_but_once() -> None:
    one = patience()
    assert one.next_delay_s(Attempt(Fault.BROKEN, 0, 0.1)) == 0
    second = one.next_delay_s(Attempt(Fault.BROKEN, 0.1, 0.2))
    assert second is not None
    assert second > 0


def test_a_hopeless_or_silent_attempt_is_the_last() -> None:
    assert patience().next_delay_s(Attempt(Fault.HOPELESS, 0, 0)) is None
    assert patience().next_delay_s(Attempt(Fault.SILENT, 0, 75)) is None


def test_a_failure_of_the_server_is_repeated_once() -> None:
    one = patience()
    assert one.next_delay_s(Attempt(Fault.FAILED, 0, 0.1)) is not None
    assert one.next_delay_s(Attempt(Fault.FAILED, 1, 1.1)) is None


def test_a_black_hole_ends_patience_after_one_connection_timeout() -> None:
    assert patience().next_delay_s(Attempt(Fault.UNREACHABLE, 0, 10)) is None


@pytest.mark.parametrize("took_s", [0.0, 1.0, 4.0])
def test_patience_with_an_unreachable_server_ends_in_time(took_s: float) -> None:
    one, now = patience(), 0.0
    while True:
        delay_s = one.next_delay_s(Attempt(Fault.UNREACHABLE, now, now + took_s))
        now += took_s
        if delay_s is None:
            break
        now += delay_s
    assert now <= 10 + took_s


def test_long_failures_and_silence_show_overload() -> None:
    assert Attempt(Fault.FAILED, 0, 60).shows_overload
    assert Attempt(Fault.BROKEN, 0, 30).shows_overload
    assert Attempt(Fault.SILENT, 0, 75).shows_overload
    assert not Attempt(Fault.FAILED, 0, 1).shows_overload
    assert not Attempt(Fault.UNREACHABLE, 0, 30).shows_overload
