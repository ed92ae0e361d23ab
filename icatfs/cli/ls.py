"""``icatfs ls``: what is in a folder, and where the data are."""

from __future__ import annotations

import json
from datetime import datetime

import click

from icatfs.cli import places, words
from icatfs.cli.looking import (
    ONLINE,
    Entry,
    Found,
    as_json,
    is_wanted,
    remark,
    shown,
    state,
    where_options,
)
from icatfs.values import Kind

_HAS_DATA = frozenset({Kind.DATASET, Kind.FOLDER, Kind.DATAFILE})

_EPILOG = """
ONLINE: on the facility's disk, can be read at once. ARCHIVED: on tape only; reading it takes as
long as the tape does. RESTORING: on its way back. FAILED: the facility could not bring it back.
A dataset is as its slowest file. Nothing is restored by looking.
"""


@click.command(epilog=_EPILOG)
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option("-l", "long", is_flag=True, help="Also number of files, size and date.")
@where_options
@click.option("--json", "json_", is_flag=True, help="One JSON array.")
def command(
    paths: tuple[str, ...], long: bool, online: bool, offline: bool, each: bool, json_: bool
) -> None:
    """List what is in PATH, or here, and where its data are.

    PATH is a folder or file in a mount. Like ls, but each dataset and file comes with its place:
    on the facility's disk, or on tape. Costs one question for each dataset at most.
    """
    collected = []
    for number, given in enumerate(paths or (".",)):
        place = places.find(given)
        found = Found(place, "entries", sizes=long or json_, statuses=True, each=each)
        if len(paths) > 1 and not json_:
            click.echo(f"{'' if number == 0 else chr(10)}{given}:")
        unknown = assumed = 0
        for entry in found:
            if (online or offline) and entry.kind not in _HAS_DATA:
                continue
            is_file = entry.kind is Kind.DATAFILE
            unknown += is_file and entry.status is None
            assumed += is_file and entry.status not in (None, ONLINE)
            if not is_wanted(entry.status, online=online, offline=offline):
                continue
            if json_:
                collected.append(as_json(place, entry))
            else:
                is_itself = entry.path == place.inside
                name = shown(place, entry.path) if is_itself else entry.path.rpartition("/")[2]
                click.echo(_line(entry, name, long=long))
        if not each:
            remark(found, unknown=unknown, assumed=assumed if unknown + assumed > 1 else 0)
    if json_:
        click.echo(json.dumps(collected, indent=2))


def _line(entry: Entry, name: str, *, long: bool) -> str:
    where = state(entry.status) if entry.kind in _HAS_DATA else " " * 9
    if not long:
        return f"{where}  {name}"
    files = "" if entry.files is None or entry.datafile else words.number(entry.files, "file")
    size = "" if entry.bytes is None else words.size(entry.bytes)
    date = datetime.fromtimestamp(entry.mtime_s).astimezone().strftime("%Y-%m-%d")
    return f"{where}  {files:>13}  {size:>10}  {date}  {name}"
