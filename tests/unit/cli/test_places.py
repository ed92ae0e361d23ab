"""Which mount a path is in: links, dots, bind mounts, and never a look into the mount."""

from __future__ import annotations

from pathlib import Path

import pytest

from icatfs import control
from icatfs.cli import places
from icatfs.errors import MountError
from icatfs.fuse.mountpoint import Mounted, mounts

DISK = Mounted("0:1", "/", Path("/"), "ext4", "disk")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path.resolve() / "home"
    (folder / "work").mkdir(parents=True)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.chdir(folder / "work")
    return folder


@pytest.fixture
def mounted(home: Path) -> list[Mounted]:
    """A mount at ``facility`` that is served."""
    point = home / "facility"
    point.mkdir()
    control.socket_path(point).touch()
    return [DISK, Mounted("0:9", "/", point, "fuse.icatfs", "https://icat")]


@pytest.mark.parametrize(
    ("given", "inside"),
    [
        ("../facility", "/"),
        ("../facility/ESNF/inv/1/ds", "/ESNF/inv/1/ds"),
        ("../facility//ESNF/./inv/", "/ESNF/inv"),
        ("../facility/ESNF/inv/../other", "/ESNF/other"),
        ("../facility/ESNF/../../facility/x", "/x"),
        ("../work/../facility/x", "/x"),
    ],
)
def test_a_path_is_taken_apart_at_the_mount_point(
    mounted: list[Mounted], given: str, inside: str
) -> None:
    place = places.find(given, mounted)
    assert (place.inside, place.given) == (inside, given)
    assert place.mountpoint == mounted[1].point


def test_links_are_followed_as_far_as_the_mount_and_no_further(
    home: Path, mounted: list[Mounted]
) -> None:
    (home / "data").symlink_to("facility/ESNF")
    (home / "work" / "same").symlink_to(home / "data")
    (home / "facility" / "ESNF").symlink_to("/nowhere")  # looking at it would show this
    assert places.find("same/inv", mounted).inside == "/ESNF/inv"
    assert places.find(str(home / "data"), mounted).inside == "/ESNF"


def test_links_that_lead_in_circles_are_an_error(home: Path, mounted: list[Mounted]) -> None:
    (home / "a").symlink_to("b")
    (home / "b").symlink_to("a")
    with pytest.raises(MountError, match="circles"):
        places.find(str(home / "a"), mounted)


def test_a_bind_mount_of_a_part_leads_to_the_socket_of_the_whole(
    home: Path, mounted: list[Mounted]
) -> None:
    bound = Mounted("0:9", "/ESNF/inv", home / "bound", "fuse.icatfs", "https://icat")
    place = places.find("../bound/1/ds", [*mounted, bound])
    assert place.inside == "/ESNF/inv/1/ds"
    assert place.socket == control.socket_path(mounted[1].point)


def test_a_path_elsewhere_is_an_error_that_names_what_is_mounted(
    home: Path, mounted: list[Mounted]
) -> None:
    with pytest.raises(MountError, match=f"not in a mount of icatfs: mounted is {home}/facility"):
        places.find("x", mounted)
    with pytest.raises(MountError, match="nothing is mounted"):
        places.find("x", [DISK])
    within = Mounted("0:5", "/", home / "facility" / "scratch", "tmpfs", "none")
    with pytest.raises(MountError, match="not in a mount"):
        places.find("../facility/scratch/x", [*mounted, within])


def test_a_mount_that_nobody_serves_is_an_error(home: Path, mounted: list[Mounted]) -> None:
    control.socket_path(mounted[1].point).unlink()
    with pytest.raises(MountError, match="nobody serves the mount at"):
        places.find("../facility/x", mounted)


def test_mountinfo_is_read_with_its_escapes(tmp_path: Path) -> None:
    text = (
        "22 1 8:1 / / rw - ext4 /dev/sda rw\n"
        "40 22 0:44 /ESNF/a\\040b /mnt/x\\040y rw,nosuid shared:9 - fuse.icatfs https://i rw\n"
    )
    (tmp_path / "mountinfo").write_text(text, encoding="utf-8")
    *_, last = mounts(tmp_path / "mountinfo")
    assert last == Mounted("0:44", "/ESNF/a b", Path("/mnt/x y"), "fuse.icatfs", "https://i")
