"""How a dataset is watched: each measure of the table at its edge, and what is looked at."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.contents import Row
from support.sizes import MIB

from icatfs.content.foresight import (
    FEW,
    MANY,
    Contents,
    Decision,
    Limits,
    Nothing,
    Watch,
    Whole,
    Window,
    is_worth_a_zip,
)
from icatfs.values import ContentVersion, DatafileId

if TYPE_CHECKING:
    from collections.abc import Iterable

KB = 1000
FIRST = 500
"""The id of the first datafile; the others follow."""
SOME = ContentVersion(DatafileId(0), 0, 0, None)
WINDOWS = Limits(budget=1)
"""No dataset fits this: what is fetched is a window."""


@dataclass
class Dataset:
    """Its files, and which of them are in the cache; notes which of them was looked at for that."""

    sizes: list[int | None]
    names: list[str] = field(default_factory=list)
    unchecked: frozenset[int] = frozenset()
    cached: set[int] = field(default_factory=set)
    looked_at: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        rows = [
            Row(DatafileId(FIRST + i), self.names[i] if self.names else f"{i:07}", size)
            for i, size in enumerate(self.sizes)
        ]
        self.contents = Contents(
            rows,
            lambda i: ContentVersion(
                rows[i].id, rows[i].size, 0, None if i in self.unchecked else "1"
            ),
        )

    def holds(self, position: int) -> bool:
        self.looked_at.append(position)
        return position in self.cached

    def decide(self, watch: Watch, now_s: float = 0.0) -> Decision:
        self.looked_at.clear()
        return watch.decide(self.contents, self.holds, now_s)


def missed(
    watch: Watch, positions: Iterable[int], size: int | None = KB, now_s: float = 0.0
) -> bool:
    """Files were opened and had to be fetched; whether it is time to decide after the last."""
    is_time = False
    for position in positions:
        watch.opened(FIRST + position, now_s)
        is_time = watch.missed(FIRST + position, size, now_s)
    return is_time


def after(
    positions: Iterable[int], limits: Limits | None = None, size: int = KB, now_s: float = 0.0
) -> Watch:
    watch = Watch(limits or Limits())
    missed(watch, positions, size, now_s)
    return watch


def window_of(decision: Decision) -> tuple[int, ...]:
    assert isinstance(decision, Window)
    return decision.positions


# What a zip costs.


@given(st.integers(0, 10**5), st.integers(0, 10**11), st.data())
def test_a_zip_is_worth_it_by_what_was_measured(
    files: int, total: int, data: st.DataObject
) -> None:
    """14 ms for a file, 5 ms if it is named, 0.1 ms if its dataset is, and 70 ms for a zip."""
    missing = data.draw(st.integers(0, files))
    missing_bytes = data.draw(st.integers(0, total))
    contents = Contents(range(files), lambda _: SOME, total=total)  # type: ignore[arg-type]
    whole_us = 70_000 + 100 * files + total / 100
    one_by_one_us = 14_000 * missing + missing_bytes / 100
    named_us = 70_000 + 5_000 * missing + missing_bytes / 100
    at_most_us = min(one_by_one_us / 2, named_us)
    if not math.isclose(whole_us, at_most_us):
        assert is_worth_a_zip(contents, missing, missing_bytes) is (whole_us < at_most_us)


@pytest.mark.parametrize(
    ("files", "missing", "worth"), [(500, 18, True), (500, 17, False), (3000, 53, False),
     (3000, 106, True), (20, 11, True), (20, 10, False)],
)  # fmt: skip
def test_small_files_are_fetched_together_where_that_costs_half(
    files: int, missing: int, worth: bool
) -> None:
    contents = Contents(range(files), lambda _: SOME, total=0)  # type: ignore[arg-type]
    assert is_worth_a_zip(contents, missing, 0) is worth


# When it is time to decide.


def test_it_is_time_after_the_third_file_that_had_to_be_fetched() -> None:
    watch = Watch(Limits())
    assert [watch.missed(number, KB, 0.0) for number in range(5)] == [
        False,
        False,
        True,
        True,
        True,
    ]


@pytest.mark.parametrize(
    ("size", "counts"), [(None, False), (0, True), (1, True), (MIB, True), (MIB + 1, False)]
)
def test_small_files_count_and_no_others(size: int | None, counts: bool) -> None:
    assert missed(Watch(Limits()), range(3), size) is counts


def test_what_is_small_is_a_limit() -> None:
    assert missed(Watch(Limits(small=100)), range(3), 100)
    assert not missed(Watch(Limits(small=100)), range(3), 101)


@pytest.mark.parametrize("budget", [0, 1])
def test_without_a_budget_it_is_never_time(budget: int) -> None:
    assert missed(Watch(Limits(budget=budget)), range(3)) is bool(budget)


@pytest.mark.parametrize(("last_s", "is_time"), [(10.0, True), (10.1, False)])
def test_three_files_within_ten_seconds_are_a_sign(last_s: float, is_time: bool) -> None:
    watch = after(range(2))
    assert watch.missed(FIRST + 2, KB, last_s) is is_time
    small = Dataset([KB] * 100)
    assert isinstance(small.decide(watch, last_s), Whole) is is_time


def test_a_file_that_was_missed_twice_counts_once_and_by_its_first_time() -> None:
    watch = after([0, 1, 1])
    assert not watch.missed(FIRST + 1, KB, 9.0)
    assert watch.missed(FIRST + 2, KB, 9.0)
    assert not watch.missed(FIRST + 1, KB, 10.5), "two of three are too old"


def test_what_is_opened_or_missed_is_activity() -> None:
    watch = Watch(Limits())
    assert watch.active_s == 0.0
    watch.opened(FIRST, 5.0)
    assert watch.active_s == 5.0
    watch.missed(FIRST, None, 7.0)
    assert watch.active_s == 7.0, "of any size"


def test_the_last_eight_that_were_read_are_known_in_order_and_once() -> None:
    watch = Watch(Limits())
    for number in range(10):
        watch.opened(number, 0.0)
    assert list(watch.read) == [2, 3, 4, 5, 6, 7, 8, 9]
    watch.missed(9, KB, 0.0)
    assert list(watch.read) == [2, 3, 4, 5, 6, 7, 8, 9], "it was opened before"
    watch.missed(10, KB, 0.0)
    assert list(watch.read) == [3, 4, 5, 6, 7, 8, 9, 10], "but who was not is read, too"
    watch.missed(11, MIB + 1, 0.0)
    watch.missed(12, None, 0.0)
    assert list(watch.read) == [3, 4, 5, 6, 7, 8, 9, 10]


def test_of_missed_files_eight_are_remembered() -> None:
    """Enough for any decision, as `MANY` is less; who was forgotten counts anew."""
    assert MANY <= 8
    watch = after(range(8))
    watch.missed(FIRST + 8, KB, 5.0)
    watch.missed(FIRST, KB, 5.0)
    watch.missed(FIRST + 7, KB, 5.0)  # who is known still, by his first time
    assert not watch.missed(FIRST + 7, KB, 10.5)
    assert watch.missed(FIRST + 9, KB, 10.5)


# The whole dataset.


def test_nothing_is_decided_without_a_sign() -> None:
    data = Dataset([KB] * 100)
    assert data.decide(after(range(2))) == Nothing()
    assert data.looked_at == [], "nobody is asked"
    assert data.decide(after(range(3)), now_s=11.0) == Nothing()


@pytest.mark.parametrize("budget", [100 * KB, 100 * KB - 1])
def test_a_dataset_that_fits_the_budget_is_fetched_as_a_whole(budget: int) -> None:
    decision = Dataset([KB] * 100).decide(after(range(3), Limits(budget=budget)))
    assert isinstance(decision, Whole) is (budget == 100 * KB)


@pytest.mark.parametrize(
    ("limits", "files"),
    [
        (Limits(vain_files=100), FEW),
        (Limits(vain_files=99), MANY),
        (Limits(vain_bytes=100 * KB), FEW),
        (Limits(vain_bytes=100 * KB - 1), MANY),
    ],
)
def test_what_may_be_in_vain_takes_a_few_and_what_is_dearer_many(
    limits: Limits, files: int
) -> None:
    data = Dataset([KB] * 100)
    watch = Watch(limits)
    decided = []
    for position in range(files):
        missed(watch, [position * 7])  # in no order that a window would follow
        decided.append(data.decide(watch))
    assert decided == [Nothing()] * (files - 1) + [Whole()]


def test_a_dataset_is_not_fetched_again_while_it_comes() -> None:
    data = Dataset([KB] * 100)
    watch = after(range(3))
    assert data.decide(watch) == Whole()
    assert isinstance(data.decide(watch), Window | Nothing)
    missed(watch, [50, 70])
    assert not isinstance(data.decide(watch), Whole)
    missed(watch, [90])
    assert data.decide(watch) == Whole(), "twice as many were missed all the same"


def test_when_a_zip_has_ended_it_is_looked_at_again_after_a_few_more() -> None:
    data = Dataset([KB] * 1000)
    watch = after(range(0, 800, 100))
    assert data.decide(watch) == Whole()
    watch.ended()
    for position in (850, 900):
        missed(watch, [position])
        assert data.decide(watch) == Nothing()
    missed(watch, [950])
    assert data.decide(watch) == Whole()


def test_where_a_zip_is_not_worth_it_it_is_looked_at_again_after_twice_as_many() -> None:
    data = Dataset([KB] * 100, cached=set(range(90)))
    watch = Watch(Limits())
    asked = []
    for number in range(1, 30):
        missed(watch, [(number * 37) % 100])
        data.decide(watch)
        asked.append(number if 0 in data.looked_at else 0)
    assert [number for number in asked if number] == [3, 6, 12, 24]


@pytest.mark.parametrize(
    ("count", "step"),
    [(1, 1), (499, 1), (500, 1), (999, 1), (1000, 3), (1500, 3), (1999, 3), (2000, 5), (5000, 11)],
)
def test_of_many_files_some_are_looked_at(count: int, step: int) -> None:
    """Every so many, and an odd number, for files often come in pairs."""
    data = Dataset([KB] * count, cached=set(range(count)))
    data.decide(after(range(3)))
    sample = list(range(0, count, step))
    assert data.looked_at[: len(sample)] == sample
    assert len(sample) < 1000


@pytest.mark.parametrize("missing", [10, 11])
def test_what_is_missing_is_reckoned_from_those_that_were_looked_at(missing: int) -> None:
    """Of 1,500 files each third: eleven stand for 33, which are worth a zip; 30 are not."""
    cached = set(range(1500)) - set(range(0, 3 * missing, 3))
    data = Dataset([1] * 1500, cached=cached)
    decision = data.decide(after([10, 700, 1400]))
    assert isinstance(decision, Whole) is (missing == 11)


def test_only_small_files_of_known_crc32_that_are_not_here_are_missing() -> None:
    """Eleven of twenty are worth a zip, and of each of these ten are."""
    assert isinstance(Dataset([1] * 20, cached=set(range(9))).decide(after([0, 9, 19])), Whole)
    for last in (None, 0, MIB + 1):
        data = Dataset([*[1] * 19, last], cached=set(range(9)))
        assert data.decide(after([0, 9, 19])) == Nothing(), last
    unchecked = Dataset([1] * 20, unchecked=frozenset([19]), cached=set(range(9)))
    assert unchecked.decide(after([0, 9, 19])) == Nothing()
    cached = Dataset([1] * 20, cached=set(range(10)))
    assert cached.decide(after([0, 9, 19])) == Nothing()


# Windows.


def test_the_first_window_has_the_next_sixteen() -> None:
    data = Dataset([KB] * 100)
    watch = after([5, 6, 7], WINDOWS)
    assert window_of(data.decide(watch)) == tuple(range(8, 24))


def test_who_opens_a_file_of_the_window_gets_one_that_is_twice_as_large() -> None:
    data = Dataset([KB] * 5000)
    watch = after(range(3), WINDOWS)
    positions = window_of(data.decide(watch))
    sizes = []
    for _ in range(8):
        sizes.append(len(positions))
        data.cached.update(positions)
        assert watch.opened(FIRST + positions[0], 0.0)
        later = window_of(data.decide(watch))
        assert later[0] == positions[-1] + 1
        for position in positions[1:]:
            assert not watch.opened(FIRST + position, 0.0), "it is the window before"
        positions = later
    assert sizes == [16, 32, 64, 128, 256, 512, 1000, 1000]


def test_a_window_that_is_used_is_followed_though_nothing_was_missed_lately() -> None:
    data = Dataset([KB] * 100)
    watch = after(range(3), WINDOWS)
    data.cached.update(window_of(data.decide(watch)))
    for position in (1, 2, 3):
        watch.opened(FIRST + position, 1000.0)
    assert window_of(data.decide(watch, 1000.0)) == tuple(range(19, 51))


def test_a_window_after_which_nothing_is_wanted_is_the_last() -> None:
    data = Dataset([KB] * 30)
    watch = after(range(3), WINDOWS)
    positions = window_of(data.decide(watch))
    data.cached.update(positions)
    assert watch.opened(FIRST + positions[0], 0.0)
    assert window_of(data.decide(watch)) == tuple(range(19, 30))
    data.cached.update(range(30))
    assert data.decide(watch) == Nothing()
    assert not watch.opened(FIRST + 20, 0.0), "there is no window any more"


@pytest.mark.parametrize(("left", "worth"), [(8, True), (7, False)])
def test_a_window_has_eight_files_at_least(left: int, worth: bool) -> None:
    data = Dataset([KB] * (3 + left))
    assert isinstance(data.decide(after(range(3), WINDOWS)), Window) is worth


@pytest.mark.parametrize("half", [8, 10, 15])
def test_a_window_has_half_the_files_that_may_be_in_vain(half: int) -> None:
    limits = Limits(budget=1, vain_files=2 * half + 1)
    assert len(window_of(Dataset([KB] * 100).decide(after(range(3), limits)))) == half


@pytest.mark.parametrize(("half", "count"), [(8 * KB, 8), (9 * KB - 1, 8), (9 * KB, 9)])
def test_a_window_has_half_the_bytes_that_may_be_in_vain(half: int, count: int) -> None:
    limits = Limits(budget=1, vain_bytes=2 * half + 1)
    assert len(window_of(Dataset([KB] * 100).decide(after(range(3), limits)))) == count


def test_the_bytes_of_a_window_end_it_though_smaller_files_follow() -> None:
    """They are read in order: what comes after one that is left out will be wanted after it."""
    limits = Limits(budget=1, vain_bytes=20 * KB)
    data = Dataset([*[KB] * 11, 9 * KB, *[1] * 50])
    assert window_of(data.decide(after(range(3), limits))) == tuple(range(3, 11))


def test_a_window_passes_over_what_is_here_or_not_small() -> None:
    sizes: list[int | None] = [KB] * 60
    sizes[4], sizes[5], sizes[6] = None, 0, MIB + 1
    data = Dataset(sizes, cached={8, 9})
    found = window_of(data.decide(after(range(3), WINDOWS)))
    assert found == (3, 7, *range(10, 24))


@pytest.mark.parametrize(("spread", "found"), [(4, True), (5, False)])
def test_a_window_looks_at_four_times_as_many_files_as_it_has(spread: int, found: bool) -> None:
    """Sixteen, of which every so-many-th is missing: the others are skipped, or cached."""
    wanted = range(3 + spread - 1, 1000, spread)
    data = Dataset([KB] * 1000, cached=set(range(3, 1000)) - set(wanted))
    positions = window_of(data.decide(after(range(3), WINDOWS)))
    assert positions == tuple(wanted[: 16 if found else 64 // spread])
    assert max(data.looked_at) < 3 + 64


@pytest.mark.parametrize(
    ("read", "in_order"),
    [
        ([0, 6, 12], True),
        ([0, 6, 13], False),
        ([13, 0, 1], False),
        ([12, 0, 1], True),
        ([0, 5, 10, 16], True),
        ([0, 5, 10, 17], False),
        ([40, 41, 42], True),
    ],
)
def test_files_are_read_in_order_if_they_are_within_four_times_their_number(
    read: list[int], in_order: bool
) -> None:
    decision = Dataset([KB] * 100).decide(after(read, WINDOWS))
    if in_order:
        assert window_of(decision)[0] == max(read) + 1
    else:
        assert decision == Nothing()


def test_of_eight_files_that_were_read_all_tell_the_order() -> None:
    data = Dataset([KB] * 100)
    assert window_of(data.decide(after(range(0, 36, 4), WINDOWS)))[0] == 33
    assert data.decide(after([60, *range(0, 28, 4)], WINDOWS)) == Nothing()
    assert window_of(data.decide(after([60, *range(0, 32, 4)], WINDOWS)))[0] == 29, "the ninth"


def test_files_of_another_dataset_or_gone_from_this_one_tell_no_order() -> None:
    data = Dataset([KB] * 100)
    watch = after([5, 6, 7], WINDOWS)
    watch.opened(10_000, 0.0)
    assert window_of(data.decide(watch)) == tuple(range(8, 24))
    strangers = Watch(WINDOWS)
    missed(strangers, [5, 6, 9_000, 9_001])
    assert data.decide(strangers) == Nothing(), "two are too few"


def test_the_order_of_names_is_tried_where_that_of_ids_is_none() -> None:
    names = [f"{i * 37 % 100:03}" for i in range(100)]
    by_name = sorted(range(100), key=names.__getitem__)
    data = Dataset([KB] * 100, names)
    positions = window_of(data.decide(after(by_name[10:13], WINDOWS)))
    assert positions == tuple(sorted(by_name[13:29]))
    both = window_of(data.decide(after([20, 21, 22], WINDOWS)))
    assert both == tuple(range(23, 39)), "that of ids comes first"


def test_the_order_of_names_is_tried_where_nothing_is_left_in_that_of_ids() -> None:
    """At the end of the ids, in the middle of the names."""
    names = [f"{(i + 50) % 100:03}" for i in range(100)]
    data = Dataset([KB] * 100, names)
    positions = window_of(data.decide(after([97, 98, 99], WINDOWS)))
    assert positions == tuple(range(16)), "whose names follow those of the last ids"


# The files of a dataset.


def test_names_are_asked_for_once_and_only_when_they_are_needed() -> None:
    asked = []

    def names() -> list[str]:
        asked.append(True)
        return ["b", "a"]

    rows = [Row(DatafileId(FIRST + i), "not asked", 1) for i in range(2)]
    contents = Contents(rows, lambda i: ContentVersion(rows[i].id, 1, 0, None), names=names)
    assert not asked
    for _ in range(2):
        by_id, by_name = contents.orders()
        assert list(by_id.positions) == list(by_id.ranks) == [0, 1]
        assert list(by_name.positions) == list(by_name.ranks) == [1, 0]
    assert asked == [True]


def test_the_total_is_that_of_all_sizes_unless_it_is_told() -> None:
    rows = [Row(DatafileId(i), "", size) for i, size in enumerate([5, None, 0, 7])]
    assert Contents(rows, lambda _: SOME).total == 12
    told = Contents(rows, lambda _: SOME, total=0)
    assert told.total == 0


@given(st.sets(st.integers(0, 40)), st.integers(-1, 41))
def test_a_datafile_is_found_where_it_is(ids: set[int], datafile: int) -> None:
    rows = [Row(DatafileId(number), "", 1) for number in sorted(ids)]
    contents = Contents(rows, lambda i: ContentVersion(rows[i].id, 1, 0, None))
    expected = sorted(ids).index(datafile) if datafile in ids else None
    assert contents.position(datafile) == expected


@given(st.permutations(range(8)))
def test_ranks_are_the_reverse_of_positions(order: list[int]) -> None:
    for one in Dataset([1] * 8, [f"{number}" for number in order]).contents.orders():
        assert all(one.ranks[position] == rank for rank, position in enumerate(one.positions))
    assert [order[position] for position in one.positions] == list(range(8))


def test_names_of_up_to_a_hundred_thousand_files_are_sorted() -> None:
    for count, orders in ((100_000, 2), (100_001, 1)):
        contents = Contents(
            range(count),  # type: ignore[arg-type]
            lambda _: SOME,
            total=0,
            names=lambda count=count: ["x"] * count,  # type: ignore[misc]
        )
        assert len(contents.orders()) == orders


def test_whether_a_file_has_a_crc32_is_what_its_version_says() -> None:
    contents = Dataset([1] * 3, unchecked=frozenset([1])).contents
    assert [contents.has_crc32(position) for position in range(3)] == [True, False, True]


def test_every_order_of_three_files_is_an_order() -> None:
    """Whoever reads them side by side: the window follows the last of them."""
    for read in itertools.permutations([10, 11, 12]):
        data = Dataset([KB] * 100)
        assert window_of(data.decide(after(read, WINDOWS))) == tuple(range(13, 29))
