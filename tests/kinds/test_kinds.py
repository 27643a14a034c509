"""Kinds of one's own, kinds that send by themselves, kinds that nobody offers, and providers declared in TOML."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import pytest
from aiohttp import web
from attrs import evolve, frozen

import go_services_secrets_appkey.plugin as appkey
import go_services_store_sqlite.plugin as sqlite
import go_services_transport_http.plugin as http
from go_services_core import Capability, Operation, Param, Ref, TransportSpec, hookimpl
from go_services_core.call_specs import Noop, OperationCall, RetryPolicy
from go_services_core.config import Config
from go_services_core.config.report import check
from go_services_core.errors import (
    BadInput,
    ConfigError,
    EgressDenied,
    PermissionDenied,
    PluginNotFound,
    ProviderUnauthorized,
)
from go_services_core.exchange import Answer, Exchange, Send, Wait
from go_services_core.http import HttpRequest, HttpResponse
from go_services_core.model import Observation
from go_services_core.plugins import PluginManager
from go_services_core.providers import build_instances
from go_services_core.secret import SecretStr
from go_services_core.transport_specs import File, GraphQL, Stream

from .conftest import open_client

# --- a third party's kind ------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class Twice:
    """Asks, waits, and asks again."""

    kind: ClassVar[str] = "twice"
    pause: float = 1.0


class TwiceTransport:
    def __init__(self, settings: object, env: object) -> None:
        self.closed = False

    def exchange(self, call: OperationCall) -> Exchange:
        request = HttpRequest(call.method, call.url, call.headers, None, call.timeout)
        first = yield Send(request=request)
        yield Wait(call.record.pause)
        second = yield Send(request=request)
        return Answer([first.json(), second.json()], second)

    async def aclose(self) -> None:
        CLOSED.append(self)


CLOSED: list[object] = []


class Mailbox:
    """Sends over something that is not HTTP, and shapes nothing."""

    def __init__(self, settings: object, env: object) -> None:
        pass

    async def send(self, request: HttpRequest, *, provider_id: str) -> HttpResponse:
        said = {"method": request.method, "url": request.url, "by": request.header("Authorization")}
        return HttpResponse(200, (), json.dumps(said).encode(), request.url)

    async def aclose(self) -> None:
        CLOSED.append(self)


@frozen
class Posted:
    kind: ClassVar[str] = "mailbox"


class Kinds:
    GS_CONTRACT = 1

    @hookimpl
    def gs_transports(self) -> list[TransportSpec]:
        here = __name__
        return [
            TransportSpec(kind="twice", factory=Ref(f"{here}:TwiceTransport"), record=Ref(f"{here}:Twice")),
            TransportSpec(kind="mailbox", factory=Ref(f"{here}:Mailbox")),
        ]


async def test_a_kind_of_ones_own_is_a_generator_and_its_requests_are_the_connections(site):
    count = 0

    @site.on("/api/x")
    async def x(request: web.Request) -> web.Response:
        nonlocal count
        count += 1
        assert request.headers["Authorization"] == "Bearer tok-of-the-connection"
        return web.json_response({"n": count})

    CLOSED.clear()
    operation = Operation("x", "GET", "/x", call=Twice(pause=2.5))
    async with open_client(site.url, operation, plugins={"kinds": Kinds()}) as client:
        result = await client.call("x")
        assert client.clock.slept == [2.5]
    assert result.data == [{"n": 1}, {"n": 2}]
    assert result.attempts == 2
    assert [type(kind) for kind in CLOSED] == [TwiceTransport]


async def test_a_kind_that_only_sends_gets_requests_shaped_as_those_of_rest(site):
    operation = Operation("x", "GET", "/x", params=(Param("q"),), call=Posted())
    async with open_client(site.url, operation, plugins={"kinds": Kinds()}) as client:
        result = await client.call("x", {"q": "1"})
    assert result.data == {"method": "GET", "url": f"{site.url}/api/x?q=1", "by": "Bearer tok-of-the-connection"}
    assert not site.requests


async def test_a_step_to_a_foreign_host_gets_no_credential(site):
    """P35"""

    class Stray(TwiceTransport):
        def exchange(self, call: OperationCall) -> Exchange:
            response = yield Send(request=HttpRequest("GET", "http://127.0.0.1:9/steal"))
            return Answer(None, response)

    async with open_client(site.url, Operation("x", "GET", "/x", call=Twice()), plugins={"kinds": Kinds()}) as client:
        client.runtime._core.kinds["twice"] = Stray(None, None)
        with pytest.raises(EgressDenied, match="only to its own hosts"):
            await client.call("x")


async def test_an_unknown_kind_names_the_installed_ones_and_what_to_install(site):
    @frozen
    class Carrier:
        kind: ClassVar[str] = "pigeon"

    async with open_client(site.url, Operation("x", "GET", "/x", call=Carrier())) as client:
        with pytest.raises(PluginNotFound, match=r"bulk, file, graphql, noop, rest, soap, stream") as caught:
            await client.call("x")
    assert "pigeon" in str(caught.value)
    assert "Install go-services-transport-http" in str(caught.value)


async def test_noop_sends_nothing_and_gives_the_parameters(site):
    operation = Operation(
        "x", "POST", "/x/{id}", params=(Param("id", "path"), Param("q"), Param("b", "body")), call=Noop()
    )
    async with open_client(site.url, operation) as client:
        result = await client.call("x", {"q": "1", "id": "7", "b": "2"})
        assert result.data == {"id": "7", "q": "1", "b": "2"}
        assert result.status == 200
        with pytest.raises(BadInput, match="'id'"):
            await client.call("x")
    assert not site.requests


@pytest.mark.parametrize("call", [Noop(), GraphQL(document="{ a }"), Stream(), File(direction="upload"), None])
async def test_observers_are_told_of_a_call_with_its_kind(site, tmp_path, call):
    @site.on("/api/x")
    async def answer(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=b'{"data": {"a": 1}}\n', content_type="application/json")

    told: list[Observation] = []
    source = tmp_path / "file"
    source.write_bytes(b"x")
    async with open_client(site.url, Operation("x", "POST", "/x", call=call)) as client:
        client.runtime.observe(told.append, name="test", inline=True)
        if isinstance(call, Stream):
            assert [item async for item in client.runtime.stream(client.connection_id, "x")]
        elif isinstance(call, File):
            await client.runtime.upload(client.connection_id, "x", source)
        else:
            await client.call("x")
    calls = [(one.phase, one.ok, one.detail["transport_kind"]) for one in told if one.name == "operation"]
    kind = "rest" if call is None else call.kind
    assert calls == [("start", True, kind), ("end", True, kind)]


@pytest.mark.parametrize(
    "call", [Noop(), GraphQL(document="{ a }"), Stream(), File(direction="upload"), File(direction="download")]
)
async def test_a_denied_call_is_not_made_whatever_its_kind(site, tmp_path, call):
    operation = Operation("x", "POST", "/x", capability="write", call=call)
    async with open_client(site.url, operation, capabilities=(Capability("write", grants=("w",)),)) as client:
        allowed = await client.runtime.can(client.connection_id, "write")
        client.runtime._core.cache[client.connection_id].decisions["write"] = evolve(allowed, allowed=False)
        with pytest.raises(PermissionDenied):
            if isinstance(call, Stream):
                await anext(client.runtime.stream(client.connection_id, "x"))
            elif call == File(direction="upload"):
                await client.runtime.upload(client.connection_id, "x", b"1")
            elif call == File(direction="download"):
                await client.runtime.download(client.connection_id, "x", tmp_path / "f")
            else:
                await client.call("x")
    assert not site.requests


# --- settings and TOML ---------------------------------------------------------------------------------------------

TOML = """
[providers.shop]
auth = {{ kind = "pat" }}
api = {{ base_url = "{url}/api" }}
operations = [
  {{ id = "products", method = "POST", path = "/graphql", result = "shop.name", call = {call} }},
]
"""


def instance_of(tmp_path: Path, call: str) -> object:
    path = tmp_path / "go-services.toml"
    path.write_text(TOML.format(url="https://shop.example", call=call))
    config = Config.load(path, environ={})
    catalog = PluginManager.of({"appkey": appkey, "sqlite": sqlite, "http": http}).catalog()
    return build_instances(config, catalog, SecretStr)["shop"]


def test_a_provider_declared_in_toml_has_operations_of_any_kind(tmp_path):
    made = instance_of(tmp_path, '{ kind = "graphql", document = "{ shop { name } }", persisted = "auto" }')
    assert made.operation("products").call == GraphQL(document="{ shop { name } }", persisted="auto")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ('{ kind = "graphql" }', "document"),
        ('{ kind = "graphql", document = "{ a }", persist = "on" }', "persisted"),
        ('{ kind = "grapql", document = "{ a }" }', "graphql"),
        ('{ kind = "bulk", done = ["a"], failed = [], format = "ndjson" }', "status_path"),
        ('"graphql"', "kind"),
        ('{ document = "{ a }" }', "kind"),
    ],
)
def test_a_wrong_call_in_toml_is_a_problem_with_its_place(tmp_path, call, said):
    with pytest.raises(ConfigError, match=said) as caught:
        instance_of(tmp_path, call)
    assert "providers.shop.operations" in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"transport.stream.max_itm": 5}, "max_item"),
        ({"transport.streem.max_item": 5}, "transport.stream"),
        ({"transport.graphql.x": 5}, "graphql"),
        ({"transport.stream.max_item": "many"}, "whole number"),
    ],
)
def test_settings_of_a_kind_are_checked_with_all_others(settings, said):
    config = Config.load(None, environ={}, arguments=settings)
    catalog = PluginManager.of({"appkey": appkey, "sqlite": sqlite, "http": http}).catalog()
    assert any(said in problem for problem in check(config, catalog))


@pytest.mark.parametrize(
    "setting", ["stream.max_item", "soap.max_depth", "bulk.max_result", "file.chunk", "file.slowest"]
)
def test_settings_that_are_not_above_zero_are_refused(setting):
    kind, _, name = setting.partition(".")
    spec = next(spec for spec in http.gs_transports() if spec.kind == kind)
    settings = spec.settings.resolve()(**{name: 0})  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match=name):
        spec.factory.resolve()(settings, None)


async def test_a_refused_credential_is_renewed_for_no_kind_that_cannot_and_its_error_is_typed(site):
    @site.on("/api/graphql")
    async def graphql(request: web.Request) -> web.Response:
        return web.Response(status=401)

    async with open_client(site.url, Operation("q", "POST", "/graphql", call=GraphQL(document="{ a }"))) as client:
        with pytest.raises(ProviderUnauthorized):
            await client.call("q", retry=RetryPolicy(attempts=1))
