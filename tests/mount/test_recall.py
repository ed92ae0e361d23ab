"""Programs that wait for tape: they get the right bytes, they can be ended, they stop nobody."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.mounts import Mounts, until
from support.sample import DATASET, FILES

from icatfs.facility.testing import FacilityHandle, running_facility

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ONLINE = "ESNF/10100601-ST/1.1-N/e208341/e208341.dat"
FOR_EVER = "1000000"
FEW = 8


def truth(facility: FacilityHandle) -> dict[str, bytes]:
    """The files of the dataset."""
    rows = facility.search("SELECT df.id, df.name FROM Datafile df WHERE df.dataset.id = 6")
    return {name: facility.content(number) for number, name in rows if name in FILES}


@contextmanager
def passing(facility: FacilityHandle, seconds: float) -> Iterator[None]:
    """Meanwhile so many seconds pass for the facility in each fifth of one."""
    over = threading.Event()

    def push() -> None:
        while not over.wait(0.2):
            facility.advance(seconds)

    thread = threading.Thread(target=push)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


# Right bytes.

READ_ALL = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
source, target = sys.argv[1:]
def read(number):
    name = sorted(os.listdir(source))[number % 4]
    with open(os.path.join(source, name), "rb") as stream:
        return name, stream.read()
with ThreadPoolExecutor(50) as pool:
    for name, content in pool.map(read, range(100)):
        path = os.path.join(target, name)
        if os.path.exists(path):
            assert open(path, "rb").read() == content
        else:
            open(path, "wb").write(content)
"""
READ_HDF5 = """
import h5py, sys
with h5py.File(sys.argv[1]) as tree:
    sizes = []
    def visit(name, item):
        if hasattr(item, "size"):
            sizes.append(item[...].size)
    tree.visititems(visit)
    assert sizes
"""


@pytest.mark.parametrize(
    ("storage", "delay_s", "restores"),
    [
        ("single", 0, 0),
        ("dataset", 0, 1),
        ("dataset", 3, 1),
        ("dataset", 60, 1),
        ("datafile", 0, 4),
        ("datafile", 3, 4),
        ("datafile", 60, 4),
    ],
)
def test_programs_get_the_right_bytes_for_one_restore_per_unit(
    mounts: Mounts, storage: str, delay_s: int, restores: int
) -> None:
    options = ["--storage", storage, "--restore-delay", str(delay_s)]
    if storage != "single":
        options.append("--archived")
    with running_facility(*options) as facility:
        point = mounts.mount(facility)
        source, targets = point / DATASET, mounts.folder / "copies"
        for name in ("pool", "cat"):
            (targets / name).mkdir(parents=True)
        commands: list[list[object]] = [
            ["cp", "-r", source, targets / "cp"],
            ["rsync", "-a", f"{source}/", targets / "rsync"],
            [sys.executable, "-c", READ_ALL, source, targets / "pool"],
            [sys.executable, "-c", READ_HDF5, source / "e208945.nxs"],
        ]
        commands += [["sh", "-c", f"cat {source / one} > {targets / 'cat' / one}"] for one in FILES]
        with passing(facility, 5 if delay_s == 60 else 0):
            running = [subprocess.Popen(list(map(str, command))) for command in commands]
            assert [process.wait(60) for process in running] == [0] * len(running)
        contents = truth(facility)
        for name in ("cp", "rsync", "pool", "cat"):
            copies = {path.name: path.read_bytes() for path in (targets / name).iterdir()}
            assert copies == contents, name
        assert facility.counters()["restores"] == restores
        mounts.unmount(point, "--lazy")


