"""What a search must know about its user."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from icatfs.facility.jpql.fragments import SqlFragment


class Authoriser(Protocol):
    """One user's rights to read."""

    @property
    def user(self) -> str:
        """The user's name."""

    def unrestricted(self, entity: str) -> bool:
        """Whether all instances may be read."""

    def restrictions(self, entity: str) -> Sequence[SqlFragment]:
        """What may be read, one piece for each rule; nothing if it is empty."""

    def may_follow(self, origin: str, field: str, target: str) -> bool:
        """Whether INCLUDE may follow that relation without a check of what it leads to."""
