"""``icatfs demo``: the whole job on a facility of its own, as shell commands with their output.

Each step is a real command, run by the shell inside the mount, and a check of what it printed: the
demonstration fails when one of them does not do what it shows.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import click

from icatfs.facility.handle import FacilityHandle, running_facility

_VISIT = "ESNF/12100409-ST/1.1-P"
_ARCHIVED = "ESNF/10100601-ST/1.1-N/e208341"
_RESTORE_S = 5
_USER = "db/nbour"

_GREETINGS = {
    "greet-jdoe.txt": ("Hello John!", "bef32c73"),
    "greet-nbour.txt": ("Hello Nicolas!", "9012de77"),
    "greet-rbeck.txt": ("Hello Rudolph!", "cc830993"),
}

_CRC32 = 'python -c \'import sys, zlib; print("%x" % zlib.crc32(open(sys.argv[1], "rb").read()))\''


@dataclass(frozen=True, slots=True)
class Step:
    """Commands of one shell; ``check`` gets what they printed and says whether it is right."""

    title: str
    commands: tuple[str, ...]
    check: Callable[[str], bool]


@click.command()
@click.option("--keep", is_flag=True, help="Stay mounted until Ctrl-C, also without a terminal.")
@click.option("--no-keep", is_flag=True, help="End at once, also on a terminal.")
def command(keep: bool, no_keep: bool) -> None:
    """Show the whole job on a facility of its own.

    Starts a small ICAT with a data service and a tape archive on this machine, mounts it, and walks
    through browsing, reading, waiting for tape, uploading and checking. On a terminal it then stays
    mounted for exploring until Ctrl-C.
    """
    try:
        failed = _demonstrate(explore=keep or (sys.stdout.isatty() and not no_keep))
    except RuntimeError as error:  # the facility in a process of its own, which says why
        raise click.ClickException(f"{error}; see what it wrote above") from error
    if failed:
        raise click.ClickException(f"these steps did not do what they should: {', '.join(failed)}")
    click.echo("\nEvery step did what it shows.")


def _demonstrate(*, explore: bool) -> list[str]:
    """Start, mount, walk through; the titles of the steps that failed."""
    with tempfile.TemporaryDirectory(prefix="icatfs-demo-") as folder:
        options = ("--storage", "dataset", "--restore-delay", str(_RESTORE_S))
        with running_facility(*options) as facility, _mounted(facility, Path(folder)) as mount:
            failed = _walk(facility, mount)
            if explore:
                _explore(mount)
    return failed


def steps() -> list[Step]:
    """The demonstration, in order."""
    new = f"{_VISIT}/greetings"
    greet = [f"echo '{text}' > {new}/{name}" for name, (text, _) in _GREETINGS.items()]
    return [
        Step(
            "The facility is a folder; in it are investigations, and in these their visits",
            ("ls -d ESNF/*/*",),
            lambda out: all(name in out for name in ("10100601-ST/1.1-N", "12100409-ST/1.1-P")),
        ),
        Step(
            "A visit has datasets, a dataset has files, with sizes and dates from the catalogue",
            (f"ls {_VISIT}", f"ls -l {_VISIT}/e208945"),
            lambda out: "e208947" in out and "396430" in out,
        ),
        Step(
            "Read a file, and compare its CRC-32 with the catalogue's checksum",
            (
                f"{_CRC32} {_VISIT}/e208945/e208945.nxs",
                f"getfattr -n user.icat.checksum {_VISIT}/e208945/e208945.nxs",
            ),
            _checksum_agrees,
        ),
        Step(
            "Any program can work on it: h5py opens the NeXus file in place",
            (f"python -c 'import h5py; h5py.File(\"{_VISIT}/e208945/e208945.nxs\").visit(print)'",),
            lambda out: "entry/data" in out,
        ),
        Step(
            "This dataset is on tape; looking at it does not bring it back",
            (
                f"ls -l {_ARCHIVED}",
                f"getfattr -n user.icat.status {_ARCHIVED}/e208341.nxs",
            ),
            lambda out: 'status="ARCHIVED"' in out,
        ),
        Step(
            f"Reading it asks for a restore, which takes {_RESTORE_S} seconds here, and waits",
            (f"time cat {_ARCHIVED}/e208341.nxs | wc -c",),
            _waited,
        ),
        Step(
            "Make a dataset and write files into it: each is at the facility when it is closed",
            (f"mkdir {new}", *greet, f"ls -l {new}"),
            lambda out: all(name in out for name in _GREETINGS),
        ),
        Step(
            "What the catalogue says about them now",
            (
                f"getfattr -n user.icat.checksum {new}/*",
                f"getfattr -d -m user.icat {new}/greet-jdoe.txt",
            ),
            lambda out: (
                "user.icat.id" in out
                and all(f'checksum="{crc}"' in out for _, crc in _GREETINGS.values())
            ),
        ),
    ]


def _walk(facility: FacilityHandle, mount: Path) -> list[str]:
    """Run all steps; the titles of those that failed."""
    name, failed = _ARCHIVED.rpartition("/")[2], []
    rows = facility.search(f"SELECT ds.id FROM Dataset ds WHERE ds.name = '{name}'")
    facility.archive(datasets=[int(row) for row in rows])
    facility.reset_counters()
    for step in steps():
        click.secho(f"\n# {step.title}", bold=True)
        printed = []
        for command_line in step.commands:
            click.secho(f"$ {command_line}", fg="green")
            printed.append(_shell(command_line, mount))
            if printed[-1].strip():
                click.echo(printed[-1].strip("\n"))
        if not step.check("".join(printed)):
            click.secho("^ this is not what it should be", fg="red")
            failed.append(step.title)
    return failed + _what_the_server_counted(facility)


def _what_the_server_counted(facility: FacilityHandle) -> list[str]:
    """Show the facility's own account of the day; a complaint if it is not what we did."""
    counters = facility.counters()
    click.secho("\n# What the facility counted meanwhile", bold=True)
    for name in ("queries", "restores", "puts", "bytes_sent"):
        click.echo(f"{name:12} {counters[name]}")
    wanted = {"restores": 1, "puts": len(_GREETINGS)}
    return [f"the count of {name}" for name, count in wanted.items() if counters[name] != count]


