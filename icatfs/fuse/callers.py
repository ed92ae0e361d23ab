"""Who is asking: what ``/proc`` tells of the programs that use the mount.

Everything here is read from procfs, which answers without touching any file system; a link in
``/proc/<pid>/fd`` is read as text and never followed, for it may lead into our own mount. What a
process is, and whether it still is, may change at any time: a program that has gone, or that we may
not look at, has no signals and holds what it holds unseen.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from icatfs.fuse.mountpoint import mounted_at

if TYPE_CHECKING:
    from collections.abc import Iterator

_STOPS = (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGCONT)
_STOP_MASK = sum(1 << (number - 1) for number in _STOPS)


def signals_to_handle(status: str) -> int:
    """The mask of signals, in the text of ``/proc/<pid>/status``, that a program is to handle now.

    Pending for the process or its first thread, and neither blocked nor ignored. Being stopped and
    continued counts only where the program has a handler for it: it must not see EINTR for that.
    """
    masks = {
        name: int(value, 16)
        for name, _, value in (line.partition(":") for line in status.splitlines())
        if name in ("SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt")
    }
    if len(masks) < 5:
        return 0
    pending = masks["SigPnd"] | masks["ShdPnd"]
    unhandled_stops = _STOP_MASK & ~masks["SigCgt"]
    return pending & ~masks["SigBlk"] & ~masks["SigIgn"] & ~unhandled_stops


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
        if pid <= 0:
            return 0
        for line in self._status(pid).splitlines():
            if line.startswith("Tgid:"):
                return int(line.removeprefix("Tgid:"))
        return 0

    def must_stop(self, process: int) -> bool:
        """Whether a signal waits for the process that it neither blocks nor ignores."""
        return signals_to_handle(self._status(process)) != 0

    def holds(self, process: int, ino: int) -> bool | None:
        """Whether the process still has a descriptor of this inode of the mount.

        A descriptor that is being closed is not seen any more. None when we may not look.
        """
        try:
            mounts = self._mount_ids(process)
            return any(self._is_on(info, mounts, ino) for info in self._descriptors(process))
        except FileNotFoundError:
            return False
        except (OSError, ValueError):
            return None

    def _status(self, pid: int) -> str:
        try:
            return (self._proc / str(pid) / "status").read_text(errors="replace")
        except OSError:
            return ""

    def _descriptors(self, process: int) -> Iterator[str]:
        """What fdinfo has of every open descriptor."""
        folder = self._proc / str(process) / "fdinfo"
        for descriptor in os.listdir(folder):
            try:
                yield (folder / descriptor).read_text(errors="replace")
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

    @staticmethod
    def _is_on(fdinfo: str, mounts: frozenset[int], ino: int) -> bool:
        facts = dict(line.split(":", 1) for line in fdinfo.splitlines() if ":" in line)
        return int(facts.get("ino", -1)) == ino and int(facts.get("mnt_id", -1)) in mounts
