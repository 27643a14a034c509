"""The answer to the browser that brings a callback, for any web framework."""

from __future__ import annotations

import hashlib
from http import HTTPStatus
from typing import Final
from urllib.parse import urlencode

from .errors import ServicesError
from .http import HttpResponse
from .model import CallbackResult
from .web.pages import POLICY, message_page

HEADERS: Final = (
    ("Cache-Control", "no-store"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", POLICY),
)
"""Of every answer to a callback: its URL has code and state in it, and nothing may keep it or pass it on."""


def cookie_name(state: str) -> str:
    """The name of the cookie that holds the binding of the consent with that ``state``.

    One for each, so that a person may have several consents open; ``__Host-`` lets no other host of the site set it
    (RFC 6265bis §4.1.3.2).
    """
    return f"__Host-connect-{hashlib.sha256(state.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


def callback_response(outcome: CallbackResult | ServicesError) -> HttpResponse:
    """Status, headers and body that end a callback.

    With a ``return_to`` it is 303 to there (RFC 9700 §4.12), after a failure with the parameter ``error`` added, whose
    value is the error's code. Without one it is a page that says how it ended.

    Args:
        outcome: what ``Runtime.callback`` returned, or the error that it raised.
    """
    failed = outcome if isinstance(outcome, ServicesError) else None
    target = outcome.metadata.get("return_to") if isinstance(outcome, ServicesError) else outcome.return_to
    if target is not None:
        location = target if failed is None else _with_error(target, failed.code)
        return HttpResponse(HTTPStatus.SEE_OTHER, (("Location", location), *HEADERS))
    title, text = ("Connected", "You may close this page.") if failed is None else ("Not connected", str(failed))
    headers = (("Content-Type", "text/html; charset=utf-8"), *HEADERS)
    return HttpResponse(HTTPStatus.OK if failed is None else failed.status, headers, message_page(title, text))


def _with_error(target: str, code: str) -> str:
    place, mark, fragment = target.partition("#")
    joiner = "&" if "?" in place else "?"
    return f"{place}{joiner}{urlencode({'error': code})}{mark}{fragment}"
