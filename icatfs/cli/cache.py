"""``icatfs cache``: what is kept of what was read, with or without a running mount."""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from icatfs import config as cfg
from icatfs.catalogue import upkeep as listings
from icatfs.cli import words
from icatfs.content import upkeep
from icatfs.errors import ConfigError, Damaged, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from icatfs.catalogue.upkeep import Checked, Listings
    from icatfs.content.upkeep import Account, Cleared, Verified

_NAMED_AT_MOST = 20


def _where(command: Callable[..., None]) -> Callable[..., None]:
    """Where the cache is, and how to tell."""
    for option in (
        click.option("-s", "--section", help="Section of icat.cfg that names the folder."),
        click.option("-c", "--config", type=click.Path(), help="This icat.cfg."),
        click.option("--cache-dir", type=click.Path(), help="The cache folder of the mounts."),
        click.option("--json", "as_json", is_flag=True, help="Answer as JSON."),
    ):
        command = option(command)
    return command


@click.group(invoke_without_command=True)
@_where
@click.pass_context
def command(context: click.Context, /, **where: Any) -> None:
    """Show, empty or check what is kept of what you read.

    Every file that you read through a mount is kept on this machine, so that it need not be fetched
    again, and so are listings of large folders. It is deleted by itself when room is needed: there
    is nothing in it that the facility does not have. (What you wrote and is not at the facility yet
    is elsewhere: icatfs pending.)

    FACILITY is the address of a facility, or a part of it; without, all of yours are meant.
    """
    if context.invoked_subcommand is None:
        context.invoke(status, **where)
    elif any(where.values()):
        raise click.UsageError(f"write the options behind {context.invoked_subcommand}")


@command.command()
@_where
@click.argument("facility", required=False)
def status(facility: str | None = None, as_json: bool = False, **where: str | None) -> None:
    """Show how much is kept, for which facility, and how much may be."""
    cache_dir = _cache_dir(**where)
    accounts = [_account(folder) for folder in _folders(cache_dir, facility)]
    if as_json:
        click.echo(json.dumps([_as_json(*account) for account in accounts], indent=2))
        return
    if not accounts:
        click.echo(f"nothing is kept in {cache_dir}")
        return
    click.echo(f"{cache_dir}, on a disk with {words.size(_free(cache_dir))} free")
    for account in accounts:
        click.echo(_text(*account))


@command.command()
@_where
@click.argument("facility", required=False)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def clear(facility: str | None, as_json: bool, yes: bool, **where: str | None) -> None:
    """Delete what is kept and no program has open. It is fetched again when you read it.

    Running mounts are not disturbed.
    """
    cleared = []
    for folder in _folders(_cache_dir(**where), facility):
        account, listed = _account(folder)
        held = words.size(account.held + listed.held)
        if yes or _asked(f"delete {held} kept of {_whose(account)}?"):
            with _usable(folder):
                cleared.append((upkeep.clear(folder), listings.clear(folder)))
            if not as_json:
                click.echo(_what_went(*cleared[-1]))
    if as_json:
        click.echo(json.dumps([_went_as_json(*one) for one in cleared], indent=2))
    elif not cleared:
        click.echo("nothing was deleted")


@command.command()
@_where
@click.argument("facility", required=False)
def verify(facility: str | None, as_json: bool, **where: str | None) -> None:
    """Compare all that is kept with the checksums it had when it came, and files with the
    catalogue's.

    A mount does the same for what it reads, when it first reads it. What is wrong is deleted, and
    fetched again when you read it; the exit code is then 17.
    """
    results = []
    for folder in _folders(_cache_dir(**where), facility):
        account = upkeep.account(folder)
        with (
            click.progressbar(
                length=max(1, account.held),
                label=_whose(account),
                file=sys.stderr,
                hidden=as_json or not sys.stderr.isatty(),
            ) as bar,
            _usable(folder),
        ):
            results.append((upkeep.verify(folder, bar.update), listings.verify(folder)))
        if not as_json:
            click.echo(_what_was_found(*results[-1]))
    if as_json:
        click.echo(json.dumps([_found_as_json(*one) for one in results], indent=2))
    wrong = sum(len(one.wrong) + len(checked.wrong) for one, checked in results)
    if wrong:
        raise Damaged(
            f"{words.number(wrong, 'file')} of the cache had wrong bytes and "
            f"{'was' if wrong == 1 else 'were'} deleted: they are fetched again when they are "
            "read. If that happens again, have the disk checked"
        )


def _account(folder: Path) -> tuple[Account, Listings]:
    """What is kept there of files, and of listings."""
    with _usable(folder):
        return upkeep.account(folder), listings.account(folder)


