"""What the catalogue asks ICAT: each method is one question, and the session is the keeper's.

Raises what the client raises, but SessionLost. Names are compared byte for byte on our side: the
database may compare them without case, accents and trailing blanks (icat.server on MariaDB).
Versions of files that are on their way in or out are never told of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from icatfs.catalogue import naming
from icatfs.icat import query as q
from icatfs.icat.hidden import is_hidden
from icatfs.icat.records import DatafileRow, Row
from icatfs.values import DatafileId, DatasetId, FacilityId, InvestigationId

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from icatfs.icat.client import IcatClient
    from icatfs.icat.contents import Contents
    from icatfs.icat.records import (
        DatafileFacts,
        DatasetFacts,
        DatasetRow,
        FacilityRow,
        InvestigationFacts,
        InvestigationRow,
        Mark,
    )
    from icatfs.icat.session import SessionKeeper

R = TypeVar("R", bound=Row)

_NEAR = 20
"""Rows to look at for one path: spellings, files below it, names equal for the database only."""


@dataclass(frozen=True, slots=True)
class FirstRows:
    """The rows of lowest id of a folder or of a search in it; ``is_all`` if there are no more."""

    rows: Sequence[DatafileRow]
    is_all: bool


class Questions:
    """Asks one ICAT in the name of one user; ``asked`` counts."""

    def __init__(self, icat: IcatClient, keeper: SessionKeeper) -> None:
        # given
        self._icat = icat
        self._keeper = keeper
        # mutable
        self.asked = 0

    async def facilities(self) -> list[FacilityRow]:
        self.asked += 1
        return await self._keeper.run(self._icat.facilities)

    async def visits(self, facility: FacilityId, name: str) -> list[InvestigationRow]:
        """All visits of one investigation name."""
        self.asked += 1
        return await self._keeper.run(self._icat.investigations_named, facility, name)

    async def visit_home(self, investigation: InvestigationId) -> tuple[FacilityId, str] | None:
        """The facility of a visit and its investigation name; two queries."""
        self.asked += 1
        row = await self._keeper.run(self._icat.investigation, investigation)
        facility = await self._above("Investigation", investigation, "facility")
        if row is None or facility is None:
            return None
        return FacilityId(facility), row.name

    async def dataset_named(self, investigation: InvestigationId, name: str) -> DatasetRow | None:
        self.asked += 1
        return await self._keeper.run(self._icat.dataset_named, investigation, name)

    async def dataset(self, dataset: DatasetId) -> DatasetRow | None:
        self.asked += 1
        return await self._keeper.run(self._icat.dataset, dataset)

    async def dataset_home(self, dataset: DatasetId) -> InvestigationId | None:
        """The visit of a dataset."""
        found = await self._above("Dataset", dataset, "investigation")
        return None if found is None else InvestigationId(found)

    async def page_size(self) -> int:
        """Rows in one answer at most."""
        return await self._icat.page_size()

    async def pages(
        self,
        contents: Contents[R],
        take: Callable[[Sequence[R], bool], Awaitable[None]],
        *,
        after: int | None = None,
    ) -> None:
        """All rows, or those of higher ids, in ascending order of id.

        ``take`` gets one page after the other, and whether that was the last. One query for each
        page, and one more where there are several.
        """
        self.asked += 1
        walk = await self._icat.walk(after)
        while walk.window is not None:
            page = await self._keeper.run(
                self._icat.next_page, contents.row_type, contents.condition, walk
            )
            if page or walk.window is None:
                shown = [row for row in page if contents.is_shown(row)]
                await take(shown, walk.window is None)

    async def mark(self, contents: Contents[R], upto: int | None = None) -> Mark:
        """What tells whether the entities, or those of ids up to ``upto``, have changed."""
        self.asked += 1
        return await self._keeper.run(self._icat.mark, contents, upto)

    async def changed(self, contents: Contents[R], since: datetime) -> list[R] | None:
        """The entities changed since then, hidden ones too; None for very many."""
        self.asked += 1
        return await self._keeper.run(self._icat.changed_since, contents, since)

    async def first_datafiles(self, dataset: DatasetId) -> FirstRows:
        """One page; for most datasets that is all."""
        return await self._some_datafiles(f"x.dataset.id = {dataset}", await self.page_size())

    async def near(self, dataset: DatasetId, parts: tuple[str, ...]) -> FirstRows:
        """The first datafiles that a path may stand for: itself, however spelled with regular
        slashes, and what lies below it. ``parts`` are components as they are in ICAT."""
        path = "/".join(parts)
        spellings = [path, f"/{path}", f"{path}/", f"/{path}/", f"//{path}"]
        possible = [spelling for spelling in spellings if q.can_exist(spelling)]
        if not possible:
            return FirstRows((), is_all=True)
        exact = ", ".join(q.quoted(spelling) for spelling in possible)
        below = [q.begins_with("x.name", f"{prefix}{path}/") for prefix in ("", "/")]
        condition = " OR ".join([f"x.name IN ({exact})", *below])
        found = await self._some_datafiles(f"x.dataset.id = {dataset} AND ({condition})", _NEAR)
        rows = [row for row in found.rows if naming.path_parts(row.name)[: len(parts)] == parts]
        return FirstRows(rows, found.is_all)

    async def datafile(self, datafile: DatafileId) -> DatafileRow | None:
        self.asked += 1
        row = await self._keeper.run(self._icat.datafile, datafile)
        return None if row is None or is_hidden(row.name) else row

    async def datafile_home(self, datafile: DatafileId) -> DatasetId | None:
        """The dataset of a datafile."""
        found = await self._above("Datafile", datafile, "dataset")
        return None if found is None else DatasetId(found)

    async def datafile_facts(self, datafile: DatafileId) -> DatafileFacts | None:
        self.asked += 1
        return await self._keeper.run(self._icat.datafile_facts, datafile)

    async def dataset_facts(self, dataset: DatasetId) -> DatasetFacts | None:
        self.asked += 1
        return await self._keeper.run(self._icat.dataset_facts, dataset)

    async def investigation_facts(
        self, investigation: InvestigationId
    ) -> InvestigationFacts | None:
        self.asked += 1
        return await self._keeper.run(self._icat.investigation_facts, investigation)

    async def _some_datafiles(self, condition: str, count: int) -> FirstRows:
        self.asked += 1
        text = q.select(DatafileRow, condition, count)
        rows = await self._keeper.run(self._icat.search, text, DatafileRow)
        return FirstRows(_shown(rows), is_all=len(rows) < count)

    async def _above(self, entity: str, entity_id: int, relation: str) -> int | None:
        """The id of what an entity belongs to.

        A query of its own: asked together with the entity's attributes it would hide the entity
        from users who may not read what it belongs to (icat.server 6.2.1, search).
        """
        self.asked += 1
        text = f"SELECT x.{relation}.id FROM {entity} x WHERE x.id = {entity_id}"
        values = await self._keeper.run(self._icat.values, text)
        return int(values[0]) if values else None


def _shown(rows: list[DatafileRow]) -> list[DatafileRow]:
    return [row for row in rows if not is_hidden(row.name)]
