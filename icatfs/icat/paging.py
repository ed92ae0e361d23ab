"""Listings of any size, one page after the other, and whether they have changed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from icatfs.icat import query as q
from icatfs.icat.records import (
    Mark,
    Properties,
    Row,
    decode_mark,
    decode_rows,
    decode_values,
)

if TYPE_CHECKING:
    from datetime import datetime

    from icatfs.icat.contents import Contents

R = TypeVar("R", bound=Row)


class Paging(ABC):
    """The part of `icatfs.icat.client.IcatClient` that lists; raises what that raises."""

    @abstractmethod
    async def properties(self) -> Properties:
        """Limits of the server."""

    @abstractmethod
    async def query(self, session: str, text: str) -> bytes:
        """The answer to a query as it came."""

    async def search(self, session: str, query: str, row_type: type[R]) -> list[R]:
        """The rows of one tuple select whose columns fit the fields of ``row_type``."""
        return decode_rows(await self.query(session, query), row_type)

    async def values(self, session: str, query: str) -> list[Any]:
        """The values of one select of a single column."""
        return decode_values(await self.query(session, query))

    async def listing(self, session: str, row_type: type[R], condition: str = "") -> list[R]:
        """All rows where ``condition`` (about ``x``) holds, in ascending order of id."""
        walk = await self.walk()
        rows: list[R] = []
        while walk.window is not None:
            rows += await self.next_page(session, row_type, condition, walk)
        return rows

    async def page_size(self) -> int:
        """Rows in one answer at most."""
        return max(1, min((await self.properties()).max_entities, q.MAX_PAGE))

    async def walk(self, after: int | None = None) -> q.Walk:
        """The beginning of a listing of which `next_page` brings one page after the other."""
        return q.Walk(await self.page_size(), after)

    async def next_page(
        self, session: str, row_type: type[R], condition: str, walk: q.Walk
    ) -> list[R]:
        """The next rows of a listing, in ascending order of id; there may be none.

        It is complete when the walk has no window left. The walk has not moved when this fails.
        """
        if walk.needs_last_id:
            last = await self.values(session, q.select_max_id(row_type, condition))
            walk.last_id(last[0] if last else None)
            return []
        assert walk.window is not None
        text = q.select(row_type, walk.window.narrow(condition), walk.window.count)
        begun = trio.current_time()
        page = await self.search(session, text, row_type)
        elapsed_s = trio.current_time() - begun
        ids = (page[0].id, page[-1].id) if page else (0, 0)
        walk.brought(*ids, len(page), elapsed_s)
        return page

    async def mark(self, session: str, contents: Contents[R], upto: int | None = None) -> Mark:
        """What changes when entities do, those that are shown; only those of ids up to ``upto``."""
        condition = q.Window(None, upto, 1).narrow(contents.shown)
        return decode_mark(await self.query(session, q.select_mark(contents.row_type, condition)))

    async def changed_since(
        self, session: str, contents: Contents[R], since: datetime
    ) -> list[R] | None:
        """The entities that were changed at that time or later; None for very many."""
        page = await self.page_size()
        condition = f"{contents.condition} AND x.modTime >= {q.moment(since)}"
        text = q.select(contents.row_type, condition, page)
        rows = await self.search(session, text, contents.row_type)
        return rows if len(rows) < page else None
