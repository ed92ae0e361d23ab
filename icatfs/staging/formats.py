"""Which DatafileFormat a new file gets: IDS demands one with every ``put``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from icatfs.errors import NotFound, NotSupported
from icatfs.values import FacilityId

if TYPE_CHECKING:
    from collections.abc import Sequence

    from icatfs.icat.client import IcatClient
    from icatfs.icat.records import Format
    from icatfs.icat.session import SessionKeeper
    from icatfs.values import DatafileFormatId, DatasetId

_MOST_KNOWN = 10_000

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


class Formats:
    """The formats of new files; each facility is asked for its own once."""

    def __init__(self, icat: IcatClient, keeper: SessionKeeper) -> None:
        # given
        self._icat = icat
        self._keeper = keeper
        # mutable
        self._facilities: dict[DatasetId, FacilityId] = {}
        self._formats: dict[FacilityId, list[Format]] = {}

    async def choose(self, dataset: DatasetId, name: str) -> DatafileFormatId:
        """The format for a file of this name in this dataset; NotFound, NotSupported."""
        facility = await self._facility(dataset)
        if facility not in self._formats:
            self._formats[facility] = await self._keeper.run(self._icat.datafile_formats, facility)
        return choose_format(name, self._formats[facility]).id

    def known(self, dataset: DatasetId, name: str) -> DatafileFormatId | None:
        """The same where nobody has to be asked."""
        formats = self._formats.get(self._facilities.get(dataset, FacilityId(-1)))
        return choose_format(name, formats).id if formats else None

    async def _facility(self, dataset: DatasetId) -> FacilityId:
        if dataset not in self._facilities:
            if len(self._facilities) >= _MOST_KNOWN:
                self._facilities.clear()
            query = f"SELECT x.investigation.facility.id FROM Dataset x WHERE x.id = {dataset}"
            found = await self._keeper.run(self._icat.values, query)
            if not found:
                raise NotFound("the dataset does not exist any more, or you may not see it")
            self._facilities[dataset] = FacilityId(int(found[0]))
        return self._facilities[dataset]
