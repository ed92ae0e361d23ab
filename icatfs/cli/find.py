"""``icatfs find``: the datasets or files below a folder, by where their data are."""

from __future__ import annotations

import json

import click

from icatfs.cli import places
from icatfs.cli.looking import (
    ONLINE,
    Found,
    as_json,
    is_wanted,
    remark,
    shown,
    where_options,
)
from icatfs.values import Kind

_EPILOG = """
Example: bring back what is missing of a visit:

icatfs find --offline ESNF/12100409-ST/1.1-P | icatfs stage --from-file - --wait
"""


@click.command(epilog=_EPILOG)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@where_options
@click.option("--files", is_flag=True, help="Print files, not datasets.")
@click.option("-0", "--print0", "zero", is_flag=True, help="End paths with NUL (for xargs -0).")
@click.option("--json", "json_", is_flag=True, help="One JSON array.")
def command(
    paths: tuple[str, ...],
    online: bool,
    offline: bool,
    each: bool,
    files: bool,
    zero: bool,
    json_: bool,
) -> None:
    """Print the datasets below PATH, those --online or --offline if asked for.

    Below a folder inside a dataset, its files. Costs one question for each dataset at most, and
    restores nothing.
    """
    collected = []
    statuses = online or offline or json_
    for given in paths:
        place = places.find(given)
        detail = "files" if files else "datasets"
        found = Found(place, detail, sizes=json_, statuses=statuses, each=each)
        unknown = assumed = 0
        for entry in found:
            if statuses and entry.kind is Kind.DATAFILE:
                unknown += entry.status is None
                assumed += entry.status not in (None, ONLINE)
            if not is_wanted(entry.status, online=online, offline=offline):
                continue
            if json_:
                collected.append(as_json(place, entry))
            else:
                click.echo(shown(place, entry.path) + ("\0" if zero else "\n"), nl=False)
        if not each:
            remark(found, unknown=unknown, assumed=assumed if unknown + assumed > 1 else 0)
    if json_:
        click.echo(json.dumps(collected, indent=2))
