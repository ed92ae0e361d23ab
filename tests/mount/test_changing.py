"""Renaming and removing: what the facility has afterwards, and that nothing hidden is left."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.counting import stored
from support.mounts import Mounts, fails_with, until
from support.sample import VISIT

from icatfs.facility.testing import FacilityHandle, running_facility

if TYPE_CHECKING:
    from collections.abc import Iterator

STORED = "e208945"
OWNER = "db/nbour"
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Place:
    """A facility, mounts of it, and a dataset of the test's own."""

    mounts: Mounts
    facility: FacilityHandle
    add: Path
    """Mounted in mode add: what is made here may be changed here."""
    rw: Path
    """Mounted in mode rw."""
    name: str

    @property
    def dataset(self) -> Path:
        return self.add / VISIT / self.name

    @property
    def other(self) -> Path:
        """The same dataset through the other mount."""
        return self.rw / VISIT / self.name

    def names(self) -> list[str]:
        """The Datafile names that the catalogue has in the dataset."""
        rows = self.facility.search(
            f"SELECT df.name FROM Datafile df WHERE df.dataset.name = '{self.name}'"
        )
        return sorted(rows)

    def contents(self) -> dict[str, bytes]:
        """Name to stored bytes of all that the facility has in the dataset."""
        return stored(self.facility, self.name)

    def datasets(self) -> list[str]:
        return sorted(
            self.facility.search(
                "SELECT ds.name FROM Dataset ds WHERE ds.investigation.name = '12100409-ST'"
            )
        )

    def has_only(self, contents: dict[str, bytes]) -> None:
        """Wait until the facility has exactly this: what was replaced is removed afterwards."""
        until(lambda: self.names() == sorted(contents))
        assert self.contents() == contents


