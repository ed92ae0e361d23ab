"""``icatfs status``: what the mounts of this user do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from icatfs import control
from icatfs.cli import words
from icatfs.cli.settings import absolute_mountpoint
from icatfs.errors import MountError

if TYPE_CHECKING:
    from collections.abc import Mapping


@click.command()
@click.argument("mountpoint", type=click.Path(path_type=Path), required=False)
@click.option("--json", "as_json", is_flag=True, help="The whole status as JSON.")
def command(mountpoint: Path | None, as_json: bool) -> None:
    """Show the mount at MOUNTPOINT, or all mounts of this user."""
    if mountpoint is not None:
        mounts = [_one(mountpoint)]
    else:
        mounts = [status for path in control.sockets() if (status := _alive(path)) is not None]
    if as_json:
        click.echo(json.dumps(mounts[0] if mountpoint is not None else mounts, indent=2))
        return
    if not mounts:
        click.echo("no mounts")
    for status in mounts:
        click.echo(_text(status))


def _one(mountpoint: Path) -> dict[str, Any]:
    path = control.socket_path(absolute_mountpoint(mountpoint))
    if not path.exists():
        raise MountError(f"no mount of yours is served at {mountpoint}")
    status: dict[str, Any] = control.ask(path, "status")
    return status


def _alive(path: Path) -> dict[str, Any] | None:
    try:
        status: dict[str, Any] = control.ask(path, "status", timeout_s=2.0)
    except MountError:
        return None
    return status


def _large(mover: Mapping[str, Any] | None) -> str:
    """What the process for large files does."""
    if mover is None or not mover["started"]:
        return "  large     no large file was read or sent"
    process = "no process" if mover["pid"] is None else f"process {mover['pid']}"
    restarts = f", started {mover['started']} times" if mover["started"] > 1 else ""
    read, sent = words.size(mover["bytes_moved"]), words.size(mover["bytes_sent"])
    streams = f"{mover['streams']} streams by {process}{restarts}"
    return f"  large     {read} read, {sent} sent in {streams}"


def _text(status: Mapping[str, Any]) -> str:
    content = status["content"]
    requests = status["transport"]
    bulk = status["bulk"]
    lines = [
        f"{status['mountpoint']}  {status['url']} as {status['user']}, mode {status['mode']}",
        (
            f"  cache     {words.size(content['used_bytes'])} of "
            f"{words.size(content['max_bytes'])} in {content['files']} files"
        ),
        (
            f"  requests  {requests['requests']}, {words.size(requests['bytes_in'])} in, "
            f"{words.size(requests['bytes_out'])} out"
        ),
        _large(requests["mover"]),
        f"  zips      {bulk['zips']}, {bulk['files']} files of {words.size(bulk['bytes'])} at once",
        f"  waiting   {len(status['recall']['units'])} units being restored",
        f"  unsent    {len(status['pending'])} files",
    ]
    return "\n".join(lines)
