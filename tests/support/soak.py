"""Many programs read through one mount, for minutes, while everything goes wrong at random.

Readers (cat, random and backward reads, cp -r, h5py) compare every byte with what the facility has,
through two mounts that share a cache on a small disk; over TLS if the seed is odd. Meanwhile faults
come and go, sessions are lost, the facility is killed and started again, data go to the archive,
files are replaced, the processes below the mounts' are killed and so is the second mount, the
kernel's pages are dropped, the disk fills, bytes of the cache flip while nothing is mounted, the
wall clock jumps. At the end all is well again: then every file must be readable, no stream and no
waiter may be left, and the mounts go quietly.

It fails for a wrong byte, for an errno that the README does not tell of, for a storm of requests,
for memory or descriptors that do not come back, and for a traceback in the log. What the mounts
logged is kept then.
"""

from __future__ import annotations

import argparse
import errno
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from icatfs import control
from icatfs.cli.measure import children, usage
from icatfs.facility.certificates import self_signed
from icatfs.facility.handle import FacilityHandle
from icatfs.fuse.mountpoint import is_dead
from support.clocks import DAY, wall_clock
from support.disks import small_disk
from support.mounts import Mounts, until
from support.replacing import Holdings, is_shown, wait_until_doubted
from support.sizes import MIB
from support.storm import OUTAGES, Demand, most_in_outage
from support.trouble import (
    DATA,
    DOCUMENTED,
    LASTING,
    OF_NO_CONCERN,
    PASSING,
    TAPE,
    flip_a_bit,
    is_right,
    read_at,
)
from support.uploads import hdf5, upload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

VISIT = "LARGE/BIG-1/1"
READERS = 6
MOUNTS = 2
MOST_RSS_MIB = 256
OUTAGE_S = 3.0
IMAGES = 12
VICTIMS = {"image-0003.raw", "image-0007.raw"}
CACHE = "64M"
"""A third of what is read: so files come and go, and the largest do not fit."""
DISK = 2**30 + 96 * MIB
"""A mount leaves 1 GiB of it free."""
DATASETS = {"many": 1, "images": 2}
REPLACED = {f"image-{number:04d}.raw" for number in (5, 9, 11)}
LAST_LOOK_S = 180.0
_H5PY = """
import errno, sys, h5py
try:
    with h5py.File(sys.argv[1]) as file:
        image = file["entry/data/image"][int(sys.argv[2])]
        value = file["entry/instrument/motor050/value"][199]
except (OSError, KeyError, RuntimeError) as error:
    found = [name for number, name in errno.errorcode.items() if f"errno = {number}," in str(error)]
    print(found[0] if found else f"{type(error).__name__}: {error}")
    sys.exit(1)
right = int(sys.argv[2]) + 1
sys.exit(0 if (image == right).all() and value == 199 else 99)
"""


@dataclass
class Tally:
    """What happened, counted by all threads."""

    operations: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    troubles: Counter[str] = field(default_factory=Counter)
    streams: Counter[str] = field(default_factory=Counter)
    demand: Demand = field(default_factory=Demand)
    wrong: list[str] = field(default_factory=list)
    bytes_read: int = 0
    requests: int = 0
    in_outages: int = 0
    most_rss: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self, kind: str, count: int) -> None:
        """An operation began that reads so many bytes."""
        with self.lock:
            self.operations[kind] += 1
            self.bytes_read += count

    def failed(self, name: str) -> None:
        with self.lock:
            self.errors[name] += 1

    def is_wrong(self, words: str) -> None:
        with self.lock:
            self.wrong.append(words)
            print(f"soak: WRONG: {words}", file=sys.stderr, flush=True)


