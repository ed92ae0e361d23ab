"""The composition root: builds every service of one mount, opens and closes them in order.

``run`` nests the services as their dependencies demand, so that the closing order is right by
construction: transport > session > catalogue > content > recall > staging > file system > control
> kernel. The kernel's side goes first (no new work), then uploads drain, then streams stop and
the index is written, then the session is logged out, then connections close.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import trio

from icatfs import process, tuning
from icatfs.catalogue.kept import FOLDER as LISTINGS
from icatfs.catalogue.sizes import Sizes
from icatfs.catalogue.tree import Catalogue, Ttl, open_catalogue
from icatfs.commands import Desk
from icatfs.config import Config
from icatfs.content.bulk import Bulk, open_bulk
from icatfs.content.store import CacheFile, ContentStore, open_store
from icatfs.content.transfer import Transfer, open_transfer
from icatfs.control import Command, Talk, open_control
from icatfs.errors import ConfigError, NotAFacility, NotFound, ProtocolError, Unsent
from icatfs.fs.fetching import Fetcher
from icatfs.fs.filesystem import FileSystem, FsOptions, open_filesystem
from icatfs.fs.publishing import WritingServices
from icatfs.fs.recalls import Survey
from icatfs.fs.siblings import contents_of
from icatfs.fs.versions import OneVersion
from icatfs.fs.writing import Writing, open_writing, options_of
from icatfs.fuse.callers import ProcCallers
from icatfs.fuse.kernel import KernelNotifier, serve
from icatfs.icat.client import IcatClient
from icatfs.icat.session import Credentials, SessionKeeper, open_session
from icatfs.icat.urls import icat_url, ids_url, ids_url_guess
from icatfs.ids.client import IdsClient
from icatfs.ids.source import DataSource
from icatfs.ids.zips import ZipSource
from icatfs.notify import notify
from icatfs.recall.admission import policy_of
from icatfs.recall.coordinator import RecallCoordinator, open_recall
from icatfs.recall.grain import FILE as GRAIN
from icatfs.recall.grain import Grain
from icatfs.recall.ordering import Orders, folder_of, open_book, open_orders
from icatfs.recall.orders import Home
from icatfs.staging.archives import Archive
from icatfs.staging.area import StagingArea
from icatfs.staging.resending import Resending
from icatfs.staging.swaps import Swaps
from icatfs.staging.uploader import Timing, open_uploader
from icatfs.transport import Limits, Transport, open_transport
from icatfs.unsent import Outbox, open_outbox, unsent
from icatfs.values import WriteMode

if TYPE_CHECKING:
    from icatfs.catalogue.node import Node
    from icatfs.icat.records import Properties

log = logging.getLogger(__name__)

Ready = Callable[[Sequence[str]], None]

_OLDEST_ICAT = (4, 7)
_MIN_FREE_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Services:
    """All services of one mount, open."""

    config: Config
    transport: Transport
    icat: IcatClient
    keeper: SessionKeeper
    ids: IdsClient
    catalogue: Catalogue
    store: ContentStore
    transfer: Transfer
    bulk: Bulk
    recall: RecallCoordinator
    orders: Orders
    area: StagingArea
    writing: Writing
    notifier: KernelNotifier
    filesystem: FileSystem[CacheFile]
    desk: Desk
    outbox: Outbox


async def preflight(config: Config) -> Properties:
    """What the facility says about itself, before anything is started.

    Raises FacilityUnreachable, CertificateRejected, NotAFacility: reasons not to mount at all.
    """
    async with open_network(config) as transport:
        icat = IcatClient(transport, icat_url(config.url))
        try:
            await _check_version(icat)
            return await icat.properties()
        except NotAFacility:
            raise
        except (ProtocolError, NotFound) as error:
            raise NotAFacility(
                f"{config.url} answers, but not like an ICAT: {error}; check the address (often "
                "https://icat.<facility> or with :8181)"
            ) from error


async def run(config: Config, credentials: Credentials, on_ready: Ready) -> None:
    """Serve one mount until it is unmounted or the process is told to stop.

    ``on_ready`` is called with remarks for the user once the mount answers. Raises Unsent if files
    are not at the facility in the end: their bytes are safe.
    """
    process.prepare()
    left: list[Unsent] = []
    async with AsyncExitStack() as stack:
        services = await _build(config, credentials, stack, left)
        remarks = await _remarks(services)

        def ready() -> None:
            notify(f"READY=1\nSTATUS=mounted at {config.mountpoint}")
            where, mode = config.mountpoint, services.config.mode
            log.info("%s is mounted at %s (--mode %s)", services.icat.url, where, mode)
            on_ready(remarks)
            services.transport.prepare()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(_stop_on_signal, nursery.cancel_scope)
            await serve(
                services.filesystem,
                config.mountpoint,
                source=config.url,
                fuse_options=set(config.fuse_options),
                notifier=services.notifier,
                background=config.max_background,
                on_ready=ready,
            )
            nursery.cancel_scope.cancel()
        notify("STOPPING=1\nSTATUS=sending what is left")
        log.info("%s is unmounted", config.mountpoint)
    for error in left:
        raise error


async def _build(
    config: Config, credentials: Credentials, stack: AsyncExitStack, left: list[Unsent]
) -> Services:
    """Open every service, in the order of their dependencies, on the stack.

    When they close, ``left`` gets what remains to be sent then.
    """
    enter = stack.enter_async_context
    transport = await enter(open_network(config))
    icat = IcatClient(transport, icat_url(config.url))
    keeper = await enter(open_session(icat, credentials))
    ids = await find_ids(config, transport)
    mode = await _write_mode(config, ids)
    ttl = Ttl(default_s=config.ttl_s, running_visit_s=config.ttl_running_s)
    tuning.private_folder(config.cache_dir)
    cache = config.cache_dir / tuning.cache_name(icat.url, keeper.user_name)
    catalogue = await enter(open_catalogue(icat, keeper, ttl=ttl, kept_in=cache / LISTINGS))
    root = await _root(catalogue, config.path)
    store = await enter(
        open_store(
            cache,
            max_bytes=config.cache_size,
            min_free_bytes=_MIN_FREE_BYTES,
            server=icat.url,
            user=keeper.user_name,
        )
    )
    current = OneVersion(
        DataSource(ids, keeper),
        lambda datafile: keeper.run(icat.datafile, datafile),
        store.is_begun,
    )
    transfer = await enter(open_transfer(current))
    two_level = await ids.is_two_level()
    zips = ZipSource(ids, keeper, two_level=two_level)
    bulk = await enter(open_bulk(zips, store, contents_of(catalogue), limits=tuning.ahead(config)))
    sizes, home = Sizes(icat, keeper), Home(icat.url, keeper.user_name)
    grain = Grain(folder_of(config.state_dir, home) / GRAIN)
    recall = await enter(
        open_recall(
            ids,
            keeper,
            two_level=two_level,
            policy=policy_of(config),
            dataset_bytes=sizes.bytes_of,
            grain=grain,
        )
    )
    book = open_book(config.state_dir, home)
    fetcher = Fetcher(catalogue, store, transfer, bulk, config.cache_size)
    orders = await enter(open_orders(book, recall, bring=fetcher.bring))
    area = await enter(tuning.staging(config, icat.url, keeper.user_name))
    stack.push_async_callback(_look_what_is_left, area, left)
    timing = Timing(config.close_wait_s)
    uploader = await enter(open_uploader(icat, ids, keeper, timing, drain_s=config.unmount_wait_s))
    archive = Archive(ids, keeper, two_level=two_level, grain=grain)
    swaps = Swaps(area, uploader, icat, ids, keeper, archive)
    writing = await enter(
        open_writing(
            WritingServices(icat, ids, keeper, catalogue, area, uploader, store, swaps, archive),
            options_of(config, mode),
        )
    )
    notifier = KernelNotifier()
    filesystem = await enter(
        open_filesystem(
            catalogue=catalogue,
            store=store,
            transfer=transfer,
            recall=recall,
            writing=writing,
            options=FsOptions(
                uid=os.getuid(),
                gid=os.getgid(),
                mode=mode,
                recall_wait_s=config.recall_wait_s,
                slot_wait_s=config.slot_wait_s,
                write_back=config.write_back,
                entry_timeout_s=config.ttl_s,
                attr_timeout_s=config.ttl_s,
            ),
            probe=ProcCallers(config.mountpoint),
            notifier=notifier,
            foresight=bulk,
            root=root,
        )
    )
    sending, arrived = lambda: writing.publishing.under_way, filesystem.aftermath.arrived
    resending = Resending(icat, ids, keeper, archive, timing)
    outbox = await enter(open_outbox(area, uploader, swaps, resending, catalogue, sending, arrived))
    services = Services(
        replace(config, mode=mode),
        transport,
        icat,
        keeper,
        ids,
        catalogue,
        store,
        transfer,
        bulk,
        recall,
        orders,
        area,
        writing,
        notifier,
        filesystem,
        Desk(
            survey=Survey(catalogue, sizes, recall, root),
            recall=recall,
            orders=orders,
            readers=filesystem.readers,
            ids=ids,
            keeper=keeper,
            mode=mode,
            top=config.path.rstrip("/"),
            icat=icat,
            area=area,
            is_own=writing.is_own,
        ),
        outbox,
    )
    await enter(open_control(config.mountpoint, _commands(services)))
    return services


def _commands(services: Services) -> Mapping[str, Command | Talk]:
    """What the control socket answers."""

    async def status(_: Mapping[str, Any]) -> object:
        return {
            "mountpoint": str(services.config.mountpoint),
            "url": services.icat.url,
            "user": services.keeper.user_name,
            "mode": services.config.mode,
            "pid": os.getpid(),
            "session": asdict(services.keeper.status()),
            "transport": asdict(services.transport.status()),
            "catalogue": asdict(services.catalogue.status()),
            "content": asdict(services.store.status()),
            "transfer": asdict(services.transfer.status()),
            "bulk": asdict(services.bulk.status()),
            "recall": asdict(services.recall.status()),
            "filesystem": asdict(services.filesystem.status()),
            "pending": [asdict(entry) for entry in await services.area.left()],
        }

    async def refresh(_: Mapping[str, Any]) -> None:
        services.filesystem.refresh()

    own = {"status": status, "refresh": refresh, **services.outbox.commands()}
    return {**own, **services.desk.commands()}


def open_network(config: Config) -> AbstractAsyncContextManager[Transport]:
    """The transport to the facility, as configured."""
    return open_transport(
        ca_file=config.ca_file,
        insecure=config.insecure,
        limits=Limits(in_flight=config.max_requests, data=max(config.max_requests - 1, 1)),
        answer_s=config.answer_wait_s,
    )


async def _check_version(icat: IcatClient) -> None:
    text = await icat.version()
    numbers = tuple(int(part) for part in text.split("-")[0].split(".") if part.isdecimal())
    if numbers < _OLDEST_ICAT:
        raise NotAFacility(f"{icat.url} is ICAT {text}; icatfs needs 4.7 or newer")


async def find_ids(config: Config, transport: Transport) -> IdsClient:
    """The data service given, or the one beside ICAT; it must answer like one."""
    given = config.ids_url
    url = ids_url(given) if given else ids_url_guess(icat_url(config.url))
    ids = IdsClient(transport, url)
    try:
        await ids.ping()
    except (ProtocolError, NotFound) as error:
        how = "" if given else " (guessed from ICAT's address; give the right one with --ids)"
        raise NotAFacility(f"there is no data service (IDS) at {url}{how}: {error}") from error
    return ids


async def _write_mode(config: Config, ids: IdsClient) -> WriteMode:
    if config.mode is not WriteMode.READ_ONLY and await ids.is_read_only():
        return WriteMode.READ_ONLY
    return config.mode


async def _root(catalogue: Catalogue, path: str) -> Node:
    """The folder that becomes the root of the mount; who looks into it first waits for less."""
    node = catalogue.root
    await catalogue.listing(node)
    for component in path.strip("/").split("/") if path.strip("/") else []:
        try:
            node = await catalogue.lookup(node, component)
        except NotFound as error:
            raise NotFound(
                f"the facility has no {path} that you may see (no {component!r}): check its name"
            ) from error
    if not node.is_folder:
        raise ConfigError(f"{path} is a file: only folders can be mounted")
    return node


async def _look_what_is_left(area: StagingArea, left: list[Unsent]) -> None:
    """Called when nothing is sent any more."""
    if entries := await area.left():
        left.append(unsent(entries, area))


async def _remarks(services: Services) -> list[str]:
    """What the user should know at the start."""
    remarks = []
    if services.config.mode is WriteMode.READ_ONLY and await services.ids.is_read_only():
        remarks.append("the facility's data service is read-only, and so is this mount")
    if services.config.insecure:
        remarks.append("certificates are not checked (--insecure): anybody may listen")
    if left := await services.area.left():
        remarks.append(
            f"{len(left)} files of an earlier mount were not sent; what is whole is sent now, "
            "icatfs pending tells the rest"
        )
    remarks += await services.orders.remarks()
    return remarks


async def _stop_on_signal(scope: trio.CancelScope) -> None:
    """Unmount when told to stop."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async for number in signals:
            log.info("stopping on %s", signal.Signals(number).name)
            scope.cancel()
            return
