"""GraphQL: errors in answers of 200 are errors, documents are persisted, costs become waits."""

from __future__ import annotations

import hashlib
import json

import pytest
from aiohttp import web

from go_services_core import Operation, Param
from go_services_core.call_specs import RetryPolicy
from go_services_core.errors import (
    BadInput,
    ProviderError,
    ProviderForbidden,
    ProviderNotFoundAnswer,
    ProviderUnauthorized,
    ProviderUnavailable,
    RateLimited,
    ResponseInvalid,
)
from go_services_core.transport_specs import GraphQL
from go_services_transport_http.graphql import is_read

from .conftest import Site, body_params, open_client

ONCE = RetryPolicy(attempts=1)
QUERY = "query Products($first: Int) { products(first: $first) { edges { node { id } } } }"
MUTATION = "mutation Create($title: String!) { create(title: $title) { id } }"


def operation(document: str = QUERY, *, result: str | None = None, **record: object) -> Operation:
    return Operation(
        "q",
        "POST",
        "/graphql",
        params=(*body_params("title"), Param("first", "body", "integer")),
        result=result,
        call=GraphQL(document=document, **record),  # type: ignore[arg-type]
    )


def answering(site: Site, *answers: object, status: int = 200) -> list[dict]:
    """Answers in turn, the last again and again; gives the bodies that come."""
    seen: list[dict] = []

    @site.on("/api/graphql")
    async def graphql(request: web.Request) -> web.Response:
        seen.append(json.loads(await site.note(request)))
        return web.json_response(answers[min(len(seen), len(answers)) - 1], status=status)

    return seen


async def test_document_and_variables_are_posted_and_data_is_the_result(site):
    seen = answering(site, {"data": {"products": {"edges": []}}})
    async with open_client(site.url, operation(result="products")) as client:
        result = await client.call("q", {"first": 3})
    assert result.data == {"edges": []}
    assert seen == [{"query": QUERY, "variables": {"first": 3}}]
    method, _, headers, _ = site.requests[0]
    assert method == "POST"
    assert headers["Content-Type"] == "application/json"
    assert headers["Authorization"] == "Bearer tok-of-the-connection"


@pytest.mark.parametrize(
    ("error", "kind", "status", "code"),
    [
        ({"message": "no", "extensions": {"code": "UNAUTHENTICATED"}}, ProviderUnauthorized, 401, "UNAUTHENTICATED"),
        ({"message": "no", "extensions": {"code": "FORBIDDEN"}}, ProviderForbidden, 403, "FORBIDDEN"),
        ({"message": "no", "extensions": {"code": "ACCESS_DENIED"}}, ProviderForbidden, 403, "ACCESS_DENIED"),
        ({"message": "no", "type": "NOT_FOUND"}, ProviderNotFoundAnswer, 404, "NOT_FOUND"),
        ({"message": "no", "type": "RATE_LIMITED"}, RateLimited, 429, "RATE_LIMITED"),
        ({"message": "x", "extensions": {"code": "INTERNAL_SERVER_ERROR"}}, ProviderUnavailable, 502, None),
        ({"message": "Field 'x' doesn't exist"}, ProviderError, 400, None),
        ("not even an object", ProviderError, 400, None),
    ],
)
async def test_errors_in_an_answer_of_200_are_errors_by_their_code(site, error, kind, status, code):
    answering(site, {"data": None, "errors": [error]})
    async with open_client(site.url, operation()) as client:
        with pytest.raises(kind) as caught:
            await client.call("q", retry=ONCE)
    assert type(caught.value) is kind
    assert caught.value.status == status
    assert caught.value.upstream_status == 200
    assert code is None or caught.value.upstream_code == code
    assert caught.value.plugin == "kinds"
    assert caught.value.excerpt


async def test_an_error_that_echoes_the_credential_does_not_show_it(site):
    """P42"""
    answering(site, {"errors": [{"message": "bad token tok-of-the-connection"}]})
    async with open_client(site.url, operation()) as client:
        with pytest.raises(ProviderError) as caught:
            await client.call("q")
    assert "tok-of-the-connection" not in f"{caught.value!r} {caught.value.excerpt} {caught.value.as_dict()}"
    assert "bad token" in caught.value.excerpt


async def test_a_throttled_query_waits_as_long_as_its_cost_takes_to_come_back(site):
    cost = {
        "requestedQueryCost": 502,
        "actualQueryCost": None,
        "throttleStatus": {"maximumAvailable": 1000.0, "currentlyAvailable": 402, "restoreRate": 50.0},
    }
    throttled = {
        "errors": [{"message": "Throttled", "extensions": {"code": "THROTTLED"}}],
        "extensions": {"cost": cost},
    }
    seen = answering(site, throttled, {"data": {"ok": True}})
    async with open_client(site.url, operation()) as client:
        with pytest.raises(RateLimited) as caught:
            await client.call("q", retry=ONCE)
        assert caught.value.retry_after == pytest.approx(2.0)
        seen.clear()
        before = client.clock.monotonic()
        assert (await client.call("q")).data == {"ok": True}
        assert client.clock.monotonic() - before >= 2.0
    assert len(seen) == 2


