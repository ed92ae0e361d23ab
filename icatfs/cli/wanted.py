"""What ``stage`` and ``archive`` act on: from paths to storage units, counted and agreed to."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from icatfs import control
from icatfs.cli import places, words
from icatfs.cli.looking import Entry
from icatfs.cli.places import Place
from icatfs.config import parse_size
from icatfs.errors import ConfigError, MountError
from icatfs.fuse import mountpoint as mountpoints

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


MOST_UNITS = 100
MOST_BYTES = parse_size("1T")
"""More than this is asked about first."""

_AT_ONCE = 300
"""Units, or paths, in one request to a mount."""
_PATHS_BYTES = 1 << 18


@dataclass
class Share:
    """What is wanted of one mount."""

    place: Place
    """One of the places in it."""
    units: list[Entry] = field(default_factory=list)

    def batches(self) -> Iterator[list[dict[str, Any]]]:
        """The units as the mount takes them."""
        for start in range(0, len(self.units), _AT_ONCE):
            yield [
                {
                    "dataset": unit.dataset,
                    "datafile": unit.datafile,
                    "path": unit.path,
                    "files": unit.files,
                    "bytes": unit.bytes,
                }
                for unit in self.units[start : start + _AT_ONCE]
            ]


@dataclass
class Wanted:
    """All that is wanted, by mount; and the paths that stand for nothing, with the reason."""

    shares: dict[Path, Share] = field(default_factory=dict)
    missing: list[tuple[str, str]] = field(default_factory=list)

    @property
    def units(self) -> int:
        return sum(len(share.units) for share in self.shares.values())

    @property
    def bytes(self) -> int:
        return sum(unit.bytes or 0 for share in self.shares.values() for unit in share.units)

    @property
    def text(self) -> str:
        """``3 datasets, 1.2 TiB``."""
        units = [unit for share in self.shares.values() for unit in share.units]
        datasets = sum(unit.datafile is None for unit in units)
        parts = [words.number(datasets, "dataset")] if datasets else []
        if len(units) > datasets:
            parts.append(words.number(len(units) - datasets, "file"))
        return f"{' and '.join(parts) or 'nothing'}, {words.size(self.bytes)}"


def collect(paths: Iterable[str], *, wide: bool) -> Wanted:
    """Find out what to restore to have all that is at these paths; restores nothing.

    Raises `MountError` for a mount that does not answer, and for a whole facility unless ``wide``.
    """
    wanted = Wanted()
    mounted = list(mountpoints.mounts())
    found: dict[Path, list[Place]] = {}
    for path in dict.fromkeys(paths):
        try:
            place = places.find(path, mounted)
        except MountError as error:
            wanted.missing.append((path, str(error)))
        else:
            found.setdefault(place.socket, []).append(place)
    for socket, there in found.items():
        wanted.shares[socket] = share = Share(there[0])
        known: set[tuple[int | None, int | None]] = set()
        for batch in _batches(there):
            given = {place.inside: place.given for place in batch}
            for part in control.listen(socket, "wanted", paths=list(given), wide=wide):
                if "error" in part:
                    wanted.missing.append((given[part["path"]], part["error"]))
                    continue
                for unit in msgspec.convert(part["entries"], list[Entry]):
                    key = unit.dataset, unit.datafile
                    if key not in known and (unit.dataset, None) not in known:
                        known.add(key)
                        share.units.append(unit)
        if not share.units:
            del wanted.shares[socket]
    return wanted


def _batches(there: Sequence[Place]) -> Iterator[list[Place]]:
    batch: list[Place] = []
    size = 0
    for place in there:
        length = len(place.inside) * 6  # as JSON escapes what is not ASCII
        if batch and (len(batch) == _AT_ONCE or size + length > _PATHS_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(place)
        size += length
    if batch:
        yield batch


def tell_missing(wanted: Wanted) -> None:
    """Say which paths stand for nothing."""
    for path, reason in wanted.missing:
        click.echo(f"icatfs: {path}: {reason}", err=True)


def agree(question: str, *, yes: bool, needed: bool) -> None:
    """Return when the user agrees, or need not be asked; `click.Abort`.

    ConfigError where nobody can be asked.
    """
    if yes or not needed:
        return
    if not sys.stdin.isatty():
        raise ConfigError(f"{question}? Nobody can be asked here: say --yes if you mean it")
    click.confirm(f"{question}?", default=False, abort=True, err=True)
