"""``icatfs du``: how much of a folder is on the facility's disk, and how much on tape."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import click

from icatfs.cli import places, words
from icatfs.cli.looking import ONLINE, Entry, Found, shown, where_options


@dataclass(slots=True)
class Sum:
    """Bytes by where they are; ``files`` counts all."""

    online: int = 0
    offline: int = 0
    unknown: int = 0
    files: int = 0

    def add(self, entry: Entry) -> None:
        """One dataset or file more."""
        self.files += entry.files or 0
        if entry.status is None:
            self.unknown += entry.bytes or 0
        elif entry.status == ONLINE:
            self.online += entry.bytes or 0
        else:
            self.offline += entry.bytes or 0

    def as_json(self, path: str) -> dict[str, Any]:
        """For ``--json``."""
        sums = {"online": self.online, "offline": self.offline, "unknown": self.unknown}
        return {"path": path, **sums, "files": self.files}


@click.command()
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@where_options
@click.option("-s", "--summarize", is_flag=True, help="Only a total for each PATH.")
@click.option("--json", "json_", is_flag=True, help="One JSON array, sizes in bytes.")
def command(
    paths: tuple[str, ...],
    online: bool,
    offline: bool,
    each: bool,
    summarize: bool,
    json_: bool,
) -> None:
    """Sum up what is in PATH, or here: on the facility's disk (online), and not (offline).

    One line for each entry of PATH, and a total. Costs one question for each dataset at most, and
    restores nothing.
    """
    columns = [
        column
        for column, wanted in (("online", online), ("offline", offline))
        if wanted or online == offline
    ]
    collected = []
    for number, given in enumerate(paths or (".",)):
        place = places.find(given)
        found = Found(place, "files" if each else "datasets", statuses=True, each=each)
        sums, total = _sums(found)
        if json_:
            collected += [sums[name].as_json(name) for name in sums if not summarize]
            collected.append(total.as_json(given))
            continue
        if number == 0:
            click.echo("".join(f"{column:>11}" for column in columns))
        for name in () if summarize else sums:
            click.echo(_line(sums[name], columns, name))
        click.echo(_line(total, columns, given if summarize else f"total of {given}"))
        _remark(found, total)
    if json_:
        click.echo(json.dumps(collected, indent=2))


def _sums(found: Found) -> tuple[dict[str, Sum], Sum]:
    """By the entries of the folder, and all in all."""
    sums: dict[str, Sum] = {}
    total = Sum()
    depth = len(found.place.inside.rstrip("/")) + 1
    for entry in found:
        total.add(entry)
        name = entry.path[depth:].partition("/")[0]
        if name:
            path = shown(found.place, f"{entry.path[:depth]}{name}")
            sums.setdefault(path, Sum()).add(entry)
    return sums, total


def _line(sums: Sum, columns: list[str], name: str) -> str:
    return "".join(f"{words.size(getattr(sums, column)):>11}" for column in columns) + f"  {name}"


def _remark(found: Found, total: Sum) -> None:
    if total.unknown:
        click.echo(
            f"icatfs: of {words.size(total.unknown)} the facility does not say where they are",
            err=True,
        )
    if found.by_dataset is False and total.offline:
        click.echo(
            "icatfs: files are restored one by one here; a dataset that is not wholly online"
            " counts as offline (--each asks for each file)",
            err=True,
        )
