"""The life of a storage unit: every transition, and what holds on every path."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icatfs.recall.state import FINAL, NEXT, PATIENT_LOOKS, Phase, Seen, Watch
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
        ((), False),
        ((A,), False),
        ((A, A), False),
        ((A, A, A), True),
        ((A, N, A, N, A), True),
        ((A, A, R, A), False),
        ((A, A, R, A, A), False),
        ((R, R, R), False),
        ((N, N, N, N), False),
        ((R, A, A, A), True),
    ],
)
def test_a_restore_is_asked_for_after_more_than_two_looks(
    seen: tuple[Seen, ...], ask: bool
) -> None:
    assert looked(*seen).ask is ask


def test_after_a_request_patience_begins_anew() -> None:
    watch = looked(A, A, A).asked()
    assert watch.phase is Phase.REQUESTED
    assert watch.requests == 1
    assert not watch.ask
    for _ in range(PATIENT_LOOKS):
        watch = watch.after(A)
        assert not watch.ask
    assert watch.after(A).ask


@pytest.mark.parametrize("seen", [(), (A,), (R,), (A, A, R)])
def test_asking_out_of_turn_is_a_mistake(seen: tuple[Seen, ...]) -> None:
    with pytest.raises(ValueError, match="asked for while"):
        looked(*seen).asked()


@pytest.mark.parametrize("status", OnlineStatus)
def test_every_status_of_the_server_is_understood(status: OnlineStatus) -> None:
    assert Seen.of(status).value == status.value.lower()


@given(st.lists(st.sampled_from(Seen), max_size=40))
def test_requests_are_rare_and_follow_the_servers_word(seen: list[Seen]) -> None:
    watch, archived = Watch(), 0
    for one in seen:
        if watch.is_over:
            break
        watch = watch.after(one)
        archived = archived + 1 if one is A else archived if one is N else 0
        if watch.ask:
            assert archived > PATIENT_LOOKS
            assert one in (A, N)
            watch, archived = watch.asked(), 0
        assert watch.requests <= seen.count(A) / (PATIENT_LOOKS + 1)
        assert watch.is_over == (one in (Seen.ONLINE, Seen.FAILED))
