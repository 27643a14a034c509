"""Recordings: what was asked of a provider and what it answered, without secrets, as a file for tests.

A file is JSON with ``format`` and ``exchanges``; an exchange has ``request`` (``method``, ``url``, ``headers``, and
its body as ``json``, ``text`` or ``base64``) and ``response`` (``status``, ``headers``, body). Secrets are
``REDACTED-1``, ``REDACTED-2`` …; the order is that of sending, and recording the same again changes nothing.
"""

from __future__ import annotations

import json
import os
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from attrs import define, frozen

from ..errors import RecordingInvalid
from ..http import BodySource, Headers, HttpRequest, HttpResponse
from ..protocols import Transport
from .scrubbing import Scrubber

FORMAT: Final = "go-services-recording/1"


@define
class _Sent:
    request: HttpRequest
    body: bytes
    response: HttpResponse | None = None


@frozen
class Recorded:
    """One exchange as it stands in a file: the request's part, and the answer."""

    request: dict[str, Any]
    response: HttpResponse


class Recorder:
    """A transport that keeps what goes over another one.

    Requests that got no answer are left out. It gives no answers while they come: calls that stream are not recorded.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._sent: list[_Sent] = []

    async def send(self, request: HttpRequest, *, provider_id: str) -> HttpResponse:
        sent = _Sent(request, await body_of(request))
        self._sent.append(sent)
        sent.response = await self._transport.send(request, provider_id=provider_id)
        return sent.response

    async def aclose(self) -> None:
        await self._transport.aclose()

    def save(self, path: Path) -> None:
        """Write what was recorded without its secrets, in place of what ``path`` held; nothing where there is nothing.

        Raises:
            RecordingInvalid: a secret would be left, or ``path`` cannot be written; it is as it was.
        """
        scrubber = Scrubber()
        self._scrubbed(scrubber)  # what is found to be a secret in a later exchange may stand in an earlier one
        exchanges = self._scrubbed(scrubber)
        if not exchanges:
            return
        document = {"format": FORMAT, "exchanges": exchanges}
        text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        scrubber.check(text)
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            beside.write_text(text, encoding="utf-8")
            beside.replace(path)
        except OSError as error:
            raise RecordingInvalid(f"The recording {path} cannot be written: {error.strerror}.") from None
        finally:
            with suppress(OSError):
                beside.unlink()

    def _scrubbed(self, scrubber: Scrubber) -> list[dict[str, Any]]:
        return [
            {
                "request": request_part(scrubber, sent.request, sent.body),
                "response": {
                    "status": sent.response.status,
                    "headers": scrubber.headers(sent.response.headers),
                    **scrubber.body(sent.response.body, sent.response.content_type),
                },
            }
            for sent in self._sent
            if sent.response is not None
        ]


def request_part(scrubber: Scrubber, request: HttpRequest, body: bytes) -> dict[str, Any]:
    """A request as it stands in a recording."""
    return {
        "method": request.method,
        "url": scrubber.url(request.url),
        "headers": scrubber.headers(request.headers),
        **scrubber.body(body, (request.header("Content-Type") or "").partition(";")[0].strip().lower()),
    }


async def body_of(request: HttpRequest) -> bytes:
    """The request's body, whole; one that can be opened again is read for it."""
    if isinstance(request.body, BodySource):
        pieces: AsyncIterator[bytes] = request.body.open()
        return b"".join([piece async for piece in pieces])
    return request.body or b""


def load(path: Path) -> list[Recorded]:
    """The exchanges of a file.

    Raises:
        RecordingInvalid: it is not there, is no recording, or holds a secret of a known shape.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecordingInvalid(f"The recording {path} cannot be read: {type(error).__name__}.", hint=_AGAIN) from None
    Scrubber().check(text)
    try:
        document = json.loads(text)
        if document["format"] != FORMAT:
            raise ValueError(document["format"])
        return [Recorded(one["request"], _response(one["response"])) for one in document["exchanges"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordingInvalid(f"{path} is no recording of the format {FORMAT}.", hint=_AGAIN) from error


_AGAIN: Final = "Record it: go-services call … --record FILE, or GO_SERVICES_RECORD=1 for the fixture."


def _response(part: dict[str, Any]) -> HttpResponse:
    headers: Headers = tuple((str(name), str(value)) for name, value in part["headers"])
    return HttpResponse(int(part["status"]), headers, content_of(part))


def content_of(part: dict[str, Any]) -> bytes:
    """The body of a request or an answer."""
    if "json" in part:
        return json.dumps(part["json"], ensure_ascii=False).encode()
    if "base64" in part:
        return b64decode(part["base64"], validate=True)
    return str(part.get("text", "")).encode()
