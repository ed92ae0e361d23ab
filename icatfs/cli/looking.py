"""What ``ls``, ``find``, ``du`` and ``stage`` share: what a mount finds, and how it looks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

from icatfs import control
from icatfs.values import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from icatfs.cli.places import Place

C = TypeVar("C", bound="Callable[..., Any]")

ONLINE = "ONLINE"
_COLOURS = {ONLINE: "green", "RESTORING": "cyan", "ARCHIVED": "yellow", "FAILED": "red"}
_WIDTH = 9


class Entry(msgspec.Struct, frozen=True):
    """One thing that a mount found: see `icatfs.fs.recalls.Entry`."""

    path: str
    kind: Kind
    dataset: int | None
    datafile: int | None
    files: int | None
    bytes: int | None
    mtime_s: float
    status: str | None


class Found:
    """The entries of one path as they come; afterwards, how the server restores."""

    def __init__(self, place: Place, detail: str, **options: bool) -> None:
        self.place = place
        self.by_dataset: bool | None = None
        self._request = {"path": place.inside, "detail": detail, **options}

    def __iter__(self) -> Generator[Entry, None, None]:
        result = yield from _entries(self.place, self._request)
        self.by_dataset = result["by_dataset"]


def _entries(place: Place, request: dict[str, Any]) -> Generator[Entry, None, Any]:
    parts = control.listen(place.socket, "survey", **request)
    while True:
        try:
            part = next(parts)
        except StopIteration as end:
            return end.value
        yield from msgspec.convert(part, list[Entry])


def shown(place: Place, path: str) -> str:
    """A path in the mount as the user would write it who wrote the place."""
    inside = place.inside.rstrip("/")
    if path == place.inside:
        return place.given
    if path.startswith(f"{inside}/"):
        return place.given.rstrip("/") + path[len(inside) :]
    return f"{place.mountpoint}{path}"


def state(status: str | None) -> str:
    """A status as a column: nine characters, with its colour on a terminal."""
    text = (status or "?").ljust(_WIDTH)
    colour = _COLOURS.get(status or "")
    return click.style(text, fg=colour) if colour else text


def is_wanted(status: str | None, *, online: bool, offline: bool) -> bool:
    """Whether the options ask for entries of this status; what is not known is neither."""
    if online == offline:
        return True
    return status is not None and (status == ONLINE) == online


def as_json(place: Place, entry: Entry) -> dict[str, Any]:
    """An entry for ``--json``."""
    fields: dict[str, Any] = msgspec.to_builtins(entry)
    return {**fields, "path": shown(place, entry.path)}


def where_options(command: C) -> C:
    """``--online``, ``--offline`` and ``--each``."""
    for option in (
        click.option(
            "--each",
            is_flag=True,
            help="Ask for each file, where files are restored one by one: a request a file.",
        ),
        click.option("--offline", is_flag=True, help="Only what is not on the facility's disk."),
        click.option("--online", is_flag=True, help="Only what can be read at once."),
    ):
        command = option(command)
    return command


def remark(found: Found, *, unknown: int, assumed: int) -> None:
    """Say on stderr what could not be told of files.

    ``unknown``: files without a status; ``assumed``: files with that of their dataset.
    """
    if unknown and found.by_dataset is False:
        click.echo(
            f"icatfs: not everything in there is online, and each file is restored alone here:"
            f" --each asks for the {unknown:,} shown as ?",
            err=True,
        )
    elif assumed and found.by_dataset is None:
        click.echo(
            "icatfs: this is told of whole datasets; this server has not shown yet whether it"
            " restores files one by one (--each asks for each)",
            err=True,
        )
