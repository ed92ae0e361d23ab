"""Datafile names that no mount shows: versions that are on their way in or out.

A new version of a stored file is put under a *new* name, takes the place of the old one in one
step, and leaves the *old* one under another name until it is removed. Such a name is unique, says
to an administrator what it is and belongs to, and keeps the extension, by which the format of a
file is chosen. Nobody else may use names of this form: a file of such a name would not be seen.
"""

from __future__ import annotations

import secrets

_PREFIXES = (".icatfs-new-", ".icatfs-old-")
_KEPT = 160
"""So many characters of the file's own name, from its end: ICAT takes 255 in all."""

SHOWN = " AND ".join(f"x.name NOT LIKE '{prefix}%'" for prefix in _PREFIXES)
"""The same as a condition of a query about ``x``."""


def is_hidden(name: str) -> bool:
    """Whether a Datafile of this name is not shown; a database takes no heed of its case."""
    return name[:12].lower().startswith(_PREFIXES)


def new_name(name: str) -> str:
    """A name, never used before, for a new version of the Datafile ``name``."""
    return _unique("new", name)


def old_name(name: str) -> str:
    """A name, never used before, for the version of the Datafile ``name`` that gives way."""
    return _unique("old", name)


def _unique(what: str, name: str) -> str:
    return f".icatfs-{what}-{secrets.token_hex(8)}-{name.rpartition('/')[2][-_KEPT:]}"
