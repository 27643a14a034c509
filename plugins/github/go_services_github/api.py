"""Where GitHub deviates from the standards."""

from __future__ import annotations

from base64 import b64encode
from urllib.parse import quote

from go_services_core.auth_specs import OAuth2Code
from go_services_core.errors import ProviderError, RateLimited, ResponseInvalid, TokenEndpointError
from go_services_core.http import HttpRequest, HttpResponse
from go_services_core.model import Credential
from go_services_core.protocols import AuthContext, Flow, ProviderAdapter
from go_services_core.redaction import scrub

SECONDARY_LIMIT_WAIT = 60.0
"""Seconds to wait at least when a secondary limit answers without Retry-After.

https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api#exceeding-the-rate-limit
"""


class GitHubAdapter(ProviderAdapter):
    """GitHub's own revocation, its secondary rate limits, and what its errors say."""

    def revoke(self, ctx: AuthContext, credential: Credential) -> Flow[bool] | None:
        """Only OAuth tokens can be revoked by the app that got them; a personal token is its owner's."""
        return _revoke(ctx, credential, ctx.auth) if isinstance(ctx.auth, OAuth2Code) else None

    def classify(self, response: HttpResponse) -> Exception | None:
        """A secondary limit is a 403 or 429 that may come without any header that says so; a refusal names its reasons.

        https://docs.github.com/rest/using-the-rest-api/troubleshooting-the-rest-api#validation-failed
        """
        if response.status in (403, 429):
            return _secondary_limit(response)
        return _refusal(response) if response.status in (400, 409, 410, 422) else None


def _secondary_limit(response: HttpResponse) -> RateLimited | None:
    if response.header("retry-after") is not None or response.header("x-ratelimit-remaining") == "0":
        return None  # the core reads these
    if b"secondary rate limit" not in response.body[:4096].lower():
        return None
    return RateLimited(
        "GitHub's secondary rate limit was reached.",
        retry_after=SECONDARY_LIMIT_WAIT,
        upstream_status=response.status,
        request_id=response.header("x-github-request-id"),
        hint="Make fewer calls at once.",
        plugin="github",
    )


def _refusal(response: HttpResponse) -> ProviderError | None:
    """The error of a body with ``message``, ``errors`` and ``documentation_url``; None where it has no message."""
    try:
        said = response.json()
    except ResponseInvalid:
        return None
    if not isinstance(said, dict) or not isinstance(said.get("message"), str):
        return None
    found = said.get("errors")
    problems = [one for one in found if isinstance(one, (dict, str))] if isinstance(found, list) else []
    first = problems[0] if problems else None
    code = first.get("code") if isinstance(first, dict) else None
    text = "; ".join(map(_problem, problems)) or said["message"]
    docs = said.get("documentation_url")
    return ProviderError(
        f"GitHub refused the call ({response.status}): {scrub(text, ())}",
        upstream_status=response.status,
        upstream_code=scrub(str(code), (), limit=80) if code else None,
        request_id=response.header("x-github-request-id"),
        excerpt=scrub(response.body.decode("utf-8", "replace"), ()),
        hint=f"See {docs}." if isinstance(docs, str) and docs.startswith("https://docs.github.com/") else None,
        plugin="github",
    )


def _problem(one: dict[str, object] | str) -> str:
    if isinstance(one, str):
        return one
    where = ".".join(str(one[name]) for name in ("resource", "field") if one.get(name))
    return f"{where} {one.get('message') or one.get('code') or 'is refused'}".strip()


def _revoke(ctx: AuthContext, credential: Credential, auth: OAuth2Code) -> Flow[bool]:
    """DELETE the token with the app's own credentials; RFC 7009 is not offered.

    https://docs.github.com/rest/apps/oauth-applications#delete-an-app-token
    """
    secret = ctx.settings.client_secret
    pair = f"{ctx.settings.client_id}:{secret.reveal() if secret else ''}".encode()
    response: HttpResponse = yield HttpRequest.json(
        "DELETE",
        f"{auth.revocation_url}/{quote(ctx.settings.client_id, safe='')}/token",
        {"access_token": credential.tokens.access_token.reveal()},
        headers=(("Authorization", f"Basic {b64encode(pair).decode()}"), ("X-GitHub-Api-Version", "2022-11-28")),
    )
    if response.status in (204, 404):  # 404: GitHub does not know the token any more
        return True
    raise TokenEndpointError(f"GitHub did not delete the token (status {response.status}).")