@pytest.fixture(scope="module", params=["single", "dataset", "datafile"])
def shared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Mounts, FacilityHandle, Path, Path]]:
    """One facility and two mounts for all tests with a kind of storage."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("no /dev/fuse")
    folder = tmp_path_factory.mktemp("changing")
    runtime = folder / "run"
    runtime.mkdir(mode=0o700)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(runtime))
        mounts = Mounts(folder)
        with running_facility("--storage", request.param) as facility:
            add = mounts.mount(facility, "-o", "ttl=1", name="add")
            rw = mounts.mount(facility, "--mode", "rw", "-o", "ttl=1", name="rw")
            yield mounts, facility, add, rw
            mounts.clean()


@pytest.fixture
def place(shared: tuple[Mounts, FacilityHandle, Path, Path]) -> Place:
    mounts, facility, add, rw = shared
    name = f"changing-{next(_numbers)}"
    (add / VISIT / name).mkdir()
    return Place(mounts, facility, add, rw, name)


def test_a_stored_file_gets_another_name_here_and_at_the_facility(place: Place) -> None:
    (place.dataset / "a").write_bytes(b"content")
    number = (place.dataset / "a").stat().st_ino
    (place.dataset / "a").rename(place.dataset / "b.nxs")
    assert os.listdir(place.dataset) == ["b.nxs"]
    assert place.contents() == {"b.nxs": b"content"}
    assert (place.dataset / "b.nxs").read_bytes() == b"content"
    assert (place.dataset / "b.nxs").stat().st_ino == number
    assert not (place.dataset / "a").exists()
    until(lambda: os.listdir(place.other) == ["b.nxs"])


def test_a_file_can_be_renamed_into_another_folder_of_its_dataset(place: Place) -> None:
    (place.dataset / "sub").mkdir()
    (place.dataset / "a").write_bytes(b"content")
    (place.dataset / "a").rename(place.dataset / "sub/a")
    assert place.names() == ["sub/a"]
    (place.dataset / "sub/a").rename(place.dataset / "a")
    assert place.names() == ["a"]
    assert os.listdir(place.dataset / "sub") == []
    assert sorted(os.listdir(place.dataset)) == ["a", "sub"]


def test_a_rename_over_a_stored_file_replaces_it_at_once(place: Place) -> None:
    (place.dataset / "old").write_bytes(b"old")
    (place.dataset / "new").write_bytes(b"new!")
    (place.dataset / "new").rename(place.dataset / "old")
    assert (place.dataset / "old").read_bytes() == b"new!"
    assert os.listdir(place.dataset) == ["old"]
    place.has_only({"old": b"new!"})


def test_saving_aside_and_renaming_replaces_a_stored_file(place: Place) -> None:
    (place.dataset / "notes.txt").write_bytes(b"first")
    for content in (b"second version", b"third"):
        (place.dataset / "notes.txt~").write_bytes(content)
        (place.dataset / "notes.txt~").rename(place.dataset / "notes.txt")
        assert (place.dataset / "notes.txt").read_bytes() == content
        place.has_only({"notes.txt": content})


def test_a_file_written_again_is_a_new_version_under_its_name(place: Place) -> None:
    path = place.dataset / "data.bin"
    path.write_bytes(b"first")
    number = path.stat().st_ino
    place.facility.reset_counters()
    for content in (b"second version", b"", b"3"):
        path.write_bytes(content)
        assert path.read_bytes() == content
        assert (path.stat().st_size, path.stat().st_ino) == (len(content), number)
        place.has_only({"data.bin": content})
    counters = place.facility.counters()
    assert counters["puts"] == 3
    assert "ids/getData" not in counters["requests"]  # what one has just written is here
    until(lambda: (place.other / "data.bin").read_bytes() == b"3")


def test_bytes_are_changed_and_appended_in_place(place: Place) -> None:
    path = place.dataset / "log"
    path.write_bytes(b"one two three")
    with open(path, "r+b") as file:
        file.seek(4)
        file.write(b"TWO")
        file.flush()
        assert path.stat().st_size == 13
        assert path.read_bytes() == b"one TWO three"
        assert place.contents() == {"log": b"one two three"}
    place.has_only({"log": b"one TWO three"})
    with open(path, "ab") as file:
        file.write(b" four")
    place.has_only({"log": b"one TWO three four"})
    os.truncate(path, 7)
    place.has_only({"log": b"one TWO"})
    subprocess.run(["sh", "-c", f"echo -n more >> '{path}'"], check=True)
    place.has_only({"log": b"one TWOmore"})
    assert [entry.stat().st_size for entry in os.scandir(place.dataset)] == [11]


def test_opening_for_writing_alone_makes_no_new_version(place: Place) -> None:
    path = place.dataset / "file"
    path.write_bytes(b"content")
    place.facility.reset_counters()
    with open(path, "r+b") as file:
        assert file.read() == b"content"
    assert place.facility.counters()["puts"] == 0
    assert path.read_bytes() == b"content"
    os.utime(path, (1_500_000_000, 1_500_000_000))
    assert path.stat().st_mtime == 1_500_000_000
    done = place.mounts.run("pending", "--json", "--state-dir", place.mounts.folder / "state")
    assert done.stdout.strip() == "[]"


def test_what_others_made_is_written_to_in_mode_rw_only(place: Place) -> None:
    (place.dataset / "file").write_bytes(b"the first version")
    until((place.other / "file").exists)
    with open(place.other / "file", "r+b") as file:
        file.write(b"THE")
    place.has_only({"file": b"THE first version"})
    until(lambda: (place.dataset / "file").read_bytes() == b"THE first version")
    for flags in (os.O_WRONLY, os.O_RDWR | os.O_TRUNC, os.O_WRONLY | os.O_APPEND):
        with fails_with(errno.EPERM):
            os.open(place.add / VISIT / STORED / "e208945.dat", flags)
    assert "this mount did not make it" in place.mounts.log()


def test_a_file_renamed_while_it_is_written_to_has_its_bytes_under_the_new_name(
    place: Place,
) -> None:
    path = place.dataset / "before"
    path.write_bytes(b"content")
    with open(path, "ab") as file:
        file.write(b" and")
        path.rename(place.dataset / "after")
        file.write(b" more")
    place.has_only({"after": b"content and more"})
    assert os.listdir(place.dataset) == ["after"]


def test_a_file_removed_while_it_is_written_to_is_gone(place: Place) -> None:
    path = place.dataset / "file"
    path.write_bytes(b"content")
    with open(path, "ab") as file:
        file.write(b" more")
        path.unlink()
        assert os.listdir(place.dataset) == []
        file.write(b" still")
    assert place.names() == []


def test_without_the_right_to_replace_opening_is_refused_and_nothing_is_sent(
    place: Place,
) -> None:
    path = place.dataset / "file"
    path.write_bytes(b"content")
    place.facility.faults(
        {
            "kind": "error",
            "endpoint": "icat/entityManager",
            "method": "POST",
            "entity": "datafileModTime",
            "status": 403,
            "code": "INSUFFICIENT_PRIVILEGES",
            "message": "UPDATE access to this Datafile is not allowed.",
        }
    )
    place.facility.reset_counters()
    with fails_with(errno.EACCES):
        path.write_bytes(b"new")
    place.facility.clear_faults()
    assert place.facility.counters()["puts"] == 0
    assert place.contents() == {"file": b"content"}
    assert "UPDATE access to this Datafile is not allowed" in place.mounts.log()


def test_h5py_appends_to_a_stored_file(place: Place) -> None:
    script = """
