"""How one mount behaves, and what it is doing."""

from __future__ import annotations

from dataclasses import dataclass

from icatfs.values import WriteMode


@dataclass(frozen=True, slots=True)
class FsOptions:
    """How one mount behaves; times in seconds."""

    uid: int
    gid: int
    mode: WriteMode
    attr_timeout_s: float = 60.0
    """How long the kernel may rely on attributes without asking again; more than 0."""
    entry_timeout_s: float = 60.0
    """The same for names, those that do not exist among them."""
    recall_wait_s: float | None = None
    """How long a read waits for the archive; None: without limit."""
    slot_wait_s: float = 1.0
    """How long a read waits for its turn to wait, where the kernel allows only a few."""
    write_back: bool = False
    """Whether the kernel may keep what is written; means nothing where nothing may be."""

    @property
    def writes_back(self) -> bool:
        """Whether the kernel keeps what programs write, and with it sizes and times of its own."""
        return self.write_back and self.mode is not WriteMode.READ_ONLY


@dataclass(frozen=True, slots=True)
class FsStatus:
    """What the kernel knows and programs have open just now.

    The other counts only grow: reads whose bytes were not at hand, and came, or failed.
    """

    inodes: int
    handles: int
    waiting: int
    fetched: int
    failed: int
