"""Many small files at once: carries out what `icatfs.content.foresight` decides.

A zip is one long transfer, and belongs to nobody who reads: it is read as fast as it comes, its
members go into the cache as they complete, and it is closed at its end, or when nobody has read
from the dataset for ``idle_s``. One at a time. Whatever ends it, what it brought stays.

Who reads a file that the zip will bring soon waits for it, instead of asking for it once more
(`Bulk.coming`); "soon" is by the rate at which the zip comes, and nobody waits for more than a
second, or at all while it does not move. A zip is a favour: nothing that goes wrong with it
is anybody's error. Who waited asks for the file itself, and gets the error that it deserves.

A member is kept if it is intact and proved to be a datafile's (`icatfs.content.members`); it is
held in memory until then, so that wrong bytes never reach the cache. Larger ones are let pass.
Files that are catalogued without a CRC-32 come in zips that name them, with a *witness*: a small
one that was read before, whose CRC-32 is known from that, shows what is in front of their names.

Only data that are online: opening a zip of others would have them restored. So the data service is
asked first, where there is an archive. Should they leave the disk within that moment, a restore of
the dataset that somebody is reading has been asked for: as his next read would have done.

Invariants: ``_running`` is the zip whose task runs, and its dataset is in ``_watched``; whoever
waits is in its ``waiting``, and wakes when his file has come, was passed over, or the zip has
ended.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import trio
from isal.isal_zlib import crc32

from icatfs.content.foresight import Contents, Limits, Nothing, Watch, Window
from icatfs.content.incoming import Incoming
from icatfs.errors import IcatfsError, NoSpace, NotOnline
from icatfs.ids.unzip import Begin, Data, End, Unzip
from icatfs.sharing import service_nursery

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from icatfs.content.cachefile import CacheFile
    from icatfs.content.store import ContentStore
    from icatfs.content.stream import Pieces
    from icatfs.ids.unzip import Event
    from icatfs.values import ContentVersion, DatafileId, DatasetId

log = logging.getLogger(__name__)

__all__ = ["Bulk", "BulkStatus", "Limits", "open_bulk"]

_WATCHES = 64
_CONTENTS_S = 60.0
_SLICE = 16
"""Members between two looks at who else wants to run."""
_STRANGE = 32
"""So many members, and not one of them known: the facility makes zips that we do not understand."""
_FIRST_PAUSE_S = 5.0
_LONGEST_PAUSE_S = 300.0


class Source(Protocol):
    """`icatfs.ids.zips.ZipSource`, or a double."""

    async def is_online(self, dataset: DatasetId) -> bool: ...
    async def open(self, dataset: DatasetId, datafiles: Sequence[DatafileId] | None) -> Pieces: ...


@dataclass(frozen=True, slots=True)
class BulkStatus:
    """``dataset`` is coming now. The other counts only grow: zips asked for, how many of them broke
    off, files and their bytes that came so, and members that were nobody's."""

    dataset: int | None
    waiting: int
    zips: int
    broken: int
    files: int
    bytes: int
    strange: int


@dataclass(slots=True)
class _Watched:
    """A dataset that is read; ``not_before`` is when it may be asked for again, and ``front`` what
    is in front of the names in its zips, if that was shown."""

    watch: Watch
    front: str | None = None
    contents: Contents | None = None
    contents_s: float = 0.0
    not_before: float = 0.0
    pause_s: float = _FIRST_PAUSE_S


