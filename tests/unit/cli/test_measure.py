"""Figures: medians, ratios and the table."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from icatfs.cli.measure import in_turn, number, row, table, usage


def test_half_the_time_is_twice_as_good() -> None:
    peer = row("peer", [3.0, 1.0, 2.0])
    assert (peer.low, peer.median, peer.high, peer.ratio) == (1.0, 2.0, 3.0, None)
    assert row("ours", [1.0], peer=peer).ratio == 2.0
    assert row("ours", [1000.0], "ms", peer=row("peer", [500.0], "ms")).ratio == 0.5


def test_half_the_speed_is_half_as_good() -> None:
    peer = row("peer", [100.0], "MiB/s")
    assert row("ours", [50.0], "MiB/s", peer=peer).ratio == 0.5


def test_nothing_is_divided_by_nothing() -> None:
    peer = row("peer", [0.0])
    assert row("ours", [1.0], peer=peer).ratio is None


def test_works_are_taken_in_turn() -> None:
    taken: list[str] = []

    def work(name: str) -> float:
        taken.append(name)
        return float(len(taken))

    values = in_turn(2, {"a": lambda: work("a"), "b": lambda: work("b")})
    assert taken == ["a", "b", "a", "b"]
    assert values == {"a": [1.0, 3.0], "b": [2.0, 4.0]}


def test_a_table_has_no_empty_columns() -> None:
    peer = row("peer", [1.0])
    assert table([peer]).splitlines() == [
        "| what | median |",
        "|------|--------|",
        "| peer | 1 s    |",
    ]
    text = table([peer, row("ours", [0.5, 1.0, 2.0], peer=peer, costs={"queries": 3})])
    assert text.splitlines()[0].split("|")[1:-1] == [
        " what ",
        " median ",
        " range ",
        " beside it ",
        " costs     ",
    ]
    assert "1 x peer" in text
    assert "3 queries" in text


@given(st.floats(min_value=0.001, max_value=1e9))
def test_a_number_keeps_three_digits(value: float) -> None:
    shown = float(number(value).replace(",", ""))
    assert abs(shown - value) <= 0.005 * value or abs(shown - value) <= 0.5 <= value / 100


def test_usage_of_this_process_and_of_none() -> None:
    mine = usage(os.getpid())
    assert mine.cpu_s > 0
    assert mine.peak >= mine.resident > 1
    assert usage(2**22 + 1).peak == 0
