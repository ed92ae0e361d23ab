"""Which stream brings which missing bytes, where it begins, and when it has gone far enough.

This is the essay on the planner. What it decides is pure: here, who is served how (rows 2 to 9 of
the table), and in `icatfs.content.courses`, where a stream begins and how far it goes on (10 to
23). Both weigh by the prices that `icatfs.content.costs` learns. `icatfs.content.dispatch` has the
state, asks, and has the other rows; `icatfs.content.transfer` does what comes of it.

**Forces.** The data service sends from an offset to the end, nothing else, and to begin at an
offset it reads all that precedes it: a stream is dear to open, the dearer the further back, and
cheap to read on. A stream that nobody reads costs the server a thread and locks its dataset, so it
is read at full speed and closed, never held. A facility serves a mount two long transfers at a
time. What was read is kept, so a byte is wasted only if nobody ever wants it, or if it came before.
Who reads says nothing of what he will read next; what he has read tells.

**Words.** A *gap* is the first missing byte of what somebody waits for. A stream's *reach* is what
arrives in half the time that opening another one at the gap would take, 1 MiB at least. It reads to
the end of what is waited for, and a *window* further: a *first window*, 8 MiB, or a *glance*, 2
MiB, about a chunk of what detectors write. Who finds in the cache what a stream has brought comes
for that, too, though he waits for nothing. A file *fits* that is no larger than its room, a quarter
of the cache. A *turn* is 10 s from the first byte on. A *moment* is what it would take to open a
stream again where it is, 0.1 s at least and 1 s at most. *Aligned* is to the MiB before: the
kernel's reads of one program come out of order, but within that.

======================================  ==========================  ==============================
situation                               decision                    because
======================================  ==========================  ==============================
somebody waits for a gap, and ...
1. its content is to come as a whole,   join the stream that does   only a whole can be compared
   or is just being compared            it, or open it at 0         with the catalogue
2. a stream of the file is at the gap,  join the nearest            it is there before another one
   or within reach                                                  could be
3. a sweep gets there within a turn     join it                     it brings all that is missing
4. the gap of somebody before him in    wait                        the stream that is opened
   the queue is within reach                                        there comes here, too
5. a place is free                      open a stream; where one    it is in nobody's way
                                        stands already, that one
                                        goes on for it, too
6. a stream of the file, no sweep,      end the oldest of these     its reader must be the one
   reads ahead for nobody, nobody                                   who is elsewhere now
   has come for it since he waits,
   and nobody else waits elsewhere in
   the file
7. for a moment nobody has waited for   end the oldest of these     its reader had time to be busy
   a stream of any file                                             with what he got: as long as it
                                                                    costs if he comes back
8. a stream has had its turn            end the oldest of these     places are shared by time
9. nothing of these                     wait                        some turn ends
--------------------------------------  --------------------------  ------------------------------
a stream is opened, and the gap is ...
10. in a file that fits, no larger      at the first missing byte   nobody could look around in it
    than the first window               (*), to the end             for less
11. in a file that fits, after eight    the same: a sweep           never dearer than twice the
    streams that cost what it costs                                 wiser choice; see below
12. where an earlier stream ended       at it; twice what he read   the earlier window was too
                                        so far, from a first        short; and a GiB comes in
                                        window on eight times       three
13. the second short jump ahead, in a   at it, aligned; twice the   had the last stream gone on,
    file that does not fit              jump, within reach          it would have been cheaper
14. just before where the last stream   before that, by twice what  he reads backwards
    began, in one that does not fit     it read; a glance
15. in the first MiB                    at 0; a first window        he reads it all, or looks at
                                                                    what kind of file it is
16. in the last half of a first window  half a first window before  there formats have their
                                        the end, all of it          tables
17. anywhere else                       at it, aligned; a glance    nobody knows what comes next
--------------------------------------  --------------------------  ------------------------------
a stream runs, and ...
18. its readers come for more           a window beyond them, or    who keeps up with it sees one
                                        what they read of it so     stream to the end
                                        far, or all if that is as
                                        near again; in its room
19. somebody wants another place of     its window is a glance      he looked at the head only:
    the file before its readers, whom                               so do programs that open HDF5
    nobody waits for, wanted more than
    its window
20. what comes next is there already    read through what is        less than a sixteenth of the
                                        cheaper so                  file ever comes twice
21. another stream of the file stands   end; that one goes on for   that one brings it
    before what it could bring next     it, too
22. it has moved, and another one       end that one, and go on     that one could bring nothing
    stands in its wake, or at its       for it, too                 else, and may be silent
    place, and nothing is missing
    between
23. its window ends, or nothing is      end                         a stream is not held
    missing in it
24. nobody waits for it, and it broke,  end                         nobody will miss it
    or nobody has the file for 5 s
25. it brought the last of a content    compare it, then end        what is wrong is not shown
======================================  ==========================  ==============================

(*) or as far before the gap as arrives within a turn, if that is less far.

Of each part the first row that applies decides; row n is shown by ``test_n_...`` of
`tests/unit/content/test_decisions.py`.

**Reading at random** (11) is a problem of renting skis: every stream that is opened for a glance is
*rent*, a *sweep* of all that is missing, front to back in one stream, is the purchase. Nobody knows
how long the skiing goes on; but who buys as soon as the rent that was paid amounts to the price
never pays more than twice what the wiser choice would have cost, and no rule without foresight does
better. The first few streams buy nothing: who opens a file, looks around and takes a slice has not
begun to read at random. Only files that fit are swept, for bytes that are given back were bought in
vain; of others no more is read through than an eighth of their room (13, 14, 20).

**Meeting** (5, 21, 22). Two streams of a file that would bring the same byte next are one too many:
in step they fetch all of it twice, to the end of the shorter one. So one of them goes on for both:
it has the waiters of the other, and reads as far as either would have. It is the one that is nearer
to that byte, or of two at one place the one that moved last, as the other may have broken, or not
have begun; whichever is older, and wherever its own window ends. To let the waiters of the other
one ask anew was rejected: what they open may begin where the first one stands, end for it, and so
on for ever. By a meeting nobody comes into the queue. A waiter changes to a stream that is as near
to his gap as his own was, or nearer, and reads through what his own would have read through: what
is missing before him is no more than it was. Each meeting is a stream less, and at once, for one
that is ending is in nobody's way and goes on for nobody: so there are no more meetings than
streams, and none is undone by the next.

**Invariants**, for any readers, files and prices:

* there are never more streams than places, those that are ending included;
* a stream begins at a missing byte, and not behind the gap that it was opened for;
* no two streams of a file stand at one place, those that are ending apart, and of two that would
  bring the same byte next one ends as soon as the one behind is asked, or the one in front moves;
* who waits is joined to a stream that has not passed his gap, or is in the queue, and nobody is in
  the queue while a place is free; a meeting sends nobody there;
* after every piece a stream is asked whether it goes on: it never waits for a reader.

**Bounds**, whatever is read, in whatever order, by however many:

* *bytes*: of a file that fits, of which nothing is given back, at most 17/16 of its size is
  fetched, and a piece for each stream that was closed (what was in flight). For a stream begins at
  a missing byte, a byte that is missing comes once, and those that come again (20) are counted,
  file by file. Reading in sequence, with strides, backwards, at two places, by fifty readers at
  once, or one slice, leaves nothing in its wake and fetches no byte twice. Of a file that does not
  fit a read costs at most an eighth of the room to come to, and a stream at most what it reads
  ahead: a first window, or 8 times what was read in order there;
* *requests*: in sequence 1 if the reader keeps up, else O(log size). At random, in a file that
  fits, what can be rented for the price of a sweep, or the first eight if that is less, and a few
  for what the sweep leaves;
* *time*: of k who wait at different places each has his stream within k turns, and as many times
  what a stream takes to open.

Who answers ``Range`` with the whole file, or sends what is wrong, makes us fetch it once more.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

    from icatfs.content.costs import Prices

ENDLESS = 2**62
"""The end of a file of unknown size."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The measures of the rules above, in bytes and seconds."""

    streams: int = 2
    window: int = 8 * 2**20
    """The first window at the beginning of a file; a file that is no larger comes as a whole."""
    glance: int = 2 * 2**20
    """The first window anywhere else: about a chunk of what detectors write."""
    least_reach: int = 2**20
    most_reach: int = 2**30
    """Bounds of what is read through rather than jumped over, whatever the costs."""
    looks: int = 8
    """A file is not swept before so many streams were opened for it."""
    turn_s: float = 10.0
    grace_s: float = 0.1
    most_grace_s: float = 1.0
    """For how long a reader who has just got something may think about it, whatever the costs."""

    def reach(self, offset: int, prices: Prices) -> int:
        """What is cheaper to read through than to begin anew at ``offset``."""
        return prices.reach(offset, self.least_reach, self.most_reach)

    def moment_s(self, offset: int, prices: Prices) -> float:
        """For how long nobody may want a stream that is at ``offset``: what to open it costs."""
        return max(self.grace_s, min(prices.first_byte_s(offset), self.most_grace_s))

    def patience(self, prices: Prices) -> int:
        """How many bytes before his own somebody may have to wait for, if all will be wanted."""
        return int(self.turn_s * prices.rate)


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream as the planner sees it."""

    file: Hashable
    position: int
    """The next byte that it brings."""
    wanted: bool
    """Somebody waits for what it will bring."""
    since_s: float
    wanted_s: float = 0.0
    """When somebody last did."""
    turn_s: float | None = None
    """When its turn began: it brought something, or broke. Nobody ends it for his turn before."""
    ending: bool = False
    sweeps: bool = False
    most_reach: int = ENDLESS
    """What it may read through on behalf of who joins it."""
    came_s: float = 0.0
    """When the last of those came who waited for it."""


@dataclass(frozen=True, slots=True)
class Join:
    """Wait for what this stream brings."""

    stream: int


@dataclass(frozen=True, slots=True)
class Open:
    """Open a stream; there is a place."""


@dataclass(frozen=True, slots=True)
class Replace:
    """End this stream, to open another one in its place."""

    stream: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing can be done now."""


