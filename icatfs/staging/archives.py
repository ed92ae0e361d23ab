"""What an archive has to do with writing: names it must hear of, and files that it cannot take.

**Names.** Where whole datasets are archived, the archive's copy lists the names that ICAT had when
it was written; if ICAT has others when it is restored, the restore fails, for good (ids.server
2.1.1, DsRestorer). So names change only while the dataset is online, and the server is asked to
write it to the archive before (an archiving that is under way then waits for a write) and after.
Where single files are archived, and where there is no archive, names may change at any time.

**New files.** A dataset that is archived as a whole takes none while it is on tape: a put has it
restored, and is refused until it is there. Where single files are archived a put never minds. The
server does not say which it is, and there is no question that tells and moves nothing. So what
earlier mounts have learnt counts; then a file that is on disk in a dataset that is not shows that
files move alone; then, where reading might bring the dataset back, too, a put is tried that cannot
succeed (of a format that does not exist: it is refused with other words, and nothing stays, where
single files are archived). Where nothing may be brought back nothing is made there.
"""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

import trio

from icatfs.errors import (
    Busy,
    DataArchived,
    IcatfsError,
    NotFound,
    NotOnline,
    NotPermitted,
    NotSupported,
    RecallFailed,
)
from icatfs.icat.hidden import new_name
from icatfs.ids.selection import Selection
from icatfs.values import DatafileFormatId, OnlineStatus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from icatfs.icat.session import SessionKeeper
    from icatfs.ids.client import IdsClient
    from icatfs.values import DatafileId, DatasetId

log = logging.getLogger(__name__)

_PATIENCE_S = 10.0
"""How long whoever makes a file waits to be told that it could not be stored."""
_NO_FORMAT = DatafileFormatId(0)
_RESTORE = "restore it first (icatfs stage, or read one of its files)"
_RESTORE_BY_COMMAND = "restore it, or one of its files, first (icatfs stage)"
_RESTORED = "it is being restored now: write again when it is there (icatfs why)"


class Grain(Protocol):
    """What of `icatfs.recall.grain.Grain` is used here."""

    @property
    def seen(self) -> bool | None: ...
    @property
    def known(self) -> bool | None: ...
    def hear(self, refusal: str) -> None: ...
    def learn(self, *, by_dataset: bool) -> None: ...


