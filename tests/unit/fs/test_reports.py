from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from icatfs import errors
from icatfs.errors import (
    CertificateRejected,
    Damaged,
    DataArchived,
    FacilityUnreachable,
    Interrupted,
    NotFound,
    NotPermitted,
)
from icatfs.fs.reports import Reports, remedy_of

if TYPE_CHECKING:
    from collections.abc import Callable


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reports(clock: Clock, caplog: pytest.LogCaptureFixture) -> Reports:
    caplog.set_level(logging.INFO, logger="icatfs.fs.reports")
    return Reports(lambda ino: f"/file{ino}", clock=clock, most=3)


def test_a_failure_is_logged_once_with_path_reason_and_remedy(
    reports: Reports, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5):
        reports.failed(7, Damaged("wrong checksum"))
    assert [record.getMessage() for record in caplog.records] == [
        "/file7: wrong checksum (remedy: try again; if it stays, tell the facility)"
    ]
    assert reports.last(7) == "wrong checksum"


def test_a_failure_is_logged_again_after_a_while_or_when_it_differs(
    reports: Reports, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    reports.failed(7, Damaged("one"))
    reports.failed(7, Damaged("two"))
    clock.now = 61
    reports.failed(7, Damaged("two"))
    assert len(caplog.records) == 3


@pytest.mark.parametrize("expected", [NotFound("x"), Interrupted("x")])
def test_expected_answers_are_no_failures(
    reports: Reports, caplog: pytest.LogCaptureFixture, expected: errors.IcatfsError
) -> None:
    reports.failed(7, expected)
    assert caplog.records == []
    assert reports.last(7) is None


def test_a_refusal_is_remembered_but_no_warning(
    reports: Reports, caplog: pytest.LogCaptureFixture
) -> None:
    reports.failed(7, NotPermitted("not in this mode"))
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert reports.last(7) == "not in this mode"


def test_only_the_latest_failures_are_kept(reports: Reports) -> None:
    for ino in range(5):
        reports.failed(ino, Damaged("x"))
    assert [reports.last(ino) for ino in range(5)] == [None, None, "x", "x", "x"]
    reports.forget(4)
    assert reports.last(4) is None


def all_errors() -> list[Callable[[str], errors.IcatfsError]]:
    return [
        one
        for one in vars(errors).values()
        if isinstance(one, type) and issubclass(one, errors.IcatfsError)
    ]


@pytest.mark.parametrize("error", all_errors())
def test_every_error_has_a_remedy(error: Callable[[str], errors.IcatfsError]) -> None:
    assert remedy_of(error("x"))


def test_a_special_case_has_the_remedy_of_its_kind() -> None:
    assert remedy_of(CertificateRejected("x")) == remedy_of(FacilityUnreachable("x"))
    assert remedy_of(DataArchived("x")) == remedy_of(errors.NotOnline("x"))
