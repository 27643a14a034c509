"""Typical uses of the public API. Never run: mypy strict reads it, so that a change that breaks users' types shows."""

from __future__ import annotations

from collections.abc import Iterable

from go_services_core import (
    ApiKey,
    ApiSpec,
    BlockingRuntime,
    Capability,
    Connection,
    Credential,
    Event,
    HttpRequest,
    HttpResponse,
    OAuth2Code,
    Operation,
    OperationResult,
    Pagination,
    Param,
    ProviderAdapter,
    ProviderSpec,
    Ref,
    Runtime,
    Scope,
    SecretStr,
    hookimpl,
    setting,
    settings,
)
from go_services_core.callback import callback_response
from go_services_core.handler_protocols import HandlerContext
from go_services_core.protocols import AuthContext, Flow, Work


@settings
class AcmeSettings:
    region: str = setting(default="eu", help="Region of the account")
    token: SecretStr | None = setting(default=None, secret=True, help="A secret")


class AcmeAdapter(ProviderAdapter):
    def classify(self, response: HttpResponse) -> Exception | None:
        return ValueError() if response.status == 418 else None

    def revoke(self, ctx: AuthContext, credential: Credential) -> Flow[bool] | None:
        return None


ACME = ProviderSpec(
    id="acme",
    name="Acme",
    auth=(OAuth2Code(authorize_url="https://acme.example/a", token_url="https://acme.example/t"), ApiKey()),
    api=ApiSpec(base_url="https://api.acme.example"),
    capabilities=Capability("things.read", grants="things"),
    operations=(
        Operation("things.list", "GET", "/things", params=Param("page", type="integer"), pagination=Pagination("link")),
    ),
    settings=AcmeSettings,
    adapter=Ref("go_services_acme.api:AcmeAdapter"),
)


@hookimpl
def gs_providers() -> Iterable[ProviderSpec]:
    return [ACME]


async def remember(event: Event, context: HandlerContext) -> Work[None] | None:
    request = await context.request()
    assert request.body
    return None


async def use() -> None:
    async with Runtime.open("go-services.toml", arguments={"store.url": "sqlite:///x.db"}) as runtime:
        start = await runtime.connect("acme", scope=Scope("user", "u1"), grants=["things"])
        connection: Connection = await runtime.complete({"state": "s", "code": "c"}, binding=start.binding)
        here = await runtime.connect(
            "acme", scope=Scope("user", "u1"), session="of-this-very-person", return_to="/done"
        )
        returned = await runtime.callback("state=s&code=c", binding=here.binding, redirect_uri="https://app.example/cb")
        answer: HttpResponse = callback_response(returned)
        device = await runtime.begin_device("acme", scope=Scope("user", "u1"))
        print(answer.status, returned.return_to, device.user_code)
        connection = await runtime.poll_device(device.attempt_id, binding=device.binding)
        result: OperationResult = await runtime.execute(connection.id, "things.list", {"page": 1}, deadline=5)
        print(result.data, AcmeSettings().region)
        async for thing in runtime.paginate(connection.id, "things.list", limit=10):
            print(thing)
        token: SecretStr = await runtime.token(connection.id)
        signed: HttpRequest = await runtime.sign(connection.id, HttpRequest("GET", "https://api.acme.example/x"))
        await runtime.on("connection.*", remember, name="remember")
        print(token, signed)


def use_blocking() -> None:
    with BlockingRuntime.open() as runtime:
        for thing in runtime.paginate("id", "things.list"):
            print(thing)
        done: OperationResult = runtime.execute("id", "things.list", {})
        print(done.status)
