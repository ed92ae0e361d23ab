"""Real mounts of a facility in memory, each served by a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from icatfs.fuse.mountpoint import detach, mounted_at

TESTS = Path(__file__).parent.parent


@dataclass
class MemoryMount:
    """One mount; ``data`` is its dataset folder, ``control`` where the server is told things."""

    point: Path
    control: Path
    log_file: Path
    process: subprocess.Popen[str]

    @property
    def data(self) -> Path:
        return self.point / "ESNF" / "INV" / "1" / "data"

    def signal(self, name: str) -> None:
        """Let blocked reads (``release``) or restores (``restored``) go on."""
        (self.control / name).touch()

    def log(self) -> str:
        """What the server logged so far."""
        return self.log_file.read_text(encoding="utf-8")

    def stop(self, timeout_s: float = 20) -> int:
        """Ask the server to end and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)


@dataclass
class MemoryMounts:
    """Makes mounts below one folder, and takes down what a test left."""

    folder: Path
    made: list[MemoryMount] = field(default_factory=list)

    def mount(self, mode: str = "add", recall_wait_s: float | None = None) -> MemoryMount:
        """A mount that answers."""
        number = len(self.made)
        point, control = self.folder / f"mnt{number}", self.folder / f"control{number}"
        point.mkdir()
        control.mkdir()
        log_file = self.folder / f"log{number}"
        arguments = [str(point), str(control), mode]
        if recall_wait_s is not None:
            arguments.append(str(recall_wait_s))
        with log_file.open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "support.served", *arguments],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "PYTHONPATH": f"{TESTS}{os.pathsep}{TESTS.parent}"},
            )
        mount = MemoryMount(point, control, log_file, process)
        self.made.append(mount)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line == "READY\n", mount.log()
        return mount

    def clean(self) -> None:
        """Take down what is left; readers that still wait are let go first."""
        for mount in self.made:
            for name in ("release", "restored"):
                mount.signal(name)
            if mount.process.poll() is None:
                mount.process.send_signal(signal.SIGTERM)
                try:
                    mount.process.wait(20)
                except subprocess.TimeoutExpired:
                    mount.process.kill()
                    mount.process.wait()
            if mount.process.stdout is not None:
                mount.process.stdout.close()
            if mounted_at(mount.point) is not None:
                detach(mount.point)
