"""Which format a new file gets."""

from __future__ import annotations

import pytest

from icatfs.errors import NotSupported
from icatfs.icat.records import Format
from icatfs.staging.formats import choose_format
from icatfs.values import DatafileFormatId

NAMES = ("CSV", "HDF5", "NeXus", "Text", "XML", "other")
FORMATS = [Format(DatafileFormatId(i), name, "N/A") for i, name in enumerate(NAMES)]


@pytest.mark.parametrize(
    ("name", "chosen"),
    [
        ("scan.nxs", "NeXus"),
        ("a/b/scan.NXS", "NeXus"),
        ("data.h5", "HDF5"),
        ("data.hdf5", "HDF5"),
        ("table.csv", "CSV"),
        ("notes.txt", "Text"),
        ("image.tif", "other"),
        ("README", "other"),
        ("folder.d/README", "other"),
        ("trailing.", "other"),
        ("", "other"),
    ],
)
def test_the_extension_decides_else_other(name: str, chosen: str) -> None:
    assert choose_format(name, FORMATS).name == chosen


def test_without_other_the_first_one_is_taken() -> None:
    assert choose_format("README", FORMATS[:2]).name == "CSV"


def test_of_equal_names_the_first_one_is_taken() -> None:
    twice = [Format(DatafileFormatId(9), "NeXus", "1"), *FORMATS]
    assert choose_format("scan.nxs", twice).id == 9


def test_a_facility_without_formats_cannot_store() -> None:
    with pytest.raises(NotSupported, match="ask its administrator"):
        choose_format("scan.nxs", [])
