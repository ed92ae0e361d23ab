"""Mount, tune, serve, unmount: everything that is said to the kernel beyond answers.

Forces, each measured (Linux 6.18, libfuse 3.14):

* Twelve reads that wait stop every other read of a mount, as long as the kernel keeps to its own
  limit of requests in the background (`icatfs.fuse.greeting`). Where it has to, eight reads may
  wait; one more is told so after a moment.
* The kernel's loop ends only when every handler has: who waits is woken before it is told to end,
  and also when the connection has gone, as after ``umount`` with a reader killed meanwhile.
* A notification can put the calling thread to sleep until a request is answered, so it is never
  sent by the thread that answers requests.
* The process that serves a mount never touches it, or it would wait for itself: the number of its
  device comes from mountinfo.
* After a crash the mount point is left dead, not empty: an empty folder would make somebody's
  mirror job delete everything.
"""

from __future__ import annotations

import logging
import math
import os
import queue
import select
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyfuse3
import trio

from icatfs.errors import MountError
from icatfs.fuse.greeting import greet
from icatfs.fuse.mountpoint import mounted_at
from icatfs.fuse.operations import Operations
from icatfs.fuse.taking import hasten

if TYPE_CHECKING:
    from collections.abc import Callable

    from icatfs.fs.filesystem import FileSystem

log = logging.getLogger(__name__)

_READ_AHEAD_KB = 1024
BACKGROUND = 1000
_MOST_BACKGROUND = (1 << 16) - 1
KERNELS_BACKGROUND = 12
_WHOLE_SECONDS_NS = 10**9
"""How fine the times of a catalogue are."""
_FEW_READS = 8
"""So many waiting reads leave the kernel some of its twelve for others."""
_GRACE_S = 10.0
_LOOK_S = 0.5
_MOST_NOTIFICATIONS = 10_000


class KernelNotifier:
    """`icatfs.fs.ports.Notifier`: a queue, and the thread that works it off.

    What is said while nothing is mounted, or while the queue is full, is not said at all: the
    kernel's own timeouts cure it.
    """

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def invalidate_inode(self, ino: int) -> None:
        """Forget cached attributes and pages of one inode."""
        self._put(lambda: pyfuse3.invalidate_inode(ino))

    def invalidate_attributes(self, ino: int) -> None:
        """Forget cached attributes of one inode, but not its pages."""
        self._put(lambda: pyfuse3.invalidate_inode(ino, attr_only=True))

    def invalidate_entry(self, folder: int, name: str) -> None:
        """Forget one name of a folder."""
        raw = name.encode("utf-8", "surrogateescape")
        self._put(lambda: pyfuse3.invalidate_entry(folder, raw))

    def start(self) -> None:
        """The mount exists."""
        self._thread = threading.Thread(target=self._work, name="notifier", daemon=True)
        self._thread.start()

    def stop(self) -> bool:
        """The mount is about to go; whether no notification is under way any more."""
        thread, self._thread = self._thread, None
        if thread is None:
            return True
        self._queue.put(None)
        thread.join(1.0)
        return not thread.is_alive()

    def _put(self, notification: Callable[[], None]) -> None:
        if self._thread is not None and self._queue.qsize() < _MOST_NOTIFICATIONS:
            self._queue.put(notification)

    def _work(self) -> None:
        while (notification := self._queue.get()) is not None:
            try:
                notification()
            except OSError as error:  # it never knew, or the mount has gone
                log.debug("notification: %s", error)


async def serve(
    filesystem: FileSystem[Any],
    mountpoint: Path,
    *,
    source: str,
    fuse_options: set[str],
    on_ready: Callable[[], None],
    notifier: KernelNotifier | None = None,
    max_tasks: int = 2000,
    background: int = BACKGROUND,
) -> None:
    """Mount and serve until unmounted or cancelled, then unmount.

    ``background`` is how many requests may be under way in the kernel; where that is the kernel's
    own twelve, only eight reads wait for the archive at once. ``on_ready`` is called when requests
    are answered. Raises `MountError` when the mount cannot be made.
    `icatfs.fuse.mountpoint.prepare` has looked at the mount point before.
    """
    hasten()
    _mount(Operations(filesystem), mountpoint, _options(filesystem, source, fuse_options))
    notifier = notifier or KernelNotifier()
    ended = False
    try:
        granted = granted_background(background)
        if granted == KERNELS_BACKGROUND:
            filesystem.limit_waiting(_FEW_READS)
        clock = _WHOLE_SECONDS_NS if filesystem.writes_back else None
        await greet(fuse_descriptor(), granted, clock)
        await trio.to_thread.run_sync(tune, mountpoint)
        notifier.start()
        on_ready()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_watch_connection, filesystem)
            await _answer(filesystem, max_tasks)
            nursery.cancel_scope.cancel()
        ended = True
    finally:
        on_purpose = ended or trio.current_effective_deadline() == -math.inf
        if notifier.stop():
            pyfuse3.close(unmount=on_purpose)
        else:
            log.warning("a notification to the kernel is stuck: the mount ends with the process")


