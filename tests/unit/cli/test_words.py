"""Numbers, times and places as people read them."""

from __future__ import annotations

import math

import pytest

from icatfs.cli import words


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (8.1 * 1024**4, "8.1 TiB"),
        (5000 * 1024**5, "5000.0 PiB"),
    ],
)
def test_sizes_have_a_unit_that_suits_them(count: float, text: str) -> None:
    assert words.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0 s"),
        (8.4, "8 s"),
        (119, "119 s"),
        (120, "2 min"),
        (3599, "60 min"),
        (3600, "1 h"),
        (7800, "2 h 10 min"),
        (86400, "1 d"),
        (273600, "3 d 4 h"),
        (math.inf, "for ever"),
    ],
)
def test_durations_have_two_units_at_most(seconds: float, text: str) -> None:
    assert words.duration(seconds) == text


def test_counts_agree_with_their_nouns() -> None:
    assert words.number(1, "file") == "1 file"
    assert words.number(12000, "file") == "12,000 files"
    assert words.number(2, "entry", "entries") == "2 entries"


def test_a_moment_of_another_day_has_its_date() -> None:
    noon = 1_700_000_000.0
    assert len(words.moment(noon, noon + 1)) == len("14:05")
    assert words.moment(noon, noon + 3 * 86400).startswith("2023-11-1")
