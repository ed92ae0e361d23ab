"""No content is put together from two versions of a datafile.

IDS sends whatever is stored under an id at the moment, and does not say which version that is
(ids.server 2.1.1, getData: no ETag, no Last-Modified). A CRC-32 tells when the last byte is there,
but most programs that read here and there never come to that. So before bytes are fetched for a
content of which some are here, or were and may still be in the kernel's pages, the catalogue is
asked whether the version is still the one; once a second for each datafile at most, which is how
long a mixture could go unnoticed. The first bytes of a content cost no question.

*Against* asking for each stream: a program that jumps through a file has many of them a second.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import trio

from icatfs.catalogue.node import content_version
from icatfs.errors import ContentChanged

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from icatfs.icat.records import DatafileRow
    from icatfs.values import ContentVersion, DatafileId

BELIEVED_S = 1.0
_REMEMBERED = 1000

Body = TypeVar("Body", covariant=True)


class Source(Protocol[Body]):
    """Opens the bytes of a version from an offset to the end."""

    async def __call__(self, version: ContentVersion, offset: int) -> Body: ...


class OneVersion(Generic[Body]):
    """A source that never adds bytes of another version to those that are here."""

    def __init__(
        self,
        source: Source[Body],
        ask: Callable[[DatafileId], Awaitable[DatafileRow | None]],
        is_begun: Callable[[ContentVersion], bool],
    ) -> None:
        """``ask`` asks the catalogue now; ``is_begun`` tells if some bytes are here, or were."""
        # given
        self._source = source
        self._ask = ask
        self._is_begun = is_begun
        # mutable: until when a version is believed to be the current one
        self._believed: OrderedDict[ContentVersion, float] = OrderedDict()

    async def __call__(self, version: ContentVersion, offset: int) -> Body:
        """Raises ContentChanged, what asking the catalogue raises, and what the source does."""
        if self._is_begun(version) and trio.current_time() >= self._believed.get(version, 0.0):
            await self._confirm(version)
        return await self._source(version, offset)

    async def _confirm(self, version: ContentVersion) -> None:
        row = await self._ask(version.datafile)
        if row is None or content_version(row) != version:
            raise ContentChanged(
                f"datafile {version.datafile} was replaced or removed at the facility since the"
                " file was opened: open it again"
            )
        self._believed[version] = trio.current_time() + BELIEVED_S
        self._believed.move_to_end(version)
        if len(self._believed) > _REMEMBERED:
            self._believed.popitem(last=False)
