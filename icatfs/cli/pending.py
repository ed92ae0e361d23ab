"""``icatfs pending``: files that the facility does not have yet, and what to do with them.

Works with a running mount and without: the bytes and their journal are in the staging folder, where
a lock on each file says whether a mount is about to send it. Only sending needs the facility: then
a running mount of the same user does it, else this command logs in itself.
"""

from __future__ import annotations

import json
import shutil
import sys
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import trio

from icatfs import config as cfg
from icatfs import control, daemon
from icatfs.cli import login, settings
from icatfs.cli.words import number
from icatfs.errors import ConfigError, MountError, NotFound, Unsent
from icatfs.icat.client import IcatClient
from icatfs.icat.session import Credentials, open_session
from icatfs.icat.urls import icat_url
from icatfs.staging.archives import Archive
from icatfs.staging.area import folders, open_folder
from icatfs.staging.journal import Entry, Home
from icatfs.staging.recovery import Fate, Result
from icatfs.staging.resending import Resending
from icatfs.staging.swaps import untidy
from icatfs.staging.uploader import Timing
from icatfs.unsent import why

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from icatfs.config import Config

_SEND_S = 30 * 86400.0
"""A mount may take as long as it needs."""
_PREFIX = 4


@dataclass(frozen=True, slots=True)
class Item:
    """A pending file; ``id`` is what the user names it by."""

    id: str
    folder: Path
    home: Home
    entry: Entry
    is_live: bool
    """A mount that is alive has it open, or is sending it."""

    @property
    def bytes_at(self) -> Path:
        return self.folder / f"{self.entry.id:08d}.data"

    def as_json(self) -> dict[str, Any]:
        """All there is to know, for scripts."""
        facts = {name: value for name, value in asdict(self.entry).items() if name != "id"}
        path = str(self.bytes_at)
        return {
            "id": self.id,
            **asdict(self.home),
            **facts,
            "why": why(self.entry),
            "live": self.is_live,
            "path": path,
        }


_EPILOG = """
\b
Examples:
  icatfs pending                        what is not at the facility, and why
  icatfs pending --send                 send all that is whole; nothing is ever stored twice
  icatfs pending --send 3fa9-15         this one, as it is, although it is incomplete
  icatfs pending --export ~/rescued     copy all out under their names; they stay pending
  icatfs pending --abandon 3fa9-15      delete this one, after a question

A running mount sends with its own session; without one this command logs in.
"""


@click.command(epilog=_EPILOG)
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--json", "as_json", is_flag=True, help="List as JSON.")
@click.option("--send", is_flag=True, help="Send these IDs; without one, all that is whole.")
@click.option(
    "--export",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Copy these IDs, or all, to DIR.",
)
@click.option("--abandon", is_flag=True, help="Delete these IDs: their bytes are gone then.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask before --abandon.")
@click.option("--state-dir", type=click.Path(), help="Where the mounts keep their state.")
@click.option("--auth", help="How to log in, where no mount is running: a mnemonic, e.g. db.")
@click.option("-u", "--user", help="User name.")
@click.option("--password-file", type=click.Path(), help="File whose first line is the password.")
@click.option("--anonymous", is_flag=True, help="Log in without an account.")
@click.option("--ids-url", metavar="URL", help="The data service, where it is not beside ICAT.")
@click.option("-c", "--config", type=click.Path(), help="This icat.cfg instead of the usual ones.")
@click.option("-s", "--section", help="Section of icat.cfg.")
@click.option("--ca-file", type=click.Path(), help="Certificates to trust.")
@click.option("--insecure", is_flag=True, help="Accept any certificate.")
def command(
    ids: tuple[str, ...],
    as_json: bool,
    send: bool,
    export: Path | None,
    abandon: bool,
    yes: bool,
    state_dir: str | None,
    **how: Any,
) -> None:
    """List the files that are not at the facility yet, or send, copy or delete them.

    Their bytes are safe on this machine. A file that its program did not close is incomplete: it is
    sent only if you name it.
    """
    if send + (export is not None) + abandon > 1:
        raise click.UsageError("choose one of --send, --export and --abandon")
    if ids and not (send or export or abandon):
        raise click.UsageError("say what to do with them: --send, --export DIR or --abandon")
    items = _items(_state_dir(state_dir, how))
    chosen = [_named(items, name) for name in ids] if ids else items
    if send:
        _send(chosen, by_name=bool(ids), state_dir=state_dir, how=how)
    elif export is not None:
        _export(chosen, export)
    elif abandon:
        _abandon(chosen if ids else [], yes=yes)
    elif as_json:
        click.echo(json.dumps([item.as_json() for item in items], indent=2))
    else:
        _list(items)


