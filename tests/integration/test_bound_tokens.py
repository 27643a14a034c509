"""Tokens that are bound to a key (RFC 9449) at an authorization server and a resource with nonces of their own."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp import web
from attrs import define, field

from go_services_auth_jwt.jwk import Jwk
from go_services_auth_jwt.jws import verify
from go_services_core import HttpRequest, Runtime, Scope
from go_services_core.errors import BadInput, ConfigError, PluginNotFound, ProviderUnauthorized, TokenResponseInvalid
from go_services_secrets_appkey.key import generate_key

USER = Scope("user", "u1")
Handler = Callable[[web.Request], Awaitable[web.Response]]


@define
class Server:
    """Takes each proof once, and only with the nonce that it offered last; every answer brings the next."""

    error: Callable[[], web.Response]
    """The demand for a nonce."""
    url: str = ""
    asks: bool = True
    """Whether it wants nonces at all."""
    content: bool = True
    """Whether a nonce ever contents it."""
    window: int = 1
    """How many of its last nonces it takes."""
    offered: list[str] = field(factory=lambda: ["n-0"])
    ahead: float = 0.0
    """Seconds that its clock is before ours; a proof may be a minute off."""
    demands: int = 0
    seen: list[dict[str, Any]] = field(factory=list)
    """The claims of every proof."""
    keys: set[str] = field(factory=set)

    def take(self, request: web.Request, *, token: str | None = None) -> web.Response | None:
        """Check the proof; an answer is a refusal."""
        proof = request.headers["DPoP"]
        head = urlsafe_decode(proof.split(".")[0])
        key = Jwk.from_public_dict(head["jwk"])
        claims = verify(proof, key, algorithms=("ES256",), typ=("dpop+jwt",)).claims()
        assert claims["jti"] not in {one["jti"] for one in self.seen}, "a proof was used twice"
        assert (claims["htm"], claims["htu"]) == (request.method, f"{self.url}{request.path}")
        digest = hashlib.sha256(token.encode()).digest() if token is not None else None
        assert claims.get("ath") == (urlsafe_b64encode(digest).rstrip(b"=").decode() if digest else None)
        self.seen.append(claims)
        self.keys.add(key.thumbprint())
        now = time.time() + self.ahead
        if abs(claims["iat"] - now) > 60:
            headers = {"WWW-Authenticate": 'DPoP error="invalid_dpop_proof"', "Date": formatdate(now, usegmt=True)}
            return web.Response(status=401, headers=headers)
        if self.asks and (claims.get("nonce") not in self.offered[-self.window :] or not self.content):
            self.demands += 1
            return self.error()
        return None

    async def serve(self, routes: dict[tuple[str, str], Handler]) -> web.AppRunner:
        async def offering(request: web.Request, handler: Handler) -> web.StreamResponse:
            answer = await handler(request)
            if self.asks:
                self.offered.append(f"n-{len(self.offered)}-{id(self)}")
                answer.headers["DPoP-Nonce"] = self.offered[-1]
            return answer

        app = web.Application(middlewares=[web.middleware(offering)])
        for (method, path), handler in routes.items():
            app.router.add_route(method, path, handler)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return runner


def urlsafe_decode(part: str) -> Any:
    return json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))


class Site:
    """Both servers, and an application that is configured for them."""

    def __init__(self) -> None:
        self.login = Server(lambda: web.json_response({"error": "use_dpop_nonce"}, status=400))
        challenge = {"WWW-Authenticate": 'DPoP error="use_dpop_nonce"'}
        self.api = Server(lambda: web.Response(status=401, headers=challenge))
        self.tokens: list[str] = []
        self.grants: list[str] = []
        self.token_type = "DPoP"
        self.bodies: list[str] = []
        self.config = Path()

    async def token(self, request: web.Request) -> web.Response:
        refused = self.login.take(request)
        if refused is not None:
            return refused
        form = await request.post()
        self.grants.append(str(form["grant_type"]))
        self.tokens.append(f"at-{len(self.tokens)}-{'x' * 20}")
        return web.json_response(
            {
                "access_token": self.tokens[-1],
                "token_type": self.token_type,
                "expires_in": 3600,
                "refresh_token": f"rt-{len(self.tokens)}-{'x' * 20}",
            }
        )

    def protected(self, handler: Handler) -> Handler:
        async def guarded(request: web.Request) -> web.Response:
            scheme, _, token = request.headers["Authorization"].partition(" ")
            assert scheme == "DPoP"
            refused = self.api.take(request, token=token)
            if refused is not None:
                return refused
            if token != self.tokens[-1]:
                headers = {"WWW-Authenticate": 'DPoP error="invalid_token"'}
                return web.Response(status=401, headers=headers)
            return await handler(request)

        return guarded

    async def me(self, request: web.Request) -> web.Response:
        return web.json_response({"id": "alice"})

    async def note(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.text())
        return web.json_response({"ok": True})

    async def items(self, request: web.Request) -> web.Response:
        page = int(request.query.get("page", "1"))
        following = {"Link": f'<{self.api.url}/items?page={page + 1}>; rel="next"'} if page < 3 else {}
        return web.json_response([page], headers=following)

    async def connect(self, runtime: Runtime) -> str:
        start = await runtime.connect("shop", scope=USER, redirect_uri="http://127.0.0.1/callback")
        (state,) = parse_qs(urlsplit(start.url).query)["state"]
        return (await runtime.complete({"code": "c", "state": state}, binding=start.binding)).id


@pytest.fixture
async def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    made = Site()
    protected = made.protected
    runners = [
        await made.login.serve({("POST", "/token"): made.token}),
        await made.api.serve(
            {
                ("GET", "/me"): protected(made.me),
                ("POST", "/notes"): protected(made.note),
                ("GET", "/items"): protected(made.items),
            }
        ),
    ]
    hosts = ", ".join(f'"{server.url.removeprefix("http://")}"' for server in (made.login, made.api))
    text = f"""
