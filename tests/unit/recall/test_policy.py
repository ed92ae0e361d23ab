"""The text of a recall policy."""

from __future__ import annotations

import pytest

from icatfs.errors import ConfigError, NotOnline
from icatfs.recall.policy import NEVER, WAIT, Policy


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("wait", WAIT),
        (" wait ", WAIT),
        ("wait:0", Policy(patience_s=0)),
        ("wait:90", Policy(patience_s=90)),
        ("wait:1.5", Policy(patience_s=1.5)),
        ("never", NEVER),
    ],
)
def test_a_policy_is_read(text: str, policy: Policy) -> None:
    assert Policy.parse(text) == policy
    assert Policy.parse(str(policy)) == policy


@pytest.mark.parametrize(
    "text",
    ["", "Wait", "wait:", "wait:soon", "wait:-1", "wait:inf", "wait:nan", "never:5", "always"],
)
def test_what_is_no_policy_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="write wait"):
        Policy.parse(text)


def test_never_recalls_nothing() -> None:
    with pytest.raises(NotOnline, match="recalls nothing"):
        NEVER.check()
    WAIT.check()
