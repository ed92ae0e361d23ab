"""What ``docs/examples`` tells people to run, run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.tape import DATASETS, Tape, taped

import icatfs
from icatfs.cli import exits

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = Path(icatfs.__file__).parent.parent / "docs" / "examples"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tape]:
    with taped(tmp_path_factory.mktemp("examples")) as made:
        yield made


@pytest.fixture
def tape(shared: Tape, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Tape:
    shared.begin(monkeypatch)
    program = tmp_path / "bin" / "icatfs"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m icatfs "$@"\n', encoding="utf-8")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    Path("paths.txt").write_text(f"{tape_paths(shared)}\n", encoding="utf-8")
    return shared


def tape_paths(tape: Tape) -> str:
    return "\n".join(str(tape.path(name)) for name in DATASETS)


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_script_for_batch_jobs_ends_well_when_all_data_are_there(tape: Tape) -> None:
    done = run(str(EXAMPLES / "prestage.sh"), "paths.txt", "5m")
    assert done.returncode == exits.OK, done.stderr
    assert "all data are online" in done.stdout
    assert tape.restores() == len(DATASETS)
    assert run(str(EXAMPLES / "prestage.sh"), "paths.txt").returncode == exits.OK
    assert tape.restores() == len(DATASETS)


def test_the_script_for_batch_jobs_fails_when_data_are_missing_or_late(tape: Tape) -> None:
    tape.facility.faults({"kind": "restore_slow", "seconds": 600})
    done = run(str(EXAMPLES / "prestage.sh"), "paths.txt", "1s")
    assert done.returncode == exits.TIMED_OUT
    assert "submit again later" in done.stderr
    Path("paths.txt").write_text("/nowhere\n", encoding="utf-8")
    assert run(str(EXAMPLES / "prestage.sh"), "paths.txt").returncode == exits.NOTHING


def test_the_rules_for_snakemake_run(tape: Tape) -> None:
    text = (EXAMPLES / "Snakefile").read_text(encoding="utf-8")
    stage, sums = re.findall(r'shell:\s*"(.*)"', text)
    done = run("sh", "-c", stage.format(input="paths.txt"))
    assert done.returncode == exits.OK, done.stderr
    command = sums.replace("{input.paths}", "paths.txt").replace("{output}", "sums.txt")
    done = run("bash", "-c", command.replace("{{}}", "{}").replace("\\\\", "\\"))
    assert done.returncode == 0, done.stderr
    assert len(Path("sums.txt").read_text(encoding="utf-8").splitlines()) == 6
    assert tape.restores() == len(DATASETS)
