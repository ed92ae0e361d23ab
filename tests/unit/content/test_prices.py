"""What is learnt of streams, to the number: each measure at its edge, and a model of all of it."""

from __future__ import annotations

import itertools
import random
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.sizes import GIB, MIB

from icatfs.content.costs import Costs, Prices

ELSEWHERE = [(0, 0.023), (256 * MIB, 0.139), (512 * MIB, 0.318), (1024 * MIB, 0.430)]
"""The first bytes of a real server: before eight streams were opened here they count, too."""


def after(*opened: tuple[int, float]) -> Prices:
    costs = Costs()
    for offset, seconds in opened:
        costs.opened(offset, seconds)
    return costs.prices


def rate_after(*flowed: tuple[int, float]) -> float:
    costs = Costs()
    for count, seconds in flowed:
        costs.flowed(count, seconds)
    return costs.prices.rate


# What a price is.


@given(st.floats(0.001, 10), st.floats(0, 1e-6), st.floats(1e5, 1e10), st.integers(0, 2**40))
def test_a_stream_costs_a_request_and_what_precedes_it(
    base_s: float, skip_s: float, rate: float, offset: int
) -> None:
    prices = Prices(base_s, skip_s, rate)
    assert prices.first_byte_s(0) == base_s
    assert prices.first_byte_s(offset) - base_s == pytest.approx(offset * skip_s, abs=1e-9)
    assert prices.read_s(offset) == pytest.approx(offset / rate)


@pytest.mark.parametrize(("count", "seconds"), [(0, 0.0), (1, 0.125), (8, 1.0), (2**40, 2.0**37)])
def test_bytes_arrive_at_the_rate(count: int, seconds: float) -> None:
    assert Prices(1.0, 0.0, 8.0).read_s(count) == seconds


@pytest.mark.parametrize(
    ("offset", "least", "most", "reach"),
    [
        (0, 0, 10**9, 100),
        (1, 0, 10**9, 150),
        (7, 0, 10**9, 450),
        (7, 0, 449, 449),
        (7, 0, 450, 450),
        (7, 451, 10**9, 451),
        (7, 450, 10**9, 450),
        (7, 500, 400, 500),
    ],
)
def test_the_reach_is_half_of_what_comes_meanwhile_within_its_bounds(
    offset: int, least: int, most: int, reach: int
) -> None:
    prices = Prices(base_s=2.0, skip_s=1.0, rate=100.0)
    assert prices.reach(offset, least, most) == reach
    assert isinstance(prices.reach(offset, least, most), int)


# What holds before anything was seen, and for how long.


def test_before_anything_was_seen_it_is_the_line_through_what_was_seen_elsewhere() -> None:
    """Worked out by hand: the middle of six slopes, and of four streams without what they skip."""
    prices = Costs().prices
    assert prices.skip_s * GIB == pytest.approx((0.407 + 0.464) / 2, abs=0.0005)
    assert prices.base_s == pytest.approx(0.02657, abs=0.0001)
    assert prices.rate == 760e6
    assert after() == prices


def test_after_eight_streams_their_beginnings_count_alone() -> None:
    """All at 0, so that nothing is learnt of skipping; the four from elsewhere are all below."""
    seconds = [float(number) for number in range(1, 9)]
    assert after(*((0, one) for one in seconds[:7])).base_s == 2.0, "the sixth of eleven"
    assert after(*((0, one) for one in seconds)).base_s == 4.5, "between the fourth and the fifth"


def test_after_eight_pairs_their_slopes_count_alone() -> None:
    far = [(GIB, float(number)) for number in range(1, 9)]
    assert after((0, 0.0), *far[:7]).skip_s * GIB == pytest.approx(1.0), "the seventh of thirteen"
    # the slowest that is believed is 53.7 s for a GiB, so nothing of this is cut off
    assert after((0, 0.0), *far).skip_s * GIB == pytest.approx(4.5)


