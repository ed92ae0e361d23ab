"""What a dataset may hold after operations some of which failed half way.

Of each name the model knows the contents that it may have: one where the last operation succeeded,
several where it failed and nobody can tell what came of it. ``None`` is the absence of a file.
Names are paths inside the dataset.

What failed when it was closed is **afloat**: its bytes are on the local disk, and every mount tries
to send them. So from the next mount on the name may have them, but only if it has what they were
to replace, or nothing.
"""

from __future__ import annotations

import operator
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

Content = bytes | None
_FEW = 4
"""Bytes that a bad line has damaged in one upload, at most."""


@dataclass
class Afloat:
    """Contents one of which must be at the facility or pending, as long as it ``is_due``.

    Once a name was written to or removed with success nobody can ask for them any more. There are
    several ``names`` where it, or a folder that it is in, was renamed: what was sent before took
    part in that, what was not did not.
    """

    names: set[str]
    contents: frozenset[bytes]
    replaces: frozenset[Content]
    is_due: bool = True


@dataclass
class Model:
    """The files and folders of one dataset.

    ``folders`` tells of each whether the mount shows it; None: it may.
    """

    names: Collection[str]
    files: dict[str, set[Content]] = field(init=False)
    folders: dict[str, bool | None] = field(init=False)
    afloat: list[Afloat] = field(default_factory=list)
    written: set[bytes] = field(default_factory=set)
    """All contents that any program ever wanted to store."""

    def __post_init__(self) -> None:
        self.files = {name: {None} for name in self.names}
        self.folders = {above: False for name in self.names for above in ancestors(name)}

    # What happened to a file.

    def holds(self, name: str, contents: Iterable[Content]) -> None:
        """An operation succeeded, and its outcome is one of these."""
        self.files[name] = set(contents)
        assert self.files[name], f"{name}: it cannot have succeeded"
        if None not in self.files[name]:
            self._shows(ancestors(name))
        self._needs_no_more(name)

    def may_hold(self, name: str, contents: Iterable[Content]) -> None:
        """An operation failed, and left what there was, or one of these."""
        self.files[name] |= set(contents)
        if self.files[name] != {None}:
            self._may_show(ancestors(name))

    def drifts(
        self, name: str, contents: Iterable[bytes], replaces: Iterable[Content], *, due: bool
    ) -> None:
        """Bytes were kept, and may be sent later."""
        self.afloat.append(Afloat({name}, frozenset(contents), frozenset(replaces), due))

    def perhaps_removed(self, name: str) -> None:
        """A file was removed, or not."""
        self.may_hold(name, {None})
        self._needs_no_more(name)

    def lost(self, found: Collection[Content], files: Mapping[str, bytes]) -> list[Afloat]:
        """What is due and neither among these kept contents nor in its file, nor what came later.

        A later change of the same file, which failed for the program, may have taken its place.
        """
        lost = []
        for place, one in enumerate(self.afloat):
            after = [later for later in self.afloat[place:] if later.names & one.names]
            here = {*found, *(files.get(name) for name in one.names)}
            if one.is_due and not any(later.contents & here for later in after):
                lost.append(one)
        return lost

    def may_be_damaged(self, name: str, found: Content) -> bool:
        """Whether these bytes may be what arrived of an upload that failed, until it is removed."""
        contents = [
            one for afloat in self.afloat if name in afloat.names for one in afloat.contents
        ]
        return any(
            len(found) == len(one) and sum(map(operator.ne, found, one)) <= _FEW
            for one in contents
            if found is not None
        )

    def moved(self, name: str, new: str) -> None:
        """A file was renamed."""
        contents = {one for one in self.files[name] if one is not None}
        self.holds(new, contents)
        self.holds(name, {None})

    def perhaps_moved(self, name: str, new: str) -> None:
        """A file was renamed, or not."""
        self._needs_no_more(new)
        self._may_go_along(name, new)
        self.may_hold(new, {one for one in self.files[name] if one is not None})
        self.may_hold(name, {None})

    def alike(self, name: str, change: Callable[[Content], Content]) -> set[bytes]:
        """What the possible contents become by a change; None: the change does not apply."""
        return {after for one in self.files[name] if (after := change(one)) is not None}

    # What happened to a folder.

    def made(self, folder: str) -> None:
        """A folder exists."""
        self._shows([folder, *ancestors(folder)])

    def removed(self, folder: str) -> None:
        """A folder was removed: it was empty."""
        assert self.may_be_empty(folder), f"{folder} was not empty"
        for name in self.below(folder):
            self.holds(name, {None})
        for one in self.folders_below(folder):
            self.folders[one] = False

    def folder_moved(self, folder: str, new: str) -> None:
        """A folder was renamed, with all that was in it."""
        assert self.may_be_empty(new), f"{new} was not empty"
        for name in self.below(folder):
            self._may_go_along(name, moved(name, folder, new))
            self.files[moved(name, folder, new)] = self.files[name]
            self.files[name] = {None}
        for one in self.folders_below(folder):
            self.folders[moved(one, folder, new)] = self.folders[one]
            self.folders[one] = False
        self.made(new)

    def folder_perhaps_moved(self, folder: str, new: str) -> None:
        """A folder was renamed, or not."""
        for name in self.below(folder):
            self.perhaps_moved(name, moved(name, folder, new))
        for one in (*self.folders_below(folder), *self.folders_below(new)):
            self.folders[one] = None

    def mounted_anew(self) -> None:
        """There is another mount: it sends what is afloat, and knows no folder without a file."""
        for one in self.afloat:
            for name in one.names:
                if self.files[name] & (one.replaces | {None}):
                    self.may_hold(name, one.contents)
        for folder in self.folders:
            inside = [self.files[name] for name in self.below(folder)]
            must = any(None not in contents for contents in inside)
            may = any(contents != {None} for contents in inside)
            self.folders[folder] = True if must else None if may else False

    # What there is.

    def below(self, folder: str) -> list[str]:
        """The names in a folder and in those in it."""
        return [name for name in self.names if name.startswith(f"{folder}/")]

    def folders_below(self, folder: str) -> list[str]:
        """A folder and those in it."""
        return [one for one in self.folders if f"{one}/".startswith(f"{folder}/")]

    def may_be_empty(self, folder: str) -> bool:
        """Whether a folder may have no files, and no folders."""
        inner = [one for one in self.folders_below(folder) if one != folder]
        no_files = all(None in self.files[name] for name in self.below(folder))
        return no_files and not any(self.folders[one] for one in inner)

    def may_have_entries(self, folder: str) -> bool:
        """Whether there may be anything in a folder."""
        inner = [one for one in self.folders_below(folder) if one != folder]
        files = any(self.files[name] != {None} for name in self.below(folder))
        return files or any(self.folders[one] is not False for one in inner)

    def _needs_no_more(self, name: str) -> None:
        for one in self.afloat:
            if name in one.names:
                one.is_due = False

    def _may_go_along(self, name: str, new: str) -> None:
        for one in self.afloat:
            if name in one.names:
                one.names.add(new)

    def _shows(self, folders: Iterable[str]) -> None:
        for folder in folders:
            self.folders[folder] = True

    def _may_show(self, folders: Iterable[str]) -> None:
        for folder in folders:
            self.folders[folder] = self.folders[folder] or None


def ancestors(name: str) -> list[str]:
    """The folders around a name, the innermost first."""
    parts = name.split("/")[:-1]
    return ["/".join(parts[:stop]) for stop in range(len(parts), 0, -1)]


def moved(name: str, folder: str, new: str) -> str:
    """A name below a folder when the folder has another name."""
    return new + name[len(folder) :]
