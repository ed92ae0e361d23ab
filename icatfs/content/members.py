"""Whose bytes a member of a zip is.

A facility's plugin decides what members are called (the stock one: ``ids/F/I/V/D/N`` with the
Datafile's name N as it is), and of members of equal names the server sends the first and says
nothing (ids.server 2.1.1, getData). So a name alone proves nothing, nor does a place: members come
in ascending order of datafile id, but some may be left out, and some may be new to us. What proves
it is the content, where the catalogue has a CRC-32: equal size and CRC-32 is all that can be asked
of bytes, wherever they come from. So:

=============================  ==================================================================
the catalogue has a CRC-32     size and CRC-32 are equal, and the name ends in that of the
                               datafile; or, whatever the name, it is one of the next in order
the catalogue has none         size is equal; the name is that of the datafile behind what was in
                               front of the others' names, and of no other that is expected; and it
                               comes after all who came, the first one in its turn
otherwise                      nobody's
=============================  ==================================================================

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

    def __init__(self, expected: Iterable[Expected] = ()) -> None:
        # mutable: who is expected, and the places of each name
        self._expected: list[Expected] = []
        self._places: dict[str, list[int]] = {}
        # mutable: who has come; the place after the last of them; what was in front of their names
        self._came: set[int] = set()
        self._next = 0
        self._front: str | None = None
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

    def size(self, name: str) -> int | None:
        """How long a member of this name should be, if that is known."""
        sizes: list[int | None] = [self._expected[place].size for place, _ in self._named(name)]
        return sizes[0] if len(set(sizes)) == 1 else None

    def match(self, name: str, size: int, crc32: int) -> int | None:
        """The place of the datafile whose bytes a complete member is; None if that is unsure."""
        place = self._proved(name, size, crc32)
        if place is None:
            place = self._named_only(name, size)
        if place is None:
            return None
        self._came.add(place)
        self._next = max(self._next, place + 1)
        own = self._expected[place].name
        if name.endswith(own):
            self._front = name[: len(name) - len(own)]
        return place

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
        """By name, size and order, where the catalogue has no CRC-32.

        The first member tells what is in front of all names. Should all that is listed have gone
        from the facility meanwhile, the first is a stranger, and told apart by its size only.
        """
        named = list(self._named(name))
        if self._front is not None:
            named = [(place, front) for place, front in named if front == self._front]
        if len(named) != 1 or (self._front is None and named[0][0] != self._next):
            return None
        ((place, _),) = named
        one = self._expected[place]
        is_right = one.crc32 is None and one.size == size and place >= self._next
        return place if is_right else None

    def _named(self, name: str) -> Iterator[tuple[int, str]]:
        """Places of those whose name the member's ends in, and what is in front of it."""
        start = 0
        while True:
            for place in self._places.get(name[start:], ()):
                yield place, name[:start]
            start = name.find("/", start) + 1
            if not start:
                return
