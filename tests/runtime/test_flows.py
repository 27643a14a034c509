"""Flows without a callback, from the application's call to the stored connection."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qsl

import pytest
from attrs import field, frozen

import go_services_secrets_appkey.plugin as appkey
import go_services_store_sqlite.plugin as sqlite
from go_services_core import ApiSpec, HttpRequest, HttpResponse, ProviderSpec, Runtime, Scope, hookimpl
from go_services_core.auth_specs import ClientCredentials, DeviceCode, TokenExchange
from go_services_core.config import Config
from go_services_core.errors import (
    AccountMismatch,
    BadInput,
    CallbackRefused,
    ConnectFailed,
    EgressDenied,
    InvalidGrant,
    ReauthRequired,
    StateExpired,
    TokenEndpointError,
)
from go_services_core.model import Connection, DeviceStart
from go_services_core.plugins import PluginManager
from go_services_core.secret import SecretStr
from go_services_core.specs import Identity
from go_services_core.testing.clock import FrozenClock
from go_services_core.testing.memory import MemoryStore
from go_services_core.testing.transport import ScriptedTransport
from go_services_secrets_appkey.key import generate_key

TOKEN_URL = "https://id.example/token"
USER = Scope("user", "u1")
ACME = Scope("org", "acme")
RECORDS = {
    "robot": ClientCredentials(token_url=TOKEN_URL, default_grants=("read",)),
    "tv": DeviceCode(token_url=TOKEN_URL, device_authorization_url="https://id.example/device"),
    "partner": TokenExchange(token_url=TOKEN_URL),
}
IDENTITIES = {"tv": Identity(url="/me")}


def answer(status: int = 200, **fields: Any) -> HttpResponse:
    return HttpResponse(status, (("Content-Type", "application/json"),), json.dumps(fields).encode())


def tokens(number: int, **more: Any) -> HttpResponse:
    return answer(access_token=f"at-{number}", token_type="Bearer", expires_in=3600, **more)


def sends(**fields: str) -> Any:
    """A condition on a request: its form has these fields."""

    def holds(request: HttpRequest) -> bool:
        assert isinstance(request.body, bytes)
        return fields.items() <= dict(parse_qsl(request.body.decode())).items()

    return holds


class Providers:
    GS_CONTRACT = 1

    def __init__(self) -> None:
        api = ApiSpec(base_url="https://api.example")
        self.specs = [
            ProviderSpec(id=id, name=id, auth=record, api=api, identity=IDENTITIES.get(id))
            for id, record in RECORDS.items()
        ]

    @hookimpl
    def gs_providers(self) -> list[ProviderSpec]:
        return self.specs


@frozen
class Site:
    runtime: Runtime
    transport: ScriptedTransport
    clock: FrozenClock
    prompts: list[DeviceStart] = field(factory=list)

    def token(self, response: HttpResponse | Exception, **fields: str) -> None:
        self.transport.expect("POST", TOKEN_URL, response, where=sends(**fields) if fields else None)

    def device(self, **changes: Any) -> None:
        said = {
            "device_code": "dc-1",
            "user_code": "ABCD",
            "verification_uri": "https://id.example/go",
            "expires_in": 600,
        }
        self.transport.expect("POST", "https://id.example/device", answer(**{**said, **changes}))

    def person(self, account: str = "alice") -> None:
        self.transport.expect("GET", "https://api.example/me", answer(id=account))

    async def connect_device(self, provider_id: str = "tv", **options: Any) -> Connection:
        given: dict[str, Any] = {"scope": USER, "show": self.prompts.append, **options}
        return await self.runtime.connect_device(provider_id, **given)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    clock, transport = FrozenClock(), ScriptedTransport()
    settings = {f"providers.{id}": {"client_id": "c", "client_secret": SecretStr("s-012345")} for id in RECORDS}
    config = Config.load(None, environ={}, arguments={**settings, "secrets.appkey.key": generate_key()})
    manager = PluginManager.of({"appkey": appkey, "sqlite": sqlite, "made": Providers()})
    async with Runtime.open(
        config, plugins=manager, clock=clock, transport=transport, store=MemoryStore(clock=clock), migrate=True
    ) as runtime:
        yield Site(runtime, transport, clock)
    transport.done()


# --- client credentials --------------------------------------------------------------------------------------------


async def test_application_connects_without_anybody_and_every_token_is_renewed(site: Site) -> None:
    for number in (1, 2, 3):
        site.token(tokens(number), grant_type="client_credentials", scope="read")
    connection = await site.runtime.establish("robot", scope=ACME, fields={})
    assert connection.external_account_id == "oauth2_client_credentials:org:acme"
    for number in (1, 2, 3):
        assert await site.runtime.token(connection.id) == SecretStr(f"at-{number}")
        site.clock.advance(3601)


async def test_application_that_connects_again_keeps_its_connection(site: Site) -> None:
    site.token(tokens(1))
    site.token(tokens(2))
    first = await site.runtime.establish("robot", scope=ACME, fields={})
    again = await site.runtime.establish("robot", scope=ACME, fields={})
    assert again.id == first.id
    assert await site.runtime.token(again.id) == SecretStr("at-2")


async def test_application_that_is_refused_has_no_connection(site: Site) -> None:
    site.token(answer(401, error="invalid_client"))
    with pytest.raises(TokenEndpointError):
        await site.runtime.establish("robot", scope=ACME, fields={})
    assert (await site.runtime.connections()).items == ()


# --- token exchange ------------------------------------------------------------------------------------------------


async def test_subject_token_is_exchanged_again_until_it_is_over(site: Site) -> None:
    site.token(tokens(1), subject_token="st-1")
    site.token(tokens(2), subject_token="st-1")
    site.token(answer(400, error="invalid_request"), subject_token="st-1")
    connection = await site.runtime.establish("partner", scope=USER, fields={"subject_token": SecretStr("st-1")})
    site.clock.advance(3601)
    assert await site.runtime.token(connection.id) == SecretStr("at-2")
    site.clock.advance(3601)
    with pytest.raises(ReauthRequired):
        await site.runtime.token(connection.id)
    assert (await site.runtime.connection(connection.id)).status == "pending_reauth"

    site.token(tokens(3), subject_token="st-2")
    again = await site.runtime.establish("partner", scope=USER, fields={"subject_token": "st-2"})
    assert (again.id, again.status) == (connection.id, "active")
    assert await site.runtime.token(connection.id) == SecretStr("at-3")


# --- device --------------------------------------------------------------------------------------------------------


async def test_provider_is_asked_at_its_own_pace_until_the_person_has_consented(site: Site) -> None:
    site.device(interval=7, verification_uri_complete="https://id.example/go?c=ABCD")
    for error in ("authorization_pending", "slow_down", "authorization_pending", "slow_down"):
        site.token(answer(400, error=error), device_code="dc-1")
    site.token(tokens(1, refresh_token="rt-1"), device_code="dc-1")
    site.person()
    connection = await site.connect_device()
    assert site.clock.slept == [7, 7, 12, 12, 17]
    assert connection.status == "active"
    (prompt,) = site.prompts
    assert (prompt.url, prompt.verification_uri, prompt.user_code) == (
        "https://id.example/go?c=ABCD", "https://id.example/go", "ABCD",
    )  # fmt: skip


async def test_trouble_on_the_way_slows_the_questions_down_and_ends_nothing(site: Site) -> None:  # RFC 8628 §3.5
    site.device()
    site.token(ConnectFailed())
    site.token(HttpResponse(503))
    site.token(HttpResponse(429, (("Retry-After", "60"),)))
    site.token(answer(400, error="authorization_pending"))
    site.token(tokens(1))
    site.person()
    assert (await site.connect_device()).status == "active"
    assert site.clock.slept == [5, 10, 20, 60, 5]


async def test_trouble_that_stays_is_not_waited_for(site: Site) -> None:
    site.device()
    site.token(EgressDenied("no"))
    with pytest.raises(EgressDenied):
        await site.connect_device()


@pytest.mark.parametrize(
    ("error", "kind"),
    [("access_denied", CallbackRefused), ("expired_token", StateExpired), ("invalid_grant", InvalidGrant)],
)
async def test_decision_of_the_provider_ends_the_questions(site: Site, error: str, kind: type[Exception]) -> None:
    site.device()
    site.token(answer(400, error=error))
    with pytest.raises(kind):
        await site.connect_device()
    assert (await site.runtime.connections()).items == ()


async def test_person_who_does_not_decide_is_not_waited_for_longer_than_the_code_lives(site: Site) -> None:
    site.device(expires_in=12)
    for _ in range(2):
        site.token(answer(400, error="authorization_pending"))
    with pytest.raises(StateExpired):
        await site.connect_device()
    assert site.clock.slept == [5, 5, 5]


async def test_consent_again_is_for_the_connection_that_was_meant(site: Site) -> None:
    site.device()
    site.token(tokens(1))
    site.person()
    first = await site.connect_device()
    site.device()
    site.token(tokens(2))
    site.person()
    again = await site.connect_device(connection_id=first.id)
    assert again.id == first.id
    with pytest.raises(BadInput) as refused:
        await site.connect_device(connection_id=first.id, scope=ACME)
    assert refused.value.field == "connection_id"


async def test_consent_of_another_person_does_not_take_the_connection_over(site: Site) -> None:
    def consented(number: int, account: str) -> None:
        site.device()
        site.token(tokens(number))
        site.person(account)

    consented(1, "alice")
    connection = await site.connect_device()
    consented(2, "mallory")
    with pytest.raises(AccountMismatch):
        await site.connect_device(connection_id=connection.id)
    assert await site.runtime.token(connection.id) == SecretStr("at-1")
    assert (await site.runtime.connections()).items == (connection,)


async def test_failed_attempt_leaves_a_good_connection_alone(site: Site) -> None:
    site.device()
    site.token(tokens(1))
    site.person()
    connection = await site.connect_device()
    site.device()
    site.token(answer(400, error="access_denied"))
    with pytest.raises(CallbackRefused):
        await site.connect_device(connection_id=connection.id)
    assert await site.runtime.connection(connection.id) == connection
    assert await site.runtime.token(connection.id) == SecretStr("at-1")
