"""Names that programs give to new entries, as names that the catalogue can hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from icatfs.catalogue import naming
from icatfs.errors import BadName, NameTooLong
from icatfs.icat.hidden import is_hidden

if TYPE_CHECKING:
    from icatfs.catalogue.node import Node

_LONGEST_SHOWN = 255
"""Bytes of a component, which Linux can have: a longer one would be shown cut."""
LONGEST = 255
"""Characters of a name in ICAT; for a Datafile, of the whole path inside its dataset."""


def dataset_name(component: str) -> str:
    """The Dataset name that is shown as this component; raises BadName, NameTooLong."""
    return _checked(_entity_name(component))


def datafile_name(folder: Node, component: str) -> str:
    """The Datafile name that is shown as this component of this folder.

    Raises BadName for a name that would be shown differently, NameTooLong past ICAT's limit.
    """
    inside = folder.path_in_dataset
    components = [*(inside.split("/") if inside else []), component]
    name = _checked("/".join(_entity_name(one) for one in components))
    if is_hidden(name):
        raise BadName(
            f"{name} is a name that icatfs shows nobody: it is one for versions on the way"
        )
    return name


def _checked(name: str) -> str:
    if len(name) > LONGEST:
        raise NameTooLong(
            f"{name}: the name, with the folders inside the dataset, may have {LONGEST} characters"
        )
    return name


def _entity_name(component: str) -> str:
    if len(component.encode(errors="surrogatepass")) > _LONGEST_SHOWN:
        raise NameTooLong(
            f"{component}: a name may have {_LONGEST_SHOWN} bytes, and letters beyond ASCII have "
            "two or three each"
        )
    parsed = naming.entity_name(component)
    name = parsed.name
    strange = not name or "/" in name or "\0" in name
    if strange or parsed.entity_id is not None or naming.shown(name) != component:
        raise BadName(
            f"{component!r} cannot be catalogued under this name: '%' followed by two hexadecimal "
            "digits or by '~' has a meaning of its own there"
        )
    if any(ord(character) > 0xFFFF or 0xD800 <= ord(character) < 0xE000 for character in name):
        raise BadName(f"{component!r} has characters that catalogues cannot hold (emoji, for one)")
    return name
