"""Which DatafileFormat a new file gets: IDS demands one with every ``put``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from icatfs.errors import NotSupported

if TYPE_CHECKING:
    from collections.abc import Sequence

    from icatfs.icat.records import Format

_FORMATS_OF = {
    "nexus": ("nxs", "nx5", "nexus", "nxspe"),
    "hdf5": ("h5", "hdf5", "hdf", "he5"),
    "csv": ("csv",),
    "text": ("txt", "text", "log", "md", "dat", "asc"),
    "xml": ("xml", "xsd"),
    "json": ("json",),
    "tiff": ("tif", "tiff"),
    "edf": ("edf",),
    "cbf": ("cbf",),
    "image": ("png", "jpg", "jpeg", "gif", "tif", "tiff"),
    "raw": ("raw",),
}
"""Names under which facilities catalogue a format, in lower case, and the extensions they mean."""


def choose_format(name: str, formats: Sequence[Format]) -> Format:
    """The format for a file of this name: by extension, else ``other``, else the first there is.

    A format fits if it is called like the extension or like something the extension stands for,
    in any case. Raises `NotSupported` if the facility has no format at all.
    """
    if not formats:
        raise NotSupported(
            "the facility's catalogue has no DatafileFormat, and IDS stores nothing without one: "
            "ask its administrator to define one called 'other'"
        )
    by_name = {one.name.lower(): one for one in reversed(formats)}
    for candidate in (*_wanted(name), "other"):
        if candidate in by_name:
            return by_name[candidate]
    return formats[0]


def _wanted(name: str) -> list[str]:
    """What a fitting format may be called, best first; nothing for a name without extension."""
    stem, _, extension = name.rpartition("/")[2].lower().rpartition(".")
    if not stem or not extension:
        return []
    return [extension, *(key for key, known in _FORMATS_OF.items() if extension in known)]
