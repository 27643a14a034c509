"""Flows besides the plain code flow, against a server that go_services did not write."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit

import aiohttp
import pytest
from attrs import evolve

from go_services_core import Connection, Runtime, Scope, SystemClock
from go_services_core.auth.client_credentials import ClientCredentialsFlow
from go_services_core.auth.discovery import ServerMetadata, code_record, discover
from go_services_core.auth.introspection import introspect
from go_services_core.auth.oauth2_code import OAuth2CodeFlow
from go_services_core.auth.registration import register
from go_services_core.auth.revocation import revoke_tokens
from go_services_core.auth.settings import OAuth2Settings
from go_services_core.auth_specs import ClientCredentials, OAuth2Client
from go_services_core.errors import (
    BadInput,
    CallbackRefused,
    InvalidGrant,
    MetadataInvalid,
    PushedRequestRefused,
    RegistrationRefused,
    StateInvalid,
    TokenEndpointError,
)
from go_services_core.http import HttpRequest, HttpResponse
from go_services_core.model import Credential, DevicePrompt, TokenSet
from go_services_core.protocols import AuthContext, Flow
from go_services_core.secret import SecretStr

from .oidc.browser import Browser
from .oidc.flows import DEVICE_PAGE, ROBOT_SECRET, page_code
from .oidc.process import OidcServer
from .oidc.site import ALICE, REDIRECT, ShiftedClock, Site

pytestmark = pytest.mark.integration
T = TypeVar("T")
CLOCK = SystemClock()
ACME = Scope("org", "acme")
LIFE = 600.0
"""Seconds that the server lets a token of client credentials live."""


@pytest.fixture
async def app(flows: Site, clock: ShiftedClock) -> AsyncIterator[Runtime]:
    async with Runtime.open(flows.config, clock=clock, migrate=True) as opened:
        yield opened


async def drive(flow: Flow[T]) -> T:
    """Run a flow with a client of this test's own."""
    step = next(flow)
    async with aiohttp.ClientSession() as session:
        while True:
            assert isinstance(step, HttpRequest)
            assert step.body is None or isinstance(step.body, bytes)
            async with session.request(
                step.method, step.url, headers=step.headers, data=step.body, allow_redirects=False
            ) as answer:
                response = HttpResponse(answer.status, tuple(answer.headers.items()), await answer.read())
            try:
                step = flow.send(response)
            except StopIteration as done:
                result: T = done.value
                return result


def context(record: OAuth2Client, settings: OAuth2Settings, **more: Any) -> AuthContext:
    return AuthContext(
        provider_id="oidc",
        auth=record,
        settings=settings,
        scope=ALICE,
        now=CLOCK.now(),
        random=CLOCK.random,
        **more,
    )


async def consented(app: Runtime) -> Connection:
    start = await app.connect("login", scope=ALICE, redirect_uri=REDIRECT)
    async with Browser() as browser:
        return await app.complete(await browser.consent(start.url), binding=start.binding)


# --- pushed authorization requests ---------------------------------------------------------------------------------


async def test_pushed_request_becomes_a_connection(app: Runtime, flow_server: OidcServer) -> None:
    before = len(await flow_server.requests("pushed_authorization_request"))
    start = await app.connect("login", scope=ALICE, redirect_uri=REDIRECT)
    assert sorted(dict(parse_qsl(urlsplit(start.url).query))) == ["client_id", "request_uri"]
    async with Browser() as browser:
        connection = await app.complete(await browser.consent(start.url), binding=start.binding)

    assert (connection.status, connection.external_account_id) == ("active", "alice")
    (pushed,) = (await flow_server.requests("pushed_authorization_request"))[before:]
    assert pushed["status"] == 201
    assert (await app.refresh(connection.id)).status == "active"


async def test_reference_works_once(app: Runtime) -> None:
    start = await app.connect("login", scope=ALICE, redirect_uri=REDIRECT)
    async with Browser() as browser:
        await app.complete(await browser.consent(start.url), binding=start.binding)
    async with Browser("mallory") as browser:
        callback = dict(parse_qsl(urlsplit(await browser.consent(start.url)).query))
    assert callback["error"] == "invalid_request_uri"
    assert "code" not in callback


