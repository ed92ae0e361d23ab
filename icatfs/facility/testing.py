"""The embedded facility for tests: a fixture, a context manager, and a handle to control it.

``running_facility`` starts a facility in a process of its own and ends it; the fixtures
``facility`` (fresh for each test) and ``start_facility`` (with options, as many as wanted) do the
same under pytest, for a ``conftest.py`` that says::

    pytest_plugins = ["icatfs.facility.testing"]

Everything here blocks; in trio code call it in a thread.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Protocol

import pytest

from icatfs.facility.handle import FacilityHandle, running_facility

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class StartFacility(Protocol):
    """The fixture ``start_facility``: options as of ``running_facility``."""

    def __call__(self, *options: str, data: Path | None = None) -> FacilityHandle:
        """A facility that ends with the test."""


@pytest.fixture
def start_facility() -> Iterator[StartFacility]:
    """A function that starts facilities which end with the test."""
    with ExitStack() as stack:

        def start(*options: str, data: Path | None = None) -> FacilityHandle:
            return stack.enter_context(running_facility(*options, data=data))

        yield start


@pytest.fixture
def facility(start_facility: StartFacility) -> FacilityHandle:
    """A fresh facility with the sample holdings, on dataset units, restoring at once."""
    return start_facility()


__all__ = ["FacilityHandle", "StartFacility", "facility", "running_facility", "start_facility"]
