"""What one mount is told: one frozen `Config`, validated once.

Each setting comes from the first of: the command line (and ``-o``), ``ICATFS_<SETTING>`` in the
environment, the section of python-icat's ``icat.cfg``, the default. The options that python-icat
knows keep its names there (``url idsurl auth username password checkCert``, and ``ICAT_CFG
ICAT_CFG_SECTION ICAT_SERVICE ICAT_DATA_SERVICE ICAT_AUTH ICAT_USER`` in the environment:
python-icat, ``config.py``); settings of our own are written ``icatfs_<setting>`` in the section.
A password is never taken from the command line or the environment.
"""

from __future__ import annotations

import configparser
import difflib
import logging
import os
import shutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import platformdirs

from icatfs.errors import ConfigError
from icatfs.values import WriteMode

log = logging.getLogger(__name__)

_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_TRUE = frozenset({"1", "yes", "y", "true", "t", "on"})
_FALSE = frozenset({"0", "no", "n", "false", "f", "off"})

SETTINGS = frozenset(
    {
        "mode",
        "cache_dir",
        "cache_size",
        "state_dir",
        "ca_file",
        "recall",
        "recall_refuse",
        "recall_process_units",
        "recall_mount_units",
        "recall_unit_size",
        "recall_wait",
        "slot_wait",
        "max_background",
        "ttl",
        "ttl_running",
        "dataset_type",
        "allow_recursive_delete",
        "complete_is_closed",
        "answer_wait",
        "close_wait",
        "stream_after",
        "write_back",
        "temporary_names",
        "staging_size",
        "staging_free",
        "unmount_wait",
        "max_requests",
        "bulk_budget",
        "bulk_ahead",
        "password_file",
        "log_file",
    }
)
"""The settings of our own that files and environment may hold."""


@dataclass(frozen=True, slots=True)
class Config:
    """One mount. Times are in seconds, sizes in bytes."""

    url: str
    """ICAT as the user named it; `icatfs.icat.urls` completes it."""
    mountpoint: Path
    cache_dir: Path
    state_dir: Path
    """Staged files and the upload journal: never evicted."""
    cache_size: int
    ids_url: str | None = None
    """None: guessed beside ICAT."""
    path: str = "/"
    """The folder of the facility that becomes the root of the mount."""
    auth: str | None = None
    """Authenticator; None: chosen from what the server offers."""
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Further credential keys of the authenticator (``cred_KEY`` of icat.cfg)."""
    mode: WriteMode = WriteMode.ADD
    ca_file: Path | None = None
    insecure: bool = False
    recall: str = ""
    """Which reads recall archived data: the table of `icatfs.recall.policy`."""
    recall_refuse: str = ""
    """The programs that never do; empty: the default list."""
    recall_process_units: int | None = 1000
    recall_mount_units: int | None = 5000
    """Datasets or files that reading may recall in an hour; None: without limit."""
    recall_unit_size: int | None = 2**40
    """The largest dataset that reading may recall; None: without limit."""
    recall_wait_s: float | None = None
    """How long a read waits for the archive; None: without limit."""
    slot_wait_s: float = 1.0
    """How long a read waits for its turn to wait, where the kernel lets few wait."""
    max_background: int = 1000
    """Requests that the kernel may have under way; 12 and below: the kernel's default."""
    ttl_s: float = 60.0
    ttl_running_s: float = 15.0
    """The same for visits that are running."""
    dataset_type: str | None = None
    allow_recursive_delete: bool = False
    """Whether one program may remove as many stored files as it likes."""
    complete_is_closed: bool = False
    """Whether a dataset that is marked complete takes no new files, whatever ICAT's rules say."""
    answer_wait_s: float | None = None
    """How long the facility may take to answer; None: 75 s, and 120 s or more what takes long."""
    close_wait_s: float = 600.0
    """How long ``close`` keeps trying while the server is busy or restores."""
    unmount_wait_s: float = 300.0
    """How long stopping waits for files that are not sent yet."""
    stream_after: int = 8 * 2**20
    """From how many bytes on a file is sent while it is written; 0: never."""
    write_back: bool = False
    """Whether the kernel may keep what programs write for a while, and pass it on in one."""
    temporary_names: str | None = None
    """Patterns of names that stay local, separated by blanks; after ``+`` beside the usual ones."""
    staging_size: int | None = None
    """How much may wait to be sent; None: what the disk has but for ``staging_free``."""
    staging_free: int = 256 * 2**20
    """How much of the disk is left to others."""
    max_requests: int = 4
    bulk_budget: int = 2**30
    """The largest dataset of small files that is fetched as one zip; 0: never."""
    bulk_ahead: int = 64 * 2**20
    """How much of a larger one is fetched ahead of the reader."""
    fuse_options: frozenset[str] = frozenset()
    log_file: Path | None = None
    verbose: bool = False


