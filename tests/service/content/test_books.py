"""The books of a cache: what records and leases take, and in which order things were used."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.cachefolders import COST, DEAD, alter, leases, names, record_of, total, version

from icatfs.content.books import Books, Home, home_of
from icatfs.content.index import Index
from icatfs.content.record import Record, mark_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MARK, OTHER = "0123456789abcdef", "fedcba9876543210"
BUDGET = 100_000


@contextmanager
def index_in(folder: Path, mark: str = MARK, *, alone: bool = False) -> Iterator[Index]:
    with closing(Index.open(folder, mark, BUDGET, alone=alone)) as index:
        yield index


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with index_in(tmp_path) as index:
        yield index


def record(number: int, held: int = 10, mark: str = MARK, size: int = 1000) -> Record:
    return record_of(mark, number, held, size)


def order(index: Index) -> list[int]:
    """The numbers of the files, what was used least recently first."""
    with index.reading_there() as books:
        return [int(name.split("-")[0]) for name, _ in books.oldest()]


def recorded(index: Index) -> int:
    """What the books say of all records."""
    return total(index) - sum(leases(index).values())


# Records and leases.


def test_a_record_takes_its_cost_out_of_the_lease(index: Index) -> None:
    index.write(lease=20_000)
    assert (total(index), leases(index)) == (20_000, {MARK: 20_000})
    index.write([record(1, 300)])
    assert (total(index), leases(index)) == (20_000, {MARK: 20_000 - 300 - COST})
    assert recorded(index) == 300 + COST


@pytest.mark.parametrize("held", [100, 300, 301, 1000])
def test_a_record_that_is_replaced_takes_the_difference(index: Index, held: int) -> None:
    index.write([record(1, 300)], lease=20_000)
    index.write([record(1, held)])
    assert total(index) == 20_000
    assert recorded(index) == held + COST
    assert names(index) == {record(1).name}


def test_a_record_that_is_written_again_changes_nothing(index: Index) -> None:
    index.write([record(1, 300)], lease=20_000)
    before = total(index), leases(index)
    index.write([record(1, 300)])
    assert (total(index), leases(index)) == before


def test_what_a_file_of_ours_cost_comes_back_to_the_lease_when_it_goes(index: Index) -> None:
    index.write([record(1, 300)], lease=20_000)
    index.write(gone=[record(1).name])
    assert (total(index), leases(index)) == (20_000, {MARK: 20_000})
    index.write(gone=[record(1).name])
    assert leases(index) == {MARK: 20_000}, "it comes back once"


def test_what_a_file_of_others_cost_is_room_for_everybody_when_it_goes(
    tmp_path: Path, index: Index
) -> None:
    with index_in(tmp_path, OTHER) as other:
        other.write([record(1, 300, OTHER)], lease=20_000)
    index.write(gone=[record(1, mark=OTHER).name])
    assert total(index) == 20_000 - 300 - COST
    assert leases(index) == {OTHER: 20_000 - 300 - COST}


def test_erasing_gives_the_room_to_everybody_whoever_had_it(index: Index) -> None:
    index.write([record(1, 300)], lease=20_000)
    index.each(Books.erase, [record(1).name, "nothing"])
    assert total(index) == 20_000 - 300 - COST
    assert names(index) == set()


def test_an_ended_lease_is_room_for_everybody(tmp_path: Path, index: Index) -> None:
    index.write(lease=500)
    with index_in(tmp_path, OTHER) as other:
        other.write(lease=7)
    with index.changing() as books:
        books.end_lease(MARK)
        books.end_lease("nobody")
    assert leases(index) == {OTHER: 7}
    assert total(index) == 7


def test_leases_grow_and_shrink(index: Index) -> None:
    for change, now in ((100, 100), (50, 150), (-120, 30), (0, 30), (-40, -10)):
        index.write(lease=change)
        assert leases(index) == {MARK: now}
        assert total(index) == now


def test_nothing_is_leased_by_who_wants_nothing(index: Index) -> None:
    index.write(lease=0)
    assert leases(index) == {}


def test_a_file_that_is_renamed_costs_what_it_cost_and_is_as_old_as_it_was(index: Index) -> None:
    kept = [replace(record(number), precious=number == 1) for number in (1, 2, 3)]
    index.write(kept)
    before = order(index), total(index)
    new = f"1-{MARK}-99"
    with index.changing() as books:
        books.rename(kept[0], new)
        assert books.find(kept[0].name) is None
        found = books.find(new)
    assert found == replace(kept[0], name=new, recorded=kept[0].cost)
    assert (order(index), total(index)) == before


def test_the_costs_of_records_are_told_one_by_one(index: Index) -> None:
    index.write([record(1, 300)])
    with index.reading_there() as books:
        assert books.cost(record(1).name) == 300 + COST
        assert books.cost("nothing") == 0


def test_names_are_told_with_whether_the_file_is_complete(index: Index) -> None:
    part, whole = record(1, 10), record(2, 1000)
    unknown = Record(f"3-{MARK}-1", version(3, None), None, record(3).pieces, 10)
    empty = Record(f"4-{MARK}-1", version(4, None), 0, b"", 0)
    index.write([part, whole, unknown, empty])
    with index.reading_there() as books:
        assert books.names() == {
            part.name: False,
            whole.name: True,
            unknown.name: False,
            empty.name: True,
        }
    assert index.whole(version(2, 1000)) == [whole.name]
    assert index.whole(version(1, 1000)) == []
    assert index.whole(version(2, None)) == []
    assert index.whole(version(4, None)) == [empty.name]
    assert index.whole(replace(version(2, 1000), mtime_ns=1)) == []
    assert index.whole(replace(version(2, 1000), mtime_ns=-1)) == []
    assert index.whole(replace(version(2, 1000), checksum="aa")) == []
    assert index.count() == (4, total(index))


def test_the_fullest_record_of_a_version_is_found_first(tmp_path: Path, index: Index) -> None:
    with index_in(tmp_path, OTHER) as other:
        other.write([record(1, 500, OTHER)])
    index.write([record(1, 10), Record(f"1-{MARK}-2", version(1, 999), 999, b"", 0)])
    third = replace(record(1, 300), name=f"1-{MARK}-3")
    index.write([third])
    assert [one.held for one in index.find(version(1, 1000))] == [500, 300, 10]
    assert index.find(version(1, 998)) == []
    assert index.find(version(2, 1000)) == []


def test_records_that_cannot_be_right_are_not_found_but_counted(
    tmp_path: Path, index: Index
) -> None:
    index.write([record(1), record(2)], lease=50_000)
    alter(tmp_path, "UPDATE content SET proof = proof + 1 WHERE datafile = 1")
    alter(tmp_path, "UPDATE content SET held = 'some' WHERE datafile = 2")
    assert index.find(version(1, 1000)) == []
    assert index.find(version(2, 1000)) == []
    with index.reading_there() as books:
        assert books.find(record(1).name) is None
        assert books.cost(record(1).name) == 10 + COST
        assert books.cost(record(2).name) == COST
        assert len(list(books.oldest())) == 2
    index.write(used=[record(2).name])
    index.write(gone=[record(1).name, record(2).name])
    assert names(index) == set()


# The order of use.


def test_what_was_recorded_last_was_used_last(index: Index) -> None:
    index.write([record(number) for number in (3, 1, 2)])
    assert order(index) == [3, 1, 2]
    index.write([record(3, 20)])
    assert order(index) == [1, 2, 3]


def test_what_was_used_goes_to_the_end(index: Index) -> None:
    index.write([record(number) for number in (1, 2, 3)])
    index.write(used=[record(1).name, "nothing", record(2).name])
    assert order(index) == [3, 1, 2]


def test_the_uses_of_all_processes_are_in_one_order(tmp_path: Path, index: Index) -> None:
    with index_in(tmp_path, OTHER) as other:
        index.write([record(1)])
        other.write([record(2, mark=OTHER)])
        index.write([record(3)])
        other.write(used=[record(1).name])
    assert order(index) == [2, 3, 1]


def test_what_is_precious_is_kept_while_twice_the_cache_is_used(index: Index) -> None:
    index.write([replace(record(1), precious=True)])
    each = 10 + COST
    uses = 2 * BUDGET // each
    index.write([record(number) for number in range(2, 2 + uses)])
    assert order(index)[-1] == 1
    index.write([record(100), record(101)])
    assert order(index)[-4:] == [1 + uses, 1, 100, 101]


def test_what_is_precious_stays_so_when_it_is_used(index: Index) -> None:
    index.write([record(1), replace(record(2), precious=True), record(3)])
    index.write(used=[record(2).name, record(1).name, record(3).name])
    assert order(index) == [1, 3, 2]


def test_time_goes_by_bytes(index: Index) -> None:
    """One large file pushes what is precious out as many small ones do."""
    index.write([replace(record(1), precious=True), record_of(MARK, 2, 3 * BUDGET, 3 * BUDGET)])
    assert order(index) == [1, 2]


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 250])
def test_every_file_is_told_once_however_many_there_are(index: Index, count: int) -> None:
    index.write([record(number) for number in range(count)])
    assert order(index) == list(range(count))


def test_files_of_one_age_are_all_told(tmp_path: Path, index: Index) -> None:
    index.write([record(number) for number in range(250)])
    alter(tmp_path, "UPDATE content SET used = 7")
    assert sorted(order(index)) == list(range(250))


def test_what_is_removed_or_used_while_it_is_told_harms_nothing(index: Index) -> None:
    index.write([record(number) for number in range(250)])
    told = []
    with index.changing() as books:
        for name, _ in books.oldest():
            told.append(name)
            if len(told) % 3 == 0:
                books.erase(name)
            elif len(told) < 250:
                books.use(name)
            if len(told) == 400:
                break
    assert {name.split("-")[0] for name in told} == {str(number) for number in range(250)}


def test_a_name_that_is_no_text_is_passed_over(tmp_path: Path, index: Index) -> None:
    index.write([record(number) for number in range(3)])
    alter(tmp_path, "UPDATE content SET name = x'ff' WHERE datafile = 1")
    assert order(index) == [0, 2]


# Whose it is.


def test_whose_cache_it_is_can_be_noted_and_noted_anew(tmp_path: Path, index: Index) -> None:
    with index.reading_there() as books:
        assert books.home() is None
    assert home_of(tmp_path) is None
    for home in (Home("https://one", "a/b", 5), Home("https://two", "c/d", 7)):
        with index.changing_there() as books:
            books.belongs_to(home)
        assert home_of(tmp_path) == home


def test_a_folder_without_an_index_is_nobodys_and_none_is_made(tmp_path: Path) -> None:
    assert home_of(tmp_path) is None
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "index.sqlite").write_bytes(b"something else" * 1000)
    assert home_of(tmp_path) is None


def test_a_folder_of_another_version_is_nobodys(tmp_path: Path, index: Index) -> None:
    with index.changing_there() as books:
        books.belongs_to(Home("https://one", "a/b", 5))
    alter(tmp_path, "PRAGMA user_version=3")
    assert home_of(tmp_path) is None


# Transactions.


def test_what_fails_is_undone_and_the_next_can_begin(index: Index) -> None:
    index.write([record(1)], lease=100)
    before = total(index)

    def fail(*, there: bool) -> None:
        with index.changing_there() if there else index.changing() as books:
            books.lease(7)
            books.erase(record(1).name)
            raise ZeroDivisionError

    for there in (True, False):
        with pytest.raises(ZeroDivisionError):
            fail(there=there)
        assert total(index) == before
        assert names(index) == {record(1).name}
    with index.changing() as books:
        books.lease(7)
    assert total(index) == before + 7


def test_nobody_changes_anything_in_the_middle_of_a_transaction(tmp_path: Path) -> None:
    """What is counted in it is so at its end: two must not lease the same room."""
    with index_in(tmp_path) as one, index_in(tmp_path, OTHER) as other:
        with one.changing() as books:
            assert books.total() == 0
            with pytest.raises(sqlite3.OperationalError, match="locked"), other.changing():
                pass
            with closing(sqlite3.connect(tmp_path / "index.sqlite")) as reader:
                assert reader.execute("SELECT count(*) FROM lease").fetchone() == (0,)
            books.lease(5)
        with other.changing() as books:
            assert books.total() == 5


def test_a_part_of_many_changes_is_in_one_transaction(tmp_path: Path, index: Index) -> None:
    """Nobody waits for all of them; those before the one that fails are done."""
    index.write([record(number) for number in range(250)])
    done = []

    def change(books: Books, number: int) -> None:
        if number == 230:
            raise ZeroDivisionError
        books.erase(record(number).name)
        done.append(number)

    with pytest.raises(ZeroDivisionError):
        index.each(change, range(250))
    assert done == list(range(230))
    assert {int(name.split("-")[0]) for name in names(index)} == set(range(200, 250))


def test_what_is_written_can_be_seen_by_a_process_that_comes_later(tmp_path: Path) -> None:
    with index_in(tmp_path) as index:
        index.write([record(1)], lease=9000)
    with index_in(tmp_path, OTHER, alone=True) as index:
        assert index.find(version(1, 1000)) == [replace(record(1), recorded=10 + COST)]
        assert total(index) == 9000


def test_an_index_that_nobody_keeps_holds_the_books_all_the_same() -> None:
    one, other = Index.in_memory(MARK), Index.in_memory(OTHER)
    for index in (one, other):
        index.write([record(1)], lease=9000)
        assert total(index) == 9000
        assert index.find(version(1, 1000)) != []
    one.write(gone=[record(1).name])
    assert names(other) == {record(1).name}, "two are not one"
    one.close()
    other.close()


def test_records_that_went_take_no_room_once_it_was_shrunk(tmp_path: Path, index: Index) -> None:
    index.write([record_of(MARK, number, 0, 10) for number in range(3000)])
    index.write(gone=[f"{number}-{MARK}-1" for number in range(3000)])
    index.shrink()
    index.close()
    assert (tmp_path / "index.sqlite").stat().st_size < 100_000


def test_the_index_is_opened_beside_others_without_ending_their_locks(tmp_path: Path) -> None:
    """POSIX: who closes any descriptor of a file ends all locks of his process on it."""
    with index_in(tmp_path) as index, index.changing() as books:
        books.lease(5)
        other = Index.open(tmp_path, OTHER, BUDGET, alone=False)
        with pytest.raises(sqlite3.OperationalError, match="locked"), other.changing():
            pass
        other.close()


def test_the_log_is_kept_short(tmp_path: Path, index: Index) -> None:
    """It would be read by everybody who comes, and nothing is synced before it is copied."""
    for number in range(40):
        index.write([record_of(MARK, number * 100 + one, 0, 10) for one in range(100)])
    assert (tmp_path / "index.sqlite-wal").stat().st_size < 4 * 2**20


# Anything.


@dataclass
class Model:
    """The books as they should be."""

    records: dict[str, int] = field(default_factory=dict)
    leases: dict[str, int] = field(default_factory=dict)

    def lease(self, mark: str, change: int) -> None:
        if change:
            self.leases[mark] = self.leases.get(mark, 0) + change

    @property
    def total(self) -> int:
        return sum(self.records.values()) + sum(self.leases.values())


steps = st.tuples(
    st.sampled_from(["record", "record", "remove", "erase", "use", "lease", "rename", "end"]),
    st.booleans(),
    st.integers(0, 5),
    st.integers(0, 1000),
)


@settings(max_examples=25)
@given(st.lists(steps, max_size=30))
def test_whatever_is_done_the_sums_are_right(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, bool, int, int]]
) -> None:
    folder, model = tmp_path_factory.mktemp("books"), Model()
    with index_in(folder) as one, index_in(folder, OTHER) as other:
        for what, is_other, number, count in steps:
            index, mark = (other, OTHER) if is_other else (one, MARK)
            step(what, index, mark, number, count, model)
            assert total(index) == model.total
            assert leases(index) == model.leases
            assert names(index) == set(model.records)
        with one.changing_there() as books:
            before = books.total()
            books.recount()
            assert books.total() == before
            told = list(books.oldest())
        assert dict(told) == model.records
        assert len(told) == len(model.records)


def step(what: str, index: Index, mark: str, number: int, count: int, model: Model) -> None:
    own = record(number, count, mark)
    names = sorted(model.records)
    name = names[number % len(names)] if names else own.name
    match what:
        case "record":
            index.write([own])
            model.lease(mark, model.records.get(own.name, 0) - own.cost)
            model.records[own.name] = own.cost
        case "remove":
            index.write(gone=[name])
            cost = model.records.pop(name, 0)
            model.lease(mark, cost if mark_of(name) == mark else 0)
        case "erase":
            index.each(Books.erase, [name])
            model.records.pop(name, None)
        case "use":
            index.write(used=[name])
        case "lease":
            index.write(lease=count - 500)
            model.lease(mark, count - 500)
        case "rename":
            with index.changing() as books:
                found = books.find(name)
                new = f"{number}-{mark}-{1000 + count}"
                if found is not None and new not in model.records:
                    books.rename(found, new)
                    model.records[new] = model.records.pop(name)
        case "end":
            with index.changing() as books:
                books.end_lease(mark)
            with suppress(KeyError):
                del model.leases[mark]


def test_books_that_were_wrong_are_right_when_they_are_done_anew(
    tmp_path: Path, index: Index
) -> None:
    index.write([record(1, 300), record(2, 400, DEAD)])
    alter(tmp_path, "UPDATE books SET recorded = -5")
    with index.changing_there() as books:
        books.recount()
    assert recorded(index) == 700 + 2 * COST
    index.write(gone=[record(1).name, record(2, mark=DEAD).name])
    with index.changing_there() as books:
        books.recount()
    assert recorded(index) == 0
