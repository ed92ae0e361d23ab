"""Limits and prices for the planner: some that are easy to reckon with, and any."""

from __future__ import annotations

from hypothesis import strategies as st

from icatfs.content.costs import Prices
from icatfs.content.plan import Limits
from support.sizes import MIB

LIMITS = Limits(glance=MIB, least_reach=16 * MIB, most_reach=16 * MIB, turn_s=10.0)
PRICES = Prices(base_s=0.02, skip_s=1 / (2000 * MIB), rate=100.0 * MIB)
"""A stream costs 20 ms, and 0.5 s for each GiB before it; a GiB arrives in 10 s."""

all_limits = st.builds(
    Limits,
    streams=st.integers(1, 3),
    window=st.integers(1, 20),
    glance=st.integers(1, 20),
    least_reach=st.integers(0, 10),
    most_reach=st.integers(10, 20),
    looks=st.integers(0, 3),
    turn_s=st.floats(0, 50),
)
all_prices = st.builds(
    Prices, base_s=st.floats(0.001, 10), skip_s=st.floats(0, 10), rate=st.floats(0.1, 100)
)
