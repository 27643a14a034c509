"""The sandbox's API: what a strict resource server answers (RFC 6750, RFC 8288), and endpoints to try signers on."""

from __future__ import annotations

import contextlib
import functools
import json
import math
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from aiohttp import web
from attrs import asdict

from ...errors import ConnectFailed, RequestTimeout
from ...secret import SecretStr
from . import parameters
from .refused import Refused
from .state import AccessToken
from .token import read_basic

if TYPE_CHECKING:
    from .server import Sandbox

Handler = Callable[["Sandbox", web.Request], Awaitable[web.Response]]
Protected = Callable[["Sandbox", web.Request, AccessToken], Awaitable[web.Response]]

MAX_PER_PAGE = 100


class RateBudget:
    """Requests per fixed window and account."""

    def __init__(self) -> None:
        self._windows: dict[str, tuple[float, int]] = {}

    def spend(self, account: str, *, limit: int, window: float, now: float) -> dict[str, str]:
        """Take one request from the account's budget; the headers that tell the rest.

        Raises:
            Refused: 429 with ``Retry-After``, the budget is used up.
        """
        started, used = self._windows.get(account, (now, 0))
        if now >= started + window:
            started, used = now, 0
        spent = used >= limit
        self._windows[account] = started, used + (not spent)
        headers = {
            "X-RateLimit-Limit": str(limit),
            "X-RateLimit-Remaining": str(max(0, limit - used - 1)),
            "X-RateLimit-Reset": str(math.ceil(started + window)),
        }
        if spent:
            wait = {"Retry-After": str(max(1, math.ceil(started + window - now)))}
            raise Refused("rate_limited", "Too many requests.", status=429, headers=headers | wait)
        return headers


def protected(*scopes: str) -> Callable[[Protected], Handler]:
    """Let a handler answer only requests with a live bearer token that has ``scopes``, within the rate limit."""

    def wrap(handler: Protected) -> Handler:
        @functools.wraps(handler)
        async def answer(sandbox: Sandbox, request: web.Request) -> web.Response:
            access = bearer(sandbox, request)
            limit, window = sandbox.rate_limit, sandbox.rate_window
            budget = sandbox.budget.spend(access.grant.account.id, limit=limit, window=window, now=sandbox.ledger.now)
            try:
                if not set(scopes) <= set(access.scopes):
                    raise _insufficient(" ".join(scopes))
                response = await handler(sandbox, request, access)
            except Refused as refused:
                response = refused.answer()
            response.headers.update(budget)
            return response

        return answer

    return wrap


def bearer(sandbox: Sandbox, request: web.Request) -> AccessToken:
    """The access token of the Authorization header (RFC 6750 §2.1).

    Raises:
        Refused: 401 without an error code when there is no credential (§3.1), 401 ``invalid_token`` when it is
            unknown, expired or revoked, 400 ``invalid_request`` when it stands in the URL (RFC 9700 §4.3.2) or the
            header is malformed.
    """
    headers = request.headers.getall("Authorization", [])
    if "access_token" in parameters.query(request)[0] or len(headers) > 1:
        raise _challenge("invalid_request", "One token, in the Authorization header, is what is needed.", status=400)
    scheme, _, token = headers[0].partition(" ") if headers else ("", "", "")
    if scheme.lower() != "bearer":
        challenge = {"WWW-Authenticate": 'Bearer realm="sandbox"'}
        raise Refused("unauthorized", "A bearer token is needed.", status=401, headers=challenge)
    if not token or " " in token:
        raise _challenge("invalid_request", "The Authorization header is malformed.", status=400)
    access = sandbox.ledger.find_access(token)
    if access is None:
        raise _challenge("invalid_token", "The access token is unknown, expired or revoked.", status=401)
    return access


def _challenge(error: str, description: str, *, status: int, scope: str | None = None) -> Refused:
    value = f'Bearer realm="sandbox", error="{error}", error_description="{description}"'
    if scope is not None:
        value += f', scope="{scope}"'
    return Refused(error, description, status=status, headers={"WWW-Authenticate": value})


def _insufficient(scope: str) -> Refused:
    return _challenge("insufficient_scope", "The token lacks a scope.", status=403, scope=scope)


# --- the account and its items -------------------------------------------------------------------------------------


@protected()
async def userinfo(sandbox: Sandbox, request: web.Request, access: AccessToken) -> web.Response:
    """Whose token it is: ``id``, ``login``, ``name``, ``email``."""
    return web.json_response(asdict(access.grant.account))


