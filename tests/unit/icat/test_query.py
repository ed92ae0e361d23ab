"""Query texts, and walking through listings."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icatfs.icat import query as q
from icatfs.icat.records import DatafileName, DatafileRow, DatasetRow


def test_a_quote_in_a_name_is_doubled() -> None:
    assert q.quoted("it's % a \\ \t b") == "'it''s % a \\ \t b'"


def test_wild_characters_of_a_prefix_are_escaped() -> None:
    assert q.begins_with("x.name", "50%_a!'/") == "x.name LIKE '50!%!_a!!''/%' ESCAPE '!'"


@pytest.mark.parametrize("name", ["", "a" * 255, "ümläut", "本", "tab\tnew\nline", "\uffff"])
def test_names_that_can_exist(name: str) -> None:
    assert q.can_exist(name)


@pytest.mark.parametrize("name", ["a" * 256, "nul\0", "\U0001f600", "\ud800"])
def test_names_that_cannot_exist(name: str) -> None:
    assert not q.can_exist(name)


def test_a_select_uses_plain_blanks_only_and_ends_with_a_limit() -> None:
    text = q.select(DatafileName, "x.dataset.id = 7", 5)
    assert text == (
        "SELECT x.id, x.name FROM Datafile x WHERE x.dataset.id = 7 ORDER BY x.id LIMIT 0, 5"
    )


def test_times_have_three_digits_and_a_zone() -> None:
    moment = datetime(2024, 5, 1, 8, 0, 0, 123999, timezone(timedelta(hours=2)))
    assert q.timestamp(moment) == "2024-05-01T06:00:00.123Z"


def walked(
    ids: list[int], page: int, elapsed_s: float = 0.1, after: int | None = None
) -> tuple[list[int], int]:
    """The ids that a walk over ``ids`` brings, and how many queries it took."""
    walk, found, queries = q.Walk(page, after), list[int](), 0
    while (window := walk.window) is not None:
        queries += 1
        if walk.needs_last_id:
            walk.last_id(max(ids, default=None))
            continue
        low = -1 if window.after is None else window.after
        high = window.upto
        rows = [one for one in ids if one > low and (high is None or one <= high)][: window.count]
        found += rows
        walk.brought(rows[0] if rows else 0, rows[-1] if rows else 0, len(rows), elapsed_s)
        assert queries < 10 + 4 * len(ids)
    return found, queries


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 19, 20, 21, 99, 100, 101, 1000])
@pytest.mark.parametrize("first", [1, 12345, 2**33])
def test_dense_ids_cost_one_query_more_than_pages(count: int, first: int) -> None:
    ids = list(range(first, first + count))
    found, queries = walked(ids, 10)
    assert found == ids
    assert queries <= 1 + -(-count // 10)


def test_a_folder_smaller_than_a_page_costs_one_query() -> None:
    assert walked(list(range(9)), 10)[1] == 1


def test_a_wide_gap_is_leapt() -> None:
    ids = [*range(25), *range(10**9, 10**9 + 25)]
    found, queries = walked(ids, 10)
    assert found == ids
    assert queries < 15


@given(st.sets(st.integers(0, 400), max_size=120), st.integers(1, 12), st.floats(0, 10))
def test_every_walk_finds_everything_once_in_order(
    ids: set[int], page: int, elapsed_s: float
) -> None:
    assert walked(sorted(ids), page, elapsed_s)[0] == sorted(ids)


@given(st.sets(st.integers(0, 200), max_size=60), st.integers(1, 12), st.integers(-1, 210))
def test_a_walk_may_begin_after_any_id(ids: set[int], page: int, after: int) -> None:
    found, queries = walked(sorted(ids), page, after=after)
    assert found == sorted(one for one in ids if one > after)
    assert len(found) >= page or queries == 1


def test_a_mark_is_one_query() -> None:
    assert q.select_mark(DatafileRow, "x.dataset.id = 7") == (
        "SELECT COUNT(x), MAX(x.id), MAX(x.modTime), SUM(x.fileSize) FROM Datafile x"
        " WHERE x.dataset.id = 7"
    )
    assert q.select_mark(DatasetRow, "x.investigation.id = 7") == (
        "SELECT COUNT(x), MAX(x.id), MAX(x.modTime), SUM(x.id) FROM Dataset x"
        " WHERE x.investigation.id = 7"
    )


def test_a_moment_in_a_query_is_told_in_its_own_zone() -> None:
    moment = datetime(2024, 5, 1, 8, 0, 0, 123999, timezone(timedelta(hours=2)))
    assert q.moment(moment) == "{ts 2024-05-01 08:00:00}"


def test_windows_get_narrower_where_the_server_is_slow() -> None:
    walk = q.Walk(10_000)
    walk.brought(1, 10_000, 10_000, 8.0)
    walk.last_id(50_000)
    assert walk.window == q.Window(10_000, 15_000, 10_000)
