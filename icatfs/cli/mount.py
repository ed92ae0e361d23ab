"""``icatfs mount``: check everything that can be checked, then serve or start the daemon."""

from __future__ import annotations

import dataclasses
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec
import trio

from icatfs import daemon
from icatfs.cli import login, settings
from icatfs.cli.serve import Launch, Report, encode_launch, log_to_terminal
from icatfs.errors import MountError
from icatfs.fuse import mountpoint as mountpoints

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from icatfs.config import Config

_START_S = 120.0

_EPILOG = """
The URL may be followed by :/path, a folder of the facility that becomes the root of the mount.
Settings may also stand in a section of python-icat's icat.cfg (--section); there our own are
written icatfs_<setting>, for example icatfs_cache_size = 50G. As -o name=value they work, too.

What you copy into a dataset is at the facility when the copy says that it is done. What could not
be sent is safe on this machine: icatfs pending.
"""


@click.command(epilog=_EPILOG)
@click.argument("places", nargs=-1, metavar="[URL] MOUNTPOINT")
@click.option("-f", "--foreground", is_flag=True, help="Stay in the foreground, log to stderr.")
@click.option(
    "--mode",
    type=click.Choice(["ro", "add", "rw"]),
    help="What may change: nothing; what this mount itself adds; all that the facility lets you"
    " change.  [add]",
)
@click.option("--auth", help="How to log in: a mnemonic of the facility, e.g. db or ldap.")
@click.option("-u", "--user", help="User name.")
@click.option("--password-file", type=click.Path(), help="File whose first line is the password.")
@click.option("--anonymous", is_flag=True, help="Log in without an account.")
@click.option("--ids", metavar="URL", help="The data service, where it is not beside ICAT at /ids.")
@click.option("-c", "--config", type=click.Path(), help="This icat.cfg instead of the usual ones.")
@click.option("-s", "--section", help="Section of icat.cfg.")
@click.option("--cache-dir", type=click.Path(), help="Where what was read is kept.")
@click.option("--cache-size", help="How much is kept, e.g. 50G.  [20G or a tenth of the disk]")
@click.option(
    "--recall",
    metavar="TABLE",
    help="Which reads bring back archived data: wait, wait:2h, never, or a table with a rule for"
    " each pattern of paths ('/INV/*/raw* never; wait').  [wait]",
)
@click.option(
    "--recall-wait", metavar="S", help="Seconds a read waits for the archive.  [no limit]"
)
@click.option("--dataset-type", help="Type of datasets made by mkdir.  [other]")
@click.option(
    "--allow-recursive-delete",
    is_flag=True,
    default=None,
    help="In mode rw, let one program remove more than a few stored files a minute.",
)
@click.option("--ca-file", type=click.Path(), help="Certificates to trust.")
@click.option("--insecure", is_flag=True, help="Accept any certificate. Anybody may then listen.")
@click.option("--log-file", type=click.Path(), help="Where the daemon logs.")
@click.option("-v", "--verbose", is_flag=True, help="Log more.")
@click.option(
    "-o",
    "options",
    multiple=True,
    metavar="OPT,...",
    help="Mount options and settings: ro, allow_other, staging_size=100G, ...",
)
def command(places: tuple[str, ...], foreground: bool, **params: Any) -> None:
    """Mount the facility at URL as a drive at MOUNTPOINT.

    Without URL, the one of the section in icat.cfg is mounted. Returns when the mount is ready.
    Take it down with: icatfs unmount MOUNTPOINT
    """
    if len(places) not in (1, 2):
        raise click.UsageError("name the facility's URL (or a --section) and the mount point")
    flags = as_flags(places, params)
    resolved = settings.resolve(flags)
    mountpoints.prepare(resolved.mountpoint)
    properties = trio.run(daemon.preflight, resolved)
    launch = Launch(config=resolved, credentials=login.choose(resolved, properties))
    if foreground:
        serve_here(launch)
    else:
        start_daemon(launch)


def as_flags(places: Sequence[str], params: Mapping[str, Any]) -> settings.Flags:
    """What the parsed options of this command say, for ``settings.resolve``."""
    own = {field.name for field in dataclasses.fields(settings.Flags)}
    return settings.Flags(
        source=places[0] if len(places) == 2 else "",
        mountpoint=Path(places[-1]),
        settings={
            name: str(value)
            for name, value in params.items()
            if name not in own and value is not None
        },
        **{name: value for name, value in params.items() if name in own},
    )


def serve_here(launch: Launch) -> None:
    """Serve in this process until unmounted or told to stop."""
    log_to_terminal(verbose=launch.config.verbose)
    trio.run(daemon.run, launch.config, launch.credentials, _announce)


def start_daemon(launch: Launch) -> None:
    """Start the daemon in a session of its own; returns when its mount is ready.

    Configuration and password go through a pipe: they are in no argument and no environment.
    """
    log = log_file(launch.config)
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(log, "ab", opener=_private) as log_stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "icatfs.cli.serve", launch.config.url, launch.config.mountpoint],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log_stream,
            start_new_session=True,
            cwd="/",
        )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(encode_launch(launch))
        process.stdin.close()
        report = _wait_for_report(process, log)
        process.stdout.close()
        if report.error is not None:
            click.echo(f"icatfs: {report.error}", err=True)
            sys.exit(report.code)
        process.returncode = 0  # it lives on, and is not ours to wait for
    _announce(report.remarks)


def log_file(config: Config) -> Path:
    """Where the daemon of this mount logs."""
    if config.log_file is not None:
        return config.log_file
    name = str(config.mountpoint).strip("/").replace("/", "-") or "root"
    return config.state_dir / "log" / f"{name}.log"


def _wait_for_report(process: subprocess.Popen[bytes], log: Path) -> Report:
    """The daemon's one line; `MountError` when it ends or takes too long without one."""
    assert process.stdout is not None
    received = b""
    deadline = time.monotonic() + _START_S
    while not received.endswith(b"\n"):
        ready, _, _ = select.select([process.stdout], [], [], max(deadline - time.monotonic(), 0))
        chunk = os.read(process.stdout.fileno(), 65536) if ready else b""
        if not chunk:
            process.kill()
            process.wait()
            raise MountError(f"the daemon did not get the mount ready; its log: {log}")
        received += chunk
    return msgspec.json.decode(received, type=Report)


def _announce(remarks: Sequence[str]) -> None:
    for remark in remarks:
        click.echo(f"icatfs: {remark}", err=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
