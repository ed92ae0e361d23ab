"""How each kind of folder is asked for: as a whole, and one name in it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from icatfs.catalogue import listing, naming
from icatfs.catalogue.dataset import DatasetSnapshot
from icatfs.catalogue.node import (
    NodeKey,
    datafile_node,
    dataset_node,
    folder_node,
    inside_key,
    investigation_node,
)
from icatfs.icat import query as q
from icatfs.icat.contents import datafiles_of, datasets_of, investigations_of
from icatfs.values import DatasetId, FacilityId, InvestigationId, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from icatfs.catalogue.node import Node
    from icatfs.catalogue.questions import FirstRows, Questions
    from icatfs.catalogue.shelf import Snapshot
    from icatfs.icat.contents import Contents
    from icatfs.icat.records import DatasetRow, InvestigationRow

ALWAYS_LISTED = frozenset({Kind.ROOT, Kind.INVESTIGATION})
"""Folders that are small, or that one query tells all about anyway."""


async def all_rows(questions: Questions, key: NodeKey) -> Sequence[Any]:
    """The rows of a whole folder of a kind that is `ALWAYS_LISTED`."""
    if key.kind is Kind.ROOT:
        return await questions.facilities()
    assert key.kind is Kind.INVESTIGATION
    return await questions.visits(FacilityId(key.id), key.name)


def contents(key: NodeKey) -> Contents[Any]:
    """What a folder of any other kind is a listing of: see `icatfs.catalogue.relisting`."""
    match key.kind:
        case Kind.FACILITY:
            return investigations_of(FacilityId(key.id))
        case Kind.VISIT:
            return datasets_of(InvestigationId(key.id))
        case Kind.DATASET:
            return datafiles_of(DatasetId(key.id))
        case _:
            raise AssertionError(key)


def maker(key: NodeKey, dataset: DatasetRow | None) -> Callable[[Sequence[Any]], Snapshot]:
    """What makes a snapshot of the rows of a folder; a DATASET needs its own row for that."""
    match key.kind:
        case Kind.ROOT:
            return listing.facilities_snapshot
        case Kind.FACILITY:
            return partial(listing.FacilitySnapshot, FacilityId(key.id))
        case Kind.INVESTIGATION:
            return partial(listing.visits_snapshot, key)
        case Kind.VISIT:
            return partial(listing.visit_snapshot, key)
        case Kind.DATASET:
            assert dataset is not None
            return partial(DatasetSnapshot, dataset)
        case Kind.FOLDER | Kind.DATAFILE:
            raise AssertionError(key)


def is_askable(path: str, *, facility: bool) -> bool | None:
    """Whether a path can be asked for by name: each component is the plain name of something.

    None: such a path does not exist. False: only the listing can tell, because the path names
    something by its id, or has characters that cannot be compared on the usual database.
    """
    answer = True
    for component in path.split("/"):
        parsed = naming.entity_name(component)
        if parsed.entity_id is not None or (
            not q.can_exist(parsed.name) and naming.fits(component)
        ):
            answer = False
        elif not naming.is_canonical(component, facility=facility):
            return None
    return answer


async def dataset_named(questions: Questions, visit: NodeKey, name: str) -> Node | None:
    """The dataset of this shown name."""
    wanted = naming.entity_name(name).name
    row = await questions.dataset_named(InvestigationId(visit.id), wanted)
    return None if row is None else dataset_node(visit, name, row)


def investigation_of(
    key: NodeKey, name: str | None, rows: Sequence[InvestigationRow]
) -> Node | None:
    """The folder of one investigation name; ``name`` is the shown one if it is known."""
    if not rows:
        return None
    if name is None:
        name = naming.shown(key.name, min(row.id for row in rows))
    return investigation_node(FacilityId(key.id), name, rows)


async def nearest(questions: Questions, dataset: DatasetId, path: str) -> FirstRows:
    """The first datafiles that a path in a dataset may stand for."""
    parts = tuple(naming.entity_name(component).name for component in path.split("/"))
    return await questions.near(dataset, parts)


def settled(dataset: DatasetRow, path: str, found: FirstRows) -> Node | None:
    """What a path stands for; a folder hides no file, but takes the plain name from it.

    Raises LookupError if the rows do not tell.
    """
    depth = path.count("/") + 1
    if any(len(naming.path_parts(row.name)) > depth for row in found.rows):
        return folder_node(dataset, path)
    if not found.is_all:
        raise LookupError(path)
    if not found.rows:
        return None
    above, _, name = path.rpartition("/")
    lowest = min(found.rows, key=lambda row: row.id)
    return datafile_node(inside_key(dataset.id, above), name, lowest)
