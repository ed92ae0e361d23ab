from __future__ import annotations

import errno

import pytest

from icatfs import errors
from icatfs.fuse.errnos import ERRNOS, errno_of


def all_errors() -> list[type[errors.IcatfsError]]:
    return [
        one
        for one in vars(errors).values()
        if isinstance(one, type)
        and issubclass(one, errors.IcatfsError)
        and one is not errors.IcatfsError
    ]


@pytest.mark.parametrize("error", all_errors())
def test_every_error_has_an_errno(error: type[errors.IcatfsError]) -> None:
    number = errno_of(error("x"))
    assert number is not None
    assert number in errno.errorcode


@pytest.mark.parametrize("error", all_errors())
def test_no_read_is_ever_told_to_try_again(error: type[errors.IcatfsError]) -> None:
    assert errno_of(error("x")) not in (errno.EAGAIN, errno.ENOSYS)


def test_only_an_interruption_is_eintr() -> None:
    assert [kind for kind, number in ERRNOS.items() if number == errno.EINTR] == [
        errors.Interrupted
    ]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errors.DataArchived("x"), errno.ENODATA),
        (errors.NameTooLong("x"), errno.ENAMETOOLONG),
        (errors.LoginFailed("x"), errno.EACCES),
        (errors.ServerError("x"), errno.EIO),
        (OSError(errno.ENOSPC, "full"), errno.ENOSPC),
        (PermissionError(errno.EACCES, "no"), errno.EACCES),
        (OSError("no number"), errno.EIO),
        (ExceptionGroup("one", [errors.NotFound("x")]), errno.ENOENT),
    ],
)
def test_special_cases(error: Exception, expected: int) -> None:
    assert errno_of(error) == expected


@pytest.mark.parametrize(
    "bug",
    [
        ZeroDivisionError(),
        errors.IcatfsError("bare"),
        ExceptionGroup("two", [errors.NotFound("x"), ValueError()]),
    ],
)
def test_a_bug_has_no_errno(bug: Exception) -> None:
    assert errno_of(bug) is None
