"""``icatfs unmount``: wait for what is unsent, unmount, wait for the daemon to end."""

from __future__ import annotations

import time
from pathlib import Path

import click

from icatfs import control
from icatfs.cli.settings import absolute_mountpoint
from icatfs.cli.words import number
from icatfs.errors import MountError, Unsent
from icatfs.fuse import mountpoint as mountpoints

_POLL_S = 0.1
_END_S = 60.0


@click.command()
@click.argument("mountpoint", type=click.Path(path_type=Path))
@click.option(
    "--wait",
    "wait_s",
    type=float,
    default=300.0,
    show_default=True,
    metavar="S",
    help="How long to wait for files that are not sent yet.",
)
@click.option("--lazy", is_flag=True, help="Take it out of the tree although programs use it.")
def command(mountpoint: Path, wait_s: float, lazy: bool) -> None:
    """Unmount MOUNTPOINT after what was written has been sent.

    Files that could not be sent are named, and the exit code is 16. Their bytes stay safe on this
    machine: the next mount sends them, or icatfs pending --send does.
    """
    point = absolute_mountpoint(mountpoint)
    if mountpoints.mounted_at(point) is None:
        raise MountError(f"nothing is mounted at {mountpoint}")
    path = control.socket_path(point)
    kept = _wait_until_sent(path, wait_s) if path.exists() else []
    if lazy:
        mountpoints.detach(point)
    else:
        mountpoints.unmount(point)
        _wait_for_end(path)
    if kept:
        raise Unsent(
            f"unmounted, but {number(len(kept), 'file is', 'files are')} not at the facility; the "
            "bytes are safe (icatfs pending sends or copies them):\n" + "\n".join(kept)
        )


def _wait_until_sent(path: Path, wait_s: float) -> list[str]:
    """Wait while files are being sent; returns a line for each that is not sent then."""
    deadline = time.monotonic() + wait_s
    while True:
        try:
            pending = control.ask(path, "pending")
        except MountError:
            return []  # a dead daemon: its journal keeps what is unsent
        if not pending["under_way"] or time.monotonic() >= deadline:
            folder = Path(pending["folder"])
            return [
                f"  {one['shown']}: {one['why']} ({folder / '{:08d}.data'.format(one['id'])})"
                for one in pending["files"]
            ]
        time.sleep(_POLL_S)


def _wait_for_end(path: Path) -> None:
    """Return when the daemon has closed everything, which it shows by removing its socket."""
    deadline = time.monotonic() + _END_S
    while path.exists() and time.monotonic() < deadline:
        try:
            control.ask(path, "status", timeout_s=1.0)
        except MountError:
            if not _listening(path):
                path.unlink(missing_ok=True)
                return
        time.sleep(_POLL_S)


def _listening(path: Path) -> bool:
    try:
        control.ask(path, "status", timeout_s=1.0)
    except MountError as error:
        return not isinstance(error.__cause__, ConnectionRefusedError)
    return True
