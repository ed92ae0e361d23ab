"""A zip that is read while it arrives: bytes in, members out. No I/O.

A zip is made to be read from its end, where its directory is. One that is still arriving has no
end yet, so this goes by the local headers alone, as far as they tell:

* the data service (ids.server 2.1.1 with java.util.zip) deflates every member, at level 0 where it
  does not compress, and puts sizes and CRC behind the data (flag 0x0008). Deflated data say
  themselves where they end;
* *stored* data with sizes behind them do not. A descriptor is looked for whose sizes are the bytes
  since the header, and which is followed by the signature of what may come next. Its own signature
  is optional, so it is also looked for where ``expected_size`` says that the member should end;
* a descriptor is known by its sizes, because nothing says whether they have 32 or 64 bits;
* a CRC that is not that of the bytes is no reason to stop: the member is not `End.intact`, and the
  next one begins where it should. Sizes or headers that make no sense are: nothing behind them can
  be trusted, and all before is as good as it was.

*Against* the directory as the truth: it comes last, when everybody has been served. It is read only
to know that the zip is complete. (Format: PKWARE's APPNOTE 6.3.)
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from isal.isal_zlib import crc32

from icatfs.errors import Damaged, ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

_LOCAL, _CENTRAL, _DESCRIPTOR = b"PK\3\4", b"PK\1\2", b"PK\7\x08"
_END, _END_64, _LOCATOR_64 = b"PK\5\6", b"PK\6\6", b"PK\6\7"
_AFTER_A_MEMBER = frozenset({_LOCAL, _CENTRAL, _END, _END_64})

_HEADER = struct.Struct("<4x2xHH4xLLLHH")  # flags, method, crc32, packed, size, name, extra
_SIGNED = (struct.Struct("<4xLLL"), struct.Struct("<4xLQQ"))
_UNSIGNED = (struct.Struct("<LLL"), struct.Struct("<LQQ"))
_LONGEST_DESCRIPTOR = 24
_DIRECTORY_ENTRY = struct.Struct("<4x24xHHH12x")  # name, extra, comment
_LAST = struct.Struct("<4x6xH8xH")  # entries, comment
_RECORD_64 = struct.Struct("<4xQ")
_LARGEST_RECORD = 2**16

_ENCRYPTED, _SIZES_FOLLOW, _UTF_8 = 0x0001 | 0x0040, 0x0008, 0x0800
_STORED, _DEFLATED = 0, 8
_UNKNOWN = 0xFFFFFFFF
_ZIP64 = 1

_FIRST_PIECE, _LARGEST_PIECE = 2**14, 2**18
"""What zlib gets at once. It copies what is behind a member: little for small members."""
_LARGEST_DATA = 2**20


@dataclass(frozen=True, slots=True)
class Begin:
    """A member begins; ``size`` in bytes, None where only its end will tell."""

    name: str
    size: int | None


@dataclass(frozen=True, slots=True)
class Data:
    """The next bytes of the member, unpacked; at most 1 MiB."""

    data: bytes


@dataclass(frozen=True, slots=True)
class End:
    """The member is complete; ``intact`` if size and CRC-32 of its data are what the zip says."""

    size: int
    crc32: int
    intact: bool


@dataclass(frozen=True, slots=True)
class Finish:
    """The zip is complete."""

    members: int


Event: TypeAlias = Begin | Data | End | Finish

T = TypeVar("T")
Needing: TypeAlias = "Generator[None, None, T]"
Making: TypeAlias = "Generator[Event | None, None, T]"
"""What waits for more bytes yields None; what makes events yields those too."""


def _nothing(_: str) -> int | None:
    return None


class Unzip:
    """One zip. ``expected_size`` may tell how long a member of a name should be."""

    def __init__(self, expected_size: Callable[[str], int | None] = _nothing) -> None:
        # given
        self._expected_size = expected_size
        # mutable: what has come and is not used up begins at ``_at`` in the buffer, which began
        # at ``_passed`` in the zip
        self._buffer = b""
        self._at = 0
        self._passed = 0
        self._events = self._archive()
        self._finished = False
        # mutable: of the member that is open
        self._size = self._crc = 0

    @property
    def position(self) -> int:
        """How many bytes of the zip are used up."""
        return self._passed + self._at

    def feed(self, data: bytes) -> Iterator[Event]:
        """What these bytes complete; to be iterated to its end before the next are fed.

        Raises `Damaged` for what is no zip (any more), `ProtocolError` for one that is encrypted or
        packed in another way, both after the events before.
        """
        self._passed += self._at
        self._buffer = self._buffer[self._at :] + data
        self._at = 0
        for event in self._events:
            if event is None:
                return
            yield event

    def close(self) -> None:
        """No more bytes will come: raises `Damaged` unless the zip was complete."""
        if not self._finished:
            raise Damaged(f"the zip ends early, or makes no sense, at byte {self.position}")

    # Bytes.

    def _peek(self, count: int) -> Needing[bytes]:
        while len(self._buffer) - self._at < count:
            yield None
        return self._buffer[self._at : self._at + count]

    def _take(self, count: int) -> Needing[bytes]:
        piece = yield from self._peek(count)
        self._at += count
        return piece

    def _damaged(self, words: str) -> Damaged:
        return Damaged(f"{words} at byte {self.position} of the zip")

    # The archive.

    def _archive(self) -> Making[None]:
        members = 0
        while (yield from self._peek(4)) == _LOCAL:
            yield from self._member()
            members += 1
        yield from self._directory(members)
        self._finished = True
        yield Finish(members)
        while True:
            self._at = len(self._buffer)
            yield None

    def _directory(self, members: int) -> Needing[None]:
        entries = 0
        while (signature := (yield from self._peek(4))) != _END:
            if signature == _CENTRAL:
                head = yield from self._take(_DIRECTORY_ENTRY.size)
                yield from self._take(sum(_DIRECTORY_ENTRY.unpack(head)))
                entries += 1
            elif signature == _END_64:
                head = yield from self._take(_RECORD_64.size)
                (size,) = _RECORD_64.unpack(head)
                if size > _LARGEST_RECORD:
                    raise self._damaged("the end of the directory makes no sense")
                yield from self._take(size)
            elif signature == _LOCATOR_64:
                yield from self._take(20)
            else:
                raise self._damaged("neither a member nor the directory begins")
        count, comment = _LAST.unpack((yield from self._take(_LAST.size)))
        if entries != members or count not in (members, 0xFFFF):
            raise self._damaged(f"a directory of {entries} for {members} members ends")
        yield from self._take(comment)

    # Members.

    def _member(self) -> Making[None]:
        head = yield from self._take(_HEADER.size)
        flags, method, crc, packed, size, name_length, extra_length = _HEADER.unpack(head)
        raw = yield from self._take(name_length)
        name = raw.decode("utf-8", "surrogateescape") if flags & _UTF_8 else raw.decode("cp437")
        extra = yield from self._take(extra_length)
        if flags & _ENCRYPTED or method not in (_STORED, _DEFLATED):
            raise ProtocolError(f"{name!r} is packed in a way that is not known here")
        self._size = self._crc = 0
        if flags & _SIZES_FOLLOW:
            yield Begin(name, None)
            intact = yield from self._streamed(method, self._expected_size(name))
        else:
            size, packed = _whole(size, packed, extra)
            yield Begin(name, size)
            yield from self._inflate() if method == _DEFLATED else self._copy(packed)
            intact = (size, crc) == (self._size, self._crc)
        yield End(self._size, self._crc, intact)

    def _streamed(self, method: int, expected: int | None) -> Making[bool]:
        """A member whose sizes are behind its data; whether its CRC is right."""
        if method == _STORED:
            return (yield from self._stored(expected))
        packed = yield from self._inflate()
        look = yield from self._peek(_LONGEST_DESCRIPTOR + 4)
        found = self._descriptor(look, packed) or self._misleading(look)
        if found is None:
            raise self._damaged("sizes that are not those of the member")
        length, crc = found
        self._at += length
        return crc == self._crc

    def _given(self, data: bytes) -> Data:
        self._size += len(data)
        self._crc = crc32(data, self._crc)
        return Data(data)

    def _inflate(self) -> Making[int]:
        """Deflated data to their end; how many bytes they took."""
        inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        packed, most = 0, _FIRST_PIECE
        while not inflate.eof:
            while self._at == len(self._buffer):
                yield None
            piece = self._buffer[self._at : self._at + most]
            most = min(2 * most, _LARGEST_PIECE)
            try:
                data = inflate.decompress(piece, _LARGEST_DATA)
            except zlib.error as error:
                raise self._damaged(f"deflated data make no sense ({error})") from error
            rest = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
            used = len(piece) - len(rest)
            self._at += used
            packed += used
            if data:
                yield self._given(data)
        return packed

    def _copy(self, count: int) -> Making[None]:
        """So many bytes as they are."""
        while count:
            while self._at == len(self._buffer):
                yield None
            data = self._buffer[self._at : self._at + min(count, _LARGEST_DATA)]
            self._at += len(data)
            count -= len(data)
            yield self._given(data)

    def _stored(self, expected: int | None) -> Making[bool]:
        """Stored data to a descriptor that fits; whether its CRC is right."""
        ruled_out = 0
        while True:
            end = self._possible_end(ruled_out, expected)
            if end is None:
                unsure = len(_DESCRIPTOR) - 1
                sure = max(0, len(self._buffer) - self._at - unsure)
                yield from self._copy(sure)
                ruled_out = max(0, ruled_out - sure)
                yield None
                continue
            yield from self._copy(end)
            look = yield from self._peek(_LONGEST_DESCRIPTOR + 4)
            found = self._descriptor(look, self._size)
            if found is not None and (found[1] == self._crc or expected in (None, self._size)):
                self._at += found[0]
                return found[1] == self._crc
            ruled_out = 1

    def _possible_end(self, ruled_out: int, expected: int | None) -> int | None:
        """How many bytes from here a descriptor may begin, if so many have come."""
        signature = self._buffer.find(_DESCRIPTOR, self._at + ruled_out)
        ends = [signature - self._at] if signature >= 0 else []
        if expected is not None:
            left = expected - self._size
            if ruled_out <= left <= len(self._buffer) - self._at:
                ends.append(left)
        return min(ends, default=None)

    def _descriptor(self, look: bytes, packed: int) -> tuple[int, int] | None:
        """Length and CRC of the descriptor that ``look`` begins with, if its sizes are right."""
        signed = look.startswith(_DESCRIPTOR)
        for form in _SIGNED + _UNSIGNED if signed else _UNSIGNED:
            crc, *sizes = form.unpack_from(look)
            mask = -1 if form in (_SIGNED[1], _UNSIGNED[1]) else _UNKNOWN
            is_followed = look[form.size : form.size + 4] in _AFTER_A_MEMBER
            if is_followed and sizes == [packed & mask, self._size & mask]:
                return form.size, crc
        return None

    def _misleading(self, look: bytes) -> tuple[int, int] | None:
        """A descriptor at the right place that is wrong about sizes; its CRC counts as wrong."""
        for form in _SIGNED if look.startswith(_DESCRIPTOR) else ():
            if look[form.size : form.size + 4] in _AFTER_A_MEMBER:
                return form.size, ~self._crc
        return None


def _whole(size: int, packed: int, extra: bytes) -> tuple[int, int]:
    """The sizes of a header, those beyond 32 bits from its extra field."""
    if _UNKNOWN not in (size, packed):
        return size, packed
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        if kind == _ZIP64 and length >= 16 and len(extra) >= 20:
            large, large_packed = struct.unpack_from("<QQ", extra, 4)
            return large, large_packed
        extra = extra[4 + length :]
    return size, packed
