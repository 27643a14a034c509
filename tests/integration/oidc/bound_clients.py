"""Clients that authenticate with a key or a certificate, or bind their tokens, and their configuration."""

from __future__ import annotations

import asyncio
import json
import re
from base64 import urlsafe_b64decode
from pathlib import Path
from typing import Any, Final

from attrs import field, frozen

from go_services_core import Connection, Runtime, Scope
from go_services_core.model import DevicePrompt
from go_services_secrets_appkey.key import generate_key

from .browser import Browser
from .clients import KEY_CLIENTS, KeyClient
from .process import PROJECT, OidcServer
from .site import ALICE, PAGE_SERVER, REDIRECT

DEVICE: Final = "urn:ietf:params:oauth:grant-type:device_code"
ACME: Final = Scope("org", "acme")
_COMMON: Final = """\
[store]
url = "sqlite:///app.db"

[secrets.appkey]
key = "file:app.key"

[transport]
{transport}
"""
_PROVIDER: Final = """\
[providers.{id}]
client_id = "{client_id}"
{settings}

[providers.{id}.auth]
kind = "{kind}"
token_url = "{url}/token"
revocation_url = "{url}/token/revocation"
introspection_url = "{url}/token/introspection"
{auth}

[providers.{id}.api]
base_url = "{url}"

[[providers.{id}.operations]]
id = "userinfo"
method = "GET"
path = "/me"

[egress.allow]
{id} = ["{address}"]
"""
_KINDS: Final = {
    "oauth2_auth_code": """\
issuer = "{url}"
jwks_url = "{url}/jwks"
authorize_url = "{url}/auth"
default_grants = ["openid", "offline_access"]
extra_authorize = {{ prompt = "consent" }}
revocation_scope = "grant"
""",
    "oauth2_device_code": """\
issuer = "{url}"
jwks_url = "{url}/jwks"
device_authorization_url = "{url}/device/auth"
default_grants = ["openid", "offline_access"]
assertion_audience = "{url}"
revocation_scope = "grant"
""",
    "oauth2_client_credentials": """\
default_grants = ["api:read"]
assertion_audience = "{url}"
""",
}