import sys, h5py, numpy
with h5py.File(sys.argv[1], "a") as tree:
    tree[sys.argv[2]] = numpy.arange(1000)
    print(sorted(tree))
"""
    for name in ("first", "second"):
        done = place.mounts.python(script, place.dataset / "result.h5", name)
        assert done.returncode == 0, done.stderr
    assert done.stdout == "['first', 'second']\n"
    until(lambda: place.names() == ["result.h5"])


def test_a_name_is_not_taken_where_the_program_forbids_it(place: Place) -> None:
    for name in "ab":
        (place.dataset / name).write_bytes(name.encode())
    script = (
        "import ctypes, os, sys; libc = ctypes.CDLL(None, use_errno=True)\n"
        "for flags in (1, 2):\n"
        "    libc.renameat2(-100, sys.argv[1].encode(), -100, sys.argv[2].encode(), flags)\n"
        "    print(os.strerror(ctypes.get_errno()))"
    )
    done = place.mounts.python(script, place.dataset / "a", place.dataset / "b")
    assert done.stdout.splitlines() == [os.strerror(errno.EEXIST), os.strerror(errno.EINVAL)]
    assert place.contents() == {"a": b"a", "b": b"b"}


def test_a_folder_gets_another_name_with_all_that_is_in_it(place: Place) -> None:
    (place.dataset / "raw/deep").mkdir(parents=True)
    (place.dataset / "raw/one").write_bytes(b"1")
    (place.dataset / "raw/deep/two").write_bytes(b"2")
    before = {path: (place.dataset / path).stat().st_ino for path in ("raw", "raw/deep/two")}
    (place.dataset / "raw").rename(place.dataset / "cooked")
    assert place.contents() == {"cooked/one": b"1", "cooked/deep/two": b"2"}
    assert sorted(os.listdir(place.dataset / "cooked")) == ["deep", "one"]
    assert os.listdir(place.dataset / "cooked/deep") == ["two"]
    assert (place.dataset / "cooked/deep/two").read_bytes() == b"2"
    assert not (place.dataset / "raw").exists()
    for path, number in before.items():
        assert (place.dataset / path.replace("raw", "cooked")).stat().st_ino == number


def test_files_of_a_renamed_folder_are_written_again_under_their_new_names(place: Place) -> None:
    (place.dataset / "raw/deep").mkdir(parents=True)
    (place.dataset / "raw/one").write_bytes(b"1")
    (place.dataset / "raw/deep/two").write_bytes(b"2")
    (place.dataset / "raw").rename(place.dataset / "cooked")
    with (place.dataset / "cooked/one").open("ab") as file:
        file.write(b" and more")
    (place.dataset / "cooked/deep/two").write_bytes(b"anew")
    until(lambda: place.names() == ["cooked/deep/two", "cooked/one"])
    assert place.contents() == {"cooked/one": b"1 and more", "cooked/deep/two": b"anew"}
    assert (place.dataset / "cooked/one").read_bytes() == b"1 and more"


def test_a_folder_with_a_file_that_is_being_written_can_be_renamed(place: Place) -> None:
    (place.dataset / "raw").mkdir()
    with open(place.dataset / "raw/open", "wb") as file:
        file.write(b"first ")
        (place.dataset / "raw").rename(place.dataset / "moved")
        file.write(b"second")
    assert place.contents() == {"moved/open": b"first second"}


def test_a_folder_does_not_replace_one_that_has_files(place: Place) -> None:
    for name in "ab":
        (place.dataset / name).mkdir()
        (place.dataset / name / "file").write_bytes(b"x")
    with fails_with(errno.ENOTEMPTY):
        (place.dataset / "a").rename(place.dataset / "b")
    assert place.names() == ["a/file", "b/file"]


def test_a_dataset_made_here_can_be_renamed_and_keeps_its_files(place: Place) -> None:
    (place.dataset / "file").write_bytes(b"x")
    place.dataset.rename(place.dataset.parent / f"{place.name}-renamed")
    assert place.name not in place.datasets()
    assert f"{place.name}-renamed" in place.datasets()
    assert (place.dataset.parent / f"{place.name}-renamed/file").read_bytes() == b"x"
    assert not place.dataset.exists()


def test_mv_into_another_dataset_copies_and_removes(place: Place) -> None:
    (place.dataset / "file").write_bytes(b"x")
    there = place.dataset.parent / f"{place.name}-there"
    there.mkdir()
    with fails_with(errno.EXDEV):
        (place.dataset / "file").rename(there / "file")
    subprocess.run(["mv", place.dataset / "file", there / "file"], check=True)
    assert place.names() == []
    assert (there / "file").read_bytes() == b"x"


def test_what_others_made_is_renamed_and_removed_in_mode_rw_only(place: Place) -> None:
    (place.dataset / "file").write_bytes(b"x")
    until((place.other / "file").exists)
    (place.other / "file").rename(place.other / "renamed")
    assert place.names() == ["renamed"]
    old = place.add / VISIT / STORED / "e208945.dat"
    for change in (old.unlink, lambda: old.rename(old.with_name("x")), old.parent.rmdir):
        with fails_with(errno.EPERM):
            change()
    assert "--mode rw" in place.mounts.log()
    (place.other / "renamed").unlink()
    assert place.names() == []


def test_description_and_doi_can_be_set_and_stay_with_the_name(place: Place) -> None:
    path = place.dataset / "file"
    path.write_bytes(b"content")
    os.setxattr(path, "user.icat.description", "the sample at 4 K, 2 µm".encode())
    os.setxattr(path, "user.icat.doi", b"10.1000/182")
    assert os.getxattr(path, "user.icat.doi") == b"10.1000/182"
    path.write_bytes(b"new content")
    query = f"SELECT df.description, df.doi FROM Datafile df WHERE df.dataset.name='{place.name}'"
    until(lambda: place.facility.search(query) == [["the sample at 4 K, 2 µm", "10.1000/182"]])
    os.removexattr(path, "user.icat.doi")
    assert place.facility.search(query) == [["the sample at 4 K, 2 µm", None]]
    os.setxattr(place.dataset, "user.icat.description", b"a dataset")
    with fails_with(errno.EPERM):
        os.setxattr(path, "user.icat.checksum", b"0")
    with fails_with(errno.EPERM):
        os.setxattr(place.add / VISIT / STORED, "user.icat.description", b"x")
    with fails_with(errno.ENOTSUP):
        os.setxattr(path, "user.comment", b"x")


@pytest.mark.parametrize(
    ("year", "kept"), [(2300, "2262-04-11T"), (20_000, "2262-04-11T"), (1600, "1677-09-21T")]
)
def test_a_time_that_cannot_be_kept_becomes_the_nearest_that_can(
    place: Place, year: int, kept: str
) -> None:
    """Before the file is sent, as cp -p sets it, and afterwards."""
    when = int((year - 1970) * 365.2425 * 86400)
    first, second = place.dataset / "first", place.dataset / "second"
    with first.open("wb", buffering=0) as file:
        file.write(b"content")
        os.utime(file.fileno(), (when, when))
    second.write_bytes(b"content")
    os.utime(second, (when, when))
    found = place.facility.search(
        f"SELECT df.datafileModTime FROM Datafile df WHERE df.dataset.name = '{place.name}'"
    )
    assert [time[: len(kept)] for time in found] == [kept, kept]
    assert first.stat().st_mtime_ns == second.stat().st_mtime_ns


def test_times_can_be_set_and_modes_and_owners_have_no_effect(place: Place, tmp_path: Path) -> None:
    path = place.dataset / "file"
    path.write_bytes(b"content")
    os.utime(path, ns=(1_600_000_000_000_000_000, 1_600_000_000_000_000_000))
    assert path.stat().st_mtime == 1_600_000_000
    found = place.facility.search(
        f"SELECT df.datafileModTime FROM Datafile df WHERE df.dataset.name = '{place.name}'"
    )
    assert found[0].startswith("2020-09-13T")
    before = path.stat()
    path.chmod(0o600)
    os.chown(path, os.getuid(), os.getgid())
    assert path.stat().st_mode == before.st_mode
    with fails_with(errno.EPERM):
        os.symlink("x", place.dataset / "link")
    with fails_with(errno.EPERM):
        os.link(path, place.dataset / "link")
    with fails_with(errno.EPERM):
        os.mkfifo(place.dataset / "pipe")
    (tmp_path / "tree/sub").mkdir(parents=True)
    (tmp_path / "tree/sub/file").write_bytes(b"x")
    for command in (["cp", "-a"], ["rsync", "-a"]):
        copy = [*command, str(tmp_path / "tree"), str(place.dataset)]
        done = subprocess.run(copy, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
    assert place.names() == ["file", "tree/sub/file"]


def test_a_dataset_is_completed_deliberately_and_then_closed(place: Place) -> None:
    complete = f"SELECT ds.complete FROM Dataset ds WHERE ds.name = '{place.name}'"
    (place.dataset / "file").write_bytes(b"content")
    done = place.mounts.run("complete", place.dataset)
    assert (done.returncode, "--yes" in done.stderr) == (3, True)
    assert place.facility.search(complete) == [False]
    done = place.mounts.run("complete", "--yes", place.dataset)
    assert (done.returncode, done.stdout) == (0, f"{place.dataset} is complete now\n")
    assert place.facility.search(complete) == [True]
    assert "complete already" in place.mounts.run("complete", place.dataset).stdout
    place.facility.reset_counters()
    with fails_with(errno.EACCES):
        (place.dataset / "late").write_bytes(b"x")
    assert place.facility.counters()["requests"]["ids/put"] == 1
    with fails_with(errno.EACCES):
        os.open(place.dataset / "later", os.O_CREAT | os.O_WRONLY)
    with fails_with(errno.EACCES):
        os.open(place.dataset / "file", os.O_WRONLY)
    assert place.facility.counters()["requests"]["ids/put"] == 1
    assert "marked complete" in place.mounts.log()
    stored = place.add / VISIT / STORED
    assert place.mounts.run("complete", "--yes", stored).returncode != 0
    assert place.names() == ["file"]
    where = ("--state-dir", place.mounts.folder / "state")
    (kept,) = json.loads(place.mounts.run("pending", "--json", *where).stdout)
    assert kept["shown"] == f"{place.name}/late"
    assert place.mounts.run("pending", "--abandon", "--yes", *where, kept["id"]).returncode == 0


def test_names_of_visits_and_investigations_are_the_facilitys(place: Place) -> None:
    for path in (place.rw / VISIT, place.rw / "ESNF/12100409-ST"):
        with fails_with(errno.EPERM):
            path.rename(path.with_name("renamed"))
        with fails_with(errno.EPERM):
            path.rmdir()


def test_a_folder_with_stored_files_is_not_removed(place: Place) -> None:
    (place.dataset / "sub").mkdir()
    (place.dataset / "sub/file").write_bytes(b"x")
    with fails_with(errno.ENOTEMPTY):
        (place.dataset / "sub").rmdir()
    with fails_with(errno.ENOTEMPTY):
        place.dataset.rmdir()
    assert place.names() == ["sub/file"]


def test_rm_r_removes_a_tree_made_here(place: Place) -> None:
    (place.dataset / "a/b").mkdir(parents=True)
    for name in ("one", "a/two", "a/b/three"):
        (place.dataset / name).write_bytes(b"x")
    subprocess.run(["rm", "-r", place.dataset / "a"], check=True)
    assert place.names() == ["one"]
    assert os.listdir(place.dataset) == ["one"]
    shutil.rmtree(place.dataset)
    assert place.name not in place.datasets()
    assert not place.dataset.exists()


def test_rm_r_of_what_others_made_is_stopped_and_says_how_to_go_on(place: Place) -> None:
    for number in range(15):
        (place.dataset / f"file{number}").write_bytes(b"x")
    until(lambda: len(os.listdir(place.other)) == 15)
    done = subprocess.run(["rm", "-rf", place.other], check=False, capture_output=True, text=True)
    assert done.returncode != 0
    assert len(place.names()) == 5
    assert "--allow-recursive-delete" in place.mounts.log()
    free = place.mounts.mount(
        place.facility, "--mode", "rw", "--allow-recursive-delete", name=f"free-{place.name}"
    )
    subprocess.run(["rm", "-r", free / VISIT / place.name], check=True)
    assert place.name not in place.datasets()
    place.mounts.unmount(free)


def test_an_entry_without_stored_bytes_is_removed_from_the_catalogue(place: Place) -> None:
    (place.dataset / "real").write_bytes(b"x")
    (dataset,) = place.facility.search(
        f"SELECT ds.id FROM Dataset ds WHERE ds.name = '{place.name}'"
    )
    place.facility.write([{"Datafile": {"dataset": {"id": dataset}, "name": "bare"}}])
    until((place.other / "bare").exists)
    (place.other / "bare").unlink()
    assert place.names() == ["real"]


def test_a_file_that_is_being_read_is_removed_once_it_is_not(place: Place) -> None:
    (place.dataset / "file").write_bytes(b"x")
    place.facility.faults(
        {
            "kind": "error",
            "endpoint": "ids/delete",
            "status": 503,
            "code": "DataNotOnlineException",
            "message": "Data is busy",
            "times": 2,
        }
    )
    (place.dataset / "file").unlink()
    assert place.names() == []
