"""``icatfs stage --list`` and ``--cancel``: on the list itself, with a mount and without."""

from __future__ import annotations

import json
import time
from collections import Counter
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from icatfs import config as cfg
from icatfs import control
from icatfs.cli import places, words
from icatfs.cli.awaiting import Watched, as_json
from icatfs.errors import MountError
from icatfs.recall.book import Book, books
from icatfs.recall.orders import PENDING, State

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from icatfs.recall.orders import Ordered

_SHOWN = 50
"""So many units of a list are named."""
_ORDER = {State.RESTORING: 0, State.ASKED: 1, State.FAILED: 2}


@dataclass(frozen=True, slots=True)
class Part:
    """A list, or what is on it at one path; ``seen`` tells how a mount shows it."""

    book: Path
    at: str | None = None
    seen: Watched | None = None

    def units(self) -> Iterator[Ordered]:
        """The units, their paths as they are seen."""
        with closing(Book(self.book)) as book:
            for unit in book.at(self.at):
                yield unit if self.seen is None else self.seen.seen(unit)


def show(paths: Sequence[str], *, state_dir: str | None, in_json: bool) -> None:
    """Print what is on the lists, or what of it is at these paths."""
    parts = list(_parts(paths, state_dir))
    if in_json:
        rows = [as_json(unit) for part in parts for unit in part.units()]
        click.echo(json.dumps(rows, indent=2))
        return
    if not sum([_print(part) for part in parts]):
        click.echo("nothing was asked for")


def cancel(paths: Sequence[str], *, state_dir: str | None, in_json: bool) -> None:
    """Take what is at these paths, or everything, off the lists."""
    count = 0
    for part in _parts(paths, state_dir):
        with closing(Book(part.book)) as book:
            count += book.cancel(part.at)
    if in_json:
        click.echo(json.dumps({"cancelled": count}))
        return
    click.echo(
        f"{words.number(count, 'unit')} cancelled"
        + (": what the facility has begun it brings back nevertheless" if count else "")
    )


def _parts(paths: Sequence[str], state_dir: str | None) -> Iterator[Part]:
    if not paths:
        yield from (Part(path) for path in _books(state_dir))
    for path in paths:
        place = places.find(path)
        where = control.ask(place.socket, "orders")
        book, top = Path(where["book"]), where["top"]
        yield Part(book, f"{top}{place.inside}".rstrip("/"), Watched(place, book, top, ()))


def _books(state_dir: str | None) -> list[Path]:
    """All lists of this user: where they are by default, and those of all that is mounted."""
    own = cfg.own_settings({})
    folder = Path(state_dir or own.get("state_dir") or cfg.default_state_dir()).expanduser()
    found = dict.fromkeys(books(folder.absolute()))
    if state_dir is None:
        for socket in control.sockets():
            with suppress(MountError):
                found[Path(control.ask(socket, "orders", timeout_s=2.0)["book"])] = None
    return list(found)


def _print(part: Part) -> int:
    """Print one list; how many units are on it."""
    with closing(Book(part.book)) as book:
        home = book.home()
    counts: Counter[State] = Counter()
    named: list[Ordered] = []
    for unit in part.units():
        counts[unit.state] += 1
        if unit.state in _ORDER and len(named) < _SHOWN:
            named.append(unit)
    total = counts.total()
    if not total:
        return 0
    if home is not None and part.at is None:
        click.echo(f"{home.server} as {home.user}")
    pending = sum(counts[state] for state in PENDING)
    ended = [f"{counts[one]:,} {one}" for one in State if counts[one] and one not in PENDING]
    parts = [f"{pending:,} on the way"] * bool(pending) + ended
    click.echo(f"  {words.number(total, 'unit')}: {', '.join(parts)}")
    now = time.time()
    for unit in sorted(named, key=lambda one: _ORDER[one.state]):
        click.echo(f"  {_line(unit, now)}")
    left = pending + counts[State.FAILED] - len(named)
    if left > 0:
        click.echo(f"  and {left:,} more (--json lists all)")
    return total


def _line(unit: Ordered, now: float) -> str:
    size = "" if unit.bytes is None else words.size(unit.bytes)
    why = f": {unit.words}" if unit.words else ""
    since = words.duration(now - unit.asked_s)
    return f"{unit.state:9}  {size:>10}  asked {since} ago  {unit.path}{why}"
