"""A transport that answers from a recording: no network, no credential."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import NotRecorded
from ..http import HttpRequest, HttpResponse
from .recording import Recorded, body_of, load, request_part
from .scrubbing import PLACEHOLDER, Scrubber


class ReplayTransport:
    """Answers each request with the next recorded exchange of its method, URL and body; headers do not count.

    Each exchange answers once, so that the same request made twice has to be recorded twice. A secret of the test
    equals whatever stood in its place.
    """

    def __init__(self, path: Path) -> None:
        """Read the recording ``path``.

        Raises:
            RecordingInvalid: it is not there, is no recording, or holds a secret.
        """
        self.path = path
        self._left = [(_key(exchange.request), exchange) for exchange in load(path)]

    @property
    def unused(self) -> list[Recorded]:
        """The exchanges that were not asked for yet."""
        return [exchange for _, exchange in self._left]

    async def send(self, request: HttpRequest, *, provider_id: str) -> HttpResponse:
        """The recorded answer.

        Raises:
            NotRecorded: there is none, or none any more; the message says what differs from the nearest request.
        """
        asked = request_part(Scrubber(), request, await body_of(request))
        key = _key(asked)
        for index, (known, exchange) in enumerate(self._left):
            if known == key:
                del self._left[index]
                return exchange.response
        raise NotRecorded(
            f"{self.path.name} has no answer to {asked['method']} {asked['url']}: {self._why(key)}.",
            hint="Record it again, or correct the request.",
            plugin=provider_id,
            sent=False,
        )

    async def aclose(self) -> None:
        """Nothing is open."""

    def _why(self, key: tuple[str, str, str]) -> str:
        if not self._left:
            return "every recorded request was answered"
        if any(known[:2] == key[:2] for known, _ in self._left):
            return "its body is another one"
        if any(known[1:] == key[1:] for known, _ in self._left):
            return "its method is another one"
        return f"the next one recorded is {self._left[0][1].request['method']} {self._left[0][1].request['url']}"


def _key(part: dict[str, Any]) -> tuple[str, str, str]:
    body = {name: part[name] for name in ("json", "text", "base64") if name in part}
    return part["method"], _same(part["url"]), _same(json.dumps(body, sort_keys=True))


def _same(text: str) -> str:
    """Placeholders are numbered by what else was recorded, which does not count here."""
    return PLACEHOLDER.sub("REDACTED", text)
