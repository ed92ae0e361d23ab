"""What becomes of the entries of a folder inside a dataset when the folder gets another name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from msgspec import structs

from icatfs.catalogue import naming
from icatfs.catalogue.node import NodeKey
from icatfs.icat.records import DatafileRow
from icatfs.values import Kind

if TYPE_CHECKING:
    from icatfs.catalogue.node import Node


@dataclass(frozen=True, slots=True)
class Move:
    """A FOLDER key and the one it becomes."""

    old: NodeKey
    new: NodeKey

    def concerns(self, key: NodeKey) -> bool:
        """Whether a key is that of the folder, or of a folder in it."""
        if key.kind is not Kind.FOLDER or key.id != self.old.id:
            return False
        return key.name == self.old.name or key.name.startswith(f"{self.old.name}/")

    def of_key(self, key: NodeKey) -> NodeKey:
        """What a key is from now on."""
        if not self.concerns(key):
            return key
        return replace(key, name=self.new.name + key.name[len(self.old.name) :])

    def of_name(self, name: str) -> str:
        """What the name of a Datafile in the folder is from now on."""
        prefix = [naming.entity_name(one).name for one in self.new.name.split("/")]
        depth = len(self.old.name.split("/"))
        return "/".join([*prefix, *naming.path_parts(name)[depth:]])

    def of_node(self, node: Node) -> Node:
        """What an entry is from now on, with the facts about it: a new version has their name."""
        parent, entity = node.parent, node.entity
        if parent is not None and self.concerns(parent) and isinstance(entity, DatafileRow):
            entity = structs.replace(entity, name=self.of_name(entity.name))
        parent = None if parent is None else self.of_key(parent)
        return replace(node, key=self.of_key(node.key), parent=parent, entity=entity)
