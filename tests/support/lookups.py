"""What tests of the catalogue ask of it again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from icatfs.errors import NotFound

if TYPE_CHECKING:
    from icatfs.catalogue.node import Node
    from icatfs.catalogue.tree import Catalogue


async def dataset(catalogue: Catalogue, world: Any) -> Node:
    """The dataset of the small world; what it took to come there is not counted."""
    node: Node = await world.walk(catalogue, "F/A/v1/ds")
    world.icat.queries.clear()
    return node


async def names(catalogue: Catalogue, node: Node) -> list[str]:
    return list((await catalogue.listing(node)).names())


async def missing(catalogue: Catalogue, folder: Node, name: str) -> None:
    with pytest.raises(NotFound):
        await catalogue.lookup(folder, name)
