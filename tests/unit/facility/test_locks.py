"""Locks on datasets."""

from __future__ import annotations

import pytest

from icatfs.facility.locks import Busy, Locks


def test_sharing_excludes_nobody_who_shares() -> None:
    locks = Locks()
    first, second = (locks.acquire([1], exclusive=False) for _ in range(2))
    assert locks.as_json() == [{"id": 1, "type": "SHARED", "count": 2}]
    with pytest.raises(Busy):
        locks.acquire([1], exclusive=True)
    first.release()
    first.release()
    assert locks.as_json() == [{"id": 1, "type": "SHARED", "count": 1}]
    second.release()
    assert len(locks) == 0


def test_several_are_locked_together_or_not_at_all() -> None:
    locks = Locks()
    held = locks.acquire([2], exclusive=True)
    with pytest.raises(Busy):
        locks.acquire([1, 2], exclusive=False)
    assert locks.as_json() == [{"id": 2, "type": "EXCLUSIVE", "count": 1}]
    held.release()
    locks.acquire([1, 2, 2], exclusive=True)
    assert len(locks) == 2
