"""Whatever we and others do to a dataset of several pages, a listing past its TTL is the truth."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.fake_icat import World

from icatfs.catalogue.node import NodeKey
from icatfs.values import DatafileId, Kind

if TYPE_CHECKING:
    from icatfs.catalogue.tree import Catalogue

NAMES = ["a", "b", "/b", "c/x", "c/y", "c", "d//z", "e/f/g", "h"]
STEP = st.tuples(
    st.sampled_from(["make", "remove", "add", "take", "change", "look", "list", "wait"]),
    st.integers(0, 40),
    st.sampled_from([0, 0, 1, 5000]),
)


class Story:
    """One dataset in ICAT, and a catalogue of ours on it."""

    def __init__(self, pages: int) -> None:
        self.world = World()
        icat = self.world.icat
        icat.facility(1, "F")
        icat.visit(1, 1, "A", "v1")
        icat.dataset_in(1, 1, "ds")
        icat.max_entities = 4
        self.at = self.world.wall - timedelta(days=1)
        self.next_id = 1
        for number in range(4 * pages):
            self.enter(NAMES[number % len(NAMES)] if number % 3 else f"n{number}")

    def enter(self, name: str) -> Any:
        taken = {row.name for row in self.world.icat.datafile_rows[1]}
        if name in taken:
            name = f"{name}{self.next_id}"
        self.next_id += 1
        return self.world.icat.datafile_in(1, self.next_id, name, modified=self.at)

    def some(self, which: int) -> Any:
        rows = self.world.icat.datafile_rows[1]
        return rows[which % len(rows)] if rows else None

    async def run(self, steps: list[tuple[str, int, int]]) -> None:
        async with self.world.catalogue() as catalogue:
            self.node = await self.world.walk(catalogue, "F/A/v1/ds")
            for action, which, seconds in steps:
                self.at += timedelta(seconds=seconds)
                await self.do(catalogue, action, which)
            self.world.now += 61
            await self.check(catalogue)

    async def do(self, catalogue: Catalogue, action: str, which: int) -> None:
        row = self.some(which)
        name = NAMES[which % len(NAMES)]
        match action:
            case "make":
                made = self.enter(name)
                node = catalogue.adopt(self.node, made)
                assert (await catalogue.node(node.key)).key == node.key
            case "add":
                self.enter(name)
            case "remove" if row:
                self.world.icat.remove_datafile(1, row.id)
                catalogue.forget_datafile(self.node, DatafileId(row.id))
            case "take" if row:
                self.world.icat.remove_datafile(1, row.id)
            case "change" if row:
                self.world.icat.remove_datafile(1, row.id)
                size = row.size + 1
                self.world.icat.datafile_in(1, row.id, row.name, size=size, modified=self.at)
            case "look" if row:
                self.world.now += 61
                found = await catalogue.node(self.key(row.id))
                assert found.size == row.size
            case "list":
                await catalogue.listing(self.node)
            case "wait":
                self.world.now += 61
                await self.check(catalogue)
            case _:
                pass

    @staticmethod
    def key(datafile: int) -> NodeKey:

        return NodeKey(Kind.DATAFILE, datafile)

    async def check(self, catalogue: Catalogue) -> None:
        """All files are there, with their sizes, each under one path by which it is found."""
        found: dict[int, int] = {}
        pending = [self.node]
        while pending:
            folder = pending.pop()
            listing = await catalogue.arriving(folder)
            while await listing.has_more(len(listing)):
                pass
            for entry in listing:
                assert (await catalogue.lookup(folder, entry.name)).key == entry.key
                if entry.is_folder:
                    pending.append(entry)
                else:
                    found[entry.key.id] = entry.size
        truth = {row.id: row.size for row in self.world.icat.datafile_rows[1]}
        assert found == truth


@example(pages=4, steps=[("list", 0, 0), ("make", 0, 0), ("take", 16, 0)])
@settings(max_examples=150, deadline=None)
@given(st.integers(0, 4), st.lists(STEP, max_size=15))
def test_a_listing_past_its_time_is_the_truth(
    pages: int, steps: list[tuple[str, int, int]]
) -> None:
    trio.run(Story(pages).run, steps)
