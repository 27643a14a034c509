"""Uploads in chunks that ask the server how far they came: Google's sessions, and tus 1.0.0."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Generator
from typing import Any, Final
from urllib.parse import urljoin

from attrs import evolve

from go_services_core.call_specs import OperationCall
from go_services_core.errors import (
    BadInput,
    OutcomeUnknown,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    ResponseInvalid,
    ServicesError,
    TransportError,
)
from go_services_core.exchange import Checkpoint, Send, Step, Wait
from go_services_core.http import BodySource, HttpRequest, HttpResponse
from go_services_core.sources import PartSource

from .multipart import media_type
from .settings import FileSettings

Steps = Generator[Step, Any, HttpResponse]

_GONE: Final = (404, 410)
_RANGE: Final = re.compile(r"bytes=0-(\d+)")
_TUS: Final = ("Tus-Resumable", "1.0.0")


def resumable(call: OperationCall, source: BodySource, length: int, settings: FileSettings, chunk: int | None) -> Steps:
    """An upload session with ``Content-Range``.

    https://developers.google.com/workspace/drive/api/guides/manage-uploads#resumable. A session that the server does
    not know any more begins anew.
    """
    return (yield from _chunks(_Session(call, source, length, settings.slowest), settings, chunk))


def tus(call: OperationCall, source: BodySource, length: int, settings: FileSettings, chunk: int | None) -> Steps:
    """https://tus.io/protocols/resumable-upload, core protocol and the extension ``creation``."""
    return (yield from _chunks(_Tus(call, source, length, settings.slowest), settings, chunk))


