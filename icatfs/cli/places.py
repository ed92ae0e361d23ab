"""Which mount a path is in, found without touching the mount.

A look into a mount may wait, and ``stat`` of a path in it asks the facility. So a path is followed
component by component, links as the kernel would, only until it enters a mount of icatfs; what is
left is the place inside, taken as it is written: a mount has no links.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from icatfs import control
from icatfs.errors import MountError
from icatfs.fuse import mountpoint as mountpoints

if TYPE_CHECKING:
    from collections.abc import Iterable

    from icatfs.fuse.mountpoint import Mounted

KIND = "fuse.icatfs"
"""What mountinfo calls a mount of ours."""
_MOST_LINKS = 40


@dataclass(frozen=True, slots=True)
class Place:
    """A path in a mount: as it was given, and from the root of the mount, ``/`` for the root."""

    given: str
    mountpoint: Path
    inside: str
    socket: Path


def find(given: str, mounted_here: Iterable[Mounted] | None = None) -> Place:
    """Where a path is; `MountError` when it is in no mount, or in one that nobody serves for us.

    ``mounted_here``: all that is mounted, where that is known already.
    """
    mounts = {os.fspath(one.point): one for one in mounted_here or mountpoints.mounts()}
    path = _followed(given, mounts)
    mounted = _mount_of(path, mounts)
    if mounted is None:
        points = [os.fspath(one.point) for one in mounts.values() if one.kind == KIND]
        there = f"mounted is {', '.join(points)}" if points else "nothing is mounted (icatfs mount)"
        raise MountError(f"{given} is not in a mount of icatfs: {there}")
    below = path.removeprefix(os.fspath(mounted.point))
    inside = "/" + "/".join(_parts(f"{mounted.root}/{below}"))
    same = [one for one in mounts.values() if one.device == mounted.device]
    for one in sorted(same, key=lambda one: (one.root != "/", one is not mounted)):
        socket = control.find_socket(one.point)
        if socket is not None:
            return Place(given, mounted.point, inside, socket)
    raise MountError(
        f"nobody serves the mount at {mounted.point} for you: either its daemon is gone (mount it"
        " again, and what was asked for goes on), or somebody else mounted it"
    )


def _followed(given: str, mounts: dict[str, Mounted]) -> str:
    """The absolute path without links and dots; what is in a mount of icatfs is not looked at."""
    here: list[str] = []
    left = _parts(os.path.join(os.getcwd(), os.path.expanduser(given)))
    links = 0
    while left:
        name = left.pop(0)
        if name == "..":
            del here[-1:]
            continue
        there = "/" + "/".join([*here, name])
        target = None if _mount_of(there, mounts) else _link(there)
        if target is None:
            here.append(name)
            continue
        links += 1
        if links > _MOST_LINKS:
            raise MountError(f"{given} leads in circles")
        if target.startswith("/"):
            here = []
        left = [*_parts(target), *left]
    return "/" + "/".join(here)


def _mount_of(path: str, mounts: dict[str, Mounted]) -> Mounted | None:
    """The mount of icatfs that an absolute path is in: nothing else is mounted further down it."""
    while path not in mounts and path != "/":
        path = path.rpartition("/")[0] or "/"
    mounted = mounts.get(path)
    return mounted if mounted is not None and mounted.kind == KIND else None


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _link(path: str) -> str | None:
    try:
        return os.readlink(path)
    except OSError:
        return None