@contextmanager
def _mounted(facility: FacilityHandle, folder: Path) -> Iterator[Path]:
    """The facility, mounted below this folder as a user would; unmounted at the end."""
    mount, password = folder / "facility", folder / "password"
    mount.mkdir()
    password.touch(mode=0o600)
    password.write_text(facility.users[_USER] + "\n", encoding="utf-8")
    auth, _, user = _USER.partition("/")
    program = [sys.executable, "-m", "icatfs"]
    options = ["--auth", auth, "--user", user, "--password-file", str(password)]
    folders = ["--cache-dir", str(folder / "cache"), "-o", f"state_dir={folder / 'state'}"]
    shown = f"icatfs mount {facility.url} {mount} --auth {auth} --user {user} --password-file ..."
    click.secho("# Mount the facility", bold=True)
    click.secho(f"$ {shown}", fg="green")
    subprocess.run([*program, "mount", facility.url, mount, *options, *folders], check=True)
    click.secho(f"$ cd {mount}", fg="green")
    try:
        yield mount
    finally:
        subprocess.run([*program, "unmount", mount], check=True)


def _shell(text: str, folder: Path) -> str:
    """What bash prints for this command, on both streams."""
    path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
    done = subprocess.run(
        ["bash", "-c", f"exec 2>&1; {text}"],
        cwd=folder,
        env={**os.environ, "PATH": path, "LC_ALL": "C.UTF-8", "TIMEFORMAT": "real %R s"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout


def _checksum_agrees(output: str) -> bool:
    """The first line is the CRC-32 of the bytes, and the attribute says the same."""
    return f'user.icat.checksum="{output.split()[0]}"' in output


def _waited(output: str) -> bool:
    """52857 bytes came, and not before the tape had them."""
    found = re.search(r"real (\d+\.\d+)", output)
    return "52857" in output and found is not None and float(found.group(1)) >= _RESTORE_S * 0.9


def _explore(mount: Path) -> None:
    """Stay mounted until Ctrl-C; a second one must not stop the unmounting."""
    click.secho(f"\nThe facility stays mounted at {mount} until you press Ctrl-C.", bold=True)
    with suppress(KeyboardInterrupt):
        signal.pause()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    click.echo("\nunmounting")
