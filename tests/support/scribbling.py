"""Programs that write into the same few files in every order, and what these must hold then."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_WAIT_BEFORE, _WRITE, _WAIT_AFTER = 1, 2, 4
_MOST = 5
_LONGEST = 30_000
_WAYS = {
    "anew": os.O_RDWR | os.O_CREAT | os.O_TRUNC,
    "to append": os.O_RDWR | os.O_CREAT | os.O_APPEND,
    "to change": os.O_RDWR,
    "to write only": os.O_WRONLY,
    "to read": os.O_RDONLY,
}
"""How a file may be opened; the first two also make it."""


def pass_on(descriptor: int) -> None:
    """Have the kernel write what it has kept of a file, without a word about times or ends."""
    _libc.sync_file_range(
        descriptor, ctypes.c_long(0), ctypes.c_long(0), _WAIT_BEFORE | _WRITE | _WAIT_AFTER
    )


def forget_pages(descriptor: int) -> None:
    """Have the kernel read again what it has written of a file."""
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


@dataclass(eq=False)
class File:
    """One file, whatever its name; ``content`` is what it must hold."""

    content: bytearray = field(default_factory=bytearray)


@dataclass(eq=False)
class Open:
    """An open file; ``begun`` is what it held then, which who only reads may go on reading."""

    descriptor: int
    file: File
    way: str
    begun: bytes


class Scribbler:
    """Does things at random in one folder, and compares what is read with what was written."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self._folder = folder
        self._chance = chance
        self._names = ["a", "b"]
        self._open: list[Open] = []
        self.files: dict[str, File] = {}
        self.told: list[str] = []

    def run(self, steps: int) -> None:
        """So many steps, and then all is closed."""
        doing = [self.opens, self.writes, self.writes, self.writes, self.cuts, self.reads]
        doing += [self.passes_on, self.forgets, self.syncs, self.closes, self.looks]
        try:
            for number in range(steps):
                self._chance.choice(doing)()
                if number % 20 == 0:
                    self._chance.choice([self.renames, self.removes])()
        finally:
            while self._open:
                os.close(self._open.pop().descriptor)

    def opens(self) -> None:
        name, way = self._chance.choice(self._names), self._chance.choice(list(_WAYS))
        if len(self._open) == _MOST or (name not in self.files and not _WAYS[way] & os.O_CREAT):
            return
        self._tell("open", name, way)
        descriptor = os.open(self._folder / name, _WAYS[way])
        file = self.files.setdefault(name, File())
        if way == "anew":
            file.content.clear()
        self._open.append(Open(descriptor, file, way, bytes(file.content)))

    def writes(self) -> None:
        one = self._any("write", "to read")
        if one is None:
            return
        content, length = one.file.content, self._chance.choice([1, 10, 100, 4096, 5000, 20_000])
        data, end = self._chance.randbytes(length), len(content)
        place = self._chance.choice([0, self._chance.randrange(_LONGEST), max(end - 50, 0), end])
        if one.way == "to append":
            place = end
            os.write(one.descriptor, data)
        else:
            os.pwrite(one.descriptor, data, place)
        content.extend(bytes(max(place - end, 0)))
        content[place : place + length] = data

    def cuts(self) -> None:
        one = self._any("cut", "to read")
        if one is None:
            return
        content = one.file.content
        size = self._chance.choice([0, self._chance.randrange(_LONGEST), len(content)])
        os.ftruncate(one.descriptor, size)
        content.extend(bytes(max(size - len(content), 0)))
        del content[size:]

    def reads(self) -> None:
        one = self._any("read", "to write only")
        if one is None:
            return
        found, allowed = os.pread(one.descriptor, 2 * _LONGEST, 0), {bytes(one.file.content)}
        allowed |= {one.begun} if one.way == "to read" else set()
        assert found in {content[: 2 * _LONGEST] for content in allowed}

    def passes_on(self) -> None:
        if one := self._any("pass on"):
            pass_on(one.descriptor)

    def forgets(self) -> None:
        if one := self._any("forget"):
            pass_on(one.descriptor)
            forget_pages(one.descriptor)

    def syncs(self) -> None:
        if one := self._any("fsync"):
            os.fsync(one.descriptor)

    def closes(self) -> None:
        if one := self._any("close"):
            self._open.remove(one)
            os.close(one.descriptor)

    def looks(self) -> None:
        for name, file in self.files.items():
            self._tell("look", name)
            size, when = len(file.content), self._chance.randrange(10**9, 2 * 10**9)
            assert (self._folder / name).stat().st_size == size
            assert (self._folder / name).read_bytes() == file.content
            if when % 4 == 0:
                os.utime(self._folder / name, (when, when))
                assert (self._folder / name).stat().st_mtime == when

    def renames(self) -> None:
        old, new = self._chance.sample(self._names, 2)
        with suppress(KeyError):
            file = self.files.pop(old)
            self._tell("rename", old, new)
            (self._folder / old).rename(self._folder / new)
            self.files[new] = file

    def removes(self) -> None:
        name = self._chance.choice(self._names)
        with suppress(KeyError):
            del self.files[name]
            self._tell("remove", name)
            (self._folder / name).unlink()

    def _any(self, what: str, but: str = "") -> Open | None:
        """An open file that was not opened in one way."""
        found = [one for one in self._open if one.way != but]
        if not found:
            return None
        one = self._chance.choice(found)
        self._tell(what, str(self._open.index(one)), one.way)
        return one

    def _tell(self, *words: str) -> None:
        self.told.append(" ".join(words))
