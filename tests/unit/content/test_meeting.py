"""Streams that meet: any readers at any places, and events in any order that the world may choose.

Whatever happens, each byte comes about once, everybody is served, and it comes to an end. Thousands
of small worlds, each from the number of its dice.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from support.desk import Desk
from support.simulator import Reader, Server, SimulatedFile, World, blocks
from support.sizes import KIB, MIB, PLENTY

from icatfs.content.flows import Stream, Waiter
from icatfs.content.plan import Limits

WORLDS = 400
"""Of each of the parameters."""


def some_limits(dice: random.Random) -> Limits:
    return dice.choice(
        [
            Limits(),
            Limits(streams=3),
            Limits(window=MIB, glance=MIB, least_reach=0, looks=2),
            Limits(window=512 * KIB, glance=128 * KIB, least_reach=64 * KIB),
        ]
    )


# With a clock: readers and a server that are what they are.


def some_server(dice: random.Random) -> Server:
    return Server(
        base_s=dice.choice([0.003, 0.02, 0.1, 0.5]),
        skip_rate=dice.choice([1e8, 2.5e9, 1e12]),
        rate=dice.choice([5e7, 5e8]),
        piece=dice.choice([256 * KIB, MIB]),
    )


def some_reads(dice: random.Random, size: int) -> list[tuple[int, int]]:
    """On from some place, with strides, backwards, or at random."""
    block = dice.choice([128 * KIB, 256 * KIB, MIB])
    count = size // block
    places = dice.choice(
        [
            range(dice.randrange(count), count),
            range(dice.randrange(count), count, dice.randint(1, 9)),
            range(count - 1, 0, -dice.randint(1, 9)),
            [dice.randrange(count) for _ in range(dice.randint(1, 40))],
        ]
    )
    return blocks(places, block)


@pytest.mark.parametrize("part", range(4))
def test_any_readers_of_a_file_fetch_it_once_and_a_sixteenth(part: int) -> None:
    for seed in range(part * WORLDS, (part + 1) * WORLDS):
        dice = random.Random(seed)
        size = dice.choice([16, 40, 64]) * MIB
        server, limits = some_server(dice), some_limits(dice)
        file = SimulatedFile(1, size, PLENTY)
        readers = [
            Reader(
                file,
                some_reads(dice, size),
                think_s=dice.choice([0, 0.0001, 0.003, 0.05]),
                begins_s=dice.choice([0, 0, 0.3 * dice.random()]),
            )
            for _ in range(dice.randint(2, 6))
        ]
        world = World(server, limits).run(*readers)
        requests = len(world.requests)
        assert world.fetched <= size * 17 // 16 + requests * server.piece, seed
        assert requests <= sum(len(list(reader.reads)) for reader in readers), seed
        turn_s = limits.turn_s + server.base_s + size / server.skip_rate
        assert all(reader.longest_s <= (len(readers) + 1) * turn_s for reader in readers), seed


# Without: who comes next is drawn.

PIECES = (64 * KIB, 256 * KIB, MIB)


@dataclass
class Disorder:
    """A desk, and events in any order: pieces, faults, closes that are late, pauses."""

    seed: int
    fetched: int = 0
    opened: set[Stream] = field(default_factory=set)
    waiters: list[Waiter] = field(default_factory=list)
    served: int = 0

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        self.limits = some_limits(self.dice)
        self.size = self.dice.choice([8, 16, 40]) * MIB
        self.desk = Desk(self.limits, self.size)
        self.last = 0

    def wait(self) -> None:
        """Somebody reads on where somebody has read, or elsewhere."""
        dice = self.dice
        fronts = [self.last, *(carrier.position for carrier in self.desk.carriers.values())]
        start = dice.choice([dice.choice(fronts), dice.randrange(self.size)])
        start = max(0, min(start + dice.choice([0, 0, -MIB, 4096]), self.size - 1))
        count = min(dice.choice([KIB, 128 * KIB, MIB, 6 * MIB]), self.size - start)
        self.last = start + count
        if self.desk.file.missing(start, start + count) is not None:
            self.waiters.append(self.desk.wait(start, count))

    def move(self, stream: Stream) -> None:
        """A piece, or the end: at once, or after one that was under way."""
        dispatch, dice = self.desk.dispatch, self.dice
        left = self.size - stream.carrier.position
        count = min(dice.choice(PIECES), left)
        if stream.ending and (not left or dice.random() < 0.7):
            dispatch.ended(stream, None)
        elif not stream.ending and dice.random() < 0.05:
            self.desk.carriers[stream].resumed += 1
            dispatch.goes_on(stream, 0)
        else:
            self.fetched += count
            goes_on = self.desk.bring(stream, count, dice.choice([0.0, 0.001, 0.2]))
            assert goes_on == (not stream.ending)

    def leave(self) -> None:
        """Who has what he waited for goes."""
        for waiter in [one for one in self.waiters if one.served.is_set()]:
            self.waiters.remove(waiter)
            self.desk.dispatch.leave(waiter)
            self.served += 1

    def step(self) -> None:
        """One event."""
        if self.desk.streams:
            self.move(self.dice.choice(self.desk.streams))
        if self.dice.random() < 0.05:
            self.desk.now += self.dice.choice([0.1, 11.0])
            self.desk.dispatch.arrange()
        if self.dice.random() < 0.7:
            self.leave()
        self.look()

    def look(self) -> None:
        """What holds at any time."""
        streams, queue = self.desk.streams, self.desk.dispatch.queue
        self.opened.update(streams)
        assert len(streams) <= self.limits.streams, self.seed
        places = [one.carrier.position for one in streams if not one.ending]
        assert len(set(places)) == len(places), f"{self.seed}: two streams in step"
        for waiter in self.waiters:
            stream, gap = waiter.stream, waiter.gap()
            if waiter.served.is_set() or gap is None:
                continue
            assert (waiter in queue) != (stream in streams), f"{self.seed}: forgotten"
            if stream is not None and not stream.ending:
                assert stream.carrier.position <= gap, f"{self.seed}: it has passed"

    def end(self) -> None:
        """Nobody comes any more: all are served, and all is over."""
        for _ in range(2000):
            if not self.waiters and not self.desk.streams:
                return
            self.step()
        raise AssertionError(f"{self.seed}: it goes on for ever")


@pytest.mark.parametrize("part", range(4))
def test_in_any_order_of_events_each_byte_comes_about_once_and_everybody_is_served(
    part: int,
) -> None:
    for seed in range(part * WORLDS, (part + 1) * WORLDS):
        world = Disorder(seed)
        waited = 0
        for _ in range(world.dice.randint(20, 200)):
            if world.dice.random() < 0.3 and len(world.waiters) < 6:
                world.wait()
                waited += 1
            world.step()
        world.end()
        most = world.size * 17 // 16 + len(world.opened) * max(PIECES)
        assert world.fetched <= most, seed
        assert len(world.opened) <= 2 * waited, seed
        assert not world.desk.dispatch.queue
        assert not world.desk.dispatch.fetches