@frozen
class BoundClient:
    """A client as the server knows it, and what the application's configuration says of it."""

    client_id: str
    metadata: dict[str, Any]
    settings: str = ""
    """Lines of ``[providers.<id>]``."""
    auth: str = ""
    """Lines of ``[providers.<id>.auth]``."""
    files: dict[str, str] = field(factory=dict, repr=False)

    def registered(self) -> dict[str, Any]:
        """What the server knows of it (RFC 7591 §2)."""
        return {
            "client_id": self.client_id,
            "application_type": "native",
            "redirect_uris": [REDIRECT],
            "grant_types": ["authorization_code", "refresh_token", "client_credentials", DEVICE],
            "response_types": ["code"],
            **self.metadata,
        }

    def write_page(self, server: OidcServer, folder: Path, page: str) -> Path:
        """The configuration that a page of the how-to guides has, with the server's address in it; gives its path."""
        text = (PROJECT / "docs" / "how-to" / page).read_text("utf-8")
        (said,) = re.findall(r"^```toml\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
        assert f'client_id = "{self.client_id}"' in said
        assert PAGE_SERVER in said
        said = said.replace(PAGE_SERVER, server.url)
        allowed = f'[egress.allow]\nlogin = ["{server.address}"]\n'
        return self._written(folder, _COMMON.format(transport="") + said + allowed)

    def write(
        self, server: OidcServer, folder: Path, *, kind: str = "oauth2_auth_code", auth: str = "", transport: str = ""
    ) -> Path:
        """The configuration of an application of which this is the client; gives its path."""
        text = _COMMON.format(transport=transport) + _PROVIDER.format(
            id="login",
            client_id=self.client_id,
            kind=kind,
            url=server.url,
            address=server.address,
            settings=self.settings,
            auth=_KINDS[kind].format(url=server.url) + self.auth + auth.format(url=server.url),
        )
        return self._written(folder, text)

    def _written(self, folder: Path, text: str) -> Path:
        for name, content in {**self.files, "app.key": generate_key().reveal(), "app.toml": text}.items():
            (folder / name).write_text(content, "utf-8")
        return folder / "app.toml"


def signing(client: KeyClient, client_id: str, settings: str = "", **metadata: Any) -> BoundClient:
    """A client with an assertion: ``private_key_jwt``, or ``client_secret_jwt`` for HS256."""
    known = client.metadata()
    names = ("token_endpoint_auth_method", "token_endpoint_auth_signing_alg", "client_secret", "jwks")
    method = known["token_endpoint_auth_method"]
    own = f'client_key = "file:client-key.pem"\nclient_key_id = "{client.key.kid}"\n'
    algorithm = f'assertion_algorithm = "{client.algorithm}"\n'
    shared = client.algorithm == "HS256"
    return BoundClient(
        client_id,
        {**{name: known[name] for name in names if name in known}, **metadata},
        settings='client_secret = "file:client-secret.txt"\n' if shared else own,
        auth=f'client_auth = "{method}"\n' + ("" if shared else algorithm),
        files={"client-secret.txt" if shared else "client-key.pem": client.text.reveal()},
    )


SIGNING: Final = tuple(signing(client, f"signing-{client.algorithm.lower()}") for client in KEY_CLIENTS)
BOUND: Final = {"dpop_bound_access_tokens": True}
WALLET: Final = BoundClient(
    "wallet",
    {"token_endpoint_auth_method": "none", "grant_types": ["authorization_code", "refresh_token", DEVICE], **BOUND},
    auth='client_auth = "none"\ndpop = "required"\n',
)
"""A public client: its refresh tokens are bound to the key too."""
_VAULT: Final = signing(KEY_CLIENTS[2], "vault", **BOUND)
VAULT: Final = BoundClient("vault", _VAULT.metadata, _VAULT.settings, _VAULT.auth + 'dpop = "required"\n', _VAULT.files)
"""A client with an assertion whose tokens are bound."""
_KEYS: Final = [KEY_CLIENTS[n].metadata()["jwks"]["keys"][0] for n in (0, 2)]
ROTATING: Final = BoundClient("rotating", {"token_endpoint_auth_method": "private_key_jwt", "jwks": {"keys": _KEYS}})
"""A client of which the server knows two keys."""
PAGE_CLIENT: Final = BoundClient(
    "my-service",
    {"token_endpoint_auth_method": "private_key_jwt", "jwks": {"keys": [{**_KEYS[1], "kid": "2026-01"}]}},
    files={"client-key.pem": KEY_CLIENTS[2].text.reveal()},
)
"""The client of docs/how-to/authenticate-the-client.md."""
BOUND_CLIENTS: Final = (*SIGNING, WALLET, VAULT, ROTATING, PAGE_CLIENT)


def proof_of(request: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The header and the claims of a request's proof."""
    head, claims, _ = request["proof"].split(".")
    read = [json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4))) for part in (head, claims)]
    return read[0], read[1]


async def connect(runtime: Runtime, server: OidcServer, scope: Scope = ALICE, *, login: str = "alice") -> Connection:
    """From the first click to the connection."""
    start = await runtime.connect("login", scope=scope, redirect_uri=REDIRECT)
    async with Browser(login, trusted=server.trusted) as browser:
        callback = await browser.consent(start.url)
    return await runtime.complete(callback, binding=start.binding)


async def connect_device(runtime: Runtime) -> Connection:
    """By a consent on another device, whose browser is opened when the code is shown."""
    shown: asyncio.Queue[DevicePrompt] = asyncio.Queue()
    connecting = asyncio.create_task(runtime.connect_device("login", scope=ALICE, show=shown.put_nowait))
    prompt = await asyncio.wait_for(shown.get(), 20)
    async with Browser() as browser:
        await browser.approve(prompt.url)
    return await asyncio.wait_for(connecting, 30)
