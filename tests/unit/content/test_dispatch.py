"""The state of the planner: who is joined to what, what a stream teaches, what is left behind."""

from __future__ import annotations

import pytest
from support.desk import Desk
from support.simulator import FAST, Reader, SimulatedFile, World, in_sequence
from support.sizes import KIB, MIB, PLENTY

from icatfs.content.plan import Limits
from icatfs.errors import Busy, ShuttingDown


def test_who_waits_for_bytes_that_come_soon_joins() -> None:
    desk = Desk()
    first = desk.dispatch.wait(desk.fetch(), 0, KIB)
    second = desk.dispatch.wait(desk.fetch(), 3 * MIB, 4 * MIB)
    assert len(desk.streams) == 1
    assert first.stream is second.stream is desk.streams[0]
    assert not desk.dispatch.queue


def test_who_waits_is_told_as_soon_as_his_bytes_are_there() -> None:
    desk = Desk()
    first = desk.dispatch.wait(desk.fetch(), 0, KIB)
    second = desk.dispatch.wait(desk.fetch(), 3 * MIB, 4 * MIB)
    assert desk.bring(desk.streams[0], MIB)
    assert first.served.is_set()
    assert not second.served.is_set()
    assert desk.bring(desk.streams[0], 3 * MIB)
    assert second.served.is_set()


def test_a_stream_that_began_for_one_look_is_cut_when_another_place_is_wanted() -> None:
    desk = Desk(size=1000 * MIB)
    desk.dispatch.wait(desk.fetch(), 0, KIB)
    head = desk.streams[0]
    assert desk.bring(head, MIB)
    desk.dispatch.wait(desk.fetch(), 900 * MIB, 900 * MIB + KIB)
    assert desk.bring(head, MIB)
    assert not desk.bring(head, MIB), "a glance is over"


def test_a_stream_whose_reader_came_back_is_not_cut() -> None:
    desk = Desk(size=1000 * MIB)
    desk.dispatch.wait(desk.fetch(), 0, KIB)
    head = desk.streams[0]
    assert desk.bring(head, MIB)
    desk.dispatch.wait(desk.fetch(), MIB, 10 * MIB)
    assert desk.bring(head, 9 * MIB)
    desk.dispatch.wait(desk.fetch(), 900 * MIB, 900 * MIB + KIB)
    assert desk.bring(head, 6 * MIB)


def test_a_stream_teaches_what_it_costs() -> None:
    desk = Desk(size=1000 * MIB)
    for _ in range(10):
        desk.dispatch.wait(desk.fetch(), 0, KIB)
        stream = desk.streams[0]
        desk.bring(stream, KIB, seconds=0.5)
        desk.bring(stream, 8 * MIB, seconds=0.25)
        desk.dispatch.ended(stream, None)
        desk.file.extents.clear()
    assert desk.dispatch.costs.prices.first_byte_s(0) == pytest.approx(0.5)
    assert desk.dispatch.costs.prices.rate == pytest.approx(32 * MIB)


def test_a_stream_that_had_to_be_resumed_teaches_nothing() -> None:
    desk = Desk()
    before = desk.dispatch.costs.prices
    desk.dispatch.wait(desk.fetch(), 0, KIB)
    desk.carriers[desk.streams[0]].resumed = 1
    desk.bring(desk.streams[0], 8 * MIB, seconds=60.0)
    desk.dispatch.ended(desk.streams[0], None)
    assert desk.dispatch.costs.prices == before


def test_an_error_is_told_to_those_who_waited_for_that_stream_only() -> None:
    desk = Desk(size=1000 * MIB)
    one = desk.dispatch.wait(desk.fetch(), 0, KIB)
    other = desk.dispatch.wait(desk.fetch(), 900 * MIB, 901 * MIB)
    desk.dispatch.ended(desk.streams[0], Busy("locked"))
    assert isinstance(one.error, Busy)
    assert one.served.is_set()
    assert other.error is None
    assert not other.served.is_set()


def test_who_waited_for_a_stream_that_ended_early_gets_another() -> None:
    desk = Desk()
    waiter = desk.dispatch.wait(desk.fetch(), 0, 3 * MIB)
    desk.bring(desk.streams[0], MIB)
    desk.dispatch.ended(desk.streams[0], None)
    assert waiter.stream is desk.streams[0]
    assert desk.carriers[desk.streams[0]].position == MIB


