"""New files and folders: what arrives at the facility, and what must not."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from support.mounts import Mounts, fails_with
from support.sample import VISIT
from support.writable import Writable, fact, writable_on

from icatfs.facility.testing import running_facility

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=["single", "dataset", "datafile"])
def storage(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def options() -> list[str]:
    return []


@pytest.fixture
def writable(mounts: Mounts, options: list[str]) -> Iterator[Writable]:
    with running_facility("--storage", "single") as facility:
        yield from writable_on(mounts, facility, options)


def test_a_file_is_at_the_facility_when_close_returns(writable: Writable) -> None:
    content = os.urandom(3_000_000)
    with open(writable.dataset / "data.bin", "wb") as file:
        file.write(content)
        file.flush()
        assert writable.catalogued() == {}
    assert writable.catalogued() == {"data.bin": fact(content)}
    assert writable.content("data.bin") == content
    assert writable.facility.counters()["puts"] == 1


def test_what_was_written_is_read_back_without_asking_the_facility(writable: Writable) -> None:
    content = os.urandom(1_000_000)
    (writable.dataset / "data.bin").write_bytes(content)
    writable.facility.reset_counters()
    assert (writable.dataset / "data.bin").read_bytes() == content
    assert "ids/getData" not in writable.facility.counters()["requests"]


def test_the_new_file_has_its_catalogue_facts_at_once(writable: Writable) -> None:
    path = writable.dataset / "facts.nxs"
    path.write_bytes(b"Hello John!\n")
    assert os.getxattr(path, "user.icat.checksum") == b"bef32c73"
    ids = writable.facility.search("SELECT df.id FROM Datafile df WHERE df.name = 'facts.nxs'")
    assert int(os.getxattr(path, "user.icat.id")) == ids[0]
    assert os.listdir(writable.dataset) == ["facts.nxs"]
    formats = writable.facility.search(
        "SELECT df.datafileFormat.name FROM Datafile df WHERE df.name = 'facts.nxs'"
    )
    assert formats == ["NeXus"]
    assert "user.icat.location" in os.listxattr(path)
    where = writable.facility.search(f"SELECT df.location FROM Datafile df WHERE df.id = {ids[0]}")
    assert os.getxattr(path, "user.icat.location").decode() == where[0]


def test_of_many_new_files_each_costs_one_request(writable: Writable) -> None:
    (writable.dataset / "first").write_bytes(b"asks for what is asked for once")
    writable.facility.reset_counters()
    for number in range(10):
        (writable.dataset / f"scan-{number}").write_bytes(b"Hello John!\n")
    assert writable.facility.counters()["requests"] == {"ids/put": 10}


@pytest.mark.parametrize("command", ["cp -a", "cp", "rsync -a", "rsync -a --inplace"])
def test_copying_programs_leave_one_datafile_with_name_bytes_and_time(
    writable: Writable, tmp_path: Path, command: str
) -> None:
    source = tmp_path / "scan 1.dat"
    content = os.urandom(200_000)
    source.write_bytes(content)
    os.utime(source, (1_600_000_000, 1_600_000_000))
    done = subprocess.run(
        [*command.split(), source, f"{writable.dataset}/"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert writable.catalogued() == {"scan 1.dat": fact(content)}
    assert writable.facility.counters()["puts"] == 1
    if command.endswith("-a") or "inplace" in command:
        assert (writable.dataset / "scan 1.dat").stat().st_mtime == 1_600_000_000


def test_writes_at_any_offset_truncation_and_holes_arrive_as_one_file(writable: Writable) -> None:
    with open(writable.dataset / "odd", "wb") as file:
        file.seek(100_000)
        file.write(b"end")
        file.seek(10)
        file.write(b"begin")
        file.truncate(100_002)
    expected = bytearray(100_002)
    expected[10:15] = b"begin"
    expected[100_000:] = b"en"
    assert writable.content("odd") == bytes(expected)


def test_appending_in_one_open_works(writable: Writable) -> None:
    descriptor = os.open(writable.dataset / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for line in (b"one\n", b"two\n", b"three\n"):
        os.write(descriptor, line)
    os.close(descriptor)
    assert writable.content("log") == b"one\ntwo\nthree\n"


def test_a_file_that_was_only_touched_is_catalogued_with_no_bytes(writable: Writable) -> None:
    subprocess.run(["touch", writable.dataset / "empty"], check=True)
    assert writable.catalogued() == {"empty": (0, 0)}


def test_a_redirection_of_several_programs_is_one_file(writable: Writable) -> None:
    target = writable.dataset / "both"
    subprocess.run(["sh", "-c", f"(echo a; /bin/echo b; echo c) > '{target}'"], check=True)
    assert writable.content("both") == b"a\nb\nc\n"
    assert writable.facility.counters()["puts"] == 1


def test_h5py_writes_a_file_that_reads_back(writable: Writable) -> None:
    script = """
