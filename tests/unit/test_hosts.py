"""A folder that another host uses, or that cannot be locked, is left alone."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

from icatfs import hosts

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_processes_of_one_host_share_a_folder(tmp_path: Path) -> None:
    with (
        hosts.shared_by_this_host(tmp_path) as first,
        hosts.shared_by_this_host(tmp_path) as second,
    ):
        assert first
        assert second


def test_a_folder_that_another_boot_uses_is_left_to_it_until_it_has_gone(tmp_path: Path) -> None:
    with hosts.shared_by_this_host(tmp_path):
        (tmp_path / "host").write_text("another boot")
        with hosts.shared_by_this_host(tmp_path) as may_use:
            assert not may_use
    with hosts.shared_by_this_host(tmp_path) as may_use:
        assert may_use


def test_who_could_not_lock_a_folder_does_not_use_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever boot its file names."""
    monkeypatch.setattr(hosts, "_ENTERS_WITHIN_S", 0.0)
    with hosts.shared_by_this_host(tmp_path):
        pass
    alone = os.open(tmp_path / "host", os.O_RDWR)
    try:
        fcntl.flock(alone, fcntl.LOCK_EX)
        with hosts.shared_by_this_host(tmp_path) as may_use:
            assert not may_use
    finally:
        os.close(alone)
