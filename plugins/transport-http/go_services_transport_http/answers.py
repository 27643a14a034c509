"""Reading answers: bodies are decompressed here, a bounded piece at a time, and never further than their limits.

aiohttp could decompress too, but takes a gzip stream that was cut off for a whole one.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Any, Final

import aiohttp

_PIECE: Final = 64 * 1024
"""Bytes that are decompressed at once."""
_UNSUSPICIOUS: Final = 2**20
"""Decompressed bytes up to which nobody asks how far an answer grew."""


class TooLarge(Exception):
    """The answer is over a limit; the message says over which."""


class Undecodable(Exception):
    """The answer's coding cannot be undone. ``unknown`` says that it is none that was asked for."""

    def __init__(self, reason: str, *, unknown: bool = False) -> None:
        super().__init__(reason)
        self.unknown = unknown


async def read(response: aiohttp.ClientResponse, *, limit: int, expansion: float) -> bytes:
    """The whole body, decompressed.

    Raises:
        TooLarge: it has more than ``limit`` bytes, or grew more than ``expansion`` times.
        Undecodable: it is cut off, corrupt, or in a coding that is not known.
    """
    if "Content-Encoding" in response.headers:
        return await _collected(pieces(response, limit=limit, expansion=expansion))
    content = response.content
    first = await content.readany()
    if content.at_eof():
        if len(first) > limit:
            raise _over(limit)
        return first
    held, size = [first], len(first)
    while size <= limit and not content.at_eof():
        piece = await content.readany()
        held.append(piece)
        size += len(piece)
    if size > limit:
        raise _over(limit)
    return b"".join(held)


async def pieces(
    response: aiohttp.ClientResponse, *, limit: int | None, expansion: float
) -> AsyncGenerator[bytes, None]:
    """The body as it comes, decompressed; raises as :func:`read`. ``limit`` None is no such limit."""
    content = response.content
    coding = _coding(response)
    taken = given = 0
    while not content.at_eof():
        data = await content.readany()
        taken += len(data)
        for piece in (data,) if coding is None else coding.feed(data):
            if not piece:
                continue
            given += len(piece)
            if limit is not None and given > limit:
                raise _over(limit)
            if given > _UNSUSPICIOUS and given > taken * expansion:
                raise TooLarge(f"is more than {expansion:g} times as large as it was sent")
            yield piece
    if coding is not None:
        coding.finish()


async def _collected(body: AsyncGenerator[bytes, None]) -> bytes:
    async with aclosing(body):
        return b"".join([piece async for piece in body])


def _over(limit: int) -> TooLarge:
    return TooLarge(f"is larger than {limit} bytes")


def _coding(response: aiohttp.ClientResponse) -> _Inflating | None:
    """What undoes the answer's Content-Encoding (RFC 9110 §8.4); None where there is none."""
    named = ",".join(response.headers.getall("Content-Encoding", ())).lower().split(",")
    codings = [coding for coding in map(str.strip, named) if coding and coding != "identity"]
    if not codings:
        return None
    return _Inflating("+".join(codings))


class _Inflating:
    """One compressed body on its way: gzip (RFC 1952), in one member or several, or deflate (RFC 1950, RFC 1951)."""

    def __init__(self, coding: str) -> None:
        self._coding = coding
        self._inflate: Any = None
        """What decompresses the member that has begun."""
        self._members = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The bytes that ``data`` completes, in bounded pieces."""
        piece = b""
        while data or len(piece) == _PIECE:
            inflate = self._inflate = self._inflate or self._begun(data)
            try:
                piece = inflate.decompress(data, _PIECE)
            except zlib.error:
                raise Undecodable(f"cannot be decompressed ({self._coding})") from None
            data = inflate.unconsumed_tail
            if inflate.eof:
                data, self._inflate = inflate.unused_data, None
                self._members += 1
            yield piece
            if inflate.eof and not data:
                return

    def finish(self) -> None:
        """The body has ended; an empty one, as that of HEAD, is whole."""
        if self._inflate is not None:
            raise Undecodable(f"ends in the middle of its compressed data ({self._coding})")

    def _begun(self, data: bytes) -> Any:
        if self._coding in ("gzip", "x-gzip"):
            return zlib.decompressobj(zlib.MAX_WBITS | 16)
        if self._coding != "deflate":
            raise Undecodable(f"is coded as {self._coding[:40]!r}, which was not asked for", unknown=True)
        if self._members:
            raise Undecodable("goes on after the end of its compressed data (deflate)")
        # RFC 9110 §8.4.1.2: some servers leave out the zlib format, whose first byte says so.
        return zlib.decompressobj(zlib.MAX_WBITS if data[0] & 0x0F == zlib.DEFLATED else -zlib.MAX_WBITS)
