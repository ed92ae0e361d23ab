"""Fixtures of the mount tests."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from support.mounts import Mounts

from icatfs.facility.testing import FacilityHandle, running_facility

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mounts]:
    """Mounts of this test; skips where the machine cannot mount."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("no /dev/fuse")
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    for name in ("ICAT_CFG", "ICAT_CFG_SECTION", "ICAT_SERVICE", "ICAT_DATA_SERVICE"):
        monkeypatch.delenv(name, raising=False)
    made = Mounts(tmp_path)
    yield made
    made.clean()


@pytest.fixture(scope="module")
def sample() -> Iterator[FacilityHandle]:
    """The sample facility on one storage level, shared by the tests of a module that only read."""
    with running_facility("--storage", "single") as facility:
        yield facility
