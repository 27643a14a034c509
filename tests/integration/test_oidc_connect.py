"""Connecting at a server that go_services did not write, through a provider that only the configuration declares."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import pytest

from go_services_core import Connection, Runtime, Scope, SecretStr
from go_services_core.errors import (
    BadInput,
    BindingMismatch,
    CallbackRefused,
    EgressDenied,
    PermissionDenied,
    ReauthRequired,
    StateInvalid,
    StateUnknown,
    StateUsed,
    TokenEndpointError,
)

from .oidc.browser import Browser
from .oidc.process import OidcServer
from .oidc.site import ALICE, REDIRECT, Site, connect

pytestmark = pytest.mark.integration
BOB = Scope("user", "u2")


def with_parameters(url: str, **changes: str | None) -> str:
    """``url`` with query parameters replaced, or left out where None."""
    parts = urlsplit(url)
    query = {**dict(parse_qsl(parts.query)), **changes}
    kept = {name: value for name, value in query.items() if value is not None}
    return urlunsplit(parts._replace(query=urlencode(kept)))


async def works(runtime: Runtime, connection: Connection) -> bool:
    """Whether the connection is as it was: active, and the server answers it."""
    current = await runtime.connection(connection.id)
    result = await runtime.execute(connection.id, "userinfo")
    return current == connection and result.data["sub"] == connection.external_account_id


async def test_provider_declared_only_in_the_configuration_connects_and_calls(runtime: Runtime) -> None:
    connection = await connect(runtime)

    assert (connection.provider_id, connection.status) == ("oidc", "active")
    assert (connection.scope, connection.external_account_id) == (ALICE, "alice")
    assert (await runtime.can(connection.id, "profile.read")).allowed
    result = await runtime.execute(connection.id, "userinfo")
    assert result.status == 200
    assert result.data == {
        "sub": "alice",
        "name": "The person alice",
        "email": "alice@example.com",
        "email_verified": True,
    }


async def test_connecting_takes_one_token_request(runtime: Runtime, oidc_server: OidcServer) -> None:
    before = len(await oidc_server.requests("token"))
    await connect(runtime)
    (request,) = (await oidc_server.requests("token"))[before:]
    assert (request["grant_type"], request["status"]) == ("authorization_code", 200)


async def test_each_person_gets_a_connection_with_their_own_account(runtime: Runtime) -> None:
    alice = await connect(runtime)
    bob = await connect(runtime, BOB, login="bob")

    assert (await runtime.execute(alice.id, "userinfo")).data["email"] == "alice@example.com"
    assert (await runtime.execute(bob.id, "userinfo")).data["email"] == "bob@example.com"
    assert await runtime.find("oidc", BOB) == bob


async def test_connecting_the_same_account_again_keeps_the_connection(runtime: Runtime) -> None:
    first = await connect(runtime)
    token = await runtime.token(first.id)
    again = await connect(runtime)

    assert again.id == first.id
    assert await runtime.token(first.id) != token


async def test_connection_outlives_the_runtime_that_made_it(site: Site) -> None:
    async with Runtime.open(site.config, migrate=True) as runtime:
        connection = await connect(runtime)
    async with Runtime.open(site.config) as runtime:
        assert await works(runtime, connection)


async def test_operation_beyond_the_granted_scopes_is_refused_before_it_is_sent(
    runtime: Runtime, oidc_server: OidcServer
) -> None:
    start = await runtime.connect("oidc", scope=ALICE, redirect_uri=REDIRECT, grants=["openid", "email"])
    async with Browser() as browser:
        connection = await runtime.complete(await browser.consent(start.url), binding=start.binding)
    before = len(await oidc_server.requests("userinfo"))

    with pytest.raises(PermissionDenied) as refused:
        await runtime.execute(connection.id, "userinfo")

    assert refused.value.metadata["missing"] == ["profile"]
    assert len(await oidc_server.requests("userinfo")) == before


async def test_private_address_is_refused_unless_the_configuration_allows_it(site: Site) -> None:
    text = site.config.read_text("utf-8")
    site.config.write_text(text.partition("[egress.allow]")[0], "utf-8")
    before = len(await site.server.requests("token"))
    async with Runtime.open(site.config, migrate=True) as runtime:
        with pytest.raises(EgressDenied, match=r"egress\.allow\.oidc"):
            await connect(runtime)

        assert (await runtime.connections()).items == ()
    assert len(await site.server.requests("token")) == before


async def test_connection_without_offline_access_cannot_be_renewed_and_works_until_its_token_ends(
    runtime: Runtime,
) -> None:
    start = await runtime.connect("oidc", scope=ALICE, redirect_uri=REDIRECT, grants=["openid", "profile"])
    async with Browser() as browser:
        connection = await runtime.complete(await browser.consent(start.url), binding=start.binding)

    with pytest.raises(ReauthRequired, match="no refresh token"):
        await runtime.refresh(connection.id)

    assert (await runtime.connection(connection.id)).status == "active"
    assert (await runtime.execute(connection.id, "userinfo")).data["sub"] == "alice"


async def test_server_refuses_a_consent_without_pkce(runtime: Runtime) -> None:
    start = await runtime.connect("oidc", scope=ALICE, redirect_uri=REDIRECT)
    bare = with_parameters(start.url, code_challenge=None, code_challenge_method=None)
    async with Browser() as browser:
        callback = await browser.consent(bare)

    with pytest.raises(CallbackRefused, match="invalid_request"):
        await runtime.complete(callback, binding=start.binding)


async def test_callback_from_another_browser_is_refused_and_the_right_one_still_completes(runtime: Runtime) -> None:
    start = await runtime.connect("oidc", scope=ALICE, redirect_uri=REDIRECT)
    async with Browser() as browser:
        callback = await browser.consent(start.url)

    with pytest.raises(BindingMismatch):
        await runtime.complete(callback, binding=SecretStr("another browser's"))

    connection = await runtime.complete(callback, binding=start.binding)
    assert connection.status == "active"


async def test_callback_works_once(runtime: Runtime, oidc_server: OidcServer) -> None:
    start = await runtime.connect("oidc", scope=ALICE, redirect_uri=REDIRECT)
    async with Browser() as browser:
        callback = await browser.consent(start.url)
    connection = await runtime.complete(callback, binding=start.binding)
    before = len(await oidc_server.requests("token"))

    with pytest.raises(StateUsed):
        await runtime.complete(callback, binding=start.binding)

    assert len(await oidc_server.requests("token")) == before
    assert await works(runtime, connection)


async def test_state_that_was_never_issued_is_refused(runtime: Runtime) -> None:
    start = await runtime.connect("oidc", scope=ALICE, redirect_uri=REDIRECT)
    async with Browser() as browser:
        callback = await browser.consent(start.url)

    with pytest.raises(StateUnknown):
        await runtime.complete(with_parameters(callback, state="invented"), binding=start.binding)


@pytest.mark.parametrize("issuer", ["https://attacker.example", None], ids=["another", "none"])
async def test_callback_of_another_issuer_is_refused_before_its_code_is_sent(
    runtime: Runtime, oidc_server: OidcServer, issuer: str | None
) -> None:
    connection = await connect(runtime)
    start = await runtime.connect("oidc", scope=ALICE, redirect_uri=REDIRECT)
    async with Browser() as browser:
        callback = await browser.consent(start.url)
    assert dict(parse_qsl(urlsplit(callback).query))["iss"] == oidc_server.url
    before = len(await oidc_server.requests("token"))

    with pytest.raises(StateInvalid) as refused:
        await runtime.complete(with_parameters(callback, iss=issuer), binding=start.binding)

    assert refused.value.field == "iss"
    assert len(await oidc_server.requests("token")) == before
    assert await works(runtime, connection)


async def test_parameter_that_occurs_twice_is_refused(runtime: Runtime) -> None:
    start = await runtime.connect("oidc", scope=ALICE, redirect_uri=REDIRECT)
    async with Browser() as browser:
        callback = await browser.consent(start.url)

    with pytest.raises(BadInput, match="more than one 'code'"):
        await runtime.complete(f"{callback}&code=second", binding=start.binding)

    assert (await runtime.complete(callback, binding=start.binding)).status == "active"


async def test_denied_consent_is_a_typed_error_and_the_old_connection_works(
    runtime: Runtime, oidc_server: OidcServer
) -> None:
    connection = await connect(runtime)
    start = await runtime.connect("oidc", scope=ALICE, redirect_uri=REDIRECT)
    async with Browser() as browser:
        callback = await browser.consent(start.url, allow=False)
    before = len(await oidc_server.requests("token"))

    with pytest.raises(CallbackRefused) as refused:
        await runtime.complete(callback, binding=start.binding)

    assert refused.value.metadata["error"] == "access_denied"
    assert len(await oidc_server.requests("token")) == before
    assert await works(runtime, connection)


async def test_wrong_client_secret_is_a_typed_error_and_the_old_connection_works(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Runtime.open(site.config, migrate=True) as runtime:
        connection = await connect(runtime)
    monkeypatch.setenv("OIDC_CLIENT_SECRET", "not the client's secret")
    async with Runtime.open(site.config) as runtime:
        with pytest.raises(TokenEndpointError) as refused:
            await connect(runtime)

        assert refused.value.error == "invalid_client"
        assert "not the client's secret" not in str(refused.value)
        assert await works(runtime, connection)