async def test_a_query_is_repeated_after_a_server_error_and_a_mutation_is_not(site):
    broken = {"errors": [{"extensions": {"code": "INTERNAL_SERVER_ERROR"}}]}
    seen = answering(site, broken, {"data": {}})
    async with open_client(site.url, operation()) as client:
        await client.call("q")
    assert len(seen) == 2
    seen = answering(site, broken, {"data": {}})
    async with open_client(site.url, operation(MUTATION)) as client:
        with pytest.raises(ProviderError):
            await client.call("q", {"title": "x"})
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("document", "name", "expected"),
    [
        ("{ a }", None, True),
        ("query { a }", None, True),
        ("query Q($x: In = {a: 1}) @live { a }", "Q", True),
        ('query Q { a(x: "mutation M {") } # mutation\nfragment F on T { b }', None, True),
        ("mutation { a }", None, False),
        ("query Q { a } mutation M { b }", "Q", True),
        ("query Q { a } mutation M { b }", "M", False),
        ("query Q { a } mutation M { b }", None, False),
        ("subscription S { a }", "S", False),
        ("fragment query on T { a } mutation M { b }", None, False),
    ],
)
def test_what_only_reads_is_told_from_the_document(document, name, expected):
    assert is_read(document, name) is expected


async def test_auto_persisted_sends_the_hash_and_the_document_only_where_it_is_unknown(site):
    digest = hashlib.sha256(QUERY.encode()).hexdigest()
    unknown = {"errors": [{"message": "PersistedQueryNotFound", "extensions": {"code": "PERSISTED_QUERY_NOT_FOUND"}}]}
    seen = answering(site, unknown, {"data": 1}, {"data": 2})
    async with open_client(site.url, operation(persisted="auto")) as client:
        assert (await client.call("q")).data == 1
        assert (await client.call("q")).data == 2
    extension = {"persistedQuery": {"version": 1, "sha256Hash": digest}}
    assert seen == [{"extensions": extension}, {"query": QUERY, "extensions": extension}, {"extensions": extension}]


async def test_a_server_without_persisted_queries_is_remembered(site):
    unsupported = {"errors": [{"message": "PersistedQueryNotSupported"}]}
    seen = answering(site, unsupported, {"data": 1})
    async with open_client(site.url, operation(persisted="auto")) as client:
        await client.call("q")
        await client.call("q")
    assert [("query" in body, "extensions" in body) for body in seen] == [(False, True), (True, False), (True, False)]


async def test_only_persisted_never_sends_the_document(site):
    seen = answering(site, {"errors": [{"message": "PersistedQueryNotFound"}]})
    async with open_client(site.url, operation(persisted="only")) as client:
        with pytest.raises(ProviderError):
            await client.call("q")
    assert all("query" not in body for body in seen)


async def test_partial_data_is_an_error_unless_the_record_keeps_both(site):
    partial = {"data": {"a": 1, "b": None}, "errors": [{"message": "b failed", "path": ["b"]}]}
    answering(site, partial)
    async with open_client(site.url, operation()) as client:
        with pytest.raises(ProviderError):
            await client.call("q")
    async with open_client(site.url, operation(partial="keep")) as client:
        assert (await client.call("q")).data == partial
        answering(site, {"data": {"a": 1}})
        assert (await client.call("q")).data == {"data": {"a": 1}, "errors": []}


@pytest.mark.parametrize("answer", [["a list"], {}, "text"])
async def test_an_answer_that_is_not_graphql_is_invalid(site, answer):
    answering(site, answer)
    async with open_client(site.url, operation()) as client:
        with pytest.raises(ResponseInvalid):
            await client.call("q")


@pytest.mark.parametrize(("status", "kind"), [(401, ProviderUnauthorized), (503, ProviderUnavailable)])
async def test_a_status_that_says_enough_decides_by_itself(site, status, kind):
    answering(site, {"errors": [{"extensions": {"code": "FORBIDDEN"}}]}, status=status)
    async with open_client(site.url, operation()) as client:
        with pytest.raises(kind) as caught:
            await client.call("q", retry=ONCE)
    assert caught.value.status == status


async def test_an_exchange_is_run_with_other_variables(site):
    """The seam of paging over connections: the next page is the same call with another cursor."""
    seen = answering(site, {"data": {}})
    async with open_client(site.url, operation()) as client:
        await client.call("q", {"first": 1})
        await client.call("q", {"first": 2})
    assert [body["variables"] for body in seen] == [{"first": 1}, {"first": 2}]


def test_a_blank_document_is_refused_when_the_record_is_made():
    with pytest.raises(ValueError, match="document"):
        GraphQL(document="  ")


async def test_a_record_of_another_kind_is_refused(site):
    class Odd:
        kind = "graphql"

    async with open_client(site.url, Operation("q", "POST", "/graphql", call=Odd())) as client:
        with pytest.raises(BadInput, match="GraphQL record"):
            await client.call("q")
    assert not site.requests
