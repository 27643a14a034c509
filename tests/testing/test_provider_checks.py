"""The provider checks: each passes for a record that is right and fails for the one mistake that it is there for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest

from go_services_core import (
    ApiSpec,
    Capability,
    HmacWebhook,
    OAuth2Code,
    Operation,
    Pagination,
    Param,
    ProviderSpec,
    Ref,
    setting,
    settings,
)
from go_services_core.auth.oauth2_code import OAuth2CodeFlow
from go_services_core.auth_specs import ApiKey
from go_services_core.call_specs import Noop, RateBudget, RetryPolicy, Window
from go_services_core.errors import CallbackRefused, InvalidGrant, TokenEndpointError
from go_services_core.http import HttpRequest
from go_services_core.model import Credential, TokenSet
from go_services_core.protocols import AuthContext, AuthStart, Flow, ProviderAdapter
from go_services_core.secret import SecretStr
from go_services_core.specs import Identity
from go_services_core.testing.checks import provider_oauth
from go_services_core.testing.kit import Report, checks_of, conformance

AUTH = OAuth2Code(
    authorize_url="https://acme.example/authorize",
    token_url="https://acme.example/token",
    default_grants=("contacts:read",),
    default_lifetime=600.0,
)
GOOD = ProviderSpec(
    id="acme",
    name="Acme",
    auth=AUTH,
    api=ApiSpec(base_url="https://api.acme.example", hosts=("*.acme.example", "files.acme.example:8443")),
    identity=Identity(url="/me"),
    capabilities=Capability("contacts.read", grants="contacts:read"),
    operations=Operation(
        "contacts.get",
        "GET",
        "/contacts/{id}",
        capability="contacts.read",
        params=Param("id", "path"),
        summary="One contact",
    ),
)


def listing(*params: Param, **fields: Any) -> Operation:
    return Operation("contacts.list", "GET", "/contacts", params=params, **fields)


def writing(*params: Param, **fields: Any) -> Operation:
    given = {"capability": "contacts.read", **fields}
    return Operation("contacts.create", "POST", "/contacts", params=params, **given)


class Kindless:
    kind = "Not A Kind"


class Adapter(ProviderAdapter):
    pass


@settings
class Hosted:
    host: str = setting(default="acme.example", help="Host")


@settings
class Tenant:
    tenant: str = setting(help="Tenant")


@settings
class Careless:
    key: str = setting(default="", help="Key", secret=True)


async def report(spec: ProviderSpec) -> Report:
    @asynccontextmanager
    async def subject() -> AsyncIterator[ProviderSpec]:
        yield spec

    return await conformance("provider", subject)


async def failures(spec: ProviderSpec) -> dict[str, str]:
    return {result.check.id: result.detail for result in (await report(spec)).results if result.outcome == "failed"}


async def test_good_provider_passes_every_check() -> None:
    found = await report(attrs.evolve(GOOD, adapter=Ref(f"{__name__}:Adapter")))
    assert found.ok
    outcomes = {result.check.id: result.outcome for result in found.results}
    assert {id for id, outcome in outcomes.items() if outcome != "passed"} <= {
        "PRV-010",
        "PRV-012",
        "PRV-013",
        "PRV-014",
        "PRV-032",
        "PRV-036",
    }
    assert len(outcomes) == len(checks_of("provider")) >= 30


async def test_provider_whose_id_tokens_are_verified_passes_without_its_issuer() -> None:
    verified = attrs.evolve(
        AUTH, issuer="https://acme.example", jwks_url="https://acme.example/jwks", default_grants=("openid",)
    )
    capability = Capability("contacts.read", grants="openid")
    assert await failures(attrs.evolve(GOOD, auth=(verified,), capabilities=(capability,))) == {}


@pytest.mark.parametrize(
    ("check", "changes"),
    [
        ("PRV-001", {"id": "Acme"}),
        ("PRV-001", {"id": "acme-crm"}),
        ("PRV-001", {"name": " Acme"}),
        ("PRV-001", {"name": ""}),
        ("PRV-001", {"auth": (ApiKey(), ApiKey())}),
        ("PRV-002", {"auth": attrs.evolve(AUTH, token_url="http://acme.example/token")}),
        ("PRV-002", {"auth": attrs.evolve(AUTH, authorize_url="https://acme.example/a#b")}),
        ("PRV-002", {"auth": attrs.evolve(AUTH, revocation_url="https://u:p@acme.example/r")}),
        ("PRV-002", {"auth": attrs.evolve(AUTH, token_url="http://127.0.0.1.evil.example/token")}),
        ("PRV-002", {"api": ApiSpec(base_url="http://localhost/")}),
        ("PRV-002", {"identity": Identity(url="ftp://acme.example/me")}),
        ("PRV-003", {"api": ApiSpec(base_url="https://a.example", hosts="https://b.example")}),
        ("PRV-003", {"api": ApiSpec(base_url="https://a.example", hosts="*")}),
        ("PRV-003", {"api": ApiSpec(base_url="https://a.example", hosts="*.com")}),
        ("PRV-004", {"operations": (Operation("Contacts", "GET", "/c"),)}),
        ("PRV-004", {"operations": (Operation("a.b", "GET", "/c"), Operation("a.b", "GET", "/d"))}),
        ("PRV-004", {"capabilities": (Capability("contacts.read"), Capability("contacts.read"))}),
        ("PRV-005", {"capabilities": ()}),
        ("PRV-006", {"auth": attrs.evolve(AUTH, default_grants=("",))}),
        ("PRV-006", {"auth": attrs.evolve(AUTH, default_grants=("a b",))}),
        ("PRV-006", {"auth": attrs.evolve(AUTH, default_grants=("a,b",), scope_separator=",")}),
        ("PRV-006", {"auth": attrs.evolve(AUTH, default_grants=("a", "a"))}),
        ("PRV-006", {"capabilities": Capability("contacts.read", optional=("a\nb",))}),
        ("PRV-006", {"implies": {"wide": ("",)}}),
        ("PRV-007", {"operations": Operation("a.b", "GET", "/a/{id}")}),
        ("PRV-007", {"operations": Operation("a.b", "GET", "/a", params=Param("id", "path"))}),
        ("PRV-007", {"operations": Operation("a.b", "GET", "a")}),
        ("PRV-007", {"operations": Operation("a.b", "get", "/a")}),
        ("PRV-007", {"operations": Operation("a.b", "GET", "/a", params=(Param("x"), Param("x", "body")))}),
        ("PRV-007", {"api": None}),
        ("PRV-008", {"settings": Careless}),
        ("PRV-009", {"adapter": Ref("go_services_core.specs:ProviderSpec")}),
        ("PRV-010", {"webhook": HmacWebhook(signature_header="X-S", id_header="X-I", signed=("id",))}),
        ("PRV-010", {"webhook": HmacWebhook(signature_header="X-S", id_header="X-I", signed=("timestamp", "body"))}),
        ("PRV-010", {"webhook": HmacWebhook(signature_header="", id_header="X-I")}),
        ("PRV-011", {"identity": None}),
        *[
            ("PRV-030", {"operations": listing(param)})
            for param in (
                Param("a", type="integer", default="1"),
                Param("a", default="x", choices=("y",)),
                Param("a", type="integer", default=11, maximum=10),
                Param("a", type="boolean", choices=("x",)),
                Param("a", maximum=3),
                Param("a", type="integer", minimum=3, maximum=2),
                Param("a", wire=""),
                Param("a", type="bytes"),
                Param("a", nullable=True),
                Param("a", style="segments"),
                Param("a", style="comma"),
                Param("a", type="object"),
                Param("a b", "header"),
                Param("a", "header", wire="x:"),
                Param("a", type="date", default="1.2.2026"),
            )
        ],
        ("PRV-030", {"operations": listing(Param("a", wire="x"), Param("b", wire="x"))}),
        ("PRV-030", {"operations": listing(Param("a", "header", wire="X-A"), Param("x-a", "header"))}),
        ("PRV-031", {"operations": writing(Param("a", "raw", "object"), Param("b", "raw", "object"))}),
        ("PRV-031", {"operations": writing(Param("a", "raw", "object"), Param("b", "body"))}),
        ("PRV-031", {"operations": writing(Param("a", "raw", "integer"))}),
        ("PRV-031", {"operations": writing(Param("a", "raw", "object"), call=Noop())}),
        ("PRV-031", {"operations": listing(Param("a", "body"))}),
        ("PRV-031", {"operations": writing(Param("a", "body", "object"), Param("b", "body", wire="a.b"))}),
        ("PRV-031", {"operations": writing(Param("b", "body", wire="a..b"))}),
        ("PRV-032", {"operations": listing(pagination=Pagination("next_url"))}),
        ("PRV-032", {"operations": listing(pagination=Pagination("cursor", next="next"))}),
        ("PRV-032", {"operations": listing(pagination=Pagination("cursor", next="next", param="after"))}),
        ("PRV-032", {"operations": listing(pagination=Pagination("link", size_param="size"))}),
        ("PRV-032", {"operations": listing(Param("page"), pagination=Pagination("page", param="page"))}),
        ("PRV-032", {"operations": listing(pagination=Pagination("link", items="a..b"))}),
        ("PRV-032", {"operations": listing(pagination=Pagination("link"), answer="text")}),
        ("PRV-033", {"operations": listing(result=".a")}),
        ("PRV-033", {"operations": listing(result="a", answer="bytes")}),
        ("PRV-034", {"operations": writing(idempotency_header="Key:")}),
        ("PRV-034", {"operations": writing(keyed=True)}),
        ("PRV-034", {"operations": listing(keyed=True, idempotency_header="Key")}),
        ("PRV-034", {"api": ApiSpec(base_url="https://a.example", idempotency_header="a b")}),
        ("PRV-035", {"operations": listing(cost=-1.0)}),
        ("PRV-035", {"operations": listing(cost=3.0, budget=RateBudget(windows=(Window(2, 1),)))}),
        ("PRV-035", {"operations": listing(budget=RateBudget(windows=(Window(2, 1), Window(3, 1))))}),
        ("PRV-035", {"operations": listing(budget=RateBudget(bucket=" "))}),
        ("PRV-035", {"operations": listing(retry=RetryPolicy(first_delay=9.0))}),
        ("PRV-035", {"operations": listing(retry=RetryPolicy(attempts=11))}),
        ("PRV-035", {"api": ApiSpec(base_url="https://a.example", retry=RetryPolicy(longest_wait=1e6))}),
        ("PRV-036", {"operations": writing(call=Kindless())}),
        ("PRV-037", {"docs_url": "http://acme.example"}),
        ("PRV-037", {"operations": listing(docs_url="acme.example")}),
        ("PRV-038", {"operations": listing(summary="")}),
        ("PRV-038", {"operations": listing(Param("a"), summary="All of them")}),
        ("PRV-038", {"operations": listing(summary="All of them.")}),
        ("PRV-039", {"operations": writing(capability=None)}),
        ("PRV-040", {"operations": listing(Param("size", type="integer"), pagination=Pagination(size_param="size"))}),
        ("PRV-020", {"auth": attrs.evolve(AUTH, extra_authorize={"state": "fixed"})}),
        ("PRV-020", {"auth": attrs.evolve(AUTH, extra_authorize={"code_challenge_method": "plain"})}),
        ("PRV-020", {"auth": attrs.evolve(AUTH, authorize_url="https://acme.example/authorize?client_id=other")}),
    ],
)
async def test_mistake_in_the_record_fails_its_check(check: str, changes: Mapping[str, Any]) -> None:
    found = await failures(attrs.evolve(GOOD, **changes))
    assert check in found
    assert found[check].startswith("AssertionError: "), found[check]


@pytest.mark.parametrize(
    "changes",
    [
        {"client_auth": "private_key_jwt"},
        {"client_auth": "client_secret_jwt"},
        {"client_auth": "tls", "certificate_bound_tokens": True},
        {"dpop": "required"},
    ],
    ids=str,
)
async def test_client_with_a_key_is_checked_as_one_with_a_secret(changes: Mapping[str, Any]) -> None:
    assert not await failures(attrs.evolve(GOOD, auth=attrs.evolve(AUTH, **changes)))


async def test_http_is_right_for_127_0_0_1_only() -> None:
    auth = attrs.evolve(AUTH, authorize_url="http://127.0.0.1:8400/authorize", token_url="http://127.0.0.1:8400/token")
    assert await failures(attrs.evolve(GOOD, auth=auth)) == {}


async def test_addresses_with_settings_are_checked_as_filled_by_the_defaults() -> None:
    auth = attrs.evolve(AUTH, authorize_url="https://{host}/authorize", token_url="https://{host}/token")
    spec = attrs.evolve(GOOD, auth=auth, settings=Hosted)
    assert await failures(spec) == {}
    wrong = attrs.evolve(spec, auth=attrs.evolve(auth, token_url="http://{host}/token"))
    assert set(await failures(wrong)) == {"PRV-002"}


async def test_provider_whose_addresses_need_an_operator_is_skipped_with_the_reason() -> None:
    auth = attrs.evolve(AUTH, token_url="https://{tenant}.acme.example/token")
    found = await report(attrs.evolve(GOOD, auth=auth, settings=Tenant))
    skipped = {result.check.id: result.detail for result in found.results if result.outcome == "skipped"}
    assert "tenant" in skipped["PRV-002"]
    assert "tenant" in skipped["PRV-020"]


async def test_provider_with_a_key_only_skips_the_round_trip() -> None:
    found = await report(attrs.evolve(GOOD, auth=ApiKey()))
    assert found.ok
    outcomes = {result.check.id: result.outcome for result in found.results}
    assert {outcome for id, outcome in outcomes.items() if "PRV-020" <= id < "PRV-030"} == {"skipped"}


class Plain(OAuth2CodeFlow):
    """Forgets its state."""

    def begin(self, ctx: AuthContext) -> Flow[AuthStart]:
        start = yield from super().begin(ctx)
        return AuthStart(url=start.url.replace("kit-state", "other-state"), memory=start.memory)


class GetsToken(OAuth2CodeFlow):
    """Sends the code with GET."""

    def complete(self, ctx: AuthContext, params: Mapping[str, str]) -> Flow[TokenSet]:
        response = yield HttpRequest("GET", f"https://acme.example/token?code={params.get('code')}")
        return TokenSet(access_token=SecretStr(response.json()["access_token"]))


class BelievesAnything(OAuth2CodeFlow):
    """Takes every answer as tokens, and a refused consent too."""

    def complete(self, ctx: AuthContext, params: Mapping[str, str]) -> Flow[TokenSet]:
        try:
            return (yield from super().complete(ctx, params))
        except (CallbackRefused, TokenEndpointError):
            return TokenSet(access_token=SecretStr("anything"))


class EndsEverything(OAuth2CodeFlow):
    """Takes each refusal as the end of the grant, and drops rotated refresh tokens."""

    def refresh(self, ctx: AuthContext, credential: Credential) -> Flow[TokenSet]:
        try:
            tokens: TokenSet = yield from super().refresh(ctx, credential)
        except TokenEndpointError as error:
            raise InvalidGrant(str(error), error=error.error) from None
        return attrs.evolve(tokens, refresh_token=None)


class LivesForever(OAuth2CodeFlow):
    """Ignores lifetimes."""

    def complete(self, ctx: AuthContext, params: Mapping[str, str]) -> Flow[TokenSet]:
        tokens: TokenSet = yield from super().complete(ctx, params)
        return attrs.evolve(tokens, expires_at=None)


@pytest.mark.parametrize(
    ("flow", "failing"),
    [
        (Plain, {"PRV-020"}),
        (GetsToken, {"PRV-021", "PRV-022", "PRV-023", "PRV-024", "PRV-025"}),
        (BelievesAnything, {"PRV-024", "PRV-025"}),
        (EndsEverything, {"PRV-026", "PRV-027"}),
        (LivesForever, {"PRV-022", "PRV-023"}),
    ],
)
async def test_faulty_flow_fails_the_round_trip(
    flow: type[OAuth2CodeFlow], failing: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider_oauth, "OAuth2CodeFlow", flow)
    assert set(await failures(GOOD)) == failing
