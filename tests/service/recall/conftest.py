"""The embedded facility, for the clients."""

from icatfs.facility.testing import facility, start_facility

__all__ = ["facility", "start_facility"]
