"""Kept listings counted, removed and compared from outside."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from icatfs.catalogue import upkeep
from icatfs.catalogue.kept import Kept, KeptListings
from icatfs.catalogue.node import NodeKey
from icatfs.catalogue.rows import Rows
from icatfs.icat.records import DatafileRow, DatasetRow, InvestigationRow
from icatfs.values import DatafileId, DatasetId, InvestigationId, Kind

if TYPE_CHECKING:
    from pathlib import Path

MOMENT = datetime(2020, 1, 1, tzinfo=UTC)
KEYS = {
    Kind.FACILITY: NodeKey(Kind.FACILITY, 1),
    Kind.VISIT: NodeKey(Kind.VISIT, 1),
    Kind.DATASET: NodeKey(Kind.DATASET, 1),
}


def rows(kind: Kind) -> Rows[object]:  # type: ignore[type-var]
    """Enough of them for a packed block."""
    found: list[object] = []
    for i in range(40):
        name, dates = f"n{i}", (None, MOMENT, MOMENT, MOMENT)
        match kind:
            case Kind.FACILITY:
                row: object = InvestigationRow(
                    InvestigationId(i), name, "v", None, None, *dates, None
                )
            case Kind.VISIT:
                row = DatasetRow(DatasetId(i), name, i % 2 == 0, *dates, None, f"doi/{i}")
            case _:
                row = DatafileRow(DatafileId(i), name, i, None, *dates[1:], None, None)
        found.append(row)
    return Rows.of(found)  # type: ignore[type-var]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache folder with a listing of each kind."""
    listings = KeptListings(tmp_path / "listings")
    for kind, key in KEYS.items():
        listings.save(key, Kept(rows(kind), 5.0))
    return tmp_path


def names(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "listings").iterdir())


@pytest.mark.parametrize("kind", KEYS)
def test_what_is_loaded_is_what_was_kept(cache: Path, kind: Kind) -> None:
    found = KeptListings(cache / "listings").load(KEYS[kind])
    assert found is not None
    assert list(found.rows) == list(rows(kind))
    assert found.listed_at == 5.0


def test_looking_changes_nothing(cache: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (cache / "listings").iterdir()}
    account = upkeep.account(cache)
    assert account.count == 3
    assert account.held == sum(path.stat().st_blocks * 512 for path in before)
    assert upkeep.verify(cache).right == 3
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_cache_folder_without_listings_has_none(tmp_path: Path) -> None:
    assert upkeep.account(tmp_path) == upkeep.clear(tmp_path) == upkeep.Listings(0, 0)
    assert upkeep.verify(tmp_path) == upkeep.Checked()


@pytest.mark.parametrize("at", [3, 30, -1])
def test_what_is_damaged_is_removed_and_the_others_stay(cache: Path, at: int) -> None:
    path = cache / "listings" / "visit-1.rows"
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    checked = upkeep.verify(cache)
    assert checked.right == 2
    assert [one.file for one in checked.wrong] == ["visit-1.rows"]
    assert names(cache) == ["dataset-1.rows", "facility-1.rows"]
    assert not upkeep.verify(cache).wrong


def test_a_listing_under_the_name_of_another_is_removed(cache: Path) -> None:
    (cache / "listings" / "visit-1.rows").rename(cache / "listings" / "visit-2.rows")
    assert [one.reason for one in upkeep.verify(cache).wrong] == ["it is of visit 1"]


def test_clearing_removes_all_but_what_is_being_written(cache: Path) -> None:
    for name in ("begun.new", "abandoned.new"):
        (cache / "listings" / name).write_bytes(b"x")
    long_ago = time.time() - 7_200
    os.utime(cache / "listings" / "abandoned.new", (long_ago, long_ago))
    account = upkeep.account(cache)
    assert upkeep.clear(cache) == account
    assert names(cache) == ["begun.new"]
    assert upkeep.account(cache).count == 0