def test_who_reads_on_is_known_though_some_of_it_came_after_the_end_of_the_stream() -> None:
    desk = Desk(size=1000 * MIB)
    desk.dispatch.wait(desk.fetch(), 0, KIB)
    desk.bring(desk.streams[0], 8 * MIB)
    desk.dispatch.ended(desk.streams[0], None)
    desk.file.arrived(8 * MIB, 11 * MIB + 5)
    desk.dispatch.wait(desk.fetch(), 11 * MIB, 12 * MIB)
    assert desk.streams[0].start == 11 * MIB + 5
    assert desk.streams[0].window > 80 * MIB


def test_a_file_that_was_complete_and_was_given_back_owes_no_rent() -> None:
    desk = Desk(size=1000 * MIB)

    def look() -> bool:
        desk.dispatch.wait(desk.fetch(), 700 * MIB, 700 * MIB + KIB)
        stream = desk.streams[0]
        desk.bring(stream, 2 * MIB)
        desk.dispatch.ended(stream, None)
        desk.file.extents.clear()
        return stream.sweeps

    looks = [look() for _ in range(12)]
    assert looks == sorted(looks)
    assert looks[-1]
    desk.dispatch.wait(desk.fetch(), 0, KIB)
    desk.file.arrived(0, 1000 * MIB)
    desk.dispatch.ended(desk.streams[0], None)
    desk.file.extents.clear()
    assert not look()


def test_when_nobody_waits_and_no_stream_runs_nothing_is_left() -> None:
    desk = Desk()
    desk.file.pins = 1
    waiter = desk.dispatch.wait(desk.fetch(), 0, KIB)
    desk.dispatch.leave(waiter)
    assert desk.file.pins == 1, "the stream still writes"
    desk.dispatch.ended(desk.streams[0], None)
    assert desk.file.pins == 0
    assert not desk.dispatch.fetches


def test_after_the_end_nobody_waits_and_nothing_begins() -> None:
    desk = Desk()
    waiter = desk.dispatch.wait(desk.fetch(), 0, KIB)
    desk.dispatch.close(ShuttingDown("the end"))
    assert isinstance(waiter.error, ShuttingDown)
    desk.dispatch.ended(desk.streams[0], None)
    assert not desk.streams


def test_a_stream_reads_on_for_five_seconds_for_a_file_that_nobody_has_open() -> None:
    desk = Desk(size=1000 * MIB)
    waiter = desk.dispatch.wait(desk.fetch(), 0, KIB)
    desk.file.shared = False
    desk.bring(desk.streams[0], KIB)
    desk.dispatch.leave(waiter)
    assert desk.bring(desk.streams[0], KIB, seconds=4.9)
    assert not desk.bring(desk.streams[0], KIB, seconds=0.2)


def test_what_comes_twice_is_counted() -> None:
    size = 32 * MIB
    file = SimulatedFile(1, size, PLENTY)
    for start in range(0, size, 4 * MIB):
        file.arrived(start, start + MIB)
    world = World(FAST)
    world.run(Reader(file, in_sequence(size)))
    assert world.again == size // 16, "two of the eight, and no more"
    assert world.fetched == size * 3 // 4 + world.again


def test_of_a_suspect_content_one_stream_brings_all_for_everybody() -> None:
    desk = Desk(size=1000 * MIB)
    desk.fetch().suspicion.mismatches = 1
    first = desk.dispatch.wait(desk.fetch(), 30 * MIB, 31 * MIB)
    second = desk.dispatch.wait(desk.fetch(), 900 * MIB, 901 * MIB)
    assert [stream.start for stream in desk.streams] == [0]
    assert first.stream is second.stream is desk.streams[0]
    assert desk.bring(desk.streams[0], 100 * MIB)
    assert desk.bring(desk.streams[0], 899 * MIB)
    assert not desk.bring(desk.streams[0], MIB)


def test_who_wants_a_suspect_content_waits_for_the_end_of_a_stream_that_ends() -> None:
    desk = Desk(size=1000 * MIB)
    desk.fetch().suspicion.mismatches = 1
    desk.dispatch.wait(desk.fetch(), 0, MIB)
    ending = desk.streams[0]
    ending.end()
    waiter = desk.dispatch.wait(desk.fetch(), 30 * MIB, 31 * MIB)
    assert waiter in desk.dispatch.queue
    assert desk.streams == [ending]
    desk.dispatch.ended(ending, None)
    assert waiter.stream is desk.streams[0]
    assert desk.streams[0] is not ending


def test_a_content_that_is_found_suspect_loses_its_other_streams() -> None:
    desk = Desk(size=1000 * MIB)
    desk.dispatch.wait(desk.fetch(), 0, MIB)
    desk.dispatch.wait(desk.fetch(), 900 * MIB, 901 * MIB)
    one, other = desk.streams
    desk.fetch().suspicion.mismatches = 1
    desk.dispatch.ended(one, None)
    assert other.ending


