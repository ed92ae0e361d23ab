"""The large holdings: facility LARGE, for what only shows in numbers.

* BIG-1, visit 1: dataset ``many`` with ``size`` files of 10 kB, ``images`` with 1,000 files of
  4 MiB, ``huge`` with 8 files of 1 GiB;
* WIDE-1, visit 1: ``size`` / 10 datasets of one file each;
* SMALL-0001 ... SMALL-1000, visit 1: a dataset ``raw`` of three files each.

No byte is stored: the storage computes content from a seed. Files take their seeds in turns from a
few, so that the checksums in the catalogue, which are true, cost a few megabytes of computing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from icatfs.facility.holdings import rules
from icatfs.facility.holdings.entry import (
    Bytes,
    Filled,
    enter_dataset_types,
    enter_formats,
    enter_groups,
    enter_rules,
    milliseconds,
    passwords,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from icatfs.facility.database import Database

FACILITY = "LARGE"
USERS = ("simple/root", "db/jdoe", "db/nbour", "db/ahau")
"""jdoe reads everything by rules without conditions; nbour writes in BIG-1 and WIDE-1 and ahau
reads SMALL-0001 to SMALL-0010, by rules with conditions."""

MAX_SIZE = 1_000_000
SMALL_BYTES = 10_000
IMAGES = 1_000
IMAGE_BYTES = 4 * 2**20
HUGE = 8
HUGE_BYTES = 2**30
SMALL_INVESTIGATIONS = 1_000
FILES_OF_SMALL = 3
_SEEDS = 16
_TIME = milliseconds("2021-03-04T05:06:07Z")
_FILE_COLUMNS = (
    "id",
    "name",
    "fileSize",
    "checksum",
    "datafileModTime",
    "datafileCreateTime",
    "location",
    "dataset_id",
    "datafileFormat_id",
)


@dataclass(frozen=True, slots=True)
class _Batch:
    """Files to enter: ``count`` of them named by ``pattern``, in datasets from ``dataset`` on.

    Each dataset takes ``per_dataset`` of them; the names count within the dataset.
    """

    pattern: str
    count: int
    per_dataset: int
    dataset: int
    size: int


def fill(db: Database, storage: Bytes, *, size: int) -> Filled:
    """Enter the large holdings into an empty ``db``; ``size`` is the N of the module's text."""
    if not 1 <= size <= MAX_SIZE:
        raise ValueError(f"the size of the large holdings is 1 to {MAX_SIZE:,}, not {size:,}")
    _Large(db, storage, size).enter()
    return Filled(FACILITY, passwords(USERS))


class _Large:
    """One run of ``fill``; rows are entered in bulk under ids that are computed."""

    def __init__(self, db: Database, storage: Bytes, size: int) -> None:
        self._db = db
        self._storage = storage
        self._size = size
        self._next_file = 1
        self._facility = db.insert("Facility", name=FACILITY, fullName="Large numbers")
        self._type = db.insert("InvestigationType", name="Experiment", facility_id=self._facility)
        self._raw = enter_dataset_types(db, self._facility)["raw"]
        self._format = enter_formats(db, self._facility)["other"]

    def enter(self) -> None:
        names = ["BIG-1", "WIDE-1"]
        names += [f"SMALL-{number:04d}" for number in range(1, SMALL_INVESTIGATIONS + 1)]
        self._db.insert_rows(
            "Investigation",
            ("id", "name", "visitId", "title", "startDate", "facility_id", "type_id"),
            (
                (number, name, "1", name, _TIME, self._facility, self._type)
                for number, name in enumerate(names, 1)
            ),
        )
        wide = max(1, self._size // 10)
        self._db.insert_rows(
            "Dataset",
            ("id", "name", "complete", "startDate", "investigation_id", "type_id"),
            self._datasets(wide),
        )
        first_small = 4 + wide
        small_files = SMALL_INVESTIGATIONS * FILES_OF_SMALL
        for batch in (
            _Batch("file-{:07d}.dat", self._size, self._size, 1, SMALL_BYTES),
            _Batch("image-{:04d}.raw", IMAGES, IMAGES, 2, IMAGE_BYTES),
            _Batch("huge-{}.bin", HUGE, HUGE, 3, HUGE_BYTES),
            _Batch("file-{}.dat", wide, 1, 4, SMALL_BYTES),
            _Batch("file-{}.dat", small_files, FILES_OF_SMALL, first_small, SMALL_BYTES),
        ):
            self._enter_files(batch)
        self._enter_people()

    def _datasets(self, wide: int) -> Iterator[tuple[object, ...]]:
        """Rows of Dataset: the three of BIG-1, those of WIDE-1, one for each small one."""
        named = [("many", 1), ("images", 1), ("huge", 1)]
        named += [(f"scan-{number:06d}", 2) for number in range(1, wide + 1)]
        named += [("raw", 3 + number) for number in range(SMALL_INVESTIGATIONS)]
        for number, (name, investigation) in enumerate(named, 1):
            yield number, name, False, _TIME, investigation, self._raw

    def _enter_files(self, batch: _Batch) -> None:
        first = self._next_file
        self._next_file += batch.count
        checksums = [f"{self._storage.pattern_crc32(seed, batch.size):x}" for seed in range(_SEEDS)]
        self._db.insert_rows("Datafile", _FILE_COLUMNS, self._files(batch, first, checksums))
        self._storage.keep_patterns(
            (number, number % _SEEDS, batch.size) for number in range(first, first + batch.count)
        )

    def _files(
        self, batch: _Batch, first: int, checksums: list[str]
    ) -> Iterator[tuple[object, ...]]:
        for index in range(batch.count):
            number = first + index
            dataset = batch.dataset + index // batch.per_dataset
            yield (
                number,
                batch.pattern.format(index % batch.per_dataset + 1),
                batch.size,
                checksums[number % _SEEDS],
                _TIME + index * 1000,
                _TIME,
                f"{dataset}/{number}",
                dataset,
                self._format,
            )

    def _enter_people(self) -> None:
        users = {name: self._db.insert("User", name=name, fullName=name) for name in USERS}
        groups = enter_groups(
            self._db,
            [
                ("readers", ("db/jdoe",)),
                ("writers", ("db/nbour",)),
                ("guests", ("db/ahau",)),
            ],
            users,
        )
        enter_rules(
            self._db,
            [*rules.public_tables(), *rules.read_all("readers"), *rules.member_rules()],
            groups,
        )
        for investigation in (1, 2):
            self._enter_membership(investigation, groups["writers"], "writer")
        for number in range(10):
            self._enter_membership(3 + number, groups["guests"], "reader")

    def _enter_membership(self, investigation: int, group: int, role: str) -> None:
        self._db.insert(
            "InvestigationGroup", investigation_id=investigation, grouping_id=group, role=role
        )
