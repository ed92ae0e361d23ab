"""What users say about their data: ``user.icat.description`` and ``doi``, and complete datasets."""

from __future__ import annotations

import errno
import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from support.mounts import Mounts, fails_with, until
from support.sample import VISIT
from support.writable import Writable, writable_on

from icatfs.facility.testing import running_facility

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

DESCRIPTION, DOI = "user.icat.description", "user.icat.doi"
TEXTS = [
    "at 4 K",
    "2 µm, 日本, Ångström",
    "two\nlines\ttab",
    "it's \"quoted\" \\ 'SELECT'",
    "x" * 255,
]


@pytest.fixture(scope="module")
def writable(module_mounts: Mounts) -> Iterator[Writable]:
    with running_facility("--storage", "single") as facility:
        yield from writable_on(module_mounts, facility, ["-o", "ttl=1"])


@pytest.fixture(scope="module")
def other(writable: Writable) -> Iterator[Path]:
    """The dataset through another mount, of another user, in mode rw, that remembers nothing."""
    options = ("--mode", "rw", "-o", "ttl=0.1")
    point = writable.mounts.mount(writable.facility, *options, name="other", user="db/rbeck")
    yield point / writable.dataset.relative_to(writable.point)
    assert writable.mounts.unmount(point).returncode == 0


@pytest.fixture(params=["file", "dataset"])
def described(writable: Writable, request: pytest.FixtureRequest) -> Path:
    """A file of this mount, or the dataset that it is in."""
    path = writable.dataset / "file"
    if not path.exists():
        path.write_bytes(b"content")
    return path if request.param == "file" else writable.dataset


def said(writable: Writable, described: Path) -> object:
    """Description and DOI, as the facility has them."""
    if described == writable.dataset:
        query = f"SELECT ds.description, ds.doi FROM Dataset ds WHERE ds.name = '{described.name}'"
    else:
        query = (
            "SELECT df.description, df.doi FROM Datafile df WHERE df.name = 'file' AND "
            f"df.dataset.name = '{writable.dataset.name}'"
        )
    return writable.facility.search(query)[0]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_what_the_facility_has_and_is_read_back(
    writable: Writable, described: Path, text: str
) -> None:
    os.setxattr(described, DESCRIPTION, text.encode())
    os.setxattr(described, DOI, b"10.1000/182")
    assert said(writable, described) == [text, "10.1000/182"]
    assert os.getxattr(described, DESCRIPTION).decode() == text
    assert os.getxattr(described, DOI) == b"10.1000/182"


def test_a_text_is_replaced_cleared_and_removed(writable: Writable, described: Path) -> None:
    for text in (b"first", b"second"):
        os.setxattr(described, DESCRIPTION, text)
        assert os.getxattr(described, DESCRIPTION) == text
    os.setxattr(described, DOI, b"10.1/1")
    os.setxattr(described, DESCRIPTION, b"")
    assert said(writable, described) == [None, "10.1/1"]
    os.removexattr(described, DOI)
    assert said(writable, described) == [None, None]
    for name in (DESCRIPTION, DOI):
        with fails_with(errno.ENODATA):
            os.getxattr(described, name)


def test_what_is_not_set_cannot_be_removed(writable: Writable, described: Path) -> None:
    os.setxattr(described, DESCRIPTION, b"words")
    os.setxattr(described, DOI, b"")
    for name in (DOI, "user.comment"):
        with fails_with(errno.ENODATA):
            os.removexattr(described, name)
    os.removexattr(described, DESCRIPTION)
    with fails_with(errno.ENODATA):
        os.removexattr(described, DESCRIPTION)
    assert said(writable, described) == [None, None]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (b"x" * 256, "256 characters"),
        ("\U0001f600".encode() * 128, "256 characters"),
        (b"\xff\xfe", "UTF-8 only"),
        (b"a\0b", "NUL"),
    ],
)
def test_what_the_catalogue_cannot_hold_is_refused_and_changes_nothing(
    writable: Writable, described: Path, value: bytes, words: str
) -> None:
    os.setxattr(described, DESCRIPTION, b"before")
    descriptor = os.open(described, os.O_RDONLY)  # a path would be looked up after a second
    asked = writable.facility.counters()["requests"]
    with fails_with(errno.EINVAL):
        os.setxattr(descriptor, DESCRIPTION, value)
    assert writable.facility.counters()["requests"] == asked, "nobody needs to be asked"
    os.close(descriptor)
    assert os.getxattr(described, DESCRIPTION) == b"before"
    assert words in os.getxattr(described, "user.icat.last_error").decode()


@pytest.mark.parametrize("name", ["checksum", "kind", "id", "location", "status", "title", "more"])
def test_facts_cannot_be_set_or_removed(described: Path, name: str) -> None:
    with fails_with(errno.EPERM):
        os.setxattr(described, f"user.icat.{name}", b"0")
    with fails_with(errno.EPERM):
        os.removexattr(described, f"user.icat.{name}")


def test_attributes_of_others_are_not_supported(described: Path) -> None:
    for name in ("user.comment", "user.icatx.description"):
        with fails_with(errno.ENOTSUP):
            os.setxattr(described, name, b"x")


