"""``icatfs complete``: say that nothing more comes into a dataset."""

from __future__ import annotations

import sys

import click

from icatfs import control
from icatfs.cli import places
from icatfs.errors import ConfigError

_WAIT_S = 600.0
"""Changing a Dataset walks all its datafiles at the server."""


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("-y", "--yes", is_flag=True, help="Do not ask before.")
def command(paths: tuple[str, ...], yes: bool) -> None:
    """Mark the dataset at PATH as complete.

    Many facilities then take no new files into it, and let nobody rename or remove any, you
    included; only the facility can undo that. A mount never does this by itself.
    """
    for given in paths:
        place = places.find(given)
        if _ask_mount(place, do=False):
            click.echo(f"{given} is complete already")
            continue
        if not yes and not _asked(f"mark {given} as complete? This cannot be undone by you"):
            continue
        _ask_mount(place, do=True)
        click.echo(f"{given} is complete now")


def _ask_mount(place: places.Place, *, do: bool) -> bool:
    """Whether it was complete already; without ``do`` only whether it could be done."""
    answer = control.ask(place.socket, "complete", timeout_s=_WAIT_S, path=place.inside, do=do)
    return bool(answer["already"])


def _asked(question: str) -> bool:
    if not sys.stdin.isatty():
        raise ConfigError("nobody can be asked here: say --yes if you mean it")
    return click.confirm(question, default=False, err=True)