@pytest.mark.parametrize(("apart", "counts"), [(16 * MIB, True), (16 * MIB - 1, False)])
def test_streams_that_are_sixteen_mebibytes_apart_tell_what_skipping_costs(
    apart: int, counts: bool
) -> None:
    near, far = [(GIB, 0.5)] * 3, [(GIB + apart, 0.6)] * 3
    skip_s = after(*near, *far).skip_s
    assert (skip_s == pytest.approx(0.1 / apart)) is counts
    assert (skip_s == Costs().prices.skip_s) is not counts


@pytest.mark.parametrize("order", list(itertools.permutations(range(4)))[::5])
def test_the_order_of_the_streams_does_not_matter(order: tuple[int, ...]) -> None:
    groups = [[(n * GIB, 0.5 * n + 0.01 * extra) for extra in range(2)] for n in range(4)]
    shuffled = [one for n in order for one in groups[n]]
    assert after(*shuffled) == after(*itertools.chain(*groups))


def test_a_server_is_never_believed_to_skip_backwards() -> None:
    streams = [(0, 2.0)] * 4 + [(GIB, 1.0)] * 4
    assert after(*streams).skip_s == 0.0
    assert after(*streams).base_s == 1.5


def test_a_server_is_never_believed_to_skip_slower_than_twenty_megabytes_a_second() -> None:
    just = [(0, 0.0)] * 4 + [(20 * 10**6, 0.99)] * 4
    slower = [(0, 0.0)] * 4 + [(20 * 10**6, 1.01)] * 4
    assert after(*just).skip_s == pytest.approx(0.99 / 20e6)
    assert after(*slower).skip_s == pytest.approx(1 / 20e6)


def test_a_request_is_never_believed_to_cost_less_than_a_millisecond() -> None:
    assert after(*[(0, 0.0009)] * 8).base_s == 0.001
    assert after(*[(0, 0.0011)] * 8).base_s == 0.0011


def test_a_clock_that_went_backwards_is_a_stream_that_took_no_time() -> None:
    assert after(*[(0, -10.0)] * 4, *[(0, 1.0)] * 4).base_s == 0.5


# How long it is remembered.


def test_thirty_two_streams_are_remembered() -> None:
    old, new = [(0, 1.0)] * 32, [(0, 3.0)] * 17
    assert after(*old, *new[:15]).base_s == 1.0
    assert after(*old, *new[:16]).base_s == 2.0, "half of them are new"
    assert after(*old, *new).base_s == 3.0


def test_thirty_two_rates_are_remembered() -> None:
    old, new = [(8 * MIB, 4.0)] * 32, [(8 * MIB, 1.0)] * 17
    assert rate_after(*old, *new[:15]) == 2 * MIB
    assert rate_after(*old, *new[:16]) == 5 * MIB
    assert rate_after(*old, *new) == 8 * MIB


def test_what_was_learnt_is_reckoned_when_it_is_asked_for_and_once() -> None:
    costs = Costs()
    before = costs.prices
    assert costs.prices is before
    costs.opened(0, 5.0)
    after_opening = costs.prices
    assert after_opening.base_s > before.base_s
    assert costs.prices is after_opening
    costs.flowed(1000, 1.0)
    assert costs.prices is after_opening, "that was too short to tell anything"
    costs.flowed(8 * MIB, 1.0)
    assert costs.prices.rate == 8 * MIB
    assert costs.prices.base_s == after_opening.base_s


# Which streams tell the rate.


@pytest.mark.parametrize(
    ("count", "seconds", "counts"),
    [
        (4 * MIB, 1e-3, True),
        (4 * MIB - 1, 1e-3, False),
        (2**18, 1.0, True),
        (2**18 - 1, 1.0, False),
        (4 * MIB, 0.0, False),
        (4 * MIB, -1.0, False),
        (4 * MIB, 1e-9, True),
        (0, 1.0, False),
    ],
)
def test_long_streams_tell_the_rate_and_short_ones_that_it_is_low(
    count: int, seconds: float, counts: bool
) -> None:
    assert (rate_after((count, seconds)) != 760e6) is counts


