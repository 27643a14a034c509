"""Whose account a connection is: what is believed, what is not, and what a row of former times keeps."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from attrs import evolve

from go_services_core import (
    ApiKey,
    HttpRequest,
    Identity,
    ProviderAdapter,
    Ref,
    Runtime,
    Scope,
    SystemClock,
    TokenSet,
)  # fmt: skip
from go_services_core.auth_specs import ClientCredentials
from go_services_core.errors import (
    AccountMismatch,
    AuthError,
    BadInput,
    EmbeddedAuthUnsupported,
    ProfileNotFound,
    ProviderUnauthorized,
)  # fmt: skip
from go_services_core.http import HttpResponse
from go_services_core.model import Connection, UserProfile
from go_services_core.protocols import AuthContext, Flow
from go_services_core.secret import SecretStr

from .openid_server import USER, OpenIdApp, OpenIdServer, serving


@pytest.fixture
async def server() -> AsyncIterator[OpenIdServer]:
    async with serving() as running:
        yield running


@pytest.fixture
async def site(server: OpenIdServer, tmp_path: Path) -> OpenIdApp:
    return OpenIdApp(server, SystemClock(), tmp_path)


@pytest.fixture
async def runtime(site: OpenIdApp) -> AsyncIterator[Runtime]:
    async with site.open() as opened:
        yield opened


async def version(runtime: Runtime, connection: Connection) -> int:
    _, row = await runtime._core.store.connections.load(connection.id)
    assert row is not None
    return row.version


# --- who is believed -----------------------------------------------------------------------------------------------


async def test_callback_cannot_say_whose_account_it_is_or_where_to_ask(site: OpenIdApp, runtime: Runtime) -> None:
    """Whatever the browser adds is not read: in the Go system each of these replaced what the provider said."""
    start, params = await site.begin(runtime)
    hostile = {
        "id_token": "e30.eyJzdWIiOiJtYWxsb3J5In0.",
        "userinfo_endpoint": "http://127.0.0.1:1/me",
        "external_account_id": "mallory",
        "email": "mallory@example.com",
        "sub": "mallory",
        "connection_id": "another",
        "scope": "admin",
    }
    connection = await runtime.complete({**hostile, **params}, binding=start.binding)
    assert connection.external_account_id == f"{site.server.url}|alice"
    assert connection.scope == USER
    assert (await runtime.profile(connection.id)).email == "a@example.com"


async def test_same_address_does_not_make_two_people_one_connection(site: OpenIdApp, runtime: Runtime) -> None:
    """P08."""
    alice = await site.connect(runtime)
    site.server.account = {"sub": "mallory", "email": "a@example.com", "email_verified": True}
    mallory = await site.connect(runtime)
    assert mallory.id != alice.id
    assert (await runtime.profile(alice.id)).email == (await runtime.profile(mallory.id)).email


async def test_new_address_keeps_the_connection(site: OpenIdApp, runtime: Runtime) -> None:
    """P08."""
    first = await site.connect(runtime)
    site.server.account = {"sub": "alice", "email": "new@example.com"}
    again = await site.connect(runtime)
    assert again.id == first.id
    assert await version(runtime, again) == 2
    assert len((await runtime.connections()).items) == 1


async def test_userinfo_tells_whose_account_it_is_where_no_keys_are_published(site: OpenIdApp) -> None:
    site.change(jwks_url=None)
    async with site.open() as runtime:
        connection = await site.connect(runtime, grants=("profile",))
        assert connection.external_account_id == f"{site.server.url}|alice"


async def test_userinfo_may_be_on_another_host_than_the_api(site: OpenIdApp) -> None:
    site.change(jwks_url=None)
    assert site.spec.api is not None
    site.spec = evolve(site.spec, api=evolve(site.spec.api, base_url="https://api.example"))
    async with site.open() as runtime:
        assert (await site.connect(runtime)).external_account_id == f"{site.server.url}|alice"


async def test_identity_of_the_record_goes_only_to_the_providers_hosts(site: OpenIdApp) -> None:
    """P35."""
    site.change(jwks_url=None)
    site.spec = evolve(site.spec, identity=Identity(url="http://127.0.0.1:1/me"))
    async with site.open() as runtime:
        with pytest.raises(BadInput) as refused:
            await site.connect(runtime)
        assert refused.value.field == "identity.url"


class Adapter(ProviderAdapter):
    """Asks in a way that no record can say."""

    url = ""

    def identity(self, ctx: AuthContext, tokens: TokenSet) -> Flow[UserProfile] | None:
        return self._ask(ctx, tokens)

    def _ask(self, ctx: AuthContext, tokens: TokenSet) -> Flow[UserProfile]:
        headers = (("Authorization", f"Bearer {tokens.access_token.reveal()}"),)
        response: HttpResponse = yield HttpRequest("GET", self.url, headers)
        return UserProfile(provider_id=ctx.provider_id, subject=f"team-{response.json()['sub']}")


async def test_adapter_tells_whose_account_it_is(site: OpenIdApp) -> None:
    Adapter.url = f"{site.server.url}/me"
    site.change(jwks_url=None)
    site.spec = evolve(site.spec, adapter=Ref(f"{__name__}:Adapter"), identity=Identity(url="/nowhere"))
    async with site.open() as runtime:
        connection = await site.connect(runtime)
        assert connection.external_account_id == "team-alice"
        assert (await runtime.profile(connection.id)).account_id == "team-alice"


async def test_grants_in_a_header_are_read_of_a_proven_account_too(site: OpenIdApp) -> None:
    site.spec = evolve(site.spec, identity=Identity(url="/me", account="sub", grants_header="Content-Type"))
    async with site.open() as runtime:
        connection = await site.connect(runtime)
        assert connection.external_account_id == f"{site.server.url}|alice"
        _, row = await runtime._core.store.connections.load(connection.id)
        assert row is not None
        assert row.granted == ("application/json; charset=utf-8",)
        site.server.userinfo = {"sub": "mallory"}
        with pytest.raises(ProfileNotFound) as refused:
            await site.connect(runtime)
        assert refused.value.field == "sub"


# --- the profile ---------------------------------------------------------------------------------------------------


async def test_profile_is_asked_of_the_provider_now(site: OpenIdApp, runtime: Runtime) -> None:
    connection = await site.connect(runtime)
    site.server.account |= {"given_name": "Alice", "family_name": "A.", "picture": "https://p.example/a", "more": [1]}
    profile = await runtime.profile(connection.id)
    assert profile == UserProfile(
        provider_id="login",
        issuer=site.server.url,
        subject="alice",
        email="a@example.com",
        email_verified=True,
        name="Alice A.",
        given_name="Alice",
        family_name="A.",
        picture_url="https://p.example/a",
        raw=site.server.account,
    )
    assert profile.account_id == connection.external_account_id
    assert "more" not in repr(profile)


async def test_profile_of_somebody_else_is_not_given(site: OpenIdApp, runtime: Runtime) -> None:
    """OpenID Connect Core §5.3.2."""
    connection = await site.connect(runtime)
    site.server.userinfo = {"sub": "mallory", "email": "mallory@example.com"}
    with pytest.raises(ProfileNotFound) as refused:
        await runtime.profile(connection.id)
    assert refused.value.field == "sub"
    assert "mallory" not in str(refused.value)


async def test_profile_of_a_provider_without_a_place_for_it_is_not_found(site: OpenIdApp) -> None:
    site.change(userinfo_url=None)
    async with site.open() as runtime:
        connection = await site.connect(runtime)
        with pytest.raises(ProfileNotFound) as refused:
            await runtime.profile(connection.id)
        assert refused.value.code == "SERVICE_PROFILE_NOT_FOUND"


async def test_refused_profile_is_the_providers_error(site: OpenIdApp, runtime: Runtime) -> None:
    connection = await site.connect(runtime)
    core = runtime._core
    send = core.transport.send

    async def refusing(request: HttpRequest, **options: Any) -> HttpResponse:
        bare = evolve(request, headers=tuple(pair for pair in request.headers if pair[0] != "Authorization"))
        return await send(bare, **options)

    core.transport.send = refusing  # type: ignore[method-assign]
    with pytest.raises(ProviderUnauthorized):
        await runtime.profile(connection.id)
    with pytest.raises(AuthError, match="new credential"):
        await site.connect(runtime, grants=("profile",))


# --- rows of former times ------------------------------------------------------------------------------------------


@pytest.fixture
def renamed(site: OpenIdApp) -> Any:
    def rename(connection: Connection, account: str) -> None:
        with sqlite3.connect(site.database) as database:
            database.execute(
                "UPDATE service_connections SET external_account_id = ? WHERE id = ?", (account, connection.id)
            )
        database.close()

    return rename


@pytest.mark.parametrize("again", [{}, {"connection_id": True}])
async def test_row_with_the_subject_alone_stays_the_connection_of_its_account(
    site: OpenIdApp, runtime: Runtime, renamed: Any, again: dict[str, Any]
) -> None:
    connection = await site.connect(runtime)
    renamed(connection, "alice")
    found = await site.connect(runtime, **dict.fromkeys(again, connection.id))
    assert (found.id, found.external_account_id) == (connection.id, "alice")
    assert await version(runtime, found) == 2


async def test_row_of_the_go_system_is_found_by_a_record_that_asks_userinfo_itself(
    site: OpenIdApp, renamed: Any
) -> None:
    site.change(jwks_url=None, userinfo_url=None)
    site.spec = evolve(site.spec, identity=Identity(url="/me", account="sub"))
    async with site.open() as runtime:
        connection = await site.connect(runtime)
        assert connection.external_account_id == "alice"
        renamed(connection, f"{site.server.url}|alice")
        assert (await site.connect(runtime)).id == connection.id


async def test_grant_is_not_revoked_under_a_connection_whose_row_spells_the_account_otherwise(
    site: OpenIdApp, renamed: Any
) -> None:
    site.change(revocation_scope="grant", revocation_url=f"{site.server.url}/revoke")
    async with site.open() as runtime:
        mine = await site.connect(runtime)
        other = await site.connect(runtime, scope=Scope("user", "u2"))
        renamed(other, "alice")
        ended = await runtime.disconnect(mine.id)
        assert not ended.revoked
        assert other.id in ended.detail
        assert (await runtime.connection(other.id)).status == "active"


async def test_row_of_nobody_in_particular_is_kept_and_serves_whoever_consents_for_it(
    site: OpenIdApp, runtime: Runtime, renamed: Any
) -> None:
    old = await site.connect(runtime)
    renamed(old, f"oauth2_auth_code:{USER}")
    again = await site.connect(runtime, connection_id=old.id)
    assert (again.id, again.external_account_id) == (old.id, f"oauth2_auth_code:{USER}")
    new = await site.connect(runtime)
    assert (new.id != old.id, new.external_account_id) == (True, f"{site.server.url}|alice")
    with pytest.raises(AccountMismatch):  # it is known now whose consent that is
        await site.connect(runtime, connection_id=old.id)


# --- without a person ----------------------------------------------------------------------------------------------


async def test_key_of_which_nobody_says_whose_it_is_is_one_in_its_scope(site: OpenIdApp) -> None:
    site.spec = evolve(site.spec, auth=(*site.spec.auth, ApiKey()))
    async with site.open() as runtime:
        first = await runtime.establish("login", scope=USER, fields={"key": "one"}, auth="api_key")
        assert first.external_account_id == f"api_key:{USER}"
        assert (await runtime.establish("login", scope=USER, fields={"key": "two"}, auth="api_key")).id == first.id


async def test_grants_of_an_application_are_asked_for_and_asked_for_again(site: OpenIdApp) -> None:
    asked: list[dict[str, str]] = []

    async def watched(request: HttpRequest, **options: Any) -> HttpResponse:
        assert isinstance(request.body, bytes)
        asked.append(dict(parse_qsl(request.body.decode())))
        return HttpResponse(200, (), b'{"access_token": "at", "expires_in": 60}')

    site.spec = evolve(site.spec, auth=(ClientCredentials(token_url=f"{site.server.url}/token"),))
    async with site.open() as opened:
        opened._core.transport.send = watched  # type: ignore[method-assign]
        connection = await opened.establish(
            "login", scope=Scope("org", "o"), fields={}, grants=("reports.read", "reports.read")
        )
        await opened.refresh(connection.id)
    assert [form["scope"] for form in asked] == ["reports.read"] * 2


async def test_grants_of_a_key_are_refused(site: OpenIdApp) -> None:
    site.spec = evolve(site.spec, auth=(*site.spec.auth, ApiKey()))
    async with site.open() as runtime:
        for grants in (("admin",), "admin"):
            with pytest.raises(BadInput) as refused:
                await runtime.establish("login", scope=USER, fields={"key": "k"}, auth="api_key", grants=grants)
            assert refused.value.field == "grants"
        assert (await runtime.connections()).items == ()


async def test_provider_without_embedded_apps_says_so(runtime: Runtime) -> None:
    with pytest.raises(EmbeddedAuthUnsupported):
        await runtime.establish(
            "login", scope=USER, fields={"session_token": SecretStr("t")}, auth="session_token_exchange"
        )