def _options(filesystem: FileSystem[Any], source: str, more: set[str]) -> set[str]:
    options = {f"fsname={_escape(source)}", "subtype=icatfs", *more}
    if filesystem.is_read_only:
        options.discard("rw")
        options.add("ro")
    return options


def _escape(source: str) -> str:
    """An option value for libfuse: ASCII, commas and backslashes escaped."""
    text = source.encode("ascii", "replace").decode("ascii")
    return text.replace("\\", "\\\\").replace(",", "\\,")


def _mount(operations: Operations, mountpoint: Path, options: set[str]) -> None:
    try:
        pyfuse3.init(operations, os.fspath(mountpoint), options)
    except RuntimeError as error:
        raise MountError(f"cannot mount at {mountpoint}: {error}") from error


async def _answer(filesystem: FileSystem[Any], max_tasks: int) -> None:
    """Answer requests until the mount ends; when cancelled, answer first who waits."""
    ended = trio.Event()
    shield = trio.CancelScope(shield=True)

    async def loop() -> None:
        with shield:
            await pyfuse3.main(max_tasks=max_tasks)
        ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(loop)
        try:
            await ended.wait()
        finally:
            filesystem.shut_down()
            if not ended.is_set():
                pyfuse3.terminate()
                shield.deadline = trio.current_time() + _GRACE_S


async def _watch_connection(filesystem: FileSystem[Any]) -> None:
    """Wake all waiters when the connection to the kernel has gone: nobody waits for them."""
    poll = select.poll()
    poll.register(fuse_descriptor(), 0)
    while not poll.poll(0):  # noqa: ASYNC110 - the kernel sets no event of ours
        await trio.sleep(_LOOK_S)
    filesystem.shut_down()


def fuse_descriptor() -> int:
    """Our end of the connection. There is one mount per process, and pyfuse3 keeps it to itself."""
    for name in sorted(os.listdir("/proc/self/fd"), key=int, reverse=True):
        try:
            if os.readlink(f"/proc/self/fd/{name}") == "/dev/fuse":
                return int(name)
        except OSError:
            continue  # the descriptor of the listing itself
    raise MountError("the connection to the kernel was lost while mounting")


def granted_background(wanted: int, sys: Path = Path("/sys")) -> int:
    """How many requests the kernel will have under way; the log says where these are few."""
    most = _number(sys / "module" / "fuse" / "parameters" / "max_user_bgreq")
    granted = min(wanted, _MOST_BACKGROUND)
    if most is not None and os.getuid() != 0:
        granted = min(granted, most)
    if granted > KERNELS_BACKGROUND:
        return granted
    log.warning(
        "the kernel lets %d requests wait: only %d reads wait for the archive at once, others fail"
        " with EBUSY; remedy: a larger max_background (and fuse.max_user_bgreq)",
        KERNELS_BACKGROUND,
        _FEW_READS,
    )
    return KERNELS_BACKGROUND


def tune(mountpoint: Path, sys: Path = Path("/sys")) -> None:
    """Let the kernel read ahead further than it does by itself; touches nothing in the mount.

    Where that cannot be, and where the kernel will end what takes long, the log says so.
    """
    mounted = mounted_at(mountpoint)
    if mounted is not None:
        read_ahead = sys / "class" / "bdi" / mounted.device / "read_ahead_kb"
        if _set(read_ahead, _READ_AHEAD_KB):
            log.info(
                "only root can set %s to %d, with which reading is faster",
                read_ahead,
                _READ_AHEAD_KB,
            )
    _warn_of_timeouts()


def _set(path: Path, value: int) -> OSError | None:
    """What kept the value from being set, if something did."""
    try:
        path.write_text(str(value))
    except OSError as error:
        return error
    return None


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _warn_of_timeouts() -> None:
    for name in ("default_request_timeout", "max_request_timeout"):
        limit = _number(Path("/proc/sys/fs/fuse") / name)
        if limit:
            log.warning(
                "fs.fuse.%s is %d s: the kernel ends the whole mount when one read from the "
                "archive takes longer; remedy: sysctl fs.fuse.%s=0",
                name,
                limit,
                name,
            )
