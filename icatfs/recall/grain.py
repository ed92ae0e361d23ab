"""What a facility archives as one: whole datasets, or single files.

The server does not say (ids.server 2.1.1). The words of a refusal tell, and so does a dataset of
which a part is on the disk. A facility hardly ever changes it, so what was learnt is kept for the
next mounts; but where a wrong answer could do harm, only what this mount has seen itself counts.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

FILE = "archived-as-one"
_WORDS = {True: "dataset", False: "datafile"}


class Grain:
    """That of one facility; ``path`` is where it is kept, None: nowhere."""

    def __init__(self, path: Path | None = None) -> None:
        # given
        self._path = path
        # constant: what earlier mounts have learnt
        self._kept = None if path is None else _kept(path)
        # mutable: whether datasets move as a whole, as this mount has seen it; None: not yet
        self.seen: bool | None = None

    @property
    def known(self) -> bool | None:
        """Whether datasets move as a whole, by all that is known; None: nothing is."""
        return self._kept if self.seen is None else self.seen

    def hear(self, refusal: str) -> None:
        """The words with which the facility refused data that are not online may tell."""
        if "its dataset" in refusal:
            self.learn(by_dataset=True)
        elif "it must be restored" in refusal:
            self.learn(by_dataset=False)

    def learn(self, *, by_dataset: bool) -> None:
        """It was seen to be so."""
        if self.seen is not by_dataset:
            is_news = self.known is not by_dataset
            self.seen = by_dataset
            if is_news:
                log.info("the facility archives each %s as one", _WORDS[by_dataset])
                self._keep(_WORDS[by_dataset])

    def _keep(self, word: str) -> None:
        if self._path is None:
            return
        new = self._path.with_name(f"{FILE}.{os.getpid()}")
        try:
            new.write_text(f"{word}\n", encoding="utf-8")
            new.replace(self._path)
        except OSError as error:
            log.info("what the facility archives as one is not kept: %s", error)
            with suppress(OSError):
                new.unlink()


def _kept(path: Path) -> bool | None:
    """What a file says, None where that is nothing."""
    try:
        text = path.read_bytes() if path.is_file() else b""
    except OSError:
        return None
    return next((one for one, word in _WORDS.items() if text == f"{word}\n".encode()), None)
