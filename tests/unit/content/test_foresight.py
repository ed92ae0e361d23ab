"""The table of decisions, row by row, and readers of every kind in a simulation."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.contents import Row
from support.sizes import GIB, MIB

from icatfs.content import foresight
from icatfs.content.foresight import (
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
    from collections.abc import Iterable, Sequence

KB = 1000


def dataset(
    sizes: Iterable[int | None], names: Sequence[str] = (), *, checked: bool = True
) -> Contents:
    """Datafiles 1000, 1002, 1004 ..., named in the order of their ids unless it says otherwise."""
    crc = "a5" if checked else None
    rows = [
        Row(DatafileId(1000 + 2 * i), names[i] if names else f"file{i:07}", size)
        for i, size in enumerate(sizes)
    ]
    return Contents(rows, lambda i: ContentVersion(rows[i].id, rows[i].size, 0, crc))


@dataclass
class Facility:
    """A facility that brings at once what is decided, and counts."""

    contents: Contents
    limits: Limits = field(default_factory=Limits)
    cached: set[int] = field(default_factory=set)
    read: set[int] = field(default_factory=set)
    fetched: set[int] = field(default_factory=set)
    singles: int = 0
    zips: int = 0
    named: int = 0
    most_vain_files: int = 0
    most_vain_bytes: int = 0
    seconds: float = 0.0
    decided: list[Decision] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.watch = Watch(self.limits)

    def open_and_read(self, position: int) -> None:
        file = self.contents.files[position]
        self.read.add(position)
        if self.watch.opened(file.id, self.seconds):
            self.decide()
        if position not in self.cached:
            self.cached.add(position)
            self.singles += 1
            self.seconds += foresight.REQUEST_S
            if self.watch.missed(file.id, file.size, self.seconds):
                self.decide()

    def decide(self) -> None:
        decision = self.watch.decide(self.contents, self.cached.__contains__, self.seconds)
        self.decided.append(decision)
        match decision:
            case Nothing():
                return
            case Whole():
                positions: Sequence[int] = range(len(self.contents.files))
            case Window(positions):
                assert list(positions) == sorted(set(positions))
                assert not set(positions) & self.cached
                self.named += len(positions)
        self.zips += 1
        self.fetched |= set(positions) - self.cached
        self.cached |= set(positions)
        vain = self.fetched - self.read
        if isinstance(decision, Window):
            self.most_vain_files = max(self.most_vain_files, len(vain))
            size = sum(self.contents.files[one].size or 0 for one in vain)
            self.most_vain_bytes = max(self.most_vain_bytes, size)

    def read_all(self, positions: Iterable[int]) -> Facility:
        for position in positions:
            self.open_and_read(position)
        return self


def reading(contents: Contents, positions: Iterable[int], **limits: int) -> Facility:
    return Facility(contents, Limits(**limits)).read_all(positions)


# The rows of the table.


@pytest.mark.parametrize("count", [0, 1, 2])
def test_the_head_of_two_files_fetches_no_zip(count: int) -> None:
    done = reading(dataset([10 * KB] * 1000), list(range(count)) * 5)
    assert (done.zips, done.singles) == (0, count)


def test_three_small_files_fetch_a_dataset_that_may_be_in_vain() -> None:
    done = reading(dataset([10 * KB] * 1000), range(1000))
    assert done.decided[0] == Whole()
    assert (done.zips, done.singles) == (1, 3)


@pytest.mark.parametrize("seed", range(5))
def test_the_order_does_not_matter_for_a_dataset(seed: int) -> None:
    positions = random.Random(seed).sample(range(1000), 1000)
    done = reading(dataset([10 * KB] * 1000), positions * 2)
    assert (done.zips, done.singles) == (1, 3)


@pytest.mark.parametrize(
    ("sizes", "singles"),
    [
        ([10 * KB] * 2000, foresight.FEW),
        ([10 * KB] * 2001, foresight.MANY),
        ([64 * MIB // 100] * 100, foresight.FEW),
        ([65 * MIB // 100] * 100, foresight.MANY),
        ([10 * KB] * 100_000, foresight.MANY),
    ],
)
def test_a_dearer_guess_takes_more_files(sizes: list[int], singles: int) -> None:
    done = reading(dataset(sizes), random.Random(1).sample(range(len(sizes)), 50))
    assert (done.zips, done.singles) == (1, singles)
    assert done.decided[-1] == Whole()


@pytest.mark.parametrize("seed", range(3))
def test_a_dataset_beyond_the_budget_is_fetched_in_windows(seed: int) -> None:
    contents = dataset([10 * KB] * 5000)
    start = random.Random(seed).randrange(1000)
    done = reading(contents, range(start, 5000), budget=20 * MIB)
    assert done.singles == foresight.FEW
    assert not any(isinstance(decision, Whole) for decision in done.decided)
    assert done.most_vain_files <= 2000
    assert done.zips < 12


def test_windows_grow_from_small() -> None:
    done = reading(dataset([10 * KB] * 5000), range(5000), budget=MIB)
    sizes = [len(one.positions) for one in done.decided if isinstance(one, Window)]
    assert sizes[:6] == [16, 32, 64, 128, 256, 512]
    assert max(sizes) == 1000


@pytest.mark.parametrize("step", [1, 2, 4])
def test_reading_on_with_gaps_is_reading_in_order(step: int) -> None:
    done = reading(dataset([10 * KB] * 5000), range(0, 5000, step), budget=MIB)
    assert done.zips > 0


def test_four_readers_side_by_side_are_one_reader_in_order() -> None:
    shuffled = [4 * block + i for block in range(500) for i in (2, 0, 3, 1)]
    done = reading(dataset([10 * KB] * 2000), shuffled, budget=MIB)
    assert done.singles < 10


def test_a_dataset_that_is_read_by_name_is_fetched_by_name() -> None:
    names = [f"{i * 7919 % 5000:05}" for i in range(5000)]
    by_name = sorted(range(5000), key=names.__getitem__)
    done = reading(dataset([10 * KB] * 5000, names), by_name, budget=MIB)
    assert done.singles == foresight.FEW
    assert done.most_vain_files <= 2000


def test_random_reading_of_a_large_dataset_fetches_nothing_ahead() -> None:
    positions = random.Random(3).sample(range(50_000), 500)
    done = reading(dataset([100 * KB] * 50_000), positions)
    assert (done.zips, done.singles) == (0, 500)


def test_reading_backwards_fetches_nothing_in_vain() -> None:
    done = reading(dataset([10 * KB] * 5000), reversed(range(5000)), budget=MIB)
    assert done.most_vain_files <= 2000
    assert len(done.fetched - done.read) == 0


def test_large_files_are_left_to_streams() -> None:
    done = reading(dataset([100 * MIB] * 8), list(range(8)) * 2)
    assert (done.zips, done.singles) == (0, 8)
    done = reading(dataset([4 * MIB] * 200), range(200))
    assert (done.zips, done.singles) == (0, 200)


def test_small_files_beside_a_large_one_are_named() -> None:
    sizes = [10 * KB] * 500 + [GIB // 2] + [10 * KB] * 499
    done = reading(dataset(sizes), [i for i in range(1000) if i != 500])
    assert not any(isinstance(one, Whole) for one in done.decided)
    assert 500 not in done.fetched
    assert done.singles < 10


def test_files_without_a_checksum_are_named_in_windows_and_never_as_a_dataset() -> None:
    done = reading(dataset([10 * KB] * 1000, checked=False), range(1000))
    assert not any(isinstance(decision, Whole) for decision in done.decided)
    assert done.singles == foresight.FEW
    done = reading(
        dataset([10 * KB] * 1000, checked=False), random.Random(1).sample(range(1000), 200)
    )
    assert done.zips == 0


def test_a_dataset_that_is_nearly_all_there_is_not_fetched_again() -> None:
    contents = dataset([10 * KB] * 1000)
    done = Facility(contents, cached=set(range(1000)) - {5, 300, 600, 700, 900})
    done.read_all(range(1000))
    assert (done.zips, done.singles) == (0, 5)


def test_files_without_a_size_or_without_bytes_are_not_waited_for() -> None:
    done = reading(dataset([None] * 1000), range(1000))
    assert done.zips == 0
    done = reading(dataset([0, 10 * KB, None] * 1000), range(3000), budget=MIB)
    named = {p for one in done.decided if isinstance(one, Window) for p in one.positions}
    assert named
    assert all(position % 3 == 1 for position in named)


def test_files_of_long_ago_are_no_sign() -> None:
    done = Facility(dataset([10 * KB] * 1000))
    for position in range(100):
        done.open_and_read(position)
        done.seconds += 6.0
    assert done.zips == 0


def test_nothing_is_fetched_ahead_without_a_budget() -> None:
    done = reading(dataset([10 * KB] * 1000), range(1000), budget=0)
    assert (done.zips, done.singles) == (0, 1000)


def test_reading_one_file_again_and_again_is_no_sign() -> None:
    watch = Watch(Limits())
    assert not any(watch.missed(7, 100, float(i)) for i in range(5))


def test_a_window_that_is_not_used_is_not_followed() -> None:
    contents = dataset([10 * KB] * 5000)
    done = reading(contents, range(3), budget=MIB)
    assert done.zips == 1
    done.read_all([3000, 100, 4000, 1500, 2500, 3700, 777, 1234])
    assert done.zips == 1


def test_a_dataset_that_nobody_listed_whole_is_not_known() -> None:
    contents = dataset([10] * 5)
    assert contents.position(1004) == 2
    assert contents.position(1005) is None
    assert contents.position(5) is None
    assert contents.position(9999) is None


def test_many_names_are_not_sorted() -> None:
    assert len(dataset([1] * 100_001).orders()) == 1
    orders = dataset([1, 1, 1], ["c", "a", "b"]).orders()
    assert [list(one.positions) for one in orders] == [[0, 1, 2], [1, 2, 0]]
    assert [list(one.ranks) for one in orders] == [[0, 1, 2], [2, 0, 1]]


@pytest.mark.parametrize(
    ("files", "size", "worth"),
    [(4, 10 * KB, False), (11, 10 * KB, True), (1000, 10 * KB, True), (100, MIB, True),
     (100, 2 * MIB, False), (0, 0, False)],
)  # fmt: skip
def test_a_zip_is_worth_it_when_it_costs_half(files: int, size: int, worth: bool) -> None:
    assert is_worth_a_zip(dataset([size] * files), files, files * size) is worth


# Any reader.

sizes_drawn = st.lists(
    st.sampled_from([None, 0, 1, 10 * KB, 500 * KB, MIB, MIB + 1, 50 * MIB]), max_size=60
)


@given(sizes_drawn, st.data(), st.sampled_from([0, MIB, GIB]), st.integers(2, 40))
def test_whatever_is_read_windows_stay_within_their_bounds(
    sizes: list[int | None], draw: st.DataObject, budget: int, vain_files: int
) -> None:
    contents = dataset(sizes * 5)
    count = len(contents.files)
    positions = draw.draw(st.lists(st.integers(0, max(0, count - 1)), max_size=80 if count else 0))
    if draw.draw(st.booleans()):
        positions.sort()
    limits = Limits(budget=budget, vain_files=vain_files, vain_bytes=4 * MIB)
    done = Facility(contents, limits)
    for position in positions:
        before = len(done.decided)
        done.open_and_read(position)
        assert len(done.decided) - before <= 2
    for decision in done.decided:
        if isinstance(decision, Window):
            sizes_named = [contents.files[one].size or 0 for one in decision.positions]
            assert 8 <= len(sizes_named) <= max(16, vain_files // 2)
            assert sum(sizes_named) <= 2 * MIB
            assert max(sizes_named) <= MIB
        if isinstance(decision, Whole):
            assert contents.total <= budget


@given(st.integers(20, 3000), st.sampled_from(["ids", "names", "random"]), st.integers(0, 9))
def test_any_reader_of_a_small_dataset_makes_a_handful_of_requests(
    count: int, how: str, seed: int
) -> None:
    dice = random.Random(seed)
    names = [f"{dice.random()}" for _ in range(count)]
    order = {
        "ids": list(range(count)),
        "names": sorted(range(count), key=names.__getitem__),
        "random": dice.sample(range(count), count),
    }
    done = reading(dataset([5 * KB] * count, names), order[how])
    assert done.zips == 1
    assert done.singles <= foresight.MANY
