"""The authorization endpoint (RFC 6749 §3.1 with RFC 7636, 8252, 9207 and 9700) and its consent page."""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from aiohttp import web

from . import parameters
from .refused import Refused
from .state import Consent

if TYPE_CHECKING:
    from .server import Sandbox

SCOPES = {"items.read": "See your items", "items.write": "Add items"}
DEFAULT_SCOPES = ("items.read",)
"""What a request without ``scope`` asks for."""

_LOOPBACK = re.compile(r"(http://(?:127\.0\.0\.1|\[::1\]))(?::[0-9]{1,5})?(/.*)?")
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")


def redirect_allowed(uri: str, registered: frozenset[str]) -> bool:
    """Whether ``uri`` is registered, character for character (RFC 9700 §4.1.3).

    The one exception is the port of a loopback address literal, which may be any (RFC 8252 §7.3).
    """
    if uri in registered:
        return True
    portless = _without_port(uri)
    return portless is not None and any(portless == _without_port(known) for known in registered)


def _without_port(uri: str) -> str | None:
    found = _LOOPBACK.fullmatch(uri)
    return None if found is None else found[1] + (found[2] or "")


def read_scopes(text: str | None) -> tuple[str, ...] | None:
    """The scopes of a ``scope`` parameter in their order, without repetitions; None when there is none.

    Raises:
        Refused: an unknown scope.
    """
    if text is None:
        return None
    scopes = tuple(dict.fromkeys(text.split(" ")))
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown:
        raise Refused("invalid_scope", f"The scopes are {' and '.join(SCOPES)}.")
    return scopes


async def authorize(sandbox: Sandbox, request: web.Request) -> web.Response:
    """Answer GET /authorize: a redirect, a consent page, or an error page when no redirect would be safe."""
    try:
        params, repeated = parameters.query(request)
    except Refused as refused:
        return _error_page(refused.description)
    redirect_uri = params.get("redirect_uri", "")
    if "client_id" in repeated or params.get("client_id") != sandbox.client_id:
        return _error_page("The client is unknown.")
    if "redirect_uri" in repeated or not redirect_allowed(redirect_uri, sandbox.redirect_uris):
        return _error_page("The redirect URI is not registered for this client.")
    state = None if "state" in repeated else params.get("state")
    try:
        consent = _consent(sandbox, params, repeated)
    except Refused as refused:
        return _redirect(sandbox, redirect_uri, state, error=refused.error, error_description=refused.description)
    if sandbox.deny_next or params.get("deny") == "1":
        sandbox.deny_next = False
        return _denied(sandbox, consent)
    if sandbox.auto_approve:
        return _approved(sandbox, consent)
    return _consent_page(sandbox, consent)


def _consent(sandbox: Sandbox, params: dict[str, str], repeated: frozenset[str]) -> Consent:
    if repeated:
        raise Refused("invalid_request", f"Repeated: {', '.join(sorted(_printable(name) for name in repeated))}.")
    if "response_type" not in params:
        raise Refused("invalid_request", "The parameter response_type is missing.")
    if params["response_type"] != "code":
        raise Refused("unsupported_response_type", "The only response type is code.")
    if params.get("code_challenge_method") != "S256" or not _CHALLENGE.fullmatch(params.get("code_challenge", "")):
        raise Refused("invalid_request", "PKCE with the method S256 is required.")
    return Consent(
        redirect_uri=params["redirect_uri"],
        state=params.get("state"),
        challenge=params["code_challenge"],
        scopes=read_scopes(params.get("scope")) or DEFAULT_SCOPES,
        asked_at=sandbox.ledger.now,
    )


def _printable(name: str) -> str:
    """What RFC 6749 §4.1.2.1 allows in an error description."""
    return "".join(c for c in name if " " <= c <= "~" and c not in '"\\')


async def decide(sandbox: Sandbox, request: web.Request) -> web.Response:
    """Answer the consent page's form."""
    fields = await parameters.form(request)
    decision = fields.get("decision")
    if decision not in ("approve", "deny"):
        return _error_page("The decision is either approve or deny.")
    consent = sandbox.ledger.take_consent(fields.get("consent", ""))
    if consent is None:
        return _error_page("This consent was decided already, or is too old. Start again at the application.")
    return _approved(sandbox, consent) if decision == "approve" else _denied(sandbox, consent)


def _approved(sandbox: Sandbox, consent: Consent) -> web.Response:
    scopes = consent.scopes
    if sandbox.approve_scopes is not None:
        scopes = tuple(scope for scope in scopes if scope in sandbox.approve_scopes)
        if not scopes:
            return _denied(sandbox, consent)
    code = sandbox.ledger.issue_code(consent, sandbox.account, scopes)
    return _redirect(sandbox, consent.redirect_uri, consent.state, code=code)


def _denied(sandbox: Sandbox, consent: Consent) -> web.Response:
    why = "The person said no."
    return _redirect(sandbox, consent.redirect_uri, consent.state, error="access_denied", error_description=why)


def _redirect(sandbox: Sandbox, uri: str, state: str | None, **params: str) -> web.Response:
    """303, so that a POST is not repeated at the application (RFC 9700 §4.12); ``iss`` as RFC 9207 §2 says."""
    query = {**params, **({} if state is None else {"state": state}), "iss": sandbox.url}
    joiner = "&" if urlsplit(uri).query else "?"
    location = f"{uri.removesuffix('?')}{joiner}{urlencode(query)}"
    return web.Response(status=303, headers={"Location": location, "Referrer-Policy": "no-referrer"})


def _page(title: str, body: str, status: int) -> web.Response:
    text = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title></head>'
        f"<body><main><h1>{escape(title)}</h1>{body}</main></body></html>"
    )
    headers = {
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
        "Referrer-Policy": "no-referrer",
    }
    return web.Response(status=status, text=text, content_type="text/html", headers=headers)


def _error_page(why: str) -> web.Response:
    return _page("Request refused", f"<p>{escape(why)}</p>", 400)


def _consent_page(sandbox: Sandbox, consent: Consent) -> web.Response:
    wanted = "".join(f"<li>{escape(SCOPES[scope])} ({escape(scope)})</li>" for scope in consent.scopes)
    body = (
        f"<p>{escape(sandbox.client_id)} asks {escape(sandbox.account.name)} for:</p><ul>{wanted}</ul>"
        f"<p>You will be sent to {escape(consent.redirect_uri)}.</p>"
        '<form method="post" action="/authorize/decision">'
        f'<input type="hidden" name="consent" value="{escape(sandbox.ledger.keep_consent(consent))}">'
        '<button name="decision" value="approve">Approve</button> '
        '<button name="decision" value="deny">Deny</button></form>'
    )
    return _page("Sandbox", body, 200)


async def metadata(sandbox: Sandbox, request: web.Request) -> web.Response:
    """Answer with the authorization server's metadata (RFC 8414 §2)."""
    return web.json_response(
        {
            "issuer": sandbox.url,
            "authorization_endpoint": f"{sandbox.url}/authorize",
            "token_endpoint": f"{sandbox.url}/token",
            "revocation_endpoint": f"{sandbox.url}/revoke",
            "scopes_supported": list(SCOPES),
            "response_types_supported": ["code"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "revocation_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
        }
    )
