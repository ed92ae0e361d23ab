"""One stream by itself: each request it makes, when, from where, and what it makes of each answer.

All time is virtual. What several streams and readers make of it is in `test_transfer`.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
import trio
from support.bodies import FakeSource, Fault
from support.contents import content_of, version_of, whole
from support.sizes import MIB, PLENTY

from icatfs.content.store import ContentStore, open_store
from icatfs.content.stream import Carrier, Suspicion
from icatfs.errors import (
    Busy,
    Damaged,
    DataArchived,
    FacilityTimeout,
    FacilityUnreachable,
    NotAFacility,
    ProtocolError,
)

if TYPE_CHECKING:
    from pathlib import Path

    from trio.testing import MockClock

    from icatfs.content.store import CacheFile
    from icatfs.values import ContentVersion

STALL_S = 20.0
SIZE = 300_000
GONE = FacilityUnreachable("no connection")


class Timed(FakeSource):
    """Notes when each request was made."""

    def __init__(self, *args: object, **rest: object) -> None:
        super().__init__(*args, **rest)  # type: ignore[arg-type]
        self.times: list[float] = []

    async def __call__(self, version: ContentVersion, offset: int):  # type: ignore[no-untyped-def]  # noqa: ANN204
        self.times.append(trio.current_time())
        return await super().__call__(version, offset)

    def pauses(self) -> list[float]:
        return [round(after - before, 3) for before, after in itertools.pairwise(self.times)]


class Run:
    """A stream, and what it asked whoever lets it go on."""

    def __init__(
        self,
        source: FakeSource,
        file: CacheFile,
        start: int = 0,
        *,
        suspicion: Suspicion | None = None,
        resume_attempts: int = 5,
    ) -> None:
        self.asked: list[int] = []
        self.suspicion = suspicion or Suspicion()
        self.carrier = Carrier(
            source,
            file,
            start,
            self.suspicion,
            set(),
            stall_s=STALL_S,
            resume_attempts=resume_attempts,
        )

    async def carry(self, stop: int = PLENTY) -> None:
        def goes_on(count: int) -> bool:
            self.asked.append(count)
            return self.carrier.position < stop

        await self.carrier.carry(goes_on)


# Going on, and stopping.


async def test_a_stream_asks_before_each_request_and_after_each_piece_whether_to_go_on(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    data = content_of(SIZE)
    source = FakeSource(data, [Fault(break_at=100_000)], piece=60_000)
    run = Run(source, store.open(version_of(data)))
    await run.carry()
    assert run.asked == [0, 60_000, 40_000, 0, 60_000, 60_000, 60_000, 20_000]


async def test_a_stream_that_may_not_go_on_makes_no_request(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    data = content_of(SIZE)
    source = FakeSource(data)
    await Run(source, store.open(version_of(data))).carry(0)
    assert source.requests == []


async def test_a_stream_stops_with_the_piece_after_which_it_may_not_go_on(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    data = content_of(SIZE)
    source = FakeSource(data, piece=50_000)
    file = store.open(version_of(data))
    run = Run(source, file)
    await run.carry(100_000)
    assert source.sent == run.carrier.position == 100_000
    assert source.open_now == 0, "closed, and not left unread"
    assert file.missing(0, SIZE) == (100_000, SIZE)
    assert file.pread(0, 100_000) == data[:100_000]


async def test_a_stream_that_may_not_go_on_after_a_fault_is_not_resumed(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    data = content_of(SIZE)
    source = FakeSource(data, [Fault(break_at=100_000)])
    run = Run(source, store.open(version_of(data)))
    await run.carry(100_000)
    assert source.offsets == [0]


async def test_a_stream_begins_where_it_was_told_to(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    data = content_of(SIZE)
    source = FakeSource(data)
    file = store.open(version_of(data))
    await Run(source, file, 123_456).carry()
    assert source.offsets == [123_456]
    assert source.sent == SIZE - 123_456
    assert file.missing(0, SIZE) == (0, 123_456)
    assert file.pread(123_456, SIZE) == data[123_456:]


async def test_a_stream_that_has_all_bytes_asks_for_no_more(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    """A length was announced: nothing can be behind it, and nobody waits for that."""
    data = content_of(SIZE)
    source = FakeSource(data, always=Fault(stall_at=SIZE))
    file = store.open(version_of(data))
    begun = trio.current_time()
    await Run(source, file).carry(SIZE)
    assert trio.current_time() == begun
    assert whole(file, SIZE) == data


async def test_where_no_length_was_announced_the_end_is_waited_for(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    data = content_of(SIZE)
    source = FakeSource(data, [Fault(stall_at=SIZE)], declares=False)
    file = store.open(version_of(data))
    await Run(source, file).carry()
    assert len(source.requests) == 2
    assert source.offsets[1] < SIZE, "its last piece was not taken yet"
    assert whole(file, SIZE) == data


@pytest.mark.parametrize("piece", [1000, 65_536, SIZE])
@pytest.mark.parametrize("cancelled_at_s", [0.05, 0.15, 0.35])
async def test_a_stream_that_is_cancelled_keeps_what_came_and_closes_its_body(
    autojump_clock: MockClock, store: ContentStore, piece: int, cancelled_at_s: float
) -> None:
    data = content_of(SIZE)
    source = FakeSource(data, latency_s=0.1, pace_s=0.1, piece=piece)
    file = store.open(version_of(data))
    run = Run(source, file)
    with trio.move_on_after(cancelled_at_s):
        await run.carry()
    assert source.open_now == 0
    assert run.carrier.position == source.sent
    if source.sent < SIZE:
        assert file.missing(0, SIZE) == (source.sent, SIZE)
    assert file.pread(0, source.sent) == data[: source.sent] or file.unproved


# Resuming.


@pytest.mark.parametrize("break_at", [0, 1, 65_535, 65_536, SIZE - 1])
async def test_what_broke_is_asked_for_from_the_very_byte(
    autojump_clock: MockClock, store: ContentStore, break_at: int
) -> None:
    data = content_of(SIZE)
    source = FakeSource(data, [Fault(break_at=break_at)])
    file = store.open(version_of(data))
    run = Run(source, file)
    await run.carry()
    assert source.offsets == [0, break_at]
    assert source.sent == SIZE
    assert run.carrier.resumed == 1
    assert whole(file, SIZE) == data


async def test_what_brought_bytes_is_resumed_at_once_and_what_did_not_after_ever_longer_pauses(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    data = content_of(SIZE)
    source = Timed(data, [Fault(break_at=100_000)], always=Fault(refuse=GONE))
    run = Run(source, store.open(version_of(data)), resume_attempts=8)
    with pytest.raises(FacilityUnreachable, match="no connection"):
        await run.carry()
    assert source.pauses() == [0.0, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0, 5.0]
    assert run.carrier.resumed == 8


async def test_progress_makes_the_pauses_short_again(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    data = content_of(SIZE)
    gone = Fault(refuse=GONE)
    source = Timed(data, [Fault(break_at=10), gone, gone, Fault(break_at=11), gone, gone])
    file = store.open(version_of(data))
    await Run(source, file, resume_attempts=3).carry()
    assert source.pauses() == [0.0, 0.5, 1.0, 0.0, 0.5, 1.0]
    assert whole(file, SIZE) == data


@pytest.mark.parametrize("attempts", [1, 2, 5])
async def test_a_stream_is_resumed_so_many_times_without_a_byte_of_progress(
    autojump_clock: MockClock, store: ContentStore, attempts: int
) -> None:
    data = content_of(SIZE)
    source = FakeSource(data, always=Fault(break_at=100_000))
    with pytest.raises(FacilityUnreachable, match="the connection broke"):
        await Run(source, store.open(version_of(data)), resume_attempts=attempts).carry()
    assert source.offsets == [0] + [100_000] * attempts


async def test_to_come_as_far_as_before_is_no_progress(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    """A server that begins at 0 each time, and breaks at the same place."""
    data = content_of(SIZE)
    source = FakeSource(data, always=Fault(break_at=100_000, ignore_range=True))
    with pytest.raises(FacilityUnreachable):
        await Run(source, store.open(version_of(data)), resume_attempts=3).carry()
    assert source.offsets == [0, 100_000, 0, 0]


async def test_one_byte_further_than_before_is_progress(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    data = content_of(SIZE)
    faults = [Fault(break_at=100_000 + more, ignore_range=True) for more in range(10)]
    source = Timed(data, faults)
    file = store.open(version_of(data))
    await Run(source, file, resume_attempts=1).carry()
    assert set(source.pauses()) == {0.0}
    assert whole(file, SIZE) == data


@pytest.mark.parametrize("error", [GONE, FacilityTimeout("no answer")])
async def test_who_was_never_answered_is_told_so_at_once(
    autojump_clock: MockClock, store: ContentStore, error: FacilityUnreachable | FacilityTimeout
) -> None:
    """The transport has tried as often as there is any use; here it would be tried 36 times."""
    data = content_of(SIZE)
    source = FakeSource(data, always=Fault(refuse=error))
    with pytest.raises(type(error), match=str(error)):
        await Run(source, store.open(version_of(data))).carry()
    assert len(source.requests) == 1


@pytest.mark.parametrize("error", [DataArchived("on tape"), Busy("locked"), NotAFacility("a page")])
async def test_a_refusal_is_not_asked_for_again_wherever_it_comes(
    autojump_clock: MockClock, store: ContentStore, error: DataArchived | Busy | NotAFacility
) -> None:
    data = content_of(SIZE)
    source = FakeSource(data, [Fault(break_at=100_000)], always=Fault(refuse=error))
    file = store.open(version_of(data))
    with pytest.raises(type(error), match=str(error)):
        await Run(source, file).carry()
    assert source.offsets == [0, 100_000]
    assert file.pread(0, 100_000) == data[:100_000]


# Servers that know no ranges.


async def test_a_200_to_a_range_is_taken_from_the_beginning_and_what_is_there_stays(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    data = content_of(SIZE)
    source = FakeSource(data, always=Fault(ignore_range=True))
    file = store.open(version_of(data))
    run = Run(source, file, 200_000)
    await run.carry()
    assert run.carrier.ignores_range
    assert source.sent == SIZE
    assert whole(file, SIZE) == data


async def test_a_server_that_ignored_a_range_is_asked_for_none_again(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    data = content_of(SIZE)
    source = FakeSource(data, [Fault(ignore_range=True, break_at=50_000)])
    file = store.open(version_of(data))
    await Run(source, file, 200_000).carry()
    assert source.offsets == [200_000, 0]
    assert whole(file, SIZE) == data


async def test_a_200_to_a_request_for_all_is_nothing_strange(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    data = content_of(SIZE)
    run = Run(FakeSource(data), store.open(version_of(data)))
    await run.carry()
    assert not run.carrier.ignores_range


async def test_nonsense_in_answer_to_a_range_is_asked_for_once_more_as_a_whole(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    data = content_of(SIZE)
    nonsense = Fault(refuse=ProtocolError("HTTP 200 when asked from byte 200000 on"))
    source = FakeSource(data, [nonsense, nonsense])
    run = Run(source, store.open(version_of(data)), 200_000)
    with pytest.raises(ProtocolError):
        await run.carry()
    assert source.offsets == [200_000, 0]
    assert run.carrier.ignores_range


# Lengths.


@pytest.mark.parametrize("start", [0, 100_000])
@pytest.mark.parametrize("off", [-1, 1])
async def test_a_length_that_is_not_that_of_the_rest_is_a_contradiction(
    autojump_clock: MockClock, store: ContentStore, start: int, off: int
) -> None:
    data = content_of(SIZE)
    source = FakeSource(data, always=Fault(announce=SIZE - start + off))
    run = Run(source, store.open(version_of(data)), start)
    await run.carry()
    assert run.carrier.mismatches == run.suspicion.mismatches == 1
    with pytest.raises(Damaged, match=f"{SIZE - start + off} bytes are announced from byte"):
        await run.carry()
    assert source.sent == 0
    assert source.open_now == 0


async def test_the_length_of_a_whole_answer_to_a_range_is_that_of_the_whole(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    data = content_of(SIZE)
    source = FakeSource(data, always=Fault(ignore_range=True, announce=SIZE - 100_000))
    run = Run(source, store.open(version_of(data)), 100_000)
    await run.carry()
    assert run.carrier.mismatches == 1


async def test_a_piece_that_goes_beyond_the_end_is_not_kept(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    data = content_of(SIZE)
    source = FakeSource(data, always=Fault(surplus=1), piece=200_000)
    file = store.open(version_of(data, checksum=None))
    run = Run(source, file)
    await run.carry()
    assert run.carrier.mismatches == 1
    assert file.missing(0, SIZE) == (0, SIZE), "nor what came before it"


async def test_one_byte_behind_the_end_is_noticed_where_no_length_was_announced(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    data = content_of(SIZE)
    source = FakeSource(data, always=Fault(surplus=1), piece=100_000, declares=False)
    file = store.open(version_of(data, checksum=None))
    run = Run(source, file)
    await run.carry()
    assert run.carrier.mismatches == 1
    assert file.missing(0, SIZE) == (0, SIZE)


@pytest.mark.parametrize("checksum", ["", None])
async def test_of_a_file_of_unknown_size_the_end_of_the_body_is_the_end(
    autojump_clock: MockClock, store: ContentStore, checksum: str | None
) -> None:
    data = content_of(SIZE)
    source = FakeSource(data, declares=False)
    file = store.open(version_of(data, size=None, checksum=checksum))
    run = Run(source, file)
    await run.carry()
    if checksum is not None:
        assert file.unproved
        assert file.size is None, "not before it was compared"
        run.carrier.prove()
    assert file.size == SIZE
    assert file.complete
    assert whole(file, SIZE) == data
    assert len(source.requests) == 1


# Files that are too short, and silence.


@pytest.mark.parametrize("end_at", [0, 1, 100_000, SIZE - 1])
async def test_a_body_that_ends_early_three_times_at_one_byte_is_a_file_that_is_too_short(
    autojump_clock: MockClock, store: ContentStore, caplog: pytest.LogCaptureFixture, end_at: int
) -> None:
    data = content_of(SIZE)
    source = FakeSource(data, always=Fault(end_at=end_at))
    run = Run(source, store.open(version_of(data)))
    sentence = f"the facility has {end_at} of {SIZE} bytes of datafile 5; tell the facility"
    with pytest.raises(Damaged) as told:
        await run.carry()
    assert str(told.value) == sentence
    assert len(source.requests) == (2 if end_at == 0 else 3)
    now = trio.current_time()
    run.suspicion.check(now, end_at)  # what is there can be read
    with pytest.raises(Damaged):
        run.suspicion.check(now, end_at + 1)
    run.suspicion.check(now + 60, SIZE)
    caplog.clear()


async def test_ends_at_other_bytes_each_time_are_no_file_that_is_too_short(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    data = content_of(SIZE)
    source = FakeSource(data, [Fault(end_at=at) for at in range(1000, SIZE, 20_000)])
    file = store.open(version_of(data))
    await Run(source, file).carry()
    assert whole(file, SIZE) == data


async def test_a_connection_that_breaks_is_no_file_that_is_too_short(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    data = content_of(SIZE)
    source = FakeSource(data, always=Fault(break_at=100_000))
    run = Run(source, store.open(version_of(data)))
    with pytest.raises(FacilityUnreachable):
        await run.carry()
    run.suspicion.check(trio.current_time(), SIZE)


async def test_a_body_is_silent_for_as_long_as_is_allowed_and_no_longer(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    data = content_of(SIZE)
    source = FakeSource(data, pace_s=STALL_S - 0.1)
    file = store.open(version_of(data))
    await Run(source, file).carry()
    assert len(source.requests) == 1
    other = store.open(version_of(data, 6))
    source.pace_s = STALL_S + 0.1
    with pytest.raises(Damaged, match=f"the facility has 0 of {SIZE} bytes of datafile 6"):
        await Run(source, other).carry()


async def test_silence_at_one_byte_adds_up_over_requests(
    autojump_clock: MockClock, store: ContentStore, caplog: pytest.LogCaptureFixture
) -> None:
    data = content_of(SIZE)
    source = Timed(data, always=Fault(stall_at=100_000))
    run = Run(source, store.open(version_of(data)))
    with pytest.raises(Damaged, match=f"the facility has 100000 of {SIZE} bytes"):
        await run.carry()
    assert source.offsets == [0, 100_000, 100_000]
    assert source.pauses() == [STALL_S, STALL_S + 0.5]
    assert run.suspicion.silent_s == 0.0, "the next suspicion begins anew"
    caplog.clear()


async def test_silence_at_one_byte_adds_up_over_streams_that_were_ended_in_it(
    autojump_clock: MockClock, store: ContentStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Each of them has its turn, and goes before its patience ends."""
    data = content_of(SIZE)
    source = FakeSource(data, always=Fault(stall_at=100_000))
    file = store.open(version_of(data))
    suspicion = Suspicion()
    for turn in range(1, 6):
        suspicion.check(trio.current_time(), SIZE)
        with trio.move_on_after(0.5 * STALL_S):
            await Run(source, file, 0 if turn == 1 else 100_000, suspicion=suspicion).carry()
    with pytest.raises(Damaged, match=f"100000 of {SIZE}"):
        suspicion.check(trio.current_time(), SIZE)
    assert len([one for one in caplog.records if one.levelname == "WARNING"]) == 1
    caplog.clear()


