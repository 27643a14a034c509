"""An OpenID Connect issuer on this machine that can be told to lie, and an application that signs people in there."""

from __future__ import annotations

import hashlib
import time
from base64 import urlsafe_b64encode
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from aiohttp import web
from attrs import evolve
from joserfc import jwk as jose_jwk
from joserfc import jwt as jose_jwt

import go_services_auth_jwt.plugin as auth_jwt
import go_services_secrets_appkey.plugin as appkey
import go_services_store_sqlite.plugin as sqlite
import go_services_transport_http.plugin as http
from go_services_core import ApiSpec, OAuth2Code, ProviderSpec, Runtime, Scope, hookimpl
from go_services_core.config import Config
from go_services_core.model import Connection, ConnectStart
from go_services_core.plugins import PluginManager
from go_services_secrets_appkey.key import generate_key

REDIRECT = "http://127.0.0.1/callback"
CLIENT = "my-app"
USER = Scope("user", "u1")


@cache
def signing_key(kid: str) -> jose_jwk.RSAKey:
    return jose_jwk.RSAKey.generate_key(2048, {"kid": kid})


def half_hash(value: str) -> str:
    return urlsafe_b64encode(hashlib.sha256(value.encode()).digest()[:16]).rstrip(b"=").decode()


class OpenIdServer:
    """Gives a code, tokens and an ID token of ``account``; every field may be changed between two requests."""

    def __init__(self) -> None:
        self.url = ""
        self.account: dict[str, Any] = {"sub": "alice", "email": "a@example.com", "email_verified": True}
        self.userinfo: dict[str, Any] | None = None
        """Says something else than the account, if set."""
        self.kid = "key-1"
        self.published = ["key-1"]
        self.jwks_status = 200
        self.jwks_body: bytes | None = None
        self.cache_control = ""
        self.claims: dict[str, Any] = {}
        """Replace those of the next ID tokens; None leaves one out."""
        self.forge: Callable[[dict[str, Any]], str] | None = None
        self.id_token = True
        self.requests: Counter[str] = Counter()
        self.codes: dict[str, str] = {}
        self.refresh_tokens: list[str] = []
        self.people: dict[str, dict[str, Any]] = {}
        """Access token → whose it is."""

    def consent(self, url: str) -> dict[str, str]:
        """What the person's browser brings back from the authorization URL."""
        query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        code = f"code-{len(self.codes)}-of-a-consent"
        self.codes[code] = query.get("nonce", "")
        return {"code": code, "state": query["state"], "iss": self.url}

    async def token(self, request: web.Request) -> web.Response:
        form = await request.post()
        self.requests[str(form["grant_type"])] += 1
        nonce = None
        if form["grant_type"] == "refresh_token":
            if form["refresh_token"] != self.refresh_tokens[-1]:
                return web.json_response({"error": "invalid_grant"}, status=400)
        else:
            nonce = self.codes[str(form["code"])]
        access = f"at-{len(self.refresh_tokens)}-{self.account['sub']}"
        self.people[f"Bearer {access}"] = self.account
        self.refresh_tokens.append(f"rt-{len(self.refresh_tokens)}-is-used-once")
        answer = {
            "access_token": access,
            "token_type": "Bearer",
            "expires_in": 3600,
            "refresh_token": self.refresh_tokens[-1],
        }
        if self.id_token:
            answer["id_token"] = self.signed(access, nonce)
        return web.json_response(answer)

    def signed(self, access: str, nonce: str | None) -> str:
        now = int(time.time())
        claims = {
            "iss": self.url, "sub": self.account["sub"], "aud": CLIENT, "exp": now + 600, "iat": now,
            "nonce": nonce, "at_hash": half_hash(access), **self.claims,
        }  # fmt: skip
        claims = {name: value for name, value in claims.items() if value is not None}
        if self.forge is not None:
            return self.forge(claims)
        return str(jose_jwt.encode({"alg": "RS256", "kid": self.kid}, claims, signing_key(self.kid)))

    async def jwks(self, request: web.Request) -> web.Response:
        self.requests["jwks"] += 1
        headers = {"Cache-Control": self.cache_control} if self.cache_control else {}
        if self.jwks_body is not None:
            return web.Response(body=self.jwks_body, content_type="application/json", headers=headers)
        keys = [signing_key(kid).as_dict(private=False) for kid in self.published]
        return web.json_response({"keys": keys}, status=self.jwks_status, headers=headers)

    async def me(self, request: web.Request) -> web.Response:
        self.requests["userinfo"] += 1
        person = self.people.get(request.headers.get("Authorization", ""))
        if person is None:
            return web.json_response({}, status=401)
        return web.json_response(person if self.userinfo is None else self.userinfo)


@asynccontextmanager
async def serving() -> AsyncIterator[OpenIdServer]:
    server, app = OpenIdServer(), web.Application()
    app.add_routes([web.post("/token", server.token), web.get("/jwks", server.jwks), web.get("/me", server.me)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()


class OpenIdApp:
    """Opens any number of runtimes on one database."""

    GS_CONTRACT = 1

    def __init__(self, server: OpenIdServer, clock: Any, folder: Path) -> None:
        self.server, self.clock = server, clock
        self.database = folder / "app.db"
        self.key = generate_key()
        self.spec = ProviderSpec(
            id="login",
            name="Login",
            auth=OAuth2Code(
                issuer=server.url,
                authorize_url=f"{server.url}/auth",
                token_url=f"{server.url}/token",
                jwks_url=f"{server.url}/jwks",
                userinfo_url=f"{server.url}/me",
                default_grants=("openid",),
            ),
            api=ApiSpec(base_url=server.url),
        )
        self.plugins: dict[str, object] = {
            "appkey": appkey, "sqlite": sqlite, "http": http, "auth-jwt": auth_jwt, "made": self,
        }  # fmt: skip

    def change(self, **fields: Any) -> None:
        """Change the auth record."""
        self.spec = evolve(self.spec, auth=evolve(self.spec.auth[0], **fields))

    @hookimpl
    def gs_providers(self) -> list[ProviderSpec]:
        return [self.spec]

    def open(self, plugins: Mapping[str, object] | None = None) -> AbstractAsyncContextManager[Runtime]:
        arguments = {
            "providers.login": {"client_id": CLIENT, "client_secret": "a client secret"},
            "runtime.allow_plaintext_secrets": True,
            "store.url": f"sqlite:///{self.database}",
            "secrets.appkey.key": self.key,
            "egress.allow": {"login": [urlsplit(self.server.url).netloc]},
        }
        manager = PluginManager.of(dict(self.plugins if plugins is None else plugins))
        config = Config.load(None, environ={}, arguments=arguments)
        return Runtime.open(config, plugins=manager, clock=self.clock, migrate=True)

    async def begin(self, runtime: Runtime, **options: Any) -> tuple[ConnectStart, dict[str, str]]:
        start = await runtime.connect("login", **{"scope": USER, "redirect_uri": REDIRECT, **options})
        return start, self.server.consent(start.url)

    async def connect(self, runtime: Runtime, **options: Any) -> Connection:
        start, params = await self.begin(runtime, **options)
        return await runtime.complete(params, binding=start.binding)
