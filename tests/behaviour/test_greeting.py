from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from support import asked

if TYPE_CHECKING:
    from pathlib import Path

WRITES = 50


@pytest.mark.parametrize(
    ("how", "times"), [("greeted", range(2)), ("plain", range(WRITES, WRITES + 2))]
)
def test_the_kernel_asks_nothing_before_each_write_once_it_was_greeted(
    tmp_path: Path, how: str, times: range
) -> None:
    with subprocess.Popen(
        [sys.executable, asked.__file__, tmp_path, how], stdout=subprocess.PIPE, text=True
    ) as mount:
        assert mount.stdout is not None
        assert mount.stdout.readline() == "ready\n"
        with open(tmp_path / "f", "r+b", buffering=0) as stream:
            stream.writelines(b"x" for _ in range(WRITES))
        subprocess.run(["fusermount3", "-u", tmp_path], check=True)
        assert int(mount.stdout.read()) in times
        assert mount.wait() == 0


def test_a_mount_that_is_gone_before_it_was_greeted_says_so(tmp_path: Path) -> None:
    program = (
        "import pyfuse3, subprocess, sys, trio;"
        "from icatfs.fuse.greeting import greet;"
        "from icatfs.fuse.kernel import fuse_descriptor;"
        "from support.asked import Asked;"
        "pyfuse3.init(Asked(), sys.argv[1], {'fsname=asked'});"
        "subprocess.run(['umount', '-f', '-l', sys.argv[1]], check=True);"
        "trio.run(greet, fuse_descriptor(), 100)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, tmp_path],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(asked.__file__))},
    )
    assert ended.returncode == 1
    assert "MountError: the kernel gave the mount up" in ended.stderr
