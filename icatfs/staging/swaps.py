"""A new version of a stored file takes the place of the old one, in one step.

**The forces.** IDS has no overwrite: ``put`` under a name that is taken fails after the whole
upload, and to remove the old version first would leave none if anything then went wrong. ICAT
carries out several changes in one transaction, in the order they are sent, and readers see no gap
(icat.server 6.2.1, recorded).

**The decision.** What becomes of a staged file that replaces a datafile is a `Swap`: the new
version is put under a hidden name, compared, and then one POST gives the old version another hidden
name and the new one the final name. Only then the staged file counts as stored; the old version is
removed afterwards, through IDS, which refuses as long as anybody reads from the dataset.

**After a crash** the swap, which is on record with the staged file before anything is sent, tells
what to look for:

| the final name has | the hidden name has | what is done |
|---|---|---|
| the old version | nothing | put, swap |
| the old version | the new version | swap |
| the new version | nothing | nothing is left but to remove the old version |
| something else | - | it is not touched; the new version stays pending |

Hidden names are unique, so whatever has one is ours to remove: `Swaps.tidy`.

**Rights** cannot be asked for, and a refusal after an hour of upload is the worst answer: so the
old version's time is set to what it is before anything else. Who may do that may rename it.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any

import trio
from msgspec import structs

from icatfs.crashing import crash_point
from icatfs.errors import (
    AccessDenied,
    BadRequest,
    Busy,
    ContentChanged,
    Exists,
    FacilityTimeout,
    FacilityUnreachable,
    IcatfsError,
    NotFound,
    ProtocolError,
)
from icatfs.staging.arrivals import is_same
from icatfs.staging.erasing import Eraser
from icatfs.staging.journal import State
from icatfs.staging.swap import Swap
from icatfs.staging.uploader import Target, Uploader

if TYPE_CHECKING:
    from collections.abc import Mapping

    from icatfs.icat.client import IcatClient
    from icatfs.icat.records import DatafileRow
    from icatfs.icat.session import SessionKeeper
    from icatfs.ids.client import IdsClient
    from icatfs.staging.archives import Archive
    from icatfs.staging.area import StagingArea
    from icatfs.staging.journal import Entry, Journal, Sealed
    from icatfs.staging.staged import StagedFile
    from icatfs.values import DatafileId, DatasetId

log = logging.getLogger(__name__)

_ATTEMPTS = 3
_SETTLE_S = 1.0
_PAUSES_S = (0.0, 0.2, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0)
"""Before an old version that could not be removed is tried again; the last one from then on."""
_UNSURE = (FacilityUnreachable, FacilityTimeout, ProtocolError)


class Swaps:
    """Carries out the swaps of one user at one facility.

    Invariants: ``_changeable`` are datafiles that this user was seen to have the right to rename;
    ``_kept`` are the datasets in which an old version could not be removed.
    """

    def __init__(
        self,
        area: StagingArea,
        uploader: Uploader,
        icat: IcatClient,
        ids: IdsClient,
        keeper: SessionKeeper,
        archive: Archive,
    ) -> None:
        # given
        self._area = area
        self._uploader = uploader
        self._icat = icat
        self._keeper = keeper
        self._archive = archive
        # constant
        self._eraser = Eraser(icat, ids, keeper)
        # mutable
        self._changeable: set[DatafileId] = set()
        self._kept: set[DatasetId] = set()

    async def check_allowed(self, old: DatafileRow, dataset: DatasetId) -> None:
        """AccessDenied if the facility's rules refuse to have a datafile replaced.

        Asks once for each; nothing is changed but the entry's own time of change: that of the file
        may have been changed by others since it was listed, and stays.
        """
        if dataset in self._kept:
            raise AccessDenied(
                f"{old.name} cannot be replaced: the facility lets you add data to its dataset, "
                "but not remove the old version; write to a new name"
            )
        if old.id in self._changeable:
            return
        now = await self._keeper.run(self._icat.datafile, old.id)
        if now is None:
            return  # nothing is in the way
        try:
            await self._keeper.run(self._icat.check_changeable, now)
        except AccessDenied as error:
            raise AccessDenied(
                f"{old.name} cannot be replaced: {error}; write to a new name"
            ) from error
        except NotFound:
            return  # nothing is in the way
        self._changeable.add(old.id)

    async def plan(self, staged: StagedFile, old: DatafileId) -> None:
        """Record that a staged file, once it is written, replaces a datafile, and no other."""
        await staged.set_plan(_swap_of(staged.plan).instead(old).as_plan())

    async def unplan(self, staged: StagedFile) -> None:
        """Record that a staged file replaces nothing; `tidy` removes what was tried before."""
        swap = _swap_of(staged.plan).instead(None)
        await staged.set_plan(swap.as_plan() if swap.names else None)

    async def replace(self, staged: StagedFile, target: Target, old: DatafileRow) -> DatafileRow:
        """Store a staged file in the place of a datafile; its entry, size and CRC-32 compared.

        Until this returns the old version is there under the name, from then on the new one; the
        old one is removed by the next `tidy`. Raises what `Uploader.store` raises, AccessDenied
        before anything is sent, and ContentChanged where others have replaced the datafile
        meanwhile: then the staged file is pending. Cancelled, it goes on.
        """
        await self.check_allowed(old, target.dataset)
        swap = _swap_of(staged.plan)
        if staged.state is State.SENDING and swap.replaces == old.id:  # before: by fsync, say
            return await self._resume(staged, await staged.measure(), target, swap)
        swap = await self._begin(staged, target, old.id)
        aside = replace(target, name=swap.hidden)
        row = await self._uploader.store(staged, aside, then=partial(self._swap, swap, target))
        return structs.replace(row, name=target.name)

    async def exchange(self, target: Target, old: DatafileId, new: DatafileId) -> None:
        """Give a datafile the name of another one of its dataset, which goes.

        One step, as in `replace`; the next `tidy` removes the other one. Raises Exists,
        ContentChanged, AccessDenied, NotFound; then nothing has changed.
        """
        swap = Swap(old).anew(target.name)
        async with self._area.undertaking(
            target.dataset, target.name, target.shown, swap.as_plan()
        ):
            crash_point("exchanging")
            await self._exchange(swap, target, new, keeps_facts=False)
            crash_point("exchanged")

    async def has_arrived(self, entry: Entry) -> bool:
        """Whether the facility has a new version as it is on record, by whichever of its names."""
        assert entry.plan is not None
        names = [name for name in (entry.name, Swap.of_plan(entry.plan).hidden) if name]
        rows = await self._keeper.run(self._icat.datafiles_named, entry.dataset, names)
        return entry.sealed is not None and any(is_same(row, entry.sealed) for row in rows)

    async def finish(self, entry: Entry, staged: StagedFile, sealed: Sealed) -> DatafileRow:
        """Do what is left of a swap that an earlier process began; raises like `replace`."""
        assert entry.plan is not None
        swap = Swap.of_plan(entry.plan)
        target = Target(entry.dataset, entry.name, entry.shown, staged.mtime_ns)
        return await self._resume(staged, sealed, target, swap)

    async def _resume(
        self, staged: StagedFile, sealed: Sealed, target: Target, swap: Swap
    ) -> DatafileRow:
        if swap.replaces is None:
            return await self._uploader.store_again(staged, sealed, target)
        names = [name for name in (target.name, swap.hidden) if name]
        rows = await self._keeper.run(self._icat.datafiles_named, target.dataset, names)
        found = {row.name: row for row in rows if is_same(row, sealed)}
        final = found.get(target.name)
        if final is not None and final.id != swap.replaces:
            await staged.move(State.STORED)
            return final
        if swap.hidden not in found:
            old = await self._keeper.run(self._icat.datafile, swap.replaces)
            if old is not None:
                await self.check_allowed(old, target.dataset)
            swap = await self._begin(staged, target, swap.replaces)
        aside = replace(target, name=swap.hidden)
        then = partial(self._swap, swap, target)
        row = await self._uploader.store_again(staged, sealed, aside, then=then)
        return structs.replace(row, name=target.name)

    async def tidy(self) -> bool:
        """Remove what swaps have left under hidden names; whether nothing is left.

        What cannot be removed now is on record, and logged where it is refused.
        """
        clean = True
        for entry in await self._area.in_thread(self._area.journal.planned):
            try:
                if entry.state is not State.BEGUN:
                    await self._tidy(entry)
                elif _swap_of(entry.plan).names:
                    await self._tidy_begun(entry)
            except Busy:
                clean = False
            except AccessDenied as error:
                self._kept.add(entry.dataset)
                log.error("the old version of %s could not be removed: %s", entry.shown, error)
            except IcatfsError as error:
                clean = False
                log.warning("the old version of %s is not removed yet: %s", entry.shown, error)
        return clean

    async def tidy_up(self) -> None:
        """Return when nothing is left; what is read from cannot be removed, and is tried again."""
        for pause_s in chain(_PAUSES_S, repeat(_PAUSES_S[-1])):
            await trio.sleep(pause_s)
            if await self.tidy():
                return

    async def _tidy(self, entry: Entry) -> None:
        await self._erase_hidden(entry)
        await self._area.in_thread(self._area.journal.set_plan, entry.id, None)
        crash_point("tidied")

    async def _tidy_begun(self, entry: Entry) -> None:
        """The same for a file that was written on after it could not be stored, and left then.

        Nothing of it is sent as long as it is ours, and it is to replace what it was to replace.
        """
        taken = await self._area.take(entry.id)
        if taken is None:
            return
        entry, staged = taken
        try:
            if entry.state is State.BEGUN and entry.plan is not None:
                await self._erase_hidden(entry)
                old = Swap.of_plan(entry.plan).replaces
                await staged.set_plan(None if old is None else Swap(old).as_plan())
        finally:
            staged.close(keep=True)

    async def _erase_hidden(self, entry: Entry) -> None:
        assert entry.plan is not None
        names = Swap.of_plan(entry.plan).names
        rows = await self._keeper.run(self._icat.datafiles_named, entry.dataset, names)
        for row in rows:
            await self._eraser.erase(row.id, pauses_s=())

    async def _begin(self, staged: StagedFile, target: Target, old: DatafileId) -> Swap:
        """A swap under names not used before, on record."""
        swap = replace(_swap_of(staged.plan), replaces=old).anew(target.name)
        await staged.set_plan(swap.as_plan())
        crash_point("planned")
        return swap

    # -- once the new version is at the facility --------------------------------------------------

    async def _swap(self, swap: Swap, target: Target, new: DatafileId) -> None:
        """Give it the final name; where that is refused, remove it again.

        After an error the old version has the final name, or nobody knows.
        """
        crash_point("aside")
        failure: IcatfsError | None = None
        try:
            await self._exchange(swap, target, new, keeps_facts=True)
        except IcatfsError as error:
            failure = error
        if failure is None:
            crash_point("swapped")
            await self._archive.tell(target.dataset)
            return
        if not isinstance(failure, _UNSURE):
            await self._take_back(target, new)
        raise failure

    async def _exchange(
        self, swap: Swap, target: Target, new: DatafileId, *, keeps_facts: bool
    ) -> None:
        """Both names at once; Exists, ContentChanged, AccessDenied, or nobody knows.

        ``keeps_facts``: the new version is said of what was said of the one that gives way.
        """
        unsure = 0
        failure: IcatfsError | None = None
        before: tuple[DatafileId, str] | None = None
        while True:
            row = await self._keeper.run(self._icat.datafile_named, target.dataset, target.name)
            if row is not None and row.id == new:
                return  # without an answer, or long after it was waited for
            old = _giving_way(row, swap, target)
            is_hopeless = old == before and not isinstance(failure, _UNSURE)
            if failure is not None and (unsure >= _ATTEMPTS or is_hopeless):
                raise failure
            before = old
            try:
                facts = await self._facts(old[0]) if old is not None and keeps_facts else {}
                await self._keeper.run(self._icat.replace_datafile, old, new, target.name, facts)
            except BadRequest:
                raise
            except (NotFound, Exists) as error:
                failure = error
            except _UNSURE as error:
                log.warning("replacing %s: %s; looking whether it was", target.shown, error)
                failure, unsure = error, unsure + 1
            else:
                return
            if isinstance(failure, _UNSURE):
                await trio.sleep(_SETTLE_S)

    async def _take_back(self, target: Target, new: DatafileId) -> None:
        """Remove a new version that may not take the place of the old one; raises nothing of ours.

        Its staged bytes are kept.
        """
        try:
            await self._eraser.erase(new)
        except IcatfsError as error:
            log.error("the new version of %s is hidden at the facility: %s", target.shown, error)

    async def _facts(self, old: DatafileId) -> dict[str, str]:
        """What is said about a file, and stays with its name."""
        facts = await self._keeper.run(self._icat.datafile_facts, old)
        if facts is None:
            return {}
        said = {"description": facts.description, "doi": facts.doi}
        return {name: text for name, text in said.items() if text}


def untidy(journal: Journal) -> list[Entry]:
    """The entries of swaps that may have left something under a hidden name."""
    return [
        entry
        for entry in journal.planned()
        if entry.plan is not None and Swap.of_plan(entry.plan).names
    ]


def _giving_way(
    row: DatafileRow | None, swap: Swap, target: Target
) -> tuple[DatafileId, str] | None:
    """What must give way, and the name it gets; ContentChanged where another has the name.

    The old version may have another name by now: then it stays.
    """
    if row is None:
        return None
    if row.id == swap.replaces:
        return swap.replaces, swap.trash
    raise ContentChanged(
        f"{target.shown} was replaced at the facility by somebody else since it was opened; "
        "read what is there now, and write again"
    )


def _swap_of(plan: Mapping[str, Any] | None) -> Swap:
    return Swap(None) if plan is None else Swap.of_plan(plan)
