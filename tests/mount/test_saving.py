"""Programs that write: what arrives at the facility of each, and what must not.

One mount in mode ``add`` for all; each test writes into a folder of its own, and afterwards the
facility has exactly the files that are to be there: bytes, size, checksum, one Datafile each.
What was there for a moment counts as well: the facility tells every name that it ever gave to a
file. Programs that are too large to be installed for this are imitated call by call, and say so.
"""

from __future__ import annotations

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

import pytest
from support.counting import held
from support.mounts import Mounts, until
from support.writable import Writable, writable_on

from icatfs.facility.testing import running_facility

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

TIME = 1_600_000_000


@pytest.fixture(scope="module")
def writable(module_mounts: Mounts) -> Iterator[Writable]:
    with running_facility("--storage", "single") as facility:
        yield from writable_on(module_mounts, facility, ["-o", "stream_after=1M"])


@pytest.fixture
def place(writable: Writable, request: pytest.FixtureRequest) -> Path:
    """An empty folder in the dataset."""
    name = "".join(letter if letter.isalnum() else "-" for letter in str(request.node.name))
    path = writable.dataset / name
    path.mkdir()
    return path


@pytest.fixture
def folder(writable: Writable, place: Path) -> Iterator[Path]:
    """The same, where nobody ever sees a name that is not there in the end.

    And each file that was sent was stored: nothing was sent in vain.
    """
    writable.facility.reset_counters()
    yield place
    assert set(names(writable, place)) == stored(writable, place).keys()
    counters = writable.facility.counters()
    assert counters["requests"].get("ids/put", 0) == counters["puts"]


def names(writable: Writable, folder: Path) -> list[str]:
    """Every name that the facility ever gave to a file in a folder, in that order.

    Not those of versions on the way: they are in no folder, and no mount shows them.
    """
    query = f"SELECT ds.id FROM Dataset ds WHERE ds.name = '{writable.dataset.name}'"
    (dataset,) = writable.facility.search(query)
    prefix = f"{folder.name}/"
    return [
        name.removeprefix(prefix)
        for name in writable.facility.names(dataset)
        if name.startswith(prefix)
    ]


def stored(writable: Writable, folder: Path) -> dict[str, bytes]:
    """Name to bytes of all Datafiles in a folder; each name is there once."""
    prefix = f"{folder.name}/"
    which = f"df.dataset.name = '{writable.dataset.name}' AND df.name LIKE '{prefix}%'"
    found = held(writable.facility, which)
    assert len(dict(found)) == len(found), "one name, one Datafile"
    return {name.removeprefix(prefix): content for name, content in found}


def times(writable: Writable, folder: Path) -> set[float]:
    """The modification times of all Datafiles in a folder, as the facility has them."""
    rows = writable.facility.search(
        "SELECT df.datafileModTime FROM Datafile df "
        f"WHERE df.dataset.name = '{writable.dataset.name}' AND df.name LIKE '{folder.name}/%'"
    )
    return {datetime.fromisoformat(moment).timestamp() for moment in rows}


def settled(writable: Writable, folder: Path, expected: dict[str, bytes]) -> None:
    """The facility has exactly these files, as soon as old versions have been removed."""
    until(lambda: stored(writable, folder).keys() == expected.keys())
    assert stored(writable, folder) == expected


def run(
    *command: object,
    cwd: Path | None = None,
    text: str | None = None,
    more: Mapping[str, str] | None = None,
) -> str:
    """What a program says; ``text`` is its input, ``more`` is added to its environment."""
    own = {"HOME": "/nonexistent", "TERM": "dumb", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        input=text,
        timeout=60,
        env={**os.environ, **own, **(more or {})},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextmanager
def uploads(writable: Writable, number: int) -> Iterator[None]:
    """So many versions arrive at the facility in this block: no name for the meantime has one."""
    before = writable.facility.counters()["puts"]
    yield
    assert writable.facility.counters()["puts"] - before == number


@pytest.fixture
def tree(tmp_path: Path) -> dict[str, bytes]:
    """A folder ``source`` with files of several kinds, all of one time; name to bytes."""
    contents = {
        "empty": b"",
        "a b.dat": os.urandom(100_000),
        "deep/er/c.h5": os.urandom(2_500_000),
        "deep/holes": bytes(500_000) + b"end",
    }
    for name, content in contents.items():
        path = tmp_path / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (TIME, TIME))
    return contents


