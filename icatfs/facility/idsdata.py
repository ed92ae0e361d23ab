"""The calls of the data service that move bytes: getData, put, delete."""

from __future__ import annotations

from typing import TYPE_CHECKING

from icatfs.facility import getdata, multipart, putting
from icatfs.facility.exchange import compact_json
from icatfs.facility.getdata import Download, Sender
from icatfs.facility.icaterror import IcatError
from icatfs.facility.idsaccess import flag, session_of
from icatfs.facility.idserrors import IdsError, not_found, unavailable
from icatfs.facility.selection import Selected, parse_ids
from icatfs.facility.storageunit import Request, StorageUnit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from icatfs.facility.exchange import Exchange
    from icatfs.facility.idsaccess import Access
    from icatfs.facility.putting import Put, Wish
    from icatfs.facility.selection import Place
    from icatfs.facility.storage import Upload

SWITCHED_OFF = "This operation has been configured to be unavailable"


class DataCalls:
    """These calls of one service; they raise IdsError, IcatError and Disconnected."""

    def __init__(self, access: Access) -> None:
        # given
        self._access = access
        # constant
        self._sender = Sender(access.storage, access.resolver, access.clock, access.counters)

    # getData

    async def get(self, exchange: Exchange) -> None:
        """Answer with the bytes of a selection; holds the locks until they are sent."""
        offset = getdata.parse_range(exchange.header("range"))
        selected, download = self._wanted(exchange.parameters, offset or 0)
        hold = self._access.hold(selected.datasets, exclusive=False)
        try:
            self._access.require(self._access.units(selected))
            if download is None:
                raise not_found("One of the datafiles requested has been deleted")
            await self._sender.send(exchange, download)
        finally:
            hold.release()

    def _wanted(
        self, parameters: Mapping[str, str], offset: int
    ) -> tuple[Selected, Download | None]:
        """What is selected, and what is to be sent: None if some of it was deleted."""
        if "preparedId" in parameters:
            return self._wanted_by_id(parameters, offset)
        selected = self._access.select_for_session(parameters)
        declared = None
        is_zip = flag(parameters, "zip") or not parse_ids(parameters).is_one_datafile
        if not is_zip:
            declared = max(0, (selected.files[0].size or 0) - offset)
        compress, outname = flag(parameters, "compress"), parameters.get("outname")
        return selected, Download(selected.files, is_zip, compress, offset, outname, declared)

    def _wanted_by_id(
        self, parameters: Mapping[str, str], offset: int
    ) -> tuple[Selected, Download | None]:
        prepared = self._access.get_prepared(parameters)
        files = tuple(self._access.resolver.files_named(prepared.files))
        selected = Selected(prepared.datasets, files)
        if len(files) < len(prepared.files):
            return selected, None
        outname = parameters.get("outname")
        return selected, Download(files, prepared.zip, prepared.compress, offset, outname, None)

    # put

    async def put(self, exchange: Exchange) -> bytes:
        """Store the body as a new datafile; returns the answer."""
        return await self._put(exchange, exchange.parameters, exchange.body())

    async def put_form(self, exchange: Exchange) -> bytes | None:
        """The same for a multipart form; None without a file in it."""
        body = b"".join([part async for part in exchange.body()])
        form = multipart.parse(exchange.header("content-type") or "", body)
        if form.filename is None:
            return None

        async def content() -> AsyncIterator[bytes]:
            yield form.content

        return await self._put(exchange, {"name": form.filename} | form.fields, content())

    async def _put(
        self, exchange: Exchange, parameters: Mapping[str, str], body: AsyncIterator[bytes]
    ) -> bytes:
        try:
            wish = self._parse_put(parameters)
            place = self._place(wish)
            hold = self._access.hold([place.id], exclusive=False)
        except (IdsError, IcatError):
            await _swallow(body)
            raise
        try:
            await self._require_for_put(place, body)
            upload = await putting.receive(self._access.storage, body, self._access.clock)
            return compact_json(self._register(wish, place, upload).as_json())
        finally:
            hold.release()

    def _parse_put(self, parameters: Mapping[str, str]) -> Wish:
        self._check_writable()
        return putting.parse_wish(session_of(parameters), parameters)

    def _place(self, wish: Wish) -> Place:
        user = self._access.catalogue.user(wish.session)
        self._access.resolver.check_dataset(user, wish.dataset)
        place = self._access.resolver.place(wish.dataset)
        assert place is not None
        return place

    async def _require_for_put(self, place: Place, body: AsyncIterator[bytes]) -> None:
        """With dataset units, a dataset that has files must be online."""
        if self._access.config.unit is not StorageUnit.DATASET:
            return
        try:
            self._access.require(self._access.resolver.units([place.id], ()))
        except IdsError:
            await _swallow(body)
            raise

    def _register(self, wish: Wish, place: Place, upload: Upload) -> Put:
        access = self._access
        try:
            stored = putting.register(
                access.catalogue, wish, place, upload, bmp_only=access.config.bmp_only
            )
        except (IdsError, IcatError):
            access.storage.drop(upload)
            raise
        access.storage.adopt(stored.id, upload)
        files = access.resolver.files_named([stored.id])
        access.archive.request(access.resolver.units([place.id], files), Request.WRITE)
        access.counters.put()
        return stored

    # delete

    def delete(self, parameters: Mapping[str, str]) -> None:
        """Delete datafiles from the catalogue, disk and tape."""
        self._check_writable()
        access = self._access
        user = access.catalogue.user(session_of(parameters))
        selected = access.select(user, parameters)
        hold = access.hold(selected.datasets, exclusive=True)
        try:
            self._delete(user, selected)
        finally:
            hold.release()

    def _delete(self, user: str, selected: Selected) -> None:
        access = self._access
        by_dataset = access.config.unit is StorageUnit.DATASET
        units = access.units(selected)
        if by_dataset:
            access.require(units)
        files = [file.id for file in selected.files]
        if not files:
            return
        access.catalogue.remove(user, "Datafile", files)
        access.storage.remove(files)
        access.archive.request(units, Request.WRITE if by_dataset else Request.DELETE)
        access.counters.delete(len(files))

    def _check_writable(self) -> None:
        if self._access.config.read_only:
            raise unavailable(SWITCHED_OFF)


async def _swallow(body: AsyncIterator[bytes]) -> None:
    """What is refused early is answered late: the container reads the body first."""
    async for _ in body:
        pass
