from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from icatfs.errors import IcatfsError, NoSpace, StagingFailed
from icatfs.fs.lacking import Lacking

SIZE = 40
PLACES = st.integers(0, SIZE)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["lost", "written"]), PLACES, PLACES),
        st.tuples(st.just("cut"), PLACES, st.just(0)),
    ),
    max_size=12,
)
FULL, BROKEN = NoSpace("full"), StagingFailed("broken")


@given(STEPS)
def test_of_what_was_kept_each_byte_has_to_come_once_more(
    steps: list[tuple[str, int, int]],
) -> None:
    lacking, bytes_lost = Lacking(), set[int]()
    for what, one, other in steps:
        start, stop = min(one, other), max(one, other)
        if what == "lost":
            lacking.lost(start, stop, FULL)
            bytes_lost |= set(range(start, stop))
        elif what == "written":
            lacking.written(start, stop)
            bytes_lost -= set(range(start, stop))
        else:
            lacking.cut(one)
            bytes_lost -= set(range(one, SIZE))
        if what != "lost" or bytes_lost:
            assert lacking.error is (FULL if bytes_lost else None)


def test_what_a_program_was_told_is_its_own_to_try_again() -> None:
    lacking = Lacking()
    lacking.refused(100, FULL)
    lacking.refused(200, BROKEN)
    lacking.written(101, 300)
    assert lacking.error is FULL
    lacking.written(100, 101)
    assert lacking.error is None


def test_what_was_refused_before_the_end_of_a_cut_file_still_lacks() -> None:
    lacking = Lacking()
    lacking.refused(100, FULL)
    lacking.cut(101)
    assert lacking.error is FULL
    lacking.cut(100)
    assert lacking.error is None


def test_the_first_error_is_the_reason() -> None:
    def reasons(*errors: IcatfsError) -> IcatfsError | None:
        lacking = Lacking()
        for number, error in enumerate(errors):
            lacking.lost(number, number + 1, error)
        return lacking.error

    assert reasons(FULL, BROKEN) is FULL
    assert reasons(BROKEN, FULL) is BROKEN
