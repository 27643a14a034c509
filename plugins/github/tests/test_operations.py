"""Every operation of the record, through the runtime, against a stand-in of GitHub's REST API."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import pytest

from go_services_core import Runtime, Scope, SecretStr
from go_services_core.calls import OperationRequest
from go_services_core.errors import (
    BadInput,
    PermissionDenied,
    ProviderError,
    ProviderNotFoundAnswer,
    RateLimited,
    ServicesError,
)
from go_services_core.model import Connection
from go_services_github.operations import OPERATIONS

WHO = Scope("user", "u1")
HERE = {"owner": "octo", "repo": "a b"}
CALLS: dict[str, dict[str, Any]] = {
    "user.get": {},
    "user.emails": {"per_page": 10},
    "repos.list": {
        "visibility": "all", "affiliation": ["owner", "collaborator"], "sort": "pushed", "direction": "asc",
        "since": datetime(2026, 1, 2, tzinfo=UTC), "page": 2, "per_page": 100,
    },
    "repos.get": HERE,
    "issues.list": {**HERE, "state": "open", "labels": ["bug", "a,b"], "assignee": "*", "sort": "comments"},
    "issues.get": {**HERE, "number": 1},
    "issues.create": {**HERE, "title": "Found a bug", "labels": ["bug"], "assignees": ["octocat"], "milestone": 3},
    "issues.update": {**HERE, "number": 1, "state": "closed", "state_reason": "completed", "milestone": None},
    "comments.list": {**HERE, "number": 1, "since": "2026-01-02T00:00:00Z"},
    "comments.create": {**HERE, "number": 1, "body": "Me too"},
    "pulls.list": {**HERE, "state": "all", "head": "octo:fix", "base": "main", "sort": "long-running"},
    "pulls.get": {**HERE, "number": 7},
    "commits.list": {**HERE, "sha": "main", "path": "docs/read me.md", "author": "octocat"},
    "contents.get": {**HERE, "path": "docs/read me.md", "ref": "main"},
    "contents.put": {**HERE, "path": "docs/new.md", "message": "Add", "content": "aGk=", "author_name": "Octo",
                     "author_email": "octo@example.test"},
    "search.issues": {"q": "is:open repo:octo/hello", "sort": "created", "order": "desc"},
    "rate_limit.get": {},
}  # fmt: skip


@pytest.fixture
async def connection(server: Any, runtime: Runtime, facts: Any) -> Connection:
    server.tokens[facts.PAT] = "repo, user"
    server.issues.append({"number": 1, "title": "First"})
    return await runtime.establish("ghe", scope=WHO, auth="pat", fields={"token": SecretStr(facts.PAT)})


def test_every_operation_is_called_here() -> None:
    assert set(CALLS) == {operation.id for operation in OPERATIONS}


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: one.id)
async def test_operation_is_accepted_as_its_record_writes_it(
    server: Any, runtime: Runtime, connection: Connection, operation: Any
) -> None:
    """The stand-in refuses parameters and fields of a body that it does not know, and wrong headers."""
    result = await runtime.execute(connection.id, operation.id, CALLS[operation.id])
    assert result.status in (200, 201)
    assert result.request_id == "C0DE:1234"
    assert server.requests[-1]["method"] == operation.method


@pytest.mark.parametrize("operation", [one for one in OPERATIONS if one.pagination], ids=lambda one: one.id)
async def test_list_is_paged_to_its_end_by_the_link_header(
    server: Any, runtime: Runtime, connection: Connection, operation: Any
) -> None:
    server.issues[:] = [{"number": number} for number in range(1, 65)]
    server.comments[:] = [{"id": number} for number in range(1, 33)]
    wanted = {"user.emails": 1, "repos.list": 250, "issues.list": 64, "comments.list": 32, "pulls.list": 40,
              "commits.list": 35, "search.issues": 75}  # fmt: skip
    params = {name: value for name, value in CALLS[operation.id].items() if name not in ("page", "per_page")}
    found = [str(item) async for item in runtime.paginate(connection.id, operation.id, params)]
    assert len(found) == len(set(found)) == wanted[operation.id]
    asked = [one for one in server.requests if one["path"].endswith(operation.path.rpartition("}")[2])]
    assert all(one["query"].get("state") in (None, "open", "all") for one in asked)
    first = await anext(runtime.pages(connection.id, operation.id, params))
    rest = [item async for item in runtime.paginate(connection.id, operation.id, params, resume=first.resume)] if (
        first.resume
    ) else []  # fmt: skip
    assert len(first.items) + len(rest) == wanted[operation.id]


async def test_dates_lists_paths_and_nested_fields_arrive_as_github_wants_them(
    server: Any, runtime: Runtime, connection: Connection
) -> None:
    await runtime.execute(connection.id, "repos.list", CALLS["repos.list"])
    query = server.requests[-1]["query"]
    assert (query["affiliation"], query["since"]) == ("owner,collaborator", "2026-01-02T00:00:00Z")
    put = await runtime.execute(connection.id, "contents.put", CALLS["contents.put"])
    assert put.data["commit"]["author"] == {"name": "Octo", "email": "octo@example.test"}
    got = await runtime.execute(connection.id, "contents.get", {**HERE, "path": "docs/new.md"})
    assert (got.data["path"], got.data["content"]) == ("docs/new.md", "aGk=")
    await runtime.execute(connection.id, "issues.update", CALLS["issues.update"])
    assert server.issues[0]["milestone"] is None
    limits = await runtime.execute(connection.id, "rate_limit.get")
    assert limits.data["search"]["remaining"] == 30


@pytest.mark.parametrize(
    ("operation", "params"),
    [
        ("issues.list", {**HERE, "state": "opened"}),
        ("issues.list", {**HERE, "per_page": 101}),
        ("issues.list", {**HERE, "since": "yesterday"}),
        ("issues.get", {**HERE, "number": 0}),
        ("issues.update", {**HERE, "number": 1, "state_reason": None, "title": 5}),
        ("contents.get", {**HERE, "path": "../secrets"}),
        ("repos.list", {"affiliation": ["owner", "friend"]}),
    ],
)
async def test_what_github_would_refuse_is_not_sent(
    server: Any, runtime: Runtime, connection: Connection, operation: str, params: dict[str, Any]
) -> None:
    asked = len(server.requests)
    with pytest.raises(BadInput):
        await runtime.execute(connection.id, operation, params)
    assert len(server.requests) == asked


async def test_validation_errors_say_what_is_wrong(server: Any, runtime: Runtime, connection: Connection) -> None:
    with pytest.raises(ProviderError, match=r"422.*Issue\.milestone invalid") as refused:
        await runtime.execute(connection.id, "issues.update", {**HERE, "number": 1, "milestone": 404})
    assert (refused.value.upstream_status, refused.value.upstream_code) == (422, "invalid")
    assert refused.value.status == 422
    assert refused.value.request_id == "C0DE:1234"
    assert "Validation Failed" in (refused.value.excerpt or "")
    assert refused.value.hint == "See https://docs.github.com/rest/issues."
    with pytest.raises(ProviderError, match=r"409.*does not match"):
        await runtime.execute(connection.id, "contents.put", {**CALLS["contents.put"], "path": "docs/read me.md",
                                                              "sha": "old"})  # fmt: skip
    with pytest.raises(ProviderError, match=r"422.*wasn't supplied"):
        await runtime.execute(connection.id, "contents.put", {**CALLS["contents.put"], "path": "docs/read me.md"})


async def test_missing_resource_stays_a_404(runtime: Runtime, connection: Connection) -> None:
    with pytest.raises(ProviderNotFoundAnswer):
        await runtime.execute(connection.id, "repos.get", {"owner": "nobody", "repo": "x"})


async def test_primary_limit_is_a_throttle_until_its_reset_and_not_a_lost_grant(
    server: Any, runtime: Runtime, connection: Connection
) -> None:
    """P85: a 403 with nothing remaining."""
    server.remaining["search"] = 0
    server.reset = int(time.time()) + 3600
    with pytest.raises(RateLimited) as limited:
        await runtime.execute(connection.id, "search.issues", {"q": "x"})
    assert limited.value.retry_after == pytest.approx(3600, abs=60)
    assert (await runtime.execute(connection.id, "user.get")).status == 200  # another resource, another budget


async def test_addresses_take_a_scope_that_the_token_has_by_a_broader_one(
    server: Any, runtime: Runtime, connection: Connection, facts: Any
) -> None:
    assert (await runtime.can(connection.id, "user.emails")).allowed
    server.tokens[facts.PAT] = "repo"
    narrow = await runtime.establish(
        "ghe", scope=Scope("user", "u2"), auth="pat", fields={"token": SecretStr(facts.PAT)}
    )
    with pytest.raises(PermissionDenied) as refused:
        await runtime.execute(narrow.id, "user.emails")
    assert refused.value.metadata["missing"] == ["user:email"]


async def test_capability_is_invoked_by_scope(runtime: Runtime, connection: Connection) -> None:
    made = await runtime.invoke(
        "issues.write", "ghe", WHO, operation="comments.create", params=CALLS["comments.create"]
    )
    assert made.result.data["body"] == "Me too"
    assert made.decision.connection_id == connection.id


async def test_endpoint_without_a_record_is_reachable(runtime: Runtime, connection: Connection) -> None:
    found = await runtime.execute(connection.id, method="GET", path="/repos/{owner}/{repo}/branches", params=HERE)
    assert found.data == [{"name": "main"}]


async def test_many_issues_are_read_at_once(server: Any, runtime: Runtime, connection: Connection) -> None:
    server.issues[:] = [{"number": number} for number in range(1, 21)]
    calls = [
        OperationRequest(connection_id=connection.id, operation="issues.get", params={**HERE, "number": number})
        for number in (*range(1, 21), 99)
    ]
    outcomes = [outcome async for outcome in runtime.batch(calls, concurrency=4)]
    assert [outcome.unwrap().data["number"] for outcome in outcomes[:-1]] == list(range(1, 21))
    assert isinstance(outcomes[-1].error, ServicesError)
