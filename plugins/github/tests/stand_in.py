"""A stand-in for GitHub Enterprise Server on loopback, after GitHub's documentation.

Web flow: https://docs.github.com/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps
REST: https://docs.github.com/rest
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

from aiohttp import web

CLIENT_ID = "Iv1.0123456789abcdef"
CLIENT_SECRET = "a-client-secret-of-the-stand-in"
PAT = "ghp_0123456789abcdefghijklmnopqrstuvwxyz"
REPOSITORIES = [{"id": number, "full_name": f"octo/repo-{number}"} for number in range(1, 251)]


class GitHubStandIn:
    """Answers as GitHub does; ``requests`` keeps method, path, query, headers and body of each."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.tokens: dict[str, str] = {PAT: "repo, read:user"}
        self.challenges: dict[str, str] = {}
        self.issues: list[dict[str, Any]] = []
        self.scopes = "repo,read:user"
        self.secondary_limit = False
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        application = web.Application(middlewares=[self._record])
        application.add_routes(
            [
                web.get("/login/oauth/authorize", self._authorize),
                web.post("/login/oauth/access_token", self._access_token),
                web.get("/api/v3/user", self._user),
                web.get("/api/v3/user/repos", self._repos),
                web.get("/api/v3/repos/{owner}/{repo}/issues", self._list_issues),
                web.post("/api/v3/repos/{owner}/{repo}/issues", self._create_issue),
                web.delete("/api/v3/applications/{client_id}/token", self._delete_token),
            ]
        )
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    @property
    def host(self) -> str:
        assert self._runner is not None
        return f"127.0.0.1:{self._runner.addresses[0][1]}"

    @property
    def base_url(self) -> str:
        return f"http://{self.host}/api/v3"

    @web.middleware
    async def _record(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.requests.append(
            {
                "method": request.method,
                "path": request.path,
                "query": dict(request.query),
                "headers": dict(request.headers),
                "pairs": list(request.headers.items()),
                "body": await request.read(),
            }
        )
        answer: web.StreamResponse = await handler(request)
        answer.headers["X-GitHub-Request-Id"] = "C0DE:1234"
        return answer

    async def _authorize(self, request: web.Request) -> web.Response:
        query = request.query
        assert query["client_id"] == CLIENT_ID
        assert query["code_challenge_method"] == "S256"
        self.challenges["a-code"] = query["code_challenge"]
        location = f"{query['redirect_uri']}?{urlencode({'code': 'a-code', 'state': query['state']})}"
        return web.Response(status=302, headers={"Location": location})

    async def _access_token(self, request: web.Request) -> web.Response:
        form = await request.post()
        challenge = self.challenges.pop(str(form.get("code")), None)
        verified = base64.urlsafe_b64encode(hashlib.sha256(str(form.get("code_verifier")).encode()).digest())
        if (form.get("client_id"), form.get("client_secret")) != (CLIENT_ID, CLIENT_SECRET):
            fields = {"error": "incorrect_client_credentials", "error_description": "The client_id is not right."}
        elif challenge is None or verified.rstrip(b"=").decode() != challenge:
            fields = {"error": "bad_verification_code", "error_description": "The code passed is incorrect."}
        else:
            self.tokens["gho_16C7e42F292c6912E7710c838347Ae178B4a"] = self.scopes
            fields = {
                "access_token": "gho_16C7e42F292c6912E7710c838347Ae178B4a",
                "scope": self.scopes,
                "token_type": "bearer",
            }
        # Errors come with status 200, and the answer is a form unless JSON was asked for.
        if request.headers.get("Accept") == "application/json":
            return web.json_response(fields)
        return web.Response(text=urlencode(fields), content_type="application/x-www-form-urlencoded")

    def _scopes_of(self, request: web.Request) -> str:
        if "User-Agent" not in request.headers:
            raise web.HTTPForbidden(text="Request forbidden by administrative rules.")
        if self.secondary_limit:
            message = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
            raise web.HTTPForbidden(text=json.dumps({"message": message}), content_type="application/json")
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() not in ("bearer", "token") or token not in self.tokens:
            raise web.HTTPUnauthorized(text='{"message":"Bad credentials"}', content_type="application/json")
        return self.tokens[token]

    async def _user(self, request: web.Request) -> web.Response:
        scopes = self._scopes_of(request)
        headers = {} if scopes == "fine-grained" else {"X-OAuth-Scopes": scopes.replace(",", ", ")}
        return web.json_response({"id": 9007199254740993, "login": "octocat", "node_id": "MDQ6"}, headers=headers)

    async def _repos(self, request: web.Request) -> web.Response:
        self._scopes_of(request)
        size, page = min(int(request.query.get("per_page", 30)), 100), int(request.query.get("page", 1))
        part = REPOSITORIES[(page - 1) * size : page * size]
        headers = {}
        if page * size < len(REPOSITORIES):
            following = request.url.update_query(page=str(page + 1), per_page=str(size))
            last = request.url.update_query(page=str(-(-len(REPOSITORIES) // size)), per_page=str(size))
            headers["Link"] = f'<{following}>; rel="next", <{last}>; rel="last"'
        return web.json_response(part, headers=headers)

    async def _list_issues(self, request: web.Request) -> web.Response:
        self._scopes_of(request)
        return web.json_response(self.issues)

    async def _create_issue(self, request: web.Request) -> web.Response:
        self._scopes_of(request)
        issue = {"number": len(self.issues) + 1, **await request.json()}
        self.issues.append(issue)
        return web.json_response(issue, status=201)

    async def _delete_token(self, request: web.Request) -> web.Response:
        pair = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        if request.headers.get("Authorization") != f"Basic {pair}" or request.match_info["client_id"] != CLIENT_ID:
            return web.json_response({"message": "Not Found"}, status=404)
        if self.tokens.pop((await request.json())["access_token"], None) is None:
            return web.json_response({"message": "Not Found"}, status=404)
        return web.Response(status=204)


def signature(secret: str, body: bytes) -> str:
    """What GitHub puts into X-Hub-Signature-256."""
    return "sha256=" + hmac.new(secret.encode(), body, "sha256").hexdigest()