@protected("items.read")
async def list_items(sandbox: Sandbox, request: web.Request, access: AccessToken) -> web.Response:
    """A page of items, with a Link header (RFC 8288) to its neighbours."""
    query, repeated = parameters.query(request)
    if repeated:
        raise Refused("invalid_request", f"Repeated: {', '.join(sorted(repeated))}.")
    size = _number(query, "per_page", 30, MAX_PER_PAGE)
    page = _number(query, "page", 1, 1_000_000)
    last = max(1, math.ceil(len(sandbox.items) / size))
    targets = {"first": 1, "last": last}
    if page > 1:
        targets["prev"] = min(page - 1, last)
    if page < last:
        targets["next"] = page + 1
    links = [
        f'<{sandbox.url}/items?{urlencode({"per_page": size, "page": number})}>; rel="{rel}"'
        for rel, number in targets.items()
    ]
    return web.json_response(sandbox.items.page(page, size), headers={"Link": ", ".join(links)})


def _number(query: dict[str, str], name: str, default: int, maximum: int) -> int:
    text = query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 9 and 1 <= int(text) <= maximum):
        raise Refused("invalid_request", f"{name} is a number from 1 to {maximum}.")
    return int(text)


@protected("items.read")
async def get_item(sandbox: Sandbox, request: web.Request, access: AccessToken) -> web.Response:
    """One item."""
    item = sandbox.items.get(int(request.match_info["id"]))
    if item is None:
        raise Refused("not_found", "There is no such item.", status=404)
    return web.json_response(item)


@protected("items.write")
async def create_item(sandbox: Sandbox, request: web.Request, access: AccessToken) -> web.Response:
    """Make an item from ``{"name": …}``; an ``Idempotency-Key`` makes the repetition harmless."""
    if request.content_type != "application/json":
        raise Refused("invalid_request", "The content type must be application/json.", status=415)
    body = await request.read()
    try:
        data = json.loads(body)
    except ValueError:
        raise Refused("invalid_request", "The body is not JSON.") from None
    name = data.get("name") if isinstance(data, dict) else None
    if not isinstance(name, str) or not name.strip():
        raise Refused("invalid_item", "An item needs a name.", status=422)
    key = request.headers.get("Idempotency-Key")
    if key is not None and not (key and len(key) <= 255):
        raise Refused("invalid_request", "An Idempotency-Key has 1 to 255 characters.")
    item, replayed = sandbox.items.create(name, body=body, owner=access.grant.account.id, key=key)
    headers = {"Location": f"{sandbox.url}/items/{item['id']}"}
    if replayed:
        headers["Idempotent-Replayed"] = "true"
    elif sandbox.webhook_url is not None:
        with contextlib.suppress(ConnectFailed, RequestTimeout):
            await sandbox.deliver(sandbox.webhook_url, event="item.created", data=item)
    return web.json_response(item, status=201, headers=headers)


# --- endpoints for signers -----------------------------------------------------------------------------------------


async def echo(sandbox: Sandbox, request: web.Request) -> web.Response:
    """What arrived, for tests of signers: repeated headers and query parameters are joined with ``, ``."""
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    query = {name: ", ".join(request.query.getall(name)) for name in request.query}
    body = (await request.read()).decode(errors="replace")
    fields = {"method": request.method, "target": request.raw_path, "headers": headers, "query": query, "body": body}
    return web.json_response(fields)


async def private_key(sandbox: Sandbox, request: web.Request) -> web.Response:
    """The account, for the right API key in ``X-API-Key`` or in the query parameter ``api_key``, not in both."""
    given = request.headers.getall("X-API-Key", []) + request.query.getall("api_key", [])
    if len(given) != 1 or SecretStr(given[0]) != sandbox.api_key:
        raise Refused("unauthorized", "One API key is needed, and the right one.", status=401)
    return web.json_response(asdict(sandbox.account))


async def private_basic(sandbox: Sandbox, request: web.Request) -> web.Response:
    """The account, for the right user name and password (RFC 7617)."""
    headers = request.headers.getall("Authorization", [])
    if len(headers) != 1 or read_basic(headers[0]) != (sandbox.basic_user, sandbox.basic_password):
        challenge = {"WWW-Authenticate": 'Basic realm="sandbox", charset="UTF-8"'}
        raise Refused("unauthorized", "The user name or the password is wrong.", status=401, headers=challenge)
    return web.json_response(asdict(sandbox.account))