[store]
url = "sqlite:///app.db"
[secrets.appkey]
key = "file:app.key"
[providers.shop]
client_id = "app"
[providers.shop.auth]
kind = "oauth2_auth_code"
authorize_url = "{made.login.url}/authorize"
token_url = "{made.login.url}/token"
client_auth = "none"
dpop = "required"
[providers.shop.api]
base_url = "{made.api.url}"
[providers.shop.identity]
url = "/me"
[[providers.shop.operations]]
id = "me"
method = "GET"
path = "/me"
[[providers.shop.operations]]
id = "notes.add"
method = "POST"
path = "/notes"
params = [{{ name = "text", where = "body" }}]
[[providers.shop.operations]]
id = "items"
method = "GET"
path = "/items"
pagination = {{ style = "link" }}
[egress.allow]
shop = [{hosts}]
"""
    (tmp_path / "app.toml").write_text(text)
    (tmp_path / "app.key").write_text(generate_key().reveal(), "ascii")
    made.config = tmp_path / "app.toml"
    monkeypatch.chdir(tmp_path)
    yield made
    for runner in runners:
        await runner.cleanup()


@pytest.fixture
async def runtime(site: Site) -> AsyncIterator[Runtime]:
    async with Runtime.open(site.config, migrate=True) as opened:
        yield opened


async def test_each_server_is_asked_in_vain_once_and_every_answer_brings_its_next_nonce(
    site: Site, runtime: Runtime
) -> None:
    connection_id = await site.connect(runtime)  # the code's exchange, then the identity
    for _ in range(3):
        assert (await runtime.execute(connection_id, "me")).attempts == 1
    await runtime.refresh(connection_id)
    assert [item async for item in runtime.paginate(connection_id, "items")] == [1, 2, 3]
    assert (site.login.demands, site.api.demands) == (1, 1)
    assert site.grants == ["authorization_code", "refresh_token"]
    assert site.login.keys == site.api.keys
    assert len(site.api.keys) == 1


async def test_body_is_sent_again_with_the_nonce_and_taken_once(site: Site, runtime: Runtime) -> None:
    connection_id = await site.connect(runtime)
    site.api.offered.append("of another process of the server")
    assert (await runtime.execute(connection_id, "notes.add", {"text": "hello"})).attempts == 1
    assert site.bodies == ['{"text":"hello"}']


async def test_resource_that_is_never_content_ends_the_call_and_renews_nothing(site: Site, runtime: Runtime) -> None:
    """P82: two demands for a nonce say nothing of the credential."""
    connection_id = await site.connect(runtime)
    before = len(site.api.seen)
    site.api.content = False
    with pytest.raises(ProviderUnauthorized):
        await runtime.execute(connection_id, "me")
    assert len(site.api.seen) == before + 2
    assert site.grants == ["authorization_code"]
    assert (await runtime.connection(connection_id)).status == "active"


async def test_token_that_the_resource_refuses_is_renewed_once(site: Site, runtime: Runtime) -> None:
    """P82: this 401 is of the credential, although it brings a nonce as well."""
    connection_id = await site.connect(runtime)
    site.tokens.append("revoked early")
    assert (await runtime.execute(connection_id, "me")).attempts == 2
    assert site.grants == ["authorization_code", "refresh_token"]


async def test_calls_at_once_all_succeed_whatever_nonce_they_begin_with(site: Site, runtime: Runtime) -> None:
    """No proof is used twice, though they share what is remembered of the server."""
    connection_id = await site.connect(runtime)
    site.api.window = 40
    results = await asyncio.gather(*(runtime.execute(connection_id, "me") for _ in range(20)))
    assert {result.status for result in results} == {200}
    assert len({one["jti"] for one in site.api.seen}) == len(site.api.seen)


async def test_token_that_is_not_bound_makes_no_connection(site: Site, runtime: Runtime) -> None:
    """RFC 9449 §5: who answers with a bearer token, or has the answer changed, gets no call with it."""
    site.token_type = "Bearer"
    with pytest.raises(TokenResponseInvalid) as refused:
        await site.connect(runtime)
    assert refused.value.field == "token_type"
    assert (await runtime.connections()).items == ()
    assert site.api.seen == []


async def test_downgrade_at_a_renewal_leaves_the_bound_token_in_use(site: Site, runtime: Runtime) -> None:
    connection_id = await site.connect(runtime)
    site.token_type = "Bearer"
    with pytest.raises(TokenResponseInvalid):
        await runtime.refresh(connection_id)
    assert (await runtime.token(connection_id)).reveal() == site.tokens[0]
    assert (await runtime.connection(connection_id)).status == "active"


async def test_key_outlives_the_process_and_is_never_stored_in_clear(site: Site) -> None:
    async with Runtime.open(site.config, migrate=True) as runtime:
        connection_id = await site.connect(runtime)
    async with Runtime.open(site.config) as restarted:
        await restarted.execute(connection_id, "me")
        await restarted.refresh(connection_id)
        await restarted.execute(connection_id, "me")
    assert len(site.api.keys | site.login.keys) == 1
    stored = b"".join(path.read_bytes() for path in site.config.parent.glob("app.db*"))
    assert b"PRIVATE KEY" not in stored
    assert b"dpop_key" not in stored


async def test_signed_request_has_a_proof_of_its_own_each_time(site: Site, runtime: Runtime) -> None:
    connection_id = await site.connect(runtime)
    request = HttpRequest("GET", f"{site.api.url}/me")
    signed = [await runtime.sign(connection_id, request, nonce=nonce) for nonce in (None, "given", None)]
    claims = [urlsafe_decode((one.header("DPoP") or "").split(".")[1]) for one in signed]
    assert [one["nonce"] for one in claims] == [site.api.offered[-1], "given", "given"]
    assert len({one["jti"] for one in claims}) == 3
    with pytest.raises(BadInput) as refused:
        await runtime.sign(connection_id, request, nonce="no\nnonce")
    assert refused.value.field == "nonce"


async def test_bound_connection_names_the_plugin_that_is_gone(site: Site) -> None:
    async with Runtime.open(site.config, migrate=True) as runtime:
        connection_id = await site.connect(runtime)
    site.config.write_text(site.config.read_text() + '[plugins]\ndisabled = ["auth-jwt"]\n')
    before = len(site.login.seen), len(site.api.seen)
    async with Runtime.open(site.config) as without:
        with pytest.raises(PluginNotFound, match="go-services-auth-jwt"):
            await without.execute(connection_id, "me")
        with pytest.raises(ConfigError, match="go-services-auth-jwt"):
            await site.connect(without)
    assert (len(site.login.seen), len(site.api.seen)) == before
    async with Runtime.open(site.config, arguments={"plugins.disabled": []}) as again:
        assert (await again.execute(connection_id, "me")).status == 200


async def test_proof_is_made_at_the_time_of_a_resource_whose_clock_is_ahead(site: Site) -> None:
    """Without a renewal: the token is right. The nonce that it asks for then is remembered as well."""
    async with Runtime.open(site.config, migrate=True) as runtime:
        connection = await site.connect(runtime)
        site.api.ahead, before = 3600.0, len(site.api.seen)
        for _ in range(2):
            await runtime.execute(connection, "notes.add", {"text": "once"})
    times = [claims["iat"] - time.time() > 1800 for claims in site.api.seen[before:]]
    assert times == [False, True, True]
    assert site.grants == ["authorization_code"]
    assert len(site.bodies) == 2
