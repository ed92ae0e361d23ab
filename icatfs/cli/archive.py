"""``icatfs archive``: have the facility take data off its disk."""

from __future__ import annotations

import click

from icatfs import control
from icatfs.cli import places, wanted
from icatfs.errors import MountError

_ARCHIVE_S = 600.0

_EPILOG = """
The data stay in the archive and in the catalogue; nothing is deleted. But nobody, at the facility
or elsewhere, can read them until they are restored, which takes as long as the tape does: this is
for data that you know nobody needs for long. Only mounts with --mode rw do it.
"""


@click.command(epilog=_EPILOG)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def command(paths: tuple[str, ...], yes: bool) -> None:
    """Ask the facility to take the data at PATH off its disk; they stay in the archive.

    Where whole datasets are archived, naming a file means its dataset.
    """
    for socket in dict.fromkeys(places.find(path).socket for path in paths):
        control.ask(socket, "archive", units=[])  # whether the mount may, before anybody is asked
    found = wanted.collect(paths, wide=yes)
    wanted.tell_missing(found)
    if found.missing or not found.units:
        raise MountError("nothing was archived")
    click.echo(
        "icatfs: this makes the data unavailable to everybody until they are restored", err=True
    )
    wanted.agree(f"take {found.text} off the facility's disk", yes=yes, needed=True)
    for share in found.shares.values():
        for units in share.batches():
            control.ask(share.place.socket, "archive", timeout_s=_ARCHIVE_S, units=units)
    click.echo(f"the facility was asked to archive {found.text}; it does so when it can")
