"""Files: uploads in one request or in several, and downloads that go on after a cut."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import partial
from typing import Any, Final, Literal

from attrs import evolve

from go_services_core.call_specs import OperationCall
from go_services_core.errors import BadInput, ResponseInvalid, ServicesError
from go_services_core.exchange import Answer, Exchange, Place, Receive, Received, Send, Wait
from go_services_core.http import BodySource, HttpRequest, HttpResponse
from go_services_core.protocols import PluginEnv
from go_services_core.transport_specs import File

from .multipart import Multipart, Part, form_part, media_type
from .resumable import resumable, tus
from .settings import FileSettings, require_above_zero

_UNKNOWN: Final = 2**30
"""Bytes that a source is taken to have which does not know."""
_CONTENT_RANGE: Final = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


def open_file(settings: FileSettings, env: PluginEnv) -> FileTransport:
    """The transport kind ``file``.

    Raises:
        ConfigError: a setting cannot be used.
    """
    return FileTransport(settings)


class FileTransport:
    """Sends and fetches files."""

    def __init__(self, settings: FileSettings) -> None:
        require_above_zero(settings, "chunk", "failures", "retry_delay", "slowest")
        self._settings = settings

    def exchange(self, call: OperationCall) -> Exchange:
        """The steps of an upload, whose result is what the provider answers, or of a download.

        Raises:
            BadInput: the record is not a :class:`File`, or the call lacks what it takes.
        """
        spec = call.record
        if not isinstance(spec, File):
            raise BadInput("The kind file takes a File record.", field="call")
        if spec.direction == "download":
            return (yield from self._download(call))
        if call.source is None:
            raise BadInput(f"Operation {call.operation_id} takes a file.", hint="Use Runtime.upload.", field="source")
        if spec.protocol in {"resumable", "tus"}:
            if call.source.length is None:
                raise BadInput("An upload in chunks takes a source whose length is known.", field="source")
            steps = resumable if spec.protocol == "resumable" else tus
            response = yield from steps(call, call.source, call.source.length, self._settings, spec.chunk)
        else:
            request = _single(call, spec.protocol, spec.part, call.source)
            seconds = call.timeout + (call.source.length or _UNKNOWN) / self._settings.slowest
            response = yield Send(request=evolve(request, timeout=seconds))
        data = {"url": response.url} if spec.protocol == "tus" else _answered(call, response)
        return Answer(data, response)

    def _download(self, call: OperationCall) -> Exchange:
        """Ask again from where an answer broke off, as long as the file is the same by its ETag (RFC 9110 §13.1.5)."""
        request = HttpRequest(call.method, call.url, call.headers, _json(call), call.timeout)
        request = request.with_header("Accept", "*/*").with_header("Accept-Encoding", "identity")
        etag = _text(call.resume, "etag")
        size: int = (call.resume or {}).get("have", 0) if etag is not None else 0
        failures = 0
        while True:
            asked, begin = request, size
            if etag is not None and size > 0:
                asked = request.with_header("Range", f"bytes={size}-").with_header("If-Range", etag)
            try:
                received: Received = yield Receive(
                    request=asked, place=partial(_place, call, begin=begin), accept=(416,)
                )
            except ServicesError as error:
                failures += 1
                if not error.retryable or failures >= self._settings.failures:
                    raise
            else:
                head = received.response
                if head.status == 416:  # there is nothing from there on: it was cut, or is another file
                    if begin == 0:
                        raise ResponseInvalid(f"The answer to {call.operation_id} has no byte to begin with.")
                    etag, size = None, 0
                    failures += 1
                elif received.error is None:
                    return Answer(_summary(head, received.size), head)
                else:
                    etag = _strong_etag(head)
                    got = received.size - begin if begin and etag is not None else received.size
                    failures = 0 if etag is not None and got > 0 else failures + 1
                    size = received.size if etag is not None else 0
                    if not received.error.retryable or failures >= self._settings.failures:
                        raise received.error
                if failures >= self._settings.failures:
                    raise ResponseInvalid(f"The file of operation {call.operation_id} cannot be had in one piece.")
            yield Wait(self._settings.retry_delay * 2 ** max(failures - 1, 0))


def _place(call: OperationCall, head: HttpResponse, begin: int) -> Place:
    etag = _strong_etag(head)
    at = 0
    if head.status == 206:
        found = _CONTENT_RANGE.fullmatch(head.header("content-range") or "")
        if found is None or int(found[1]) != begin or begin == 0:
            raise ResponseInvalid(f"The answer to {call.operation_id} is another part of the file than was asked for.")
        at = begin
    elif head.status != 200:
        raise ResponseInvalid(f"The answer to {call.operation_id} has no file ({head.status}).")
    return Place(at=at, resume={"etag": etag} if etag is not None else None)


def _strong_etag(head: HttpResponse) -> str | None:
    """The validator that parts of a file may be put together by; a weak one, or a compressed answer, is none."""
    etag = head.header("etag")
    if etag is None or not etag.startswith('"') or head.header("content-encoding") not in (None, "identity"):
        return None
    return etag


def _summary(head: HttpResponse, size: int) -> Mapping[str, Any]:
    return {"size": size, "content_type": head.content_type or None, "etag": head.header("etag")}


def _single(
    call: OperationCall, protocol: Literal["raw", "form", "related", "resumable", "tus"], part: str, source: BodySource
) -> HttpRequest:
    kind = media_type(call.content_type or "application/octet-stream")
    request = HttpRequest(call.method, call.url, call.headers, None, call.timeout)
    if protocol == "raw":
        if call.body:
            raise BadInput(
                f"Operation {call.operation_id} sends the file alone; it has no body beside it.", field="body"
            )
        return evolve(request.with_header("Content-Type", kind), body=source)
    boundary = call.random(24).hex()
    if protocol == "form":
        parts = [form_part(name, _field(name, value)) for name, value in call.body.items()]
        parts.append(form_part(part, source, filename=call.filename or "file", kind=kind))
        said = f"multipart/form-data; boundary={boundary}"
    else:
        parts = [
            Part((("Content-Type", "application/json; charset=UTF-8"),), _json(call) or b"{}"),
            Part((("Content-Type", kind),), source),
        ]
        said = f"multipart/related; boundary={boundary}"
    return evolve(request.with_header("Content-Type", said), body=Multipart(boundary, tuple(parts)))


def _field(name: str, value: Any) -> bytes:
    try:
        if isinstance(value, str):
            return value.encode()
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError):
        raise BadInput(f"The parameter {name!r} has no form in a form.", field=name) from None


def _json(call: OperationCall) -> bytes | None:
    if not call.body:
        return None
    try:
        return json.dumps(dict(call.body), separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise BadInput(f"The body cannot be written as JSON: {error}.", field="body") from None


def _answered(call: OperationCall, response: HttpResponse) -> Any:
    """What the answer to an upload holds, as the operation declares it."""
    if not response.body:
        return None
    if call.answer == "bytes":
        return response.body
    return response.body.decode("utf-8", "replace") if call.answer == "text" else response.json()


def _text(state: Mapping[str, Any] | None, name: str) -> str | None:
    found = (state or {}).get(name)
    return found if isinstance(found, str) else None
