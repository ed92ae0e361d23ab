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
    taken = sum(version in shown for version in versions(20_000, 60_000))
    assert 40_000 // 80 < taken < 40_000 // 35, "one in fifty, as the module says"


def test_more_that_is_read_makes_more_that_is_taken_for_it_and_loses_nothing() -> None:
    shown, taken = Shown(), []
    strangers = versions(10**6, 10**6 + 5000)
    for first in range(0, 40_000, 10_000):
        for version in versions(first, first + 10_000):
            shown.add(version)
        taken.append(sum(stranger in shown for stranger in strangers))
        assert all(version in shown for version in versions(0, 1000))
    assert taken == sorted(taken)
    assert 0 < taken[-1] < 500, "a tenth is far"


def test_equal_versions_are_one() -> None:
    shown = Shown()
    shown.add(ContentVersion(DatafileId(7), None, 1, None))
    assert ContentVersion(DatafileId(7), None, 1, None) in shown


def test_other_versions_of_what_was_read_are_not_taken_for_it() -> None:
    """A datafile that is replaced in place is new, by whatever it differs."""
    shown = Shown()
    for number in range(1000):
        shown.add(ContentVersion(DatafileId(number), 5, 1, "a"))
    others = [
        ContentVersion(DatafileId(number), *other)
        for number in range(1000)
        for other in ((6, 1, "a"), (None, 1, "a"), (5, 2, "a"), (5, 1, "b"), (5, 1, None))
    ]
    assert sum(other in shown for other in others) < 10, "one in a thousand, by chance"