@contextmanager
def _usable(folder: Path) -> Iterator[None]:
    """ConfigError for a folder that cannot be read or changed."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"The listings in {folder} cannot be used: {error}") from error


def _cache_dir(
    cache_dir: str | None = None, config: str | None = None, section: str | None = None
) -> Path:
    own = cfg.own_settings(cfg.read_section(config, section))
    return Path(cache_dir or own.get("cache_dir") or cfg.default_cache_dir()).expanduser()


def _folders(cache_dir: Path, facility: str | None) -> Sequence[Path]:
    """The cache folders meant; NotFound where a facility was named that has none."""
    folders = upkeep.folders(cache_dir)
    if facility is None:
        return folders
    wanted = facility.rstrip("/").lower()
    named = [one for one in folders if wanted in _server(upkeep.account(one)).lower()]
    if not named:
        known = ", ".join(sorted({_server(upkeep.account(one)) for one in folders})) or "nothing"
        raise NotFound(f"nothing is kept of {facility} in {cache_dir}: there is {known}")
    return named


def _asked(question: str) -> bool:
    if not sys.stdin.isatty():
        raise ConfigError("nobody can be asked here: say --yes if you mean it")
    return click.confirm(question, default=False, err=True)


def _free(folder: Path) -> int:
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


# In words.


def _server(account: Account) -> str:
    return account.home.server if account.home else "another version of icatfs"


def _whose(account: Account) -> str:
    return f"{account.home.server} as {account.home.user}" if account.home else _server(account)


def _text(account: Account, listed: Listings) -> str:
    files = words.number(account.files, "file")
    limit = f" of {words.size(account.home.max_bytes)} at most" if account.home else ""
    mounts = words.number(account.mounts, "mount") if account.mounts else "no mount"
    return "\n".join(
        [
            _whose(account),
            f"  kept      {words.size(account.held)} in {files}{limit}",
            f"  listings  {_in(listed)}",
            f"  in use    by {mounts}",
            f"  folder    {account.folder}",
        ]
    )


def _in(listed: Listings) -> str:
    """So many bytes in so many listings."""
    return f"{words.size(listed.held)} of {words.number(listed.count, 'folder')}"


def _what_went(cleared: Cleared, listed: Listings) -> str:
    before, after = cleared.before, cleared.after
    gone = f"{_whose(before)}: {words.size(max(0, before.held - after.held))} freed"
    if listed.count:
        gone += f", and listings: {_in(listed)}"
    if not after.files:
        return gone
    files = words.number(after.files, "file")
    return f"{gone}, {words.size(after.held)} in {files} stayed because a mount uses them"


def _what_was_found(verified: Verified, checked: Checked) -> str:
    right = f"{words.size(verified.bytes)} in {words.number(verified.files, 'file')} are right"
    if checked.right:
        right += f", and {words.number(checked.right, 'listing')}"
    lines = [f"{_whose(verified.account)}: {right}"]
    if verified.in_use:
        lines.append(f"  {words.number(verified.in_use, 'file')} could not be judged: in use")
    for wrong in verified.wrong[:_NAMED_AT_MOST]:
        which = "a file" if wrong.datafile is None else f"datafile {wrong.datafile}"
        lines.append(f"  {which}: {wrong.reason}; deleted")
    if len(verified.wrong) > _NAMED_AT_MOST:
        lines.append(f"  and {len(verified.wrong) - _NAMED_AT_MOST:,} more")
    lines += [f"  the listing {one.file}: {one.reason}; deleted" for one in checked.wrong]
    return "\n".join(lines)


# For scripts.


def _as_json(account: Account, listed: Listings) -> dict[str, Any]:
    home = account.home
    return {
        "folder": str(account.folder),
        "server": home and home.server,
        "user": home and home.user,
        "files": account.files,
        "bytes": account.held,
        "max_bytes": home and home.max_bytes,
        "free_bytes": _free(account.folder),
        "mounts": account.mounts,
        "listings": listed.count,
        "listing_bytes": listed.held,
    }


def _went_as_json(cleared: Cleared, gone: Listings) -> dict[str, Any]:
    freed = cleared.before.held - cleared.after.held
    return {
        **_as_json(*_account(cleared.after.folder)),
        "freed_bytes": max(0, freed),
        "freed_listings": gone.count,
        "freed_listing_bytes": gone.held,
    }


def _found_as_json(verified: Verified, checked: Checked) -> dict[str, Any]:
    return {
        **_as_json(verified.account, listings.account(verified.account.folder)),
        "right_listings": checked.right,
        "wrong_listings": [asdict(one) for one in checked.wrong],
        "right_files": verified.files,
        "right_bytes": verified.bytes,
        "in_use": verified.in_use,
        "wrong": [asdict(one) for one in verified.wrong],
    }
