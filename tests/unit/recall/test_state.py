"""The life of a storage unit: every transition, and what holds on every path."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icatfs.recall.state import (
    FINAL,
    MOST_RELAPSES,
    NEXT,
    PATIENT_LOOKS,
    Ask,
    Phase,
    Seen,
    Watch,
    next_pause,
)
from icatfs.values import OnlineStatus


@pytest.mark.parametrize("phase", Phase)
def test_the_table_is_total(phase: Phase) -> None:
    assert set(NEXT[phase]) == set(Seen)


@pytest.mark.parametrize(
    ("phase", "seen", "after"),
    [
        (Phase.ASSUMED, Seen.ONLINE, Phase.ONLINE),
        (Phase.ASSUMED, Seen.RESTORING, Phase.RESTORING),
        (Phase.ASSUMED, Seen.ARCHIVED, Phase.ARCHIVED),
        (Phase.ASSUMED, Seen.FAILED, Phase.FAILED),
        (Phase.ASSUMED, Seen.NOTHING, Phase.ASSUMED),
        (Phase.ARCHIVED, Seen.ONLINE, Phase.ONLINE),
        (Phase.ARCHIVED, Seen.RESTORING, Phase.RESTORING),
        (Phase.ARCHIVED, Seen.ARCHIVED, Phase.ARCHIVED),
        (Phase.ARCHIVED, Seen.FAILED, Phase.FAILED),
        (Phase.ARCHIVED, Seen.NOTHING, Phase.ARCHIVED),
        (Phase.REQUESTED, Seen.ONLINE, Phase.ONLINE),
        (Phase.REQUESTED, Seen.RESTORING, Phase.RESTORING),
        (Phase.REQUESTED, Seen.ARCHIVED, Phase.REQUESTED),
        (Phase.REQUESTED, Seen.FAILED, Phase.FAILED),
        (Phase.REQUESTED, Seen.NOTHING, Phase.REQUESTED),
        (Phase.RESTORING, Seen.ONLINE, Phase.ONLINE),
        (Phase.RESTORING, Seen.RESTORING, Phase.RESTORING),
        (Phase.RESTORING, Seen.ARCHIVED, Phase.ARCHIVED),
        (Phase.RESTORING, Seen.FAILED, Phase.FAILED),
        (Phase.RESTORING, Seen.NOTHING, Phase.RESTORING),
    ],
)
def test_a_look_moves_the_unit(phase: Phase, seen: Seen, after: Phase) -> None:
    assert Watch(phase).after(seen).phase is after


@pytest.mark.parametrize("phase", sorted(FINAL))
@pytest.mark.parametrize("seen", Seen)
def test_nothing_follows_the_end(phase: Phase, seen: Seen) -> None:
    with pytest.raises(ValueError, match="final"):
        Watch(phase).after(seen)


def looked(*seen: Seen) -> Watch:
    watch = Watch()
    for one in seen:
        watch = watch.after(one)
    return watch


A, R, N = Seen.ARCHIVED, Seen.RESTORING, Seen.NOTHING


@pytest.mark.parametrize(
    ("seen", "ask"),
    [
        ((), None),
        ((A,), Ask.GENTLY),
        ((A, N), Ask.GENTLY),
        ((N, N), None),
        ((R, R), None),
        ((R, A), Ask.GENTLY),
        ((A, R), None),
    ],
)
def test_what_is_archived_is_asked_for_gently(seen: tuple[Seen, ...], ask: Ask | None) -> None:
    assert looked(*seen).ask is ask


@pytest.mark.parametrize(
    ("seen", "ask"),
    [
        ((), None),
        ((A, A), None),
        ((A, A, A), Ask.BY_NAME),
        ((A, N, A, N, A), Ask.BY_NAME),
        ((A, A, R), None),
        ((A, A, R, A), Ask.GENTLY),
    ],
)
def test_what_stays_archived_after_a_request_is_asked_for_by_name(
    seen: tuple[Seen, ...], ask: Ask | None
) -> None:
    watch = looked(A).asked()
    assert watch.phase is Phase.REQUESTED
    for one in seen:
        watch = watch.after(one)
    assert watch.ask is ask


def test_after_a_request_patience_begins_anew() -> None:
    watch = looked(A).asked()
    for number in range(2, 5):
        for _ in range(PATIENT_LOOKS):
            watch = watch.after(A)
            assert watch.ask is None
        watch = watch.after(A).asked()
        assert watch.requests == number


def test_restores_that_never_end_are_failed_ones() -> None:
    watch = Watch()
    for _ in range(MOST_RELAPSES - 1):
        watch = watch.after(R).after(A).asked()
        assert not watch.has_relapsed
    watch = watch.after(R).after(A)
    assert watch.phase is Phase.FAILED
    assert watch.has_relapsed


@pytest.mark.parametrize("seen", [(), (R,), (A, A, R)])
def test_asking_out_of_turn_is_a_mistake(seen: tuple[Seen, ...]) -> None:
    with pytest.raises(ValueError, match="asked for while"):
        looked(*seen).asked()


@pytest.mark.parametrize("status", OnlineStatus)
def test_every_status_of_the_server_is_understood(status: OnlineStatus) -> None:
    assert Seen.of(status).value == status.value.lower()


@given(st.lists(st.sampled_from(Seen), max_size=40))
def test_requests_follow_the_servers_word(seen: list[Seen]) -> None:
    watch, archived = Watch(), 0
    for one in seen:
        if watch.is_over:
            break
        watch = watch.after(one)
        archived = archived + 1 if one is A else archived if one is N else 0
        if watch.ask is not None:
            assert archived > (PATIENT_LOOKS if watch.ask is Ask.BY_NAME else 0)
            assert one in (A, N)
            watch, archived = watch.asked(), 0
        assert watch.requests <= seen.count(A)
        assert watch.is_over == (one in (Seen.ONLINE, Seen.FAILED) or watch.has_relapsed)


def test_pauses_grow_to_their_limit() -> None:
    pause_s, pauses = 2.0, []
    for _ in range(10):
        pauses.append(pause_s)
        pause_s = next_pause(pause_s, elapsed_s=sum(pauses), expected_s=None, low_s=2, high_s=30)
    assert pauses[:3] == [2.0, 3.0, 4.5]
    assert pauses[-1] == 30


def test_looks_are_closer_near_the_expected_end() -> None:
    def pause(elapsed_s: float) -> float:
        return next_pause(30, elapsed_s=elapsed_s, expected_s=600.0, low_s=2, high_s=30)

    assert pause(0) == 30
    assert pause(560) == 10
    assert pause(600) == 2
    assert pause(620) == 5
    assert pause(2000) == 30
