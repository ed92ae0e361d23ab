"""Which kind nests under which, and what can be made where: the shape of the tree as one table.

::

    /<facility>/<investigation>/<visit>/<dataset>/<folder ...>/<datafile>
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from icatfs.values import Kind


@dataclass(frozen=True, slots=True)
class Level:
    """What a kind of folder holds: its ``children``, and what a new file or folder in it becomes
    (None: nothing can be made there)."""

    children: frozenset[Kind]
    new_file: Kind | None = None
    new_folder: Kind | None = None


_CONTENT = frozenset({Kind.FOLDER, Kind.DATAFILE})

LAYOUT = MappingProxyType(
    {
        Kind.ROOT: Level(frozenset({Kind.FACILITY})),
        Kind.FACILITY: Level(frozenset({Kind.INVESTIGATION})),
        Kind.INVESTIGATION: Level(frozenset({Kind.VISIT})),
        Kind.VISIT: Level(frozenset({Kind.DATASET}), new_folder=Kind.DATASET),
        Kind.DATASET: Level(_CONTENT, new_file=Kind.DATAFILE, new_folder=Kind.FOLDER),
        Kind.FOLDER: Level(_CONTENT, new_file=Kind.DATAFILE, new_folder=Kind.FOLDER),
        Kind.DATAFILE: Level(frozenset()),
    }
)


def accepts_files(kind: Kind) -> bool:
    """Whether a file can be made in a folder of this kind."""
    return LAYOUT[kind].new_file is not None


def accepts_folders(kind: Kind) -> bool:
    """Whether a folder can be made in a folder of this kind."""
    return LAYOUT[kind].new_folder is not None