def _state_dir(given: str | None, how: dict[str, Any]) -> Path:
    own = cfg.own_settings(cfg.read_section(how["config"], how["section"]))
    return Path(given or own.get("state_dir") or cfg.default_state_dir()).expanduser().absolute()


def _items(state_dir: Path) -> list[Item]:
    """What is pending in all staging folders."""
    return [item for folder in folders(state_dir) for item in trio.run(_look, folder)]


async def _look(folder: Path) -> list[Item]:
    async with open_folder(folder) as area:
        home = area.journal.home() or Home("", "")
        return [
            Item(
                f"{folder.name[:_PREFIX]}-{entry.id}",
                folder,
                home,
                entry,
                area.held_elsewhere(entry.id),
            )
            for entry in await area.pending()
        ]


def _named(items: Sequence[Item], name: str) -> Item:
    """The item of this id; its number alone will do where there is but one of it."""
    found = [item for item in items if name in (item.id, str(item.entry.id))]
    if len(found) != 1:
        raise NotFound(f"there is no pending file {name}: icatfs pending lists them")
    return found[0]


def _list(items: Sequence[Item]) -> None:
    if not items:
        click.echo("nothing is pending: the facility has every file")
    for home in dict.fromkeys(item.home for item in items):
        click.echo(f"{home.server} as {home.user}")
        for item in items:
            if item.home == home:
                state = "open in a running mount" if item.is_live else why(item.entry)
                click.echo(f"  {item.id:10} {item.entry.shown}: {state}")


def _export(items: Sequence[Item], target: Path) -> None:
    """Copy the bytes under their names; nothing that exists is overwritten."""
    for item in items:
        if not item.bytes_at.exists():  # a crash came before the first, or it has been stored since
            click.echo(f"{item.id} {item.entry.shown}: there are no bytes to copy", err=True)
            continue
        path = target.joinpath(*_relative(item.entry.shown))
        try:
            path = _copy(item, path)
        except OSError as error:
            raise ConfigError(f"cannot copy {item.id} to {path}: {error.strerror}") from error
        click.echo(f"{item.id} {path}")


