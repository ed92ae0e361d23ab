"""Files of a test's own at a facility, sent past the mount."""

from __future__ import annotations

import ssl
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING

import h5py
import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from icatfs.facility.handle import FacilityHandle

IMAGE = (1024, 1024)
IMAGE_BYTES = 2 * 2**20


def upload(facility: FacilityHandle, dataset: str, name: str, data: bytes) -> int:
    """Store a file in the dataset of this name; the id of its Datafile."""
    number = facility.search(f"SELECT ds.id FROM Dataset ds WHERE ds.name = '{dataset}'")[0]
    parameters = {
        "sessionId": facility.login(),
        "datasetId": number,
        "datafileFormatId": facility.search("SELECT f.id FROM DatafileFormat f")[0],
        "name": name,
    }
    request = urllib.request.Request(
        f"{facility.ids}/put?{urllib.parse.urlencode(parameters)}",
        data=data,
        headers={"Content-Type": "application/octet-stream"},
        method="PUT",
    )
    unchecked = ssl.create_default_context()  # its certificate is whatever the test gave it
    unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE
    with urllib.request.urlopen(request, timeout=60, context=unchecked):
        pass
    query = f"SELECT df.id FROM Datafile df WHERE df.name = '{name}' AND df.dataset.id = {number}"
    return int(facility.search(query)[0])


def hdf5(path: Path, images: int) -> None:
    """A scan as beamlines write it: chunked images, and metadata behind them. Sparse.

    Each image is its number; the chunks are allocated in advance, as by a detector's writer.
    """
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_chunk((1, *IMAGE))
    creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    with h5py.File(path, "w") as file:
        group = file.create_group("entry/data")
        space = h5py.h5s.create_simple((images, *IMAGE))
        h5py.h5d.create(group.id, b"image", h5py.h5t.NATIVE_UINT16, space, creation)
        for number in range(0, images, max(1, images // 8)):
            file["entry/data/image"][number] = np.full(IMAGE, number + 1, "u2")
        for number in range(100):
            motor = file.create_group(f"entry/instrument/motor{number:03d}")
            motor.attrs["units"] = "mm"
            motor["value"] = np.arange(200.0)
