"""The large holdings: numbers, and bytes that exist as a formula."""

from __future__ import annotations

import time
import urllib.request
import zlib

import pytest

from icatfs.facility.testing import running_facility


def test_large_has_the_shape_it_promises() -> None:
    with running_facility("--holdings", "large", "--size", "2000") as facility:
        counts = facility.search(
            "SELECT ds.name, COUNT(df) FROM Datafile df JOIN df.dataset ds"
            " WHERE ds.investigation.name = 'BIG-1' GROUP BY ds.name"
        )
        assert dict(counts) == {"many": 2_000, "images": 1_000, "huge": 8}
        wide = "SELECT COUNT(ds) FROM Dataset ds WHERE ds.investigation.name = 'WIDE-1'"
        assert facility.search(wide) == [200]
        small = "SELECT COUNT(i) FROM Investigation i WHERE i.name LIKE 'SMALL-%'"
        assert facility.search(small) == [1_000]


def test_catalogued_checksums_are_those_of_the_formula() -> None:
    with running_facility("--holdings", "large", "--size", "100") as facility:
        session = facility.login()
        query = "SELECT df.id, df.fileSize, df.checksum FROM Datafile df WHERE df.name = '{}'"
        for name in ("file-0000007.dat", "image-0003.raw"):
            ((number, size, checksum),) = facility.search(query.format(name))
            url = f"{facility.ids}/getData?sessionId={session}&datafileIds={number}"
            with urllib.request.urlopen(url) as answer:
                data = answer.read()
            assert len(data) == size
            assert zlib.crc32(data) == int(checksum, 16)


def test_a_gibibyte_file_is_read_near_its_end_without_being_stored() -> None:
    with running_facility("--holdings", "large", "--size", "100") as facility:
        session = facility.login()
        query = "SELECT df.id, df.fileSize FROM Datafile df WHERE df.name = 'huge-1.bin'"
        ((number, size),) = facility.search(query)
        assert size == 2**30
        request = urllib.request.Request(
            f"{facility.ids}/getData?sessionId={session}&datafileIds={number}"
        )
        request.add_header("Range", f"bytes={size - 1000}-")
        with urllib.request.urlopen(request) as answer:
            assert len(answer.read()) == 1_000


@pytest.mark.timeout(150)
def test_a_million_files_are_ready_within_a_minute() -> None:
    begin = time.monotonic()
    with running_facility("--holdings", "large", "--size", "1000000") as facility:
        assert time.monotonic() - begin < 60
        query = (
            "SELECT df.name FROM Datafile df WHERE df.dataset.id = 1"
            " AND df.id >= 500000 AND df.id < 500003 ORDER BY df.id"
        )
        assert facility.search(query)[0] == "file-0500000.dat"
