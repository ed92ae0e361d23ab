from __future__ import annotations

import io
import zlib
from typing import TYPE_CHECKING

import h5py
import pytest

from icatfs.facility.holdings import content
from icatfs.facility.holdings.sample_investigations import INVESTIGATIONS

if TYPE_CHECKING:
    from icatfs.facility.holdings.sample_facts import FileFact

FILES = [
    file
    for investigation in INVESTIGATIONS
    for dataset in investigation.datasets
    for file in dataset.files
]


def make(file: FileFact) -> bytes:
    return content.make(file.name, file.size, file.checksum)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.name))
def test_a_file_has_its_catalogued_size_and_checksum(file: FileFact) -> None:
    data = make(file)
    assert len(data) == file.size
    assert file.checksum is None or zlib.crc32(data) == file.checksum


@pytest.mark.parametrize(
    "file", [file for file in FILES if file.name.endswith(".nxs")], ids=lambda file: str(file.name)
)
def test_a_nexus_file_opens_and_has_its_default_data(file: FileFact) -> None:
    with h5py.File(io.BytesIO(make(file)), "r") as opened:
        entry = opened[opened.attrs["default"]]
        data = entry[entry.attrs["default"]]
        counts = data[data.attrs["signal"]]
        assert counts.shape[1:] == (32, 32)
        assert counts[...].max() > 1_000


def test_the_published_file_holds_the_positive_integers_and_nothing_else() -> None:
    (file,) = (file for file in FILES if file.name == "A000027.hdf5")
    with h5py.File(io.BytesIO(make(file)), "r") as opened:
        assert list(opened) == ["A000027"]
        assert opened["A000027"].shape == (65_535,)
        assert (opened["A000027"][:3] == [1, 2, 3]).all()
        assert opened["A000027"][-1] == 65_535


def test_text_files_are_lines_of_ascii() -> None:
    for file in FILES:
        if file.name.endswith(".dat"):
            text = make(file).decode("ascii")
            assert text.endswith("\n")
            assert text.startswith(f"# {file.name.removesuffix('.dat')}\n")


def test_copies_have_equal_bytes() -> None:
    copies = [make(file) for file in FILES if file.name == "e208341.nxs"]
    assert len(copies) == 2
    assert copies[0] == copies[1]


def test_a_size_too_small_for_the_content_is_refused() -> None:
    with pytest.raises(ValueError, match="no HDF5 file of 100 bytes"):
        content.make("small.nxs", 100, None)
    with pytest.raises(ValueError, match="does not fit"):
        content.make("small.hdf5", 100, None)
