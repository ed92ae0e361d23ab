"""How a process comes into a cache folder: its share of it, the index, and what the dead left.

What may be in the way, and what is done:

===========================================  =====================================================
another host has the folder, or others with  the folder beside it, ``<folder>-2``, and so on
an index that is of no use to us
the index is damaged, or of another format,  it begins anew, and so does the cache
and nobody else has the folder
the disk is full                             nothing is kept, everything can be read; what is in
                                             the folder stays for better times
anything else                                `ConfigError`
===========================================  =====================================================
"""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
from itertools import count
from typing import TYPE_CHECKING

from icatfs.content.database import OtherFormat, discard, is_useless
from icatfs.content.index import Index
from icatfs.content.ownership import Tenancy, share_folder, share_nothing
from icatfs.content.sweep import sweep
from icatfs.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

_TOO_LITTLE = 2**20
"""With less than this SQLite cannot even begin."""


def enter(folder: Path, max_bytes: int) -> tuple[Index, Tenancy]:
    """A share of the folder, or of the first of its name with a number that this host may use.

    Its ``folder`` is the one. Blocks; ConfigError where nothing can be used.
    """
    for number in count(1):
        own = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        try:
            entered = enter_only(own, max_bytes)
        except (OSError, sqlite3.Error) as error:
            if not _is_full(error, own):
                raise unusable(own, error) from error
            log.warning("the disk of the cache folder %s is full: what is read is not kept", own)
            tenancy = share_nothing(_existing(own))
            return Index.in_memory(tenancy.mark), tenancy
        if entered is not None:
            entered[1].admit_others()
            return entered
    raise AssertionError("numbers do not end")


def enter_only(folder: Path, max_bytes: int) -> tuple[Index, Tenancy] | None:
    """A share of just this folder, None where it cannot be had. Blocks; OSError, sqlite3.Error.

    Who is alone in it must let others in.
    """
    tenancy = share_folder(folder)
    index = None if tenancy is None else _index(tenancy, max_bytes)
    return None if index is None or tenancy is None else (index, tenancy)


def unusable(folder: Path, error: Exception) -> ConfigError:
    """The error for a folder that does not serve."""
    return ConfigError(f"the cache folder {folder} cannot be used ({error}): choose another one")


def _index(tenancy: Tenancy, max_bytes: int) -> Index | None:
    """The index, swept; None where it is others' and of no use to us: then we have left."""
    try:
        try:
            return _swept(tenancy, max_bytes)
        except sqlite3.Error as error:
            if not is_useless(error):
                raise
            if not tenancy.alone:
                tenancy.close()
                return None
            if not isinstance(error, OtherFormat):
                log.warning("the index of the cache %s is damaged: it begins anew", tenancy.folder)
            discard(tenancy.folder)
            return _swept(tenancy, max_bytes)
    except (OSError, sqlite3.Error):
        tenancy.close()
        raise


def _swept(tenancy: Tenancy, max_bytes: int) -> Index:
    index = Index.open(tenancy.folder, tenancy.mark, max_bytes, alone=tenancy.alone)
    try:
        sweep(index, tenancy)
    except (OSError, sqlite3.Error):
        index.close()
        raise
    return index


def _is_full(error: Exception, folder: Path) -> bool:
    """Whether it failed because the disk is full; SQLite may call that an I/O error."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    disk = os.statvfs(_existing(folder))
    return disk.f_bavail * disk.f_frsize < _TOO_LITTLE


def _existing(folder: Path) -> Path:
    return next(one for one in (folder, *folder.parents) if one.exists())
