"""Entity names as file names, and back.

**The forces.** An ICAT name is any text of up to 255 characters; a file name is up to 255 *bytes*
without ``/`` and NUL that is neither ``.`` nor ``..`` nor empty. Users type names, scripts keep
them, and HDF5 files refer to each other by them: so a name is shown as it is wherever that is
possible, and the same on every machine and in every release where it is not.

**The decision.** One escape character, ``%``, that stands for itself almost everywhere. In a
component, these are written differently:

=======================================================  ==============
``/`` that does not separate                             ``%2F``
NUL                                                      ``%00``
``%`` before two upper-case hex digits, or before ``~``  ``%25``
the whole name ``.`` / ``..`` / ``%`` / empty            ``%2E`` / ``%2E%2E`` / ``%25`` / ``%``
``@`` at the beginning of a facility's name              ``%40``
=======================================================  ==============

Reading back, ``%`` and two upper-case hex digits are one character, ``%~`` and digits at the end
are an entity id, and any other ``%`` is itself.

**The invariants.** Different entity names have different escapes, and none of them ends like an
id: ``x%~12`` is shown as ``x%25~12``. What does not fit into 255 bytes, what UTF-8 cannot hold, and
what would be shown like its neighbour ends in ``%~<entity id>``. Rejected: percent-encoding as in
URLs (blanks, umlauts and every ``%`` would look foreign), and replacing by look-alikes (cannot be
read back).

A Datafile name is a path: ``/`` separates, and leading, doubled and trailing slashes do not show.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_BYTES = 255
"""Of one component, in UTF-8; the limit of Linux and of every file system on it."""

_WHOLE = {"": "%", "%": "%25", ".": "%2E", "..": "%2E%2E"}
_SPECIAL = re.compile(r"[/\0]|%(?=[0-9A-F]{2}|~)")
_ESCAPES = {"/": "%2F", "\0": "%00", "%": "%25"}
_ESCAPED = re.compile(r"%([0-9A-F]{2})")
_ID = re.compile(r"%~(0|[1-9][0-9]{0,18})\Z")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Parsed:
    """A file name read back. With ``entity_id``, ``name`` may be no more than a beginning."""

    name: str
    entity_id: int | None = None


def escaped(name: str, *, facility: bool = False) -> str:
    """The component for a name, however long; different names have different ones."""
    whole = _WHOLE.get(name)
    if whole is not None:
        return whole
    if "%" in name or "/" in name or "\0" in name:
        name = _SPECIAL.sub(_escape, name)
    if facility and name.startswith("@"):
        return "%40" + name[1:]
    return name


def shown(name: str, entity_id: int | None = None, *, facility: bool = False) -> str:
    """The file name of an entity, as long as no neighbour takes it.

    Without ``entity_id`` nothing is cut: the result may be too long for a file name.
    """
    component = escaped(name, facility=facility)
    if entity_id is None or fits(component):
        return component
    return numbered(name, entity_id, facility=facility)


def numbered(name: str, entity_id: int, *, facility: bool = False) -> str:
    """The file name of an entity whose plain one is taken or does not fit: ``name%~id``.

    Cut at a character of the entity's name, never inside an escape.
    """
    suffix = f"%~{entity_id}"
    component = _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", escaped(name, facility=facility))
    room = MAX_BYTES - len(suffix)
    if len(component.encode()) > room:
        component = _cut(component, room)
    return component + suffix


def fits(component: str) -> bool:
    """Whether Linux takes the component as a file name in UTF-8, as far as its length goes."""
    if len(component) <= MAX_BYTES and component.isascii():
        return True
    try:
        return len(component.encode()) <= MAX_BYTES
    except UnicodeEncodeError:
        return False


def entity_name(component: str) -> Parsed:
    """The entity name behind a file name; every text has one.

    Whether the name is shown like this is another question: ask `is_canonical`.
    """
    match = _ID.search(component)
    entity_id = None
    if match is not None:
        entity_id = int(match[1])
        component = component[: match.start()]
    return Parsed(_unescaped(component), entity_id)


def is_canonical(component: str, *, facility: bool = False) -> bool:
    """Whether an entity can be shown under exactly this file name, without an id."""
    parsed = entity_name(component)
    return parsed.entity_id is None and shown(parsed.name, 0, facility=facility) == component


def path_parts(datafile_name: str) -> tuple[str, ...]:
    """The components of a Datafile's name as they are in ICAT; ``("",)`` if there is none."""
    parts = tuple(part for part in datafile_name.split("/") if part)
    return parts or ("",)


def components(datafile_name: str, datafile_id: int | None = None) -> tuple[str, ...]:
    """The shown path of a Datafile inside its dataset, as long as no neighbour takes it.

    Without the id nothing is cut. A *folder* whose name is too long is cut to make room for the
    lowest id of the datafiles in it, which this function cannot know: it takes ``datafile_id``.
    """
    return tuple(shown(part, datafile_id) for part in path_parts(datafile_name))


def disambiguate(
    entries: Iterable[tuple[int, str]], *, taken: Iterable[str] = (), facility: bool = False
) -> Mapping[int, str]:
    """The shown name by id of entries (id, entity name) of one folder, all different.

    The lowest id keeps the plain name unless ``taken`` (by folders) has it; the others get ids.
    """
    used = set(taken)
    names: dict[int, str] = {}
    for entity_id, name in sorted(entries):
        component = shown(name, entity_id, facility=facility)
        if component in used:
            component = numbered(name, entity_id, facility=facility)
        used.add(component)
        names[entity_id] = component
    return names


def _escape(match: re.Match[str]) -> str:
    return _ESCAPES[match[0]]


def _unescaped(component: str) -> str:
    if component == "%":
        return ""
    if "%" not in component:
        return component
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), component)


def _cut(component: str, room: int) -> str:
    """The beginning of an escaped component in at most ``room`` bytes, escapes whole."""
    kept = component.encode()[:room].decode(errors="ignore")
    torn = kept.rfind("%", max(0, len(kept) - 2))
    if torn >= 0 and _ESCAPED.match(component, torn):
        return kept[:torn]
    return kept