@pytest.mark.parametrize(
    "command",
    [
        "cp -a",
        "cp -r --sparse=always",
        "rsync -a",
        "rsync -a --inplace",
        "rsync -a --partial",
        "rsync -a -S",
        "rsync -a --fsync",
        "rsync -a --partial-dir=.rsync-partial",
        "rsync -a --delay-updates",
    ],
)
def test_copies_of_a_tree(
    writable: Writable, folder: Path, tmp_path: Path, tree: dict[str, bytes], command: str
) -> None:
    with uploads(writable, len(tree)):
        run(*command.split(), f"{tmp_path}/source/.", f"{folder}/")
    assert stored(writable, folder) == tree
    if "-a" in command:
        assert {(folder / name).stat().st_mtime for name in tree} == {TIME}
        assert times(writable, folder) == {TIME}
    if command == "rsync -a":
        said = run(*command.split(), "-i", "--dry-run", f"{tmp_path}/source/", f"{folder}/")
        assert ">f" not in said


def test_a_second_rsync_sends_nothing_and_a_changed_file_only(
    writable: Writable, folder: Path, tmp_path: Path, tree: dict[str, bytes]
) -> None:
    run("rsync", "-a", f"{tmp_path}/source/", f"{folder}/")
    before = writable.facility.counters()["puts"]
    run("rsync", "-a", f"{tmp_path}/source/", f"{folder}/")
    assert writable.facility.counters()["puts"] == before
    (tmp_path / "source/a b.dat").write_bytes(b"new")
    run("rsync", "-a", f"{tmp_path}/source/", f"{folder}/")
    settled(writable, folder, {**tree, "a b.dat": b"new"})


@pytest.mark.parametrize("options", ["", "--inplace", "-S", "--append-verify", "-b"])
def test_rsync_of_a_changed_file_sends_it_once(
    writable: Writable, folder: Path, tmp_path: Path, options: str
) -> None:
    source, target = tmp_path / "scan.dat", folder / "scan.dat"
    before = os.urandom(200_000)
    source.write_bytes(before)
    os.utime(source, (TIME, TIME))
    run("rsync", "-a", source, target)
    after = before + os.urandom(100_000)
    source.write_bytes(after)
    with uploads(writable, 1):
        run("rsync", "-a", *options.split(), source, target)
    kept = {"scan.dat~": before} if options == "-b" else {}
    settled(writable, folder, {"scan.dat": after, **kept})
    assert target.read_bytes() == after
    assert target.stat().st_mtime == int(source.stat().st_mtime)


def interrupt_rsync(source: Path, target: Path, *options: str) -> None:
    """End it when it has written something; what it does about that may come a little later."""
    words = ["rsync", "-a", *options, "--bwlimit=100", str(source), str(target)]
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as rsync:
        until(lambda: any(path.stat().st_size for path in target.parent.iterdir()))
        rsync.send_signal(signal.SIGINT)
        assert rsync.wait(30) != 0


def test_an_interrupted_rsync_leaves_nothing_and_one_with_partial_what_it_has(
    writable: Writable, folder: Path, tmp_path: Path
) -> None:
    """That gives it its real name itself, and the next one completes it."""
    source, target = tmp_path / "scan.dat", folder / "scan.dat"
    source.write_bytes(os.urandom(1_000_000))
    interrupt_rsync(source, target)
    until(lambda: os.listdir(folder) == [])
    assert stored(writable, folder) == {}
    interrupt_rsync(source, target, "--partial")
    until(lambda: list(stored(writable, folder)) == ["scan.dat"])
    assert source.read_bytes().startswith(stored(writable, folder)["scan.dat"])
    run("rsync", "-a", "--partial", source, folder / "scan.dat")
    settled(writable, folder, {"scan.dat": source.read_bytes()})


def test_moving_in(
    writable: Writable, folder: Path, tmp_path: Path, tree: dict[str, bytes]
) -> None:
    with uploads(writable, len(tree)):
        run("mv", tmp_path / "source", folder / "moved")
    assert times(writable, folder) == {TIME}
    assert stored(writable, folder) == {f"moved/{name}": data for name, data in tree.items()}
    assert not (tmp_path / "source").exists()


