"""``icatfs bench``: how fast is this facility through a mount, and how fast without."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import urllib.request
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
import trio

from icatfs import config as cfg
from icatfs import daemon
from icatfs.cli import login, mount, settings
from icatfs.cli.measure import Row, row, table, timed
from icatfs.cli.serve import Launch
from icatfs.errors import NotFound
from icatfs.icat.client import IcatClient
from icatfs.icat.urls import icat_url, ids_url, ids_url_guess
from icatfs.transport import open_transport
from icatfs.values import WriteMode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

_SMALL = 2**20
_LOOKED_AT = 5000
_PIECE = 2**20


@dataclasses.dataclass(frozen=True, slots=True)
class Chosen:
    """One file that is to be read; ``path`` is relative to the mount."""

    path: Path
    size: int
    datafile: int


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What will be read: the largest file within the limit, small ones, and how many were seen."""

    large: Chosen | None
    small: tuple[Chosen, ...]
    seen: int

    @property
    def total(self) -> int:
        """Bytes of one run."""
        return sum(one.size for one in (self.large, *self.small) if one is not None)

    def sentence(self, runs: int) -> str:
        """What a run does, for the user to agree to."""
        parts = []
        if self.large is not None:
            parts.append(f"{self.large.path} ({_mib(self.large.size)})")
        if self.small:
            parts.append(f"{len(self.small)} files of less than 1 MiB")
        return (
            f"Reads {' and '.join(parts)}: {_mib(self.total)}, {runs} times through a mount with"
            " an empty cache and as often without one. Nothing archived, nothing is written."
        )


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("url")
@click.argument("mount_options", nargs=-1, type=click.UNPROCESSED)
@click.option("--files", default=100, show_default=True, help="How many small files to read.")
@click.option("--bytes", "size", default="1G", show_default=True, help="The largest file to read.")
@click.option("--runs", default=3, show_default=True, help="How often.")
@click.option("--yes", is_flag=True, help="Do not ask before reading.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def command(
    url: str,
    mount_options: tuple[str, ...],
    files: int,
    size: str,
    runs: int,
    yes: bool,
    as_json: bool,
) -> None:
    """Measure the facility at URL:/path through a mount and without one.

    Mounts it read-only in a temporary folder with an empty cache, chooses files that are online
    below the path, says what it will read, and asks. All other options are those of `icatfs mount`,
    for example --auth, --user and --section.
    """
    limit = cfg.parse_size(size)
    with tempfile.TemporaryDirectory(prefix="icatfs-bench-") as folder:
        bench = _Bench(_launch(url, mount_options, Path(folder)), Path(folder))
        with bench.mounted():
            plan = choose(bench.point, files, limit)
        if not plan.total:
            raise NotFound(
                f"{url} has no file that is online among the first {plan.seen}: "
                "name a folder with some, or bring them back by reading them"
            )
        click.echo(plan.sentence(runs), err=True)
        if not yes:
            click.confirm("Go on?", abort=True, err=True)
        rows = bench.measure(plan, runs)
    click.echo(json.dumps([one.as_json() for one in rows], indent=2) if as_json else table(rows))


def choose(root: Path, files: int, limit: int) -> Plan:
    """Files below a folder of a mount that are online, from the first few thousand there are."""
    large: Chosen | None = None
    small: list[Chosen] = []
    seen = 0
    for path, size in _walk(root):
        seen += 1
        if seen > _LOOKED_AT:
            break
        wanted = size < _SMALL and len(small) < files
        larger = size <= limit and size > (large.size if large else 0)
        if not (wanted or larger) or not size or not _is_online(path):
            continue
        one = Chosen(path.relative_to(root), size, int(os.getxattr(path, "user.icat.id")))
        if size < _SMALL:
            small.append(one)
        else:
            large = one
    return Plan(large, tuple(small[:files]), min(seen, _LOOKED_AT))


def _walk(root: Path) -> Iterator[tuple[Path, int]]:
    """Files and sizes, folder by folder."""
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            yield path, path.stat().st_size


def _is_online(path: Path) -> bool:
    try:
        return os.getxattr(path, "user.icat.status") == b"ONLINE"
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.EACCES, errno.EIO):
            raise
        return False