class Archive:
    """The archive of one facility, if it has one; without ``grain`` no file is refused."""

    def __init__(
        self,
        ids: IdsClient,
        keeper: SessionKeeper,
        *,
        two_level: bool,
        grain: Grain | None = None,
    ) -> None:
        # given
        self._ids = ids
        self._keeper = keeper
        self._two_level = two_level
        self._grain = grain
        # constant: what is archived as one is found out once
        self._finding_out = trio.Lock()

    @property
    def _matters(self) -> bool:
        return self._two_level and (self._grain is None or self._grain.seen is not False)

    async def check_writable(
        self, dataset: DatasetId, what: str, *, may_restore: bool, newest: Sequence[DatafileId]
    ) -> None:
        """NotOnline where a file could not be stored, for want of the others of its dataset.

        ``what`` completes "cannot ...". Restores nothing unless it ``may_restore``, and then once,
        where it is not known yet what the facility archives as one; ``newest`` are some files of
        the dataset, best those that are on disk. A server that does not answer now is no reason to
        refuse a file: it will answer when it gets it.
        """
        grain = self._grain
        if not self._two_level or grain is None or grain.known is False:
            return
        status = await self._where(Selection(datasets=(dataset,)))
        if status is None or status is OnlineStatus.ONLINE:
            return
        async with self._finding_out:
            if self._by_dataset() is None:
                await self._look(dataset, newest, grain)
            may_try = may_restore or status is OnlineStatus.RESTORING
            tried = may_try and self._by_dataset() is None
            if tried:
                await self._try(dataset, grain)
        by_dataset = self._by_dataset()
        if by_dataset or (by_dataset is None and not tried):
            remedy = _RESTORE if may_restore else _RESTORE_BY_COMMAND
            raise _not_online(what, status, _RESTORED if tried else remedy)

    def _by_dataset(self) -> bool | None:
        return None if self._grain is None else self._grain.known

    async def _look(self, dataset: DatasetId, newest: Sequence[DatafileId], grain: Grain) -> None:
        """Learn what is to be learnt from where the data are."""
        for datafile in newest:
            if await self._where(Selection(datafiles=(datafile,))) is OnlineStatus.ONLINE:
                # Unless all of it has come back in between.
                now = await self._where(Selection(datasets=(dataset,)))
                if now is not None and now is not OnlineStatus.ONLINE:
                    grain.learn(by_dataset=False)
                return

    async def _try(self, dataset: DatasetId, grain: Grain) -> None:
        """Learn from a put that cannot succeed; where datasets are archived it restores this one.

        Raises nothing of ours.
        """
        put = self._ids.put
        with trio.move_on_after(_PATIENCE_S):
            try:
                stored = await self._keeper.run(
                    put, dataset, new_name("probe"), _NO_FORMAT, _nothing(), length=0
                )
                grain.learn(by_dataset=False)
                await self._keeper.run(self._ids.delete, Selection(datafiles=(stored.id,)))
            except DataArchived as error:
                grain.hear(str(error))
            except NotFound as error:
                if "DatafileFormat" in str(error):  # looked for when the bytes are stored
                    grain.learn(by_dataset=False)
            except IcatfsError as error:
                log.debug("whether dataset %d takes files is not known: %s", dataset, error)

    async def _where(self, selection: Selection) -> OnlineStatus | None:
        """Where data are; None: the server does not say, or not soon."""
        with trio.move_on_after(_PATIENCE_S):
            try:
                return await self._keeper.run(self._ids.status, selection)
            except RecallFailed:
                return OnlineStatus.ARCHIVED
            except IcatfsError as error:
                log.debug("where %s is is not known: %s", selection, error)
        return None

    async def check_online(self, dataset: DatasetId, what: str) -> None:
        """Raises NotOnline where the dataset must be restored before names in it change.

        ``what`` completes "cannot ...". Asks the server, and restores nothing.
        """
        if not self._matters:
            return
        status = await self._keeper.run(self._ids.status, Selection(datasets=(dataset,)))
        if status is not OnlineStatus.ONLINE:
            raise _not_online(what, status, _RESTORE)

    @asynccontextmanager
    async def renaming(self, dataset: DatasetId, what: str) -> AsyncIterator[None]:
        """Names in the dataset may change in this block. NotOnline, Busy, NotPermitted."""
        if not self._matters:
            yield
            return
        await self.check_online(dataset, what)
        selection = Selection(datasets=(dataset,))
        try:
            await self._keeper.run(self._ids.write, selection)
        except DataArchived as error:
            raise NotOnline(f"cannot {what}: {error}") from error
        except NotSupported as error:
            raise NotPermitted(
                f"cannot {what}: the facility's archive takes no orders to write (IDS: "
                "enableWrite), and could not restore data under other names; copy it"
            ) from error
        yield
        await self.tell(dataset)

    async def tell(self, dataset: DatasetId) -> None:
        """Names in the dataset have changed; raises nothing of ours, logs what went wrong."""
        if not self._matters:
            return
        try:
            await self._keeper.run(self._ids.write, Selection(datasets=(dataset,)))
        except (NotSupported, Busy):
            return  # what is put or removed through IDS is written by itself
        except IcatfsError as error:
            log.error(
                "the archive does not know yet of new names in dataset %d: %s", dataset, error
            )


def _not_online(what: str, status: OnlineStatus, remedy: str) -> NotOnline:
    return NotOnline(
        f"cannot {what}: its dataset is {status.value.lower()} and must be on the facility's disk "
        f"for that; {remedy}"
    )


async def _nothing() -> AsyncIterator[bytes]:
    for _ in range(0):
        yield b""