def test_tar_and_unzip(
    writable: Writable, folder: Path, tmp_path: Path, tree: dict[str, bytes]
) -> None:
    run("tar", "-cf", tmp_path / "all.tar", "-C", tmp_path / "source", ".")
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as members:
        for name, content in tree.items():
            members.writestr(zipfile.ZipInfo(name, time.localtime(TIME)[:6]), content)
    for program in ("tar", "unzip"):
        (folder / program).mkdir()
    with uploads(writable, 2 * len(tree)):
        run("tar", "-xf", tmp_path / "all.tar", "-C", folder / "tar")
        run("unzip", "-q", tmp_path / "all.zip", "-d", folder / "unzip")
    expected = {f"{one}/{name}": data for one in ("tar", "unzip") for name, data in tree.items()}
    assert stored(writable, folder) == expected
    assert times(writable, folder) == {TIME}


@pytest.mark.parametrize(
    "script",
    [
        'dd if="$1" of="$2" bs=1000 status=none',
        'dd if="$1" of="$2" bs=100k conv=fsync status=none',
        'dd if="$1" of="$2" bs=64k conv=sparse status=none',
        'dd if="$1" of="$2" bs=1M oflag=sync status=none',
        'install -m 644 "$1" "$2"',
        'cat "$1" | tee "$2" > /dev/null',
        'cat "$1" > "$2"',
        '(head -c 1000000 "$1"; tail -c +1000001 "$1") > "$2"',
        'exec 5> "$2"; cat "$1" >&5',
    ],
)
def test_programs_and_redirections_of_the_shell(
    writable: Writable, folder: Path, tmp_path: Path, script: str
) -> None:
    content = os.urandom(1_000_000) + bytes(1_000_000) + os.urandom(1_234)
    (tmp_path / "source").write_bytes(content)
    with uploads(writable, 1):
        run("sh", "-ec", script, "sh", tmp_path / "source", folder / "copy")
        settled(writable, folder, {"copy": content})


def test_split(writable: Writable, folder: Path, tmp_path: Path) -> None:
    content = os.urandom(250_000)
    (tmp_path / "source").write_bytes(content)
    with uploads(writable, 3):
        run("split", "-b", "100000", tmp_path / "source", f"{folder}/part-")
    parts = {"aa": content[:100_000], "ab": content[100_000:200_000], "ac": content[200_000:]}
    assert stored(writable, folder) == {f"part-{name}": data for name, data in parts.items()}


def test_sed_in_place(writable: Writable, folder: Path) -> None:
    (folder / "text").write_text("one\ntwo\n", encoding="ascii")
    with uploads(writable, 1):
        run("sed", "-i", "s/one/three/", folder / "text")
    settled(writable, folder, {"text": b"three\ntwo\n"})
    (folder / "sediments").write_bytes(b"called as those of sed are")
    settled(writable, folder, {"text": b"three\ntwo\n", "sediments": b"called as those of sed are"})


def vim(path: Path, *commands: str, backupcopy: str = "auto") -> None:
    """Edit and save; by default it makes no backups below ``/tmp``, where this mount is."""
    program = shutil.which("vim") or "vi"
    settings = f"set backupcopy={backupcopy} backupskip= writebackup"
    words = [word for command in (settings, *commands, "wq") for word in ("-c", command)]
    run(program, "-es", "-N", "-u", "NONE", *words, path)


@pytest.mark.parametrize("backupcopy", ["auto", "yes"])
def test_vim(writable: Writable, folder: Path, backupcopy: str) -> None:
    path = folder / "notes.txt"
    with uploads(writable, 1):
        vim(path, "normal ihello", backupcopy=backupcopy)
    settled(writable, folder, {"notes.txt": b"hello\n"})
    with uploads(writable, 1):
        vim(path, "%s/hello/bye/", backupcopy=backupcopy)
    settled(writable, folder, {"notes.txt": b"bye\n"})
    assert os.listdir(folder) == ["notes.txt"]


def test_vim_where_it_is_told_to_rename_the_file_that_it_saves(
    writable: Writable, place: Path
) -> None:
    """The file is at the facility, and so is what is done to its name."""
    with uploads(writable, 2):
        vim(place / "notes.txt", "normal ihello")
        vim(place / "notes.txt", "%s/hello/bye/", backupcopy="no")
    settled(writable, place, {"notes.txt": b"bye\n"})
    assert names(writable, place) == ["notes.txt", "notes.txt~", "notes.txt"]
    assert os.listdir(place) == ["notes.txt"]