def test_a_wait_survives_a_restart_of_the_server_and_a_lost_session(
    mounts: Mounts, tmp_path: Path
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    options = ["--port", port, "--storage", "dataset", "--restore-delay", "60"]
    data = tmp_path / "facility"
    with ExitStack() as server:
        facility = server.enter_context(running_facility(*options, "--archived", data=data))
        contents = truth(facility)
        point = mounts.mount(facility)
        with subprocess.Popen(
            ["cat", point / DATASET / FILES[0]], stdout=subprocess.PIPE
        ) as reader:
            until(lambda: facility.counters()["restores"] == 1)
            logins = facility.counters()["logins"]
            facility.faults({"kind": "session", "endpoint": "ids/getStatus", "times": 1})
            until(lambda: facility.counters()["logins"] > logins)
            faults = mounts.status(point)["transport"]["faults"]
            server.close()
            until(lambda: mounts.status(point)["transport"]["faults"] > faults)
            facility = server.enter_context(running_facility(*options, data=data))
            with passing(facility, 5):
                output, _ = reader.communicate(timeout=60)
        assert output == contents[FILES[0]]
        assert facility.counters()["restores"] == 1, "asked again, once"
        mounts.unmount(point, "--lazy")


def test_data_that_are_evicted_before_they_are_read_are_asked_for_again(mounts: Mounts) -> None:
    with running_facility("--storage", "dataset", "--archived") as facility:
        point = mounts.mount(facility)
        facility.faults(
            {
                "kind": "error",
                "endpoint": "ids/getData",
                "status": 503,
                "times": 2,
                "code": "DataNotOnlineException",
                "message": "its dataset is not online",
            }
        )
        assert (point / DATASET / FILES[0]).read_bytes() == truth(facility)[FILES[0]]
        facility.archive(datasets=[6])
        assert (point / DATASET / FILES[1]).read_bytes() == truth(facility)[FILES[1]]
        assert facility.counters()["restores"] == 2
        mounts.unmount(point, "--lazy")


INHERIT = """
import os, sys
descriptor = os.open(sys.argv[1], os.O_RDONLY)
if os.fork():
    os._exit(0)
with open(descriptor, "rb") as stream:
    content = stream.read()
with open(sys.argv[2] + ".part", "wb") as copy:
    copy.write(content)
os.rename(sys.argv[2] + ".part", sys.argv[2])
"""


def test_who_inherited_a_file_gets_it_although_its_opener_has_gone(mounts: Mounts) -> None:
    with running_facility("--storage", "dataset", "--archived", "--restore-delay", "3") as facility:
        point, copy = mounts.mount(facility), mounts.folder / "copy"
        done = mounts.python(INHERIT, point / DATASET / FILES[0], copy)
        assert done.returncode == 0
        until(copy.exists, 60)
        assert copy.read_bytes() == truth(facility)[FILES[0]]
        mounts.unmount(point, "--lazy")


# Signals.

PYTHON = """
import os, signal, sys
def handler(number, frame):
    raise KeyboardInterrupt
signal.signal(signal.SIGINT, handler)
signal.signal(signal.SIGTERM, handler)
try:
    open(sys.argv[1], "rb").read()
except KeyboardInterrupt:
    os._exit(7)
"""
HDF5 = """
import os, sys, h5py
try:
    h5py.File(sys.argv[1])
except KeyboardInterrupt:
    os._exit(7)
"""
THREAD = """
import os, sys, threading
thread = threading.Thread(target=lambda: open(sys.argv[1], "rb").read())
thread.start()
try:
    thread.join()
except KeyboardInterrupt:
    os._exit(7)
"""


@dataclass(frozen=True)
class Ending:
    """A program, the signal it gets, and how it ends then."""

    command: tuple[str, ...]
    number: signal.Signals | None
    code: int


INT, TERM, KILL = signal.SIGINT, signal.SIGTERM, signal.SIGKILL
ANYBODYS = [
    *(Ending(("cat",), number, -number) for number in (INT, TERM, KILL)),
    Ending(("timeout", "1", "cat"), None, 124),
]
OURS = [
    *(Ending((sys.executable, "-c", PYTHON), number, 7) for number in (INT, TERM)),
    Ending((sys.executable, "-c", HDF5), INT, 7),
    Ending((sys.executable, "-c", HDF5), TERM, -TERM),
    Ending((sys.executable, "-c", THREAD), INT, 7),
    *(Ending((sys.executable, "-c", one), KILL, -KILL) for one in (PYTHON, HDF5, THREAD)),
]
AS_NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


@pytest.mark.parametrize("who", ["who mounted", "another user"])
def test_who_waits_leaves_when_told(mounts: Mounts, who: str) -> None:
    is_other = who == "another user" and os.geteuid() == 0
    # only root can become somebody else
    endings = ANYBODYS if is_other else [*ANYBODYS, *OURS]
    prefix = AS_NOBODY if is_other else ()
    options = ("-o", "allow_other") if is_other else ()
    public = Path(tempfile.mkdtemp())
    with running_facility(
        *("--holdings", "large", "--size", "20", "--storage", "dataset"),
        *("--restore-delay", FOR_EVER),
    ) as facility:
        facility.archive(datasets=[1])
        public.chmod(0o755)  # another user has to get there
        mounts.folder = public
        point = mounts.mount(facility, *options, user="simple/root")
        # each a file of its own: who waits for a page that another asked for waits for that one
        paths = sorted((point / "LARGE/BIG-1/1/many").iterdir())
        started = [
            subprocess.Popen([*prefix, *ending.command, path], stdout=subprocess.DEVNULL)
            for ending, path in zip(endings, paths, strict=False)
        ]
        until(lambda: all(map(is_waiting, started)), 60)
        for process, ending in zip(started, endings, strict=True):
            begun = time.monotonic()
            if ending.number is not None:
                process.send_signal(ending.number)
            assert process.wait(20) == ending.code, ending
            assert time.monotonic() - begun < 10, ending
        until(lambda: mounts.status(point)["filesystem"]["waiting"] == 0)
        assert facility.counters()["restores"] == 1
        assert mounts.unmount(point).returncode == 0
    shutil.rmtree(public)


def is_waiting(process: subprocess.Popen[bytes]) -> bool:
    """Whether a thread of the process, or of a child, sleeps in state D; or it has ended."""
    if process.poll() is not None:
        return True
    tasks = Path(f"/proc/{process.pid}/task")
    stats = [*tasks.glob("*/stat")]
    for children in tasks.glob("*/children"):
        stats += [Path(f"/proc/{pid}/stat") for pid in children.read_text().split()]
    return any(
        one.read_text().rpartition(")")[2].split()[0] == "D" for one in stats if one.exists()
    )


# Many.

FORK = """
import os, signal, sys
signal.signal(signal.SIGINT, lambda *_: os._exit(7))
pids = []
for path in sys.argv[1:]:
    pid = os.fork()
    if not pid:
        try:
            open(path, "rb", buffering=0).read()
        except OSError as error:
            os._exit(error.errno)
        os._exit(0)
    pids.append(pid)
print(*pids, flush=True)
print(*(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids), flush=True)
"""


@contextmanager
def crowd(paths: list[Path]) -> Iterator[tuple[list[int], Callable[[], list[int]]]]:
    """Processes that read one path each: their pids, and a function that waits for their codes."""
    with subprocess.Popen(
        [sys.executable, "-c", FORK, *paths], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        stdout = parent.stdout
        readers = numbers(stdout.readline())
        try:
            yield readers, lambda: numbers(stdout.readline())
        except BaseException:  # a test that fails leaves nobody waiting
            for one in readers:
                with suppress(ProcessLookupError):
                    os.kill(one, signal.SIGKILL)
            raise


def numbers(line: str) -> list[int]:
    return list(map(int, line.split()))


def waiting_for_tape(mounts: Mounts, point: Path) -> int:
    """How many reads wait for a restore, and no more for their turn to."""
    return sum(unit["waiting"] for unit in mounts.status(point)["recall"]["units"])


def resident(pid: int) -> int:
    """Bytes of memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


@pytest.mark.parametrize("storage", ["dataset", "datafile"])
def test_a_thousand_waiting_readers_stop_nobody(mounts: Mounts, storage: str) -> None:
    large = ("--holdings", "large", "--size", "1000", "--storage", storage)
    with running_facility(*large, "--restore-delay", FOR_EVER) as facility:
        files = facility.search("SELECT df.id FROM Datafile df WHERE df.dataset.name = 'many'")
        facility.archive(datasets=[1], datafiles=files)
        point = mounts.mount(facility, user="simple/root")
        pid = mounts.status(point)["pid"]
        many, images = (point / "LARGE/BIG-1/1" / name for name in ("many", "images"))
        before = resident(pid)
        with crowd(sorted(many.iterdir())) as (readers, codes):
            until(lambda: mounts.status(point)["filesystem"]["waiting"] == len(readers), 60)
            assert resident(pid) - before < 150 * 2**20
            took = []
            names = sorted(os.listdir(images))
            for number in range(100):
                begun = time.perf_counter()
                os.stat(images / names[number % len(names)])
                os.listdir(images)
                with open(images / names[0], "rb") as stream:
                    os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                    stream.seek(number * 10_000)
                    assert stream.read(4096)
                took.append(time.perf_counter() - begun)
            assert statistics.median(took) < 1.0
            begun = time.monotonic()
            for one in readers:
                os.kill(one, signal.SIGINT)
            assert codes() == [7] * len(readers)
            assert time.monotonic() - begun < 10
        until(lambda: mounts.status(point)["filesystem"]["waiting"] == 0)
        assert mounts.unmount(point).returncode == 0


def test_where_the_kernel_lets_few_wait_the_next_is_told_and_others_go_on(mounts: Mounts) -> None:
    large = ("--holdings", "large", "--size", "20", "--storage", "dataset")
    with running_facility(*large, "--restore-delay", FOR_EVER) as facility:
        facility.archive(datasets=[1])
        point = mounts.mount(facility, "-o", "max_background=12,slot_wait=0.2", user="simple/root")
        many = sorted((point / "LARGE/BIG-1/1/many").iterdir())
        with crowd(many[:FEW]) as (readers, codes):
            until(lambda: waiting_for_tape(mounts, point) == FEW)
            with crowd(many[FEW : FEW + 3]) as (_, told):
                assert told() == [errno.EBUSY] * 3
            image = next((point / "LARGE/BIG-1/1/images").iterdir())
            assert len(image.read_bytes()) == image.stat().st_size
            assert b"max_background" in os.getxattr(many[FEW], "user.icat.last_error")
            for one in readers:
                os.kill(one, signal.SIGKILL)
            assert codes() == [-KILL] * FEW
        assert "only 8 reads wait for the archive at once" in mounts.log()
        mounts.unmount(point, "--lazy")
