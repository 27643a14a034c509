"""The difference between our clock and that of a host, which signatures that carry the time have to know."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from ..http import HttpRequest, HttpResponse

if TYPE_CHECKING:
    from ..auth_specs import AuthSpec
    from ..protocols import Signer
    from .call import Call
    from .core import Core

MOST: Final = 1024
"""Hosts whose offset is remembered; the one that was learned first is forgotten first."""
LEAST: Final = timedelta(seconds=30)
"""What differs by less is not what a signature is refused for."""
LONGEST: Final = timedelta(days=1)
"""No clock that somebody uses is further off: the header is wrong then."""
_REFUSED: Final = (401, 403)
_CODES: Final = (
    b"RequestTimeTooSkewed", b"RequestExpired", b"RequestInTheFuture", b"InvalidSignatureException",
    b"SignatureDoesNotMatch",
)  # fmt: skip
"""What AWS calls it where it answers 400 (AWS Signature Version 4, error responses)."""
_CODES_WITHIN: Final = 4096
_NONE: Final = timedelta()


class ClockSkew:
    """What hosts' clocks are ahead of ours, for the process; bounded."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._offsets: dict[str, timedelta] = {}

    def offset(self, url: str) -> timedelta:
        """What to add to our clock for the host of ``url``."""
        return self._offsets.get(_origin(url), _NONE) if self._offsets else _NONE

    def set(self, url: str, offset: timedelta) -> None:
        """Remember the offset; what is below ``LEAST`` is none."""
        origin = _origin(url)
        self._offsets.pop(origin, None)
        if abs(offset) >= LEAST:
            self._offsets[origin] = offset
            if len(self._offsets) > self._most:
                del self._offsets[next(iter(self._offsets))]

    def __len__(self) -> int:
        return len(self._offsets)


def is_dated(signer: Signer, auth: AuthSpec) -> bool:
    """Whether what ``signer`` makes with that record carries the time."""
    says = getattr(signer, "is_dated", None)
    return says is not None and bool(says(auth))


async def send_dated(
    core: Core, call: Call, request: HttpRequest, send: Callable[[timedelta], Awaitable[HttpResponse]]
) -> HttpResponse:
    """The answer to ``request``, which ``send`` signs by a clock so far ahead of ours, and once more where our clock
    was why it was refused.

    What the host's clock says is remembered only if the request is not refused again: a Date that is wrong, or beside
    the point, changes nothing for later calls.
    """
    known = core.skew.offset(request.url)
    response = await send(known)
    if not _is_refused(response) or request.is_once:
        return response
    measured = _measured(response, core.clock.now())
    if measured is None or abs(measured - known) < LEAST:
        return response
    call.attempts += 1
    response = await send(measured)
    if not _is_refused(response):
        core.skew.set(request.url, measured)
    return response


def _is_refused(response: HttpResponse) -> bool:
    return response.status in _REFUSED or (
        response.status == 400
        and any(
            code in part
            for part in (response.body[:_CODES_WITHIN], (response.header("x-amzn-errortype") or "").encode())
            for code in _CODES
        )
    )


def _measured(response: HttpResponse, now: datetime) -> timedelta | None:
    """What the host's clock is ahead, by its Date (RFC 9110 §6.6.1), or None where that says nothing."""
    from email.utils import parsedate_to_datetime

    try:
        date = parsedate_to_datetime(response.header("date") or "")
        ahead = date.replace(tzinfo=date.tzinfo or UTC) - now
    except (ValueError, OverflowError):
        return None
    return ahead if abs(ahead) <= LONGEST else None


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()