class _Bench:
    """A mount in a temporary folder, made again for each run."""

    def __init__(self, launch: Launch, folder: Path) -> None:
        self.launch = launch
        self.folder = folder
        self.point = launch.config.mountpoint

    @contextmanager
    def mounted(self) -> Iterator[None]:
        """The facility with an empty cache, for the time of a block."""
        shutil.rmtree(self.launch.config.cache_dir, ignore_errors=True)
        mount.start_daemon(self.launch)
        try:
            yield
        finally:
            unmount = [sys.executable, "-m", "icatfs", "unmount", str(self.point)]
            subprocess.run(unmount, check=True, capture_output=True)

    def measure(self, plan: Plan, runs: int) -> list[Row]:
        """Every row, mount and data service in turn."""
        service = trio.run(_data_service, self.launch)
        parts = {"large": (plan.large,) if plan.large else (), "small": plan.small}
        seconds: dict[str, list[float]] = {}

        def take(name: str, work: Callable[[], object]) -> None:
            seconds.setdefault(name, []).append(timed(work))

        for _ in range(runs):
            with self.mounted():
                for kind, chosen in parts.items():
                    paths = [self.point / one.path for one in chosen]
                    take(f"{kind} list", partial(_list_all, {path.parent for path in paths}))
                    take(f"{kind} cold", partial(_read_all, paths))
                    take(f"{kind} warm", partial(_read_all, paths))
            for kind, chosen in parts.items():
                take(f"{kind} direct", partial(service.read_all, chosen))
        return _rows(plan, seconds)


def _rows(plan: Plan, seconds: dict[str, list[float]]) -> list[Row]:
    rows = []
    if plan.large is not None:
        size = plan.large.size / 2**20
        what = f"{plan.large.path.name} ({_mib(plan.large.size)})"
        speeds = {
            name: [size / one for one in seconds[f"large {name}"]]
            for name in ("direct", "cold", "warm")
        }
        direct = row(f"data service, {what}", speeds["direct"], "MiB/s")
        rows += [
            row("list its folder, cold", seconds["large list"]),
            direct,
            row(f"mount, {what}, cold", speeds["cold"], "MiB/s", peer=direct),
            row(f"mount, {what}, warm", speeds["warm"], "MiB/s", peer=direct),
        ]
    if plan.small:
        what = f"{len(plan.small)} small files"
        direct = row(f"data service, {what}, one by one", seconds["small direct"])
        rows += [
            direct,
            row(f"mount, {what}, cold", seconds["small cold"], peer=direct),
            row(f"mount, {what}, warm", seconds["small warm"], peer=direct),
        ]
    return rows


def _launch(url: str, mount_options: tuple[str, ...], folder: Path) -> Launch:
    """The mount that the options of ``icatfs mount`` describe, read-only and in the folder."""
    point = folder / "mnt"
    point.mkdir()
    parsed = mount.command.make_context("bench", [*mount_options, url, str(point)])
    given = {name: value for name, value in parsed.params.items() if name not in _NOT_OURS}
    flags = mount.as_flags(parsed.params["places"], given)
    config = dataclasses.replace(
        settings.resolve(flags),
        mode=WriteMode.READ_ONLY,
        cache_dir=folder / "cache",
        state_dir=folder / "state",
    )
    properties = trio.run(daemon.preflight, config)
    return Launch(config=config, credentials=login.choose(config, properties))


_NOT_OURS = ("places", "foreground")


@dataclasses.dataclass(frozen=True, slots=True)
class _DataService:
    """The address of getData with a session, and how to trust it."""

    address: str
    context: ssl.SSLContext | None

    def read_all(self, files: Sequence[Chosen]) -> None:
        """Ask for files one after another, and forget what comes."""
        buffer = bytearray(_PIECE)
        for one in files:
            url = f"{self.address}{one.datafile}"
            with urllib.request.urlopen(url, context=self.context) as body:
                while body.readinto(buffer):
                    pass


async def _data_service(launch: Launch) -> _DataService:
    config = launch.config
    async with open_transport(ca_file=config.ca_file, insecure=config.insecure) as transport:
        icat = IcatClient(transport, icat_url(config.url))
        session = await icat.login(launch.credentials.auth, launch.credentials.values)
    data = ids_url(config.ids_url) if config.ids_url else ids_url_guess(icat_url(config.url))
    context = None
    if data.startswith("https"):
        context = ssl.create_default_context(cafile=config.ca_file)
        if config.insecure:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return _DataService(f"{data}/getData?sessionId={session}&datafileIds=", context)


def _list_all(folders: Iterable[Path]) -> None:
    for folder in folders:
        for entry in os.scandir(folder):
            entry.stat()


def _read_all(paths: Iterable[Path]) -> None:
    buffer = bytearray(_PIECE)
    for path in paths:
        with open(path, "rb", buffering=0) as stream:
            while stream.readinto(buffer):
                pass


def _mib(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"
