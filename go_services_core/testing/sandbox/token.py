"""The token endpoint (RFC 6749 §3.2) and the revocation endpoint (RFC 7009)."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from typing import TYPE_CHECKING, Any, Literal, get_args
from urllib.parse import unquote_plus, urlencode

from aiohttp import web

from ...errors import BadInput
from ...secret import SecretStr
from . import parameters
from .authorize import read_scopes
from .refused import Refused

if TYPE_CHECKING:
    from .server import Sandbox

TokenAnswer = Literal[
    "json", "form", "error-200", "expires-string", "no-expires", "no-scope", "no-refresh", "html", "empty"
]
"""How the token endpoint dresses its answer; docs/reference/sandbox.md says what each does."""

_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")
_ERROR_200 = {
    "authorization_code": ("bad_verification_code", "The code passed is incorrect or expired."),
    "refresh_token": ("bad_refresh_token", "The refresh token passed is incorrect or expired."),
}


class TokenAnswers:
    """The variation in force, and for how many answers."""

    def __init__(self) -> None:
        self.kind: TokenAnswer = "json"
        self._left: int | None = None

    def set(self, kind: TokenAnswer, times: int | None = None) -> None:
        """Use ``kind`` for the next ``times`` authenticated token requests; None is until it is set again.

        Raises:
            BadInput: there is no such variation, or ``times`` is below 1.
        """
        if kind not in get_args(TokenAnswer):
            raise BadInput(f"Token answers are {', '.join(get_args(TokenAnswer))}; not {kind!r}.", field="token_answer")
        if times is not None and times < 1:
            raise BadInput("The number of times is at least 1.", field="times")
        self.kind, self._left = kind, times

    def take(self) -> TokenAnswer:
        """The variation for one answer."""
        kind = self.kind
        if self._left is not None:
            self._left -= 1
            if self._left == 0:
                self.set("json")
        return kind


async def token(sandbox: Sandbox, request: web.Request) -> web.Response:
    """Answer POST /token."""
    form = await parameters.form(request)
    authenticate_client(sandbox, request, form)
    grant_type = form.get("grant_type")
    if grant_type is None:
        raise Refused("invalid_request", "The parameter grant_type is missing.")
    if grant_type not in _ERROR_200:
        raise Refused("unsupported_grant_type", "Grant types are authorization_code and refresh_token.")
    kind = sandbox.token_answers.take()
    if kind == "error-200":  # as GitHub's token endpoint does; nothing is exchanged
        error, description = _ERROR_200[grant_type]
        return web.json_response({"error": error, "error_description": description})
    exchange = _exchange_code if grant_type == "authorization_code" else _exchange_refresh_token
    return _dress(exchange(sandbox, form, kind), kind)


def _exchange_code(sandbox: Sandbox, form: dict[str, str], kind: TokenAnswer) -> dict[str, Any]:
    for name in ("code", "redirect_uri", "code_verifier"):
        if name not in form:
            raise Refused("invalid_request", f"The parameter {name} is missing.")
    if not _VERIFIER.fullmatch(form["code_verifier"]):
        raise Refused("invalid_request", "The code_verifier is not 43 to 128 unreserved characters (RFC 7636 §4.1).")
    ledger = sandbox.ledger
    grant = ledger.redeem(form["code"], redirect_uri=form["redirect_uri"], verifier=form["code_verifier"])
    fields: dict[str, Any] = {
        "access_token": ledger.issue_access(grant, grant.scopes, sandbox.access_token_lifetime),
        "token_type": "Bearer",
        "expires_in": int(sandbox.access_token_lifetime),
        "scope": " ".join(grant.scopes),
    }
    if kind != "no-refresh":
        fields["refresh_token"] = ledger.issue_refresh(grant, sandbox.refresh_token_lifetime)
    return fields


def _exchange_refresh_token(sandbox: Sandbox, form: dict[str, str], kind: TokenAnswer) -> dict[str, Any]:
    if "refresh_token" not in form:
        raise Refused("invalid_request", "The parameter refresh_token is missing.")
    rotate = sandbox.rotation != "none" and kind != "no-refresh"
    grace = sandbox.rotation_grace if sandbox.rotation == "single-use-grace" else 0.0
    ledger = sandbox.ledger
    asked = read_scopes(form.get("scope"))
    grant, scopes = ledger.renew(form["refresh_token"], asked=asked, rotate=rotate, grace=grace)
    fields: dict[str, Any] = {
        "access_token": ledger.issue_access(grant, tuple(scopes), sandbox.access_token_lifetime),
        "token_type": "Bearer",
        "expires_in": int(sandbox.access_token_lifetime),
        "scope": " ".join(scopes),
    }
    if rotate:
        fields["refresh_token"] = ledger.issue_refresh(grant, sandbox.refresh_token_lifetime)
    return fields


def _dress(fields: dict[str, Any], kind: TokenAnswer) -> web.Response:
    """What was issued stays issued, also when the answer does not tell it."""
    if kind == "html":
        return web.Response(text="<!doctype html><title>Welcome</title>", content_type="text/html")
    if kind == "empty":
        return web.Response(content_type="application/json")
    if kind == "expires-string":
        fields["expires_in"] = str(fields["expires_in"])
    elif kind == "no-expires":
        del fields["expires_in"]
    elif kind == "no-scope":
        del fields["scope"]
    elif kind == "form":
        return web.Response(text=urlencode(fields), content_type="application/x-www-form-urlencoded")
    return web.json_response(fields, headers={"Pragma": "no-cache"})


async def revoke(sandbox: Sandbox, request: web.Request) -> web.Response:
    """Answer POST /revoke; 200 also for a token that nobody knows (RFC 7009 §2.2)."""
    form = await parameters.form(request)
    authenticate_client(sandbox, request, form)
    if "token" not in form:
        raise Refused("invalid_request", "The parameter token is missing.")
    sandbox.ledger.revoke(form["token"])
    return web.Response()


def authenticate_client(sandbox: Sandbox, request: web.Request, form: dict[str, str]) -> None:
    """Check the client's id and secret, from the Authorization header or from the body (RFC 6749 §2.3.1).

    Raises:
        Refused: 401 ``invalid_client``, or 400 ``invalid_request`` when both ways are used at once (§2.3).
    """
    headers = request.headers.getall("Authorization", [])
    if len(headers) > 1 or (headers and "client_secret" in form):
        raise Refused("invalid_request", "The client must authenticate in one way only.")
    if headers:
        pair = read_basic(headers[0])
        given = None if pair is None else (unquote_plus(pair[0]), SecretStr(unquote_plus(pair[1].reveal())))
        if given is not None and form.get("client_id", given[0]) != given[0]:
            raise Refused("invalid_request", "The client_id of the body is not that of the Authorization header.")
    elif "client_id" in form and "client_secret" in form:
        given = (form["client_id"], SecretStr(form["client_secret"]))
    else:
        given = None
    if given != (sandbox.client_id, sandbox.client_secret):
        challenge = {"WWW-Authenticate": 'Basic realm="sandbox"'}
        raise Refused("invalid_client", "The client's id or secret is wrong.", status=401, headers=challenge)


def read_basic(header: str) -> tuple[str, SecretStr] | None:
    """User and password of a Basic header (RFC 7617 §2), or None when it is not one."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return (user, SecretStr(password)) if colon else None
