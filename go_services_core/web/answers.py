"""Answers in the form that the client asks for, and errors as answers."""

from __future__ import annotations

import json
import math
from http import HTTPStatus
from typing import Any, Final

from attrs import evolve

from ..errors import ConfigError, PluginError, RequestRefused, SecretError, ServicesError, StoreError
from ..http import Headers, HttpResponse
from .pages import POLICY, message_page
from .request import WebRequest

GUARDS: Final[Headers] = (
    ("Cache-Control", "no-store"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
)
"""Of every answer."""
PAGE_HEADERS: Final[Headers] = (
    ("Content-Type", "text/html; charset=utf-8"),
    *GUARDS,
    ("Content-Security-Policy", POLICY),
)
RETRY_AFTER: Final = 5
"""Seconds, where nothing tells how long it takes."""
_INNER: Final = (StoreError, SecretError, ConfigError, PluginError)
"""What they say is for the operator: it names hosts, files and settings."""


def text(body: str, status: int = 200) -> HttpResponse:
    """Plain text."""
    return HttpResponse(status, (("Content-Type", "text/plain; charset=utf-8"), *GUARDS), body.encode())


def json_answer(data: Any, status: int = 200, headers: Headers = ()) -> HttpResponse:
    """JSON; times are ISO 8601."""
    body = json.dumps(data, ensure_ascii=False, default=_plain, separators=(",", ":")).encode()
    return HttpResponse(status, (("Content-Type", "application/json"), *GUARDS, *headers), body)


def _plain(value: Any) -> str:
    return str(value.isoformat()) if hasattr(value, "isoformat") else str(value)


def wants_json(request: WebRequest, *, otherwise: bool) -> bool:
    """Whether the client prefers JSON to a page by its ``Accept`` (RFC 9110 §12.5.1); ``otherwise`` where it does not
    tell."""
    best = {"text/html": 0.0, "application/json": 0.0}
    for part in (request.header("accept") or "").split(","):
        kind, *parameters = (one.strip().lower() for one in part.split(";"))
        if kind in best:
            best[kind] = max(best[kind], _quality(parameters))
    page, data = best["text/html"], best["application/json"]
    return otherwise if page == data else data > page


def _quality(parameters: list[str]) -> float:
    for one in parameters:
        name, _, value = one.partition("=")
        if name.strip() == "q":
            try:
                return min(max(float(value), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0


def guarded(response: HttpResponse) -> HttpResponse:
    """A handler's answer with those of ``GUARDS`` that it does not set itself."""
    own = {name.lower() for name, _ in response.headers}
    return evolve(response, headers=(*response.headers, *(one for one in GUARDS if one[0].lower() not in own)))


def _inner(error: ServicesError) -> bool:
    """Whether its message is for the operator; that of a handler's error quotes the error that the handler raised."""
    return isinstance(error, _INNER) or isinstance(error.__cause__, _INNER)


def told(error: ServicesError) -> dict[str, Any]:
    """What a client may know of an error."""
    if _inner(error):
        return {"code": error.code, "category": error.category, "status": error.status, "message": INNER_MESSAGE}
    return error.as_dict()


INNER_MESSAGE: Final = "The service cannot do this now; its log tells why."


def error_headers(error: ServicesError) -> Headers:
    """What belongs to the status: ``Allow``, ``Retry-After`` and so on."""
    own = error.headers if isinstance(error, RequestRefused) else ()
    seconds = getattr(error, "retry_after", None)
    if not seconds and error.status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS):
        seconds = RETRY_AFTER
    return (*own, ("Retry-After", str(math.ceil(seconds)))) if seconds else own


def error_answer(
    request: WebRequest, error: ServicesError, *, otherwise_json: bool = True, title: str = ""
) -> HttpResponse:
    """The error as JSON or as a page, as the client prefers."""
    if wants_json(request, otherwise=otherwise_json):
        return json_answer({"error": told(error)}, error.status, error_headers(error))
    said = INNER_MESSAGE if _inner(error) else str(error)
    body = message_page(title or HTTPStatus(error.status).phrase, said)
    return HttpResponse(error.status, (*PAGE_HEADERS, *error_headers(error)), body)