class Gate:
    """Readers pass it; it can be closed, for what must happen while nobody reads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._is_closed = False

    @contextmanager
    def passed(self) -> Iterator[None]:
        """Somebody reads."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_closed)
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Nobody reads."""
        with self._changed:
            self._is_closed = True
            self._changed.wait_for(lambda: not self._inside)
        try:
            yield
        finally:
            with self._changed:
                self._is_closed = False
                self._changed.notify_all()


@dataclass
class Truth:
    """A file as the facility has it; what is there changes while the gate is closed."""

    path: str
    number: int
    content: bytes
    is_victim: bool = False
    """Bits of it may flip at the facility. Nobody can tell before it has come to its end: so who
    reads it all must not be deceived, but who reads a part may be."""


class Server:
    """The facility in a process that can be killed, and started again at the same place."""

    def __init__(self, folder: Path, tally: Tally, authority: Path | None) -> None:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self._port = found.getsockname()[1]
        self._folder = folder
        self._tally = tally
        self._authority = authority
        # Its clock is right, whatever the mounts' is.
        self._environ = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
        self.handle = self._start()

    def _start(self) -> FacilityHandle:
        command = [sys.executable, "-m", "icatfs.facility", "--until-eof", "--holdings", "large"]
        command += ["--size", "20", "--storage", "dataset", "--restore-delay", "0.3"]
        command += ["--data", str(self._folder), "--port", str(self._port)]
        if self._authority is not None:
            command += ["--certificate", str(self._authority)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=self._environ,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the facility did not start")
        return FacilityHandle.from_line(line, self._process.pid)

    def asked(self) -> int:
        """Requests for data since it was started or counted last."""
        count: int = self.handle.counters()["requests"].get(DATA, 0)
        return count

    def count(self) -> None:
        """Add up its requests, which a restart begins to count anew."""
        self._tally.requests += self.asked()
        self.handle.reset_counters()

    def restart(self, pause_s: float) -> None:
        """It is gone for a while. All is well then: a wrong size would stay in what it keeps."""
        self.handle.clear_faults()
        self._tally.demand.breaks += MOUNTS
        self.count()
        self.stop()
        time.sleep(pause_s)
        self.handle = self._start()

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()


class Soak:
    """One run."""

    def __init__(self, folder: Path, minutes: float, seed: int) -> None:
        self._folder = folder
        self._ends_at = time.monotonic() + 60 * minutes
        self._seed = seed
        self._tally = Tally()
        self._gate = Gate()
        self._stack = ExitStack()
        patch = self._stack.enter_context(pytest.MonkeyPatch.context())
        authority = self_signed(folder) if seed % 2 else None
        self._server = Server(folder / "facility", self._tally, authority)
        self._clock = wall_clock(folder, patch)
        # The certificate is of today.
        self._jumps_s = [0, 3600] if authority else [-400 * DAY, 0, 400 * DAY]
        self._options = ["--ca-file", authority] if authority else []
        self._truths = self._prepare()
        self._mounts = Mounts(folder)
        self._disk = self._stack.enter_context(small_disk(folder / "cache", DISK))
        self._points = [self._mount(place) for place in range(MOUNTS)]
        self._look_at_first()

    def _mount(self, place: int) -> Path:
        options = ["--cache-size", CACHE, "--recall-wait", "20", *self._options]
        return self._mounts.mount(
            self._server.handle, *options, name=f"mnt{place}", user="simple/root"
        )

    def _look_at_first(self) -> None:
        """What the first mount has at its beginning."""
        self._pid: int = self._mounts.status(self._points[0])["pid"]
        self._descriptors = self._count_descriptors()

    def _root(self, dice: random.Random) -> Path:
        """The visit, seen through one of the mounts."""
        return dice.choice(self._points) / VISIT

    def _prepare(self) -> list[Truth]:
        """Files of every kind, and what is in them."""
        facility = self._server.handle
        hdf5(self._folder / "scan.h5", 48)
        upload(facility, "images", "scan.h5", (self._folder / "scan.h5").read_bytes())
        upload(facility, "images", "stack.raw", random.Random(1).randbytes(24 * MIB))
        query = "SELECT df.id, df.name FROM Datafile df WHERE df.dataset.name = '{}' ORDER BY df.id"
        found = [
            ("images", facility.search(query.format("images"))),
            ("many", facility.search(query.format("many"))),
        ]
        truths = []
        for dataset, rows in found:
            wanted = rows if dataset == "many" else rows[:IMAGES] + rows[-2:]
            truths += [
                Truth(f"{dataset}/{name}", number, facility.content(number), name in VICTIMS)
                for number, name in wanted
            ]
        return truths

    def run(self) -> bool:
        """Whether all went well."""
        works = [lambda number=number: self._reader(number) for number in range(READERS)]
        with ThreadPoolExecutor(READERS + 2) as pool:
            futures = [pool.submit(work) for work in (*works, self._troublemaker, self._watch)]
            for future in futures:
                future.result()
        self._mend()
        self._check_facility()
        self._last_look()
        self._leave()
        self._report()
        return not self._tally.wrong

    @property
    def _is_over(self) -> bool:
        return time.monotonic() > self._ends_at or bool(self._tally.wrong)

    # Reading.

    def _reader(self, number: int) -> None:
        dice = random.Random(f"{self._seed} reader {number}")
        kinds: list[tuple[int, Callable[[random.Random], None]]] = [
            (4, self._cat),
            (6, self._at_random),
            (2, self._backwards),
            (1, lambda dice: self._copy(dice, number)),
            (2, self._h5py),
        ]
        weights = [weight for weight, _ in kinds]
        while not self._is_over:
            _, work = dice.choices(kinds, weights)[0]
            try:
                with self._gate.passed():
                    work(dice)
            except OSError as error:
                self._failed(errno.errorcode.get(error.errno or 0, str(error)))

    def _failed(self, name: str) -> None:
        self._tally.failed(name)
        if name not in {errno.errorcode[number] for number in DOCUMENTED}:
            self._tally.is_wrong(f"an error that is not documented: {name}")

    def _cat(self, dice: random.Random) -> None:
        truth = dice.choice(self._truths)
        self._tally.read("cat", len(truth.content))
        pieces = []
        with open(self._root(dice) / truth.path, "rb", buffering=0) as file:
            if dice.random() < 0.5:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            while piece := file.read(dice.choice([4096, 2**17, 2**20])):
                pieces.append(piece)
        if b"".join(pieces) != truth.content:
            self._tally.is_wrong(f"cat {truth.path}: {len(b''.join(pieces))} bytes, not the same")

    def _at_random(self, dice: random.Random) -> None:
        truth = dice.choice(self._truths)
        with open(self._root(dice) / truth.path, "rb", buffering=0) as file:
            for _ in range(dice.randrange(1, 30)):
                size = dice.choice([1, 4096, 65_536, 2**18, 2**20])
                self._compare(file.fileno(), truth, dice.randrange(len(truth.content)), size)

    def _backwards(self, dice: random.Random) -> None:
        truth = dice.choice(self._truths)
        step = dice.choice([2**16, 2**18, 2**20])
        with open(self._root(dice) / truth.path, "rb", buffering=0) as file:
            for start in range(len(truth.content) - 1, -1, -step):
                self._compare(file.fileno(), truth, start, step)

    def _compare(self, fd: int, truth: Truth, start: int, size: int) -> None:
        self._tally.read("pread", size)
        data = read_at(fd, size, start)
        if not truth.is_victim and not is_right(fd, data, truth.content, start, size):
            self._tally.is_wrong(f"{truth.path}: {size} bytes at {start}, {len(data)} came")

    def _copy(self, dice: random.Random, number: int) -> None:
        """cp -r of a dataset; a file that failed may be cut off, but not wrong."""
        dataset = dice.choice(["many", "many", "images"])
        truths = [one for one in self._truths if one.path.startswith(dataset)]
        self._tally.read("cp -r", sum(len(one.content) for one in truths))
        target = self._folder / f"copy-{number}"
        root = self._root(dice)
        sources = [str(root / one.path) for one in truths]
        target.mkdir()
        done = subprocess.run(["cp", *sources, str(target)], capture_output=True, text=True)
        for line in done.stderr.splitlines():
            self._failed(_errno_of(line))
        for one in truths:
            copy = target / Path(one.path).name
            data = copy.read_bytes() if copy.exists() else b""
            if done.returncode == 0 and data != one.content:
                told = f"{len(data)} of {len(one.content)} bytes came"
                self._tally.is_wrong(f"cp {one.path} said that all is well: {told}")
            if not one.is_victim and not one.content.startswith(data):
                self._tally.is_wrong(f"cp {one.path}: wrong bytes")
        shutil.rmtree(target)

    def _h5py(self, dice: random.Random) -> None:
        self._tally.read("h5py", 16 * MIB)
        number = dice.randrange(8) * 6
        path = str(self._root(dice) / "images/scan.h5")
        command = [sys.executable, "-c", _H5PY, path, str(number)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 1 and done.stdout:
            name = done.stdout.strip()
            # HDF5 does not always tell the errno.
            self._failed("EIO" if ":" in name else name)
        elif done.returncode:
            self._tally.is_wrong(f"h5py: exit code {done.returncode}: {done.stderr}")

    # Trouble.

    def _troublemaker(self) -> None:
        dice = random.Random(f"{self._seed} trouble")
        works: list[tuple[int, Callable[[random.Random], str]]] = [
            (20, self._passing),
            (4, self._lasting),
            (6, self._heal),
            (2, self._lose_sessions),
            (1, self._outage),
            (1, self._restart),
            (2, self._kill_children),
            (3, self._drop_pages),
            (2, self._archive),
            (1, self._replace),
            (1, self._kill_second),
            (1, self._mount_again),
            (2, self._fill_disk),
            (2, self._jump),
        ]
        weights = [weight for weight, _ in works]
        while not self._is_over:
            time.sleep(dice.uniform(0.05, 1.0))
            _, work = dice.choices(works, weights)[0]
            name = work(dice)
            self._tally.troubles[name] += 1

    def _passing(self, dice: random.Random) -> str:
        among = [one for one in [*PASSING, *OF_NO_CONCERN] if one["kind"] != "corrupt"]
        fault = dict(dice.choice(among))
        endpoint = dice.choice([DATA, DATA, "ids/", "icat/entityManager"])
        fault |= {"endpoint": endpoint, "times": dice.randrange(1, 4)}
        if dice.random() < 0.3 and endpoint != "icat/entityManager":
            fault["entity"] = {"datafile": dice.choice(self._truths).number}
        self._server.handle.faults(fault)
        if endpoint != "icat/entityManager":
            self._tally.demand.went_wrong(fault)
        return str(fault["kind"])

    def _lasting(self, dice: random.Random) -> str:
        fault = dice.choice(LASTING)
        among = [one for one in self._truths if one.is_victim or fault["kind"] != "corrupt"]
        self._server.handle.faults({**fault, "entity": {"datafile": dice.choice(among).number}})
        return f"stored: {fault['kind']}"

    def _heal(self, _: random.Random) -> str:
        self._heal_all()
        return "healed"

    def _heal_all(self) -> None:
        self._server.handle.clear_faults()
        self._server.handle.restore(datasets=DATASETS.values())

    def _lose_sessions(self, dice: random.Random) -> str:
        for endpoint in ("ids/", "icat/entityManager"):
            fault = {"kind": "session", "endpoint": endpoint, "times": dice.randrange(1, 3)}
            self._server.handle.faults(fault)
            self._tally.demand.went_wrong(fault)
        return "sessions lost"

    def _outage(self, dice: random.Random) -> str:
        """No data come for a while, however often they are asked for; then all is well."""
        before, began = self._server.asked(), time.monotonic()
        self._server.handle.faults({**dice.choice(OUTAGES), "endpoint": DATA})
        time.sleep(OUTAGE_S)
        asked, lasted_s = self._server.asked() - before, time.monotonic() - began
        self._heal_all()
        self._tally.in_outages += asked
        if asked > most_in_outage(MOUNTS, lasted_s):
            self._tally.is_wrong(f"a storm: {asked} requests in an outage of {lasted_s:.0f} s")
        return "out of order"

    def _restart(self, dice: random.Random) -> str:
        self._server.restart(dice.choice([0.0, 0.5, 5.0]))
        return "facility restarted"

    def _kill_children(self, _: random.Random) -> str:
        self._tally.demand.breaks += MOUNTS
        for point in self._points:
            for pid in children(self._mounts.status(point)["pid"]):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        return "processes killed"

    def _archive(self, dice: random.Random) -> str:
        """Who reads it brings it back, if it can be; what cannot is mended by and by."""
        self._tally.demand.breaks += MOUNTS
        fault = dice.choice([None, None, *TAPE])
        if fault is not None:
            self._server.handle.faults({**fault, "times": 1})
        self._server.handle.archive(datasets=[dice.choice([*DATASETS.values()])])
        return f"archived, {fault['kind']}" if fault else "archived"

    def _replace(self, dice: random.Random) -> str:
        """A file gets other bytes, under its id or a new one, and the mounts are told."""
        truth = dice.choice([one for one in self._truths if Path(one.path).name in REPLACED])
        with self._gate.closed():
            self._heal_all()  # a wrong size would be mended into the new one
            until(self._nothing_streams)
            wait_until_doubted()
            database = self._folder / "facility" / "catalogue.sqlite"
            holdings = Holdings(self._server.handle, database, truth.number)
            if dice.random() < 0.5:
                holdings.renumber(10_000)
                truth.number = holdings.datafile
            size = len(truth.content) + dice.choice([0, 0, 1, -1])
            truth.content = holdings.store(dice.randrange(1000, 10**6), size)
            for point in self._points:
                control.ask(control.socket_path(point), "refresh")
                until(partial(is_shown, point / VISIT / truth.path, truth.content))
        return "replaced"

    def _nothing_streams(self) -> bool:
        status = [self._mounts.status(point) for point in self._points]
        return not any(one["transfer"]["streams"] for one in status)

    def _kill_second(self, _: random.Random) -> str:
        point = self._points[1]
        with self._gate.closed():
            status = self._mounts.status(point)
            self._add_up(status)
            self._tally.demand.breaks += 1
            os.kill(status["pid"], signal.SIGKILL)
            until(lambda: is_dead(point))
            self._heal_all()
            self._mount(1)
        return "mount killed"

    def _mount_again(self, dice: random.Random) -> str:
        """Both; in between a bit of each file of the cache flips."""
        with self._gate.closed():
            self._heal_all()
            self._check_leaving()
            for path in (self._folder / "cache").rglob("data/*"):
                flip_a_bit(path, dice)
            self._points = [self._mount(place) for place in range(MOUNTS)]
            self._look_at_first()
        return "mounted again"

    def _fill_disk(self, dice: random.Random) -> str:
        if self._disk is not None:
            left = dice.choice([0, MIB, 16 * MIB, DISK])
            self._disk.fill(0 if left == DISK else DISK - 2**30 - left)
        return "disk filled or freed"

    def _jump(self, dice: random.Random) -> str:
        if self._clock is not None:
            self._clock.jump(dice.choice(self._jumps_s))
        return "clock set"

    def _drop_pages(self, dice: random.Random) -> str:
        for truth in dice.sample(self._truths, 5):
            with suppress(OSError), open(self._root(dice) / truth.path, "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return "pages dropped"

    # Watching.

    def _watch(self) -> None:
        while not self._is_over:
            time.sleep(1.0)
            with self._gate.passed():
                rss = usage(self._pid).resident
            if not rss:
                self._tally.is_wrong("the mount's process is gone")
            self._tally.most_rss = max(self._tally.most_rss, rss)
            if rss > MOST_RSS_MIB:
                self._tally.is_wrong(f"{rss:.0f} MiB of memory")

    def _mend(self) -> None:
        self._heal_all()
        if self._disk is not None:
            self._disk.fill(0)

    def _check_facility(self) -> None:
        """It is well, too: nobody's stream is left in it, nothing is queued, nothing has failed."""
        try:
            until(lambda: not any(self._server.handle.archive_report().values()), LAST_LOOK_S)
        except AssertionError:
            report = self._server.handle.archive_report()
            self._tally.is_wrong(f"the facility has not come to rest: {report}")

    def _last_look(self) -> None:
        """Every file can be read once more; what was damaged is forgotten after a while."""
        deadline = time.monotonic() + LAST_LOOK_S
        for point, truth in product(self._points, self._truths):
            while complaint := _complaint(point / VISIT / truth.path, truth.content):
                if time.monotonic() > deadline:
                    self._tally.is_wrong(f"{truth.path}, although all is well: {complaint}")
                    break
                time.sleep(1.0)

    def _leave(self) -> None:
        """Nothing is left behind."""
        try:
            until(lambda: self._count_descriptors() <= self._descriptors + 16)
        except AssertionError:
            self._tally.is_wrong(
                f"descriptors are left: {self._count_descriptors()}, {self._descriptors} at first"
            )
        self._check_leaving()
        self._check_restraint()
        if "Traceback" in self._mounts.log():
            self._tally.is_wrong(f"a traceback in the log:\n{_last_traceback(self._mounts.log())}")
        self._server.stop()

    def _check_restraint(self) -> None:
        """The facility was not asked more often than there was cause for."""
        self._server.count()
        asked, allowed = self._tally.requests, self._tally.demand.allows()
        if asked > allowed:
            self._tally.is_wrong(f"a storm: {asked} requests for data, for {self._tally.demand}")

    def _check_leaving(self) -> None:
        """Both mounts come to rest, and go."""
        try:
            until(self._nothing_streams)
        except AssertionError:
            self._tally.is_wrong("streams are left")
        for point in self._points:
            status = self._mounts.status(point)
            if status["transfer"]["waiting"]:
                self._tally.is_wrong("somebody still waits")
            self._add_up(status)
            done = self._mounts.unmount(point)
            if done.returncode:
                self._tally.is_wrong(f"unmounting: {done.stderr}")

    def _add_up(self, status: dict[str, Any]) -> None:
        """What a mount did until it goes."""
        self._tally.demand.add(status)
        for name in ("opened", "resumed", "mismatches", "bytes_received"):
            self._tally.streams[name] += status["transfer"][name]

    def _count_descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self._pid}/fd"))

    def clean(self) -> None:
        """Take down what is left."""
        self._mounts.clean()
        with suppress(ValueError):
            self._server.stop()
        self._stack.close()

    def _report(self) -> None:
        tally = self._tally
        print(f"operations   {_told(tally.operations)}")
        print(f"read         {tally.bytes_read / MIB:,.0f} MiB")
        print(f"errors       {_told(tally.errors)}")
        print(f"troubles     {_told(tally.troubles)}")
        print(
            f"requests     {tally.requests} for data, {tally.in_outages} of them in outages;"
            f" {tally.demand.allows()} had a cause: {tally.demand}"
        )
        print(
            f"streams      {tally.streams['opened']} opened, {tally.streams['resumed']} resumed,"
            f" {tally.streams['mismatches']} contradicted the catalogue"
        )
        print(f"fetched      {tally.streams['bytes_received'] / MIB:,.0f} MiB by streams")
        print(f"memory       {tally.most_rss:.0f} MiB at most")
        print("wrong        " + ("; ".join(tally.wrong) or "nothing"))


