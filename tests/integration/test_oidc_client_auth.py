"""Clients that sign assertions, through a runtime, against a server that go_services did not write."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from attrs import evolve
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from go_services_auth_jwt.base64url import encode
from go_services_auth_jwt.jose import JwtJose
from go_services_auth_jwt.jwk import generate_ec_key
from go_services_core import Runtime
from go_services_core.auth.introspection import introspect
from go_services_core.errors import ConfigError, TokenEndpointError
from go_services_core.runtime.load import load

from .oidc.bound_clients import ACME, PAGE_CLIENT, SIGNING, VAULT, BoundClient, connect, connect_device
from .oidc.clients import KEY_CLIENTS, KeyClient
from .oidc.process import OidcServer
from .oidc.site import ALICE, REDIRECT, ShiftedClock

pytestmark = pytest.mark.integration
ES256, HS256 = SIGNING[2], SIGNING[4]
PAR = 'par_url = "{url}/request"\n'
each_client = pytest.mark.parametrize("client", SIGNING, ids=[client.client_id for client in SIGNING])


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


async def seen(server: OidcServer, client: BoundClient, since: int = 0) -> list[tuple[str, str]]:
    """Route and authentication of what the client asked; no assertion may come twice."""
    arrived = [one for one in await server.requests(None) if one.get("client_id") == client.client_id][since:]
    assertions = [one["assertion"] for one in arrived if "assertion" in one]
    assert len(set(assertions)) == len(assertions)
    return [(one["route"], one["client_auth"]) for one in arrived]


@each_client
async def test_client_with_an_assertion_connects_renews_and_revokes(
    bound_server: OidcServer, client: BoundClient, tmp_path: Path
) -> None:
    method = client.metadata["token_endpoint_auth_method"]
    since = len(await seen(bound_server, client))
    async with Runtime.open(client.write(bound_server, tmp_path, auth=PAR), migrate=True) as runtime:
        connection = await connect(runtime, bound_server)
        assert (await runtime.execute(connection.id, "userinfo")).data["sub"] == "alice"
        await runtime.refresh(connection.id)
        token = await runtime.token(connection.id)
        assert await bound_server.userinfo(token.reveal()) == 200
        assert (await runtime.disconnect(connection.id)).revoked
        assert await bound_server.userinfo(token.reveal()) == 401
    asked = [one for one in await seen(bound_server, client, since) if one[0] != "userinfo"]
    assert asked == [(r, method) for r in ("pushed_authorization_request", "token", "token", "revocation")]


@pytest.mark.parametrize("client", [ES256, HS256], ids=["private_key_jwt", "client_secret_jwt"])
async def test_application_acts_for_itself_and_by_a_consent_on_another_device(
    bound_server: OidcServer, client: BoundClient, tmp_path: Path, clock: ShiftedClock
) -> None:
    method = client.metadata["token_endpoint_auth_method"]
    config = client.write(bound_server, tmp_path, kind="oauth2_client_credentials")
    since = len(await seen(bound_server, client))
    async with Runtime.open(config, clock=clock, migrate=True) as runtime:
        connection = await runtime.establish("login", scope=ACME, fields={})
        first = (await runtime.token(connection.id)).reveal()
        clock.ahead = 3600
        assert (await runtime.token(connection.id)).reveal() != first
    assert await seen(bound_server, client, since) == [("token", method)] * 2

    clock.ahead, since = 0, since + 2
    config = client.write(bound_server, tmp_path, kind="oauth2_device_code")
    (tmp_path / "app.db").unlink()
    async with Runtime.open(config, clock=clock, migrate=True) as runtime:
        connection = await connect_device(runtime)
        assert (await runtime.refresh(connection.id)).status == "active"
    asked = await seen(bound_server, client, since)
    assert asked[0] == ("device_authorization", method)
    assert set(asked[1:]) == {("token", method)}


async def test_key_that_the_server_does_not_know_is_refused_and_the_assertion_is_not_repeated(
    bound_server: OidcServer, tmp_path: Path
) -> None:
    """The server looks at the assertion, so that the tests above prove something. P42"""
    wrong = evolve(
        ES256, files={"client-key.pem": KEY_CLIENTS[0].text.reveal()}, auth='client_auth = "private_key_jwt"'
    )
    config = wrong.write(bound_server, tmp_path, kind="oauth2_client_credentials")
    async with Runtime.open(config, migrate=True) as runtime:
        with pytest.raises(TokenEndpointError) as refused:
            await runtime.establish("login", scope=ACME, fields={})
    assert refused.value.error == "invalid_client"
    assert "eyJ" not in str(refused.value)


async def test_client_key_is_replaced_in_its_file_and_the_connection_goes_on(
    bound_server: OidcServer, tmp_path: Path
) -> None:
    """The server knows both keys while the application changes from one to the other."""
    old, new = ES256.files["client-key.pem"], KEY_CLIENTS[0].text.reveal()
    rotating = evolve(ES256, client_id="rotating", auth='client_auth = "private_key_jwt"\n')
    config = rotating.write(bound_server, tmp_path)
    async with Runtime.open(config, migrate=True) as runtime:
        connection = await connect(runtime, bound_server)
        await runtime.refresh(connection.id)
    assert old != new
    (tmp_path / "client-key.pem").write_text(new)
    config.write_text(config.read_text().replace('client_key_id = "key-ES256"', 'client_key_id = "key-RS256"'))
    async with Runtime.open(config) as runtime:
        assert (await runtime.refresh(connection.id)).status == "active"
        assert (await runtime.execute(connection.id, "userinfo")).status == 200


@pytest.mark.parametrize(
    ("client", "field"),
    [(ES256, "client_key"), (HS256, "client_secret")],
    ids=["private_key_jwt", "client_secret_jwt"],
)
async def test_missing_key_is_told_at_the_first_click(
    bound_server: OidcServer, tmp_path: Path, client: BoundClient, field: str
) -> None:
    config = evolve(client, settings="").write(bound_server, tmp_path)
    async with Runtime.open(config, migrate=True) as runtime:
        with pytest.raises(ConfigError) as told:
            await runtime.connect("login", scope=ALICE, redirect_uri=REDIRECT)
    assert told.value.field == f"providers.login.{field}"


async def test_configuration_of_the_page_connects(bound_server: OidcServer, tmp_path: Path) -> None:
    config = PAGE_CLIENT.write_page(bound_server, tmp_path, "authenticate-the-client.md")
    async with Runtime.open(config, migrate=True) as runtime:
        connection = await connect(runtime, bound_server)
        assert (await runtime.execute(connection.id, "userinfo")).data["sub"] == "alice"
        assert (await runtime.refresh(connection.id)).status == "active"
        assert (await runtime.disconnect(connection.id)).revoked
    assert set(await seen(bound_server, PAGE_CLIENT)) >= {(r, "private_key_jwt") for r in ("token", "revocation")}


async def test_key_that_is_refused_is_read_again_and_names_itself(
    bound_server: OidcServer, tmp_path: Path, clock: ShiftedClock
) -> None:
    """A private JWK brings its own key id, so that only the file changes."""

    def jwk(client: KeyClient, kid: str) -> str:
        key = load_pem_private_key(client.text.reveal().encode(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        secret = encode(key.private_numbers().private_value.to_bytes(32, "big"))
        return json.dumps({**client.key.public_members(), "d": secret, "kid": kid})

    unknown = KeyClient("ES256", generate_ec_key(clock.random))
    files = {"client.jwk": jwk(unknown, "key-ES256")}
    rotating = BoundClient(
        "rotating", {}, 'client_key = "file:client.jwk"\n', 'client_auth = "private_key_jwt"\n', files
    )
    config = rotating.write(bound_server, tmp_path, kind="oauth2_client_credentials")
    async with Runtime.open(config, clock=clock, migrate=True) as runtime:
        with pytest.raises(TokenEndpointError):
            await runtime.establish("login", scope=ACME, fields={})
        (tmp_path / "client.jwk").write_text(jwk(KEY_CLIENTS[2], "key-ES256"))
        clock.ahead = 31
        assert (await runtime.establish("login", scope=ACME, fields={})).status == "active"


@pytest.mark.parametrize("client", [ES256, HS256, VAULT], ids=["private_key_jwt", "client_secret_jwt", "bound tokens"])
async def test_server_is_asked_about_a_token_by_a_client_with_an_assertion(
    bound_server: OidcServer, client: BoundClient, tmp_path: Path
) -> None:
    config = client.write(bound_server, tmp_path, kind="oauth2_client_credentials")
    async with Runtime.open(config, migrate=True) as runtime:
        connection = await runtime.establish("login", scope=ACME, fields={})
        token = await runtime.token(connection.id)
        core = runtime._core
        instance = core.instance("login")
        ctx = core.auth_context(instance, instance.auth(), ACME)
        said = await core.drive(introspect(ctx, token), provider_id="login")
        assert (said.active, said.client_id, said.grants) == (True, client.client_id, ("api:read",))
        bound = said.claims.get("cnf", {}).get("jkt")  # RFC 9449 §6.2
        held = (await load(core, connection.id)).credential.tokens.extra
        assert bound == (JwtJose().thumbprint(held["dpop_key"]) if client is VAULT else None)
        assert (await runtime.disconnect(connection.id)).revoked
        assert not (await core.drive(introspect(ctx, token), provider_id="login")).active
