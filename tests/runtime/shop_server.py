"""A shop whose pages embed an app: signs session tokens, exchanges them, renews what it gave."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web
from joserfc import jwk as jose_jwk
from joserfc import jwt as jose_jwt

from go_services_core import Runtime
from go_services_core.config import Config
from go_services_secrets_appkey.key import generate_key

CLIENT = "embedded-app"
SECRET = "shpss_0123456789abcdef0123456789abcdef"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"


class Shop:
    """Says what Shopify says; see the how-to on embedded apps for the pages."""

    def __init__(self) -> None:
        self.url = ""
        self.person = 42
        self.forms: list[dict[str, str]] = []
        self.answer: dict[str, Any] | None = None
        self.status = 200
        self.graphql: list[str | None] = []

    @property
    def host(self) -> str:
        return self.url.removeprefix("http://")

    def claims(self, **changes: Any) -> dict[str, Any]:
        now = int(time.time())
        claims = {
            "iss": f"{self.url}/admin", "dest": self.url, "aud": CLIENT, "sub": str(self.person), "exp": now + 60,
            "nbf": now, "iat": now, "jti": str(uuid.uuid4()), "sid": "session-1", "sig": "x", **changes,
        }  # fmt: skip
        return {name: value for name, value in claims.items() if value is not None}

    def session_token(self, secret: str = SECRET, algorithm: str = "HS256", **changes: Any) -> str:
        key = jose_jwk.OctKey.import_key(secret)
        return str(jose_jwt.encode({"alg": algorithm}, self.claims(**changes), key, algorithms=[algorithm]))

    async def token(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.forms.append(form)
        if self.answer is not None or self.status != 200:
            return web.json_response(self.answer or {}, status=self.status)
        number = len(self.forms)
        said: dict[str, Any] = {"access_token": f"shpat_{number}", "scope": "write_orders,read_products"}
        if form.get("requested_token_type", "").endswith(":online-access-token"):
            said |= {
                "expires_in": 86399,
                "associated_user_scope": "read_products",
                "associated_user": {"id": self.person, "email": "a@example.com"},
            }
        elif form.get("expiring") == "1" or form["grant_type"] == "refresh_token":
            said |= {"expires_in": 3600, "refresh_token": f"shprt_{number}", "refresh_token_expires_in": 7776000}
        return web.json_response(said)

    async def api(self, request: web.Request) -> web.Response:
        self.graphql.append(request.headers.get("X-Shopify-Access-Token"))
        return web.json_response({"name": "A shop"})


@asynccontextmanager
async def trading() -> AsyncIterator[Shop]:
    shop, app = Shop(), web.Application()
    app.add_routes([web.post("/admin/oauth/access_token", shop.token), web.get("/admin/api/shop", shop.api)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    shop.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield shop
    finally:
        await runner.cleanup()


def settings(shop: Shop, store_url: str, key: str, **auth: Any) -> dict[str, Any]:
    """The application's configuration, whose provider is declared in it."""
    return {
        "runtime.allow_plaintext_secrets": True,
        "store.url": store_url,
        "secrets.appkey.key": key,
        "egress.allow.shop": [shop.host],
        "providers.shop": {
            "client_id": CLIENT,
            "client_secret": SECRET,
            "auth": {"kind": "session_token_exchange", "shop_url": shop.url, **auth},
            "api": {"base_url": shop.url},
            "operations": [{"id": "shop.get", "method": "GET", "path": "/admin/api/shop"}],
        },
    }


@asynccontextmanager
async def open_app(shop: Shop, folder: Path, **auth: Any) -> AsyncIterator[Runtime]:
    given = settings(shop, f"sqlite:///{folder / 'app.db'}", generate_key().reveal(), **auth)
    async with Runtime.open(Config.load(None, environ={}, arguments=given), migrate=True) as runtime:
        yield runtime