async def test_request_that_the_server_does_not_take_opens_no_browser(app: Runtime) -> None:  # P06
    with pytest.raises(PushedRequestRefused) as refused:
        await app.connect("login", scope=ALICE, redirect_uri="https://evil.example/callback")
    assert refused.value.error == "invalid_request"
    assert (await app.connections()).items == ()


async def test_pushed_request_cannot_be_changed_in_the_browser(app: Runtime) -> None:
    """RFC 9700 §4.1 and §4.2: what the browser adds to the reference has no effect."""
    start = await app.connect("login", scope=ALICE, redirect_uri=REDIRECT)
    changed = f"{start.url}&{urlencode({'redirect_uri': 'https://evil.example', 'state': 'fixed', 'scope': 'openid'})}"
    async with Browser() as browser:
        callback = await browser.consent(changed)
    query = dict(parse_qsl(urlsplit(callback).query))
    assert callback.startswith(REDIRECT)
    assert query["state"] != "fixed"


async def test_callback_of_another_issuer_is_refused(app: Runtime, flow_server: OidcServer) -> None:  # P05
    start = await app.connect("login", scope=ALICE, redirect_uri=REDIRECT)
    async with Browser() as browser:
        callback = await browser.consent(start.url)
    before = len(await flow_server.requests("token"))
    query = {**dict(parse_qsl(urlsplit(callback).query)), "iss": "https://evil.example"}
    with pytest.raises(StateInvalid) as refused:
        await app.complete(query, binding=start.binding)
    assert refused.value.field == "iss"
    assert len(await flow_server.requests("token")) == before


async def test_code_is_worth_nothing_to_another_verifier(flow_server: OidcServer) -> None:
    """RFC 9700 §4.5: an injected code fails at the verifier of another attempt."""
    settings = OAuth2Settings(client_id=flow_server.client_id, client_secret=SecretStr(flow_server.client_secret))
    record = code_record(await drive(discover(flow_server.url, plain_http=True)), jwks_url=None)
    more: dict[str, Any] = {"redirect_uri": REDIRECT, "state": SecretStr("s-1"), "requested": ("openid",)}
    flow = OAuth2CodeFlow()
    mine, theirs = [await drive(flow.begin(context(record, settings, **more))) for _ in range(2)]
    async with Browser("mallory") as browser:
        callback = dict(parse_qsl(urlsplit(await browser.consent(theirs.url)).query))
    with pytest.raises(InvalidGrant):
        await drive(flow.complete(context(record, settings, **more, memory=mine.memory), callback))


# --- device --------------------------------------------------------------------------------------------------------


async def test_consent_on_another_device_becomes_a_connection_that_renews(
    app: Runtime, flow_server: OidcServer
) -> None:
    shown: asyncio.Queue[DevicePrompt] = asyncio.Queue()
    connecting = asyncio.create_task(app.connect_device("tv", scope=ALICE, show=shown.put_nowait))
    prompt = await asyncio.wait_for(shown.get(), 20)
    assert prompt.user_code in prompt.url
    async with Browser("alice") as browser:
        assert "Sign-in Success" in await browser.approve(prompt.url)
    connection = await asyncio.wait_for(connecting, 20)

    assert (connection.status, connection.external_account_id) == ("active", "alice")
    assert (connection.auth_kind, connection.scope) == ("oauth2_device_code", ALICE)
    assert (await app.refresh(connection.id)).status == "active"
    token = (await app.token(connection.id)).reveal()
    assert await flow_server.userinfo(token) == 200
    assert (await app.disconnect(connection.id)).revoked
    assert await flow_server.userinfo(token) == 401


