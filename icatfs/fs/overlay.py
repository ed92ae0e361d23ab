"""Entries that exist on this mount only: drafts, and folders without a file.

A local folder is one made inside a dataset: ICAT knows such folders only through the names of the
files in them, so it lives here until a file does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from icatfs.fs.moving import Move

if TYPE_CHECKING:
    from collections.abc import Mapping

    from icatfs.catalogue.node import Node, NodeKey
    from icatfs.fs.drafts import Draft


class Overlay:
    """The local entries of a mount, by folder.

    Invariants: no two entries of one folder have the same name; every draft in a folder is also
    found by the key it had first. A published draft is in no folder, but found by that key and by
    its catalogue entry's as long as somebody has it; one that was given up is not.
    """

    def __init__(self) -> None:
        self._drafts: dict[NodeKey, dict[str, Draft]] = {}
        self._folders: dict[NodeKey, dict[str, Node]] = {}
        self._by_key: WeakValueDictionary[NodeKey, Draft] = WeakValueDictionary()

    def entries(self, folder: NodeKey) -> list[Node]:
        """The local entries of a folder."""
        drafts = self._drafts.get(folder, {}).values()
        return [*self._folders.get(folder, {}).values(), *(draft.node for draft in drafts)]

    def find(self, folder: NodeKey, name: str) -> Node | None:
        """The local entry of this name, if there is one."""
        draft = self._drafts.get(folder, {}).get(name)
        return draft.node if draft else self._folders.get(folder, {}).get(name)

    def by_key(self, key: NodeKey) -> Draft | None:
        """The draft that has or had this key, as long as it is shown or open."""
        draft = self._by_key.get(key)
        if draft is not None and draft.published and draft.staged.closed:
            return None  # nobody has it; an error that somebody keeps may still refer to it
        return draft

    def add_draft(self, folder: NodeKey, draft: Draft) -> None:
        """Show a draft in a folder."""
        self._drafts.setdefault(folder, {})[draft.node.name] = draft
        self._by_key[draft.key] = draft

    def move_draft(
        self, folder: NodeKey, draft: Draft, new_folder: NodeKey, node: Node, name: str
    ) -> None:
        """Show a draft in another place, as this node with this Datafile name."""
        self.drop_draft(folder, draft)
        draft.move(node, name)
        self.add_draft(new_folder, draft)

    def drop_draft(self, folder: NodeKey, draft: Draft) -> None:
        """No longer show a draft."""
        self._drop(folder, draft.node.name, draft)

    def _drop(self, folder: NodeKey, name: str, draft: Draft) -> None:
        drafts = self._drafts.get(folder, {})
        if drafts.get(name) is draft:
            del drafts[name]
        if not drafts:
            self._drafts.pop(folder, None)

    def published(self, folder: NodeKey, name: str, draft: Draft) -> None:
        """No longer show a draft beside the catalogue's entry, but find it by that one's key."""
        self._drop(folder, name, draft)
        self._by_key[draft.node.key] = draft

    def drafts(self) -> list[Draft]:
        """All drafts that are shown or open."""
        return list({id(draft): draft for draft in self._by_key.values()}.values())

    def forget_draft(self, folder: NodeKey, draft: Draft) -> None:
        """No longer show a draft, and no longer find it by its key."""
        self.drop_draft(folder, draft)
        self._by_key.pop(draft.key, None)
        self._by_key.pop(draft.node.key, None)

    def add_folder(self, parent: NodeKey, folder: Node) -> None:
        """Show a local folder."""
        self._folders.setdefault(parent, {})[folder.name] = folder

    def keep_folder(self, folder: Node) -> None:
        """Show a folder inside a dataset, whether the catalogue has it or not."""
        assert folder.parent is not None
        self._folders.setdefault(folder.parent, {})[folder.name] = folder

    def drafts_below(self, folder: NodeKey) -> list[Draft]:
        """The drafts in a folder inside a dataset, and in the folders in it.

        Also those that are published and open: they may be written on.
        """
        move = Move(folder, folder)
        return [
            draft
            for draft in self.drafts()
            if not draft.removed and not draft.staged.closed
            if draft.node.parent is not None and move.concerns(draft.node.parent)
        ]

    def move_folder(self, move: Move, folder: Node, names: Mapping[Draft, str]) -> None:
        """Show a local folder, and all that is in it, in another place, as ``folder``.

        ``names`` are the Datafile names that the drafts in it get.
        """
        self._folders = {
            move.of_key(parent): {name: move.of_node(node) for name, node in folders.items()}
            for parent, folders in self._folders.items()
        }
        for folders in self._folders.values():
            for name, node in list(folders.items()):
                if node.key == folder.key:
                    del folders[name]
        self._drafts = {move.of_key(parent): drafts for parent, drafts in self._drafts.items()}
        for draft, name in names.items():
            (draft.is_called if draft.published else draft.move)(move.of_node(draft.node), name)
        self.keep_folder(folder)

    def drop_folder(self, parent: NodeKey, name: str) -> bool:
        """No longer show a local folder; whether it was there."""
        return self._folders.get(parent, {}).pop(name, None) is not None
