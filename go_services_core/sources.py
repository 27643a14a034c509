"""Bodies that are read while they are sent: files, bytes, and parts of either."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

from attrs import field, frozen

from .errors import BadInput
from .http import BodySource

PIECE: Final = 262144
"""Bytes that are read of a file at a time, in a thread."""

TransferProgress = Callable[[int, int | None], object]
"""Called on the loop with the bytes so far and those in all, or None where that is not known."""


@runtime_checkable
class SeekableSource(BodySource, Protocol):
    """A source that can be read from any byte on; others are read from the beginning for that."""

    def open_at(self, offset: int) -> AsyncIterator[bytes]:
        """The bytes from number ``offset`` on."""
        ...


@frozen
class BytesSource:
    """Bytes that are in memory."""

    data: bytes = field(repr=False)

    @property
    def length(self) -> int:
        """Bytes in all."""
        return len(self.data)

    def open(self) -> AsyncIterator[bytes]:
        """The bytes from the beginning."""
        return self.open_at(0)

    async def open_at(self, offset: int) -> AsyncIterator[bytes]:
        """The bytes from number ``offset`` on."""
        for start in range(offset, len(self.data), PIECE):
            yield self.data[start : start + PIECE]


@frozen
class FileSource:
    """A file, read in a thread, of which as much is sent as it had when the source was made."""

    path: Path
    length: int

    @classmethod
    def of(cls, path: Path) -> FileSource:
        """The file at ``path``.

        Raises:
            BadInput: it is none, or cannot be read.
        """
        try:
            with path.open("rb") as file:
                return cls(path, os.fstat(file.fileno()).st_size)
        except OSError as error:
            raise BadInput(f"The file {path} cannot be read: {error.strerror}.", field="source") from None

    def open(self) -> AsyncIterator[bytes]:
        """The bytes from the beginning."""
        return self.open_at(0)

    async def open_at(self, offset: int) -> AsyncIterator[bytes]:
        """The bytes from number ``offset`` on."""
        file = await asyncio.to_thread(self.path.open, "rb")
        try:
            file.seek(offset)
            left = self.length - offset
            while left > 0 and (piece := await asyncio.to_thread(file.read, min(PIECE, left))):
                left -= len(piece)
                yield piece
        finally:
            file.close()


@frozen
class PartSource:
    """So many bytes of another source, from one of them on."""

    whole: BodySource
    start: int
    length: int

    async def open(self) -> AsyncIterator[bytes]:
        """The bytes of the part."""
        left = self.length
        async with aclosing(_from(self.whole, self.start)) as pieces:
            async for piece in pieces:
                if left <= 0:
                    return
                yield piece[:left]
                left -= len(piece)


@frozen
class WatchedSource:
    """A source that tells how far it was read, for those who show progress.

    After a cut it is read again, so that the number may become smaller.
    """

    whole: BodySource
    progress: TransferProgress = field(repr=False)

    @property
    def length(self) -> int | None:
        """Bytes in all, or None when it is not known."""
        return self.whole.length

    def open(self) -> AsyncIterator[bytes]:
        """The bytes from the beginning."""
        return self.open_at(0)

    async def open_at(self, offset: int) -> AsyncIterator[bytes]:
        """The bytes from number ``offset`` on."""
        done = offset
        async with aclosing(_from(self.whole, offset)) as pieces:
            async for piece in pieces:
                yield piece
                done += len(piece)
                self.progress(done, self.whole.length)


def source_of(given: Any) -> tuple[BodySource, str | None]:
    """The source that a caller means, and its file name where it has one.

    Raises:
        BadInput: it is neither a path, bytes nor a ``BodySource``, or a file that cannot be read.
    """
    if isinstance(given, os.PathLike):
        path = Path(given)
        return FileSource.of(path), path.name
    if isinstance(given, (bytes, bytearray)):
        return BytesSource(bytes(given)), None
    if isinstance(given, BodySource):
        return given, None
    raise BadInput(f"A file to upload is a Path, bytes or a BodySource, not {type(given).__name__}.", field="source")


async def _from(source: BodySource, offset: int) -> AsyncGenerator[bytes]:
    """The bytes of ``source`` from ``offset`` on, closed with this generator."""
    if isinstance(source, SeekableSource):
        pieces, skip = source.open_at(offset), 0
    else:
        pieces, skip = source.open(), offset
    try:
        async for piece in pieces:
            if skip >= len(piece):
                skip -= len(piece)
            else:
                yield piece[skip:] if skip else piece
                skip = 0
    finally:
        if isinstance(pieces, AsyncGenerator):
            await pieces.aclose()
