"""A facility that is out of order, and programs that do not believe it."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from support.storm import most_in_outage
from support.trouble import DATA, documented

from icatfs.facility.testing import FacilityHandle, running_facility

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.mounts import Mounts

PROGRAMS = 4
OUTAGE_S = 3.0
FOLDER = "LARGE/BIG-1/1/images"
UNANSWERED = {"kind": "html", "status": 502}
"""Tried again by the transport."""
BREAKING = {"kind": "reset", "after_bytes": 0}
"""Tried again by the stream."""


@pytest.fixture(scope="module")
def large() -> Iterator[FacilityHandle]:
    """A facility with images of 4 MiB."""
    with running_facility("--holdings", "large", "--size", "20") as facility:
        yield facility


@pytest.mark.parametrize("fault", [UNANSWERED, BREAKING], ids=["unanswered", "breaking"])
def test_programs_that_never_give_up_are_no_storm_for_a_facility_that_is_out_of_order(
    large: FacilityHandle, mounts: Mounts, fault: dict[str, Any]
) -> None:
    large.clear_faults()
    folder = mounts.mount(large, user="db/jdoe") / FOLDER
    paths = sorted(folder.glob("image-*.raw"))[:PROGRAMS]
    large.reset_counters()
    over = threading.Event()

    def insist(path: Path) -> bytes:
        data = b""
        while not data and not over.is_set():
            with documented():
                data = path.read_bytes()
        return data or path.read_bytes()

    with ThreadPoolExecutor(PROGRAMS) as pool:
        large.faults({**fault, "endpoint": DATA})
        began = time.monotonic()
        programs = [pool.submit(insist, path) for path in paths]
        over.wait(OUTAGE_S)
        asked = large.counters()["requests"][DATA]
        lasted_s = time.monotonic() - began
        large.clear_faults()
        over.set()
    assert 1 < asked <= most_in_outage(1, lasted_s)
    assert [len(program.result()) for program in programs] == [p.stat().st_size for p in paths]
