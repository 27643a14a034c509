"""Reading bodies: bounded in bytes and seconds, never decoded.

Signatures are over the bytes that were sent. A body with a ``Content-Encoding`` is refused with 415 before any of it is
read (RFC 9110 §15.5.16): neither can it be larger than it looks, nor can a server on the way have undone the coding.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Final

from ..errors import RequestRefused
from .request import WebRequest

_DIGITS: Final = 18
"""Of a length; more of them are a size that nobody takes."""


async def read_body(request: WebRequest, *, limit: int, seconds: float) -> bytes:
    """The body as it was sent.

    Raises:
        RequestRefused: 413, it is over ``limit`` bytes, by what it says or by what came; 408, it did not come in
            ``seconds``; 415, it is compressed; 400, its length is no number.
        ClientGone: the client hung up.
    """
    check_head(request, limit=limit)
    pieces, size = [], 0
    try:
        async with asyncio.timeout(seconds), aclosing(request.body()) as body:
            async for piece in body:
                size += len(piece)
                if size > limit:
                    raise too_large(limit)
                pieces.append(piece)
    except TimeoutError:
        raise RequestRefused(f"The body did not come within {seconds:g} seconds.", status=408, headers=CLOSE) from None
    return b"".join(pieces)


CLOSE: Final = (("Connection", "close"),)
"""Of an answer before the end of its request: what still comes belongs to it."""


def check_head(request: WebRequest, *, limit: int) -> None:
    """Refuse by its headers a body that would not be taken.

    Raises:
        RequestRefused: as :func:`read_body`.
    """
    coding = (request.header("content-encoding") or "identity").strip().lower()
    if coding != "identity":
        raise RequestRefused(
            "A body is taken as it is signed, without a Content-Encoding.",
            status=415,
            headers=(("Accept-Encoding", "identity"), *CLOSE),
        )
    length = (request.header("content-length") or "0").strip()
    if not (length.isascii() and length.isdigit()):
        raise RequestRefused("The Content-Length is no number.", status=400, headers=CLOSE)
    if len(length.lstrip("0")) > _DIGITS or int(length[-_DIGITS:]) > limit:
        raise too_large(limit)


def too_large(limit: int) -> RequestRefused:
    """The error for a body over ``limit`` bytes."""
    return RequestRefused(f"The body is larger than {limit} bytes.", status=413, headers=CLOSE)
