"""A facility with everything on tape, a mount of it, and what icatfs is asked about it."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from icatfs import control
from icatfs.facility.testing import FacilityHandle, running_facility
from icatfs.recall.book import Book, books
from support.mounts import PROGRAM, Mounts, until
from support.sample import VISIT

if TYPE_CHECKING:
    from collections.abc import Iterator

DATASETS = ("e208945", "e208947", "pub-00027")
"""Those of the visit that have files."""


@dataclass
class Tape:
    """A facility with everything on tape, and a mount of it."""

    mounts: Mounts
    facility: FacilityHandle
    point: Path

    def path(self, name: str = "") -> Path:
        return self.point / VISIT / name

    def stage(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        return self.mounts.run("stage", *arguments)

    @contextmanager
    def started(self, *arguments: object) -> Iterator[subprocess.Popen[str]]:
        """The command as it runs; it ends with the block."""
        with subprocess.Popen(
            [*PROGRAM, "stage", *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def staged(self, *arguments: object) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.stage(*arguments, "--json").stdout)
        return told

    def restores(self) -> int:
        count: int = self.facility.counters()["restores"]
        return count

    def datasets(self, name: str = "%") -> list[int]:
        return self.facility.search(f"SELECT ds.id FROM Dataset ds WHERE ds.name LIKE '{name}'")

    def settle(self) -> None:
        """All restores that were asked for end now."""
        self.facility.clear_faults()
        self.facility.advance(1000)
        until(lambda: not self.moving())

    def moving(self) -> bool:
        """Whether the facility has something to restore."""
        return bool(self.facility.archive_report()["opsQueue"])

    def begin(self, patch: pytest.MonkeyPatch) -> None:
        """For a test: this mount is found, and all is as at the beginning."""
        patch.setenv("XDG_RUNTIME_DIR", str(self.mounts.folder))
        patch.setenv("ICATFS_STATE_DIR", str(self.mounts.folder / "state"))
        self.again()

    def again(self) -> None:
        """Everything is on tape, nothing is asked for, and nothing was counted."""
        (path,) = books(self.mounts.folder / "state")
        with closing(Book(path)) as book:
            book.cancel()
        self.settle()
        until(lambda: not self.mounts.status(self.point)["filesystem"]["waiting"])
        units = [{"dataset": number, "datafile": None} for number in self.datasets()]
        control.ask(control.socket_path(self.point), "reset", units=units)
        self.facility.archive(datasets=self.datasets())
        until(lambda: not self.mounts.status(self.point)["recall"]["units"])
        self.facility.reset_counters()


@contextmanager
def taped(folder: Path, *options: object) -> Iterator[Tape]:
    """A facility whose restores take half a second, and a mount with these options."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("no /dev/fuse")
    facility_options = "--storage", "dataset", "--archived", "--restore-delay", "0.5"
    with pytest.MonkeyPatch.context() as patch, running_facility(*facility_options) as facility:
        patch.setenv("XDG_RUNTIME_DIR", str(folder))
        patch.setenv("ICATFS_STATE_DIR", str(folder / "state"))
        mounts = Mounts(folder)
        yield Tape(mounts, facility, mounts.mount(facility, *options))
        mounts.clean()
