"""From flags, ``-o`` options, environment and ``icat.cfg`` to one `Config`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from icatfs import config as cfg
from icatfs.config import Config
from icatfs.errors import ConfigError, MountPointMissing
from icatfs.recall import policy
from icatfs.values import WriteMode

_FUSE_OPTIONS = frozenset(
    {
        "allow_other",
        "allow_root",
        "auto_unmount",
        "default_permissions",
        "noatime",
        "nodev",
        "noexec",
        "nosuid",
        "sync",
        "dirsync",
    }
)
_IGNORED_OPTIONS = frozenset(
    {
        *("_netdev", "auto", "noauto", "nofail", "user", "nouser", "users", "owner", "group"),
        *("dev", "suid", "exec", "async", "atime", "relatime", "defaults"),
    }
)


@dataclass(frozen=True, slots=True)
class Flags:
    """What the command line of ``icatfs mount`` says; None where it says nothing."""

    source: str
    mountpoint: Path
    ids: str | None = None
    config: str | None = None
    section: str | None = None
    auth: str | None = None
    user: str | None = None
    password_file: str | None = None
    anonymous: bool = False
    insecure: bool = False
    verbose: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)
    """Our settings given as flags, by the names of `config.SETTINGS`."""
    options: tuple[str, ...] = ()


def resolve(flags: Flags) -> Config:
    """The whole configuration of a mount; `ConfigError` names what is wrong."""
    section = cfg.read_section(flags.config, flags.section)
    fuse_options, from_options = split_options(flags.options)
    settings = {**cfg.own_settings(section), **from_options, **flags.settings}
    source = flags.source or os.environ.get("ICAT_SERVICE") or section.get("url")
    if not source:
        raise ConfigError("no facility given: name its URL, for example https://icat.example.org")
    url, path = cfg.split_source(source)
    cache_dir = Path(settings.get("cache_dir") or cfg.default_cache_dir()).expanduser().absolute()
    state_dir = Path(settings.get("state_dir") or cfg.default_state_dir()).expanduser().absolute()
    size = settings.get("cache_size")
    return Config(
        url=url,
        path=path,
        mountpoint=absolute_mountpoint(flags.mountpoint),
        ids_url=flags.ids or os.environ.get("ICAT_DATA_SERVICE") or section.get("idsurl"),
        auth="anon" if flags.anonymous else _first(flags.auth, "ICAT_AUTH", section.get("auth")),
        user=_first(flags.user, "ICAT_USER", section.get("username")),
        password=_password(flags, settings, section),
        credentials={
            name.removeprefix("cred_"): value
            for name, value in section.items()
            if name.startswith("cred_")
        },
        mode=cfg.parse_mode(settings.get("mode", WriteMode.ADD)),
        cache_dir=cache_dir,
        cache_size=cfg.parse_size(size) if size else cfg.default_cache_size(cache_dir),
        state_dir=state_dir,
        ca_file=_file(settings.get("ca_file"), "the certificate file"),
        insecure=flags.insecure
        or not cfg.parse_bool("checkCert", section.get("checkcert") or "yes"),
        **_recall(settings),
        recall_wait_s=_seconds(settings, "recall_wait", None),
        slot_wait_s=_seconds(settings, "slot_wait", 1.0) or 0.0,
        max_background=_limit(settings, "max_background", 1000) or 0,
        ttl_s=_seconds(settings, "ttl", 60.0) or 0.0,
        ttl_running_s=_seconds(settings, "ttl_running", 15.0) or 0.0,
        dataset_type=settings.get("dataset_type"),
        allow_recursive_delete=cfg.parse_bool(
            "allow_recursive_delete", settings.get("allow_recursive_delete", "no")
        ),
        complete_is_closed=cfg.parse_bool(
            "complete_is_closed", settings.get("complete_is_closed", "no")
        ),
        answer_wait_s=_seconds(settings, "answer_wait", None) or None,
        close_wait_s=_seconds(settings, "close_wait", 600.0) or 0.0,
        unmount_wait_s=_seconds(settings, "unmount_wait", 300.0) or 0.0,
        stream_after=_allowance(settings, "stream_after", 8 * 2**20),
        write_back=cfg.parse_bool("write_back", settings.get("write_back", "no")),
        temporary_names=settings.get("temporary_names"),
        staging_size=_allowance(settings, "staging_size", 0) or None,
        staging_free=_allowance(settings, "staging_free", 256 * 2**20),
        max_requests=_count(settings, "max_requests", 4),
        bulk_budget=_allowance(settings, "bulk_budget", 2**30),
        bulk_ahead=_allowance(settings, "bulk_ahead", 64 * 2**20),
        fuse_options=fuse_options,
        log_file=Path(settings["log_file"]).expanduser().absolute()
        if "log_file" in settings
        else None,
        verbose=flags.verbose,
    )


def split_options(options: tuple[str, ...]) -> tuple[frozenset[str], dict[str, str]]:
    """``-o`` options as (those for FUSE, our settings); `ConfigError` for an unknown one."""
    fuse: set[str] = set()
    settings: dict[str, str] = {}
    for option in (word for text in options for word in text.split(",") if word):
        name, equals, value = option.partition("=")
        if option in ("ro", "rw"):
            settings["mode"] = "ro" if option == "ro" else settings.get("mode", WriteMode.ADD)
        elif name in _FUSE_OPTIONS and not equals:
            fuse.add(option)
        elif option in _IGNORED_OPTIONS or name.startswith("x-"):
            continue
        elif name.replace("-", "_") in cfg.SETTINGS and equals:
            settings[name.replace("-", "_")] = value
        else:
            raise ConfigError(f"unknown mount option {option!r} (see icatfs mount --help)")
    return frozenset(fuse), settings


def _first(flag: str | None, variable: str, option: str | None) -> str | None:
    return next((text for text in (flag, os.environ.get(variable), option) if text), None)


def _password(flags: Flags, settings: Mapping[str, str], section: Mapping[str, str]) -> str | None:
    """A password given in a file or by systemd, else that of icat.cfg for the user named there."""
    file = flags.password_file or settings.get("password_file")
    if file:
        return cfg.read_password_file(Path(file))
    other_user = flags.user is not None and flags.user != section.get("username")
    configured = None if other_user else section.get("password")
    return cfg.service_password() or configured


def absolute_mountpoint(path: Path) -> Path:
    """The absolute path, links resolved above it only: the point itself may be a dead mount."""
    absolute = Path(os.path.abspath(path.expanduser()))
    try:
        return absolute.parent.resolve(strict=True) / absolute.name
    except OSError as error:
        raise MountPointMissing(
            f"the mount point {path} does not exist; remedy: mkdir -p {path}"
        ) from error


def _file(text: str | None, what: str) -> Path | None:
    if text is None:
        return None
    path = Path(text).expanduser().absolute()
    if not path.is_file():
        raise ConfigError(f"{what} {text} does not exist")
    return path


def _seconds(settings: Mapping[str, str], name: str, default: float | None) -> float | None:
    return cfg.parse_seconds(name, settings[name]) if name in settings else default


def _recall(settings: Mapping[str, str]) -> dict[str, Any]:
    """The recall policy, as text that proved to be one."""
    recall, refuse = settings.get("recall", ""), settings.get("recall_refuse", "")
    policy.parse_rules(recall)
    policy.parse_programs(refuse)
    size = settings.get("recall_unit_size", "").strip()
    return {
        "recall": recall,
        "recall_refuse": refuse,
        "recall_process_units": _limit(settings, "recall_process_units", 1000),
        "recall_mount_units": _limit(settings, "recall_mount_units", 5000),
        "recall_unit_size": None if size == "none" else cfg.parse_size(size or "1T"),
    }


def _limit(settings: Mapping[str, str], name: str, default: int) -> int | None:
    """A number; None for ``none``."""
    text = settings.get(name, str(default)).strip()
    if text == "none":
        return None
    if not text.isdecimal():
        raise ConfigError(f"{name} = {text!r}: write a number or none")
    return int(text)


def _allowance(settings: Mapping[str, str], name: str, default: int) -> int:
    """A size that may be 0."""
    text = settings.get(name, "").strip()
    if text == "0":
        return 0
    return cfg.parse_size(text) if text else default


def _count(settings: Mapping[str, str], name: str, default: int) -> int:
    text = settings.get(name)
    if text is None:
        return default
    if not text.isdecimal() or int(text) < 2:
        raise ConfigError(f"{name} = {text!r}: write a number from 2 on")
    return int(text)
