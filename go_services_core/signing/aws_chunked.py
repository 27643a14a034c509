"""Bodies that are streamed to S3 in the framing ``aws-chunked``, each chunk signed or a checksum at the end.

Sources: "Transferring Payload in Multiple Chunks (Chunked Upload)" and "Signature calculations for trailing headers" in
the Amazon S3 API Reference.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from hashlib import sha256
from hmac import digest
from typing import Final, Protocol
from zlib import crc32

from attrs import evolve, frozen

from ..http import BodySource, HttpRequest

SIGNED: Final = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
UNSIGNED: Final = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
"""What stands for the hash of the payload."""
CHUNK: Final = 65_536
"""Bytes of every chunk but the last; S3 wants 8192 at least and recommends as many as this."""

_ENCODING: Final = "aws-chunked"
_EMPTY: Final = sha256(b"").hexdigest()


class Framing(Protocol):
    """How the chunks of one body are written; one object for each time that the body is opened."""

    def chunk(self, data: bytes) -> bytes:
        """One chunk of at least one byte."""
        ...

    def around(self, size: int) -> int:
        """Bytes that :meth:`chunk` adds to a chunk of ``size`` bytes."""
        ...

    def end(self) -> bytes:
        """What follows the last chunk."""
        ...


@frozen(eq=False, repr=False)
class ChunkedBody:
    """``source`` in its framing, as a source that can be opened as often, with its exact length."""

    source: BodySource
    decoded: int
    """Bytes of the source."""
    framing: Callable[[], Framing]

    @property
    def length(self) -> int:
        """Bytes with the framing."""
        chunks, rest = divmod(self.decoded, CHUNK)
        framing = self.framing()
        around = chunks * framing.around(CHUNK) + (framing.around(rest) if rest else 0)
        return self.decoded + around + len(framing.end())

    async def open(self) -> AsyncIterator[bytes]:
        """The chunks; a source that is not as long as it said is so in its framing too."""
        framing = self.framing()
        held = bytearray()
        opened = self.source.open()
        try:
            async for piece in opened:
                held += piece
                while len(held) >= CHUNK:
                    yield framing.chunk(bytes(held[:CHUNK]))
                    del held[:CHUNK]
        finally:
            if isinstance(opened, AsyncGenerator):
                await opened.aclose()
        if held:
            yield framing.chunk(bytes(held))
        yield framing.end()


class SignedFraming:
    """Each chunk with a signature that covers it and, through the one before, all that was sent until then."""

    def __init__(self, key: bytes, timestamp: str, scope: str, seed: str) -> None:
        self._key = key
        self._head = f"AWS4-HMAC-SHA256-PAYLOAD\n{timestamp}\n{scope}\n"
        self._last = seed

    def chunk(self, data: bytes) -> bytes:
        """The chunk, its length and its signature before it."""
        text = f"{self._head}{self._last}\n{_EMPTY}\n{sha256(data).hexdigest()}"
        self._last = digest(self._key, text.encode(), "sha256").hex()
        return b"%x;chunk-signature=%s\r\n%s\r\n" % (len(data), self._last.encode(), data)

    def around(self, size: int) -> int:
        """Length, signature and line breaks."""
        return len(b"%x;chunk-signature=\r\n\r\n" % size) + 2 * sha256().digest_size

    def end(self) -> bytes:
        """An empty chunk, signed too."""
        return self.chunk(b"")


class ChecksumFraming:
    """Plain chunks, and a checksum of all of them as a trailer, which S3 compares."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._crc = 0
        self._sha = sha256()

    def chunk(self, data: bytes) -> bytes:
        """The chunk, its length before it."""
        if self._name == "crc32":
            self._crc = crc32(data, self._crc)
        else:
            self._sha.update(data)
        return b"%x\r\n%s\r\n" % (len(data), data)

    def around(self, size: int) -> int:
        """Length and line breaks."""
        return len(b"%x\r\n\r\n" % size)

    def end(self) -> bytes:
        """The empty chunk and the trailer."""
        found = self._crc.to_bytes(4, "big") if self._name == "crc32" else self._sha.digest()
        return b"0\r\n%s:%s\r\n\r\n" % (_checksum_header(self._name).encode(), b64encode(found))


def framed_headers(headers: list[tuple[str, str]], decoded: int, checksum: str | None) -> list[tuple[str, str]]:
    """``headers`` for a body of ``decoded`` bytes in chunks; S3 stores the encodings that stand after its own."""
    encodings = [_ENCODING, *(value for name, value in headers if name.lower() == "content-encoding")]
    kept = [pair for pair in headers if pair[0].lower() != "content-encoding"]
    kept += [("Content-Encoding", ",".join(encodings)), ("X-Amz-Decoded-Content-Length", str(decoded))]
    if checksum is not None:
        kept.append(("X-Amz-Trailer", _checksum_header(checksum)))
    return kept


def unframed(request: HttpRequest) -> HttpRequest:
    """A request that was signed with its body in chunks, as it was before; any other as it is."""
    if not isinstance(request.body, ChunkedBody):
        return request
    headers: list[tuple[str, str]] = []
    for name, value in request.headers:
        if name.lower() == "content-encoding":
            inner = value.removeprefix(_ENCODING).removeprefix(",")
            headers += [(name, inner)] if inner else []
        elif name.lower() not in ("x-amz-decoded-content-length", "x-amz-trailer"):
            headers.append((name, value))
    return evolve(request, headers=tuple(headers), body=request.body.source)


def _checksum_header(name: str) -> str:
    return f"x-amz-checksum-{name}"
