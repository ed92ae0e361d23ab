"""The planner's state, whatever happens in whatever order: its promises hold at any time.

Everybody here is free to do what he likes: readers come and leave, streams bring, break and end,
bytes are given back, contents prove wrong. Nothing is compared but with what is promised.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from support.simulator import SimulatedCarrier, SimulatedFile
from support.sizes import MIB

from icatfs.content import plan
from icatfs.content.dispatch import Dispatch
from icatfs.content.flows import Fetch, Stream, StreamStatus, Waiter
from icatfs.content.plan import Limits
from icatfs.content.stream import Suspicion
from icatfs.errors import Busy, ShuttingDown

if TYPE_CHECKING:
    from icatfs.content.courses import Course

SIZE = 40 * MIB
IDLE_S = 5.0


class Checked(SimulatedFile):
    """A file whose last byte is not shown before the whole was compared."""

    def missing(self, start: int, stop: int, /) -> tuple[int, int] | None:
        gap = super().missing(start, stop)
        if gap is None and self.unproved and start < SIZE <= stop:
            return SIZE - 1, SIZE
        return gap


class Facility(RuleBasedStateMachine):
    """A dispatch, its readers and its streams."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.limits = Limits(window=4 * MIB, glance=MIB, looks=2)
        self.dispatch = Dispatch(self.limits, self._open, lambda: self.now, idle_s=IDLE_S)
        self.files: list[Checked] = []
        self.proved: set[Checked] = set()
        self.suspicions: dict[Checked, Suspicion] = {}
        self.readers: list[Waiter] = []
        self.carriers: dict[Stream, SimulatedCarrier] = {}
        self.opened = 0
        self.received = 0
        self.is_closed = False

    @initialize(
        streams=st.integers(1, 3),
        rooms=st.lists(st.sampled_from([8 * MIB, SIZE]), min_size=2, max_size=2),
    )
    def begin(self, streams: int, rooms: list[int]) -> None:
        self.limits = Limits(streams=streams, window=4 * MIB, glance=MIB, looks=2)
        self.dispatch = Dispatch(self.limits, self._open, lambda: self.now, idle_s=IDLE_S)
        self.files = [Checked(number, SIZE, room) for number, room in enumerate(rooms)]
        self.suspicions = {file: Suspicion() for file in self.files}

    def _open(self, fetch: Fetch, course: Course) -> Stream:
        file = fetch.file
        assert file.missing(course.start, course.start + 1), "a stream begins at a missing byte"
        assert fetch in self.dispatch.fetches.values()
        carrier = SimulatedCarrier(course.start)
        stream = Stream(fetch, carrier, course, self.now)
        self.carriers[stream] = carrier
        self.opened += 1
        return stream

    def _fetch(self, file: Checked) -> Fetch:
        if file.version not in self.dispatch.fetches:
            file.pins += 1
            self.dispatch.fetches[file.version] = Fetch(file, self.suspicions[file])
        return self.dispatch.fetches[file.version]

    # Readers.

    @rule(
        number=st.integers(0, 1), place=st.integers(0, 39), count=st.sampled_from([1, MIB, 9 * MIB])
    )
    def somebody_reads(self, number: int, place: int, count: int) -> None:
        file = self.files[number]
        start = place * MIB
        stop = min(SIZE, start + count)
        if file.missing(start, stop) is None:
            return
        waiter = self.dispatch.wait(self._fetch(file), start, stop)
        self.readers.append(waiter)
        if self.is_closed:
            self.readers.remove(waiter)
            self.dispatch.leave(waiter)
            return
        stream = waiter.stream
        if stream is not None and not stream.fetch.is_whole and stream.fetch.prover is None:
            gap = waiter.gap()
            assert gap is not None
            assert stream.carrier.position <= gap, "it has passed"
            assert not stream.ending

    @precondition(lambda self: self.readers)
    @rule(data=st.data())
    def somebody_wants_it_no_more(self, data: st.DataObject) -> None:
        self._leave(data.draw(st.sampled_from(self.readers)))

    def _leave(self, waiter: Waiter) -> None:
        self.readers.remove(waiter)
        self.dispatch.leave(waiter)
        assert waiter not in waiter.fetch.waiters
        assert waiter not in self.dispatch.queue
        assert not any(waiter in stream.waiters for stream in self.dispatch.streams)

    @rule(number=st.integers(0, 1), is_open=st.booleans())
    def a_file_is_opened_or_closed(self, number: int, is_open: bool) -> None:
        self.files[number].shared = is_open

    # Streams.

    @precondition(lambda self: self.dispatch.streams)
    @rule(data=st.data(), count=st.sampled_from([1000, MIB, 5 * MIB]), seconds=st.floats(0, 0.2))
    def a_stream_brings(self, data: st.DataObject, count: int, seconds: float) -> None:
        stream = data.draw(st.sampled_from(self.dispatch.streams))
        carrier, file = self.carriers[stream], stream.fetch.file
        assert isinstance(file, Checked)
        stop = min(SIZE, carrier.position + count)
        if stream.ending or stream.fetch.prover is stream or stop == carrier.position:
            return
        self.now += seconds
        count = stop - carrier.position
        file.arrived(carrier.position, stop)
        carrier.position = stop
        file.unproved = file.extents.total == SIZE and file not in self.proved
        self.received += count
        self._asks(stream, count)
        self._all_who_are_served_leave()

    def _asks(self, stream: Stream, count: int) -> None:
        """Whether it goes on: else it ends, or compares if that is what it is to do."""
        fetch = stream.fetch
        goes_on = self.dispatch.goes_on(stream, count)
        if fetch.prover is stream:
            assert not goes_on
            return
        if not goes_on:
            self._ends(stream, None)
            return
        assert not stream.ending
        position = stream.carrier.position
        if not fetch.is_whole:
            missing = fetch.file.missing(position, SIZE)
            assert missing is not None, "there is nothing to go on for"
            others = [one for one in fetch.streams if one is not stream and not one.ending]
            places = [one.carrier.position for one in others]
            assert not any(position < place <= missing[0] for place in places), "two for one byte"

    @precondition(lambda self: self.dispatch.streams)
    @rule(data=st.data())
    def a_stream_breaks_and_asks_whether_to_try_again(self, data: st.DataObject) -> None:
        stream = data.draw(st.sampled_from(self.dispatch.streams))
        if stream.ending or stream.fetch.prover is stream:
            return
        self.carriers[stream].resumed += 1
        self._asks(stream, 0)
        if stream in self.dispatch.streams and stream.fetch.prover is not stream:
            assert stream.waiters, "it is tried again for nobody"

    @precondition(lambda self: self.dispatch.streams)
    @rule(data=st.data(), is_error=st.booleans())
    def a_stream_is_over(self, data: st.DataObject, is_error: bool) -> None:
        stream = data.draw(st.sampled_from(self.dispatch.streams))
        if stream.fetch.prover is not stream:
            self._ends(stream, Busy("locked") if is_error else None)

    @rule()
    def those_end_that_were_told_to(self) -> None:
        for stream in list(self.dispatch.streams):
            if stream.ending and stream.fetch.prover is not stream:
                self._ends(stream, None)

    @rule(is_right=st.booleans())
    def contents_are_compared(self, is_right: bool) -> None:
        for stream in [one for one in self.dispatch.streams if one.fetch.prover is one]:
            file = stream.fetch.file
            assert isinstance(file, Checked)
            file.unproved = False
            if is_right:
                self.proved.add(file)
            else:
                file.extents.clear()
                stream.fetch.suspicion.mismatches += 1
            self._ends(stream, None)

    def _ends(self, stream: Stream, error: Busy | None) -> None:
        waiting = list(stream.waiters)
        self.dispatch.ended(stream, error)
        assert stream not in self.dispatch.streams
        assert stream not in stream.fetch.streams
        assert stream.fetch.prover is not stream
        for waiter in waiting:
            if error is not None and not self.is_closed:
                assert waiter.served.is_set()
                assert waiter.error is error or waiter.gap() is None
            assert waiter.stream is not stream
        self._all_who_are_served_leave()

    def _all_who_are_served_leave(self) -> None:
        for waiter in [one for one in self.readers if one.served.is_set()]:
            if waiter.error is None:
                assert waiter.gap() is None, "he was told that it is here"
            self._leave(waiter)

    # Whatever else may happen.

    @rule(seconds=st.sampled_from([0.05, 0.1, 1.0, 6.0, 10.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.dispatch.arrange()

    @rule(number=st.integers(0, 1), chunk=st.integers(0, 39))
    def bytes_are_given_back(self, number: int, chunk: int) -> None:
        file = self.files[number]
        if not file.unproved:
            removed = file.extents.remove(chunk * MIB, (chunk + 1) * MIB)
            file.given_back += removed
            if removed:
                self.proved.discard(file)

    @rule(number=st.integers(0, 1), mismatches=st.integers(0, 1))
    def a_content_is_suspected_or_not(self, number: int, mismatches: int) -> None:
        self.suspicions[self.files[number]].mismatches = mismatches

    @precondition(lambda self: not self.is_closed and len(self.readers) > 3)
    @rule()
    def the_mount_is_taken_down(self) -> None:
        self.is_closed = True
        self.dispatch.close(ShuttingDown("the end"))
        for waiter in list(self.readers):
            assert waiter.served.is_set()
            assert isinstance(waiter.error, ShuttingDown)
            self._leave(waiter)

    # What is promised.

    @invariant()
    def there_are_never_more_streams_than_places(self) -> None:
        assert len(self.dispatch.streams) <= self.limits.streams

    @invariant()
    def a_waiter_is_in_the_queue_or_a_stream_is_to_serve_him(self) -> None:
        queue = self.dispatch.queue
        assert set(queue) <= set(self.readers)
        for waiter in self.readers:
            stream = waiter.stream
            assert (waiter in queue) is (stream is None)
            assert waiter in waiter.fetch.waiters
            if stream is not None:
                assert waiter in stream.waiters
                assert stream in self.dispatch.streams
                assert stream.fetch is waiter.fetch
                assert stream.furthest >= waiter.stop

    @invariant()
    def nobody_is_in_the_queue_while_a_place_is_free_but_for_what_is_promised(self) -> None:
        if self.is_closed or len(self.dispatch.streams) == self.limits.streams:
            return
        for waiter in self.dispatch.queue:
            assert self._waits_for_the_end_of_one(waiter.fetch) or self._is_promised(waiter)

    def _waits_for_the_end_of_one(self, fetch: Fetch) -> bool:
        return fetch.is_whole and any(stream.ending for stream in fetch.streams)

    def _is_promised(self, waiter: Waiter) -> bool:
        gap, prices = waiter.gap(), self.dispatch.costs.prices
        assert gap is not None
        gaps = [one.gap() for one in waiter.fetch.waiters]
        promised = [
            plan.Stream(waiter.fetch.file.version, one, True, 0.0)
            for one in gaps
            if one is not None
        ]
        promised += [stream.seen() for stream in waiter.fetch.streams]
        others = [one for one in promised if one.position != gap]
        return (
            any(plan.reaches(one, gap, prices, self.limits) for one in others)
            or len(promised) > len(others) + 1
        )

    @invariant()
    def a_fetch_exists_as_long_as_it_has_waiters_or_streams(self) -> None:
        fetches = self.dispatch.fetches
        assert all(fetch.waiters or fetch.streams for fetch in fetches.values())
        assert {reader.fetch for reader in self.readers} <= set(fetches.values())
        of_fetches = [stream for fetch in fetches.values() for stream in fetch.streams]
        assert sorted(map(id, of_fetches)) == sorted(map(id, self.dispatch.streams))
        assert [file.pins for file in self.files] == [
            int(file.version in fetches) for file in self.files
        ]

    @invariant()
    def a_content_that_is_compared_is_compared_by_one_of_its_streams(self) -> None:
        for fetch in self.dispatch.fetches.values():
            assert fetch.prover is None or fetch.prover in fetch.streams

    @invariant()
    def the_status_says_how_it_is(self) -> None:
        status = self.dispatch.status()
        assert status.streams == tuple(
            StreamStatus(
                stream.fetch.file.version.datafile,
                self.carriers[stream].position,
                sum(reader.stream is stream for reader in self.readers),
                stream.sweeps,
            )
            for stream in self.dispatch.streams
        )
        assert status.waiting == len(self.readers)
        assert status.opened == self.opened
        assert status.bytes_received == self.received
        running = sum(self.carriers[stream].resumed for stream in self.dispatch.streams)
        assert status.resumed == sum(one.resumed for one in self.carriers.values()) - running
        assert status.mismatches == 0
        assert status.prices == self.dispatch.costs.prices


Facility.TestCase.settings = settings(max_examples=100, stateful_step_count=40)
TestFacility = Facility.TestCase
