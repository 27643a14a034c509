"""Endpoints that no operation describes: reachable, under the same rules."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime

import pytest
from attrs import evolve

from go_services_core import Capability, Operation, Param
from go_services_core.call_specs import RateBudget, RetryPolicy
from go_services_core.errors import BadInput, PermissionDenied, ProviderNotFoundAnswer, RequestTimeout
from go_services_core.runtime.endpoints import METHODS, endpoint
from go_services_core.transport_specs import GraphQL

from .list_server import KEY, connect


@pytest.fixture
async def runtime(lists_app):
    async with lists_app() as found:
        yield found


@pytest.fixture
async def connection(runtime):
    return await connect(runtime)


async def test_endpoint_is_signed_and_called_with_query_path_values_body_and_headers(runtime, connection):
    made = await runtime.execute(
        connection.id,
        method="post",
        path="/echo/{owner}/x",
        params={"owner": "a/b c", "tag": ["x", "y&z"], "filter": {"min": 1}, "on": date(2026, 1, 2), "skipped": None,
                "at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "yes": True},
        body={"name": "Ünïcode"},
        headers={"X-Note": "hello"},
    )  # fmt: skip
    said = made.data
    assert said["method"] == "POST"
    assert said["target"] == (
        "/api/echo/a%2Fb%20c/x?tag=x&tag=y%26z&filter%5Bmin%5D=1&on=2026-01-02&at=2026-01-02T03%3A04%3A05Z&yes=true"
    )
    assert said["headers"]["X-API-Key"] == KEY
    assert (said["headers"]["X-Note"], said["headers"]["Content-Type"]) == ("hello", "application/json")
    assert json.loads(said["body"].encode("latin-1")) == {"name": "Ünïcode"}


@pytest.mark.parametrize(
    ("body", "kind", "sent"),
    [
        ([1], "application/json", "[1]"),
        ("té", "text/plain; charset=utf-8", "t\xc3\xa9"),
        (b"\0\xff", "application/octet-stream", "\0\xff"),
        ({}, "application/json", "{}"),
        (b"", "application/octet-stream", ""),
    ],
)
async def test_body_goes_as_what_it_is(runtime, connection, body, kind, sent):
    said = (await runtime.execute(connection.id, method="PUT", path="/echo", body=body)).data
    assert (said["headers"]["Content-Type"], said["body"]) == (kind, sent)
    said = (
        await runtime.execute(
            connection.id, method="PUT", path="/echo", body=body, headers={"content-type": "application/x-own"}
        )
    ).data
    assert [value for name, value in said["headers"].items() if name.lower() == "content-type"] == ["application/x-own"]


async def test_answer_is_read_by_its_content_type(runtime, connection):
    assert (await runtime.execute(connection.id, method="GET", path="/csv")).data == "a,b"
    assert (await runtime.execute(connection.id, method="GET", path="/image")).data == b"\x89PNG"
    assert (await runtime.execute(connection.id, method="HEAD", path="/csv")).data is None
    with pytest.raises(ProviderNotFoundAnswer):
        await runtime.execute(connection.id, method="GET", path="/nowhere")


@pytest.mark.parametrize(
    "path",
    [
        "echo", "", "//evil.example/x", "https://evil.example/", "/a/../b", "/a/%2e%2E/b", "/a/%2E%2e%2fb", "/a%2F..", "/a/..%5cb", "/..", "/./x", "/a/..;x/b",
        "/a?b=c", "/a#b", "/a b", "/ä", "/a\\b", "/a\r\nb", "/%zz", "/a%2",
    ],
)  # fmt: skip
async def test_path_that_is_not_one_below_the_base_url_is_refused(runtime, connection, server, path):
    with pytest.raises(BadInput) as refused:
        await runtime.execute(connection.id, method="GET", path=path)
    assert refused.value.field == "path"
    assert server.asked == []


@pytest.mark.parametrize("value", ["..", ".", "", "../items", "a/../../items"])
async def test_value_in_the_path_cannot_climb(runtime, connection, server, value):
    with pytest.raises(BadInput):
        await runtime.execute(connection.id, method="GET", path="/echo/{name}", params={"name": value})
    with pytest.raises(BadInput, match=r"The path has \{name\}"):
        await runtime.execute(connection.id, method="GET", path="/echo/{name}")
    assert server.asked == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer x"}, {"cookie": "a=b"}, {"HOST": "evil.example"}, {"Content-Length": "0"},
        {"Transfer-Encoding": "chunked"}, {"Proxy-Authorization": "x"}, {"Signature": "x"}, {"X-A": "a\r\nB: c"},
        {"X A": "b"}, {"": "b"}, {"X-HTTP-Method-Override": "DELETE"},
    ],
)  # fmt: skip
async def test_header_that_is_not_the_callers_is_refused(runtime, connection, server, headers):
    with pytest.raises(BadInput):
        await runtime.execute(connection.id, method="GET", path="/echo", headers=headers)
    assert server.asked == []


async def test_the_key_that_signs_wins_over_a_header_of_its_name(runtime, connection):
    said = (await runtime.execute(connection.id, method="GET", path="/echo", headers={"x-api-key": "not the key"})).data
    assert [value for name, value in said["headers"].items() if name.lower() == "x-api-key"] == [KEY]


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"method": "GET"},
        {"path": "/echo"},
        {"operation": "one.get", "method": "GET", "path": "/echo"},
        {"operation": "one.get", "body": {}},
        {"operation": "one.get", "headers": {"X-A": "b"}},
        {"method": "TRACE", "path": "/echo"},
        {"method": "GET /x", "path": "/echo"},
        {"method": "POST", "path": "/echo", "body": object()},
        {"method": "POST", "path": "/echo", "body": {"x": float("nan")}},
    ],
)
async def test_a_call_names_an_operation_or_an_endpoint(runtime, connection, server, arguments):
    with pytest.raises(BadInput):
        await runtime.execute(connection.id, **arguments)
    assert server.asked == []


@pytest.mark.parametrize(
    ("path", "params", "name"),
    [
        ("/echo/{owner}/x", {"owner": "secret-name"}, "get /echo/{owner}/x"),
        ("/echo/octo/5", {}, "get /echo/…"),
        ("/image", {}, "get /image"),
        ("/one/7", {}, "get /one/{id}"),
    ],
)
async def test_observers_see_no_value_of_the_path(runtime, connection, path, params, name):
    observed = []
    runtime.observe(observed.append, name="watch", inline=True)
    await runtime.execute(connection.id, method="GET", path=path, params=params)
    assert {one.detail["operation"] for one in observed if one.name == "operation"} == {name}


async def test_numeric_first_segment_is_no_name(runtime, connection):
    observed = []
    runtime.observe(observed.append, name="watch", inline=True)
    with pytest.raises(ProviderNotFoundAnswer):
        await runtime.execute(connection.id, method="GET", path="/1234567890/x")
    assert observed[-1].detail["operation"] == "get /…/…"


async def test_endpoint_that_an_operation_describes_needs_its_capability(app, counted):
    """The path is no way around a permit, however it is written."""
    async with app.open() as runtime:
        connection = await app.connect(runtime, grants=("items.read",))
        counted()
        plain = ("/items", "/%69tems", "/items/", "/%2Fitems", "/items;v=1", "/items%2F")
        for path, params in (*((path, {}) for path in plain), ("/{x}", {"x": "items"}), ("/{x}", {"x": "/items"})):
            with pytest.raises(PermissionDenied):
                await runtime.execute(connection.id, method="POST", path=path, params=params, body={"name": "x"})
        assert counted() == {}
        listed = await runtime.execute(connection.id, method="GET", path="/items", params={"per_page": 2})
        assert len(listed.data) == 2


async def test_endpoint_that_operations_share_needs_what_each_of_them_needs(app):
    """What a GraphQL call does shows in its body alone, so that its path is no way around a permit either."""
    operations = (
        Operation("read", "POST", "/echo/graphql", capability="free", call=GraphQL(document="{ a }")),
        Operation("write", "POST", "/echo/graphql", capability="kept", call=GraphQL(document="mutation { a }")),
    )
    app.set(
        operations=operations, subscriptions=(), capabilities=(Capability("free"), Capability("kept", grants="never"))
    )
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        for path, params in (("/echo/graphql", {}), ("/echo/{x}", {"x": "graphql"}), ("/echo//graphql;v=1", {})):
            with pytest.raises(PermissionDenied, match="Operation write needs the capability kept"):
                await runtime.execute(connection.id, method="post", path=path, params=params, body={"query": "{ a }"})


async def test_endpoint_takes_cost_and_rules_of_the_operation_that_describes_it(app):
    operations = (
        Operation("files.put", "PUT", "/echo/{path}", capability="files", idempotent=False, cost=5,
                  params=Param("path", "path", style="segments")),
        Operation("files.any", "PUT", "/{any}/x", params=Param("any", "path")),
    )  # fmt: skip
    app.set(operations=operations, capabilities=Capability("files", grants="never"))
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        with pytest.raises(PermissionDenied, match=r"put /echo/\{path\} needs the capability files"):
            await runtime.execute(connection.id, method="PUT", path="/echo/a/b/c", body={})


async def test_every_rule_of_the_operation_that_describes_it_holds_for_an_endpoint(runtime):
    """What it costs, whose budget it takes, whether it is keyed and in which header, and how it is repeated."""
    own = Operation(
        "files.put", "PUT", "/files/{id}", params=Param("id", "path"), capability="files", cost=5, idempotent=False,
        keyed=True, idempotency_header="X-Own-Key", retry=RetryPolicy(attempts=2), budget=RateBudget(bucket="files"),
    )  # fmt: skip
    instance = next(iter(runtime._core.instances.values()))
    spec = evolve(instance.spec, operations=(own,), capabilities=Capability("files"))
    plan, _ = endpoint(evolve(instance, spec=spec), "PUT", "/files/7", {}, body={}, headers={})
    rules = ("capability", "cost", "idempotent", "keyed", "idempotency_header", "retry", "budget")
    assert [getattr(plan.operation, rule) for rule in rules] == [getattr(own, rule) for rule in rules]
    assert plan.idempotency_header == "X-Own-Key"


async def test_deadline_holds_for_an_endpoint(runtime, connection, server):
    server.delay = 5
    with pytest.raises(RequestTimeout):
        await runtime.execute(connection.id, method="GET", path="/echo", deadline=0.1)


async def test_401_renews_the_token_of_an_endpoint_call_once(app):
    """P82."""
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        app.sandbox.expire_access_tokens()
        assert (await runtime.execute(connection.id, method="GET", path="/items")).attempts == 2


def test_methods_are_those_of_rfc_9110_that_have_a_meaning_here():
    assert set(METHODS) == {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
