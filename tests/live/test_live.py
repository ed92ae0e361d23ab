"""The clients against a facility: the embedded one, or any other that the environment names.

``ICATFS_TEST_URL`` names an ICAT and ``ICATFS_TEST_CONFIG`` an ``icat.cfg`` whose section
``ICAT_CFG_SECTION`` (``test`` if that is not set) has the account. What writes runs there only with
``ICATFS_TEST_WRITE=1``, in a dataset of its own which it removes again, in the first visit where
this account may make one.
"""

from __future__ import annotations

import os
import uuid
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from icatfs import config as cfg
from icatfs.errors import AccessDenied, Busy, DataArchived, NotFound
from icatfs.facility.testing import running_facility
from icatfs.icat.client import IcatClient
from icatfs.icat.session import Credentials, SessionKeeper, open_session
from icatfs.icat.urls import icat_url, ids_url, ids_url_guess
from icatfs.ids.client import IdsClient
from icatfs.ids.selection import Selection
from icatfs.transport import open_transport
from icatfs.values import OnlineStatus, parse_crc32

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from icatfs.icat.records import DatafileRow, DatasetRow, InvestigationRow

LIVE = os.environ.get("ICATFS_TEST_URL")
MAY_WRITE = not LIVE or os.environ.get("ICATFS_TEST_WRITE") == "1"
SMALL = 1 << 20


@dataclass(frozen=True)
class Account:
    """Where to log in, and how."""

    url: str
    ids: str
    credentials: Credentials
    insecure: bool = False


@dataclass(frozen=True)
class Services:
    """The clients, logged in."""

    icat: IcatClient
    ids: IdsClient
    keeper: SessionKeeper


@pytest.fixture(scope="module")
def account() -> Iterator[Account]:
    if LIVE:
        yield live_account(LIVE)
        return
    with running_facility("--storage", "single") as facility:
        values = {"username": "nbour", "password": facility.users["db/nbour"]}
        yield Account(facility.icat, facility.ids, Credentials("db", values))


def live_account(url: str) -> Account:
    section = cfg.read_section(
        os.environ.get("ICATFS_TEST_CONFIG"), os.environ.get("ICAT_CFG_SECTION", "test")
    )
    names = {"username": "username", "password": "password"}
    values = {key: section[option] for key, option in names.items() if option in section}
    ids = ids_url(section["idsurl"]) if "idsurl" in section else ids_url_guess(icat_url(url))
    insecure = not cfg.parse_bool("checkCert", section.get("checkcert", "yes"))
    return Account(icat_url(url), ids, Credentials(section["auth"], values), insecure)


@pytest.fixture
async def services(account: Account) -> AsyncIterator[Services]:
    async with open_transport(insecure=account.insecure) as transport:
        icat = IcatClient(transport, account.url)
        async with open_session(icat, account.credentials) as keeper:
            yield Services(icat, IdsClient(transport, account.ids), keeper)


async def visits(services: Services) -> list[InvestigationRow]:
    keeper, icat = services.keeper, services.icat
    facilities = await keeper.run(icat.facilities)
    return await keeper.run(icat.investigations, facilities[0].id)


async def some_files(services: Services) -> list[DatafileRow]:
    """The files of the first dataset that has small ones."""
    keeper, icat = services.keeper, services.icat
    for visit in (await visits(services))[:20]:
        for dataset in (await keeper.run(icat.datasets, visit.id))[:20]:
            rows = await keeper.run(icat.datafiles, dataset.id)
            small = [row for row in rows if row.location and 0 < (row.size or 0) < SMALL]
            if small:
                return small
    pytest.skip("this account sees no small file")


async def test_the_facility_tells_its_version_and_how_to_log_in(services: Services) -> None:
    assert await services.icat.version()
    assert (await services.icat.properties()).authenticators
    await services.ids.ping()


async def test_a_name_lookup_finds_what_the_listing_shows(services: Services) -> None:
    keeper, icat = services.keeper, services.icat
    for visit in (await visits(services))[:5]:
        for dataset in (await keeper.run(icat.datasets, visit.id))[:5]:
            assert await keeper.run(icat.dataset_named, visit.id, dataset.name) == dataset
    for visit in (await visits(services))[:1]:
        absent = f"absent-{uuid.uuid4()}"
        assert await keeper.run(icat.dataset_named, visit.id, absent) is None


