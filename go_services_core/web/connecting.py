"""``/connect/{provider}`` and ``/callback``: a consent in the browser, from the click to the way back."""

from __future__ import annotations

import inspect
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, urlsplit

from ..callback import HEADERS, callback_response, cookie_name
from ..errors import (
    BadInput,
    BindingMismatch,
    DuplicateParameter,
    RedirectMismatch,
    RequestRefused,
    SecretError,
    ServicesError,
    StoreError,
)
from ..http import HttpResponse
from ..model import CallbackResult, ConnectStart
from .answers import error_answer, json_answer, wants_json
from .body import read_body
from .request import WebRequest
from .site import Site

if TYPE_CHECKING:
    from ..runtime.runtime import Runtime

FORM_LIMIT: Final = 65_536
"""Bytes of a callback that comes as a form."""
_FORM: Final = "application/x-www-form-urlencoded"
_OPTIONS: Final = frozenset({"return_to", "grants", "connection_id", "auth"})
_STILL_OPEN: Final = (DuplicateParameter, RedirectMismatch, BindingMismatch, StoreError, SecretError)
"""After these the consent is not used up, and the browser must be able to come again."""


async def start(runtime: Runtime, request: WebRequest, site: Site, provider_id: str) -> HttpResponse:
    """Begin a consent and send the browser to the provider (303), with the attempt's binding in a cookie of its own.

    The query may have ``return_to``, ``grants`` (separated by blanks), ``connection_id`` and ``auth``, as
    ``Runtime.connect``. Whose connection it will be says the application, never the request.
    """
    _check_origin(request, site)
    assert site.scope_of is not None
    given = _options(request)
    whose = site.scope_of(request.native)
    scope = await whose if inspect.isawaitable(whose) else whose
    if scope is None:
        raise RequestRefused("Nobody is signed in.", status=401)
    begun = await runtime.connect(
        provider_id,
        scope=scope,
        grants=given.get("grants", "").split(),
        auth=given.get("auth"),
        connection_id=given.get("connection_id"),
        return_to=given.get("return_to"),
    )
    record = runtime.providers()[provider_id].auth(given.get("auth"))
    as_form = getattr(record, "response_mode", None) == "form_post"
    return HttpResponse(303, (("Location", begun.url), _set_cookie(begun, as_form=as_form), *HEADERS))


async def callback(runtime: Runtime, request: WebRequest, site: Site, name: str = "") -> HttpResponse:
    """Finish a consent and send the browser back to the application (303), or tell it how it ended.

    ``name`` tells redirect URIs of several providers apart (RFC 9700 §4.4.2.2); it is compared with all of the URL.
    """
    query = request.query
    if request.method == "POST":  # OAuth 2.0 Form Post Response Mode
        if (request.header("content-type") or "").partition(";")[0].strip().lower() != _FORM:
            raise RequestRefused(f"A callback is posted as {_FORM}.", status=415)
        form = await read_body(request, limit=min(FORM_LIMIT, site.body_limit), seconds=site.body_seconds)
        query = "&".join(part for part in (query, form.decode("utf-8", "replace")) if part)
    params = parse_qsl(query, keep_blank_values=True)
    states = [value for key, value in params if key == "state"]
    cookie = cookie_name(states[0]) if len(states) == 1 else ""
    binding = (request.cookie(cookie) if cookie else None) or ""
    outcome: CallbackResult | ServicesError
    try:
        outcome = await runtime.callback(params, binding=binding, redirect_uri=request.url(site.public_url))
    except ServicesError as error:
        outcome = error
    answer = _answer(request, outcome)
    if binding and not isinstance(outcome, _STILL_OPEN):
        removed = ("Set-Cookie", f"{cookie}=; Max-Age=0; {_flags(as_form=request.method == 'POST')}")
        answer = HttpResponse(answer.status, (*answer.headers, removed), answer.body)
    return answer


def _answer(request: WebRequest, outcome: CallbackResult | ServicesError) -> HttpResponse:
    answer = callback_response(outcome)
    if answer.status == HTTPStatus.SEE_OTHER:
        return answer
    if isinstance(outcome, ServicesError):
        return error_answer(request, outcome, otherwise_json=False, title="Not connected")
    if wants_json(request, otherwise=False):
        connection = outcome.connection
        return json_answer({"connection_id": connection.id, "provider_id": connection.provider_id})
    return answer


def _check_origin(request: WebRequest, site: Site) -> None:
    """Refuse what a page of another site sent: it would begin a consent in the name of who is signed in here.

    Browsers tell by ``Sec-Fetch-Site`` (Fetch Metadata §2.3), older ones by ``Origin``; what sends neither is none.

    Raises:
        RequestRefused: 403.
    """
    origin = request.header("origin")
    if origin in site.trusted_origins:
        return
    told_site = request.header("sec-fetch-site")
    if told_site is None:
        here = urlsplit(site.public_url).netloc if site.public_url is not None else request.header("host")
        own = origin is None or urlsplit(origin).netloc == here
    else:
        own = told_site.strip().lower() in ("same-origin", "none")
    if not own:
        raise RequestRefused(
            "The request comes from a page of another origin.",
            status=403,
            hint="List that origin in trusted_origins if it is yours.",
        )


def _options(request: WebRequest) -> dict[str, str]:
    pairs = parse_qsl(request.query, keep_blank_values=True)
    given = dict(pairs)
    if len(given) != len(pairs):
        raise BadInput("A parameter occurs twice.", field="query")
    unknown = sorted(given.keys() - _OPTIONS)
    if unknown:
        raise BadInput(
            f"There is no parameter {unknown[0]!r}.", hint=f"There are {', '.join(sorted(_OPTIONS))}.", field="query"
        )
    return given


def _set_cookie(begun: ConnectStart, *, as_form: bool) -> tuple[str, str]:
    seconds = max(int((begun.expires_at - datetime.now(UTC)).total_seconds()), 1)
    return "Set-Cookie", f"{begun.cookie}={begun.binding.reveal()}; Max-Age={seconds}; {_flags(as_form=as_form)}"


def _flags(*, as_form: bool) -> str:
    """Of the binding's cookie (RFC 6265bis §5.6). A callback as a form is a POST from the provider's site, which brings
    no cookie with ``SameSite=Lax``."""
    return f"Path=/; Secure; HttpOnly; SameSite={'None' if as_form else 'Lax'}"