def test_a_short_stream_at_the_rate_that_is_known_tells_nothing() -> None:
    """A stream that does not prove it lower: later ones are not held against it."""
    short = (10**6, 10**6 / 760e6)
    assert short[0] / short[1] == 760e6
    assert rate_after(short, (10 * MIB, 1.0)) == 10 * MIB


@pytest.mark.parametrize(
    ("count", "seconds", "rate"),
    [(4 * MIB, 1e-9, 1e10), (2**18, 1e9, 1e5), (10**7, 10.0, 1e6), (10**10, 1.1, 1e10 / 1.1)],
)
def test_the_rate_stays_within_what_lines_can_do(count: int, seconds: float, rate: float) -> None:
    assert rate_after((count, seconds)) == pytest.approx(rate)


# All of it.


def model(opened: list[tuple[int, float]], flowed: list[tuple[int, float]]) -> Prices:
    """The essay of the module, once more and without any care for speed."""
    seen = [(offset, max(0.0, seconds)) for offset, seconds in opened[-32:]]

    def slopes(streams: list[tuple[int, float]]) -> list[float]:
        return [
            (other_s - one_s) / (other - one)
            for one, one_s in streams
            for other, other_s in streams
            if other - one >= 16 * MIB
        ]

    steep = slopes(seen)
    skip_s = median(steep if len(steep) >= 8 else steep + slopes(ELSEWHERE))
    skip_s = sorted([0.0, skip_s, 1 / 20e6])[1]
    begun = seen if len(seen) >= 8 else seen + ELSEWHERE
    base_s = max(0.001, median([seconds - offset * skip_s for offset, seconds in begun]))
    rates: list[float] = []
    rate = 760e6
    for count, seconds in flowed:
        if seconds > 0 and (count >= 4 * MIB or (count >= 2**18 and count / seconds < rate)):
            rates = [*rates, count / seconds][-32:]
            rate = sorted([1e5, median(rates), 1e10])[1]
    return Prices(base_s, skip_s, rate)


def close(one: Prices, other: Prices) -> bool:
    return (
        one.base_s == pytest.approx(other.base_s, rel=1e-6, abs=1e-9)
        and one.skip_s == pytest.approx(other.skip_s, rel=1e-6, abs=1e-18)
        and one.rate == pytest.approx(other.rate)
    )


offsets = st.sampled_from([0, 1, MIB, 16 * MIB, 16 * MIB + 1, 300 * MIB, GIB, 5 * GIB])
counts = st.sampled_from([0, 2**18 - 1, 2**18, MIB, 4 * MIB - 1, 4 * MIB, GIB])
some_seconds = st.sampled_from([-1.0, 0.0, 0.002, 0.03, 0.5, 2.0, 700.0])


@given(
    st.lists(st.tuples(offsets, some_seconds), max_size=40),
    st.lists(st.tuples(counts, some_seconds), max_size=40),
)
def test_what_is_learnt_is_what_the_essay_says(
    opened: list[tuple[int, float]], flowed: list[tuple[int, float]]
) -> None:
    costs = Costs()
    for offset, seconds in opened:
        costs.opened(offset, seconds)
    for count, seconds in flowed:
        costs.flowed(count, seconds)
    assert close(costs.prices, model(opened, flowed))


@pytest.mark.parametrize("seed", range(20))
def test_prices_may_be_asked_for_at_any_moment(seed: int) -> None:
    """What was asked for between changes nothing of what is said later."""
    dice = random.Random(seed)
    costs = Costs()
    opened: list[tuple[int, float]] = []
    flowed: list[tuple[int, float]] = []
    for _ in range(60):
        if dice.random() < 0.5:
            opened.append((dice.randrange(4 * GIB), dice.uniform(0.0, 3.0)))
            costs.opened(*opened[-1])
        else:
            flowed.append((dice.randrange(16 * MIB), dice.uniform(0.0, 0.1)))
            costs.flowed(*flowed[-1])
        if dice.random() < 0.3:
            assert close(costs.prices, model(opened, flowed))
    assert close(costs.prices, model(opened, flowed))
