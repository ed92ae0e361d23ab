"""Each row of the table of `icatfs.content.pages`."""

from __future__ import annotations

import pytest

from icatfs.content.pages import Pages

FILE, OTHER = "7-0123456789abcdef-1", "7-0123456789abcdef-2"


def read(*, comparable: bool = True) -> Pages:
    """Some bytes came, and may have been read."""
    pages = Pages(comparable=comparable)
    pages.came(again=False)
    return pages


def opened(name: str | None = None, *, complete: bool = False) -> Pages:
    pages = Pages(comparable=True)
    if name is not None:
        pages.began(name, complete=complete)
    return pages


def compared() -> Pages:
    pages = read()
    pages.compared()
    return pages


def test_of_a_content_of_which_nothing_was_read_everything_may_stay() -> None:
    assert Pages(comparable=True).may_stay(opened())


def test_what_cannot_be_compared_may_stay() -> None:
    pages = read(comparable=False)
    pages.left(passed=False)
    pages.came(again=True)
    pages.compared()
    pages.altered()
    pages.ended(None)
    assert pages.may_stay(opened())
    pages.began(FILE, complete=False)
    assert pages.may_stay(opened())


def test_a_part_may_stay_while_it_is_open_and_where_it_is_in_the_file_that_is_opened() -> None:
    pages = read()
    assert pages.may_stay(pages)
    pages.ended(FILE)
    assert pages.may_stay(opened(FILE))
    assert pages.may_stay(opened(FILE, complete=True))


@pytest.mark.parametrize("now", [None, OTHER])
def test_a_part_may_not_stay_that_is_not_in_the_file_that_is_opened(now: str | None) -> None:
    pages = read()
    pages.ended(FILE)
    assert not pages.may_stay(opened(now))
    assert not pages.may_stay(opened(now, complete=True))


def test_a_part_that_was_kept_nowhere_may_not_stay() -> None:
    pages = read()
    pages.ended(None)
    assert not pages.may_stay(opened())


def test_what_was_found_in_a_file_and_is_not_complete_was_not_compared() -> None:
    for complete in (False, True):
        pages = opened(FILE, complete=complete)
        pages.ended(FILE)
        assert pages.may_stay(opened(OTHER)) == complete


def test_what_was_compared_may_stay_whatever_becomes_of_it() -> None:
    pages = compared()
    pages.left(passed=True)
    pages.altered()
    pages.ended(None)
    assert pages.may_stay(opened())


def test_what_comes_after_a_comparison_is_to_be_compared_again() -> None:
    pages = compared()
    pages.left(passed=True)
    pages.came(again=True)
    assert not pages.is_sure
    assert pages.may_stay(pages)
    pages.compared()
    assert pages.is_sure


def test_what_came_again_and_left_once_more_is_never_compared() -> None:
    pages = compared()
    pages.came(again=True)
    pages.left(passed=True)
    pages.compared()
    assert not pages.is_sure


def test_what_has_passed_is_compared_though_it_left() -> None:
    pages = read()
    pages.left(passed=True)
    assert pages.may_stay(pages)
    pages.compared()
    assert pages.is_sure


def test_what_has_passed_and_left_may_not_stay_where_it_was_not_compared() -> None:
    pages = read()
    pages.left(passed=True)
    pages.ended(FILE)
    assert not pages.may_stay(opened(FILE))


def test_what_left_before_it_passed_is_never_compared() -> None:
    pages = read()
    pages.left(passed=False)
    pages.compared()
    assert not pages.is_sure
    assert not pages.may_stay(pages)
    pages.ended(FILE)
    assert not pages.may_stay(opened(FILE))


def test_of_two_that_passed_at_one_place_only_one_is_compared() -> None:
    pages = read()
    pages.left(passed=True)
    pages.came(again=True)
    pages.compared()
    assert not pages.is_sure


def test_what_was_read_before_the_disk_altered_it_is_never_compared() -> None:
    pages = read()
    pages.altered()
    pages.came(again=False)
    pages.compared()
    assert not pages.is_sure
