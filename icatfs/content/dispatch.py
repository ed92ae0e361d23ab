"""Who waits for which bytes, which streams there are, and what becomes of them: the plan's state.

Nothing here waits or reads: events come in (somebody waits, bytes arrived, a stream is over), the
planner is asked (`icatfs.content.plan`, with the essay on all of it and the table whose rows are
numbered below), and what is to be done goes out through ``open_stream`` and the events of waiters
and streams. So the tests run all of it, at any speed, against a server that is a formula.

Invariants: a waiter is in the queue if and only if no stream is to serve it; a fetch exists exactly
as long as it has waiters or streams; at most ``limits.streams`` streams exist, and no two of them
at one place of a file, but for those that are ending.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING

from icatfs.content import courses, plan
from icatfs.content.costs import Costs
from icatfs.content.courses import Aim, Course, End, Trail
from icatfs.content.flows import Fetch, Stream, StreamStatus, TransferStatus, Waiter

if TYPE_CHECKING:
    from collections.abc import Callable

    from icatfs.errors import IcatfsError
    from icatfs.values import ContentVersion

_LEARNT = 1000
_ENDS = 8
"""How many of its readers' places are remembered for a content."""


class Dispatch:
    """The state of a transfer. ``open_stream(fetch, course)`` begins to carry one out."""

    def __init__(
        self,
        limits: plan.Limits,
        open_stream: Callable[[Fetch, Course], Stream],
        clock: Callable[[], float],
        *,
        idle_s: float,
    ) -> None:
        # given
        self._limits = limits
        self._open_stream = open_stream
        self._clock = clock
        self._idle_s = idle_s
        # mutable: see the invariants above
        self.fetches: dict[ContentVersion, Fetch] = {}
        self.streams: list[Stream] = []
        self.queue: dict[Waiter, None] = {}
        self._closed = False
        # mutable: what was learnt, forgotten beyond a number of versions
        self.costs = Costs()
        self._trails: OrderedDict[ContentVersion, Trail] = OrderedDict()
        # mutable: counts only grow
        self._opened = self._resumed = self._received = self._mismatches = 0

    def status(self) -> TransferStatus:
        """What is going on now."""
        return TransferStatus(
            streams=tuple(
                StreamStatus(
                    one.fetch.file.version.datafile,
                    one.carrier.position,
                    len(one.waiters),
                    one.sweeps,
                )
                for one in self.streams
            ),
            waiting=sum(len(fetch.waiters) for fetch in self.fetches.values()),
            opened=self._opened,
            resumed=self._resumed,
            bytes_received=self._received,
            mismatches=self._mismatches,
            prices=self.costs.prices,
        )

    # Waiting.

    def wait(self, fetch: Fetch, start: int, stop: int) -> Waiter:
        """Somebody waits for [start, stop); its event says when that is over."""
        waiter = Waiter(fetch, start, stop, self._clock())
        fetch.waiters[waiter] = None
        self.queue[waiter] = None
        self.arrange()
        return waiter

    def leave(self, waiter: Waiter) -> None:
        """The waiter has what it wants, or wants it no more."""
        waiter.fetch.waiters.pop(waiter, None)
        self.queue.pop(waiter, None)
        if waiter.stream is not None:
            waiter.stream.waiters.pop(waiter, None)
        self._forget_if_done(waiter.fetch)
        if self.queue:
            self.arrange()

    def close(self, error: IcatfsError) -> None:
        """Nothing is planned any more; who waits gets this error."""
        self._closed = True
        for fetch in self.fetches.values():
            for waiter in fetch.waiters:
                waiter.error = error
                waiter.served.set()

    def _forget_if_done(self, fetch: Fetch) -> None:
        if not fetch.waiters and not fetch.streams:
            del self.fetches[fetch.file.version]
            fetch.file.close()

    # Planning.

    def arrange(self) -> None:
        """Do for all who are in the queue what the plan says, first come, first served."""
        if self._closed:
            return
        coming = sum(stream.ending for stream in self.streams)
        promised: list[plan.Stream] = []
        for waiter in list(self.queue):
            gap = waiter.gap()
            if gap is None:
                waiter.served.set()
                continue
            version = waiter.fetch.file.version
            prices = self.costs.prices
            if plan.nearest(version, gap, promised, prices, self._limits) is not None:
                continue  # 4
            match self._decide(waiter, gap):
                case plan.Join(number):
                    self._join(waiter, self.streams[number])
                    continue
                case plan.Open():
                    self._join(waiter, self._open(waiter, gap))
                    continue
                case plan.Replace(number) if not coming:
                    self.streams[number].end()
                case _:
                    coming = max(0, coming - 1)
            promised.append(plan.Stream(version, gap, True, 0.0))

    def _decide(self, waiter: Waiter, gap: int) -> plan.Decision:
        """Row 1 for a content that comes as a whole or is being compared, else what follows it."""
        fetch = waiter.fetch
        if fetch.prover is not None:
            return plan.Join(self.streams.index(fetch.prover))
        if fetch.is_whole and fetch.streams:
            stream = fetch.streams[0]
            return plan.Wait() if stream.ending else plan.Join(self.streams.index(stream))
        seen = [stream.seen() for stream in self.streams]
        version, prices = fetch.file.version, self.costs.prices
        reach = self._limits.reach(gap, prices)
        others = any(abs(other.start - gap) > reach for other in fetch.waiters)
        now, since = self._clock(), waiter.since
        return plan.serve(
            version, gap, seen, prices, self._limits, now, since_s=since, others=others
        )

    def _join(self, waiter: Waiter, stream: Stream) -> None:
        self.queue.pop(waiter, None)
        waiter.stream = stream
        stream.waiters[waiter] = None
        self._follow(stream)
        if waiter.start > stream.furthest + self._limits.glance:
            stream.origin = waiter.start  # 18: what lies between nobody came for
        stream.furthest = max(stream.furthest, waiter.stop)
        stream.came_at = max(stream.came_at, waiter.since)

    def _follow(self, stream: Stream) -> None:
        """Rows 7 and 18: who finds his bytes in the cache comes for them, too."""
        come = min(stream.fetch.file.read_on(stream.furthest), stream.carrier.position)
        if come > stream.furthest:
            stream.furthest = come
            stream.wanted_at = self._clock()

    def _open(self, waiter: Waiter, gap: int) -> Stream:
        """Row 5: open a stream, or have one that stands at its first byte go on for it."""
        fetch, prices = waiter.fetch, self.costs.prices
        version = fetch.file.version
        trail = self._trail(version)
        if fetch.is_whole:
            course = Course(0, plan.ENDLESS, 0)
        else:
            seen = replace(trail, ends=tuple(_moved(end, fetch, gap) for end in trail.ends))
            course = courses.course(gap, waiter.stop, fetch.content(), seen, prices, self._limits)
        missing = fetch.file.missing(course.start, gap + 1)
        course = replace(course, start=missing[0] if missing else gap)
        for stream in fetch.streams:
            if stream.carrier.position == course.start and not stream.ending:
                self._aim(stream, course.aim)
                return stream
        self._cut(fetch)
        stream = self._open_stream(fetch, course)
        fetch.streams.append(stream)
        self.streams.append(stream)
        self._opened += 1
        rent_s = trail.rent_s + prices.first_byte_s(course.start)
        self._learn(version, replace(trail, opened=trail.opened + 1, rent_s=rent_s))
        return stream

    def _cut(self, fetch: Fetch) -> None:
        """Row 19: somebody wants another place."""
        for stream in fetch.streams:
            if not (stream.waiters or stream.sweeps or stream.is_confirmed):
                stream.window = min(stream.window, self._limits.glance)

    def _trail(self, version: ContentVersion) -> Trail:
        return self._trails.get(version, Trail())

    def _learn(self, version: ContentVersion, trail: Trail) -> None:
        self._trails[version] = trail
        self._trails.move_to_end(version)
        if len(self._trails) > _LEARNT:
            self._trails.popitem(last=False)

    # Streaming.

    def goes_on(self, stream: Stream, count: int) -> bool:
        """After each piece, of ``count`` bytes, and before each attempt, 0: whether to read on."""
        self._received += count
        if count:
            self._measure(stream, count)
        self._follow(stream)
        self._serve(stream)
        if stream.ending or self.is_to_prove(stream):
            return False
        if count:
            self._overtake(stream)
        if self.queue and self._may_be_replaced(stream):
            self.arrange()
        if self._is_idle(stream, is_fault=not count) or not self._has_more(stream):
            stream.ending = True
        return not stream.ending

    def _measure(self, stream: Stream, count: int) -> None:
        """Learn what the stream costs, and how much of what came was there already."""
        position = stream.carrier.position
        again = min(stream.next_missing, position) - (position - count)
        if again > 0:
            version = stream.fetch.file.version
            trail = self._trail(version)
            self._learn(version, replace(trail, again=trail.again + again))
        if stream.begun_at is None:
            stream.begun_at, stream.first_piece = self._clock(), count
            if not stream.carrier.resumed:
                waited_s = stream.carrier.first_byte_s
                if waited_s is None:
                    waited_s = stream.begun_at - stream.since
                self.costs.opened(stream.start, waited_s)

    def _serve(self, stream: Stream) -> None:
        """Tell who has what he waits for, and take who waits for what comes soon."""
        prices, was_wanted = self.costs.prices, bool(stream.waiters)
        for waiter in list(stream.fetch.waiters):
            gap = waiter.gap()
            if gap is None:
                waiter.served.set()
                stream.waiters.pop(waiter, None)
            elif waiter.stream is None and plan.reaches(stream.seen(), gap, prices, self._limits):
                self._join(waiter, stream)
        if was_wanted or stream.waiters:
            stream.wanted_at = self._clock()

    def is_to_prove(self, stream: Stream) -> bool:
        """Row 25: whether this stream is to compare the complete content with the catalogue.

        No more if the content was dropped since: then there is nothing to compare.
        """
        fetch = stream.fetch
        if not fetch.file.unproved:
            return False
        if fetch.prover is None:
            fetch.prover = stream
        return fetch.prover is stream

    def _is_idle(self, stream: Stream, *, is_fault: bool) -> bool:
        """Row 24: whether it reads ahead for nobody, after a fault or long after a close."""
        if stream.waiters:
            return False
        is_late = self._clock() - stream.wanted_at > self._idle_s
        return (is_fault and stream.carrier.resumed > 0) or (
            is_late and not stream.fetch.file.shared
        )

    def _may_be_replaced(self, stream: Stream) -> bool:
        now = self._clock()
        if not stream.waiters and now - stream.wanted_at >= self._limits.grace_s:
            return True
        return stream.turn_s is not None and now - stream.turn_s >= self._limits.turn_s

    def _has_more(self, stream: Stream) -> bool:
        """Rows 18, 20, 21 and 23."""
        file, position = stream.fetch.file, stream.carrier.position
        if stream.fetch.is_whole:
            return file.size is None or position < file.size
        stop = stream.stop
        missing = file.missing(position, stop)
        if stream.carrier.ignores_range:
            return missing is not None
        next_missing = None if missing is None else missing[0]
        stream.next_missing = position if next_missing is None else next_missing
        if self._is_in_a_wake(stream):
            return False
        pass_over = 0
        if stream.next_missing > position:
            again = self._trail(file.version).again
            reach = self._limits.reach(stream.next_missing, self.costs.prices)
            pass_over = courses.may_pass_over(reach, stream.fetch.content(), again)
        return courses.goes_on(position, stop, next_missing, pass_over)

    # Meeting.

    def _is_in_a_wake(self, stream: Stream) -> bool:
        """Row 21: whether another stream brings what this one could, and goes on for it."""
        others = [one for one in stream.fetch.streams if one is not stream and not one.ending]
        positions = [one.carrier.position for one in others]
        number = courses.in_front(stream.carrier.position, stream.next_missing, positions)
        if number is not None:
            self._hand_over(stream, others[number])
        return number is not None

    def _overtake(self, stream: Stream) -> None:
        """Row 22: a stream that has moved ends those in its wake, and goes on for them."""
        file, position = stream.fetch.file, stream.carrier.position
        for other in stream.fetch.streams:
            behind = other.carrier.position
            if other is stream or other.ending or behind > position:
                continue
            if file.missing(behind, position) is None:
                self._hand_over(other, stream)
                other.end()

    def _hand_over(self, one: Stream, other: Stream) -> None:
        """``other`` goes on for all that ``one`` was for, but for bytes that were given back."""
        self._aim(other, one.aim)
        for waiter in list(one.waiters):
            gap = waiter.gap()
            if gap is None or gap >= other.carrier.position:
                del one.waiters[waiter]
                other.waiters[waiter] = None
                waiter.stream = other
        other.wanted_at = max(one.wanted_at, other.wanted_at)
        other.came_at = max(one.came_at, other.came_at)

    def _aim(self, stream: Stream, aim: Aim) -> None:
        file, glance = stream.fetch.file, self._limits.glance
        stream.aim = courses.both(stream.aim, aim, file.size, file.room, glance)

    # The end.

    def ended(self, stream: Stream, error: IcatfsError | None) -> None:
        """The stream is over: who waited for it is served, told, or planned for again."""
        fetch = stream.fetch
        self.streams.remove(stream)
        fetch.streams.remove(stream)
        if fetch.prover is stream:
            fetch.prover = None
        if fetch.is_whole:
            for other in fetch.streams:
                other.end()
        self._resumed += stream.carrier.resumed
        self._mismatches += stream.carrier.mismatches
        self._remember(stream)
        for waiter in list(stream.waiters):
            waiter.stream = None
            if waiter.gap() is None:
                waiter.served.set()
            elif error is not None:
                waiter.error = error
                waiter.served.set()
            else:
                self.queue[waiter] = None
        self._forget_if_done(fetch)
        self.arrange()

    def _remember(self, stream: Stream) -> None:
        """What the stream did and cost; when nothing is missing any more, accounts begin anew."""
        version, position = stream.fetch.file.version, stream.carrier.position
        trail = self._trail(version)
        end = End(stream.origin, stream.start, position)
        trail = replace(trail, ends=(end, *trail.ends[: _ENDS - 1]))
        if stream.fetch.file.missing(0, plan.ENDLESS) is None:
            trail = Trail(trail.ends)
        self._learn(version, trail)
        if stream.begun_at is not None and not stream.carrier.resumed:
            count = position - stream.start - stream.first_piece
            self.costs.flowed(count, self._clock() - stream.begun_at)


def _moved(end: End, fetch: Fetch, gap: int) -> End:
    """Where a stream ended, or at the gap if all before that is there by now.

    What was on its way when a stream was closed may arrive later than its end.
    """
    missing = fetch.file.missing(end.stop, gap + 1) if end.stop <= gap else None
    return replace(end, stop=gap) if missing == (gap, gap + 1) else end
