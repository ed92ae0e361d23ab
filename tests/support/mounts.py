"""Real mounts, made by the command line in processes of their own."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icatfs import control

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from icatfs.facility.handle import FacilityHandle
from icatfs.fuse import mountpoint

PROGRAM = [sys.executable, "-m", "icatfs"]


@dataclass
class Mounts:
    """Makes mounts below one folder, and takes down what a test left."""

    folder: Path
    made: list[Path] = field(default_factory=list)

    def run(self, *arguments: object, timeout_s: float = 100) -> subprocess.CompletedProcess[str]:
        """Run a sub-command of icatfs and return how it ended."""
        return subprocess.run(
            [*PROGRAM, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def python(self, script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Run a Python script in a process of its own."""
        return subprocess.run(
            [sys.executable, "-c", script, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def python_later(self, script: str, *arguments: object) -> subprocess.Popen[bytes]:
        """Start a Python script in a process of its own; its complaints are not shown."""
        return subprocess.Popen(
            [sys.executable, "-c", script, *map(str, arguments)], stderr=subprocess.DEVNULL
        )

    def arguments(
        self, facility: FacilityHandle, point: Path, *options: object, user: str = "db/nbour"
    ) -> list[object]:
        """The arguments of ``icatfs mount`` for one user."""
        password = self.folder / f"password-{user.replace('/', '-')}"
        password.touch(mode=0o600)
        password.write_text(facility.users[user] + "\n", encoding="utf-8")
        auth, _, name = user.partition("/")
        login = ["--auth", auth, "--user", name, "--password-file", password]
        folders = ["--cache-dir", self.folder / "cache", "-o", f"state_dir={self.folder / 'state'}"]
        if os.environ.get("ICATFS_TEST_WRITE_BACK"):  # to run any test with it, by hand
            folders += ["-o", "write_back=yes"]
        return ["mount", facility.url, point, *login, *folders, *options]

    def mount(
        self,
        facility: FacilityHandle,
        *options: object,
        name: str = "mnt",
        user: str = "db/nbour",
    ) -> Path:
        """A mount of this facility; the test fails with its words if it cannot be made."""
        point = self.folder / name
        with suppress(FileExistsError):  # a dead mount is no folder to `exist_ok`
            os.mkdir(point)
        done = self.run(*self.arguments(facility, point, *options, user=user))
        assert done.returncode == 0, done.stderr
        self.made.append(point)
        return point

    def unmount(self, point: Path, *options: object) -> subprocess.CompletedProcess[str]:
        """Unmount it."""
        return self.run("unmount", point, *options)

    def status(self, point: Path) -> dict[str, Any]:
        """What the mount says of itself."""
        status: dict[str, Any] = control.ask(control.socket_path(point), "status")
        return status

    def log(self) -> str:
        """What all daemons of this test logged."""
        folder = self.folder / "state" / "log"
        return "".join(path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.log")))

    def clean(self) -> None:
        """Take down what is left, dead or alive."""
        for point in self.made:
            while mountpoint.mounted_at(point) is not None:
                mountpoint.detach(point)


@contextmanager
def fails_with(*numbers: int) -> Iterator[None]:
    """The block raises an OSError of one of these errnos; without any, of whatever errno."""
    raised: OSError | None = None
    try:
        yield
    except OSError as error:
        raised = error
    names = [errno.errorcode[number] for number in numbers]
    assert raised is not None, f"it did not fail with {names}"
    assert not numbers or raised.errno in numbers, f"{raised!r} is not of {names}"


def until(condition: Callable[[], bool], timeout_s: float = 30) -> None:
    """Return when the condition holds; fail after the time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
