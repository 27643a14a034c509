"""A stand-in for GitHub Enterprise Server on loopback, after GitHub's documentation.

Web flow: https://docs.github.com/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps
REST: https://docs.github.com/rest
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
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
        self.comments: list[dict[str, Any]] = []
        self.files: dict[str, tuple[str, str]] = {"docs/read me.md": ("c2hhMQ==", "sha-1")}
        """Path → content in base64, and the blob."""
        self.remaining = {"core": 5000, "search": 30}
        self.reset = 0
        self.scopes = "repo,read:user"
        self.secondary_limit = False
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        application = web.Application(middlewares=[self._record])
        application.add_routes(
            [
                web.get("/login/oauth/authorize", self._authorize),
                web.post("/login/oauth/access_token", self._access_token),
                web.delete("/api/v3/applications/{client_id}/token", self._delete_token),
            ]
        )
        repository = "/api/v3/repos/{owner}/{repo}"
        paging = {"per_page", "page"}
        for method, path, handler, query in (
            ("GET", "/api/v3/user", self._user, set()),
            ("GET", "/api/v3/user/emails", self._emails, paging),
            ("GET", "/api/v3/user/repos", self._repos,
             paging | {"visibility", "affiliation", "sort", "direction", "since"}),
            ("GET", "/api/v3/search/issues", self._search, paging | {"q", "sort", "order"}),
            ("GET", "/api/v3/rate_limit", self._rate_limit, set()),
            ("GET", repository, self._repository, set()),
            ("GET", f"{repository}/issues", self._list_issues,
             paging | {"state", "labels", "assignee", "sort", "direction", "since"}),
            ("POST", f"{repository}/issues", self._create_issue, set()),
            ("GET", f"{repository}/issues/{{number}}", self._issue, set()),
            ("PATCH", f"{repository}/issues/{{number}}", self._update_issue, set()),
            ("GET", f"{repository}/issues/{{number}}/comments", self._list_comments, paging | {"since"}),
            ("POST", f"{repository}/issues/{{number}}/comments", self._comment, set()),
            ("GET", f"{repository}/pulls", self._pulls, paging | {"state", "head", "base", "sort", "direction"}),
            ("GET", f"{repository}/pulls/{{number}}", self._pull, set()),
            ("GET", f"{repository}/commits", self._commits, paging | {"sha", "path", "author", "since", "until"}),
            ("GET", f"{repository}/contents/{{path:.+}}", self._content, {"ref"}),
            ("PUT", f"{repository}/contents/{{path:.+}}", self._put_content, set()),
            ("GET", f"{repository}/branches", self._branches, paging),
        ):  # fmt: skip
            application.router.add_route(method, path, self._api(handler, query))
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
        try:
            answer: web.StreamResponse = await handler(request)
        except web.HTTPException as error:
            error.headers["X-GitHub-Request-Id"] = "C0DE:1234"
            raise
        answer.headers["X-GitHub-Request-Id"] = "C0DE:1234"
        return answer

    def _api(self, handler: Any, query: set[str]) -> Any:
        """As every endpoint of the REST API: who asks, how, within which limit."""

        async def answer(request: web.Request) -> web.StreamResponse:
            self._scopes_of(request)
            headers = request.headers
            version = headers.get("X-GitHub-Api-Version")
            if headers.getall("Accept") != ["application/vnd.github+json"] or version != "2022-11-28":
                raise refusal(web.HTTPBadRequest, "Unsupported media type or API version")
            if unknown := set(request.query) - query:
                raise refusal(web.HTTPBadRequest, f"The stand-in knows no {sorted(unknown)} here")
            if request.can_read_body and headers.get("Content-Type") != "application/json":
                raise refusal(web.HTTPBadRequest, "Problems parsing JSON")
            resource = "search" if "/search/" in request.path else "core"
            limits = {"X-RateLimit-Limit": "30" if resource == "search" else "5000", "X-RateLimit-Resource": resource}
            limits["X-RateLimit-Reset"] = str(self.reset or int(time.time()) + 60)
            if not request.path.endswith("/rate_limit"):
                if self.remaining[resource] == 0:
                    raise refusal(
                        web.HTTPForbidden,
                        "API rate limit exceeded for user ID 1.",
                        headers={**limits, "X-RateLimit-Remaining": "0"},
                    )
                self.remaining[resource] -= 1
            limits["X-RateLimit-Remaining"] = str(self.remaining[resource])
            made: web.StreamResponse = await handler(request)
            made.headers.update(limits)
            return made

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
            raise refusal(web.HTTPUnauthorized, "Bad credentials")
        return self.tokens[token]

    async def _user(self, request: web.Request) -> web.Response:
        scopes = self._scopes_of(request)
        headers = {} if scopes == "fine-grained" else {"X-OAuth-Scopes": scopes.replace(",", ", ")}
        return web.json_response({"id": 9007199254740993, "login": "octocat", "node_id": "MDQ6"}, headers=headers)

    async def _emails(self, request: web.Request) -> web.Response:
        return page(request, [{"email": "octocat@example.test", "primary": True, "verified": True}])

    async def _repos(self, request: web.Request) -> web.Response:
        return page(request, REPOSITORIES)

    async def _repository(self, request: web.Request) -> web.Response:
        return web.json_response({"full_name": self._full_name(request)})

    def _full_name(self, request: web.Request) -> str:
        if request.match_info["owner"] != "octo":
            raise refusal(web.HTTPNotFound, "Not Found")
        return f"octo/{request.match_info['repo']}"

    async def _list_issues(self, request: web.Request) -> web.Response:
        self._full_name(request)
        return page(request, self.issues)

    async def _create_issue(self, request: web.Request) -> web.Response:
        self._full_name(request)
        said = await fields(request, {"title", "body", "labels", "assignees", "milestone"})
        if not said.get("title"):
            raise invalid("Issue", "title", "missing_field")
        issue = {"number": len(self.issues) + 1, **said}
        self.issues.append(issue)
        return web.json_response(issue, status=201)

    def _found(self, request: web.Request) -> dict[str, Any]:
        self._full_name(request)
        number = int(request.match_info["number"])
        if not 0 < number <= len(self.issues):
            raise refusal(web.HTTPNotFound, "Not Found")
        return self.issues[number - 1]

    async def _issue(self, request: web.Request) -> web.Response:
        return web.json_response(self._found(request))

    async def _update_issue(self, request: web.Request) -> web.Response:
        issue = self._found(request)
        known = {"title", "body", "state", "state_reason", "labels", "assignees", "milestone"}
        said = await fields(request, known)
        if said.get("milestone") == 404:
            raise invalid("Issue", "milestone", "invalid")
        issue.update(said)
        return web.json_response(issue)

    async def _list_comments(self, request: web.Request) -> web.Response:
        self._found(request)
        return page(request, self.comments)

    async def _comment(self, request: web.Request) -> web.Response:
        self._found(request)
        comment = {"id": len(self.comments) + 1, **await fields(request, {"body"})}
        self.comments.append(comment)
        return web.json_response(comment, status=201)

    async def _pulls(self, request: web.Request) -> web.Response:
        self._full_name(request)
        return page(request, [{"number": number} for number in range(1, 41)])

    async def _pull(self, request: web.Request) -> web.Response:
        self._full_name(request)
        return web.json_response({"number": int(request.match_info["number"]), "merged": False})

    async def _commits(self, request: web.Request) -> web.Response:
        self._full_name(request)
        return page(request, [{"sha": f"{number:040x}"} for number in range(35)])

    async def _branches(self, request: web.Request) -> web.Response:
        self._full_name(request)
        return page(request, [{"name": "main"}])

    async def _content(self, request: web.Request) -> web.Response:
        self._full_name(request)
        path = request.match_info["path"]
        if path not in self.files:
            raise refusal(web.HTTPNotFound, "Not Found")
        content, sha = self.files[path]
        return web.json_response({"path": path, "encoding": "base64", "content": content, "sha": sha})

    async def _put_content(self, request: web.Request) -> web.Response:
        self._full_name(request)
        path = request.match_info["path"]
        said = await fields(request, {"message", "content", "sha", "branch", "author"})
        old = self.files.get(path)
        if old is not None and "sha" not in said:
            raise refusal(web.HTTPUnprocessableEntity, 'Invalid request.\n\n"sha" wasn\'t supplied.')
        if old is not None and said["sha"] != old[1]:
            raise refusal(web.HTTPConflict, f"{path} does not match {said['sha']}")
        self.files[path] = (said["content"], f"sha-{len(self.files) + 1}")
        made = {"content": {"path": path}, "commit": {"message": said["message"], "author": said.get("author")}}
        return web.json_response(made, status=200 if old else 201)

    async def _search(self, request: web.Request) -> web.Response:
        if not request.query.get("q"):
            raise invalid("Search", "q", "missing")
        found = [{"number": number} for number in range(1, 76)]
        return page(
            request, found, lambda part: {"total_count": len(found), "incomplete_results": False, "items": part}
        )

    async def _rate_limit(self, request: web.Request) -> web.Response:
        resources = {name: {"remaining": left} for name, left in self.remaining.items()}
        return web.json_response({"resources": resources, "rate": resources["core"]})

    async def _delete_token(self, request: web.Request) -> web.Response:
        pair = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        if request.headers.get("Authorization") != f"Basic {pair}" or request.match_info["client_id"] != CLIENT_ID:
            return web.json_response({"message": "Not Found"}, status=404)
        if self.tokens.pop((await request.json())["access_token"], None) is None:
            return web.json_response({"message": "Not Found"}, status=404)
        return web.Response(status=204)


def page(request: web.Request, items: list[Any], shape: Any = None) -> web.Response:
    """A page of a list, with its links: https://docs.github.com/rest/using-the-rest-api/using-pagination-in-the-rest-api"""
    size, number = min(int(request.query.get("per_page", 30)), 100), int(request.query.get("page", 1))
    part = items[(number - 1) * size : number * size]
    headers = {}
    if number * size < len(items):
        following = request.url.update_query(page=str(number + 1), per_page=str(size))
        last = request.url.update_query(page=str(-(-len(items) // size)), per_page=str(size))
        headers["Link"] = f'<{following}>; rel="next", <{last}>; rel="last"'
    return web.json_response(part if shape is None else shape(part), headers=headers)


async def fields(request: web.Request, known: set[str]) -> dict[str, Any]:
    """The JSON body; one with a field that GitHub does not know there is a mistake of the caller."""
    said: dict[str, Any] = await request.json()
    if unknown := set(said) - known:
        raise refusal(web.HTTPBadRequest, f"The stand-in knows no {sorted(unknown)} in this body")
    return said


def refusal(kind: Any, message: str, errors: list[Any] | None = None, headers: dict[str, str] | None = None) -> Any:
    """https://docs.github.com/rest/using-the-rest-api/troubleshooting-the-rest-api"""
    body = {"message": message, "documentation_url": "https://docs.github.com/rest/issues"}
    if errors is not None:
        body["errors"] = errors  # type: ignore[assignment]
    return kind(text=json.dumps(body), content_type="application/json", headers=headers)


def invalid(resource: str, field: str, code: str) -> Any:
    """A body that parses and does not hold what it should."""
    errors = [{"resource": resource, "field": field, "code": code}]
    return refusal(web.HTTPUnprocessableEntity, "Validation Failed", errors)


def signature(secret: str, body: bytes) -> str:
    """What GitHub puts into X-Hub-Signature-256."""
    return "sha256=" + hmac.new(secret.encode(), body, "sha256").hexdigest()
