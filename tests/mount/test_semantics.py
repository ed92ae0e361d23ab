"""The README's section "Semantics", sentence by sentence, on real mounts.

The docstring of each test is the sentence that it executes; the last test compares them with the
README, so that neither can change without the other.
"""

from __future__ import annotations

import errno
import os
import random
import re
import signal
import stat
import subprocess
import sys
import zlib
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.badline import Harm, Mishap, bad_line
from support.mounts import Mounts, fails_with, until
from support.replacing import replaceable
from support.sample import DATASET, VISIT
from support.uploads import upload

import icatfs
from icatfs.facility.testing import FacilityHandle, running_facility

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FILE = f"{DATASET}/e208945.nxs"
WRITE_BACK = ["-o", "write_back=yes"]


@pytest.fixture
def facility() -> Iterator[FacilityHandle]:
    with running_facility("--storage", "dataset", "--restore-delay", "1") as started:
        yield started


@pytest.fixture
def point(mounts: Mounts, facility: FacilityHandle) -> Iterator[Path]:
    mounted = mounts.mount(facility)
    yield mounted
    mounts.unmount(mounted, "--lazy")


def dataset_id(facility: FacilityHandle, name: str) -> int:
    ids = facility.search(f"SELECT ds.id FROM Dataset ds WHERE ds.name = '{name}'")
    assert isinstance(ids[0], int)
    return ids[0]


def stored(facility: FacilityHandle, name: str) -> list[object]:
    return facility.search(f"SELECT df.fileSize FROM Datafile df WHERE df.name = '{name}'")


def checksums(facility: FacilityHandle, name: str) -> list[int]:
    rows = facility.search(f"SELECT df.checksum FROM Datafile df WHERE df.name = '{name}'")
    return [int(one, 16) for one in rows]


# Looking.


def test_hierarchy(point: Path) -> None:
    """A file is at `/<facility>/<investigation>/<visit>/<dataset>/<file>`, and none is hidden."""
    assert os.listdir(point) == ["ESNF"]
    assert sorted(os.listdir(point / "ESNF")) == ["08100122-EF", "10100601-ST", "12100409-ST"]
    assert os.listdir(point / "ESNF/12100409-ST") == ["1.1-P"]
    assert len(os.listdir(point / DATASET)) == 4


def test_sizes_and_times(facility: FacilityHandle, point: Path) -> None:
    """A file has the size and the modification time that the catalogue has for it."""
    facts = (point / f"{DATASET}/e208945.dat").stat()
    rows = facility.search(
        "SELECT df.fileSize, df.datafileModTime FROM Datafile df WHERE df.name = 'e208945.dat'"
    )
    assert facts.st_size == rows[0][0]
    shown = subprocess.run(
        ["date", "-u", "-d", rows[0][1], "+%s"], capture_output=True, text=True, check=True
    )
    assert facts.st_mtime == int(shown.stdout)


