"""``python -m icatfs.facility``: the same as ``icatfs facility``."""

from __future__ import annotations

from icatfs.facility.command import command

if __name__ == "__main__":
    command(prog_name="icatfs facility")