async def test_silences_at_two_bytes_do_not_add_up(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    data = content_of(SIZE)
    faults = [Fault(stall_at=at) for at in (1000, 1000, 2000, 2000, 3000, 3000)]
    source = FakeSource(data, faults)
    file = store.open(version_of(data))
    run = Run(source, file)
    await run.carry()
    assert len(source.requests) == 7
    assert whole(file, SIZE) == data


async def test_while_bytes_are_known_to_be_lacking_nobody_waits_for_them_again(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    """Another stream of the file found it out."""
    data = content_of(SIZE)
    source = FakeSource(data, pace_s=1.0, piece=50_000)
    file = store.open(version_of(data))
    suspicion = Suspicion()
    run = Run(source, file, suspicion=suspicion)
    suspicion.damaged("the rest is missing", 100_000)
    with pytest.raises(Damaged, match="the rest is missing"):
        await run.carry()
    assert source.sent == 100_000, "what is there came"
    assert source.open_now == 0


# The comparison with the catalogue.


async def test_a_right_content_clears_the_suspicion_against_it(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    data = content_of(SIZE)
    source = FakeSource(data, [Fault(corrupt_at=7)])
    file = store.open(version_of(data))
    first = Run(source, file)
    await first.carry()
    first.carrier.prove()
    assert first.suspicion.mismatches == 1
    assert file.missing(0, SIZE) == (0, SIZE)
    second = Run(source, file, suspicion=first.suspicion)
    await second.carry()
    second.carrier.prove()
    assert second.suspicion.mismatches == 0
    assert second.carrier.mismatches == 0
    assert whole(file, SIZE) == data


async def test_a_content_that_is_wrong_twice_is_damaged_for_a_minute_from_its_first_byte_on(
    autojump_clock: MockClock, store: ContentStore, caplog: pytest.LogCaptureFixture
) -> None:
    data = content_of(SIZE)
    source = FakeSource(data, always=Fault(corrupt_at=SIZE - 1))
    file = store.open(version_of(data))
    run = Run(source, file)
    await run.carry()
    run.carrier.prove()
    again = Run(source, file, suspicion=run.suspicion)
    await again.carry()
    with pytest.raises(Damaged) as told:
        again.carrier.prove()
    words = str(told.value)
    assert words.startswith("the bytes of datafile 5 are not those of the catalogue: their CRC-32")
    assert f"the catalogue says {file.version.checksum}" in words
    assert words.endswith("tell the facility")
    now = trio.current_time()
    for later_s in (0.0, 59.9):
        with pytest.raises(Damaged):
            run.suspicion.check(now + later_s, 1)
    run.suspicion.check(now + 60, SIZE)
    assert file.missing(0, SIZE) == (0, SIZE)
    caplog.clear()


@pytest.mark.parametrize(("beyond", "asked"), [(0, 2), (1, 1)])
async def test_what_is_many_times_larger_than_its_room_is_not_fetched_twice(
    autojump_clock: MockClock,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    beyond: int,
    asked: int,
) -> None:
    async with open_store(tmp_path / "small", max_bytes=4 * MIB) as small:
        room = small.open(version_of(b"x")).room
        size = 4 * room + beyond
        data = content_of(size)
        source = FakeSource(data, always=Fault(announce=5))
        file = small.open(version_of(data))
        run = Run(source, file)
        for _ in range(asked - 1):
            await run.carry()
        with pytest.raises(Damaged):
            await run.carry()
        assert len(source.requests) == asked
    caplog.clear()


# How long a first byte takes.


async def test_the_time_to_the_first_byte_is_that_of_the_latest_request(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    data = content_of(SIZE)
    source = FakeSource(data, [Fault(break_at=100_000)], pace_s=0.25)
    run = Run(source, store.open(version_of(data)))
    seen = [run.carrier.first_byte_s]
    for stop, latency_s in ((100_000, 2.0), (PLENTY, 3.0)):
        source.latency_s = latency_s
        await run.carry(stop)
        seen.append(run.carrier.first_byte_s)
    assert seen == [None, 2.25, 3.25]


async def test_a_request_that_waited_in_the_queue_is_timed_from_when_it_was_sent(
    autojump_clock: MockClock, store: ContentStore
) -> None:
    data = content_of(SIZE)

    class Queued(FakeSource):
        async def __call__(self, version: ContentVersion, offset: int):  # type: ignore[no-untyped-def]  # noqa: ANN204
            await trio.sleep(50)
            asked_at = trio.current_time()
            body = await super().__call__(version, offset)
            body.asked_at = asked_at  # type: ignore[attr-defined]
            return body

    run = Run(Queued(data, latency_s=2.0, pace_s=0.25), store.open(version_of(data)))
    await run.carry()
    assert run.carrier.first_byte_s == 2.25
