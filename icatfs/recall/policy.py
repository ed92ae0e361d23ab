"""Who waits for the archive, and how long: ``wait``, ``wait:SECONDS``, ``never``."""

from __future__ import annotations

import math
from dataclasses import dataclass

from icatfs.errors import ConfigError, NotOnline


@dataclass(frozen=True, slots=True)
class Policy:
    """Whether reading archived data recalls them, and how long a read waits; None: as long as it
    takes."""

    recalls: bool = True
    patience_s: float | None = None

    @classmethod
    def parse(cls, text: str) -> Policy:
        """The policy behind its text; ConfigError."""
        mode, colon, seconds = text.strip().partition(":")
        if mode == "never" and not colon:
            return NEVER
        if mode == "wait" and not colon:
            return WAIT
        try:
            patience_s = float(seconds)
        except ValueError:
            patience_s = math.nan
        if mode != "wait" or not 0 <= patience_s < math.inf:
            raise ConfigError(
                f"{text!r} does not say when to wait for the archive: write wait, wait:SECONDS or"
                " never"
            )
        return cls(patience_s=patience_s)

    def __str__(self) -> str:
        if not self.recalls:
            return "never"
        return "wait" if self.patience_s is None else f"wait:{self.patience_s:g}"

    def check(self) -> None:
        """Raises NotOnline where nothing is to be recalled."""
        if not self.recalls:
            raise NotOnline(
                "the data are in the archive and this mount recalls nothing:"
                " mount it with another recall policy"
            )


WAIT = Policy()
NEVER = Policy(recalls=False)
