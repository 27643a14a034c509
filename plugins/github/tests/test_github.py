"""GitHub's operations and deviations, against a stand-in of GitHub Enterprise Server over real sockets."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from go_services_core import InboundRequest, Runtime, Scope, SecretStr
from go_services_core.call_specs import RetryPolicy
from go_services_core.errors import (
    AuthError,
    PermissionDenied,
    RateLimited,
    TokenEndpointError,
    WebhookRejected,
)
from go_services_core.model import Connection
from go_services_github.settings import GitHubSettings

WHO = Scope("user", "u1")


async def consent(runtime: Runtime) -> Connection:
    start = await runtime.connect("ghe", scope=WHO, redirect_uri="http://127.0.0.1/callback")
    async with aiohttp.ClientSession() as browser, browser.get(start.url, allow_redirects=False) as answer:
        location = answer.headers["Location"]
    return await runtime.complete(location, binding=start.binding)


def last(server: Any, path: str) -> dict[str, Any]:
    return next(request for request in reversed(server.requests) if request["path"] == path)


async def test_web_flow_connects_with_pkce_and_keeps_every_digit_of_the_account(server: Any, runtime: Runtime) -> None:
    connection = await consent(runtime)
    assert connection.status == "active"
    issuer = runtime.providers()["ghe"].settings.web_url
    assert connection.external_account_id == f"{issuer}|9007199254740993"
    assert connection.provider_id == "ghe"


async def test_token_without_expires_in_does_not_expire(server: Any, runtime: Runtime) -> None:
    connection = await consent(runtime)
    before = len([request for request in server.requests if request["path"].endswith("access_token")])
    await runtime.execute(connection.id, "user.get")
    await runtime.token(connection.id)
    after = len([request for request in server.requests if request["path"].endswith("access_token")])
    assert (before, after) == (1, 1)


async def test_error_inside_a_200_is_an_error(server: Any, runtime: Runtime) -> None:
    start = await runtime.connect("ghe", scope=WHO, redirect_uri="http://127.0.0.1/callback")
    state = start.url.partition("state=")[2].partition("&")[0]
    with pytest.raises(TokenEndpointError, match="bad_verification_code"):
        await runtime.complete({"code": "no-such-code", "state": state}, binding=start.binding)
    assert (await runtime.connections()).items == ()


async def test_requests_carry_media_type_and_api_version(server: Any, runtime: Runtime) -> None:
    connection = await consent(runtime)
    result = await runtime.execute(connection.id, "user.get")
    headers = last(server, "/api/v3/user")["headers"]
    assert headers["Accept"] == "application/vnd.github+json"
    assert headers["X-GitHub-Api-Version"] == "2022-11-28"
    assert headers["Authorization"].startswith("Bearer gho_")
    assert result.data["login"] == "octocat"
    assert result.request_id == "C0DE:1234"


async def test_repositories_are_paged_by_the_link_header(server: Any, runtime: Runtime) -> None:
    connection = await consent(runtime)
    found = [item["id"] async for item in runtime.paginate(connection.id, "repos.list", {"per_page": 100})]
    assert found == list(range(1, 251))
    assert len([request for request in server.requests if request["path"] == "/api/v3/user/repos"]) == 3


async def test_issues_are_created_and_listed(server: Any, runtime: Runtime) -> None:
    connection = await consent(runtime)
    made = await runtime.execute(
        connection.id, "issues.create", {"owner": "octo", "repo": "a b", "title": "Found a bug", "labels": ["bug"]}
    )
    assert made.status == 201
    listed = await runtime.execute(connection.id, "issues.list", {"owner": "octo", "repo": "a b", "state": "open"})
    assert listed.data == [{"number": 1, "title": "Found a bug", "labels": ["bug"]}]
    assert last(server, "/api/v3/repos/octo/a b/issues")["query"] == {"state": "open"}


async def test_personal_token_needs_no_app_and_brings_its_scopes(server: Any, runtime: Runtime, facts: Any) -> None:
    server.tokens[facts.PAT] = "read:user"
    connection = await runtime.establish("ghe", scope=WHO, auth="pat", fields={"token": SecretStr(facts.PAT)})
    decision = await runtime.can(connection.id, "repo.read")
    assert (decision.allowed, decision.missing) == (False, ("repo",))
    asked = len(server.requests)
    with pytest.raises(PermissionDenied):
        await runtime.execute(connection.id, "repos.list")
    assert len(server.requests) == asked


async def test_fine_grained_token_leaves_the_decision_to_github(server: Any, runtime: Runtime, facts: Any) -> None:
    server.tokens[facts.PAT] = "fine-grained"
    connection = await runtime.establish("ghe", scope=WHO, auth="pat", fields={"token": SecretStr(facts.PAT)})
    assert (await runtime.can(connection.id, "repo.read")).allowed


async def test_wrong_personal_token_is_refused_and_nothing_is_kept(runtime: Runtime) -> None:
    with pytest.raises(AuthError):
        await runtime.establish("ghe", scope=WHO, auth="pat", fields={"token": "ghp_wrong"})
    assert (await runtime.connections()).items == ()


async def test_broader_scope_implies_the_narrower_one(server: Any, runtime: Runtime) -> None:
    server.scopes = "admin:org,repo"
    connection = await consent(runtime)
    assert (await runtime.can(connection.id, "issues.write")).allowed


async def test_disconnect_deletes_the_token_at_github(server: Any, runtime: Runtime) -> None:
    connection = await consent(runtime)
    ended = await runtime.disconnect(connection.id)
    assert ended.revoked
    assert not any(token.startswith("gho_") for token in server.tokens)


async def test_personal_token_is_not_revoked_at_github(server: Any, runtime: Runtime, facts: Any) -> None:
    connection = await runtime.establish("ghe", scope=WHO, auth="pat", fields={"token": SecretStr(facts.PAT)})
    ended = await runtime.disconnect(connection.id)
    assert not ended.revoked
    assert facts.PAT in server.tokens


async def test_secondary_limit_without_headers_is_a_throttle_of_a_minute(server: Any, runtime: Runtime) -> None:
    connection = await consent(runtime)
    server.secondary_limit = True
    with pytest.raises(RateLimited) as raised:
        await runtime.execute(connection.id, "user.get", retry=RetryPolicy(attempts=1))
    assert raised.value.retry_after == 60
    assert raised.value.upstream_status == 403


async def test_webhook_is_verified_over_the_raw_body(runtime: Runtime, facts: Any) -> None:
    body = b'{"action":"opened"}'
    headers = (
        ("X-GitHub-Event", "issues"),
        ("X-GitHub-Delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958"),
        ("X-Hub-Signature-256", facts.signature("It's a Secret to Everybody", body)),
    )
    accepted = await runtime.accept_webhook("ghe", InboundRequest("POST", "/hooks/ghe", headers, body))
    assert not accepted.duplicate
    with pytest.raises(WebhookRejected):
        await runtime.accept_webhook("ghe", InboundRequest("POST", "/hooks/ghe", headers, b'{"action": "opened"}'))


@pytest.mark.parametrize(
    ("base_url", "web_url"),
    [
        ("https://api.github.com", "https://github.com"),
        ("https://github.example.com/api/v3", "https://github.example.com"),
        ("http://127.0.0.1:8080/api/v3", "http://127.0.0.1:8080"),
    ],
)
def test_web_url_follows_from_the_api(base_url: str, web_url: str) -> None:
    assert GitHubSettings(base_url=base_url).web_url == web_url


async def test_identity_is_asked_with_one_accept_header(server: Any, runtime: Runtime) -> None:
    await consent(runtime)
    asked = last(server, "/api/v3/user")
    assert [value for name, value in asked["pairs"] if name == "Accept"] == ["application/vnd.github+json"]


async def test_profile_is_told_with_the_login_where_there_is_no_name(server: Any, runtime: Runtime) -> None:
    connection = await consent(runtime)
    profile = await runtime.profile(connection.id)
    assert profile.account_id == connection.external_account_id
    assert (profile.subject, profile.name) == ("9007199254740993", profile.raw.get("name") or profile.raw["login"])
    assert profile.picture_url == profile.raw.get("avatar_url")


async def test_account_that_was_stored_by_its_number_alone_keeps_its_connection(
    server: Any, runtime: Runtime, tmp_path: Path
) -> None:
    connection = await consent(runtime)
    with sqlite3.connect(tmp_path / "github.db") as database:
        database.execute("UPDATE service_connections SET external_account_id = '9007199254740993'")
    database.close()
    again = await consent(runtime)
    assert (again.id, again.external_account_id) == (connection.id, "9007199254740993")
