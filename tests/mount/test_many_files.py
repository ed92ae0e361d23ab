"""Many small files through a real mount: few requests, right bytes, nothing that was not wanted."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.mounts import Mounts

from icatfs.facility.testing import FacilityHandle, running_facility

if TYPE_CHECKING:
    from collections.abc import Iterator


COUNT = 1000
SIZE = 10_000
HANDFUL = 12
LOOP = """
import os, random, sys
folder, seed = sys.argv[1:]
names = sorted(os.listdir(folder))
for epoch in range(2):
    random.Random(seed + str(epoch)).shuffle(names)
    for name in names:
        with open(os.path.join(folder, name), "rb") as file:
            assert len(file.read()) == 10_000
"""


@pytest.fixture(scope="module")
def large() -> Iterator[FacilityHandle]:
    """A dataset of a thousand small files."""
    with running_facility("--holdings", "large", "--size", str(COUNT)) as facility:
        yield facility


@dataclass
class Many:
    """A mount of it."""

    facility: FacilityHandle
    mounts: Mounts
    point: Path

    @property
    def folder(self) -> Path:
        return self.point / "LARGE" / "BIG-1" / "1" / "many"

    def requests(self) -> int:
        """Requests to the data service."""
        requests = self.facility.counters()["requests"]
        return sum(count for name, count in requests.items() if name.startswith("ids/"))

    def ids(self) -> dict[str, int]:
        rows = self.facility.search(
            "SELECT df.name, df.id FROM Datafile df WHERE df.dataset.name = 'many'"
        )
        return {str(name): int(number) for name, number in rows}

    def same(self, copy: Path) -> bool:
        """Whether a copy has the facility's bytes; they come from few seeds."""
        ids = self.ids()
        found = {path.name: path.read_bytes() for path in copy.iterdir()}
        truth: dict[int, bytes] = {}
        for name, data in found.items():
            number = ids[name]
            if number % 16 not in truth:
                truth[number % 16] = self.facility.content(number)
            if truth[number % 16] != data:
                assert self.facility.content(number) == data
        return set(found) == set(ids)


@pytest.fixture
def many(large: FacilityHandle, mounts: Mounts) -> Iterator[Many]:
    """A mount with nothing in the cache, and a facility that counts from zero."""
    large.clear_faults()
    point = mounts.mount(large, user="db/jdoe")
    made = Many(large, mounts, point)
    os.listdir(made.folder)
    large.reset_counters()
    yield made
    large.clear_faults()


def run(*command: object) -> None:
    subprocess.run([str(word) for word in command], check=True, timeout=120, capture_output=True)


@pytest.mark.parametrize("how", ["cp", "rsync", "tar", "cat", "loop"])
def test_a_dataset_of_a_thousand_files_is_read_with_a_handful_of_requests(
    many: Many, tmp_path: Path, how: str
) -> None:
    copy = tmp_path / "copy"
    match how:
        case "cp":
            run("cp", "-r", many.folder, copy)
        case "rsync":
            if shutil.which("rsync") is None:
                pytest.skip("no rsync")
            run("rsync", "-rt", f"{many.folder}/", copy)
        case "tar":
            copy.mkdir()
            run("sh", "-c", f"tar -C {many.folder} -cf - . | tar -C {copy} -xf -")
        case "cat":
            run("sh", "-c", f"cat {many.folder}/* > {tmp_path / 'all'}")
            assert (tmp_path / "all").stat().st_size == COUNT * SIZE
        case "loop":
            done = many.mounts.python(LOOP, many.folder, "7")
            assert done.returncode == 0, done.stderr
    if copy.exists():
        assert many.same(copy)
    assert many.requests() <= HANDFUL
    assert many.facility.counters()["bytes_sent"] <= 1.1 * COUNT * SIZE
    bulk = many.mounts.status(many.point)["bulk"]
    assert bulk["files"] >= COUNT - HANDFUL
    assert "zips      1," in many.mounts.run("status", many.point).stdout


def test_the_heads_of_two_files_fetch_two_files(many: Many) -> None:
    names = sorted(os.listdir(many.folder))
    for name in names[:2] * 3:
        run("head", "-c", "10", many.folder / name)
    assert many.requests() == 1 + 2  # whether the dataset is online, and the files
    assert many.facility.counters()["bytes_sent"] == len("ONLINE") + 2 * SIZE
    assert many.mounts.status(many.point)["bulk"]["zips"] == 0
