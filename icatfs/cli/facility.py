"""``icatfs facility``: runs the embedded facility; the facility brings its own command line."""

from __future__ import annotations

from icatfs.facility.command import command

__all__ = ["command"]
