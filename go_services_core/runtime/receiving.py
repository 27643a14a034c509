"""Files that are downloaded: a partial file beside the target, which becomes the target when it is complete."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path
from typing import Any, Final

from attrs import define

from ..errors import BadInput, ServicesError
from ..exchange import Checkpoint, Place, Receive, Received
from ..http import HttpResponse, StreamedResponse
from ..sources import PIECE, TransferProgress
from .call import Call
from .core import Core
from .opening import opened

_MARK: Final = re.compile(r"[0-9a-f]{16}")


@define(kw_only=True)
class Receiver:
    """Writes the bodies of one download, in threads."""

    target: Path
    mark: str
    """What the partial file's name is made of."""
    progress: TransferProgress | None
    size: int = 0
    """Bytes in the partial file."""
    _file: Any = None

    @classmethod
    def of(cls, target: Any, progress: TransferProgress | None, mark: str) -> Receiver:
        """What receives a file at ``target``.

        Raises:
            BadInput: ``target`` is no path, is a folder, or its folder does not exist; or the mark is none.
        """
        if not isinstance(target, os.PathLike):
            raise BadInput(f"A file is downloaded to a Path, not {type(target).__name__}.", field="target")
        path = Path(target)
        if path.is_dir() or not path.parent.is_dir():
            raise BadInput(f"There cannot be a file {path}.", hint="Make its folder first.", field="target")
        if not _MARK.fullmatch(mark):
            raise BadInput("The resume token cannot be read.", field="resume")
        return cls(target=path, mark=mark, progress=progress)

    @property
    def partial(self) -> Path:
        """Where it is written until it is complete."""
        return self.target.with_name(f".{self.target.name}.{self.mark}.part")

    async def open(self) -> int:
        """Open the partial file, which only this user may read; gives what it has already."""
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        try:
            self._file = os.fdopen(os.open(self.partial, flags, 0o600), "r+b")
        except OSError as error:
            raise BadInput(f"The file {self.partial} cannot be written: {error.strerror}.", field="target") from None
        self.size = os.fstat(self._file.fileno()).st_size
        return self.size

    async def receive(self, core: Core, call: Call, step: Receive) -> Received:
        """Take a step of a download; see :class:`~go_services_core.exchange.Receive`."""
        async with opened(core, call, step.request, accept=step.accept) as (head, response):
            if response is None:
                return Received(head, self.size)
            place = step.place(head)
            if place.resume is not None:
                call.checkpoint = Checkpoint(resume={**place.resume, "part": self.mark})
            else:
                call.checkpoint = None
            await asyncio.to_thread(self._cut, place.at)
            try:
                await self._write(response, _total(head, place))
            except ServicesError as error:
                return Received(head, self.size, error)
            return Received(head, self.size)

    async def finish(self) -> None:
        """Make the partial file the target, with one rename, once its bytes are on the disk."""
        await asyncio.to_thread(self._finish)

    def close(self, *, keep: bool) -> None:
        """Let go of the partial file; it stays only for a call that goes on with it."""
        self._file.close()
        if not keep:
            self.partial.unlink(missing_ok=True)

    async def _write(self, response: StreamedResponse, total: int | None) -> None:
        held: list[bytes] = []
        size = 0
        try:
            async for piece in response.pieces:
                held.append(piece)
                size += len(piece)
                if size >= PIECE:
                    await asyncio.to_thread(self._put, b"".join(held))
                    held, size = [], 0
                    self._tell(total)
        finally:
            if held:
                self._put(b"".join(held))
                self._tell(total)

    def _tell(self, total: int | None) -> None:
        if self.progress is not None:
            self.progress(self.size, total)

    def _cut(self, at: int) -> None:
        self._file.seek(at)
        self._file.truncate()
        self.size = at

    def _put(self, data: bytes) -> None:
        self._file.write(data)
        self._file.flush()
        self.size += len(data)

    def _finish(self) -> None:
        os.fsync(self._file.fileno())
        self.partial.replace(self.target)


def _total(head: HttpResponse, place: Place) -> int | None:
    """Bytes of the whole file, where the answer says so."""
    length = head.header("content-length")
    if length is None or not length.isdigit() or head.header("content-encoding") not in (None, "identity"):
        return None
    return place.at + int(length)
