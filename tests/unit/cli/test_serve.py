"""The daemon's process and whoever started it."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from icatfs.cli import exits
from icatfs.cli.serve import Launch, encode_launch
from icatfs.config import Config
from icatfs.icat.session import Credentials

if TYPE_CHECKING:
    from pathlib import Path


def test_who_started_a_mount_and_has_gone_is_no_reason_for_a_traceback(tmp_path: Path) -> None:
    config = Config(
        url="http://127.0.0.1:9",
        mountpoint=tmp_path / "mnt",
        cache_dir=tmp_path / "cache",
        state_dir=tmp_path / "state",
        cache_size=2**30,
    )
    launch = encode_launch(Launch(config, Credentials("simple", {"username": "u"})))
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "icatfs.cli.serve"]
    done = subprocess.run(command, input=launch, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    told = done.stderr.decode()
    assert done.returncode not in (exits.OK, 1), told
    assert "icatfs mount was ended before it could be told" in told
    assert "Traceback" not in told
