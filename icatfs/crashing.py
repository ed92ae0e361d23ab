"""Named points at which a test can have the process killed.

``ICATFS_CRASH=name`` kills this process with SIGKILL when it comes to the point of that name,
``ICATFS_CRASH=name:3`` at its third time there. Without the variable a point is a call that returns
at once. Each point stands where the work of many steps can be cut in two: after each of them the
next process must find what it needs.
"""

from __future__ import annotations

import os
import signal

VARIABLE = "ICATFS_CRASH"


class _Trigger:
    """``left`` is how often the point is still passed unharmed, plus one."""

    def __init__(self, text: str) -> None:
        self.name, _, count = text.partition(":")
        self.left = int(count) if count.isdecimal() else 1


_trigger = _Trigger(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None


def crash_point(name: str) -> None:
    """Die here, if that is what the environment asks for."""
    if _trigger is None or _trigger.name != name:
        return
    _trigger.left -= 1
    if _trigger.left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