def test_only_files_and_datasets_can_be_described(writable: Writable) -> None:
    (writable.dataset / "folder").mkdir(exist_ok=True)
    for path in (writable.dataset / "folder", writable.point / VISIT, writable.point / "ESNF"):
        with fails_with(errno.EPERM):
            os.setxattr(path, DESCRIPTION, b"x")


def test_a_file_that_is_not_stored_yet_cannot_be_described(writable: Writable) -> None:
    path = writable.dataset / "unfinished"
    with path.open("wb", buffering=0) as file:
        file.write(b"x")
        with fails_with(errno.ENOTSUP):
            os.setxattr(path, DESCRIPTION, b"too early")
    os.setxattr(path, DESCRIPTION, b"now")
    assert os.getxattr(path, DESCRIPTION) == b"now"


def test_what_this_mount_did_not_make_is_not_described_in_mode_add(writable: Writable) -> None:
    stored = writable.point / VISIT / "e208945"
    for path in (stored, stored / "e208945.nxs"):
        with fails_with(errno.EPERM):
            os.setxattr(path, DESCRIPTION, b"x")
        with fails_with(errno.EPERM):
            os.removexattr(path, DESCRIPTION)


def test_who_has_no_right_to_change_is_refused_by_the_facility(
    writable: Writable, described: Path, other: Path
) -> None:
    os.setxattr(described, DESCRIPTION, b"mine")
    path = other if described == writable.dataset else other / "file"
    with fails_with(errno.EACCES):
        os.setxattr(path, DESCRIPTION, b"theirs")
    with fails_with(errno.EACCES):
        os.removexattr(path, DESCRIPTION)
    assert os.getxattr(path, DESCRIPTION) == b"mine"
    assert os.getxattr(described, DESCRIPTION) == b"mine"


def test_a_text_stays_with_its_name_through_versions_and_renames(writable: Writable) -> None:
    path = writable.dataset / "kept"
    path.write_bytes(b"one")
    os.setxattr(path, DESCRIPTION, b"words")
    path.write_bytes(b"two")
    assert os.getxattr(path, DESCRIPTION) == b"words"
    path = path.rename(writable.dataset / "kept-renamed")
    assert os.getxattr(path, DESCRIPTION) == b"words"


def test_cp_a_of_described_files_works(writable: Writable, described: Path, tmp_path: Path) -> None:
    os.setxattr(described, DESCRIPTION, b"words")
    target = tmp_path / "copy"
    done = subprocess.run(
        ["cp", "-a", described, target], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    back = writable.dataset / f"back-{described.name}"
    done = subprocess.run(["cp", "-a", target, back], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# Complete datasets.


@pytest.fixture(params=["yes", "no"])
def complete(writable: Writable, request: pytest.FixtureRequest) -> Iterator[tuple[Path, bool]]:
    """A dataset with a file, complete since this mount looked, and whether that closes it.

    Seen by a user whom no rule hinders.
    """
    setting = str(request.param)
    options = ("--mode", "rw", "-o", f"complete_is_closed={setting}")
    point = writable.mounts.mount(
        writable.facility, *options, name=f"closing-{setting}", user="simple/root"
    )
    dataset = point / VISIT / f"complete-{setting}"
    dataset.mkdir()
    (dataset / "stored").write_bytes(b"stored")
    (dataset / "aside.part").write_bytes(b"aside")
    assert writable.mounts.run("complete", "--yes", dataset).returncode != 0, "one is not sent yet"
    (dataset / "aside.part").unlink()
    assert writable.mounts.run("complete", "--yes", dataset).returncode == 0
    yield dataset, setting == "yes"
    assert writable.mounts.unmount(point).returncode == 0


def test_a_complete_dataset_takes_no_data_where_that_closes_it(
    writable: Writable, complete: tuple[Path, bool]
) -> None:
    dataset, is_closed = complete
    (dataset / "aside.part").write_bytes(b"aside")
    puts = writable.facility.counters()["requests"]["ids/put"]
    attempts: dict[str, Callable[[], object]] = {
        "create": lambda: (dataset / "new").write_bytes(b"new"),
        "create below": lambda: (dataset / "folder/new").write_bytes(b"new"),
        "overwrite": lambda: (dataset / "stored").write_bytes(b"other"),
        "rename in": lambda: (dataset / "aside.part").rename(dataset / "renamed"),
    }
    (dataset / "folder").mkdir()
    for what, attempt in attempts.items():
        if is_closed:
            with fails_with(errno.EPERM):
                attempt()
        else:
            attempt()
        put = writable.facility.counters()["requests"]["ids/put"]
        assert (put > puts) is not is_closed, what
    rows = writable.facility.search(
        f"SELECT df.name FROM Datafile df WHERE df.dataset.name = '{dataset.name}'"
    )
    if is_closed:
        assert rows == ["stored"]
        assert (dataset / "stored").read_bytes() == b"stored"
        assert "complete_is_closed" in writable.mounts.log()
        (dataset / "aside.part").unlink()
    else:
        until(lambda: "renamed" in rows)