def test_blocks(mounts: Mounts, facility: FacilityHandle, point: Path) -> None:
    """Whether data are on disk or on tape changes neither sizes, nor blocks, nor modes."""
    facts = (point / FILE).stat()
    assert facts.st_blocks == -(-facts.st_size // 512)
    assert (point / DATASET).stat().st_mode & 0o111 == 0o111
    facility.archive(datasets=[dataset_id(facility, "e208945")])
    other = mounts.mount(facility, name="other")
    assert os.getxattr(other / FILE, "user.icat.status") == b"ARCHIVED"
    archived = (other / FILE).stat()
    for name in ("st_size", "st_blocks", "st_mode"):
        assert getattr(archived, name) == getattr(facts, name)
    mounts.unmount(other)


def test_looking_is_free(facility: FacilityHandle, point: Path) -> None:
    """Listing, `stat`, opening and reading attributes never bring data back from tape."""
    facility.archive(datasets=[dataset_id(facility, "e208945")])
    subprocess.run(["ls", "-lR", point], check=True, capture_output=True)
    with open(point / FILE, "rb"):
        assert os.getxattr(point / FILE, "user.icat.status") == b"ARCHIVED"
    assert facility.counters()["restores"] == 0


def test_listings_are_kept(facility: FacilityHandle, point: Path) -> None:
    """What was listed is not asked for again for a minute (in running visits 15 seconds)."""
    os.listdir(point / DATASET)
    before = facility.counters()["queries"]
    for _ in range(5):
        os.listdir(point / DATASET)
        os.stat(point / FILE)
        assert not (point / DATASET / "absent").exists()
    assert facility.counters()["queries"] <= before + 1


@pytest.fixture(scope="module")
def large() -> Iterator[FacilityHandle]:
    """A dataset of 25,000 files, in three pages."""
    with running_facility("--holdings", "large", "--size", "25000") as started:
        yield started


LARGE, WIDE = "LARGE/BIG-1/1/many", "LARGE/WIDE-1/1"


def test_large_folders(mounts: Mounts, large: FacilityHandle) -> None:
    """A folder of very many files shows the first of them while the others still arrive; should
    these fail to, so does listing: it is never short."""
    point = mounts.mount(large, user="db/jdoe")
    (point / LARGE).is_dir()
    later = {"endpoint": "icat/entityManager", "entity": "x.id > 10000"}
    large.faults({"kind": "latency", "seconds": 1.0, **later})
    asked = large.counters()["queries"]
    script = "import os, sys; print(next(os.scandir(sys.argv[1])).name)"
    assert mounts.python(script, point / LARGE).stdout == "file-0000001.dat\n"
    assert large.counters()["queries"] <= asked + 2  # of four
    mounts.unmount(point)
    point = mounts.mount(large, user="simple/root")  # who knows nothing of it yet
    large.faults({"kind": "error", "status": 500, **later}, clear=True)
    with fails_with(errno.EIO):
        os.listdir(point / LARGE)
    large.clear_faults()
    assert len(os.listdir(point / LARGE)) == 25_000


def test_known_listings(mounts: Mounts, large: FacilityHandle) -> None:
    """Of a dataset, visit or facility of more than 10,000 entries that was listed before, also by
    an earlier mount, only what has changed is asked for; one question tells."""
    with running_facility("--holdings", "large", "--size", "101000") as wide:
        for facility, folder, kind in ((large, LARGE, "dataset"), (wide, WIDE, "visit")):
            point = mounts.mount(facility, user="db/jdoe")
            names = os.listdir(point / folder)
            kept = partial(mounts.folder.glob, f"cache/*/listings/{kind}-*.rows")
            until(lambda kept=kept: any(kept()))  # type: ignore[misc]
            mounts.unmount(point)
            point = mounts.mount(facility, user="db/jdoe")
            (point / folder).is_dir()
            asked = facility.counters()["queries"]
            assert os.listdir(point / folder) == names
            assert facility.counters()["queries"] == asked + 1
            mounts.unmount(point)


def test_facts(facility: FacilityHandle, point: Path) -> None:
    """The catalogue's facts are the extended attributes `user.icat.*`; of what may be changed, \
`description` and `doi` of files and datasets can be set."""
    assert os.getxattr(point / FILE, "user.icat.kind") == b"datafile"
    assert os.getxattr(point / FILE, "user.icat.dataset")
    with fails_with(errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.ENOSYS, errno.EROFS):
        os.setxattr(point / FILE, "user.icat.checksum", b"0")
    (point / VISIT / "new").mkdir()
    (point / VISIT / "new/file").write_bytes(b"x")
    os.setxattr(point / VISIT / "new/file", "user.icat.description", b"why")
    query = "SELECT df.description FROM Datafile df WHERE df.name = 'file'"
    assert facility.search(query) == ["why"]
    assert os.getxattr(point / VISIT / "new/file", "user.icat.description") == b"why"
    os.setxattr(point / VISIT / "new/file", "user.icat.doi", b"10.1/file")
    assert facility.search("SELECT df.doi FROM Datafile df WHERE df.name = 'file'") == ["10.1/file"]
    os.setxattr(point / VISIT / "new", "user.icat.doi", b"10.1/new")
    os.setxattr(point / VISIT / "new", "user.icat.description", b"what")
    query = "SELECT ds.doi, ds.description FROM Dataset ds WHERE ds.name = 'new'"
    assert facility.search(query) == [["10.1/new", "what"]]


# Reading.


def test_true_bytes(facility: FacilityHandle, point: Path) -> None:
    """A read gives the bytes of the facility or an error, never anything else."""
    ids = facility.search("SELECT df.id FROM Datafile df WHERE df.name = 'e208945.nxs'")
    assert (point / FILE).read_bytes() == facility.content(ids[0])


def test_damage_is_an_error(facility: FacilityHandle, point: Path) -> None:
    """A file whose length or CRC-32 contradicts the catalogue cannot be read to its end (`EIO`)."""
    facility.faults({"endpoint": "ids/getData", "kind": "corrupt", "after_bytes": 1000})
    with fails_with(errno.EIO):
        (point / FILE).read_bytes()


def test_read_once(mounts: Mounts, facility: FacilityHandle) -> None:
    """What was read once comes from the local cache, also in the next mount."""
    point = mounts.mount(facility)
    content = (point / FILE).read_bytes()
    asked = facility.counters()["requests"]["ids/getData"]
    assert (point / FILE).read_bytes() == content
    assert mounts.unmount(point).returncode == 0
    assert (mounts.mount(facility) / FILE).read_bytes() == content
    assert facility.counters()["requests"]["ids/getData"] == asked


def test_any_order(mounts: Mounts) -> None:
    """In whatever order a file is read, it is fetched about once, if it fits a quarter of the
    cache."""
    content = random.Random(1).randbytes(24 * 2**20)
    with running_facility("--holdings", "large", "--size", "2", "--storage", "single") as facility:
        upload(facility, "many", "scan.raw", content)
        point = mounts.mount(facility, "--cache-size", "1G", user="simple/root")
        block = 256 * 2**10
        order = random.Random(2).sample(range(len(content) // block), len(content) // block)
        with open(point / "LARGE/BIG-1/1/many/scan.raw", "rb", buffering=0) as file:
            for number in order:
                piece = os.pread(file.fileno(), block, number * block)
                assert piece == content[number * block : (number + 1) * block]
        transfer = mounts.status(point)["transfer"]
        in_flight = transfer["opened"] * 2**20
        assert transfer["bytes_received"] <= len(content) * 17 / 16 + in_flight
        assert transfer["opened"] < len(order) / 2
        mounts.unmount(point, "--lazy")


def test_replaced(mounts: Mounts, tmp_path: Path) -> None:
    """A file that is replaced at the facility while it is open gives its old bytes, or `ESTALE`; \
opened again, after the listing was asked for again, it gives the new ones."""
    with replaceable(tmp_path / "data", "e208945.nxs") as holdings:
        old = holdings.store(3, 96 << 20)
        path = mounts.mount(holdings.facility, "-o", "ttl=1") / FILE
        descriptor = os.open(path, os.O_RDONLY)
        assert os.pread(descriptor, 1000, 0) == old[:1000]
        until(lambda: not mounts.status(mounts.folder / "mnt")["transfer"]["streams"])
        new = holdings.store(5, 1 << 20)
        with fails_with(errno.ESTALE):
            os.pread(descriptor, 1000, 90 << 20)
        assert os.pread(descriptor, 1000, 0) == old[:1000]
        os.close(descriptor)
        until(lambda: path.stat().st_size == 1 << 20)
        assert path.read_bytes() == new


def test_changed_meanwhile(point: Path) -> None:
    """Who reads a stored file while a program of the same mount changes it goes on with the old \
version; opened meanwhile, the file is what is being written."""
    (point / VISIT / "new").mkdir()
    path = point / VISIT / "new/file"
    path.write_bytes(b"old")
    with path.open("rb", buffering=0) as reader, path.open("r+b", buffering=0) as writer:
        writer.write(b"new and more")
        assert path.read_bytes() == b"new and more"
        assert reader.read() == b"old"
    assert path.read_bytes() == b"new and more"


def test_many_files(mounts: Mounts) -> None:
    """Small files of a dataset that are read one after another come with a handful of requests, in
    whatever order."""
    with running_facility("--holdings", "large", "--size", "200") as facility:
        folder = mounts.mount(facility, user="db/jdoe") / "LARGE/BIG-1/1/many"
        for name in sorted(os.listdir(folder), key=lambda name: name[::-1]):
            assert len((folder / name).read_bytes()) == 10_000
        assert facility.counters()["requests"]["ids/getData"] < 10
        mounts.clean()


def test_tape(facility: FacilityHandle, point: Path) -> None:
    """Reading a file on tape asks for its restore once, however many read, and waits for it."""
    facility.archive(datasets=[dataset_id(facility, "e208945")])
    readers = [subprocess.Popen(["cat", point / FILE], stdout=subprocess.PIPE) for _ in range(5)]
    contents = {reader.communicate(timeout=60)[0] for reader in readers}
    assert len(contents) == 1
    assert len(contents.pop()) == 396430
    assert facility.counters()["restores"] == 1


def test_interruption(facility: FacilityHandle, point: Path) -> None:
    """A program that waits for tape can be interrupted; the restore goes on."""
    facility.archive(datasets=[dataset_id(facility, "e208945")])
    facility.faults({"endpoint": "ids/", "kind": "restore_never"})
    with subprocess.Popen(["cat", point / FILE], stdout=subprocess.DEVNULL) as reader:
        until(lambda: facility.counters()["restores"] == 1)
        reader.terminate()
        assert reader.wait(timeout=20) != 0


def test_told_to_end(facility: FacilityHandle, point: Path) -> None:
    """A program that is told to end (`SIGINT`, `SIGTERM`) while it waits, and reads on, gets
    `ECANCELED`, or HDF5 would never end."""
    facility.archive(datasets=[dataset_id(facility, "e208945")])
    facility.faults({"kind": "restore_never"})
    script = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: None)\n"
        "try: open(sys.argv[1], 'rb').read()\n"
        "except OSError as error: os._exit(error.errno)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, point / FILE]) as reader:
        until(lambda: facility.counters()["restores"] == 1)
        reader.terminate()
        assert reader.wait(20) == errno.ECANCELED


@contextmanager
def on_tape(facility: FacilityHandle, point: Path) -> Iterator[Path]:
    """The file on tape, with nothing of it asked for in the end."""
    facility.archive(datasets=[dataset_id(facility, "e208945")])
    facility.reset_counters()
    yield point / FILE
    assert facility.counters()["restores"] == 0


def test_careless_programs(facility: FacilityHandle, point: Path) -> None:
    """Programs that read whatever they find (`grep`, `file`, file managers, indexers, backups)
    bring nothing back from tape: they get `ENODATA`."""
    with on_tape(facility, point) as path:
        for command in ("grep x", "file"):
            words = [*command.split(), str(path)]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            assert "No data available" in done.stdout + done.stderr


def test_not_to_wait(facility: FacilityHandle, point: Path) -> None:
    """A file opened with `O_NONBLOCK` is read if it is on disk, and otherwise fails with `ENODATA`
    at once."""
    online = point / "ESNF/10100601-ST/1.1-N/e208341/e208341.dat"
    for path, fails in ((online, False), (point / FILE, True)):
        with on_tape(facility, point), ExitStack() as stack:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            stack.callback(os.close, descriptor)
            if fails:
                stack.enter_context(fails_with(errno.ENODATA))
            assert len(os.read(descriptor, 10)) == 10


def test_never(mounts: Mounts, facility: FacilityHandle) -> None:
    """Where the policy says `never`, or for more than it allows, reading brings nothing back from
    tape (`ENODATA`)."""
    for option in (f"recall=/{VISIT} never;wait", "recall_unit_size=1k", "recall_mount_units=0"):
        point = mounts.mount(facility, "-o", option)
        with on_tape(facility, point) as path, fails_with(errno.ENODATA):
            path.read_bytes()
        mounts.unmount(point)


def test_reasons(mounts: Mounts, facility: FacilityHandle, point: Path) -> None:
    """A read that failed leaves its reason in `user.icat.last_error` and in the log."""
    with on_tape(facility, point) as path:
        subprocess.run(["grep", "x", path], capture_output=True, check=False)
        assert b"grep" in os.getxattr(path, "user.icat.last_error")
        (line,) = [line for line in mounts.log().splitlines() if path.name in line]
        assert "recall_refuse" in line
        assert "remedy: order the data with icatfs stage" in line


def test_orders(mounts: Mounts, facility: FacilityHandle) -> None:
    """What `icatfs stage` asked for is brought back also when the mount ends: the next one goes \
on."""
    facility.archive(datasets=[dataset_id(facility, "e208945")])
    facility.faults({"kind": "restore_slow", "seconds": 600})
    mounted = mounts.mount(facility, name="first")
    assert mounts.run("stage", mounted / DATASET).returncode == 0
    assert mounts.unmount(mounted).returncode == 0
    facility.clear_faults()
    facility.advance(1000)
    mounted = mounts.mount(facility, name="second")
    until(lambda: "1 online" in mounts.run("stage", "--list", mounted / DATASET).stdout)
    assert facility.counters()["restores"] == 1
    mounts.unmount(mounted, "--lazy")


# Writing.


def test_close_is_truth(facility: FacilityHandle, point: Path) -> None:
    """When `close` returns without an error the facility has the file, size and CRC-32 compared."""
    folder = point / VISIT / "new"
    folder.mkdir()
    with open(folder / "file", "wb") as file:
        file.write(b"12345")
        file.flush()
        assert stored(facility, "file") == []
    assert stored(facility, "file") == [5]


def test_failed_close(mounts: Mounts, facility: FacilityHandle) -> None:
    """When `close` fails, the bytes stay in the staging folder, named in the log and by \
`icatfs status`."""
    mounted = mounts.mount(facility, name="reader", user="db/rbeck")
    with fails_with(errno.EACCES):
        (mounted / DATASET / "file").write_bytes(b"bytes")
    assert [one["name"] for one in mounts.status(mounted)["pending"]] == ["file"]
    assert next((mounts.folder / "state").rglob("*.data")).read_bytes() == b"bytes"
    assert mounts.unmount(mounted).returncode == 16


def test_damage_on_the_way(mounts: Mounts, facility: FacilityHandle) -> None:
    """A file that arrives damaged is removed at the facility and sent again, before `close` \
returns or by whoever sends it later."""
    content = random.Random(7).randbytes(200_000)
    with bad_line(facility) as (line, reached):
        mounted = mounts.mount(reached)
        line.befall(Mishap(Harm.DAMAGE, upward=True, after=100_000))
        (mounted / DATASET / "damaged").write_bytes(content)
        assert line.is_quiet
        (number,) = facility.search("SELECT df.id FROM Datafile df WHERE df.name = 'damaged'")
        assert facility.content(number) == content
        assert mounts.unmount(mounted).returncode == 0


def test_dying_mount(mounts: Mounts, facility: FacilityHandle) -> None:
    """What was being sent when the mount died or the machine went down is at the facility once \
after the next mount."""
    mounted = mounts.mount(facility, name="dies")
    (mounted / VISIT / "new").mkdir()
    facility.faults({"endpoint": "ids/put", "kind": "latency", "seconds": 30})
    script = "import sys; from pathlib import Path; Path(sys.argv[1]).write_bytes(b'all')"
    with mounts.python_later(script, mounted / VISIT / "new/file") as writer:
        until(lambda: [one["state"] for one in mounts.status(mounted)["pending"]] == ["sending"])
        os.kill(mounts.status(mounted)["pid"], signal.SIGKILL)
        assert writer.wait(30) != 0
    facility.clear_faults()
    mounted = mounts.mount(facility, name="next")
    until(lambda: stored(facility, "file") == [3])
    assert (mounted / VISIT / "new/file").read_bytes() == b"all"
    until(lambda: mounts.status(mounted)["pending"] == [])
    assert stored(facility, "file") == [3]
    mounts.unmount(mounted)


def test_add_only(point: Path) -> None:
    """In mode `add` (the default) what the mount did not make is not changed, renamed or removed \
(`EPERM`)."""
    with fails_with(errno.EPERM):
        (point / FILE).open("r+b")
    with fails_with(errno.EPERM):
        (point / FILE).unlink()
    with fails_with(errno.EPERM):
        (point / FILE).rename(point / DATASET / "other")


def test_mode_rw(mounts: Mounts, facility: FacilityHandle) -> None:
    """In mode `rw` whatever ICAT's rules allow may be changed, renamed and removed."""
    mounted = mounts.mount(facility, "--mode", "rw", name="rw")
    (mounted / FILE).rename(mounted / DATASET / "renamed")
    (mounted / DATASET / "renamed").write_bytes(b"new")
    until(lambda: stored(facility, "renamed") == [3])
    (mounted / DATASET / "renamed").unlink()
    assert stored(facility, "renamed") == []
    with fails_with(errno.EACCES):
        (mounted / VISIT / "e208947/e208947.nxs").write_bytes(b"complete: closed by the rules")
    mounts.unmount(mounted)


def test_refusals(mounts: Mounts, facility: FacilityHandle, point: Path) -> None:
    """What is refused changes nothing, and the log says why, and which mode would allow it."""
    before = facility.search("SELECT df.name, df.modTime FROM Datafile df ORDER BY df.id")
    attempts: dict[str, Callable[[], object]] = {
        "mount with --mode rw": lambda: os.truncate(point / FILE, 0),
        "files live in datasets": lambda: (point / VISIT / "file").write_bytes(b""),
        "cannot be catalogued under this name": lambda: (point / DATASET / "%2F").write_bytes(b""),
    }
    for words, attempt in attempts.items():
        with fails_with(errno.EPERM, errno.EINVAL):
            attempt()
        assert words in mounts.log()
    assert facility.search("SELECT df.name, df.modTime FROM Datafile df ORDER BY df.id") == before
    assert mounts.status(point)["pending"] == []


def test_early_refusals(mounts: Mounts, facility: FacilityHandle) -> None:
    """When a dataset has refused a file (`EACCES`), the next one is refused when it is created."""
    mounted = mounts.mount(facility, name="reader", user="db/rbeck")
    with fails_with(errno.EACCES):
        (mounted / DATASET / "file").write_bytes(b"bytes")
    with fails_with(errno.EACCES):
        os.open(mounted / DATASET / "next", os.O_CREAT | os.O_WRONLY)
    assert [one["name"] for one in mounts.status(mounted)["pending"]] == ["file"]
    mounts.unmount(mounted)


def test_writing_to_tape(mounts: Mounts, facility: FacilityHandle) -> None:
    """Where whole datasets are archived, a file in one on tape is refused when it is created or cut
    to nothing (`ENODATA`), also right after mounting."""
    facility.archive(datasets=[dataset_id(facility, "e208945")])
    point = mounts.mount(facility, "-o", "recall=never", "--mode", "rw", user="simple/root")
    with fails_with(errno.ENODATA):
        os.open(point / DATASET / "new", os.O_WRONLY | os.O_CREAT)
    with fails_with(errno.ENODATA):
        os.open(point / FILE, os.O_WRONLY | os.O_TRUNC)
    assert not stored(facility, "new")
    assert facility.counters()["restores"] == 0
    mounts.unmount(point)


def test_taken_names(facility: FacilityHandle, point: Path) -> None:
    """A name that others took while the file was written is theirs (`EEXIST` in `close`)."""
    (point / VISIT / "new").mkdir()
    path = point / VISIT / "new/file"
    with fails_with(errno.EEXIST), path.open("wb") as file:
        file.write(b"mine")
        upload(facility, "new", "file", b"theirs")
    until(lambda: path.exists() and path.read_bytes() == b"theirs")
    assert stored(facility, "file") == [6]


def test_own_files(facility: FacilityHandle, point: Path) -> None:
    """What a mount made it may change, rename and remove again."""
    folder = point / VISIT / "new"
    folder.mkdir()
    (folder / "file").write_bytes(b"x")
    (folder / "file").write_bytes(b"changed")
    (folder / "file").rename(folder / "renamed")
    assert stored(facility, "renamed") == [7]
    (folder / "renamed").unlink()
    folder.rmdir()
    assert facility.search("SELECT ds.id FROM Dataset ds WHERE ds.name = 'new'") == []


def test_who_sees_what(mounts: Mounts, facility: FacilityHandle, point: Path) -> None:
    """A change is seen at once on the mount where it was made, and on others when they list \
again; what one has written is not downloaded."""
    other = mounts.mount(facility, "-o", "ttl=1", name="other") / VISIT / "new"
    folder = point / VISIT / "new"
    folder.mkdir()
    (folder / "file").write_bytes(b"x")
    (folder / "file").write_bytes(b"changed")
    (folder / "file").rename(folder / "renamed")
    assert os.listdir(folder) == ["renamed"]
    assert (folder / "renamed").read_bytes() == b"changed"
    assert "ids/getData" not in facility.counters()["requests"]
    until(lambda: other.exists() and os.listdir(other) == ["renamed"])
    assert (other / "renamed").read_bytes() == b"changed"
    (folder / "renamed").unlink()
    assert os.listdir(folder) == []
    until(lambda: os.listdir(other) == [])
    mounts.unmount(mounts.folder / "other")


def test_new_versions(mounts: Mounts, facility: FacilityHandle, point: Path) -> None:
    """A stored file that is written again is replaced as a whole when it is closed: others see \
the old version or the new one, never none."""
    (point / VISIT / "new").mkdir()
    path, sizes = point / VISIT / "new/file", set()
    path.write_bytes(b"old")
    script = "import sys; open(sys.argv[1], 'ab').write(bytes(100_000)); print('closed')"
    writer = mounts.python_later(script, path)
    while writer.poll() is None:
        sizes.add(tuple(stored(facility, "file")))
    sizes.add(tuple(stored(facility, "file")))
    assert sizes <= {(3,), (100_003,)}
    assert path.read_bytes() == b"old" + bytes(100_000)


def test_opening_to_change(mounts: Mounts, facility: FacilityHandle) -> None:
    """A stored file that is opened to be changed, and not cut to nothing, is brought by `open`,
    which waits for tape, fails and can be interrupted as reading does."""
    path = mounts.mount(facility, "--mode", "rw") / FILE
    facility.archive(datasets=[dataset_id(facility, "e208945")])
    with fails_with(errno.ENODATA):
        os.open(path, os.O_RDWR | os.O_NONBLOCK)
    facility.faults({"kind": "restore_never"})
    script = "import sys; open(sys.argv[1], 'r+b')"
    with subprocess.Popen([sys.executable, "-c", script, path], stderr=subprocess.DEVNULL) as user:
        until(lambda: facility.counters()["restores"] == 1)
        user.send_signal(signal.SIGINT)
        assert user.wait(20) == -signal.SIGINT
    facility.clear_faults()
    with path.open("r+b") as file:
        file.write(b"changed")
    assert path.read_bytes().startswith(b"changed")


def test_renaming(facility: FacilityHandle, point: Path) -> None:
    """Files and folders are renamed inside their dataset, a folder with all that is in it or not \
at all; into another dataset `mv` copies (`EXDEV`)."""
    for name in ("new/a", "other"):
        (point / VISIT / name).mkdir(parents=True)
    (point / VISIT / "new/a/file").write_bytes(b"x")
    (point / VISIT / "new/a").rename(point / VISIT / "new/b")
    assert stored(facility, "b/file") == [1]
    with fails_with(errno.EXDEV):
        (point / VISIT / "new/b/file").rename(point / VISIT / "other/file")
    subprocess.run(["mv", point / VISIT / "new/b/file", point / VISIT / "other"], check=True)
    assert (stored(facility, "b/file"), stored(facility, "file")) == ([], [1])


def test_folders_with_files(facility: FacilityHandle, point: Path) -> None:
    """A folder that has files is not removed (`ENOTEMPTY`)."""
    (point / VISIT / "new/a").mkdir(parents=True)
    (point / VISIT / "new/a/file").write_bytes(b"x")
    for folder in ("new/a", "new"):
        with fails_with(errno.ENOTEMPTY):
            (point / VISIT / folder).rmdir()
    assert stored(facility, "a/file") == [1]


def test_recursive_removal(mounts: Mounts, facility: FacilityHandle, point: Path) -> None:
    """In mode `rw` one program removes ten files a minute that the mount did not make, and more \
only with `--allow-recursive-delete` (`EPERM`)."""
    (point / VISIT / "new").mkdir()
    for number in range(12):
        (point / VISIT / f"new/many{number}").write_bytes(b"x")
    query = "SELECT COUNT(df) FROM Datafile df WHERE df.dataset.name = 'new'"
    mounted = mounts.mount(facility, "--mode", "rw", name="rw")
    assert subprocess.run(["rm", "-rf", mounted / VISIT / "new"], check=False).returncode == 1
    assert facility.search(query) == [2]
    mounts.unmount(mounted)
    mounted = mounts.mount(facility, "--mode", "rw", "--allow-recursive-delete", name="rw")
    subprocess.run(["rm", "-r", mounted / VISIT / "new"], check=True)
    assert facility.search(query) == [0]
    mounts.unmount(mounted)


def test_complete(mounts: Mounts, facility: FacilityHandle, point: Path) -> None:
    """A dataset becomes complete by `icatfs complete`, and by nothing else."""
    (point / VISIT / "new").mkdir()
    (point / VISIT / "new/file").write_bytes(b"x")
    query = "SELECT ds.complete FROM Dataset ds WHERE ds.name = 'new'"
    assert facility.search(query) == [False]
    assert mounts.run("complete", "--yes", point / VISIT / "new").returncode == 0
    assert facility.search(query) == [True]


def test_modes_and_owners(point: Path) -> None:
    """Setting modes and owners of folders, and of files that may be changed, is accepted, and \
has no effect."""
    (point / VISIT / "new").mkdir()
    os.chown(point / VISIT / "new", os.getuid(), os.getgid())
    path = point / VISIT / "new/file"
    path.write_bytes(b"x")
    before = path.stat()
    path.chmod(0o600)
    os.chown(path, os.getuid(), os.getgid())
    assert (path.stat().st_mode, path.stat().st_uid) == (before.st_mode, before.st_uid)
    with fails_with(errno.EPERM):
        (point / FILE).chmod(0o600)
    (point / DATASET).chmod(0o700)
    assert (point / DATASET).stat().st_mode & 0o777 == 0o755


def test_links(point: Path) -> None:
    """Symbolic and hard links, pipes and devices cannot be made (`EPERM`)."""
    new = point / DATASET / "new"
    makers: dict[str, Callable[[], object]] = {
        "symbolic links": lambda: new.symlink_to("x"),
        "hard links": lambda: new.hardlink_to(point / FILE),
        "pipes": lambda: os.mkfifo(new),
        "devices": lambda: os.mknod(new, stat.S_IFCHR | 0o600, os.makedev(1, 3)),
    }
    for make in makers.values():
        with fails_with(errno.EPERM):
            make()
    assert "new" not in os.listdir(point / DATASET)


def test_mkdir(facility: FacilityHandle, point: Path) -> None:
    """`mkdir` in a visit makes a dataset; in a dataset it makes a folder of the files' names."""
    (point / VISIT / "new/a").mkdir(parents=True)
    (point / VISIT / "new/a/b").write_bytes(b"x")
    rows = facility.search("SELECT df.name FROM Datafile df WHERE df.dataset.name = 'new'")
    assert rows == ["a/b"]


def test_places(point: Path) -> None:
    """Files can be made in datasets only (`EPERM` elsewhere)."""
    with fails_with(errno.EPERM):
        (point / VISIT / "file").write_bytes(b"")


def test_temporary_names(facility: FacilityHandle, point: Path) -> None:
    """Files with names for the meantime (`.name.XXXXXX`, `*.part`, `*~`, `.*.swp` ...) stay local \
until they are renamed."""
    folder = point / VISIT / "new"
    folder.mkdir()
    (folder / "data.part").write_bytes(b"x")
    assert stored(facility, "data.part") == []
    (folder / "data.part").rename(folder / "data")
    assert (stored(facility, "data.part"), stored(facility, "data")) == ([], [1])


def test_whose_close(facility: FacilityHandle, point: Path) -> None:
    """The `close` that counts is the last one of the program that opened the file for writing; \
readers and children of that program change nothing."""
    folder = point / VISIT / "new"
    folder.mkdir()
    with open(folder / "file", "wb", buffering=0) as file:
        subprocess.run(["echo", "child"], stdout=file, check=True)
        assert (folder / "file").read_bytes() == b"child\n"
        assert stored(facility, "file") == []
    assert stored(facility, "file") == [6]


def test_fsync(facility: FacilityHandle, point: Path) -> None:
    """`fsync` is as good as `close`: it returns when the facility has what was written."""
    folder = point / VISIT / "new"
    folder.mkdir()
    with open(folder / "file", "wb") as file:
        file.write(b"x")
        file.flush()
        os.fsync(file.fileno())
        assert stored(facility, "file") == [1]


def test_writing_on(facility: FacilityHandle, point: Path) -> None:
    """What is written after that makes a new version, which takes the place of the old one in \
one step."""
    folder = point / VISIT / "new"
    folder.mkdir()
    with open(folder / "file", "wb", buffering=0) as file:
        file.write(b"x")
        os.fsync(file.fileno())
        file.write(b"y")
        assert stored(facility, "file") == [1]
    assert stored(facility, "file") == [2]
    assert (folder / "file").read_bytes() == b"xy"


def test_streaming(mounts: Mounts, facility: FacilityHandle, point: Path) -> None:
    """Files of more than 8 MiB that are written from front to back are sent while they are \
written, and are catalogued by `close`."""
    folder = point / VISIT / "new"
    folder.mkdir()
    with open(folder / "file", "wb", buffering=0) as file:
        file.write(bytes(12 << 20))
        until(lambda: mounts.status(point)["transport"]["bytes_out"] >= 11 << 20)
        assert stored(facility, "file") == []
    assert stored(facility, "file") == [12 << 20]


def test_killed_writer(mounts: Mounts, facility: FacilityHandle, point: Path) -> None:
    """What a program was writing when a signal ended it is kept as incomplete, and not sent."""
    folder = point / VISIT / "new"
    folder.mkdir()
    script = f"exec > '{folder}/file'; echo half; kill -9 $$"
    subprocess.run(["sh", "-c", script], check=False)
    until(lambda: not (folder / "file").exists())
    (kept,) = mounts.status(point)["pending"]
    assert kept["name"] == "file"
    assert "incomplete" in kept["reason"]
    assert stored(facility, "file") == []


def test_writer_that_ends(facility: FacilityHandle, point: Path) -> None:
    """What a program has open when it ends by itself is sent."""
    folder = point / VISIT / "new"
    folder.mkdir()
    subprocess.run(["sh", "-c", f"exec > '{folder}/file'; echo all; exit 1"], check=False)
    until(lambda: stored(facility, "file") == [4])


def test_full_disk(mounts: Mounts, facility: FacilityHandle) -> None:
    """A write that does not fit on the local disk fails with `ENOSPC`, and the file is not sent \
unless that write is tried again."""
    mounted = mounts.mount(facility, "-o", "staging_size=1M", name="small")
    (mounted / VISIT / "new").mkdir()
    descriptor = os.open(mounted / VISIT / "new" / "file", os.O_WRONLY | os.O_CREAT)
    with fails_with(errno.ENOSPC):
        for _ in range(9):
            os.write(descriptor, bytes(1 << 18))
    with fails_with(errno.ENOSPC):
        os.close(descriptor)
    assert stored(facility, "file") == []
    assert mounts.unmount(mounted).returncode == 16


def test_write_back(mounts: Mounts, facility: FacilityHandle) -> None:
    """With `-o write_back=yes` the kernel keeps what programs write and passes it on in one, at \
the latest in `close` and `fsync`, which tell the truth as ever."""
    mounted = mounts.mount(facility, *WRITE_BACK, name="gathering")
    (mounted / VISIT / "new").mkdir()
    content = os.urandom(1 << 20)
    with (mounted / VISIT / "new/file").open("wb", buffering=0) as file:
        for start in range(0, len(content), 4096):
            file.write(content[start : start + 4096])
        os.fsync(file.fileno())
        assert checksums(facility, "file") == [zlib.crc32(content)]
        file.write(b"more")
    until(lambda: checksums(facility, "file") == [zlib.crc32(content + b"more")])
    assert mounts.unmount(mounted).returncode == 0


def test_write_back_and_death(mounts: Mounts, facility: FacilityHandle) -> None:
    """Then what no program had closed when icatfs died may be lost, and is not sent; `close` \
fails (`EIO` or `ENOTCONN`)."""
    mounted = mounts.mount(facility, *WRITE_BACK, name="dying")
    (mounted / VISIT / "new").mkdir()
    file = (mounted / VISIT / "new/file").open("wb", buffering=0)
    file.write(b"half of it")
    os.kill(mounts.status(mounted)["pid"], signal.SIGKILL)
    with fails_with(errno.EIO, errno.ENOTCONN, errno.ECONNABORTED):
        file.close()
    mounts.unmount(mounted)
    mounted = mounts.mount(facility, *WRITE_BACK, name="dying")
    assert stored(facility, "file") == []
    assert mounts.unmount(mounted).returncode == 16


def test_write_back_and_a_full_disk(mounts: Mounts, facility: FacilityHandle) -> None:
    """Then what does not fit on the local disk is told by a later `write`, by `fsync` or by \
`close`, and the file is not sent unless all of that is written again."""
    mounted = mounts.mount(facility, *WRITE_BACK, "-o", "staging_size=1M", name="full")
    (mounted / VISIT / "new").mkdir()
    descriptor = os.open(mounted / VISIT / "new/file", os.O_WRONLY | os.O_CREAT)
    os.write(descriptor, bytes(3 << 20))
    with fails_with(errno.ENOSPC):
        os.fsync(descriptor)
    with fails_with(errno.ENOSPC):
        os.close(descriptor)
    assert stored(facility, "file") == []
    assert mounts.unmount(mounted).returncode == 16


def test_mappings(mounts: Mounts, facility: FacilityHandle, point: Path) -> None:
    """What a program writes into a mapped file before it closes it is sent with the file; what \
comes later becomes a new version when the mapping ends."""
    script = """
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
os.ftruncate(fd, 9)
mapped = mmap.mmap(fd, 9)  # holds a descriptor of its own, as numpy.memmap does
os.close(fd)
mapped[:] = b"in memory"
mapped.close()
"""
    (point / VISIT / "new").mkdir()
    path = point / VISIT / "new/file"
    done = mounts.python(script, path)
    assert done.returncode == 0, done.stderr
    assert stored(facility, "file") == [9]
    later = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
fd = os.open(sys.argv[1], os.O_RDWR)
address = libc.mmap(None, 9, 3, 1, fd, 0)
os.pwrite(fd, b"as", 0)
os.close(fd)
ctypes.memmove(address, b"by", 2)
libc.munmap(address, 9)
"""
    done = mounts.python(later, path)
    assert done.returncode == 0, done.stderr
    until(lambda: path.read_bytes() == b"by memory")
    until(lambda: checksums(facility, "file") == [zlib.crc32(b"by memory")])


def test_holes(facility: FacilityHandle, point: Path) -> None:
    """A file written with holes arrives with zeros in them, and one that was only touched \
arrives empty."""
    folder = point / VISIT / "new"
    folder.mkdir()
    with open(folder / "file", "wb") as file:
        file.seek(1000)
        file.write(b"end")
    (folder / "touched").touch()
    assert (stored(facility, "file"), stored(facility, "touched")) == ([1003], [0])
    assert (folder / "file").read_bytes() == bytes(1000) + b"end"


def test_reserving_room(facility: FacilityHandle, point: Path) -> None:
    """`fallocate` fails with `EOPNOTSUPP` and changes nothing; `posix_fallocate` writes zeros
    instead."""
    path = point / VISIT / "fallocate"
    path.mkdir()
    with (path / "data").open("w+b") as file:
        file.write(b"12345")
        file.flush()
        for how in (["--length", "8192"], ["--punch-hole", "--length", "4096"]):
            done = subprocess.run(
                ["fallocate", *how, f"/proc/self/fd/{file.fileno()}"],
                pass_fds=[file.fileno()],
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode
            assert "not supported" in done.stderr or "unsupported" in done.stderr
        assert os.fstat(file.fileno()).st_size == 5
        os.posix_fallocate(file.fileno(), 0, 10_000)
        assert os.fstat(file.fileno()).st_size == 10_000
    assert checksums(facility, "data") == [zlib.crc32(b"12345" + bytes(9_995))]


def test_read_only(mounts: Mounts, facility: FacilityHandle) -> None:
    """A mount with `--mode ro`, or of a read-only data service, changes nothing (`EROFS`)."""
    mounted = mounts.mount(facility, "--mode", "ro", name="ro")
    with fails_with(errno.EROFS):
        (mounted / VISIT / "new").mkdir()
    with fails_with(errno.EROFS):
        (mounted / FILE).unlink()
    assert mounts.unmount(mounted).returncode == 0


# Trouble.


def test_outage(mounts: Mounts) -> None:
    """While the facility cannot be reached, what must be asked fails with `EHOSTUNREACH` or \
`ETIMEDOUT`, and `df` answers all the same."""
    with running_facility("--storage", "single") as facility:
        mounted = mounts.mount(facility, name="lost")
    with fails_with(errno.EHOSTUNREACH, errno.ETIMEDOUT):
        os.listdir(mounted / "ESNF")
    assert os.statvfs(mounted).f_bsize > 0
    mounts.unmount(mounted, "--lazy")


def test_the_readme_has_exactly_these_sentences() -> None:
    readme = Path(icatfs.__file__).parent.parent.joinpath("README.md").read_text(encoding="utf-8")
    section = readme.split("\n## Semantics\n")[1].split("\n## ")[0]
    bullets = [
        " ".join(text.split())
        for text in re.findall(r"^\* (.*(?:\n  .*)*)$", section, re.MULTILINE)
    ]
    sentences = [
        " ".join(test.__doc__.split())
        for name, test in globals().items()
        if name.startswith("test_") and test.__doc__
    ]
    assert bullets == sentences
