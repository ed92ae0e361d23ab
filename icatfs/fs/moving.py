"""What becomes of the entries of a folder inside a dataset when the folder gets another name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from icatfs.catalogue.node import NodeKey
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

    def of_node(self, node: Node) -> Node:
        """What an entry is from now on."""
        parent = None if node.parent is None else self.of_key(node.parent)
        return replace(node, key=self.of_key(node.key), parent=parent)
