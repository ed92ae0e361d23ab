"""The planner's table, row by row: each is shown by the test of its number."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from support.desk import Desk
from support.simulator import SimulatedFile
from support.sizes import GIB, KIB, MIB

from icatfs.content import plan
from icatfs.content.plan import Limits

REACH = 16 * MIB
LIMITS = Limits(least_reach=REACH, most_reach=REACH)
ALONE = Limits(streams=1, least_reach=REACH, most_reach=REACH)
SHORT = Limits(least_reach=MIB, most_reach=MIB)


def test_every_row_of_the_table_has_its_test() -> None:
    assert plan.__doc__
    rows = {int(number) for number in re.findall(r"^(\d+)\. ", plan.__doc__, re.MULTILINE)}
    shown = [re.match(r"test_(\d+)_", name) for name in globals()]
    assert rows == set(range(1, 26))
    assert {int(match[1]) for match in shown if match} == rows


# Somebody waits for a gap.


def test_1_a_content_that_is_to_come_as_a_whole_has_one_stream() -> None:
    desk = Desk(LIMITS, size=GIB)
    desk.fetch().suspicion.mismatches = 1
    first, second = desk.wait(30 * MIB), desk.wait(900 * MIB)
    assert [stream.start for stream in desk.streams] == [0]
    assert first.stream is second.stream is desk.streams[0]


def test_1_who_wants_a_content_that_is_being_compared_waits_for_that() -> None:
    desk = Desk(LIMITS, size=GIB)
    stream = desk.wait(0).stream
    assert stream is not None
    desk.file.unproved = True
    desk.bring(stream, MIB)
    assert desk.wait(900 * MIB).stream is stream


def test_2_the_nearest_stream_within_reach_is_joined() -> None:
    desk = Desk(LIMITS, size=GIB)
    for start in (500 * MIB, 510 * MIB, 900 * MIB):
        desk.wait(start)
    near, far = desk.streams
    assert desk.wait(500 * MIB + REACH).stream is near
    assert desk.wait(900 * MIB + REACH).stream is far
    assert desk.wait(900 * MIB + REACH + 1).stream is None
    desk.bring(near, 12 * MIB)
    assert desk.wait(505 * MIB).stream is None, "it has passed"


def test_3_a_sweep_is_joined_that_is_there_within_a_turn() -> None:
    desk = Desk(SHORT, size=8 * MIB)
    first = desk.wait(0)
    assert first.stream is not None
    assert first.stream.sweeps
    assert desk.wait(7 * MIB).stream is first.stream


def test_4_who_waits_for_bytes_behind_those_of_another_waits_for_the_same_stream() -> None:
    desk = Desk(ALONE, size=GIB)
    desk.wait(0, file=SimulatedFile(2, GIB, GIB))
    other = desk.streams[0]
    first, second = desk.wait(100 * MIB), desk.wait(102 * MIB)
    assert list(desk.dispatch.queue) == [first, second]
    desk.dispatch.ended(other, None)
    (stream,) = (one for one in desk.streams if one.fetch is first.fetch)
    assert first.stream is second.stream is stream


def test_5_a_place_that_is_free_is_taken() -> None:
    desk = Desk(LIMITS, size=GIB)
    first, second = desk.wait(0), desk.wait(500 * MIB)
    assert len(desk.streams) == 2
    assert first.stream is not second.stream


def test_5_but_a_stream_that_stands_where_it_would_begin_goes_on_for_it() -> None:
    desk = Desk(SHORT, size=GIB)
    first = desk.wait(GIB - 4 * MIB)
    last = desk.wait(GIB - 1)
    (stream,) = desk.streams
    assert first.stream is last.stream is stream
    assert desk.bring(stream, 3 * MIB)
    assert desk.bring(stream, MIB - 1)
    assert not last.served.is_set()


def test_5_and_sweeps_if_that_would_have() -> None:
    desk = Desk(Limits(least_reach=MIB, most_reach=MIB, looks=1), size=GIB)
    desk.look(500 * MIB, 100 * MIB)
    stream = desk.wait(0, KIB).stream
    assert stream is not None
    assert not stream.sweeps
    trail = desk.dispatch._trail(desk.file.version)
    desk.dispatch._learn(desk.file.version, replace(trail, rent_s=1000.0))
    far = desk.wait(900 * MIB)
    assert far.stream is stream
    assert far.stream.sweeps
    assert far.stream.stop == GIB


def test_6_a_stream_of_the_file_that_reads_ahead_for_nobody_goes_at_once() -> None:
    desk = Desk(LIMITS, size=GIB)
    done = desk.wait(0, KIB)
    desk.wait(0, file=SimulatedFile(2, GIB, GIB))
    own, other = desk.streams
    desk.bring(own, MIB)
    desk.dispatch.leave(done)
    waiter = desk.wait(900 * MIB)
    assert own.ending
    assert not other.ending
    desk.dispatch.ended(own, None)
    assert waiter.stream in desk.streams


def test_6_but_not_while_somebody_else_waits_elsewhere_in_the_file() -> None:
    desk = Desk(LIMITS, size=GIB)
    done = desk.wait(0, KIB)
    desk.wait(500 * MIB, 10 * MIB)
    own = desk.streams[0]
    desk.bring(own, MIB)
    desk.dispatch.leave(done)
    desk.wait(900 * MIB)
    assert not own.ending, "its reader may be one of several"
    desk.now += LIMITS.grace_s
    desk.dispatch.arrange()
    assert own.ending


def test_6_but_not_one_that_somebody_came_for_while_he_waited() -> None:
    desk = Desk(SHORT, size=GIB)
    done = desk.wait(0, MIB)
    desk.wait(0, file=SimulatedFile(2, GIB, GIB))
    own = desk.streams[0]
    desk.wait(900 * MIB)
    desk.now += 0.01
    other = desk.wait(MIB, KIB)
    desk.bring(own, 2 * MIB)
    desk.dispatch.leave(done)
    desk.dispatch.leave(other)
    assert not own.ending, "it has another reader"
    desk.now += SHORT.grace_s
    desk.dispatch.arrange()
    assert own.ending


def test_7_a_stream_goes_whose_reader_has_been_away_for_a_moment() -> None:
    desk = Desk(LIMITS, size=GIB)
    other = SimulatedFile(2, GIB, GIB)
    done = desk.wait(0, KIB, file=other)
    desk.wait(0)
    desk.bring(desk.streams[0], MIB)
    desk.dispatch.leave(done)
    desk.wait(900 * MIB)
    assert not desk.streams[0].ending, "he may be busy with what he got"
    desk.now += LIMITS.grace_s
    desk.dispatch.arrange()
    assert desk.streams[0].ending


def test_7_who_reads_on_in_the_cache_is_not_away() -> None:
    desk = Desk(LIMITS, size=GIB)
    other = SimulatedFile(2, GIB, GIB)
    held_up = desk.wait(0, KIB, file=other)
    desk.wait(0)
    stream = desk.streams[0]
    desk.bring(stream, 6 * MIB)
    desk.dispatch.leave(held_up)
    desk.wait(900 * MIB)
    for chunk in range(6):
        other.read(chunk * MIB)
        desk.bring(stream, KIB, seconds=0.9 * LIMITS.grace_s)
        desk.dispatch.arrange()
        assert not stream.ending
    desk.now += 2 * LIMITS.grace_s
    desk.dispatch.arrange()
    assert stream.ending


def test_7_a_moment_is_as_long_as_it_would_take_to_open_the_stream_again() -> None:
    desk = Desk(LIMITS, size=GIB)
    for _ in range(10):  # far away: half a second
        desk.dispatch.costs.opened(0, 0.5)
    done = desk.wait(0, KIB, file=SimulatedFile(2, GIB, GIB))
    desk.wait(0)
    stream = desk.streams[0]
    desk.bring(stream, MIB)
    desk.dispatch.leave(done)
    desk.wait(900 * MIB)
    desk.now += 0.4
    desk.dispatch.arrange()
    assert not stream.ending
    desk.now += 0.2
    desk.dispatch.arrange()
    assert stream.ending


def test_8_the_oldest_stream_that_had_its_turn_goes() -> None:
    desk = Desk(LIMITS, size=GIB)
    for start in (500 * MIB, 0):
        desk.wait(start, 100 * MIB)
        desk.bring(desk.streams[-1], MIB)
        desk.now += 1.0
    waiter = desk.wait(900 * MIB)
    desk.now = LIMITS.turn_s - 0.1
    desk.dispatch.arrange()
    assert not any(stream.ending for stream in desk.streams)
    desk.now = LIMITS.turn_s + 1.0
    desk.dispatch.arrange()
    assert [stream.ending for stream in desk.streams] == [True, False]
    desk.dispatch.ended(desk.streams[0], None)
    assert waiter.stream is not None
    assert waiter.stream.start == 900 * MIB


def test_9_else_he_waits_in_the_queue() -> None:
    desk = Desk(LIMITS, size=GIB)
    for start in (0, 500 * MIB):
        desk.wait(start)
    waiter = desk.wait(900 * MIB)
    assert list(desk.dispatch.queue) == [waiter]
    assert not any(stream.ending for stream in desk.streams)


# A stream is opened.


def test_10_a_small_file_comes_as_a_whole_from_its_first_missing_byte() -> None:
    desk = Desk(SHORT, size=8 * MIB)
    desk.file.arrived(0, MIB)
    stream, stop = desk.look(5 * MIB)
    assert (stream.start, stop) == (MIB, 8 * MIB)


def test_10_unless_it_does_not_fit() -> None:
    desk = Desk(SHORT, size=8 * MIB, room=2 * MIB)
    stream, stop = desk.look(2 * MIB)
    assert (stream.start, stop) == (2 * MIB, 4 * MIB + 1 * MIB)


def test_11_after_eight_streams_that_cost_as_much_a_sweep_brings_all_that_is_missing() -> None:
    desk = Desk(LIMITS, size=4 * GIB)
    prices = desk.dispatch.costs.prices
    price_s = prices.first_byte_s(0) + prices.read_s(4 * GIB)
    paid_s = 0.0
    for looks, place in enumerate(range(4000 * MIB, 0, -100 * MIB), 1):
        stream, stop = desk.look(place)
        paid_s += prices.first_byte_s(place)
        assert stream.sweeps == (paid_s >= price_s and looks > 8)
        if stream.sweeps:
            assert (stream.start, stop) == (0, 4 * GIB)
            return
    raise AssertionError("it is never swept")


def test_12_who_reads_on_gets_twice_what_he_read() -> None:
    desk = Desk(SHORT, size=GIB)
    _, stop = desk.look(500 * MIB, MIB)
    stream, end = desk.look(stop, MIB)
    assert stream.start == stop == 503 * MIB
    assert stream.window == 6 * MIB
    assert end == stop + 7 * MIB


def test_12_and_eight_times_that_from_a_first_window_on() -> None:
    desk = Desk(SHORT, size=GIB)
    _, stop = desk.look(0, KIB)
    stream, end = desk.look(stop, MIB)
    assert stop == 9 * MIB
    assert stream.window == 72 * MIB
    assert end == stop + 73 * MIB


def test_13_a_second_jump_ahead_is_answered_by_a_stream_that_reaches_the_next() -> None:
    desk = Desk(LIMITS, size=10 * GIB, room=GIB)
    windows = []
    for start in (100 * MIB, 112 * MIB, 124 * MIB):
        stream, _ = desk.look(start)
        windows.append(stream.window)
    assert windows == [2 * MIB, 2 * MIB, REACH]
    assert desk.file.missing(136 * MIB, 137 * MIB) is None, "the next comes with it"


def test_13_unless_the_file_fits() -> None:
    desk = Desk(LIMITS, size=10 * GIB)
    assert [desk.look(n * MIB)[0].window for n in (100, 112, 124)] == [2 * MIB] * 3


def test_14_who_reads_backwards_is_awaited_further_back() -> None:
    desk = Desk(LIMITS, size=10 * GIB, room=GIB)
    starts = [desk.look(500 * MIB, MIB)[0].start]
    for _ in range(3):
        starts.append(desk.look(starts[-1] - MIB, MIB)[0].start)
    assert starts[:2] == [500 * MIB, 494 * MIB]
    assert starts[1] - starts[2] == 2 * 6 * MIB
    assert starts[2] - starts[3] == REACH, "and no further than that"


def test_14_unless_the_file_fits() -> None:
    desk = Desk(LIMITS, size=10 * GIB)
    desk.look(500 * MIB, MIB)
    assert desk.look(499 * MIB, MIB)[0].start == 499 * MIB


@pytest.mark.parametrize("first", [0, 4096, MIB - 1])
def test_15_who_begins_a_file_gets_a_first_window(first: int) -> None:
    stream, stop = Desk(SHORT, size=GIB).look(first)
    assert (stream.start, stop) == (0, 9 * MIB)


@pytest.mark.parametrize("before_end", [1, 4096, 4 * MIB])
def test_16_who_comes_near_the_end_gets_all_of_it(before_end: int) -> None:
    stream, stop = Desk(SHORT, size=GIB).look(GIB - before_end)
    assert (stream.start, stop) == (GIB - 4 * MIB, GIB)


@pytest.mark.parametrize("place", [MIB, 500 * MIB + 7, GIB - 8 * MIB])
def test_17_who_comes_anywhere_else_gets_a_glance(place: int) -> None:
    stream, stop = Desk(SHORT, size=GIB).look(place)
    assert stream.start == place - place % MIB
    assert 2 * MIB <= stop - place <= 3 * MIB + 1


# A stream runs.


def test_18_a_stream_reads_ahead_as_far_as_its_readers_have_read() -> None:
    desk = Desk(SHORT, size=GIB)
    stream = desk.wait(0, KIB).stream
    assert stream is not None
    assert desk.bring(stream, MIB)
    desk.wait(MIB, 39 * MIB)
    assert desk.bring(stream, 78 * MIB)
    assert not desk.bring(stream, MIB)
    assert desk.carriers[stream].position == 2 * 40 * MIB


def test_18_to_the_end_if_that_is_as_near_again_and_never_beyond_its_room() -> None:
    assert Desk(SHORT, size=17 * MIB).look(0, MIB)[1] == 17 * MIB
    assert Desk(SHORT, size=18 * MIB).look(0, MIB)[1] == 9 * MIB
    assert Desk(SHORT, size=17 * MIB, room=4 * MIB).look(0, MIB)[1] == 5 * MIB


def test_18_who_finds_his_bytes_in_the_cache_has_come_for_them() -> None:
    desk = Desk(SHORT, size=GIB)
    stream = desk.wait(0, KIB).stream
    assert stream is not None
    assert desk.bring(stream, 4 * MIB)
    for chunk in range(400):
        desk.file.read(chunk * MIB)
        assert desk.bring(stream, MIB)
    for chunk in range(400, 404):
        desk.file.read(chunk * MIB)
    assert desk.wait(404 * MIB, MIB).stream is stream
    assert stream.origin == 0


def test_18_but_not_if_it_was_read_before_it_came() -> None:
    desk = Desk(SHORT, size=GIB, room=10 * MIB)
    desk.file.arrived(0, 30 * MIB)
    for chunk in range(30):
        desk.file.read(chunk * MIB)
    desk.file.arrived(500 * MIB, 540 * MIB)
    assert desk.look(5 * MIB, MIB)[1] == 8 * MIB


def test_18_who_joins_far_ahead_has_not_read_what_lies_between() -> None:
    desk = Desk(LIMITS, size=GIB)
    stream = desk.wait(0, KIB).stream
    assert desk.wait(14 * MIB, KIB).stream is stream
    assert stream is not None
    assert stream.origin == 14 * MIB


def test_19_a_stream_whose_readers_only_looked_is_cut_when_another_place_is_wanted() -> None:
    desk = Desk(SHORT, size=GIB)
    waiter = desk.wait(0, KIB)
    head = desk.streams[0]
    assert desk.bring(head, MIB)
    desk.dispatch.leave(waiter)
    desk.wait(900 * MIB)
    assert desk.bring(head, MIB)
    assert not desk.bring(head, MIB), "a glance is over"


def test_19_unless_they_wanted_more_than_its_window() -> None:
    desk = Desk(SHORT, size=GIB)
    waiter = desk.wait(0, 9 * MIB)
    head = desk.streams[0]
    assert desk.bring(head, 9 * MIB)
    desk.dispatch.leave(waiter)
    desk.wait(900 * MIB)
    assert desk.bring(head, 8 * MIB)


def test_20_what_is_there_is_read_through_while_that_is_less_than_a_sixteenth() -> None:
    size = 320 * MIB
    desk = Desk(LIMITS, size=size)
    for start in range(0, size, 20 * MIB):
        desk.file.arrived(start + 10 * MIB, start + 16 * MIB)
    stream = desk.wait(0, size).stream
    assert stream is not None
    passed = 0
    while desk.bring(stream, MIB):
        passed = desk.dispatch._trail(desk.file.version).again
    assert passed == 18 * MIB, "three of sixteen pieces of 6 MiB, and a fourth would be too much"
    assert desk.carriers[stream].position == 70 * MIB


def test_21_a_stream_ends_that_would_run_into_another_one_and_that_goes_on_for_it() -> None:
    desk = Desk(LIMITS, size=GIB)
    first, second = desk.wait(0, GIB), desk.wait(100 * MIB, MIB)
    before, front = desk.streams
    assert desk.bring(front, MIB)
    assert desk.bring(before, 99 * MIB)
    assert not desk.bring(before, MIB)
    assert first.stream is second.stream is front, "that one brings it"
    assert not desk.dispatch.queue
    assert front.stop == GIB
    desk.dispatch.ended(before, None)
    assert desk.streams == [front]


def test_21_for_its_window_too() -> None:
    desk = Desk(SHORT, size=GIB)
    desk.dispatch.leave(desk.wait(0, 100 * MIB))
    before = desk.streams[0]
    assert desk.bring(before, 99 * MIB)
    desk.wait(100 * MIB + KIB)
    front = desk.streams[1]
    assert desk.bring(front, MIB)
    assert front.stop <= 103 * MIB
    assert not desk.bring(before, MIB)
    assert 200 * MIB <= front.stop <= 201 * MIB


def test_21_but_not_into_one_that_is_ending() -> None:
    desk = Desk(LIMITS, size=GIB)
    desk.wait(0, GIB)
    desk.wait(100 * MIB, MIB)
    before, front = desk.streams
    assert desk.bring(front, MIB)
    front.end()
    assert desk.bring(before, 100 * MIB)


def test_22_a_stream_that_comes_to_where_another_one_stands_goes_on_for_it() -> None:
    desk = Desk(LIMITS, size=GIB)
    first, second = desk.wait(0, 101 * MIB), desk.wait(100 * MIB, 100 * MIB)
    moves, stands = desk.streams
    assert desk.bring(moves, 100 * MIB)
    assert stands.ending, "and has not begun"
    assert first.stream is second.stream is moves
    assert moves.stop >= 200 * MIB
    desk.dispatch.ended(stands, None)
    assert desk.streams == [moves]
    assert desk.bring(moves, MIB)


@pytest.mark.parametrize("is_older", [True, False])
def test_22_whether_it_is_the_older_of_the_two_or_not(is_older: bool) -> None:
    desk = Desk(LIMITS, size=GIB)
    places = (0, 100 * MIB) if is_older else (100 * MIB, 0)
    waiters = {place: desk.wait(place, 200 * MIB) for place in places}
    comes, stands = waiters[0].stream, waiters[100 * MIB].stream
    assert comes is not None
    assert stands is not None
    assert desk.bring(comes, 99 * MIB)
    assert desk.bring(stands, MIB)
    assert desk.bring(comes, 2 * MIB), "the same place, and both have begun"
    assert stands.ending
    assert {waiter.stream for waiter in waiters.values()} == {comes}


def test_22_a_stream_ends_whose_bytes_another_one_has_brought() -> None:
    desk = Desk(LIMITS, size=GIB)
    desk.wait(0, GIB)
    waiter = desk.wait(100 * MIB, 2 * MIB)
    passes, stands = desk.streams
    assert desk.bring(passes, 101 * MIB)
    assert stands.ending
    assert waiter.stream is passes


def test_22_at_the_end_of_its_own_window_it_goes_on_for_the_other() -> None:
    desk = Desk(SHORT, size=GIB)
    desk.wait(0, KIB)
    waiter = desk.wait(9 * MIB - 1, 20 * MIB)
    ends, stands = desk.streams
    assert stands.start == 8 * MIB
    assert desk.bring(ends, 8 * MIB)
    assert stands.ending
    assert waiter.stream is ends
    assert desk.bring(ends, 2 * MIB)


def test_22_but_not_where_something_is_missing_between() -> None:
    desk = Desk(LIMITS, size=GIB)
    desk.wait(0, GIB)
    desk.wait(100 * MIB, 2 * MIB)
    back, front = desk.streams
    assert desk.bring(front, MIB)
    assert not back.ending


def test_23_a_stream_ends_with_its_window_or_when_nothing_is_missing_in_it() -> None:
    desk = Desk(SHORT, size=GIB)
    stream = desk.wait(0, KIB).stream
    assert stream is not None
    desk.file.arrived(MIB, 9 * MIB)
    assert not desk.bring(stream, MIB)


def test_24_a_stream_ends_that_broke_and_that_nobody_waits_for() -> None:
    desk = Desk(SHORT, size=GIB)
    waiter = desk.wait(0, KIB)
    stream = desk.streams[0]
    desk.bring(stream, MIB)
    desk.dispatch.leave(waiter)
    assert desk.dispatch.goes_on(stream, 0)
    desk.carriers[stream].resumed = 1
    assert not desk.dispatch.goes_on(stream, 0)


def test_24_a_stream_ends_five_seconds_after_the_file_was_closed() -> None:
    desk = Desk(SHORT, size=GIB)
    desk.dispatch.leave(desk.wait(0, KIB))
    stream = desk.streams[0]
    assert desk.bring(stream, KIB, seconds=9.0), "it is open"
    desk.file.shared = False
    assert not desk.bring(stream, KIB)


def test_25_the_stream_that_brings_the_last_of_a_content_compares_it() -> None:
    desk = Desk(SHORT, size=8 * MIB)
    stream = desk.wait(0, MIB).stream
    assert stream is not None
    assert desk.bring(stream, 7 * MIB)
    desk.file.unproved = True
    assert not desk.bring(stream, MIB)
    assert desk.dispatch.is_to_prove(stream)
