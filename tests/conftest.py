"""Fixtures for every kind of test."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from support.memory import MemoryMount, MemoryMounts

if TYPE_CHECKING:
    from collections.abc import Iterator


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