def test_nano(writable: Writable, folder: Path) -> None:
    """In a terminal, by the keys that a person types."""
    (folder / "notes.txt").write_text("world\n", encoding="ascii")
    ours, theirs = pty.openpty()
    program = ["nano", "--ignorercfiles", str(folder / "notes.txt")]
    before = writable.facility.counters()["puts"]
    with subprocess.Popen(
        program,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        env={**os.environ, "TERM": "xterm", "LC_ALL": "C.UTF-8"},
    ) as nano:
        os.close(theirs)
        for keys, answer in ((b"", b"world"), (b"hello \x0f", b"Write"), (b"\r", b"Wrote")):
            os.write(ours, keys)
            seen = b""
            while answer not in seen:
                seen += os.read(ours, 65536)
        os.write(ours, b"\x18")
        assert nano.wait(30) == 0
    os.close(ours)
    settled(writable, folder, {"notes.txt": b"hello world\n"})
    assert writable.facility.counters()["puts"] == before + 1


def git(*commands: str, cwd: Path) -> str:
    """What git says to these commands, one after the other, of somebody at a certain time."""
    when = {f"GIT_{who}_DATE": "2026-01-01T12:00:00Z" for who in ("AUTHOR", "COMMITTER")}
    who = ("user.name=nbour", "user.email=nbour@localhost", "gc.auto=0", "pack.threads=1")
    options = " ".join(f"-c {one}" for one in who)
    script = " && ".join(f"git {options} {command}" for command in commands)
    return run("sh", "-c", script, cwd=cwd, more=when)


def test_git(writable: Writable, folder: Path, tmp_path: Path) -> None:
    """What arrives is what git makes on a local disk, but for what it says about that disk."""
    local = tmp_path / "local"
    local.mkdir()
    for place in (folder, local):
        git("init -q .", cwd=place)
        for text in ("one", "two"):
            for name in ("analysis.py", "poetry.lock"):
                (place / name).write_text(text, encoding="ascii")
            git("add .", f"commit -q -m {text}", cwd=place)
        git("tag v1", "checkout -q -b other", "fsck --strict", cwd=place)
        assert git("log --format=%s", cwd=place).split() == ["two", "one"]
    expected = {
        str(path.relative_to(local)): path.read_bytes()
        for path in local.rglob("*")
        if path.is_file()
    }
    until(lambda: stored(writable, folder).keys() == expected.keys())
    found = stored(writable, folder)
    differing = {name for name, content in found.items() if content != expected[name]}
    assert differing <= {".git/config", ".git/index"}


def test_git_packs_what_it_has(writable: Writable, place: Path) -> None:
    """It removes files that were there; of what it writes aside nobody sees a name."""
    git("init -q .", cwd=place)
    for text in ("one", "two"):
        (place / "analysis.py").write_text(text, encoding="ascii")
        git("add .", f"commit -q -m {text}", cwd=place)
    git("gc -q", "fsck --strict", cwd=place)
    packed = {name for name in stored(writable, place) if name.startswith(".git/objects/pack/")}
    assert {name.rpartition(".")[2] for name in packed} >= {"pack", "idx"}
    aside = re.compile(r"tmp|\.lock|\.new$|(refs|packs)_|/t[^/]{6}$")
    inside = [name.removeprefix(".git/") for name in names(writable, place)]
    assert [name for name in inside if aside.search(name)] == []


def test_h5py_writes_and_appends(writable: Writable, folder: Path, tmp_path: Path) -> None:
    script = """
import sys, h5py, numpy
with h5py.File(sys.argv[1], "w") as tree:
    tree["entry/data"] = numpy.arange(200_000)
with h5py.File(sys.argv[1], "a") as tree:
    tree["entry/more"] = numpy.arange(1_000)
    tree.flush()
    tree["entry/most"] = numpy.arange(1_000)
with h5py.File(sys.argv[1]) as tree:
    assert tree["entry/data"][199_999] == 199_999
    assert tree["entry/more"][999] == tree["entry/most"][999] == 999
"""
    with uploads(writable, 2):
        for path in (folder / "result.h5", tmp_path / "result.h5"):
            done = writable.mounts.python(script, path)
            assert done.returncode == 0, done.stderr
    settled(writable, folder, {"result.h5": (tmp_path / "result.h5").read_bytes()})


def test_a_log_that_is_appended_to_by_one_program_after_the_other(
    writable: Writable, folder: Path
) -> None:
    for number in range(3):
        run("sh", "-c", f"echo {number} >> '{folder}/log'")
    settled(writable, folder, {"log": b"0\n1\n2\n"})


