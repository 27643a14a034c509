"""Bodies of several parts, of which one is read while it is sent."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from attrs import frozen

from go_services_core.errors import BadInput
from go_services_core.http import BodySource


@frozen
class Part:
    """One part: its header lines and what it holds."""

    headers: tuple[tuple[str, str], ...]
    content: bytes | BodySource


@frozen
class Multipart:
    """Parts between boundaries (RFC 2046 §5.1.1), of a length that is known where those of the parts are."""

    boundary: str
    parts: tuple[Part, ...]

    @property
    def length(self) -> int | None:
        """Bytes in all, boundaries included."""
        total = len(self._end())
        for part in self.parts:
            size = len(part.content) if isinstance(part.content, bytes) else part.content.length
            if size is None:
                return None
            total += len(self._head(part)) + size + 2
        return total

    async def open(self) -> AsyncIterator[bytes]:
        """The bytes from the beginning."""
        for part in self.parts:
            if isinstance(part.content, bytes):
                yield self._head(part) + part.content + b"\r\n"
                continue
            yield self._head(part)
            pieces = part.content.open()
            try:
                async for piece in pieces:
                    yield piece
            finally:
                if isinstance(pieces, AsyncGenerator):
                    await pieces.aclose()
            yield b"\r\n"
        yield self._end()

    def _head(self, part: Part) -> bytes:
        lines = [f"--{self.boundary}", *(f"{name}: {value}" for name, value in part.headers), "", ""]
        return "\r\n".join(lines).encode()

    def _end(self) -> bytes:
        return f"--{self.boundary}--\r\n".encode()


def form_part(name: str, content: bytes | BodySource, *, filename: str | None = None, kind: str | None = None) -> Part:
    """A part of multipart/form-data (RFC 7578), with names as browsers write them (WHATWG HTML §4.10.21.8).

    Raises:
        BadInput: the content type could end its header.
    """
    said = f'form-data; name="{_quoted(name)}"'
    if filename is not None:
        said += f'; filename="{_quoted(filename)}"'
    headers: Sequence[tuple[str, str]] = [("Content-Disposition", said)]
    if kind is not None:
        headers = [*headers, ("Content-Type", media_type(kind))]
    return Part(tuple(headers), content)


def media_type(kind: str) -> str:
    """``kind``, which can stand in a header.

    Raises:
        BadInput: it has a line break or a character outside ASCII.
    """
    if not (kind.isascii() and kind.isprintable() and kind):
        raise BadInput("The content type has a character that no header may have.", field="content_type")
    return kind


def _quoted(name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise BadInput("The name of a part has a character that cannot be encoded.", field="filename") from None
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
