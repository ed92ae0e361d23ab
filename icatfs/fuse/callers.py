"""Who is asking: what ``/proc`` tells of the programs that use the mount.

Everything here is read from procfs, which answers without touching any file system; a link in
``/proc/<pid>/fd`` is read as text and never followed, for it may lead into our own mount. What a
process is, and whether it still is, may change at any time: a program that has gone, or that we may
not look at, has no signals and holds what it holds unseen.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from icatfs.fs.ports import Opener
from icatfs.fuse.mountpoint import mounted_at
from icatfs.recall.policy import Program

if TYPE_CHECKING:
    from collections.abc import Iterator

_FLAGS, _EXIT_CODE = 6, 49
"""Places in /proc/<pid>/stat, counted from the state on."""
_PF_EXITING = 0x4
_SIGNAL_OF_EXIT = 0x7F
_STOPS = (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGCONT)
_STOP_MASK = sum(1 << (number - 1) for number in _STOPS)


_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_END_MASK = sum(1 << (number - 1) for number in _ENDS)
_MASKS = (b"SigPnd:", b"ShdPnd:", b"SigBlk:", b"SigIgn:", b"SigCgt:")
_READ_BYTES = 8192
_INTERPRETERS = ("python", "perl", "ruby", "node", "java", "bash", "dash", "sh", "kioworker", "kio")
"""Programs whose first argument is the program: names of which this is the beginning."""


def signals_to_handle(status: bytes) -> int:
    """The mask of signals, in the text of ``/proc/<pid>/status``, that a program is to handle now.

    Pending for the process or its first thread, and neither blocked nor ignored. Being stopped and
    continued counts only where the program has a handler for it: it must not see EINTR for that.
    """
    words = status[max(status.find(_MASKS[0]), 0) :].split(None, 10)
    if tuple(words[:10:2]) != _MASKS or len(words) < 10:
        return 0
    private, shared, blocked, ignored, caught = (int(word, 16) for word in words[1:10:2])
    unhandled_stops = _STOP_MASK & ~caught
    return (private | shared) & ~blocked & ~ignored & ~unhandled_stops


class ProcCallers:
    """`icatfs.fs.ports.CallerProbe` for the mount at one mount point."""

    def __init__(
        self, mountpoint: Path, *, proc: Path = Path("/proc"), device: str | None = None
    ) -> None:
        """``device``: the number of the mount, where it is known before the first look."""
        # given
        self._mountpoint = mountpoint
        self._proc = proc
        # mutable: the device number of the mount, once it is known
        self._device = device

    def process_of(self, pid: int) -> int:
        """The process of a thread; 0 for the kernel's 0, another PID namespace."""
        return self.opener(pid).process

    def opener(self, pid: int) -> Opener:
        """The process of a thread, its name and its parent."""
        facts = {}
        for line in self._status(pid).splitlines():
            name, _, value = line.partition(b":")
            facts[name] = value.strip()
            if name == b"PPid":
                break
        try:
            process, parent = int(facts[b"Tgid"]), int(facts[b"PPid"])
        except (KeyError, ValueError):
            return Opener()
        return Opener(process, facts.get(b"Name", b"").decode(errors="replace"), parent)

    def program(self, opener: Opener) -> Program:
        """All names of the opener and of its parent: a descriptor may be read by what the opener
        has become meanwhile, as ``grep word < file``."""
        names = self._names(opener.process)
        if opener.name:
            names.add(opener.name)
        return Program(opener.process, frozenset(names), frozenset(self._names(opener.parent)))

    def _names(self, process: int) -> set[str]:
        """What the kernel calls a program (of 15 bytes at most), what it calls itself, its file;
        and of an interpreter the script."""
        if process <= 0:
            return set()
        folder = self._proc / str(process)
        names = set()
        with suppress(OSError):
            names.add((folder / "comm").read_text(errors="replace").strip())
        with suppress(OSError):
            names.add(os.path.basename(os.readlink(folder / "exe")).removesuffix(" (deleted)"))
        with suppress(OSError):
            arguments = (folder / "cmdline").read_text(errors="replace").split("\0")
            is_interpreter = any(name.startswith(_INTERPRETERS) for name in names)
            names |= {os.path.basename(one) for one in arguments[: 2 if is_interpreter else 1]}
        return names - {""}

    def must_stop(self, pid: int) -> bool:
        """Whether a signal waits for the process that it neither blocks nor ignores."""
        return signals_to_handle(self._status(pid)) != 0

    def must_end(self, pid: int) -> bool:
        """Whether one of them asks it to end."""
        return signals_to_handle(self._status(pid)) & _END_MASK != 0

    def is_gone(self, process: int) -> bool:
        """Whether the process has ended; a zombie holds nothing any more either."""
        status = self._status(process)
        return not status or b"\nState:\tZ" in status

    def holds(self, process: int, ino: int) -> bool | None:
        """Whether the process can still write to this inode of the mount, by some descriptor.

        A descriptor that is being closed is not seen any more. None when we may not look.
        """
        try:
            places = {_written_on(info, ino) for info in self._descriptors(process)} - {None}
            return bool(places) and not places.isdisjoint(self._mount_ids(process))
        except FileNotFoundError:
            return False
        except (OSError, ValueError):
            return None

    def was_killed(self, process: int) -> bool:
        """Whether the process is ending, or has ended, because of a signal.

        Its files are closed by the kernel before it vanishes, so whoever handles that can look.
        False where nothing can be seen any more.
        """
        try:
            text = (self._proc / str(process) / "stat").read_text(errors="replace")
        except OSError:
            return False
        facts = text[text.rfind(")") + 2 :].split()  # from field 3 on, see proc(5)
        if len(facts) <= _EXIT_CODE:
            return False
        is_ending = facts[0] in "ZX" or bool(int(facts[_FLAGS]) & _PF_EXITING)
        return is_ending and int(facts[_EXIT_CODE]) & _SIGNAL_OF_EXIT != 0

    def _status(self, pid: int) -> bytes:
        """Nothing of a process that has gone. Asked for many of them, often."""
        if pid <= 0:
            return b""
        try:
            return _read(f"{self._proc}/{pid}/status")
        except OSError:
            return b""

    def _descriptors(self, process: int) -> Iterator[bytes]:
        """What fdinfo has of every open descriptor."""
        folder = f"{self._proc}/{process}/fdinfo"
        for descriptor in os.listdir(folder):
            try:
                yield _read(f"{folder}/{descriptor}")
            except FileNotFoundError:
                continue  # closed meanwhile

    def _mount_ids(self, process: int) -> frozenset[int]:
        """Under which numbers the process sees our mount: bind mounts have numbers of their own."""
        if self._device is None:
            mounted = mounted_at(self._mountpoint)
            self._device = mounted.device if mounted else None
        text = (self._proc / str(process) / "mountinfo").read_text(errors="replace")
        lines = (line.split(maxsplit=3) for line in text.splitlines())
        return frozenset(int(line[0]) for line in lines if line[2] == self._device)


def _read(path: str) -> bytes:
    """The first page or two of a file of procfs, in one call."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, _READ_BYTES)
    finally:
        os.close(descriptor)


def _written_on(fdinfo: bytes, ino: int) -> int | None:
    """The number of the mount on which this descriptor may write to that inode; None: it may not.

    Most descriptors are of other files, and are told by their inode without looking further.
    """
    if b"ino:\t%d\n" % ino not in fdinfo:
        return None
    facts = dict(line.split(b":", 1) for line in fdinfo.splitlines() if b":" in line)
    if int(facts.get(b"flags", b"1"), 8) & os.O_ACCMODE == os.O_RDONLY:
        return None
    return int(facts.get(b"mnt_id", b"-1"))
