"""The units that come with icatfs, as systemd itself reads them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import icatfs

UNITS = sorted(Path(icatfs.__file__).parent.parent.joinpath("systemd").rglob("*.service"))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: f"{unit.parent.name}")
def test_systemd_understands_the_unit(unit: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False
    )
    complaints = [
        line
        for line in done.stderr.splitlines()
        if "icatfs@" in line and "is not executable" not in line  # it is not installed there
    ]
    assert complaints == []


def test_there_is_a_unit_for_users_and_one_for_machines() -> None:
    assert [unit.parent.name for unit in UNITS] == ["system", "user"]