import sys, h5py, numpy
with h5py.File(sys.argv[1], "w") as tree:
    tree["entry/data"] = numpy.arange(100_000)
with h5py.File(sys.argv[1]) as tree:
    assert tree["entry/data"][99_999] == 99_999
"""
    done = writable.mounts.python(script, writable.dataset / "result.h5")
    assert done.returncode == 0, done.stderr
    assert list(writable.catalogued()) == ["result.h5"]


def test_folders_in_a_dataset_become_part_of_the_names(writable: Writable) -> None:
    (writable.dataset / "a/b").mkdir(parents=True)
    assert writable.catalogued() == {}
    (writable.dataset / "a/b/c.txt").write_text("deep\n")
    assert list(writable.catalogued()) == ["a/b/c.txt"]
    assert os.listdir(writable.dataset / "a") == ["b"]


def test_mkdir_in_a_visit_makes_a_dataset_that_is_not_complete(writable: Writable) -> None:
    rows = writable.facility.search(
        "SELECT ds.complete, ds.type.name FROM Dataset ds WHERE ds.name = 'new-data'"
    )
    assert rows == [[False, "other"]]


@pytest.mark.parametrize("options", [["--dataset-type", "raw"]])
def test_the_type_of_new_datasets_can_be_chosen(writable: Writable) -> None:
    rows = writable.facility.search("SELECT ds.type.name FROM Dataset ds WHERE ds.name='new-data'")
    assert rows == ["raw"]


def test_what_exists_is_not_changed(writable: Writable) -> None:
    old = writable.point / VISIT / "e208945"
    file = old / "e208945.dat"
    before = file.read_bytes()
    for attempt in (
        lambda: file.open("wb"),
        lambda: file.open("r+b"),
        lambda: os.truncate(file, 0),
        lambda: file.unlink(),
        lambda: file.rename(old / "other"),
        lambda: old.rmdir(),
        lambda: os.utime(file),
        lambda: os.symlink("x", old / "link"),
        lambda: os.link(file, old / "hard"),
    ):
        with fails_with(errno.EPERM, errno.ENOTSUP, errno.ENOTEMPTY, errno.ENOSYS):
            attempt()
    assert file.read_bytes() == before
    counters = writable.facility.counters()
    assert (counters["puts"], counters["deletes"]) == (0, 0)


@pytest.mark.parametrize("folder", ["", "ESNF", "ESNF/12100409-ST", VISIT])
def test_files_live_in_datasets_only(writable: Writable, folder: str) -> None:
    with fails_with(errno.EPERM):
        (writable.point / folder / "file").write_bytes(b"")


def test_what_this_mount_made_can_be_removed_again(writable: Writable) -> None:
    path = writable.dataset / "mistake"
    path.write_bytes(b"x")
    path.unlink()
    assert writable.catalogued() == {}
    assert not path.exists()
    writable.dataset.rmdir()
    rows = writable.facility.search("SELECT ds.id FROM Dataset ds WHERE ds.name = 'new-data'")
    assert rows == []


def test_a_folder_that_is_not_empty_is_not_removed(writable: Writable) -> None:
    (writable.dataset / "file").write_bytes(b"x")
    with fails_with(errno.ENOTEMPTY):
        writable.dataset.rmdir()


def test_a_refused_upload_fails_in_close_and_the_bytes_are_kept(mounts: Mounts) -> None:
    with running_facility("--storage", "single") as facility:
        point = mounts.mount(facility, user="db/rbeck")
        dataset = point / VISIT / "e208945"
        with fails_with(errno.EACCES):
            (dataset / "mine").write_bytes(b"precious")
        assert "mine" not in os.listdir(dataset)
        pending = mounts.status(point)["pending"]
        assert [one["name"] for one in pending] == ["mine"]
        kept = next((mounts.folder / "state").rglob("*.data"))
        assert kept.read_bytes() == b"precious"
        done = mounts.unmount(point)
        assert done.returncode == 16
        assert str(kept) in done.stderr
        assert str(kept) in mounts.log()


@pytest.mark.parametrize(
    ("fault", "numbers"),
    [
        ({"kind": "disk_full"}, [errno.ENOSPC]),
        ({"kind": "reset", "after_bytes": 1000}, []),
        ({"kind": "error", "status": 502, "body": "<html>proxy</html>"}, []),
    ],
)
def test_a_failed_upload_has_an_errno_and_loses_nothing(
    writable: Writable, fault: dict[str, Any], numbers: list[int]
) -> None:
    writable.facility.faults({"endpoint": "ids/put", **fault})
    content = os.urandom(100_000)
    with fails_with(*numbers):
        (writable.dataset / "file").write_bytes(content)
    assert writable.catalogued() == {}
    kept = [path.read_bytes() for path in (writable.mounts.folder / "state").rglob("*.data")]
    assert kept == [content]
    writable.facility.clear_faults()
    (writable.dataset / "file").write_bytes(content)
    assert writable.catalogued() == {"file": fact(content)}


def test_a_name_taken_meanwhile_is_told_by_close(writable: Writable) -> None:
    with fails_with(errno.EEXIST), open(writable.dataset / "name", "wb") as file:
        file.write(b"mine")
        other = writable.mounts.mount(writable.facility, name="other")
        (other / VISIT / "new-data" / "name").write_bytes(b"theirs")
        assert writable.mounts.unmount(other).returncode == 0
    assert writable.content("name") == b"theirs"


def test_a_temporary_name_stays_local_until_it_is_renamed(writable: Writable) -> None:
    temporary = writable.dataset / ".data.bin.a1B2c3"
    temporary.write_bytes(b"content")
    assert writable.catalogued() == {}
    assert temporary.read_bytes() == b"content"
    temporary.rename(writable.dataset / "data.bin")
    assert writable.catalogued() == {"data.bin": fact(b"content")}
    assert os.listdir(writable.dataset) == ["data.bin"]


def test_names_that_the_catalogue_cannot_hold_are_refused_at_once(writable: Writable) -> None:
    with fails_with(errno.EINVAL):
        (writable.dataset / "50%2F").write_bytes(b"")
    (writable.dataset / "sub").mkdir()
    deep = writable.dataset / "sub"
    with fails_with(errno.ENAMETOOLONG):
        (deep / ("n" * 254)).write_bytes(b"")
    with fails_with(errno.ENAMETOOLONG):
        (writable.dataset / ("\N{CJK UNIFIED IDEOGRAPH-6D4B}" * 86)).write_bytes(b"")
    assert writable.facility.counters()["puts"] == 0


def test_all_three_storage_kinds_take_the_tutorials_files(mounts: Mounts, storage: str) -> None:
    greetings = {
        "greet-jdoe.txt": ("Hello John!\n", "bef32c73"),
        "greet-nbour.txt": ("Hello Nicolas!\n", "9012de77"),
        "greet-rbeck.txt": ("Hello Rudolph!\n", "cc830993"),
    }
    with running_facility("--storage", storage) as facility:
        point = mounts.mount(facility)
        folder = point / VISIT / "greetings"
        folder.mkdir()
        for name, (text, _) in greetings.items():
            (folder / name).write_text(text)
        rows = facility.search(
            "SELECT df.name, df.checksum FROM Datafile df WHERE df.dataset.name = 'greetings' "
            "ORDER BY df.name"
        )
        assert rows == [[name, checksum] for name, (_, checksum) in greetings.items()]
        for name, (text, _) in greetings.items():
            assert (folder / name).read_text() == text
        (folder / "greet-jdoe.txt").unlink()
        assert sorted(os.listdir(folder)) == ["greet-nbour.txt", "greet-rbeck.txt"]
        assert mounts.unmount(point).returncode == 0


def test_a_mount_that_stops_sends_what_was_still_open(writable: Writable) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            (
                "import sys; f = open(sys.argv[1], 'wb', 0); f.write(b'open'); "
                "print(flush=True); sys.stdin.read()"
            ),
            writable.dataset / "open",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    done = writable.mounts.unmount(writable.point, "--lazy", "--wait", "0")
    assert done.returncode == 16
    assert "open" in done.stderr
    holder.communicate(b"")
    kept = [path.read_bytes() for path in (writable.mounts.folder / "state").rglob("*.data")]
    assert kept == [b"open"] or writable.catalogued() == {"open": fact(b"open")}
