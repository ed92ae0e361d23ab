"""What becomes of one attempt at a request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
import trio

from icatfs.errors import FacilityTimeout, FacilityUnreachable, IcatfsError
from icatfs.transport.admission import Lane
from icatfs.transport.patience import OVERLOADED_S, Attempt, Fault

if TYPE_CHECKING:
    from icatfs.transport.stream import ByteStream


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of any status; names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Failed(Exception):
    """An attempt that failed; ``error`` or else ``answer`` is what the caller gets in the end."""

    def __init__(
        self, fault: Fault, begun: float, *, error: IcatfsError | None = None, answer: object = None
    ) -> None:
        super().__init__(fault.value)
        self.attempt = Attempt(fault, begun, trio.current_time())
        self._error = error
        self._answer = answer

    def outcome(self) -> object:
        """What the caller gets."""
        if self._error is not None:
            raise self._error from self.__cause__
        return self._answer


def judge(answer: Answer, outcome: object, lane: Lane, begun: float, url: str) -> None:
    """Raise Failed, with ``outcome``, if this answer is none, or worth another attempt."""
    is_late = trio.current_time() - begun >= OVERLOADED_S
    if answer.status in (502, 503, 504) and not answer.body.lstrip().startswith(b"{"):
        text = f"{httpx.URL(url).host} is out of order (a proxy answers HTTP {answer.status})."
        raise Failed(Fault.GATEWAY, begun, error=FacilityUnreachable(text))
    if answer.status == 500 and (is_late or lane is Lane.CATALOGUE):
        raise Failed(Fault.FAILED, begun, answer=outcome)


async def whole(stream: ByteStream, begun: float, most: int) -> Answer:
    """The answer with its body, of at most so many bytes; raises Failed."""
    try:
        return Answer(stream.status, stream.headers, await stream.body(most))
    except FacilityTimeout as error:
        raise Failed(Fault.SILENT, begun, error=error) from error
    except FacilityUnreachable as error:
        raise Failed(Fault.BROKEN, begun, error=error) from error
