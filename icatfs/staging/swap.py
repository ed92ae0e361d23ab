"""What a staged file is to replace, as it is on record until nothing of it is left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from icatfs.icat.hidden import new_name, old_name
from icatfs.values import DatafileId

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Swap:
    """What a staged file is to replace, and by way of which names.

    ``replaces`` is None where nothing is replaced any more; ``hidden`` is empty as long as nothing
    was sent; ``litter`` are hidden names of earlier attempts.
    """

    replaces: DatafileId | None
    hidden: str = ""
    trash: str = ""
    litter: tuple[str, ...] = ()

    def anew(self, name: str) -> Swap:
        """The same under new hidden names."""
        return Swap(self.replaces, new_name(name), old_name(name), tuple(self.names))

    def instead(self, replaces: DatafileId | None) -> Swap:
        """Another one, of which nothing was sent; what this one may have left is not forgotten."""
        return Swap(replaces, litter=tuple(self.names))

    @property
    def names(self) -> list[str]:
        """All hidden names there may be."""
        return [one for one in (self.hidden, self.trash, *self.litter) if one]

    def as_plan(self) -> Mapping[str, Any]:
        """For the journal."""
        return {
            "replaces": self.replaces,
            "hidden": self.hidden,
            "trash": self.trash,
            "litter": list(self.litter),
        }

    @classmethod
    def of_plan(cls, plan: Mapping[str, Any]) -> Swap:
        """From the journal."""
        old = plan["replaces"]
        return cls(
            None if old is None else DatafileId(old),
            plan["hidden"],
            plan["trash"],
            tuple(plan["litter"]),
        )
