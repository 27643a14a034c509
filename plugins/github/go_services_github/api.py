"""Where GitHub deviates from the standards."""

from __future__ import annotations

from base64 import b64encode
from urllib.parse import quote

from go_services_core.auth_specs import OAuth2Code
from go_services_core.errors import RateLimited, TokenEndpointError
from go_services_core.http import HttpRequest, HttpResponse
from go_services_core.model import Credential
from go_services_core.protocols import AuthContext, Flow, ProviderAdapter

SECONDARY_LIMIT_WAIT = 60.0
"""Seconds to wait at least when a secondary limit answers without Retry-After.

https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api#exceeding-the-rate-limit
"""


class GitHubAdapter(ProviderAdapter):
    """GitHub's own revocation and its secondary rate limits."""

    def revoke(self, ctx: AuthContext, credential: Credential) -> Flow[bool] | None:
        """Only OAuth tokens can be revoked by the app that got them; a personal token is its owner's."""
        return _revoke(ctx, credential, ctx.auth) if isinstance(ctx.auth, OAuth2Code) else None

    def classify(self, response: HttpResponse) -> Exception | None:
        """A secondary limit is a 403 or 429 that may come without any header that says so."""
        if response.status not in (403, 429) or response.header("retry-after") is not None:
            return None
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
