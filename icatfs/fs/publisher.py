"""What a draft needs of `icatfs.fs.publishing`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from icatfs.fs.drafts import Draft
    from icatfs.fs.temporary import TemporaryNames


class Publisher(Protocol):
    """Stores drafts, and shows them or not."""

    temporary: TemporaryNames
    """The names whose files stay local."""
    writes_back: bool
    """Whether the kernel keeps what programs write, and the times of it."""

    def written(self, draft: Draft) -> None:
        """Bytes were added: they may be sent while the next ones are written."""

    def changed(self, draft: Draft) -> None:
        """Its name, or bytes that were there, have changed: what was sent of it is void."""

    async def publish(self, draft: Draft) -> None:
        """Bring a draft to the facility, now; called with its lock held."""

    async def revise(self, draft: Draft) -> None:
        """Make a published draft writable, as the next version; called with its lock held."""

    def publish_later(self, draft: Draft) -> None:
        """Bring a draft that nobody writes to the facility in the background."""

    async def keep(self, draft: Draft, reason: str) -> None:
        """Stop showing a draft that is not whole, and record why; its bytes stay."""

    def give_up(self, draft: Draft) -> None:
        """Stop showing a draft that could not be stored; its bytes stay."""

    def forgotten(self, draft: Draft) -> None:
        """Nobody has a published draft open any more."""

    async def withdraw(self, draft: Draft) -> None:
        """Forget a draft that is nothing but a copy of what is stored."""
