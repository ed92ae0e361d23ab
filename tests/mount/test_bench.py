"""``icatfs bench`` as a user calls it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from icatfs.facility.testing import FacilityHandle, running_facility

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def facility() -> Iterator[FacilityHandle]:
    with running_facility("--storage", "dataset") as running:
        yield running


def bench(facility: FacilityHandle, folder: Path, path: str, *options: str) -> list[str]:
    password = folder / "password"
    password.touch(mode=0o600)
    password.write_text(facility.users["db/nbour"])
    login = ["--auth", "db", "--user", "nbour", "--password-file", str(password)]
    url = f"{facility.url}:{path}"
    return [sys.executable, "-m", "icatfs", "bench", url, *login, "--runs", "1", *options]


def test_it_says_what_it_reads_and_measures_it(facility: FacilityHandle, tmp_path: Path) -> None:
    command = bench(facility, tmp_path, "/ESNF/12100409-ST", "--yes", "--json")
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "files of less than 1 MiB" in done.stderr
    names = [row["name"] for row in json.loads(done.stdout)]
    assert any("small files, cold" in name for name in names)
    assert any("data service" in name for name in names)


def test_it_asks_first_and_no_ends_it(facility: FacilityHandle, tmp_path: Path) -> None:
    facility.reset_counters()
    command = bench(facility, tmp_path, "/ESNF/12100409-ST")
    done = subprocess.run(command, capture_output=True, text=True, input="n\n")
    assert done.returncode == 130
    assert "ids/getData" not in facility.counters()["requests"]


def test_archived_data_are_left_where_they_are(facility: FacilityHandle, tmp_path: Path) -> None:
    number = facility.search("SELECT ds.id FROM Dataset ds WHERE ds.name = 'e208341'")
    facility.archive(datasets=[int(one) for one in number])
    facility.reset_counters()
    command = bench(facility, tmp_path, "/ESNF/10100601-ST/1.1-N/e208341", "--yes")
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 8
    assert "no file that is online" in done.stderr
    assert facility.counters()["restores"] == 0