async def test_device_page_connects_over_two_workers(app: Runtime, flows: Site, clock: ShiftedClock) -> None:
    """The code of the how-to page: begun on one worker, asked on another."""
    page: dict[str, Any] = {}
    exec(page_code(DEVICE_PAGE), page)
    session: dict[str, str] = {}
    shown = await page["begin"](app, "u1", session)
    async with Runtime.open(flows.config, clock=clock) as other:
        assert 0 < (await page["ask"](other, session))["ask_again_in"] <= shown["ask_again_in"]
        async with Browser("alice") as browser:
            assert "Sign-in Success" in await browser.approve(f"{shown['page']}?user_code={shown['code']}")
        said: dict[str, Any] = {}
        for _ in range(20):
            await asyncio.sleep(said.get("ask_again_in", shown["ask_again_in"]))
            said = await page["ask"](other, session)
            if "connection" in said:
                break
    connection = await app.connection(said["connection"])
    assert (connection.status, connection.scope) == ("active", Scope("user", "u1"))
    assert (await page["ask"](app, session))["error"] == "SERVICE_OAUTH_STATE_USED"


async def test_refusal_on_the_other_device_is_typed(app: Runtime) -> None:
    shown: asyncio.Queue[DevicePrompt] = asyncio.Queue()
    connecting = asyncio.create_task(app.connect_device("tv", scope=ALICE, show=shown.put_nowait))
    prompt = await asyncio.wait_for(shown.get(), 20)
    async with Browser() as browser:
        await browser.abort(prompt.url)
    with pytest.raises(CallbackRefused) as refused:
        await asyncio.wait_for(connecting, 20)
    assert refused.value.metadata["error"] == "access_denied"
    assert (await app.connections()).items == ()


async def test_kinds_do_not_take_each_others_way(app: Runtime) -> None:
    with pytest.raises(BadInput, match="connect_device"):
        await app.connect("tv", scope=ALICE)
    with pytest.raises(BadInput, match=r"Runtime\.connect "):
        await app.connect_device("login", scope=ALICE, show=print)
    with pytest.raises(BadInput, match=r"Runtime\.establish"):
        await app.connect_device("robot", scope=ACME, show=print)


# --- client credentials, introspection, revocation -----------------------------------------------------------------


async def test_application_connects_for_itself_and_renews_again_and_again(
    app: Runtime, clock: ShiftedClock, flow_server: OidcServer
) -> None:
    connection = await app.establish("robot", scope=ACME, fields={})
    assert (connection.status, connection.external_account_id) == ("active", "oauth2_client_credentials:org:acme")
    tokens = [(await app.token(connection.id)).reveal()]
    for _ in range(2):
        clock.ahead += LIFE
        tokens.append((await app.token(connection.id)).reveal())
    assert len(set(tokens)) == 3
    asked = await flow_server.requests("token", "client_credentials")
    assert [one["issued"]["access"] for one in asked[-3:]] == tokens


async def test_token_says_what_it_is_for_and_is_given_back(flow_server: OidcServer) -> None:
    record = ClientCredentials(
        token_url=f"{flow_server.url}/token",
        introspection_url=f"{flow_server.url}/token/introspection",
        revocation_url=f"{flow_server.url}/token/revocation",
        client_auth="post",
        default_grants=("api:read",),
        resource="https://api.example",
    )
    ctx = context(record, OAuth2Settings(client_id="robot", client_secret=SecretStr(ROBOT_SECRET)))
    tokens: TokenSet = await drive(ClientCredentialsFlow().complete(ctx, {}))
    assert tokens.granted == ("api:read",)
    said = await drive(introspect(ctx, tokens.access_token))
    assert (said.active, said.grants, said.client_id) == (True, ("api:read",), "robot")
    assert (said.audience, said.issuer) == (("https://api.example",), flow_server.url)
    assert said.issued_at is not None
    assert said.expires_at is not None
    assert (said.expires_at - said.issued_at).total_seconds() == LIFE

    credential = Credential(connection_id="c", version=1, auth_kind=record.kind, tokens=tokens)
    assert await drive(revoke_tokens(ctx, credential))
    assert not (await drive(introspect(ctx, tokens.access_token))).active
    assert await drive(revoke_tokens(ctx, credential)), "an invalid token is a success (RFC 7009 §2.2)"

    wrong = evolve(ctx, settings=OAuth2Settings(client_id="robot", client_secret=SecretStr("wrong")))
    for refused_flow in (introspect(wrong, tokens.access_token), revoke_tokens(wrong, credential)):
        with pytest.raises(TokenEndpointError) as refused:
            await drive(refused_flow)
        assert refused.value.error == "invalid_client"
    with pytest.raises(TokenEndpointError) as refused:
        other = evolve(ctx, auth=evolve(record, resource="https://other.example"))
        await drive(ClientCredentialsFlow().complete(other, {}))
    assert refused.value.error == "invalid_target"