def test_the_stream_that_sees_a_content_complete_proves_it_and_who_comes_waits_for_that() -> None:
    desk = Desk()
    desk.dispatch.wait(desk.fetch(), 0, MIB)
    stream = desk.streams[0]
    desk.file.unproved = True
    assert not desk.bring(stream, 2 * MIB)
    assert desk.dispatch.is_to_prove(stream)
    waiter = desk.dispatch.wait(desk.fetch(), 60 * MIB, 61 * MIB)
    assert waiter.stream is stream
    desk.file.unproved = False
    desk.dispatch.ended(stream, None)
    assert not desk.dispatch.is_to_prove(desk.streams[0])


def test_one_stream_is_ended_for_who_waits_his_turn_and_not_two() -> None:
    desk = Desk(size=1000 * MIB)
    for place in (0, 300 * MIB):
        desk.dispatch.wait(desk.fetch(), place, place + 50 * MIB)
    waiter = desk.dispatch.wait(desk.fetch(), 900 * MIB, 901 * MIB)
    assert waiter in desk.dispatch.queue
    assert not any(stream.ending for stream in desk.streams)
    for stream in list(desk.streams):
        desk.bring(stream, KIB)
    desk.now += 10.0
    desk.dispatch.arrange()
    desk.dispatch.arrange()
    assert [stream.ending for stream in desk.streams] == [True, False]
    desk.dispatch.ended(desk.streams[0], None)
    assert waiter.stream is desk.streams[-1]


def test_a_stream_that_broke_before_it_began_gives_way_after_its_turn() -> None:
    desk = Desk(Limits(streams=1), size=1000 * MIB)
    desk.dispatch.wait(desk.fetch(), 0, MIB)
    stream = desk.streams[0]
    desk.now += 20.0
    desk.dispatch.wait(desk.fetch(), 900 * MIB, 901 * MIB)
    assert not stream.ending, "it has not begun"
    desk.carriers[stream].resumed = 1
    assert not desk.dispatch.goes_on(stream, 0)
    assert stream.ending


def test_a_stream_that_breaks_is_not_resumed_for_nobody() -> None:
    desk = Desk(size=1000 * MIB)
    waiter = desk.dispatch.wait(desk.fetch(), 0, MIB)
    stream = desk.streams[0]
    desk.bring(stream, MIB)
    desk.dispatch.leave(waiter)
    desk.carriers[stream].resumed = 1
    other = desk.dispatch.wait(desk.fetch(), 2 * MIB, 3 * MIB)
    assert other.stream is stream
    assert desk.dispatch.goes_on(stream, 0)
    desk.dispatch.leave(other)
    assert not desk.dispatch.goes_on(stream, 0)


def test_nobody_is_joined_to_a_stream_that_has_said_that_it_ends() -> None:
    desk = Desk(size=1000 * MIB)
    desk.dispatch.wait(desk.fetch(), 0, KIB)
    stream = desk.streams[0]
    assert desk.bring(stream, MIB)
    desk.file.arrived(MIB, 9 * MIB)
    assert not desk.bring(stream, MIB)
    other = desk.dispatch.wait(desk.fetch(), 9 * MIB, 10 * MIB)
    assert other.stream is not stream
    assert not desk.bring(stream, MIB), "what was under way"


def test_who_waits_where_a_stream_broke_on_its_way_further_is_served() -> None:
    desk = Desk(Limits(least_reach=100 * MIB), size=1000 * MIB)
    desk.dispatch.wait(desk.fetch(), 0, KIB)
    desk.dispatch.wait(desk.fetch(), 20 * MIB, 21 * MIB)
    broken = desk.streams[0]
    desk.bring(broken, 5 * MIB)
    desk.dispatch.ended(broken, None)
    desk.dispatch.wait(desk.fetch(), 5 * MIB, 5 * MIB + KIB)
    assert all(desk.dispatch.goes_on(stream, 0) for stream in desk.streams)


def test_a_server_that_ignores_ranges_is_read_through_what_is_there() -> None:
    desk = Desk(size=1000 * MIB)
    desk.file.arrived(0, 500 * MIB)
    desk.dispatch.wait(desk.fetch(), 500 * MIB, 501 * MIB)
    stream = desk.streams[0]
    desk.carriers[stream].position = 0
    desk.carriers[stream].ignores_range = True
    assert desk.bring(stream, 100 * MIB)
    assert desk.bring(stream, 400 * MIB)
    assert not desk.bring(stream, 10 * MIB)