class Bulk:
    """Made by ``open_bulk``."""

    def __init__(
        self,
        nursery: trio.Nursery,
        source: Source,
        store: ContentStore,
        look: Callable[[DatasetId], Contents | None],
        limits: Limits,
        *,
        idle_s: float,
    ) -> None:
        # given: ``look`` tells what is known of a dataset without asking
        self._nursery = nursery
        self._source = source
        self._store = store
        self._look = look
        self._limits = limits
        self._idle_s = idle_s
        # mutable: see the invariants above; the datasets that were read last, the latest last;
        # whether zips are of no use here, or no more
        self._running: Incoming | None = None
        self._watched: OrderedDict[DatasetId, _Watched] = OrderedDict()
        self._useless = not limits.budget
        # mutable: counts only grow
        self._zips = self._broken = self._files = self._bytes = self._strange = 0

    # What readers tell, and how they wait.

    def opened(self, dataset: DatasetId, datafile: DatafileId) -> None:
        """A file was opened. Cheap; never waits."""
        watched = self._watched.get(dataset)
        if watched is None:
            return
        self._watched.move_to_end(dataset)
        if watched.watch.opened(datafile, trio.current_time()):
            self._consider(dataset, watched)

    def missed(self, dataset: DatasetId, version: ContentVersion) -> None:
        """A file was read that had to be fetched by itself. Never waits."""
        if self._useless:
            return
        watched = self._watched.setdefault(dataset, _Watched(Watch(self._limits)))
        self._watched.move_to_end(dataset)
        if len(self._watched) > _WATCHES:
            del self._watched[next(one for one in self._watched if not self._is_coming(one))]
        if watched.watch.missed(version.datafile, version.size, trio.current_time()):
            self._consider(dataset, watched)

    async def coming(self, dataset: DatasetId, version: ContentVersion) -> None:
        """Return when a zip has brought this version, or will not do so soon. Raises nothing."""
        running = self._running
        if running is None or running.dataset != dataset:
            return
        place = running.place_of(version)
        if place is not None:
            self._watched[dataset].watch.active_s = trio.current_time()
            await running.wait(place)

    def _is_coming(self, dataset: DatasetId) -> bool:
        return self._running is not None and self._running.dataset == dataset

    def status(self) -> BulkStatus:
        """What is going on now."""
        running = self._running
        return BulkStatus(
            dataset=None if running is None else running.dataset,
            waiting=0 if running is None else len(running.waiting),
            zips=self._zips,
            broken=self._broken,
            files=self._files,
            bytes=self._bytes,
            strange=self._strange,
        )

    # Deciding.

    def _consider(self, dataset: DatasetId, watched: _Watched) -> None:
        now = trio.current_time()
        if self._useless or self._running is not None or now < watched.not_before:
            return
        if watched.contents is None or now - watched.contents_s > _CONTENTS_S:
            watched.contents, watched.contents_s = self._look(dataset), now
        contents = watched.contents
        if contents is None:
            return
        decision = watched.watch.decide(contents, self._holder(contents), now)
        if isinstance(decision, Nothing):
            return
        window = decision if isinstance(decision, Window) else None
        known: dict[DatafileId, int] = {}
        if window is not None and self._wants_witness(window, watched, contents):
            witness = self._witness(watched, contents)
            if witness is None:
                return  # nobody in it would be known
            position, crc = witness
            window = Window(tuple(sorted({*window.positions, position})))
            known = {contents.files[position].id: crc}
        self._running = Incoming(dataset, contents, window, front=watched.front, known=known)
        self._zips += 1
        self._nursery.start_soon(self._run, self._running, watched)

    def _wants_witness(self, window: Window, watched: _Watched, contents: Contents) -> bool:
        return watched.front is None and not any(map(contents.has_crc32, window.positions))

    def _witness(self, watched: _Watched, contents: Contents) -> tuple[int, int] | None:
        """The first of the small files that were read and are here: its position and CRC-32."""
        read = (contents.position(datafile) for datafile in watched.watch.read)
        for position in sorted(one for one in read if one is not None):
            crc = self._crc32(contents.version(position))
            if crc is not None:
                return position, crc
        return None

    def _crc32(self, version: ContentVersion) -> int | None:
        """That of the bytes of a small file, if they are here; of an empty one it tells nothing."""
        if not version.size or version.size > self._limits.small or not self._store.holds(version):
            return None
        file = self._store.open(version)
        try:
            data = file.pread(0, version.size) if file.missing(0, version.size) is None else b""
        finally:
            file.close()
        return crc32(data) if len(data) == version.size else None

    def _holder(self, contents: Contents) -> Callable[[int], bool]:
        return lambda position: self._store.holds(contents.version(position))

    # Fetching.

    async def _run(self, zip_: Incoming, watched: _Watched) -> None:
        """The life of a zip."""
        try:
            await self._fetch(zip_, watched)
        except IcatfsError as error:
            log.debug("a zip of dataset %d ended early: %s", zip_.dataset, error)
            self._broken += 1
            watched.not_before = trio.current_time() + watched.pause_s
            watched.pause_s = min(2 * watched.pause_s, _LONGEST_PAUSE_S)
        finally:
            self._running = None
            watched.front = zip_.roll.front or watched.front
            watched.watch.ended()
            zip_.end()

    async def _fetch(self, zip_: Incoming, watched: _Watched) -> None:
        await zip_.prepare()
        if not await self._source.is_online(zip_.dataset):
            raise NotOnline("the data are not all on the disk")
        async with await self._source.open(zip_.dataset, zip_.datafiles) as body:
            unzip = Unzip(zip_.roll.size)
            async for piece in body:
                zip_.received(len(piece))
                await self._unpack(zip_, unzip.feed(piece))
                if self._is_to_end(zip_, watched):
                    return
            unzip.close()
        watched.pause_s = _FIRST_PAUSE_S

    def _is_to_end(self, zip_: Incoming, watched: _Watched) -> bool:
        is_idle = trio.current_time() - watched.watch.active_s > self._idle_s
        return self._useless or (is_idle and not zip_.waiting)

    async def _unpack(self, zip_: Incoming, events: Iterator[Event]) -> None:
        """Keep the members that these events complete."""
        for event in events:
            match event:
                case Begin(name):
                    zip_.begin(name)
                case Data(data):
                    zip_.add(data)
                case End(size, crc, intact):
                    self._complete(zip_, size, crc, intact=intact)
                    if zip_.members % _SLICE == 0:
                        await trio.lowlevel.checkpoint()

    def _complete(self, zip_: Incoming, size: int, crc: int, *, intact: bool) -> None:
        """A member has ended."""
        name, data = zip_.take()
        place = zip_.roll.match(name, size, crc) if intact else None
        if place is None:
            self._strange += 1
            if zip_.members >= _STRANGE and not zip_.roll.came:
                log.info("the facility's zips are of no use: their members are not known")
                self._useless = True
            return
        if data is not None:
            self._keep(zip_.versions[place], data)
        zip_.wake()

    def _keep(self, version: ContentVersion, data: bytes) -> None:
        """Put a whole content into the cache, unless it is there.

        Raises NoSpace where it does not stay.
        """
        if self._store.holds(version):
            return
        file = self._store.open(version)
        try:
            if file.unproved:
                return  # a stream has brought it and is just comparing
            if version.crc32 is None and file.missing(0, len(data)) != (0, len(data)):
                return  # nothing would tell whether these are of the same bytes as what is there
            file.pwrite(0, data)
            if not _proved(file):
                file.reset()  # what was there before was wrong
                file.pwrite(0, data)
                _proved(file)
            is_left = not file.complete and file.shared  # a stream is bringing the rest
        finally:
            file.close()
        if is_left:
            return
        if not self._store.holds(version):
            raise NoSpace("the cache has no room for a zip")
        self._files += 1
        self._bytes += len(data)


def _proved(file: CacheFile) -> bool:
    """Show content that has just become complete, if it is right."""
    if file.unproved:
        if file.crc != file.version.crc32:
            return False
        file.settle()
    return True


@asynccontextmanager
async def open_bulk(
    source: Source,
    store: ContentStore,
    look: Callable[[DatasetId], Contents | None],
    *,
    limits: Limits | None = None,
    idle_s: float = 5.0,
) -> AsyncIterator[Bulk]:
    """Zips from ``source`` into ``store``. At the end they are closed, and who waits goes on."""
    async with service_nursery() as nursery:
        yield Bulk(nursery, source, store, look, limits or Limits(), idle_s=idle_s)
        nursery.cancel_scope.cancel()
