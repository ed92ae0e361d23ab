"""The few attributes that can be set: what ICAT says about a Datafile or Dataset in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from icatfs.errors import BadName, NoAttribute, NotPermitted, NotSupported
from icatfs.fs.newnames import LONGEST
from icatfs.fs.publishing import dataset_of
from icatfs.fs.xattrs import PREFIX
from icatfs.icat.records import DatafileRow
from icatfs.values import Kind

if TYPE_CHECKING:
    from icatfs.catalogue.node import Node
    from icatfs.fs.confirming import Confirming
    from icatfs.fs.overlay import Overlay
    from icatfs.fs.permission import Permission
    from icatfs.fs.publishing import WritingServices

SETTABLE = frozenset({"description", "doi"})
_ENTITIES = {Kind.DATAFILE: "Datafile", Kind.DATASET: "Dataset"}


class Describing:
    """What ``setxattr`` and ``removexattr`` mean on one mount."""

    def __init__(
        self,
        services: WritingServices,
        permission: Permission,
        overlay: Overlay,
        confirming: Confirming,
    ) -> None:
        # given
        self._services = services
        self._permission = permission
        self._overlay = overlay
        self._confirming = confirming

    async def describe(self, node: Node, name: str, value: bytes | None) -> None:
        """Set an attribute, or clear it with None or nothing.

        NotSupported for what is none of ours, ReadOnly, NotPermitted for facts and for what this
        mount may not change, BadName for what ICAT cannot hold, AccessDenied; NoAttribute for what
        is not set and is to be cleared with None.
        """
        if not name.startswith(PREFIX):
            if value is None:
                raise _unset(name, node)
            raise NotSupported(f"{name}: only attributes of the kind {PREFIX}* exist here")
        fact = name.removeprefix(PREFIX)
        self._permission.check_writable(f"set {name} of {node.name!r}")
        entity = _ENTITIES.get(node.kind)
        if fact not in SETTABLE or entity is None:
            raise NotPermitted(
                f"cannot set {name} of {node.name!r}: it is what the catalogue says; "
                f"{' and '.join(sorted(SETTABLE))} of files and datasets can be set"
            )
        self._permission.check_changeable(node, "describe")
        draft = self._overlay.by_key(node.key)
        if node.key.id < 0 or (draft is not None and draft.dirty):
            raise NotSupported(f"{node.name} is not at the facility yet: close it, then set {name}")
        services = self._services
        facts = {fact: _text(name, node, value)}
        if isinstance(node.entity, DatafileRow):
            await self._confirming.entry(node.entity, dataset_of(node))
        if value is None:
            query = f"SELECT x.{fact} FROM {entity} x WHERE x.id = {node.key.id}"
            if not any(await services.keeper.run(services.icat.values, query)):
                raise _unset(name, node)
        await services.keeper.run(services.icat.describe, entity, node.key.id, facts)
        services.catalogue.forget_facts(node)


def _unset(name: str, node: Node) -> NoAttribute:
    return NoAttribute(f"{node.name!r} has no attribute {name}")


def _text(name: str, node: Node, value: bytes | None) -> str | None:
    try:
        text = (value or b"").decode()
    except UnicodeDecodeError:
        raise BadName(f"{name}: the catalogue holds texts in UTF-8 only") from None
    if "\0" in text:
        raise BadName(f"{name} of {node.name!r}: the catalogue holds no text with NUL in it")
    characters = len(text.encode("utf-16-le")) // 2  # as the server counts
    if characters > LONGEST:
        raise BadName(
            f"{name} of {node.name!r} has {characters} characters: the catalogue holds {LONGEST}"
        )
    return text or None
