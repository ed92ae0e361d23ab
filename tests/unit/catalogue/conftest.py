"""Catalogues over an ICAT in memory."""

from __future__ import annotations

import pytest
from support.fake_icat import World


@pytest.fixture
def world() -> World:
    """Facility 1 with investigation A (visits 1 and 2), dataset 1 ``ds`` in the first."""
    world = World()
    world.icat.facility(1, "F")
    world.icat.visit(1, 1, "A", "v1")
    world.icat.visit(1, 2, "A", "v2")
    world.icat.visit(1, 3, "B", "v1")
    world.icat.dataset_in(1, 1, "ds")
    return world


@pytest.fixture
def large(world: World) -> World:
    """Dataset 1 has more than a page: 100 files in ``/scan``, ``top``, and odd neighbours."""
    world.icat.max_entities = 10
    for i in range(100):
        world.icat.datafile_in(1, 1000 + i, f"/scan/{i}.h5")
    world.icat.datafile_in(1, 2000, "top")
    world.icat.datafile_in(1, 2001, "both")
    world.icat.datafile_in(1, 2002, "both/inner")
    world.icat.datafile_in(1, 2003, "twice")
    world.icat.datafile_in(1, 2004, "/twice")
    return world
