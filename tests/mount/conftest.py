"""Fixtures of the mount tests."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from support.mounts import Mounts

from icatfs.facility.testing import FacilityHandle, running_facility

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def sample() -> Iterator[FacilityHandle]:
    """The sample facility on one storage level, shared by the tests of a module that only read."""
    with running_facility("--storage", "single") as facility:
        yield facility


@pytest.fixture(scope="module")
def module_mounts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounts]:
    """Mounts that the tests of a module share; skips where the machine cannot mount."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("no /dev/fuse")
    folder = tmp_path_factory.mktemp("mounts")
    runtime = folder / "run"
    runtime.mkdir(mode=0o700)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(runtime))
        made = Mounts(folder)
        yield made
        made.clean()