def _copy(item: Item, path: Path) -> Path:
    """Where the copy is; what could only be copied in part is not left to look whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    further = (path.with_name(f"{path.name}.{item.id}.{n}") for n in count(2))
    names = chain([path, path.with_name(f"{path.name}.{item.id}")], further)
    path = next(name for name in names if not name.exists())
    try:
        shutil.copyfile(item.bytes_at, path)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return path


def _relative(shown: str) -> list[str]:
    return [part for part in shown.split("/") if part not in ("", ".", "..")]


def _abandon(items: Sequence[Item], *, yes: bool) -> None:
    if not items:
        raise click.UsageError("name the files to delete")
    for item in items:
        if not yes and not _asked(f"delete {item.entry.shown}? The facility does not have it"):
            continue
        if not trio.run(_forget, item):
            raise MountError(f"{item.id} is open in a running mount: close it there")
        click.echo(f"{item.id} {item.entry.shown} is deleted")


def _asked(question: str) -> bool:
    if not sys.stdin.isatty():
        raise ConfigError("nobody can be asked here: say --yes if you mean it")
    return click.confirm(question, default=False, err=True)


async def _forget(item: Item) -> bool:
    async with open_folder(item.folder) as area:
        return await area.abandon(item.entry.id)


def _send(
    items: Sequence[Item], *, by_name: bool, state_dir: str | None, how: dict[str, Any]
) -> None:
    """Send; `Unsent` if something remains that was to be sent."""
    results: list[Result] = []
    homes = {item.folder: item.home for item in items}
    if not by_name:
        homes |= _untidy(_state_dir(state_dir, how))
    for folder, home in homes.items():
        numbers = [item.entry.id for item in items if item.folder == folder] if by_name else None
        sent = _by_mount(folder, numbers)
        if sent is None:
            sent = _by_login(folder, home, numbers, state_dir, how)
        results += sent
    for result in results:
        click.echo(f"{result.shown}: {result.fate}{': ' if result.reason else ''}{result.reason}")
    if not results:
        click.echo("nothing is pending: the facility has every file")
    left = [result for result in results if result.fate is not Fate.STORED]
    if left:
        incomplete = any(result.fate is Fate.INCOMPLETE for result in left)
        raise Unsent(
            f"{number(len(left), 'file')} not sent; the bytes are safe"
            + ("; incomplete ones are sent if you name them (icatfs pending)" if incomplete else "")
        )


def _untidy(state_dir: Path) -> dict[Path, Home]:
    """The folders of those who have replaced files, and may not have removed the old ones."""
    found = {}
    for folder in folders(state_dir):
        home = trio.run(_untidy_home, folder)
        if home is not None:
            found[folder] = home
    return found


async def _untidy_home(folder: Path) -> Home | None:
    async with open_folder(folder) as area:
        return area.journal.home() if untidy(area.journal) else None


def _by_mount(folder: Path, numbers: Sequence[int] | None) -> list[Result] | None:
    """Have a running mount send them; None if none is running."""
    for path in control.sockets():
        with _not_answering():
            if control.ask(path, "pending", timeout_s=5.0)["folder"] == str(folder):
                answer = control.ask(path, "send", timeout_s=_SEND_S, ids=numbers)
                return [Result(**{**one, "fate": Fate(one["fate"])}) for one in answer]
    return None


@contextmanager
def _not_answering() -> Iterator[None]:
    try:
        yield
    except MountError as error:
        if error.__cause__ is None:  # the mount's own words
            raise


def _by_login(
    folder: Path,
    home: Home,
    numbers: Sequence[int] | None,
    state_dir: str | None,
    how: dict[str, Any],
) -> list[Result]:
    auth, _, name = home.user.rpartition("/")
    flags = settings.Flags(
        source=home.server,
        mountpoint=Path("/"),
        ids=how["ids_url"],
        config=how["config"],
        section=how["section"],
        auth=how["auth"] or auth or None,
        user=how["user"] or name,
        password_file=how["password_file"],
        anonymous=how["anonymous"],
        insecure=how["insecure"],
        settings={
            key: value
            for key, value in (("state_dir", state_dir), ("ca_file", how["ca_file"]))
            if value is not None
        },
    )
    resolved = settings.resolve(flags)
    properties = trio.run(daemon.preflight, resolved)
    credentials = login.choose(resolved, properties)
    return trio.run(_resend, resolved, credentials, folder, home, numbers)


async def _resend(
    config: Config,
    credentials: Credentials,
    folder: Path,
    home: Home,
    numbers: Sequence[int] | None,
) -> list[Result]:
    """Log in and send."""
    async with (
        daemon.open_network(config) as transport,
        open_session(IcatClient(transport, icat_url(config.url)), credentials) as keeper,
    ):
        if keeper.user_name != home.user:
            raise ConfigError(f"these files are {home.user}'s, not {keeper.user_name}'s")
        icat = IcatClient(transport, icat_url(config.url))
        ids = await daemon.find_ids(config, transport)
        archive = Archive(ids, keeper, two_level=await ids.is_two_level())
        resending = Resending(icat, ids, keeper, archive, Timing(config.close_wait_s))
        async with resending.recovery(folder) as recovery:
            return await (recovery.run() if numbers is None else recovery.send(numbers))
