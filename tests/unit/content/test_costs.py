"""What streams cost is learnt: from few of them, in spite of noise, and never nonsense."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.sizes import GIB, MIB

from icatfs.content.costs import Costs, Prices


def learnt(base_s: float, skip_s: float, offsets: list[int], noise: list[float]) -> Prices:
    costs = Costs()
    for offset, extra_s in zip(offsets, noise, strict=True):
        costs.opened(offset, base_s + offset * skip_s + extra_s)
    return costs.prices


def test_it_begins_with_the_figures_of_a_real_server() -> None:
    prices = Costs().prices
    assert prices.first_byte_s(0) == pytest.approx(0.023, abs=0.01)
    assert prices.first_byte_s(GIB) == pytest.approx(0.43, abs=0.1)
    assert prices.rate == 760e6


@pytest.mark.parametrize("base_s", [0.002, 0.02, 0.5])
@pytest.mark.parametrize("skip_s", [0.0, 1 / 2.5e9, 1 / 1e8])
def test_a_server_is_known_after_a_few_streams(base_s: float, skip_s: float) -> None:
    dice = random.Random(1)
    offsets = [dice.randrange(4 * GIB) for _ in range(9)]
    prices = learnt(base_s, skip_s, offsets, [0.0] * len(offsets))
    assert prices.base_s == pytest.approx(base_s, rel=0.01)
    assert prices.skip_s == pytest.approx(skip_s, rel=0.01, abs=1e-14)


def test_a_quarter_of_the_streams_may_be_late_by_anything() -> None:
    dice = random.Random(2)
    offsets = [dice.randrange(4 * GIB) for _ in range(32)]
    noise = [dice.uniform(0.5, 60.0) if number % 4 == 0 else 0.0 for number in range(32)]
    prices = learnt(0.02, 1 / 2.5e9, offsets, noise)
    assert prices.first_byte_s(0) == pytest.approx(0.02, abs=0.2)
    assert prices.first_byte_s(4 * GIB) == pytest.approx(1.74, rel=0.2)


def test_streams_from_the_beginning_only_say_nothing_about_skipping() -> None:
    prices = learnt(0.005, 0.0, [0] * 32, [0.0] * 32)
    assert prices.base_s == pytest.approx(0.005)
    assert prices.skip_s == Costs().prices.skip_s


def test_a_server_that_changes_is_known_anew_after_as_many_streams() -> None:
    dice = random.Random(3)
    costs = Costs()
    for base_s, skip_s in ((0.5, 1e-8), (0.01, 1e-10)):
        for _ in range(32):
            offset = dice.randrange(GIB)
            costs.opened(offset, base_s + offset * skip_s)
    assert costs.prices.base_s == pytest.approx(0.01, rel=0.01)


def test_the_rate_is_that_of_the_streams_that_were_long_enough() -> None:
    costs = Costs()
    costs.flowed(3 * MIB, 1e-6)  # it was in some buffer
    costs.flowed(0, 0.0)
    assert costs.prices.rate == 760e6
    for seconds in (0.1, 0.1, 8.0):
        costs.flowed(10 * MIB, seconds)
    assert costs.prices.rate == pytest.approx(100 * MIB)


def test_a_short_stream_may_prove_a_slow_line_but_not_a_fast_one() -> None:
    costs = Costs()
    costs.flowed(MIB, 0.1)
    assert costs.prices.rate == pytest.approx(10 * MIB)
    costs.flowed(MIB, 0.01)
    assert costs.prices.rate == pytest.approx(10 * MIB)
    costs.flowed(1000, 100.0)  # one packet
    assert costs.prices.rate == pytest.approx(10 * MIB)


def test_the_reach_is_half_of_what_arrives_while_a_stream_would_be_opened() -> None:
    prices = Prices(base_s=0.02, skip_s=1e-9, rate=1e8)
    assert prices.reach(0, 0, 2**60) == 1_000_000
    assert prices.reach(10**9, 0, 2**60) == 51_000_000
    assert prices.reach(10**9, 0, MIB) == MIB
    assert prices.reach(0, 8 * MIB, GIB) == 8 * MIB


seconds = st.floats(-1.0, 1e6)
offsets = st.integers(0, 2**50)


@given(
    st.lists(st.tuples(offsets, seconds), max_size=50),
    st.lists(st.tuples(st.integers(0, 2**50), seconds), max_size=50),
    st.lists(offsets, min_size=2, max_size=2),
)
def test_whatever_was_seen_costs_make_sense(
    opened: list[tuple[int, float]], flowed: list[tuple[int, float]], places: list[int]
) -> None:
    costs = Costs()
    for offset, took_s in opened:
        costs.opened(offset, took_s)
    for count, took_s in flowed:
        costs.flowed(count, took_s)
    prices = costs.prices
    near, far = sorted(places)
    assert prices.base_s > 0
    assert prices.rate > 0
    assert 0 < prices.first_byte_s(near) <= prices.first_byte_s(far)
    assert MIB <= prices.reach(near, MIB, GIB) <= prices.reach(far, MIB, GIB) <= GIB
    assert prices.read_s(0) == 0
