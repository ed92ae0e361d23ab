"""A catalogue over an ICAT in memory that counts its queries."""

from __future__ import annotations

import re
from collections import Counter
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast

import trio

from icatfs.catalogue.tree import Ttl, open_catalogue
from icatfs.icat.query import Walk, can_exist
from icatfs.icat.records import (
    DatafileFacts,
    DatafileRow,
    DatasetRow,
    FacilityRow,
    InvestigationRow,
    Mark,
    Properties,
    Row,
)
from icatfs.values import DatafileId, DatasetId, FacilityId, InvestigationId

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from icatfs.catalogue.tree import Catalogue
    from icatfs.icat.client import IcatClient
    from icatfs.icat.contents import Contents
    from icatfs.icat.session import SessionKeeper

RowT = TypeVar("RowT", InvestigationRow, DatasetRow, DatafileRow)

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
CREATED = datetime(2020, 1, 1, tzinfo=UTC)
_LITERAL = re.compile(r"'((?:[^']|'')*)'")


class FakeIcat:
    """The methods of IcatClient that the catalogue uses. ``queries`` counts those that ask."""

    def __init__(self) -> None:
        self.facility_rows: list[FacilityRow] = []
        self.investigation_rows: dict[int, list[InvestigationRow]] = {}
        self.dataset_rows: dict[int, list[DatasetRow]] = {}
        self.datafile_rows: dict[int, list[DatafileRow]] = {}
        self.max_entities = 10_000
        self.fold: Callable[[str], str] = str
        self.queries: Counter[str] = Counter()
        self.gate: trio.Event | None = None
        self._through = 0
        self.error: Exception | None = None

    @property
    def asked(self) -> int:
        return self.queries.total()

    async def _ask(self, what: str) -> None:
        self.queries[what] += 1
        await trio.lowlevel.checkpoint()

    def gate_after(self, answers: int) -> None:
        """Let so many answers through, and have the others wait for `open_gate`."""
        self._through, self.gate = answers, trio.Event()

    def open_gate(self) -> None:
        assert self.gate is not None
        self.gate.set()
        self.gate = None

    async def _answer(self) -> None:
        """The answer was made; it arrives when the gate is open."""
        if self._through:
            self._through -= 1
            return
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error

    # -- making things ----------------------------------------------------------------------------

    def facility(self, facility: int, name: str) -> FacilityRow:
        row = FacilityRow(FacilityId(facility), name, None, CREATED)
        self.facility_rows.append(row)
        self.investigation_rows.setdefault(facility, [])
        return row

    def visit(self, facility: int, visit: int, name: str, visit_id: str, **values: Any) -> None:
        dates = {"start": None, "end": None, "created": CREATED, "modified": CREATED, **values}
        row = InvestigationRow(
            InvestigationId(visit), name, visit_id, None, None, release=None, **dates
        )
        self.investigation_rows[facility].append(row)
        self.dataset_rows.setdefault(visit, [])

    def dataset_in(self, visit: int, dataset: int, name: str, **values: Any) -> DatasetRow:
        dates = {"start": None, "end": None, "created": CREATED, "modified": CREATED, **values}
        row = DatasetRow(DatasetId(dataset), name, False, location=None, doi=None, **dates)
        self.dataset_rows[visit].append(row)
        self.datafile_rows.setdefault(dataset, [])
        return row

    def datafile_in(self, dataset: int, datafile: int, name: str, **values: Any) -> DatafileRow:
        row = self.row(datafile, name, **values)
        self.datafile_rows[dataset].append(row)
        self.datafile_rows[dataset].sort(key=lambda other: other.id)
        return row

    def row(self, datafile: int, name: str, **values: Any) -> DatafileRow:
        facts = {
            "size": 10,
            "mod_time": None,
            "create_time": None,
            "created": CREATED,
            "modified": CREATED,
            "checksum": None,
            "location": None,
            **values,
        }
        return DatafileRow(DatafileId(datafile), name, **facts)

    def remove_datafile(self, dataset: int, datafile: int) -> None:
        rows = self.datafile_rows[dataset]
        self.datafile_rows[dataset] = [row for row in rows if row.id != datafile]

    # -- IcatClient -------------------------------------------------------------------------------

    async def properties(self) -> Properties:
        await trio.lowlevel.checkpoint()
        return Properties(self.max_entities, 120.0, ())

    async def facilities(self, session: str) -> list[FacilityRow]:
        return await self._rows("facilities", self.facility_rows)

    async def investigations_named(
        self, session: str, facility: int, name: str
    ) -> list[InvestigationRow]:
        if not can_exist(name):
            return []
        rows = [row for row in self.investigation_rows[facility] if row.name == name]
        return await self._rows("investigations_named", rows)

    async def investigation(self, session: str, visit: int) -> InvestigationRow | None:
        return await self._one(InvestigationRow, self.investigation_rows, visit)

    async def dataset_named(self, session: str, visit: int, name: str) -> DatasetRow | None:
        rows = [row for row in self.dataset_rows[visit] if row.name == name]
        found = await self._rows("dataset_named", rows)
        return found[0] if found else None

    async def dataset(self, session: str, dataset: int) -> DatasetRow | None:
        return await self._one(DatasetRow, self.dataset_rows, dataset)

    async def page_size(self) -> int:
        return (await self.properties()).max_entities

    async def walk(self, after: int | None = None) -> Walk:
        return Walk(await self.page_size(), after)

    async def next_page(
        self, session: str, row_type: type[Row], condition: str, walk: Walk
    ) -> list[Any]:
        """``datafiles``, ``datasets`` and ``investigations`` count listings, ``more`` the queries
        for all but their first page."""
        rows = self._belonging(row_type, int(condition.rpartition(" ")[2]))
        if walk.needs_last_id:
            await self._ask("more")
            await self._answer()
            walk.last_id(max((row.id for row in rows), default=None))
            return []
        window = walk.window
        assert window is not None
        after = -1 if window.after is None else window.after
        upto = 2**63 if window.upto is None else window.upto
        within = [row for row in rows if after < row.id <= upto]
        is_first = window.after is None
        what = f"{row_type.entity.lower()}s" if is_first else "more"
        page = (await self._rows(what, within))[: window.count]
        walk.brought(page[0].id if page else 0, page[-1].id if page else 0, len(page), 0.0)
        return page

    def _belonging(self, row_type: type, owner: int) -> list[Any]:
        tables: dict[type, dict[int, list[Any]]] = {
            InvestigationRow: cast("Any", self.investigation_rows),
            DatasetRow: cast("Any", self.dataset_rows),
            DatafileRow: cast("Any", self.datafile_rows),
        }
        return tables[row_type][owner]

    async def mark(self, session: str, contents: Contents[Any], upto: int | None = None) -> Mark:
        rows = await self._rows("mark", self._belonging(contents.row_type, contents.owner))
        rows = [row for row in rows if upto is None or row.id <= upto]
        return Mark(
            len(rows),
            max((row.id for row in rows), default=None),
            max((row.modified for row in rows), default=None),
            sum(row.addend for row in rows),
        )

    async def changed_since(
        self, session: str, contents: Contents[Any], since: datetime
    ) -> list[Any] | None:
        rows = self._belonging(contents.row_type, contents.owner)
        rows = [row for row in rows if row.modified >= since]
        rows = await self._rows("changed", rows)
        return rows if len(rows) < self.max_entities else None

    async def datafile(self, session: str, datafile: int) -> DatafileRow | None:
        return await self._one(DatafileRow, self.datafile_rows, datafile)

    async def datafile_facts(self, session: str, datafile: int) -> DatafileFacts | None:
        await self._ask("datafile_facts")
        return DatafileFacts(DatafileId(datafile), f"doi:{datafile}", None, None)

    async def search(self, session: str, query: str, row_type: type) -> list[Any]:
        """The two searches of `icatfs.catalogue.questions`, as far as they are understood."""
        assert row_type is DatafileRow
        match = re.search(r"x\.dataset\.id = (\d+).* LIMIT 0, (\d+)$", query)
        assert match is not None
        rows = self.datafile_rows[int(match[1])]
        if " IN (" in query:
            rows = [row for row in rows if self._near(row.name, query)]
        return (await self._rows("near" if " IN (" in query else "first", rows))[: int(match[2])]

    async def values(self, session: str, query: str) -> list[Any]:
        match = re.search(r"FROM (\w+) x WHERE x\.id = (\d+)$", query)
        assert match is not None
        parents: dict[str, dict[int, list[Any]]] = {
            "Investigation": cast("Any", self.investigation_rows),
            "Dataset": cast("Any", self.dataset_rows),
            "Datafile": cast("Any", self.datafile_rows),
        }
        await self._ask("home")
        table = parents[match[1]]
        return [key for key, rows in table.items() if any(r.id == int(match[2]) for r in rows)]

    def _near(self, name: str, query: str) -> bool:
        exact, _, prefixes = query.partition(") OR ")
        names = [text.replace("''", "'") for text in _LITERAL.findall(exact)]
        likes = re.findall(r"LIKE '((?:[^']|'')*)%' ESCAPE '!'", prefixes)
        begins = [re.sub("!(.)", r"\1", text.replace("''", "'")) for text in likes]
        assert len(begins) == 2
        if self.fold(name) in map(self.fold, names):
            return True
        return any(self.fold(name).startswith(self.fold(text)) for text in begins)

    async def _rows(self, what: str, rows: list[Any]) -> list[Any]:
        answer = sorted(rows, key=lambda row: row.id)
        await self._ask(what)
        await self._answer()
        return answer

    async def _one(
        self, kind: type[RowT], table: dict[int, list[RowT]], entity_id: int
    ) -> RowT | None:
        found = [row for rows in table.values() for row in rows if row.id == entity_id]
        await self._ask(kind.__name__)
        await self._answer()
        return found[0] if found else None


class FakeKeeper:
    """Lends a session id and asks no questions."""

    async def run(self, fn: Callable[..., Awaitable[Any]], /, *args: Any) -> Any:
        return await fn("session", *args)


class World:
    """A fake ICAT, a clock, and what opens catalogues on them."""

    def __init__(self) -> None:
        self.icat = FakeIcat()
        self.now = 1_000.0
        self.wall = NOW
        self.day = timedelta(days=1)

    @asynccontextmanager
    async def catalogue(
        self,
        *,
        default_s: float = 60.0,
        running_s: float = 15.0,
        kept_in: Path | None = None,
    ) -> AsyncIterator[Catalogue]:
        async with open_catalogue(
            cast("IcatClient", self.icat),
            cast("SessionKeeper", FakeKeeper()),
            ttl=Ttl(default_s, running_s),
            kept_in=kept_in,
            clock=lambda: self.now,
            wall=lambda: self.wall,
        ) as catalogue:
            yield catalogue

    @staticmethod
    async def walk(catalogue: Catalogue, path: str) -> Any:
        """The node of a path of shown names."""
        node = catalogue.root
        for name in path.split("/"):
            node = await catalogue.lookup(node, name)
        return node
