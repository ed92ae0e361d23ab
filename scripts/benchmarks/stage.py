"""Where a benchmark happens: a facility, a mount of it, and the peers' commands."""

from __future__ import annotations

import itertools
import json
import os
import ssl
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icat.ids import IDSClient

from icatfs.cli.measure import Usage, timed, usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from icatfs.facility.handle import FacilityHandle

PROGRAM = [sys.executable, "-m", "icatfs"]
BIG = "LARGE/BIG-1/1"
_BARE = Path(__file__).with_name("bare.py")


def emptied(folder: Path) -> None:
    """Give back what the files of a folder take, but delete none.

    ext4 gives the inode of a deleted file to no other for a minute, and searches for one that it
    may give: after many were deleted, every new file takes 160 to 800 us instead of 21.
    """
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            os.truncate(path, 0)


class Stage:
    """One facility and its mount; ``daemon`` is the process of the mount, 0 without one."""

    def __init__(
        self, facility: FacilityHandle, folder: Path, *, user: str, ca_file: Path | None = None
    ) -> None:
        # given
        self.facility = facility
        self.folder = folder
        self.ca_file = ca_file
        # constant
        self._user = user
        self.point = folder / "mnt"
        self.point.mkdir()
        self.cache = folder / "cache"
        password = folder / "password"
        password.touch(mode=0o600)
        password.write_text(facility.users[user])
        plugin, _, name = user.partition("/")
        self._login = ["--auth", plugin, "--user", name, "--password-file", str(password)]
        self._aside = itertools.count(1)
        # mutable
        self.daemon = 0

    @property
    def big(self) -> Path:
        """The visit with the large datasets, seen through the mount."""
        return self.point / BIG

    def mount(self, *, cold: bool, settings: str = "") -> None:
        """Mount; with an empty cache when cold, and these settings (``name=value,...``)."""
        if cold:
            self.set_aside(self.cache)
        options = [*self._login, "--cache-dir", str(self.cache)]
        options += ["-o", f"state_dir={self.folder / 'state'}"]
        if settings:
            options += ["-o", settings]
        if self.ca_file is not None:
            options += ["--ca-file", str(self.ca_file)]
        run(*PROGRAM, "mount", self.facility.url, self.point, *options)
        self.daemon = int(self.status()["pid"])

    def set_aside(self, folder: Path) -> None:
        """Have a folder of ours out of the way, if it is there."""
        if folder.exists():
            emptied(folder)
            folder.rename(self.folder / f"{folder.name}-{next(self._aside)}")

    def unmount(self) -> None:
        """Unmount."""
        self.daemon = 0
        run(*PROGRAM, "unmount", self.point)

    @contextmanager
    def mounted(self, *, cold: bool, settings: str = "") -> Iterator[None]:
        """A mount for the time of a block."""
        self.mount(cold=cold, settings=settings)
        try:
            yield
        finally:
            self.unmount()

    @contextmanager
    def bare(self, folder: Path) -> Iterator[Path]:
        """A local folder through the thinnest mount that pyfuse3 allows: gives its mount point."""
        point = self.folder / "bare"
        point.mkdir(exist_ok=True)
        server = subprocess.Popen(
            [sys.executable, str(_BARE), str(folder), str(point)], stdout=subprocess.PIPE
        )
        try:
            assert server.stdout is not None
            if server.stdout.readline() != b"ready\n":
                raise RuntimeError(f"the bare mount of {folder} did not start")
            yield point
        finally:
            run("fusermount3", "-u", point)
            server.communicate()

    def fresh(self, work: Callable[[], float]) -> Callable[[], float]:
        """A work on a fresh mount with an empty cache, which is not part of its time."""

        def on_a_fresh_mount() -> float:
            with self.mounted(cold=True):
                return work()

        return on_a_fresh_mount

    def status(self) -> dict[str, Any]:
        """What ``icatfs status`` says."""
        command = [*PROGRAM, "status", str(self.point), "--json"]
        answer = subprocess.run(command, check=True, capture_output=True)
        told: dict[str, Any] = json.loads(answer.stdout)
        return told

    def usage(self) -> Usage:
        """Of the daemon and its children."""
        return usage(self.daemon)

    def counted(self, work: Callable[[], object]) -> dict[str, float]:
        """What the facility and the mount spend on a work."""
        before, at_facility = self.usage(), usage(self.facility.pid)
        self.facility.reset_counters()
        work()
        counters = self.facility.counters()
        requests = counters["requests"]
        after = self.usage()
        return {
            "queries": counters["queries"],
            "data requests": sum(
                number for name, number in requests.items() if "getData" in str(name)
            ),
            "MiB sent": counters["bytes_sent"] / 2**20,
            "s CPU of the mount": after.cpu_s - before.cpu_s,
            "s CPU of the facility": usage(self.facility.pid).cpu_s - at_facility.cpu_s,
            "MiB peak of the mount": after.peak,
        }

    def datafiles(self, dataset: str, limit: int) -> list[tuple[int, str]]:
        """Ids and names of files of a dataset, in the order of their ids."""
        answer = self.facility.search(
            "SELECT df.id, df.name FROM Datafile df WHERE df.dataset.name = "
            f"'{dataset}' ORDER BY df.id LIMIT 0, {limit}"
        )
        return [(int(number), str(name)) for number, name in answer]

    def dataset(self, name: str) -> int:
        """The id of a dataset."""
        query = f"SELECT ds.id FROM Dataset ds WHERE ds.name = '{name}'"
        return int(self.facility.search(query)[0])

    def url(self, call: str, **parameters: object) -> str:
        """The address of an IDS call with a session of this user."""
        words = {"sessionId": self.facility.login(self._user), **parameters}
        return f"{self.facility.ids}/{call}?" + "&".join(f"{k}={v}" for k, v in words.items())

    def python_icat(self) -> IDSClient:
        """The client of python-icat, with a session of root."""
        trust = ssl.create_default_context(cafile=self.ca_file)
        return IDSClient(self.facility.ids + "/", self.facility.login("simple/root"), trust)

    def curl(self, *arguments: object) -> Callable[[], float]:
        """The work of curl with these arguments."""
        trust = ["--cacert", str(self.ca_file)] if self.ca_file is not None else []
        return command("curl", "-s", "-f", *trust, *arguments)


def run(*words: object) -> None:
    """Run a command; what it prints is shown only where it fails."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, words[:6]))} ...: {done.stdout}{done.stderr}")


def command(*words: object) -> Callable[[], float]:
    """The work of running a command and dropping what it prints; gives its seconds."""
    line = [str(word) for word in words]

    def work() -> float:
        return timed(lambda: subprocess.run(line, check=True, stdout=subprocess.DEVNULL))

    return work


def script(text: str, *arguments: object) -> Callable[[], float]:
    """The work of a Python script of its own process; gives the number it prints last."""
    line = [sys.executable, "-c", text, *map(str, arguments)]

    def work() -> float:
        done = subprocess.run(line, check=True, capture_output=True, text=True)
        return float(done.stdout.split()[-1])

    return work
