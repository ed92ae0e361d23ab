"""The list of orders: every transition, and what a killed process leaves behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from itertools import product
from typing import TYPE_CHECKING

import pytest

from icatfs.recall.book import Book
from icatfs.recall.orders import PENDING, Fetch, Home, State, Wish
from icatfs.recall.units import Key
from icatfs.values import DatafileId, DatasetId

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    opened = Book(tmp_path / "orders.sqlite")
    yield opened
    opened.close()


def wish(number: int, path: str = "", datafile: int | None = None) -> Wish:
    key = Key(DatasetId(number), None if datafile is None else DatafileId(datafile))
    return Wish(key, path or f"/F/I/1/ds{number}", 4, 1000)


def placed(book: Book, *numbers: int, fetch: Fetch = Fetch.NO) -> list[int]:
    return book.place([wish(number) for number in numbers], book.new_command(), fetch)


@pytest.mark.parametrize(("before", "after"), list(product(State, State)))
def test_only_what_is_pending_can_move(book: Book, before: State, after: State) -> None:
    (unit,) = placed(book, 1)
    if before is not State.ASKED:
        book.move(unit, before)
    assert book.move(unit, after, "words") is (before in PENDING)
    assert book.unit(unit).state is (after if before in PENDING else before)


@pytest.mark.parametrize("ended", sorted(set(State) - PENDING))
def test_what_has_ended_begins_anew_when_it_is_asked_for_again(book: Book, ended: State) -> None:
    (unit,) = placed(book, 1)
    book.move(unit, State.RESTORING)
    book.move(unit, ended, "Restore failed")
    assert book.unit(unit).finished_s is not None
    assert placed(book, 1) == [unit]
    again = book.unit(unit)
    assert again.state is State.ASKED
    assert (again.words, again.requested_s, again.finished_s) == (None, None, None)


def test_what_is_pending_is_on_the_list_once_however_often_it_is_asked_for(book: Book) -> None:
    (unit,) = placed(book, 1)
    book.move(unit, State.RESTORING)
    before = book.unit(unit)
    assert placed(book, 1, 2) == [unit, unit + 1]
    after = book.unit(unit)
    assert (after.state, after.asked_s) == (State.RESTORING, before.asked_s)
    assert book.count_pending() == 2


def test_a_file_is_another_unit_than_its_dataset(book: Book) -> None:
    ids = book.place([wish(1), wish(1, datafile=7)], 1)
    assert len(set(ids)) == 2
    assert book.unit(ids[1]).key == Key(DatasetId(1), DatafileId(7))
    found = book.find(Key(DatasetId(1)))
    assert found is not None
    assert found.id == ids[0]


def test_asking_without_fetching_does_not_take_back_that_it_is_to_be_fetched(book: Book) -> None:
    (unit,) = placed(book, 1, fetch=Fetch.WANTED)
    placed(book, 1)
    assert book.unit(unit).fetch is Fetch.WANTED
    book.move(unit, State.ONLINE)
    assert not book.unit(unit).is_over
    assert book.to_fetch() == book.unit(unit)
    book.fetched(unit, Fetch.DONE)
    assert book.unit(unit).is_over
    assert book.to_fetch() is None
    assert book.fetched_bytes(book.unit(unit).command) == 1000


def test_what_is_evicted_before_it_was_fetched_is_asked_for_again(book: Book) -> None:
    (unit,) = placed(book, 1, fetch=Fetch.WANTED)
    book.move(unit, State.ONLINE)
    book.ask_again(unit)
    assert [one.id for one in book.pending(9)] == [unit]


def test_those_asked_for_first_come_first(book: Book) -> None:
    first, second, third = placed(book, 1, 2, 3)
    book.move(first, State.ONLINE)
    placed(book, 1)
    assert [one.id for one in book.pending(2)] == [second, third]
    assert [one.id for one in book.pending(9)] == [second, third, first]


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("/F/I/1", {"/F/I/1/a", "/F/I/1/a b", "/F/I/1/a/x.nxs"}),
        ("/F/I/1/a", {"/F/I/1/a", "/F/I/1/a/x.nxs"}),
        ("/F/I/1/a/x.nxs", {"/F/I/1/a", "/F/I/1/a/x.nxs"}),
        ("/F/I/1/", {"/F/I/1/a", "/F/I/1/a b", "/F/I/1/a/x.nxs"}),
        ("", {"/F/I/1/a", "/F/I/1/a b", "/F/I/1/a/x.nxs", "/F/I/11/c"}),
        ("/F/%", set()),
    ],
)
def test_a_path_names_what_is_there_below_and_what_it_is_in(
    book: Book, at: str, expected: set[str]
) -> None:
    paths = ["/F/I/1/a", "/F/I/1/a b", "/F/I/11/c"]
    book.place([wish(number, path) for number, path in enumerate(paths)], 1)
    book.place([wish(0, "/F/I/1/a/x.nxs", datafile=7)], 1)
    assert {one.path for one in book.at(at)} == expected
    assert book.cancel(at) == len(expected)
    assert {one.path for one in book.at() if one.state is State.CANCELLED} == expected


def test_cancelling_leaves_what_is_online_and_ends_its_fetching(book: Book) -> None:
    online, asked = placed(book, 1, 2, fetch=Fetch.WANTED)
    book.move(online, State.ONLINE)
    assert book.cancel() == 1
    assert book.unit(asked).state is State.CANCELLED
    assert book.unit(online).state is State.ONLINE
    assert book.unit(online).is_over
    assert not book.move(asked, State.ONLINE)


def test_who_waits_sees_each_change_once_whatever_the_size_of_a_look(book: Book) -> None:
    units = [unit for number in range(20) for unit in placed(book, number)]
    serial = 0
    seen = []
    while changed := book.later(serial, most=7):
        serial = changed[-1].serial
        seen += [one.id for one in changed]
    assert seen == units
    assert book.cancel() == 20  # all under one serial
    cancelled = book.later(serial, most=7)
    assert [one.state for one in cancelled] == [State.CANCELLED] * 20
    assert book.later(cancelled[-1].serial) == []


def test_others_see_that_the_list_has_changed(book: Book) -> None:
    other = Book(book.path)
    before = book.version()
    assert book.version() == before
    placed(other, 1)
    assert book.version() != before
    other.close()


def test_what_finished_a_month_ago_is_forgotten_and_what_is_pending_never(book: Book) -> None:
    old, pending = placed(book, 1, 2)
    book.move(old, State.ONLINE)
    book._connection.execute(
        "UPDATE units SET finished = ?, asked = 0", (time.time() - 40 * 86400,)
    )
    book.settle(Home("https://icat", "db/nbour"))
    assert [one.id for one in book.at()] == [pending]
    assert book.home() == Home("https://icat", "db/nbour")


CRASH = """
import os, signal, sys
from pathlib import Path
from icatfs.recall.book import Book
from icatfs.recall.orders import State, Wish
from icatfs.recall.units import Key
book = Book(Path(sys.argv[1]))
ids = book.place([Wish(Key(n), f"/F/{n}", 1, 1) for n in range(1, 1001)], book.new_command())
book.move(ids[0], State.ONLINE)
book._connection.execute("BEGIN IMMEDIATE")
book._connection.execute("UPDATE units SET state = 'online'")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_leaves_what_it_had_finished_and_nothing_half_done(
    tmp_path: Path,
) -> None:
    path = tmp_path / "orders.sqlite"
    done = subprocess.run([sys.executable, "-c", CRASH, path], check=False)
    assert done.returncode == -signal.SIGKILL
    book = Book(path)
    assert book.count_pending() == 999
    book.close()
