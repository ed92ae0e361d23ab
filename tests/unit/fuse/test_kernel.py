from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

from icatfs.fuse import kernel
from icatfs.fuse.kernel import KernelNotifier, granted_background, tune


@pytest.fixture
def sys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The part of /sys that a mount with the device number 0:39 has."""
    for path in ("class/bdi/0:39/read_ahead_kb", "module/fuse/parameters/max_user_bgreq"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text("128")
    monkeypatch.setattr(kernel, "mounted_at", lambda _: SimpleNamespace(device="0:39"))
    return tmp_path


def test_a_mount_reads_ahead(sys: Path) -> None:
    tune(Path("/mnt"), sys)
    assert (sys / "class/bdi/0:39/read_ahead_kb").read_text() == "1024"


def test_who_may_not_raise_the_reading_ahead_is_told_what_that_means(
    sys: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = sys / "class/bdi/0:39/read_ahead_kb"
    path.unlink()
    path.mkdir()
    with caplog.at_level(logging.INFO):
        tune(Path("/mnt"), sys)
    assert "only root can set" in caplog.text


def test_root_has_as_many_requests_under_way_as_he_wants(
    sys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.getuid", lambda: 0)
    assert granted_background(1000, sys) == 1000
    assert granted_background(1 << 20, sys) == (1 << 16) - 1


def test_an_ordinary_user_goes_as_far_as_the_module_lets(
    sys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.getuid", lambda: 1000)
    assert granted_background(1000, sys) == 128
    assert granted_background(100, sys) == 100


@pytest.mark.parametrize("wanted", [0, 5, 12])
def test_where_few_can_wait_the_log_says_so(
    sys: Path, caplog: pytest.LogCaptureFixture, wanted: int
) -> None:
    with caplog.at_level(logging.WARNING):
        assert granted_background(wanted, sys) == 12
    assert "only 8 reads wait" in caplog.text
    assert "remedy: a larger max_background" in caplog.text


def test_nothing_is_told_to_a_kernel_that_has_no_mount() -> None:
    notifier = KernelNotifier()
    notifier.invalidate_inode(7)
    notifier.invalidate_entry(1, "name")
    assert notifier.stop()
