"""What was read is never forgotten; what was not is seldom taken for it."""

from __future__ import annotations

from icatfs.content.shown import Shown
from icatfs.values import ContentVersion, DatafileId


def versions(first: int, last: int) -> list[ContentVersion]:
    return [
        ContentVersion(DatafileId(number), 5, 0, f"{number:x}") for number in range(first, last)
    ]


def test_nothing_was_read_at_first() -> None:
    shown = Shown()
    assert not any(version in shown for version in versions(0, 1000))


def test_what_was_read_is_known() -> None:
    shown = Shown()
    for version in versions(0, 20_000):
        shown.add(version)
    assert all(version in shown for version in versions(0, 20_000))


def test_few_others_are_taken_for_it() -> None:
    shown = Shown()
    for version in versions(0, 20_000):
        shown.add(version)
    assert sum(version in shown for version in versions(20_000, 40_000)) < 1000
