"""How programs read, and what it costs: requests, bytes and time of whole patterns, simulated."""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from support import h5py_traces
from support.simulator import (
    FAR,
    FAST,
    REAL,
    Reader,
    Server,
    SimulatedFile,
    World,
    blocks,
    in_sequence,
    simulate,
)
from support.sizes import GIB, KIB, MIB, PLENTY

from icatfs.content.plan import Limits

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK = 256 * KIB
servers = pytest.mark.parametrize("server", [REAL, FAST, FAR], ids=["real", "fast", "far"])


def as_the_kernel_reads(trace: list[tuple[int, int]], size: int) -> list[tuple[int, int]]:
    """Whole pages, a few more at the beginning, and not more than 1 MiB at a time."""
    reads = []
    for offset, count in trace:
        start = offset - offset % 4096
        stop = min(size, max(-(-(offset + count) // 4096) * 4096, 16 * KIB if not start else 0))
        reads += [(at, min(at + MIB, stop)) for at in range(start, stop, MIB)]
    return reads


def at_random(count: int, size: int, seed: int = 7) -> list[tuple[int, int]]:
    dice = random.Random(seed)
    return blocks([dice.randrange(size // BLOCK) for _ in range(count)], BLOCK)


# In order.


@servers
def test_a_file_that_is_read_in_sequence_is_one_request(server: Server) -> None:
    world = simulate(in_sequence(GIB), GIB, server=server)
    assert world.requests == [0]
    assert world.fetched == GIB


@servers
@pytest.mark.parametrize("think_s", [0.002, 0.05])
def test_a_slow_reader_makes_few_requests(server: Server, think_s: float) -> None:
    size = 256 * MIB
    world = simulate(in_sequence(size), size, server=server, think_s=think_s)
    assert len(world.requests) <= 3
    assert world.fetched == size


@servers
@pytest.mark.parametrize("held_up_at", [20, 300])
def test_a_reader_who_is_held_up_for_a_moment_keeps_his_stream(
    server: Server, held_up_at: int
) -> None:
    """As by a disk that is busy: from then on what he reads is there before him."""
    reader = Reader(SimulatedFile(1, GIB, PLENTY), ())

    def reads() -> Iterator[tuple[int, int]]:
        for start, stop in in_sequence(GIB):
            is_held_up = start == held_up_at * MIB
            reader.think_s = (128 if not is_held_up else 16 * 1024) * KIB / server.rate
            yield start, stop

    reader.reads = reads()
    assert World(server).run(reader).requests == [0]


def test_who_only_looks_at_the_beginning_costs_little() -> None:
    world = simulate([(0, 16 * KIB)], GIB)
    assert world.fetched <= 9 * MIB
    assert world.requests == [0]


def test_a_small_file_comes_as_a_whole_wherever_it_is_read_first() -> None:
    world = simulate([(5 * MIB, 5 * MIB + 1), *at_random(100, 8 * MIB)], 8 * MIB)
    assert world.requests == [0]
    assert world.fetched == 8 * MIB


def test_reading_on_from_the_middle_makes_few_requests() -> None:
    reads = [(start + 100 * MIB, stop + 100 * MIB) for start, stop in in_sequence(156 * MIB)]
    world = simulate(reads, 256 * MIB)
    assert len(world.requests) <= 2
    assert world.fetched == 156 * MIB


# HDF5.


@servers
@pytest.mark.parametrize("kind", ["CHUNKED", "CONTIGUOUS", "GZIP"])
def test_h5py_and_one_slice_are_at_most_four_requests(kind: str, server: Server) -> None:
    size: int = getattr(h5py_traces, f"{kind}_SIZE")
    reads = as_the_kernel_reads(getattr(h5py_traces, kind), size)
    world = simulate(reads, size, server=server)
    assert len(world.requests) <= 4
    assert world.fetched <= 32 * MIB
    assert world.again == 0


def test_many_slices_of_an_hdf5_file_fetch_it_once() -> None:
    size = h5py_traces.CHUNKED_SIZE
    head = as_the_kernel_reads(h5py_traces.CHUNKED, size)
    dice = random.Random(1)
    slices = [dice.randrange(512) * 2 * MIB for _ in range(200)]
    reads = [(place + at, place + at + MIB) for place in slices for at in (0, MIB)]
    world = simulate(head + reads, size)
    assert len(world.requests) <= 20
    assert world.fetched <= size * 17 // 16


# Other orders, one reader or several.

PATTERNS = {
    "backwards": blocks(range(4095, -1, -1), BLOCK),
    "backwards by larger blocks": blocks(range(1023, -1, -1), MIB),
    "strided": blocks(range(0, 4096, 16), BLOCK),
    "widely strided": blocks(range(0, 4096, 128), BLOCK),
    "strided backwards": blocks(range(4095, -1, -16), BLOCK),
    "the second half, then the first": blocks([*range(2048, 4096), *range(2048)], BLOCK),
    "every other block, then the rest": blocks([*range(0, 4096, 2), *range(1, 4096, 2)], BLOCK),
}


@servers
@pytest.mark.parametrize("name", PATTERNS)
def test_regular_patterns_fetch_no_byte_twice_and_make_few_requests(
    name: str, server: Server
) -> None:
    world = simulate(PATTERNS[name], GIB, server=server)
    may_come_again = len(world.requests) * server.piece  # what was on its way when one was closed
    if name == "strided backwards":  # what was left behind before the pattern was seen
        may_come_again += 24 * MIB
    assert world.again <= may_come_again
    assert world.fetched <= GIB + may_come_again
    assert len(world.requests) <= 40


@servers
@pytest.mark.parametrize("think_s", [0.0001, 0.003])
def test_two_readers_at_different_places_fetch_each_byte_once(
    server: Server, think_s: float
) -> None:
    size = 256 * MIB
    file = SimulatedFile(1, size, PLENTY)
    half = size // 2
    first = in_sequence(half)
    second = [(start + half, stop + half) for start, stop in first]
    world = World(server).run(Reader(file, first, think_s), Reader(file, second, think_s))
    assert world.fetched == size
    assert len(world.requests) <= 8
    assert world.most_open <= 2


@servers
def test_fifty_readers_of_one_file_fetch_it_once(server: Server) -> None:
    size = 64 * MIB
    file = SimulatedFile(1, size, PLENTY)
    readers = [Reader(file, in_sequence(size), begins_s=number * 0.01) for number in range(50)]
    world = World(server).run(*readers)
    assert world.requests == [0]
    assert world.fetched == size


@servers
@pytest.mark.parametrize("count", [3, 7])
def test_readers_of_more_files_than_streams_keep_theirs_for_a_turn(
    server: Server, count: int
) -> None:
    size = 200 * MIB
    readers = [Reader(SimulatedFile(n, size, PLENTY), in_sequence(size)) for n in range(count)]
    world = World(server).run(*readers)
    assert world.fetched <= bound(world, count * size)
    assert len(world.requests) <= 3 * count + 2 * world.now / Limits().turn_s
    longest_s = count * (Limits().turn_s + server.base_s + size / server.skip_rate)
    assert all(reader.longest_s <= longest_s for reader in readers)


@servers
@pytest.mark.parametrize("think_s", [0.0001, 0.003])
@pytest.mark.parametrize("count", [3, 8])
def test_readers_at_more_places_of_a_file_than_streams_keep_theirs_for_a_while(
    server: Server, think_s: float, count: int
) -> None:
    """Ranks that read a file which does not fit, each a part of it."""
    part, room = 200 * MIB, 32 * MIB
    file = SimulatedFile(1, count * part, room)
    parts = [
        [(start + n * part, stop + n * part) for start, stop in in_sequence(part)]
        for n in range(count)
    ]
    world = World(server).run(*(Reader(file, one, think_s) for one in parts))
    assert len(world.requests) <= count * part // (3 * MIB)
    assert world.fetched <= count * (part + room), "a window of each beyond its part"


@pytest.mark.parametrize("base_s", [0.15, 0.3, 1.0])
def test_readers_of_many_files_who_think_between_reads_keep_their_streams(base_s: float) -> None:
    """Slow programs, or a busy machine: what a stream costs is what it is worth waiting for."""
    size, count = 48 * MIB, 8
    server = Server(base_s=base_s, rate=5e7)
    readers = [
        Reader(
            SimulatedFile(n, size, PLENTY), in_sequence(size, MIB), think_s=0.15, begins_s=n / 20
        )
        for n in range(count)
    ]
    world = World(server).run(*readers)
    assert world.fetched == count * size
    assert len(world.requests) <= 12 * count
    assert world.now <= 3 * count * size / server.rate


# At random.


@servers
@pytest.mark.parametrize("count", [30, 300, 4000])
def test_reading_at_random_what_fits_costs_at_most_twice_the_better_way(
    server: Server, count: int
) -> None:
    reads = at_random(count, GIB)
    world = simulate(reads, GIB, server=server)
    sweep_s = server.base_s + GIB / server.rate
    singles_s = sum(server.base_s + start / server.skip_rate for start, _ in set(reads))
    looks_s = 9 * (server.base_s + GIB / server.skip_rate)
    reading_s = count * (0.0001 + 2 * MIB / server.rate)
    assert world.now <= 2 * min(sweep_s, singles_s) + looks_s + reading_s
    assert world.fetched <= GIB * 17 // 16 + len(world.requests) * server.piece


def test_a_thousand_reads_at_random_are_no_thousand_requests() -> None:
    world = simulate(at_random(1000, GIB), GIB)
    assert len(world.requests) <= 30
    assert world.skipped <= 10 * GIB
    assert 1000 * BLOCK / world.now >= 20 * MIB


@servers
def test_fifty_readers_at_random_share_one_sweep(server: Server) -> None:
    size = 256 * MIB
    file = SimulatedFile(1, size, PLENTY)
    readers = [Reader(file, at_random(100, size, seed)) for seed in range(50)]
    world = World(server).run(*readers)
    assert len(world.requests) <= 60
    assert world.fetched <= size * 17 // 16
    assert world.most_open <= 2


@servers
def test_nobody_waits_long_for_the_sweep_of_a_huge_file(server: Server) -> None:
    size = 20 * GIB
    server = Server(server.base_s, 1e9, server.rate, piece=512 * KIB)
    world = World(server)
    file = SimulatedFile(1, size, PLENTY)
    reader = Reader(file, at_random(400, size))
    world.run(reader)
    assert reader.longest_s <= 3 * Limits().turn_s + 2 * size / server.skip_rate


@servers
def test_reading_at_random_what_does_not_fit_brings_little_more_than_wanted(
    server: Server,
) -> None:
    reads = at_random(300, GIB)
    world = simulate(reads, GIB, server=server, room=32 * MIB)
    assert len(world.requests) <= 300
    assert world.fetched <= 300 * 4 * MIB


def test_a_file_that_does_not_fit_is_read_in_sequence_within_its_room() -> None:
    world = simulate(in_sequence(GIB), GIB, room=32 * MIB, think_s=0.002)
    assert world.fetched == GIB
    assert len(world.requests) <= 2 + GIB // (32 * MIB)


def test_long_strides_through_a_file_that_does_not_fit_are_read_through() -> None:
    reads = [(start, start + MIB) for start in range(0, 10 * GIB, 40 * MIB)]
    server = Server(piece=4 * MIB)
    world = simulate(reads, 100 * GIB, server=server, room=GIB)
    singles_s = sum(server.base_s + start / server.skip_rate for start, _ in reads)
    assert world.now < singles_s / 4
    assert len(world.requests) < len(reads) / 4


# Whatever anybody does.

UNSHRUNK = [Phase.explicit, Phase.reuse, Phase.generate]
"""Each example is a whole simulation: shrinking one would take minutes."""


def bound(world: World, size: int) -> int:
    """At most a sixteenth comes twice; a stream that is closed had some of the next pieces."""
    return size + size // 16 + len(world.requests) * world.server.piece


def test_in_a_small_world_every_order_of_reading_keeps_the_bounds() -> None:
    limits = Limits(window=MIB, glance=MIB, least_reach=0, looks=2)
    server = Server(base_s=0.01, skip_rate=1e9, rate=200e6, piece=MIB)
    size = 6 * MIB
    for places in itertools.product(range(6), repeat=4):
        world = simulate(blocks(places, MIB), size, server=server, limits=limits)
        assert world.fetched <= bound(world, size), places
        assert len(world.requests) <= 5, places


a_server = st.builds(
    Server,
    base_s=st.floats(0.001, 0.5),
    skip_rate=st.floats(5e7, 1e12),
    rate=st.floats(1e7, 1e9),
    piece=st.sampled_from([64 * KIB, MIB]),
)
a_pattern = st.one_of(
    st.lists(st.integers(0, 255), max_size=60),
    st.builds(range, st.integers(0, 255), st.integers(0, 256), st.integers(1, 40)).map(list),
    st.builds(range, st.integers(0, 255), st.just(-1), st.integers(-40, -1)).map(list),
)


@settings(max_examples=300, deadline=None, phases=UNSHRUNK)
@given(
    server=a_server,
    patterns=st.lists(st.tuples(a_pattern, st.floats(0, 0.05), st.floats(0, 1)), max_size=4),
    files=st.lists(st.integers(0, 1), min_size=4, max_size=4),
)
def test_whatever_is_read_what_fits_comes_once_and_a_sixteenth(
    server: Server, patterns: list[tuple[list[int], float, float]], files: list[int]
) -> None:
    size = 64 * MIB
    both = [SimulatedFile(number, size, PLENTY) for number in range(2)]
    readers = [
        Reader(both[files[number]], blocks(pattern, BLOCK), think_s, begins_s)
        for number, (pattern, think_s, begins_s) in enumerate(patterns)
    ]
    world = World(server).run(*readers)
    assert world.fetched <= bound(world, 2 * size)
    turn_s = Limits().turn_s + server.base_s + size / server.skip_rate
    assert all(reader.longest_s <= (len(readers) + 1) * turn_s for reader in readers)
    assert world.most_open <= 2
    assert len(world.requests) <= 2 * sum(len(pattern) for pattern, _, _ in patterns)
    assert all(file.pins == 0 for file in both)


@settings(max_examples=100, deadline=None, phases=UNSHRUNK)
@given(a_server, st.lists(a_pattern, min_size=1, max_size=3), st.integers(2, 20))
def test_whatever_is_read_of_what_does_not_fit_everybody_is_served(
    server: Server, patterns: list[list[int]], room: int
) -> None:
    size, room = 64 * MIB, room * MIB // 4
    file = SimulatedFile(1, size, room)
    readers = [Reader(file, blocks(pattern, BLOCK)) for pattern in patterns]
    world = World(server).run(*readers)
    assert world.most_open <= 2
    turn_s = Limits().turn_s + server.base_s + size / server.skip_rate
    assert all(reader.longest_s <= (len(readers) + 1) * turn_s for reader in readers)
    wanted = sum(len(pattern) for pattern in patterns) * BLOCK
    ahead = max(Limits().window, room // 8) + MIB + server.piece
    assert world.fetched <= 9 * wanted + len(world.requests) * ahead
