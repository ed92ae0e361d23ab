"""Fixtures of the mount tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from icatfs.facility.testing import FacilityHandle, running_facility

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def sample() -> Iterator[FacilityHandle]:
    """The sample facility on one storage level, shared by the tests of a module that only read."""
    with running_facility("--storage", "single") as facility:
        yield facility
