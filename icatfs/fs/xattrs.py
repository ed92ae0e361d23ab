"""``user.icat.*``: what the catalogue knows of an entry beyond ``stat``, read-only.

===================== ============================================================================
``kind``              facility, investigation, visit, dataset, folder, datafile
``id``                the id of the entity in ICAT; not for what stands for none, as folders
``dataset``           the id of the dataset that the entry is in
``investigation``     the id of the ICAT Investigation (one visit) that the entry is in
``title``             of a visit; the full name of a facility
``doi``               of a visit, a dataset or a datafile
``description``       of a dataset or a datafile, in words
``checksum``          of a datafile, as catalogued
``location``          where IDS stores the data
``status``            ONLINE, RESTORING, ARCHIVED or FAILED, of a datafile or a dataset: asked of
                      IDS, and kept for seconds only
``restore_requested`` when this mount asked for its restore, or first saw one, while it is under way
``eta``               when it should be back by what other restores took, while it is under way
``last_error``        why the last operation on this entry failed
===================== ============================================================================

Listing the names asks no server: ``cp -a`` and file managers do it with every file. So the DOI of a
datafile and descriptions, which listings of the catalogue leave out, and the status of a dataset
are not among the names but answer when asked.
Nothing here ever starts a restore.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from icatfs.icat.records import UNKNOWN, DatafileRow, DatasetRow, FacilityRow, InvestigationRow
from icatfs.values import DatafileId, DatasetId, Kind

if TYPE_CHECKING:
    from icatfs.catalogue.node import Node
    from icatfs.fs.inodes import Inode, InodeTable
    from icatfs.fs.ports import Catalogue, Recall
    from icatfs.fs.reports import Reports

PREFIX = "user.icat."
_ENTITIES = frozenset({Kind.FACILITY, Kind.VISIT, Kind.DATASET, Kind.DATAFILE})


def known_facts(node: Node) -> dict[str, str]:
    """What a node itself tells, by name without the prefix; empty values are left out."""
    facts: dict[str, str | None] = {"kind": node.key.kind.value}
    if node.key.kind in _ENTITIES and node.key.id > 0:
        facts["id"] = str(node.key.id)
    if node.dataset_id is not None:
        facts["dataset"] = str(node.dataset_id)
    match node.entity:
        case FacilityRow() as row:
            facts["title"] = row.full_name
        case InvestigationRow() as row:
            facts |= {"title": row.title, "doi": row.doi}
        case DatasetRow() as row if node.key.kind is Kind.DATASET:
            facts |= {"location": row.location, "doi": row.doi}
        case DatafileRow() as row:
            facts |= {"location": row.location, "checksum": row.checksum}
    return {name: fact for name, fact in facts.items() if fact}


class Xattrs:
    """The extended attributes of one mount's entries."""

    def __init__(
        self, inodes: InodeTable, catalogue: Catalogue, recall: Recall, reports: Reports
    ) -> None:
        self._inodes = inodes
        self._catalogue = catalogue
        self._recall = recall
        self._reports = reports

    def names(self, inode: Inode) -> list[str]:
        """The names to list, complete with prefix."""
        names = list(self._facts(inode))
        if _is_stored(inode.node):
            names.append("status")
        if _is_new(inode.node):
            names.append("location")
        return [PREFIX + name for name in names]

    async def value(self, inode: Inode, name: str) -> str | None:
        """The value of an attribute, None where the entry has none of this name."""
        if not name.startswith(PREFIX):
            return None
        name = name.removeprefix(PREFIX)
        if name == "status" and inode.node.key.kind is Kind.DATASET:
            return await self._recall.word_of(DatasetId(inode.node.key.id))
        if name == "description" and inode.node.key.kind is Kind.DATASET:
            dataset = await self._catalogue.dataset_facts(DatasetId(inode.node.key.id))
            return (dataset.description if dataset else None) or None
        if name in ("status", "doi", "description") and _is_stored(inode.node):
            return await self._asked(inode.node, name)
        if name == "location" and _is_new(inode.node):  # any other has it in its row
            return await self._asked(inode.node, name)
        return self._facts(inode).get(name)

    def _facts(self, inode: Inode) -> dict[str, str]:
        facts = known_facts(inode.node)
        visit = self._visit(inode)
        if visit is not None:
            facts["investigation"] = str(visit.key.id)
        facts |= self._restore(inode.node)
        error = self._reports.last(inode.number)
        if error is not None:
            facts["last_error"] = error
        return facts

    def _restore(self, node: Node) -> dict[str, str]:
        """What is known of a restore that is under way, to the second."""
        if node.dataset_id is None or node.key.kind is Kind.FOLDER or node.key.id < 0:
            return {}
        datafile = DatafileId(node.key.id) if node.key.kind is Kind.DATAFILE else None
        unit = self._recall.unit_of(node.dataset_id, datafile)
        facts = {}
        if unit is not None and unit.requested_s is not None:
            facts["restore_requested"] = _moment(-unit.requested_s)
        if unit is not None and unit.eta_s is not None:
            facts["eta"] = _moment(unit.eta_s)
        return facts

    async def _asked(self, node: Node, name: str) -> str | None:
        datafile = DatafileId(node.key.id)
        if name != "status":
            facts = await self._catalogue.datafile_facts(datafile)
            if facts is None:
                return None
            words = {"doi": facts.doi, "description": facts.description, "location": facts.location}
            return words[name] or None
        assert node.dataset_id is not None
        return await self._recall.word_of(node.dataset_id, datafile)

    def _visit(self, inode: Inode) -> Node | None:
        for ancestor in self._inodes.ancestors(inode):
            if ancestor.node.key.kind is Kind.VISIT:
                return ancestor.node
        return None


def _is_stored(node: Node) -> bool:
    """Whether IDS has data for this entry that can be online or not."""
    return node.key.kind is Kind.DATAFILE and node.key.id > 0


def _is_new(node: Node) -> bool:
    """Whether this mount has stored the file and the catalogue was not asked for it since."""
    row = node.entity
    return isinstance(row, DatafileRow) and row.modified == UNKNOWN


def _moment(from_now_s: float) -> str:
    """ISO 8601, UTC, to the second."""
    moment = datetime.now(UTC) + timedelta(seconds=from_now_s)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