def _complaint(path: Path, content: bytes) -> str:
    """What is wrong with a file; nothing if it can be read and is right."""
    try:
        return "" if path.read_bytes() == content else "other bytes"
    except OSError as error:
        return error.strerror or "an error"


def _told(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.most_common()) or "none"


def _errno_of(line: str) -> str:
    """The errno that a program's complaint tells of."""
    for number, name in errno.errorcode.items():
        if line.endswith(f": {os.strerror(number)}"):
            return name
    return line


def _last_traceback(log: str) -> str:
    return re.split(r"(?=Traceback)", log)[-1][:3000]


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=None, help="repeats the choices of a run")
    options = parser.parse_args()
    seed = random.randrange(2**32) if options.seed is None else options.seed
    print(f"seed         {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="icatfs-soak-") as name:
        folder = Path(name)
        runtime = folder / "run"
        runtime.mkdir(mode=0o700)
        os.environ["XDG_RUNTIME_DIR"] = str(runtime)
        soak = Soak(folder, options.minutes, seed)
        try:
            if soak.run():
                return 0
            kept = tempfile.mkdtemp(prefix=f"icatfs-soak-{seed}-")
            shutil.copytree(folder / "state" / "log", kept, dirs_exist_ok=True)
            print(f"logs         {kept}")
            return 1
        finally:
            soak.clean()


if __name__ == "__main__":
    sys.exit(main())
