"""Whose bytes a member of a zip is.

A facility's plugin decides what members are called (the stock one: ``ids/F/I/V/D/N`` with the
Datafile's name N as it is), and of members of equal names the server sends the first and says
nothing (ids.server 2.1.1, getData). So a name alone proves nothing, nor does a place: members come
in ascending order of datafile id, but some may be left out, and in a zip of a whole dataset some
may be new to us. What proves it is the content, where its CRC-32 is known: equal size and CRC-32 is
all that can be asked of bytes, wherever they come from. So:

=============================  ==================================================================
the CRC-32 is known            size and CRC-32 are equal, and the name ends in that of the
                               datafile; or, whatever the name, it is one of the next in order
it is not, but the ids of all  size is equal; it comes after all who came; and its name is that of
members were named in the      the datafile, and of no other, behind the *front*: what is in front
request                        of the names here, as members of known CRC-32 have shown
otherwise                      nobody's
=============================  ==================================================================

The front is shown by a member that is not empty, is proved by its content, and whose name ends in
that of one datafile only; where two show different ones, names here tell nothing. Where the
catalogue has no CRC-32 at all, somebody who was fetched by himself before may be named once more:
his is that of the bytes that came (`icatfs.content.bulk`). In a zip of a whole dataset names are
never believed, however right the front: whoever is not expected may be in it, a file of the same
name and size for one that is gone since it was listed. (*Against* believing the first member's
front, as his place is right: all that was listed may be gone.)

Pure. Invariant: a datafile gets at most one member.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_NEXT = 32
"""How many may have been left out between two members of strange names."""


@dataclass(frozen=True, slots=True)
class Expected:
    """A datafile that may be in the zip."""

    name: str
    size: int | None
    crc32: int | None


class Roll:
    """Who is expected, in the order of their coming; and who has come."""

    def __init__(
        self, expected: Iterable[Expected] = (), *, is_named: bool = False, front: str | None = None
    ) -> None:
        """``is_named``: the request names them. ``front`` is what an earlier zip showed."""
        # given
        self._is_named = is_named
        # mutable: who is expected, and the places of each name
        self._expected: list[Expected] = []
        self._places: dict[str, list[int]] = {}
        # mutable: who has come; the place after the last of them; the fronts that were shown
        self._came: set[int] = set()
        self._next = 0
        self._fronts: set[str] = set() if front is None else {front}
        for one in expected:
            self.expect(one)

    def expect(self, one: Expected) -> None:
        """Expect another one, behind all others; before anybody comes."""
        self._places.setdefault(one.name, []).append(len(self._expected))
        self._expected.append(one)

    def __len__(self) -> int:
        return len(self._expected)

    @property
    def place(self) -> int:
        """The place after the last who came: whoever is before it will hardly come any more."""
        return self._next

    @property
    def came(self) -> int:
        """How many have come."""
        return len(self._came)

    @property
    def front(self) -> str | None:
        """What is in front of names here; None if that is unsure."""
        return next(iter(self._fronts)) if len(self._fronts) == 1 else None

    def size(self, name: str) -> int | None:
        """How long a member of this name should be, if that is known."""
        sizes: list[int | None] = [self._expected[place].size for place, _ in self._named(name)]
        return sizes[0] if len(set(sizes)) == 1 else None

    def match(self, name: str, size: int, crc32: int) -> int | None:
        """The place of the datafile whose bytes a complete member is; None if that is unsure."""
        place = self._proved(name, size, crc32)
        if place is None:
            place = self._named_only(name, size)
        elif size:
            self._learn_front(name, place)
        if place is not None:
            self._came.add(place)
            self._next = max(self._next, place + 1)
        return place

    def _learn_front(self, name: str, place: int) -> None:
        named = list(self._named(name))
        if len(named) == 1 and named[0][0] == place:
            self._fronts.add(named[0][1])

    def _proved(self, name: str, size: int, crc32: int) -> int | None:
        """By content, and then name or order."""
        places = [place for place, _ in self._named(name)]
        places += range(self._next, min(self._next + _NEXT, len(self._expected)))
        for place in places:
            one = self._expected[place]
            if (one.size, one.crc32) == (size, crc32) and place not in self._came:
                return place
        return None

    def _named_only(self, name: str, size: int) -> int | None:
        """By name, size and order, where the CRC-32 is not known."""
        if not self._is_named or self.front is None:
            return None
        places = [place for place, front in self._named(name) if front == self.front]
        if len(places) != 1:
            return None
        one = self._expected[places[0]]
        is_right = one.crc32 is None and one.size == size and places[0] >= self._next
        return places[0] if is_right else None

    def _named(self, name: str) -> Iterator[tuple[int, str]]:
        """Places of those whose name the member's ends in, and what is in front of it."""
        start = 0
        while True:
            for place in self._places.get(name[start:], ()):
                yield place, name[:start]
            start = name.find("/", start) + 1
            if not start:
                return
