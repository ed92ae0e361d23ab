"""What the holdings put into catalogue and storage."""

from __future__ import annotations

import time
import zlib
from typing import TYPE_CHECKING

import pytest

from icatfs.facility.database import Database
from icatfs.facility.holdings import Holdings, fill, large, sample
from icatfs.facility.storage import Storage

if TYPE_CHECKING:
    from pathlib import Path


def column(db: Database, query: str) -> list[object]:
    return [row[0] for row in db.connection.execute(query)]


def test_the_sample_has_the_ids_of_the_recorded_server(tmp_path: Path) -> None:
    db = Database()
    fill(Holdings.SAMPLE, db, Storage(db, tmp_path))
    names = column(db, "SELECT name FROM Datafile ORDER BY id")
    assert names.index("e208341.nxs") == 4
    assert names[5:9] == ["e208341.nxs", "e208945-2.nxs", "e208945.dat", "e208945.nxs"]
    assert column(db, "SELECT id FROM Dataset WHERE name = 'pub-00027'") == [9]
    assert column(db, "SELECT id FROM DatasetType ORDER BY name") == [1, 2, 3]


def test_the_sample_counts_files_and_bytes_of_datasets_and_investigations(tmp_path: Path) -> None:
    db = Database()
    fill(Holdings.SAMPLE, db, Storage(db, tmp_path))
    query = "SELECT fileCount, fileSize FROM {} ORDER BY id"
    investigations = db.connection.execute(query.format("Investigation")).fetchall()
    assert investigations == [(1, 368_369), (4, 127_125), (6, 757_836)]
    assert sum(row[0] for row in db.connection.execute(query.format("Dataset"))) == 11


def test_without_locations_nothing_is_stored() -> None:
    db = Database()
    filled = sample.fill(db, None, locations=False)
    assert column(db, "SELECT DISTINCT location FROM Datafile") == [None]
    assert filled.facility == "ESNF"
    assert filled.passwords["db/nbour"] == "nbourpw"


def test_locations_need_a_storage() -> None:
    with pytest.raises(ValueError, match="need a storage"):
        sample.fill(Database(), None)


@pytest.mark.parametrize("kind", [Holdings.SAMPLE, Holdings.HOSTILE])
def test_what_has_a_location_has_bytes_and_nothing_else(tmp_path: Path, kind: Holdings) -> None:
    db = Database(folding_text=kind is not Holdings.HOSTILE)
    storage = Storage(db, tmp_path)
    fill(kind, db, storage)
    for number, location in db.connection.execute("SELECT id, location FROM Datafile"):
        assert storage.has(number) == (location is not None)


def test_a_file_that_was_replaced_leaves_no_bytes_behind(tmp_path: Path) -> None:
    db = Database(folding_text=False)
    fill(Holdings.HOSTILE, db, Storage(db, tmp_path))
    stored = column(db, "SELECT datafile_id FROM _stored")
    assert set(stored) <= set(column(db, "SELECT id FROM Datafile"))


def test_large_files_have_true_checksums(tmp_path: Path) -> None:
    db = Database()
    storage = Storage(db, tmp_path)
    fill(Holdings.LARGE, db, storage, size=40)
    rows = db.connection.execute(
        "SELECT id, fileSize, checksum FROM Datafile WHERE fileSize < 5000000"
    ).fetchall()
    assert len(rows) == 40 + large.IMAGES + 4 + 3 * large.SMALL_INVESTIGATIONS
    for number, size, checksum in rows[:60]:
        data = storage.content(number)
        assert len(data) == size
        assert zlib.crc32(data) == int(checksum, 16)


def test_a_million_files_take_less_than_a_minute(tmp_path: Path) -> None:
    db = Database()
    begin = time.monotonic()
    fill(Holdings.LARGE, db, Storage(db, tmp_path), size=large.MAX_SIZE)
    assert time.monotonic() - begin < 60
    assert column(db, "SELECT COUNT(*) FROM Datafile WHERE dataset_id = 1") == [1_000_000]
    assert column(db, "SELECT COUNT(*) FROM Dataset WHERE investigation_id = 2") == [100_000]


@pytest.mark.parametrize("size", [0, 1_000_001])
def test_a_size_out_of_range_is_refused(tmp_path: Path, size: int) -> None:
    db = Database()
    with pytest.raises(ValueError, match="1 to 1,000,000"):
        fill(Holdings.LARGE, db, Storage(db, tmp_path), size=size)
