"""What a facility in a box holds: catalogue rows and stored bytes, made at start.

``fill`` makes one of three: ``sample`` (the public example of python-icat), ``large`` (numbers) and
``hostile`` (names and facts that break naive clients). The shapes come from real facilities.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from icatfs.facility.holdings import hostile, large, sample

if TYPE_CHECKING:
    from icatfs.facility.database import Database
    from icatfs.facility.holdings.entry import Bytes, Filled

DEFAULT_SIZE = 10_000


class Holdings(StrEnum):
    """The kinds of holdings, by the names of the command line."""

    SAMPLE = "sample"
    LARGE = "large"
    HOSTILE = "hostile"


def fill(kind: Holdings, db: Database, storage: Bytes, *, size: int = DEFAULT_SIZE) -> Filled:
    """Fill an empty database and storage; ``size`` matters to ``large`` only."""
    with db.transaction():
        if kind is Holdings.LARGE:
            filled = large.fill(db, storage, size=size)
        elif kind is Holdings.HOSTILE:
            filled = hostile.fill(db, storage)
        else:
            filled = sample.fill(db, storage)
    db.refresh_statistics()
    return filled