Decision: TypeAlias = Join | Open | Replace | Wait


def reaches(one: Stream, gap: int, prices: Prices, limits: Limits) -> bool:
    """Whether it is best to wait until this stream of the same file is at the gap."""
    reach = min(limits.reach(gap, prices), one.most_reach)
    if one.sweeps:
        reach = max(reach, limits.patience(prices))
    return not one.ending and 0 <= gap - one.position <= reach


def nearest(
    file: Hashable, gap: int, streams: Sequence[Stream], prices: Prices, limits: Limits
) -> int | None:
    """Which stream is at the gap first, if any is to be waited for."""
    near = [
        (gap - one.position, number)
        for number, one in enumerate(streams)
        if one.file == file and reaches(one, gap, prices, limits)
    ]
    return min(near)[1] if near else None


def serve(
    file: Hashable,
    gap: int,
    streams: Sequence[Stream],
    prices: Prices,
    limits: Limits,
    now_s: float,
    *,
    since_s: float = math.inf,
    others: bool = False,
) -> Decision:
    """What is done for somebody who waits for the byte at ``gap``: rows 2 to 9 but for 4.

    ``since_s``: when he came, if not just now; ``others``: whether somebody waits for another place
    of the file, too.
    """
    number = nearest(file, gap, streams, prices, limits)
    if number is not None:
        return Join(number)  # 2, 3
    if len(streams) < limits.streams:
        return Open()  # 5
    oldest = sorted(
        (number for number, one in enumerate(streams) if not one.ending),
        key=lambda number: streams[number].since_s,
    )
    for number in oldest:
        if not others and _reads_ahead_of(streams[number], file, since_s):
            return Replace(number)  # 6
    for may_go in (_is_forgotten, _had_its_turn):  # 7, 8
        for number in oldest:
            if may_go(streams[number], prices, limits, now_s):
                return Replace(number)
    return Wait()  # 9


def _reads_ahead_of(one: Stream, file: Hashable, since_s: float) -> bool:
    """Whether who waits since then may be the one whom the stream reads ahead for."""
    return not one.wanted and one.file == file and not one.sweeps and one.came_s <= since_s


def _is_forgotten(one: Stream, prices: Prices, limits: Limits, now_s: float) -> bool:
    return not one.wanted and now_s - one.wanted_s >= limits.moment_s(one.position, prices)


def _had_its_turn(one: Stream, _: Prices, limits: Limits, now_s: float) -> bool:
    return one.turn_s is not None and now_s - one.turn_s >= limits.turn_s