def parse_size(text: str) -> int:
    """Bytes in a text such as ``20G``, ``512 MiB`` or ``1000000`` (powers of 1024)."""
    number = text.strip().lower().removesuffix("b").removesuffix("i").strip()
    unit = number[-1:] if number[-1:] in _UNITS else ""
    try:
        size = int(float(number.removesuffix(unit)) * _UNITS[unit])
    except ValueError:
        raise ConfigError(f"{text!r} is not a size: write for example 20G or 512M") from None
    if size <= 0:
        raise ConfigError(f"{text!r} is not a size: it must be more than nothing")
    return size


def parse_seconds(name: str, text: str) -> float:
    """Seconds in the text of a setting; not negative."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ConfigError(f"{name} = {text!r} is not a number of seconds")
    return seconds


def parse_bool(name: str, text: str) -> bool:
    """A boolean as python-icat writes it."""
    word = text.strip().lower()
    if word in _TRUE | _FALSE:
        return word in _TRUE
    raise ConfigError(f"{name} = {text!r}: write yes or no")


def parse_mode(text: str) -> WriteMode:
    """A write mode by its name."""
    try:
        return WriteMode(text)
    except ValueError:
        raise ConfigError(f"mode = {text!r}: write ro, add or rw") from None


def split_source(source: str) -> tuple[str, str]:
    """``URL[:/path]`` as URL and absolute path; the path is ``/`` when there is none."""
    head, colon, tail = source.rpartition(":/")
    if not colon or tail.startswith("/"):
        return source, "/"
    return head, "/" + tail.rstrip("/")


def default_cache_size(folder: Path) -> int:
    """20 GiB, or a tenth of the disk that holds ``folder`` where that is less."""
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    return min(20 * 2**30, shutil.disk_usage(existing).total // 10)


def read_section(file: str | None, section: str | None) -> dict[str, str]:
    """The options of one section of ``icat.cfg``, names in lower case; empty without a section.

    With ``file`` (or ``ICAT_CFG``) only that file, else all of python-icat's search path, later
    ones first in force. Raises `ConfigError` when the file or the section is missing.
    """
    named = file or os.environ.get("ICAT_CFG")
    section = section or os.environ.get("ICAT_CFG_SECTION")
    folders = ("/etc/icat", "~/.config/icat", "~/.icat", ".")
    paths = [Path(named)] if named else [Path(folder) / "icat.cfg" for folder in folders]
    parser = configparser.RawConfigParser()
    try:
        read = parser.read([path.expanduser() for path in paths], encoding="utf-8")
    except (configparser.Error, OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the configuration: {error}") from error
    if named and not read:
        raise ConfigError(f"cannot read the configuration file {named}")
    if not section:
        return {}
    if not parser.has_section(section):
        places = ", ".join(read) or "any icat.cfg"
        raise ConfigError(f"there is no section [{section}] in {places}")
    options = dict(parser.items(section))
    _reject_unknown(options, section)
    if read and options.get("password"):
        _warn_if_readable(Path(read[-1]))
    return options


def own_settings(section: Mapping[str, str]) -> dict[str, str]:
    """Our settings from environment and section, the environment first in force."""
    settings = {
        name.removeprefix("icatfs_"): value
        for name, value in section.items()
        if name.startswith("icatfs_")
    }
    for name in SETTINGS:
        value = os.environ.get(f"ICATFS_{name.upper()}")
        if value is not None:
            settings[name] = value
    return settings


def read_password_file(path: Path) -> str:
    """The first line of a password file; a warning when others may read it."""
    try:
        text = path.expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the password file {path}: {error}") from error
    _warn_if_readable(path.expanduser())
    return text.split("\n", 1)[0].rstrip("\r")


def service_password() -> str | None:
    """The password that systemd hands over (``LoadCredential=icat-password:...``), if any."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    path = Path(folder) / "icat-password" if folder else None
    return read_password_file(path) if path and path.exists() else None


def default_cache_dir() -> Path:
    """The user's cache folder, or what systemd gives the service."""
    given = os.environ.get("CACHE_DIRECTORY")
    return Path(given) if given else platformdirs.user_cache_path("icatfs")


def default_state_dir() -> Path:
    """The user's state folder, or what systemd gives the service."""
    given = os.environ.get("STATE_DIRECTORY")
    return Path(given) if given else platformdirs.user_state_path("icatfs")


def _reject_unknown(options: Mapping[str, str], section: str) -> None:
    known = {f"icatfs_{name}" for name in SETTINGS}
    for name in options:
        if name.startswith("icatfs_") and name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise ConfigError(f"unknown option {name} in section [{section}]{hint}")


def _warn_if_readable(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    if mode & (stat.S_IRGRP | stat.S_IROTH):
        log.warning("others may read the password in %s; remedy: chmod 600 %s", path, path)