# --- the how-to page ------------------------------------------------------------------------------------------------


async def test_examples_of_the_page_work(app: Runtime, flow_server: OidcServer) -> None:
    page: dict[str, Any] = {}
    exec(page_code(), page)
    shown: asyncio.Queue[str] = asyncio.Queue()
    page["print"] = shown.put_nowait
    connecting = asyncio.create_task(page["connect"](app))
    text = await asyncio.wait_for(shown.get(), 20)
    address, user_code = text.removeprefix("Open ").split(" and type ")
    async with Browser("alice") as browser:
        await browser.approve(f"{address}?user_code={user_code}")
    assert (await asyncio.wait_for(connecting, 20)).external_account_id == "alice"

    assert (await page["robot"](app)).status == "active"

    page["discover"] = partial(discover, plain_http=True)
    record = await asyncio.to_thread(page["record_of"], flow_server.url)
    assert (record.issuer, record.default_grants) == (flow_server.url, ("openid", "email"))


# --- discovery and registration ------------------------------------------------------------------------------------


@pytest.fixture
async def metadata(flow_server: OidcServer) -> ServerMetadata:
    return await drive(discover(flow_server.url, plain_http=True))


async def test_server_describes_itself(metadata: ServerMetadata, flow_server: OidcServer) -> None:
    assert metadata.issuer == flow_server.url
    assert metadata.par_url == f"{flow_server.url}/request"
    assert metadata.device_authorization_url == f"{flow_server.url}/device/auth"
    assert metadata.authorization_response_iss
    assert metadata.pkce_methods == ("S256",)
    record = code_record(metadata)
    assert (record.authorize_url, record.token_url) == (f"{flow_server.url}/auth", f"{flow_server.url}/token")
    assert (record.revocation_url, record.client_auth) == (f"{flow_server.url}/token/revocation", "basic")


async def test_server_that_is_asked_under_another_name_is_not_believed(flow_server: OidcServer) -> None:  # P05
    with pytest.raises(MetadataInvalid) as refused:
        await drive(discover(flow_server.url.replace("127.0.0.1", "localhost"), plain_http=True))
    assert refused.value.field == "issuer"


async def test_client_registers_itself_and_goes_through_a_consent(metadata: ServerMetadata) -> None:
    assert metadata.registration_url is not None
    asked = {
        "application_type": "native",
        "redirect_uris": [REDIRECT],
        "grant_types": ["authorization_code", "refresh_token"],
        "token_endpoint_auth_method": "client_secret_post",
    }
    client = await drive(
        register(metadata.registration_url, asked, now=CLOCK.now(), initial_token=SecretStr("may-register"))
    )
    assert client.client_secret is not None
    assert client.management_token is not None
    assert client.management_url == f"{metadata.registration_url}/{client.client_id}"
    assert client.secret_expires_at is None

    settings = OAuth2Settings(client_id=client.client_id, client_secret=client.client_secret)
    record = code_record(metadata, client_auth="post", jwks_url=None)
    more: dict[str, Any] = {"redirect_uri": REDIRECT, "state": SecretStr("s-1"), "requested": ("openid",)}
    flow = OAuth2CodeFlow()
    start = await drive(flow.begin(context(record, settings, **more)))
    async with Browser() as browser:
        callback = dict(parse_qsl(urlsplit(await browser.consent(start.url)).query))
    tokens = await drive(flow.complete(context(record, settings, **more, memory=start.memory), callback))
    assert tokens.id_token is not None


@pytest.mark.parametrize("token", [None, SecretStr("may-not")])
async def test_registration_without_permission_is_refused(metadata: ServerMetadata, token: SecretStr | None) -> None:
    assert metadata.registration_url is not None
    with pytest.raises(RegistrationRefused) as refused:
        await drive(
            register(metadata.registration_url, {"redirect_uris": [REDIRECT]}, now=CLOCK.now(), initial_token=token)
        )
    assert refused.value.error in ("invalid_request", "invalid_token")
