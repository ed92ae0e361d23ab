from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from icatfs.fuse.kernel import KernelNotifier, tune

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def sys(tmp_path: Path) -> Path:
    """The part of /sys that a mount with the device number 0:39 has."""
    for path in ("class/bdi/0:39/read_ahead_kb", "module/fuse/parameters/max_user_bgreq"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text("128")
    connection = tmp_path / "fs/fuse/connections/39"
    connection.mkdir(parents=True)
    for name in ("max_background", "congestion_threshold"):
        (connection / name).write_text("12")
    return tmp_path


def test_a_mount_reads_ahead_and_lets_many_wait(sys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getuid", lambda: 0)
    assert tune("0:39", sys)
    assert (sys / "class/bdi/0:39/read_ahead_kb").read_text() == "1024"
    assert (sys / "fs/fuse/connections/39/max_background").read_text() == "1000"
    assert (sys / "fs/fuse/connections/39/congestion_threshold").read_text() == "750"


def test_an_ordinary_user_goes_as_far_as_the_module_lets(
    sys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.getuid", lambda: 1000)
    tune("0:39", sys)
    assert (sys / "fs/fuse/connections/39/max_background").read_text() == "128"


def test_what_cannot_be_raised_is_told_with_its_remedy(
    sys: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("os.getuid", lambda: 1000)
    path = sys / "fs/fuse/connections/39/max_background"
    path.unlink()
    path.mkdir()
    with caplog.at_level(logging.WARNING):
        assert not tune("0:39", sys)
    assert "only 8 reads wait" in caplog.text
    assert "remedy: mount -t fusectl" in caplog.text


def test_the_kernels_own_limit_can_be_kept(sys: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert not tune("0:39", sys, background=12)
    assert (sys / "fs/fuse/connections/39/max_background").read_text() == "12"
    assert "only 8 reads wait" in caplog.text


def test_nothing_is_told_to_a_kernel_that_has_no_mount() -> None:
    notifier = KernelNotifier()
    notifier.invalidate_inode(7)
    notifier.invalidate_entry(1, "name")
    assert notifier.stop()