async def test_a_file_has_the_size_and_checksum_that_the_catalogue_says(
    services: Services,
) -> None:
    for row in (await some_files(services))[:3]:
        try:
            stream = await services.keeper.run(services.ids.open_data, row.id)
        except (DataArchived, Busy):
            continue
        async with stream:
            content = b"".join([chunk async for chunk in stream])
        assert len(content) == row.size
        if parse_crc32(row.checksum) is not None:
            assert zlib.crc32(content) == parse_crc32(row.checksum)


async def test_a_range_gives_the_rest_of_the_file(services: Services) -> None:
    row = (await some_files(services))[0]
    assert row.size is not None
    offset = row.size // 2
    try:
        stream = await services.keeper.run(services.ids.open_data, row.id, offset)
    except (DataArchived, Busy):
        pytest.skip("archived")
    async with stream:
        content = b"".join([chunk async for chunk in stream])
    assert len(content) == row.size - offset


async def test_the_status_of_a_file_is_one_of_three(services: Services) -> None:
    row = (await some_files(services))[0]
    status = await services.keeper.run(services.ids.status, Selection(datafiles=(row.id,)))
    assert status in OnlineStatus


@pytest.mark.skipif(not MAY_WRITE, reason="ICATFS_TEST_WRITE is not 1")
async def test_what_is_put_is_catalogued_readable_and_can_be_deleted(services: Services) -> None:
    keeper, icat, ids = services.keeper, services.icat, services.ids
    facility = (await keeper.run(icat.facilities))[0]
    data_format = (await keeper.run(icat.datafile_formats, facility.id))[0]
    dataset = await own_dataset(services)
    content = os.urandom(100_000)

    async def body() -> AsyncIterator[bytes]:
        yield content[:50_000]
        yield content[50_000:]

    stored = await keeper.run(
        ids.put,
        dataset.id,
        "a/new file.bin",
        data_format.id,
        body(),
        length=len(content),
        mod_time_ms=1_718_000_000_000,
    )
    try:
        assert (stored.size, stored.crc32) == (len(content), zlib.crc32(content))
        row = await keeper.run(icat.datafile_named, dataset.id, "a/new file.bin")
        assert row is not None
        assert parse_crc32(row.checksum) == zlib.crc32(content)
        assert row.mod_time is not None
        assert row.mod_time.timestamp() == 1_718_000_000
        async with await keeper.run(ids.open_data, stored.id) as stream:
            assert b"".join([chunk async for chunk in stream]) == content
    finally:
        await keeper.run(ids.delete, Selection(datafiles=(stored.id,)))
        await keeper.run(icat.delete_dataset, dataset.id)
    assert await keeper.run(icat.dataset, dataset.id) is None


async def own_dataset(services: Services) -> DatasetRow:
    keeper, icat = services.keeper, services.icat
    facility = (await keeper.run(icat.facilities))[0]
    kind = (await keeper.run(icat.dataset_types, facility.id))[0]
    for visit in await visits(services):
        try:
            made = await keeper.run(
                icat.create_dataset, visit.id, f"icatfs-test-{uuid.uuid4()}", kind.id
            )
        except (AccessDenied, NotFound):
            continue
        row = await keeper.run(icat.dataset, made)
        assert row is not None
        return row
    pytest.skip("this account may make no dataset")


def test_the_account_of_a_live_facility_comes_from_an_icat_cfg(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "icat.cfg"
    path.write_text("[test]\nauth = db\nusername = jdoe\npassword = p%\ncheckCert = no\n")
    path.chmod(0o600)
    monkeypatch.setenv("ICATFS_TEST_CONFIG", str(path))
    monkeypatch.delenv("ICAT_CFG_SECTION", raising=False)
    account = live_account("https://icat.example.org")
    assert account.credentials.values == {"username": "jdoe", "password": "p%"}
    assert (account.url, account.insecure) == ("https://icat.example.org/icat", True)