class _Session:
    """Google's form of an upload in chunks."""

    def __init__(self, call: OperationCall, source: BodySource, length: int, slowest: float) -> None:
        self.call = call
        self.source = source
        self.length = length
        headers = tuple(pair for pair in call.headers if pair[0].lower() != "content-type")
        self.plain = HttpRequest("PUT", "", headers, None, call.timeout)
        self.slowest = slowest
        self.kind = media_type(call.content_type or "application/octet-stream")

    def begin(self) -> Send:
        """What begins a session; it stores nothing, so that it may be repeated."""
        request = evolve(self.plain, method=self.call.method, url=self.call.url, body=self._metadata())
        if request.body:
            request = request.with_header("Content-Type", "application/json; charset=UTF-8")
        request = request.with_header("X-Upload-Content-Type", self.kind)
        return Send(request=request.with_header("X-Upload-Content-Length", str(self.length)), safe=True)

    def question(self, url: str) -> Send:
        """How far did it come?"""
        request = evolve(self.plain, url=url, body=b"").with_header("Content-Range", f"bytes */{self.length}")
        return Send(request=request, accept=(308, *_GONE), safe=True)

    def chunk(self, url: str, start: int, size: int) -> Send:
        """The bytes from ``start`` on."""
        said = f"bytes {start}-{start + size - 1}/{self.length}" if self.length else "bytes */0"
        body: bytes | BodySource = PartSource(self.source, start, size) if size else b""
        request = evolve(self.plain, url=url, body=body, timeout=self.call.timeout + size / self.slowest)
        request = request.with_header("Content-Type", self.kind)
        # Not safe: after a cut the server may have a part of the chunk, so that it is asked before it gets more.
        return Send(request=request.with_header("Content-Range", said), accept=(308,), safe=False)

    def came(self, response: HttpResponse) -> int | None:
        """Bytes that the server has; None says that the upload is complete."""
        if response.status != 308:
            return None
        said = response.header("range")
        if said is None:
            return 0
        found = _RANGE.fullmatch(said)
        if found is None:
            raise ResponseInvalid(f"The answer to {self.call.operation_id} has a Range that cannot be read.")
        return int(found[1]) + 1

    def _metadata(self) -> bytes | None:
        if not self.call.body:
            return b""
        try:
            return json.dumps(dict(self.call.body), separators=(",", ":"), allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise BadInput(f"The body cannot be written as JSON: {error}.", field="body") from None


class _Tus(_Session):
    """The form of tus."""

    def begin(self) -> Send:
        request = evolve(self.plain, method="POST", url=self.call.url, body=b"").with_header(*_TUS)
        request = request.with_header("Upload-Length", str(self.length))
        given = {"filename": self.call.filename, "filetype": self.kind, **self.call.body}
        pairs = []
        for name, value in given.items():
            if value is None:
                continue
            if not isinstance(value, (str, int, float)) or not name.isascii() or " " in name or "," in name:
                raise BadInput(f"The parameter {name!r} cannot be metadata of an upload.", field=name)
            pairs.append(f"{name} {b64encode(str(value).encode()).decode()}")
        return Send(request=request.with_header("Upload-Metadata", ",".join(pairs)))

    def question(self, url: str) -> Send:
        request = evolve(self.plain, method="HEAD", url=url).with_header(*_TUS)
        return Send(request=request, accept=_GONE, safe=True)

    def chunk(self, url: str, start: int, size: int) -> Send:
        body: bytes | BodySource = PartSource(self.source, start, size) if size else b""
        seconds = self.call.timeout + size / self.slowest
        request = evolve(self.plain, method="PATCH", url=url, body=body, timeout=seconds).with_header(*_TUS)
        request = request.with_header("Content-Type", "application/offset+octet-stream")
        return Send(request=request.with_header("Upload-Offset", str(start)), safe=False)

    def came(self, response: HttpResponse) -> int | None:
        said = response.header("upload-offset") or ""
        if not said.isascii() or not said.isdigit():
            raise ResponseInvalid(f"The answer to {self.call.operation_id} has no Upload-Offset.")
        return int(said) if int(said) < self.length else None


def _chunks(session: _Session, settings: FileSettings, chunk: int | None) -> Steps:
    """Begin, or ask how far an earlier call came; then send chunk after chunk, and ask after each that broke off."""
    call = session.call
    size = chunk or settings.chunk
    url, known = _resumed(call, session.length)
    came = best = failures = 0
    while True:
        try:
            if url is None:
                began = yield session.begin()
                url, came, known = _location(call, began), 0, True
                yield Checkpoint(resume={"upload": url, "length": session.length})
            if not known:
                response: HttpResponse = yield session.question(url)
                if response.status in _GONE:
                    url = None
                    failures = _again(session, failures, settings, None)
                    continue
                far = session.came(response)
                if far is None:
                    return response
                if far > best:
                    best, failures = far, 0
                came, known = far, True
            response = yield session.chunk(url, came, min(size, session.length - came))
            far = session.came(response)
            if far is None:
                return response
            if not came <= far <= session.length:
                raise ResponseInvalid(
                    f"The server has {far} bytes of operation {call.operation_id}, and {came} before."
                )
            failures = 0 if far > came else _again(session, failures, settings, None)
            came = best = far
        except (TransportError, ProviderError) as error:
            gone = isinstance(error, ProviderError) and error.upstream_status in _GONE and url is not None
            if gone:
                url = None
            elif not _broken(error):
                raise
            failures = _again(session, failures, settings, error)
            known = False
            yield Wait(settings.retry_delay * 2 ** (failures - 1))


def _broken(error: ServicesError) -> bool:
    """Whether the server can be asked what became of it: also where the outcome of a chunk is unknown."""
    return error.retryable or isinstance(error, (OutcomeUnknown, ProviderUnavailable, RateLimited))


def _again(session: _Session, failures: int, settings: FileSettings, error: ServicesError | None) -> int:
    """One more failure without getting further."""
    if failures + 1 >= settings.failures:
        raise error or ResponseInvalid(f"The upload of operation {session.call.operation_id} gets no further.")
    return failures + 1


def _resumed(call: OperationCall, length: int) -> tuple[str | None, bool]:
    """Where an earlier call uploads to."""
    if call.resume is None:
        return None, True
    url = call.resume.get("upload")
    if not isinstance(url, str):
        raise BadInput("The resume token cannot be read.", field="resume")
    if call.resume.get("length") != length:
        raise BadInput("The file is not as long as the one whose upload began.", field="source")
    return url, False


def _location(call: OperationCall, response: HttpResponse) -> str:
    location = response.header("location")
    if location is None:
        raise ResponseInvalid(f"The answer to {call.operation_id} has no Location to upload to.")
    return urljoin(call.url, location)
