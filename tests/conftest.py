"""Fixtures for every kind of test."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from support.memory import MemoryMount, MemoryMounts
from support.mounts import Mounts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


# The same examples in each run, so that what fails fails by a change; ``ICATFS_RANDOM=1``: others.
# How long an example takes says something of the machine, not of us.
settings.register_profile(
    "icatfs",
    deadline=None,
    derandomize=not os.environ.get("ICATFS_RANDOM"),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("icatfs")

# Started in the background, a shell leaves SIGINT ignored, and programs inherit that from us.
signal.signal(signal.SIGINT, signal.default_int_handler)


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
def memory_mounts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MemoryMounts]:
    """Makes mounts of a facility in memory; skips where the machine cannot mount."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("no /dev/fuse")
    mounts = MemoryMounts(tmp_path_factory.mktemp("memory"))
    yield mounts
    mounts.clean()


@pytest.fixture(scope="module")
def mount(memory_mounts: MemoryMounts) -> MemoryMount:
    """A mount in mode ``add``, shared by the tests of a module."""
    return memory_mounts.mount()


@pytest.fixture(scope="module")
def read_only_mount(memory_mounts: MemoryMounts) -> MemoryMount:
    """A mount in mode ``ro``, shared by the tests of a module."""
    return memory_mounts.mount("ro")