def test_many_small_files_by_several_programs_at_once(writable: Writable, folder: Path) -> None:
    script = """
import os, sys
for number in range(int(sys.argv[2]), int(sys.argv[3])):
    with open(f"{sys.argv[1]}/{number:04}.dat", "wb") as file:
        file.write(b"%04d" % number * 100)
"""
    programs = [
        writable.mounts.python_later(script, folder, start, start + 40) for start in (0, 40, 80)
    ]
    assert [program.wait(60) for program in programs] == [0, 0, 0]
    expected = {f"{number:04}.dat": b"%04d" % number * 100 for number in range(120)}
    assert stored(writable, folder) == expected


def test_pip_installs_a_wheel(writable: Writable, folder: Path, tmp_path: Path) -> None:
    """What arrives is what pip makes on a local disk."""
    info = "beamline-1.0.dist-info"
    wheel = tmp_path / "beamline-1.0-py3-none-any.whl"
    contents = {
        **{f"beamline/part{number}.py": f"X = {number}\n" for number in range(20)},
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: beamline\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(wheel, "w") as members:
        for name, content in contents.items():
            members.writestr(name, content)
    offline = ("--no-index", "--no-deps", "--no-compile", "--no-warn-script-location")
    local = tmp_path / "local"
    for place in (folder, local):
        command = (sys.executable, "-m", "pip", "install", "-q", *offline, "--prefix", place)
        run(*command, wheel)
    expected = {
        str(path.relative_to(local)): path.read_bytes()
        for path in local.rglob("*")
        if path.is_file()
    }
    assert len(expected) > 20
    settled(writable, folder, expected)


def test_gnome_saves(writable: Writable, folder: Path) -> None:
    """As gedit and others do it: GLib's g_file_replace, with a backup and without."""
    path = folder / "notes.txt"
    for text in ("first\n", "second\n"):
        with uploads(writable, 1):
            run("gio", "save", path, text=text)
        settled(writable, folder, {"notes.txt": text.encode()})


# Imitated: the calls are those that strace shows of the program.


def test_gedit_imitated(writable: Writable, folder: Path) -> None:
    """GLib's g_file_replace: a temporary name beside the file, fsync, rename over the file."""
    path = folder / "notes.txt"
    for text in (b"first\n", b"second\n"):
        temporary = folder / ".goutputstream-A1B2C3"
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        os.fchmod(descriptor, 0o644)
        os.write(descriptor, text)
        os.fsync(descriptor)
        with uploads(writable, 1):
            os.rename(temporary, path)
            os.close(descriptor)
        settled(writable, folder, {"notes.txt": text})


def test_libreoffice_imitated(writable: Writable, folder: Path) -> None:
    """A lock file beside the document while it is open; saving writes the document in place."""
    path, lock = folder / "table.ods", folder / ".~lock.table.ods#"
    for text in (b"first version, longer", b"second"):
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        os.write(descriptor, b",nbour,host,01.01.2026 12:00,file:///home/nbour;")
        os.close(descriptor)
        with uploads(writable, 1):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
            os.pwrite(descriptor, text, 0)
            os.ftruncate(descriptor, len(text))
            os.fsync(descriptor)
            os.close(descriptor)
            os.unlink(lock)
        settled(writable, folder, {"table.ods": text})


# Names that look as if they were for the meantime, and are not.


@pytest.mark.parametrize("name", ["4913", "sediments", "poetry.lock", "targets"])
def test_a_measurement_is_sent_whatever_programs_would_mean_by_its_name(
    writable: Writable, folder: Path, name: str
) -> None:
    (folder / name).write_bytes(b"measured")
    assert stored(writable, folder) == {name: b"measured"}


def test_a_file_that_the_facility_has_is_sent_again_under_whatever_name(
    writable: Writable, place: Path
) -> None:
    """Its name was for the meantime once; it stayed when the file was stored and renamed to it."""
    (place / "notes").write_bytes(b"one")
    (place / "notes").rename(place / "notes~")
    with (place / "notes~").open("ab") as file:
        file.write(b" two")
    settled(writable, place, {"notes~": b"one two"})
    (place / "later.part").write_bytes(b"three")
    (place / "later.part").rename(place / "notes~")
    settled(writable, place, {"notes~": b"three"})


def test_a_file_whose_folder_gets_its_real_name_is_sent(writable: Writable, folder: Path) -> None:
    (folder / ".rsync-partial").mkdir()
    (folder / ".rsync-partial/scan").write_bytes(b"measured")
    assert stored(writable, folder) == {}
    (folder / ".rsync-partial").rename(folder / "scans")
    until(lambda: stored(writable, folder) == {"scans/scan": b"measured"})


def test_nothing_is_pending_after_all_this(writable: Writable) -> None:
    assert writable.mounts.status(writable.point)["pending"] == []
